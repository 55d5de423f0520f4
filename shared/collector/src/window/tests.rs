//! Rows that once were dead letters.

use mimecast::Rows;

use super::*;
use crate::seen::numbered;

#[test]
fn a_row_that_became_a_dead_letter_is_its_replay_s_also_once_it_can_be_read() {
    let row = Bytes::from_static(br#"{"id":"1"}"#);
    let line = Ok(row.clone());
    for id in [Some("id"), None] {
        let spec = Window {
            path: "/",
            rows: Rows::Flat,
            bounds: ["from", "to"],
            filter: "",
            id,
            time: "date",
            overlap: TimeDelta::zero(),
            keeps: None,
            page_size: 1,
        };
        let mut seen = Seen::default();
        seen.remember(None, [numbered(xxh3_128(&row), 0)].into_iter());
        seen.begin("a reading".to_owned());
        let known: Vec<bool> = [(); 2].map(|()| judge(&spec, &row, content_hash(&row), &line, &mut seen).known).into();
        // One was a dead letter: another of its kind is new.
        assert_eq!(known, [true, false]);
        assert!(!judge(&spec, &row, content_hash(&row), &line, &mut Seen::default()).known);
    }
}
