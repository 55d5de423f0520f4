//! Reads a log by time: one closed window after the other, page by page.
//!
//! Windows are half-open, end a settle lag behind the server's clock and begin an overlap before the last one's end. Lists
//! come newest first, so a window counts only when it has been read to its last page.

use std::collections::HashMap;

use bytes::Bytes;
use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use mimecast::{Error, Page, json};
use serde_json::json;
use xxhash_rust::xxh3::xxh3_128;

use crate::Gap;
use crate::portion::{DeadLetter, Event, Marks, Portion};
use crate::reader::Task;
use crate::seen::{Seen, Verdict, content_hash, name_hash};
use crate::source::Window;
use crate::state::{Late, Open, State, stamp};

/// Longest window: bounds how much one reading has to go through before it counts.
const LONGEST: TimeDelta = TimeDelta::hours(24);
/// Shortest window worth another request in the same run.
const SHORTEST: TimeDelta = TimeDelta::seconds(60);
/// Kept clear of the API's look-back limit, so that a slow request is not refused.
const LOOK_BACK_MARGIN: TimeDelta = TimeDelta::hours(1);
/// Default of `SETTLE`.
const SETTLE: TimeDelta = TimeDelta::seconds(60);
/// More rows per page are refused by every endpoint.
const LARGEST_PAGE_SIZE: u32 = 500;
/// What two readings of the same clock may differ by.
const CLOCK_GRAIN: TimeDelta = TimeDelta::seconds(5);
/// How often a run reads windows again because rows that came late may have moved others onto the next page.
const DOUBTS: u32 = 5;
/// Empty pages in a row that are followed when rows are still missing.
const EMPTY_PAGES: u32 = 5;

/// Reads one source of kind window.
pub(crate) struct WindowReader<'a> {
    task: Task<'a>,
    spec: &'a Window,
    state: State,
    /// Where the first window planned in this run would end if it were not cut.
    target: Option<DateTime<Utc>>,
    restarted: bool,
    doubts: u32,
    empty_pages: u32,
    /// Hashes and `totalCount` of the page before this one.
    before: Option<(Vec<u128>, u64)>,
    /// `totalCount` has become less while this reading went on.
    shrunk: bool,
    gap: Option<Gap>,
    /// Since the last readable page.
    trouble: Option<String>,
    /// A page has been readable in this run.
    readable: bool,
}

impl<'a> WindowReader<'a> {
    pub fn new(task: Task<'a>, spec: &'a Window, state: State) -> Self {
        Self {
            task,
            spec,
            state,
            target: None,
            restarted: false,
            doubts: 0,
            empty_pages: 0,
            before: None,
            shrunk: false,
            gap: None,
            trouble: None,
            readable: false,
        }
    }

    /// The earliest instant that this run reads again.
    pub fn horizon(&self) -> Option<DateTime<Utc>> {
        let windows = &self.state.windows;
        let reread = windows.closed_to.map(|closed_to| closed_to - self.overlap());
        [reread, windows.open.as_ref().map(|open| open.from)].into_iter().flatten().min()
    }

    /// On the first run ever: the state that says where collecting begins, to be kept whatever comes of the run.
    pub fn begin(&mut self) -> Option<State> {
        let first = match self.task.backfill {
            Some(range) => range.from,
            None => (self.now() - self.task.settings.initial_lookback).min(self.settled()),
        };
        let kept = self.oldest().map_or(first, |oldest| first.max(oldest));
        let overlap = self.overlap();
        if self.state.windows.since.is_some() {
            return None;
        }
        if let Some(range) = self.task.backfill
            && kept > first
        {
            tracing::warn!(from = %first, to = %kept, "gap: mimecast no longer keeps what was logged in between");
            self.gap = Some(Gap { from: first, to: kept.min(range.to) });
            self.state.finished = kept >= range.to;
        }
        let windows = &mut self.state.windows;
        windows.since = Some(windows.closed_to.map_or(kept, |closed_to| closed_to - overlap));
        windows.closed_to.get_or_insert(kept);
        Some(self.state.clone())
    }

