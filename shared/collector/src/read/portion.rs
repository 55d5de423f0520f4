//! What a reader hands on at once: events in the API's order, and what has to be remembered with them.

use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};

use super::events::Events;
use crate::process::answer::Gap;
use crate::seen::Mark;

/// One event on its way to Devo: a compact JSON line.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub table: Arc<str>,
    pub line: Bytes,
    pub mark: Mark,
    /// The log type, where no table is known for it.
    pub unknown_type: Option<Arc<str>>,
}

/// What could not be delivered: input that could not be read as events, or a line that Devo refuses for good.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DeadLetter {
    pub raw: Bytes,
    pub reason: String,
    pub table: String,
    /// Endpoint, file or page, for people.
    pub origin: String,
    /// The same for its replay.
    pub place: Place,
}

/// Where a piece of input was, as far as that is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub feed: Option<String>,
    pub file: Option<String>,
    /// Of the file, from 1 on.
    pub line: Option<u64>,
    /// The header without which a row cannot be read.
    pub header: Option<Bytes>,
    /// The slice that it was a row or the answer of.
    pub slice: Option<(DateTime<Utc>, DateTime<Utc>)>,
}

/// A part of a source. How far the source has been read once it is delivered is told to the outbox beside it.
#[derive(Debug, Default)]
pub(crate) struct Portion {
    /// New events only.
    pub events: Events,
    /// How many known ones were left out.
    pub duplicates: u64,
    pub rejected: Vec<DeadLetter>,
    /// By which these events are known when they are read again.
    pub marks: Vec<Mark>,
    /// Sorts the marks in the store: a run asks for those from a stamp on. Empty where there are no marks.
    pub stamp: String,
    /// Time that the API no longer keeps.
    pub gap: Option<Gap>,
    /// Time that is read again because the API refused its token.
    pub repeat: Option<Gap>,
    /// How many seconds the latest row was late.
    pub late_seconds: u64,
}
