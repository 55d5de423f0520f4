//! The checkpoint protocol on DynamoDB: a lease with a fencing token, and commits that only its holder can make.
//!
//! One table (hash key `pk`, sort key `sk`, TTL `expires_at`); everything of a source is under `pk` = `<tenant>#<source>`:
//! `checkpoint` (state, epoch, lease), `seen#...` (packed marks), `dead#...` (dead letters). The same calls serve DynamoDB and
//! the embedded engine.

mod letters;
mod overview;

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::operation::transact_write_items::{TransactWriteItemsError, TransactWriteItemsOutput};
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{
    AttributeValue, Delete, Put, ReturnValue, ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update,
};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

use crate::portion::{DeadLetter, Marks};
use crate::seen::{Mark, Seen, name_hash};
use crate::state::{State, VERSION};
use crate::{Backfill, Error};

/// Marks in one item: 16 bytes each, well below DynamoDB's 400 KB.
const MARKS_PER_ITEM: usize = 20_000;
/// Bytes of items in one transaction (DynamoDB: 4 MB) and their number (100), with room for the checkpoint itself.
const TRANSACTION_BYTES: usize = 3_000_000;
const TRANSACTION_ITEMS: usize = 90;
/// The sort key of the live run's checkpoint, and how those of backfills begin.
const CHECKPOINT: &str = "checkpoint";
const BACKFILL: &str = "backfill#";
/// What every write of a lease is conditional on: nobody has taken another lease since, and the write has not been made before.
/// An attempt that the SDK has given up may still arrive, after later ones.
const FENCE: &str = "epoch = :epoch AND commits < :number";
/// Waits before a cancelled transaction is tried again.
const CONFLICT_PAUSES_MS: [u64; 5] = [50, 100, 200, 400, 800];

pub use letters::Letter;
pub use overview::{BackfillOverview, Overview};

type Item = HashMap<String, AttributeValue>;

/// The checkpoint table.
#[derive(Clone, Debug)]
pub struct Store {
    client: Client,
    table: String,
}

/// Whose checkpoint it is. A backfill has one of its own, with marks of its own.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub pk: String,
    pub sk: String,
    pub seen: String,
    /// How long marks are kept.
    pub keep: TimeDelta,
}

impl Key {
    pub fn new(tenant: &str, source: &str, backfill: Option<&Backfill>, keep: TimeDelta) -> Self {
        let sk = match backfill {
            None => CHECKPOINT.to_owned(),
            // The same id with another range is another backfill.
            Some(Backfill { from, to, id }) => format!("{BACKFILL}{id}#{}#{}", rfc3339(*from), rfc3339(*to)),
        };
        Self::of(tenant, source, sk, keep)
    }

    /// The key of the checkpoint item `sk`.
    pub fn of(tenant: &str, source: &str, sk: String, keep: TimeDelta) -> Self {
        let seen = match sk.strip_prefix(BACKFILL) {
            Some(name) => format!("backfill-seen#{name}#"),
            None => "seen#".to_owned(),
        };
        Self { pk: format!("{tenant}#{source}"), sk, seen, keep }
    }

    fn is_backfill(&self) -> bool {
        self.sk != CHECKPOINT
    }
}

/// A held lease: the right to write under one key while nobody with a later epoch has taken over.
#[derive(Debug)]
pub(crate) struct Lease {
    store: Store,
    key: Key,
    /// The fencing token: each lease has a greater one than all before it.
    epoch: i64,
    written: u32,
    /// The writes made under this lease.
    commits: i64,
    /// The state as the last holder left it.
    pub state: State,
}

/// One write of a lease's holder; all of it or nothing.
#[derive(Default)]
pub(crate) struct Commit<'a> {
    /// The state to move to; `None` leaves it.
    pub state: Option<&'a State>,
    pub marks: Vec<Marks>,
    pub dead: &'a [DeadLetter],
    /// Dead letters that have been replayed.
    pub replayed: Vec<&'a Letter>,
    /// Gives the lease back.
    pub release: bool,
}

