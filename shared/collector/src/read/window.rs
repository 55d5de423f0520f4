//! Reads a log by time, slice by slice. A slice is one consistent answer: it counts only when all of its rows are there.
//!
//! Lists are paged by offset, so a row that comes or goes while a list is paged moves others past the reader. A slice whose
//! pages do not agree is read in shorter ones: no token and no half-read window is kept.
//! `plan` says what to read, `length` how long a slice is to be. `question` asks for it, `pages` for the pages behind the first, and
//! `answer` says what came of it. `second` reads a single second that cannot be made shorter, `rows` tells which rows are new.
//!
//! Slices are half-open and end a settle lag behind the server's clock. Those ahead are asked for side by side and taken in
//! order. What is behind is read again when it is `OVERLAP` old, for rows that came late.

mod answer;
mod length;
mod pages;
mod plan;
mod question;
mod rows;
mod second;

use std::collections::VecDeque;

use bytes::Bytes;
use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use mimecast::Error as Upstream;

use super::portion::Portion;
use super::task::Task;
use crate::error::Error;
use crate::outbox::Outbox;
use crate::seen::Seen;
use crate::source::Window;
use crate::state::{Late, State, Windows};
use answer::{Answer, Outcome};
use question::Asked;
pub(crate) use rows::{judge, time};

const SECOND: TimeDelta = TimeDelta::seconds(1);
/// Default of `SETTLE`.
const SETTLE: TimeDelta = TimeDelta::seconds(60);
/// What two readings of the same clock may differ by.
const CLOCK_GRAIN: TimeDelta = TimeDelta::seconds(5);
/// Slices asked for side by side once the server has answered, and at most.
const WIDTH: usize = 4;
const WIDEST: usize = 16;
/// Bytes of answers that may be under way at once.
const BYTES_AHEAD: usize = 12_000_000;
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
        first: None,
        width: 1,
        waits: 0,
        size: None,
        heard: false,
        doubted: false,
        disagreements: 0,
        contradictions: 0,
        again_to: DateTime::UNIX_EPOCH,
        again: 0,
    };
    reader.begin().await;
    while let Some(plan) = reader.plan().await {
        reader.read(plan).await?;
    }
    Ok(())
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
    /// Where the run's first plan began and ended.
    first: Option<Slice>,
    /// How many slices are asked for side by side now.
    width: usize,
    /// How often Mimecast has asked to wait so far.
    waits: u64,
    /// Rows that the server puts on a page, where that is less than was asked for.
    size: Option<usize>,
    /// The server has answered in this run, so its time is known.
    heard: bool,
    /// A refused token has been doubted for the sake of a total.
    doubted: bool,
    /// How many slices had pages that did not agree.
    disagreements: u32,
    /// How often a total has said more than came, also when asked again.
    contradictions: u32,
    /// Pages of slices that begin before this instant are counted: what reading again costs.
    again_to: DateTime<Utc>,
    again: i64,
}

impl Reader<'_> {
    /// Reads `[from, to)`.
    async fn slices(&mut self, (from, to): Slice) -> Result<(), Error> {
        let mut ahead: VecDeque<(Slice, Asked)> = VecDeque::new();
        let mut next = from;
        loop {
            // With a clock of ours that runs ahead, `to` was in the server's future.
            let to = if self.heard { to.min(self.settled()) } else { to };
            while ahead.len() < self.width && next < to {
                let slice = (next, to.min(next + TimeDelta::seconds(self.span())));
                ahead.push_back((slice, self.ask_all(slice)));
                next = slice.1;
            }
            let Some((slice, answer)) = ahead.pop_front() else {
                // The next range may begin with the second at which this one ends.
                if let Some(seen) = &mut self.seen {
                    seen.keep();
                }
                return Ok(());
            };
            let answer = answer.await;
            if slice.0 < self.again_to {
                let pages = answer.as_ref().map_or(1, |answer| answer.rows.len().div_ceil(self.size()).max(1));
                self.again += i64::try_from(pages).unwrap_or(i64::MAX);
            }
            if self.is_in_the_future(slice, &answer) {
                next = slice.0;
                continue;
            }
            let seconds = (slice.1 - slice.0).num_seconds();
            match self.outcome(slice, answer).await? {
                Outcome::Whole(answer) => self.whole(slice, &answer).await?,
                Outcome::More(first) if seconds == 1 => self.second(slice, first).await?,
                Outcome::Broken(raw, reason) if seconds == 1 => self.broken_second(slice, raw, reason).await?,
                Outcome::More(first) => {
                    self.distrust(&first);
                    self.learn_more(seconds, first.total);
                    self.shown(slice, &first.rows).await?;
                    // What is ahead was planned with a wrong idea of how much there is.
                    ahead.clear();
                    self.width = 1;
                    next = slice.0;
                }
                Outcome::Broken(_, reason) => {
                    tracing::warn!(%reason, from = %slice.0, to = %slice.1, "broken answer, reading a smaller slice");
                    self.outbox.stuck(Some(format!("{}: {reason}", self.spec.path))).await;
                    // Kept, so that the next run begins there should this one end before it gets anywhere.
                    self.windows.span = Some(seconds / 2);
                    self.note().await;
                    ahead.clear();
                    self.width = 1;
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
    async fn whole(&mut self, slice: Slice, Answer { rows, at, .. }: &Answer) -> Result<(), Error> {
        let is_short = self.learn(slice, rows);
        self.windows.readable = Some(slice.0);
        let bytes: usize = rows.iter().map(Bytes::len).sum();
        // Slices asked for beside one that is much too short would be too short as well: until the length is found again after
        // a burst, one after the other.
        let wider = if is_short { 1 } else { 2 * self.width };
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
            if slice.0 == self.again_to {
                // What is read again ends with the second at which this slice begins.
                seen.keep();
            }
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
}
