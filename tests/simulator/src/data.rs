//! Data sets for the simulated Mimecast, with what Devo must end up with.
//!
//! Every event is made as the compact line that Devo shall receive, and only then dressed with white space for sending;
//! so the expectation owes nothing to the product's reading of JSON. The same seed and time give the same data.

mod captured;
mod rows;
mod siem;
mod text;

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use crate::mimecast::{Mimecast, stix_objects};
pub use captured::captured;
use text::Maker;

/// Devo table to its compact lines, in no particular order; a line that is there twice is two events.
pub type Expected = BTreeMap<String, Vec<String>>;

/// The table of the threat feeds.
pub const FEED_TABLE: &str = "mail.mimecast.threat.feed";
/// The table of the hold summary. Its lines are expected here without the `collectedAt` that the product adds.
pub const SUMMARY_TABLE: &str = "mail.mimecast.message.summary";
/// The table of the dashboard.
pub const DASHBOARD_TABLE: &str = "mail.mimecast.account.dashboard";

/// Fills the eleven sources that are collected by default with events of the 20 hours before `now`, about 600 times `scale` of them, and returns what
/// the product must deliver once (threat feeds in CSV form; for STIX see `stix`).
pub fn lively(mimecast: &Mimecast, seed: u64, now: DateTime<Utc>, scale: usize) -> Expected {
    let mut maker = Maker::new(seed);
    let mut expected = Expected::new();
    let (newest, oldest) = (now - TimeDelta::seconds(90), now - TimeDelta::hours(20));
    for source in &rows::SOURCES {
        rows::push(mimecast, &mut maker, source, oldest, newest, 40 * scale, &mut expected);
    }
    let times = maker.times(oldest, newest, 3 * scale);
    siem::push(mimecast, &mut maker, "siem", times, 8, &mut expected);
    for feed in ["malware_customer", "malware_grid"] {
        push_feed(mimecast, &mut maker, feed, oldest, newest, 30 * scale, &mut expected);
    }
    let summary: Vec<String> = (0..4).map(|_| rows::summary(&mut maker)).collect();
    let notices: Vec<String> = (0..5).map(|_| rows::notice(&mut maker, oldest)).collect();
    mimecast.set_summary(summary.iter().map(|row| maker.dressed(row)).collect());
    mimecast.set_notices(notices.iter().map(|row| maker.dressed(row)).collect());
    expected.insert(SUMMARY_TABLE.into(), summary);
    expected.insert(DASHBOARD_TABLE.into(), notices);
    expected
}

/// The same for one of those that are not collected by default.
pub fn lively_on_request(mimecast: &Mimecast, source: &str, seed: u64, now: DateTime<Utc>, scale: usize) -> Expected {
    let (newest, oldest) = (now - TimeDelta::seconds(90), now - TimeDelta::hours(20));
    if source != "siemci" {
        return add(mimecast, source, seed, oldest, newest, 40 * scale);
    }
    let (mut maker, mut expected) = (Maker::new(seed), Expected::new());
    let times = maker.times(oldest, newest, 3 * scale);
    siem::push(mimecast, &mut maker, source, times, 8, &mut expected);
    expected
}

/// Adds about `count` new events to each of them, timed in the minutes before `now`, and returns what is new. `seed` must
/// be one that this account has not had yet: ids follow from it. The hold
/// summary, of which every poll is an event, stays as it is and is not in the result.
pub fn more(mimecast: &Mimecast, seed: u64, now: DateTime<Utc>, count: usize) -> Expected {
    let mut maker = Maker::new(seed);
    let mut expected = Expected::new();
    let (newest, oldest) = (now - TimeDelta::seconds(90), now - TimeDelta::minutes(5));
    for source in &rows::SOURCES {
        rows::push(mimecast, &mut maker, source, oldest, newest, count, &mut expected);
    }
    siem::push(mimecast, &mut maker, "siem", vec![newest], count, &mut expected);
    for feed in ["malware_customer", "malware_grid"] {
        push_feed(mimecast, &mut maker, feed, oldest, newest, count, &mut expected);
    }
    let notice = rows::notice(&mut maker, newest);
    mimecast.push_notice(maker.dressed(&notice));
    expected.insert(DASHBOARD_TABLE.into(), vec![notice]);
    expected
}

