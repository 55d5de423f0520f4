//! Devo's Query API: how many events a table has by hour, and which columns. It asks what has become of what was sent; it is no way
//! out.
//!
//! <https://devodocs.atlassian.net/wiki/spaces/latest/pages/95128301>. Dates and numbers are read in whatever form they come.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, NaiveDateTime, Utc};
use reqwest::{Client, RequestBuilder, StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use crate::Error;

/// Longest wait for one answer.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Devo's regions and the hosts that are asked there (DevoInc/python-sdk, docs/api).
const REGIONS: [(&str, &str); 5] = [
    ("us", "apiv2-us.devo.com"),
    ("eu", "apiv2-eu.devo.com"),
    ("ca", "apiv2-ca.devo.com"),
    ("es", "apiv2-es.devo.com"),
    ("ap", "api-apac.devo.com"),
];
const COUNT: &str = "events";

/// Somebody who may ask.
#[derive(Debug)]
pub struct Query {
    http: Client,
    url: String,
    token: SecretString,
}

/// What is known of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found<T> {
    /// This.
    Known(T),
    /// It is not there, or the token may not read it: Devo does not tell which.
    Hidden(String),
}

impl Query {
    /// Asks at `url` with a token for queries.
    ///
    /// # Errors
    /// [`Error::Configuration`] for a URL that is neither `https` nor loopback.
    pub fn open(url: &str, token: SecretString) -> Result<Self, Error> {
        let bad = |text: &str| Error::Configuration(format!("the URL of Devo's Query API: {text}"));
        let parsed = Url::parse(url).map_err(|error| bad(&error.to_string()))?;
        let plain = parsed.scheme() == "http";
        if parsed.scheme() != "https" && !(plain && crate::http::is_loopback(&parsed)) {
            return Err(bad("write it like https://apiv2-eu.devo.com (http:// for a loopback address only)"));
        }
        let http = https::client(parsed.as_str()).map_err(|error| Error::Configuration(error.to_string()))?;
        Ok(Self { http, url: url.trim_end_matches('/').to_owned(), token })
    }

    /// Where the region of a host is asked, `http-eu.devo.io` or `collector-us.devo.io` for example.
    pub fn url_for(host: &str) -> Option<String> {
        let region = host.split('.').next()?.rsplit('-').next()?.trim_end_matches(|c: char| c.is_ascii_digit());
        let (_, asked) = REGIONS.iter().find(|(name, _)| *name == region)?;
        Some(format!("https://{asked}"))
    }

    /// How many events `table` has in each hour of `[from, to)`, by its begin. Hours without any are left out.
    ///
    /// # Errors
    /// [`Error::Rejected`] where the token is not taken, else [`Error::Unavailable`].
    pub async fn hours(
        &self,
        table: &str,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> Result<Found<BTreeMap<DateTime<Utc>, u64>>, Error> {
        let body = json!({
            "query": format!("from {table} group every 1h select count() as {COUNT}"),
            "from": from.timestamp(),
            "to": to.timestamp(),
            "mode": {"type": "json"},
        });
        let request = self.http.post(format!("{}/search/query", self.url)).body(body.to_string());
        let rows = match self.ask(request.header("content-type", "application/json")).await? {
            Found::Known(rows) => rows,
            Found::Hidden(text) => return Ok(Found::Hidden(text)),
        };
        let mut hours = BTreeMap::new();
        for row in &rows {
            let read = date(&row["eventdate"]).zip(number(&row[COUNT]));
            let (at, count) = read.ok_or_else(|| self.unreadable(row))?;
            *hours.entry(at).or_insert(0) += count;
        }
        Ok(Found::Known(hours))
    }

    /// The names of the columns of `table`.
    ///
    /// # Errors
    /// As [`Query::hours`].
    pub async fn columns(&self, table: &str) -> Result<Found<Vec<String>>, Error> {
        let rows = match self.ask(self.http.get(format!("{}/search/table/{table}", self.url))).await? {
            Found::Known(rows) => rows,
            Found::Hidden(text) => return Ok(Found::Hidden(text)),
        };
        let name = |row: &Value| row["fieldName"].as_str().map(str::to_owned).ok_or_else(|| self.unreadable(row));
        rows.iter().map(name).collect::<Result<_, _>>().map(Found::Known)
    }

    /// The rows of an answer.
    async fn ask(&self, request: RequestBuilder) -> Result<Found<Vec<Value>>, Error> {
        let request = request.bearer_auth(self.token.expose_secret()).timeout(TIMEOUT);
        let answer = request.send().await.map_err(|error| self.unavailable(&https::explain(error)))?;
        let status = answer.status();
        let text = answer.text().await.map_err(|error| self.unavailable(&https::explain(error)))?;
        let value: Value = serde_json::from_str(&text).unwrap_or_default();
        let said = || value["error"].as_str().or(value["msg"].as_str()).unwrap_or("no message").replace('\n', " ");
        match status {
            _ if status.is_success() => match value["object"].as_array() {
                Some(rows) => Ok(Found::Known(rows.clone())),
                None => Err(self.unavailable("an answer without `object`")),
            },
            StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => Ok(Found::Hidden(format!("{status}: {}", said()))),
            StatusCode::UNAUTHORIZED => Err(Error::Rejected(format!("{}: {status}: {}", self.url, said()))),
            _ => Err(self.unavailable(&format!("{status}: {}", said()))),
        }
    }

    fn unreadable(&self, row: &Value) -> Error {
        let text: String = row.to_string().chars().take(200).collect();
        self.unavailable(&format!("a row that cannot be read: {text}"))
    }

    fn unavailable(&self, text: &str) -> Error {
        Error::Unavailable(format!("{}: {text}", self.url))
    }
}

/// Milliseconds or seconds since the epoch, as a number or as text, or a date in UTC.
fn date(value: &Value) -> Option<DateTime<Utc>> {
    if let Some(number) = value.as_i64().or_else(|| value.as_str()?.parse().ok()) {
        return match number.abs() > 100_000_000_000 {
            true => DateTime::from_timestamp_millis(number),
            false => DateTime::from_timestamp(number, 0),
        };
    }
    let text = value.as_str()?;
    let plain = || NaiveDateTime::parse_from_str(&text.replace('T', " "), "%Y-%m-%d %H:%M:%S%.f").ok();
    DateTime::parse_from_rfc3339(text).map(|at| at.to_utc()).ok().or_else(|| Some(plain()?.and_utc()))
}

fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_in_any_form() {
        let at = DateTime::from_timestamp(1_767_225_600, 0);
        for value in [
            json!(1_767_225_600_000_i64),
            json!(1_767_225_600),
            json!("1767225600000"),
            json!("2026-01-01 00:00:00.000"),
            json!("2026-01-01T00:00:00Z"),
            json!("2026-01-01T00:00:00.000"),
        ] {
            assert_eq!(date(&value), at, "{value}");
        }
        assert_eq!(date(&json!(null)), None);
        assert_eq!((number(&json!(7)), number(&json!("7")), number(&json!(-7))), (Some(7), Some(7), None));
    }

    #[test]
    fn the_region_of_a_host_tells_where_to_ask() {
        for (host, asked) in [
            ("http-eu.devo.io", "https://apiv2-eu.devo.com"),
            ("collector-us.devo.io", "https://apiv2-us.devo.com"),
            ("http-us3.devo.io", "https://apiv2-us.devo.com"),
            ("collector-ap2.devo.io", "https://api-apac.devo.com"),
        ] {
            assert_eq!(Query::url_for(host).as_deref(), Some(asked));
        }
        assert_eq!(Query::url_for("relay.example"), None);
    }
}
