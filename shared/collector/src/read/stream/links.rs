//! SIEM 2.0: pages of signed links to files.
//!
//! The feed's token is followed first. By date, without a token, it is listed once a day and whenever there is doubt: what is
//! there and not known by its path is delivered. Each file's trouble is its own: one that cannot be had is set aside, the others
//! go on, and it is tried again in each run as long as Mimecast lists it.

use std::collections::{HashMap, HashSet, VecDeque};

use bytes::Bytes;
use chrono::{DateTime, NaiveTime, TimeDelta, Utc};
use mimecast::archive::Archive;
use mimecast::{Error as Upstream, Link, Listing, json};
use tempfile::SpooledTempFile;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Duration, Instant, sleep};

use super::{A_DAY, DOWNLOADS, EMPTY_ANSWERS, Reader, TRIES, local};
use crate::error::Error;
use crate::process::answer::Gap;
use crate::read::ahead::Ahead;
use crate::read::file::{Opened, Raw, only};
use crate::read::portion::Portion;
use crate::seen::name_hash;
use crate::source::Ask;
use crate::state::Position;

/// Most signed links that one answer gives.
const LINKS_PER_PAGE: u32 = 100;
/// Files of one feed that may be set aside: they are remembered by path, and the state is one item.
const MOST_ASIDE: usize = 50;
/// So many files one after the other that cannot be had are no trouble of theirs: their store is out of reach.
const OUT_OF_REACH: u32 = 5;
/// Before fresh links are asked for.
const PAUSE: Duration = Duration::from_millis(500);

/// What a page is asked by. The days are those of the whole chain of pages: others halfway would pass over files.
struct Question {
    token: Option<String>,
    days: [String; 2],
}

/// A file as downloaded, and the permit to have it in memory.
type Download = Result<(SpooledTempFile, OwnedSemaphorePermit), Upstream>;

