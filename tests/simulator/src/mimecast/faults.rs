//! Scripted faults: what a live API does wrong now and then, on the calls a test chooses.

use std::time::Duration;

use super::answer::Answer;
use super::batch;
use super::server::Call;

/// A fault on some of the calls that match a text.
#[derive(Clone, Debug)]
pub struct Fault {
    text: String,
    skip: usize,
    times: usize,
    kind: FaultKind,
}

/// What goes wrong. Unless said otherwise the function is not run and the fault is the whole answer.
#[derive(Clone, Debug)]
pub enum FaultKind {
    /// Exactly this answer; no rate-limit headers but those given.
    Status {
        /// HTTP status.
        status: u16,
        /// Names and values; `content-type` is `application/json` unless given.
        headers: Vec<(String, String)>,
        /// Body text.
        body: String,
    },
    /// 200 with a body that is no JSON.
    Garbage,
    /// 503 with an HTML page.
    Html503,
    /// 200 with an HTML page, as of something in between that asks for a login.
    Html200,
    /// 200 with an error as the object store behind the signed links writes it.
    Xml200,
    /// 200 without a body.
    EmptyBody,
    /// The right answer, but the connection is closed in the middle of the body, short of `Content-Length`.
    CutBody,
    /// The connection is reset before any answer. The function is run: a client cannot know.
    ResetBeforeAnswer,
    /// The right answer's head and the first byte of its body, then the connection is reset.
    ResetAfterHead,
    /// The right answer, that much later.
    Hang(Duration),
    /// The right answer's head at once, its body in pieces over that time.
    SlowBody(Duration),
    /// The first half of the right answer's body, with the `Content-Length` of that half.
    Truncated,
    /// The right answer, with bytes flipped in the middle of its first zip entry or gzip member (or of the body).
    CorruptZip,
    /// The right answer, with a byte that is no UTF-8 put into a string near its end.
    NonUtf8,
    /// 200 with this `fail` and no data.
    FailOn200 {
        /// Such as `err_developer_key`.
        code: String,
        /// Text for people.
        message: String,
    },
    /// The right answer's data, together with this `fail` (JSON answers of `/api` only).
    FailWithData {
        /// Such as `err_internal`.
        code: String,
        /// Text for people.
        message: String,
    },
    /// 200 with `meta.status` 404 in the body.
    MetaStatus404,
    /// 200 with a `fail` for calls that carry a `pageToken`; others are not touched.
    RefusePageToken,
    /// A refusal of the stream token for SIEM calls that carry one: 200 with a `fail` (1.0), 400 (2.0).
    RefuseSiemToken,
    /// 401 `token_expired`, although the token is good.
    TokenExpired,
    /// The right answer, but the last page has a `next` too; what it leads to is empty and has one as well. Of SIEM 2.0: no
    /// links and not caught up, with a token that leads on to them.
    EmptyPageWithNext,
    /// The right answer, but `totalCount` is that far from the truth.
    WrongTotal(i64),
    /// The right answer, but the last page has no `meta.pagination` at all.
    NoPagination,
    /// 403 for signed links, as after their expiry; other calls are not touched.
    ExpiredLink,
    /// 307 for signed links, to another path of this server that has the same file; that path is not touched.
    Redirect,
    /// 307 for signed links, to the link itself.
    RedirectToItself,
    /// SIEM 2.0: an empty page with a dead token, in place of the right answer.
    DeadToken,
    /// SIEM 2.0: the right answer, but `@nextPage` is an empty text.
    EmptyToken,
    /// SIEM 2.0: the right answer without `@nextPage`.
    AbsentToken,
    /// SIEM 2.0: the right answer, but `@nextPage` is null.
    NullToken,
    /// SIEM 2.0: the right answer, but `@nextPage` is the token that was asked with. Calls without one are not touched.
    RepeatedToken,
}

impl Fault {
    /// A fault on the first call that matches. `text` is a part of `<path>?<decoded query> <body>`, such as
    /// `/api/audit`, `type=receipt` or `malware_grid`.
    pub fn new(text: &str, kind: FaultKind) -> Self {
        Self { text: text.to_owned(), skip: 0, times: 1, kind }
    }

    /// Leaves the first `calls` matching calls alone.
    pub fn skip(mut self, calls: usize) -> Self {
        self.skip = calls;
        self
    }

    /// Strikes that many calls in a row.
    pub fn times(mut self, calls: usize) -> Self {
        self.times = calls;
        self
    }

    /// Strikes every call from there on.
    pub fn forever(self) -> Self {
        self.times(usize::MAX)
    }

    /// Whether this call is struck; counts it either way.
    pub(super) fn strikes(&mut self, call: &Call) -> Option<FaultKind> {
        if self.times == 0 || !call.matches(&self.text) || !self.kind.concerns(call) {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        if self.times != usize::MAX {
            self.times -= 1;
        }
        Some(self.kind.clone())
    }
}

impl FaultKind {
    /// A bare status with an empty JSON object.
    pub fn status(status: u16) -> Self {
        Self::Status { status, headers: Vec::new(), body: "{}".into() }
    }

