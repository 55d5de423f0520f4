//! What an answer says of its slice: all of its rows, more than these, or nothing that can be read.
//!
//! `totalCount` and page tokens are doubted: they may be absent, too high, too low, or lead nowhere. Rows are what counts.

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use mimecast::Error as Upstream;

use super::{Reader, SECOND, Slice};
use crate::error::Error;
use crate::read::portion::Portion;
use crate::read::time::stamp;
use crate::seen::name_hash;

/// After so many slices of a run whose total stayed above their rows in two answers, no slice is asked for twice for its sake.
const CONTRADICTIONS: u32 = 3;

/// One page of a slice, or all of them.
pub(super) struct Answer {
    pub rows: Vec<Bytes>,
    pub pages: Pages,
    /// How many rows the slice has in all, where the server tells.
    pub total: Option<u64>,
    /// The token of the page after it.
    pub next: Option<String>,
    /// The server's time when it answered.
    pub at: DateTime<Utc>,
}

/// Which pages of a slice are in an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Pages {
    One,
    /// All, and they agree.
    All,
    /// The first one: those behind it do not agree with it.
    Disagree,
}

/// What one answer says of its slice.
pub(super) enum Outcome {
    /// These are all of its rows.
    Whole(Answer),
    /// There are more.
    More(Answer),
    Broken(Bytes, String),
}

impl Reader<'_> {
    /// What an answer to a slice says. Asks once more where `totalCount` contradicts the rows.
    pub(super) async fn outcome(&mut self, slice: Slice, answer: Result<Answer, Upstream>) -> Result<Outcome, Error> {
        let first = match self.page(answer)? {
            Ok(page) => page,
            Err(broken) => return Ok(broken),
        };
        if !self.is_whole(slice, &first).await? {
            return Ok(Outcome::More(first));
        }
        if !says_more(&first) || self.contradictions >= CONTRADICTIONS {
            return Ok(Outcome::Whole(first));
        }
        let again = match self.page(self.ask(slice).await)? {
            Ok(page) => page,
            Err(broken) => return Ok(broken),
        };
        if !self.is_whole(slice, &again).await? {
            return Ok(Outcome::More(again));
        }
        let best = if again.rows.len() < first.rows.len() { first } else { again };
        if let Some(total) = best.total.filter(|total| *total > best.rows.len() as u64) {
            self.contradictions += 1;
            // It must not keep the source from going on: what is really there is read again when it is `OVERLAP` old.
            let (path, from, came) = (self.spec.path, stamp(slice.0), best.rows.len());
            let text = format!("{path}: totalCount says {total} rows from {from} on, but {came} came, twice: going on");
            self.outbox.warn(text).await;
        }
        Ok(Outcome::Whole(best))
    }

    /// The page in an answer, or that it is broken.
    pub(super) fn page(&self, answer: Result<Answer, Upstream>) -> Result<Result<Answer, Outcome>, Error> {
        match answer {
            Ok(page) => Ok(Ok(page)),
            Err(Upstream::Unreadable { raw, reason }) => Ok(Err(Outcome::Broken(raw, reason))),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a page has all rows of its slice.
    async fn is_whole(&mut self, slice: Slice, page: &Answer) -> Result<bool, Error> {
        let Some(token) = page.next.as_ref().filter(|_| page.pages != Pages::All) else { return Ok(true) };
        if page.rows.len() >= self.size() && page.total != Some(page.rows.len() as u64) {
            return Ok(false);
        }
        // All rows or few, and a token all the same: a last page may have one, or the server has pages of its own size.
        match self.behind(slice, token).await {
            Ok(Some(more)) if more.rows.is_empty() => Ok(true),
            // Where the total says more as well, a shorter slice shows who is right, once in a run: totals may never be.
            Ok(None) => Ok(!says_more(page) || std::mem::replace(&mut self.doubted, true)),
            Ok(Some(_)) | Err(Upstream::Unreadable { .. }) => {
                self.size = Some(page.rows.len()).filter(|size| *size > 0).or(self.size);
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// A second that stays unreadable is one dead letter, if at least one other second (the last readable one, or some around) can be
    /// read now. If none can, it is the answers that are broken, and nothing may be passed over.
    pub(super) async fn broken_second(&mut self, slice: Slice, raw: Bytes, reason: String) -> Result<(), Error> {
        if !self.any_other_is_readable(slice).await? {
            return Err(Upstream::Unreadable { raw, reason }.into());
        }
        let mark = name_hash(&format!("broken second {}", stamp(slice.0)));
        let known = self.seen(slice).await?.identity(mark).known;
        let mut portion = Portion { stamp: stamp(slice.1), ..Portion::default() };
        if !known {
            portion.marks.push(mark);
            portion.rejected.push(self.dead_letter(slice, raw, reason));
        }
        self.closed(slice, self.task.client.now(), &portion);
        self.outbox.stuck(None).await;
        self.take(portion).await;
        Ok(())
    }

    async fn any_other_is_readable(&self, slice: Slice) -> Result<bool, Error> {
        for from in self.others(slice) {
            match self.page(self.ask((from, from + SECOND)).await)? {
                Ok(_) => return Ok(true),
                Err(_) => tracing::warn!(%from, "another second is broken too"),
            }
        }
        Ok(false)
    }

    /// Seconds to compare that of `slice` with: the one that could be read last, and some around.
    pub(super) fn others(&self, slice: Slice) -> impl Iterator<Item = DateTime<Utc>> + use<> {
        let before = [1, 60, 3600].map(|seconds| Some(slice.0 - TimeDelta::seconds(seconds)));
        let others = [self.windows.readable, Some(slice.1 + SECOND)].into_iter().chain(before);
        others.flatten().filter(move |from| *from != slice.0)
    }
}

/// Whether the total is above the rows that came.
fn says_more(page: &Answer) -> bool {
    page.total > Some(page.rows.len() as u64)
}
