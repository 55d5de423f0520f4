//! What has to hold: what Mimecast had, what Devo took, what may have come twice and why, and how the checkpoints moved.

use std::collections::{BTreeMap, HashSet};

use chrono::{DateTime, Utc};
use serde_json::Value;
use simulator::data::{Expected, SUMMARY_TABLE};

use crate::Counts;
use crate::progress::frontier;

/// Lines by table, with how often each.
pub type Lines = BTreeMap<(String, String), usize>;

/// The books of a world.
#[derive(Default)]
pub struct Ledger {
    /// What Mimecast has had. Of the hold summary, which is a state of affairs, the rows.
    expected: Lines,
    /// Pieces of input that are no events.
    bad: BTreeMap<Vec<u8>, usize>,
    /// By source: what its runs owe, and from when on.
    owed: BTreeMap<&'static str, Vec<Owed>>,
    /// By source: until when nothing is owed, as a listing was cut short by an answer that nobody could doubt.
    misled: BTreeMap<&'static str, DateTime<Utc>>,
    /// By source: good answers since its state last moved on, or a run ended otherwise than with more to do.
    answered: BTreeMap<&'static str, u64>,
    /// What may come again: Devo took it, and the run never learned so or never got to write it down.
    allowed: Lines,
    checkpoints: BTreeMap<String, (i64, Value)>,
    /// When the hold summary was polled, in seconds since 1970: within one second each poll gives the same lines.
    polls: BTreeMap<i64, usize>,
    /// The idempotency tokens of transactions that took effect.
    transactions: HashSet<String>,
    pub violations: Vec<String>,
    pub counts: Counts,
    /// How often a stream token was refused: each may send a stream back to what the API keeps.
    pub restarts: u64,
}

/// A line that a run which begins at `due` or later has to have delivered before it has caught up.
struct Owed {
    due: DateTime<Utc>,
    key: (String, String),
}

impl Ledger {
    /// Mimecast has these events. `due` is told the line.
    pub fn expect(&mut self, source: &'static str, events: Expected, due: impl Fn(&str) -> DateTime<Utc>) {
        let owed = self.owed.entry(source).or_default();
        for (table, lines) in events {
            for line in lines {
                self.counts.events += 1;
                let (due, key) = (due(&line), (table.clone(), line));
                *self.expected.entry(key.clone()).or_default() += 1;
                owed.push(Owed { due, key });
            }
        }
    }

    /// How many events a source has had.
    pub fn things(&self, source: &str) -> usize {
        self.owed.get(source).map_or(0, Vec::len)
    }

    /// What a run of `source` that began at `begin` has to have delivered. Of the hold summary, which is a state of affairs,
    /// nothing.
    pub fn owed(&self, source: &str, begin: DateTime<Utc>) -> Lines {
        let mut lines = Lines::new();
        let owed = self.owed.get(source).into_iter().flatten().filter(|owed| owed.due <= begin);
        let owed = owed.filter(|_| self.misled.get(source).is_none_or(|until| *until <= begin));
        for Owed { key, .. } in owed.filter(|owed| owed.key.0 != SUMMARY_TABLE) {
            *lines.entry(key.clone()).or_default() += 1;
        }
        lines
    }

    /// Nothing is owed until then.
    pub fn mislead(&mut self, source: &'static str, until: DateTime<Utc>) {
        self.misled.insert(source, until);
    }

    /// A good answer has come; how many since there was something to show for them.
    pub fn answered(&mut self, source: &'static str) -> u64 {
        let answers = self.answered.entry(source).or_default();
        *answers += 1;
        *answers
    }

    /// There is something to show for a source's answers, or nothing is asked of them any more.
    pub fn shown_for(&mut self, source: &str) {
        self.answered.remove(source);
    }

    /// Mimecast has this piece, which is no event.
    pub fn expect_bad(&mut self, raw: &[u8]) {
        *self.bad.entry(raw.to_vec()).or_default() += 1;
    }

    /// These may come again.
    pub fn allow(&mut self, lines: &Lines) {
        add(&mut self.allowed, lines);
    }

