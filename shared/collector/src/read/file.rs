//! The files of a stream: tells what a file is, and gives its events in portions.
//!
//! Broken bytes are a dead letter; trouble of this machine (a full disk, no memory) is an error, and the file is read again.

use std::io::{BufReader, Read, Seek, SeekFrom};
use std::sync::Arc;

use bytes::Bytes;
use chrono::DateTime;
use mimecast::ReadError;
use mimecast::archive::{Archive, Content};
use mimecast::json::{self, content_hash};
use mimecast::pieces::{Format, Piece, Pieces};
use xxhash_rust::xxh3::Xxh3;

use super::portion::{DeadLetter, Event, Place, Portion};
use super::task::Task;
use super::time::{parse_time, stamp};
use crate::seen::{Seen, Verdict, name_hash, place_hash};
use crate::source::{Ask, Feed, Identity, Stream, typed_table};

/// Lines and bytes of a portion: small ones fill a batch well.
const PORTION_LINES: usize = 1_000;
const PORTION_BYTES: usize = 1_000_000;
/// The most that is kept of a broken file or answer, in bytes: a dead letter is written from memory.
const LARGEST_LETTER: u64 = 32 << 20;
const UNKNOWN_FORMAT: &str = "unknown file format";
/// So many tables are remembered: what has more types has none.
const TABLES: usize = 100;
/// The members of an event that are looked at: its type by either name, and its time.
const LOOKED_AT: [&str; 3] = [KIND[0], KIND[1], "timestamp"];
const KIND: [&str; 2] = ["type", "eventType"];

/// A feed of a source, with what its files need to become events.
pub(crate) struct FeedFiles<'a> {
    pub task: &'a Task<'a>,
    pub spec: &'a Stream,
    pub feed: &'a Feed,
    /// By the log type as it is sent, quotes included: it is not decoded for each event. The latest is found at once, as most files
    /// hold one type only.
    tables: Vec<(Box<[u8]>, Table)>,
    latest: usize,
    /// A run finds its place in a file again by its state; a replay has none, so it marks every line.
    pub replays: bool,
}

/// A table, and the log type where it is not a known one.
type Table = (Arc<str>, Option<Arc<str>>);

/// A file being read.
pub(crate) struct File {
    name: String,
    pub mark: u128,
    /// How many of its pieces have been read.
    pub place: u64,
    pieces: Pieces<Box<dyn Read + Send>, 3>,
}

/// What a file is.
pub(crate) enum Opened {
    File(Box<File>),
    Empty,
    /// It has been delivered.
    Known,
    Unreadable(Bytes, String),
}

impl<'a> FeedFiles<'a> {
    pub fn new(task: &'a Task<'a>, spec: &'a Stream, feed: &'a Feed) -> Self {
        Self { task, spec, feed, tables: Vec::new(), latest: 0, replays: false }
    }

    /// What a file is, by its first bytes. `mark`: of its link, where it has one; then whoever asked for it knows that it is
    /// new.
    pub fn open(&self, name: &str, mark: Option<u128>, mut file: Content, seen: &Seen) -> Result<Opened, ReadError> {
        let (format, blank) = self.format(name, &mut file)?;
        let Some(format) = format else {
            return Ok(match blank {
                true => Opened::Empty,
                false => {
                    let (raw, reason) = Raw::of(&mut file)?.rejected(&UNKNOWN_FORMAT);
                    Opened::Unreadable(raw, reason)
                }
            });
        };
        let mark = match mark {
            Some(mark) => mark,
            None if self.spec.identity == Identity::File => {
                let mark = identity(name, format, &mut file)?;
                if seen.contains(mark) {
                    return Ok(Opened::Known);
                }
                mark
            }
            None => name_hash(name),
        };
        let (head, rest) = file.into_parts();
        let pieces = Pieces::after(head, rest, format, LOOKED_AT);
        Ok(Opened::File(Box::new(File { name: name.to_owned(), mark, place: 0, pieces })))
    }

    /// The format of a file by its first bytes, and whether these are blank.
    fn format(&self, name: &str, file: &mut Content) -> Result<(Option<Format>, bool), ReadError> {
        let mut head = vec![0; 64 << 10];
        let length = file.read(&mut head)?;
        head.truncate(length);
        file.rewind()?;
        let format = match &self.feed.ask {
            Ask::Links { .. } => Some(Format::Ndjson),
            Ask::File { .. } => Format::sniff(name, &head),
        };
        Ok((format, head.iter().all(u8::is_ascii_whitespace)))
    }

