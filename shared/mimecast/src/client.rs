//! The API client: sends one request, signed (1.0) or with a bearer token (2.0), and reads its answer.
//!
//! Retries, renews the token, keeps the server's clock, and turns every refusal into one typed error. What to ask and what
//! to do with the answer is the caller's.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use reqwest::{RequestBuilder, Response};
use secrecy::ExposeSecret;
use tempfile::SpooledTempFile;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::answer::{Body, Received, start, transport};
use crate::calls::Calls;
use crate::clock::ServerClock;
use crate::credentials::{Credentials, Keys};
use crate::download::address;
use crate::envelope::{Envelope, Rows, Top};
use crate::file::FileAnswer;
use crate::listing::{Link, Listing};
use crate::quota::Quotas;
use crate::refusal::{self, Failed};
use crate::retry::Tries;
use crate::token::Token;
use crate::{Clock, Error, Network, sign};

/// Longest wait for one answer of a JSON endpoint.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// One account's door to Mimecast. Clones share the token, the connections, the quota and the server's clock.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
    calls: Calls,
    network: Option<Arc<dyn Network>>,
}

#[derive(Debug)]
struct Shared {
    http: reqwest::Client,
    base_url: String,
    credentials: Credentials,
    clock: ServerClock,
    quotas: Quotas,
    token: Mutex<Option<Token>>,
}

/// The answer of a JSON endpoint.
#[derive(Debug)]
pub struct Page {
    /// As sent.
    pub rows: Vec<Bytes>,
    /// The token of the next page.
    pub next: Option<String>,
    /// How many rows the whole reading has.
    pub total: Option<u64>,
    /// The server's time when it answered.
    pub at: DateTime<Utc>,
}

/// What to send.
enum Call<'a> {
    /// Answered with a page that has rows, or with a file.
    Post {
        path: &'a str,
        body: &'a str,
        rows: Option<Rows>,
    },
    Get {
        path: &'a str,
        query: &'a [(&'a str, &'a str)],
    },
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