    /// These may not, after all: the sender knows.
    pub fn disallow(&mut self, lines: &Lines) {
        subtract(&mut self.allowed, lines);
    }

    /// Something does not hold.
    pub fn violate(&mut self, text: String) {
        self.violations.push(text);
    }

    /// A lease was taken: its epoch is greater than all before.
    pub fn leased(&mut self, key: &str, epoch: i64) {
        let (last, _) = self.checkpoints.entry(key.to_owned()).or_default();
        if epoch <= *last {
            self.violations.push(format!("(d) {key}: a lease with epoch {epoch} after {last}"));
        }
        *last = epoch;
    }

    /// The hold summary was given out.
    pub fn polled(&mut self, at: DateTime<Utc>) {
        *self.polls.entry(at.timestamp()).or_default() += 1;
    }

    /// A transaction was answered as done. Whether it is so by now and not only repeated, which DynamoDB knows by its token.
    pub fn done(&mut self, token: &str) -> bool {
        self.transactions.insert(token.to_owned())
    }

    /// A checkpoint was written, by the holder of `epoch`: the newest, and it moves on. `position` tells how far a token is.
    /// Whether what it stands for has changed.
    pub fn moved(
        &mut self,
        key: &str,
        epoch: i64,
        state: Option<Value>,
        position: impl Fn(&str) -> Option<u64>,
    ) -> bool {
        let (last, before) = self.checkpoints.entry(key.to_owned()).or_default();
        if epoch != *last {
            self.violations.push(format!("(d) {key}: written by epoch {epoch}, when {last} held the lease"));
        }
        let Some(state) = state else { return false };
        for (stream, text) in moved_back(before, &state, position) {
            if stream && self.restarts > 0 {
                self.restarts -= 1;
            } else {
                self.violations.push(format!("(d) {key} moved back: {text}"));
            }
        }
        let moved = frontier(before) != frontier(&state);
        *before = state;
        moved
    }

