//! A simulated Mimecast account: both APIs on one local port, as strict as the real ones.
//!
//! This file is the tester's side: what the account holds, how it answers, and what was asked of it. The API's own side
//! is in the modules below. Nothing here shares code with the product.

mod answer;
mod auth;
mod batch;
mod connection;
mod doubts;
mod envelope;
mod faults;
mod feed;
mod load;
mod server;
mod siem;
mod snapshots;
mod state;
mod windows;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http;
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};

pub use doubts::{DatesWithToken, Doubts, LastPage, Order, Totals};
pub use faults::{Fault, FaultKind};
pub use feed::stix_objects;
pub use siem::{SiemFormat, SiemMode};
use state::State;
pub(crate) use state::deflate;

/// A server with one account. It stops when dropped.
pub struct Mimecast {
    state: Arc<Mutex<State>>,
    stopped: Arc<AtomicBool>,
    task: Option<tokio::task::JoinHandle<()>>,
}

/// One request as it arrived, with the answer's status.
#[derive(Clone, Debug)]
pub struct Request {
    /// `GET` or `POST`, as sent.
    pub method: String,
    /// The path without the query.
    pub path: String,
    /// The query's pairs, decoded, in order.
    pub query: Vec<(String, String)>,
    /// Header names in lower case with their values.
    pub headers: Vec<(String, String)>,
    /// The body as text.
    pub body: String,
    /// The function the path belongs to (`audit`, `siem`, ...), `oauth`, `files`, or empty for an unknown path.
    pub source: &'static str,
    /// The answer's status; 0 while it is pending and where the connection was reset instead.
    pub status: u16,
}

