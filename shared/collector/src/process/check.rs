//! `check`: whether a run would work, each thing on its own, with the remedy for what would not. Nothing is delivered.
//!
//! All problems at once: whoever mends one should not meet the next one only then. What is said of a source comes from the smallest
//! request that its reader would make, so nothing passes here that a run would be refused.

use chrono::TimeDelta;
use devo::{Batch, Sink};
use futures_util::future::join_all;
use mimecast::Client;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use tokio::time::{Duration, Instant};

use crate::error::{Error, ErrorType};
use crate::process::collector::Collector;
use crate::read::probe::probe;
use crate::source::{Kind, Source};

/// Where a test event goes: Devo takes any table below `my.app`.
const TEST_TABLE: &str = "my.app.mimecast.check";
/// How long a source may take.
const LONGEST: Duration = Duration::from_secs(20);
/// The most that this machine's clock may be off without anybody having to mend it. Runs go by Mimecast's.
const CLOCK: TimeDelta = TimeDelta::minutes(5);

/// How much is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// What needs no network, but for secrets that are read over it.
    Offline,
    /// Mimecast and Devo too, without delivering anything.
    Online,
    /// The same, and one test event is delivered to `my.app.mimecast.check`.
    TestEvent,
}

/// One thing that has been looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What.
    pub name: String,
    /// Whether nothing has to be done.
    pub ok: bool,
    /// What has been found.
    pub detail: String,
    /// What to do; `None` where nothing.
    pub remedy: Option<String>,
}

impl Check {
    /// In order.
    pub fn passed(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { name: name.into(), ok: true, detail: detail.into(), remedy: None }
    }

    /// Not in order.
    pub fn failed(name: impl Into<String>, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name: name.into(), ok: false, detail: detail.into(), remedy: Some(remedy.into()) }
    }
}

/// The answer of an invocation that asks for a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// The source's name.
    pub source: &'static str,
    /// The tenant's name.
    pub tenant: String,
    /// All that has been looked at.
    pub checks: Vec<Check>,
    /// All of them are in order.
    pub ok: bool,
}

impl Checked {
    pub(super) fn new(source: &Source, tenant: String, checks: Vec<Check>) -> Self {
        let ok = checks.iter().all(|check| check.ok);
        Self { source: source.name, tenant, checks, ok }
    }
}

