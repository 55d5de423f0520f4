//! The API client: sends one request, signed (1.0) or with a bearer token (2.0), and reads its answer.
//!
//! Retries, renews the token, keeps the server's clock, and turns every refusal into one typed error. What to ask and what
//! to do with the answer is the caller's.

use std::io::{Seek, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use chrono::{DateTime, Utc};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_DISPOSITION, CONTENT_TYPE, DATE, HeaderMap};
use reqwest::{RequestBuilder, Response};
use secrecy::ExposeSecret;
use serde::Deserialize;
use tempfile::SpooledTempFile;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::credentials::{Credentials, Keys, check_url};
use crate::envelope::Envelope;
use crate::refusal::{self, Fault};
use crate::retry::Tries;
use crate::token::Token;
use crate::{Clock, Error, Network, sign};

/// Longest wait for one answer of a JSON endpoint.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest wait for one file.
const FILE_TIMEOUT: Duration = Duration::from_secs(120);
/// The most that the server's clock may differ from ours and be believed.
const LARGEST_OFFSET_MS: i64 = 6 * 60 * 60 * 1000;
/// What a file may hold in memory; above it the body goes to a temporary file.
const IN_MEMORY: usize = 8 << 20;
/// A file above this size is no JSON answer in a file's place.
const LARGEST_COMPLAINT: u64 = 1 << 20;
/// Largest JSON answer (a page or a listing) that is read at all.
const LARGEST_PAGE: usize = 64 << 20;
/// Largest file that is read at all, as transferred.
const LARGEST_FILE: u64 = 1 << 30;

/// One account's door to Mimecast. Clones share the token, the connections and the server's clock.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
    calls: Calls,
    network: Option<Arc<dyn Network>>,
}

/// Counts what is asked of Mimecast. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Calls(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    requests: AtomicU64,
    rate_limit_waits: AtomicU64,
}

impl Calls {
    /// HTTP requests, tokens, retries and downloads included.
    pub fn requests(&self) -> u64 {
        self.0.requests.load(Relaxed)
    }

    /// How often Mimecast asked to wait (429), be it that the deadline left no time to.
    pub fn rate_limit_waits(&self) -> u64 {
        self.0.rate_limit_waits.load(Relaxed)
    }
}

#[derive(Debug)]
struct Shared {
    http: reqwest::Client,
    base_url: String,
    credentials: Credentials,
    clock: Clock,
    /// Server time minus ours, in milliseconds, as of the last answer.
    offset: AtomicI64,
    token: Mutex<Option<Token>>,
}

/// The answer of a JSON endpoint.
#[derive(Debug)]
pub struct Page {
    /// The envelope with its rows.
    pub envelope: Envelope,
    /// The server's time when it answered.
    pub at: DateTime<Utc>,
}

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

/// The answer of the SIEM 2.0 batch endpoint.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listing {
    /// Signed links to gzip NDJSON files.
    #[serde(default)]
    pub value: Vec<Link>,
    /// The token of the next page; given even when nothing is new.
    #[serde(rename = "@nextPage")]
    pub next: Option<String>,
    /// Nothing more at present.
    #[serde(default)]
    pub is_caught_up: bool,
    /// The server's time when it answered.
    #[serde(skip)]
    pub at: DateTime<Utc>,
}

/// One signed link. `Debug` does not show the signature.
#[derive(Deserialize, Clone)]
pub struct Link {
    url: String,
}

impl Link {
    /// The link without its signature: the same file has the same path under every signature.
    pub fn path(&self) -> &str {
        self.url.split(['?', '#']).next().unwrap_or_default()
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.path())
    }
}

/// What to send.
enum Call<'a> {
    Post { path: &'a str, body: &'a str, file: bool },
    Get { path: &'a str, query: &'a [(&'a str, &'a str)] },
    Link(&'a Link),
}

impl Call<'_> {
    /// For people: which endpoint or file.
    fn origin(&self) -> &str {
        match self {
            Self::Post { path, .. } | Self::Get { path, .. } => path,
            Self::Link(link) => link.path(),
        }
    }
}

/// An answer as it came, its body complete.
struct Received {
    headers: HeaderMap,
    at: DateTime<Utc>,
    body: Body,
}

enum Body {
    /// A JSON answer.
    Page(Bytes),
    /// A file, and its bytes once more where it is so small that it may be a JSON answer in a file's place.
    File(SpooledTempFile, Option<Bytes>),
}

