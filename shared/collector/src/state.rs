//! What the checkpoint item remembers of a source, as one JSON document.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::sent::Sent;

/// The form of [`State`] that this version writes. A newer one is refused, an older one is read.
///
/// Form 1 had an open window with its page token and one half-delivered file per feed. The window is read again from its
/// start, which repeats nothing, as its rows are known by their marks.
pub(crate) const VERSION: i64 = 2;

/// How far a source has been collected. Only the part of its kind is used.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct State {
    #[serde(skip_serializing_if = "Windows::is_empty")]
    pub windows: Windows,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub streams: BTreeMap<String, Position>,
    /// Of a snapshot with ids.
    #[serde(skip_serializing_if = "Sent::is_empty")]
    pub sent: Sent,
    /// A backfill that has nothing left to do.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub finished: bool,
}

impl State {
    /// When the source last gave anything; `None` where it never has, or has no such memory.
    pub fn gave(&self) -> Option<DateTime<Utc>> {
        self.streams.values().map(|position| position.gave).max().unwrap_or(self.windows.gave)
    }
}

/// A source read by time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Windows {
    /// Where collecting began: nothing before it is read, also not as overlap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime<Utc>>,
    /// Everything before this instant has been collected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed_to: Option<DateTime<Utc>>,
    /// Everything before this instant has been read at an age of `OVERLAP` or more: rows that came late are there too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reread_to: Option<DateTime<Utc>>,
    /// How many requests it takes to read all of `OVERLAP` again, as far as that has been seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub again: Option<i64>,
    /// Seconds of a slice whose rows fit into one answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub span: Option<i64>,
    /// A second that could be read: where another cannot, it tells a broken row from broken answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub readable: Option<DateTime<Utc>>,
    /// When a new row was last found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gave: Option<DateTime<Utc>>,
    /// The latest row of the last days.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late: Option<Late>,
}

/// How late a row came: how far behind `closed_to` its own time was when it was first seen. `OVERLAP` has to be longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Late {
    pub seconds: i64,
    pub at: DateTime<Utc>,
}

impl Late {
    /// How long the latest row is remembered.
    const KEPT: TimeDelta = TimeDelta::days(7);

    /// Whether it is of the last days.
    pub fn counts(&self, now: DateTime<Utc>) -> bool {
        now - self.at < Self::KEPT
    }
}

impl Windows {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A stream: how far its files have been delivered, and what to ask next.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, from = "StoredPosition")]
pub(crate) struct Position {
    /// The token of the last answer that gave a file. Only a hint: see `read::stream`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Files of which a part has been delivered, by mark: how many of their events.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub places: BTreeMap<String, u64>,
    /// Files that could not be had or read, by path, and since when. They are tried again for as long as Mimecast lists them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub aside: BTreeMap<String, DateTime<Utc>>,
    /// The API had nothing more at this instant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caught_up: Option<DateTime<Utc>>,
    /// When it was last asked by date, without a token, to the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listed: Option<DateTime<Utc>>,
    /// Where collecting began: no listing by date goes back further.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime<Utc>>,
    /// When the last file came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gave: Option<DateTime<Utc>>,
    /// Listings without a token are refused unless they have an end date as well.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub wants_end: bool,
    /// Requests with a token are refused unless they have dates as well.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub wants_dates: bool,
}

/// [`Position`] as any version has stored it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct StoredPosition {
    token: Option<String>,
    places: BTreeMap<String, u64>,
    /// Form 1: the one file of which a part has been delivered.
    file: Option<(String, u64)>,
    aside: BTreeMap<String, DateTime<Utc>>,
    caught_up: Option<DateTime<Utc>>,
    listed: Option<DateTime<Utc>>,
    since: Option<DateTime<Utc>>,
    gave: Option<DateTime<Utc>>,
    wants_end: bool,
    wants_dates: bool,
}

impl From<StoredPosition> for Position {
    fn from(stored: StoredPosition) -> Self {
        let StoredPosition { token, mut places, file, aside, caught_up, listed, since, gave, wants_end, wants_dates } =
            stored;
        places.extend(file);
        // An earlier version stored whatever token it was given; an empty one is refused for ever.
        let token = token.filter(|token| !token.trim().is_empty());
        Self { token, places, aside, caught_up, listed, since, gave, wants_end, wants_dates }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn form_1_is_read_and_gone_on_from() {
        let form_1 = r#"{"windows":{"since":"2026-01-01T00:00:00Z","closed_to":"2026-01-02T00:00:00Z","readings":7,
            "open":{"from":"2026-01-01T23:45:00Z","to":"2026-01-02T00:05:00Z","page":["t",500],"rows":500,"reading":7}},
            "streams":{"av":{"token":"t","file":["00ff",12],"gone":"2026-01-01T00:00:00Z"},"process":{"token":""}}}"#;
        let state: State = serde_json::from_str(form_1).unwrap();
        assert_eq!(state.windows.closed_to.unwrap().to_rfc3339(), "2026-01-02T00:00:00+00:00");
        assert_eq!((state.windows.reread_to, state.windows.span), (None, None));
        assert_eq!(state.streams["av"].places, [("00ff".to_owned(), 12)].into());
        assert_eq!(state.streams["av"].token.as_deref(), Some("t"));
        assert_eq!(state.streams["process"].token, None);
        let form_2 = serde_json::to_string(&state).unwrap();
        assert!(!form_2.contains("open") && !form_2.contains("readings"), "{form_2}");
        assert_eq!(serde_json::from_str::<State>(&form_2).unwrap(), state);
    }
}
