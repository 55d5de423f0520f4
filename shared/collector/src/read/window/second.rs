//! One second with more rows than a page, whose pages did not come as one answer that agrees (`pages`): it cannot be made shorter, so it
//! is read page by page until a reading can be trusted.
//!
//! Its pages are offsets into a list that may change meanwhile, so they count together only when they agree: by the total that
//! each of them tells, or because the same rows came twice. A second too large to hold is handed on as it comes.

use std::collections::HashSet;

use bytes::Bytes;
use mimecast::Error as Upstream;
use mimecast::json::content_hash;

use super::answer::{Answer, Outcome};
use super::{Reader, SECOND, Slice};
use crate::error::Error;
use crate::outbox::BATCH_BYTES;
use crate::read::time::stamp;

/// How often a second is read whose pages do not agree.
const READINGS: u32 = 4;
/// Pages without a row, one after the other, that are followed where rows are missing.
const EMPTY_PAGES: u32 = 5;
/// How often one page may repeat in a row before the server is taken to ignore page tokens: where a total says that no more are there,
/// and where none does. A page of equal rows may repeat truly; where the total says that rows are missing it is followed on.
const REPEATED_PAGES: u32 = 3;
const REPEATED_PAGES_WITHOUT_TOTAL: u32 = 20;
/// Most pages of one second: an end for a server that goes round in circles.
const PAGES: u32 = 5_000;

/// The pages of one reading.
#[derive(Default)]
struct Reading {
    /// Those not handed on yet.
    rows: Vec<Bytes>,
    hashes: Vec<u128>,
    totals: HashSet<Option<u64>>,
    /// A part has been handed on, as it would have taken too much memory.
    handed_on: bool,
    /// A page's token was refused.
    refused: bool,
    /// A page's token has led to another page.
    turned: bool,
    broken: Option<(Bytes, String)>,
}

impl Reading {
    fn missing(&self) -> bool {
        self.totals.iter().flatten().max().is_some_and(|total| *total > self.hashes.len() as u64)
    }

    /// The rows end where the first token was refused. After a token that was good, a refused one is that of the last page.
    fn is_cut(&self) -> bool {
        self.refused && !self.turned && self.missing()
    }

    fn agrees(&self) -> bool {
        let total = self.totals.iter().next().copied().flatten();
        !self.refused && self.totals.len() == 1 && total == Some(self.hashes.len() as u64)
    }
}

impl Reader<'_> {
    pub(super) async fn second(&mut self, slice: Slice, first: Answer) -> Result<(), Error> {
        let at = first.at;
        let mut first = Some(first);
        let mut before: Option<Vec<u128>> = None;
        let mut reading = Reading::default();
        let mut totals = HashSet::new();
        for number in 1..=READINGS {
            let page = match first.take() {
                Some(page) => page,
                None => match self.page(self.ask(slice).await)? {
                    Ok(page) => page,
                    Err(Outcome::Broken(raw, reason)) => return self.broken_second(slice, raw, reason).await,
                    Err(_) => continue,
                },
            };
            reading = self.follow(slice, page).await?;
            let mut rows = reading.hashes.clone();
            rows.sort_unstable();
            totals.extend(reading.totals.iter().copied());
            // The same rows under another total: it is the totals that are wrong, and nothing is cut off.
            let is_same = before.as_ref() == Some(&rows) && (!reading.is_cut() || totals.len() > 1);
            if reading.agrees() || reading.broken.is_some() || is_same {
                break;
            }
            if number == READINGS && reading.is_cut() && !self.totals_lie(slice).await? {
                let (path, from) = (self.spec.path, stamp(slice.0));
                let text =
                    format!("{path}: the second {from} has more rows than a page, and its page token is refused");
                return Err(Upstream::Protocol(text).into());
            }
            before = Some(rows);
        }
        if reading.missing() {
            let (path, from, came) = (self.spec.path, stamp(slice.0), reading.hashes.len());
            self.outbox.warn(format!("{path}: totalCount says more than the {came} rows that came for {from}")).await;
        }
        let portion = self.judged(slice, &reading.rows, !reading.handed_on).await?;
        if let Some((raw, reason)) = reading.broken {
            self.take(portion).await;
            return self.broken_second(slice, raw, reason).await;
        }
        self.windows.readable = Some(slice.0);
        self.closed(slice, at, &portion);
        self.outbox.stuck(None).await;
        self.take(portion).await;
        Ok(())
    }

    /// Whether the server's totals say too much also where all rows are there. Then the end at a refused token may be the end.
    async fn totals_lie(&self, slice: Slice) -> Result<bool, Error> {
        if self.contradictions > 0 {
            return Ok(true);
        }
        for from in self.others(slice) {
            let page = self.page(self.ask((from, from + SECOND)).await)?;
            // A full page says nothing: there may be more.
            if let Ok(page) = page
                && page.rows.len() < self.size()
            {
                return Ok(page.total > Some(page.rows.len() as u64));
            }
        }
        Ok(false)
    }

    /// Follows the pages of a second to their end.
    async fn follow(&mut self, slice: Slice, mut page: Answer) -> Result<Reading, Error> {
        let mut reading = Reading::default();
        let (mut tokens, mut last, mut empty, mut repeated) = (HashSet::new(), Vec::new(), 0, 0);
        for _ in 0..PAGES {
            let hashes: Vec<u128> = page.rows.iter().map(|row| content_hash(row)).collect();
            reading.totals.insert(page.total);
            empty = if page.rows.is_empty() { empty + 1 } else { 0 };
            repeated = if !hashes.is_empty() && hashes == last { repeated + 1 } else { 0 };
            let most = match page.total {
                Some(_) if reading.missing() => PAGES,
                Some(_) => REPEATED_PAGES,
                None => REPEATED_PAGES_WITHOUT_TOTAL,
            };
            if repeated > most {
                let repeats = hashes.len() * most as usize;
                reading.hashes.truncate(reading.hashes.len().saturating_sub(repeats));
                reading.rows.truncate(reading.rows.len().saturating_sub(repeats));
                return Ok(reading);
            }
            reading.hashes.extend(&hashes);
            reading.rows.append(&mut page.rows);
            last = hashes;
            // Not while a page repeats, as that may turn out to be the server, and then the repeats are no rows.
            let is_new = repeated == 0 || reading.missing();
            if is_new && reading.rows.iter().map(Bytes::len).sum::<usize>() > BATCH_BYTES {
                let portion = self.judged(slice, &reading.rows, !reading.handed_on).await?;
                reading.rows.clear();
                reading.handed_on = true;
                self.take(portion).await;
            }
            let Some(token) = page.next.take().filter(|token| tokens.insert(token.clone())) else { return Ok(reading) };
            if empty > 0 && (empty > EMPTY_PAGES || !reading.missing()) {
                return Ok(reading);
            }
            let more = match self.behind(slice, &token).await {
                Ok(Some(more)) => Ok(more),
                Ok(None) => {
                    reading.refused = true;
                    return Ok(reading);
                }
                Err(error) => Err(error),
            };
            reading.turned = true;
            page = match self.page(more)? {
                Ok(page) => page,
                Err(Outcome::Broken(raw, reason)) => {
                    reading.broken = Some((raw, reason));
                    return Ok(reading);
                }
                Err(_) => return Ok(reading),
            };
        }
        let (path, from) = (self.spec.path, stamp(slice.0));
        Err(Upstream::Protocol(format!("{path}: the second {from} has no last page, after {PAGES} of them")).into())
    }
}