    pub async fn next(&mut self, seen: &mut Seen) -> Result<Option<Portion>, Error> {
        let Some(mut open) = self.plan() else {
            let gap = self.gap.take();
            return Ok(gap.map(|_| Portion { gap, state: self.state.clone(), ..Portion::default() }));
        };
        let mut answer = self.page(&open).await;
        // An answer tells the server's time. Where our clock runs ahead, the window ended in the server's future.
        let ahead = open.page.is_none() && open.to > self.settled() + CLOCK_GRAIN;
        if ahead && matches!(answer, Ok(_) | Err(Error::Protocol(_))) {
            self.target = None;
            match self.plan() {
                Some(sooner) => open = sooner,
                None => return Ok(None),
            }
            answer = self.page(&open).await;
        }
        match answer {
            Ok(page) => match page.envelope.rows(self.spec.rows) {
                // Rows that are counted but not where they should be: their place has changed, and nothing may pass over them.
                Ok(rows) if open.reread && rows.is_empty() && open.rows == 0 && page.envelope.total > Some(0) => {
                    let path = self.spec.path;
                    Err(Error::Protocol(format!(
                        "{path}: totalCount is not 0, yet there are no rows where they used to be"
                    )))
                }
                Ok(rows) => Ok(Some(self.take(open, &page, rows, seen))),
                Err(error) => self.divide(open, error).await.map(Some),
            },
            // A token is no longer good: its window from the start, once. What was sent is known, so this repeats nothing.
            Err(Error::TokenRefused(reason) | Error::Protocol(reason)) if open.page.is_some() && !self.restarted => {
                tracing::warn!(%reason, "page token refused, reading the window again");
                self.restarted = true;
                Ok(Some(self.again(self.halved(&open).unwrap_or(open))))
            }
            Err(error @ Error::Unreadable { .. }) => self.divide(open, error).await.map(Some),
            Err(error) => Err(error),
        }
    }

    /// The window to read now: the one left open, or the next one; `None` when caught up.
    fn plan(&mut self) -> Option<Open> {
        if self.state.finished {
            return None;
        }
        let oldest = self.oldest();
        let kept = |at: DateTime<Utc>| oldest.map_or(at, |oldest| at.max(oldest));
        let (overlap, settled) = (self.overlap(), self.settled());
        let windows = &mut self.state.windows;
        if let Some(open) = windows.open.take_if(|open| kept(open.from) == open.from) {
            return Some(open);
        }
        windows.open = None;
        let (since, closed_to) = (windows.since?, windows.closed_to?);
        let begin = kept(closed_to);
        if begin > closed_to {
            tracing::warn!(from = %closed_to, to = %begin, "gap: mimecast no longer keeps what was logged in between");
            self.gap = Some(Gap { from: closed_to, to: begin });
        }
        let end = self.task.backfill.map_or(settled, |range| settled.min(range.to));
        if !self.readable && end - begin < TimeDelta::seconds(1) && self.task.backfill.is_none() {
            // Nothing seems to be left, or our clock is behind the one that `closed_to` goes by: the answer to a short window
            // will tell it.
            return Some(self.reading(kept((begin - overlap).max(since)), begin + TimeDelta::seconds(1)));
        }
        // All up to the run's first end; what has come since is worth a request only when it is some time.
        let target = *self.target.get_or_insert(end);
        let least = if begin < target.min(end) { TimeDelta::seconds(1) } else { SHORTEST };
        if end - begin < least {
            return None;
        }
        Some(self.reading(kept((begin - overlap).max(since)), end.min(begin + LONGEST)))
    }

    /// A reading of `[from, to)` from its first page on.
    fn reading(&mut self, from: DateTime<Utc>, to: DateTime<Utc>) -> Open {
        let windows = &mut self.state.windows;
        windows.readings += 1;
        Open { from, to, page: None, rows: 0, total: None, reading: windows.readings, reread: false }
    }

    async fn page(&self, open: &Open) -> Result<Page, Error> {
        let size = self.page_size();
        let pagination = match &open.page {
            // A token holds its page size: another size is for the next window.
            Some((token, size)) => json!({"pageSize": size, "pageToken": token}),
            None => json!({"pageSize": size}),
        };
        let [from, to] = self.spec.bounds;
        let comma = if self.spec.filter.is_empty() { "" } else { "," };
        let (begin, end, filter) = (wire(open.from), wire(open.to), self.spec.filter);
        let body = format!(
            r#"{{"meta":{{"pagination":{pagination}}},"data":[{{"{from}":"{begin}","{to}":"{end}"{comma}{filter}}}]}}"#
        );
        self.task.client.page(self.spec.path, &body, self.task.until).await
    }