    /// 429 with `X-RateLimit-Reset` in milliseconds.
    pub fn rate_limited(reset: Duration) -> Self {
        let headers =
            [("x-ratelimit-limit", 800), ("x-ratelimit-remaining", 0), ("x-ratelimit-reset", reset.as_millis())];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_string())).to_vec();
        Self::Status { status: 429, headers, body: r#"{"meta":{"status":429},"data":[],"fail":[]}"#.into() }
    }

    /// 418, the binding of an API 1.0 access key has expired.
    pub fn binding_expired() -> Self {
        let errors = r#"[{"code":"err_xdk_binding_expired","message":"0003 Binding Expired","retryable":false}]"#;
        let body = format!(r#"{{"meta":{{"status":418}},"data":[],"fail":[{{"errors":{errors}}}]}}"#);
        Self::Status { status: 418, headers: Vec::new(), body }
    }

    fn concerns(&self, call: &Call) -> bool {
        match self {
            Self::RefusePageToken => call.body_has_text("pageToken"),
            Self::RefuseSiemToken => call.body_has_text("token") || call.parameter("nextPage").is_some(),
            Self::EmptyToken | Self::AbsentToken | Self::NullToken => batch::is_listing(call),
            // Without a token there is none to be dead.
            Self::DeadToken | Self::RepeatedToken => batch::is_listing(call) && call.parameter("nextPage").is_some(),
            Self::ExpiredLink | Self::Redirect | Self::RedirectToItself => call.path.starts_with("/files/"),
            _ => true,
        }
    }

    /// The answer that stands in for the function's.
    pub(super) fn replacement(&self, call: &Call) -> Option<Answer> {
        Some(match self {
            Self::Status { status, headers, body } => {
                let mut answer = Answer { status: *status, headers: headers.clone(), body: body.clone().into() };
                if !answer.has("content-type") {
                    answer = answer.with("content-type", "application/json");
                }
                answer
            }
            Self::Garbage => Answer::new(200, "application/json", "upstream said: {oops"),
            Self::Html503 => Answer::new(
                503,
                "text/html",
                "<html><head><title>503 Service Temporarily Unavailable</title></head><body>nginx</body></html>",
            ),
            Self::Html200 => Answer::new(
                200,
                "text/html",
                "<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>Your session has ended.</body></html>",
            ),
            Self::Xml200 => Answer::xml(200, "InternalError", "We encountered an internal error. Please try again."),
            Self::Redirect => batch::redirect(call, false),
            Self::RedirectToItself => batch::redirect(call, true),
            Self::EmptyBody => Answer::new(200, "application/json", ""),
            Self::FailOn200 { code, message } => Answer::fail(200, code, message),
            Self::MetaStatus404 => {
                Answer::new(200, "application/json", r#"{"meta":{"status":404},"data":[],"fail":[]}"#)
            }
            Self::RefusePageToken => Answer::fail(200, "err_validation", "pageToken invalid"),
            Self::RefuseSiemToken if call.path.starts_with("/siem/") => {
                Answer::flat(400, "err_validation", "nextPage invalid")
            }
            Self::RefuseSiemToken => Answer::fail(200, "err_audit_siem_invalid_token", "Invalid token"),
            Self::TokenExpired => Answer::flat(401, "token_expired", "The access token expired"),
            Self::ExpiredLink => Answer::xml(403, "AccessDenied", "Request has expired"),
            _ => return None,
        })
    }

    /// Spoils the body of the right answer.
    pub(super) fn spoil(&self, body: &[u8]) -> Option<Vec<u8>> {
        let mut spoilt = body.to_vec();
        match self {
            Self::Truncated => spoilt.truncate(body.len() / 2),
            Self::CorruptZip => {
                let start = first_packed_byte(body).min(body.len());
                let end = (start + 8).min(body.len());
                spoilt[start..end].iter_mut().for_each(|byte| *byte = !*byte);
            }
            Self::NonUtf8 => {
                let strings: Vec<usize> = (1..body.len()).filter(|&at| body[at - 1..].starts_with(b":\"")).collect();
                let position = strings.get(strings.len() * 3 / 4).map_or(body.len() / 2, |at| at + 1);
                spoilt.insert(position, 0xff);
            }
            Self::FailWithData { code, message } => {
                let fail = serde_json::json!([{"errors": [{"code": code, "message": message, "retryable": true}]}]);
                let mark = b"\"fail\"";
                let at = body.windows(mark.len()).rposition(|window| window == mark)?;
                let list = at + body[at..].windows(2).position(|window| window == b"[]")?;
                spoilt.splice(list..list + 2, fail.to_string().into_bytes());
            }
            _ => return None,
        }
        Some(spoilt)
    }
}

/// Where the deflated data begin: behind a zip's first local header, or behind a gzip header without a name.
fn first_packed_byte(body: &[u8]) -> usize {
    match body {
        [b'P', b'K', 3, 4, ..] if body.len() > 30 => {
            let length = |at: usize| usize::from(body[at]) + 256 * usize::from(body[at + 1]);
            30 + length(26) + length(28)
        }
        [0x1f, 0x8b, ..] => 10,
        _ => body.len() / 2,
    }
}