impl Client {
    /// A client for `base_url` (as [`Credentials::base_url`] gives it).
    ///
    /// # Errors
    /// `Configuration`, where TLS cannot be set up on this machine.
    pub fn new(credentials: Credentials, base_url: String, clock: Clock) -> Result<Self, Error> {
        let mut http = reqwest::Client::builder()
            .user_agent(concat!("mimecast-devo/", env!("CARGO_PKG_VERSION")))
            .tls_version_min(reqwest::tls::Version::TLS_1_2)
            // A redirect could carry the credentials to another host.
            .redirect(reqwest::redirect::Policy::none())
            // Lambda freezes between runs, and a socket that was frozen is likely dead.
            .pool_idle_timeout(Duration::from_secs(20))
            .connect_timeout(Duration::from_secs(10));
        if base_url.starts_with("http://") {
            // On loopback a proxy would only carry the keys away, in clear.
            http = http.no_proxy();
        }
        let http = http.build().map_err(|e| Error::Configuration(format!("TLS cannot be set up: {e}")))?;
        let shared = Shared { http, base_url, credentials, clock, offset: AtomicI64::new(0), token: Mutex::new(None) };
        Ok(Self { shared: Arc::new(shared), calls: Calls::default(), network: None })
    }

    /// The same door with `network` behind it, for simulations.
    #[must_use]
    pub fn over(self, network: Arc<dyn Network>) -> Self {
        Self { network: Some(network), ..self }
    }

    /// The same door, counted by `calls`.
    #[must_use]
    pub fn counted(&self, calls: &Calls) -> Self {
        Self { calls: calls.clone(), ..self.clone() }
    }

    /// Whether the keys are for API 2.0.
    pub fn is_v2(&self) -> bool {
        self.shared.credentials.is_v2()
    }

    /// The server's time, as far as its `Date` headers have told it; ours before the first answer.
    pub fn now(&self) -> DateTime<Utc> {
        self.shared.clock.now() + chrono::TimeDelta::milliseconds(self.shared.offset.load(Relaxed))
    }

    /// One page of a JSON endpoint.
    ///
    /// # Errors
    /// Any of [`Error`], after retries within the time left.
    pub async fn page(&self, path: &str, body: &str, until: Instant) -> Result<Page, Error> {
        self.call(&Call::Post { path, body, file: false }, until, |received| {
            let (at, body) = (received.at, received.page()?);
            match Envelope::read(&body) {
                Ok(Some(envelope)) => Ok(Page { envelope, at }),
                Ok(None) => Err(Fault::again(Error::Protocol(format!("{path}: no JSON envelope, {}", start(&body))))),
                Err(error) => Err(Fault::again(error)),
            }
        })
        .await
    }

    /// One file of an endpoint that answers with files and puts the next token into the header `token_header`.
    ///
    /// # Errors
    /// Any of [`Error`], after retries within the time left.
    pub async fn file(&self, path: &str, body: &str, token_header: &str, until: Instant) -> Result<FileAnswer, Error> {
        self.call(&Call::Post { path, body, file: true }, until, |received| {
            let text = |name: &str| Some(received.headers.get(name)?.to_str().ok()?.trim().to_owned());
            let next = text(token_header).filter(|token| !token.is_empty());
            let name = text(CONTENT_DISPOSITION.as_str()).as_deref().and_then(file_name).unwrap_or_default();
            let (at, (file, small)) = (received.at, received.file()?);
            // Nothing new is an envelope without data.
            let nothing = match small {
                // A document that breaks off is a file too: what it holds is a dead letter's business.
                Some(body) => matches!(Envelope::read(&body), Ok(Some(_))),
                None => false,
            };
            Ok(FileAnswer { file: (!nothing).then_some(file), name, next, at })
        })
        .await
    }

    /// One page of signed links.
    ///
    /// # Errors
    /// Any of [`Error`], after retries within the time left.
    pub async fn listing(&self, path: &str, query: &[(&str, &str)], until: Instant) -> Result<Listing, Error> {
        self.call(&Call::Get { path, query }, until, |received| {
            let (at, body) = (received.at, received.page()?);
            // The parser's text or the body may show a signed link.
            let listing: Listing = serde_json::from_slice(&body).map_err(|e| {
                let (line, column) = (e.line(), e.column());
                Fault::again(Error::Protocol(format!("{path}: no listing of links (line {line}, column {column})")))
            })?;
            Ok(Listing { at, ..listing })
        })
        .await
    }