    /// Takes a page in: its new rows, and where the reading stands after it.
    fn take(&mut self, mut open: Open, page: &Page, rows: Vec<Bytes>, seen: &mut Seen) -> Portion {
        self.trouble = None;
        self.readable = true;
        let total = page.envelope.total;
        let moved = match &self.before {
            None => open.page.is_some() && open.total != total,
            // More rows have come than the page before had: how many of this page's have been read cannot be told.
            Some((before, earlier)) => total.is_some_and(|total| total.saturating_sub(*earlier) > before.len() as u64),
        };
        if moved {
            tracing::warn!(window = open.label(), "rows have moved, reading the window again");
            return self.again(open);
        }
        seen.begin(open.label());
        let mut portion = Portion { gap: self.gap.take(), ..Portion::default() };
        let hashes: Vec<u128> = rows.iter().map(content_hash).collect();
        let repeated = self.repeated(&hashes, &open, total);
        if self.doubtful(&rows[repeated..], &hashes[repeated..], total, seen) {
            self.doubts += 1;
            tracing::warn!(window = open.label(), "rows have moved or are equal, reading the window again");
            return self.again(open);
        }
        portion.duplicates = repeated as u64;
        let mut marks = Vec::with_capacity(rows.len());
        let mut fresh = Vec::new();
        let table = self.task.table(self.task.source.table);
        let mut late = TimeDelta::zero();
        for (row, hash) in rows.iter().zip(&hashes).skip(repeated) {
            if self.outside_backfill(row) {
                continue;
            }
            let line = json::compact(row);
            let verdict = judge(self.spec, row, *hash, &line, seen);
            marks.push(verdict.mark);
            if verdict.known {
                portion.duplicates += 1;
                continue;
            }
            fresh.push(verdict.mark);
            match line {
                Ok(line) => {
                    late = late.max(self.late(&open, &line));
                    portion.events.push(Event { table: table.clone(), line, mark: verdict.mark, unknown_type: None });
                }
                Err(reason) => portion.rejected.push(self.dead_letter(&open, row.clone(), reason)),
            }
        }
        portion.late_seconds = self.remember(late, page.at);
        open.rows += (rows.len() - repeated) as u64;
        self.shrunk |= self.before.as_ref().is_some_and(|(_, earlier)| page.envelope.total < Some(*earlier));
        open.total = page.envelope.total;
        self.before = page.envelope.total.map(|total| (hashes, total));
        let missing = page.envelope.total.is_some_and(|total| total > open.rows);
        self.empty_pages = if rows.is_empty() { self.empty_pages + 1 } else { 0 };
        let stamp = stamp(open.to);
        // The last page may carry a token too, then with no rows behind it.
        let goes_on = !rows.is_empty() || (missing && self.empty_pages <= EMPTY_PAGES);
        // A token that leads to itself leads nowhere.
        let goes_on = goes_on && page.envelope.next.as_ref() != open.page.as_ref().map(|(token, _)| token);
        match &page.envelope.next {
            Some(token) if goes_on => {
                let size = self.page_size();
                let size = open.page.as_ref().map_or(size, |(_, size)| *size);
                // All rows of the page: should the reading go on in another run, that one has to know what it had.
                portion.marks.push(Marks { stamp, label: Some(open.label()), marks });
                open.page = Some((token.clone(), size));
                self.state.windows.open = Some(open);
            }
            _ => {
                portion.marks.push(Marks { stamp, label: None, marks: fresh });
                self.close(open, page, missing);
            }
        }
        portion.marks.retain(|group| !group.marks.is_empty());
        portion.state = self.state.clone();
        portion
    }

    /// The window has been read to its last page.
    fn close(&mut self, open: Open, page: &Page, missing: bool) {
        self.before = None;
        self.empty_pages = 0;
        // A row that went away while its list was paged has pulled another one past us.
        if std::mem::take(&mut self.shrunk) || missing {
            let (total, rows) = (page.envelope.total.unwrap_or_default(), open.rows);
            tracing::warn!(total, rows, window = open.label(), "the window may have more rows than its pages gave");
            if !open.reread {
                let again = self.reading(open.from, open.to);
                self.state.windows.open = Some(Open { reread: true, ..again });
                return;
            }
        }
        // With a clock of ours that runs ahead, the window ended in the server's future: it counts only up to its present.
        let settled = page.at.trunc_subsecs(0) - self.task.settings.settle.unwrap_or(SETTLE);
        let closed_to = open.to.min(settled).max(self.state.windows.closed_to.unwrap_or(open.from));
        self.state.windows.closed_to = Some(closed_to);
        self.state.windows.open = None;
        self.state.finished = self.task.backfill.is_some_and(|range| closed_to >= range.to);
    }

