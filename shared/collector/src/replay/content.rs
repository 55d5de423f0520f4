//! What a dead letter holds, as far as it can be read by now: by the source's own parser, and by the letter's origin.
//!
//! | origin | the letter is |
//! |---|---|
//! | `devo` | a line that Devo has refused |
//! | `<path> <reading>` | a row or a page of a source read by time |
//! | `<path>` | a row of a snapshot |
//! | `<path> <feed> <name> line <n>` | a line, row or element of a file |
//! | `<path> <feed> <name>` | a file, or an answer with files in it; or, where the file could not be had, its name |

use std::collections::HashSet;
use std::io::{Seek, Write};

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use mimecast::archive::Archive;
use mimecast::json::{self, content_hash};
use mimecast::pieces::{Format, Piece, Pieces};
use mimecast::{Envelope, ReadError};
use tempfile::SpooledTempFile;

use crate::read::file::{FeedFiles, origin};
use crate::read::portion::{DeadLetter, Event, Place, Portion};
use crate::read::snapshot::{hashed_id, stamped};
use crate::read::task::Task;
use crate::read::time::stamp;
use crate::read::window::{judge, time};
use crate::seen::{Mark, Seen, name_hash, numbered};
use crate::source::{Ask, Feed, Identity, Snapshot, Stream, Window};
use crate::state::State;
use crate::store::Letter;

/// Of one content, so many more than a page has are looked for among the marks.
const EQUAL_ROWS: u64 = 100;
/// An archive in memory up to this size.
const IN_MEMORY: usize = 16 << 20;

pub(super) enum Content<'a> {
    Line(Line),
    Page(Page<'a>),
    Files(Files<'a>),
}

/// The letter is one line.
#[derive(Default)]
pub(super) struct Line {
    /// `None`: it has been delivered already.
    pub event: Option<Event>,
    /// To be remembered with it.
    pub marks: Vec<Mark>,
    /// What the state of a snapshot remembers of it.
    pub sent: Option<(String, String)>,
}

/// A page of a source read by time.
pub(super) struct Page<'a> {
    spec: &'a Window,
    letter: &'a Letter,
    rows: Vec<Bytes>,
    /// The slice it is an answer to, where that is known.
    slice: Option<(DateTime<Utc>, DateTime<Utc>)>,
}

/// The files of a letter that are still to be read.
pub(super) struct Files<'a> {
    pub spec: &'a Stream,
    pub feed: Feed,
    pub archive: Archive,
    /// By their number in the archive.
    pub files: Vec<(usize, String)>,
    /// All of the letter: for what stays unreadable in it.
    pub raw: Bytes,
}

type Found<'a> = Result<Content<'a>, String>;

/// A line with nothing to remember: what is a dead letter is known already.
fn line<'a>(letter: &Letter, table: std::sync::Arc<str>, line: Bytes) -> Content<'a> {
    // Tells it from the others of the batch.
    let event = Event { table, line, mark: name_hash(&letter.id), unknown_type: None };
    Content::Line(Line { event: Some(event), ..Line::default() })
}

/// As it was sent before.
pub(super) fn refused<'a>(letter: &Letter, raw: Bytes) -> Found<'a> {
    if raw.is_empty() || raw.iter().any(|byte| b"\r\n\0".contains(byte)) {
        return Err("not a line".to_owned());
    }
    Ok(line(letter, letter.table.as_str().into(), raw))
}

/// A row, or a page. Its rows are known by their raw bytes to every later reading, see `window::judge`.
pub(super) fn window<'a>(task: &Task<'_>, spec: &'a Window, letter: &'a Letter, raw: Bytes) -> Found<'a> {
    let Some(Envelope { rows, .. }) = Envelope::read(&raw, spec.rows).map_err(|error| error.to_string())? else {
        return Ok(line(letter, task.table(task.source.table), json::compact(&raw)?));
    };
    if rows.is_empty() {
        return Err("an answer without rows".to_owned());
    }
    let slice = letter.place.slice.or_else(|| slice_of_form_1(letter.origin.strip_prefix(spec.path)?));
    Ok(Content::Page(Page { spec, letter, rows, slice }))
}

