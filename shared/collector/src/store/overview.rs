//! Where a source stands, read without a lease.

use aws_sdk_dynamodb::types::Select;
use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use super::letters::DEAD;
use super::{BACKFILL, CHECKPOINT, Item, Key, OWNER_SEPARATOR, Store, integer, ledger, number, string};
use crate::error::Error;
use crate::ledger::{Failure, Ledger, Lost};
use crate::settings::Settings;
use crate::source::{Kind, Source};
use crate::state::State;

/// Where a source of a tenant stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Overview {
    /// The source's name.
    pub source: &'static str,
    /// The tenant's name.
    pub tenant: String,
    /// The instant up to which everything has been collected; `None` where a source has no time or has not run.
    pub collected_to: Option<DateTime<Utc>>,
    /// Now minus that.
    pub lag_seconds: Option<i64>,
    /// Until when a run holds the lease; `None` where none does.
    pub lease_until: Option<DateTime<Utc>>,
    /// Where that run is: the function's log stream, or a process of a host.
    pub lease_holder: Option<String>,
    /// When the checkpoint was last written; `None` where the source has not run.
    pub updated_at: Option<String>,
    /// How many dead letters there are.
    pub dead_letters: u64,
    /// When the source last gave anything; `None` where it never has, or is read whole each time.
    pub silent_since: Option<DateTime<Utc>>,
    /// How late the latest row of the last days came; `None` where none was late.
    pub late_seconds: Option<i64>,
    /// When a run last ended well; `None` where none has, or an earlier version wrote the checkpoint.
    pub succeeded_at: Option<DateTime<Utc>>,
    /// The last failure of a run, where none has ended well since.
    pub failure: Option<Failure>,
    /// What to do about it.
    pub remedy: Option<String>,
    /// Lines that Devo has accepted in this hour and the 23 before it, those of backfills included.
    pub events_last_day: u64,
    /// Lines that Devo has accepted, by table and hour, for the last three days; not shown.
    #[serde(skip)]
    pub ledgers: Vec<Ledger>,
    /// The last time that Mimecast no longer kept and that was not collected.
    pub gap: Option<Lost>,
    /// Backfills, by id and range.
    pub backfills: Vec<BackfillOverview>,
}

impl Overview {
    /// Why somebody has to look at this source, in a few words; `None` where nobody has. `most`: how far behind it may be.
    pub fn trouble(&self, most: TimeDelta, now: DateTime<Utc>) -> Option<String> {
        let limit = most.num_seconds();
        let since = |at: DateTime<Utc>| (now - at).num_seconds();
        if let Some(failure) = &self.failure {
            return Some(format!("failing: {}", failure.error_type));
        }
        let written = self.updated_at.as_deref().and_then(|at| DateTime::parse_from_rfc3339(at).ok());
        let ran = self.succeeded_at.or(written.map(|at| at.to_utc()));
        match (ran, self.lag_seconds) {
            (None, _) => Some("has never run".to_owned()),
            (Some(ran), _) if since(ran) > limit => Some(format!("no run for {} s", since(ran))),
            (_, Some(lag)) if lag > limit => Some(format!("{lag} s behind")),
            _ => None,
        }
    }
}

/// Where a backfill stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BackfillOverview {
    /// Its id.
    pub id: String,
    /// The first instant of its range.
    pub from: String,
    /// The first instant after its range.
    pub to: String,
    /// Nothing is left to do.
    pub finished: bool,
    /// The instant up to which its range has been collected, where the source has one.
    pub collected_to: Option<DateTime<Utc>>,
    /// Until when a run holds its lease.
    pub lease_until: Option<DateTime<Utc>>,
    /// When its checkpoint was last written.
    pub updated_at: Option<String>,
}

