//! Replay: dead letters are read once more, now that the parser or Devo is mended, and what can be read is delivered.
//!
//! It holds the lease as a run does, and sends before it commits: a letter goes in the transaction that follows Devo's
//! acceptance, together with the marks by which later readings know what was in it. So a crash repeats at most what was sent
//! since, and a letter that still cannot be read stays as it is. What a letter holds is for `content` to say.

mod content;

use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::TimeDelta;
use devo::Sink;
use mimecast::ReadError;
use tokio::time::{Duration, Instant};

use crate::deliver::{Counts, Delivery, REFUSED};
use crate::error::Error;
use crate::outbox::{BATCH_BYTES, BATCH_LINES};
use crate::process::answer::Status;
use crate::process::collector::Collector;
use crate::read::events::Events;
use crate::read::file::{FeedFiles, Opened};
use crate::read::portion::{DeadLetter, Portion};
use crate::read::task::Task;
use crate::read::time::stamp;
use crate::run::{LEASE_MARGIN, keep, owner};
use crate::seen::{Mark, Seen, name_hash};
use crate::source::{Ask, Kind, Source};
use crate::state::State;
use crate::store::{Commit, Key, Lease, Letter, Marks};
use content::{Content, Line};

/// Most letters of one line that go in one transaction.
const BATCH_LETTERS: usize = 80;
/// How long one replay holds the lease at most: the runs wait for so long should it be killed.
const TIME: Duration = Duration::from_secs(60);
/// What is left of it when the last send has to be over.
const RESERVE: Duration = Duration::from_secs(10);

/// What a replay has got done, also one that fails.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Dead letters that are gone.
    pub letters: u64,
    /// Lines handed to Devo.
    pub events: u64,
    /// Events that had been delivered by other ways.
    pub duplicates: u64,
    /// New dead letters: what is unreadable in a page or file that is readable otherwise.
    pub rejected: u64,
    /// Dead letters that stay, by id, and why.
    pub kept: BTreeMap<String, String>,
}

/// A letter's content on its way, or a part of it.
struct Ready<'a> {
    letter: &'a Letter,
    portion: Portion,
    /// The letter is this one line: it goes with it or stays.
    line: bool,
    /// What the snapshot's state remembers of it.
    sent: Option<(String, String)>,
    /// Nothing more of the letter comes.
    last: bool,
}

/// One replay under one key.
struct Replay<'a> {
    task: Task<'a>,
    tenant: &'a str,
    /// `None`: nothing is sent or written, only counted.
    lease: Option<Lease>,
    sink: &'a Sink,
    until: Instant,
    counts: Counts,
    /// Of a stream: what has been delivered.
    seen: Seen,
    batch: Vec<Ready<'a>>,
    done: &'a mut Replayed,
}

impl Collector {
    /// Replays those `letters` of a source, for about a minute, or with `dry_run` only finds out what would come of it. Adds to
    /// `done`.
    ///
    /// # Errors
    /// `DevoUnavailable`, `DevoRejected`, `Checkpoint`; what was delivered before stays delivered and its letters are gone.
    pub async fn replay(
        &self,
        source: &'static Source,
        tenant: &str,
        letters: &[Letter],
        dry_run: bool,
        done: &mut Replayed,
    ) -> Result<Status, Error> {
        let account = self.account(tenant, None).await?;
        let until = Instant::now() + TIME - RESERVE;
        let mut groups: BTreeMap<&str, Vec<&Letter>> = BTreeMap::new();
        for letter in letters {
            groups.entry(&letter.checkpoint).or_default().push(letter);
        }
        for (checkpoint, letters) in groups {
            let key = Key::of(tenant, source.name, checkpoint.to_owned(), keep(source));
            let lease = if dry_run {
                None
            } else {
                let now = self.clock.now();
                let until = now + TIME + LEASE_MARGIN;
                let Some(lease) = self.store.acquire(key.clone(), &owner(), now, until).await? else {
                    return Ok(Status::Busy);
                };
                Some(lease)
            };
            let (settings, client, store, key) = (&self.settings, &account.mimecast, &self.store, &key);
            let task = Task { source, settings, client, until, backfill: None, store, key };
            let mut replay = Replay {
                task,
                tenant,
                lease,
                sink: &account.sink,
                until,
                counts: Counts::default(),
                seen: Seen::default(),
                batch: Vec::new(),
                done,
            };
            let outcome = replay.letters(&letters).await;
            let events = replay.counts.events;
            if outcome.is_err()
                && let Some(lease) = &mut replay.lease
            {
                // Where the lease is lost it is not ours to give back, and that fails too.
                lease.commit(Commit { release: true, ..Commit::default() }, self.clock.now()).await.ok();
            }
            done.events += events;
            if outcome? == Status::More {
                return Ok(Status::More);
            }
        }
        Ok(Status::CaughtUp)
    }
}

