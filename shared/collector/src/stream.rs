//! Reads a stream of files behind a token: SIEM of both APIs and the threat feed.
//!
//! The token moves on only when every file of its answer is delivered or a dead letter. A file is delivered once, whatever
//! link or answer it comes in, and a run may stop in the middle of one.

mod file;

use std::collections::{HashMap, HashSet, VecDeque};
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use mimecast::archive::Archive;
use mimecast::{Error, Link};
use tempfile::SpooledTempFile;
use tokio::time::Instant;

use crate::Gap;
use crate::portion::{DeadLetter, Marks, Portion};
use crate::reader::Task;
use crate::seen::{Seen, name_hash};
use crate::source::{Ask, Feed, Identity, Stream};
use crate::state::{Position, State, stamp};
use crate::window::wire;
use file::OpenFile;

/// Tries of one file or answer that arrives whole but cannot be read, before it becomes a dead letter.
const TRIES: u32 = 3;
/// Most signed links that one answer gives.
const LINKS_PER_PAGE: u32 = 100;
/// How long a file whose fresh links are refused holds its token back, before only its name is left as a dead letter.
const GONE: TimeDelta = TimeDelta::hours(24);
/// How far an answer without a token goes back behind the last one.
const OVERLAP: TimeDelta = TimeDelta::hours(1);
/// The most that is kept of a broken file or answer, in bytes: a dead letter is written from memory.
const LARGEST_LETTER: u64 = 32 << 20;
/// Answers in a row without a file that are followed for the sake of their new token.
const EMPTY_ANSWERS: u32 = 20;

/// Reads one source of kind stream.
pub(crate) struct StreamReader<'a> {
    task: Task<'a>,
    spec: &'a Stream,
    state: State,
    /// Feeds still to be read in this run, the one behind most first.
    feeds: VecDeque<Feed>,
    answer: Option<Answer>,
    file: Option<OpenFile>,
    tries: HashMap<u128, u32>,
    empty_answers: HashMap<String, u32>,
    /// Files opened in this run.
    opened: u64,
    /// Files come out of dead letters.
    replays: bool,
    restarted: Vec<String>,
    tables: HashMap<String, (Arc<str>, Option<Arc<str>>)>,
    /// The first error of a feed: the others are read first.
    failed: Option<Error>,
    gap: Option<Gap>,
}

/// An answer being worked through.
struct Answer {
    files: VecDeque<(String, Content)>,
    archive: Option<Archive>,
    next: Option<String>,
    at: DateTime<Utc>,
    caught_up: bool,
    /// A file could not be had: the token stays, for its sake.
    unfinished: Option<String>,
    /// The answer, kept on the last try for a dead letter.
    raw: Option<Raw>,
    /// Events and bad lines read from it.
    pieces: u64,
    /// It, or a file in it, could not be read: that nothing came of it does not say that there is nothing.
    unreadable: bool,
}

enum Content {
    Inner(usize),
    Linked(Link),
}

impl<'a> StreamReader<'a> {
    pub fn new(task: Task<'a>, spec: &'a Stream, state: State) -> Self {
        let mut feeds = (spec.feeds)(task.settings, task.client.is_v2());
        feeds.sort_by_key(|feed| state.streams.get(&feed.name).and_then(|position| position.caught_up));
        let oldest = task.client.now() - spec.keeps;
        let caught_up = |feed: &Feed| state.streams.get(&feed.name)?.caught_up;
        let (from, to) = match task.backfill {
            // Told once: after the first answer there is a position.
            Some(range) => (state.streams.is_empty().then_some(range.from), range.to),
            None => (feeds.iter().filter_map(caught_up).min(), oldest),
        };
        let gap = from.filter(|from| *from < oldest).map(|from| Gap { from, to: to.min(oldest) });
        if let Some(Gap { from, to }) = gap {
            tracing::warn!(%from, %to, "gap: mimecast no longer keeps what was published in between");
        }
        Self {
            task,
            spec,
            state,
            feeds: feeds.into(),
            answer: None,
            file: None,
            tries: HashMap::new(),
            empty_answers: HashMap::new(),
            opened: 0,
            replays: false,
            restarted: Vec::new(),
            tables: HashMap::new(),
            failed: None,
            gap,
        }
    }