/// One of the writes that a commit makes beside moving the checkpoint.
enum Write {
    Put(Item),
    /// A part of a dead letter: DynamoDB may count what it deletes.
    Delete {
        sk: String,
        bytes: usize,
    },
}

impl Write {
    fn size(&self) -> usize {
        match self {
            Self::Put(item) => size(item),
            Self::Delete { bytes, .. } => *bytes,
        }
    }
}

impl Store {
    /// The table `table` as reached by `client`.
    pub fn new(client: Client, table: impl Into<String>) -> Self {
        Self { client, table: table.into() }
    }

    /// Takes the lease until `until`, or `None` while somebody else holds it.
    ///
    /// `owner` is this invocation's own name: its request takes one lease, however often it arrives and however late.
    pub(crate) async fn acquire(
        &self,
        key: Key,
        owner: &str,
        now: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Result<Option<Lease>, Error> {
        let outcome = self
            .update(&key)
            .update_expression("SET lease_until = :until, #owner = :owner, commits = :none ADD epoch :one")
            .condition_expression(
                "(attribute_not_exists(lease_until) OR lease_until < :now) \
                 AND (attribute_not_exists(#owner) OR #owner <> :owner) \
                 AND (attribute_not_exists(version) OR version <= :version)",
            )
            .expression_attribute_names("#owner", "owner")
            .expression_attribute_values(":until", number(until.timestamp_millis()))
            .expression_attribute_values(":now", number(now.timestamp_millis()))
            .expression_attribute_values(":owner", text(owner))
            .expression_attribute_values(":one", number(1))
            .expression_attribute_values(":none", number(0))
            .expression_attribute_values(":version", number(VERSION))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        let item = match outcome {
            Ok(output) => output.attributes.unwrap_or_default(),
            Err(SdkError::ServiceError(error)) => match error.err() {
                UpdateItemError::ConditionalCheckFailedException(refused) => {
                    let item = refused.item().cloned().unwrap_or_default();
                    let version = integer(&item, "version").unwrap_or_default();
                    match string(&item, "owner") {
                        _ if version > VERSION => return Err(newer(&key, version)),
                        // This invocation's own, by an attempt whose answer got lost.
                        Some(holder) if holder == owner => item,
                        _ => return Ok(None),
                    }
                }
                // The holder is writing at this very moment.
                UpdateItemError::TransactionConflictException(_) => return Ok(None),
                _ => return Err(self.failed("taking the lease", SdkError::ServiceError(error))),
            },
            Err(error) => return Err(self.failed("taking the lease", error)),
        };
        let epoch = integer(&item, "epoch").unwrap_or_default();
        let mut lease = Lease { store: self.clone(), key, epoch, written: 0, commits: 0, state: State::default() };
        if let Some(state) = item.get("state").and_then(|state| state.as_s().ok()) {
            lease.state = match serde_json::from_str(state) {
                Ok(state) => state,
                Err(error) => {
                    lease.commit(Commit { release: true, ..Commit::default() }, now).await?;
                    let Key { pk, sk, .. } = &lease.key;
                    let text = format!("the state in the checkpoint {pk}/{sk} is not readable: {error}");
                    return Err(Error::Checkpoint(text));
                }
            };
        }
        Ok(Some(lease))
    }

    /// Ends whatever leases there are of a source and its backfills. Only for who knows that nobody holds them.
    ///
    /// # Errors
    /// `Checkpoint`.
    pub async fn release(&self, tenant: &str, source: &str) -> Result<(), Error> {
        let pk = format!("{tenant}#{source}");
        let mut items = self.items(&pk, CHECKPOINT, CHECKPOINT).await?;
        items.extend(self.items(&pk, BACKFILL, &format!("{BACKFILL}~")).await?);
        for item in items.iter().filter(|item| integer(item, "lease_until").is_some_and(|until| until > 0)) {
            let key = Key::of(tenant, source, string(item, "sk").unwrap_or_default(), TimeDelta::zero());
            let update = self.update(&key).update_expression("SET lease_until = :released");
            let outcome = update.expression_attribute_values(":released", number(0)).send().await;
            outcome.map_err(|error| self.failed("ending the lease", error))?;
        }
        Ok(())
    }

    /// Those marks under `key` from `stamp` on that are `wanted`.
    pub(crate) async fn seen(&self, key: &Key, stamp: &str, wanted: impl Fn(&Mark) -> bool) -> Result<Seen, Error> {
        let mut seen = Seen::default();
        let prefix = &key.seen;
        let query = self.query(&key.pk, &format!("{prefix}{stamp}"), &format!("{prefix}~"));
        let mut pages = query.into_paginator().items().send();
        while let Some(item) = pages.next().await {
            let item = item.map_err(|error| self.failed("reading the marks", error))?;
            let label = string(&item, "reading");
            let packed = item.get("marks").and_then(|marks| marks.as_b().ok()).map(Blob::as_ref).unwrap_or_default();
            let marks = packed.as_chunks().0.iter().map(|mark| Mark::from_le_bytes(*mark));
            seen.remember(label, marks.filter(&wanted));
        }
        Ok(seen)
    }

    /// The items under `pk` with sort keys between two, both included.
    fn query(&self, pk: &str, from: &str, to: &str) -> QueryFluentBuilder {
        self.client
            .query()
            .table_name(&self.table)
            .key_condition_expression("pk = :pk AND sk BETWEEN :from AND :to")
            .expression_attribute_values(":pk", text(pk))
            .expression_attribute_values(":from", text(from))
            .expression_attribute_values(":to", text(to))
            .consistent_read(true)
    }

    /// An update of the checkpoint item.
    fn update(&self, key: &Key) -> UpdateItemFluentBuilder {
        self.client.update_item().table_name(&self.table).key("pk", text(&key.pk)).key("sk", text(&key.sk))
    }

    fn failed<E, R>(&self, doing: &str, error: SdkError<E, R>) -> Error
    where
        E: std::error::Error + ProvideErrorMetadata + 'static,
        R: std::fmt::Debug + 'static,
    {
        let reason = match (error.code(), error.message()) {
            (Some(code), message) => format!("{code} {}", message.unwrap_or_default()),
            // The chain of causes, each for people.
            (None, _) => std::iter::successors(Some(&error as &dyn std::error::Error), |error| (*error).source())
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(": "),
        };
        Error::Checkpoint(format!("{doing} in table {}: {}", self.table, reason.trim_end()))
    }
}

impl Lease {
    /// The marks from `stamp` on.
    pub async fn seen(&self, stamp: &str) -> Result<Seen, Error> {
        self.store.seen(&self.key, stamp, |_| true).await
    }

