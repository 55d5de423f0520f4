//! What to read in a run: what is new, and once more what has been read before, for rows that came late.

use chrono::{DateTime, TimeDelta, Utc};

use super::{Reader, SECOND, Slice};
use crate::error::Error;
use crate::process::answer::Gap;
use crate::read::portion::Portion;

/// Less than this is not worth another request in the same run.
const WORTH_A_REQUEST: TimeDelta = TimeDelta::seconds(60);
/// Kept clear of the API's look-back limit, so that a slow request is not refused.
const LOOK_BACK_MARGIN: TimeDelta = TimeDelta::hours(1);
/// So many requests for reading again are worth it in every run.
const MANY: i64 = 40;

/// What to read: once more what has been read before, and what is new.
pub(super) struct Plan {
    again: Slice,
    new: Slice,
}

impl Reader<'_> {
    /// On the first run ever: keeps where collecting begins, whatever comes of the run.
    pub(super) async fn begin(&mut self) {
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

    /// What to read now; `None` when all is read.
    pub(super) async fn plan(&mut self) -> Option<Plan> {
        let (oldest, overlap, settled) = (self.oldest(), self.overlap(), self.settled());
        let kept = |at: DateTime<Utc>| oldest.map_or(at, |oldest| at.max(oldest));
        let (since, closed_to) = (self.windows.since?, self.windows.closed_to?);
        let begin = kept(closed_to);
        let mut end = self.task.backfill.map_or(settled, |range| settled.min(range.to));
        if !self.heard && self.task.backfill.is_none() {
            // Nothing seems to be left, or our clock is behind the one that `closed_to` goes by: an answer will tell it.
            end = end.max(begin + SECOND);
        }
        let (is_first, (began, target)) = (self.first.is_none(), *self.first.get_or_insert((begin, end)));
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
        let is_affordable = self.windows.again.unwrap_or_default() <= affordable;
        let until = if is_first && is_affordable { began } else { (end - overlap).min(began) };
        Some(Plan { again: (again, until.max(again)), new: (begin, end) })
    }

    /// Reads what is planned, and learns what reading again costs.
    pub(super) async fn read(&mut self, Plan { again, new }: Plan) -> Result<(), Error> {
        (self.again_to, self.again) = (again.1, 0);
        let is_one_request = again.1 == new.0 && (new.1 - again.0).num_seconds() <= self.span();
        if is_one_request {
            self.slices((again.0, new.1)).await?;
        } else {
            // What is new first: where a run's time does not last for both, each run would read the same again and get nowhere.
            self.slices(new).await?;
            self.slices(again).await?;
        }
        let seconds = (again.1 - again.0).num_seconds();
        if seconds > 0 {
            self.windows.again = Some(self.again * self.overlap().num_seconds() / seconds);
            self.note().await;
        }
        Ok(())
    }

    /// The oldest that the API still gives.
    fn oldest(&self) -> Option<DateTime<Utc>> {
        self.spec.keeps.map(|keeps| self.now() - keeps + LOOK_BACK_MARGIN)
    }

    pub(super) fn overlap(&self) -> TimeDelta {
        self.task.settings.overlap.unwrap_or(self.spec.overlap)
    }
}

fn gap(from: DateTime<Utc>, to: DateTime<Utc>) -> Gap {
    tracing::warn!(%from, %to, "gap: mimecast no longer keeps what was logged in between");
    Gap { from, to }
}
