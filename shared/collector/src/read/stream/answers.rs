//! SIEM 1.0 and the threat feed: each answer is a file, or an archive of files, and its token comes in a header.
//!
//! A threat feed can be asked by time as well, so it does not rest on its token alone. SIEM 1.0 has nothing but its token.

use chrono::TimeDelta;
use mimecast::archive::Archive;
use mimecast::{Error as Upstream, FileAnswer, ReadError};
use tempfile::SpooledTempFile;

use super::{A_DAY, Reader, TRIES, local};
use crate::error::Error;
use crate::process::answer::Gap;
use crate::read::file::{Opened, Raw};
use crate::read::portion::Portion;
use crate::read::time::wire;
use crate::source::{Ask, Identity};

/// How far a request without a token goes back behind the last one.
const OVERLAP: TimeDelta = TimeDelta::hours(1);
/// Archives without a file, one after the other, that are followed in one run.
const EMPTY_ARCHIVES: u32 = 20;

/// What an answer is called among what has been set aside.
const ANSWER: &str = "answer";

/// What an answer has given.
struct Given {
    files: usize,
    pieces: u64,
    /// It, or a file in it, could not be read: that nothing came of it does not say that there is nothing.
    unreadable: bool,
}

impl Reader<'_> {
    pub(super) async fn answers(&mut self) -> Result<(), Error> {
        let (now, by_date) = (self.now(), self.has_start() && self.is_due_by_date());
        let mut token = self.position.token.clone().filter(|_| !by_date);
        // A request by time starts earlier than the stored token points: only the last of its tokens is kept, at its end.
        let (at_end, mut last) = (by_date && self.position.token.is_some(), None);
        let (mut tries, mut empty, mut restarted, mut unreadable) = (0, 0, false, false);
        let at = loop {
            let FileAnswer { file, name, next, at } = match self.post(token.as_deref(), by_date).await {
                Err(Upstream::TokenRefused(reason)) if token.is_some() && !restarted => {
                    restarted = true;
                    token = None;
                    self.restart(reason).await;
                    continue;
                }
                answer => answer?,
            };
            let Some(file) = file else { break at };
            tries += 1;
            let given = match self.answer(file, &name, tries == TRIES).await? {
                Ok(given) => given,
                Err(reason) if tries == TRIES => {
                    self.position.aside.entry(ANSWER.to_owned()).or_insert(now);
                    self.note().await;
                    return Err(Upstream::Unavailable(format!("it never came whole: {reason}")).into());
                }
                Err(reason) => {
                    tracing::warn!(reason, origin = self.files.origin(&name), "asking for the answer again");
                    continue;
                }
            };
            tries = 0;
            unreadable = given.unreadable;
            empty = if given.files == 0 { empty + 1 } else { 0 };
            // A threat feed says that nothing is new by a file with only a header: that token is no better than the old one.
            if given.pieces == 0 && !unreadable && self.files.spec.identity == Identity::Content {
                break at;
            }
            let next = next.filter(|next| Some(next) != token.as_ref());
            last = next.clone().or(last);
            if !at_end {
                self.adopt(last.clone());
                self.take(Portion::default()).await;
            }
            match next {
                Some(next) if empty <= EMPTY_ARCHIVES => token = Some(next),
                _ => break at,
            }
        };
        self.adopt(last);
        if by_date {
            self.position.listed = Some(now);
        }
        // Without a token the next request starts at `caught_up`: it must not move past an answer that could not be read.
        if self.position.token.is_some() || !unreadable {
            self.caught_up(at).await;
        }
        Ok(())
    }

    /// Asks for what comes after the token, or with none from a time on where the API can do that.
    async fn post(&self, token: Option<&str>, by_date: bool) -> Result<FileAnswer, Upstream> {
        let Ask::File { path, filter, token_header, start } = &self.files.feed.ask else {
            return Err(Upstream::Protocol(String::new()));
        };
        let (task, now, keeps) = (self.files.task, self.now(), self.files.spec.keeps);
        let last = self.position.caught_up;
        let begin = match last {
            Some(last) => (last - if by_date { A_DAY } else { OVERLAP }).max(now - keeps),
            None => now - task.settings.initial_lookback.min(keeps),
        };
        let extra = match (token, start) {
            (Some(token), _) => format!(r#","token":{}"#, serde_json::json!(token)),
            (None, Some(start)) => format!(r#","{start}":"{}""#, wire(begin)),
            (None, None) => String::new(),
        };
        let body = format!(r#"{{"data":[{{{filter}{extra}}}]}}"#);
        // Without a start a file that comes without a token would come again and again.
        task.client.file(path, &body, token_header, start.is_none(), task.until).await
    }

    fn has_start(&self) -> bool {
        matches!(self.files.feed.ask, Ask::File { start: Some(_), .. })
    }

    /// Reads the files in an answer, or says why it is worth another try.
    async fn answer(
        &mut self,
        mut body: SpooledTempFile,
        name: &str,
        last: bool,
    ) -> Result<Result<Given, String>, Error> {
        let last = last && self.stays_broken(ANSWER);
        let mut raw = if last { Raw::of(&mut body).map_err(local)? } else { Raw::default() };
        let mut given = Given { files: 0, pieces: 0, unreadable: false };
        let mut archive = match Archive::open(body, name) {
            Ok(archive) => archive,
            Err(ReadError::Broken(reason)) if !last => return Ok(Err(reason)),
            Err(ReadError::Broken(reason)) => {
                given.unreadable = true;
                // An empty body stays so: there is nothing to keep.
                if !raw.bytes.is_empty() {
                    let (raw, reason) = raw.rejected(&reason);
                    let letter = self.files.letter(name, raw, reason);
                    self.take(letter).await;
                }
                return Ok(Ok(given));
            }
            Err(error) => return Err(local(error)),
        };
        let names: Vec<String> = archive.files().iter().map(|file| file.name.clone()).collect();
        given.files = names.len();
        for (index, name) in names.iter().enumerate() {
            let mut desk = self.desk().await?;
            let found = archive.extract(index, std::mem::take(&mut desk.held)).map(|file| (file, archive.is_checked()));
            let is_broken = found.is_err();
            let opened = match self.open(name, None, found, last.then(|| raw.clone()), &desk.seen)? {
                Ok(opened) => opened,
                Err(reason) => return Ok(Err(reason)),
            };
            if is_broken {
                // Once: thousands of broken files in one answer are not that many copies of it.
                let note = "; the answer is in a dead letter before this".to_owned();
                raw = Raw { note, ..Raw::default() };
            }
            given.unreadable |= matches!(opened, Opened::Unreadable(..));
            given.pieces += self.deliver(opened, name, None, &mut desk).await?;
        }
        Ok(Ok(given))
    }

    /// A refused token: from the oldest that the API keeps. Files are recognised, so little is repeated.
    async fn restart(&mut self, reason: String) {
        let (now, keeps) = (self.now(), self.files.spec.keeps);
        let oldest = now - keeps;
        let last = self.position.caught_up.unwrap_or(now);
        tracing::warn!(feed = self.files.feed.name, %reason, "token refused, reading again what mimecast keeps");
        let repeat = (last > oldest).then_some(Gap { from: oldest, to: last });
        self.position.token = None;
        // Without it the next request would start at INITIAL_LOOKBACK: it has to be all that is kept.
        self.position.caught_up = Some(oldest + OVERLAP);
        self.take(Portion { repeat, ..Portion::default() }).await;
    }
}
