//! The JSON envelope of both APIs: `{"meta":{..},"data":[..],"fail":[..]}`.
//!
//! HTTP 200 does not mean success: `fail` and `meta.status` are read on every answer
//! (<https://integrations.mimecast.com/documentation/api-overview/response-codes/>). Rows stay slices of the body.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

use crate::json::List;
use crate::refusal::{Complaint, Failed, shown};
use crate::{Error, json, lenient};

/// The most rows in one answer; asked for are 500 at most.
const MAX_ROWS: usize = 100_000;

/// One answer of a JSON endpoint.
#[derive(Debug)]
pub struct Envelope {
    /// As sent.
    pub rows: Vec<Bytes>,
    /// `meta.pagination.next`: the token of the next page.
    pub next: Option<String>,
    /// `meta.pagination.totalCount`: how many rows the whole reading has.
    pub total: Option<u64>,
}

/// Where the rows are in `data`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// `data[]`
    Flat,
    /// `data[0].<name>[]`; a single object in place of the array counts as one row.
    In(&'static str),
}

/// The three shapes seen: `fail[].errors[].{code,message}`, flat `fail[].{code,message}`, `error.{code,message}`.
#[derive(Deserialize, Default)]
#[serde(default)]
struct FailEntry {
    code: Option<String>,
    message: Option<String>,
    errors: Vec<FailEntry>,
}

impl Envelope {
    /// Reads `body`, whose rows are in `rows`, or `None` where it is no envelope (a JSON object with `meta` or `fail`).
    ///
    /// # Errors
    /// `Unreadable` where the body starts as an envelope and breaks off or breaks down, the borders of its rows cannot be told, or
    /// there are more than anybody asks for; `Protocol` where `data` is missing, holds no rows or not the list that should be there,
    /// and nothing says why: absent is not empty.
    pub fn read(body: &Bytes, rows: Rows) -> Result<Option<Self>, Error> {
        Top::read(body, rows).envelope().map_err(|failed| failed.error)
    }
}

const ARRAY: [u8; 2] = [b'[', b']'];
const OBJECT: [u8; 2] = [b'{', b'}'];

/// Finds rows on a walk over `data`.
struct Found<'a> {
    body: &'a Bytes,
    rows: Vec<Bytes>,
}

/// Why there are no rows.
enum Problem {
    Broken(json::Broken),
    TooMany,
    /// No list has this name.
    Missing(&'static str),
}

impl From<json::Broken> for Problem {
    fn from(broken: json::Broken) -> Self {
        Self::Broken(broken)
    }
}

impl Found<'_> {
    fn read(&mut self, data: &mut List, rows: Rows) -> Result<(), Problem> {
        match (rows, data.peek()) {
            (Rows::Flat, Some(b'[' | b'{')) => self.list(data).map(drop),
            (Rows::In(name), Some(b'[')) => data.nested(ARRAY, |group| self.group(group, name)),
            (Rows::In(name), Some(b'{')) => self.group(data, name),
            _ => Ok(data.value().map(drop)?),
        }
    }

    fn group(&mut self, data: &mut List, name: &'static str) -> Result<(), Problem> {
        let (mut is_empty, mut is_found) = (true, false);
        data.nested(OBJECT, |member| {
            is_empty = false;
            if json::key_is(member.key()?, name) {
                is_found = self.list(member)?;
            } else {
                member.value()?;
            }
            Ok::<_, Problem>(())
        })?;
        // Rows under another name would pass for a quiet hour.
        if is_empty || is_found { Ok(()) } else { Err(Problem::Missing(name)) }
    }

    /// An array's elements; a single object is a list of one, `null` is empty. Whether it was any of these.
    fn list(&mut self, list: &mut List) -> Result<bool, Problem> {
        match list.peek() {
            Some(b'[') => list.nested(ARRAY, |row| self.row(row)).map(|()| true),
            Some(b'{') => self.row(list).map(|()| true),
            _ => Ok(list.value()? == b"null"),
        }
    }

    fn row(&mut self, list: &mut List) -> Result<(), Problem> {
        self.rows.push(self.body.slice_ref(list.value()?));
        if self.rows.len() > MAX_ROWS { Err(Problem::TooMany) } else { Ok(()) }
    }
}

/// Whether rows may be in it: an array, an object or `null`.
fn is_list(value: &[u8]) -> bool {
    matches!(value.first(), Some(b'[' | b'{')) || value == b"null"
}

/// The members of an answer's own level that say what it is, and its rows, found in one walk: pages are long.
pub(crate) struct Top {
    body: Bytes,
    meta: Option<Bytes>,
    /// Empty where it is absent.
    data: Bytes,
    rows: Result<Vec<Bytes>, Problem>,
    has_fail: bool,
    /// `fail` and `error`.
    complaints: Vec<Bytes>,
    /// It breaks off or breaks down behind these.
    broken: Option<json::Broken>,
}

