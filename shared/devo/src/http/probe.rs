//! Whether Devo's HTTP API takes what this sender would send, without sending anything.
//!
//! An empty request delivers nothing. What Devo answers to one is not documented, nor whether it tells a wrong token from a right one
//! at all: so each is asked once more with a token that nobody has, and only where the two answers differ is anything known.

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
        let (origin, stranger) = (&self.origin, self.stranger());
        let mut refused = Vec::new();
        for table in tables {
            let (status, text) = self.post(&self.stream, table, "", until).await?;
            let is_passing = [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT].contains(&status);
            if is_passing || status.is_server_error() {
                return Err(Error::Unavailable(format!("{origin}: {text}")));
            }
            // Whatever a stranger is told: no token is taken with one of these.
            if [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN, StatusCode::NOT_FOUND].contains(&status) {
                refused.push(format!("{table}: {text}"));
                continue;
            }
            let (to_stranger, _) = self.post(&stranger, table, "", until).await?;
            if to_stranger == status {
                let unknown = "whatever the token, so nothing is known of ours";
                return Err(Error::Unproven(format!("{origin} answers an empty request with {text}, {unknown}")));
            }
        }
        let all = tables.len();
        match refused.len() {
            0 => Ok(format!("{origin} takes the token for {all} tables")),
            count if count == all => Err(Error::Rejected(format!("{origin} does not take the token: {}", refused[0]))),
            _ => Err(Error::Rejected(format!("{origin} does not take the token for {}", refused.join(", ")))),
        }
    }

    /// Whether a line is taken with a token that nobody has: then that one is taken with ours proves nothing.
    pub(crate) async fn takes_any_token(&self, table: &str, line: &str, until: Instant) -> Result<bool, Error> {
        let (status, _) = self.post(&self.stranger(), table, &format!("{line}\n"), until).await?;
        Ok(status.is_success())
    }

    /// The address with a token that nobody has.
    fn stranger(&self) -> SecretString {
        self.stream.expose_secret().replace(self.token[1].expose_secret(), NO_TOKEN).into()
    }

    async fn post(
        &self,
        stream: &SecretString,
        table: &str,
        body: &str,
        until: Instant,
    ) -> Result<(StatusCode, String), Error> {
        let url = format!("{}/{}", stream.expose_secret(), segment("table", table)?);
        let url = Url::parse(&url).map_err(|error| Error::Configuration(format!("devo url: {error}")))?;
        let time = until.saturating_duration_since(Instant::now()).min(PROBE);
        match self.execute(self.client.post(url).body(body.to_owned()).timeout(time)).await {
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