    /// Writes `commit`, if no later lease has been taken.
    ///
    /// # Errors
    /// `Checkpoint`, also when the lease was lost: then nothing of the last step has been written.
    pub async fn commit(&mut self, commit: Commit<'_>, now: DateTime<Utc>) -> Result<(), Error> {
        let mut writes = Vec::new();
        // Where one transaction does not hold it all: the letters before the marks, by which what is in a letter counts as
        // done, and what is replayed goes only after both.
        for letter in commit.dead {
            writes.extend(self.dead_items(letter, now)?.into_iter().map(Write::Put));
        }
        for group in &commit.marks {
            for marks in group.marks.chunks(MARKS_PER_ITEM) {
                writes.push(Write::Put(self.marks_item(group, marks, now)));
            }
        }
        for part in commit.replayed.iter().flat_map(|letter| &letter.parts) {
            writes.push(Write::Delete { sk: part.sk.clone(), bytes: part.bytes });
        }
        // The state moves with the last one.
        while writes.len() > TRANSACTION_ITEMS || writes.iter().map(Write::size).sum::<usize>() > TRANSACTION_BYTES {
            let mut bytes = 0;
            let fits = writes.iter().take(TRANSACTION_ITEMS).take_while(|write| {
                bytes += write.size();
                bytes <= TRANSACTION_BYTES
            });
            let first: Vec<Write> = writes.drain(..fits.count().max(1)).collect();
            self.transact(first, None, false, now).await?;
        }
        if !writes.is_empty() {
            return self.transact(writes, commit.state, commit.release, now).await;
        }
        if commit.state.is_none() && !commit.release {
            return Ok(());
        }
        let (expression, names, values) = self.advance(commit.state, commit.release, now)?;
        let outcome = self
            .store
            .update(&self.key)
            .update_expression(expression)
            .condition_expression(FENCE)
            .set_expression_attribute_names(names)
            .set_expression_attribute_values(Some(values))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        match outcome {
            Ok(_) => Ok(()),
            Err(SdkError::ServiceError(error)) => match error.err() {
                UpdateItemError::ConditionalCheckFailedException(refused) => self.refused(refused.item()),
                _ => Err(self.store.failed("moving the checkpoint", SdkError::ServiceError(error))),
            },
            Err(error) => Err(self.store.failed("moving the checkpoint", error)),
        }
    }

