//! Reads a state of affairs whole: each poll as it is, or only what is new or has changed.

use std::collections::HashSet;

use bytes::{Bytes, BytesMut};
use chrono::{SecondsFormat, TimeDelta};
use mimecast::Page;
use mimecast::json::{self, content_hash};
use xxhash_rust::xxh3::xxh3_128;

use super::portion::{DeadLetter, Event, Place, Portion};
use super::task::Task;
use super::time::stamp;
use crate::error::Error;
use crate::outbox::Outbox;
use crate::seen::{Seen, UNMARKED, name_hash};
use crate::source::Snapshot;
use crate::state::State;

/// Ids no longer listed that are remembered, in case they come back.
const REMEMBERED: usize = 2_000;
/// For how long what a failed delivery got through is looked for.
const FAILED_DELIVERY: TimeDelta = TimeDelta::days(1);

/// Reads the snapshot once.
pub(super) async fn read(task: &Task<'_>, spec: &Snapshot, state: &State, outbox: &Outbox) -> Result<(), Error> {
    let mut reader = Reader { task, spec, outbox, state: state.clone(), portion: Portion::default() };
    reader.poll().await?;
    let Reader { state, portion, .. } = reader;
    outbox.take(portion, |current| current.sent = state.sent).await;
    Ok(())
}

struct Reader<'a> {
    task: &'a Task<'a>,
    spec: &'a Snapshot,
    outbox: &'a Outbox,
    state: State,
    portion: Portion,
}

impl Reader<'_> {
    async fn poll(&mut self) -> Result<(), Error> {
        let Snapshot { path, rows, .. } = *self.spec;
        let page = self.task.client.page(path, rows, &self.spec.question(self.task.settings), self.task.until).await;
        let Page { rows, at, .. } = match page {
            Err(mimecast::Error::Unreadable { raw, reason }) => {
                // An answer that stays broken is a dead letter whole; the next poll is another.
                self.reject(raw, reason);
                return Ok(());
            }
            answer => answer?,
        };
        let table = self.task.table(self.task.source.table);
        let collected_at = at.to_rfc3339_opts(SecondsFormat::Secs, true);
        // Marked is only what a failed delivery has got through: asked for when a row seems to be new.
        let mut failed_delivery: Option<Seen> = None;
        let mut listed = HashSet::new();
        for row in rows {
            let line = match json::compact(&row) {
                Ok(line) => line,
                Err(reason) => {
                    listed.insert(self.reject(row, reason));
                    continue;
                }
            };
            let (line, mark) = match self.spec.id.map(|id| hashed_id(&line, id)) {
                Some(mut id) => {
                    let hash = content_hash(&line);
                    let content = format!("{hash:032x}");
                    if id.is_empty() || listed.contains(&id) {
                        id = format!("{id} {content}");
                    }
                    let known = self.state.sent.insert(&id, &content);
                    listed.insert(id);
                    if !known && failed_delivery.is_none() {
                        let from = stamp(self.task.client.now() - FAILED_DELIVERY);
                        failed_delivery = Some(self.task.seen(&from).await?);
                    }
                    if known || failed_delivery.as_ref().is_some_and(|seen| seen.contains(hash)) {
                        self.portion.duplicates += 1;
                        continue;
                    }
                    (line, hash)
                }
                None => (stamped(&line, &collected_at), UNMARKED),
            };
            self.portion.events.push(Event { table: table.clone(), line, mark, unknown_type: None });
        }
        if !self.state.sent.forget(&listed, REMEMBERED) {
            let (path, count) = (self.spec.path, listed.len());
            self.outbox
                .warn(format!("{path}: {count} entries are more than can be remembered, so some are sent at each poll"))
                .await;
        }
        Ok(())
    }

    /// What cannot be read, once where the same is polled again and again. Gives the name that the state has for it.
    fn reject(&mut self, raw: Bytes, reason: String) -> String {
        let hash = format!("{:032x}", xxh3_128(&raw));
        let name = format!("unreadable {hash}");
        if !self.state.sent.insert(&name, &hash) || self.spec.id.is_none() {
            let (table, origin) = (self.task.table(self.task.source.table).to_string(), self.spec.path.to_owned());
            self.portion.rejected.push(DeadLetter { raw, reason, table, origin, place: Place::default() });
        }
        name
    }
}

/// A notice's id in the state, or nothing. By its hash: ids may be long, and an item has to hold them all.
pub(crate) fn hashed_id(line: &[u8], id: &str) -> String {
    json::string_member(line, id).map(|id| format!("{:032x}", name_hash(&id))).unwrap_or_default()
}

/// The object with `"collectedAt"` as its last key.
pub(crate) fn stamped(line: &Bytes, collected_at: &str) -> Bytes {
    let open = line.strip_suffix(b"}").unwrap_or(line);
    let comma = if open == b"{" { "" } else { "," };
    let mut stamped = BytesMut::with_capacity(line.len() + 48);
    stamped.extend_from_slice(open);
    stamped.extend_from_slice(format!(r#"{comma}"collectedAt":"{collected_at}"}}"#).as_bytes());
    stamped.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_collection_is_the_last_key() {
        let stamp = |line: &'static str| stamped(&Bytes::from_static(line.as_bytes()), "2026-01-31T12:00:00Z");
        assert_eq!(stamp(r#"{"a":"}"}"#), r#"{"a":"}","collectedAt":"2026-01-31T12:00:00Z"}"#);
        assert_eq!(stamp("{}"), r#"{"collectedAt":"2026-01-31T12:00:00Z"}"#);
    }
}