    /// The file behind a signed link. No credentials are sent: the signature in the link is all.
    ///
    /// # Errors
    /// `Unreadable` for a link that nobody should follow, `LinkGone` for 403, 404, 410 and 400 (as S3 answers an expired link); else any of [`Error`], after retries within the time left.
    pub async fn download(&self, link: &Link, until: Instant) -> Result<SpooledTempFile, Error> {
        // Plain http only from a simulator, which is itself on loopback.
        check_url(&link.url).map_err(|_| Error::Unreadable {
            raw: Bytes::copy_from_slice(link.path().as_bytes()),
            reason: "a link that is no https:// URL".to_owned(),
        })?;
        self.call(&Call::Link(link), until, |received| Ok(received.file()?.0)).await
    }

    async fn call<T>(
        &self,
        call: &Call<'_>,
        until: Instant,
        read: impl Fn(Received) -> Result<T, Fault>,
    ) -> Result<T, Error> {
        let mut tries = Tries::new(until);
        let mut renewed = false;
        loop {
            let outcome = match self.once(call, until).await {
                Ok(received) => read(received),
                Err(fault) => Err(fault),
            };
            match outcome {
                Ok(answer) => return Ok(answer),
                // A token may have been revoked, our clock may have been wrong, and `App ID is invalid` is at times a
                // false alarm: once more with all of it fresh.
                Err(Fault { error: Error::Credentials(reason), .. }) if !renewed => {
                    tracing::warn!(%reason, "once more with a fresh token");
                    renewed = true;
                    *self.shared.token.lock().await = None;
                }
                Err(Fault { error, again: true }) => {
                    let limited = matches!(error, Error::RateLimited { .. });
                    self.calls.0.rate_limit_waits.fetch_add(limited.into(), Relaxed);
                    tries.wait(error).await?;
                }
                Err(Fault { error, again: false }) => return Err(error),
            }
        }
    }

    /// One try of one request.
    async fn once(&self, call: &Call<'_>, until: Instant) -> Result<Received, Fault> {
        let Shared { http, base_url, .. } = &*self.shared;
        let json = "application/json";
        let (request, longest) = match call {
            Call::Post { path, body, .. } => {
                let request = http.post(format!("{base_url}{path}")).header(CONTENT_TYPE, json);
                let request = request.header(ACCEPT, "*/*").body((*body).to_owned());
                (self.authorized(request, path, until).await?, ANSWER_TIMEOUT)
            }
            Call::Get { path, query } => {
                let request = http.get(format!("{base_url}{path}")).query(query).header(ACCEPT, json);
                (self.authorized(request, path, until).await?, ANSWER_TIMEOUT)
            }
            Call::Link(link) => (http.get(&link.url), FILE_TIMEOUT),
        };
        let response = self.send(request, longest, until).await.map_err(|e| e.at(call.origin()))?;
        let (status, at) = (response.status(), self.now());
        tracing::debug!(origin = call.origin(), status = status.as_u16(), "mimecast answered");
        let headers = response.headers().clone();
        let link = matches!(call, Call::Link(_));
        let file = matches!(call, Call::Link(_) | Call::Post { file: true, .. });
        let body = receive(response, file).await.map_err(|e| e.at(call.origin()))?;
        let complaint = match &body {
            _ if link => None,
            Body::Page(bytes) => Some(&**bytes),
            Body::File(_, small) => small.as_deref(),
        };
        refusal::check(status, &headers, complaint, link, at).map_err(|e| e.at(call.origin()))?;
        Ok(Received { headers, at, body })
    }

