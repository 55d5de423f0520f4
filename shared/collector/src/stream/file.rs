//! Reads the files of a stream: fetches one, tells what it is, and gives its events in portions.

use std::io::{BufReader, Read, Seek};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::DateTime;
use mimecast::archive::Archive;
use mimecast::pieces::{Format, Piece, Pieces};
use mimecast::{Error, Link, json};
use tempfile::SpooledTempFile;
use xxhash_rust::xxh3::Xxh3;

use super::{Content, GONE, Raw, Step, StreamReader, TRIES, origin, spool};
use crate::deliver::{BATCH_BYTES, BATCH_LINES};
use crate::portion::{DeadLetter, Event, Portion};
use crate::seen::{Seen, Verdict, content_hash, name_hash, place_hash};
use crate::source::{Ask, Feed, Identity, typed_table};
use crate::window::parse_time;

/// A file being read.
pub(super) struct OpenFile {
    name: String,
    mark: u128,
    place: u64,
    pieces: Pieces<BufReader<SpooledTempFile>>,
}

const UNKNOWN_FORMAT: &str = "unknown file format";

/// What a file is.
enum Told {
    File(Box<OpenFile>),
    Empty,
    /// It has been delivered.
    Known,
    Unreadable(Bytes, String),
}

/// What came of fetching one file.
enum Fetched {
    /// And whether checksums have told that it is whole.
    File(SpooledTempFile, bool),
    /// The answer it is in has to be asked for again.
    Again,
    /// It has to be fetched in another run.
    Later,
    Rejected(Bytes, String),
}

