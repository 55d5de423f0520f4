//! A file's bytes to events, streaming: memory is bounded by one event, and that one by [`MAX_EVENT`].
//!
//! Nothing is lost on the way: what cannot be read as an event comes out as [`Piece::Bad`], with the events around it
//! unharmed. Which file this is and where its events go is left to the collector, unpacking to `archive`.

mod array;
mod input;
mod lines;
#[cfg(test)]
mod tests;

use std::io::Read;

use bytes::Bytes;
use memchr::{memchr, memchr2};

use crate::ReadError;
use crate::json::{self, Found};
use array::Array;
use input::Input;
use lines::{Lines, Row};

/// The longest event in bytes as received; what is longer comes out as [`Piece::Bad`] in parts of this size.
pub const MAX_EVENT: usize = 16 << 20;

/// A part of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// One compact JSON object, without line end.
    Event(Bytes),
    /// What is no event.
    Bad {
        /// The bytes as received, without line end. Empty where the bytes that a JSON document needs to end are missing.
        raw: Bytes,
        /// Why, for the person who looks at the dead letter.
        reason: String,
    },
}

/// How the events lie in a file. A byte order mark at its start is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line; lines end with LF or CRLF.
    Ndjson,
    /// One JSON object with the events in an array under this key: SIEM 1.0 `data`, STIX `objects`.
    JsonArray(&'static str),
    /// SIEM 1.0 `key=value|key=value` lines, which end with CR, LF or CRLF.
    KeyValue,
    /// Threat feed rows separated by `|`, with a header.
    Csv,
}

impl Piece {
    /// An event, or what is none.
    fn of<const N: usize>(event: Result<(Bytes, Found<N>), String>, raw: impl FnOnce() -> Bytes) -> (Self, Found<N>) {
        match event {
            Ok((line, found)) => (Self::Event(line), found),
            Err(reason) => Self::bad(raw(), reason),
        }
    }

    fn bad<const N: usize>(raw: Bytes, reason: String) -> (Self, Found<N>) {
        (Self::Bad { raw, reason }, [const { None }; N])
    }
}

impl Format {
    /// The format of a file by its first bytes (some kB) and, where they leave it open, its name. `None`: empty or unknown.
    pub fn sniff(name: &str, head: &[u8]) -> Option<Self> {
        let head = json::trim(head.strip_prefix(input::BOM).unwrap_or(head));
        if head.first()? == &b'{' {
            return Some(Self::sniff_json(head));
        }
        let line = &head[..memchr2(b'\r', b'\n', head).unwrap_or(head.len())];
        match memchr(b'|', line) {
            Some(pair) if line[..pair].contains(&b'=') => Some(Self::KeyValue),
            Some(_) => Some(Self::Csv),
            None if name.ends_with(".siem") && line.contains(&b'=') => Some(Self::KeyValue),
            None if name.ends_with(".csv") => Some(Self::Csv),
            None => None,
        }
    }

    fn sniff_json(head: &[u8]) -> Self {
        let first = json::Scan::default().end(head, 0);
        let several = first.is_some_and(|end| json::trim(&head[end..]).first() == Some(&b'{'));
        let array = ["data", "objects"].into_iter().find(|key| !several && Array::new(key).finds(head));
        // A STIX bundle is no event, be its objects further on or nowhere.
        let bundle =
            || (!several && json::string_member(head, "type").as_deref() == Some("bundle")).then_some("objects");
        array.or_else(bundle).map_or(Self::Ndjson, Self::JsonArray)
    }
}

/// The pieces of a file, in its order, and where in its events the values of `N` members are.
pub struct Pieces<R: Read, const N: usize = 0> {
    input: Input<R, N>,
    splitter: Splitter,
    /// Set for good by the end or the first error.
    over: Option<Result<(), ReadError>>,
}

enum Splitter {
    Lines(Lines),
    Array(Array),
}

impl<R: Read> Pieces<R> {
    /// Reads nothing yet.
    pub fn new(reader: R, format: Format) -> Self {
        Self::after(Vec::new(), reader, format, [])
    }
}

impl<R: Read, const N: usize> Pieces<R, N> {
    /// Where these first bytes of the file have been read already: they are not copied once more. `keys` are the top-level members
    /// whose values are wanted: they are passed on the way anyhow.
    pub fn after(head: Vec<u8>, reader: R, format: Format, keys: [&'static str; N]) -> Self {
        let splitter = match format {
            Format::Ndjson => Splitter::Lines(Lines::new(Row::Json)),
            Format::KeyValue => Splitter::Lines(Lines::new(Row::KeyValue)),
            Format::Csv => Splitter::Lines(Lines::new(Row::Csv { header: None })),
            Format::JsonArray(key) => Splitter::Array(Array::new(key)),
        };
        Self { input: Input::after(head, reader, keys), splitter, over: None }
    }

    /// The next piece, and where in an event the wanted values are; `None` at the end.
    ///
    /// # Errors
    /// The reader's own, after all pieces before it: `Broken` (a truncated gzip, a wrong checksum) or `Local`. Stays so.
    #[allow(clippy::should_implement_trait, reason = "an end and an error both end it for good")]
    pub fn next(&mut self) -> Result<Option<(Piece, Found<N>)>, ReadError> {
        match &self.over {
            None => {}
            Some(Ok(())) => return Ok(None),
            Some(Err(error)) => return Err(error.again()),
        }
        let piece = match &mut self.splitter {
            Splitter::Lines(lines) => lines.next(&mut self.input),
            Splitter::Array(array) => array.next(&mut self.input),
        };
        let piece = piece.map_err(ReadError::from);
        match &piece {
            Ok(Some(_)) => {}
            Ok(None) => self.over = Some(Ok(())),
            Err(error) => self.over = Some(Err(error.again())),
        }
        piece
    }

    /// The header row as received, without which a row says nothing: once one has been read.
    pub fn header(&self) -> Option<&Bytes> {
        match &self.splitter {
            Splitter::Lines(lines) => lines.header(),
            Splitter::Array(_) => None,
        }
    }

    /// Whether the file has ended in the middle of something: perhaps it was cut.
    pub fn broke_off(&self) -> bool {
        match &self.splitter {
            Splitter::Lines(lines) => lines.broke_off,
            Splitter::Array(array) => array.broke_off(),
        }
    }

    /// Memory that is no longer needed, for another file.
    pub fn into_buffer(self) -> Vec<u8> {
        self.input.into_buffer()
    }

    /// Passes over `n` pieces, to resume inside a file; the number passed over, less than `n` only at the end.
    ///
    /// # Errors
    /// As [`Pieces::next`].
    pub fn skip(&mut self, n: u64) -> Result<u64, ReadError> {
        for skipped in 0..n {
            if self.next()?.is_none() {
                return Ok(skipped);
            }
        }
        Ok(n)
    }
}
