//! Telling new from known: of each content as many are delivered as the reading that had most of it, whatever is read
//! again, by whichever runs.

use std::collections::HashMap;

use bytes::Bytes;
use mimecast::json::{self, content_hash};

#[path = "../../../shared/collector/src/seen.rs"]
#[allow(dead_code)]
mod seen;

use seen::{Mark, Seen};

/// Lines are slices or answers: an event a byte, told apart by its letter; `!` begins another run, and `?` one more because the
/// run that read the line before it crashed before it had sent anything.
pub fn dedup(data: &[u8]) {
    hashes(data);
    let (mut stored, mut seen): (Vec<Mark>, _) = (Vec::new(), Seen::default());
    let (mut delivered, mut most) = (HashMap::new(), HashMap::new());
    for reading in text(data).split('\n') {
        let content = |letter| content_hash(serde_json::json!({ "e": letter }).to_string().as_bytes());
        let letters = reading.chars().filter(|letter| !"!?".contains(*letter));
        if reading.starts_with('?') {
            seen.begin();
            for letter in letters.clone() {
                seen.content(content(letter));
            }
        }
        if reading.starts_with(['!', '?']) {
            seen = Seen::new(stored.clone());
        }
        seen.begin();
        let mut within = HashMap::new();
        for letter in letters {
            let verdict = seen.content(content(letter));
            *within.entry(letter).or_insert(0) += 1;
            if !verdict.known {
                stored.push(verdict.mark);
                *delivered.entry(letter).or_insert(0) += 1;
            }
        }
        for (letter, count) in within {
            let most = most.entry(letter).or_insert(0);
            *most = count.max(*most);
        }
    }
    assert_eq!(delivered, most);
}

/// An event has one hash in whatever white space it comes.
fn hashes(data: &[u8]) {
    let event = Bytes::copy_from_slice(data);
    let Ok(line) = json::compact(&event) else {
        content_hash(&event);
        return;
    };
    if line.iter().filter(|byte| b"[{".contains(byte)).count() < 60 {
        assert_eq!(content_hash(&line), content_hash(&event.slice_ref(event.trim_ascii())));
    }
    let members: Vec<_> = json::members(&line).map(Result::unwrap).collect();
    let turned = members.iter().rev().map(|(key, value)| [b"\"", *key, b"\":", value].concat()).collect::<Vec<_>>();
    let turned = [&b"{"[..], &turned.join(&b','), &b"}"[..]].concat();
    assert_eq!(content_hash(&turned), content_hash(&line), "the order of keys counts");
}

fn text(data: &[u8]) -> &str {
    match str::from_utf8(data) {
        Ok(text) => text,
        Err(error) => str::from_utf8(&data[..error.valid_up_to()]).unwrap(),
    }
}
