//! What a checkpoint's runs have come to, for people: how many lines of each table Devo has accepted in each hour, when a run last
//! succeeded, and why one failed.
//!
//! It is written with the commits that say so, and costs no request of its own. No run goes by it.

use std::collections::BTreeMap;

use chrono::{DateTime, DurationRound as _, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorType};

/// For how many hours counts are kept.
const HOURS: i64 = 72;
/// Most tables that are counted, each on its own: of types that nobody knows there may be any number.
const TABLES: usize = 40;
/// Most characters of a failure's text.
const TEXT: usize = 400;

/// The accounts of one checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ledger {
    /// Lines accepted, by table.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tables: BTreeMap<String, Hours>,
    /// When a run last ended well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub succeeded: Option<DateTime<Utc>>,
    /// The last failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<Failure>,
    /// The last time that Mimecast no longer kept and that was not collected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gap: Option<Lost>,
}

/// A run's failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// When.
    pub at: DateTime<Utc>,
    /// The error's type.
    #[serde(rename = "type")]
    pub error_type: ErrorType,
    /// What failed, in one line.
    pub text: String,
}

impl Failure {
    pub(crate) fn of(error: &Error, at: DateTime<Utc>) -> Self {
        Self { at, error_type: error.error_type(), text: error.line(TEXT) }
    }
}

/// A range that has not been collected, and when that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// When it was found.
    pub at: DateTime<Utc>,
    /// Its first instant.
    pub from: DateTime<Utc>,
    /// The first instant after it.
    pub to: DateTime<Utc>,
}

/// Counts of consecutive hours.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Hours {
    /// The hour of the first, since the epoch.
    first: i64,
    counts: Vec<u64>,
}

impl Ledger {
    /// What stands for the tables beyond those that are counted one by one.
    pub const OTHER: &str = "other";

    /// Counts lines that Devo has accepted.
    pub(crate) fn accepted(&mut self, table: &str, lines: usize, at: DateTime<Utc>) {
        let name = if self.tables.len() < TABLES || self.tables.contains_key(table) { table } else { Self::OTHER };
        let (hour, lines) = (hour(at), u64::try_from(lines).unwrap_or(u64::MAX));
        let hours = self.tables.entry(name.to_owned()).or_insert_with(|| Hours { first: hour, counts: Vec::new() });
        hours.add(hour, lines);
        let oldest = hour - HOURS;
        self.tables.retain(|_, hours| hours.forget(oldest));
    }

    /// The counts by table and by the begin of the hour; only hours in which anything was accepted.
    pub fn hours(&self) -> impl Iterator<Item = (&str, DateTime<Utc>, u64)> {
        self.tables.iter().flat_map(|(table, Hours { first, counts })| {
            let hours = (*first..).zip(counts).filter(|(_, count)| **count > 0);
            hours.filter_map(|(hour, count)| Some((table.as_str(), DateTime::from_timestamp(hour * 3600, 0)?, *count)))
        })
    }

    /// Lines accepted from the hour of this instant on.
    pub fn since(&self, from: DateTime<Utc>) -> u64 {
        let from = from.duration_trunc(TimeDelta::hours(1)).unwrap_or(from);
        self.hours().filter(|(_, hour, _)| *hour >= from).map(|(_, _, count)| count).sum()
    }
}

impl Hours {
    fn add(&mut self, hour: i64, lines: u64) {
        // A clock that has been set back counts for the first hour that is known.
        let place = usize::try_from(hour - self.first).unwrap_or_default();
        if place >= self.counts.len() {
            // After a long silence nothing of what was before is kept anyway.
            if place > 2 * HOURS as usize {
                *self = Self { first: hour, counts: vec![lines] };
                return;
            }
            self.counts.resize(place + 1, 0);
        }
        self.counts[place] += lines;
    }

    /// Drops the hours before this one. Whether anything is left.
    fn forget(&mut self, oldest: i64) -> bool {
        let gone = usize::try_from(oldest - self.first).unwrap_or_default().min(self.counts.len());
        self.counts.drain(..gone);
        self.first += i64::try_from(gone).unwrap_or_default();
        !self.counts.is_empty()
    }
}

fn hour(at: DateTime<Utc>) -> i64 {
    at.timestamp().div_euclid(3600)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000, 0).unwrap() + TimeDelta::hours(hours)
    }

    #[test]
    fn lines_are_counted_by_table_and_hour() {
        let mut ledger = Ledger::default();
        for (table, lines, hour) in [("a", 3, 0), ("b", 5, 0), ("a", 4, 0), ("a", 1, 2), ("a", 0, 3)] {
            ledger.accepted(table, lines, at(hour));
        }
        let begin = |hours| at(hours).duration_trunc(TimeDelta::hours(1)).unwrap();
        let found: Vec<_> = ledger.hours().collect();
        assert_eq!(found, [("a", begin(0), 7), ("a", begin(2), 1), ("b", begin(0), 5)]);
        assert_eq!((ledger.since(at(0)), ledger.since(at(1)), ledger.since(at(3))), (13, 1, 0));
        let stored = serde_json::to_string(&ledger).unwrap();
        assert_eq!(serde_json::from_str::<Ledger>(&stored).unwrap(), ledger);
    }

    #[test]
    fn it_stays_small() {
        let mut ledger = Ledger::default();
        for hour in 0..1_000 {
            for table in 0..10 {
                ledger.accepted(&format!("mail.mimecast.siem.type{table}"), 123_456, at(hour));
            }
        }
        assert!(serde_json::to_string(&ledger).unwrap().len() < 8_000);
        assert_eq!(ledger.hours().count(), 10 * (HOURS as usize + 1));
        for table in 0..1_000 {
            ledger.accepted(&format!("t{table}"), 1, at(1_000));
        }
        assert_eq!(ledger.since(at(1_000)), 1_000);
        assert!(ledger.tables.len() <= TABLES + 1);
        // After a silence, and with a clock that was set back.
        ledger.accepted("t1", 7, at(10_000));
        assert_eq!(ledger.since(at(2_000)), 7);
        ledger.accepted("t1", 1, at(9_000));
        assert_eq!(ledger.since(at(2_000)), 8);
    }
}
