//! A byte-level skeleton of JSON: where the members of an object and the elements of an array begin and end.
//!
//! Events reach Devo as the API sent them, so they are slices of the bytes received and never a parsed tree, which would
//! round numbers and rewrite escapes. The borders are found by depth and strings alone: a row that is rubbish inside still
//! has its borders and is refused alone, by [`compact`]. What the members mean is left to `envelope` and the collector.

mod hash;
mod plain;

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;
use memchr::memchr2;
use serde::de::IgnoredAny;

pub use hash::content_hash;
pub use plain::{Layout, plain, plain_like};

/// Where in an event the values of some of its members lie, as sent.
pub type Found<const N: usize> = [Option<Range<usize>>; N];

/// JSON whose own level cannot be read: a bracket, comma, colon or value is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unreadable json: {expected} expected at byte {at}")]
pub struct Broken {
    /// Offset in the slice that was given.
    pub at: usize,
    /// What should have been there.
    pub expected: &'static str,
}

/// The members of an object, as (key text between the quotes, escapes as sent; value). Ends after the first error.
pub fn members(object: &[u8]) -> Members<'_> {
    Members(List::new(object, [b'{', b'}']))
}

/// The elements of an array. Ends after the first error.
pub fn elements(array: &[u8]) -> Elements<'_> {
    Elements(List::new(array, [b'[', b']']))
}

/// See [`members`].
pub struct Members<'a>(List<'a>);

/// See [`elements`].
pub struct Elements<'a>(List<'a>);

impl<'a> Iterator for Members<'a> {
    type Item = Result<(&'a [u8], &'a [u8]), Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next(|list| {
            if list.peek() != Some(b'"') {
                return Err(list.broken("a key"));
            }
            let key = list.value()?;
            if list.peek() != Some(b':') {
                return Err(list.broken("a colon"));
            }
            list.at += 1;
            Ok((&key[1..key.len() - 1], list.value()?))
        })
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Result<&'a [u8], Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next(List::value)
    }
}

/// A walk over comma-separated items in brackets.
struct List<'a> {
    bytes: &'a [u8],
    at: usize,
    brackets: [u8; 2],
    stage: Stage,
}

enum Stage {
    Before,
    Inside,
    Over,
}

impl<'a> List<'a> {
    fn new(bytes: &'a [u8], brackets: [u8; 2]) -> Self {
        Self { bytes, at: 0, brackets, stage: Stage::Before }
    }

    fn next<T>(&mut self, item: impl FnOnce(&mut Self) -> Result<T, Broken>) -> Option<Result<T, Broken>> {
        let item = match self.step() {
            Ok(true) => item(self),
            Ok(false) => return None,
            Err(broken) => Err(broken),
        };
        if item.is_err() {
            self.stage = Stage::Over;
        }
        Some(item)
    }

    /// Moves to where an item must be; false: the list is over.
    fn step(&mut self) -> Result<bool, Broken> {
        let [open, close] = self.brackets;
        let next = self.peek();
        match self.stage {
            Stage::Before if next == Some(open) => {
                self.stage = Stage::Inside;
                self.at += 1;
                if self.peek() != Some(close) {
                    return Ok(true);
                }
            }
            Stage::Inside if next == Some(b',') => {
                self.at += 1;
                return Ok(true);
            }
            Stage::Inside if next == Some(close) => {}
            Stage::Before => return Err(self.broken("an opening bracket")),
            Stage::Inside => return Err(self.broken("a comma or closing bracket")),
            Stage::Over => return Ok(false),
        }
        self.at += 1;
        self.stage = Stage::Over;
        if self.peek().is_some() { Err(self.broken("nothing more")) } else { Ok(false) }
    }

    fn value(&mut self) -> Result<&'a [u8], Broken> {
        self.peek();
        let start = self.at;
        match Scan::default().end(self.bytes, start) {
            Some(end) if end > start => {
                self.at = end;
                Ok(&self.bytes[start..end])
            }
            _ => Err(self.broken("a value")),
        }
    }

    /// The next byte that is not white space, and moves there.
    fn peek(&mut self) -> Option<u8> {
        let found = self.bytes[self.at..].iter().position(|&byte| !is_space(byte));
        self.at = found.map_or(self.bytes.len(), |found| self.at + found);
        self.bytes.get(self.at).copied()
    }

    fn broken(&self, expected: &'static str) -> Broken {
        Broken { at: self.at, expected }
    }
}

/// Finds the end of one value; keeps its state, so that a value may arrive in pieces and no byte is looked at twice.
#[derive(Default)]
pub(crate) struct Scan {
    depth: usize,
    within: Within,
}

#[derive(Default, Clone, Copy)]
enum Within {
    #[default]
    Start,
    Scalar,
    Brackets,
    Text,
    Escape,
}

