//! Wall time. One place, so that a test or a simulation can put virtual time in.

use chrono::{DateTime, Utc};
use tokio::time::Instant;

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
