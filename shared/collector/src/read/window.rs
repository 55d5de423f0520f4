//! Reads a log by time, slice by slice. A slice is one answer: it counts only when all of its rows came at once.
//!
//! Lists are paged by offset, so a row that comes or goes while a list is paged moves others past the reader. A slice whose
//! rows do not fit into one answer is therefore read in shorter ones, not paged: no token and no half-read window is kept.
//! `length` learns how long one is to be, `answer` says what came of it, `split` makes two of one that has little more than
//! fits, `second` pages a single second that has more rows than a page, `rows` tells the new ones.
//!
//! Slices are half-open and end a settle lag behind the server's clock. Those ahead are asked for side by side and taken in
//! order. What is behind is read again when it is `OVERLAP` old, for rows that came late.

mod answer;
mod length;
mod rows;
mod second;
mod split;

use std::collections::VecDeque;

use bytes::Bytes;
use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use mimecast::Error as Upstream;

use super::portion::Portion;
use super::task::Task;
use crate::Error;
use crate::answer::Gap;
use crate::outbox::Outbox;
use crate::seen::Seen;
use crate::source::Window;
use crate::state::{Late, State, Windows};
use answer::{Answer, Asked, Outcome};
pub(crate) use rows::{judge, time};

const SECOND: TimeDelta = TimeDelta::seconds(1);
/// Less than this is not worth another request in the same run.
const WORTH_A_REQUEST: TimeDelta = TimeDelta::seconds(60);
/// Kept clear of the API's look-back limit, so that a slow request is not refused.
const LOOK_BACK_MARGIN: TimeDelta = TimeDelta::hours(1);
/// Default of `SETTLE`.
const SETTLE: TimeDelta = TimeDelta::seconds(60);
/// What two readings of the same clock may differ by.
const CLOCK_GRAIN: TimeDelta = TimeDelta::seconds(5);
/// Slices asked for side by side once the server has answered, and at most.
const WIDTH: usize = 4;
const WIDEST: usize = 16;
/// Bytes of answers that may be under way at once.
const BYTES_AHEAD: usize = 12_000_000;
/// So many requests for reading again are worth it in every run.
const MANY: i64 = 40;
/// Reads all that has settled.
pub(super) async fn read(task: &Task<'_>, spec: &Window, state: &State, outbox: &Outbox) -> Result<(), Error> {
    if state.finished {
        return Ok(());
    }
    let mut reader = Reader {
        task,
        spec,
        outbox,
        windows: state.windows.clone(),
        seen: None,
        width: 1,
        waits: 0,
        size: None,
        heard: false,
        doubts: false,
        contradictions: 0,
        again_to: DateTime::UNIX_EPOCH,
        again: 0,
    };
    reader.begin().await;
    let mut first = None;
    while let Some(plan) = reader.plan(&mut first).await {
        reader.read(plan).await?;
    }
    Ok(())
}

/// What to read: once more what has been read before, and what is new.
struct Plan {
    again: Slice,
    new: Slice,
}

/// `[from, to)`, both in whole seconds.
type Slice = (DateTime<Utc>, DateTime<Utc>);

struct Reader<'a> {
    task: &'a Task<'a>,
    spec: &'a Window,
    outbox: &'a Outbox,
    /// As the outbox has it.
    windows: Windows,
    seen: Option<Seen>,
    /// How many slices are asked for side by side now.
    width: usize,
    /// How often Mimecast has asked to wait so far.
    waits: u64,
    /// Rows that the server puts on a page, where that is less than was asked for.
    size: Option<usize>,
    /// The server has answered in this run, so its time is known.
    heard: bool,
    /// A list was not sorted by time, or a total was not right.
    doubts: bool,
    /// How often a total has said more than came, also when asked again.
    contradictions: u32,
    /// Slices asked for that begin before this instant are counted: what reading again costs.
    again_to: DateTime<Utc>,
    again: i64,
}