    /// Why a body that no checksum covers may be a gateway's and not the file, or may have been cut on its way: what was behind
    /// the cut would be lost with its token.
    pub fn doubt(&self, name: &str, file: &mut Content) -> Result<Option<&'static str>, ReadError> {
        let (format, blank) = self.format(name, file)?;
        let Some(format) = format else { return Ok((!blank).then_some(UNKNOWN_FORMAT)) };
        let mut pieces = Pieces::new(BufReader::new(&mut *file), format);
        let (mut events, mut bad) = (false, false);
        while let Some((piece, [])) = pieces.next()? {
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

    /// The next portion of a file; `None` at its end.
    pub fn portion(&mut self, file: &mut File, seen: &mut Seen) -> Result<Option<Portion>, ReadError> {
        let mut portion = Portion { stamp: self.stamp(), ..Portion::default() };
        let (from, mut bytes) = (file.place, 0);
        let by_file = self.spec.identity == Identity::File;
        let mut left_out = false;
        while portion.events.len() + portion.rejected.len() < PORTION_LINES && bytes < PORTION_BYTES {
            let Some((piece, [kind, other_kind, time])) = file.pieces.next()? else {
                break;
            };
            file.place += 1;
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
                left_out = true;
                continue;
            }
            if !by_file || self.replays {
                portion.marks.push(verdict.mark);
            }
            match piece {
                Piece::Event(line) if self.outside_backfill(time.map(|time| &line[time])) => left_out = true,
                Piece::Event(line) => {
                    bytes += line.len() + 1;
                    let kinds = [kind, other_kind].map(|kind| kind.map(|kind| &line[kind]));
                    let (table, unknown_type) = self.table_of(&file.name, kinds);
                    portion.events.push(Event { table, line, mark: verdict.mark, unknown_type });
                }
                Piece::Bad { raw, reason } => {
                    bytes += raw.len();
                    let table = self.table(&file.name, &raw).0.to_string();
                    let origin = format!("{} line {}", self.origin(&file.name), file.place);
                    let (line, header) = (Some(file.place), file.header());
                    let place = Place { line, header, ..self.place(&file.name) };
                    portion.rejected.push(DeadLetter { raw, reason, table, origin, place });
                }
            }
        }
        if left_out {
            // The lines lie side by side, and a few of them would keep all that were left out in memory until they are delivered.
            let lines = portion.events.tables.iter_mut().flat_map(|table| &mut table.lines);
            lines.for_each(|line| *line = Bytes::copy_from_slice(line));
        }
        Ok((file.place > from).then_some(portion))
    }

    /// A file or answer that cannot be read, as a dead letter.
    pub fn letter(&mut self, name: &str, raw: Bytes, reason: String) -> Portion {
        let (table, origin) = (self.table(name, &[]).0.to_string(), self.origin(name));
        let letter = DeadLetter { raw, reason, table, origin, place: self.place(name) };
        Portion { rejected: vec![letter], stamp: self.stamp(), ..Portion::default() }
    }

    /// The table of an event: by the type in the file's name (1.0) or in the event (2.0).
    pub fn table(&mut self, file: &str, event: &[u8]) -> Table {
        let kinds = match &self.feed.ask {
            Ask::File { .. } => [None; 2],
            Ask::Links { .. } => json::find(event, KIND),
        };
        self.table_of(file, kinds)
    }

    /// The same, where the values of [`KIND`] are known as they are sent.
    fn table_of(&mut self, file: &str, kinds: [Option<&[u8]>; 2]) -> Table {
        let (kinds, given) = match &self.feed.ask {
            _ if self.spec.types.is_empty() => ([None; 2], ""),
            Ask::File { .. } => ([None; 2], file.split_once('_').map(|(kind, _)| kind).unwrap_or_default()),
            Ask::Links { kind, .. } => (kinds, *kind),
        };
        for sent in kinds.into_iter().flatten() {
            if let Some(table) = self.known(sent) {
                return table;
            }
            if let Some(kind) = json::text(sent) {
                return self.look_up(sent, &kind);
            }
        }
        self.known(given.as_bytes()).unwrap_or_else(|| self.look_up(given.as_bytes(), given))
    }

    fn known(&mut self, sent: &[u8]) -> Option<Table> {
        if self.tables.get(self.latest).is_none_or(|(known, _)| **known != *sent) {
            self.latest = self.tables.iter().position(|(known, _)| **known == *sent)?;
        }
        self.tables.get(self.latest).map(|(_, table)| table.clone())
    }

