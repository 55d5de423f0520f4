//! A simulated Devo: the HTTP stream API, stricter than the real one, with faults on demand.
//!
//! Written from Devo's documentation and not from the crate `devo`, so that the two can disagree. What Devo leaves open (its
//! error codes and bodies) is chosen here as nastily as is plausible: a refusal repeats the address, token included.

mod query;

use std::{
    collections::BTreeMap,
    io::{self, Read},
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{ConnectInfo, State, connect_info::Connected},
    http::{
        HeaderMap, Method, Request as HttpRequest, Response, StatusCode, Uri, header::CONTENT_ENCODING, request::Parts,
    },
    routing::{get, post},
    serve::{IncomingStream, Listener},
};
use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::oneshot,
};

/// Devo's "maximum file size" for HTTP, in bytes, here after decompression.
const MAX_BYTES: usize = 32 * 1024 * 1024;
const DOMAIN: &str = "simulated";

/// A simulated Devo; it stops when dropped.
pub struct Devo {
    url: String,
    state: Shared,
    _stop: Option<oneshot::Sender<()>>,
}

/// What came with one request, refused ones included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The table named in the address; empty when the address was not understood.
    pub table: String,
    /// The machine name in the address.
    pub host: String,
    /// The status answered; 0 when the connection was reset before an answer.
    pub status: u16,
    /// Size of the body after decompression.
    pub bytes: usize,
    /// LF-ended lines in the body.
    pub lines: usize,
}

/// Something that goes wrong with requests that are otherwise in order.
#[derive(Debug, Clone)]
pub struct Fault {
    kind: Kind,
    table: Option<String>,
    text: Option<String>,
    skip: usize,
    times: usize,
}

/// What goes wrong.
#[derive(Debug, Clone)]
pub enum Kind {
    /// Answered with this status, body and headers; nothing is taken.
    Status {
        /// The status code.
        status: u16,
        /// The body.
        body: String,
        /// Names and values.
        headers: Vec<(&'static str, String)>,
    },
    /// The connection is reset; nothing is taken.
    ResetBeforeAnswer,
    /// The lines are taken and the connection is reset before the answer.
    AcceptThenReset,
    /// The lines are taken, 200 is answered and the connection is reset within the answer's body.
    ResetMidBody,
    /// Nothing happens for so long; then the request is handled as if it had just come.
    Hang(Duration),
    /// 413 for each body larger than this after decompression.
    TooLarge {
        /// The largest size taken.
        max_bytes: usize,
    },
    /// The connection is reset for each body larger than this after decompression; nothing is taken.
    ResetAbove {
        /// The largest size taken.
        max_bytes: usize,
    },
}

impl Fault {
    /// A fault of the next request.
    pub fn new(kind: Kind) -> Self {
        Self { kind, table: None, text: None, skip: 0, times: 1 }
    }

    /// [`Kind::Status`] without headers and with a plain body.
    pub fn status(status: u16) -> Self {
        Self::new(Kind::Status { status, body: format!("simulated fault {status}"), headers: Vec::new() })
    }

    /// Adds a header to a [`Kind::Status`].
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        if let Kind::Status { headers, .. } = &mut self.kind {
            headers.push((name, value.to_owned()));
        }
        self
    }

    /// Lets so many requests pass first.
    pub fn skip(mut self, requests: usize) -> Self {
        self.skip = requests;
        self
    }

    /// Strikes so many times.
    pub fn times(mut self, times: usize) -> Self {
        self.times = times;
        self
    }

    /// Strikes (and counts) requests for this table only.
    pub fn table(mut self, table: &str) -> Self {
        self.table = Some(table.to_owned());
        self
    }

    /// Strikes (and counts) requests only of which a line holds this text, and all of them.
    pub fn holding(mut self, text: &str) -> Self {
        self.text = Some(text.to_owned());
        self.times = usize::MAX;
        self
    }

    fn strikes(&mut self, table: &str, bytes: usize, lines: &[String]) -> bool {
        if self.text.as_ref().is_some_and(|text| !lines.iter().any(|line| line.contains(text))) {
            return false;
        }
        let small = matches!(
            self.kind,
            Kind::TooLarge { max_bytes } | Kind::ResetAbove { max_bytes } if bytes <= max_bytes
        );
        if small || self.times == 0 || self.table.as_deref().is_some_and(|wanted| wanted != table) {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        self.times -= 1;
        true
    }
}

impl Devo {
    /// Starts on a free loopback port.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let state = Shared::default();
        let app = Router::new()
            .route("/search/query", post(query::query))
            .route("/search/table/{table}", get(query::table))
            .fallback(handle)
            .with_state(state.clone());
        let app = app.into_make_service_with_connect_info::<Cut>();
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(async move {
            // Serving ends only by the shutdown, so there is no result to look at.
            let stopped = async { drop(stopped.await) };
            drop(axum::serve(Wires(listener), app).with_graceful_shutdown(stopped).await);
        });
        Ok(Self { url: format!("http://{address}"), state, _stop: Some(stop) })
    }

