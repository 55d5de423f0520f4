//! What a handler returns: an answer, or a refusal in one of the API's three error shapes.

use std::io;

use bytes::Bytes;
use serde_json::{Value, json};

/// An HTTP answer before the headers that every answer carries.
pub(super) struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
}

impl Answer {
    pub fn new(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        Self { status, headers: vec![("content-type".into(), content_type.into())], body: body.into() }
    }

    pub fn json(status: u16, body: &Value) -> Self {
        Self::new(status, "application/json", body.to_string())
    }

    /// A refusal as the `/api` functions write it.
    pub fn fail(status: u16, code: &str, message: &str) -> Self {
        let errors = json!([{"code": code, "message": message, "retryable": false}]);
        Self::json(status, &json!({"meta": {"status": status}, "data": [], "fail": [{"errors": errors}]}))
    }

    /// A request that the function's own checks refuse.
    pub fn invalid(message: &str) -> Self {
        Self::fail(400, "err_validation", message)
    }

    /// A refusal as the API 2.0 gateway writes it.
    pub fn flat(status: u16, code: &str, message: &str) -> Self {
        Self::json(status, &json!({"fail": [{"code": code, "message": message}]}))
    }

    /// A refusal as the object store behind the signed links writes it.
    pub fn xml(status: u16, code: &str, message: &str) -> Self {
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>"
        );
        Self::new(status, "application/xml", body)
    }

    /// A download named in `Content-Disposition`.
    pub fn file(name: &str, content_type: &str, body: impl Into<Bytes>) -> Self {
        Self::new(200, content_type, body).with("content-disposition", &format!("attachment; filename=\"{name}\""))
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn has(&self, name: &str) -> bool {
        self.headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name))
    }
}

impl From<io::Error> for Answer {
    fn from(error: io::Error) -> Self {
        Self::new(500, "text/plain", format!("simulator: {error}"))
    }
}

impl From<zip::result::ZipError> for Answer {
    fn from(error: zip::result::ZipError) -> Self {
        Self::new(500, "text/plain", format!("simulator: {error}"))
    }
}
