//! How many calls the account allows, how long an answer takes, and how many are on their way at once.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::answer::Answer;
use super::server::Call;
use super::state::State;
use super::{Mimecast, lock};

/// What is allowed, and what has come.
#[derive(Default)]
pub(super) struct Load {
    quotas: Vec<Quota>,
    over_quota: usize,
    /// Of an answer of the API, and of a file.
    pub latency: Duration,
    pub file_latency: Duration,
    in_flight: usize,
    most_in_flight: usize,
}

struct Quota {
    text: String,
    calls: u64,
    per: Duration,
    since: Instant,
    used: u64,
}

impl Quota {
    fn is_over(&self) -> bool {
        self.since.elapsed() >= self.per
    }

    fn left(&self) -> u64 {
        if self.is_over() { self.calls } else { self.calls - self.used }
    }

    /// How long until calls are given back.
    fn reset(&self) -> Duration {
        self.per.saturating_sub(self.since.elapsed())
    }
}

impl Load {
    /// Counts a call against the quotas it matches, or refuses it.
    pub fn count(&mut self, call: &Call) -> Result<(), Answer> {
        let mut quotas: Vec<&mut Quota> = self.quotas.iter_mut().filter(|quota| call.matches(&quota.text)).collect();
        for quota in quotas.iter_mut().filter(|quota| quota.is_over()) {
            quota.since = Instant::now();
            quota.used = 0;
        }
        if quotas.iter().any(|quota| quota.left() == 0) {
            self.over_quota += 1;
            return Err(Answer::fail(429, "err_rate_limit_exceeded", "Quota exceeded"));
        }
        quotas.iter_mut().for_each(|quota| quota.used += 1);
        Ok(())
    }

    /// The headers that tell a client where it stands: by the tightest of the quotas that the call matches.
    pub fn headers(&self, call: &Call) -> [(&'static str, String); 3] {
        let tightest = self.quotas.iter().filter(|quota| call.matches(&quota.text)).min_by_key(|quota| quota.left());
        let (limit, remaining, reset) = match tightest {
            Some(quota) => (quota.calls, quota.left(), quota.reset().as_millis()),
            None => (800, 799, 5000),
        };
        [
            ("x-ratelimit-limit", limit.to_string()),
            ("x-ratelimit-remaining", remaining.to_string()),
            ("x-ratelimit-reset", reset.to_string()),
        ]
    }
}

/// A request on its way, until it is dropped.
pub(super) struct InFlight(Arc<Mutex<State>>);

impl InFlight {
    pub fn begin(state: &Arc<Mutex<State>>) -> Self {
        let load = &mut lock(state).load;
        load.in_flight += 1;
        load.most_in_flight = load.most_in_flight.max(load.in_flight);
        Self(state.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        lock(&self.0).load.in_flight -= 1;
    }
}

impl Mimecast {
    /// Allows `calls` per `per` to the requests that match `text` (as in `Fault`); 429 beyond.
    pub fn set_quota(&self, text: &str, calls: u64, per: Duration) {
        let quotas = &mut self.state().load.quotas;
        quotas.retain(|quota| quota.text != text);
        quotas.push(Quota { text: text.to_owned(), calls, per, since: Instant::now(), used: 0 });
    }

    /// How many requests came although their quota was used up.
    pub fn over_quota(&self) -> usize {
        self.state().load.over_quota
    }

    /// How long each answer of the API takes from now on, files aside. Not for `exchange`.
    pub fn set_latency(&self, latency: Duration) {
        self.state().load.latency = latency;
    }

    /// As `set_latency`, for the files behind signed links.
    pub fn set_file_latency(&self, latency: Duration) {
        self.state().load.file_latency = latency;
    }

    /// The largest number of requests that were on their way at once so far. Not counted by `exchange`.
    pub fn most_in_flight(&self) -> usize {
        self.state().load.most_in_flight
    }
}