    /// How many rows at the front of a page are the last ones of the page before: a late row has moved the offsets that
    /// page tokens stand for. `totalCount` tells this from equal rows.
    fn repeated(&self, hashes: &[u128], open: &Open, total: Option<u64>) -> usize {
        let (Some((before, earlier)), Some(total)) = (&self.before, total) else { return 0 };
        let surplus = open.rows + hashes.len() as u64 > total;
        let varied = hashes.iter().any(|hash| Some(hash) != hashes.first());
        if hashes == before && (surplus || (varied && !open.reread)) {
            // The same page once more. Should its rows be there twice after all, they are missing at the end, and the second
            // reading takes every row as it comes.
            return hashes.len();
        }
        let grown = usize::try_from(total.saturating_sub(*earlier)).unwrap_or(usize::MAX);
        let most = grown.min(before.len()).min(hashes.len());
        (1..=most).rev().find(|count| before[before.len() - count..] == hashes[..*count]).unwrap_or(0)
    }

    /// Whether a row without an id may be one that has only moved here from an earlier page, since others came before it. Where
    /// the API tells no `totalCount`, that is so for every row that is there once more: another reading shows which.
    fn doubtful(&self, rows: &[Bytes], hashes: &[u128], total: Option<u64>, seen: &Seen) -> bool {
        let (moved, most) = match (total, &self.before) {
            (None, _) => (true, 1),
            (Some(total), Some((_, earlier))) => (total != *earlier, DOUBTS),
            (Some(_), None) => (false, 0),
        };
        if !moved || self.doubts >= most {
            return false;
        }
        let mut on_page: HashMap<u128, u64> = HashMap::new();
        rows.iter().zip(hashes).any(|(row, hash)| {
            let nth = on_page.entry(*hash).or_default();
            *nth += 1;
            id(self.spec, row).is_none() && seen.is_one_more(*hash, *nth - 1)
        })
    }

    /// An answer that stays broken: no overlap, then half the window, down to a second; then it is a dead letter and the
    /// rest goes on.
    async fn divide(&mut self, open: Open, error: Error) -> Result<Portion, Error> {
        let Error::Unreadable { raw, reason } = error else { return Err(error) };
        let begin = self.unread_from(&open);
        let smaller = if open.from < begin { Some(Open { from: begin, ..open.clone() }) } else { self.halved(&open) };
        if let Some(smaller) = smaller {
            tracing::warn!(%reason, window = smaller.label(), "broken page, reading a smaller window");
            self.trouble = Some(reason);
            return Ok(self.again(smaller));
        }
        if !self.readable {
            // One row can spoil its own second only: where another second is as bad, it is the answers that are broken.
            let (from, to) = (open.to + TimeDelta::seconds(1), open.to + TimeDelta::seconds(2));
            let probe = self.reading(from, to);
            self.page(&probe).await.and_then(|page| page.envelope.rows(self.spec.rows))?;
        }
        self.trouble = None;
        let letter = self.dead_letter(&open, raw, reason);
        self.state.windows.closed_to = Some(open.to);
        self.state.windows.open = None;
        Ok(Portion { rejected: vec![letter], state: self.state.clone(), ..Portion::default() })
    }

    /// The same beginning with half of what is new, or `None` below two seconds.
    fn halved(&self, open: &Open) -> Option<Open> {
        let begin = self.unread_from(open);
        let half = TimeDelta::seconds((open.to - begin).num_seconds() / 2);
        (half >= TimeDelta::seconds(1)).then(|| Open { to: begin + half, ..open.clone() })
    }

    /// Where a window's overlap ends and what is new in it begins.
    fn unread_from(&self, open: &Open) -> DateTime<Utc> {
        self.state.windows.closed_to.map_or(open.from, |closed_to| closed_to.max(open.from))
    }

