//! The run: one source of one tenant, from the lease to the answer, in one straight line.

use chrono::{DateTime, TimeDelta, Utc};
use devo::Sink;
use mimecast::{Client, Clock};
use tokio::time::{Duration, Instant};

use crate::answer::{Answer, Status};
use crate::deliver::{Counts, Delivery, Pending};
use crate::invocation::Backfill;
use crate::reader::{Reader, Task};
use crate::seen::Seen;
use crate::source::{Kind, Source};
use crate::state::State;
use crate::store::{Commit, Key, Lease, Store};
use crate::{Error, Settings};

/// The lease outlives its holder's deadline by this: what was on its way at the deadline is over by then.
pub(crate) const LEASE_MARGIN: TimeDelta = TimeDelta::seconds(20);
/// How long marks of a time window are kept: longer than a source may reasonably stand still.
const KEEP_WINDOW_MARKS: TimeDelta = TimeDelta::days(90);

/// What a run works with.
pub(crate) struct Run<'a> {
    pub source: &'a Source,
    pub tenant: &'a str,
    pub backfill: Option<&'a Backfill>,
    pub settings: &'a Settings,
    pub store: &'a Store,
    pub mimecast: Client,
    pub sink: &'a Sink,
    pub clock: Clock,
    pub deadline: Instant,
}

impl Run<'_> {
    /// Fetch, drop the known, send, accepted, then one commit; until caught up or near the deadline. Adds to `counts`.
    pub async fn run(&self, counts: &mut Counts) -> Result<Answer, Error> {
        let Some(mut lease) = self.acquire().await? else { return Ok(self.busy()) };
        let (fetch_until, send_until) = self.limits();
        let task = Task {
            source: self.source,
            settings: self.settings,
            client: &self.mimecast,
            until: fetch_until,
            backfill: self.backfill,
        };
        let mut reader = Reader::new(task, lease.state.clone());
        let mut seen = match self.prepare(&mut reader, &mut lease).await {
            Ok(seen) => seen,
            Err(error) => {
                // Nothing has been done, so nobody need wait for the lease to end.
                lease.commit(Commit { release: true, ..Commit::default() }, self.now()).await.ok();
                return Err(error);
            }
        };
        let mut pending = Pending::default();
        let mut delivery = Delivery { sink: self.sink, lease: &mut lease, until: send_until, counts };
        let ended = loop {
            if Instant::now() >= fetch_until {
                break Ok(Status::More);
            }
            match reader.next(&mut seen).await {
                Ok(Some(portion)) => {
                    if !pending.fits(&portion) {
                        delivery.deliver(&mut pending, self.now(), false).await?;
                    }
                    pending.add(portion);
                }
                Ok(None) => break Ok(Status::CaughtUp),
                Err(error) => break self.cut_short(error, &pending, delivery.counts, fetch_until),
            }
        };
        delivery.deliver(&mut pending, self.now(), true).await?;
        // A deadline that only cut short the search for a readable page is not what went wrong.
        let ended = match reader.trouble() {
            Some(reason) => Err(mimecast::Error::Protocol(reason.to_owned()).into()),
            None => ended,
        };
        Ok(self.answer(ended?, counts, &lease.state))
    }

    async fn acquire(&self) -> Result<Option<Lease>, Error> {
        let key = Key::new(self.tenant, self.source.name, self.backfill, keep(self.source));
        let left = self.deadline.saturating_duration_since(Instant::now());
        let now = self.clock.now();
        self.store.acquire(key, &uuid::Uuid::new_v4().to_string(), now, now + left + LEASE_MARGIN).await
    }

    /// What has to be known before the first request: where the source begins, and what has been delivered already.
    async fn prepare(&self, reader: &mut Reader<'_>, lease: &mut Lease) -> Result<Seen, Error> {
        if let Some(state) = reader.begin() {
            lease.commit(Commit { state: Some(&state), ..Commit::default() }, self.now()).await?;
        }
        match reader.horizon() {
            Some(stamp) => lease.seen(&stamp).await,
            None => Ok(Seen::default()),
        }
    }

    /// Until when requests to Mimecast may last, and until when sends to Devo: the rest is for what comes after.
    fn limits(&self) -> (Instant, Instant) {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let reserve = (left / 4).clamp(Duration::from_secs(1), Duration::from_secs(15)).min(left);
        (self.deadline - reserve, self.deadline - reserve / 3)
    }

    /// A wait or a request that the deadline cut short is no failure where something has been got done.
    fn cut_short(
        &self,
        error: mimecast::Error,
        pending: &Pending,
        counts: &Counts,
        fetch_until: Instant,
    ) -> Result<Status, Error> {
        let progress = counts.batches > 0 || pending.any();
        match error {
            mimecast::Error::RateLimited { .. } if progress => Ok(Status::More),
            mimecast::Error::Unavailable(_)
                if progress && Instant::now() + Duration::from_millis(100) >= fetch_until =>
            {
                Ok(Status::More)
            }
            error => Err(error.into()),
        }
    }

    fn answer(&self, status: Status, counts: &Counts, state: &State) -> Answer {
        let collected_to = match &self.source.kind {
            Kind::Window(_) => state.windows.closed_to,
            Kind::Stream(stream) => {
                let feeds = (stream.feeds)(self.settings, self.mimecast.is_v2());
                feeds.iter().map(|feed| state.streams.get(&feed.name)?.caught_up).min().flatten()
            }
            Kind::Snapshot(_) => None,
        };
        Answer {
            source: self.source.name,
            tenant: self.tenant.to_owned(),
            status,
            events: counts.events,
            duplicates: counts.duplicates,
            rejected: counts.rejected,
            requests: counts.calls.requests(),
            batches: counts.batches,
            lag_seconds: collected_to.map(|instant| (self.now() - instant).num_seconds().max(0)),
            unknown_types: counts.unknown_types.clone(),
            checkpoint: serde_json::to_value(state).unwrap_or_default(),
            gap: counts.gap,
            repeat: counts.repeat,
        }
    }

    fn busy(&self) -> Answer {
        let answer = self.answer(Status::Busy, &Counts::default(), &State::default());
        Answer { lag_seconds: None, ..answer }
    }

    /// Mimecast's time, by which windows end and marks are found again. Only the lease goes by our own clock.
    fn now(&self) -> DateTime<Utc> {
        self.mimecast.now()
    }
}

/// How long marks of a source are kept.
pub(crate) fn keep(source: &Source) -> TimeDelta {
    match &source.kind {
        Kind::Window(_) | Kind::Snapshot(_) => KEEP_WINDOW_MARKS,
        Kind::Stream(stream) => stream.keeps + TimeDelta::days(2),
    }
}