impl Scan {
    /// The offset just past the value, looking from `at` on; `None`: not in these bytes, go on at their length.
    ///
    /// A bare word or number ends before a comma, closing bracket or white space; an empty one is a value that is missing.
    pub(crate) fn end(&mut self, bytes: &[u8], mut at: usize) -> Option<usize> {
        loop {
            let ahead = &bytes[at..];
            let first = *ahead.first()?;
            match self.within {
                Within::Start => {
                    self.within = match first {
                        b'"' => Within::Text,
                        b'{' | b'[' => Within::Brackets,
                        _ => Within::Scalar,
                    };
                    at += usize::from(first == b'"');
                }
                Within::Scalar => {
                    return ahead
                        .iter()
                        .position(|&byte| matches!(byte, b',' | b']' | b'}') || is_space(byte))
                        .map(|end| at + end);
                }
                Within::Brackets => {
                    let mark = ahead.iter().position(|byte| matches!(byte, b'"' | b'{' | b'[' | b'}' | b']'))?;
                    at += mark + 1;
                    match ahead[mark] {
                        b'"' => self.within = Within::Text,
                        b'{' | b'[' => self.depth += 1,
                        _ => self.depth -= 1,
                    }
                    if self.depth == 0 {
                        return Some(at);
                    }
                }
                Within::Text => {
                    let mark = memchr2(b'"', b'\\', ahead)?;
                    at += mark + 1;
                    match (ahead[mark], self.depth) {
                        (b'\\', _) => self.within = Within::Escape,
                        (_, 0) => return Some(at),
                        _ => self.within = Within::Brackets,
                    }
                }
                Within::Escape => {
                    at += 1;
                    self.within = Within::Text;
                }
            }
        }
    }
}

/// The event as one line: white space outside strings removed, nothing else touched. Where there is none to remove the
/// result is a slice of the input, not a copy.
///
/// # Errors
/// The reason for a dead letter: not UTF-8, not valid JSON (a raw control character in a string is none), no object.
pub fn compact(event: &Bytes) -> Result<Bytes, String> {
    compact_with(event, []).map(|(line, _)| line)
}

/// [`compact`], and where in the line the values of these top-level members are, of each key the first.
///
/// # Errors
/// As [`compact`].
pub fn compact_with<const N: usize>(event: &Bytes, keys: [&str; N]) -> Result<(Bytes, Found<N>), String> {
    if let Some(values) = plain(event, keys) {
        return Ok((event.clone(), places(event, values)));
    }
    let line = compact_slowly(event)?;
    let found = places(&line, find(&line, keys));
    Ok((line, found))
}

/// Where in `line` these slices of it are.
pub(crate) fn places<const N: usize>(line: &[u8], values: [Option<&[u8]>; N]) -> Found<N> {
    values.map(|value| {
        let start = value?.as_ptr().addr() - line.as_ptr().addr();
        Some(start..start + value?.len())
    })
}

fn compact_slowly(event: &Bytes) -> Result<Bytes, String> {
    let event = event.slice_ref(trim(event));
    // serde_json does not look at the encoding of a string that it ignores.
    let text = str::from_utf8(&event).map_err(|error| format!("not utf-8: {error}"))?;
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| format!("not json: {error}"))?;
    if event[0] != b'{' {
        return Err("not a json object".into());
    }
    let Some(mut space) = next_space(&event, 0) else { return Ok(event) };
    let mut line = Vec::with_capacity(event.len());
    let mut at = 0;
    loop {
        line.extend_from_slice(&event[at..space]);
        // There is a byte after it: the white space at the end is trimmed.
        at = space + event[space..].iter().take_while(|&&byte| is_space(byte)).count();
        space = match next_space(&event, at) {
            Some(space) => space,
            None => break,
        };
    }
    line.extend_from_slice(&event[at..]);
    Ok(line.into())
}

/// The first white space outside strings in valid JSON, from `at` on, which is outside a string.
fn next_space(json: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += json[at..].iter().position(|&byte| byte == b'"' || byte <= b' ')?;
        if json[at] != b'"' {
            return Some(at);
        }
        at = Scan::default().end(json, at)?;
    }
}

/// The text of a top-level member of `event`: a string decoded, a number or boolean as written.
///
/// The first member with this key counts. `None`: absent, of another type, or a string that is no Unicode text.
pub fn string_member(event: &[u8], key: &str) -> Option<String> {
    let [value] = find(event, [key]);
    text(value?).map(Cow::into_owned)
}

/// The values, as sent, of these top-level members of what may be an event, of each key the first.
pub fn find<'a, const N: usize>(event: &'a [u8], keys: [&str; N]) -> [Option<&'a [u8]>; N] {
    let mut found = [None; N];
    for (raw, value) in members(event).map_while(Result::ok) {
        for (found, key) in found.iter_mut().zip(keys) {
            if found.is_none() && key_is(raw, key) {
                *found = Some(value);
            }
        }
    }
    found
}

/// The text of a value as sent: a string decoded, a number or boolean as written. `None`: of another type, or a string that is
/// no Unicode text.
pub fn text(value: &[u8]) -> Option<Cow<'_, str>> {
    match value.first()? {
        b'"' => match serde_json::from_slice(value) {
            Ok(plain) => Some(Cow::Borrowed(plain)),
            Err(_) => serde_json::from_slice(value).ok().map(Cow::Owned),
        },
        b'-' | b'0'..=b'9' => str::from_utf8(value).ok().map(Cow::Borrowed),
        _ if value == b"true" => Some(Cow::Borrowed("true")),
        _ if value == b"false" => Some(Cow::Borrowed("false")),
        _ => None,
    }
}

/// Whether a key as sent, without its quotes, means `key`.
pub(crate) fn key_is(raw: &[u8], key: &str) -> bool {
    if raw.contains(&b'\\') {
        let quoted = [b"\"", raw, b"\""].concat();
        return serde_json::from_slice::<String>(&quoted).is_ok_and(|decoded| decoded == key);
    }
    raw == key.as_bytes()
}

/// JSON's white space.
pub(crate) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// Without JSON's white space at both ends.
pub(crate) fn trim(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().take_while(|&&byte| is_space(byte)).count();
    let end = bytes[start..].iter().rev().take_while(|&&byte| is_space(byte)).count();
    &bytes[start..bytes.len() - end]
}

#[cfg(test)]
mod tests;
