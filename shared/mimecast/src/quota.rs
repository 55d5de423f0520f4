//! The quota that `X-RateLimit-Remaining` and `-Reset` state: nothing is sent that they do not allow.
//!
//! Answers come late and in any order, so the count goes down at each send; an answer may lower it and never raise it before the
//! reset. The token's own requests and the downloads of links have other quotas and are not counted here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use tokio::sync::Notify;
use tokio::time::{Duration, Instant, sleep_until, timeout_at};

use crate::retry::quota_reset;

/// The quotas of an account, by endpoint: API 2.0 has one for each function, and what one has used up must not hold back others.
#[derive(Debug, Default)]
pub(crate) struct Quotas(Mutex<HashMap<String, Arc<Quota>>>);

impl Quotas {
    /// That of an endpoint.
    pub fn of(&self, path: &str) -> Arc<Quota> {
        let mut quotas = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        quotas.entry(path.to_owned()).or_default().clone()
    }
}

/// One endpoint's quota.
#[derive(Debug, Default)]
pub(crate) struct Quota {
    state: Mutex<State>,
    /// An answer has come, or none will.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Requests without an answer so far.
    under_way: u64,
    /// `None`: no limit has been stated.
    window: Option<Window>,
}

#[derive(Debug)]
struct Window {
    left: u64,
    ends: Instant,
}

/// What a request has to wait for.
enum Wait {
    Until(Instant),
    Answer,
}

/// One request that may be sent: under way until this is dropped.
#[derive(Debug)]
pub(crate) struct Permit<'a>(&'a Quota);

impl Quota {
    /// Waits until one more request is allowed.
    ///
    /// # Errors
    /// How long it would have to wait, where that passes `until`.
    pub async fn take(&self, until: Instant) -> Result<Permit<'_>, Duration> {
        loop {
            // Before the look at the state, so that no change in between is missed.
            let changed = self.changed.notified();
            let wait = self.state().admit(Instant::now());
            match wait {
                None => return Ok(Permit(self)),
                Some(Wait::Until(ends)) if ends >= until => return Err(ends - Instant::now()),
                Some(Wait::Until(ends)) => {
                    tracing::warn!("nothing is left of mimecast's quota, waiting for its reset");
                    sleep_until(ends).await;
                }
                Some(Wait::Answer) => timeout_at(until, changed).await.map_err(|_| Duration::ZERO)?,
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Counts a request that may be sent now.
    fn admit(&mut self, now: Instant) -> Option<Wait> {
        match &mut self.window {
            None => {}
            Some(window) if now < window.ends && window.left == 0 => return Some(Wait::Until(window.ends)),
            Some(window) if now < window.ends => window.left -= 1,
            // What the new window holds only its first answer will say.
            Some(_) if self.under_way > 0 => return Some(Wait::Answer),
            Some(_) => {}
        }
        self.under_way += 1;
        None
    }
}

impl Permit<'_> {
    /// Takes in what the answer states.
    pub fn answered(&self, status: StatusCode, headers: &HeaderMap, server: DateTime<Utc>) {
        let now = Instant::now();
        let stated = remaining(headers).zip(quota_reset(headers, server)).map(|(left, reset)| (left, now + reset));
        let mut state = self.0.state();
        // Of the others under way nobody knows whether this answer has counted them.
        let others = state.under_way.saturating_sub(1);
        match (stated, &mut state.window) {
            (Some((left, ends)), Some(window)) if now < window.ends => {
                if left < window.left {
                    *window = Window { left, ends: window.ends.max(ends) };
                }
            }
            (Some((left, ends)), window) => *window = Some(Window { left: left.saturating_sub(others), ends }),
            // A refusal without headers may be a gateway's; a success without them has no limit.
            (None, Some(window)) if now >= window.ends && status.is_success() => state.window = None,
            (None, _) => {}
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.under_way = state.under_way.saturating_sub(1);
        drop(state);
        self.0.changed.notify_waiters();
    }
}

fn remaining(headers: &HeaderMap) -> Option<u64> {
    let header = headers.get("x-ratelimit-remaining").or_else(|| headers.get("x-rate-limit-remaining"))?;
    header.to_str().ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(permit: Permit<'_>, status: u16, headers: &[(&'static str, &str)]) {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        permit.answered(StatusCode::from_u16(status).unwrap(), &headers, DateTime::UNIX_EPOCH);
    }

    fn states(permit: Permit<'_>, left: u64, reset_ms: u64) {
        let (left, reset) = (left.to_string(), reset_ms.to_string());
        answer(permit, 200, &[("x-ratelimit-remaining", &left), ("x-ratelimit-reset", &reset)]);
    }

