//! The answer of an endpoint that gives files: SIEM 1.0 and the threat feed.
//!
//! The same endpoint says in JSON that nothing is new, so that each body is either a file or says so; what does neither is an
//! error, because a file that passes for "nothing new" is lost.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use reqwest::header::CONTENT_DISPOSITION;
use tempfile::SpooledTempFile;

use crate::answer::Received;
use crate::envelope::Top;
use crate::refusal::Failed;
use crate::{Error, json};

/// The answer of an endpoint that gives files: SIEM 1.0 and the threat feed.
#[derive(Debug)]
pub struct FileAnswer {
    /// The file as transferred, or `None` where there is nothing new.
    pub file: Option<SpooledTempFile>,
    /// Its name from `Content-Disposition`.
    pub name: String,
    /// The token of the next file, from the header that was asked for.
    pub next: Option<String>,
    /// The server's time when it answered.
    pub at: DateTime<Utc>,
}

impl FileAnswer {
    pub(crate) fn read(mut received: Received, token_header: &str, token_required: bool) -> Result<Self, Failed> {
        let text = |name: &str| Some(received.headers.get(name)?.to_str().ok()?.trim().to_owned());
        let next = text(token_header).filter(|token| !token.is_empty());
        let name = text(CONTENT_DISPOSITION.as_str()).as_deref().and_then(file_name).unwrap_or_default();
        let (at, top) = (received.at, std::mem::take(&mut received.top));
        let (file, small) = received.file()?;
        let is_empty = small.as_ref().is_some_and(Bytes::is_empty);
        let is_file = small.map_or(Ok(true), |body| is_file(&body, top)).map_err(Failed::passing)?;
        if token_required && is_file && !is_empty && next.is_none() {
            // Without it the same file would come again for ever, as if it were new.
            return Err(Failed::passing(Error::Protocol(format!("a file without the header {token_header}"))));
        }
        Ok(Self { file: is_file.then_some(file), name, next, at })
    }
}

/// Whether `body` is a file; false: it says that nothing is new.
fn is_file(body: &Bytes, top: Top) -> Result<bool, Error> {
    if top.is_last() {
        return Ok(false);
    }
    match top.envelope() {
        Ok(Some(envelope)) => Ok(!envelope.rows.is_empty()),
        Ok(None) if json::trim(body).first() == Some(&b'{') && json::members(body).next().is_none() => {
            Err(Error::Protocol("an empty object in place of a file".into()))
        }
        Err(Failed { error: error @ Error::Protocol(_), .. }) => Err(error),
        // A document that breaks off is a file too: what it holds is a dead letter's business.
        Ok(None) | Err(_) => Ok(true),
    }
}

/// `filename` of `Content-Disposition`, last path component only.
fn file_name(disposition: &str) -> Option<String> {
    let (_, name) = disposition.split_once("filename=")?;
    let name = name.split(';').next()?.trim().trim_matches('"');
    name.rsplit(['/', '\\']).next().map(str::to_owned)
}