    /// Compares what Devo has and the dead letters (what was dead, and whether Devo's refusal made it so) with what there was.
    pub fn balance(&mut self, delivered: &Expected, dead: &[(Vec<u8>, bool)]) {
        let mut arrived = Lines::new();
        let mut polls: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for (table, lines) in delivered {
            for line in lines {
                if table == SUMMARY_TABLE {
                    *polls.entry((table, line)).or_default() += 1;
                } else {
                    *arrived.entry((table.clone(), line.clone())).or_default() += 1;
                }
            }
        }
        self.counts.dead += dead.len() as u64;
        let mut spoilt: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
        for (raw, refused) in dead {
            let text = String::from_utf8_lossy(raw).into_owned();
            let table = self.expected.keys().find(|(_, line)| *line == text).map(|(table, _)| table.clone());
            match (refused, table) {
                // The hold summary's carry a time.
                (true, None) => {}
                (true, Some(table)) => *arrived.entry((table, text)).or_default() += 1,
                (false, _) => *spoilt.entry(raw.clone()).or_default() += 1,
            }
        }
        for (raw, count) in &self.bad {
            let found = spoilt.remove(raw).unwrap_or_default();
            // Spoilt on its way, it is a dead letter too, and perhaps never read again.
            let is_like = |other: &[u8]| mended(other) == *raw;
            let alike: usize = spoilt.iter().filter(|(other, _)| is_like(other)).map(|(_, count)| count).sum();
            if found > *count || found + alike < *count {
                let shown = String::from_utf8_lossy(raw);
                self.violations
                    .push(format!("(a) a bad piece is {found} times a dead letter and not {count}: {shown}"));
            }
        }
        // What is left was spoilt on its way.
        let mut letters: BTreeMap<String, usize> = BTreeMap::new();
        for (raw, count) in spoilt {
            *letters.entry(legible(&raw)).or_default() += count;
        }
        let none = 0;
        for ((table, line), count) in &self.expected {
            if table == SUMMARY_TABLE {
                continue;
            }
            let key = (table.clone(), line.clone());
            let got = arrived.remove(&key).unwrap_or_default();
            let (allowed, letters) = (self.allowed.get(&key).unwrap_or(&none), letters.get(line).unwrap_or(&none));
            self.counts.repeats += got.saturating_sub(*count) as u64;
            if got + letters < *count {
                self.violations.push(format!("(a) lost: {got} of {count} in {table}: {line}"));
            }
            if got > count + allowed {
                let text = format!("(b) doubled: {got} for {count} (and {allowed} for a reason) in {table}: {line}");
                self.violations.push(text);
            }
        }
        for ((table, line), count) in arrived {
            self.violations.push(format!("(a) {count} of nowhere in {table}: {line}"));
        }
        for ((table, line), count) in polls {
            let (row, at) = line.rsplit_once(r#","collectedAt":"#).unwrap_or((line, ""));
            let at = DateTime::parse_from_rfc3339(at.trim_matches(['"', '}'])).map_or(0, |at| at.timestamp());
            // The product takes the time when the answer has come, by a reading of the clock of the server that its way delays.
            let polled: usize = self.polls.range(at - 7..=at + 7).map(|(_, polls)| polls).sum();
            let row = row.to_owned() + "}";
            let key = (table.to_owned(), line.to_owned());
            let (there, allowed) =
                (self.expected.get(&(table.to_owned(), row)), self.allowed.get(&key).unwrap_or(&none));
            if there.is_none_or(|there| count > there * polled + allowed) {
                self.violations.push(format!("(b) doubled, or of nowhere: {count} in {table}: {line}"));
            }
        }
    }
}

/// What has moved back from one state to another, and whether it is a stream: a token that was refused starts anew.
fn moved_back(before: &Value, after: &Value, position: impl Fn(&str) -> Option<u64>) -> Vec<(bool, String)> {
    let mut back = Vec::new();
    let closed_to = |state: &Value| state["windows"]["closed_to"].clone();
    if is_less(&closed_to(after), &closed_to(before)) {
        back.push((false, format!("closed_to from {} to {}", closed_to(before), closed_to(after))));
    }
    for (feed, before) in before["streams"].as_object().into_iter().flatten() {
        let after = &after["streams"][feed];
        let time = is_less(&after["caught_up"], &before["caught_up"]);
        let place = |state: &Value| state["token"].as_str().and_then(&position).into();
        let token = is_less(&place(after), &place(before));
        let mut places = before["places"].as_object().into_iter().flatten();
        if time || token || places.any(|(file, line)| is_less(&after["places"][file], line)) {
            back.push((true, format!("{feed} from {before} to {after}")));
        }
    }
    back
}

/// Of numbers and of times. What is not there is no less: it is for what is due then.
fn is_less(one: &Value, other: &Value) -> bool {
    let time = |value: &Value| DateTime::parse_from_rfc3339(value.as_str()?).ok();
    let numbers = one.as_u64().zip(other.as_u64()).is_some_and(|(one, other)| one < other);
    numbers || time(one).zip(time(other)).is_some_and(|(one, other)| one < other)
}

pub fn add(lines: &mut Lines, more: &Lines) {
    for (line, count) in more {
        *lines.entry(line.clone()).or_default() += count;
    }
}

pub fn subtract(lines: &mut Lines, less: &Lines) {
    for (line, count) in less {
        if let Some(had) = lines.get_mut(line) {
            *had = had.saturating_sub(*count);
            if *had == 0 {
                lines.remove(line);
            }
        }
    }
}

/// The line in a dead letter, whatever became of it on its way.
pub fn legible(raw: &[u8]) -> String {
    compact(&String::from_utf8_lossy(&mended(raw)))
}

/// Without the byte that is no UTF-8, by which the simulated Mimecast spoils a string.
fn mended(raw: &[u8]) -> Vec<u8> {
    raw.iter().copied().filter(|byte| *byte != 0xff).collect()
}

/// JSON without white space outside strings.
fn compact(text: &str) -> String {
    let (mut quoted, mut escaped) = (false, false);
    let keep = |c: &char| {
        let kept = quoted || !c.is_ascii_whitespace();
        quoted ^= *c == '"' && !escaped;
        escaped = quoted && *c == '\\' && !escaped;
        kept
    };
    text.chars().filter(keep).collect()
}
