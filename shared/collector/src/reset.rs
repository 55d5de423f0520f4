//! What an operator may do to a source's checkpoint: collect again from a time on, and delete dead letters. Both hold the lease, as a
//! run does.

use aws_sdk_dynamodb::types::AttributeValue;
use chrono::{DateTime, TimeDelta, Utc};

use crate::error::Error;
use crate::read::time::stamp;
use crate::run::{LEASE_MARGIN, keep, owner};
use crate::source::{Kind, Source};
use crate::state::{Position, State, Windows};
use crate::store::{Commit, Key, Lease, Letter, Store};

/// How long the lease is held at most.
const TIME: TimeDelta = TimeDelta::seconds(60);

impl Store {
    /// Lets `source` collect again from `to` on, or with `None` as if it had never run: what was delivered since then is forgotten,
    /// and will be delivered once more. `false` where a run holds the lease.
    ///
    /// What is asked by date is read from that day on, SIEM 1.0 all that Mimecast keeps, and what is read whole is delivered whole.
    ///
    /// # Errors
    /// `Checkpoint`. The same again completes what was cut short.
    pub async fn reset(
        &self,
        tenant: &str,
        source: &Source,
        to: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> Result<bool, Error> {
        let Some(mut lease) = self.hold(tenant, source, now).await? else { return Ok(false) };
        let state = state(source, &lease.state, to);
        lease.commit(Commit { state: Some(&state), ..Commit::default() }, now).await?;
        // After the state, so that a reset that is cut short repeats nothing, and can be made again.
        let from = to.map(stamp).unwrap_or_default();
        self.forget(tenant, source, &from).await?;
        lease.commit(Commit { release: true, ..Commit::default() }, now).await?;
        Ok(true)
    }

    /// Deletes dead letters of `source`. `false` where a run holds the lease.
    ///
    /// # Errors
    /// `Checkpoint`.
    pub async fn delete(
        &self,
        tenant: &str,
        source: &Source,
        letters: &[Letter],
        now: DateTime<Utc>,
    ) -> Result<bool, Error> {
        let Some(mut lease) = self.hold(tenant, source, now).await? else { return Ok(false) };
        lease.commit(Commit { replayed: letters.iter().collect(), release: true, ..Commit::default() }, now).await?;
        Ok(true)
    }

    async fn hold(&self, tenant: &str, source: &Source, now: DateTime<Utc>) -> Result<Option<Lease>, Error> {
        let key = Key::new(tenant, source.name, None, keep(source));
        self.acquire(key, &owner(), now, now + TIME + LEASE_MARGIN).await
    }

    /// Deletes the live run's marks from a stamp on.
    async fn forget(&self, tenant: &str, source: &Source, stamp: &str) -> Result<(), Error> {
        let key = Key::new(tenant, source.name, None, keep(source));
        for item in self.items(&key.pk, &format!("{}{stamp}", key.seen), &format!("{}~", key.seen)).await? {
            let Some(sk) = item.get("sk") else { continue };
            let delete = self.client.delete_item().table_name(&self.table).key("sk", sk.clone());
            let delete = delete.key("pk", AttributeValue::S(key.pk.clone())).send().await;
            delete.map_err(|error| self.failed("deleting marks", error))?;
        }
        Ok(())
    }
}

/// The state from which a source collects again from `to` on.
fn state(source: &Source, before: &State, to: Option<DateTime<Utc>>) -> State {
    let Some(to) = to else { return State::default() };
    match &source.kind {
        Kind::Window(_) => State {
            windows: Windows { since: Some(to), closed_to: Some(to), ..Windows::default() },
            ..State::default()
        },
        Kind::Stream(stream) => {
            // What is asked by time and not by day goes by when it was last caught up.
            let caught_up = (!stream.dated).then_some(to);
            let position = Position { since: Some(to), caught_up, ..Position::default() };
            let streams = before.streams.keys().map(|feed| (feed.clone(), position.clone())).collect();
            State { streams, ..State::default() }
        }
        Kind::Snapshot(_) => State::default(),
    }
}
