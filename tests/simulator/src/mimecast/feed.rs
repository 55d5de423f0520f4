//! The two threat feeds, as CSV or STIX files, one after the other by token.

use std::io::{Cursor, Write};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;

use super::answer::Answer;
use super::envelope::Envelope;
use super::server::Call;
use super::state::State;

/// One piece of a feed: a CSV row, unless only STIX shows it, and its STIX objects.
pub(super) struct Entry {
    feed: String,
    time: DateTime<Utc>,
    row: Option<String>,
    objects: Vec<Bytes>,
}

const COLUMNS: &str = "MD5|SHA256|SenderAddress|Timestamp";
/// What a download without a window holds.
const DEFAULT_DAYS: i64 = 7;

impl State {
    pub fn push_feed(&mut self, feed: &str, time: DateTime<Utc>, row: Option<String>, objects: Vec<Bytes>) {
        self.feed.push(Entry { feed: feed.to_owned(), time, row, objects });
    }
}

pub(super) fn download(state: &State, call: &Call) -> Result<Answer, Answer> {
    let allowed = ["feedType", "fileType", "compress", "start", "end", "token"];
    let request = Envelope::read(&call.body, &allowed)?;
    if !request.item.contains_key("feedType") {
        return Err(Answer::fail(400, "err_validation_null", "feedType is required"));
    }
    let feed = request.choice("feedType", &["malware_customer", "malware_grid"])?;
    let form = request.choice("fileType", &["csv", "stix"])?;
    let compress = request.flag("compress")?;
    let now = state.now();
    let from = request.date("start")?.unwrap_or(now - TimeDelta::days(DEFAULT_DAYS));
    let to = request.date("end")?.unwrap_or(now);
    if from > to {
        return Err(Answer::invalid("the window ends before it starts"));
    }
    let position = match request.item.get("token") {
        None => None,
        Some(token) => {
            let sealed = token.as_str().and_then(|token| state.unseal("feed", token));
            let sealed = sealed.filter(|sealed| sealed["feed"] == feed && sealed["form"] == form);
            let position = sealed.and_then(|sealed| sealed["position"].as_u64());
            Some(position.ok_or_else(|| Answer::invalid("token invalid"))? as usize)
        }
    };
    // A token stands for a place in the feed; the window only says where a first download begins.
    let listed = |entry: &Entry| {
        entry.feed == feed
            && (form == "stix" || entry.row.is_some())
            && (position.is_some() || (from..=to).contains(&entry.time))
    };
    let entries = state.feed.iter().enumerate().skip(position.unwrap_or(0));
    let page: Vec<(usize, &Entry)> = entries.filter(|(_, entry)| listed(entry)).take(state.feed_page).collect();
    let next = page.last().map_or(position.unwrap_or(state.feed.len()), |(index, _)| index + 1);
    if page.is_empty() && call.turn.is_multiple_of(2) {
        // Seen with this status.
        return Ok(Answer::fail(200, "err_threat_intel_feed", "No results found for threat intel feed."));
    }
    let entries: Vec<&Entry> = page.into_iter().map(|(_, entry)| entry).collect();
    let (ending, text) =
        if form == "csv" { ("csv", csv(call.turn, &entries)) } else { ("stix", stix(call.turn, &entries)) };
    let stem = format!("{feed}_{form}_{}", now.format("%Y%m%d%H%M%S%3f"));
    let answer = if compress {
        let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
        archive.start_file(format!("{stem}.{ending}"), zip::write::SimpleFileOptions::default())?;
        archive.write_all(&text)?;
        Answer::file(&format!("{stem}.zip"), "application/octet-stream", archive.finish()?.into_inner())
    } else {
        let content_type = if form == "csv" { "application/octet-stream" } else { "application/json" };
        Answer::file(&format!("{stem}.{ending}"), content_type, text)
    };
    let token = state.seal("feed", &json!({"feed": feed, "form": form, "position": next}));
    Ok(answer.with("x-mc-threat-feed-next-token", &token))
}

fn csv(turn: u64, entries: &[&Entry]) -> Vec<u8> {
    let line = if turn.is_multiple_of(2) { "\n" } else { "\r\n" };
    let rows = entries.iter().filter_map(|entry| entry.row.as_deref());
    let lines: Vec<&str> = std::iter::once(COLUMNS).chain(rows).collect();
    (lines.join(line) + line).into_bytes()
}

fn stix(turn: u64, entries: &[&Entry]) -> Vec<u8> {
    let comma: &[u8] = if turn.is_multiple_of(2) { b"," } else { b",\n    " };
    let objects: Vec<&[u8]> = entries.iter().flat_map(|entry| &entry.objects).map(AsRef::as_ref).collect();
    let head = format!(
        "{{\"type\":\"bundle\",\"id\":\"bundle--{turn:08x}-0000-4000-8000-000000000000\", \"spec_version\": \"2.0\","
    );
    [head.as_bytes(), b"\"objects\":[", &objects.join(comma), b"]}"].concat()
}

/// The STIX 2.0 form of a CSV row, compact: malware, indicator and their relationship, always with the same ids.
pub fn stix_objects(fields: [&str; 4]) -> [String; 3] {
    let [md5, sha256, sender, timestamp] = fields;
    let (algorithm, hash) = if sha256 == "null" { ("MD5", md5) } else { ("SHA-256", sha256) };
    // Ids of the form of a GUID, from the hash: FNV-1a in 128 bits.
    let digest = [md5, sha256, sender, timestamp]
        .join("|")
        .bytes()
        .fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128, |digest, byte| {
            (digest ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
        });
    let hex = format!("{digest:032x}");
    let id = format!("{}-{}-4{}-8{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..]);
    let times = format!("\"created\":\"{timestamp}\",\"modified\":\"{timestamp}\"");
    [
        format!(
            "{{\"type\":\"malware\",\"id\":\"malware--{id}\",{times},\"name\":{},\"labels\":[\"virus\"]}}",
            json!(sender)
        ),
        format!(
            "{{\"type\":\"indicator\",\"id\":\"indicator--{id}\",{times},\"labels\":[\"malicious-activity\"],\
             \"pattern\":\"[file:hashes.'{algorithm}' = '{hash}']\",\"valid_from\":\"{timestamp}\"}}"
        ),
        format!(
            "{{\"type\":\"relationship\",\"id\":\"relationship--{id}\",{times},\"relationship_type\":\"indicates\",\
             \"source_ref\":\"indicator--{id}\",\"target_ref\":\"malware--{id}\"}}"
        ),
    ]
}
