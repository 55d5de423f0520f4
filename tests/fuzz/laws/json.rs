//! Compaction: the line is the event without white space outside strings, and nothing else changes.

use std::collections::HashSet;

use bytes::Bytes;
use mimecast::json;
use serde_json::Value;
use serde_json::value::RawValue;

pub fn compaction(data: &[u8]) {
    borders(data);
    let event = Bytes::copy_from_slice(data);
    let object = object(data);
    match json::compact(&event) {
        Ok(line) => {
            assert!(object.is_some(), "taken for an object");
            assert_eq!(line, dense(data), "more than white space has changed");
            assert!(line.iter().all(|byte| *byte >= b' '), "a control character in a line");
            let again = json::compact(&line).unwrap();
            assert_eq!((again.as_ptr(), again.len()), (line.as_ptr(), line.len()), "copied though it is compact");
            if let Ok(value) = serde_json::from_slice::<Value>(data) {
                assert_eq!(serde_json::from_slice::<Value>(&line).unwrap(), value);
            }
            members(&line);
        }
        Err(reason) => {
            assert!(object.is_none(), "an object refused: {reason}");
            assert!(!reason.is_empty() && reason.len() < 300);
        }
    }
}

/// What the fast path takes is one compact object, and its members are those that the slow path finds; whatever line came before.
pub fn plain(data: &[u8]) {
    const KEYS: [&str; 4] = ["a", "type", "\u{e9}", ""];
    let mut layout = json::Layout::new(KEYS);
    for line in data.split(|byte| *byte == b'\n') {
        plain_line(line, json::plain_like(line, &mut layout), KEYS);
    }
    plain_line(data, json::plain(data, KEYS), KEYS);
}

fn plain_line<const N: usize>(data: &[u8], values: Option<[Option<&[u8]>; N]>, keys: [&str; N]) {
    let Some(values) = values else { return };
    assert!(object(data).is_some(), "taken for an object");
    assert_eq!(data, dense(data), "taken for compact");
    assert_eq!(values, json::find(data, keys), "another member");
}

/// The event's text, if it is one JSON object in UTF-8.
fn object(data: &[u8]) -> Option<&str> {
    let text = str::from_utf8(data).ok()?;
    let value: &RawValue = serde_json::from_str(text).ok()?;
    value.get().starts_with('{').then_some(text)
}

/// Valid JSON without white space outside strings, byte by byte.
pub fn dense(json: &[u8]) -> Vec<u8> {
    let (mut out, mut text, mut escaped) = (Vec::new(), false, false);
    for &byte in json {
        if text || !matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
            out.push(byte);
        }
        match byte {
            _ if escaped => escaped = false,
            b'\\' if text => escaped = true,
            b'"' => text = !text,
            _ => {}
        }
    }
    out
}

/// The members of a valid object are those that `serde_json` finds, number text included.
fn members(object: &[u8]) {
    let members: Vec<(&[u8], &[u8])> = json::members(object).map(Result::unwrap).collect();
    let joined = members.iter().map(|(key, value)| [b"\"", *key, b"\":", value].concat()).collect::<Vec<_>>();
    assert_eq!([&b"{"[..], &joined.join(&b','), &b"}"[..]].concat(), object);
    let Ok(values) = serde_json::from_slice::<Value>(object) else { return };
    let mut keys = HashSet::new();
    for (raw, value) in &members {
        let key: String = serde_json::from_slice(&[b"\"", *raw, b"\""].concat()).unwrap();
        if !keys.insert(key.clone()) {
            // Of two members with one key the first counts.
            continue;
        }
        let parsed: Value = serde_json::from_slice(value).unwrap();
        let expected = match &parsed {
            Value::String(text) => Some(text.clone()),
            Value::Number(_) | Value::Bool(_) => Some(String::from_utf8(value.to_vec()).unwrap()),
            _ => None,
        };
        assert_eq!(json::string_member(object, &key), expected);
    }
    assert_eq!(values.as_object().unwrap().len(), keys.len());
}

/// The borders of what may be no JSON at all: in order, within the bytes, and an end after the first error.
fn borders(data: &[u8]) {
    let place = |part: &[u8]| part.as_ptr() as usize - data.as_ptr() as usize;
    let mut at = 0;
    let mut elements = json::elements(data);
    while let Some(Ok(element)) = elements.next() {
        assert!(!element.is_empty() && place(element) >= at);
        at = place(element) + element.len();
    }
    assert!(at <= data.len() && elements.next().is_none());
    let mut at = 0;
    let mut members = json::members(data);
    while let Some(Ok((key, value))) = members.next() {
        assert!(!value.is_empty() && place(key) >= at && place(value) > place(key) + key.len());
        at = place(value) + value.len();
    }
    assert!(at <= data.len() && members.next().is_none());
}