    /// A reader of files out of dead letters, which asks Mimecast for nothing.
    pub fn replay(task: Task<'a>, spec: &'a Stream) -> Self {
        Self { replays: true, ..Self::new(task, spec, State::default()) }
    }

    /// Nothing that was published before this can be asked for again.
    pub fn horizon(&self) -> DateTime<Utc> {
        self.task.client.now() - self.spec.keeps - TimeDelta::days(1)
    }

    pub async fn next(&mut self, seen: &mut Seen) -> Result<Option<Portion>, Error> {
        if self.state.finished {
            return Ok(None);
        }
        if self.task.backfill.is_some_and(|range| range.to <= self.task.client.now() - self.spec.keeps) {
            // Mimecast no longer keeps any of it.
            self.state.finished = true;
            return Ok(Some(Portion { gap: self.gap.take(), ..self.delivered() }));
        }
        loop {
            let over = Instant::now() >= self.task.until;
            let Some(feed) = self.feeds.pop_front_if(|_| !over) else {
                return match self.failed.take() {
                    Some(error) => Err(error),
                    // The run sees for itself that its time is over.
                    None => Ok(over.then(|| self.delivered())),
                };
            };
            match self.step(&feed, seen).await {
                Ok(Step::Portion(portion)) => {
                    self.feeds.push_front(feed);
                    return Ok(Some(Portion { gap: self.gap.take(), ..portion }));
                }
                Ok(Step::Again) => self.feeds.push_front(feed),
                Ok(Step::Advanced(portion)) => {
                    // The others have their turn before its next answer.
                    self.feeds.push_back(feed);
                    return Ok(Some(Portion { gap: self.gap.take(), ..portion }));
                }
                Ok(Step::CaughtUp(portion)) => {
                    return Ok(Some(Portion { gap: self.gap.take(), ..portion }));
                }
                Err(error @ (Error::RateLimited { .. } | Error::Credentials(_))) => return Err(error),
                Err(error) => {
                    tracing::warn!(feed = feed.name, %error, "feed failed, going on with the others");
                    self.answer = None;
                    self.file = None;
                    self.failed.get_or_insert(error);
                }
            }
        }
    }

    async fn step(&mut self, feed: &Feed, seen: &mut Seen) -> Result<Step, Error> {
        if let Some(file) = self.file.take() {
            return self.read(feed, file, seen).map(Step::Portion);
        }
        match self.answer.as_mut().map(|answer| answer.files.pop_front()) {
            None => self.ask(feed).await,
            Some(Some((name, content))) => self.open(feed, name, content, seen).await,
            Some(None) => self.advance(feed),
        }
    }

