//! What a snapshot with ids has sent: the content last sent by id.
//!
//! All of it is in one item, which holds 400 kB. So both are kept as hashes of 64 bits, which makes room for ten thousand rows.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// Most rows that are remembered.
const MOST: usize = 10_000;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "BTreeMap<String, String>", into = "BTreeMap<String, String>")]
pub(crate) struct Sent(BTreeMap<u64, u64>);

impl Sent {
    /// Remembers the content last sent under a name. Whether it was sent already.
    pub fn insert(&mut self, name: &str, content: &str) -> bool {
        let content = xxh3_64(content.as_bytes());
        self.0.insert(xxh3_64(name.as_bytes()), content) == Some(content)
    }

    /// Whether anything has been sent under a name, and whether it was this.
    pub fn get(&self, name: &str, content: &str) -> Option<bool> {
        self.0.get(&xxh3_64(name.as_bytes())).map(|sent| *sent == xxh3_64(content.as_bytes()))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets what is no longer listed beyond `spare` names, which may come back. Whether all that is listed can be remembered.
    pub fn forget(&mut self, listed: &HashSet<String>, spare: usize) -> bool {
        let listed: HashSet<u64> = listed.iter().map(|name| xxh3_64(name.as_bytes())).collect();
        let gone: Vec<u64> = self.0.keys().filter(|name| !listed.contains(name)).copied().collect();
        let spare = spare.min(MOST.saturating_sub(listed.len()));
        for name in gone.iter().take(gone.len().saturating_sub(spare)) {
            self.0.remove(name);
        }
        let fits = self.0.len() <= MOST;
        while self.0.len() > MOST {
            self.0.pop_last();
        }
        fits
    }
}

impl From<Sent> for BTreeMap<String, String> {
    fn from(sent: Sent) -> Self {
        sent.0.into_iter().map(|(name, content)| (format!("{name:016x}"), format!("{content:016x}"))).collect()
    }
}

impl From<BTreeMap<String, String>> for Sent {
    /// Earlier versions stored names as they are, and longer hashes.
    fn from(stored: BTreeMap<String, String>) -> Self {
        let hash = |text: &str| match u64::from_str_radix(text, 16) {
            Ok(hash) if text.len() == 16 => hash,
            _ => xxh3_64(text.as_bytes()),
        };
        Self(stored.iter().map(|(name, content)| (hash(name), hash(content))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_version_stored_is_known() {
        let stored = r#"{"unreadable 00":"00","0123456789abcdef0123456789abcdef":"fedcba9876543210fedcba9876543210"}"#;
        let sent: Sent = serde_json::from_str(stored).unwrap();
        let (name, content) = ("0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210");
        assert_eq!(sent.get(name, content), Some(true));
        assert_eq!(sent.get("unreadable 00", "01"), Some(false));
        assert_eq!(sent.get("another", content), None);
        let again: Sent = serde_json::from_str(&serde_json::to_string(&sent).unwrap()).unwrap();
        assert_eq!(again, sent);
    }

    #[test]
    fn an_item_holds_it() {
        let listed: HashSet<String> = (0..12_000).map(|n| format!("id {n}")).collect();
        let mut sent = Sent::default();
        for name in &listed {
            sent.insert(name, "content");
        }
        assert!(!sent.forget(&listed, 100));
        assert!(serde_json::to_string(&sent).unwrap().len() < 395_000);
        let few: HashSet<String> = listed.iter().take(10).cloned().collect();
        for name in &few {
            sent.insert(name, "content");
        }
        assert!(sent.forget(&few, 100));
        assert!(few.iter().all(|name| sent.get(name, "content") == Some(true)));
        assert_eq!(sent.0.len(), 110);
    }
}
