//! From what the API refuses to one typed error: HTTP status, `fail`, and the codes seen in the field.
//!
//! Sources: <https://integrations.mimecast.com/documentation/api-overview/response-codes/>, Mimecast support article
//! 49448509755795 and the codes that shipping integrations handle.

use chrono::{DateTime, Utc};
use reqwest::StatusCode;
use reqwest::header::HeaderMap;

use crate::Error;
use crate::envelope::{self, Complaint};
use crate::retry::quota_wait;

/// An error and whether the same request may succeed when it is sent again.
#[derive(Debug)]
pub(crate) struct Fault {
    pub error: Error,
    pub again: bool,
}

impl Fault {
    pub fn again(error: Error) -> Self {
        Self { error, again: true }
    }

    pub fn last(error: Error) -> Self {
        Self { error, again: false }
    }

    /// Puts the endpoint or file in front of the text.
    pub fn at(mut self, origin: &str) -> Self {
        match &mut self.error {
            Error::Credentials(text)
            | Error::Permission(text)
            | Error::RateLimited { message: text, .. }
            | Error::Unavailable(text)
            | Error::Protocol(text)
            | Error::TokenRefused(text)
            | Error::LinkGone(text) => *text = format!("{origin}: {text}"),
            Error::Configuration(_) | Error::Unreadable { .. } => {}
        }
        self
    }
}

/// Passes what is a success: 2xx with no complaint in the body. `link`: a signed link, whose body is never looked at.
pub(crate) fn check(
    status: StatusCode,
    headers: &HeaderMap,
    body: Option<&[u8]>,
    link: bool,
    now: DateTime<Utc>,
) -> Result<(), Fault> {
    let complaint = body.and_then(envelope::complaint);
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
        text = format!("{text} (request {})", envelope::shown(id));
    }
    Err(match (code, &complaint) {
        (400 | 403 | 404 | 410, _) if link => Fault::last(Error::LinkGone(text)),
        (_, Some(complaint)) if is_about_keys(complaint) => Fault::last(Error::Credentials(text)),
        (401 | 418, _) => Fault::last(Error::Credentials(text)),
        (403, _) => Fault::last(Error::Permission(text)),
        (429, _) => Fault::again(Error::RateLimited { wait: quota_wait(headers, now), message: text }),
        (408 | 500.., _) => Fault::again(Error::Unavailable(text)),
        (200..300 | 400, Some(complaint)) if is_about_a_token(complaint) => Fault::last(Error::TokenRefused(text)),
        // A `fail` on 200 is at times a passing fault, whatever its `retryable` says.
        (200..300, _) => Fault::again(Error::Protocol(text)),
        _ => Fault::last(Error::Protocol(text)),
    })
}

/// The threat feed says that nothing is new by failing.
fn is_nothing_new(complaint: &Complaint) -> bool {
    complaint.message.starts_with("No results found") || complaint.message.starts_with("Unable to compress feeds")
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
    use super::*;

    fn of(status: u16, body: &str) -> String {
        let now = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        match check(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), Some(body.as_bytes()), false, now) {
            Ok(()) => "fine".into(),
            Err(Fault { error, again }) => {
                let kind = format!("{error:?}");
                format!("{}{}", kind.split(['(', ' ']).next().unwrap(), if again { " again" } else { "" })
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
            (200, r#"{"meta":{"status":404},"data":[],"fail":[]}"#.to_owned(), "Protocol"),
            (200, r#"{"meta":{"status":503},"data":[],"fail":[]}"#.to_owned(), "Unavailable again"),
            (302, String::new(), "Protocol"),
            (400, r#"{"fail":[{"code":"bad","message":"nextPage is not valid"}]}"#.to_owned(), "TokenRefused"),
            (400, String::new(), "Protocol"),
            (401, r#"{"fail":[{"code":"token_expired"}]}"#.to_owned(), "Credentials"),
            (401, fail("err_xdk_invalid_signature", "0004 Invalid Signature"), "Credentials"),
            (403, "<html>".to_owned(), "Permission"),
            (404, String::new(), "Protocol"),
            (418, fail("err_xdk_binding_expired", "Binding Expired"), "Credentials"),
            (429, String::new(), "RateLimited again"),
            (500, String::new(), "Unavailable again"),
            (503, "<html>".to_owned(), "Unavailable again"),
            (509, String::new(), "Unavailable again"),
        ] {
            assert_eq!(of(status, &body), expected, "{status} {body}");
        }
    }
}
