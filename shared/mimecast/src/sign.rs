//! The signature of an API 1.0 request.
//!
//! HMAC-SHA1 over `{date}:{request id}:{path}:{application key}` with the base64-decoded secret key, see
//! <https://integrations.mimecast.com/documentation/api-overview/authorization/>.

use base64::{Engine, prelude::BASE64_STANDARD};
use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit, Mac};
use secrecy::ExposeSecret;
use sha1::Sha1;

use crate::credentials::KeysV1;

/// `x-mc-date` in the form that all working clients send, e.g. `Tue, 24 Nov 2015 12:50:11 UTC`.
pub(crate) fn date(now: DateTime<Utc>) -> String {
    now.format("%a, %d %b %Y %H:%M:%S UTC").to_string()
}

/// The value of `Authorization` for one request to `path` (no host, no query).
pub(crate) fn authorization(keys: &KeysV1, date: &str, request_id: &str, path: &str) -> String {
    let signed = format!("{date}:{request_id}:{path}:{}", keys.app_key.expose_secret());
    // HMAC takes a key of any length, so the error cannot occur; an empty signature would be refused by the server.
    let signature = Hmac::<Sha1>::new_from_slice(keys.secret_key.expose_secret())
        .map(|mac| mac.chain_update(signed.as_bytes()).finalize().into_bytes().to_vec())
        .unwrap_or_default();
    format!("MC {}:{}", keys.access_key.expose_secret(), BASE64_STANDARD.encode(signature))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::{Credentials, Keys};
    use secrecy::SecretString;

    #[test]
    fn signs_as_openssl_does() {
        // printf '%s' "$DATE:$ID:/api/audit/get-siem-logs:app-key" | openssl dgst -sha1 -hmac 'a secret key' -binary | base64
        let secret = r#"{"app_id":"id","app_key":"app-key","access_key":"ak","secret_key":"YSBzZWNyZXQga2V5"}"#;
        let Keys::V1(keys) = Credentials::from_json(&SecretString::from(secret)).unwrap().keys else {
            panic!("four keys are API 1.0");
        };
        let value = authorization(
            &keys,
            "Tue, 24 Nov 2015 12:50:11 UTC",
            "7d2c9a4c-8f0e-4d0a-9c38-3d1f6f8b3f0a",
            "/api/audit/get-siem-logs",
        );
        assert_eq!(value, "MC ak:7uaBYT3LyXMsvgrNTCHKcgxsoOI=");
    }
}
