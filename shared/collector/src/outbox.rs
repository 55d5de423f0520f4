//! The outbox: what the readers push becomes batches, and each is sent and committed while the readers read on.
//!
//! One batch is on its way at a time: sent, accepted, then one commit that says so. What is sent between two commits stays
//! within one batch, so that is the most a crash can repeat. While it is on its way the next one is gathered, and no more: a
//! reader that is faster than Devo waits. How a batch is sent and committed is told by `deliver`.

use std::sync::Arc;

use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc};

use crate::process::answer::Gap;
use crate::read::events::Events;
use crate::read::portion::{DeadLetter, Portion};
use crate::seen::Mark;
use crate::state::State;

/// Most lines that are sent between two commits.
pub(crate) const BATCH_LINES: usize = 10_000;
/// Most bytes, line ends included, that are sent between two commits.
pub(crate) const BATCH_BYTES: usize = 8_000_000;
/// Most warnings in an answer.
const WARNINGS: usize = 20;

/// What is sent between two commits, and the state that holds once it is accepted.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub events: Events,
    pub rejected: Vec<DeadLetter>,
    pub duplicates: u64,
    pub marks: Vec<Mark>,
    /// The latest of the portions' stamps: read back from a stamp on, marks may be found too often but never be missed.
    pub stamp: String,
    pub gap: Option<Gap>,
    pub repeat: Option<Gap>,
    pub late_seconds: u64,
    /// `None` where nothing has moved.
    pub state: Option<State>,
    bytes: usize,
    moved: bool,
}

impl Batch {
    fn fits(&self, portion: &Portion) -> bool {
        let pieces = self.events.len() + self.rejected.len() + portion.events.len() + portion.rejected.len();
        pieces <= BATCH_LINES && self.bytes + bytes(portion) <= BATCH_BYTES
    }

    fn add(&mut self, portion: Portion) {
        self.bytes += bytes(&portion);
        self.events.append(portion.events);
        self.rejected.extend(portion.rejected);
        self.duplicates += portion.duplicates;
        self.marks.extend(portion.marks);
        self.stamp = std::mem::take(&mut self.stamp).max(portion.stamp);
        self.gap = portion.gap.or(self.gap);
        self.repeat = portion.repeat.or(self.repeat);
        self.late_seconds = portion.late_seconds.max(self.late_seconds);
        self.moved = true;
    }
}

fn bytes(portion: &Portion) -> usize {
    portion.events.bytes() + portion.rejected.iter().map(|letter| letter.raw.len()).sum::<usize>()
}

/// Takes what readers push. Several may push side by side; each portion and its move of the state go together.
pub(crate) struct Outbox(Mutex<Gathering>);

/// Where the batches come out, one at a time.
pub(crate) struct Inbox(mpsc::Receiver<OnItsWay>);

/// A batch, and the permit that keeps the next one back until this one is committed.
pub(crate) type OnItsWay = (Batch, OwnedSemaphorePermit);

struct Gathering {
    batch: Batch,
    state: State,
    way: Arc<Semaphore>,
    batches: mpsc::Sender<OnItsWay>,
    rest: Rest,
}

/// What is left in an outbox when its readers have ended.
#[derive(Default)]
pub(crate) struct Rest {
    /// The last batch, still to be sent.
    pub batch: Batch,
    /// Anything has been taken at all, be it only that there is nothing.
    pub progress: bool,
    /// Why a reader does not get on, where the run's end cut short its search for a way.
    pub stuck: Option<String>,
    /// What the user has to know.
    pub warnings: Vec<String>,
}

/// An outbox for a source that stands at `state`.
pub(crate) fn open(state: State) -> (Outbox, Inbox) {
    let (batches, inbox) = mpsc::channel(1);
    let way = Arc::new(Semaphore::new(1));
    let gathering = Gathering { batch: Batch::default(), state, way, batches, rest: Rest::default() };
    (Outbox(Mutex::new(gathering)), Inbox(inbox))
}

impl Outbox {
    /// Takes a portion and moves the state to where it stands once the portion is delivered. Waits while a full batch cannot be
    /// handed on, because the one before it is not committed yet.
    pub async fn take(&self, portion: Portion, advance: impl FnOnce(&mut State)) {
        let mut gathering = self.0.lock().await;
        gathering.rest.progress = true;
        gathering.add(portion, advance).await;
    }

    /// Moves the state by what is no progress of its own, so that a run that gets no further than this has failed.
    pub async fn note(&self, advance: impl FnOnce(&mut State)) {
        self.0.lock().await.add(Portion::default(), advance).await;
    }

    /// Hands on what has been gathered, full or not: for what has to be kept whatever comes of the run.
    pub async fn flush(&self) {
        self.0.lock().await.hand_on().await;
    }

    /// Says why the reader does not get on, or with `None` that it does again.
    pub async fn stuck(&self, reason: Option<String>) {
        self.0.lock().await.rest.stuck = reason;
    }

    /// Tells the user in the log and in the answer.
    pub async fn warn(&self, text: String) {
        tracing::warn!("{text}");
        let warnings = &mut self.0.lock().await.rest.warnings;
        if warnings.len() < WARNINGS && !warnings.contains(&text) {
            warnings.push(text);
        }
    }

    /// Ends it: no batch comes out any more but the one returned.
    pub fn close(self) -> Rest {
        let mut gathering = self.0.into_inner();
        let batch = gathering.batch();
        Rest { batch, ..gathering.rest }
    }
}

impl Gathering {
    async fn add(&mut self, portion: Portion, advance: impl FnOnce(&mut State)) {
        if self.batch.moved && !self.batch.fits(&portion) {
            self.hand_on().await;
        }
        advance(&mut self.state);
        self.batch.add(portion);
    }

    /// What has been gathered, with the state that holds once it is delivered.
    fn batch(&mut self) -> Batch {
        let batch = std::mem::take(&mut self.batch);
        Batch { state: batch.moved.then(|| self.state.clone()), ..batch }
    }

    async fn hand_on(&mut self) {
        // The permit first: a reader that its deadline ends while it waits here leaves the batch where it is.
        // Neither fails as long as the inbox is there: a failed delivery ends the run, and this reader with it.
        if let Ok(permit) = self.way.clone().acquire_owned().await {
            let batch = self.batch();
            self.batches.try_send((batch, permit)).ok();
        }
    }
}

impl Inbox {
    /// The next batch; its permit goes when it is committed. `None` once the outbox is closed.
    pub async fn next(&mut self) -> Option<OnItsWay> {
        self.0.recv().await
    }
}
