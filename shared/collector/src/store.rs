//! The checkpoint protocol on DynamoDB: a lease with a fencing token, and commits that only its holder can make.
//!
//! One table (hash key `pk`, sort key `sk`, TTL `expires_at`); everything of a source is under `pk` = `<tenant>#<source>`:
//! `checkpoint` (state, epoch, lease), `seen#...` (packed marks), `dead#...` (dead letters). The same calls serve DynamoDB and
//! the embedded engine.

mod lease;
mod letters;
mod overview;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

use crate::error::Error;
use crate::ledger::Ledger;
use crate::process::invocation::Backfill;
use crate::seen::{Mark, Seen};
use crate::state::{State, VERSION};

/// The sort key of the live run's checkpoint, and how those of backfills begin.
const CHECKPOINT: &str = "checkpoint";
const BACKFILL: &str = "backfill#";
/// The sort key of what a check writes.
const CHECK: &str = "check";
/// Between where a lease's owner runs and its own name.
pub(crate) const OWNER_SEPARATOR: &str = " # ";
pub(crate) use lease::{Commit, Lease, Marks};
pub use letters::Letter;
pub use overview::{BackfillOverview, Overview};

type Item = HashMap<String, AttributeValue>;

/// The checkpoint table.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) client: Client,
    pub(crate) table: String,
    /// The file that the table is in, on a host.
    file: Option<PathBuf>,
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

impl Store {
    /// The table `table` as reached by `client`.
    pub fn new(client: Client, table: impl Into<String>) -> Self {
        Self { client, table: table.into(), file: None }
    }

    /// The same, for errors that name the file which the table is in.
    #[must_use]
    pub fn in_file(self, file: &Path) -> Self {
        Self { file: Some(file.to_owned()), ..self }
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
        let ledger = ledger(&item);
        let mut lease = Lease {
            store: self.clone(),
            key,
            epoch,
            written: 0,
            commits: 0,
            state: State::default(),
            ledger_written: ledger.clone(),
            ledger,
        };
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

    /// Whether items below a source's key can be read and written, by one that stands for nothing and goes by itself.
    pub(crate) async fn probe(&self, tenant: &str, source: &str, now: DateTime<Utc>) -> Result<(), Error> {
        let key = Key::of(tenant, source, CHECK.to_owned(), TimeDelta::zero());
        self.items(&key.pk, CHECK, CHECK).await?;
        let expires = number((now + TimeDelta::hours(1)).timestamp());
        let put = self.client.put_item().table_name(&self.table).item("pk", text(&key.pk)).item("sk", text(&key.sk));
        let put = put.item("expires_at", expires.clone()).send().await;
        put.map_err(|error| self.failed("writing an item", error))?;
        let update = self.update(&key).update_expression("SET expires_at = :expires");
        let update = update.expression_attribute_values(":expires", expires).send().await;
        update.map_err(|error| self.failed("updating an item", error)).map(drop)
    }

    /// Those marks under `key` from `stamp` on that are `wanted`.
    pub(crate) async fn seen(&self, key: &Key, stamp: &str, wanted: impl Fn(&Mark) -> bool) -> Result<Seen, Error> {
        let mut stored = Vec::new();
        let prefix = &key.seen;
        let query = self.query(&key.pk, &format!("{prefix}{stamp}"), &format!("{prefix}~"));
        let mut pages = query.into_paginator().items().send();
        while let Some(item) = pages.next().await {
            let item = item.map_err(|error| self.failed("reading the marks", error))?;
            let packed = item.get("marks").and_then(|marks| marks.as_b().ok()).map(Blob::as_ref).unwrap_or_default();
            let marks = packed.as_chunks().0.iter().map(|mark| Mark::from_le_bytes(*mark));
            stored.extend(marks.filter(&wanted));
        }
        Ok(Seen::new(stored))
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

    pub(crate) fn failed<E, R>(&self, doing: &str, error: SdkError<E, R>) -> Error
    where
        E: std::error::Error + ProvideErrorMetadata + 'static,
        R: std::fmt::Debug + 'static,
    {
        let reason = match (error.code(), error.message()) {
            (Some(_), Some(message)) if self.file.is_some() => message.to_owned(),
            (Some(code), message) => format!("{code} {}", message.unwrap_or_default()),
            // The chain of causes, each for people; the first says only that there is one.
            (None, _) => std::iter::successors(std::error::Error::source(&error), |error| (*error).source())
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(": "),
        };
        let reason = reason.trim_end();
        match &self.file {
            Some(file) => Error::StateFile(format!("{doing} in the state file {}: {reason}", file.display())),
            None => {
                let region = self.client.config().region().map_or("no region is set", |region| region.as_ref());
                Error::CheckpointTable(format!("{doing} in table {} ({region}): {reason}", self.table))
            }
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

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

fn number(value: i64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

fn string(item: &Item, name: &str) -> Option<String> {
    item.get(name)?.as_s().ok().cloned()
}

/// What cannot be read counts as not there: it is for people only.
fn ledger(item: &Item) -> Ledger {
    string(item, "ledger").and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

fn integer(item: &Item, name: &str) -> Option<i64> {
    item.get(name)?.as_n().ok()?.parse().ok()
}

fn rfc3339(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
