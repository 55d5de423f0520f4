//! From a batch to Devo: lines per table, then one commit. Never the other way round.

use std::collections::BTreeMap;

use devo::Sink;
use mimecast::Client;
use tokio::time::{Duration, Instant};

use crate::error::Error;
use crate::ledger::{Failure, Lost};
use crate::outbox::{BATCH_BYTES, BATCH_LINES, Batch, Inbox};
use crate::process::answer::Gap;
use crate::read::events::Events;
use crate::read::portion::{DeadLetter, Place};
use crate::read::time::stamp;
use crate::seen::{Mark, UNMARKED};
use crate::store::{Commit, Lease, Marks};

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
    /// Tries that Devo refused or that broke off, where none after them succeeded.
    pub refusals: u64,
    pub unknown_types: BTreeMap<String, u64>,
    pub gap: Option<Gap>,
    pub repeat: Option<Gap>,
    /// How late the latest row was.
    pub late_seconds: u64,
    /// What the user has to know.
    pub warnings: Vec<String>,
}

/// Where a run's deliveries go.
pub(crate) struct Delivery<'a> {
    pub sink: &'a Sink,
    /// Whose clock marks and dead letters go by.
    pub client: &'a Client,
    pub lease: &'a mut Lease,
    pub until: Instant,
    pub counts: &'a mut Counts,
    /// How long the last batch has taken.
    pub took: Duration,
}

impl<'a> Delivery<'a> {
    pub fn new(
        sink: &'a Sink,
        client: &'a Client,
        lease: &'a mut Lease,
        until: Instant,
        counts: &'a mut Counts,
    ) -> Self {
        Self { sink, client, lease, until, counts, took: Duration::ZERO }
    }

    /// Delivers each batch that comes out, until the outbox is closed.
    ///
    /// # Errors
    /// The first that a batch failed with.
    pub async fn deliver_all(&mut self, mut inbox: Inbox) -> Result<(), Error> {
        while let Some((batch, permit)) = inbox.next().await {
            self.deliver(batch, false).await?;
            drop(permit);
        }
        Ok(())
    }

    /// Sends a batch and commits it; `release` gives the lease back with the last write.
    ///
    /// # Errors
    /// `Devo`, after what it accepted before has been committed; `Checkpoint`.
    pub async fn deliver(&mut self, batch: Batch, release: bool) -> Result<(), Error> {
        let began = Instant::now();
        let now = self.client.now();
        let mut refused = Vec::new();
        let mut events = batch.events;
        while !events.is_empty() {
            // More than one only where a single portion was larger than a batch.
            let part = events.part(BATCH_LINES, BATCH_BYTES);
            let mut sent = Vec::new();
            let outcome = self.send(part, &mut sent, &mut refused).await;
            sent.retain(|mark| *mark != UNMARKED);
            if outcome.is_err() || !events.is_empty() {
                // The state stays, so that the rest is read again; what Devo has got is known by its marks. A run that fails
                // ends here, so the lease goes back whatever was asked.
                let dead = letters(std::mem::take(&mut refused));
                let marks = Marks { stamp: stamp(now), marks: sent };
                let release = outcome.is_err();
                if let Err(error) = &outcome {
                    self.failed(error);
                }
                self.lease
                    .commit(Commit { marks: Some(marks), dead: &dead, release, ..Commit::default() }, now)
                    .await?;
                self.counts.rejected += dead.len() as u64;
            }
            outcome?;
        }
        let dead = [batch.rejected, letters(refused)].concat();
        self.counts.duplicates += batch.duplicates;
        self.counts.gap = batch.gap.or(self.counts.gap);
        if let Some(Gap { from, to }) = batch.gap {
            self.lease.ledger.gap = Some(Lost { at: now, from, to });
        }
        self.counts.repeat = batch.repeat.or(self.counts.repeat);
        self.counts.late_seconds = batch.late_seconds.max(self.counts.late_seconds);
        self.counts.rejected += dead.len() as u64;
        let marks = Some(Marks { stamp: batch.stamp, marks: batch.marks });
        let commit = Commit { state: batch.state.as_ref(), marks, dead: &dead, release, ..Commit::default() };
        self.lease.commit(commit, now).await?;
        if let Some(state) = batch.state {
            self.lease.state = state;
        }
        self.took = began.elapsed();
        Ok(())
    }

    /// Notes why the run fails, for the next write.
    pub fn failed(&mut self, error: &Error) {
        self.lease.ledger.failed = Some(Failure::of(error, self.client.now()));
    }

    /// Sends events, all tables in one call. `sent` takes the marks of what Devo has accepted or can never accept.
    /// `refused` takes the latter, with their marks.
    pub async fn send(
        &mut self,
        events: Events,
        sent: &mut Vec<Mark>,
        refused: &mut Vec<(Mark, DeadLetter)>,
    ) -> Result<(), Error> {
        let mut tables = events.tables;
        let lines: Vec<_> = tables.iter_mut().map(|table| std::mem::take(&mut table.lines)).collect();
        let batches: Vec<_> =
            tables.iter().zip(lines).map(|(table, lines)| devo::Batch { table: &table.name, lines }).collect();
        let delivery = self.sink.send(&batches, self.until).await;
        if delivery.failure.is_some() {
            self.counts.refusals += delivery.refusals;
        }
        let now = self.client.now();
        for (number, ((table, batch), count)) in tables.iter().zip(&batches).zip(delivery.settled).enumerate() {
            let refused = delivery.refused.iter().filter(|refused| refused.batch == number).count();
            self.lease.ledger.accepted(&table.name, count.saturating_sub(refused), now);
            let settled = batch.lines.get(..count).unwrap_or(&batch.lines);
            sent.extend_from_slice(table.marks.get(..count).unwrap_or(&table.marks));
            self.counts.batches += u64::from(count > 0);
            self.counts.events += settled.len() as u64;
            self.counts.bytes += settled.iter().map(|line| line.len() as u64 + 1).sum::<u64>();
            for (_, kind) in table.unknown_types.iter().take_while(|(place, _)| *place < count) {
                *self.counts.unknown_types.entry(kind.to_string()).or_default() += 1;
            }
        }
        for devo::Refused { batch, index, reason } in delivery.refused {
            let found = tables.get(batch).zip(batches.get(batch));
            let Some((table, line, mark)) =
                found.and_then(|(table, batch)| Some((table, batch.lines.get(index)?, table.marks.get(index)?)))
            else {
                continue;
            };
            self.counts.events = self.counts.events.saturating_sub(1);
            self.counts.bytes = self.counts.bytes.saturating_sub(line.len() as u64 + 1);
            let (raw, table, origin) = (line.clone(), table.name.to_string(), REFUSED.to_owned());
            refused.push((*mark, DeadLetter { raw, reason, table, origin, place: Place::default() }));
        }
        delivery.failure.map_or(Ok(()), |error| Err(error.into()))
    }
}

fn letters(refused: Vec<(Mark, DeadLetter)>) -> Vec<DeadLetter> {
    refused.into_iter().map(|(_, letter)| letter).collect()
}
