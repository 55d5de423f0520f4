//! Tells an event that was read again from an event that is new, without ever taking two for one.
//!
//! An event's mark is a 128-bit hash of what identifies it. Where nothing but the content does, the mark also holds the
//! event's number among equal ones in the same slice or answer: two equal rows are two events, and reading both again adds
//! none. Equal rows have the same second, so they are always in the same slice.

use std::collections::{HashMap, HashSet};

use xxhash_rust::xxh3::{xxh3_128, xxh3_128_with_seed};

/// What stands for an event in the store: stable across versions of this program.
pub(crate) type Mark = u128;

/// Of an event that is sent at every poll; never stored.
pub(crate) const UNMARKED: Mark = 0;

/// The marks that matter for one run.
///
/// What the store remembers is one sorted list of 16 bytes a mark: millions of rows in an overlap have to fit into a small
/// function's memory, and a hash table would take three times as much.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    stored: Vec<Mark>,
    /// Those of this run. Of a source read by time only those of the slice at hand.
    fresh: HashSet<Mark>,
    /// Those of the slice before: an API may count the second between two slices into both.
    before: HashSet<Mark>,
    /// Those of rows that will be read once more in this run.
    kept: HashSet<Mark>,
    counts: HashMap<u128, u64>,
}

/// One row's mark and whether it has been delivered already.
pub(crate) struct Verdict {
    pub mark: Mark,
    pub known: bool,
}

impl Seen {
    /// What the store remembers.
    pub fn new(mut stored: Vec<Mark>) -> Self {
        stored.sort_unstable();
        Self { stored, ..Self::default() }
    }

    /// Begins an answer, or a slice once more: equal content in it is numbered from the first on.
    pub fn begin(&mut self) {
        self.counts.clear();
    }

    /// Begins the slice after the one at hand. What was in earlier ones does not come back in this run, so its marks would
    /// only take memory, and a backlog has millions.
    pub fn next_slice(&mut self) {
        self.before = std::mem::take(&mut self.fresh);
        self.begin();
    }

    /// The marks of the slice at hand and of the one before stay known through this run.
    pub fn keep(&mut self) {
        self.kept.extend(self.fresh.iter().chain(&self.before));
    }

    /// Judges content that has no identity of its own.
    pub fn content(&mut self, hash: u128) -> Verdict {
        let count = self.counts.entry(hash).or_default();
        let mark = numbered(hash, *count);
        *count += 1;
        self.identity(mark)
    }

    /// Whether any content with this hash has been delivered; does not mark it.
    pub fn has_content(&self, hash: u128) -> bool {
        self.contains(numbered(hash, 0))
    }

    /// Judges what has an identity: an id, a file, a place in a file.
    pub fn identity(&mut self, mark: Mark) -> Verdict {
        if self.stored.binary_search(&mark).is_ok() {
            return Verdict { mark, known: true };
        }
        // Also what was in the slice before: it is in this one too, and may be in the next.
        let fresh = self.fresh.insert(mark);
        Verdict { mark, known: !fresh || self.before.contains(&mark) || self.kept.contains(&mark) }
    }

    /// Whether something with an identity has been delivered; does not mark it.
    pub fn contains(&self, mark: Mark) -> bool {
        let of_this_run = [&self.fresh, &self.before, &self.kept].into_iter().any(|marks| marks.contains(&mark));
        of_this_run || self.stored.binary_search(&mark).is_ok()
    }
}

/// The mark of content by its number among equal ones.
pub(crate) fn numbered(hash: u128, number: u64) -> Mark {
    xxh3_128_with_seed(&hash.to_le_bytes(), number)
}

/// The hash of a name: an id, a file.
pub(crate) fn name_hash(name: &str) -> u128 {
    xxh3_128(name.as_bytes())
}

