//! Which Devo domains should have what was delivered, and who may ask each of them. An event counts as delivered when all destinations
//! have accepted it, so all of them have to have it: one that nobody asks would be taken for well.

use collector::{Secrets, Settings};
use devo::Query;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::place::{Place, secrets_of};

/// A Devo domain that can be asked.
#[derive(Serialize)]
pub struct Domain {
    #[serde(skip)]
    pub query: Query,
    /// Where it is asked.
    #[serde(rename = "asked")]
    pub url: String,
    /// Where the secrets tell it.
    #[serde(rename = "domain")]
    pub name: Option<String>,
    /// Whose events it should have.
    pub tenants: Vec<String>,
}

/// What a secret for queries, or for sending, tells of a domain.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Told {
    token: Option<SecretString>,
    url: Option<String>,
    domain: Option<String>,
}

/// Where a tenant's events go.
struct Ways {
    /// By region, and by host where that tells none: where each can be asked, if that is known.
    to: Vec<(String, Option<String>)>,
    /// The domain, where there is but one way and the Devo secret tells it.
    domain: Option<String>,
}

/// All domains that have to have what was delivered for the place's tenants, each once.
///
/// # Errors
/// [`Error::Configuration`] where one cannot be asked.
pub async fn domains(place: &Place) -> Result<Vec<Domain>, Error> {
    let needed = |name: &str, text: &str| Error::Configuration(format!("{name} is not set: {text}"));
    let list = |name: &str| -> Vec<String> {
        let text = place.variable(name).unwrap_or_default();
        text.split(',').map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
    };
    let (named, urls) = (list("DEVO_QUERY_SECRET_ID"), list("DEVO_QUERY_URL"));
    if named.is_empty() {
        return Err(needed("DEVO_QUERY_SECRET_ID", "set it to the id of a secret {\"token\": \"...\"} for queries"));
    }
    let settings = place.settings_to_look()?;
    let devo_ids = place.tenants.iter().map(|tenant| settings.devo_secret_id(tenant));
    let ids: Vec<_> = named.iter().cloned().map(Some).chain(devo_ids).collect();
    let secrets = if place.is_on_aws() { Secrets::on_aws().await } else { secrets_of(&ids).await };
    let mut found: Vec<(String, Domain)> = Vec::new();
    for tenant in &place.tenants {
        let ways = ways(&settings, &secrets, tenant).await?;
        if named.len() < ways.to.len() {
            let (all, asked) = (ways.to.iter().map(|(to, _)| &**to).collect::<Vec<_>>().join(", "), named.len());
            let text = format!(
                "the events of tenant {tenant} go to {} destinations ({all}), but DEVO_QUERY_SECRET_ID names {asked}: name a secret for \
                 queries of each, in this order, with commas between them",
                ways.to.len()
            );
            return Err(Error::Configuration(text));
        }
        for (n, id) in named.iter().enumerate() {
            let id = id.replace("{tenant}", tenant);
            let told = told(&secrets, &id).await?;
            let token = told
                .token
                .filter(|token| !token.expose_secret().is_empty())
                .ok_or_else(|| Error::Configuration(format!("the secret {id} is no JSON object with a token")))?;
            let known = || ways.to.get(n).and_then(|(_, url)| url.clone());
            let url = told.url.or_else(|| urls.get(n).or(urls.last()).cloned()).or_else(known).ok_or_else(|| {
                needed("DEVO_QUERY_URL", "set it to the Query API of your region, like https://apiv2-eu.devo.com")
            })?;
            let there = found.iter_mut().find(|(other, domain)| *other == id && domain.url == url);
            let asked = there.as_ref().and_then(|(_, domain)| domain.name.clone()).or(told.domain);
            if let (Some(asked), Some(goes)) = (&asked, &ways.domain)
                && asked != goes
            {
                let text = format!(
                    "the events of tenant {tenant} go to the Devo domain {goes}, but the secret {id} is for queries of {asked}: with \
                     {{tenant}} in DEVO_QUERY_SECRET_ID each tenant has its own"
                );
                return Err(Error::Configuration(text));
            }
            match there {
                Some((_, domain)) if domain.tenants.contains(tenant) => {}
                Some((_, domain)) => domain.tenants.push(tenant.clone()),
                None => {
                    let query = Query::open(&url, token).map_err(collector::Error::from)?;
                    let name = asked.or(ways.domain.clone());
                    found.push((id, Domain { query, url, name, tenants: vec![tenant.clone()] }));
                }
            }
        }
    }
    Ok(found.into_iter().map(|(_, domain)| domain).collect())
}

/// A secret that cannot be read as such tells nothing.
async fn told(secrets: &Secrets, id: &str) -> Result<Told, Error> {
    let secret = secrets.get(id).await?;
    Ok(serde_json::from_str(secret.expose_secret()).unwrap_or_default())
}

/// Whoever verifies may not be allowed to read the secret for sending; then the settings alone tell where events go.
async fn ways(settings: &Settings, secrets: &Secrets, tenant: &str) -> Result<Ways, Error> {
    let mut secret = Told::default();
    if let Some(id) = settings.devo_secret_id(tenant) {
        match told(secrets, &id).await {
            Ok(told) => secret = told,
            Err(error) => tracing::warn!("only DEVO_URL tells where events go: {error}"),
        }
    }
    let mut to: Vec<(String, Option<String>)> = Vec::new();
    for url in settings.devo_url(secret.url.as_deref())?.split(',') {
        // Standard output is no Devo.
        let Some((_, rest)) = url.split_once("://") else { continue };
        let place = rest.split('/').next().unwrap_or_default();
        let asked = Query::url_for(place.split(':').next().unwrap_or_default());
        let is_new =
            |(other, url): &(String, Option<String>)| if asked.is_some() { *url != asked } else { other != place };
        if to.iter().all(is_new) {
            to.push((place.to_owned(), asked));
        }
    }
    let domain = secret.domain.filter(|_| to.len() < 2);
    Ok(Ways { to, domain })
}