impl Mimecast {
    /// Starts a server on a free port of 127.0.0.1. Must be called in a tokio runtime with I/O and time enabled.
    pub async fn start() -> io::Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let base_url = format!("http://{}", listener.local_addr()?);
        let state = Arc::new(Mutex::new(State::new(base_url, fastrand::Rng::new())));
        let stopped = Arc::new(AtomicBool::new(false));
        let task = Some(tokio::spawn(server::serve(listener, state.clone(), stopped.clone())));
        Ok(Self { state, stopped, task })
    }

    /// A server without a socket, asked by `exchange` alone: keys, tokens and ids follow from `seed`, and its clock shows `now`
    /// and goes on with tokio's.
    pub fn in_process(seed: u64, now: DateTime<Utc>) -> Self {
        let mut state = State::new("https://mimecast.simulated".to_owned(), fastrand::Rng::with_seed(seed));
        state.clock = Some((now, tokio::time::Instant::now()));
        Self { state: Arc::new(Mutex::new(state)), stopped: Arc::default(), task: None }
    }

    /// One request and its answer, at once. With `Some(n)` the connection breaks after `n` bytes of the answer's body, with
    /// `Some(0)` before its head.
    pub fn exchange(&self, request: http::Request<Bytes>) -> (http::Response<Bytes>, Option<usize>) {
        let (parts, body) = request.into_parts();
        server::exchange(&self.state, parts, body)
    }

    /// `http://127.0.0.1:<port>`: serves `/oauth/token`, `/api/...`, `/siem/v1/...` and the signed links under `/files/`.
    pub fn base_url(&self) -> String {
        self.state().base_url.clone()
    }

    /// The secret of an API 1.0 application, with the server's `base_url`.
    pub fn secret_v1(&self) -> String {
        let state = self.state();
        let keys = &state.keys_v1;
        serde_json::json!({
            "app_id": keys.app_id, "app_key": keys.app_key, "access_key": keys.access_key,
            "secret_key": keys.secret_key, "base_url": state.base_url,
        })
        .to_string()
    }

    /// The secret of an API 2.0 application, with the server's `base_url`.
    pub fn secret_v2(&self) -> String {
        let state = self.state();
        let keys = &state.keys_v2;
        serde_json::json!({
            "client_id": keys.client_id, "client_secret": keys.client_secret, "base_url": state.base_url,
        })
        .to_string()
    }

    /// New access and secret keys from now on; a signature with the old ones is refused.
    pub fn rotate_v1(&self) {
        self.state().rotate_v1();
    }

    /// New client id and secret from now on; the old ones and every issued token are refused.
    pub fn rotate_v2(&self) {
        self.state().rotate_v2();
    }

    /// Every issued OAuth token is refused from now on with 401 `token_expired`.
    pub fn expire_tokens(&self) {
        self.state().expire_tokens();
    }

    /// Adds a row, visible at once, to one of `audit`, `attachments`, `impersonation`, `url`, `search`, `view`,
    /// `messageholdlist`, `dlp`, `release` and `rejections`. It is sent byte for byte as given, valid JSON or not, and found by `time` (whole seconds).
    pub fn push(&self, source: &str, time: DateTime<Utc>, row: impl AsRef<[u8]>) {
        self.push_late(source, time, DateTime::<Utc>::MIN_UTC, row);
    }

    /// As `push`, but no request shows the row before the server's clock reads `visible_at`.
    pub fn push_late(&self, source: &str, time: DateTime<Utc>, visible_at: DateTime<Utc>, row: impl AsRef<[u8]>) {
        debug_assert!(windows::WINDOWS.iter().any(|window| window.source == source), "no such source: {source}");
        self.state().push(source, time, visible_at, Bytes::copy_from_slice(row.as_ref()));
    }

    /// Takes every row that contains `text` out of a source, as a released message leaves the hold queue.
    pub fn remove(&self, source: &str, text: &str) {
        if let Some(rows) = self.state().rows.get_mut(source) {
            rows.retain(|row| !contains(&row.bytes, text.as_bytes()));
        }
    }

    /// Publishes one SIEM file now. `kind` is an API 2.0 type name (`receipt`, `internal email protect`, ...; `entities`, `mailflow` and
    /// `urlclick` for Cloud Integrated) or any other; files of a kind that API 2.0 has no type for are listed there under `receipt`.
    pub fn push_siem(&self, kind: &str, lines: Vec<Vec<u8>>) {
        let now = self.state().now();
        self.push_siem_at(kind, now, lines);
    }

    /// As `push_siem`, published at `time`. Files are listed in the order of the calls, and kept for seven days.
    pub fn push_siem_at(&self, kind: &str, time: DateTime<Utc>, lines: Vec<Vec<u8>>) {
        self.state().push_siem(kind, time, lines.into_iter().map(Bytes::from).collect());
    }

    /// As `push_siem_at`, a file that is packed already, for API 2.0 alone: in 1.0 it is empty. For loads, of which many files
    /// may share their bytes.
    pub fn push_siem_gzip(&self, kind: &str, time: DateTime<Utc>, gzip: Bytes) {
        self.state().publish(kind, time, Vec::new(), gzip);
    }

    /// Adds a row to a threat feed, `malware_customer` or `malware_grid`: `MD5`, `SHA256`, `SenderAddress` and
    /// `Timestamp`, written as they are into a CSV file; as STIX it is the three `stix_objects`.
    pub fn push_feed(&self, feed: &str, time: DateTime<Utc>, fields: [&str; 4]) {
        let objects = stix_objects(fields).into_iter().map(Bytes::from).collect();
        self.state().push_feed(feed, time, Some(fields.join("|")), objects);
    }

    /// Adds objects to a threat feed that only a STIX download shows, byte for byte.
    pub fn push_stix(&self, feed: &str, time: DateTime<Utc>, objects: Vec<Vec<u8>>) {
        self.state().push_feed(feed, time, None, objects.into_iter().map(Bytes::from).collect());
    }

    /// How many entries one threat-feed download holds at most (default 25).
    pub fn set_feed_page(&self, entries: usize) {
        self.state().feed_page = entries.max(1);
    }

    /// Replaces the hold summary.
    pub fn set_summary(&self, rows: Vec<String>) {
        self.state().summary = rows.into_iter().map(Bytes::from).collect();
    }

    /// Replaces the dashboard's notifications.
    pub fn set_notices(&self, rows: Vec<String>) {
        self.state().notices = rows.into_iter().map(Bytes::from).collect();
    }

    /// Adds one dashboard notification.
    pub fn push_notice(&self, row: String) {
        self.state().notices.push(Bytes::from(row));
    }

    /// Whether `notifications` is the first notification itself, as documented, in place of a list.
    pub fn set_notice_as_object(&self, single: bool) {
        self.state().notice_as_object = single;
    }

    /// How SIEM files are served from now on.
    pub fn siem_mode(&self, mode: SiemMode) {
        self.state().siem_mode = mode;
    }

    /// Every request so far, in the order of arrival.
    pub fn requests(&self) -> Vec<Request> {
        self.state().requests.iter().map(|(_, request)| request.clone()).collect()
    }

    /// Forgets the requests so far.
    pub fn clear_requests(&self) {
        self.state().requests.clear();
    }

    /// Scripts a fault. Of several that match a request the first takes it.
    pub fn fault(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// How many requests a scripted fault has struck so far.
    pub fn struck(&self) -> usize {
        self.state().struck
    }

    /// Ends every scripted fault.
    pub fn clear_faults(&self) {
        self.state().faults.clear();
    }

    /// The server's clock.
    pub fn now(&self) -> DateTime<Utc> {
        self.state().now()
    }

    /// Moves the server's clock, and so its `Date` header, to `seconds` from the real time.
    pub fn set_clock_offset(&self, seconds: i64) {
        self.state().clock_offset = TimeDelta::try_seconds(seconds).unwrap_or_default();
    }

    /// Refuses the requests that match `text` (as in `Fault`) with 403 from now on.
    pub fn deny(&self, text: &str) {
        self.state().denied.push(text.to_owned());
    }

    /// Ends a `deny` of the same text.
    pub fn allow(&self, text: &str) {
        self.state().denied.retain(|denied| denied != text);
    }

    /// How far a stream token of this server stands for: a place among the files or feed entries.
    pub fn token_position(&self, token: &str) -> Option<u64> {
        let state = self.state();
        let sealed = ["siem", "batch", "feed"].into_iter().find_map(|kind| state.unseal(kind, token));
        sealed.and_then(|sealed| sealed["position"].as_u64())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Drop for Mimecast {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// A panic elsewhere must not hide what the server has seen, so a poisoned lock is taken as it is.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    part.is_empty() || text.windows(part.len()).any(|window| window == part)
}
