//! Reads a source step by step, whatever its kind.

use std::sync::Arc;

use mimecast::{Client, Error};
use tokio::time::Instant;

use crate::Settings;
use crate::invocation::Backfill;
use crate::portion::Portion;
use crate::seen::Seen;
use crate::snapshot::SnapshotReader;
use crate::source::{Kind, Source};
use crate::state::{State, stamp};
use crate::stream::StreamReader;
use crate::window::WindowReader;

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
}

impl Task<'_> {
    /// The table with the front that `DEVO_TAG` asks for.
    pub fn table(&self, table: &str) -> Arc<str> {
        const FRONT: &str = "mail.mimecast";
        match table.strip_prefix(FRONT) {
            Some(rest) => format!("{}{rest}", self.settings.devo_tag).into(),
            None => table.into(),
        }
    }
}

/// One of the three kinds.
pub(crate) enum Reader<'a> {
    Window(WindowReader<'a>),
    Stream(Box<StreamReader<'a>>),
    Snapshot(SnapshotReader<'a>),
}

impl<'a> Reader<'a> {
    pub fn new(task: Task<'a>, state: State) -> Self {
        match &task.source.kind {
            Kind::Window(spec) => Self::Window(WindowReader::new(task, spec, state)),
            Kind::Stream(spec) => Self::Stream(Box::new(StreamReader::new(task, spec, state))),
            Kind::Snapshot(spec) => Self::Snapshot(SnapshotReader::new(task, spec, state)),
        }
    }

    /// What the very first run has to keep before anything else.
    pub fn begin(&mut self) -> Option<State> {
        match self {
            Self::Window(reader) => reader.begin(),
            Self::Stream(_) | Self::Snapshot(_) => None,
        }
    }

    /// From which stamp on the marks matter for this run; `None` where none do.
    pub fn horizon(&self) -> Option<String> {
        match self {
            Self::Window(reader) => reader.horizon().map(stamp),
            Self::Stream(reader) => Some(stamp(reader.horizon())),
            Self::Snapshot(reader) => reader.horizon().map(stamp),
        }
    }

    /// Why the reading does not get on, if it does not: a run that its deadline ends so has failed.
    pub fn trouble(&self) -> Option<&str> {
        match self {
            Self::Window(reader) => reader.trouble(),
            Self::Stream(_) | Self::Snapshot(_) => None,
        }
    }

    /// The next portion, or `None` when everything there is has been read.
    pub async fn next(&mut self, seen: &mut Seen) -> Result<Option<Portion>, Error> {
        match self {
            Self::Window(reader) => reader.next(seen).await,
            Self::Stream(reader) => reader.next(seen).await,
            Self::Snapshot(reader) => reader.next(seen).await,
        }
    }
}
