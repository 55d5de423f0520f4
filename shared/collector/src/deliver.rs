//! From portions to Devo: batches per table, then one commit. Never the other way round.
//!
//! What is sent between two commits stays within one batch, so that is the most a crash can repeat.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use devo::Sink;
use tokio::time::Instant;

use crate::Error;
use crate::answer::Gap;
use crate::portion::{DeadLetter, Event, Marks, Portion};
use crate::seen::{Mark, UNMARKED};
use crate::state::{State, stamp};
use crate::store::{Commit, Lease};

/// Most lines that are sent between two commits.
pub(crate) const BATCH_LINES: usize = 10_000;
/// Most bytes, line ends included, that are sent between two commits.
pub(crate) const BATCH_BYTES: usize = 8_000_000;
/// The origin of a dead letter that is a whole line: Devo has refused it.
pub(crate) const REFUSED: &str = "devo";

/// What an invocation has got done, also one that fails.
#[derive(Default)]
pub(crate) struct Counts {
    pub events: u64,
    /// Of the events, line ends included.
    pub bytes: u64,
    pub duplicates: u64,
    pub rejected: u64,
    /// Of Mimecast.
    pub calls: mimecast::Calls,
    pub batches: u64,
    /// Tries that Devo refused or that broke off.
    pub refusals: u64,
    pub unknown_types: BTreeMap<String, u64>,
    pub gap: Option<Gap>,
    pub repeat: Option<Gap>,
    /// How late the latest row was.
    pub late_seconds: u64,
}

/// Portions read but not yet delivered.
#[derive(Default)]
pub(crate) struct Pending {
    portion: Portion,
    bytes: usize,
    any: bool,
}

impl Pending {
    pub fn add(&mut self, portion: Portion) {
        self.any = true;
        self.bytes += bytes(&portion);
        self.portion.events.extend(portion.events);
        self.portion.rejected.extend(portion.rejected);
        self.portion.duplicates += portion.duplicates;
        for group in portion.marks {
            match self.portion.marks.iter_mut().find(|other| other.label == group.label && other.stamp == group.stamp) {
                Some(other) => other.marks.extend(group.marks),
                None => self.portion.marks.push(group),
            }
        }
        self.portion.gap = portion.gap.or(self.portion.gap);
        self.portion.repeat = portion.repeat.or(self.portion.repeat);
        self.portion.late_seconds = portion.late_seconds.max(self.portion.late_seconds);
        self.portion.state = portion.state;
    }

    /// Whether anything has been read, be it only that there is nothing.
    pub fn any(&self) -> bool {
        self.any
    }

    /// Whether `portion` still fits into the same batch.
    pub fn fits(&self, portion: &Portion) -> bool {
        let pieces = |portion: &Portion| portion.events.len() + portion.rejected.len();
        pieces(&self.portion) + pieces(portion) <= BATCH_LINES && self.bytes + bytes(portion) <= BATCH_BYTES
    }
}

fn bytes(portion: &Portion) -> usize {
    let events: usize = portion.events.iter().map(|event| event.line.len() + 1).sum();
    events + portion.rejected.iter().map(|letter| letter.raw.len()).sum::<usize>()
}

/// Where a run's deliveries go.
pub(crate) struct Delivery<'a> {
    pub sink: &'a Sink,
    pub lease: &'a mut Lease,
    pub until: Instant,
    pub counts: &'a mut Counts,
}