/// Adds about `count` new events to one source, by default or not, timed from `oldest` to `newest` (SIEM files: published at `newest`), and
/// returns them. As in `more`, each `seed` serves once; the hold summary gets `count` new rows in place of the old ones.
pub fn add(
    mimecast: &Mimecast,
    source: &str,
    seed: u64,
    oldest: DateTime<Utc>,
    newest: DateTime<Utc>,
    count: usize,
) -> Expected {
    let mut maker = Maker::new(seed);
    let mut expected = Expected::new();
    match source {
        "siem" | "siemci" => siem::push_some(mimecast, &mut maker, source, newest, count, &mut expected),
        "threatfeed" => {
            let feed = maker.one_of(&["malware_customer", "malware_grid"]).to_owned();
            push_feed(mimecast, &mut maker, &feed, oldest, newest, count, &mut expected);
        }
        "messageholdsummary" => {
            let rows: Vec<String> = (0..count).map(|_| rows::summary(&mut maker)).collect();
            mimecast.set_summary(rows.iter().map(|row| maker.dressed(row)).collect());
            expected.insert(SUMMARY_TABLE.into(), rows);
        }
        "dashboard" => {
            for _ in 0..count {
                let notice = rows::notice(&mut maker, newest);
                mimecast.push_notice(maker.dressed(&notice));
                expected.entry(DASHBOARD_TABLE.into()).or_default().push(notice);
            }
        }
        _ => {
            if let Some(source) = rows::source(source) {
                rows::push(mimecast, &mut maker, source, oldest, newest, count, &mut expected);
            }
        }
    }
    expected
}

/// The lines of a STIX download of the same feed rows: three objects for each CSV line.
pub fn stix(csv_lines: &[String]) -> Vec<String> {
    let objects = csv_lines.iter().filter_map(|line| {
        let row: BTreeMap<String, String> = serde_json::from_str(line).ok()?;
        let field = |name: &str| row.get(name).map_or("", String::as_str);
        Some(stix_objects([field("MD5"), field("SHA256"), field("SenderAddress"), field("Timestamp")]))
    });
    objects.flatten().collect()
}

fn push_feed(
    mimecast: &Mimecast,
    maker: &mut Maker,
    feed: &str,
    oldest: DateTime<Utc>,
    newest: DateTime<Utc>,
    count: usize,
    expected: &mut Expected,
) {
    for time in maker.times(oldest, newest, count) {
        let number = maker.number();
        let md5 = if maker.once_in(4) { "null".to_owned() } else { maker.hex(32) };
        let sha256 = if maker.once_in(5) && md5 != "null" { "null".to_owned() } else { maker.hex(64) };
        let sender = match maker.random.u8(..6) {
            0 => String::new(),
            1 => "o'hara+list@b\u{fc}cher.example".to_owned(),
            2 => format!("back\\slash-{number}@example.net"),
            _ => format!("sender-{number}@example.org"),
        };
        let timestamp = time.format("%Y-%m-%dT%H:%M:%S.%3fZ").to_string();
        let fields = [md5.as_str(), &sha256, &sender, &timestamp];
        let names = ["MD5", "SHA256", "SenderAddress", "Timestamp"];
        let members: Vec<(&str, String)> =
            names.into_iter().zip(fields.map(|field| text::quoted(&text::escaped(field)))).collect();
        expected.entry(FEED_TABLE.into()).or_default().push(text::object(&members));
        mimecast.push_feed(feed, time, fields);
    }
}
