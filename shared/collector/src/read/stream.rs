//! Reads a stream of files: SIEM of both APIs and the threat feed. The feeds of a source are read side by side.
//!
//! Mimecast hands on a token from answer to answer. It is only a hint: whether it can be sealed to the dates of its first
//! request, run out or lead nowhere is not documented, and a token that leads nowhere looks just like "nothing new". What counts
//! is the listing by date, in `links`; `answers` reads the feeds whose answers are themselves the files. A file is delivered
//! once, whatever link or answer it comes in, and a run may stop in the middle of one.

mod answers;
mod links;

use std::collections::HashSet;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::stream::{FuturesUnordered, StreamExt};
use mimecast::archive::Content;
use mimecast::{Error as Upstream, ReadError};
use tokio::sync::{MappedMutexGuard, Mutex, MutexGuard, Semaphore};

use super::file::{FeedFiles, Opened, Raw};
use super::portion::Portion;
use super::task::Task;
use super::time::stamp;
use crate::error::Error;
use crate::outbox::Outbox;
use crate::process::answer::Gap;
use crate::seen::Seen;
use crate::source::{Ask, Feed, Identity, Stream};
use crate::state::{Position, State};

/// Tries of one file or answer that cannot be had or read, in one run.
const TRIES: u32 = 3;
/// Files downloaded side by side, all feeds together: each takes memory until it is read.
const DOWNLOADS: usize = 4;
/// How long a feed may give nothing before it is asked by date.
const SILENCE: TimeDelta = TimeDelta::hours(1);
/// How far a request by date goes back behind the last file: one may be published late.
const A_DAY: TimeDelta = TimeDelta::days(1);
/// Answers in a row without a file that are followed for the sake of their token.
const EMPTY_ANSWERS: u32 = 3;

/// Reads all feeds to where nothing is new.
pub(super) async fn read(task: &Task<'_>, spec: &Stream, state: &State, outbox: &Outbox) -> Result<(), Error> {
    if state.finished {
        return Ok(());
    }
    let now = task.client.now();
    let mut feeds = (spec.feeds)(task.settings, task.client.is_v2());
    let caught_up = |feed: &Feed| state.streams.get(&feed.name)?.caught_up;
    // Should the time or the quota be short: the one behind most first.
    feeds.sort_by_key(caught_up);
    let oldest = now - spec.keeps;
    let (from, to) = match task.backfill {
        // Said once: after the first answer there is a position.
        Some(range) => (state.streams.is_empty().then_some(range.from), range.to.min(oldest)),
        None => (feeds.iter().filter_map(caught_up).min(), oldest),
    };
    if let Some(from) = from.filter(|from| *from < oldest) {
        tracing::warn!(%from, %to, "gap: mimecast no longer keeps what was published in between");
        outbox.take(Portion { gap: Some(Gap { from, to }), ..Portion::default() }, |_| {}).await;
    }
    if task.backfill.is_none_or(|range| range.to > oldest) {
        all(task, spec, &feeds, state, outbox).await?;
    }
    if task.backfill.is_some_and(|range| range.to <= now) {
        outbox.note(|state| state.finished = true).await;
    }
    Ok(())
}

/// Reads the feeds side by side. One's trouble is not another's: the first error is returned when all have ended, unless it is
/// one that all would meet.
async fn all(task: &Task<'_>, spec: &Stream, feeds: &[Feed], state: &State, outbox: &Outbox) -> Result<(), Error> {
    let shared = Shared { desk: Mutex::new(None), downloads: Arc::new(Semaphore::new(DOWNLOADS)) };
    let read = |feed| {
        let mut reader = Reader::new(task, spec, feed, state, outbox, &shared);
        async move { (feed, reader.read().await) }
    };
    let mut reads: FuturesUnordered<_> = feeds.iter().map(read).collect();
    let mut failed = None;
    while let Some((feed, outcome)) = reads.next().await {
        match outcome {
            Ok(()) => {}
            Err(Error::Mimecast(error))
                if !matches!(error, Upstream::RateLimited { .. } | Upstream::Credentials(_)) =>
            {
                tracing::warn!(feed = feed.name, %error, "feed failed, going on with the others");
                failed.get_or_insert(error.about(&feed.name));
            }
            Err(error) => return Err(error),
        }
    }
    failed.map_or(Ok(()), |error| Err(error.into()))
}

