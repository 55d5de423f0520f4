//! The way of a request: log, scripted fault, credentials, quota, permission, function, common headers.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::connect_info::ConnectInfo;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Response};
use bytes::Bytes;
use serde_json::Value;

use super::answer::Answer;
use super::batch::{LISTINGS, Listing};
use super::connection::{Listening, SlowBody, Switch};
use super::faults::FaultKind;
use super::load::{InFlight, Load};
use super::state::{State, gzip};
use super::windows::{WINDOWS, Window};
use super::{Request, auth, batch, contains, feed, lock, siem, snapshots, windows};

/// No request of this API comes near.
const LARGEST_BODY: usize = 1 << 20;
/// From here on an answer is packed for a client that offers gzip.
const PACKED_FROM: usize = 1000;

/// One request, read.
pub(super) struct Call {
    pub method: String,
    pub path: String,
    pub query: Vec<(String, String)>,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub fault: Option<FaultKind>,
    /// The request's number in the log.
    number: u64,
    /// Follows from the number without a pattern; varies the writing of the answer.
    pub turn: u64,
    /// Path, decoded query and body, for scripts to match.
    text: String,
}

impl Call {
    pub fn matches(&self, text: &str) -> bool {
        contains(self.text.as_bytes(), text.as_bytes())
    }

    /// A header's text, empty where it is absent or no text.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The value of a parameter of the query.
    pub fn parameter(&self, wanted: &str) -> Option<&str> {
        self.query.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
    }

    /// Whether it asks for a file behind a signed link, which is no call of the API.
    pub fn is_for_a_file(&self) -> bool {
        batch::is_file(&self.path)
    }

    /// Whether the body is JSON with a non-empty text under this key, at any depth.
    pub fn body_has_text(&self, key: &str) -> bool {
        fn found(value: &Value, key: &str) -> bool {
            match value {
                Value::Object(members) => members.iter().any(|(name, value)| {
                    (name == key && value.as_str().is_some_and(|text| !text.is_empty())) || found(value, key)
                }),
                Value::Array(elements) => elements.iter().any(|value| found(value, key)),
                _ => false,
            }
        }
        serde_json::from_slice(&self.body).is_ok_and(|body| found(&body, key))
    }
}

/// What a path leads to.
enum Function {
    Window(&'static Window),
    Summary,
    Dashboard,
    Feed,
    SiemLogs,
    SiemBatch(&'static Listing),
    Token,
    Files,
}

impl Function {
    fn find(path: &str) -> Option<Self> {
        if let Some(window) = WINDOWS.iter().find(|window| window.path == path) {
            return Some(Self::Window(window));
        }
        if let Some(listing) = LISTINGS.iter().find(|listing| listing.path == path) {
            return Some(Self::SiemBatch(listing));
        }
        Some(match path {
            "/api/gateway/get-hold-summary-list" => Self::Summary,
            "/api/account/get-dashboard-notifications" => Self::Dashboard,
            "/api/ttp/threat-intel/get-feed" => Self::Feed,
            "/api/audit/get-siem-logs" => Self::SiemLogs,
            "/oauth/token" => Self::Token,
            _ if batch::is_file(path) => Self::Files,
            _ => return None,
        })
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Window(window) => window.source,
            Self::Summary => "messageholdsummary",
            Self::Dashboard => "dashboard",
            Self::Feed => "threatfeed",
            Self::SiemLogs => "siem",
            Self::SiemBatch(listing) => listing.source,
            Self::Token => "oauth",
            Self::Files => "files",
        }
    }
}

pub(super) async fn serve(listener: tokio::net::TcpListener, state: Arc<Mutex<State>>, stopped: Arc<AtomicBool>) {
    let router = Router::new().fallback(handle).with_state(state);
    let service = router.into_make_service_with_connect_info::<Switch>();
    // Ends only by being aborted: `serve` itself never fails.
    axum::serve(Listening { listener, stopped }, service).await.ok();
}

async fn handle(
    axum::extract::State(state): axum::extract::State<Arc<Mutex<State>>>,
    ConnectInfo(switch): ConnectInfo<Switch>,
    request: axum::extract::Request,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, LARGEST_BODY).await else {
        return respond(Answer::new(400, "text/plain", "the body is cut or too large")).map(Body::from);
    };
    let _in_flight = InFlight::begin(&state);
    let call = lock(&state).begin(read(parts, body));
    let delay = lock(&state).delay(&call);
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    let (answer, cut) = lock(&state).exchange(&call);
    if let Some(body) = cut {
        let line = 17; // "HTTP/1.1 200 OK\r\n"
        let head: usize = answer.headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
        let reset = matches!(call.fault, Some(FaultKind::ResetAfterHead));
        switch.cut(if body == 0 { 0 } else { line + head + 2 + body }, reset);
    }
    match call.fault {
        Some(FaultKind::SlowBody(time)) => respond(answer).map(|body| Body::new(SlowBody::new(body, time))),
        _ => respond(answer).map(Body::from),
    }
}

/// One request and its answer without a connection; a hang is nothing here. The number: how many bytes of the body arrive
/// before the connection breaks, 0 for not even the head.
pub(super) fn exchange(state: &Mutex<State>, parts: Parts, body: Bytes) -> (Response<Bytes>, Option<usize>) {
    let mut state = lock(state);
    let call = state.begin(read(parts, body));
    let (answer, cut) = state.exchange(&call);
    (respond(answer), cut)
}

fn read(parts: Parts, body: Bytes) -> Call {
    let path = parts.uri.path().to_owned();
    let query = pairs(parts.uri.query().unwrap_or_default());
    let decoded: Vec<String> = query.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let text = format!("{path}?{} {}", decoded.join("&"), String::from_utf8_lossy(&body));
    Call {
        method: parts.method.to_string(),
        path,
        query,
        headers: parts.headers,
        body,
        fault: None,
        number: 0,
        turn: 0,
        text,
    }
}

