//! Dead letters as items: one, or several numbered parts, below `dead#<time>#<number>`.
//!
//! The parts of a letter have consecutive numbers and are written and deleted from the first on. So parts without their first
//! are what an interrupted deletion has left, and a first without all others what an interrupted write has: there the
//! checkpoint has not moved, and the letter was written again.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use flate2::read::MultiGzDecoder;
use serde::Serialize;

use super::{CHECKPOINT, Item, Lease, Store, integer, number, rfc3339, string, text};
use crate::error::Error;
use crate::read::portion::{DeadLetter, Place};

pub(super) const DEAD: &str = "dead#";
/// Bytes of a dead letter in one item: with the longest texts beside them they stay below the 400 kB of an item.
pub(super) const RAW_PER_ITEM: usize = 300_000;
/// The longest header that stands beside each part, in bytes. A longer one stands before the bytes themselves.
const HEADER: usize = 10_000;
/// Bytes of a text for people, and of a file's name, which ZIP allows 64 kB.
const TEXT: usize = 2_000;
const NAME: usize = 65_536;

/// A dead letter in the checkpoint table, without its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Letter {
    /// `<time>#<number>`, which no other of its source has.
    pub id: String,
    /// When it was written, by Mimecast's clock.
    pub at: DateTime<Utc>,
    /// Why it could not be delivered.
    pub reason: String,
    /// The Devo table it was meant for.
    pub table: String,
    /// Endpoint, file or page; `devo` for a line that Devo has refused.
    pub origin: String,
    /// How many bytes are stored: compressed ones where it is long.
    pub bytes: usize,
    /// Whether all of its parts are there. If not, it is what a crash has left and stands for nothing.
    pub whole: bool,
    /// The checkpoint whose run wrote it: the live one's or a backfill's.
    #[serde(skip)]
    pub(crate) checkpoint: String,
    /// Where its content was, without the header.
    #[serde(skip)]
    pub(crate) place: Place,
    /// Its items, in order.
    #[serde(skip)]
    pub(crate) parts: Vec<Part>,
}

/// One item of a letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub sk: String,
    pub bytes: usize,
    number: i64,
}

impl Letter {
    /// Whether it is the rest of one that has been deleted.
    pub(crate) fn is_rest(&self) -> bool {
        self.parts.first().is_none_or(|part| part.number != 1)
    }
}

impl Store {
    /// The dead letters of a source, the oldest first.
    ///
    /// # Errors
    /// `Checkpoint`.
    pub async fn letters(&self, tenant: &str, source: &str) -> Result<Vec<Letter>, Error> {
        let pk = format!("{tenant}#{source}");
        let mut pages = self.query(&pk, DEAD, &format!("{DEAD}~")).into_paginator().items().send();
        let mut letters: BTreeMap<String, (i64, Letter)> = BTreeMap::new();
        while let Some(item) = pages.next().await {
            let item = item.map_err(|error| self.failed("reading the dead letters", error))?;
            let sk = string(&item, "sk").unwrap_or_default();
            let (part, parts) = (integer(&item, "part").unwrap_or(1), integer(&item, "parts").unwrap_or(1));
            let bytes = item.get("raw").and_then(|raw| raw.as_b().ok()).map_or(0, |raw| raw.as_ref().len());
            let Some((id, at)) = first_part(&sk, part) else { continue };
            let (_, letter) = letters.entry(id.clone()).or_insert_with(|| {
                let letter = Letter {
                    id,
                    at,
                    reason: string(&item, "reason").unwrap_or_default(),
                    table: string(&item, "table").unwrap_or_default(),
                    origin: string(&item, "origin").unwrap_or_default(),
                    bytes: 0,
                    whole: false,
                    checkpoint: string(&item, "checkpoint").unwrap_or_else(|| CHECKPOINT.to_owned()),
                    place: place(&item),
                    parts: Vec::new(),
                };
                (parts, letter)
            });
            letter.bytes += bytes;
            letter.parts.push(Part { sk, bytes, number: part });
        }
        let ordered = letters.into_values().map(|(parts, mut letter)| {
            letter.parts.sort_by_key(|part| part.number);
            letter.whole = letter.parts.iter().map(|part| part.number).eq(1..=parts);
            letter
        });
        let mut letters: Vec<Letter> = ordered.collect();
        letters.sort_by(|a, b| (a.at, &a.id).cmp(&(b.at, &b.id)));
        Ok(letters)
    }

