//! Files to events: no byte is lost, a bad piece spoils no other, and how the bytes arrive makes no difference.

use std::io::Read;

use bytes::Bytes;
use mimecast::json;
use mimecast::pieces::{Format, Piece, Pieces};
use serde_json::value::RawValue;

use super::json::dense;

const BOM: &[u8] = b"\xef\xbb\xbf";
const DATA: Format = Format::JsonArray("data");

pub fn ndjson(data: &[u8]) {
    let lines = without_bom(data).split(|byte| *byte == b'\n').filter(|line| !blank(line));
    let expected: Vec<Piece> = lines
        .map(|line| {
            let raw = Bytes::copy_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
            match json::compact(&raw) {
                Ok(event) => Piece::Event(event),
                Err(reason) => Piece::Bad { raw, reason },
            }
        })
        .collect();
    assert_eq!(split(data, Format::Ndjson), expected);
}

pub fn key_value(data: &[u8]) {
    let lines = without_bom(data).split(|byte| matches!(byte, b'\n' | b'\r')).filter(|line| !blank(line));
    let pieces = split(data, Format::KeyValue);
    assert_eq!(pieces.len(), lines.clone().count());
    for (piece, line) in pieces.iter().zip(lines) {
        match piece {
            Piece::Bad { raw, .. } => assert_eq!(raw, line),
            Piece::Event(event) => {
                let pairs: Vec<_> = texts(event).iter().map(|(key, value)| format!("{key}={value}")).collect();
                assert_eq!(pairs.join("|").as_bytes(), line, "a pair has changed");
            }
        }
    }
}

pub fn csv(data: &[u8]) {
    let pieces = split(data, Format::Csv);
    // All but the marks between fields comes out, in order, in an event or in a bad piece.
    let bare = |bytes: &[u8]| bytes.iter().filter(|b| !b"|\"\r\n\t ".contains(b)).copied().collect::<Vec<u8>>();
    let mut found = Vec::new();
    for piece in &pieces {
        match piece {
            Piece::Bad { raw, .. } => found.extend(bare(raw)),
            Piece::Event(event) => texts(event).iter().for_each(|(_, value)| found.extend(bare(value.as_bytes()))),
        }
    }
    assert!(bare(without_bom(data)).ends_with(&found), "lost or doubled");
    // A file that csv's own reader takes whole, strictly written, is its rows.
    let mut rows = csv::ReaderBuilder::new().delimiter(b'|').has_headers(false).from_reader(without_bom(data));
    let Ok(rows) = rows.records().collect::<Result<Vec<_>, _>>() else { return };
    let mut written = csv::WriterBuilder::new().delimiter(b'|').flexible(true).from_writer(Vec::new());
    rows.iter().for_each(|row| written.write_record(row).unwrap());
    // A header is one line, so that a quote left open in it swallows no row.
    let header = rows.first().is_some_and(|header| header.iter().all(|key| !key.contains(['\r', '\n'])));
    if written.into_inner().unwrap() != without_bom(data) || !header || rows.iter().any(spaces) {
        return;
    }
    let found: Vec<Vec<String>> = pieces
        .iter()
        .map(|piece| match piece {
            Piece::Event(event) => texts(event).into_iter().map(|(_, value)| value).collect(),
            Piece::Bad { reason, .. } => panic!("{reason}"),
        })
        .collect();
    let expected: Vec<Vec<String>> = rows[1..].iter().map(|row| row.iter().map(str::to_owned).collect()).collect();
    assert_eq!(found, expected);
}

/// Of one blank field: for us a blank line.
fn spaces(row: &csv::StringRecord) -> bool {
    row.len() == 1 && blank(row[0].as_bytes())
}

