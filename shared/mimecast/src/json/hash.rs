//! What an event says as one number, however it is spelt: the marks in a checkpoint are made of it, so it never changes.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::ops::Range;

use memchr::memchr;
use xxhash_rust::xxh3::xxh3_128;

use super::scan::end_of_text;
use super::{elements, is_space, members};

/// Deeper than this a value counts as written: no event of Mimecast's nests so far.
const DEPTH: u32 = 64;

/// The hash of an event's content in canonical form, so that another order of keys or another escape of the same
/// character is the same event. Numbers count as written.
pub fn content_hash(event: &[u8]) -> u128 {
    // Room for what the lengths add, and for a copy in order.
    let canonical = Vec::with_capacity(4 * event.len());
    let (members, order) = (Vec::with_capacity(32), Vec::with_capacity(32));
    let mut walk = Walk { event, at: 0, canonical, members, order };
    let is_plain = walk.value(DEPTH).is_some() && walk.at == event.len();
    let mut canonical = walk.canonical;
    if !is_plain {
        canonical.clear();
        canonicalise(event, &mut canonical, 0);
    }
    xxh3_128(&canonical)
}

/// Writes the canonical form in one walk. It gives up on whatever is not plainly JSON, and leaves that to [`canonicalise`], which is
/// the law: a hash that is another than what earlier versions have stored would send an event a second time.
struct Walk<'a> {
    event: &'a [u8],
    at: usize,
    canonical: Vec<u8>,
    /// Those of the objects that are open.
    members: Vec<Member>,
    /// The fronts and numbers of those that are being sorted, kept as memory.
    order: Vec<(u64, usize)>,
}

/// A member in the canonical form: its key, from its length on, and its value.
struct Member {
    /// The first bytes of its key as a number, which is in the same order and soon compared.
    front: u64,
    key: Range<usize>,
    end: usize,
    /// Its value as sent.
    value: Range<usize>,
}

impl Walk<'_> {
    fn value(&mut self, depth: u32) -> Option<()> {
        match self.event.get(self.at)? {
            b'{' => self.object(depth),
            b'[' => self.array(depth),
            b'"' => {
                self.canonical.push(b'"');
                self.text()
            }
            _ => {
                let ahead = &self.event[self.at..];
                let ends =
                    |byte: &u8| matches!(byte, b',' | b']' | b'}' | b'"' | b':' | b'[' | b'{') || is_space(*byte);
                let length = ahead.iter().position(ends).filter(|length| *length > 0)?;
                length_prefixed(&ahead[..length], &mut self.canonical);
                self.at += length;
                Some(())
            }
        }
    }

    fn object(&mut self, depth: u32) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        self.bracket(b'{');
        if self.next() == Some(b'}') {
            self.bracket(b'}');
            return Some(());
        }
        let (first, mut is_sorted) = (self.members.len(), true);
        loop {
            let start = self.canonical.len();
            self.text()?;
            let key = start..self.canonical.len();
            (self.next()? == b':').then_some(())?;
            self.at += 1;
            self.next()?;
            let start = self.at;
            self.value(depth)?;
            let front = front(&self.canonical[key.start + LENGTH..key.end]);
            self.members.push(Member { front, key, end: self.canonical.len(), value: start..self.at });
            is_sorted &= self.members[first..].last_chunk().is_none_or(|[one, other]| self.order(one, other).is_lt());
            match self.next()? {
                b',' => self.at += 1,
                b'}' => break,
                _ => return None,
            }
            self.next()?;
        }
        if !is_sorted {
            self.sort(first);
        }
        self.members.truncate(first);
        self.bracket(b'}');
        Some(())
    }

    /// The order of members in an object: by key, and by value where a key comes again.
    fn order(&self, one: &Member, other: &Member) -> Ordering {
        one.front.cmp(&other.front).then_with(|| {
            let [one, other] = [one, other].map(|Member { key, value, .. }| {
                (&self.canonical[key.start + LENGTH..key.end], &self.event[value.clone()])
            });
            one.cmp(&other)
        })
    }

    /// Brings the members from this one on into order.
    fn sort(&mut self, first: usize) {
        let mut order = std::mem::take(&mut self.order);
        let members = &self.members[first..];
        // Most keys differ in their fronts, and to compare what lies side by side is soon done.
        order.extend(members.iter().map(|member| member.front).zip(0..));
        order.sort_unstable_by(|one, other| {
            one.0.cmp(&other.0).then_with(|| self.order(&members[one.1], &members[other.1]))
        });
        let start = self.canonical.len();
        for member in order.drain(..).map(|(_, number)| &members[number]) {
            self.canonical.extend_from_within(member.key.start..member.end);
        }
        // Behind what is in the order of before, and then in its place.
        let sorted = start..self.canonical.len();
        self.canonical.copy_within(sorted.clone(), start - sorted.len());
        self.canonical.truncate(start);
        self.order = order;
    }

    fn array(&mut self, depth: u32) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        self.bracket(b'[');
        if self.next() == Some(b']') {
            self.bracket(b']');
            return Some(());
        }
        loop {
            self.value(depth)?;
            match self.next()? {
                b',' => self.at += 1,
                b']' => break,
                _ => return None,
            }
            self.next()?;
        }
        self.bracket(b']');
        Some(())
    }

    fn bracket(&mut self, bracket: u8) {
        self.canonical.push(bracket);
        self.at += 1;
    }

    /// A string, decoded and behind its length.
    fn text(&mut self) -> Option<()> {
        let ahead = self.event.get(self.at..)?.strip_prefix(b"\"")?;
        let (length, has_escape) = end_of_text(ahead)?;
        let inner = &ahead[..length];
        if !has_escape {
            length_prefixed(inner, &mut self.canonical);
        } else if !decode_plainly(inner, &mut self.canonical) {
            length_prefixed(&decoded(inner), &mut self.canonical);
        }
        self.at += length + 2;
        Some(())
    }

    /// The next byte that is not white space, and moves there.
    fn next(&mut self) -> Option<u8> {
        while is_space(*self.event.get(self.at)?) {
            self.at += 1;
        }
        self.event.get(self.at).copied()
    }
}

