//! Formats with one event a line. A line is split off and judged alone, so that a bad one spoils no other; only a CSV row may
//! have several.

use std::io::{self, Read};

use bytes::Bytes;
use memchr::{memchr, memchr2, memchr3};

use super::{Input, Piece};
use crate::json::{self, Found};

/// The longest row with line ends in it: what is longer has a quote that nobody closes.
const LONGEST_ROW: usize = 64 << 10;

pub(super) struct Lines {
    row: Row,
    /// How far the window is known to hold no line end.
    at: usize,
    /// In the middle of a line longer than the cap.
    long: bool,
    /// The last line was bad and had no end.
    pub(super) broke_off: bool,
}

impl Lines {
    pub(super) fn new(row: Row) -> Self {
        Self { row, at: 0, long: false, broke_off: false }
    }

    pub(super) fn header(&self) -> Option<&Bytes> {
        match &self.row {
            Row::Csv { header } => header.as_ref().map(|header| &header.line),
            Row::Json | Row::KeyValue => None,
        }
    }

    pub(super) fn next<R: Read, const N: usize>(
        &mut self,
        input: &mut Input<R, N>,
    ) -> io::Result<Option<(Piece, Found<N>)>> {
        loop {
            let ended = self.line_end(input)?;
            if ended == Some(LineEnd::Byte)
                && let Some((end, (event, found))) = self.row_of_lines(input)?
            {
                input.consume(end);
                self.at = 0;
                return Ok(Some((Piece::Event(event), found)));
            }
            let length = std::mem::take(&mut self.at);
            let line = &input.window()[..length];
            let was_long = self.long;
            self.long = ended.is_none();
            let piece = if was_long || self.long {
                let reason = format!("part of a line longer than {} bytes", input.cap);
                (length > 0).then(|| Piece::bad(input.copy(length), reason))
            } else if line.iter().all(|&byte| json::is_space(byte)) {
                None
            } else {
                let length = line.strip_suffix(b"\r").unwrap_or(line).len();
                let event = self.row.event(input, length).transpose();
                self.broke_off = matches!(event, Some(Err(_))) && ended == Some(LineEnd::File);
                event.map(|event| Piece::of(event, || input.copy(length)))
            };
            input.consume(length + usize::from(ended == Some(LineEnd::Byte)));
            if piece.is_some() {
                return Ok(piece);
            }
            if ended == Some(LineEnd::File) {
                return Ok(None);
            }
        }
    }

    /// The row whose first line ends at `at`, with its end, where a quoted field goes on in the next line (RFC 4180).
    ///
    /// Any line may open a quote by mistake. So the row counts only when the quotes are closed as they should be and the fields
    /// agree with the header; else the line is judged alone, and so are those after it.
    fn row_of_lines<R: Read, const N: usize>(
        &mut self,
        input: &mut Input<R, N>,
    ) -> io::Result<Option<(usize, (Bytes, Found<N>))>> {
        let (Row::Csv { header: Some(header) }, false) = (&self.row, self.long) else { return Ok(None) };
        if row_end(&input.window()[..self.at]) != RowEnd::Open {
            return Ok(None);
        }
        let mut over = false;
        while !over && !input.full() && input.window().len() < LONGEST_ROW {
            over = !input.fill()?;
        }
        let window = &input.window()[..input.window().len().min(LONGEST_ROW)];
        let end = match row_end(window) {
            RowEnd::At(end) if over || end < window.len() => end,
            _ => return Ok(None),
        };
        Ok(fields(&window[..end])
            .and_then(|fields| csv(&header.keys, &fields, input.keys()))
            .ok()
            .map(|event| (end, event)))
    }

    /// Moves `at` to the end of the line; `None`: the window is full before it.
    fn line_end<R: Read, const N: usize>(&mut self, input: &mut Input<R, N>) -> io::Result<Option<LineEnd>> {
        loop {
            let ahead = &input.window()[self.at..];
            let end = match self.row {
                Row::Json => memchr(b'\n', ahead),
                Row::KeyValue | Row::Csv { .. } => memchr2(b'\r', b'\n', ahead),
            };
            self.at += end.unwrap_or(ahead.len());
            if end.is_some() {
                return Ok(Some(LineEnd::Byte));
            }
            if input.full() {
                return Ok(None);
            }
            if !input.fill()? {
                return Ok(Some(LineEnd::File));
            }
        }
    }
}

#[derive(PartialEq)]
enum LineEnd {
    Byte,
    File,
}

/// How a line becomes an event.
pub(super) enum Row {
    Json,
    KeyValue,
    Csv { header: Option<Header> },
}

pub(super) struct Header {
    line: Bytes,
    /// Empty where it could not be read: then no row agrees with it.
    keys: Vec<String>,
}

impl Row {
    /// The line of this length as an event, and where in it these members are; `None` where it is the header.
    fn event<R: Read, const N: usize>(
        &mut self,
        input: &mut Input<R, N>,
        length: usize,
    ) -> Result<Option<(Bytes, Found<N>)>, String> {
        let line = &input.window()[..length];
        match self {
            Self::Json => input.event(length).map(Some),
            Self::KeyValue => key_value(utf8(line)?, input.keys()).map(Some),
            Self::Csv { header: Some(header) } => csv(&header.keys, &fields(line)?, input.keys()).map(Some),
            Self::Csv { header } => {
                let header = header.insert(Header { line: Bytes::copy_from_slice(line), keys: Vec::new() });
                header.keys.extend(fields(line)?.iter().map(str::to_owned));
                Ok(None)
            }
        }
    }
}