impl Reader<'_> {
    /// On the first run ever: keeps where collecting begins, whatever comes of the run.
    async fn begin(&mut self) {
        if self.windows.since.is_some() {
            return;
        }
        let first = match self.task.backfill {
            Some(range) => range.from,
            None => (self.now() - self.task.settings.initial_lookback).min(self.settled()),
        };
        let kept = self.oldest().map_or(first, |oldest| first.max(oldest));
        let lost = self.task.backfill.filter(|_| kept > first).map(|range| gap(first, kept.min(range.to)));
        // A state without `since` was made by hand, or by the first version.
        let overlap = self.overlap();
        self.windows.since = Some(self.windows.closed_to.map_or(kept, |closed_to| closed_to - overlap));
        self.windows.closed_to.get_or_insert(kept);
        match lost {
            Some(gap) => self.take(Portion { gap: Some(gap), ..Portion::default() }).await,
            None => self.note().await,
        }
        self.outbox.flush().await;
    }

    /// What to read now; `None` when all is read. `first`: where the run's first plan began and ended.
    async fn plan(&mut self, first: &mut Option<Slice>) -> Option<Plan> {
        let (oldest, overlap, settled) = (self.oldest(), self.overlap(), self.settled());
        let kept = |at: DateTime<Utc>| oldest.map_or(at, |oldest| at.max(oldest));
        let (since, closed_to) = (self.windows.since?, self.windows.closed_to?);
        let begin = kept(closed_to);
        let mut end = self.task.backfill.map_or(settled, |range| settled.min(range.to));
        if !self.heard && self.task.backfill.is_none() {
            // Nothing seems to be left, or our clock is behind the one that `closed_to` goes by: an answer will tell it.
            end = end.max(begin + SECOND);
        }
        let (is_first, (began, target)) = (first.is_none(), *first.get_or_insert((begin, end)));
        // All up to the run's first end; what has come since is worth a request only when it is some time.
        let least = if begin < target.min(end) { SECOND } else { WORTH_A_REQUEST };
        if end - begin < least {
            return None;
        }
        let again = kept(self.windows.reread_to.unwrap_or(begin - overlap).max(since)).min(begin);
        self.windows.reread_to = Some(again);
        if begin > closed_to {
            self.windows.closed_to = Some(begin);
            self.take(Portion { gap: Some(gap(closed_to, begin)), ..Portion::default() }).await;
        }
        // The whole overlap in every run, unless that costs many requests and more than what is new: a busy source reads each
        // instant again only once, when it is `OVERLAP` old. What this run has read is not read again in it.
        let again = if is_first { again } else { again.max(self.again_to) };
        let affordable = MANY.max((end - begin).num_seconds() / self.span());
        let until = match self.windows.again.unwrap_or_default() <= affordable {
            true if is_first => began,
            true => again,
            false => (end - overlap).min(began),
        };
        Some(Plan { again: (again, until.max(again)), new: (begin, end) })
    }

    /// Reads what is planned, and learns what reading again costs.
    async fn read(&mut self, Plan { again, new }: Plan) -> Result<(), Error> {
        (self.again_to, self.again) = (again.1, 0);
        if again.1 == new.0 {
            // In one piece, which is one request where there is little.
            self.slices((again.0, new.1)).await?;
        } else {
            self.slices(again).await?;
            self.slices(new).await?;
        }
        let seconds = (again.1 - again.0).num_seconds();
        if seconds > 0 {
            self.windows.again = Some(self.again * self.overlap().num_seconds() / seconds);
            self.note().await;
        }
        Ok(())
    }

    /// Reads `[from, to)`.
    async fn slices(&mut self, (from, to): Slice) -> Result<(), Error> {
        let mut ahead: VecDeque<(Slice, Asked)> = VecDeque::new();
        let (mut next, mut parts) = (from, 0_usize);
        loop {
            // With a clock of ours that runs ahead, `to` was in the server's future.
            let to = if self.heard { to.min(self.settled()) } else { to };
            // Not while parts of a burst wait, whose short length says nothing about what comes behind them.
            while parts == 0 && ahead.len() < self.width && next < to {
                let slice = (next, to.min(next + TimeDelta::seconds(self.span())));
                ahead.push_back((slice, self.ask(slice, None)));
                next = slice.1;
            }
            let Some((slice, answer)) = ahead.pop_front() else {
                // The next range may begin with the second at which this one ends.
                if let Some(seen) = &mut self.seen {
                    seen.keep();
                }
                return Ok(());
            };
            parts = parts.saturating_sub(1);
            self.again += i64::from(slice.0 < self.again_to);
            let answer = answer.await;
            if self.is_in_the_future(slice, &answer) {
                next = slice.0;
                continue;
            }
            let seconds = (slice.1 - slice.0).num_seconds();
            match self.outcome(slice, answer).await? {
                Outcome::Whole(answer) => self.whole(slice, &answer).await?,
                Outcome::More(first) if seconds == 1 => self.second(slice, first).await?,
                Outcome::Broken(raw, reason) if seconds == 1 => self.broken_second(slice, raw, reason).await?,
                Outcome::More(first) => match self.split(slice, &first).await? {
                    Some([earlier, later]) => {
                        ahead.push_front(later);
                        ahead.push_front(earlier);
                        parts += 2;
                        self.learn_more(seconds, first.total);
                        if first.total > Some(2 * self.size() as u64) {
                            self.width = 1;
                        }
                    }
                    // What is ahead was planned with a wrong idea of how much there is.
                    None => {
                        self.learn_more(seconds, first.total);
                        self.shown(slice, &first.rows).await?;
                        ahead.clear();
                        (self.width, parts) = (1, 0);
                        next = slice.0;
                    }
                },
                Outcome::Broken(_, reason) => {
                    tracing::warn!(%reason, from = %slice.0, to = %slice.1, "broken answer, reading a smaller slice");
                    self.outbox.stuck(Some(format!("{}: {reason}", self.spec.path))).await;
                    // Kept, so that the next run begins there should this one end before it gets anywhere.
                    self.windows.span = Some(seconds / 2);
                    self.note().await;
                    ahead.clear();
                    (self.width, parts) = (1, 0);
                    next = slice.0;
                }
            }
        }
    }

    /// Learns what an answer tells of the server's clock and patience. Whether its slice ended in the server's future, which
    /// some servers refuse: our clock was ahead.
    fn is_in_the_future(&mut self, slice: Slice, answer: &Result<Answer, Upstream>) -> bool {
        let waits = self.task.client.calls().rate_limit_waits();
        if waits > std::mem::replace(&mut self.waits, waits) {
            self.width = 1;
        }
        if std::mem::replace(&mut self.heard, true) {
            return false;
        }
        self.width = WIDTH;
        let refused = matches!(answer, Err(Upstream::Protocol(_) | Upstream::BadRequest(_)));
        refused && slice.1 > self.settled() + CLOCK_GRAIN
    }

    /// Takes a slice of which all rows are there.
    async fn whole(&mut self, slice: Slice, Answer { rows, total, at, .. }: &Answer) -> Result<(), Error> {
        self.doubts |= total.is_some_and(|total| total != rows.len() as u64);
        let is_short = self.learn(slice, rows);
        self.windows.readable = Some(slice.0);
        let bytes: usize = rows.iter().map(Bytes::len).sum();
        // Slices asked for beside one that is much too short would be too short as well: until the length is found again after
        // a burst, one after the other.
        let wider = if is_short { 1 } else { self.width + 1 };
        self.width = wider.min(WIDEST).min(BYTES_AHEAD / bytes.max(1)).max(1);
        let portion = self.judged(slice, rows, true).await?;
        self.closed(slice, *at, &portion);
        self.outbox.stuck(None).await;
        self.take(portion).await;
        Ok(())
    }

    /// Rows of an answer that does not hold all of its slice, which is asked for again. What has an id is delivered all the same:
    /// a held message may be released before that.
    async fn shown(&mut self, slice: Slice, rows: &[Bytes]) -> Result<(), Error> {
        let mut portion = Portion::default();
        if self.spec.id.is_some() {
            portion = self.judged(slice, rows, true).await?;
            self.seen(slice).await?.keep();
        }
        self.take(portion).await;
        Ok(())
    }

    /// Moves on past a slice that has been read at `at`, by the server's clock.
    fn closed(&mut self, slice: Slice, at: DateTime<Utc>, portion: &Portion) {
        if let Some(seen) = &mut self.seen {
            seen.next_slice();
        }
        let (settled, overlap) = (self.settled_at(at), self.overlap());
        let (from, to) = (slice.0, slice.1.min(settled));
        let windows = &mut self.windows;
        if windows.reread_to >= Some(from) {
            windows.reread_to = windows.reread_to.max(Some(to.min(settled - overlap)));
        }
        if windows.closed_to >= Some(from) {
            windows.closed_to = windows.closed_to.max(Some(to));
        }
        if !portion.events.is_empty() {
            windows.gave = Some(at);
        }
        windows.late = windows.late.filter(|late| late.counts(at));
        let seconds = i64::try_from(portion.late_seconds).unwrap_or_default();
        if seconds > windows.late.map_or(0, |late| late.seconds) {
            windows.late = Some(Late { seconds, at });
        }
    }

    async fn take(&self, portion: Portion) {
        self.outbox.take(portion, self.advance()).await;
    }

    async fn note(&self) {
        self.outbox.note(self.advance()).await;
    }

    fn advance(&self) -> impl FnOnce(&mut State) + use<> {
        let windows = self.windows.clone();
        let finished = self.task.backfill.is_some_and(|range| windows.closed_to >= Some(range.to));
        move |state| (state.windows, state.finished) = (windows, finished)
    }

    /// The server's time, in the whole seconds that requests have.
    fn now(&self) -> DateTime<Utc> {
        self.task.client.now().trunc_subsecs(0)
    }

    /// Where a slice may end now.
    fn settled(&self) -> DateTime<Utc> {
        self.settled_at(self.now())
    }

    fn settled_at(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        now.trunc_subsecs(0) - self.task.settings.settle.unwrap_or(SETTLE)
    }

    /// The oldest that the API still gives.
    fn oldest(&self) -> Option<DateTime<Utc>> {
        self.spec.keeps.map(|keeps| self.now() - keeps + LOOK_BACK_MARGIN)
    }

    fn overlap(&self) -> TimeDelta {
        self.task.settings.overlap.unwrap_or(self.spec.overlap)
    }
}

fn gap(from: DateTime<Utc>, to: DateTime<Utc>) -> Gap {
    tracing::warn!(%from, %to, "gap: mimecast no longer keeps what was logged in between");
    Gap { from, to }
}