fn respond(answer: Answer) -> Response<Bytes> {
    let mut response = Response::builder().status(answer.status);
    for (name, value) in &answer.headers {
        response = response.header(name, value);
    }
    response.body(answer.body).unwrap_or_else(|error| {
        let mut response = Response::new(Bytes::from(format!("simulator: {error}")));
        *response.status_mut() = axum::http::StatusCode::INTERNAL_SERVER_ERROR;
        response
    })
}

impl Answer {
    fn with_length(self) -> Self {
        let length = self.body.len().to_string();
        self.with("content-length", &length)
    }
}

impl State {
    /// Logs a request and finds the fault that strikes it.
    fn begin(&mut self, mut call: Call) -> Call {
        self.calls += 1;
        call.number = self.calls;
        // Fibonacci hashing: a client's own rhythm must not decide which variant it always sees.
        call.turn = self.calls.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        let headers = call.headers.iter();
        let request = Request {
            method: call.method.clone(),
            path: call.path.clone(),
            query: call.query.clone(),
            headers: headers
                .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into()))
                .collect(),
            body: String::from_utf8_lossy(&call.body).into(),
            source: Function::find(&call.path).map_or("", |function| function.name()),
            status: 0,
        };
        self.requests.push((call.number, request));
        call.fault = self.faults.iter_mut().find_map(|fault| fault.strikes(&call));
        self.struck += usize::from(call.fault.is_some());
        call
    }

    /// How long the answer to a call takes.
    fn delay(&self, call: &Call) -> Duration {
        let Load { latency, file_latency, .. } = self.load;
        let latency = if call.is_for_a_file() { file_latency } else { latency };
        match call.fault {
            Some(FaultKind::Hang(delay)) => latency + delay,
            _ => latency,
        }
    }

    /// Logs the status of an answer, unless the log was cleared meanwhile.
    fn end(&mut self, number: u64, status: u16) {
        if let Some((_, request)) = self.requests.iter_mut().rev().find(|(known, _)| *known == number) {
            request.status = status;
        }
    }

    /// The answer as it goes out, with its length, and after how many bytes of its body the connection is cut.
    fn exchange(&mut self, call: &Call) -> (Answer, Option<usize>) {
        let mut answer = self.answer(call);
        if let Some(spoilt) = call.fault.as_ref().and_then(|fault| fault.spoil(&answer.body)) {
            answer.body = spoilt.into();
        }
        let packed = answer.body.len() > PACKED_FROM
            && answer.has("content-type")
            && answer.headers.iter().any(|(_, value)| value == "application/json")
            && call.header("accept-encoding").to_lowercase().contains("gzip");
        if packed {
            answer.body = gzip(&answer.body).into();
            answer = answer.with("content-encoding", "gzip");
        }
        let cut = match call.fault {
            Some(FaultKind::ResetBeforeAnswer) => Some(0),
            Some(FaultKind::ResetAfterHead) => Some(1),
            Some(FaultKind::CutBody) => Some(answer.body.len() / 2),
            _ => None,
        };
        if cut != Some(0) {
            self.end(call.number, answer.status);
        }
        (answer.with_length(), cut)
    }

    fn answer(&mut self, call: &Call) -> Answer {
        let mut answer = match call.fault.as_ref().and_then(|fault| fault.replacement(call)) {
            Some(replacement) => replacement,
            None => self.run(call).unwrap_or_else(|refusal| refusal),
        };
        let scripted = matches!(call.fault, Some(FaultKind::Status { .. }));
        if !scripted && !call.is_for_a_file() {
            for (name, value) in self.load.headers(call) {
                answer = answer.with(name, &value);
            }
        }
        let date = self.now().format("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let id = self.guid();
        answer.with("date", &date).with("x-request-id", &id)
    }

    fn run(&mut self, call: &Call) -> Result<Answer, Answer> {
        if call.header("accept-encoding").to_lowercase().contains("zstd") {
            return Err(Answer::new(500, "text/plain", "Internal Server Error"));
        }
        let Some(function) = Function::find(&call.path) else {
            return Err(Answer::fail(404, "err_not_found", "Resource not found"));
        };
        if let Function::Files = function {
            return batch::file(self, call);
        }
        let version = match function {
            Function::Token => auth::Version::Two,
            Function::SiemLogs => auth::signed_only(self, call)?,
            Function::SiemBatch(_) => auth::bearer_only(self, call)?,
            _ => auth::either(self, call)?,
        };
        self.load.count(call)?;
        if self.denied.iter().any(|text| call.matches(text)) {
            return Err(Answer::fail(403, "err_permission_denied", "0018 Insufficient permissions"));
        }
        match function {
            Function::Window(window) => windows::page(self, call, window, version),
            Function::Summary => snapshots::summary(self, call, version),
            Function::Dashboard => snapshots::dashboard(self, call, version),
            Function::Feed => feed::download(self, call),
            Function::SiemLogs => siem::logs(self, call),
            Function::SiemBatch(listing) => batch::batch(self, call, listing),
            Function::Token => auth::token(self, call),
            Function::Files => batch::file(self, call),
        }
    }
}

/// The pairs of a query or a form, percent-decoded, `+` for a blank.
pub(super) fn pairs(text: &str) -> Vec<(String, String)> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decoded(name), decoded(value)))
        .collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escape = tail.get(..2).and_then(|hex| u8::from_str_radix(str::from_utf8(hex).ok()?, 16).ok());
        rest = tail;
        match (first, escape) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            (b'+', _) => bytes.push(b' '),
            _ => bytes.push(first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
