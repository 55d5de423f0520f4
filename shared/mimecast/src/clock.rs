//! Wall time. One place, so that a test or a simulation can put virtual time in; and the server's, by its `Date` headers.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::header::{DATE, HeaderMap};
use tokio::time::Instant;

use crate::Error;

/// The most that the server's clock may differ from ours and be believed.
const LARGEST_OFFSET_MS: i64 = HOUR_MS * 6;
const HOUR_MS: i64 = 60 * 60 * 1000;

/// Tells the time in UTC.
#[derive(Debug, Clone, Copy)]
pub enum Clock {
    /// The machine's clock.
    System,
    /// A start that moves on with tokio's clock, which a test can pause and advance.
    From(DateTime<Utc>, Instant),
}

impl Clock {
    /// A clock that shows `wall` now and follows tokio's clock from here.
    pub fn starting_at(wall: DateTime<Utc>) -> Self {
        Self::From(wall, Instant::now())
    }

    /// The time now.
    #[allow(clippy::disallowed_methods)] // the one place that may
    pub fn now(&self) -> DateTime<Utc> {
        match self {
            Self::System => Utc::now(),
            Self::From(wall, start) => *wall + start.elapsed(),
        }
    }
}

/// The server's time, as far as its answers have told it; ours before the first.
#[derive(Debug)]
pub(crate) struct ServerClock {
    own: Clock,
    /// Server time minus ours, in milliseconds, as of the last answer.
    offset: AtomicI64,
}

impl ServerClock {
    pub fn new(own: Clock) -> Self {
        Self { own, offset: AtomicI64::new(0) }
    }

    pub fn now(&self) -> DateTime<Utc> {
        self.own.now() + self.offset()
    }

    /// Server time minus ours.
    pub fn offset(&self) -> TimeDelta {
        TimeDelta::milliseconds(self.offset.load(Relaxed))
    }

    /// Learns from the head of an answer of the API.
    ///
    /// # Errors
    /// `Protocol`, where the two clocks differ so much that one of them is wrong: whichever it is, a checkpoint made by it would
    /// skip hours.
    pub fn learn(&self, headers: &HeaderMap) -> Result<(), Error> {
        let date = headers.get(DATE).and_then(|date| date.to_str().ok());
        let Some(server) = date.and_then(|date| DateTime::parse_from_rfc2822(date).ok()) else { return Ok(()) };
        // `Date` has whole seconds: half a second is its mean error.
        let offset = server.timestamp_millis() + 500 - self.own.now().timestamp_millis();
        if offset.abs() > LARGEST_OFFSET_MS {
            let hours = (offset.abs() + HOUR_MS / 2) / HOUR_MS;
            let text = format!("this machine's clock and Mimecast's differ by {hours} hours: set this machine's clock");
            return Err(Error::Protocol(text));
        }
        // Less than two seconds are the way of the answer.
        self.offset.store(if offset.abs() < 2_000 { 0 } else { offset }, Relaxed);
        Ok(())
    }
}