impl<'a> Replay<'a> {
    async fn letters(&mut self, letters: &[&'a Letter]) -> Result<Status, Error> {
        if let Kind::Stream(spec) = &self.task.source.kind {
            // Marks of files are kept a day longer than the files.
            self.seen = self.task.seen(&stamp(self.task.client.now() - spec.keeps - TimeDelta::days(1))).await?;
        }
        for letter in letters {
            if Instant::now() >= self.until {
                self.flush(true).await?;
                return Ok(Status::More);
            }
            if let Err(reason) = self.letter(letter).await? {
                self.done.kept.insert(letter.id.clone(), reason);
            }
        }
        self.flush(true).await?;
        Ok(Status::CaughtUp)
    }

    /// Takes a letter up, or says why it stays.
    async fn letter(&mut self, letter: &'a Letter) -> Result<Result<(), String>, Error> {
        if letter.is_rest() {
            return self.line(letter, Line::default()).await.map(Ok);
        }
        if !letter.whole {
            return Ok(Err("not whole: a crash has left it, and it was written again".to_owned()));
        }
        // Gone in the meantime?
        let Some((raw, header)) = self.task.store.raw(self.tenant, self.task.source.name, letter).await? else {
            return Ok(Ok(()));
        };
        let content = match &self.task.source.kind {
            _ if letter.origin == REFUSED => content::refused(letter, raw),
            Kind::Window(spec) => content::window(&self.task, spec, letter, raw),
            Kind::Snapshot(spec) => {
                let none = State::default();
                let state = self.lease.as_ref().map_or(&none, |lease| &lease.state);
                content::snapshot(&self.task, spec, letter, raw, state)
            }
            Kind::Stream(spec) => content::stream(&self.task, spec, letter, raw, header, &mut self.seen),
        };
        match content {
            Err(reason) => Ok(Err(reason)),
            Ok(Content::Line(line)) => self.line(letter, line).await.map(Ok),
            Ok(Content::Page(page)) => {
                // What is in the batch may be in the page too.
                self.flush(false).await?;
                let wanted: HashSet<Mark> = page.marks();
                let known = self.task.store.seen(self.task.key, &page.stamp(), |mark| wanted.contains(mark)).await?;
                match page.portion(&self.task, known) {
                    Err(reason) => Ok(Err(reason)),
                    Ok(portion) => {
                        self.add(letter, portion, true).await?;
                        self.flush(false).await.map(Ok)
                    }
                }
            }
            Ok(Content::Files(files)) => self.files(letter, files).await,
        }
    }

    async fn line(&mut self, letter: &'a Letter, line: Line) -> Result<(), Error> {
        let Line { event, marks, sent } = line;
        let duplicates = u64::from(event.is_none() && !letter.is_rest());
        let portion = Portion { events: event.into_iter().collect(), duplicates, marks, ..Portion::default() };
        self.push(Ready { letter, portion, line: true, sent, last: true }).await
    }

    /// Takes up the files of a letter, one portion after the other.
    async fn files(&mut self, letter: &'a Letter, files: content::Files<'_>) -> Result<Result<(), String>, Error> {
        let content::Files { spec, feed, mut archive, files, raw } = files;
        let task = self.task;
        let mut of_feed = FeedFiles::new(&task, spec, &feed);
        of_feed.replays = true;
        let alone = files.len() == 1;
        let (mut bad, mut taken) = (Vec::new(), false);
        for (index, name) in files {
            let link = matches!(feed.ask, Ask::Links { .. }).then(|| name_hash(&name));
            let opened =
                archive.extract(index, Vec::new()).and_then(|file| of_feed.open(&name, link, file, &self.seen));
            let mut file = match opened {
                Ok(Opened::File(file)) => file,
                Ok(Opened::Known | Opened::Empty) => {
                    taken = true;
                    continue;
                }
                Ok(Opened::Unreadable(_, reason)) | Err(ReadError::Broken(reason)) => {
                    bad.extend(of_feed.letter(&name, raw.clone(), reason).rejected);
                    continue;
                }
                Err(error) => return Err(mimecast::Error::from(error).into()),
            };
            taken = true;
            self.seen.begin();
            let mut first = true;
            while let Some(portion) = of_feed.portion(&mut file, &mut self.seen).map_err(mimecast::Error::from)? {
                if std::mem::take(&mut first) && alone && portion.events.is_empty() && portion.duplicates == 0 {
                    if let Some(DeadLetter { reason, .. }) = portion.rejected.into_iter().next() {
                        return Ok(Err(reason));
                    }
                    continue;
                }
                self.add(letter, portion, false).await?;
            }
        }
        match (taken, bad.first()) {
            (false, Some(DeadLetter { reason, .. })) => Ok(Err(reason.clone())),
            _ => {
                let rest = Portion { rejected: bad, ..Portion::default() };
                self.add(letter, rest, true).await.map(Ok)
            }
        }
    }

    /// Adds a portion of a letter, in parts that a batch holds.
    async fn add(&mut self, letter: &'a Letter, mut portion: Portion, last: bool) -> Result<(), Error> {
        loop {
            let events = portion.events.part(BATCH_LINES, BATCH_BYTES);
            if portion.events.is_empty() {
                portion.events = events;
                return self.push(Ready { letter, portion, line: false, sent: None, last }).await;
            }
            let marks = events.marks().collect();
            let part = Portion { marks, events, ..Portion::default() };
            self.push(Ready { letter, portion: part, line: false, sent: None, last: false }).await?;
        }
    }

    async fn push(&mut self, ready: Ready<'a>) -> Result<(), Error> {
        let lines = |ready: &Ready<'_>| ready.portion.events.len() + ready.portion.rejected.len();
        let bytes = |ready: &Ready<'_>| ready.portion.events.bytes();
        let letters = |ready: &Ready<'_>| ready.letter.parts.len() * usize::from(ready.last);
        let sum = |of: &dyn Fn(&Ready<'_>) -> usize| self.batch.iter().chain([&ready]).map(of).sum::<usize>();
        if sum(&lines) > BATCH_LINES || sum(&bytes) > BATCH_BYTES || sum(&letters) > BATCH_LETTERS {
            self.flush(false).await?;
        }
        self.batch.push(ready);
        Ok(())
    }

    /// Sends the batch, then commits what has become of it.
    async fn flush(&mut self, release: bool) -> Result<(), Error> {
        let batch = std::mem::take(&mut self.batch);
        let now = self.task.client.now();
        let Some(lease) = &mut self.lease else {
            for ready in &batch {
                self.counts.events += ready.portion.events.len() as u64;
                self.done.rejected += ready.portion.rejected.len() as u64;
                self.done.take(ready);
            }
            return Ok(());
        };
        let mut events = Events::default();
        batch.iter().for_each(|ready| events.append(ready.portion.events.clone()));
        let mut state = lease.state.clone();
        let (mut sent, mut refused) = (Vec::new(), Vec::new());
        let mut delivery = Delivery::new(self.sink, self.task.client, lease, self.until, &mut self.counts);
        let outcome = match events.is_empty() {
            true => Ok(()),
            false => delivery.send(events, &mut sent, &mut refused).await,
        };
        let sent: HashSet<Mark> = sent.into_iter().collect();
        let mut refused: HashMap<Mark, DeadLetter> = refused.into_iter().collect();
        let mut commit = Commit { release: release || outcome.is_err(), ..Commit::default() };
        let (mut dead, mut settled, mut unfinished) = (Vec::new(), Vec::new(), HashSet::new());
        let mut known = Vec::new();
        for ready in &batch {
            let marks: Vec<Mark> = ready.portion.events.marks().collect();
            let mut against = marks.iter().filter_map(|mark| refused.remove(mark));
            if ready.line
                && let Some(letter) = against.next()
            {
                self.done.kept.insert(ready.letter.id.clone(), letter.reason);
                continue;
            }
            dead.extend(against);
            let whole = marks.iter().all(|mark| sent.contains(mark));
            if !whole || unfinished.contains(&ready.letter.id) {
                unfinished.insert(&ready.letter.id);
                if !ready.line {
                    known.extend(marks.into_iter().filter(|mark| sent.contains(mark)));
                }
                continue;
            }
            known.extend(&ready.portion.marks);
            dead.extend(ready.portion.rejected.iter().cloned());
            if let Some((id, content)) = ready.sent.clone() {
                state.sent.insert(&id, &content);
            }
            if ready.last {
                commit.replayed.push(ready.letter);
            }
            settled.push(ready);
        }
        commit.dead = &dead;
        commit.marks = Some(Marks { stamp: stamp(now), marks: known });
        commit.state = (state != delivery.lease.state).then_some(&state);
        delivery.lease.commit(commit, now).await?;
        delivery.lease.state = state;
        self.done.rejected += dead.len() as u64;
        settled.into_iter().for_each(|ready| self.done.take(ready));
        outcome
    }
}

impl Replayed {
    fn take(&mut self, ready: &Ready<'_>) {
        self.letters += u64::from(ready.last);
        self.duplicates += ready.portion.duplicates;
    }
}
