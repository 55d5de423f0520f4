//! Reads a stream of files behind a token: SIEM of both APIs and the threat feed.
//!
//! The token moves on only when every file of its answer is delivered or a dead letter. A file is delivered once, whatever
//! link or answer it comes in, and a run may stop in the middle of one.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::{BufReader, Read, Seek};
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use mimecast::archive::Archive;
use mimecast::pieces::{Format, Piece, Pieces};
use mimecast::{Error, Link, json};
use tempfile::SpooledTempFile;

use crate::Gap;
use crate::deliver::{BATCH_BYTES, BATCH_LINES};
use crate::portion::{DeadLetter, Event, Marks, Portion};
use crate::reader::Task;
use crate::seen::{Seen, content_hash, name_hash, place_hash};
use crate::source::{Ask, Feed, Identity, Stream, typed_table};
use crate::state::{Position, State, stamp};
use crate::window::{parse_time, wire};

/// Tries of one file or answer that arrives whole but cannot be read, before it becomes a dead letter.
const TRIES: u32 = 3;
/// How far an answer without a token goes back behind the last one.
const OVERLAP: TimeDelta = TimeDelta::hours(1);
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
    empty_answers: u32,
    restarted: Vec<String>,
    tables: HashMap<String, (Arc<str>, Option<Arc<str>>)>,
    /// The first error of a feed: the others are read first.
    failed: Option<Error>,
}

/// An answer being worked through.
struct Answer {
    files: VecDeque<(String, u128, Content)>,
    archive: Option<Archive>,
    next: Option<String>,
    at: DateTime<Utc>,
    caught_up: bool,
    /// The whole answer, kept on the last try for a dead letter.
    raw: Option<Bytes>,
}

enum Content {
    Inner(usize),
    Linked(Link),
}

/// A file being read.
struct OpenFile {
    name: String,
    mark: u128,
    place: u64,
    pieces: Pieces<BufReader<SpooledTempFile>>,
}

impl<'a> StreamReader<'a> {
    pub fn new(task: Task<'a>, spec: &'a Stream, state: State) -> Self {
        let mut feeds = (spec.feeds)(task.settings, task.client.is_v2());
        feeds.sort_by_key(|feed| state.streams.get(&feed.name).and_then(|position| position.caught_up));
        Self {
            task,
            spec,
            state,
            feeds: feeds.into(),
            answer: None,
            file: None,
            tries: HashMap::new(),
            empty_answers: 0,
            restarted: Vec::new(),
            tables: HashMap::new(),
            failed: None,
        }
    }

    /// Nothing that was published before this can be asked for again.
    pub fn horizon(&self) -> DateTime<Utc> {
        self.task.client.now() - self.spec.keeps - TimeDelta::days(1)
    }