    /// Without a socket: asked by [`Devo::exchange`] alone.
    pub fn in_process() -> Self {
        Self { url: "https://devo.simulated".to_owned(), state: Shared::default(), _stop: None }
    }

    /// One request and its answer, at once; a hang is nothing here. With `Some(n)` the connection breaks after `n` bytes of the
    /// answer, with `Some(0)` before its head.
    pub fn exchange(&self, request: HttpRequest<Bytes>) -> (Response<Bytes>, Option<usize>) {
        let (head, body) = request.into_parts();
        exchange(&self.state, &read(&self.state, &head, Ok(body)))
    }

    /// The address to configure as Devo's.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// The Devo secret that is valid now, as JSON.
    pub fn secret(&self) -> String {
        serde_json::json!({"domain": DOMAIN, "token": self.state.lock().token(), "url": self.url()}).to_string()
    }

    /// The lines taken so far by table, in order of arrival, without their LF.
    pub fn lines(&self) -> BTreeMap<String, Vec<String>> {
        self.state.lock().lines.clone()
    }

    /// The lines taken so far of the tables that are `wanted`; here they are forgotten.
    pub fn take(&self, wanted: impl Fn(&str) -> bool) -> BTreeMap<String, Vec<String>> {
        self.state.lock().lines.extract_if(.., |table, _| wanted(table)).collect()
    }

    /// When the lines taken so far arrived, in seconds since the epoch, by table.
    pub fn arrivals(&self) -> BTreeMap<String, Vec<i64>> {
        self.state.lock().arrived.clone()
    }

    /// How many lines have been taken so far.
    pub fn count(&self) -> usize {
        self.state.lock().lines.values().map(Vec::len).sum()
    }

    /// All requests so far, in order of their answers.
    pub fn requests(&self) -> Vec<Request> {
        self.state.lock().requests.clone()
    }

    /// Forgets lines, requests and faults; the token stays.
    pub fn clear(&self) {
        let mut inner = self.state.lock();
        let Inner { tokens, empty_first, any_token, .. } = *inner;
        *inner = Inner { tokens, empty_first, any_token, ..Inner::default() };
    }

    /// How many requests a fault has struck so far.
    pub fn struck(&self) -> usize {
        self.state.lock().struck
    }

    /// Forgets the faults only.
    pub fn clear_faults(&self) {
        self.state.lock().faults.clear();
    }

    /// Adds a fault. Of several that match a request, the first added strikes.
    pub fn fault(&self, fault: Fault) {
        self.state.lock().faults.push(fault);
    }

    /// From now on an empty request is refused as such, whatever its token: what the real one looks at first is not documented.
    pub fn refuse_empty_first(&self) {
        self.state.lock().empty_first = true;
    }

    /// From now on a wrong token is answered as a right one is, and nothing of it is taken.
    pub fn answer_any_token(&self) {
        self.state.lock().any_token = true;
    }

    /// Makes a new token; the old one is refused from now on.
    pub fn rotate(&self) {
        self.state.lock().tokens += 1;
    }
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    tokens: u32,
    lines: BTreeMap<String, Vec<String>>,
    requests: Vec<Request>,
    faults: Vec<Fault>,
    struck: usize,
    empty_first: bool,
    any_token: bool,
    /// When each line arrived, in seconds since the epoch, by table, as [`Inner::lines`] are.
    arrived: BTreeMap<String, Vec<i64>>,
    queries: query::Manner,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// 32 letters and digits, as Devo's are.
    fn token(&self) -> String {
        format!("simulatedToken{:018}", self.tokens)
    }

    fn fault(&mut self, table: &str, bytes: usize, lines: &[String]) -> Option<Kind> {
        let fault =
            self.faults.iter_mut().find_map(|fault| fault.strikes(table, bytes, lines).then(|| fault.kind.clone()));
        self.struck += usize::from(fault.is_some());
        fault
    }
}

const EMPTY: &str = "body empty";

/// A refusal: status and body.
type Refusal = (StatusCode, String);