    /// The bytes of a letter as they were received, and the header that its row belongs to; `None` where it is gone.
    ///
    /// # Errors
    /// `Checkpoint`, also for a letter that is not whole.
    pub(crate) async fn raw(
        &self,
        tenant: &str,
        source: &str,
        letter: &Letter,
    ) -> Result<Option<(Bytes, Option<Bytes>)>, Error> {
        let (Some(first), Some(last)) = (letter.parts.first(), letter.parts.last()) else { return Ok(None) };
        let pk = format!("{tenant}#{source}");
        let mut pages = self.query(&pk, &first.sk, &last.sk).into_paginator().items().send();
        let mut found: BTreeMap<String, Item> = BTreeMap::new();
        while let Some(item) = pages.next().await {
            let item = item.map_err(|error| self.failed("reading a dead letter", error))?;
            found.extend(string(&item, "sk").map(|sk| (sk, item)));
        }
        let (mut raw, mut zipped, mut header, mut header_bytes) = (Vec::new(), false, None, None);
        for part in &letter.parts {
            let Some(item) = found.get(&part.sk) else { return Ok(None) };
            let bytes = |name: &str| item.get(name).and_then(|value| value.as_b().ok()).map(Blob::as_ref);
            raw.extend_from_slice(bytes("raw").unwrap_or_default());
            zipped = string(item, "encoding").is_some();
            header = bytes("header").map(Bytes::copy_from_slice);
            header_bytes = integer(item, "header_bytes").and_then(|bytes| usize::try_from(bytes).ok());
        }
        if zipped {
            let mut content = Vec::new();
            MultiGzDecoder::new(&raw[..]).read_to_end(&mut content).map_err(|error| {
                Error::Checkpoint(format!("the dead letter {} does not inflate: {error}", letter.id))
            })?;
            raw = content;
        }
        let mut raw = Bytes::from(raw);
        if let Some(bytes) = header_bytes {
            header = Some(raw.split_to(bytes.min(raw.len())));
        }
        Ok(Some((raw, header)))
    }

    /// The bytes of the dead letter `letter` as they were received; `None` where it is gone.
    ///
    /// # Errors
    /// `Checkpoint`.
    pub async fn letter(&self, tenant: &str, source: &str, letter: &Letter) -> Result<Option<Bytes>, Error> {
        Ok(self.raw(tenant, source, letter).await?.map(|(raw, _)| raw))
    }
}

impl Lease {
    /// One item, or several numbered parts.
    pub(super) fn dead_items(&mut self, letter: &DeadLetter, now: DateTime<Utc>) -> Result<Vec<Item>, Error> {
        let Place { feed, file, line, header, slice } = &letter.place;
        let long_header = header.as_ref().filter(|header| header.len() > HEADER);
        let header = header.as_ref().filter(|header| header.len() <= HEADER);
        let mut raw = [long_header.map_or(&[][..], |header| header), &letter.raw].concat();
        let zip = raw.len() > RAW_PER_ITEM;
        if zip {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            raw = encoder
                .write_all(&raw)
                .and_then(|()| encoder.finish())
                .map_err(|error| Error::Checkpoint(format!("a dead letter does not compress: {error}")))?;
        }
        // An empty piece of input is a dead letter too.
        let parts: Vec<&[u8]> = if raw.is_empty() { vec![&[]] } else { raw.chunks(RAW_PER_ITEM).collect() };
        let count = parts.len();
        let mut items = Vec::with_capacity(count);
        for (index, part) in parts.into_iter().enumerate() {
            let mut item = Item::from([
                ("pk".into(), text(&self.key.pk)),
                ("sk".into(), text(&format!("{DEAD}{}#{}", rfc3339(now), self.unique()))),
                ("raw".into(), AttributeValue::B(Blob::new(part))),
                ("reason".into(), text(cut(&letter.reason, TEXT))),
                ("table".into(), text(&letter.table)),
                ("origin".into(), text(cut(&letter.origin, TEXT))),
            ]);
            item.extend(feed.as_ref().map(|feed| ("feed".into(), text(feed))));
            item.extend(file.as_ref().map(|file| ("file".into(), text(cut(file, NAME)))));
            item.extend(line.map(|line| ("line".into(), number(i64::try_from(line).unwrap_or(i64::MAX)))));
            item.extend(header.map(|header| ("header".into(), AttributeValue::B(Blob::new(header.as_ref())))));
            item.extend(long_header.map(|header| ("header_bytes".into(), number(header.len() as i64))));
            if let Some((from, to)) = slice {
                item.extend([("from".into(), text(&rfc3339(*from))), ("to".into(), text(&rfc3339(*to)))]);
            }
            if self.key.is_backfill() {
                item.insert("checkpoint".into(), text(&self.key.sk));
            }
            if zip {
                item.insert("encoding".into(), text("gzip"));
            }
            if count > 1 {
                item.insert("part".into(), number(index as i64 + 1));
                item.insert("parts".into(), number(count as i64));
            }
            items.push(item);
        }
        Ok(items)
    }
}

/// As much of a text as fits.
fn cut(text: &str, bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or(text)
}

fn place(item: &Item) -> Place {
    let instant = |name: &str| {
        let at = DateTime::parse_from_rfc3339(&string(item, name)?).ok()?;
        Some(at.to_utc())
    };
    Place {
        feed: string(item, "feed"),
        file: string(item, "file"),
        line: integer(item, "line").and_then(|line| u64::try_from(line).ok()),
        header: None,
        slice: instant("from").zip(instant("to")),
    }
}

/// The letter's id and time, from the sort key of one of its parts.
fn first_part(sk: &str, part: i64) -> Option<(String, DateTime<Utc>)> {
    let (time, number) = sk.strip_prefix(DEAD)?.split_once('#')?;
    let at = DateTime::parse_from_rfc3339(time).ok()?.to_utc();
    let (number, rest) = number.split_at(number.find('-').unwrap_or(number.len()));
    // Somebody may have put an item there by hand.
    let id = match number.parse::<i64>() {
        Ok(number) => format!("{time}#{}{rest}", number - part + 1),
        Err(_) => format!("{time}#{number}{rest}"),
    };
    Some((id, at))
}
