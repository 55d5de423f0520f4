//! Whether Devo's HTTP API takes what this sender would send, without sending anything.
//!
//! An empty request delivers nothing. What Devo answers to one is not documented: where it is a refusal, a request with a token that
//! is none tells whether it is for the emptiness or for the token.

use reqwest::{StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

use super::{Http, body_text, is_untrusted, segment};
use crate::{Error, PROBE};

/// A token that nobody has.
const NO_TOKEN: &str = "no-token-but-a-check";

impl Http {
    /// What has been found, in words.
    pub(crate) async fn probe(&self, tables: &[String], until: Instant) -> Result<String, Error> {
        let mut refused = Vec::new();
        for table in tables {
            let (status, text) = self.empty(&self.stream, table, until).await?;
            match status {
                _ if status.is_success() => {}
                StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => {
                    return Err(Error::Unavailable(format!("{}: {text}", self.origin)));
                }
                _ if status.is_server_error() => return Err(Error::Unavailable(format!("{}: {text}", self.origin))),
                status => {
                    let stranger = self.stream.expose_secret().replace(self.token[1].expose_secret(), NO_TOKEN);
                    let (to_stranger, _) = self.empty(&stranger.into(), table, until).await?;
                    let is_of_token =
                        [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN, StatusCode::NOT_FOUND].contains(&status);
                    if to_stranger == status && !is_of_token {
                        let unknown = "whatever the token, so nothing is known of ours";
                        return Err(Error::Unproven(format!(
                            "{} answers an empty request with {text}, {unknown}",
                            self.origin
                        )));
                    }
                    if to_stranger == status {
                        refused.push(format!("{table}: {text}"));
                    }
                }
            }
        }
        let (all, origin) = (tables.len(), &self.origin);
        match refused.len() {
            0 => Ok(format!("{origin} takes the token for {all} tables")),
            count if count == all => Err(Error::Rejected(format!("{origin} does not take the token: {}", refused[0]))),
            _ => Err(Error::Rejected(format!("{origin} does not take the token for {}", refused.join(", ")))),
        }
    }

    async fn empty(&self, stream: &SecretString, table: &str, until: Instant) -> Result<(StatusCode, String), Error> {
        let url = format!("{}/{}", stream.expose_secret(), segment("table", table)?);
        let url = Url::parse(&url).map_err(|error| Error::Configuration(format!("devo url: {error}")))?;
        let time = until.saturating_duration_since(Instant::now()).min(PROBE);
        match self.execute(self.client.post(url).timeout(time)).await {
            Ok(response) => {
                let status = response.status();
                Ok((status, format!("{status}: {}", self.shown(&body_text(response).await))))
            }
            Err(error) => {
                let text = format!("{}: {}", self.origin, self.shown(&https::explain(error)));
                Err(if is_untrusted(&text) { Error::Rejected(text) } else { Error::Unavailable(text) })
            }
        }
    }
}
