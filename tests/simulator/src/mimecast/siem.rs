//! SIEM files, and the token stream of API 1.0 over them.

use std::fmt;
use std::io::{Cursor, Write};
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use serde::de::{MapAccess, Visitor};
use serde_json::{json, value::RawValue};

use super::answer::Answer;
use super::envelope::Envelope;
use super::server::Call;
use super::state::{State, gzip};

/// How SIEM files are served.
#[derive(Clone, Debug)]
pub struct SiemMode {
    /// 1.0: honour `compress` and answer with zips. If false every answer is one plain file.
    pub zip: bool,
    /// 1.0: how many files one zip holds at most.
    pub files_per_answer: usize,
    /// 1.0: the format served whatever is asked for; `None` follows the request.
    pub format: Option<SiemFormat>,
    /// 2.0: a page that has links lists its first one twice, signed anew.
    pub duplicate_links: bool,
    /// 2.0: how long a link works; whole seconds, 0 for not at all.
    pub link_life: Duration,
}

/// The form of a 1.0 file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SiemFormat {
    /// One JSON object with the events in `data`.
    Json,
    /// A line of `key=value` pairs for each event.
    KeyValue,
}

impl Default for SiemMode {
    fn default() -> Self {
        Self {
            zip: true,
            files_per_answer: 4,
            format: None,
            duplicate_links: false,
            link_life: Duration::from_secs(300),
        }
    }
}

pub(super) struct SiemFile {
    pub kind: String,
    pub published: DateTime<Utc>,
    /// The name in API 1.0 without its ending, such as `receipt_20240605113000123`.
    name: String,
    /// The path of its links.
    pub path: String,
    lines: Vec<Bytes>,
    pub gzip: Bytes,
    /// Until then no listing of API 2.0 shows it.
    pub hidden_until: Option<DateTime<Utc>>,
}

/// How long files, and tokens that stand between them, are kept.
pub(super) const KEPT: TimeDelta = TimeDelta::days(7);

/// The types that API 2.0 can be asked for.
pub(super) const TYPES: [&str; 10] = [
    "receipt",
    "process",
    "delivery",
    "journal",
    "av",
    "spam",
    "internal email protect",
    "impersonation protect",
    "url protect",
    "attachment protect",
];

/// Those of Cloud Integrated, which API 1.0 does not have.
pub(super) const CI_TYPES: [&str; 3] = ["entities", "mailflow", "urlclick"];

impl State {
    pub fn push_siem(&mut self, kind: &str, published: DateTime<Utc>, lines: Vec<Bytes>) {
        // Both with a line end after the last event and without are seen.
        let end: &[u8] = if self.siem.len().is_multiple_of(2) { b"\n" } else { b"" };
        let text = [&lines.join(&b"\n"[..]), end].concat();
        self.publish(kind, published, lines, gzip(&text).into());
    }

    /// A file with its lines, as API 1.0 writes them, and its gzip, as API 2.0 links to it.
    pub fn publish(&mut self, kind: &str, published: DateTime<Utc>, lines: Vec<Bytes>, gzip: Bytes) {
        let prefix = prefix(kind, self.siem.len());
        let mut stamp = published.trunc_subsecs(3);
        let name = loop {
            let name = format!("{prefix}_{}", stamp.format("%Y%m%d%H%M%S%3f"));
            if self.siem.iter().all(|file| file.name != name) {
                break name;
            }
            stamp += TimeDelta::milliseconds(1);
        };
        let listed = if TYPES.contains(&kind) || CI_TYPES.contains(&kind) { kind } else { "receipt" };
        let folder = listed.replace(' ', "_");
        let path = format!("/files/{}/{folder}/{}.json.gz", published.format("%Y-%m-%d"), self.guid());
        self.siem.push(SiemFile { kind: listed.to_owned(), published, name, path, lines, gzip, hidden_until: None });
    }

    /// The files from a position on that are still kept, with their positions.
    pub fn kept(&self, position: usize) -> impl Iterator<Item = (usize, &SiemFile)> {
        let oldest = self.now() - KEPT;
        self.siem.iter().enumerate().skip(position).filter(move |(_, file)| file.published >= oldest)
    }
}

/// The file-name prefix of API 1.0. For viruses both `av_` and `av_tse_` are seen.
fn prefix(kind: &str, turn: usize) -> String {
    match kind {
        "journal" => "jrnl".into(),
        "av" if turn.is_multiple_of(2) => "av_tse".into(),
        "internal email protect" => "iep".into(),
        "impersonation protect" => "impersonation".into(),
        "spam" => "spameventthread".into(),
        "url protect" => "ttp_url".into(),
        "attachment protect" => "ttp_ap".into(),
        other => other.to_lowercase().chars().filter(char::is_ascii_alphanumeric).collect(),
    }
}

