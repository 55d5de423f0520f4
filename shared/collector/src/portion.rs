//! What one step of reading gives: events in the API's order, and the state that holds once they are delivered.

use std::sync::Arc;

use bytes::Bytes;

use crate::Gap;
use crate::seen::Mark;
use crate::state::State;

/// One event on its way to Devo: a compact JSON line.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub table: Arc<str>,
    pub line: Bytes,
    pub mark: Mark,
    /// The log type, where no table is known for it.
    pub unknown_type: Option<Arc<str>>,
}

/// Marks to be remembered with the portion.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Marks {
    /// Sorts the item among the others: they are read back from a stamp on.
    pub stamp: String,
    /// The reading these rows were all of a page of, where it goes on.
    pub label: Option<String>,
    pub marks: Vec<Mark>,
}

/// A piece of input that could not be read as events.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DeadLetter {
    pub raw: Bytes,
    pub reason: String,
    pub table: String,
    /// Endpoint, file or page.
    pub origin: String,
    /// The header without which a row cannot be read.
    pub header: Option<Bytes>,
}

/// A portion of a source.
#[derive(Debug, Default)]
pub(crate) struct Portion {
    /// New events only.
    pub events: Vec<Event>,
    /// How many known ones were left out.
    pub duplicates: u64,
    pub rejected: Vec<DeadLetter>,
    pub marks: Vec<Marks>,
    /// The state once all of this is delivered.
    pub state: State,
    /// Time that the API no longer keeps.
    pub gap: Option<Gap>,
    /// Time that is read again because the API refused its token.
    pub repeat: Option<Gap>,
    /// How many seconds the latest row was late.
    pub late_seconds: u64,
}