    /// A commit whose condition did not hold: it was made before, by an attempt whose answer got lost, or the lease is gone.
    fn refused(&self, item: Option<&Item>) -> Result<(), Error> {
        let is = |name: &str, value: i64| item.and_then(|item| integer(item, name)) == Some(value);
        if is("epoch", self.epoch) && is("commits", self.commits) { Ok(()) } else { Err(self.lost()) }
    }

    async fn transact(
        &mut self,
        writes: Vec<Write>,
        state: Option<&State>,
        release: bool,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let (expression, names, values) = self.advance(state, release, now)?;
        let impossible = |error| Error::Checkpoint(format!("{error}"));
        let update = Update::builder()
            .table_name(&self.store.table)
            .key("pk", text(&self.key.pk))
            .key("sk", text(&self.key.sk))
            .update_expression(expression)
            .condition_expression(FENCE)
            .set_expression_attribute_names(names)
            .set_expression_attribute_values(Some(values))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .build()
            .map_err(impossible)?;
        let mut request = self
            .store
            .client
            .transact_write_items()
            .transact_items(TransactWriteItem::builder().update(update).build());
        for write in writes {
            let (table, write_item) = (&self.store.table, TransactWriteItem::builder());
            request = request.transact_items(match write {
                Write::Put(item) => {
                    let put = Put::builder().table_name(table).set_item(Some(item)).build().map_err(impossible)?;
                    write_item.put(put).build()
                }
                Write::Delete { sk, .. } => {
                    let delete = Delete::builder().table_name(table).key("pk", text(&self.key.pk)).key("sk", text(&sk));
                    write_item.delete(delete.build().map_err(impossible)?).build()
                }
            });
        }
        // The SDK does not repeat a transaction that another write or a throttle has cancelled.
        for pause in CONFLICT_PAUSES_MS.map(Duration::from_millis) {
            match request.clone().send().await {
                Err(SdkError::ServiceError(error)) if passing(error.err()) => tokio::time::sleep(pause).await,
                outcome => return self.written(outcome),
            }
        }
        let outcome = request.send().await;
        self.written(outcome)
    }

    fn written<R: std::fmt::Debug + 'static>(
        &self,
        outcome: Result<TransactWriteItemsOutput, SdkError<TransactWriteItemsError, R>>,
    ) -> Result<(), Error> {
        match outcome {
            Ok(_) => Ok(()),
            Err(SdkError::ServiceError(error)) if cancelled(error.err(), &["ConditionalCheckFailed"]) => {
                self.refused(checkpoint_of(error.err()))
            }
            Err(error) => Err(self.store.failed("moving the checkpoint", error)),
        }
    }