impl StreamReader<'_> {
    /// Opens a file for reading, unless it has been delivered already.
    pub(super) async fn open(
        &mut self,
        feed: &Feed,
        name: String,
        content: Content,
        seen: &mut Seen,
    ) -> Result<Step, Error> {
        let by_file = self.spec.identity == Identity::File;
        // A link's path is the file; the name of a file in an answer is not enough, see `identity`.
        let mark = name_hash(&name);
        let inner = matches!(content, Content::Inner(_));
        if by_file && !inner && seen.contains(mark) {
            return Ok(Step::Again);
        }
        let origin = origin(feed, &name);
        let fetched = match content {
            Content::Inner(index) => self.extract(index),
            Content::Linked(link) => self.fetch(feed, &link, mark).await?,
        };
        let told = match fetched {
            Fetched::File(mut file, whole) => {
                if !whole
                    && let Some(reason) = doubt(feed, &name, &mut file).map_err(spool)?
                    && self.may_ask_again(inner, mark)
                {
                    tracing::warn!(reason, origin, "perhaps not the file, or not all of it: asking for it again");
                    self.answer = None;
                    return Ok(Step::Again);
                }
                self.tell(feed, name.clone(), mark, file, seen)?
            }
            Fetched::Again => return Ok(Step::Again),
            // That it failed has to be kept: a portion without events.
            Fetched::Later => return Ok(Step::Portion(self.delivered())),
            Fetched::Rejected(raw, reason) => Told::Unreadable(raw, reason),
        };
        let mut open = match told {
            Told::Known => return Ok(Step::Again),
            Told::Empty => return Ok(Step::Portion(self.finished(mark, seen))),
            Told::Unreadable(raw, reason) => {
                if let Some(answer) = &mut self.answer {
                    answer.unreadable = true;
                }
                let table = self.table(feed, &name, &[]).0;
                return Ok(Step::Portion(self.rejected_file(mark, &table, raw, reason, origin, seen)));
            }
            Told::File(open) => *open,
        };
        let position = self.state.streams.entry(feed.name.clone()).or_default();
        if let Some((current, place)) = &position.file
            && by_file
            && *current == format!("{:032x}", open.mark)
        {
            open.place = open.pieces.skip(*place).map_err(spool)?;
        }
        self.begin(open, seen);
        Ok(Step::Again)
    }

    /// Equal rows are numbered within one file, as often as it is opened.
    fn begin(&mut self, open: OpenFile, seen: &mut Seen) {
        self.opened += 1;
        seen.begin(self.opened.to_string());
        self.file = Some(open);
    }

    /// Whether a file is worth another request: its answer's tries, or those of its link, are not used up.
    fn may_ask_again(&mut self, inner: bool, mark: u128) -> bool {
        if inner {
            return self.answer.as_ref().is_some_and(|answer| answer.raw.is_none());
        }
        let tries = self.tries.entry(mark).or_default();
        *tries += 1;
        *tries < TRIES
    }

    /// What a file is, by its first bytes.
    fn tell(
        &self,
        feed: &Feed,
        name: String,
        mut mark: u128,
        mut file: SpooledTempFile,
        seen: &Seen,
    ) -> Result<Told, Error> {
        let (format, blank) = format(feed, &name, &mut file).map_err(spool)?;
        let Some(format) = format else {
            return Ok(match blank {
                true => Told::Empty,
                false => {
                    let (raw, reason) = Raw::of(&mut file)?.rejected(&UNKNOWN_FORMAT);
                    Told::Unreadable(raw, reason)
                }
            });
        };
        if matches!(feed.ask, Ask::File { .. }) && self.spec.identity == Identity::File {
            mark = identity(&name, format, &mut file).map_err(spool)?;
            if seen.contains(mark) {
                return Ok(Told::Known);
            }
        }
        let pieces = Pieces::new(BufReader::new(file), format);
        Ok(Told::File(Box::new(OpenFile { name, mark, place: 0, pieces })))
    }

    /// Opens a file out of a dead letter, unless it has been delivered by now.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub fn reopen(&mut self, feed: &Feed, name: &str, file: SpooledTempFile, seen: &mut Seen) -> Result<(), String> {
        match self.tell(feed, name.to_owned(), name_hash(name), file, seen) {
            Ok(Told::Known | Told::Empty) => Ok(()),
            Ok(Told::File(open)) => {
                self.begin(*open, seen);
                Ok(())
            }
            Ok(Told::Unreadable(_, reason)) => Err(reason),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The next portion of the file that has been opened.
    pub fn go_on(&mut self, feed: &Feed, seen: &mut Seen) -> Result<Option<Portion>, Error> {
        self.file.take().map(|file| self.read(feed, file, seen)).transpose()
    }

    /// A file out of the answer's archive.
    fn extract(&mut self, index: usize) -> Fetched {
        let Some(answer) = &mut self.answer else { return Fetched::Again };
        let Some(archive) = &mut answer.archive else { return Fetched::Again };
        match (archive.extract(index), &mut answer.raw) {
            (Ok(file), _) => Fetched::File(file, archive.is_checked()),
            (Err(reason), Some(raw)) => {
                // Once: thousands of broken files in one answer are not that many copies of it.
                let next = Raw { bytes: Bytes::new(), note: "; the answer is in a dead letter before this".to_owned() };
                let (raw, reason) = std::mem::replace(raw, next).rejected(&reason);
                Fetched::Rejected(raw, reason)
            }
            (Err(reason), None) => {
                tracing::warn!(%reason, "unreadable file in an answer, asking for the answer again");
                self.answer = None;
                Fetched::Again
            }
        }
    }

    /// The file behind a link.
    async fn fetch(&mut self, feed: &Feed, link: &Link, mark: u128) -> Result<Fetched, Error> {
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
                        tokio::time::sleep(Duration::from_millis(500)).await;
                        self.answer = None;
                        return Ok(Fetched::Again);
                    }
                    let reason = format!("{reason}; {TRIES} fresh links were refused");
                    let now = self.task.client.now();
                    let since = *self.position(feed).gone.get_or_insert(now);
                    if now - since > GONE {
                        return Ok(Fetched::Rejected(Bytes::copy_from_slice(link.path().as_bytes()), reason));
                    }
                    // Its store may be out of reach for a while: the other files go on, and this one is tried next time.
                    if let Some(answer) = &mut self.answer {
                        answer.unfinished = Some(reason);
                    }
                    return Ok(Fetched::Later);
                }
                Err(Error::Unreadable { raw, reason }) => return Ok(Fetched::Rejected(raw, reason)),
                Err(error) => return Err(error),
            };
            let raw = if tries < TRIES { None } else { Some(Raw::of(&mut file)?) };
            match (Archive::open(file, link.path()).and_then(only), raw) {
                (Ok((file, whole)), _) => return Ok(Fetched::File(file, whole)),
                (Err(reason), None) => tracing::warn!(%reason, ?link, "unreadable file, fetching it again"),
                (Err(reason), Some(raw)) => {
                    let (raw, reason) = raw.rejected(&reason);
                    return Ok(Fetched::Rejected(raw, reason));
                }
            }
        }
    }

    /// Reads a portion of the file: at most a batch.
    pub(super) fn read(&mut self, feed: &Feed, mut file: OpenFile, seen: &mut Seen) -> Result<Portion, Error> {
        let mut portion = Portion::default();
        let (mut bytes, mut fresh) = (0, Vec::new());
        let by_file = self.spec.identity == Identity::File;
        while portion.events.len() + portion.rejected.len() < BATCH_LINES && bytes < BATCH_BYTES {
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
            if let Some(answer) = &mut self.answer {
                answer.pieces += 1;
            }
            let verdict = match &piece {
                _ if by_file => {
                    let mark = place_hash(file.mark, file.place);
                    Verdict { mark, known: seen.contains(mark) }
                }
                Piece::Event(line) => seen.content(content_hash(line)),
                Piece::Bad { raw, .. } => seen.content(name_hash(&String::from_utf8_lossy(raw))),
            };
            if verdict.known {
                portion.duplicates += 1;
                continue;
            }
            // A run finds its place again by its state; a replay has none.
            if !by_file || self.replays {
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
                    bytes += raw.len();
                    let (table, _) = self.table(feed, &file.name, &raw);
                    let origin = format!("{} line {}", origin(feed, &file.name), file.place);
                    let (table, header) = (table.to_string(), file.pieces.header().cloned());
                    portion.rejected.push(DeadLetter { raw, reason, table, origin, header });
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

    /// The table of an event: by the type in the file's name (1.0) or in the event (2.0).
    pub fn table(&mut self, feed: &Feed, file: &str, event: &[u8]) -> (Arc<str>, Option<Arc<str>>) {
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
        Portion { marks, ..self.delivered() }
    }

    fn rejected_file(
        &self,
        mark: u128,
        table: &str,
        raw: Bytes,
        reason: String,
        origin: String,
        seen: &mut Seen,
    ) -> Portion {
        let letter = DeadLetter { raw, reason, table: table.to_owned(), origin, header: None };
        Portion { rejected: vec![letter], ..self.finished(mark, seen) }
    }
}

/// Why a body that no checksum covers may be a gateway's and not the file, or may have been cut on its way: what was behind the
/// cut would be lost with its token.
fn doubt(feed: &Feed, name: &str, file: &mut SpooledTempFile) -> std::io::Result<Option<&'static str>> {
    let (format, blank) = format(feed, name, file)?;
    let Some(format) = format else { return Ok((!blank).then_some(UNKNOWN_FORMAT)) };
    let mut pieces = Pieces::new(BufReader::new(&mut *file), format);
    let (mut events, mut bad) = (false, false);
    while let Some(piece) = pieces.next()? {
        events |= matches!(piece, Piece::Event(_));
        bad |= matches!(piece, Piece::Bad { .. });
    }
    let broke_off = pieces.broke_off();
    file.rewind()?;
    if broke_off {
        return Ok(Some("it breaks off"));
    }
    Ok((bad && !events).then_some("nothing in it can be read"))
}

/// The format of a file by its first bytes, and whether these are blank.
fn format(feed: &Feed, name: &str, file: &mut SpooledTempFile) -> std::io::Result<(Option<Format>, bool)> {
    let mut head = vec![0; 64 << 10];
    let length = file.read(&mut head)?;
    head.truncate(length);
    file.rewind()?;
    let format = match &feed.ask {
        Ask::Links { .. } => Some(Format::Ndjson),
        Ask::File { .. } => Format::sniff(name, &head),
    };
    Ok((format, head.iter().all(u8::is_ascii_whitespace)))
}

/// The file behind a link, and whether checksums cover it: one, or nobody knows what the others are.
fn only(mut archive: Archive) -> std::io::Result<(SpooledTempFile, bool)> {
    match archive.files().len() {
        1 => Ok((archive.extract(0)?, archive.is_checked())),
        count => Err(std::io::Error::new(std::io::ErrorKind::InvalidData, format!("{count} files in place of one"))),
    }
}

/// What makes a file in an answer the same as one in an earlier answer: its name and its events. The name alone is a type
/// and a millisecond, which two of Mimecast's hosts may share; and the bytes around the events may differ.
fn identity(name: &str, format: Format, file: &mut SpooledTempFile) -> std::io::Result<u128> {
    let mut hash = Xxh3::new();
    hash.update(name.as_bytes());
    let mut pieces = Pieces::new(BufReader::new(&mut *file), format);
    while let Some(piece) = pieces.next()? {
        let (Piece::Event(bytes) | Piece::Bad { raw: bytes, .. }) = piece;
        hash.update(&(bytes.len() as u64).to_le_bytes());
        hash.update(&bytes);
    }
    file.rewind()?;
    Ok(hash.digest128())
}