impl Delivery<'_> {
    /// Sends what is pending and commits it; `release` gives the lease back with the last write.
    ///
    /// # Errors
    /// `Devo`, after what it accepted before has been committed; `Checkpoint`.
    pub async fn deliver(&mut self, pending: &mut Pending, now: DateTime<Utc>, release: bool) -> Result<(), Error> {
        let Pending { portion, any, .. } = std::mem::take(pending);
        let mut refused = Vec::new();
        let mut events = portion.events.as_slice();
        while !events.is_empty() {
            let (batch, rest) = events.split_at(batch_size(events));
            events = rest;
            let mut sent = Marks { stamp: stamp(now), label: None, marks: Vec::new() };
            let outcome = self.send(batch, &mut sent.marks, &mut refused).await;
            sent.marks.retain(|mark| *mark != UNMARKED);
            if outcome.is_err() || !events.is_empty() {
                // The state stays, so that the rest is read again; what Devo has got is known by its marks. A run that fails
                // ends here, so the lease goes back whatever was asked.
                let dead = letters(std::mem::take(&mut refused));
                let release = outcome.is_err();
                self.lease.commit(Commit { marks: vec![sent], dead: &dead, release, ..Commit::default() }, now).await?;
                self.counts.rejected += dead.len() as u64;
            }
            outcome?;
        }
        let dead = [portion.rejected, letters(refused)].concat();
        let state: Option<&State> = any.then_some(&portion.state);
        self.counts.duplicates += portion.duplicates;
        self.counts.gap = portion.gap.or(self.counts.gap);
        self.counts.repeat = portion.repeat.or(self.counts.repeat);
        self.counts.late_seconds = portion.late_seconds.max(self.counts.late_seconds);
        self.counts.rejected += dead.len() as u64;
        let commit = Commit { state, marks: portion.marks, dead: &dead, release, ..Commit::default() };
        self.lease.commit(commit, now).await?;
        if any {
            self.lease.state = portion.state;
        }
        Ok(())
    }

    /// Sends one batch, all tables in one call. `sent` takes the marks of what Devo has accepted or can never accept.
    /// `refused` takes the latter, with their marks.
    pub async fn send(
        &mut self,
        batch: &[Event],
        sent: &mut Vec<Mark>,
        refused: &mut Vec<(Mark, DeadLetter)>,
    ) -> Result<(), Error> {
        let tables = by_table(batch);
        let lines = |events: &[&Event]| events.iter().map(|event| event.line.clone()).collect();
        let batches: Vec<_> =
            tables.iter().map(|(table, events)| devo::Batch { table, lines: lines(events) }).collect();
        let delivery = self.sink.send(&batches, self.until).await;
        self.counts.refusals += delivery.refusals;
        for ((_, events), count) in tables.iter().zip(delivery.settled) {
            let settled = events.get(..count).unwrap_or(events);
            sent.extend(settled.iter().map(|event| event.mark));
            self.counts.batches += u64::from(count > 0);
            self.counts.events += settled.len() as u64;
            self.counts.bytes += settled.iter().map(|event| event.line.len() as u64 + 1).sum::<u64>();
            for event in settled {
                if let Some(kind) = &event.unknown_type {
                    *self.counts.unknown_types.entry(kind.to_string()).or_default() += 1;
                }
            }
        }
        for devo::Refused { batch, index, reason } in delivery.refused {
            let Some((table, event)) = tables.get(batch).and_then(|(table, events)| Some((table, events.get(index)?)))
            else {
                continue;
            };
            self.counts.events = self.counts.events.saturating_sub(1);
            self.counts.bytes = self.counts.bytes.saturating_sub(event.line.len() as u64 + 1);
            let (raw, table, origin) = (event.line.clone(), table.to_string(), REFUSED.to_owned());
            refused.push((event.mark, DeadLetter { raw, reason, table, origin, header: None }));
        }
        delivery.failure.map_or(Ok(()), |error| Err(error.into()))
    }
}

fn letters(refused: Vec<(Mark, DeadLetter)>) -> Vec<DeadLetter> {
    refused.into_iter().map(|(_, letter)| letter).collect()
}

/// How many of `events` make one batch: at least one.
pub(crate) fn batch_size(events: &[Event]) -> usize {
    let mut bytes = 0;
    let fits = events.iter().take(BATCH_LINES).take_while(|event| {
        bytes += event.line.len() + 1;
        bytes <= BATCH_BYTES
    });
    fits.count().max(1)
}

/// The events of each table, in their order.
fn by_table(batch: &[Event]) -> Vec<(Arc<str>, Vec<&Event>)> {
    let mut tables: Vec<(Arc<str>, Vec<&Event>)> = Vec::new();
    for event in batch {
        match tables.iter_mut().find(|(table, _)| *table == event.table) {
            Some((_, events)) => events.push(event),
            None => tables.push((event.table.clone(), vec![event])),
        }
    }
    tables
}
