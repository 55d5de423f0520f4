//! Times as Mimecast writes them, for all readers.

use chrono::{DateTime, Utc};

/// A time in a request: whole seconds, offset without a colon, the one form nobody reports trouble with.
pub(crate) fn wire(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%dT%H:%M:%S+0000").to_string()
}

/// A time in an event: `+0000`, `+01:00` or `Z`.
pub(crate) fn parse_time(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f%z")
        .or_else(|_| DateTime::parse_from_rfc3339(text))
        .map(|time| time.to_utc())
        .ok()
}

/// An instant in whole seconds, in a form that sorts as text.
pub(crate) fn stamp(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}