    fn look_up(&mut self, sent: &[u8], kind: &str) -> Table {
        let (task, spec) = (self.task, self.spec);
        let table = if spec.types.is_empty() {
            (task.table(task.source.table), None)
        } else {
            let (table, known) = typed_table(task.source.table, spec.types, kind);
            (task.table(&table), (!known).then(|| kind.into()))
        };
        if self.tables.len() == TABLES {
            self.tables.clear();
        }
        self.latest = self.tables.len();
        self.tables.push((sent.into(), table.clone()));
        table
    }

    /// A file, as dead letters name it for people.
    pub fn origin(&self, name: &str) -> String {
        origin(self.feed, name)
    }

    fn place(&self, name: &str) -> Place {
        Place { feed: Some(self.feed.name.clone()), file: Some(name.to_owned()), ..Place::default() }
    }

    fn stamp(&self) -> String {
        stamp(self.task.client.now())
    }

    /// A file's timestamp is in epoch milliseconds (2.0); a backfill asks for whole days and keeps its range.
    fn outside_backfill(&self, timestamp: Option<&[u8]>) -> bool {
        let Some(range) = self.task.backfill else { return false };
        let text = timestamp.and_then(json::text).unwrap_or_default();
        let time = text.parse().ok().and_then(DateTime::from_timestamp_millis).or_else(|| parse_time(&text));
        time.is_some_and(|time| time < range.from || time >= range.to)
    }
}

impl File {
    /// Passes over what has been delivered.
    pub fn go_on_from(&mut self, place: u64) -> Result<(), ReadError> {
        self.place = self.pieces.skip(place)?;
        Ok(())
    }

    /// Memory that is no longer needed, for [`Archive::extract`].
    pub fn into_buffer(self) -> Vec<u8> {
        self.pieces.into_buffer()
    }

    /// Without it a row of a CSV file cannot be read.
    fn header(&self) -> Option<Bytes> {
        self.pieces.header().cloned()
    }
}

/// A file, as dead letters name it.
pub(crate) fn origin(feed: &Feed, name: &str) -> String {
    let path = match &feed.ask {
        Ask::File { path, .. } | Ask::Links { path, .. } => path,
    };
    format!("{path} {} {name}", feed.name).trim_end().to_owned()
}

/// The file behind a link, and whether checksums cover it: one, or nobody knows what the others are. `held` as for
/// [`Archive::extract`].
pub(crate) fn only(mut archive: Archive, held: Vec<u8>) -> Result<(Content, bool), ReadError> {
    match archive.files().len() {
        1 => Ok((archive.extract(0, held)?, archive.is_checked())),
        count => Err(ReadError::Broken(format!("{count} files in place of one"))),
    }
}

/// What makes a file in an answer the same as one in an earlier answer: its name and its events. The name alone is a type
/// and a millisecond, which two of Mimecast's hosts may share; and the bytes around the events may differ.
fn identity(name: &str, format: Format, file: &mut Content) -> Result<u128, ReadError> {
    let mut hash = Xxh3::new();
    hash.update(name.as_bytes());
    let mut pieces = Pieces::new(BufReader::new(&mut *file), format);
    while let Some((piece, [])) = pieces.next()? {
        let (Piece::Event(bytes) | Piece::Bad { raw: bytes, .. }) = piece;
        hash.update(&(bytes.len() as u64).to_le_bytes());
        hash.update(&bytes);
    }
    file.rewind()?;
    Ok(hash.digest128())
}

/// What becomes of a broken file in a dead letter: all of it, or its beginning and what to add to the reason.
#[derive(Clone, Default)]
pub(crate) struct Raw {
    pub bytes: Bytes,
    pub note: String,
}

impl Raw {
    pub fn of(file: &mut (impl Read + Seek)) -> Result<Self, ReadError> {
        let mut bytes = Vec::new();
        let length = file.seek(SeekFrom::End(0))?;
        file.rewind()?;
        file.take(LARGEST_LETTER).read_to_end(&mut bytes)?;
        file.rewind()?;
        let kept = bytes.len();
        let note = if length > LARGEST_LETTER {
            format!("; the first {kept} of {length} bytes are kept")
        } else {
            String::new()
        };
        Ok(Self { bytes: bytes.into(), note })
    }

    pub fn rejected(self, reason: &impl std::fmt::Display) -> (Bytes, String) {
        (self.bytes, format!("{reason}{}", self.note))
    }
}
