//! From what the API refuses to one typed error: HTTP status, `fail`, and the codes seen in the field.
//!
//! Sources: <https://integrations.mimecast.com/documentation/api-overview/response-codes/>, Mimecast support article
//! 49448509755795 and the codes that shipping integrations handle.

use chrono::{DateTime, Utc};
use reqwest::StatusCode;
use reqwest::header::HeaderMap;

use crate::Error;
use crate::retry::quota_wait;

/// The most characters of what an answer complains about.
const MAX_TEXT: usize = 300;

/// What an answer with an envelope complains about.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Complaint {
    /// The status in the body where it is not 200.
    pub status: Option<u16>,
    pub code: String,
    pub message: String,
}

impl std::fmt::Display for Complaint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.code.as_str(), self.status) {
            ("", Some(status)) => write!(f, "status {status} in the answer"),
            (code, _) => write!(f, "{code} {}", self.message),
        }
    }
}

/// A request that failed, and whether the same one may succeed when it is sent again.
#[derive(Debug)]
pub(crate) struct Failed {
    pub error: Error,
    pub retry: bool,
}

impl Failed {
    /// May succeed when it is sent again.
    pub fn passing(error: Error) -> Self {
        Self { error, retry: true }
    }

    /// Fails as often as it is sent.
    pub fn lasting(error: Error) -> Self {
        Self { error, retry: false }
    }

    /// Puts the endpoint or file in front of the text.
    pub fn at(self, origin: &str) -> Self {
        Self { error: self.error.about(origin), ..self }
    }
}

/// Passes what is a success: 2xx with no complaint in the body. `link`: of a signed link, whose body is never looked at.
pub(crate) fn check(
    status: StatusCode,
    headers: &HeaderMap,
    complaint: Option<Complaint>,
    link: bool,
    now: DateTime<Utc>,
) -> Result<(), Failed> {
    let code = match (&complaint, status.is_success()) {
        (None, true) => return Ok(()),
        (Some(complaint), true) if is_nothing_new(complaint) => return Ok(()),
        (Some(Complaint { status: Some(inner), .. }), true) => *inner,
        _ => status.as_u16(),
    };
    let mut text = format!("HTTP {}", status.as_u16());
    if let Some(complaint) = &complaint {
        text = format!("{text}, {complaint}");
    }
    if let Some(id) = headers.get("x-request-id").and_then(|id| id.to_str().ok()) {
        text = format!("{text} (request {})", request_id(id.trim()));
    }
    Err(match (code, &complaint) {
        (_, Some(complaint)) if is_about_keys(complaint) => Failed::lasting(Error::Credentials(text)),
        (429, _) => Failed::passing(Error::RateLimited { wait: quota_wait(headers, now), message: text }),
        (408 | 500.., _) => Failed::passing(Error::Unavailable(text)),
        // Whatever an object store says of a file says nothing of our keys, nor of the other files.
        _ if link => Failed::lasting(Error::LinkRefused(text)),
        (401 | 418, _) => Failed::lasting(Error::Credentials(text)),
        (403, _) => Failed::lasting(Error::Permission(text)),
        (200..300 | 400, Some(complaint)) if is_about_a_token(complaint) => Failed::lasting(Error::TokenRefused(text)),
        (400, _) => Failed::lasting(Error::BadRequest(text)),
        (404 | 410, _) => Failed::lasting(Error::NotFound(text)),
        // A `fail` on 200 is at times a passing fault, whatever its `retryable` says.
        (200..300, _) => Failed::passing(Error::Protocol(text)),
        _ => Failed::lasting(Error::Protocol(text)),
    })
}

/// A text of the API's for people: one line, not long, and without what it may repeat of our request.
pub(crate) fn shown(text: &str) -> String {
    let line: String = text.chars().take(10 * MAX_TEXT).map(|c| if c.is_control() { ' ' } else { c }).collect();
    let words: Vec<&str> = line.split(' ').map(|word| if holds_a_key(word) { "***" } else { word }).collect();
    words.join(" ").chars().take(MAX_TEXT).collect()
}

/// Keys, tokens and signatures are long and hold letters and digits; no word does.
fn holds_a_key(word: &str) -> bool {
    let of_a_key = |c: char| c.is_ascii_alphanumeric() || "+/=_-.~".contains(c);
    let (letter, digit) = (|c: char| c.is_ascii_alphabetic(), |c: char| c.is_ascii_digit());
    word.split(|c| !of_a_key(c)).any(|run| run.len() >= 20 && run.contains(letter) && run.contains(digit))
}

/// A UUID in full: support asks for it, and it opens nothing.
fn request_id(id: &str) -> String {
    if id.len() == 36 && uuid::Uuid::try_parse(id).is_ok() { id.to_owned() } else { shown(id) }
}

/// The threat feed says that nothing is new by failing: with a code of its own, or with one of these messages.
fn is_nothing_new(complaint: &Complaint) -> bool {
    complaint.code == "err_threat_intel_feed_no_result_found"
        || complaint.message.starts_with("No results found")
        || complaint.message.starts_with("Unable to compress feeds")
}

fn is_about_keys(complaint: &Complaint) -> bool {
    complaint.code == "err_developer_key" || complaint.code.starts_with("err_xdk_")
}