/// A pair without a key belongs to the value before it: that had a `|` in it.
fn key_value<const N: usize>(line: &str, keys: [&str; N]) -> Result<(Bytes, Found<N>), String> {
    let mut pairs: Vec<(&str, usize, usize)> = Vec::new();
    let mut end = 0;
    for pair in line.split('|') {
        let start = end;
        end = start + pair.len() + 1;
        match (pair.find('='), pairs.last_mut()) {
            (Some(key), _) if key > 0 => pairs.push((&pair[..key], start + key + 1, end - 1)),
            (_, Some((_, _, value_end))) => *value_end = end - 1,
            _ => return Err("not key=value: the first pair has no key".into()),
        }
    }
    object(pairs.into_iter().map(|(key, start, end)| (key, &line[start..end])), keys)
}

fn csv<const N: usize>(
    header: &[String],
    row: &csv::StringRecord,
    keys: [&str; N],
) -> Result<(Bytes, Found<N>), String> {
    if row.len() != header.len() {
        return Err(format!("{} fields where the header has {}", row.len(), header.len()));
    }
    object(header.iter().map(String::as_str).zip(row), keys)
}

#[derive(PartialEq)]
enum RowEnd {
    /// All quotes are closed, and here is a line end or nothing more.
    At(usize),
    /// Within quotes to the end.
    Open,
    /// A closing quote in the middle of a field.
    Malformed,
}

/// Where the row ends that these bytes begin with.
fn row_end(bytes: &[u8]) -> RowEnd {
    let mut at = 0;
    loop {
        if bytes.get(at) == Some(&b'"') {
            at += 1;
            loop {
                let Some(quote) = memchr(b'"', &bytes[at..]) else { return RowEnd::Open };
                at += quote + 1;
                if bytes.get(at) != Some(&b'"') {
                    break;
                }
                at += 1;
            }
        } else {
            at += memchr3(b'|', b'\r', b'\n', &bytes[at..]).unwrap_or(bytes.len() - at);
        }
        match bytes.get(at) {
            None | Some(b'\r' | b'\n') => return RowEnd::At(at),
            Some(b'|') => at += 1,
            Some(_) => return RowEnd::Malformed,
        }
    }
}

/// The fields of a row. Quotes that are not as RFC 4180 has them are a part of the text, as in `"a".exe`: a reader that mends them
/// would alter it.
fn fields(line: &[u8]) -> Result<csv::StringRecord, String> {
    if memchr(b'"', line).is_none() {
        // As the csv reader has it, without building one for each line.
        return Ok(utf8(line)?.split('|').collect());
    }
    match row_end(line) {
        RowEnd::At(_) => quoted(line),
        RowEnd::Open => Err(NOT_CLOSED.into()),
        RowEnd::Malformed => utf8(line)?.split('|').map(field).collect(),
    }
}

const NOT_CLOSED: &str = "not csv: a quote is not closed";

/// One field of a row in which some quotes are a part of the text.
fn field(text: &str) -> Result<String, String> {
    match row_end(text.as_bytes()) {
        RowEnd::At(_) => Ok(quoted(text.as_bytes())?.get(0).unwrap_or_default().to_owned()),
        RowEnd::Open => Err(NOT_CLOSED.into()),
        RowEnd::Malformed => Ok(text.to_owned()),
    }
}

/// The fields of a row whose quotes are as they should be.
fn quoted(line: &[u8]) -> Result<csv::StringRecord, String> {
    let mut row = csv::StringRecord::new();
    csv::ReaderBuilder::new()
        .delimiter(b'|')
        .has_headers(false)
        .buffer_capacity(line.len() + 1)
        .from_reader(line.chain(b"\n".as_slice()))
        .read_record(&mut row)
        .map_err(|error| format!("not csv: {error}"))?;
    Ok(row)
}

fn object<'a, const N: usize>(
    pairs: impl Iterator<Item = (&'a str, &'a str)>,
    keys: [&str; N],
) -> Result<(Bytes, Found<N>), String> {
    let (mut event, mut found) = (Vec::new(), [const { None }; N]);
    for (key, value) in pairs {
        event.push(if event.is_empty() { b'{' } else { b',' });
        serde_json::to_writer(&mut event, key).map_err(|error| error.to_string())?;
        event.push(b':');
        let start = event.len();
        serde_json::to_writer(&mut event, value).map_err(|error| error.to_string())?;
        for (found, _) in found.iter_mut().zip(keys).filter(|(found, wanted)| found.is_none() && *wanted == key) {
            *found = Some(start..event.len());
        }
    }
    event.push(b'}');
    Ok((event.into(), found))
}

fn utf8(line: &[u8]) -> Result<&str, String> {
    str::from_utf8(line).map_err(|error| format!("not utf-8: {error}"))
}
