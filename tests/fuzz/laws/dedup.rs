//! Telling new from known: of each content as many are delivered as the reading that had most of it, whatever is read
//! again, in whatever pages, by whichever runs.

use std::collections::HashMap;

use bytes::Bytes;
use mimecast::json;

#[path = "../../../shared/collector/src/seen.rs"]
#[allow(dead_code)]
mod seen;

use seen::{Mark, Seen, content_hash};

/// Lines are pages: an event a byte, told apart by its letter; a blank line begins the next reading, `!` another run,
/// and `?` one more because the commit of that page failed the first time.
pub fn dedup(data: &[u8]) {
    hashes(data);
    let mut stored: Vec<(Option<String>, Vec<Mark>)> = Vec::new();
    let mut seen = Seen::default();
    let mut delivered = HashMap::new();
    let mut most = HashMap::new();
    for (number, reading) in text(data).split("\n\n").enumerate() {
        let label = number.to_string();
        let pages: Vec<&str> = reading.split('\n').collect();
        let mut within = HashMap::new();
        for (index, page) in pages.iter().enumerate() {
            let content = |letter| content_hash(&Bytes::from(serde_json::json!({ "e": letter }).to_string()));
            let letters = page.chars().filter(|letter| !"!?".contains(*letter));
            if page.starts_with('?') {
                seen.begin(label.clone());
                for letter in letters.clone() {
                    seen.content(content(letter));
                }
            }
            if page.starts_with(['!', '?']) {
                seen = Seen::default();
                stored.iter().for_each(|(label, marks)| seen.remember(label.clone(), marks.iter().copied()));
            }
            seen.begin(label.clone());
            let (mut all, mut fresh) = (Vec::new(), Vec::new());
            for letter in letters {
                let verdict = seen.content(content(letter));
                all.push(verdict.mark);
                *within.entry(letter).or_insert(0) += 1;
                if !verdict.known {
                    fresh.push(verdict.mark);
                    *delivered.entry(letter).or_insert(0) += 1;
                }
            }
            // As `window` has it: all marks while the reading goes on, the new ones when it ends.
            let goes_on = index + 1 < pages.len();
            stored.push(if goes_on { (Some(label.clone()), all) } else { (None, fresh) });
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
    assert_eq!(content_hash(&turned.into()), content_hash(&line), "the order of keys counts");
}

fn text(data: &[u8]) -> &str {
    match str::from_utf8(data) {
        Ok(text) => text,
        Err(error) => str::from_utf8(&data[..error.valid_up_to()]).unwrap(),
    }
}