fn canonicalise(value: &[u8], out: &mut Vec<u8>, depth: u32) {
    match value.first() {
        Some(b'{') if depth < DEPTH => {
            let mut members: Vec<(Cow<'_, [u8]>, &[u8])> =
                members(value).filter_map(Result::ok).map(|(key, value)| (decoded(key), value)).collect();
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
            elements(value).filter_map(Result::ok).for_each(|element| canonicalise(element, out, depth + 1));
            out.push(b']');
        }
        Some(b'"') => {
            out.push(b'"');
            length_prefixed(&decoded(value.get(1..value.len() - 1).unwrap_or_default()), out);
        }
        _ => length_prefixed(value, out),
    }
}

/// Bytes of a length before what is that long.
const LENGTH: usize = size_of::<u64>();

fn length_prefixed(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// [`decoded`] and behind its length, where it is ASCII without characters by number; what `\\/` makes of a URL is. Otherwise it adds
/// nothing.
fn decode_plainly(inner: &[u8], out: &mut Vec<u8>) -> bool {
    let start = out.len();
    out.extend_from_slice(&[0; LENGTH]);
    let mut rest = inner;
    // All of them in any case: that is done many at once.
    let is_ascii = inner.iter().fold(true, |is, byte| is & (b' '..0x80).contains(byte));
    let is_plain = is_ascii
        && loop {
            let Some(at) = memchr(b'\\', rest) else { break true };
            let byte = match rest.get(at + 1) {
                Some(byte @ (b'"' | b'\\' | b'/')) => *byte,
                Some(b'b') => 8,
                Some(b'f') => 12,
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(b't') => b'\t',
                _ => break false,
            };
            out.extend_from_slice(&rest[..at]);
            out.push(byte);
            rest = &rest[at + 2..];
        };
    if !is_plain {
        out.truncate(start);
        return false;
    }
    out.extend_from_slice(rest);
    let length = (out.len() - start - LENGTH) as u64;
    out[start..start + LENGTH].copy_from_slice(&length.to_le_bytes());
    true
}

/// The first bytes of a key as a number. Zeros stand in for those that it does not have.
fn front(key: &[u8]) -> u64 {
    let mut front = [0; 8];
    let length = key.len().min(8);
    front[..length].copy_from_slice(&key[..length]);
    u64::from_be_bytes(front)
}

/// The characters between the quotes of a JSON string, or the bytes as they are where they do not decode.
fn decoded(inner: &[u8]) -> Cow<'_, [u8]> {
    if memchr(b'\\', inner).is_none() {
        return Cow::Borrowed(inner);
    }
    let quoted = [b"\"", inner, b"\""].concat();
    serde_json::from_slice::<String>(&quoted).map_or(Cow::Borrowed(inner), |text| Cow::Owned(text.into_bytes()))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn hash(text: &str) -> u128 {
        content_hash(text.as_bytes())
    }

    #[test]
    fn a_hash_is_what_earlier_versions_have_stored() {
        let event = r#"{"id":"eNoVzk","n":[1.10,null,true],"s":"a\u003c\"b"}"#;
        assert_eq!(hash(event), 219_883_916_927_146_054_115_795_344_262_761_623_636);
        assert_eq!(hash("{}"), 293_013_176_379_806_278_350_181_273_390_449_450_006);
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

    /// The hash by the law alone.
    fn by_law(event: &[u8]) -> u128 {
        let mut canonical = Vec::new();
        canonicalise(event, &mut canonical, 0);
        xxh3_128(&canonical)
    }

    #[test]
    fn the_walk_is_as_the_law_also_where_events_are_none() {
        let deep = |levels: usize| format!("{}1{}", r#"[{"a":"#.repeat(levels), "}]".repeat(levels));
        let odd = [
            r#"{"b":1,"a":2,"b":0,"a":2}"#,
            r#"{"\u0062":1,"a":{"d":[],"c":{}},"b":"\ud800","é":"\/"}"#,
            " {} ",
            "{} ",
            "[1 , 2]",
            "{\"a\" : [ ] , \"b\":\t{ } }",
            r#"{"a":1,}"#,
            r#"{"a":}"#,
            r#"{"a"}"#,
            r#"{"a":1 2}"#,
            r#"{"a":1"b":2}"#,
            r#"{"a":tr"ue}"#,
            r#"{"a":1:2}"#,
            r#"{"a":"b"#,
            r#"{"a":"\"#,
            r#"{,}"#,
            "[,]",
            "[1]]",
            "{]",
            "\"\"",
            "1",
            "",
        ];
        for event in odd.map(str::to_owned).into_iter().chain([31, 32, 33, 40].map(deep)) {
            assert_eq!(hash(&event), by_law(event.as_bytes()), "{event}");
        }
    }

    proptest::proptest! {
        /// What is like JSON, valid or not, has the hash that earlier versions have stored.
        #[test]
        fn the_walk_is_as_the_law(
            parts in proptest::collection::vec(
                proptest::sample::select(vec![
                    "{", "}", "[", "]", ",", ":", "\"a\"", "\"h\\/\\n\"", "\"\\b\\u0001\"", "\"b\"", "\"\\u0061\"", "\"\\\"\"", "\"", "\\", "1", "-2.50", "null", " ", "\n", "é",
                    "\"a\":1,", "\"b\":[", "{\"c\":",
                ]),
                0..24,
            ),
        ) {
            let event = parts.concat();
            proptest::prop_assert_eq!(hash(&event), by_law(event.as_bytes()));
        }

        /// Values as they come, and with members in any order.
        #[test]
        fn the_walk_is_as_the_law_for_values(members in proptest::collection::vec(("[a-c\\\\]{0,2}", "[^\"\\\\]{0,9}", 0..3_u8), 0..9)) {
            let member = |(key, text, kind): (String, String, u8)| {
                let key = serde_json::to_string(&key).unwrap();
                match kind {
                    0 => format!("{key}:\"{text}\""),
                    1 => format!("{key} : [\"{text}\",{{{key}:1e5}} ]"),
                    _ => format!("{key}:{{\"z\":\"{text}\",{key}:null,\"a\":true}}"),
                }
            };
            let event = format!("{{{}}}", members.into_iter().map(member).collect::<Vec<_>>().join(","));
            proptest::prop_assert_eq!(hash(&event), by_law(event.as_bytes()));
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