/// What the feeds of a run share.
struct Shared {
    /// Set up when the first file appears.
    desk: Mutex<Option<Desk>>,
    downloads: Arc<Semaphore>,
}

/// What it takes to read a file. There is one, as an inflated file takes memory.
#[derive(Default)]
struct Desk {
    /// The marks of what has been delivered.
    seen: Seen,
    /// The memory of the file before.
    held: Vec<u8>,
}

/// Reads one feed.
struct Reader<'a> {
    files: FeedFiles<'a>,
    outbox: &'a Outbox,
    shared: &'a Shared,
    /// As the outbox has it.
    position: Position,
    /// What was set aside when the run began.
    aside_before: HashSet<String>,
    /// Files that could not be had and were not set aside before, one after the other, and why the first could not.
    misses: u32,
    missed: Option<String>,
    /// How much younger a request by date starts than the oldest file may be.
    start_margin: TimeDelta,
}

impl<'a> Reader<'a> {
    fn new(
        task: &'a Task<'a>,
        spec: &'a Stream,
        feed: &'a Feed,
        state: &State,
        outbox: &'a Outbox,
        shared: &'a Shared,
    ) -> Self {
        let position = state.streams.get(&feed.name).cloned().unwrap_or_default();
        let aside_before = position.aside.keys().cloned().collect();
        Self {
            files: FeedFiles::new(task, spec, feed),
            outbox,
            shared,
            position,
            aside_before,
            misses: 0,
            missed: None,
            start_margin: TimeDelta::zero(),
        }
    }

    async fn read(&mut self) -> Result<(), Error> {
        match &self.files.feed.ask {
            Ask::Links { .. } => self.links().await,
            Ask::File { .. } => self.answers().await,
        }
    }

    /// Whether to ask by date although there is a token, which may be sealed to a day that is over, or dead: when that was never done,
    /// on each new day, while files are set aside, and after `SILENCE` without a file or listing.
    fn is_due_by_date(&self) -> bool {
        let (now, Position { listed, gave, aside, .. }) = (self.now(), &self.position);
        let Some(listed) = *listed else { return true };
        listed.date_naive() != now.date_naive()
            || !aside.is_empty()
            || now - listed.max(gave.unwrap_or(listed)) >= SILENCE
    }

    /// From when on a request by date asks.
    fn first_day(&mut self) -> DateTime<Utc> {
        let (now, task) = (self.now(), self.files.task);
        let oldest = now - self.files.spec.keeps + self.start_margin;
        if let Some(range) = task.backfill {
            return range.from.max(oldest);
        }
        let Position { gave, caught_up, aside, since, .. } = &mut self.position;
        let first = match gave.or(*caught_up) {
            None => *since.get_or_insert(now - task.settings.initial_lookback),
            Some(last) => {
                let last = aside.values().min().map_or(last, |aside| last.min(*aside));
                since.map_or(last - A_DAY, |since| since.max(last - A_DAY))
            }
        };
        first.max(oldest)
    }

    /// Whether a broken file was broken in an earlier run already, so that it is so where it comes from, and a dead letter. In one
    /// run, it may have been cut on its way each time.
    fn stays_broken(&self, path: &str) -> bool {
        self.aside_before.contains(path)
    }

    /// Keeps the token of an answer that had files; `None` leaves the stored one. The token of an empty answer may never lead to
    /// anything, and the stored one still finds what comes next.
    fn adopt(&mut self, next: Option<String>) {
        self.position.token = next.or(self.position.token.take());
    }