/// The place in a file, as an identity.
pub(crate) fn place_hash(file: u128, place: u64) -> u128 {
    xxh3_128_with_seed(&file.to_le_bytes(), place.wrapping_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads the rows of a slice and returns those that are new, in order, and their marks.
    fn read(seen: &mut Seen, rows: &[&'static str]) -> (Vec<&'static str>, Vec<Mark>) {
        seen.begin();
        let judged = rows.iter().map(|row| (*row, seen.content(name_hash(row))));
        judged.filter(|(_, verdict)| !verdict.known).map(|(row, verdict)| (row, verdict.mark)).unzip()
    }

    #[test]
    fn equal_rows_are_numbered_and_a_second_reading_adds_none() {
        let mut seen = Seen::default();
        assert_eq!(read(&mut seen, &["{}", "[]", "{}"]).0, ["{}", "[]", "{}"]);
        assert!(read(&mut seen, &["{}", "{}", "[]"]).0.is_empty());
        assert_eq!(read(&mut seen, &["{}", "{}", "{}", "[]"]).0, ["{}"]);
    }

    #[test]
    fn another_run_knows_by_the_store() {
        let mut first = Seen::default();
        let (_, marks) = read(&mut first, &["{}", "[]", "{}"]);
        let mut second = Seen::new(marks);
        assert_eq!(read(&mut second, &["[]", "{}", "{}", "[]"]).0, ["[]"]);
    }

    proptest::proptest! {
        /// Whatever is read again, by whichever runs, with whatever crashes: of each content as many are delivered as the
        /// reading that had most of it.
        #[test]
        fn delivered_is_the_largest_reading(
            readings in proptest::collection::vec(
                (proptest::collection::vec(0..3_u128, 0..8), proptest::bool::ANY, proptest::bool::ANY),
                1..8,
            ),
        ) {
            let (mut stored, mut seen) = (Vec::new(), Seen::default());
            let mut delivered = HashMap::new();
            for (rows, crash, another_run) in &readings {
                if *crash {
                    // It is read, and the run ends before anything is sent or stored.
                    seen.begin();
                    for content in rows {
                        seen.content(*content);
                    }
                }
                if *crash || *another_run {
                    seen = Seen::new(stored.clone());
                }
                seen.begin();
                for content in rows {
                    let verdict = seen.content(*content);
                    if !verdict.known {
                        stored.push(verdict.mark);
                        *delivered.entry(*content).or_insert(0) += 1;
                    }
                }
            }
            for content in 0..3 {
                let count = |rows: &Vec<u128>| rows.iter().filter(|other| **other == content).count();
                let most = readings.iter().map(|(rows, ..)| count(rows)).max().unwrap_or_default();
                proptest::prop_assert_eq!(delivered.get(&content).copied().unwrap_or_default(), most);
            }
        }

        /// A file is read in portions, from any of which another run may go on by its place: each line once.
        #[test]
        fn a_file_is_delivered_once_wherever_its_runs_end(
            lines in 0..40_u64,
            file in proptest::prelude::any::<u128>(),
            portions in proptest::collection::vec((1..10_u64, proptest::bool::ANY), 60),
        ) {
            let (mut place, mut committed, mut delivered) = (0, Vec::new(), Vec::new());
            for (length, fails) in portions {
                let end = lines.min(place + length);
                let seen = Seen::new(committed.clone());
                let new: Vec<u64> = (place + 1..=end).filter(|line| !seen.contains(place_hash(file, *line))).collect();
                // Of a portion that fails half-way, what Devo has taken is known by its marks.
                let sent = if fails { &new[..new.len() / 2] } else { &new[..] };
                delivered.extend_from_slice(sent);
                if fails {
                    committed.extend(sent.iter().map(|line| place_hash(file, *line)));
                } else {
                    place = end;
                }
            }
            delivered.sort_unstable();
            let expected: Vec<u64> = (1..=place).collect();
            delivered.retain(|line| *line <= place);
            proptest::prop_assert_eq!(delivered, expected);
        }
    }
}
