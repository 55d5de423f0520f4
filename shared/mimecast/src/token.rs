//! The API 2.0 access token: OAuth2 client credentials, kept until a minute before it runs out.

use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use reqwest::Response;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use crate::credentials::KeysV2;
use crate::envelope::{Rows, Top};
use crate::refusal::{self, Failed};
use crate::{Error, lenient};

pub(crate) const PATH: &str = "/oauth/token";
/// Renewed this long before it runs out, so that no request starts with a token about to expire.
const MARGIN: Duration = Duration::from_secs(60);

/// How long a token lives of which nothing is said, as always seen.
const USUAL_LIFE_SECS: u64 = 1799;
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
    /// Seconds. RFC 6749 only recommends it, so that a token without it is a token.
    #[serde(default)]
    expires_in: Value,
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
    pub async fn read(mut response: Response, now: DateTime<Utc>) -> Result<Self, Failed> {
        let (status, headers) = (response.status(), response.headers().clone());
        let mut body = Vec::new();
        let broken = |e: reqwest::Error| Failed::passing(Error::Unavailable(e.without_url().to_string()));
        while let Some(chunk) = response.chunk().await.map_err(broken)? {
            body.extend_from_slice(&chunk);
            if body.len() > LARGEST {
                return Err(Failed::lasting(Error::Protocol(format!(
                    "{PATH}: an answer of more than {LARGEST} bytes"
                ))));
            }
        }
        if status.is_redirection() || matches!(status.as_u16(), 404 | 405) {
            // Passing, as a gateway says it at times of what is there.
            return Err(Failed::passing(Error::Configuration(format!(
                "the Mimecast base URL is wrong: that host has no {PATH} (HTTP {})",
                status.as_u16()
            ))));
        }
        if status == 400 {
            // RFC 6749: invalid_client and invalid_grant may come as 400.
            return Err(Failed::lasting(Error::Credentials(format!("{PATH}: client_id or client_secret is wrong"))));
        }
        let body = Bytes::from(body);
        refusal::check(status, &headers, Top::read(&body, Rows::Flat).complaint(), false, now)
            .map_err(|e| e.at(PATH))?;
        let grant = serde_json::from_slice(&body).ok();
        let grant = grant.filter(|grant: &Grant| !grant.access_token.expose_secret().trim().is_empty());
        let none = || Failed::passing(Error::Protocol(format!("{PATH}: no access_token in the answer")));
        let Grant { access_token, expires_in } = grant.ok_or_else(none)?;
        let seconds = lenient::whole(&expires_in).filter(|seconds| *seconds > 0).unwrap_or(USUAL_LIFE_SECS);
        let life = Duration::from_secs(seconds).min(LONGEST_LIFE);
        Ok(Self { value: access_token, renew_at: Instant::now() + life.saturating_sub(MARGIN) })
    }

    pub fn is_stale(&self) -> bool {
        Instant::now() >= self.renew_at
    }

    pub fn bearer(&self) -> String {
        format!("Bearer {}", self.value.expose_secret())
    }
}
