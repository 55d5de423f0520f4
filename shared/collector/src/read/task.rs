//! What a reader is given for one run.

use std::sync::Arc;

use mimecast::Client;
use tokio::time::Instant;

use crate::error::Error;
use crate::process::invocation::Backfill;
use crate::seen::Seen;
use crate::settings::Settings;
use crate::source::Source;
use crate::store::{Key, Store};

/// What every reader is given for one run.
#[derive(Clone, Copy)]
pub(crate) struct Task<'a> {
    pub source: &'a Source,
    pub settings: &'a Settings,
    pub client: &'a Client,
    /// No request starts or lasts past this.
    pub until: Instant,
    /// The range to collect, where it is not the live run.
    pub backfill: Option<&'a Backfill>,
    /// Where the marks of what has been delivered are.
    pub store: &'a Store,
    pub key: &'a Key,
}

impl Task<'_> {
    /// Where the events of one of the source's tables go.
    pub fn table(&self, table: &str) -> Arc<str> {
        self.settings.table(self.source, table).into()
    }

    /// The marks of what has been delivered, from `stamp` on. Asked for only where there is something to compare: a run that
    /// finds nothing pays for no query.
    pub async fn seen(&self, stamp: &str) -> Result<Seen, Error> {
        self.store.seen(self.key, stamp, |_| true).await
    }
}