    /// Sends, within what is left of the time, and learns the server's clock.
    async fn send(&self, request: RequestBuilder, longest: Duration, until: Instant) -> Result<Response, Fault> {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Fault::last(Error::Unavailable("no time left for another request".into())));
        }
        self.calls.0.requests.fetch_add(1, Relaxed);
        let request = request.timeout(left.min(longest)).build().map_err(transport)?;
        let response = match &self.network {
            None => self.shared.http.execute(request).await,
            Some(network) => network.execute(request).await,
        }
        .map_err(transport)?;
        let date = response.headers().get(DATE).and_then(|date| date.to_str().ok());
        if let Some(server) = date.and_then(|date| DateTime::parse_from_rfc2822(date).ok()) {
            // `Date` has whole seconds: half a second is its mean error.
            let offset = server.timestamp_millis() + 500 - self.shared.clock.now().timestamp_millis();
            // What differs more is nobody's clock but a mistake, and must not carry a checkpoint away.
            let believed = if (2_000..=LARGEST_OFFSET_MS).contains(&offset.abs()) { offset } else { 0 };
            self.shared.offset.store(believed, Relaxed);
        }
        Ok(response)
    }

    async fn authorized(&self, request: RequestBuilder, path: &str, until: Instant) -> Result<RequestBuilder, Fault> {
        match &self.shared.credentials.keys {
            Keys::V1(keys) => {
                let (date, id) = (sign::date(self.now()), uuid::Uuid::new_v4().to_string());
                Ok(request
                    .header(AUTHORIZATION, sensitive(&sign::authorization(keys, &date, &id, path))?)
                    .header("x-mc-app-id", sensitive(keys.app_id.expose_secret())?)
                    .header("x-mc-date", date)
                    .header("x-mc-req-id", id))
            }
            Keys::V2(keys) => {
                let mut cached = self.shared.token.lock().await;
                if cached.as_ref().is_none_or(Token::is_stale) {
                    let url = format!("{}{}", self.shared.base_url, crate::token::PATH);
                    let form = self.shared.http.post(url).form(&crate::token::form(keys));
                    let response =
                        self.send(form, ANSWER_TIMEOUT, until).await.map_err(|e| e.at(crate::token::PATH))?;
                    *cached = Some(Token::read(response, self.now()).await?);
                }
                match &*cached {
                    Some(token) => Ok(request.header(AUTHORIZATION, sensitive(&token.bearer())?)),
                    None => Err(Fault::last(Error::Protocol("no token".into()))),
                }
            }
        }
    }
}

impl Received {
    fn page(self) -> Result<Bytes, Fault> {
        match self.body {
            Body::Page(bytes) => Ok(bytes),
            Body::File(..) => Err(Fault::last(Error::Protocol("a file in place of a page".into()))),
        }
    }

    fn file(self) -> Result<(SpooledTempFile, Option<Bytes>), Fault> {
        match self.body {
            Body::File(file, small) => Ok((file, small)),
            Body::Page(_) => Err(Fault::last(Error::Protocol("a page in place of a file".into()))),
        }
    }
}

/// Reads the body to its end: a page in memory, a file's first part in memory and the rest in a temporary file.
async fn receive(mut response: Response, file: bool) -> Result<Body, Fault> {
    let mut page = BytesMut::new();
    let mut spooled = SpooledTempFile::new(IN_MEMORY);
    let mut length = 0;
    while let Some(chunk) = response.chunk().await.map_err(transport)? {
        length += chunk.len() as u64;
        if file {
            spooled.write_all(&chunk).map_err(spool)?;
        }
        if !file || length <= LARGEST_COMPLAINT {
            page.extend_from_slice(&chunk);
        }
        if length > LARGEST_FILE || page.len() > LARGEST_PAGE {
            let advice = if file { "" } else { "; lower PAGE_SIZE" };
            return Err(Fault::last(Error::Protocol(format!("an answer of more than {length} bytes{advice}"))));
        }
    }
    spooled.rewind().map_err(spool)?;
    let small = (length <= LARGEST_COMPLAINT).then(|| page.clone().freeze());
    Ok(if file { Body::File(spooled, small) } else { Body::Page(page.freeze()) })
}

fn transport(error: reqwest::Error) -> Fault {
    // The URL may hold a signature.
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    Fault::again(Error::Unavailable(text))
}

fn spool(error: std::io::Error) -> Fault {
    Fault::last(Error::Unavailable(format!("the temporary directory does not take the answer: {error}")))
}

fn sensitive(value: &str) -> Result<reqwest::header::HeaderValue, Fault> {
    let mut header = reqwest::header::HeaderValue::from_str(value).map_err(|_| {
        Fault::last(Error::Configuration("a key in the Mimecast secret has characters that no header can carry".into()))
    })?;
    header.set_sensitive(true);
    Ok(header)
}

/// `filename` of `Content-Disposition`, last path component only.
fn file_name(disposition: &str) -> Option<String> {
    let (_, name) = disposition.split_once("filename=")?;
    let name = name.split(';').next()?.trim().trim_matches('"');
    name.rsplit(['/', '\\']).next().map(str::to_owned)
}

/// The first characters of an answer that nobody expected; of JSON none, as it may hold tokens.
fn start(body: &[u8]) -> String {
    if body.trim_ascii_start().first() == Some(&b'{') {
        return format!("{} bytes of JSON", body.len());
    }
    let shown: String = String::from_utf8_lossy(body.get(..body.len().min(80)).unwrap_or_default())
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    format!("{} bytes: `{shown}`", body.len())
}
