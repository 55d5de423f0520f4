//! The Mimecast secret: which of the two APIs it opens, and at which address.
//!
//! Knows the keys' names and the regions' hosts; where the secret comes from is the caller's business.

use base64::{Engine, prelude::BASE64_STANDARD};
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use serde_json::{Map, Value};

use crate::Error;

/// The content of a Mimecast secret.
#[derive(Debug)]
pub struct Credentials {
    pub(crate) keys: Keys,
    region: Option<String>,
    base_url: Option<String>,
}

/// The keys of one of the two APIs. `Debug` shows no key: every part is wrapped.
#[derive(Debug)]
pub(crate) enum Keys {
    V1(KeysV1),
    V2(KeysV2),
}

#[derive(Debug)]
pub(crate) struct KeysV1 {
    pub app_id: SecretString,
    pub app_key: SecretString,
    pub access_key: SecretString,
    /// Decoded from base64.
    pub secret_key: SecretSlice<u8>,
}

#[derive(Debug)]
pub(crate) struct KeysV2 {
    pub client_id: SecretString,
    pub client_secret: SecretString,
}

const V1: [&str; 4] = ["app_id", "app_key", "access_key", "secret_key"];
const V2: [&str; 2] = ["client_id", "client_secret"];

/// API 1.0 regions and their hosts
/// (<https://integrations.mimecast.com/documentation/api-overview/global-base-urls/>). `uspcom`, the public sector of the United States,
/// is where Rapid7's client finds it. Of Offshore, Mimecast's own guides name two hosts: where this is the wrong one, `base_url`.
const REGIONS_V1: [(&str, &str); 9] = [
    ("eu", "eu-api.mimecast.com"),
    ("de", "de-api.mimecast.com"),
    ("us", "us-api.mimecast.com"),
    ("usb", "usb-api.mimecast.com"),
    ("ca", "ca-api.mimecast.com"),
    ("za", "za-api.mimecast.com"),
    ("au", "au-api.mimecast.com"),
    ("je", "je-api.mimecast.com"),
    ("uspcom", "uspcom-api.mimecast-pscom-us.com"),
];

/// API 2.0 regions and their hosts (Mimecast support article 41019270938643).
const REGIONS_V2: [(&str, &str); 3] = [
    ("global", "api.services.mimecast.com"),
    ("us", "us-api.services.mimecast.com"),
    ("uk", "uk-api.services.mimecast.com"),
];

impl Credentials {
    /// Reads the secret's JSON text.
    ///
    /// # Errors
    /// `Configuration`, naming the keys that are missing or too many, never a value.
    pub fn from_json(secret: &SecretString) -> Result<Self, Error> {
        let object: Map<String, Value> = serde_json::from_str(secret.expose_secret())
            .map_err(|_| configuration("the Mimecast secret is not a JSON object"))?;
        let text = |key: &str| match object.get(key) {
            Some(Value::String(text)) if !text.trim().is_empty() => Some(text.trim().to_owned()),
            _ => None,
        };
        let missing = |keys: &[&'static str]| -> Vec<&'static str> {
            keys.iter().copied().filter(|key| text(key).is_none()).collect()
        };
        let wrapped = |key: &str| SecretString::from(text(key).unwrap_or_default());
        let keys = match (missing(&V1).as_slice(), missing(&V2).as_slice()) {
            ([], []) => {
                return Err(configuration(format!(
                    "the Mimecast secret has the keys of both APIs: remove {} (API 1.0) or {} (API 2.0)",
                    V1.join(", "),
                    V2.join(", ")
                )));
            }
            (_, []) => Keys::V2(KeysV2 { client_id: wrapped("client_id"), client_secret: wrapped("client_secret") }),
            ([], _) => Keys::V1(KeysV1 {
                app_id: wrapped("app_id"),
                app_key: wrapped("app_key"),
                access_key: wrapped("access_key"),
                secret_key: BASE64_STANDARD
                    .decode(text("secret_key").unwrap_or_default())
                    .map_err(|_| configuration("secret_key in the Mimecast secret is not base64"))?
                    .into(),
            }),
            (v1, v2) if v1.len() < V1.len() && v2.len() == V2.len() => {
                return Err(configuration(format!("the Mimecast secret lacks {} (API 1.0)", v1.join(", "))));
            }
            (v1, v2) if v1.len() == V1.len() && v2.len() < V2.len() => {
                return Err(configuration(format!("the Mimecast secret lacks {} (API 2.0)", v2.join(", "))));
            }
            (v1, v2) => {
                return Err(configuration(format!(
                    "the Mimecast secret is complete for neither API: it lacks {} (API 2.0) or {} (API 1.0)",
                    v2.join(", "),
                    v1.join(", ")
                )));
            }
        };
        Ok(Self { keys, region: text("region"), base_url: text("base_url") })
    }

    /// Whether these keys are for API 2.0 (OAuth2) and not for API 1.0 (signed requests).
    pub fn is_v2(&self) -> bool {
        matches!(self.keys, Keys::V2(_))
    }

    /// The base URL, without a slash at its end: the secret's `base_url` or `region` win over the settings given here.
    ///
    /// # Errors
    /// `Configuration` for an unknown region, a URL that is neither `https` nor loopback, or API 1.0 without a region.
    pub fn base_url(&self, setting_url: Option<&str>, setting_region: Option<&str>) -> Result<String, Error> {
        let url = match (&self.base_url, &self.region) {
            (Some(url), _) => url.clone(),
            (None, Some(region)) => self.regional(region, "region in the Mimecast secret")?,
            (None, None) => match (setting_url, setting_region) {
                (Some(url), _) => url.to_owned(),
                (None, Some(region)) => self.regional(region, "MIMECAST_REGION")?,
                (None, None) if self.is_v2() => self.regional("global", "MIMECAST_REGION")?,
                (None, None) => {
                    return Err(configuration(format!(
                        "set MIMECAST_REGION to the account's region: {}",
                        names(&REGIONS_V1)
                    )));
                }
            },
        };
        let url = url.trim_end_matches('/').to_owned();
        check_url(&url)?;
        if url.ends_with(crate::token::PATH) || url.contains(['?', '#']) {
            // Every endpoint is put behind it: the host would answer 404, or 401 as if the keys were wrong.
            return Err(configuration(format!(
                "the Mimecast URL must end before {} and hold no ? or #",
                crate::token::PATH
            )));
        }
        Ok(url)
    }

    fn regional(&self, region: &str, origin: &str) -> Result<String, Error> {
        let regions: &[(&str, &str)] = if self.is_v2() { &REGIONS_V2 } else { &REGIONS_V1 };
        regions
            .iter()
            .find(|(name, _)| *name == region)
            .map(|(_, host)| format!("https://{host}"))
            .ok_or_else(|| configuration(format!("{origin} must be one of {}", names(regions))))
    }
}

/// Keys travel over TLS only: `https`, or `http` to this machine itself (simulators).
pub(crate) fn check_url(url: &str) -> Result<(), Error> {
    let parsed = reqwest::Url::parse(url).map_err(|e| configuration(format!("the Mimecast URL is not a URL: {e}")))?;
    let host = parsed.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let loopback = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    match parsed.scheme() {
        "https" => Ok(()),
        "http" if loopback => Ok(()),
        _ => Err(configuration("the Mimecast URL must be https:// (http:// for a loopback address only)")),
    }
}

fn names(regions: &[(&str, &str)]) -> String {
    regions.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" ")
}