pub fn array(data: &[u8]) {
    let pieces = split(data, DATA);
    let body = without_bom(data);
    let raws = || {
        pieces.iter().map(|piece| match piece {
            Piece::Event(raw) | Piece::Bad { raw, .. } => &raw[..],
        })
    };
    // Every piece is in the document, in its order.
    let whole = dense(body);
    let mut rest = &whole[..];
    for raw in raws() {
        let raw = dense(raw);
        match rest.windows(raw.len().max(1)).position(|window| window.starts_with(&raw)) {
            Some(at) => rest = &rest[at + raw.len()..],
            // An odd quote in what is broken makes `dense` keep white space that it drops elsewhere.
            None => {
                assert!(raw.is_empty() || serde_json::from_slice::<&RawValue>(body).is_err(), "not of the document")
            }
        }
    }
    if pieces.iter().any(|piece| matches!(piece, Piece::Bad { reason, .. } if reason.starts_with("no array"))) {
        assert_eq!(raws().collect::<Vec<_>>().concat(), body, "a document without the array is given whole");
        return;
    }
    let Ok(_) = serde_json::from_slice::<&RawValue>(body) else { return };
    let mut expected = Vec::new();
    for (key, value) in json::members(body).map(Result::unwrap) {
        let key = [b"\"", key, b"\""].concat();
        if serde_json::from_slice::<String>(&key).is_ok_and(|key| key == "data") && value[0] == b'[' {
            let rows: Vec<&RawValue> = serde_json::from_slice(value).unwrap();
            expected.extend(rows.iter().map(|row| dense(row.get().as_bytes())));
        }
    }
    assert_eq!(raws().map(dense).collect::<Vec<_>>(), expected);
    assert!(pieces.iter().all(|piece| matches!(piece, Piece::Event(event) if event[0] == b'{')
        || matches!(piece, Piece::Bad { raw, .. } if raw[0] != b'{')));
}

pub fn sniff(data: &[u8]) {
    for name in ["receipt_1.json", "x.siem", "x.csv", ""] {
        let Some(format) = Format::sniff(name, data) else { continue };
        assert!(!blank(without_bom(data)), "nothing has a format");
        split(data, format);
    }
}

/// The pieces of a file; the same however its bytes arrive.
fn split(data: &[u8], format: Format) -> Vec<Piece> {
    let pieces = all(Pieces::new(data, format));
    let step = 1 + data.len() % 7;
    assert_eq!(all(Pieces::new(Dribble { bytes: data, step }, format)), pieces);
    for piece in &pieces {
        match piece {
            Piece::Event(event) => assert_eq!(json::compact(event).as_ref(), Ok(event), "an event is a compact object"),
            Piece::Bad { reason, .. } => assert!(!reason.is_empty()),
        }
    }
    let mut skipped = Pieces::new(data, format);
    let half = pieces.len() / 2;
    assert_eq!(skipped.skip(half as u64).unwrap(), half as u64);
    assert_eq!(all(skipped), pieces[half..]);
    pieces
}

fn all<R: Read>(mut pieces: Pieces<R>) -> Vec<Piece> {
    let mut found = Vec::new();
    while let Some((piece, [])) = pieces.next().unwrap() {
        found.push(piece);
    }
    found
}

/// Gives few bytes at once.
struct Dribble<'a> {
    bytes: &'a [u8],
    step: usize,
}

impl Read for Dribble<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.step.min(buffer.len());
        self.bytes.read(&mut buffer[..count])
    }
}

/// The members of an object of strings, in their order.
fn texts(event: &[u8]) -> Vec<(String, String)> {
    let text = |raw: &[u8]| serde_json::from_slice(raw).unwrap();
    json::members(event)
        .map(Result::unwrap)
        .map(|(key, value)| (text(&[b"\"", key, b"\""].concat()), text(value)))
        .collect()
}

fn without_bom(data: &[u8]) -> &[u8] {
    data.strip_prefix(BOM).unwrap_or(data)
}

fn blank(line: &[u8]) -> bool {
    line.iter().all(|byte| b" \t\r\n".contains(byte))
}