    /// Why the reading does not get on, if it does not.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Starts `open` over as a reading of its own.
    fn again(&mut self, open: Open) -> Portion {
        self.before = None;
        self.shrunk = false;
        let again = self.reading(open.from, open.to);
        self.state.windows.open = Some(Open { reread: open.reread, ..again });
        Portion { state: self.state.clone(), ..Portion::default() }
    }

    fn page_size(&self) -> u32 {
        self.task.settings.page_size.map_or(self.spec.page_size, |size| size.min(LARGEST_PAGE_SIZE))
    }

    /// The server's time, in the whole seconds that requests have.
    fn now(&self) -> DateTime<Utc> {
        self.task.client.now().trunc_subsecs(0)
    }

    /// Where a window may end now.
    fn settled(&self) -> DateTime<Utc> {
        self.now() - self.task.settings.settle.unwrap_or(SETTLE)
    }

    /// The oldest that the API still gives.
    fn oldest(&self) -> Option<DateTime<Utc>> {
        self.spec.keeps.map(|keeps| self.now() - keeps + LOOK_BACK_MARGIN)
    }

    fn overlap(&self) -> TimeDelta {
        self.task.settings.overlap.unwrap_or(self.spec.overlap)
    }

    /// The API may count its end in; a backfill's range is half-open.
    fn outside_backfill(&self, row: &Bytes) -> bool {
        let Some(range) = self.task.backfill else { return false };
        time(self.spec, row).is_some_and(|time| time < range.from || time >= range.to)
    }

    /// How far behind what was closed already a new row's own time is; not of a backfill, which reads what is long past.
    fn late(&self, open: &Open, row: &[u8]) -> TimeDelta {
        let closed_to = self.state.windows.closed_to.filter(|closed_to| open.from < *closed_to);
        let Some(closed_to) = closed_to.filter(|_| self.task.backfill.is_none()) else { return TimeDelta::zero() };
        // What is outside the window that was asked for says nothing about the overlap.
        let time = time(self.spec, row).filter(|time| *time >= open.from);
        time.map_or(TimeDelta::zero(), |time| closed_to - time)
    }

    /// Keeps the latest row in mind: how late it was, in seconds.
    fn remember(&mut self, late: TimeDelta, now: DateTime<Utc>) -> u64 {
        let kept = &mut self.state.windows.late;
        *kept = kept.filter(|kept| kept.counts(now));
        let seconds = late.num_seconds();
        if seconds > kept.map_or(0, |kept| kept.seconds) {
            *kept = Some(Late { seconds, at: now });
        }
        seconds.unsigned_abs()
    }

    fn dead_letter(&self, open: &Open, raw: Bytes, reason: String) -> DeadLetter {
        let origin = format!("{} {}", self.spec.path, open.label());
        let table = self.task.table(self.task.source.table).to_string();
        DeadLetter { raw, reason, table, origin, header: None }
    }
}

/// The mark of a row, and whether it has been delivered already or is a dead letter.
pub(crate) fn judge(
    spec: &Window,
    row: &Bytes,
    content: u128,
    line: &Result<Bytes, String>,
    seen: &mut Seen,
) -> Verdict {
    // What has become a dead letter is for its replay to deliver, also when it can be read by now.
    let raw = xxh3_128(row);
    if line.is_err() || seen.has_content(raw) {
        return seen.content(raw);
    }
    match id(spec, row) {
        Some(id) => seen.identity(name_hash(&id)),
        None => seen.content(content),
    }
}

/// A row's own id, if it has one.
fn id(spec: &Window, row: &[u8]) -> Option<String> {
    spec.id.and_then(|id| json::string_member(row, id)).filter(|id| !id.is_empty())
}

/// A row's own time.
pub(crate) fn time(spec: &Window, row: &[u8]) -> Option<DateTime<Utc>> {
    json::string_member(row, spec.time).and_then(|time| parse_time(&time))
}

/// A time in a request: whole seconds, offset without a colon.
pub(crate) fn wire(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%dT%H:%M:%S+0000").to_string()
}

/// A time in an event: `+0000`, `+01:00` or `Z`.
pub(crate) fn parse_time(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f%z")
        .or_else(|_| DateTime::parse_from_rfc3339(text))
        .map(|time| time.to_utc())
        .ok()
}

#[cfg(test)]
mod tests;
