//! The run: one source of one tenant, from the lease to the answer, in one straight line.

use chrono::TimeDelta;
use devo::Sink;
use mimecast::{Client, Clock, Error as Upstream};
use tokio::time::error::Elapsed;
use tokio::time::{Duration, Instant, timeout_at};

use crate::deliver::{Counts, Delivery};
use crate::error::Error;
use crate::outbox::{self, Batch, Rest};
use crate::process::answer::{Answer, Status};
use crate::process::invocation::Backfill;
use crate::read::read;
use crate::read::task::Task;
use crate::settings::{Settings, variable};
use crate::source::{Kind, Source};
use crate::state::State;
use crate::store::{Key, Lease, OWNER_SEPARATOR, Store};

/// The lease outlives its holder's deadline by this: what was on its way at the deadline is over by then.
pub(crate) const LEASE_MARGIN: TimeDelta = TimeDelta::seconds(20);
/// How long marks of a time window are kept: longer than a source may reasonably stand still.
const KEEP_WINDOW_MARKS: TimeDelta = TimeDelta::days(90);
/// What a reader is given beyond its requests' end, so that a request's own error, which says more, comes first.
const GRACE: Duration = Duration::from_millis(200);

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
    /// Reads, while what has been read is sent and committed, until caught up or near the deadline. Adds to `counts`.
    pub async fn run(&self, counts: &mut Counts) -> Result<Answer, Error> {
        let key = Key::new(self.tenant, self.source.name, self.backfill, keep(self.source));
        let Some(mut lease) = self.acquire(&key).await? else { return Ok(self.busy()) };
        let (read_until, send_until) = self.limits();
        let task = self.task(&key, read_until);
        let state = lease.state.clone();
        let (outbox, inbox) = outbox::open(state.clone());
        for warning in self.sink.warnings() {
            outbox.warn(warning).await;
        }
        let mut delivery = Delivery::new(self.sink, &self.mimecast, &mut lease, send_until, counts);

        let mut delivering = Box::pin(delivery.deliver_all(inbox));
        let ended = tokio::select! {
            biased;
            // As long as the outbox is open it ends by an error only.
            delivered = &mut delivering => delivered.map(|()| Ok(Ok(())))?,
            ended = timeout_at(read_until + GRACE, read(&task, &state, &outbox)) => ended,
        };
        let rest = outbox.close();
        delivering.await?;

        let Rest { batch, progress, stuck, warnings } = rest;
        // What would not arrive in time is read again.
        let in_time = Instant::now() + delivery.took <= send_until;
        delivery.counts.warnings = warnings;
        let status = status(ended, progress || delivery.counts.batches > 0, stuck, read_until);
        match &status {
            Ok(_) => delivery.lease.ledger.succeeded = Some(self.mimecast.now()),
            Err(error) => delivery.failed(error),
        }
        delivery.deliver(if in_time { batch } else { Batch::default() }, true).await?;
        let status = status?;
        Ok(self.answer(if in_time { status } else { Status::More }, counts, &lease.state))
    }

    async fn acquire(&self, key: &Key) -> Result<Option<Lease>, Error> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let now = self.clock.now();
        self.store.acquire(key.clone(), &owner(), now, now + left + LEASE_MARGIN).await
    }

    fn task<'a>(&'a self, key: &'a Key, until: Instant) -> Task<'a> {
        let Self { source, settings, backfill, store, mimecast, .. } = self;
        Task { source, settings, client: mimecast, until, backfill: *backfill, store, key }
    }

    /// Until when requests to Mimecast may last, and until when sends to Devo: the rest is for what comes after.
    fn limits(&self) -> (Instant, Instant) {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let reserve = (left / 4).clamp(Duration::from_secs(1), Duration::from_secs(15)).min(left);
        (self.deadline - reserve, self.deadline - reserve / 3)
    }

    fn answer(&self, status: Status, counts: &Counts, state: &State) -> Answer {
        let now = self.mimecast.now();
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
            lag_seconds: collected_to.map(|instant| (now - instant).num_seconds().max(0)),
            unknown_types: counts.unknown_types.clone(),
            checkpoint: serde_json::to_value(state).unwrap_or_default(),
            gap: counts.gap,
            repeat: counts.repeat,
            silent_since: state.gave().filter(|_| counts.events == 0),
            warnings: counts.warnings.clone(),
        }
    }

    fn busy(&self) -> Answer {
        let answer = self.answer(Status::Busy, &Counts::default(), &State::default());
        Answer { lag_seconds: None, ..answer }
    }
}

/// This invocation's own name, and before it, for people, where it runs: a function's log stream, or a process of this host.
pub(crate) fn owner() -> String {
    let place = variable("AWS_LAMBDA_LOG_STREAM_NAME").unwrap_or_else(|| format!("process {}", std::process::id()));
    format!("{place}{OWNER_SEPARATOR}{}", uuid::Uuid::new_v4())
}

/// How the reading has ended. A wait or a request that the deadline cut short is no failure where something has been got
/// done; `stuck`: but where the search for a readable answer was cut short, that is what went wrong.
fn status(
    ended: Result<Result<(), Error>, Elapsed>,
    progress: bool,
    stuck: Option<String>,
    read_until: Instant,
) -> Result<Status, Error> {
    if let Some(reason) = stuck {
        return Err(Upstream::Protocol(reason).into());
    }
    match ended {
        Ok(Ok(())) => Ok(Status::CaughtUp),
        Ok(Err(Error::Mimecast(Upstream::RateLimited { .. }))) | Err(_) if progress => Ok(Status::More),
        Ok(Err(Error::Mimecast(Upstream::Unavailable(_))))
            if progress && Instant::now() + Duration::from_millis(100) >= read_until =>
        {
            Ok(Status::More)
        }
        Ok(Err(error)) => Err(error),
        Err(_) => Err(Upstream::Unavailable("the time was over before anything had been read".to_owned()).into()),
    }
}

/// How long marks of a source are kept.
pub(crate) fn keep(source: &Source) -> TimeDelta {
    match &source.kind {
        Kind::Window(_) | Kind::Snapshot(_) => KEEP_WINDOW_MARKS,
        Kind::Stream(stream) => stream.keeps + TimeDelta::days(2),
    }
}