impl Page<'_> {
    /// From when on marks of its rows may be found.
    pub fn stamp(&self) -> String {
        self.slice.map(|(from, _)| stamp(from)).unwrap_or_default()
    }

    /// All marks that its rows may have.
    pub fn marks(&self) -> HashSet<Mark> {
        let numbers = 0..self.rows.len() as u64 + EQUAL_ROWS;
        let mut hashes: HashSet<u128> = HashSet::new();
        let mut marks = HashSet::new();
        for row in &self.rows {
            if let Some(id) = self.spec.id.and_then(|id| json::string_member(row, id)) {
                marks.insert(name_hash(&id));
            }
            hashes.extend([content_hash(row), xxhash_rust::xxh3::xxh3_128(row)]);
        }
        marks.extend(hashes.iter().flat_map(|hash| numbers.clone().map(|number| numbered(*hash, number))));
        marks
    }

    /// Its new rows. Those at the end of its window belong to the next one.
    pub fn portion(self, task: &Task<'_>, mut seen: Seen) -> Result<Portion, String> {
        let end = self.slice.map(|(_, to)| to);
        let table = task.table(task.source.table);
        let mut portion = Portion::default();
        let mut marks = Vec::new();
        seen.begin();
        for row in &self.rows {
            if end.is_some_and(|end| time(self.spec, row).is_some_and(|time| time >= end)) {
                continue;
            }
            let (line, verdict) = judge(self.spec, row, &mut seen);
            if verdict.known {
                portion.duplicates += 1;
                continue;
            }
            marks.push(verdict.mark);
            match line {
                Ok(line) => {
                    portion.events.push(Event { table: table.clone(), line, mark: verdict.mark, unknown_type: None });
                }
                Err(reason) => {
                    let (origin, table) = (self.letter.origin.clone(), table.to_string());
                    let place = Place { slice: self.slice, ..Place::default() };
                    portion.rejected.push(DeadLetter { raw: row.clone(), reason, table, origin, place });
                }
            }
        }
        if portion.events.is_empty()
            && portion.duplicates == 0
            && let Some(letter) = portion.rejected.first()
        {
            return Err(letter.reason.clone());
        }
        portion.marks = marks;
        Ok(portion)
    }
}

/// A row. A notice may have been sent since by a poll that could read it.
pub(super) fn snapshot<'a>(task: &Task<'_>, spec: &Snapshot, letter: &Letter, raw: Bytes, state: &State) -> Found<'a> {
    let row = json::compact(&raw)?;
    let table = task.table(task.source.table);
    let Some(id) = spec.id else {
        let at = letter.at.to_rfc3339_opts(SecondsFormat::Secs, true);
        return Ok(line(letter, table, stamped(&row, &at)));
    };
    let content = format!("{:032x}", content_hash(&row));
    let (id, by_content) = (hashed_id(&row, id), |id: &str| format!("{id} {content}"));
    let sent = state.sent.get(&id, &content);
    if sent == Some(true) || state.sent.get(&by_content(&id), &content).is_some() {
        return Ok(Content::Line(Line::default()));
    }
    // Where a later content has been sent, that stays the latest.
    let key = if id.is_empty() || sent.is_some() { by_content(&id) } else { id };
    let mut content_line = line(letter, table, row);
    if let Content::Line(line) = &mut content_line {
        line.sent = Some((key, content));
    }
    Ok(content_line)
}

/// A line, a file or an answer.
pub(super) fn stream<'a>(
    task: &Task<'_>,
    spec: &'a Stream,
    letter: &Letter,
    raw: Bytes,
    header: Option<Bytes>,
    seen: &mut Seen,
) -> Found<'a> {
    let (feed, name, is_line) = file_of(task, spec, letter).ok_or("its feed is none of those that are collected")?;
    if is_line {
        let event = event(&feed, letter, &name, &raw, header)?;
        let (table, unknown_type) = FeedFiles::new(task, spec, &feed).table(&name, &event);
        let mut found = Line::default();
        let mark = match spec.identity {
            // The file counts as delivered, so nothing else delivers its lines.
            Identity::File => name_hash(&letter.id),
            Identity::Content => {
                // Equal lines of different letters are different events, so replays of the same content are counted.
                let hash = content_hash(&event);
                let replays = name_hash(&format!("replay {hash:032x}"));
                let number = (0..).find(|number| !seen.identity(numbered(replays, *number)).known).unwrap_or_default();
                let verdict = seen.identity(numbered(hash, number));
                found.marks = vec![numbered(replays, number), verdict.mark];
                if verdict.known {
                    return Ok(Content::Line(found));
                }
                verdict.mark
            }
        };
        found.event = Some(Event { table, line: event, mark, unknown_type });
        return Ok(Content::Line(found));
    }
    if raw == name.as_bytes() {
        return Err("only the name of the file is known, Mimecast did not give it".to_owned());
    }
    let archive = spooled(&raw).map_err(ReadError::from).and_then(|file| Archive::open(file, &name));
    let archive = archive.map_err(|error| error.to_string())?;
    let mut files: Vec<(usize, String)> = archive.files().iter().map(|file| file.name.clone()).enumerate().collect();
    // The whole answer is the letter of one file in it that could not be read.
    if files.iter().any(|(_, inner)| *inner == name) {
        files.retain(|(_, inner)| *inner == name);
    }
    if let (Ask::Links { .. }, Some((_, inner))) = (&feed.ask, files.first_mut()) {
        inner.clone_from(&name);
    }
    if files.is_empty() {
        return Err("an answer without files".to_owned());
    }
    Ok(Content::Files(Files { spec, feed, archive, files, raw }))
}

