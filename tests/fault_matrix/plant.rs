//! What is put among Mimecast's data because a row is about it: a file, a line or an event that cannot be delivered.

use chrono::TimeDelta;
use simulator::Mimecast;
use simulator::data::{Expected, SUMMARY_TABLE};
use simulator::mimecast::SiemMode;

use crate::subjects::Subject;

/// The first file of all, and in an answer of its own: the first three calls are for it.
pub fn poison_file(mimecast: &Mimecast, subject: Subject) {
    let at = mimecast.now() - TimeDelta::hours(21);
    if subject.source == "threatfeed" {
        for number in 0..12 {
            mimecast.push_feed("malware_customer", at, ["poison", "null", &number.to_string(), "2026"]);
        }
    } else {
        mimecast.siem_mode(SiemMode { files_per_answer: 1, ..SiemMode::default() });
        let kind = subject.siem_type();
        let lines = (0..12).map(|number| format!(r#"{{"type":"{kind}","poison":{number}}}"#).into_bytes());
        mimecast.push_siem_at(kind, at, lines.collect());
    }
}

/// More rows in one second than a page holds.
pub fn dense_second(mimecast: &Mimecast, subject: Subject) -> Vec<String> {
    let at = mimecast.now() - TimeDelta::hours(3);
    let row = |number: usize| format!(r#"{{"id":"dense {number}"}}"#);
    (0..30).map(row).inspect(|row| mimecast.push(subject.source, at, row)).collect()
}

/// A bad line with good ones before and behind it; what its dead letter holds.
pub fn bad_line(mimecast: &Mimecast, subject: Subject, line: &[u8], expected: &mut Expected) -> Vec<u8> {
    let text = || String::from_utf8(line.to_vec()).unwrap();
    let good = [r#"{"id":"before"}"#, r#"{"id":"behind"}"#].map(str::to_owned);
    let [before, behind] = &good;
    match subject.source {
        "siem" | "siemci" => {
            let kind = subject.siem_type();
            mimecast.push_siem(kind, vec![before.clone().into(), line.to_vec(), behind.clone().into()]);
            expected.entry(format!("{}.{kind}", subject.table())).or_default().extend(good);
        }
        "threatfeed" => {
            // One field more than there are columns.
            let fields = ["null", "null", "one|too many", "2026"];
            mimecast.push_feed("malware_grid", mimecast.now(), fields);
            return fields.join("|").into_bytes();
        }
        "messageholdsummary" => {
            mimecast.set_summary(vec![before.clone(), text(), behind.clone()]);
            expected.insert(SUMMARY_TABLE.to_owned(), good.to_vec());
        }
        "dashboard" => mimecast.push_notice(text()),
        _ => mimecast.push(subject.source, mimecast.now() - TimeDelta::minutes(10), line),
    }
    line.to_vec()
}

/// An event that holds this text; so does its dead letter.
pub fn marked_event(mimecast: &Mimecast, subject: Subject, text: &str) -> Vec<u8> {
    let event = format!(r#"{{"id":"marked","pad":"{text}"}}"#);
    match subject.source {
        "siem" | "siemci" => mimecast.push_siem(subject.siem_type(), vec![event.into_bytes()]),
        "threatfeed" => mimecast.push_feed("malware_grid", mimecast.now(), ["null", "null", text, "2026"]),
        "dashboard" => mimecast.push_notice(event),
        _ => mimecast.push(subject.source, mimecast.now() - TimeDelta::minutes(10), event),
    }
    text.as_bytes().to_vec()
}