fn refuse(status: StatusCode, text: impl Into<String>) -> Refusal {
    (status, text.into())
}

/// One request, read: what it is, its lines or why it is refused, and the fault that strikes it.
struct Call {
    seen: Request,
    lines: Result<Vec<String>, Refusal>,
    fault: Option<Kind>,
}

async fn handle(
    State(state): State<Shared>,
    ConnectInfo(cut): ConnectInfo<Cut>,
    request: HttpRequest<Body>,
) -> Response<Body> {
    let (head, body) = request.into_parts();
    // Read whole even where the head is wrong: an answer before the end of a body may be lost.
    let body = to_bytes(body, MAX_BYTES).await.map_err(|_| refuse(StatusCode::PAYLOAD_TOO_LARGE, "more than 32 MB"));
    let call = read(&state, &head, body);
    if let Some(Kind::Hang(time)) = call.fault {
        tokio::time::sleep(time).await;
    }
    let (response, bytes) = exchange(&state, &call);
    if let Some(bytes) = bytes {
        cut.0.store(bytes, Ordering::SeqCst);
    }
    response.map(Body::from)
}

fn read(state: &Shared, head: &Parts, body: Result<Bytes, Refusal>) -> Call {
    let inflated = body.and_then(|body| inflate(&head.headers, body));
    let mut seen = Request { table: String::new(), host: String::new(), status: 0, bytes: 0, lines: 0 };
    if let Ok(inflated) = &inflated {
        seen.bytes = inflated.len();
        seen.lines = inflated.iter().filter(|byte| **byte == b'\n').count();
    }
    let lines = check(state, &head.method, &head.uri, inflated, &mut seen);
    let fault = lines.as_ref().ok().and_then(|lines| state.lock().fault(&seen.table, seen.bytes, lines));
    Call { seen, lines, fault }
}

/// Answers a request; the number says how many bytes of the answer get out before its connection is reset.
fn exchange(state: &Shared, call: &Call) -> (Response<Bytes>, Option<usize>) {
    // More than any buffer on its way holds back.
    let long = || answer(StatusCode::OK, "x".repeat(100_000));
    let (response, taken, cut) = match (&call.lines, &call.fault) {
        (Err((status, text)), _) => (answer(*status, text.clone()), None, None),
        (Ok(lines), None | Some(Kind::Hang(_))) if lines.is_empty() => {
            (answer(StatusCode::BAD_REQUEST, EMPTY.to_owned()), None, None)
        }
        (Ok(lines), None | Some(Kind::Hang(_))) => (answer(StatusCode::OK, String::new()), Some(lines), None),
        (Ok(_), Some(Kind::Status { status, body, headers })) => (fault_answer(*status, body, headers), None, None),
        (Ok(_), Some(Kind::TooLarge { max_bytes })) => {
            (answer(StatusCode::PAYLOAD_TOO_LARGE, format!("more than {max_bytes} bytes")), None, None)
        }
        (Ok(_), Some(Kind::ResetBeforeAnswer | Kind::ResetAbove { .. })) => (long(), None, Some(0)),
        (Ok(lines), Some(Kind::AcceptThenReset)) => (long(), Some(lines), Some(0)),
        (Ok(lines), Some(Kind::ResetMidBody)) => (long(), Some(lines), Some(1_000)),
    };
    let mut inner = state.lock();
    if let Some(lines) = taken {
        inner.lines.entry(call.seen.table.clone()).or_default().extend(lines.iter().cloned());
        let times = vec![query::now(); lines.len()];
        inner.arrived.entry(call.seen.table.clone()).or_default().extend(times);
    }
    let status = if cut == Some(0) { 0 } else { response.status().as_u16() };
    inner.requests.push(Request { status, ..call.seen.clone() });
    (response, cut)
}

fn answer(status: StatusCode, text: String) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(text));
    *response.status_mut() = status;
    response
}

