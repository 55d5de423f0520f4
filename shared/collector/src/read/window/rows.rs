//! The rows of a slice: which of them are new, and how late they came.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use mimecast::json::{self, content_hash};
use xxhash_rust::xxh3::xxh3_128;

use super::{Reader, SECOND, Slice};
use crate::error::Error;
use crate::read::portion::{DeadLetter, Event, Place, Portion};
use crate::read::time::{parse_time, stamp};
use crate::seen::{Seen, Verdict, name_hash};
use crate::source::Window;

impl Reader<'_> {
    /// The marks of what has been delivered, asked for once and only when there is something to compare. Nothing before
    /// `slice` and what is still to be read again is read in this run any more.
    pub(super) async fn seen(&mut self, slice: Slice) -> Result<&mut Seen, Error> {
        let seen = match self.seen.take() {
            Some(seen) => seen,
            None => {
                let from = self.windows.reread_to.map_or(slice.0, |again| again.min(slice.0));
                self.task.seen(&stamp(from - SECOND)).await?
            }
        };
        Ok(self.seen.insert(seen))
    }

    /// The new ones of `rows`. `first`: equal rows are numbered from here on.
    pub(super) async fn judged(&mut self, slice: Slice, rows: &[Bytes], first: bool) -> Result<Portion, Error> {
        let mut portion = Portion { stamp: stamp(slice.1), ..Portion::default() };
        if rows.is_empty() {
            return Ok(portion);
        }
        let mut seen = std::mem::take(self.seen(slice).await?);
        if first {
            seen.begin();
        }
        let table = self.task.table(self.task.source.table);
        for row in rows.iter().filter(|row| !self.outside_backfill(row)) {
            let (line, verdict) = judge(self.spec, row, &mut seen);
            if verdict.known {
                portion.duplicates += 1;
                continue;
            }
            portion.marks.push(verdict.mark);
            match line {
                Ok(line) => {
                    portion.late_seconds = portion.late_seconds.max(self.late(slice, &line));
                    portion.events.push(Event { table: table.clone(), line, mark: verdict.mark, unknown_type: None });
                }
                Err(reason) => portion.rejected.push(self.dead_letter(slice, row.clone(), reason)),
            }
        }
        self.seen = Some(seen);
        Ok(portion)
    }

    /// The API may count its end in; a backfill's range is half-open.
    fn outside_backfill(&self, row: &Bytes) -> bool {
        let Some(range) = self.task.backfill else { return false };
        time(self.spec, row).is_some_and(|time| time < range.from || time >= range.to)
    }

    /// How many seconds behind what was closed already a new row's own time is; none of a backfill, which reads what is long
    /// past.
    fn late(&self, slice: Slice, row: &[u8]) -> u64 {
        let closed_to = self.windows.closed_to.filter(|closed_to| slice.0 < *closed_to);
        // What is outside the slice that was asked for says nothing about the overlap.
        let time = closed_to.and_then(|_| time(self.spec, row)).filter(|time| *time >= slice.0);
        match closed_to.zip(time) {
            Some((closed_to, time)) if self.task.backfill.is_none() => {
                u64::try_from((closed_to - time).num_seconds()).unwrap_or_default()
            }
            _ => 0,
        }
    }

    pub(super) fn dead_letter(&self, slice: Slice, raw: Bytes, reason: String) -> DeadLetter {
        let origin = format!("{} {}/{}", self.spec.path, stamp(slice.0), stamp(slice.1));
        let table = self.task.table(self.task.source.table).to_string();
        let place = Place { slice: Some(slice), ..Place::default() };
        DeadLetter { raw, reason, table, origin, place }
    }
}

/// A row as one line, or why it is none; its mark, and whether it has been delivered already or is a dead letter.
pub(crate) fn judge(spec: &Window, row: &Bytes, seen: &mut Seen) -> (Result<Bytes, String>, Verdict) {
    let raw = xxh3_128(row);
    let (line, [id]) = match json::compact_with(row, [spec.id.unwrap_or_default()]) {
        Ok(found) if !seen.has_content(raw) => found,
        // What has become a dead letter is for its replay to deliver, also when it can be read by now.
        other => return (other.map(|(line, _)| line), seen.content(raw)),
    };
    let id = id.filter(|_| spec.id.is_some()).and_then(|place| json::text(&line[place])).filter(|id| !id.is_empty());
    let verdict = match id {
        Some(id) => seen.identity(name_hash(&id)),
        None => seen.content(content_hash(row)),
    };
    (Ok(line), verdict)
}

/// A row's own time.
pub(crate) fn time(spec: &Window, row: &[u8]) -> Option<DateTime<Utc>> {
    json::string_member(row, spec.time).and_then(|time| parse_time(&time))
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use mimecast::Rows;

    use super::*;
    use crate::seen::numbered;

    #[test]
    fn a_row_that_became_a_dead_letter_is_its_replay_s_also_once_it_can_be_read() {
        let row = Bytes::from_static(br#"{"id":"1"}"#);
        for id in [Some("id"), None] {
            let spec = Window {
                path: "/",
                rows: Rows::Flat,
                bounds: ["from", "to"],
                filter: "",
                id,
                time: "date",
                overlap: TimeDelta::zero(),
                keeps: None,
                page_size: 1,
            };
            let mut seen = Seen::new(vec![numbered(xxh3_128(&row), 0)]);
            let known: Vec<bool> = [(); 2].map(|()| judge(&spec, &row, &mut seen).1.known).into();
            // One was a dead letter: another of its kind is new.
            assert_eq!(known, [true, false]);
            assert!(!judge(&spec, &row, &mut Seen::default()).1.known);
        }
    }
}