/// `POST /api/audit/get-siem-logs`.
pub(super) fn logs(state: &mut State, call: &Call) -> Result<Answer, Answer> {
    let request = Envelope::read(&call.body, &["type", "fileFormat", "compress", "token"])?;
    if request.item.get("type").is_none_or(|kind| kind != "MTA") {
        return Err(Answer::invalid("type must be MTA"));
    }
    let format = match request.choice("fileFormat", &["key_value", "json"])? {
        "json" => SiemFormat::Json,
        _ => SiemFormat::KeyValue,
    };
    let format = state.siem_mode.format.unwrap_or(format);
    let compress = request.flag("compress")? && state.siem_mode.zip;
    let position = match request.item.get("token") {
        None => 0,
        Some(token) => {
            let sealed = token.as_str().and_then(|token| state.unseal("siem", token));
            let fresh = sealed.filter(|sealed| {
                sealed["issued"].as_i64().is_some_and(|issued| issued >= (state.now() - KEPT).timestamp())
            });
            let position = fresh.and_then(|sealed| sealed["position"].as_u64());
            position.ok_or_else(|| Answer::fail(400, "err_audit_siem_invalid_token", "Invalid token"))? as usize
        }
    };

    let limit = if compress { state.siem_mode.files_per_answer.max(1) } else { 1 };
    let of_gateway = |(_, file): &(usize, &SiemFile)| TYPES.contains(&file.kind.as_str());
    let files: Vec<(usize, &SiemFile)> = state.kept(position).filter(of_gateway).take(limit).collect();
    let next = files.last().map_or(position, |(index, _)| index + 1);
    let token = state.seal("siem", &json!({"position": next, "issued": state.now().timestamp()}));
    let Some((_, first)) = files.first() else {
        let body = json!({"meta": {"isLastToken": true, "status": 200}, "data": [], "fail": []});
        let answer = Answer::json(200, &body);
        // Seen with the token and without.
        return Ok(if call.turn.is_multiple_of(2) { answer.with("mc-siem-token", &token) } else { answer });
    };
    let ending = if format == SiemFormat::Json { "json" } else { "siem" };
    let answer = if compress {
        let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (_, file) in &files {
            archive.start_file(format!("{}.{ending}", file.name), zip::write::SimpleFileOptions::default())?;
            archive.write_all(&text(file, format, call.turn))?;
        }
        let body = archive.finish()?.into_inner();
        Answer::file(&format!("{}.zip", state.guid()), "application/octet-stream", body)
    } else {
        let body = text(first, format, call.turn);
        Answer::file(&format!("{}.{ending}", first.name), "application/octet-stream", body)
    };
    Ok(answer.with("mc-siem-token", &token))
}

fn text(file: &SiemFile, format: SiemFormat, turn: u64) -> Vec<u8> {
    match format {
        SiemFormat::Json => {
            let (comma, line) = if turn.is_multiple_of(2) { (",", "") } else { (",\n  ", "\n") };
            let data = file.lines.join(comma.as_bytes());
            let head = format!("{{{line}\"type\":\"MTA\",{line}\"data\":[");
            [head.as_bytes(), &data, format!("]{line}}}").as_bytes()].concat()
        }
        SiemFormat::KeyValue => {
            file.lines.iter().flat_map(|line| [key_values(line), b"\r\n".to_vec()].concat()).collect()
        }
    }
}

/// `key=value|key=value`, in the order of the members, with `Subject` in backslashes as the real files have it. Line
/// ends and bars inside a value become blanks: how the real ones are written is unknown.
fn key_values(line: &[u8]) -> Vec<u8> {
    let Ok(Members(members)) = serde_json::from_slice(line) else { return line.to_vec() };
    let pairs = members.iter().map(|(key, value)| {
        let text = serde_json::from_str::<String>(value.get()).unwrap_or_else(|_| value.get().to_owned());
        let text = text.replace(['\r', '\n', '|'], " ");
        if key == "Subject" { format!("{key}=\\{text}\\") } else { format!("{key}={text}") }
    });
    pairs.collect::<Vec<_>>().join("|").into_bytes()
}

/// An object's members in their order, with their values as written.
struct Members(Vec<(String, Box<RawValue>)>);

impl<'de> serde::Deserialize<'de> for Members {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}