    pub async fn next(&mut self, seen: &mut Seen) -> Result<Option<Portion>, Error> {
        if self.state.finished {
            return Ok(None);
        }
        loop {
            let Some(feed) = self.feeds.pop_front() else {
                return match self.failed.take() {
                    Some(error) => Err(error),
                    None => Ok(None),
                };
            };
            match self.step(&feed, seen).await {
                Ok(Step::Portion(portion)) => {
                    self.feeds.push_front(feed);
                    return Ok(Some(portion));
                }
                Ok(Step::Again) => self.feeds.push_front(feed),
                Ok(Step::CaughtUp(portion)) => return Ok(Some(portion)),
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
            Some(Some((name, mark, content))) => self.open(feed, name, mark, content, seen).await,
            Some(None) => Ok(self.advance(feed)),
        }
    }

    /// Asks for what comes after the feed's token.
    async fn ask(&mut self, feed: &Feed) -> Result<Step, Error> {
        let now = self.task.client.now();
        let position = self.state.streams.entry(feed.name.clone()).or_default().clone();
        let begin = match (self.task.backfill, position.caught_up) {
            (Some(range), _) => range.from,
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
                let size = self.task.settings.page_size.unwrap_or(100).to_string();
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
        let mut read = Answer { files: VecDeque::new(), archive: None, next, at: answer.at, caught_up, raw: None };
        if let Some(mut file) = answer.file {
            let tries = self.tries.entry(name_hash(&feed.name)).or_default();
            *tries += 1;
            read.raw = if *tries < TRIES { None } else { Some(whole(&mut file)?) };
            let origin = origin(feed, &answer.name);
            match (Archive::open(file, &answer.name), &read.raw) {
                (Ok(archive), _) => {
                    let files = archive.files().iter().enumerate();
                    read.files = files
                        .map(|(index, file)| (file.name.clone(), name_hash(&file.fingerprint), Content::Inner(index)))
                        .collect();
                    read.archive = Some(archive);
                }
                (Err(reason), None) => {
                    tracing::warn!(%reason, origin, "unreadable answer, asking again");
                    return Ok(Step::Again);
                }
                (Err(reason), Some(raw)) => {
                    let portion = self.rejected(raw.clone(), reason.to_string(), origin);
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
        let mut files: VecDeque<(String, u128, Content)> = VecDeque::new();
        for link in listing.value {
            let (name, mark) = (link.path().to_owned(), name_hash(link.path()));
            if files.iter().all(|(_, other, _)| *other != mark) {
                files.push_back((name, mark, Content::Linked(link)));
            }
        }
        let next = listing.next.or_else(|| before.token.clone());
        self.empty_answers = if files.is_empty() { self.empty_answers + 1 } else { 0 };
        let caught_up =
            listing.is_caught_up || (files.is_empty() && (next == before.token || self.empty_answers > EMPTY_ANSWERS));
        self.answer = Some(Answer { files, archive: None, next, at: listing.at, caught_up, raw: None });
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
        let (oldest, last) = (now - self.spec.keeps, before.caught_up.unwrap_or(now));
        let mut portion = Portion::default();
        if last < oldest {
            tracing::warn!(feed = feed.name, from = %last, to = %oldest, "gap: mimecast no longer keeps these logs");
            portion.gap = Some(Gap { from: last, to: oldest });
        } else {
            tracing::warn!(feed = feed.name, %reason, from = %oldest, to = %last, "token refused, reading again");
            portion.repeat = Some(Gap { from: oldest, to: last });
        }
        // Without `caught_up` the next request starts at INITIAL_LOOKBACK: it has to be all that is kept.
        let restart = Position { token: None, file: None, caught_up: Some(oldest + OVERLAP) };
        self.state.streams.insert(feed.name.clone(), restart);
        portion.state = self.state.clone();
        Ok(Step::Portion(portion))
    }

    /// Opens a file for reading, unless it has been delivered already.
    async fn open(
        &mut self,
        feed: &Feed,
        name: String,
        mark: u128,
        content: Content,
        seen: &mut Seen,
    ) -> Result<Step, Error> {
        let by_file = self.spec.identity == Identity::File;
        if by_file && seen.contains(mark) {
            return Ok(Step::Again);
        }
        let origin = origin(feed, &name);
        let fetched = match content {
            Content::Inner(index) => self.extract(index),
            Content::Linked(link) => self.fetch(&link, mark).await?,
        };
        let mut file = match fetched {
            Fetched::File(file) => file,
            Fetched::Again => return Ok(Step::Again),
            Fetched::Rejected(raw, reason) => {
                return Ok(Step::Portion(self.rejected_file(mark, raw, reason, origin, seen)));
            }
        };
        let mut head = vec![0; 64 << 10];
        let length = file.read(&mut head).map_err(spool)?;
        head.truncate(length);
        file.rewind().map_err(spool)?;
        let format = match &feed.ask {
            Ask::Links { .. } => Some(Format::Ndjson),
            Ask::File { .. } => Format::sniff(&name, &head),
        };
        let Some(format) = format else {
            if head.iter().all(u8::is_ascii_whitespace) {
                return Ok(Step::Portion(self.finished(mark, seen)));
            }
            let raw = whole(&mut file)?;
            return Ok(Step::Portion(self.rejected_file(mark, raw, "unknown file format".into(), origin, seen)));
        };
        let mut open = OpenFile { name, mark, place: 0, pieces: Pieces::new(BufReader::new(file), format) };
        let position = self.state.streams.entry(feed.name.clone()).or_default();
        if let Some((current, place)) = &position.file
            && by_file
            && *current == format!("{mark:032x}")
        {
            open.place = open.pieces.skip(*place).map_err(spool)?;
        }
        self.file = Some(open);
        Ok(Step::Again)
    }

    /// A file out of the answer's archive.
    fn extract(&mut self, index: usize) -> Fetched {
        let Some(answer) = &mut self.answer else { return Fetched::Again };
        let Some(archive) = &mut answer.archive else { return Fetched::Again };
        match (archive.extract(index), &answer.raw) {
            (Ok(file), _) => Fetched::File(file),
            (Err(reason), Some(raw)) => Fetched::Rejected(raw.clone(), reason.to_string()),
            (Err(reason), None) => {
                tracing::warn!(%reason, "unreadable file in an answer, asking for the answer again");
                self.answer = None;
                Fetched::Again
            }
        }
    }

    /// The file behind a link.
    async fn fetch(&mut self, link: &Link, mark: u128) -> Result<Fetched, Error> {
        let mut tries = 0;
        loop {
            tries += 1;
            let mut file = match self.task.client.download(link, self.task.until).await {
                Ok(file) => file,
                Err(Error::LinkGone(reason)) => {
                    let gone = self.tries.entry(mark).or_default();
                    *gone += 1;
                    if *gone < TRIES {
                        tracing::warn!(%reason, "asking for fresh links");
                        self.answer = None;
                        return Ok(Fetched::Again);
                    }
                    let raw = Bytes::copy_from_slice(link.path().as_bytes());
                    return Ok(Fetched::Rejected(raw, format!("{reason}; {TRIES} fresh links were refused")));
                }
                Err(error) => return Err(error),
            };
            let raw = if tries < TRIES { None } else { Some(whole(&mut file)?) };
            match (Archive::open(file, link.path()).and_then(|mut archive| archive.extract(0)), raw) {
                (Ok(file), _) => return Ok(Fetched::File(file)),
                (Err(reason), None) => tracing::warn!(%reason, ?link, "unreadable file, fetching it again"),
                (Err(reason), Some(raw)) => return Ok(Fetched::Rejected(raw, reason.to_string())),
            }
        }
    }

    /// Reads a portion of the file: at most a batch.
    fn read(&mut self, feed: &Feed, mut file: OpenFile, seen: &mut Seen) -> Result<Portion, Error> {
        let mut portion = Portion::default();
        let (mut bytes, mut fresh) = (0, Vec::new());
        let by_file = self.spec.identity == Identity::File;
        seen.begin(format!("{:032x}", file.mark));
        while portion.events.len() < BATCH_LINES && bytes < BATCH_BYTES {
            let Some(piece) = file.pieces.next().map_err(spool)? else {
                if by_file {
                    fresh.push(seen.identity(file.mark).mark);
                }
                self.position(feed).file = None;
                portion.marks = self.remembered(fresh);
                portion.state = self.state.clone();
                return Ok(portion);
            };
            file.place += 1;
            let verdict = match &piece {
                _ if by_file => {
                    let mark = place_hash(file.mark, file.place);
                    crate::seen::Verdict { mark, known: seen.contains(mark) }
                }
                Piece::Event(line) => seen.content(content_hash(line)),
                Piece::Bad { raw, .. } => seen.content(name_hash(&String::from_utf8_lossy(raw))),
            };
            if verdict.known {
                portion.duplicates += 1;
                continue;
            }
            if !by_file {
                fresh.push(verdict.mark);
            }
            match piece {
                Piece::Event(line) if self.outside_backfill(&line) => {}
                Piece::Event(line) => {
                    bytes += line.len() + 1;
                    let (table, unknown_type) = self.table(feed, &file.name, &line);
                    portion.events.push(Event { table, line, mark: verdict.mark, unknown_type });
                }
                Piece::Bad { raw, reason } => {
                    let (table, _) = self.table(feed, &file.name, &raw);
                    let origin = format!("{} line {}", origin(feed, &file.name), file.place);
                    portion.rejected.push(DeadLetter { raw, reason, table: table.to_string(), origin });
                }
            }
        }
        if by_file {
            self.position(feed).file = Some((format!("{:032x}", file.mark), file.place));
        }
        portion.marks = self.remembered(fresh);
        portion.state = self.state.clone();
        self.file = Some(file);
        Ok(portion)
    }

    /// The answer is done: the token moves on.
    fn advance(&mut self, feed: &Feed) -> Step {
        let Some(answer) = self.answer.take() else { return Step::Again };
        // Of one answer and not of the next: a file that failed here may be fine there.
        self.tries.clear();
        let position = self.position(feed);
        position.token = answer.next;
        position.file = None;
        if answer.caught_up {
            position.caught_up = Some(answer.at);
        }
        if let Some(range) = self.task.backfill
            && self.feeds.is_empty()
            && answer.caught_up
        {
            self.state.finished = range.to <= answer.at;
        }
        let portion = Portion { state: self.state.clone(), ..Portion::default() };
        if answer.caught_up { Step::CaughtUp(portion) } else { Step::Portion(portion) }
    }

    fn position(&mut self, feed: &Feed) -> &mut Position {
        self.state.streams.entry(feed.name.clone()).or_default()
    }

    /// The table of an event: by the type in the file's name (1.0) or in the event (2.0).
    fn table(&mut self, feed: &Feed, file: &str, event: &[u8]) -> (Arc<str>, Option<Arc<str>>) {
        let kind = match &feed.ask {
            _ if self.spec.types.is_empty() => String::new(),
            Ask::File { .. } => file.split_once('_').map(|(kind, _)| kind).unwrap_or_default().to_owned(),
            Ask::Links { kind, .. } => json::string_member(event, "type")
                .or_else(|| json::string_member(event, "eventType"))
                .unwrap_or_else(|| (*kind).to_owned()),
        };
        let (task, spec) = (&self.task, self.spec);
        self.tables
            .entry(kind)
            .or_insert_with_key(|kind| {
                if spec.types.is_empty() {
                    return (task.table(task.source.table), None);
                }
                let (table, known) = typed_table(task.source.table, spec.types, kind);
                (task.table(&table), (!known).then(|| kind.as_str().into()))
            })
            .clone()
    }

    /// A file's timestamp is in epoch milliseconds (2.0); a backfill asks for whole days and keeps its range.
    fn outside_backfill(&self, event: &[u8]) -> bool {
        let Some(range) = self.task.backfill else { return false };
        let text = json::string_member(event, "timestamp").unwrap_or_default();
        let time = text.parse().ok().and_then(DateTime::from_timestamp_millis).or_else(|| parse_time(&text));
        time.is_some_and(|time| time < range.from || time >= range.to)
    }

    /// The file is done with: delivered, empty, or a dead letter.
    fn finished(&self, mark: u128, seen: &mut Seen) -> Portion {
        let marks = self.remembered(vec![seen.identity(mark).mark]);
        Portion { marks, state: self.state.clone(), ..Portion::default() }
    }

    fn rejected_file(&self, mark: u128, raw: Bytes, reason: String, origin: String, seen: &mut Seen) -> Portion {
        Portion { rejected: self.rejected(raw, reason, origin).rejected, ..self.finished(mark, seen) }
    }

    fn rejected(&self, raw: Bytes, reason: String, origin: String) -> Portion {
        let table = self.task.table(self.task.source.table).to_string();
        let letter = DeadLetter { raw, reason, table, origin };
        Portion { rejected: vec![letter], state: self.state.clone(), ..Portion::default() }
    }

    fn remembered(&self, marks: Vec<u128>) -> Vec<Marks> {
        if marks.is_empty() {
            return Vec::new();
        }
        vec![Marks { stamp: stamp(self.task.client.now()), label: None, marks }]
    }

    /// The earliest instant at which a feed had nothing more, once all of them have got there.
    pub fn caught_up(positions: &BTreeMap<String, Position>) -> Option<DateTime<Utc>> {
        positions.values().map(|position| position.caught_up).min().flatten()
    }
}

/// What a step of one feed gives.
enum Step {
    Portion(Portion),
    /// Nothing to deliver yet.
    Again,
    /// The feed has nothing more for this run.
    CaughtUp(Portion),
}

/// What came of fetching one file.
enum Fetched {
    File(SpooledTempFile),
    /// The answer it is in has to be asked for again.
    Again,
    Rejected(Bytes, String),
}

fn origin(feed: &Feed, name: &str) -> String {
    let path = match &feed.ask {
        Ask::File { path, .. } | Ask::Links { path, .. } => path,
    };
    format!("{path} {} {name}", feed.name).trim_end().to_owned()
}

fn whole(file: &mut SpooledTempFile) -> Result<Bytes, Error> {
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).map_err(spool)?;
    file.rewind().map_err(spool)?;
    Ok(bytes.into())
}

fn spool(error: std::io::Error) -> Error {
    Error::Unavailable(format!("the temporary file cannot be read: {error}"))
}
