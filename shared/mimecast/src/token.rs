//! The API 2.0 access token: OAuth2 client credentials, kept until a minute before it runs out.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::Response;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::time::Instant;

use crate::Error;
use crate::credentials::KeysV2;
use crate::refusal::{self, Fault};

pub(crate) const PATH: &str = "/oauth/token";
/// Renewed this long before it runs out, so that no request starts with a token about to expire.
const MARGIN: Duration = Duration::from_secs(60);

/// The longest that a token is believed to live.
const LONGEST_LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// The most that is read of an answer, in bytes.
const LARGEST: usize = 1 << 20;

/// A bearer token and when to renew it.
#[derive(Debug)]
pub(crate) struct Token {
    value: SecretString,
    renew_at: Instant,
}

#[derive(Deserialize)]
struct Grant {
    access_token: SecretString,
    /// Seconds; 1799 as seen.
    expires_in: u64,
}

/// The fields of a token request.
pub(crate) fn form(keys: &KeysV2) -> [(&'static str, &str); 3] {
    [
        ("client_id", keys.client_id.expose_secret()),
        ("client_secret", keys.client_secret.expose_secret()),
        ("grant_type", "client_credentials"),
    ]
}

impl Token {
    pub async fn read(mut response: Response, now: DateTime<Utc>) -> Result<Self, Fault> {
        let (status, headers) = (response.status(), response.headers().clone());
        let mut body = Vec::new();
        let broken = |e: reqwest::Error| Fault::again(Error::Unavailable(e.without_url().to_string()));
        while let Some(chunk) = response.chunk().await.map_err(broken)? {
            body.extend_from_slice(&chunk);
            if body.len() > LARGEST {
                return Err(Fault::last(Error::Protocol(format!("{PATH}: an answer of more than {LARGEST} bytes"))));
            }
        }
        if status == 400 {
            // RFC 6749: invalid_client and invalid_grant may come as 400.
            return Err(Fault::last(Error::Credentials(format!("{PATH}: client_id or client_secret is wrong"))));
        }
        refusal::check(status, &headers, Some(&body), false, now).map_err(|e| e.at(PATH))?;
        let grant: Grant = serde_json::from_slice(&body)
            .map_err(|_| Fault::again(Error::Protocol(format!("{PATH}: no access_token in the answer"))))?;
        let life = Duration::from_secs(grant.expires_in).min(LONGEST_LIFE);
        Ok(Self { value: grant.access_token, renew_at: Instant::now() + life.saturating_sub(MARGIN) })
    }

    pub fn is_stale(&self) -> bool {
        Instant::now() >= self.renew_at
    }

    pub fn bearer(&self) -> String {
        format!("Bearer {}", self.value.expose_secret())
    }
}