impl Reader<'_> {
    pub(super) async fn links(&mut self) -> Result<(), Error> {
        let mut caught_up = None;
        if let Some(token) = self.position.token.clone() {
            caught_up = match self.follow(Some(token)).await {
                Err(Error::Mimecast(Upstream::TokenRefused(reason))) => {
                    self.refused(reason).await;
                    None
                }
                outcome => outcome?,
            };
        }
        if caught_up.is_none() || self.is_due_by_date() {
            let now = self.now();
            let (is_unconfirmed, before) = (caught_up.is_none(), self.position.token.clone());
            caught_up = self.list().await?;
            if is_unconfirmed && self.position.token == before {
                // Following it has not ended with "nothing new", and the listing has no newer one: each run would follow it in vain.
                self.position.token = None;
            }
            self.position.listed = Some(now);
            self.note().await;
            self.give_up_expired(now).await;
        }
        if let (Some(at), true) = (caught_up, self.position.aside.is_empty()) {
            self.caught_up(at).await;
        }
        let Some(path) = self.position.aside.keys().next() else { return Ok(()) };
        let (count, reason) = (self.position.aside.len(), self.missed.take().unwrap_or_default());
        let text = format!("{count} files cannot be had and are tried again in each run, such as {path}: {reason}");
        Err(Upstream::Unavailable(text).into())
    }

    /// Follows the listing by date. Of the oldest day Mimecast keeps only a part, and no page says whether it may be asked for: where it
    /// is refused, what was published on it is a gap.
    async fn list(&mut self) -> Result<Option<DateTime<Utc>>, Error> {
        let Position { gave, caught_up, .. } = self.position;
        let last = self.files.task.backfill.map(|range| range.from).or(caught_up.max(gave));
        let oldest = day(self.first_day());
        let refused = match self.follow(None).await {
            Err(Error::Mimecast(error @ Upstream::BadRequest(_))) => error,
            outcome => return outcome,
        };
        self.start_margin = A_DAY;
        let to = day(self.first_day());
        if to == oldest {
            return Err(refused.into());
        }
        tracing::warn!(feed = self.files.feed.name, error = %refused, "oldest day refused, listing from the next one on");
        let ended = self.follow(None).await?;
        if let Some(from) = last.filter(|from| *from < to) {
            self.take(Portion { gap: Some(Gap { from, to }), ..Portion::default() }).await;
        }
        Ok(ended)
    }

    /// Follows a token, or with `None` the listing by date, from page to page. Returns the server's time when nothing more was there:
    /// where the answer says so, or a listing by date has ended. `None`: the token's answers just stopped.
    async fn follow(&mut self, token: Option<String>) -> Result<Option<DateTime<Utc>>, Error> {
        let (by_date, days) = (token.is_none(), self.days());
        let asked_to = days[1].clone();
        let ended = self.pages(Question { token, days }).await?;
        // Midnight has passed, or the answers have shown that our clock was behind: asked with an end, they left out what is of today.
        let days = self.days();
        if ended.is_none() || days[1] <= asked_to {
            return Ok(ended);
        }
        let token = self.position.token.clone().filter(|_| !by_date);
        self.pages(Question { token, days }).await
    }

    /// Follows one chain of pages, see `follow`.
    async fn pages(&mut self, mut question: Question) -> Result<Option<DateTime<Utc>>, Error> {
        let by_date = question.token.is_none();
        // A listing by date starts earlier than the stored token points. The tokens of its first pages would set the feed back, so only
        // the last one is kept, when the listing is complete.
        let (at_end, mut last) = (by_date && self.position.token.is_some(), None);
        let (mut empty, mut was_full, mut doubted) = (0, false, false);
        loop {
            let Listing { links, unusable, next, is_caught_up, at } = self.ask(&question).await?;
            let count = links.len() + unusable.len();
            self.unusable(unusable, links.is_empty()).await?;
            self.page(&question, links, by_date).await?;
            // A page token that has stopped working is answered by an empty page, as the end is. After a full page it may be either, so
            // the listing starts once more; files that are known by now cost no download.
            let starts_anew = by_date && was_full && count == 0 && !doubted;
            was_full = count >= self.page_size() as usize;
            if starts_anew {
                doubted = true;
                question.token = None;
                continue;
            }
            // A page with files that returns the token it was asked with would come again for ever: it is the last. An empty page may,
            // as files may appear under its token later: it is asked for again a few times.
            let next = next.filter(|next| count == 0 || Some(next) != question.token.as_ref());
            if count > 0 {
                last = next.clone().or(last);
                if !at_end {
                    self.adopt(last.clone());
                    self.take(Portion::default()).await;
                }
            }
            if is_caught_up {
                self.adopt(last);
                return Ok(Some(at));
            }
            empty = if count == 0 { empty + 1 } else { 0 };
            match next {
                Some(next) if empty <= EMPTY_ANSWERS => question.token = Some(next),
                None if by_date && count >= self.page_size() as usize => {
                    let text = "a full page of links has no token for what comes after it";
                    return Err(Upstream::Protocol(text.to_owned()).into());
                }
                // Only a request by date tells that nothing is new, where the API does not say so itself.
                _ => {
                    self.adopt(last);
                    return Ok(by_date.then_some(at));
                }
            }
        }
    }

    /// One page of links: dates without a token, a token without dates, unless the API has insisted on something else.
    async fn ask(&mut self, question: &Question) -> Result<Listing, Error> {
        let refused = match self.ask_as_known(question).await {
            Err(error @ (Upstream::BadRequest(_) | Upstream::TokenRefused(_))) => error,
            outcome => return Ok(outcome?),
        };
        self.ask_otherwise(question);
        match self.ask_as_known(question).await {
            // Both forms are refused: the one used before stays, and its refusal is reported.
            Err(Upstream::BadRequest(_) | Upstream::TokenRefused(_)) => {
                self.ask_otherwise(question);
                Err(refused.into())
            }
            outcome => Ok(outcome?),
        }
    }

    fn ask_otherwise(&mut self, question: &Question) {
        let wants = match question.token {
            None => &mut self.position.wants_end,
            Some(_) => &mut self.position.wants_dates,
        };
        *wants = !*wants;
    }

    async fn ask_as_known(&self, question: &Question) -> Result<Listing, Upstream> {
        let Ask::Links { path, kind } = self.files.feed.ask else { return Err(Upstream::Protocol(String::new())) };
        let (task, size) = (self.files.task, self.page_size().to_string());
        let Question { token, days: [first, last] } = question;
        let mut query = vec![("type", kind), ("pageSize", &*size)];
        query.extend(token.as_ref().map(|token| ("nextPage", token.as_str())));
        let dated = token.is_none() || self.position.wants_dates;
        if dated {
            query.push(("dateRangeStartsAt", first));
        }
        // Without an end, so that the token is not sealed to it. A backfill has one.
        if dated && (task.backfill.is_some() || self.position.wants_end || token.is_some()) {
            query.push(("dateRangeEndsAt", last));
        }
        task.client.listing(path, &query, task.until).await
    }

    /// From which day to which a request by date asks.
    fn days(&mut self) -> [String; 2] {
        let last = self.files.task.backfill.map_or(self.now(), |range| range.to - TimeDelta::milliseconds(1));
        [self.first_day(), last].map(|day| day.format("%Y-%m-%d").to_string())
    }

    /// Delivers the files of a page that are not known yet, downloaded side by side and read in order.
    async fn page(&mut self, question: &Question, links: Vec<Link>, by_date: bool) -> Result<(), Error> {
        if links.is_empty() {
            return Ok(());
        }
        let mut paths = HashSet::new();
        let mut queue: VecDeque<Link> = {
            let desk = self.desk().await?;
            let known = |link: &Link| desk.seen.contains(name_hash(link.path()));
            // A link may be listed twice. What is set aside is looked for by date.
            let wanted = |link: &Link| {
                paths.insert(link.path().to_owned())
                    && !known(link)
                    && (by_date || !self.position.aside.contains_key(link.path()))
            };
            links.into_iter().filter(wanted).collect()
        };
        self.warn_of_losses(&queue, by_date).await;
        let mut ahead = VecDeque::new();
        loop {
            while ahead.len() < DOWNLOADS
                && let Some(link) = queue.pop_front()
            {
                let download = self.download(&link);
                ahead.push_back((link, download));
            }
            let Some((link, download)) = ahead.pop_front() else { return Ok(()) };
            self.file(question, link, download, &mut queue).await?;
        }
    }

    /// Has one file, by fresh links if need be, or sets it aside.
    async fn file(
        &mut self,
        question: &Question,
        mut link: Link,
        mut download: Ahead<Download>,
        queue: &mut VecDeque<Link>,
    ) -> Result<(), Error> {
        let mut tries = 1;
        loop {
            let reason = match download.await {
                Ok((file, _permit)) => match self.read_file(&link, file, tries == TRIES).await? {
                    None => return Ok(()),
                    Some(reason) if tries == TRIES => {
                        return self
                            .set_aside(&link, Upstream::Unavailable(format!("it never came whole: {reason}")))
                            .await;
                    }
                    Some(reason) => reason,
                },
                Err(error @ (Upstream::Local(_) | Upstream::Configuration(_))) => {
                    return Err(error.into());
                }
                // The run's end is no trouble of the file's.
                Err(error) if Instant::now() >= self.files.task.until => return Err(error.into()),
                // What was set aside before has a fresh link already: one try in each run.
                Err(error @ Upstream::LinkRefused(_))
                    if tries < TRIES && !self.position.aside.contains_key(link.path()) =>
                {
                    sleep(PAUSE).await;
                    let fresh = self.ask(question).await?.links;
                    let mut fresh: HashMap<String, Link> =
                        fresh.into_iter().map(|link| (link.path().to_owned(), link)).collect();
                    for link in std::iter::once(&mut link).chain(queue.iter_mut()) {
                        if let Some(fresh) = fresh.remove(link.path()) {
                            *link = fresh;
                        }
                    }
                    error.to_string()
                }
                // A link that nobody should follow, whichever fresh one is asked for.
                Err(Upstream::Unreadable { raw, reason }) => {
                    let mut desk = self.desk().await?;
                    let (opened, mark) = (Opened::Unreadable(raw, reason), name_hash(link.path()));
                    self.deliver(opened, link.path(), Some(mark), &mut desk).await?;
                    return Ok(());
                }
                Err(error) => return self.set_aside(&link, error).await,
            };
            tracing::warn!(reason, ?link, "fetching the file again");
            tries += 1;
            download = self.download(&link);
        }
    }

    /// Reads a file, or says why it is worth another try.
    async fn read_file(&mut self, link: &Link, mut file: SpooledTempFile, last: bool) -> Result<Option<String>, Error> {
        let (path, mark) = (link.path(), name_hash(link.path()));
        let mut desk = self.desk().await?;
        let last = last && self.stays_broken(path);
        let raw = if last { Some(Raw::of(&mut file).map_err(local)?) } else { None };
        let held = std::mem::take(&mut desk.held);
        let found = Archive::open(file, path).and_then(|archive| only(archive, held));
        let opened = match self.open(path, Some(mark), found, raw.filter(|raw| !raw.bytes.is_empty()), &desk.seen)? {
            Ok(opened) => opened,
            Err(reason) => return Ok(Some(reason)),
        };
        self.misses = 0;
        self.position.aside.remove(path);
        self.deliver(opened, path, Some(mark), &mut desk).await?;
        Ok(None)
    }

    fn download(&self, link: &Link) -> Ahead<Download> {
        let task = self.files.task;
        let (client, link, until, downloads) =
            (task.client.clone(), link.clone(), task.until, self.shared.downloads.clone());
        Ahead::start(async move {
            let permit = downloads.acquire_owned().await.map_err(|error| Upstream::Local(error.to_string()))?;
            Ok((client.download(&link, until).await?, permit))
        })
    }

    /// A file that cannot be had: the others go on.
    async fn set_aside(&mut self, link: &Link, error: Upstream) -> Result<(), Error> {
        tracing::warn!(%error, ?link, "file set aside, it is tried again in the next run");
        self.missed.get_or_insert(error.to_string());
        let (now, aside) = (self.now(), &mut self.position.aside);
        if aside.contains_key(link.path()) {
            // Of these any number in a row may be gone for good: they must not end the reading run after run.
            return Ok(());
        }
        if aside.len() >= MOST_ASIDE {
            return Err(error.into());
        }
        aside.insert(link.path().to_owned(), now);
        self.misses += 1;
        self.note().await;
        if self.misses >= OUT_OF_REACH { Err(error.into()) } else { Ok(()) }
    }

    /// A file that has failed for longer than Mimecast keeps files is a dead letter. Its content never came, so it holds the path.
    async fn give_up_expired(&mut self, now: DateTime<Utc>) {
        let keeps = self.files.spec.keeps;
        let over: Vec<String> = self
            .position
            .aside
            .iter()
            .filter(|(_, since)| now - **since > keeps)
            .map(|(path, _)| path.clone())
            .collect();
        for path in over {
            self.position.aside.remove(&path);
            let reason = "it could not be had for as long as mimecast kept it".to_owned();
            let mut portion = self.files.letter(&path, Bytes::from(path.clone()), reason);
            portion.marks.push(name_hash(&path));
            self.take(portion).await;
        }
    }

    /// Entries of a listing that are no links: a dead letter each, unless the whole listing has another form than it used to.
    async fn unusable(&mut self, entries: Vec<Bytes>, all: bool) -> Result<(), Error> {
        let has_url = |entry: &Bytes| json::members(entry).flatten().any(|(key, _)| key == b"url");
        if all && entries.iter().any(|entry| !has_url(entry)) {
            return Err(Upstream::Protocol("no entry of the listing has a url".to_owned()).into());
        }
        for entry in entries {
            let mark = name_hash(&format!("{} {}", self.files.feed.name, String::from_utf8_lossy(&entry)));
            let known = self.desk().await?.seen.identity(mark).known;
            if !known {
                let mut portion = self.files.letter("", entry, "an entry of the listing without a link".to_owned());
                portion.marks.push(mark);
                self.take(portion).await;
            }
        }
        Ok(())
    }

    /// A file that only the listing by date shows was lost by the token: the user should know.
    async fn warn_of_losses(&self, new: &VecDeque<Link>, by_date: bool) {
        let Position { listed, token, aside, .. } = &self.position;
        let lost = new.iter().find(|link| !aside.contains_key(link.path()));
        if let (true, Some(link), Some(_), Some(_), None) = (by_date, lost, listed, token, self.files.task.backfill) {
            let (feed, path) = (&self.files.feed.name, link.path());
            self.outbox
                .warn(format!("{feed}: the listing by date shows files that the token never gave, such as {path}"))
                .await;
        }
    }

    /// The token is no longer good: the listing by date shows what it would have.
    async fn refused(&mut self, reason: String) {
        let (from, to) = (self.first_day(), self.position.caught_up.unwrap_or(self.now()));
        tracing::warn!(feed = self.files.feed.name, %reason, "token refused, listing by date");
        self.position.token = None;
        let repeat = (from < to).then_some(Gap { from, to });
        self.take(Portion { repeat, ..Portion::default() }).await;
    }

    fn page_size(&self) -> u32 {
        self.files.task.settings.page_size.unwrap_or(LINKS_PER_PAGE).min(LINKS_PER_PAGE)
    }
}

/// The start of a day: requests by date have no time.
fn day(at: DateTime<Utc>) -> DateTime<Utc> {
    at.date_naive().and_time(NaiveTime::MIN).and_utc()
}