impl Default for Top {
    fn default() -> Self {
        let (body, data, rows) = (Bytes::new(), Bytes::new(), Ok(Vec::new()));
        Self { body, meta: None, data, rows, has_fail: false, complaints: Vec::new(), broken: None }
    }
}

impl Top {
    pub fn read(body: &Bytes, rows: Rows) -> Self {
        let mut top = Self { body: body.clone(), ..Self::default() };
        let mut walk = List::before(body);
        let over = walk.nested(OBJECT, |member| top.member(member, rows)).and_then(|()| walk.over());
        top.broken = over.err();
        top
    }

    fn member(&mut self, member: &mut List, rows: Rows) -> Result<(), json::Broken> {
        match member.key()? {
            b"meta" => self.meta = Some(self.body.slice_ref(member.value()?)),
            b"data" => {
                let mut found = Found { body: &self.body, rows: Vec::new() };
                let (value, outcome) = member.walked(|data| found.read(data, rows));
                (self.data, self.rows) = (self.body.slice_ref(value?), outcome.map(|()| found.rows));
            }
            key @ (b"fail" | b"error") => {
                self.has_fail |= key == b"fail";
                self.complaints.push(self.body.slice_ref(member.value()?));
            }
            _ => drop(member.value()?),
        }
        Ok(())
    }

    /// As [`Envelope::read`]. Another try may bring the bytes whole, but no other rows.
    pub fn envelope(self) -> Result<Option<Envelope>, Failed> {
        let unreadable = |reason: String| Error::Unreadable { raw: self.body.clone(), reason };
        let protocol = |text: &str| Err(Failed::passing(Error::Protocol(text.to_owned())));
        let is_envelope = self.meta.is_some() || self.has_fail;
        match self.broken {
            Some(_) if !is_envelope && self.data.is_empty() => return Ok(None),
            Some(broken) => return Err(Failed::passing(unreadable(broken.to_string()))),
            None => {}
        }
        let meta = self.meta().map_err(|_| Failed::passing(unreadable("meta is not understood".to_owned())))?;
        match self.data.first() {
            _ if !is_envelope => return Ok(None),
            // A `fail` that got as far as here says by itself that there are none.
            None if self.complaint().is_some() => {}
            None => return protocol("no member `data` in the answer"),
            Some(_) if is_list(&self.data) => {}
            Some(_) => return protocol("`data` is no list of rows"),
        }
        let rows = self.rows.map_err(|problem| match problem {
            Problem::Broken(broken) => unreadable(broken.to_string()),
            Problem::TooMany => unreadable(format!("more than {MAX_ROWS} rows")),
            Problem::Missing(name) => Error::Protocol(format!("no list `{name}` in `data` of the answer")),
        });
        let (rows, pagination) = (rows.map_err(Failed::lasting)?, &meta["pagination"]);
        let (next, total) = (lenient::text(&pagination["next"]), lenient::whole(&pagination["totalCount"]));
        Ok(Some(Envelope { rows, next, total }))
    }

    /// Whether it says that nothing is new without any `data`: by `isLastToken`.
    pub fn is_last(&self) -> bool {
        let says_so = |meta: Value| lenient::is_true(&meta["isLastToken"]);
        self.broken.is_none() && self.data.is_empty() && self.meta().is_ok_and(says_so)
    }

    fn meta(&self) -> serde_json::Result<Value> {
        self.meta.as_ref().map_or(Ok(Value::Null), |meta| serde_json::from_slice(meta))
    }

    /// What it complains about, if it is JSON that complains at all. An entry of `fail` without code and message is none.
    pub fn complaint(&self) -> Option<Complaint> {
        let mut complaint = Complaint::default();
        if self.broken.is_some() {
            return None;
        }
        let meta = self.meta().unwrap_or_default();
        let status = lenient::whole(&meta["status"]).and_then(|status| u16::try_from(status).ok());
        complaint.status = status.filter(|status| *status != 200);
        let details = self.complaints.iter().flat_map(|value| entries(value)).flat_map(|entry| {
            let inner = entry.errors;
            std::iter::once(FailEntry { errors: Vec::new(), ..entry }).chain(inner)
        });
        for entry in details {
            if complaint.code.is_empty() && (entry.code.is_some() || entry.message.is_some()) {
                complaint.code = entry.code.map_or_else(|| "no code".into(), |code| shown(&code));
                complaint.message = shown(&entry.message.unwrap_or_default());
            }
        }
        (complaint.status.is_some() || !complaint.code.is_empty()).then_some(complaint)
    }
}