    #[allow(clippy::type_complexity)]
    fn advance(
        &mut self,
        state: Option<&State>,
        release: bool,
        now: DateTime<Utc>,
    ) -> Result<(String, Option<HashMap<String, String>>, Item), Error> {
        self.commits += 1;
        let mut expression = "SET updated_at = :now, commits = :number".to_owned();
        let mut values = Item::from([
            (":now".into(), text(&rfc3339(now))),
            (":epoch".into(), number(self.epoch)),
            (":number".into(), number(self.commits)),
        ]);
        let mut names = None;
        if let Some(state) = state {
            let state = serde_json::to_string(state).map_err(|error| Error::Checkpoint(error.to_string()))?;
            expression.push_str(", #state = :state, version = :version");
            values.insert(":state".into(), text(&state));
            values.insert(":version".into(), number(VERSION));
            names = Some(HashMap::from([("#state".into(), "state".into())]));
        }
        if release {
            expression.push_str(", lease_until = :released");
            values.insert(":released".into(), number(0));
        }
        Ok((expression, names, values))
    }

    fn lost(&self) -> Error {
        Error::Checkpoint(format!(
            "the lease on {} (epoch {}) went to another invocation, which goes on from the last checkpoint",
            self.key.pk, self.epoch
        ))
    }

    fn marks_item(&mut self, group: &Marks, marks: &[Mark], now: DateTime<Utc>) -> Item {
        let packed: Vec<u8> = marks.iter().flat_map(|mark| mark.to_le_bytes()).collect();
        let unique = self.unique();
        let mut item = Item::from([
            ("pk".into(), text(&self.key.pk)),
            ("sk".into(), text(&format!("{}{}#{}", self.key.seen, group.stamp, unique))),
            ("marks".into(), AttributeValue::B(Blob::new(packed))),
            ("expires_at".into(), number((now + self.key.keep).timestamp())),
        ]);
        if let Some(label) = &group.label {
            item.insert("reading".into(), text(label));
        }
        item
    }

    /// Unlike any other below `pk`: the epoch is this lease's alone, and backfills have epochs of their own.
    fn unique(&mut self) -> String {
        self.written += 1;
        let number = format!("{}{:06}", self.epoch, self.written);
        match self.key.is_backfill() {
            true => format!("{number}-{:016x}", name_hash(&self.key.sk) as u64),
            false => number,
        }
    }
}

fn newer(key: &Key, version: i64) -> Error {
    Error::Checkpoint(format!(
        "the checkpoint {}/{} was written by a newer version of this program (form {version}, this one reads up to \
         {VERSION}): deploy that version",
        key.pk, key.sk
    ))
}

/// Whether the transaction was cancelled for one of these reasons. The fencing condition is the only condition in it.
fn cancelled(error: &TransactWriteItemsError, codes: &[&str]) -> bool {
    let TransactWriteItemsError::TransactionCanceledException(canceled) = error else { return false };
    canceled.cancellation_reasons().iter().filter_map(|reason| reason.code()).any(|code| codes.contains(&code))
}

/// The checkpoint item as it was when its update, the first of a transaction, was refused.
fn checkpoint_of(error: &TransactWriteItemsError) -> Option<&Item> {
    let TransactWriteItemsError::TransactionCanceledException(canceled) = error else { return None };
    canceled.cancellation_reasons().first()?.item()
}

/// Whether the same transaction may succeed in a moment: cancelled by another write or a throttle, not by its own content.
fn passing(error: &TransactWriteItemsError) -> bool {
    let lasting = ["ConditionalCheckFailed", "ItemCollectionSizeLimitExceeded", "ValidationError"];
    matches!(error, TransactWriteItemsError::TransactionCanceledException(_)) && !cancelled(error, &lasting)
}

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

fn number(value: i64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

fn string(item: &Item, name: &str) -> Option<String> {
    item.get(name)?.as_s().ok().cloned()
}

fn integer(item: &Item, name: &str) -> Option<i64> {
    item.get(name)?.as_n().ok()?.parse().ok()
}

fn rfc3339(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

fn size(item: &Item) -> usize {
    let values = item.iter().map(|(name, value)| {
        name.len()
            + match value {
                AttributeValue::S(text) => text.len(),
                AttributeValue::B(bytes) => bytes.as_ref().len(),
                _ => 21,
            }
    });
    values.sum()
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
