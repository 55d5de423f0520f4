//! A slice with a few more rows than a page, in two parts.
//!
//! Lists that are sorted by time, as they seem to be, show all rows of the whole seconds before the page's last one: that part
//! is read, and only the rest is asked for. Nobody promises the order, so the rows are looked at, and the two parts together
//! must have as many as the slice's total said. A list in another order would hide rows behind its page, so one list that is
//! not sorted, or one total that is not right, ends it for the run.

use bytes::Bytes;
use chrono::{DateTime, SubsecRound, TimeDelta, Utc};

use super::answer::{Answer, Asked};
use super::{BYTES_AHEAD, Reader, SECOND, Slice, time};
use crate::Error;
use crate::read::ahead::Ahead;

/// So many pages at most: they come one after the other, where slices of the right length come side by side.
const PAGES: u64 = 16;
/// Where only halving is left, it is worth no more than one overflow.
const PAGES_TO_HALVE: u64 = 2;

impl Reader<'_> {
    /// Two parts that take the slice's place, or `None` where there is too much or nobody knows how much there is.
    pub(super) async fn split(&mut self, slice: Slice, first: &Answer) -> Result<Option<[(Slice, Asked); 2]>, Error> {
        let Some(total) = first.total.filter(|total| *total <= PAGES * self.size() as u64) else { return Ok(None) };
        // Of a list that shows its newest rows first, all are held until the oldest is there.
        let bytes = first.rows.iter().map(Bytes::len).sum::<usize>() as u64 * total / (first.rows.len() as u64).max(1);
        let parts = if bytes > BYTES_AHEAD as u64 || self.doubts { None } else { self.shown_whole(slice, first) };
        if let Some((shown, rest)) = parts {
            // The API may count the end in.
            let ends = |time| time < shown.1 || shown.1 == slice.1;
            let is_shown = |row: &Bytes| time(self.spec, row).is_some_and(|time| time >= shown.0 && ends(time));
            let rows: Vec<_> = first.rows.iter().filter(|row| is_shown(row)).cloned().collect();
            if let Ok(others) = self.page(self.ask(rest, None).await)? {
                // Also the second between the parts may count into both.
                let twice = others.rows.iter().filter(|row| is_shown(row)).count();
                if others.total.map(|others| others.saturating_add(rows.len() as u64)) == Some(total + twice as u64) {
                    let rows = Answer { total: Some(rows.len() as u64), rows, next: None, at: first.at };
                    let mut parts = [(shown, rows), (rest, others)];
                    parts.sort_unstable_by_key(|(part, _)| *part);
                    return Ok(Some(parts.map(|(part, answer)| (part, Ahead::start(async { Ok(answer) })))));
                }
                self.doubts = true;
            }
        }
        if total > PAGES_TO_HALVE * self.size() as u64 {
            return Ok(None);
        }
        let middle = slice.0 + TimeDelta::seconds((slice.1 - slice.0).num_seconds() / 2);
        Ok(Some([(slice.0, middle), (middle, slice.1)].map(|half| (half, self.ask(half, None)))))
    }

    /// The part of a slice whose rows are all on its first page, if that is sorted by time, and the rest.
    fn shown_whole(&mut self, slice: Slice, first: &Answer) -> Option<(Slice, Slice)> {
        let times: Option<Vec<DateTime<Utc>>> = first.rows.iter().map(|row| time(self.spec, row)).collect();
        let times = times.filter(|times| times.iter().all(|time| *time >= slice.0 && *time <= slice.1))?;
        let last = times.last()?.trunc_subsecs(0);
        let (shown, rest) = if times.is_sorted() {
            ((slice.0, last), (last, slice.1))
        } else if times.is_sorted_by(|later, earlier| later >= earlier) {
            ((last + SECOND, slice.1), (slice.0, last + SECOND))
        } else {
            self.doubts = true;
            return None;
        };
        (shown.0 < shown.1 && rest.0 < rest.1).then_some((shown, rest))
    }
}
