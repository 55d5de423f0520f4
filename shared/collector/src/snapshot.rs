//! Reads a state of affairs whole: each poll as it is, or only what is new or has changed.

use bytes::{Bytes, BytesMut};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use mimecast::{Error, json};
use xxhash_rust::xxh3::xxh3_128;

use crate::portion::{DeadLetter, Event, Portion};
use crate::reader::Task;
use crate::seen::{Seen, UNMARKED, content_hash, name_hash};
use crate::source::Snapshot;
use crate::state::State;

/// Ids no longer listed that are remembered, in case they come back.
const REMEMBERED: usize = 2_000;

/// Reads one source of kind snapshot.
pub(crate) struct SnapshotReader<'a> {
    task: Task<'a>,
    spec: &'a Snapshot,
    state: State,
    done: bool,
}

impl<'a> SnapshotReader<'a> {
    pub fn new(task: Task<'a>, spec: &'a Snapshot, state: State) -> Self {
        Self { task, spec, state, done: false }
    }

    /// From when on a failed delivery is remembered.
    pub fn horizon(&self) -> Option<DateTime<Utc>> {
        self.spec.id.map(|_| self.task.client.now() - TimeDelta::days(1))
    }

    /// The snapshot, once per run.
    pub async fn next(&mut self, seen: &mut Seen) -> Result<Option<Portion>, Error> {
        if std::mem::replace(&mut self.done, true) {
            return Ok(None);
        }
        let page = self.task.client.page(self.spec.path, r#"{"data":[]}"#, self.task.until).await;
        let (page, rows) = match page.and_then(|page| page.envelope.rows(self.spec.rows).map(|rows| (page, rows))) {
            Err(Error::Unreadable { raw, reason }) => return Ok(Some(self.unreadable(raw, reason))),
            answer => answer?,
        };
        let table = self.task.table(self.task.source.table);
        let collected_at = page.at.to_rfc3339_opts(SecondsFormat::Secs, true);
        let mut portion = Portion::default();
        let mut listed = Vec::new();
        for row in rows {
            let (line, id) = match json::compact(&row) {
                Ok(line) => {
                    let id = self.spec.id.map(|id| hashed_id(&line, id));
                    (line, id)
                }
                Err(reason) => {
                    listed.push(self.reject(row, reason, &mut portion));
                    continue;
                }
            };
            let (line, mark) = match id {
                Some(mut id) => {
                    let hash = content_hash(&line);
                    let content = format!("{hash:032x}");
                    if id.is_empty() || listed.contains(&id) {
                        id = format!("{id} {content}");
                    }
                    let known = self.state.sent.insert(id.clone(), content.clone()) == Some(content);
                    listed.push(id);
                    // Marked is only what a failed delivery has got through.
                    if known || seen.contains(hash) {
                        portion.duplicates += 1;
                        continue;
                    }
                    (line, hash)
                }
                None => (stamped(&line, &collected_at), UNMARKED),
            };
            portion.events.push(Event { table: table.clone(), line, mark, unknown_type: None });
        }
        self.forget(&listed);
        portion.state = self.state.clone();
        Ok(Some(portion))
    }

    /// An answer that stays broken is a dead letter whole; the next poll is another.
    fn unreadable(&mut self, raw: Bytes, reason: String) -> Portion {
        let mut portion = Portion::default();
        self.reject(raw, reason, &mut portion);
        Portion { state: self.state.clone(), ..portion }
    }

    /// What cannot be read, once where the same is polled again and again. Gives the name that the state has for it.
    fn reject(&mut self, raw: Bytes, reason: String, portion: &mut Portion) -> String {
        let hash = format!("{:032x}", xxh3_128(&raw));
        let name = format!("unreadable {hash}");
        if self.state.sent.insert(name.clone(), hash).is_none() || self.spec.id.is_none() {
            let (table, origin) = (self.task.table(self.task.source.table).to_string(), self.spec.path.to_owned());
            portion.rejected.push(DeadLetter { raw, reason, table, origin, header: None });
        }
        name
    }

    /// Keeps the item small: ids that are no longer listed go, beyond a generous number.
    fn forget(&mut self, listed: &[String]) {
        let gone: Vec<String> = self.state.sent.keys().filter(|id| !listed.contains(id)).cloned().collect();
        for id in gone.iter().take(gone.len().saturating_sub(REMEMBERED)) {
            self.state.sent.remove(id);
        }
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
