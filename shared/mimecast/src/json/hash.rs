//! What an event says as one number, however it is spelt: the marks in a checkpoint are made of it, so it never changes.

use xxhash_rust::xxh3::xxh3_128;

use super::{elements, members};

/// The hash of an event's content in canonical form, so that another order of keys or another escape of the same
/// character is the same event. Numbers count as written.
pub fn content_hash(event: &[u8]) -> u128 {
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

    proptest::proptest! {
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
