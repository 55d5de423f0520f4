//! Tells an event that was read again from an event that is new, without ever taking two for one.
//!
//! An event's mark is a 128-bit hash of what identifies it. Where nothing but the content does, the mark also holds the
//! event's number among equal ones in one reading: two equal rows are two events, and reading both again adds none.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use mimecast::json;
use xxhash_rust::xxh3::{xxh3_128, xxh3_128_with_seed};

/// What stands for an event in the store: stable across versions of this program.
pub(crate) type Mark = u128;

/// Of an event that is never told from others: each poll of it is new.
pub(crate) const UNMARKED: Mark = 0;

/// The marks that matter for one run.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    known: HashSet<Mark>,
    /// Marks of the rows of the reading at hand, by label, as an earlier run left them.
    readings: HashMap<String, HashSet<Mark>>,
    label: String,
    counts: HashMap<u128, u64>,
}

/// One row's mark and whether it has been delivered already.
pub(crate) struct Verdict {
    pub mark: Mark,
    pub known: bool,
}

impl Seen {
    /// Takes in what the store remembers.
    pub fn remember(&mut self, label: Option<String>, marks: impl Iterator<Item = Mark>) {
        match label {
            Some(label) => {
                let reading = self.readings.entry(label).or_default();
                marks.for_each(|mark| {
                    reading.insert(mark);
                    self.known.insert(mark);
                });
            }
            None => self.known.extend(marks),
        }
    }

    /// Begins a reading, or goes on with the one an earlier run left under the same label.
    pub fn begin(&mut self, label: String) {
        if self.label != label {
            self.label = label;
            self.counts.clear();
        }
    }

    /// Judges content that has no identity of its own: equal ones in one reading are numbered.
    pub fn content(&mut self, hash: u128) -> Verdict {
        let count = self.counts.get(&hash).copied().unwrap_or_else(|| self.read_earlier(hash));
        self.counts.insert(hash, count + 1);
        self.judge(numbered(hash, count))
    }

    /// Whether content that this reading has had on an earlier page would be new once more: as the `nth` of its kind on a page,
    /// from 0 on. Does not mark it.
    pub fn is_one_more(&self, hash: u128, nth: u64) -> bool {
        let count = self.counts.get(&hash).copied().unwrap_or_else(|| self.read_earlier(hash));
        count > 0 && !self.known.contains(&numbered(hash, count + nth))
    }

    /// How many of this content an earlier run has had in the reading at hand.
    fn read_earlier(&self, hash: u128) -> u64 {
        let earlier = self.readings.get(&self.label);
        let read = |number: &u64| earlier.is_some_and(|marks| marks.contains(&numbered(hash, *number)));
        (0..).take_while(read).count() as u64
    }

    /// Whether any content with this hash has been delivered; does not mark it.
    pub fn has_content(&self, hash: u128) -> bool {
        self.known.contains(&numbered(hash, 0))
    }

    /// Judges what has an identity: an id, a file, a place in a file.
    pub fn identity(&mut self, hash: u128) -> Verdict {
        self.judge(hash)
    }

    fn judge(&mut self, mark: Mark) -> Verdict {
        Verdict { mark, known: !self.known.insert(mark) }
    }