impl Client {
    /// A client for `base_url` (as [`Credentials::base_url`] gives it).
    ///
    /// # Errors
    /// `Configuration`, where TLS cannot be set up on this machine.
    pub fn new(credentials: Credentials, base_url: String, clock: Clock) -> Result<Self, Error> {
        let http = https::client(&base_url).map_err(|error| Error::Configuration(error.to_string()))?;
        let (clock, quotas, token) = (ServerClock::new(clock), Quotas::default(), Mutex::new(None));
        let shared = Shared { http, base_url, credentials, clock, quotas, token };
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

    /// What has been asked so far.
    pub fn calls(&self) -> &Calls {
        &self.calls
    }

    /// Whether the keys are for API 2.0.
    pub fn is_v2(&self) -> bool {
        self.shared.credentials.is_v2()
    }

    /// Scheme and host, without a slash at the end.
    pub fn base_url(&self) -> &str {
        &self.shared.base_url
    }

    /// The server's time, as far as its `Date` headers have told it; ours before the first answer.
    pub fn now(&self) -> DateTime<Utc> {
        self.shared.clock.now()
    }

    /// How far the server's clock is ahead of ours, as of its last answer; less than two seconds count as none.
    pub fn clock_offset(&self) -> TimeDelta {
        self.shared.clock.offset()
    }

    /// One page of a JSON endpoint, whose rows are in `rows`.
    ///
    /// # Errors
    /// Any of [`Error`], after retries within the time left.
    pub async fn page(&self, path: &str, rows: Rows, body: &str, until: Instant) -> Result<Page, Error> {
        self.call(&Call::Post { path, body, rows: Some(rows) }, until, |mut received| {
            let (at, top) = (received.at, std::mem::take(&mut received.top));
            match top.envelope().map_err(|failed| failed.at(path))? {
                Some(Envelope { rows, next, total }) => Ok(Page { rows, next, total, at }),
                None => {
                    let text = format!("no JSON envelope, {}", start(&received.page()?));
                    Err(Failed::passing(Error::Protocol(text)).at(path))
                }
            }
        })
        .await
    }

    /// One file of an endpoint that answers with files and puts the next token into the header `token_header`. Where that is
    /// required, a file without it is an error.
    ///
    /// # Errors
    /// Any of [`Error`], after retries within the time left.
    pub async fn file(
        &self,
        path: &str,
        body: &str,
        token_header: &str,
        token_required: bool,
        until: Instant,
    ) -> Result<FileAnswer, Error> {
        self.call(&Call::Post { path, body, rows: None }, until, |received| {
            FileAnswer::read(received, token_header, token_required).map_err(|e| e.at(path))
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
            Listing::read(&body, at).map_err(|error| Failed::passing(error).at(path))
        })
        .await
    }

    /// The file behind a signed link. No credentials are sent: the signature in the link is all.
    ///
    /// # Errors
    /// `Unreadable` for a link that nobody should follow; `LinkRefused`, where its store answers what no further try changes; else
    /// any of [`Error`], after retries within the time left.
    pub async fn download(&self, link: &Link, until: Instant) -> Result<SpooledTempFile, Error> {
        address(&link.url).ok_or_else(|| Error::Unreadable {
            raw: Bytes::copy_from_slice(link.path().as_bytes()),
            reason: "a link that is no https:// URL".to_owned(),
        })?;
        self.call(&Call::Link(link), until, |received| Ok(received.file()?.0)).await
    }

    async fn call<T>(
        &self,
        call: &Call<'_>,
        until: Instant,
        read: impl Fn(Received) -> Result<T, Failed>,
    ) -> Result<T, Error> {
        let mut tries = Tries::new(until);
        let mut renewed = false;
        loop {
            let outcome = match self.once(call, until).await {
                Ok(received) => read(received),
                Err(failed) => Err(failed),
            };
            match outcome {
                Ok(answer) => return Ok(answer),
                // A token may have been revoked, our clock may have been wrong, and `App ID is invalid` is at times a
                // false alarm: once more with all of it fresh.
                Err(Failed { error: Error::Credentials(reason), .. }) if !renewed => {
                    tracing::warn!(%reason, "once more with a fresh token");
                    renewed = true;
                    *self.shared.token.lock().await = None;
                }
                Err(Failed { error, retry: true }) => {
                    if matches!(error, Error::RateLimited { .. }) {
                        self.calls.rate_limit_wait();
                    }
                    tries.wait(error).await?;
                }
                Err(Failed { error, retry: false }) => return Err(error),
            }
        }
    }

    /// One try of one request.
    async fn once(&self, call: &Call<'_>, until: Instant) -> Result<Received, Failed> {
        let link = matches!(call, Call::Link(_));
        let (file, rows) = match call {
            Call::Post { rows: Some(rows), .. } => (false, *rows),
            Call::Post { rows: None, .. } | Call::Link(_) => (true, Rows::Flat),
            Call::Get { .. } => (false, Rows::Flat),
        };
        let origin = call.origin();
        let response = match call {
            Call::Link(link) => self.follow(link, until).await.map_err(|e| e.at(origin))?,
            _ => self.ask(call, until).await?,
        };
        let (status, at) = (response.status(), self.now());
        tracing::debug!(origin, status = status.as_u16(), "mimecast answered");
        let headers = response.headers().clone();
        let body = if file { Body::file(response).await } else { Body::page(response).await };
        let body = body.map_err(|e| e.at(origin))?;
        let top = body.json().filter(|_| !link).map(|body| Top::read(body, rows)).unwrap_or_default();
        refusal::check(status, &headers, top.complaint(), link, at).map_err(|e| e.at(origin))?;
        if matches!(body, Body::File { is_markup: true, .. }) {
            // Of something in between: taken for a file it would be a dead letter, and the file itself lost.
            let text = "an HTML or XML page in place of the file".to_owned();
            return Err(Failed::passing(Error::Unavailable(text)).at(origin));
        }
        Ok(Received { headers, at, body, top })
    }

    /// Asks the API, as soon as its quota allows.
    async fn ask(&self, call: &Call<'_>, until: Instant) -> Result<Response, Failed> {
        let Shared { http, base_url, quotas, clock, .. } = &*self.shared;
        let origin = call.origin();
        let quota = quotas.of(origin);
        // Before the request is signed: a signature has its time in it.
        let permit = quota.take(until).await.map_err(|wait| {
            let message = "nothing is left of what the last answer stated".to_owned();
            Failed::passing(Error::RateLimited { wait, message }).at(origin)
        })?;
        let json = "application/json";
        let request = match call {
            Call::Post { path, body, .. } => http
                .post(format!("{base_url}{path}"))
                .header(CONTENT_TYPE, json)
                .header(ACCEPT, "*/*")
                .body((*body).to_owned()),
            Call::Get { path, query } => http.get(format!("{base_url}{path}")).query(query).header(ACCEPT, json),
            Call::Link(_) => return Err(Failed::lasting(Error::Protocol("a link is none of the API's".into()))),
        };
        let request = self.authorized(request, origin, until).await?;
        let response = self.send(request, ANSWER_TIMEOUT, until).await.map_err(|e| e.at(origin))?;
        permit.answered(response.status(), response.headers(), self.now());
        clock.learn(response.headers()).map_err(|error| Failed::passing(error).at(origin))?;
        Ok(response)
    }

    /// Sends, within what is left of the time.
    pub(crate) async fn send(
        &self,
        request: RequestBuilder,
        longest: Duration,
        until: Instant,
    ) -> Result<Response, Failed> {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Failed::lasting(Error::Unavailable("no time left for another request".into())));
        }
        self.calls.request();
        let request = request.timeout(left.min(longest)).build().map_err(transport)?;
        match &self.network {
            None => self.http().execute(request).await,
            Some(network) => network.execute(request).await,
        }
        .map_err(transport)
    }

    pub(crate) fn http(&self) -> &reqwest::Client {
        &self.shared.http
    }

    async fn authorized(&self, request: RequestBuilder, path: &str, until: Instant) -> Result<RequestBuilder, Failed> {
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
                    let learned = self.shared.clock.learn(response.headers());
                    learned.map_err(|error| Failed::passing(error).at(crate::token::PATH))?;
                    *cached = Some(Token::read(response, self.now()).await?);
                }
                match &*cached {
                    Some(token) => Ok(request.header(AUTHORIZATION, sensitive(&token.bearer())?)),
                    None => Err(Failed::lasting(Error::Protocol("no token".into()))),
                }
            }
        }
    }
}

fn sensitive(value: &str) -> Result<reqwest::header::HeaderValue, Failed> {
    let mut header = reqwest::header::HeaderValue::from_str(value).map_err(|_| {
        Failed::lasting(Error::Configuration(
            "a key in the Mimecast secret has characters that no header can carry".into(),
        ))
    })?;
    header.set_sensitive(true);
    Ok(header)
}