impl Collector {
    /// Looks at all that a run of these sources needs, but for the checkpoints.
    pub async fn check(&self, sources: &[&'static Source], tenant: &str, depth: Depth, until: Instant) -> Vec<Check> {
        let mut checks = Vec::new();
        let client = self.check_mimecast_secret(tenant, &mut checks).await;
        let sink = self.check_devo_secret(tenant, &mut checks).await;
        if depth == Depth::Offline {
            return checks;
        }
        if let Some(client) = client {
            self.check_sources(&client, sources, until, &mut checks).await;
        }
        if let Some(sink) = sink {
            let test = match depth {
                Depth::TestEvent => Some(self.check_test_event(&sink, until).await),
                _ => None,
            };
            let is_proven = test.as_ref().is_some_and(|test| test.ok);
            self.check_way(&sink, sources, is_proven, until, &mut checks).await;
            checks.extend(test);
        }
        checks
    }

    /// Whether a run of this source may read and write its checkpoint.
    pub async fn check_checkpoints(&self, source: &Source, tenant: &str) -> Check {
        match self.store.probe(tenant, source.name, self.clock.now()).await {
            Ok(()) => Check::passed("checkpoints", "can be read and written"),
            Err(error) => failed("checkpoints", &error, source),
        }
    }

    async fn check_mimecast_secret(&self, tenant: &str, checks: &mut Vec<Check>) -> Option<Client> {
        const NAME: &str = "mimecast secret";
        let id = self.settings.mimecast_secret_id(tenant);
        let client = self.secrets.get(&id).await.and_then(|secret| self.client(&secret));
        client.map_err(|error| checks.push(Check::failed(NAME, error.to_string(), CORRECT))).ok().inspect(|client| {
            let api = if client.is_v2() { "2.0" } else { "1.0" };
            checks.push(Check::passed(NAME, format!("keys for API {api}, {}", client.base_url())));
        })
    }

    async fn check_devo_secret(&self, tenant: &str, checks: &mut Vec<Check>) -> Option<Sink> {
        const NAME: &str = "devo secret";
        let secret: Result<Option<SecretString>, Error> = match self.settings.devo_secret_id(tenant) {
            Some(id) => self.secrets.get(&id).await.map(Some),
            None => Ok(None),
        };
        let (is_needed, sink) = match secret {
            Ok(secret) => (secret.is_some(), self.sink(secret.as_ref())),
            Err(error) => (true, Err(error)),
        };
        let sink = sink.map_err(|error| checks.push(Check::failed(NAME, error.to_string(), CORRECT))).ok()?;
        checks.push(Check::passed(NAME, if is_needed { "has the keys that DEVO_URL needs" } else { "none is needed" }));
        for certificate in sink.certificates() {
            checks.push(match certificate {
                Ok(detail) => Check::passed("devo certificate", detail),
                Err(detail) => Check::failed("devo certificate", detail, NEW_CERTIFICATE),
            });
        }
        Some(sink)
    }

    async fn check_sources(
        &self,
        client: &Client,
        sources: &[&'static Source],
        until: Instant,
        checks: &mut Vec<Check>,
    ) {
        let ask = |source: &'static Source| async move {
            (source, probe(source, &self.settings, client, until.min(Instant::now() + LONGEST)).await)
        };
        // The first one alone: where the keys are refused, the others would be too, and some accounts are locked for too many refusals.
        let Some((first, rest)) = sources.split_first() else { return };
        let mut asked = vec![ask(first).await];
        if refused_keys(&asked).is_none() {
            asked.extend(join_all(rest.iter().map(|source| ask(source))).await);
        }
        let refused = refused_keys(&asked);
        let found: Vec<Check> = match &refused {
            Some(_) => {
                sources.iter().map(|source| Check::failed(source.name, "not asked", "mend the keys first")).collect()
            }
            None => asked.into_iter().map(|(source, failures)| checked(source, failures, client)).collect(),
        };
        if let Some(text) = refused {
            checks.push(Check::failed("mimecast keys", &text, keys_remedy(&text, client)));
        } else if found.iter().any(|check| check.ok) {
            checks.extend([Check::passed("mimecast keys", "accepted"), clock(client.clock_offset())]);
        }
        checks.extend(found);
    }

    /// `is_proven`: a test event has been taken.
    async fn check_way(
        &self,
        sink: &Sink,
        sources: &[&'static Source],
        is_proven: bool,
        until: Instant,
        checks: &mut Vec<Check>,
    ) {
        let tables: Vec<String> = sources.iter().flat_map(|source| self.tables(source)).collect();
        for found in sink.probe(&tables, until).await {
            checks.push(match found {
                Ok(detail) => Check::passed("devo", detail),
                Err(devo::Error::Unproven(_)) if is_proven => {
                    Check::passed("devo", "takes the token, as the test event shows")
                }
                Err(error) => devo_failed("devo", error),
            });
        }
    }

    async fn check_test_event(&self, sink: &Sink, until: Instant) -> Check {
        const NAME: &str = "devo test event";
        let at = self.clock.now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        let line = format!(r#"{{"check":"mimecast-devo {}","at":"{at}"}}"#, env!("CARGO_PKG_VERSION"));
        let delivery = sink.send(&[Batch { table: TEST_TABLE, lines: vec![line.clone().into()] }], until).await;
        if let Some(error) = delivery.failure {
            return devo_failed(NAME, error);
        }
        match sink.takes_any_token(TEST_TABLE, &line, until).await {
            Ok(false) => Check::passed(NAME, format!("accepted, look for it in {TEST_TABLE}")),
            Ok(true) => Check::failed(
                NAME,
                "accepted, but so is one with a token that nobody has, so nothing is proven",
                format!("look for it in {TEST_TABLE} in Devo, or let `mimecast-devo verify` ask whether events arrive"),
            ),
            Err(error) => devo_failed(NAME, error),
        }
    }

    /// The tables that a source is known to fill.
    fn tables(&self, source: &Source) -> Vec<String> {
        let mut tables = match &source.kind {
            Kind::Stream(stream) if !stream.types.is_empty() => {
                stream.types.iter().map(|(_, name)| format!("{}.{name}", source.table)).collect()
            }
            _ => vec![source.table.to_owned()],
        };
        tables.sort();
        tables.dedup();
        tables.iter().map(|name| self.settings.table(source, name)).collect()
    }
}

/// Why Mimecast does not accept the keys, where it does not.
fn refused_keys(asked: &[(&Source, Vec<(String, mimecast::Error)>)]) -> Option<String> {
    let errors = asked.iter().flat_map(|(_, failures)| failures.iter().map(|(_, error)| error));
    errors.into_iter().find(|error| matches!(error, mimecast::Error::Credentials(_))).map(ToString::to_string)
}

/// `offset`: how far Mimecast's clock is ahead of ours.
fn clock(offset: TimeDelta) -> Check {
    let seconds = offset.num_seconds();
    if offset.abs() <= CLOCK {
        return Check::passed("clock", format!("{} s off Mimecast's", seconds.abs()));
    }
    let side = if seconds > 0 { "behind" } else { "ahead of" };
    Check::failed("clock", format!("this machine's clock is {} s {side} Mimecast's", seconds.abs()), SET_CLOCK)
}

const SET_CLOCK: &str = "set this machine's clock, by NTP for example";
const CORRECT: &str = "correct this and check again";
const NEW_CERTIFICATE: &str = "make a new certificate in Devo (Administration > Credentials > X.509 certificates) and put chain, cert and key into the secret";

/// What became of a source's requests.
fn checked(source: &Source, failures: Vec<(String, mimecast::Error)>, client: &Client) -> Check {
    let details: Vec<String> = failures
        .iter()
        .map(|(feed, error)| if feed == source.name { error.to_string() } else { format!("{feed}: {error}") })
        .collect();
    let Some((_, error)) = failures.into_iter().next() else {
        return Check::passed(source.name, "may be read");
    };
    let remedy = match &error {
        mimecast::Error::Permission(_) => permission_remedy(source, client),
        // A region's host knows the account's endpoints, another one does not.
        mimecast::Error::NotFound(_) => {
            format!("check that {} is the account's region, and that the account has the product", client.base_url())
        }
        _ => return failed_with(source.name, details.join("; "), &error.into(), source),
    };
    Check::failed(source.name, details.join("; "), remedy)
}

/// In the words of Mimecast's console.
fn permission_remedy(source: &Source, client: &Client) -> String {
    let permission = source.permission;
    let role = if client.is_v2() {
        format!(
            "in Integrations | API and Platform Integrations | Your Application Integrations, edit the API 2.0 application: give its role \
             the permission `{permission}`, and tick the products that it asks for"
        )
    } else {
        format!("in Administration | Account | Roles, give the role of the keys' user the permission `{permission}`")
    };
    format!("{role}; or leave this source out if the account does not have it")
}

/// What to do about keys that are not accepted.
fn keys_remedy(text: &str, client: &Client) -> String {
    let url = client.base_url();
    if !client.is_v2() && (text.contains("HTTP 418") || text.contains("err_xdk_binding_expired")) {
        return "the binding of the access key has expired: create new keys for the API application, with a user whose authentication \
                profile has the longest `Authentication TTL`, and put them into the secret"
            .to_owned();
    }
    if client.is_v2() {
        format!(
            "put the client id and secret that Mimecast's console shows for the API 2.0 application into the secret, check that the \
             application is enabled, and that {url} is the account's region"
        )
    } else {
        format!(
            "put valid keys of the API application and its user into the secret, and check that {url} is the account's region"
        )
    }
}

fn devo_failed(name: &str, error: devo::Error) -> Check {
    let error = Error::from(error);
    let remedy = match error.error_type() {
        _ if matches!(error, Error::Devo(devo::Error::Unproven(_))) => {
            "check again with --send, which delivers one test event"
        }
        ErrorType::DevoRejected => {
            "give the token (type HTTP ingestion) these tables, or mail.mimecast.** and my.app.mimecast.**, in Administration | \
             Credentials | Authentication tokens; check domain, token or certificate in the Devo secret, and the region of its url"
        }
        ErrorType::DevoUnavailable => {
            "check host, port and region of DEVO_URL, and the network's way there (firewall, proxy)"
        }
        _ => CORRECT,
    };
    Check::failed(name, error.to_string(), remedy)
}

fn failed(name: &str, error: &Error, source: &Source) -> Check {
    failed_with(name, error.to_string(), error, source)
}

fn failed_with(name: &str, detail: String, error: &Error, source: &Source) -> Check {
    let remedy = match error.error_type() {
        ErrorType::MimecastUnavailable => {
            "check the network's way to Mimecast (firewall, proxy, region), and Mimecast's status page; then check again".to_owned()
        }
        ErrorType::MimecastProtocol if detail.contains("clock") => SET_CLOCK.to_owned(),
        _ => error.advice(source.permission),
    };
    Check::failed(name, detail, remedy)
}