    /// Whether something with an identity has been delivered; does not mark it.
    pub fn contains(&self, hash: u128) -> bool {
        self.known.contains(&hash)
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

/// The hash of an event's content in canonical form, so that another order of keys or another escape of the same
/// character is the same event. Numbers count as written.
pub(crate) fn content_hash(event: &Bytes) -> u128 {
    let mut canonical = Vec::with_capacity(event.len());
    canonicalise(event, &mut canonical, 0);
    xxh3_128(&canonical)
}

/// Deeper than this a value counts as written: no event of Mimecast's nests so far.
const DEPTH: u32 = 64;

fn canonicalise(value: &[u8], out: &mut Vec<u8>, depth: u32) {
    match value.first() {
        Some(b'{') if depth < DEPTH => {
            let mut members: Vec<(Vec<u8>, &[u8])> =
                json::members(value).filter_map(Result::ok).map(|(key, value)| (decoded(key), value)).collect();
            members.sort();
            out.push(b'{');
            for (key, value) in members {
                length_prefixed(&key, out);
                canonicalise(value, out, depth + 1);
            }
            out.push(b'}');
        }
        Some(b'[') if depth < DEPTH => {
            out.push(b'[');
            json::elements(value).filter_map(Result::ok).for_each(|element| canonicalise(element, out, depth + 1));
            out.push(b']');
        }
        Some(b'"') => {
            out.push(b'"');
            length_prefixed(&decoded(value.get(1..value.len() - 1).unwrap_or_default()), out);
        }
        _ => length_prefixed(value, out),
    }
}

fn length_prefixed(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// The characters between the quotes of a JSON string, or the bytes as they are where they do not decode.
fn decoded(inner: &[u8]) -> Vec<u8> {
    if !inner.contains(&b'\\') {
        return inner.to_vec();
    }
    let quoted = [b"\"", inner, b"\""].concat();
    serde_json::from_slice::<String>(&quoted).map_or_else(|_| inner.to_vec(), String::into_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(text: &str) -> u128 {
        content_hash(&Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn the_same_event_in_another_spelling_has_the_same_hash() {
        assert_eq!(hash(r#"{"a":"<","b":[1,{"d":1,"c":"/"}]}"#), hash(r#"{"b":[1,{"c":"\/","d":1}],"a":"\u003c"}"#));
    }

    #[test]
    fn different_events_have_different_hashes() {
        let all = [
            r#"{"n":1.1}"#,
            r#"{"n":1.10}"#,
            r#"{"n":"1.1"}"#,
            r#"{"n":12345678901234567890123}"#,
            r#"{"n":12345678901234567890124}"#,
            r#"{"n":[1,2]}"#,
            r#"{"n":[12]}"#,
            r#"{"n":["1","2"]}"#,
            r#"{"n":null}"#,
            r#"{"n":{}}"#,
            r#"{"n":1.1,"n":1.1}"#,
        ];
        assert_eq!(all.iter().map(|event| hash(event)).collect::<HashSet<_>>().len(), all.len());
    }

    /// Reads the rows of `window` and returns those that are new, in order.
    fn read(seen: &mut Seen, label: &str, rows: &[&str]) -> (Vec<String>, Vec<Mark>) {
        seen.begin(label.to_owned());
        let mut marks = Vec::new();
        let new = rows.iter().filter(|row| {
            let verdict = seen.content(hash(row));
            marks.push(verdict.mark);
            !verdict.known
        });
        (new.map(|row| (*row).to_owned()).collect(), marks)
    }

    #[test]
    fn equal_rows_are_numbered_and_a_second_reading_adds_none() {
        let mut seen = Seen::default();
        assert_eq!(read(&mut seen, "1", &["{}", "[]", "{}"]).0, ["{}", "[]", "{}"]);
        assert!(read(&mut seen, "2", &["{}", "{}", "[]"]).0.is_empty());
        assert_eq!(read(&mut seen, "3", &["{}", "{}", "{}", "[]"]).0, ["{}"]);
    }

    #[test]
    fn a_reading_goes_on_in_another_run() {
        let mut first = Seen::default();
        let (_, marks) = read(&mut first, "w", &["{}", "[]"]);
        let mut second = Seen::default();
        second.remember(Some("w".into()), marks.iter().copied());
        // Page two of the same reading has one more equal row: it is the second of two, not the first again.
        assert_eq!(read(&mut second, "w", &["{}"]).0, ["{}"]);
        let mut third = Seen::default();
        third.remember(None, marks.into_iter());
        assert!(read(&mut third, "w", &["{}"]).0.is_empty());
    }

    /// What comes between two pages.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Between {
        Nothing,
        /// The run ends, and another goes on.
        Run,
        /// The commit of the page just read fails, and so does its run: another reads that page again.
        Crash,
    }

    proptest::proptest! {
        /// Whatever is read again, in whatever pages, by whichever runs, with whatever crashes: of each content as many are
        /// delivered as the reading that had most of it.
        #[test]
        fn delivered_is_the_largest_reading(
            readings in proptest::collection::vec(
                proptest::collection::vec(proptest::collection::vec(0..3_u128, 0..5), 1..4),
                1..6,
            ),
            between in proptest::collection::vec(
                proptest::sample::select(vec![Between::Nothing, Between::Run, Between::Crash]),
                18,
            ),
        ) {
            let mut stored: Vec<(Option<String>, Vec<Mark>)> = Vec::new();
            let another_run = |stored: &[(Option<String>, Vec<Mark>)]| {
                let mut seen = Seen::default();
                stored.iter().for_each(|(label, marks)| seen.remember(label.clone(), marks.iter().copied()));
                seen
            };
            let mut seen = Seen::default();
            let mut delivered = HashMap::new();
            let mut between = between.into_iter();
            for (number, pages) in readings.iter().enumerate() {
                let label = number.to_string();
                for (index, page) in pages.iter().enumerate() {
                    let between = between.next().unwrap_or(Between::Nothing);
                    if between == Between::Crash {
                        seen.begin(label.clone());
                        for content in page {
                            seen.content(*content);
                        }
                    }
                    if between != Between::Nothing {
                        seen = another_run(&stored);
                    }
                    seen.begin(label.clone());
                    let (mut all, mut fresh) = (Vec::new(), Vec::new());
                    for content in page {
                        let verdict = seen.content(*content);
                        all.push(verdict.mark);
                        if !verdict.known {
                            fresh.push(verdict.mark);
                            *delivered.entry(*content).or_insert(0) += 1;
                        }
                    }
                    // As `window` has it: all marks while the reading goes on, the new ones when it ends.
                    let goes_on = index + 1 < pages.len();
                    stored.push(if goes_on { (Some(label.clone()), all) } else { (None, fresh) });
                }
            }
            for content in 0..3 {
                let count = |pages: &Vec<Vec<u128>>| pages.iter().flatten().filter(|other| **other == content).count();
                let most = readings.iter().map(count).max().unwrap_or_default();
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
            let (mut place, mut committed, mut delivered) = (0, Seen::default(), Vec::new());
            for (length, fails) in portions {
                let end = lines.min(place + length);
                let new = (place + 1..=end).filter(|line| !committed.contains(place_hash(file, *line)));
                let new: Vec<u64> = new.collect();
                // Of a portion that fails half-way, what Devo has taken is known by its marks.
                let sent = if fails { &new[..new.len() / 2] } else { &new[..] };
                delivered.extend_from_slice(sent);
                if fails {
                    committed.remember(None, sent.iter().map(|line| place_hash(file, *line)));
                } else {
                    place = end;
                }
            }
            delivered.sort_unstable();
            let expected: Vec<u64> = (1..=place).collect();
            delivered.retain(|line| *line <= place);
            proptest::prop_assert_eq!(delivered, expected);
        }

        /// An event is the same in any white space, order of keys or spelling of its characters, and another with any other
        /// value.
        #[test]
        fn a_hash_stands_for_the_value(
            members in proptest::collection::btree_map("[a-c\"\\\\/<é]{0,3}", "[a-c\"\\\\/<é]{0,3}", 0..4),
            other in proptest::collection::btree_map("[a-c\"\\\\/<é]{0,3}", "[a-c\"\\\\/<é]{0,3}", 0..4),
            space in "[ \t\r\n]{0,2}",
        ) {
            let plain = serde_json::to_string(&members).unwrap();
            let spelt = |text: &str| {
                let units: String = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
                format!("\"{units}\"")
            };
            let turned: Vec<String> =
                members.iter().rev().map(|(key, value)| format!("{}{space}:{space}{}", spelt(key), spelt(value))).collect();
            let turned = format!("{{{space}{}{space}}}", turned.join(","));
            proptest::prop_assert_eq!(hash(&plain), hash(&turned));
            let other_hash = hash(&serde_json::to_string(&other).unwrap());
            proptest::prop_assert_eq!(other_hash == hash(&plain), other == members);
        }
    }
}
