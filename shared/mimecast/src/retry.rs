//! How long to wait before a request is tried again.
//!
//! `X-RateLimit-Reset` is milliseconds until a call is given back
//! (<https://integrations.mimecast.com/documentation/api-overview/rate-limiting/>); some clients meet an epoch there.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::HeaderMap;
use tokio::time::Instant;

use crate::Error;

/// Tries of one request, the first included.
const TRIES: u32 = 5;
/// Tries where an answer is broken.
const TRIES_UNREADABLE: u32 = 3;
/// Longest backoff between two tries.
const LONGEST: Duration = Duration::from_secs(20);
/// Longest wait that a quota may ask for.
const LONGEST_QUOTA: Duration = Duration::from_secs(15 * 60);

/// The tries of one request: counts them, waits between them, and stops before the deadline.
pub(crate) struct Tries {
    made: u32,
    /// Those whose answer was broken.
    unreadable: u32,
    until: Instant,
}

impl Tries {
    pub fn new(until: Instant) -> Self {
        Self { made: 0, unreadable: 0, until }
    }

    /// Sleeps before the next try of a request that failed with `error`.
    ///
    /// # Errors
    /// `error` itself, when no try is left or the wait would pass the deadline.
    pub async fn wait(&mut self, error: Error) -> Result<(), Error> {
        self.made += 1;
        self.unreadable += u32::from(matches!(error, Error::Unreadable { .. }));
        let wait = match &error {
            // A quota that says "now" again and again is not to be hammered.
            Error::RateLimited { wait, .. } => (*wait).max(backoff(self.made)),
            _ if self.made >= TRIES => return Err(error),
            // What is broken rather stays so, and the reader has other ways to go on.
            Error::Unreadable { .. } if self.unreadable >= TRIES_UNREADABLE => return Err(error),
            _ => backoff(self.made),
        };
        if Instant::now() + wait >= self.until {
            return Err(error);
        }
        tracing::warn!(error = %error, wait_ms = wait.as_millis(), "trying again");
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

/// Exponential backoff with jitter: between half and all of 0.5 s, 1 s, 2 s, 4 s ...
fn backoff(made: u32) -> Duration {
    let full = Duration::from_millis(250 << made.min(10)).min(LONGEST);
    full.mul_f64(0.5 + fastrand::f64() / 2.0)
}

/// What a 429 asks for: `X-RateLimit-Reset`, or `Retry-After` in seconds or as a date, or a minute.
pub(crate) fn quota_wait(headers: &HeaderMap, now: DateTime<Utc>) -> Duration {
    let retry_after = || {
        let text = headers.get("retry-after")?.to_str().ok()?.trim();
        let at = || DateTime::parse_from_rfc2822(text).ok();
        let seconds = text.parse().ok().map(Duration::from_secs);
        seconds.or_else(|| Some((at()?.to_utc() - now).to_std().unwrap_or_default()))
    };
    quota_reset(headers, now).unwrap_or_else(|| bounded(retry_after().unwrap_or(Duration::from_secs(60))))
}

/// How long until `X-RateLimit-Reset`: milliseconds.
pub(crate) fn quota_reset(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
    let reset = number("x-ratelimit-reset").or_else(|| number("x-rate-limit-reset"))?;
    Some(bounded(match reset {
        // Above 10^9 no quota's milliseconds make sense: an epoch, in milliseconds or in seconds.
        1_000_000_000_001.. => Duration::from_millis(reset.saturating_sub(millis(now))),
        1_000_000_001.. => Duration::from_secs(reset.saturating_sub(millis(now) / 1000)),
        _ => Duration::from_millis(reset),
    }))
}

fn bounded(wait: Duration) -> Duration {
    wait.clamp(Duration::from_millis(200), LONGEST_QUOTA)
}

fn millis(now: DateTime<Utc>) -> u64 {
    u64::try_from(now.timestamp_millis()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::{HeaderName, HeaderValue};

    fn wait(headers: &[(&'static str, &'static str)]) -> Duration {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        quota_wait(&headers, DateTime::from_timestamp_millis(1_700_000_000_000).unwrap())
    }

    #[test]
    fn a_quota_says_when() {
        let (ms, s) = (Duration::from_millis, Duration::from_secs);
        assert_eq!(wait(&[("x-ratelimit-reset", "4728")]), ms(4728));
        assert_eq!(wait(&[("x-ratelimit-reset", "4728"), ("retry-after", "9")]), ms(4728));
        assert_eq!(wait(&[("x-rate-limit-reset", "3000")]), ms(3000));
        assert_eq!(wait(&[("retry-after", "9")]), s(9));
        assert_eq!(wait(&[("retry-after", "Tue, 14 Nov 2023 22:13:27 GMT")]), s(7));
        assert_eq!(wait(&[("retry-after", "Tue, 14 Nov 2023 22:13:07 GMT")]), ms(200));
        assert_eq!(wait(&[("x-ratelimit-reset", "soon"), ("retry-after", "9")]), s(9));
        assert_eq!(wait(&[("x-ratelimit-reset", "soon")]), s(60));
        assert_eq!(wait(&[]), s(60));
        assert_eq!(wait(&[("x-ratelimit-reset", "0")]), ms(200));
        assert_eq!(wait(&[("x-ratelimit-reset", "99999999")]), s(900));
        assert_eq!(wait(&[("x-ratelimit-reset", "1700000007")]), s(7));
        assert_eq!(wait(&[("x-ratelimit-reset", "1700000007000")]), s(7));
        assert_eq!(wait(&[("x-ratelimit-reset", "1600000000")]), ms(200));
    }

    #[tokio::test(start_paused = true)]
    async fn no_try_starts_after_the_deadline() {
        let limited = |secs| Error::RateLimited { wait: Duration::from_secs(secs), message: String::new() };
        let mut tries = Tries::new(Instant::now() + Duration::from_secs(10));
        tries.wait(limited(4)).await.unwrap();
        assert!(matches!(tries.wait(limited(7)).await, Err(Error::RateLimited { .. })));
        for _ in 0..2 {
            tries.wait(Error::Unavailable("503".into())).await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_quota_that_is_always_free_at_once_is_not_hammered() {
        let mut tries = Tries::new(Instant::now() + Duration::from_secs(900));
        let mut made = 0;
        while tries.wait(Error::RateLimited { wait: Duration::from_millis(200), message: String::new() }).await.is_ok()
        {
            made += 1;
        }
        assert!((45..120).contains(&made), "{made}");
    }

    #[tokio::test(start_paused = true)]
    async fn five_tries_are_made() {
        let mut tries = Tries::new(Instant::now() + Duration::from_secs(3600));
        for _ in 0..4 {
            tries.wait(Error::Unavailable("503".into())).await.unwrap();
        }
        assert!(tries.wait(Error::Unavailable("503".into())).await.is_err());
    }
}
