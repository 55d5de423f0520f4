//! The Devo secret: what a sender proves itself with. Which keys are needed is for each way out to say.

use std::collections::BTreeMap;

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};

use crate::Error;

/// The keys read; others are ignored.
const KEYS: [&str; 6] = ["url", "domain", "token", "chain", "cert", "key"];

/// `{"domain","token"}` for `https:`, `{"chain","cert","key"}` (PEM texts) for `tls:`, optionally `"url"`.
#[derive(Debug)]
pub struct Credentials(BTreeMap<&'static str, SecretString>);

impl Credentials {
    /// Reads the secret's JSON text. White space around a value is dropped: it comes from pasting.
    ///
    /// # Errors
    /// [`Error::Configuration`] when it is not a JSON object, or a key known here is not a text or empty.
    pub fn from_json(secret: &SecretString) -> Result<Self, Error> {
        // serde's own errors repeat the values.
        let object: Map<String, Value> = serde_json::from_str(secret.expose_secret())
            .map_err(|_| Error::Configuration("devo secret: not a JSON object".to_owned()))?;
        let mut values = BTreeMap::new();
        for key in KEYS {
            match object.get(key) {
                None => {}
                Some(Value::String(text)) if !text.trim().is_empty() => {
                    values.insert(key, text.trim().into());
                }
                Some(_) => {
                    return Err(Error::Configuration(format!("devo secret: {key} must be a text and not empty")));
                }
            }
        }
        Ok(Self(values))
    }

    /// The Devo URL of the secret, which wins over the configured one.
    pub fn url(&self) -> Option<&str> {
        self.0.get("url").map(ExposeSecret::expose_secret)
    }

    /// The values of `keys`, or a [`Error::Configuration`] that names all that are missing.
    pub(crate) fn require<const N: usize>(of: Option<&Self>, keys: [&str; N]) -> Result<[SecretString; N], Error> {
        let value = |key: &str| of.and_then(|credentials| credentials.0.get(key));
        let missing: Vec<&str> = keys.into_iter().filter(|key| value(key).is_none()).collect();
        if missing.is_empty() {
            Ok(keys.map(|key| value(key).cloned().unwrap_or_default()))
        } else {
            Err(Error::Configuration(format!("devo secret: {} missing", missing.join(", "))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_kinds_and_the_url() {
        let json = r#"{"domain":" acme\n","token":"t","chain":"c","cert":"d","key":"k","url":"tls://x:443","else":7}"#;
        let credentials = Credentials::from_json(&json.into()).unwrap();
        assert_eq!(credentials.url(), Some("tls://x:443"));
        let values = Credentials::require(Some(&credentials), ["domain", "token", "chain", "cert", "key"]).unwrap();
        assert_eq!(values.map(|value| value.expose_secret().to_owned()), ["acme", "t", "c", "d", "k"]);
        assert_eq!(Credentials::from_json(&"{}".into()).unwrap().url(), None);
    }

    #[test]
    fn errors_and_debug_hold_no_value() {
        for (json, message) in [
            ("", "devo secret: not a JSON object"),
            ("\"s3cret\"", "devo secret: not a JSON object"),
            ("{\"token\":\"s3cret\"", "devo secret: not a JSON object"),
            ("[\"s3cret\"]", "devo secret: not a JSON object"),
            ("{\"token\":[\"s3cret\"]}", "devo secret: token must be a text and not empty"),
            ("{\"domain\":null}", "devo secret: domain must be a text and not empty"),
            ("{\"key\":\" \"}", "devo secret: key must be a text and not empty"),
        ] {
            let error = Credentials::from_json(&json.into()).unwrap_err();
            assert_eq!(error.to_string(), message);
            assert!(!format!("{error:?}").contains("s3cret"));
        }
        let all =
            r#"{"domain":"s3cret","token":"s3cret","chain":"s3cret","cert":"s3cret","key":"s3cret","url":"s3cret"}"#;
        assert!(!format!("{:#?}", Credentials::from_json(&all.into()).unwrap()).contains("s3cret"));
    }
}
