//! An answer as it came: its body read to the end, a page in memory and a file into a temporary one.

use std::io::{Read, Seek, Write};

use bytes::{Bytes, BytesMut};
use chrono::{DateTime, Utc};
use reqwest::Response;
use reqwest::header::HeaderMap;
use tempfile::SpooledTempFile;

use crate::Error;
use crate::envelope::Top;
use crate::refusal::Failed;

/// What a file may hold in memory; above it the body goes to a temporary file.
const IN_MEMORY: usize = 8 << 20;
/// A file above this size is no JSON answer in a file's place.
const LARGEST_COMPLAINT: u64 = 1 << 20;
/// So many first bytes of a larger one tell whether it is markup.
const HEAD: u64 = 64 << 10;
/// Largest JSON answer (a page or a listing) that is read at all.
const LARGEST_PAGE: usize = 64 << 20;
/// Largest file that is read at all, as transferred.
const LARGEST_FILE: u64 = 1 << 30;

/// An answer, its body complete.
pub(crate) struct Received {
    pub headers: HeaderMap,
    pub at: DateTime<Utc>,
    pub body: Body,
    /// What is on top of a body that may be JSON.
    pub top: Top,
}

pub(crate) enum Body {
    /// A JSON answer.
    Page(Bytes),
    /// A file.
    File {
        file: SpooledTempFile,
        /// Its bytes once more where it is so small that it may be a JSON answer in a file's place.
        small: Option<Bytes>,
        /// An HTML page or an XML error in a file's place.
        is_markup: bool,
    },
}

impl Received {
    pub fn page(self) -> Result<Bytes, Failed> {
        match self.body {
            Body::Page(bytes) => Ok(bytes),
            Body::File { .. } => Err(Failed::lasting(Error::Protocol("a file in place of a page".into()))),
        }
    }

    pub fn file(self) -> Result<(SpooledTempFile, Option<Bytes>), Failed> {
        match self.body {
            Body::File { file, small, .. } => Ok((file, small)),
            Body::Page(_) => Err(Failed::lasting(Error::Protocol("a page in place of a file".into()))),
        }
    }
}

impl Body {
    /// Reads the body of a page to its end.
    pub async fn page(mut response: Response) -> Result<Self, Failed> {
        let mut page = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(transport)? {
            page.extend_from_slice(&chunk);
            if page.len() > LARGEST_PAGE {
                return Err(too_long(page.len() as u64, "; lower PAGE_SIZE"));
            }
        }
        Ok(Self::Page(without_mark(page.freeze())))
    }

    /// Reads the body of a file to its end.
    pub async fn file(mut response: Response) -> Result<Self, Failed> {
        let mut file = SpooledTempFile::new(IN_MEMORY);
        // Room for all of it at once; what is told may be a lie.
        let told = response.content_length().filter(|length| *length <= IN_MEMORY as u64);
        file.set_len(told.unwrap_or_default()).map_err(spool)?;
        let mut length = 0;
        while let Some(chunk) = response.chunk().await.map_err(transport)? {
            length += chunk.len() as u64;
            if length > LARGEST_FILE {
                return Err(too_long(length, ""));
            }
            file.write_all(&chunk).map_err(spool)?;
        }
        file.set_len(length).map_err(spool)?;
        file.rewind().map_err(spool)?;
        let mut head = Vec::new();
        (&mut file)
            .take(if length <= LARGEST_COMPLAINT { length } else { HEAD })
            .read_to_end(&mut head)
            .map_err(spool)?;
        file.rewind().map_err(spool)?;
        let head = without_mark(head.into());
        let is_markup = is_markup(&head);
        Ok(Self::File { file, small: (length <= LARGEST_COMPLAINT).then_some(head), is_markup })
    }

    /// What may be JSON that complains.
    pub fn json(&self) -> Option<&Bytes> {
        match self {
            Self::Page(bytes) => Some(bytes),
            Self::File { small, .. } => small.as_ref(),
        }
    }
}

/// Without a byte order mark: JSON that begins with one is no file.
fn without_mark(body: Bytes) -> Bytes {
    if body.starts_with(b"\xef\xbb\xbf") { body.slice(3..) } else { body }
}

/// Whether the first byte that is neither blank nor of a byte order mark (of UTF-8 or UTF-16) is `<`, as no file of events begins.
fn is_markup(head: &[u8]) -> bool {
    let passed = |byte: &u8| byte.is_ascii_whitespace() || b"\xef\xbb\xbf\xff\xfe\0".contains(byte);
    head.iter().find(|byte| !passed(byte)) == Some(&b'<')
}

/// What went wrong on the way, without the URL: that may hold a signature.
pub(crate) fn transport(error: reqwest::Error) -> Failed {
    let mut causes = std::iter::successors(Some(&error as &dyn std::error::Error), |error| (*error).source());
    let local = causes.any(|cause| cause.downcast_ref().is_some_and(is_local));
    let text = https::explain(error);
    Failed::passing(if local { Error::Local(text) } else { Error::Unavailable(text) })
}

/// Too many open files, of this process or of the machine, or no memory: nobody else's trouble.
fn is_local(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(23 | 24)) || error.kind() == std::io::ErrorKind::OutOfMemory
}

fn too_long(length: u64, advice: &str) -> Failed {
    Failed::lasting(Error::Protocol(format!("an answer of more than {length} bytes{advice}")))
}

fn spool(error: std::io::Error) -> Failed {
    Failed::lasting(Error::Local(format!("the temporary directory does not take the file: {error}")))
}

/// The first characters of an answer that nobody expected; of JSON none, as it may hold tokens.
pub(crate) fn start(body: &[u8]) -> String {
    if body.trim_ascii_start().first() == Some(&b'{') {
        return format!("{} bytes of JSON", body.len());
    }
    let shown: String = String::from_utf8_lossy(body.get(..body.len().min(80)).unwrap_or_default())
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    format!("{} bytes: `{shown}`", body.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_as_a_file_is_no_page() {
        for file in [
            &b"PK\x03\x04<"[..],
            b"\x1f\x8b\x08\0<",
            b"{\"a\":\"<\"}",
            b"a=<|b=2",
            b"MD5|<",
            b"",
            b" \r\n",
            b"\xef\xbb\xbf{}",
        ] {
            assert!(!is_markup(file), "{}", file.escape_ascii());
        }
        for page in [&b"<"[..], b"\xef\xbb\xbf <a", b"\xff\xfe<\0h\0", b"\xfe\xff\0<\0h", b"\n\n<?xml"] {
            assert!(is_markup(page), "{}", page.escape_ascii());
        }
    }

    #[test]
    fn too_many_open_files_are_this_machines_trouble_and_a_reset_is_not() {
        let of = |number| is_local(&std::io::Error::from_raw_os_error(number));
        assert!(of(24) && of(23) && of(12));
        assert!(!of(104) && !of(111) && !of(110));
    }
}
