//! How long the next slice is: about as many seconds as have the rows of a page.

use bytes::Bytes;
use chrono::TimeDelta;

use super::{Reader, Slice, time};

/// The longest slice. If its one answer is wrongly empty, so much is missing until it is read again.
const LONGEST: TimeDelta = TimeDelta::hours(24);
/// Shorter than so many seconds a slice may have more pages than one, but no more than these: the second at its end, where the API
/// counts it in, is read twice, and of a long one that is little.
pub(super) const SHORT: i64 = 30;
const PAGES_OF_SHORT: i64 = 8;
/// How full a slice is aimed to be, in percent of a page: a fuller one overflows more often, and that costs a page.
const AIM: i64 = 85;
/// A slice becomes shorter by at most this factor at a time: a total may be far too high.
const MOST_SHORTER: i64 = 64;
/// And longer by this one: there may be a burst behind a quiet time.
const MOST_LONGER: i64 = 4;

impl Reader<'_> {
    /// Seconds of the next slice.
    pub(super) fn span(&self) -> i64 {
        self.windows.span.unwrap_or(LONGEST.num_seconds()).clamp(1, LONGEST.num_seconds())
    }

    /// Learns from a slice that has these rows. Whether it was much too short.
    pub(super) fn learn(&mut self, slice: Slice, rows: &[Bytes]) -> bool {
        let (seconds, size) = ((slice.1 - slice.0).num_seconds(), self.size());
        // Where the API counts the end in, a slice of few seconds has the rows of one more.
        let ends_in = |row: &Bytes| time(self.spec, row).is_some_and(|time| time >= slice.1);
        let more = i64::from(seconds < SHORT && [rows.first(), rows.last()].into_iter().flatten().any(ends_in));
        let most = MOST_LONGER * seconds;
        let fits = match rows.len() as u64 {
            0 => most,
            count => (self.per_slice(seconds + more, count) - more).min(most),
        };
        // A nearly empty slice says little but that the next may be longer, also than others that are under way. Else a quarter of
        // the way, as rows come in clumps and no slice is like the one before.
        let is_sparse = rows.len() * 3 < size;
        let fits = if is_sparse { fits.max(self.span()) } else { (fits + 3 * self.span() + 2) / 4 };
        self.windows.span = Some(fits.clamp(1, LONGEST.num_seconds()));
        is_sparse && seconds < LONGEST.num_seconds()
    }

    /// Learns from a slice that has more rows than an answer, in all `total` of them if anybody knows.
    pub(super) fn learn_more(&mut self, seconds: i64, total: Option<u64>) {
        let fits = total.map_or(seconds / 2, |total| self.per_slice(seconds, total));
        // Half as long at most, as a total may be too low, and the same slice would be asked for again.
        self.windows.span = Some(fits.clamp(1.max(seconds / MOST_SHORTER), 1.max(seconds / 2)));
    }

    /// Seconds in which about as many rows come as a slice should have, where `rows` came in `seconds`.
    fn per_slice(&self, seconds: i64, rows: u64) -> i64 {
        let aim = i64::try_from(self.size()).unwrap_or(i64::MAX).saturating_mul(AIM);
        let fits = seconds.saturating_mul(aim) / i64::try_from(rows).unwrap_or(i64::MAX).saturating_mul(100).max(1);
        if self.trusts_totals() { fits.max(SHORT.min(fits * PAGES_OF_SHORT)) } else { fits }
    }
}
