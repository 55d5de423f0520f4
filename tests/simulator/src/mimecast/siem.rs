//! SIEM files: the token stream of API 1.0, and the batches of signed links of API 2.0, over the same files.

use std::fmt;
use std::io::{Cursor, Write};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use chrono::{DateTime, NaiveDate, NaiveDateTime, SubsecRound, TimeDelta, Utc};
use hmac::{Hmac, KeyInit, Mac};
use serde::de::{MapAccess, Visitor};
use serde_json::{json, value::RawValue};
use sha1::Sha1;

use super::answer::Answer;
use super::envelope::Envelope;
use super::faults::FaultKind;
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
    kind: String,
    published: DateTime<Utc>,
    /// The name in API 1.0 without its ending, such as `receipt_20240605113000123`.
    name: String,
    /// The path of its links.
    path: String,
    lines: Vec<Bytes>,
    gzip: Bytes,
}

/// How long files, and tokens that stand between them, are kept.
const KEPT: TimeDelta = TimeDelta::days(7);

/// The types that API 2.0 can be asked for.
const TYPES: [&str; 10] = [
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

impl State {
    pub fn push_siem(&mut self, kind: &str, published: DateTime<Utc>, lines: Vec<Bytes>) {
        let prefix = prefix(kind, self.siem.len());
        let mut stamp = published.trunc_subsecs(3);
        let name = loop {
            let name = format!("{prefix}_{}", stamp.format("%Y%m%d%H%M%S%3f"));
            if self.siem.iter().all(|file| file.name != name) {
                break name;
            }
            stamp += TimeDelta::milliseconds(1);
        };
        let listed = if TYPES.contains(&kind) { kind } else { "receipt" };
        let folder = listed.replace(' ', "_");
        let path = format!("/files/{}/{folder}/{}.json.gz", published.format("%Y-%m-%d"), self.guid());
        // Both with a line end after the last event and without are seen.
        let end: &[u8] = if self.siem.len().is_multiple_of(2) { b"\n" } else { b"" };
        let text = [&lines.join(&b"\n"[..]), end].concat();
        let gzip = gzip(&text).into();
        self.siem.push(SiemFile { kind: listed.to_owned(), published, name, path, lines, gzip });
    }

    /// The files from a position on that are still kept, with their positions.
    fn kept(&self, position: usize) -> impl Iterator<Item = (usize, &SiemFile)> {
        let oldest = self.now() - KEPT;
        self.siem.iter().enumerate().skip(position).filter(move |(_, file)| file.published >= oldest)
    }

    /// A link that works until the second after `expiry`.
    fn link(&self, file: &SiemFile, signed_at: DateTime<Utc>, life: u64) -> Option<String> {
        let date = signed_at.format("%Y%m%dT%H%M%SZ").to_string();
        let query =
            format!("X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date={date}&X-Amz-SignedHeaders=host&X-Amz-Expires={life}");
        let signature = self.link_signature(&file.path, &date, &life.to_string())?;
        Some(format!("{}{}?{query}&X-Amz-Signature={signature}", self.base_url, file.path))
    }

    fn link_signature(&self, path: &str, date: &str, life: &str) -> Option<String> {
        let mut mac = Hmac::<Sha1>::new_from_slice(self.seal.as_bytes()).ok()?;
        mac.update(format!("{path}\n{date}\n{life}").as_bytes());
        Some(mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect())
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
    let files: Vec<(usize, &SiemFile)> = state.kept(position).take(limit).collect();
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

/// `GET /siem/v1/batch/events/cg`.
pub(super) fn batch(state: &State, call: &Call) -> Result<Answer, Answer> {
    let refuse = |message: &str| Answer::json(400, &json!({"error": {"code": "validation_error", "message": message}}));
    let known = ["type", "dateRangeStartsAt", "dateRangeEndsAt", "pageSize", "nextPage"];
    let mut names: Vec<&str> = call.query.iter().map(|(name, _)| name.as_str()).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(name)) {
        return Err(refuse(&format!("unknown parameter {unknown}")));
    }
    names.sort_unstable();
    if names.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(refuse("a parameter is given twice"));
    }
    let parameter = |wanted: &str| call.query.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
    let Some(kind) = parameter("type").filter(|kind| TYPES.contains(kind)) else {
        return Err(refuse("type must be one of the known types"));
    };
    let page_size = parameter("pageSize").map_or(Some(100), |size| size.parse().ok());
    let Some(page_size @ 1..=100) = page_size else {
        return Err(refuse("pageSize must be 1 to 100"));
    };
    let date = |name: &str| match parameter(name) {
        None => Ok(None),
        Some(text) => {
            let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok();
            let date = date.filter(|date| date.format("%Y-%m-%d").to_string() == text);
            date.map(Some).ok_or_else(|| refuse(&format!("{name} must be a date as yyyy-MM-dd")))
        }
    };
    let (from, to) = (date("dateRangeStartsAt")?, date("dateRangeEndsAt")?);
    let today = state.now().date_naive();
    if from.is_some_and(|from| from < today - KEPT) {
        return Err(refuse("dateRangeStartsAt must be within the last 7 days"));
    }
    if from.is_some_and(|from| from > today) || (to.is_some() && from > to) {
        return Err(refuse("dateRangeStartsAt must not be after dateRangeEndsAt or today"));
    }
    // Without dates of its own a later page goes on from the first day that was asked for, and has no end.
    let (position, from) = match parameter("nextPage") {
        None if from.is_none() || to.is_none() => {
            return Err(refuse("dateRangeStartsAt and dateRangeEndsAt are required without nextPage"));
        }
        None => (0, from),
        Some(token) => {
            let sealed = state.unseal("batch", token).filter(|sealed| sealed["type"] == kind);
            let position = sealed.as_ref().and_then(|sealed| sealed["position"].as_u64());
            let first_day = sealed.and_then(|mut sealed| serde_json::from_value(sealed["from"].take()).ok());
            let position = position.ok_or_else(|| Answer::flat(400, "err_validation", "nextPage invalid"))?;
            (position as usize, from.or(first_day))
        }
    };

    let listed = |file: &SiemFile| {
        let day = file.published.date_naive();
        file.kind == kind && from.is_none_or(|from| from <= day) && to.is_none_or(|to| day <= to)
    };
    let mut files: Vec<(usize, &SiemFile)> =
        state.kept(position).filter(|(_, file)| listed(file)).take(page_size + 1).collect();
    let caught_up = files.len() <= page_size;
    let empty = matches!(call.fault, Some(FaultKind::EmptyPageWithNext));
    files.truncate(if empty { 0 } else { page_size });
    let next = files.last().map_or(position, |(index, _)| index + 1);
    let (now, life) = (state.now(), state.siem_mode.link_life);
    let entry = |file: &SiemFile, life: u64| {
        let expiry = now.trunc_subsecs(0) + TimeDelta::seconds(life as i64);
        let expiry = expiry.format("%Y-%m-%dT%H:%M:%S.000Z").to_string();
        json!({"url": state.link(file, now, life), "expiry": expiry, "size": file.gzip.len()})
    };
    let mut value: Vec<_> = files.iter().map(|(_, file)| entry(file, life.as_secs())).collect();
    if let (true, Some((_, file))) = (state.siem_mode.duplicate_links, files.first()) {
        value.push(entry(file, life.as_secs() + 1));
    }
    let token = state.seal("batch", &json!({"type": kind, "position": next, "from": from}));
    Ok(Answer::json(200, &json!({"value": value, "@nextPage": token, "isCaughtUp": caught_up && !empty})))
}

/// `GET /files/...`: a signed link, as the object store behind the API answers it.
pub(super) fn file(state: &State, call: &Call) -> Result<Answer, Answer> {
    if !call.header("authorization").is_empty() {
        return Err(Answer::xml(400, "InvalidArgument", "Only one auth mechanism allowed"));
    }
    if call.method != "GET" {
        return Err(Answer::xml(405, "MethodNotAllowed", "Use GET"));
    }
    let parameter = |wanted: &str| call.query.iter().find(|(name, _)| name == wanted).map_or("", |(_, value)| value);
    let (date, life) = (parameter("X-Amz-Date"), parameter("X-Amz-Expires"));
    let signature = state.link_signature(&call.path, date, life);
    if signature.as_deref() != Some(parameter("X-Amz-Signature")) {
        return Err(Answer::xml(403, "SignatureDoesNotMatch", "The signature does not match"));
    }
    let signed_at = NaiveDateTime::parse_from_str(date, "%Y%m%dT%H%M%SZ").ok();
    let life = life.parse().ok().and_then(TimeDelta::try_seconds);
    let expiry = signed_at.zip(life).map(|(signed_at, life)| signed_at.and_utc() + life);
    if expiry.is_none_or(|expiry| expiry <= state.now()) {
        return Err(Answer::xml(403, "AccessDenied", "Request has expired"));
    }
    let Some((_, file)) = state.kept(0).find(|(_, file)| file.path == call.path) else {
        return Err(Answer::xml(404, "NoSuchKey", "The specified key does not exist."));
    };
    Ok(Answer::new(200, "binary/octet-stream", file.gzip.clone()).with("etag", &etag(&file.path)))
}

fn etag(path: &str) -> String {
    format!("\"{}\"", URL_SAFE_NO_PAD.encode(path).chars().rev().take(32).collect::<String>())
}