/// A list of entries or a single one; what has another form is an entry that nobody can name.
fn entries(value: &[u8]) -> Vec<FailEntry> {
    let list = serde_json::from_slice::<Option<Vec<FailEntry>>>(value).map(Option::unwrap_or_default);
    let single = || serde_json::from_slice(value).map(|entry| vec![entry]);
    list.or_else(|_| single()).unwrap_or_else(|_| {
        let message = "a complaint in a form that is not known".to_owned();
        vec![FailEntry { message: Some(message), ..FailEntry::default() }]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str, rows: Rows) -> Result<Option<Envelope>, Error> {
        Envelope::read(&Bytes::copy_from_slice(body.as_bytes()), rows)
    }

    #[test]
    fn rows_are_slices_of_the_body_as_sent() {
        let page = read(
            r#" {"meta":{"status":200,"pagination":{"pageSize":2,"totalCount":7,"next":"t"}},
            "data":[{"clickLogs":[{ "n":12345678901234567890, "f":1.10 },{"a":}]}],"fail":[]}"#,
            Rows::In("clickLogs"),
        );
        let page = page.unwrap().unwrap();
        assert_eq!((page.next.as_deref(), page.total), (Some("t"), Some(7)));
        assert_eq!(page.rows, [r#"{ "n":12345678901234567890, "f":1.10 }"#, r#"{"a":}"#]);
    }

    #[test]
    fn empty_answers_of_every_kind_have_no_rows() {
        for data in [
            r#","data":[]"#,
            r#","data":null"#,
            r#","data":[{"logs":[]}]"#,
            r#","data":[{}]"#,
            r#","data":[{"logs":null,"resultCount":0}]"#,
        ] {
            let page = read(&format!(r#"{{"meta":{{"status":200}}{data},"fail":[]}}"#), Rows::In("logs"));
            assert!(page.unwrap().unwrap().rows.is_empty(), "{data}");
        }
        let object = r#"{"meta":{},"data":[{"notifications":{"id":"1"}}]}"#;
        let object = read(object, Rows::In("notifications")).unwrap().unwrap();
        assert_eq!(object.rows, [r#"{"id":"1"}"#]);
    }

    #[test]
    fn absent_is_not_empty() {
        let refused = |body: &str, rows| match read(body, rows) {
            Err(Error::Protocol(text)) => text,
            other => panic!("{body}: {other:?}"),
        };
        for body in
            [r#"{"meta":{"status":200}}"#, r#"{"meta":{"status":200},"fail":[]}"#, r#"{"fail":[]}"#, r#"{"meta":null}"#]
        {
            assert!(refused(body, Rows::Flat).contains("`data`"), "{body}");
        }
        for data in ["7", r#""none""#, "true", r#""""#] {
            assert!(refused(&format!(r#"{{"meta":{{}},"data":{data}}}"#), Rows::Flat).contains("`data`"), "{data}");
        }
        for data in
            [r#"[{"clicks":[{}]}]"#, r#"[{"logs":"none"}]"#, r#"[{"logs":7}]"#, r#"[{"logs":[]},{"other":[{}]}]"#]
        {
            assert!(
                refused(&format!(r#"{{"meta":{{}},"data":{data}}}"#), Rows::In("logs")).contains("`logs`"),
                "{data}"
            );
        }
        // What complains says why.
        let complains = r#"{"meta":{"status":200},"fail":[{"code":"err_a","message":"m"}]}"#;
        let complains = read(complains, Rows::Flat).unwrap().unwrap();
        assert!(complains.rows.is_empty());
        let spelt = read(r#"{"meta":{},"data":[{"logs":[{"a":1}]}]}"#, Rows::In("logs")).unwrap().unwrap();
        assert_eq!(spelt.rows, [r#"{"a":1}"#]);
    }

    #[test]
    fn totals_and_tokens_are_read_in_every_spelling() {
        let of = |pagination: &str| {
            let page =
                read(&format!(r#"{{"meta":{{"status":"200","pagination":{pagination}}},"data":[]}}"#), Rows::Flat);
            let page = page.unwrap().unwrap();
            (page.total, page.next)
        };
        for (total, expected) in
            [("7", Some(7)), ("7.0", Some(7)), (r#""7""#, Some(7)), ("-1", None), ("null", None), (r#""many""#, None)]
        {
            assert_eq!(of(&format!(r#"{{"totalCount":{total}}}"#)).0, expected, "{total}");
        }
        for (next, expected) in [
            (r#""t""#, Some("t")),
            ("12", Some("12")),
            (r#""""#, None),
            (r#""  ""#, None),
            ("null", None),
            ("[]", None),
        ] {
            assert_eq!(of(&format!(r#"{{"next":{next}}}"#)).1.as_deref(), expected, "{next}");
        }
        for none in ["null", "7", "[]", r#""x""#, "{}"] {
            assert_eq!(of(none), (None, None), "{none}");
        }
    }

    #[test]
    fn more_rows_than_anybody_asks_for_are_unreadable() {
        for (count, expected) in [(MAX_ROWS, true), (MAX_ROWS + 1, false)] {
            let rows = vec!["{}"; count].join(",");
            let flat = read(&format!(r#"{{"meta":{{}},"data":[{rows}]}}"#), Rows::Flat);
            assert_eq!(flat.is_ok(), expected);
            let half = vec!["{}"; count - 1].join(",");
            let grouped = format!(r#"{{"meta":{{}},"data":[{{"x":[{half}]}},{{"x":{{}}}}]}}"#);
            assert_eq!(read(&grouped, Rows::In("x")).is_ok(), expected);
        }
    }

    #[test]
    fn what_is_no_envelope_is_told_from_a_broken_one() {
        for other in ["", "<html>", "[1]", r#"{"type":"MTA","data":[{}]}"#, "{]", r#"{"value":[]}"#] {
            assert!(read(other, Rows::Flat).unwrap().is_none(), "{other}");
        }
        assert!(matches!(
            read(r#"{"meta":{"status":200},"data":[{"a":1},{"#, Rows::Flat),
            Err(Error::Unreadable { .. })
        ));
    }

    #[test]
    fn complaints_are_found_in_every_shape() {
        let of = |body: &str| {
            Top::read(&Bytes::copy_from_slice(body.as_bytes()), Rows::Flat)
                .complaint()
                .map(|c| (c.status, c.code, c.message))
        };
        let some = |status, code: &str, message: &str| Some((status, code.to_owned(), message.to_owned()));
        let nested =
            r#"{"meta":{"status":200},"data":[],"fail":[{"key":{},"errors":[{"code":"err_a","message":"m"}]}]}"#;
        assert_eq!(of(nested), some(None, "err_a", "m"));
        assert_eq!(of(r#"{"fail":[{"code":"token_expired"}]}"#), some(None, "token_expired", ""));
        assert_eq!(of(r#"{"error":{"message":"m"}}"#), some(None, "no code", "m"));
        for status in ["404", r#""404""#, "404.0"] {
            assert_eq!(
                of(&format!(r#"{{"meta":{{"status":{status}}},"data":[],"fail":[]}}"#)),
                some(Some(404), "", "")
            );
        }
        assert_eq!(of(r#"{"meta":{"status":200},"fail":[{"key":{},"errors":[]}]}"#), None);
        assert_eq!(of(r#"{"meta":{"status":200},"data":[],"fail":[]}"#), None);
        assert_eq!(of(r#"{"fail":{"code":"a","message":"m"}}"#), some(None, "a", "m"));
        assert_eq!(of(r#"{"meta":{"status":200},"fail":"sorry"}"#).map(|found| found.1), Some("no code".into()));
        let echo = r#"{"fail":{"code":"c","message":"MC aBcDeFgHiJkLmNoPqRsT0:Zm9vYmFyYmF6cXV1eA1= for /api/audit/get-audit-events"}}"#;
        assert_eq!(of(echo), some(None, "c", "MC *** for /api/audit/get-audit-events"));
        let long = format!(r#"{{"fail":{{"code":"a\n","message":"{}"}}}}"#, "\u{e9}".repeat(1_000));
        assert_eq!(of(&long), some(None, "a ", &"\u{e9}".repeat(300)));
        assert_eq!(of(r#"{"meta":{"status":200},"fail":null}"#), None);
        assert_eq!(of("<html>"), None);
    }

    #[test]
    fn rows_that_cannot_be_told_apart_hide_nothing_behind_them() {
        for data in ["[{} {}]", "[{}:{}]", r#"{"logs" []}"#, r#"[{"logs":[{}]} 7]"#, r#"[{"logs":[{},]}]"#] {
            for rows in [Rows::Flat, Rows::In("logs")] {
                let body = format!(r#"{{"meta":{{}},"data":{data},"fail":[{{"code":"c","message":"m"}}]}}"#);
                let top = Top::read(&Bytes::copy_from_slice(body.as_bytes()), rows);
                assert_eq!(top.complaint().unwrap().code, "c", "{data}");
                assert_eq!(top.data, data);
            }
        }
        let broken = Bytes::from_static(br#"{"meta":{},"data":[{} {}]}"#);
        let broken = Top::read(&broken, Rows::Flat).envelope();
        assert!(matches!(broken, Err(Failed { error: Error::Unreadable { .. }, retry: false })));
    }
}