    /// The feed has nothing more at present.
    async fn caught_up(&mut self, at: DateTime<Utc>) {
        // Two answers within a second may tell their time differently.
        self.position.caught_up = self.position.caught_up.max(Some(at));
        self.position.places.clear();
        self.position.aside.clear();
        self.take(Portion::default()).await;
    }

    /// Opens a file, where one was found, and with it whether checksums cover it. The inner error is why it is worth another try;
    /// with `last`, the bytes it came in, there is none.
    fn open(
        &self,
        name: &str,
        mark: Option<u128>,
        found: Result<(Content, bool), ReadError>,
        last: Option<Raw>,
        seen: &Seen,
    ) -> Result<Result<Opened, String>, Error> {
        match (found, last) {
            (Ok((mut file, is_checked)), last) => {
                let checks = !is_checked && last.is_none();
                let doubt = if checks { self.files.doubt(name, &mut file).map_err(local)? } else { None };
                match doubt {
                    Some(reason) => Ok(Err(reason.to_owned())),
                    None => self.files.open(name, mark, file, seen).map(Ok).map_err(local),
                }
            }
            (Err(ReadError::Broken(reason)), Some(raw)) => {
                let (raw, reason) = raw.rejected(&reason);
                Ok(Ok(Opened::Unreadable(raw, reason)))
            }
            (Err(ReadError::Broken(reason)), None) => Ok(Err(reason)),
            (Err(error), _) => Err(local(error)),
        }
    }

    /// Delivers a file from where it was left.
    async fn deliver(&mut self, opened: Opened, name: &str, mark: Option<u128>, desk: &mut Desk) -> Result<u64, Error> {
        let by_file = self.files.spec.identity == Identity::File;
        let mut portion = Portion { stamp: stamp(self.now()), ..Portion::default() };
        let (mut pieces, mut done) = (0, mark);
        match opened {
            Opened::Known => return Ok(0),
            Opened::Empty => {}
            Opened::Unreadable(raw, reason) => portion = self.files.letter(name, raw, reason),
            Opened::File(mut file) => {
                let place = format!("{:032x}", file.mark);
                if by_file {
                    let read = self.position.places.get(&place).copied().unwrap_or_default();
                    file.go_on_from(read).map_err(local)?;
                }
                desk.seen.begin();
                while let Some(portion) = self.files.portion(&mut file, &mut desk.seen).map_err(local)? {
                    if by_file {
                        self.position.places.insert(place.clone(), file.place);
                    }
                    self.take(portion).await;
                }
                self.position.places.remove(&place);
                (pieces, done) = (file.place, Some(file.mark));
                desk.held = file.into_buffer();
            }
        }
        if let Some(mark) = done.filter(|_| by_file) {
            portion.marks.push(desk.seen.identity(mark).mark);
        }
        self.position.gave = Some(self.now());
        self.take(portion).await;
        Ok(pieces)
    }

    /// Keeps what is no progress.
    async fn note(&self) {
        let (feed, position) = (self.files.feed.name.clone(), self.position.clone());
        self.outbox.note(|state| _ = state.streams.insert(feed, position)).await;
    }

    /// Who holds it reads its file.
    async fn desk(&self) -> Result<MappedMutexGuard<'a, Desk>, Error> {
        let mut desk = self.shared.desk.lock().await;
        if desk.is_none() {
            let task = self.files.task;
            // Nothing that was published before this can be asked for again.
            let from = task.client.now() - self.files.spec.keeps - A_DAY;
            *desk = Some(Desk { seen: task.seen(&stamp(from)).await?, held: Vec::new() });
        }
        Ok(MutexGuard::map(desk, |desk| desk.get_or_insert_default()))
    }

    async fn take(&self, portion: Portion) {
        let (feed, position) = (self.files.feed.name.clone(), self.position.clone());
        self.outbox.take(portion, |state| _ = state.streams.insert(feed, position)).await;
    }

    fn now(&self) -> DateTime<Utc> {
        self.files.task.client.now()
    }
}

/// A file that has been opened is whole: what goes wrong then is this machine's trouble.
fn local(error: ReadError) -> Error {
    Upstream::from(error).into()
}