    /// Asks for what comes after the feed's token.
    async fn ask(&mut self, feed: &Feed) -> Result<Step, Error> {
        let now = self.task.client.now();
        let position = self.state.streams.entry(feed.name.clone()).or_default().clone();
        let begin = match (self.task.backfill, position.caught_up) {
            (Some(range), _) => range.from.max(now - self.spec.keeps),
            (None, Some(caught_up)) => (caught_up - OVERLAP).max(now - self.spec.keeps),
            (None, None) => now - self.task.settings.initial_lookback.min(self.spec.keeps),
        };
        let answer = match &feed.ask {
            Ask::File { path, filter, token_header, start } => {
                let extra = match (&position.token, start) {
                    (Some(token), _) => format!(r#","token":{}"#, serde_json::json!(token)),
                    (None, Some(start)) => format!(r#","{start}":"{}""#, wire(begin)),
                    (None, None) => String::new(),
                };
                let body = format!(r#"{{"data":[{{{filter}{extra}}}]}}"#);
                self.task.client.file(path, &body, token_header, self.task.until).await
            }
            Ask::Links { path, kind } => {
                let size = self.task.settings.page_size.unwrap_or(LINKS_PER_PAGE).min(LINKS_PER_PAGE).to_string();
                let last = self.task.backfill.map_or(now, |range| range.to - TimeDelta::milliseconds(1));
                let (first, last) = (begin.format("%Y-%m-%d").to_string(), last.format("%Y-%m-%d").to_string());
                let mut query = vec![("type", *kind), ("pageSize", &size)];
                match &position.token {
                    Some(token) => query.push(("nextPage", token)),
                    None => query.extend([("dateRangeStartsAt", &*first), ("dateRangeEndsAt", &*last)]),
                }
                let listing = self.task.client.listing(path, &query, self.task.until).await;
                return self.listed(feed, listing, &position);
            }
        };
        match answer {
            Ok(answer) => self.answered(feed, answer, &position),
            Err(error) => self.refused(feed, error, &position),
        }
    }

    /// An answer in form of a file, with the files in it.
    fn answered(&mut self, feed: &Feed, answer: mimecast::FileAnswer, before: &Position) -> Result<Step, Error> {
        let next = answer.next.or_else(|| before.token.clone());
        let caught_up = answer.file.is_none() || next == before.token;
        let mut read = Answer {
            files: VecDeque::new(),
            archive: None,
            next,
            at: answer.at,
            caught_up,
            raw: None,
            pieces: 0,
            unreadable: false,
            unfinished: None,
        };
        if let Some(mut file) = answer.file {
            let tries = self.tries.entry(name_hash(&feed.name)).or_default();
            *tries += 1;
            read.raw = if *tries < TRIES { None } else { Some(Raw::of(&mut file)?) };
            let origin = origin(feed, &answer.name);
            match (Archive::open(file, &answer.name), &read.raw) {
                (Ok(archive), _) => {
                    let files = archive.files().iter().enumerate();
                    read.files = files.map(|(index, file)| (file.name.clone(), Content::Inner(index))).collect();
                    read.archive = Some(archive);
                    read.caught_up |= self.is_dry(feed, read.files.is_empty());
                }
                (Err(reason), None) => {
                    tracing::warn!(%reason, origin, "unreadable answer, asking again");
                    return Ok(Step::Again);
                }
                // An empty body stays so: there is nothing to keep.
                (Err(_), Some(raw)) if raw.bytes.is_empty() => {
                    read.caught_up = true;
                    read.unreadable = true;
                }
                (Err(reason), Some(raw)) => {
                    let (raw, reason) = raw.clone().rejected(&reason);
                    read.unreadable = true;
                    let portion = self.rejected(raw, reason, origin);
                    self.answer = Some(read);
                    return Ok(Step::Portion(portion));
                }
            }
        }
        self.answer = Some(read);
        Ok(Step::Again)
    }

    /// An answer in form of signed links. A link may be listed twice.
    fn listed(
        &mut self,
        feed: &Feed,
        listing: Result<mimecast::Listing, Error>,
        before: &Position,
    ) -> Result<Step, Error> {
        let listing = match listing {
            Ok(listing) => listing,
            Err(error) => return self.refused(feed, error, before),
        };
        let mut paths = HashSet::new();
        let links = listing.value.into_iter().map(|link| (link.path().to_owned(), Content::Linked(link)));
        let files: VecDeque<(String, Content)> = links.filter(|(path, _)| paths.insert(path.clone())).collect();
        let next = listing.next.or_else(|| before.token.clone());
        let dry = self.is_dry(feed, files.is_empty());
        let caught_up = listing.is_caught_up || dry || (files.is_empty() && next == before.token);
        self.answer = Some(Answer {
            files,
            archive: None,
            next,
            at: listing.at,
            caught_up,
            raw: None,
            pieces: 0,
            unreadable: false,
            unfinished: None,
        });
        Ok(Step::Again)
    }

    /// A refused token: from the oldest that the API keeps, once a run. Files are recognised, so little is repeated.
    fn refused(&mut self, feed: &Feed, error: Error, before: &Position) -> Result<Step, Error> {
        let Error::TokenRefused(reason) = error else { return Err(error) };
        if before.token.is_none() || self.restarted.contains(&feed.name) {
            return Err(Error::TokenRefused(reason));
        }
        self.restarted.push(feed.name.clone());
        let now = self.task.client.now();
        let oldest = now - self.spec.keeps;
        let last = before.caught_up.unwrap_or(now);
        tracing::warn!(feed = feed.name, %reason, "token refused, reading again what mimecast keeps");
        let repeat = (last > oldest).then_some(Gap { from: oldest, to: last });
        // Without `caught_up` the next request starts at INITIAL_LOOKBACK: it has to be all that is kept.
        let restart = Position { caught_up: Some(oldest + OVERLAP), ..Position::default() };
        self.state.streams.insert(feed.name.clone(), restart);
        Ok(Step::Portion(Portion { repeat, ..self.delivered() }))
    }

    /// The answer is done: the token moves on.
    fn advance(&mut self, feed: &Feed) -> Result<Step, Error> {
        let Some(mut answer) = self.answer.take() else { return Ok(Step::Again) };
        if let Some(reason) = answer.unfinished {
            return Err(Error::Unavailable(reason));
        }
        // A feed says that nothing is new by a file with only a header.
        answer.caught_up |= self.spec.identity == Identity::Content && answer.pieces == 0 && !answer.unreadable;
        // Of one answer and not of the next: a file that failed here may be fine there.
        self.tries.clear();
        let position = self.position(feed);
        position.token = answer.next;
        position.file = None;
        position.gone = None;
        // Without a token the next request begins there: past nothing that could not be read.
        if answer.caught_up && (position.token.is_some() || !answer.unreadable) {
            position.caught_up = Some(answer.at);
        }
        if let Some(range) = self.task.backfill
            && self.feeds.is_empty()
            && self.failed.is_none()
            && answer.caught_up
        {
            self.state.finished = range.to <= answer.at;
        }
        let step = if answer.caught_up { Step::CaughtUp } else { Step::Advanced };
        Ok(step(self.delivered()))
    }

    /// Whether enough answers in a row had no file: their tokens may lead nowhere.
    fn is_dry(&mut self, feed: &Feed, empty: bool) -> bool {
        let answers = self.empty_answers.entry(feed.name.clone()).or_default();
        *answers = if empty { *answers + 1 } else { 0 };
        *answers > EMPTY_ANSWERS
    }

    /// Nothing to deliver, only the state to keep.
    fn delivered(&self) -> Portion {
        Portion { state: self.state.clone(), ..Portion::default() }
    }

    fn position(&mut self, feed: &Feed) -> &mut Position {
        self.state.streams.entry(feed.name.clone()).or_default()
    }

    fn rejected(&self, raw: Bytes, reason: String, origin: String) -> Portion {
        let table = self.task.table(self.task.source.table).to_string();
        let letter = DeadLetter { raw, reason, table, origin, header: None };
        Portion { rejected: vec![letter], ..self.delivered() }
    }

    fn remembered(&self, marks: Vec<u128>) -> Vec<Marks> {
        if marks.is_empty() {
            return Vec::new();
        }
        vec![Marks { stamp: stamp(self.task.client.now()), label: None, marks }]
    }
}

/// What a step of one feed gives.
enum Step {
    Portion(Portion),
    /// Nothing to deliver yet.
    Again,
    /// An answer is done, and there is more.
    Advanced(Portion),
    /// The feed has nothing more for this run.
    CaughtUp(Portion),
}

/// A file, as dead letters name it.
pub(crate) fn origin(feed: &Feed, name: &str) -> String {
    let path = match &feed.ask {
        Ask::File { path, .. } | Ask::Links { path, .. } => path,
    };
    format!("{path} {} {name}", feed.name).trim_end().to_owned()
}

/// What becomes of a broken file in a dead letter: all of it, or its beginning and what to add to the reason.
#[derive(Clone, Default)]
struct Raw {
    bytes: Bytes,
    note: String,
}

impl Raw {
    fn of(file: &mut SpooledTempFile) -> Result<Self, Error> {
        let mut bytes = Vec::new();
        let length = file.seek(SeekFrom::End(0)).map_err(spool)?;
        file.rewind().and_then(|()| file.take(LARGEST_LETTER).read_to_end(&mut bytes)).map_err(spool)?;
        file.rewind().map_err(spool)?;
        let kept = bytes.len();
        let note = if length > LARGEST_LETTER {
            format!("; the first {kept} of {length} bytes are kept")
        } else {
            String::new()
        };
        Ok(Self { bytes: bytes.into(), note })
    }

    fn rejected(self, reason: &impl std::fmt::Display) -> (Bytes, String) {
        (self.bytes, format!("{reason}{}", self.note))
    }
}

fn spool(error: std::io::Error) -> Error {
    Error::Unavailable(format!("the temporary file cannot be read: {error}"))
}
