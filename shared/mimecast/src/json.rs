//! A byte-level skeleton of JSON: where the members of an object and the elements of an array begin and end.
//!
//! Events reach Devo as the API sent them, so they are slices of the bytes received and never a parsed tree, which would
//! round numbers and rewrite escapes. The borders are found by depth and strings alone: a row that is rubbish inside still
//! has its borders and is refused alone, by [`compact`]. What the members mean is left to `envelope` and the collector.

mod hash;
mod list;
mod plain;
mod scan;

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;
use serde::de::IgnoredAny;

pub use hash::content_hash;
pub(crate) use list::List;
pub use list::{Broken, Elements, Members, elements, members};
pub use plain::{Layout, plain, plain_like};
pub(crate) use scan::Scan;

/// Where in an event the values of some of its members lie, as sent.
pub type Found<const N: usize> = [Option<Range<usize>>; N];

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
        if found.iter().all(Option::is_some) {
            break;
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