/// The feed of a letter, its file's name, and whether it is a line of it.
fn file_of(task: &Task<'_>, spec: &Stream, letter: &Letter) -> Option<(Feed, String, bool)> {
    // The keys may be for the other API by now.
    let mut feeds = [false, true].into_iter().flat_map(|v2| (spec.feeds)(task.settings, v2));
    let Place { feed: Some(name), file, line, .. } = &letter.place else {
        return file_of_form_1(feeds, &letter.origin);
    };
    // Both APIs may have a feed of this name.
    let feed = feeds.find(|feed| feed.name == *name && letter.origin.starts_with(&origin(feed, "")))?;
    Some((feed, file.clone().unwrap_or_default(), line.is_some()))
}

/// The same from the text of a letter that the first version wrote.
fn file_of_form_1(feeds: impl Iterator<Item = Feed>, from: &str) -> Option<(Feed, String, bool)> {
    let rest = |feed: &Feed| {
        let rest = from.strip_prefix(&origin(feed, ""))?;
        (rest.is_empty() || rest.starts_with(' ')).then_some(rest)
    };
    let feed = feeds.filter(|feed| rest(feed).is_some()).max_by_key(|feed| feed.name.len())?;
    let rest = rest(&feed)?;
    let numbered = rest.rsplit_once(" line ").filter(|(_, number)| number.parse::<u64>().is_ok());
    let (name, is_line) = numbered.map_or((rest, false), |(name, _)| (name, true));
    let name = name.trim_start().to_owned();
    Some((feed, name, is_line))
}

/// The window in the text of a letter that the first version wrote: `<from>/<to>/<number>`.
fn slice_of_form_1(text: &str) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
    let mut bounds = text.trim_start().split('/').map(|text| Some(DateTime::parse_from_rfc3339(text).ok()?.to_utc()));
    bounds.next()?.zip(bounds.next()?)
}

/// The event in a line of a file.
fn event(feed: &Feed, letter: &Letter, name: &str, raw: &Bytes, header: Option<Bytes>) -> Result<Bytes, String> {
    if letter.reason.starts_with("part of ") {
        return Err(format!("{}: its parts are not put together again", letter.reason));
    }
    if matches!(feed.ask, Ask::Links { .. }) {
        return json::compact(raw);
    }
    if let Some(header) = header {
        return single(&[&header, &b"\n"[..], raw].concat(), Format::Csv);
    }
    match Format::sniff(name, raw) {
        Some(Format::KeyValue) => single(raw, Format::KeyValue),
        Some(Format::Csv) => Err("a row without its header".to_owned()),
        Some(Format::Ndjson | Format::JsonArray(_)) | None => json::compact(raw),
    }
}

fn single(bytes: &[u8], format: Format) -> Result<Bytes, String> {
    let mut pieces = Pieces::new(bytes, format);
    let mut next = || pieces.next().map_err(|error| error.to_string());
    match (next()?, next()?) {
        (Some((Piece::Event(event), [])), None) => Ok(event),
        (Some((Piece::Bad { reason, .. }, [])), _) | (_, Some((Piece::Bad { reason, .. }, []))) => Err(reason),
        _ => Err("not one event".to_owned()),
    }
}

fn spooled(raw: &[u8]) -> std::io::Result<SpooledTempFile> {
    let mut file = SpooledTempFile::new(IN_MEMORY);
    file.write_all(raw)?;
    file.rewind()?;
    Ok(file)
}
