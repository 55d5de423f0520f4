//! The run: one source of one tenant, from the lease to the answer, in one straight line.

use chrono::{DateTime, TimeDelta, Utc};
use devo::Sink;
use mimecast::{Client, Clock};
use tokio::time::{Duration, Instant};

use crate::answer::{Answer, Status};
use crate::deliver::{Counts, Delivery, Pending};
use crate::invocation::Backfill;
use crate::reader::{Reader, Task};
use crate::source::{Kind, Source};
use crate::state::State;
use crate::store::{Key, Lease, Store};
use crate::stream::StreamReader;
use crate::{Error, Settings};

/// The lease outlives its holder's deadline by this: what was on its way at the deadline is over by then.
const LEASE_MARGIN: TimeDelta = TimeDelta::seconds(20);
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
    /// Fetch, drop the known, send, accepted, then one commit; until caught up or near the deadline.
    pub async fn run(&self) -> Result<Answer, Error> {
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
        let mut seen = match reader.horizon() {
            Some(stamp) => lease.seen(&stamp).await?,
            None => crate::seen::Seen::default(),
        };
        let mut counts = Counts::default();
        let mut pending = Pending::default();
        let mut delivery = Delivery { sink: self.sink, lease: &mut lease, until: send_until, counts: &mut counts };
        let ended = loop {
            if Instant::now() >= fetch_until {
                break match reader.trouble() {
                    Some(reason) => Err(mimecast::Error::Protocol(reason.to_owned()).into()),
                    None => Ok(Status::More),
                };
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
        Ok(self.answer(ended?, counts, &lease.state))
    }

    async fn acquire(&self) -> Result<Option<Lease>, Error> {
        let keep = match &self.source.kind {
            Kind::Window(_) | Kind::Snapshot(_) => KEEP_WINDOW_MARKS,
            Kind::Stream(stream) => stream.keeps + TimeDelta::days(2),
        };
        let key = Key::new(self.tenant, self.source.name, self.backfill, keep);
        let left = self.deadline.saturating_duration_since(Instant::now());
        let until = self.now() + left + LEASE_MARGIN;
        self.store.acquire(key, &uuid::Uuid::new_v4().to_string(), self.now(), until).await
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
        let progress = counts.events > 0 || pending.has_events();
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

    fn answer(&self, status: Status, counts: Counts, state: &State) -> Answer {
        let collected_to = match &self.source.kind {
            Kind::Window(_) => state.windows.closed_to,
            Kind::Stream(_) => StreamReader::caught_up(&state.streams),
            Kind::Snapshot(_) => None,
        };
        Answer {
            source: self.source.name,
            tenant: self.tenant.to_owned(),
            status,
            events: counts.events,
            duplicates: counts.duplicates,
            rejected: counts.rejected,
            requests: self.mimecast.requests(),
            batches: counts.batches,
            lag_seconds: collected_to.map(|instant| (self.now() - instant).num_seconds().max(0)),
            unknown_types: counts.unknown_types,
            checkpoint: serde_json::to_value(state).unwrap_or_default(),
            gap: counts.gap,
            repeat: counts.repeat,
        }
    }

    fn busy(&self) -> Answer {
        let answer = self.answer(Status::Busy, Counts::default(), &State::default());
        Answer { lag_seconds: None, ..answer }
    }

    fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }
}