/// `err_audit_siem_invalid_token`, and page tokens by whatever name the complaint gives them.
fn is_about_a_token(complaint: &Complaint) -> bool {
    let text = complaint.to_string().to_ascii_lowercase();
    text.contains("token") || text.contains("nextpage")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::envelope::{Rows, Top};

    fn complaint(body: &str) -> Option<Complaint> {
        Top::read(&Bytes::copy_from_slice(body.as_bytes()), Rows::Flat).complaint()
    }

    fn of(status: u16, body: &str) -> String {
        let now = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        match check(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), complaint(body), false, now) {
            Ok(()) => "fine".into(),
            Err(Failed { error, retry }) => {
                let kind = format!("{error:?}");
                format!("{}{}", kind.split(['(', ' ']).next().unwrap(), if retry { " again" } else { "" })
            }
        }
    }

    #[test]
    fn every_refusal_has_one_meaning() {
        let fail = |code: &str, message: &str| {
            format!(
                r#"{{"meta":{{"status":200}},"data":[],"fail":[{{"errors":[{{"code":"{code}","message":"{message}"}}]}}]}}"#
            )
        };
        for (status, body, expected) in [
            (200, r#"{"meta":{"status":200},"data":[],"fail":[]}"#.to_owned(), "fine"),
            (200, fail("err_feed", "No results found for threat intel feed."), "fine"),
            (200, fail("err_feed", "Unable to compress feeds."), "fine"),
            (200, fail("err_developer_key", "App ID is invalid"), "Credentials"),
            (200, fail("err_audit_siem_invalid_token", ""), "TokenRefused"),
            (200, fail("err_validation", "pageToken invalid"), "TokenRefused"),
            (200, fail("err_internal", "try later"), "Protocol again"),
            (200, r#"{"meta":{"status":404},"data":[],"fail":[]}"#.to_owned(), "NotFound"),
            (200, r#"{"meta":{"status":503},"data":[],"fail":[]}"#.to_owned(), "Unavailable again"),
            (302, String::new(), "Protocol"),
            (400, r#"{"fail":[{"code":"bad","message":"nextPage is not valid"}]}"#.to_owned(), "TokenRefused"),
            (400, String::new(), "BadRequest"),
            (400, fail("err_validation_blank", "start"), "BadRequest"),
            (200, r#"{"meta":{"status":400},"data":[]}"#.to_owned(), "BadRequest"),
            (200, r#"{"meta":{"status":"503"},"data":[]}"#.to_owned(), "Unavailable again"),
            (200, r#"{"meta":{"status":"200"},"data":[]}"#.to_owned(), "fine"),
            (200, fail("err_threat_intel_feed_no_result_found", "nothing to see"), "fine"),
            (200, fail("err_threat_intel_feed_no_result_found", ""), "fine"),
            (200, r#"{"fail":[{"code":"err_threat_intel_feed_no_result_found"}]}"#.to_owned(), "fine"),
            (401, r#"{"fail":[{"code":"token_expired"}]}"#.to_owned(), "Credentials"),
            (401, fail("err_xdk_invalid_signature", "0004 Invalid Signature"), "Credentials"),
            (403, "<html>".to_owned(), "Permission"),
            (404, String::new(), "NotFound"),
            (418, fail("err_xdk_binding_expired", "Binding Expired"), "Credentials"),
            (429, String::new(), "RateLimited again"),
            (500, String::new(), "Unavailable again"),
            (503, "<html>".to_owned(), "Unavailable again"),
            (509, String::new(), "Unavailable again"),
        ] {
            assert_eq!(of(status, &body), expected, "{status} {body}");
        }
    }
    #[test]
    fn a_link_is_refused_by_every_status_that_no_further_try_changes() {
        let now = DateTime::UNIX_EPOCH;
        for status in 300..600 {
            let failed = check(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), None, true, now).unwrap_err();
            match status {
                429 => assert!(matches!(failed, Failed { error: Error::RateLimited { .. }, retry: true })),
                408 | 500.. => {
                    assert!(matches!(failed, Failed { error: Error::Unavailable(_), retry: true }), "{status}")
                }
                _ => assert!(matches!(failed, Failed { error: Error::LinkRefused(_), retry: false }), "{status}"),
            }
        }
    }

    #[test]
    fn a_request_id_is_shown_where_it_is_a_uuid_and_masked_where_it_may_be_a_key() {
        let shown = |id: &str| {
            let headers = [("x-request-id".parse().unwrap(), id.parse().unwrap())].into_iter().collect();
            check(StatusCode::FORBIDDEN, &headers, None, false, DateTime::UNIX_EPOCH).unwrap_err().error.to_string()
        };
        for id in ["7d2c9a4c-8f0e-4d0a-9c38-3d1f6f8b3f0a", "7D2C9A4C-8F0E-4D0A-9C38-3D1F6F8B3F0A"] {
            assert!(shown(id).ends_with(&format!("(request {id})")), "{}", shown(id));
        }
        for id in ["7d2c9a4c8f0e4d0a9c383d1f6f8b3f0a", "x7d2c9a4c-8f0e-4d0a-9c38-3d1f6f8b3f0", "aBcDeFgHiJkLmNoPqRsT0"]
        {
            assert!(shown(id).ends_with("(request ***)"), "{}", shown(id));
        }
    }
}
