//! A held lease, and the commits that only its holder can make: marks, dead letters and the state, in one conditional write.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::transact_write_items::{TransactWriteItemsError, TransactWriteItemsOutput};
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{
    AttributeValue, Delete, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update,
};
use chrono::{DateTime, Utc};

use super::{Item, Key, Letter, Store, integer, number, rfc3339, text};
use crate::error::Error;
use crate::ledger::Ledger;
use crate::read::portion::DeadLetter;
use crate::seen::{Mark, name_hash};
use crate::state::{State, VERSION};

/// Marks in one item: 16 bytes each, well below DynamoDB's 400 KB.
pub(super) const MARKS_PER_ITEM: usize = 20_000;
/// Bytes of items in one transaction (DynamoDB: 4 MB) and their number (100), with room for the checkpoint itself.
const TRANSACTION_BYTES: usize = 3_000_000;
pub(super) const TRANSACTION_ITEMS: usize = 90;
/// What every write of a lease is conditional on: nobody has taken another lease since, and the write has not been made before.
/// An attempt that the SDK has given up may still arrive, after later ones.
const FENCE: &str = "epoch = :epoch AND commits < :number";
/// Waits before a cancelled transaction is tried again.
const CONFLICT_PAUSES_MS: [u64; 5] = [50, 100, 200, 400, 800];

/// A held lease: the right to write under one key while nobody with a later epoch has taken over.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(super) store: Store,
    pub(super) key: Key,
    /// The fencing token: each lease has a greater one than all before it.
    pub(super) epoch: i64,
    pub(super) written: u32,
    /// The writes made under this lease.
    pub(super) commits: i64,
    /// The state as the last holder left it.
    pub state: State,
    /// What its runs have come to. Goes with the next write.
    pub ledger: Ledger,
    /// As it was last written.
    pub(super) ledger_written: Ledger,
}

/// Marks to be remembered.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Marks {
    /// Sorts them among the others: they are read back from a stamp on.
    pub stamp: String,
    pub marks: Vec<Mark>,
}

/// One write of a lease's holder; all of it or nothing.
#[derive(Default)]
pub(crate) struct Commit<'a> {
    /// The state to move to; `None` leaves it.
    pub state: Option<&'a State>,
    pub marks: Option<Marks>,
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

impl Lease {
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
        if let Some(Marks { stamp, marks }) = &commit.marks {
            for marks in marks.chunks(MARKS_PER_ITEM) {
                writes.push(Write::Put(self.marks_item(stamp, marks, now)));
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
        if self.ledger != self.ledger_written {
            let ledger = serde_json::to_string(&self.ledger).map_err(|error| Error::Checkpoint(error.to_string()))?;
            expression.push_str(", #ledger = :ledger");
            values.insert(":ledger".into(), text(&ledger));
            names.get_or_insert_with(HashMap::new).insert("#ledger".into(), "ledger".into());
            self.ledger_written = self.ledger.clone();
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

    fn marks_item(&mut self, stamp: &str, marks: &[Mark], now: DateTime<Utc>) -> Item {
        let packed: Vec<u8> = marks.iter().flat_map(|mark| mark.to_le_bytes()).collect();
        let unique = self.unique();
        Item::from([
            ("pk".into(), text(&self.key.pk)),
            ("sk".into(), text(&format!("{}{stamp}#{unique}", self.key.seen))),
            ("marks".into(), AttributeValue::B(Blob::new(packed))),
            ("expires_at".into(), number((now + self.key.keep).timestamp())),
        ])
    }

    /// Unlike any other below `pk`: the epoch is this lease's alone, and backfills have epochs of their own.
    pub(super) fn unique(&mut self) -> String {
        self.written += 1;
        let number = format!("{}{:06}", self.epoch, self.written);
        match self.key.is_backfill() {
            true => format!("{number}-{:016x}", name_hash(&self.key.sk) as u64),
            false => number,
        }
    }
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