impl Store {
    /// Where `source` stands at `now`. Of `settings` only which feeds there are is asked.
    ///
    /// # Errors
    /// `Checkpoint`.
    pub async fn overview(
        &self,
        tenant: &str,
        source: &'static Source,
        settings: &Settings,
        now: DateTime<Utc>,
    ) -> Result<Overview, Error> {
        let pk = Key::new(tenant, source.name, None, chrono::TimeDelta::zero()).pk;
        let live = self.items(&pk, CHECKPOINT, CHECKPOINT).await?.pop().unwrap_or_default();
        let state = state(&live);
        let collected_to = collected_to(source, settings, &state);
        let backfills = self.items(&pk, BACKFILL, &format!("{BACKFILL}~")).await?;
        let late = state.windows.late.filter(|late| late.counts(now));
        let ledgers: Vec<Ledger> = std::iter::once(&live).chain(&backfills).map(ledger).collect();
        let Ledger { succeeded, failed, gap, .. } = &ledgers[0];
        let failure = failed.clone().filter(|failed| succeeded.is_none_or(|succeeded| failed.at > succeeded));
        Ok(Overview {
            source: source.name,
            tenant: tenant.to_owned(),
            collected_to,
            lag_seconds: collected_to.map(|instant| (now - instant).num_seconds().max(0)),
            lease_until: lease_until(&live, now),
            lease_holder: lease_until(&live, now).and_then(|_| lease_holder(&live)),
            updated_at: string(&live, "updated_at"),
            dead_letters: self.count_letters(&pk).await?,
            silent_since: state.gave(),
            late_seconds: late.map(|late| late.seconds),
            succeeded_at: *succeeded,
            remedy: failure.as_ref().map(|failure| failure.error_type.advice(source.permission)),
            failure,
            gap: *gap,
            events_last_day: ledgers.iter().map(|ledger| ledger.since(now - TimeDelta::hours(23))).sum(),
            ledgers,
            backfills: backfills.iter().filter_map(|item| backfill(item, now)).collect(),
        })
    }

    pub(crate) async fn items(&self, pk: &str, from: &str, to: &str) -> Result<Vec<Item>, Error> {
        let items = self.query(pk, from, to).into_paginator().items().send().try_collect();
        items.await.map_err(|error| self.failed("reading the checkpoints", error))
    }

    /// By their first parts.
    async fn count_letters(&self, pk: &str) -> Result<u64, Error> {
        let query = self
            .query(pk, DEAD, &format!("{DEAD}~"))
            .filter_expression("attribute_not_exists(part) OR part = :first")
            .expression_attribute_values(":first", number(1))
            .select(Select::Count);
        let mut pages = query.into_paginator().send();
        let mut count = 0;
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| self.failed("counting the dead letters", error))?;
            count += u64::try_from(page.count()).unwrap_or_default();
        }
        Ok(count)
    }
}

/// What cannot be read counts as not there: a newer version may have written it.
fn state(item: &Item) -> State {
    string(item, "state").and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

fn lease_until(item: &Item, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    integer(item, "lease_until").and_then(DateTime::from_timestamp_millis).filter(|until| *until > now)
}

fn lease_holder(item: &Item) -> Option<String> {
    Some(string(item, "owner")?.split_once(OWNER_SEPARATOR)?.0.to_owned())
}

fn collected_to(source: &Source, settings: &Settings, state: &State) -> Option<DateTime<Utc>> {
    let Kind::Stream(stream) = &source.kind else { return state.windows.closed_to };
    let caught_up = |v2| {
        let feeds = (stream.feeds)(settings, v2);
        feeds.iter().map(|feed| state.streams.get(&feed.name)?.caught_up).min().flatten()
    };
    // Which of the two APIs the keys are for is not known here: the one that was used last.
    caught_up(false).max(caught_up(true))
}

fn backfill(item: &Item, now: DateTime<Utc>) -> Option<BackfillOverview> {
    let sk = string(item, "sk")?;
    // The id may be anything but has no `#`.
    let [id, from, to] = <[&str; 3]>::try_from(sk.strip_prefix(BACKFILL)?.split('#').collect::<Vec<_>>()).ok()?;
    let state = state(item);
    Some(BackfillOverview {
        id: id.to_owned(),
        from: from.to_owned(),
        to: to.to_owned(),
        finished: state.finished,
        collected_to: state.windows.closed_to,
        lease_until: lease_until(item, now),
        updated_at: string(item, "updated_at"),
    })
}
