//! What has arrived at Devo beside what should have, line by line, and both as a table to print.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, Write};

use serde::Serialize;
use simulator::data::SUMMARY_TABLE;

/// Lines by Devo table.
pub type Lines = BTreeMap<String, Vec<String>>;

/// The collector's logs on itself, below Devo's table for them. Mimecast has no such events, so none are expected.
const OWN_LOGS: &str = "devo.collectors.";

/// The lines of one table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Balance {
    pub expected: usize,
    pub arrived: usize,
    pub missing: usize,
    pub too_many: usize,
}

impl Balance {
    pub fn is_even(self) -> bool {
        self.missing == 0 && self.too_many == 0
    }
}

/// Compares all bytes, as multisets, of every table that holds something or should.
pub fn compare(expected: &Lines, arrived: &Lines) -> BTreeMap<String, Balance> {
    let tables = expected.keys().chain(arrived.keys()).filter(|table| !table.starts_with(OWN_LOGS));
    let tables: BTreeSet<&String> = tables.collect();
    let balance = |table: &String| {
        let expected = expected.get(table).map_or(&[][..], Vec::as_slice);
        let arrived = arrived.get(table).map_or(&[][..], Vec::as_slice);
        let plain: Vec<String> = arrived.iter().map(|line| plain(table, line)).collect();
        // Of each line, how often it should be there and is not; below zero, how often too often.
        let mut lacking: HashMap<&str, isize> = HashMap::new();
        for line in expected {
            *lacking.entry(line).or_default() += 1;
        }
        for line in &plain {
            *lacking.entry(line).or_default() -= 1;
        }
        let sum = |sign: isize| lacking.values().map(|count| (count * sign).max(0).unsigned_abs()).sum();
        Balance { expected: expected.len(), arrived: arrived.len(), missing: sum(1), too_many: sum(-1) }
    };
    tables.into_iter().map(|table| (table.clone(), balance(table))).collect()
}

/// One line for each table that does not hold exactly what it should.
pub fn differences(balances: &BTreeMap<String, Balance>) -> Vec<String> {
    let uneven = balances.iter().filter(|(_, balance)| !balance.is_even());
    let line = |(table, Balance { missing, too_many, .. }): (&String, &Balance)| {
        format!("{table}: {missing} events missing, {too_many} too many")
    };
    uneven.map(line).collect()
}

/// The source that a table belongs to.
pub fn source_of(table: &str) -> Option<&'static str> {
    let is_below = |rest: &str| rest.is_empty() || rest.starts_with('.');
    let owner = functions::ALL.iter().find(|source| table.strip_prefix(source.table).is_some_and(is_below));
    owner.map(|source| source.name)
}

/// The line as Mimecast has it: without the time that is added to the hold summary.
fn plain(table: &str, line: &str) -> String {
    let stamp = (table == SUMMARY_TABLE).then(|| line.rsplit_once(r#","collectedAt":""#)).flatten();
    stamp.map_or_else(|| line.to_owned(), |(event, _)| format!("{event}}}"))
}

pub fn count(lines: &Lines) -> usize {
    lines.values().map(Vec::len).sum()
}

/// The two names to the left, numbers to the right.
pub fn write_aligned<const N: usize>(out: &mut impl Write, rows: &[[String; N]]) -> io::Result<()> {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or_default();
    let widths: [usize; N] = std::array::from_fn(width);
    for row in rows {
        let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, width))| match column {
            0 | 1 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables(tables: &[(&str, &[&str])]) -> Lines {
        let lines = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect();
        tables.iter().map(|(table, of)| ((*table).to_owned(), lines(of))).collect()
    }

    #[test]
    fn equal_multisets_do_not_differ() {
        let expected = tables(&[("a", &["1", "2", "1"]), (SUMMARY_TABLE, &[r#"{"n":1}"#]), ("empty", &[])]);
        let stamped = r#"{"n":1,"collectedAt":"2026-01-31T12:00:00Z"}"#;
        let own_logs = ("devo.collectors.out.local.info", &["a run"][..]);
        let arrived = tables(&[("a", &["2", "1", "1"]), (SUMMARY_TABLE, &[stamped]), own_logs]);
        assert_eq!(differences(&compare(&expected, &arrived)), [""; 0]);
    }

    #[test]
    fn each_difference_is_counted() {
        let expected = tables(&[("lost", &["1", "2", "2"]), ("twice", &["1"]), ("changed", &["1"])]);
        let arrived = tables(&[("lost", &["2"]), ("twice", &["1", "1"]), ("changed", &["x"]), ("strange", &["1"])]);
        let balances = compare(&expected, &arrived);
        assert_eq!(balances["lost"], Balance { expected: 3, arrived: 1, missing: 2, too_many: 0 });
        assert_eq!(
            differences(&balances),
            [
                "changed: 1 events missing, 1 too many",
                "lost: 2 events missing, 0 too many",
                "strange: 0 events missing, 1 too many",
                "twice: 0 events missing, 1 too many"
            ]
        );
    }

    #[test]
    fn a_table_belongs_to_the_source_whose_table_it_is_or_is_below() {
        let sources = ["mail.mimecast.siem.av", "mail.mimecast.audit.events", "mail.mimecast.ttp.urls", "my.app"];
        assert_eq!(sources.map(source_of), [Some("siem"), Some("audit"), None, None]);
    }
}
