//! The way to the file behind a signed link, redirects included.
//!
//! The links lead to an object store, which is not Mimecast: nothing of ours is sent there, and neither its clock nor its quota is
//! learned from.

use std::time::Duration;

use reqwest::header::LOCATION;
use reqwest::{Response, Url};
use tokio::time::Instant;

use crate::credentials::check_url;
use crate::refusal::Failed;
use crate::{Client, Error, Link};

/// Longest wait for one file.
const FILE_TIMEOUT: Duration = Duration::from_secs(120);
/// The most redirects that are followed one after the other.
const MOST_REDIRECTS: usize = 5;

impl Client {
    /// One try of a link, its redirects followed by hand: each step is looked at before it is taken.
    pub(crate) async fn follow(&self, link: &Link, until: Instant) -> Result<Response, Failed> {
        let refused =
            |status: u16, why: &str| Failed::lasting(Error::LinkRefused(format!("HTTP {status}, a redirect {why}")));
        let mut url = address(&link.url)
            .ok_or_else(|| Failed::lasting(Error::LinkRefused("a link that is no https:// URL".to_owned())))?;
        let mut redirects = 0;
        loop {
            let response = self.send(self.http().get(url.clone()), FILE_TIMEOUT, until).await?;
            let status = response.status().as_u16();
            if !matches!(status, 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            redirects += 1;
            if redirects > MOST_REDIRECTS {
                return Err(refused(status, "without an end"));
            }
            // What the header holds is not shown: it may be a signed link itself.
            let location = response.headers().get(LOCATION).ok_or_else(|| refused(status, "without a Location"))?;
            let next = location.to_str().ok().and_then(|location| url.join(location).ok());
            url = next.and_then(|next| address(next.as_str())).ok_or_else(|| refused(status, "to no https:// URL"))?;
        }
    }
}

/// An address that may be asked: `https`, or plain http to a simulator on loopback, and without a name and password in it,
/// which would be sent as `Authorization`.
pub(crate) fn address(url: &str) -> Option<Url> {
    check_url(url).ok()?;
    Url::parse(url).ok().filter(|url| url.username().is_empty() && url.password().is_none())
}
