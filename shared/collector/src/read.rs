//! Reading: one plain loop for each of the three kinds of sources, which pushes what it reads into the outbox.
//!
//! `window`, `stream` (with `file`) and `snapshot` are the loops; `task` is what they are given, `portion` what they push. `probe` asks only whether a source
//! may be read.

mod ahead;
pub(crate) mod events;
pub(crate) mod file;
pub(crate) mod portion;
pub(crate) mod probe;
pub(crate) mod snapshot;
pub(crate) mod stream;
pub(crate) mod task;
pub(crate) mod time;
pub(crate) mod window;

use crate::error::Error;
use crate::outbox::Outbox;
use crate::source::Kind;
use crate::state::State;
use task::Task;

/// Reads all that the source has now, from where `state` says that it stands.
///
/// # Errors
/// Where it could not get to the end. What was pushed before is for the outbox to deliver.
pub(crate) async fn read(task: &Task<'_>, state: &State, outbox: &Outbox) -> Result<(), Error> {
    match &task.source.kind {
        Kind::Window(spec) => window::read(task, spec, state, outbox).await,
        Kind::Stream(spec) => stream::read(task, spec, state, outbox).await,
        Kind::Snapshot(spec) => snapshot::read(task, spec, state, outbox).await,
    }
}
