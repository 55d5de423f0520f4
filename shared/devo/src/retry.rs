//! Tries again while Devo is unreachable or busy: exponential backoff with full jitter, bounded in number and time.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::Error;

/// How often and how fast.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    pub tries: u32,
    /// The longest pause after the first try; it doubles from try to try.
    pub base: Duration,
}

/// So many lines refused each on its own, and none beside them accepted: all are refused, or nobody can tell.
pub(crate) const ALONE: usize = 8;
/// After so many refusals in the search for lines that are to blame, the rest is left to the next run.
pub(crate) const REFUSALS: usize = 60;

const CAP: Duration = Duration::from_secs(20);
/// The longest time one try may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Why one try failed.
pub(crate) enum Setback {
    /// No further try would help.
    Lasting(Error),
    /// The next try may succeed, not before `wait` when the server asked for it.
    Passing { text: String, wait: Option<Duration> },
}

impl Setback {
    /// For who does not try again.
    pub fn into_error(self) -> Error {
        match self {
            Self::Lasting(error) => error,
            Self::Passing { text, .. } => Error::Unavailable(text),
        }
    }
}

/// Calls `attempt` with the time it may take until it succeeds, fails for good, or no further try can start before `until`.
/// Adds the tries that failed to `refusals`.
pub(crate) async fn retry<T, F>(
    Pace { tries, base }: Pace,
    until: Instant,
    refusals: &mut u64,
    mut attempt: impl FnMut(Duration) -> F,
) -> Result<T, Error>
where
    F: Future<Output = Result<T, Setback>>,
{
    let mut last = "the deadline came before the first try".to_owned();
    for number in 0..tries {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        let setback = match attempt(left.min(TIMEOUT)).await {
            Ok(done) => return Ok(done),
            Err(setback) => setback,
        };
        *refusals += 1;
        let (text, wait) = match setback {
            Setback::Lasting(error) => return Err(error),
            Setback::Passing { text, wait } => (text, wait),
        };
        last = format!("{text} (try {} of {tries})", number + 1);
        let pause = pause(base, number).max(wait.unwrap_or_default());
        if number + 1 == tries || pause >= until.saturating_duration_since(Instant::now()) {
            break;
        }
        tracing::warn!(fault = text, pause = ?pause, "devo: trying again");
        sleep(pause).await;
    }
    Err(Error::Unavailable(last))
}

/// Anything between nothing and the full backoff, so that many senders do not come back together.
fn pause(base: Duration, number: u32) -> Duration {
    CAP.min(base * 2_u32.pow(number)).mul_f64(fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Duration = Duration::from_millis(500);
    const PACE: Pace = Pace { tries: 6, base: BASE };

    /// Retries a setback that never passes; the instants of the tries and what was given up with.
    async fn tries(until: Instant, takes: Duration, wait: Option<Duration>) -> (Vec<Instant>, String) {
        let (mut started, mut refusals) = (Vec::new(), 0);
        let result = retry(PACE, until, &mut refusals, |_| {
            started.push(Instant::now());
            async move {
                sleep(takes).await;
                Err::<(), _>(Setback::Passing { text: "busy".to_owned(), wait })
            }
        });
        let Err(Error::Unavailable(text)) = result.await else { panic!("not unavailable") };
        assert_eq!(refusals, started.len() as u64);
        (started, text)
    }

    #[tokio::test(start_paused = true)]
    async fn six_tries_with_growing_pauses() {
        let (started, text) = tries(Instant::now() + Duration::from_secs(900), Duration::ZERO, None).await;
        assert_eq!(text, "busy (try 6 of 6)");
        assert_eq!(started.len(), 6);
        for (number, pair) in started.windows(2).enumerate() {
            // A millisecond more: the timer's grain.
            assert!(pair[1] - pair[0] <= BASE * 2_u32.pow(number as u32) + Duration::from_millis(1));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_that_the_server_asks_for() {
        let wait = Duration::from_secs(30);
        let (started, _) = tries(Instant::now() + Duration::from_secs(900), Duration::ZERO, Some(wait)).await;
        assert_eq!(started.len(), 6);
        assert!(started.windows(2).all(|pair| pair[1] - pair[0] >= wait));
        for wait in [wait, Duration::MAX] {
            let start = Instant::now();
            let (started, text) = tries(start + Duration::from_secs(30), Duration::ZERO, Some(wait)).await;
            assert_eq!(text, "busy (try 1 of 6)");
            assert_eq!(started, [start], "no try can start in time, so none is waited for");
            assert_eq!(Instant::now(), start);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_try_starts_at_or_after_the_deadline() {
        for seconds in 0..40 {
            let until = Instant::now() + Duration::from_secs(seconds);
            let (started, _) = tries(until, Duration::from_secs(5), None).await;
            assert!(started.iter().all(|instant| *instant < until));
            assert_eq!(started.is_empty(), seconds == 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_try_may_take_a_minute_or_what_is_left() {
        let mut allowed = Vec::new();
        let mut refusals = 0;
        let done = retry(PACE, Instant::now() + Duration::from_secs(70), &mut refusals, |time| {
            allowed.push(time);
            let number = allowed.len();
            async move {
                sleep(time).await;
                if number == 1 {
                    return Err(Setback::Passing { text: "slow".to_owned(), wait: Some(Duration::from_secs(4)) });
                }
                Ok(number)
            }
        });
        assert_eq!(done.await.unwrap(), 2);
        assert_eq!(refusals, 1);
        assert_eq!(allowed[0], TIMEOUT);
        assert!(allowed[1] <= Duration::from_secs(6));
    }

    #[tokio::test(start_paused = true)]
    async fn a_lasting_setback_ends_it() {
        let (mut count, mut refusals) = (0, 0);
        let result = retry(PACE, Instant::now() + Duration::from_secs(70), &mut refusals, |_| {
            count += 1;
            async { Err::<(), _>(Setback::Lasting(Error::Rejected("no".to_owned()))) }
        });
        assert!(matches!(result.await, Err(Error::Rejected(text)) if text == "no"));
        assert_eq!((count, refusals), (1, 1));
    }

    #[test]
    fn pauses_are_capped() {
        assert!((0..1000).all(|_| pause(BASE, 0) <= BASE && pause(BASE, 9) <= CAP));
        assert!((0..1000).any(|_| pause(BASE, 9) > CAP / 2));
    }
}
