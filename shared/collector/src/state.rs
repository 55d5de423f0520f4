//! What the checkpoint item remembers of a source, as one JSON document.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

/// The form of [`State`] that this version writes. A newer one is refused, an older one is read. A member that older versions
/// may pass over and lose, as `late`, is no new form: so one can go back to them.
pub(crate) const VERSION: i64 = 1;

/// How far a source has been collected. Only the part of its kind is used.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct State {
    #[serde(skip_serializing_if = "Windows::is_empty")]
    pub windows: Windows,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub streams: BTreeMap<String, Position>,
    /// Of a snapshot with ids: the hash of the content last sent, by id.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sent: BTreeMap<String, String>,
    /// A backfill that has nothing left to do.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub finished: bool,
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
    /// The window being read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open: Option<Open>,
    /// How many readings there have been: each has a name of its own.
    pub readings: u64,
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

/// A window being read, `[from, to)`. Its page token belongs to it alone and goes with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Open {
    pub from: DateTime<Utc>,
    pub to: DateTime<Utc>,
    /// The token of the next page and the page size it was made for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<(String, u32)>,
    /// Rows read so far in this reading.
    #[serde(default)]
    pub rows: u64,
    /// `totalCount` of the last page: another one means that rows have moved since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// The number of this reading.
    #[serde(default)]
    pub reading: u64,
    /// Read once more, because rows were missing the first time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reread: bool,
}

impl Open {
    /// Names this reading in the items that remember its rows.
    pub fn label(&self) -> String {
        format!("{}/{}/{}", stamp(self.from), stamp(self.to), self.reading)
    }
}

/// A stream: the token that the next request sends, and how far the answer to it has been delivered.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Position {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The file being delivered, by mark, and how many of its events have been.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<(String, u64)>,
    /// Since when a file of the answer cannot be had by fresh links.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gone: Option<DateTime<Utc>>,
    /// The API had nothing more at this instant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caught_up: Option<DateTime<Utc>>,
}

/// An instant in whole seconds, in a form that sorts as text.
pub(crate) fn stamp(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}