fn fault_answer(status: u16, body: &str, headers: &[(&'static str, String)]) -> Response<Bytes> {
    let builder =
        headers.iter().fold(Response::builder().status(status), |builder, (name, value)| builder.header(*name, value));
    builder.body(Bytes::from(body.to_owned())).unwrap_or_else(|error| {
        answer(StatusCode::INTERNAL_SERVER_ERROR, format!("the fault itself is wrong: {error}"))
    })
}

/// The body as it was before compression.
fn inflate(headers: &HeaderMap, body: Bytes) -> Result<Vec<u8>, Refusal> {
    let gzipped = body.starts_with(&[0x1f, 0x8b]);
    match headers.get(CONTENT_ENCODING).map(|value| value.as_bytes()) {
        None if gzipped => Err(refuse(StatusCode::BAD_REQUEST, "gzip without Content-Encoding")),
        None => Ok(body.to_vec()),
        Some(b"gzip") => {
            let mut inflated = Vec::new();
            MultiGzDecoder::new(&body[..])
                .take(MAX_BYTES as u64 + 1)
                .read_to_end(&mut inflated)
                .map_err(|error| refuse(StatusCode::BAD_REQUEST, format!("not gzip: {error}")))?;
            if inflated.len() > MAX_BYTES {
                return Err(refuse(StatusCode::PAYLOAD_TOO_LARGE, "more than 32 MB"));
            }
            Ok(inflated)
        }
        Some(_) => Err(refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Content-Encoding is not gzip")),
    }
}

/// The lines of a request that is in order, none of an empty one: `POST /stream/<domain>/token!<token>/<host>/<table>`.
fn check(
    state: &Shared,
    method: &Method,
    uri: &Uri,
    body: Result<Vec<u8>, Refusal>,
    seen: &mut Request,
) -> Result<Vec<String>, Refusal> {
    let bad = |text: &str| refuse(StatusCode::BAD_REQUEST, text);
    let parts: Vec<&str> = uri.path().split('/').collect();
    let ["", "stream", domain, token, host, table] = parts[..] else {
        return Err(refuse(StatusCode::NOT_FOUND, format!("no such address: {}", uri.path())));
    };
    if method != Method::POST {
        return Err(refuse(StatusCode::METHOD_NOT_ALLOWED, "only POST"));
    }
    if uri.query().is_some() {
        return Err(bad("a stream takes no query"));
    }
    let decoded = |part: &str| decode(part).ok_or_else(|| bad("address not percent-encoded UTF-8"));
    seen.host = decoded(host)?;
    seen.table = decoded(table)?;
    let is_empty = body.as_ref().is_ok_and(Vec::is_empty);
    if is_empty && state.lock().empty_first {
        return Err(bad(EMPTY));
    }
    let token = decoded(token)?;
    let token = token.strip_prefix("token!").ok_or_else(|| bad("no token! before the token"))?;
    let is_known = token == state.lock().token();
    if !is_known && state.lock().any_token {
        return if is_empty { Ok(Vec::new()) } else { Err((StatusCode::OK, String::new())) };
    }
    if decoded(domain)? != DOMAIN || !is_known {
        return Err(refuse(StatusCode::FORBIDDEN, format!("wrong domain or token: {}", uri.path())));
    }
    if seen.host.is_empty() {
        return Err(bad("no host"));
    }
    if !is_table(&seen.table) {
        return Err(bad("not a table"));
    }
    if is_empty {
        return Ok(Vec::new());
    }
    let body = String::from_utf8(body?).map_err(|_| bad("body not UTF-8"))?;
    let lines = body.strip_suffix('\n').ok_or_else(|| bad("body without LF at its end"))?;
    lines
        .split('\n')
        .map(|line| {
            if line.is_empty() || line.contains(['\r', '\0']) {
                return Err(bad("a line is empty or holds CR or NUL"));
            }
            Ok(line.to_owned())
        })
        .collect()
}

fn is_table(table: &str) -> bool {
    let part =
        |part: &str| !part.is_empty() && part.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'));
    table.split('.').count() >= 3 && table.split('.').all(part)
}

/// Undoes percent-encoding; `None` for anything malformed.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        bytes.push(u8::try_from(digit()? * 16 + digit()?).ok()?);
    }
    String::from_utf8(bytes).ok()
}

/// How many more bytes a connection may write before it is reset.
#[derive(Clone)]
struct Cut(Arc<AtomicUsize>);

impl Connected<IncomingStream<'_, Wires>> for Cut {
    fn connect_info(stream: IncomingStream<'_, Wires>) -> Self {
        stream.io().cut.clone()
    }
}

struct Wires(TcpListener);

impl Listener for Wires {
    type Io = Wire;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Wire, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.0).await;
        (Wire { stream, cut: Cut(Arc::new(AtomicUsize::new(usize::MAX))) }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// A connection that its handler can have reset.
struct Wire {
    stream: TcpStream,
    cut: Cut,
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let left = self.cut.0.load(Ordering::SeqCst);
        if left == 0 {
            // With it the close that follows is a reset, not an orderly end.
            self.stream.set_zero_linger()?;
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &buf[..buf.len().min(left)]))?;
        if left != usize::MAX {
            self.cut.0.store(left - written, Ordering::SeqCst);
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
