//! How much is asked of Mimecast, for the metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts what is asked of Mimecast. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Calls(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    requests: AtomicU64,
    rate_limit_waits: AtomicU64,
}

impl Calls {
    /// HTTP requests; tokens, retries, downloads and redirects included.
    pub fn requests(&self) -> u64 {
        self.0.requests.load(Relaxed)
    }

    /// How often Mimecast asked to wait (429), be it that the deadline left no time to.
    pub fn rate_limit_waits(&self) -> u64 {
        self.0.rate_limit_waits.load(Relaxed)
    }

    pub(crate) fn request(&self) {
        self.0.requests.fetch_add(1, Relaxed);
    }

    pub(crate) fn rate_limit_wait(&self) {
        self.0.rate_limit_waits.fetch_add(1, Relaxed);
    }
}