fn configuration(message: impl Into<String>) -> Error {
    Error::Configuration(message.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Credentials, String> {
        Credentials::from_json(&SecretString::from(json)).map_err(|e| e.to_string())
    }

    const V1_SECRET: &str = r#"{"app_id":"i","app_key":"k","access_key":"a","secret_key":"c2VjcmV0"}"#;
    const V2_SECRET: &str = r#"{"client_id":"topsecret-id","client_secret":"topsecret"}"#;

    #[test]
    fn the_kind_of_api_follows_from_the_keys() {
        assert!(!read(V1_SECRET).unwrap().is_v2());
        assert!(read(V2_SECRET).unwrap().is_v2());
    }

    #[test]
    fn errors_name_keys_and_never_values() {
        let lacking = read(r#"{"client_id":"topsecret"}"#).unwrap_err();
        assert_eq!(lacking, "the Mimecast secret lacks client_secret (API 2.0)");
        let lacking = read(r#"{"app_id":"topsecret","app_key":"topsecret","access_key":""}"#).unwrap_err();
        assert_eq!(lacking, "the Mimecast secret lacks access_key, secret_key (API 1.0)");
        let both = format!("{},{}", V1_SECRET.trim_end_matches('}'), V2_SECRET.trim_start_matches('{'));
        assert!(read(&both).unwrap_err().contains("both APIs"));
        assert!(read("{}").unwrap_err().contains("client_id, client_secret (API 2.0)"));
        assert!(read("[]").unwrap_err().contains("not a JSON object"));
        assert!(read(&V1_SECRET.replace("c2VjcmV0", "%topsecret%")).unwrap_err().contains("not base64"));
    }

    #[test]
    fn debug_shows_no_secret() {
        assert!(!format!("{:?}", read(V2_SECRET).unwrap()).contains("topsecret"));
        let shown = format!("{:?}", read(&V1_SECRET.replace("\"k\"", "\"topsecret\"")).unwrap());
        assert!(!shown.contains("topsecret") && !shown.contains("115, 101, 99"), "{shown}");
    }

    #[test]
    fn the_secret_wins_over_the_settings() {
        let url = |json: &str, url: Option<&str>, region: Option<&str>| {
            read(json).unwrap().base_url(url, region).map_err(|e| e.to_string())
        };
        assert_eq!(url(V2_SECRET, None, None).unwrap(), "https://api.services.mimecast.com");
        assert_eq!(url(V2_SECRET, None, Some("uk")).unwrap(), "https://uk-api.services.mimecast.com");
        assert_eq!(url(V1_SECRET, None, Some("usb")).unwrap(), "https://usb-api.mimecast.com");
        assert_eq!(url(V1_SECRET, None, Some("je")).unwrap(), "https://je-api.mimecast.com");
        let public = "https://uspcom-api.mimecast-pscom-us.com";
        assert_eq!(url(V1_SECRET, None, Some("uspcom")).unwrap(), public);
        assert!(url(V2_SECRET, None, Some("uspcom")).unwrap_err().contains("global us uk"));
        assert!(url(V1_SECRET, None, None).unwrap_err().contains("MIMECAST_REGION"));
        assert!(url(V1_SECRET, None, Some("global")).unwrap_err().contains("eu de us usb"));
        let own = V2_SECRET.replace('}', r#","base_url":"http://127.0.0.1:1/"}"#);
        assert_eq!(url(&own, Some("https://elsewhere"), Some("uk")).unwrap(), "http://127.0.0.1:1");
        assert!(url(V2_SECRET, Some("http://example.com"), None).unwrap_err().contains("https://"));
    }

    #[test]
    fn a_url_that_is_more_than_the_base_is_told() {
        for more in ["https://host/oauth/token", "https://host/oauth/token/", "https://host?x=1", "https://host/#top"] {
            let error = read(V2_SECRET).unwrap().base_url(Some(more), None).unwrap_err().to_string();
            assert!(error.contains("must end before /oauth/token"), "{more}: {error}");
        }
    }
}
