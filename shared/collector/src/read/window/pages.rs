//! A slice with a few more rows than a page, from page to page.
//!
//! Pages are offsets into a list that may change meanwhile. They count only when they agree: each tells the same total, and together
//! they have as many rows. A row that came or went in between shows itself by that. Else the slice is read in shorter ones, as it is
//! where nobody tells a total.

use bytes::Bytes;

use super::answer::Answer;
use super::{BYTES_AHEAD, Reader, Slice};
use crate::error::Error;

/// So many pages at most: they come one after the other, where slices of the right length come side by side.
const PAGES: u64 = 16;
/// Slices whose pages did not agree, in one run. Then totals are not to be trusted, and each further try would cost its pages.
const DISAGREEMENTS: u32 = 2;

impl Reader<'_> {
    /// Reads what follows the first page of `slice`. Whether these are all of its rows; else only those of the first page stay.
    pub(super) async fn pages(&mut self, slice: Slice, page: &mut Answer) -> Result<bool, Error> {
        let Some(total) = page.total.filter(|total| *total <= PAGES * self.size() as u64) else { return Ok(false) };
        let bytes = page.rows.iter().map(Bytes::len).sum::<usize>() as u64 * total / (page.rows.len() as u64).max(1);
        if bytes > BYTES_AHEAD as u64 || self.disagreements >= DISAGREEMENTS {
            return Ok(false);
        }
        let (first, mut agrees) = (page.rows.len(), true);
        while let Some(token) = page.next.take().filter(|_| agrees) {
            let Some(more) = self.behind(slice, &token).await.transpose() else { break };
            let Ok(mut more) = self.page(more)? else {
                agrees = false;
                break;
            };
            if more.rows.is_empty() {
                break;
            }
            page.rows.append(&mut more.rows);
            page.next = more.next;
            agrees = more.total == page.total && page.rows.len() as u64 <= total;
        }
        agrees &= page.rows.len() as u64 == total;
        self.disagreements += u32::from(!agrees);
        if !agrees {
            // A row that came twice would pass for two.
            page.rows.truncate(first);
        }
        Ok(agrees)
    }
}