    async fn is_free(quota: &Quota) -> bool {
        timeout_at(Instant::now(), quota.take(Instant::now() + Duration::from_secs(3600))).await.is_ok()
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_left_is_sent_and_the_next_request_waits_for_the_reset() {
        let quota = Quota::default();
        states(quota.take(soon()).await.unwrap(), 2, 5000);
        let began = Instant::now();
        for _ in 0..2 {
            drop(quota.take(soon()).await.unwrap());
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
        drop(quota.take(soon()).await.unwrap());
        assert_eq!(began.elapsed(), Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_past_the_deadline_is_told_at_once() {
        let quota = Quota::default();
        states(quota.take(soon()).await.unwrap(), 0, 90_000);
        let began = Instant::now();
        assert_eq!(quota.take(soon()).await.unwrap_err(), Duration::from_secs(90));
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_comes_late_raises_nothing() {
        let quota = Quota::default();
        states(quota.take(soon()).await.unwrap(), 3, 5000);
        let (first, second) = (quota.take(soon()).await.unwrap(), quota.take(soon()).await.unwrap());
        states(second, 1, 5000);
        states(first, 2, 5000);
        drop(quota.take(soon()).await.unwrap());
        assert!(!is_free(&quota).await);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_lowers_what_somebody_else_has_used() {
        let quota = Quota::default();
        states(quota.take(soon()).await.unwrap(), 100, 5000);
        states(quota.take(soon()).await.unwrap(), 0, 5000);
        assert!(!is_free(&quota).await);
    }

    #[tokio::test(start_paused = true)]
    async fn the_requests_under_way_at_the_first_answer_are_taken_off() {
        let quota = Quota::default();
        let mut permits = Vec::new();
        for _ in 0..4 {
            permits.push(quota.take(soon()).await.unwrap());
        }
        states(permits.remove(0), 4, 5000);
        drop(quota.take(soon()).await.unwrap());
        assert!(!is_free(&quota).await);
    }

    #[tokio::test(start_paused = true)]
    async fn after_the_reset_one_request_goes_out_until_it_is_answered() {
        let quota = Quota::default();
        states(quota.take(soon()).await.unwrap(), 0, 1000);
        let first = quota.take(soon()).await.unwrap();
        assert!(!is_free(&quota).await);
        states(first, 1, 1000);
        assert!(is_free(&quota).await);
        assert!(!is_free(&quota).await);
        // A request that fails on the way lets the next one go.
        drop(quota.take(soon()).await.unwrap());
        assert!(is_free(&quota).await);
    }

    #[tokio::test(start_paused = true)]
    async fn headers_that_are_missing_or_odd_state_no_limit() {
        let quota = Quota::default();
        for headers in [
            &[][..],
            &[("x-ratelimit-remaining", "0")],
            &[("x-ratelimit-reset", "1000")],
            &[("x-ratelimit-remaining", "none"), ("x-ratelimit-reset", "1000")],
            &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "soon")],
        ] {
            answer(quota.take(soon()).await.unwrap(), 200, headers);
            assert!(is_free(&quota).await, "{headers:?}");
        }
        states(quota.take(soon()).await.unwrap(), 0, 1000);
        let after = quota.take(soon()).await.unwrap();
        answer(after, 200, &[]);
        let _under_way = quota.take(soon()).await.unwrap();
        assert!(is_free(&quota).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_counts_is_never_asked_for_more_by_many_side_by_side() {
        const LIMIT: u64 = 5;
        let quota = Arc::new(Quota::default());
        let served = Arc::new(Mutex::new((Instant::now(), LIMIT)));
        states(quota.take(soon()).await.unwrap(), LIMIT, 1000);
        let ask = |number: u64| {
            let (quota, served) = (quota.clone(), served.clone());
            tokio::spawn(async move {
                let permit = quota.take(Instant::now() + Duration::from_secs(3600)).await.unwrap();
                tokio::time::sleep(Duration::from_millis(number * 7 % 40)).await;
                let (left, reset) = {
                    let mut served = served.lock().unwrap();
                    if served.0.elapsed() >= Duration::from_secs(1) {
                        *served = (Instant::now(), LIMIT);
                    }
                    served.1 = served.1.checked_sub(1).expect("a request above the quota");
                    (served.1, Duration::from_secs(1).saturating_sub(served.0.elapsed()))
                };
                tokio::time::sleep(Duration::from_millis(number * 13 % 40)).await;
                states(permit, left, u64::try_from(reset.as_millis()).unwrap());
            })
        };
        let asked: Vec<_> = (0..40).map(ask).collect();
        for one in asked {
            one.await.unwrap();
        }
    }
}
