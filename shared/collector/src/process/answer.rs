//! What a successful invocation answers. The order of the fields is the order of the keys.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;

/// The answer of an invocation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    /// The source's name.
    pub source: &'static str,
    /// The tenant's name.
    pub tenant: String,
    /// How the invocation ended.
    pub status: Status,
    /// Lines handed to Devo.
    pub events: u64,
    /// Events left out because they had been sent before.
    pub duplicates: u64,
    /// Pieces of input that could not be read as events.
    pub rejected: u64,
    /// Requests to Mimecast.
    pub requests: u64,
    /// Batches to Devo.
    pub batches: u64,
    /// Now minus the instant up to which everything has been collected; `None` where a source has no time.
    pub lag_seconds: Option<i64>,
    /// SIEM log types without a known table, and how many events of each.
    pub unknown_types: BTreeMap<String, u64>,
    /// Where the source stands, for people to read; its form may change.
    pub checkpoint: serde_json::Value,
    /// Time that Mimecast no longer keeps and that has not been collected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gap: Option<Gap>,
    /// Time that is read again because Mimecast refused its own token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat: Option<Gap>,
    /// When this source last gave anything, where this run found nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub silent_since: Option<DateTime<Utc>>,
    /// What somebody should know though the run has not failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// How an invocation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// There is nothing left to collect now.
    CaughtUp,
    /// The deadline came first; the next invocation goes on from there.
    More,
    /// Another invocation holds the lease; nothing was done.
    Busy,
}

impl Status {
    /// The name, as in the answer.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CaughtUp => "caught_up",
            Self::More => "more",
            Self::Busy => "busy",
        }
    }
}

/// A half-open range of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// Its first instant.
    pub from: DateTime<Utc>,
    /// The first instant after it.
    pub to: DateTime<Utc>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Answer {
        Answer {
            source: "audit",
            tenant: "default".to_owned(),
            status: Status::CaughtUp,
            events: 123,
            duplicates: 4,
            rejected: 0,
            requests: 2,
            batches: 1,
            lag_seconds: Some(312),
            unknown_types: BTreeMap::new(),
            checkpoint: serde_json::json!({}),
            gap: None,
            repeat: None,
            silent_since: None,
            warnings: Vec::new(),
        }
    }

    #[test]
    fn keys_come_in_the_interface_s_order() {
        assert_eq!(
            serde_json::to_string(&answer()).unwrap(),
            r#"{"source":"audit","tenant":"default","status":"caught_up","events":123,"duplicates":4,"rejected":0,"#
                .to_owned()
                + r#""requests":2,"batches":1,"lag_seconds":312,"unknown_types":{},"checkpoint":{}}"#
        );
    }

    #[test]
    fn what_is_rare_is_shown_only_when_it_is_there() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let gap = Gap { from: at("2026-01-01T00:00:00Z"), to: at("2026-01-02T00:00:00Z") };
        let full = Answer {
            status: Status::More,
            lag_seconds: None,
            unknown_types: [("ai phish".to_owned(), 2)].into(),
            gap: Some(gap),
            repeat: Some(gap),
            silent_since: Some(gap.from),
            warnings: vec!["a file is missing".to_owned()],
            ..answer()
        };
        let text = serde_json::to_string(&full).unwrap();
        let range = r#"{"from":"2026-01-01T00:00:00Z","to":"2026-01-02T00:00:00Z"}"#;
        assert!(text.contains(r#""status":"more","#), "{text}");
        assert!(
            text.ends_with(&format!(
                r#""lag_seconds":null,"unknown_types":{{"ai phish":2}},"checkpoint":{{}},"gap":{range},"repeat":{range},"silent_since":"2026-01-01T00:00:00Z","warnings":["a file is missing"]}}"#
            )),
            "{text}"
        );
        assert_eq!(serde_json::to_string(&Status::Busy).unwrap(), r#""busy""#);
    }
}
