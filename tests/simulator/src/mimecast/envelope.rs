//! The envelope around all functions but those of SIEM 2.0: `meta`, `data`, `fail`.

use bytes::Bytes;
use chrono::{DateTime, NaiveDateTime, Utc};
use serde_json::{Map, Value};

use super::answer::Answer;

/// A request's body, checked.
pub(super) struct Envelope {
    pub page_size: usize,
    /// Absent or empty on the first page.
    pub page_token: Option<String>,
    /// The one item of `data`, empty where there is none.
    pub item: Map<String, Value>,
}

/// Page size of a request that names none, as older documentation has it.
const DEFAULT_PAGE: u64 = 25;

impl Envelope {
    /// Reads a body; `allowed` are the keys that the item may have.
    pub fn read(body: &Bytes, allowed: &[&str]) -> Result<Self, Answer> {
        let body: Value = serde_json::from_slice(body).map_err(|_| Answer::invalid("the body is not JSON"))?;
        let body = object(&body, &["meta", "data"], "the body")?;
        let none = Value::Object(Map::new());
        let meta = object(body.get("meta").unwrap_or(&none), &["pagination"], "meta")?;
        let paging = object(meta.get("pagination").unwrap_or(&none), &["pageSize", "pageToken"], "pagination")?;
        let page_size = paging.get("pageSize").map_or(Some(DEFAULT_PAGE), Value::as_u64);
        let Some(page_size @ 1..=500) = page_size else {
            return Err(Answer::invalid("pageSize must be 1 to 500"));
        };
        let page_token = match paging.get("pageToken") {
            None => None,
            Some(Value::String(token)) => Some(token.clone()).filter(|token| !token.is_empty()),
            Some(_) => return Err(Answer::invalid("pageToken must be a text")),
        };
        let item = match body.get("data").and_then(Value::as_array).map(Vec::as_slice) {
            Some([]) => Map::new(),
            Some([item]) => object(item, allowed, "data")?.clone(),
            _ => return Err(Answer::invalid("data must be an array with at most one object")),
        };
        Ok(Self { page_size: page_size as usize, page_token, item })
    }

    /// A date of the item, in the one form that is accepted.
    pub fn date(&self, key: &str) -> Result<Option<DateTime<Utc>>, Answer> {
        let Some(value) = self.item.get(key) else { return Ok(None) };
        let date = value.as_str().and_then(parse_date);
        date.map(Some).ok_or_else(|| {
            Answer::fail(
                400,
                "err_validation_invalid_date",
                &format!("{key} is not a date as yyyy-MM-ddTHH:mm:ss+0000"),
            )
        })
    }

    /// A Boolean of the item, false where it is absent.
    pub fn flag(&self, key: &str) -> Result<bool, Answer> {
        match self.item.get(key) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(Answer::invalid(&format!("{key} must be true or false"))),
        }
    }

    /// One of the texts known for this key; the first where it is absent.
    pub fn choice<'a>(&self, key: &str, known: &[&'a str]) -> Result<&'a str, Answer> {
        let Some(value) = self.item.get(key) else { return Ok(known.first().copied().unwrap_or_default()) };
        let found = known.iter().find(|text| value == **text);
        found.copied().ok_or_else(|| Answer::invalid(&format!("{key} must be one of {}", known.join(", "))))
    }
}

/// `yyyy-MM-ddTHH:mm:ss+0000`, nothing else.
fn parse_date(text: &str) -> Option<DateTime<Utc>> {
    let form = "%Y-%m-%dT%H:%M:%S+0000";
    let date = NaiveDateTime::parse_from_str(text, form).ok()?.and_utc();
    (date.format(form).to_string() == text).then_some(date)
}

fn object<'a>(value: &'a Value, allowed: &[&str], what: &str) -> Result<&'a Map<String, Value>, Answer> {
    let members = value.as_object().ok_or_else(|| Answer::invalid(&format!("{what} must be an object")))?;
    match members.keys().find(|key| !allowed.contains(&key.as_str())) {
        Some(key) => Err(Answer::invalid(&format!("{what} has an unknown key: {key}"))),
        None => Ok(members),
    }
}

/// Writes an answer around `rows`, which are the elements of `data` or, where `list` names one, of that list in its one
/// element; `extra` members follow the list. The white space and the order vary with `turn`, the rows never.
pub(super) fn write(turn: u64, meta: &Value, list: Option<&str>, rows: &[&[u8]], extra: &[(&str, Value)]) -> Answer {
    let (comma, colon, line) = match turn % 3 {
        0 => (",", ":", ""),
        1 => (",\r\n    ", ": ", "\n"),
        _ => (" ,", " : ", " "),
    };
    let mut data = Vec::new();
    let mut put = |text: &str| data.extend_from_slice(text.as_bytes());
    put(&format!("[{line}"));
    if let Some(list) = list
        && (!rows.is_empty() || turn.is_multiple_of(2))
    {
        put(&format!("{{\"{list}\"{colon}[{line}"));
        data.extend(rows.join(comma.as_bytes()));
        data.extend_from_slice(format!("{line}]").as_bytes());
        for (key, value) in extra {
            data.extend_from_slice(format!("{comma}\"{key}\"{colon}{value}").as_bytes());
        }
        data.extend_from_slice(format!("{line}}}").as_bytes());
    } else {
        data.extend(rows.join(comma.as_bytes()));
    }
    data.extend_from_slice(format!("{line}]").as_bytes());

    let meta = if turn % 3 == 1 { format!("{meta:#}") } else { meta.to_string() };
    let meta = format!("\"meta\"{colon}{meta}");
    let fail = format!("\"fail\"{colon}[]");
    let data = [format!("\"data\"{colon}").into_bytes(), data].concat();
    let members = match turn % 3 {
        2 => [fail.as_bytes(), &data, meta.as_bytes()],
        _ => [meta.as_bytes(), &data, fail.as_bytes()],
    };
    let body =
        [format!("{{{line}").as_bytes(), &members.join(comma.as_bytes()), format!("{line}}}").as_bytes()].concat();
    Answer::new(200, "application/json", body)
}
