//! A slice with a few more rows than a page, from page to page.
//!
//! Pages are offsets into a list that may change meanwhile. They count only when they agree: each tells the same total, and together
//! they have as many rows. A row that came or went in between shows itself by that. Else the slice is read in shorter ones, as it is
//! where nobody tells a total.

use bytes::Bytes;
use chrono::TimeDelta;
use mimecast::Error as Upstream;
use tokio::time::Instant;

use super::answer::{Answer, Pages};
use super::length::SHORT;
use super::question::Question;
use super::{BYTES_AHEAD, Reader, Slice};

/// So many pages at most, as they come one after the other, where shorter slices come side by side.
const PAGES: usize = 16;
/// And of a slice that is meant to have several.
const PAGES_OF_SHORT: usize = 16;
/// Slices whose pages did not agree, in one run. Then totals are not to be trusted, and each further try would cost its pages.
const DISAGREEMENTS: u32 = 2;

/// What is too much for one answer.
pub(super) struct Limits {
    /// Rows of a full page.
    size: usize,
    rows: usize,
    bytes: usize,
}

impl Reader<'_> {
    /// The limits of a slice that is asked for now.
    pub(super) fn limits(&self, slice: Slice) -> Limits {
        let size = self.size();
        let pages = match self.trusts_totals() {
            true if slice.1 - slice.0 <= TimeDelta::seconds(SHORT) => PAGES_OF_SHORT,
            true => PAGES,
            false => 1,
        };
        Limits { size, rows: pages * size, bytes: 2 * BYTES_AHEAD / self.width }
    }

    /// Whether pages may count together.
    pub(super) fn trusts_totals(&self) -> bool {
        self.disagreements < DISAGREEMENTS
    }

    /// Learns from an answer whose slice has more rows than it.
    pub(super) fn distrust(&mut self, answer: &Answer) {
        match (answer.total, answer.pages) {
            (None, _) => self.disagreements = DISAGREEMENTS,
            (_, Pages::Disagree) => self.disagreements += 1,
            _ => {}
        }
    }
}

impl Question {
    /// The first page, with all others where these are few and agree.
    pub(super) async fn pages(&self, limits: Limits) -> Result<Answer, Upstream> {
        let began = Instant::now();
        let mut first = self.page(None).await?;
        let took = began.elapsed();
        let bytes: usize = first.rows.iter().map(Bytes::len).sum();
        let is_more = |total: &usize| *total > first.rows.len() && first.rows.len() >= limits.size;
        let is_little = |total: &usize| *total <= limits.rows && bytes * total / first.rows.len() <= limits.bytes;
        let total = first.total.and_then(|total| usize::try_from(total).ok());
        // Pages come one after the other. Those that a run cannot finish it would ask for in vain, and so would each run after it.
        let has_time = |total: &usize| {
            let pages = total.div_ceil(first.rows.len());
            Instant::now() + took * u32::try_from(pages).unwrap_or(u32::MAX) < self.until
        };
        let Some(total) = total.filter(is_more).filter(is_little).filter(has_time) else { return Ok(first) };
        let (mut more, mut next, mut agrees) = (Vec::new(), first.next.clone(), true);
        while let Some(token) = next.filter(|_| agrees) {
            let page = match self.behind(&token).await {
                Ok(Some(page)) if !page.rows.is_empty() => page,
                Ok(_) | Err(Upstream::Unreadable { .. }) => break,
                // The run ends before the slice: the next one reads it in shorter ones.
                Err(Upstream::Unavailable(_)) if Instant::now() >= self.until => return Ok(first),
                Err(error) => return Err(error),
            };
            more.extend(page.rows);
            next = page.next;
            agrees = page.total == first.total && first.rows.len() + more.len() <= total;
        }
        agrees &= first.rows.len() + more.len() == total;
        if agrees {
            first.rows.append(&mut more);
        }
        first.pages = if agrees { Pages::All } else { Pages::Disagree };
        Ok(first)
    }
}
