//! Whole answers, head and body, through the real clients: a typed error or a result, in time, and no secret in any text.
//!
//! ```text
//! page 429
//! x-ratelimit-reset: 4728
//!
//! {"meta":{"status":429}}
//! ```

use std::cell::RefCell;
use std::io::Read;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use axum::http;
use bytes::Bytes;
use mimecast::archive::Archive;
use mimecast::{Client, Clock, Credentials, Error, Rows};
use reqwest::{Request, Response};
use tokio::time::Instant;

/// What no text may show.
const SECRET: &str = "s3cr3t-k3y";
/// How long a call may go on.
const TIME: Duration = Duration::from_secs(600);

/// An answer that comes to every request of a kind.
#[derive(Clone, Debug)]
struct Canned {
    kind: String,
    status: u16,
    headers: Vec<(String, Vec<u8>)>,
    body: Bytes,
    asked: Arc<AtomicU32>,
}

impl Canned {
    fn read(data: &[u8]) -> Option<Self> {
        let end = data.windows(2).position(|pair| pair == b"\n\n")?;
        let mut head = data[..end].split(|byte| *byte == b'\n');
        let (kind, status) = str::from_utf8(head.next()?).ok()?.split_once(' ')?;
        let headers = head.filter_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            Some((String::from_utf8(line[..colon].to_vec()).ok()?, line[colon + 1..].trim_ascii().to_vec()))
        });
        let (kind, status, headers) = (kind.to_owned(), status.parse().ok()?, headers.collect());
        // Anything else is no answer at all.
        http::StatusCode::from_u16(status).ok()?;
        Some(Self { kind, status, headers, body: Bytes::copy_from_slice(&data[end + 2..]), asked: Arc::default() })
    }

    fn respond(&self) -> Option<Response> {
        self.asked.fetch_add(1, Relaxed);
        let mut response = http::Response::builder().status(self.status);
        for (name, value) in &self.headers {
            let (Ok(name), Ok(value)) = (http::HeaderName::try_from(name), http::HeaderValue::from_bytes(value)) else {
                continue;
            };
            response = response.header(name, value);
        }
        Some(response.body(self.body.clone()).ok()?.into())
    }

    fn execute(&self, request: &Request) -> reqwest::Result<Response> {
        let grant = || http::Response::new(Bytes::from(format!(r#"{{"access_token":"{SECRET}","expires_in":1799}}"#)));
        if self.kind != "token" && request.url().path() == "/oauth/token" {
            return Ok(grant().into());
        }
        Ok(self.respond().unwrap_or_else(|| http::Response::new(Bytes::new()).into()))
    }
}

thread_local! {
    /// What is answered now. The clients stay: setting up TLS would take nearly all of the time.
    static NOW: RefCell<Option<Canned>> = const { RefCell::new(None) };
    static V1: Client = mimecast_client(false);
    static SINK: devo::Sink = devo_sink();
}

/// Gives each request the answer of now.
#[derive(Debug)]
struct Wire;

impl Wire {
    fn answer(request: &Request) -> Pin<Box<dyn Future<Output = reqwest::Result<Response>> + Send>> {
        let response = NOW.with_borrow(|canned| canned.as_ref().unwrap().execute(request));
        Box::pin(async { response })
    }
}

impl mimecast::Network for Wire {
    fn execute(&self, request: Request) -> Pin<Box<dyn Future<Output = reqwest::Result<Response>> + Send>> {
        Self::answer(&request)
    }
}

impl devo::Network for Wire {
    fn execute(&self, request: Request) -> Pin<Box<dyn Future<Output = reqwest::Result<Response>> + Send>> {
        Self::answer(&request)
    }
}

/// Runs `call` where waiting costs nothing; it ends in `TIME`.
fn in_time<T>(call: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let began = Instant::now();
        let result = call.await;
        assert!(began.elapsed() <= TIME, "{:?}", began.elapsed());
        result
    })
}

fn mimecast_client(v2: bool) -> Client {
    let secret = if v2 {
        format!(r#"{{"client_id":"id","client_secret":"{SECRET}"}}"#)
    } else {
        format!(r#"{{"app_id":"id","app_key":"{SECRET}","access_key":"{SECRET}","secret_key":"czNjcjN0LWszeQ=="}}"#)
    };
    let credentials = Credentials::from_json(&secret.into()).unwrap();
    Client::new(credentials, "https://mimecast.simulated".to_owned(), Clock::System).unwrap().over(Arc::new(Wire))
}

pub fn mimecast(data: &[u8]) {
    let Some(canned) = Canned::read(data) else { return };
    // A token is kept, so that each answer to the request for one needs a client of its own.
    let client = if canned.kind == "token" { mimecast_client(true) } else { V1.with(Client::clone) };
    NOW.set(Some(canned.clone()));
    in_time(async {
        let until = Instant::now() + TIME;
        match canned.kind.as_str() {
            "page" | "token" => {
                for rows in [Rows::Flat, Rows::In("clickLogs")] {
                    match client.page("/api/x", rows, "{}", until).await {
                        Ok(page) => page.rows.iter().for_each(|row| assert!(is_of(row, &canned.body))),
                        Err(error) => refused(&error, &canned),
                    }
                }
            }
            "file" => match client.file("/api/x", "{}", "mc-siem-token", false, until).await {
                Ok(answer) => {
                    assert!(!answer.name.contains(['/', '\\']), "{}", answer.name);
                    assert!(answer.next.is_none_or(|next| !next.is_empty()));
                    if let Some(mut file) = answer.file {
                        let mut content = Vec::new();
                        file.read_to_end(&mut content).unwrap();
                        assert_eq!(content, canned.body);
                        drop(Archive::open(file, &answer.name));
                    }
                }
                Err(error) => refused(&error, &canned),
            },
            "listing" => match client.listing("/siem/x", &[("type", "av")], until).await {
                Ok(listing) => {
                    for link in &listing.links {
                        assert!(!link.path().contains('?') && !format!("{link:?}").contains('?'));
                        if let Err(error) = client.download(link, until).await {
                            refused(&error, &canned);
                        }
                    }
                }
                Err(error) => refused(&error, &canned),
            },
            _ => {}
        }
        assert!((client.now() - Clock::System.now()).num_hours().abs() <= 6, "carried away by a Date");
    });
    assert!(canned.asked.load(Relaxed) <= 250, "asked {} times", canned.asked.load(Relaxed));
}

fn is_of(part: &[u8], body: &[u8]) -> bool {
    part.is_empty() || body.windows(part.len()).any(|window| window == part)
}

fn refused(error: &Error, canned: &Canned) {
    let text = error.to_string();
    assert!(!text.is_empty() && !text.contains("Bearer "), "{text}");
    // What the other side repeats is its own.
    assert!(is_of(SECRET.as_bytes(), &canned.body) || !text.contains(SECRET), "a secret in {text}");
    assert!(text.len() <= 2_000, "{} bytes of text", text.len());
    assert!(!text.contains(char::is_control), "{text:?}");
    if let Error::Unreadable { raw, .. } = error {
        assert!(raw == &canned.body || raw.len() < 2_000);
    }
}

fn devo_sink() -> devo::Sink {
    let secret = format!(r#"{{"domain":"acme","token":"{SECRET}"}}"#);
    let credentials = devo::Credentials::from_json(&secret.into()).unwrap();
    let sink = devo::Sink::open("https://devo.simulated", Some(&credentials), &devo::Options::default()).unwrap();
    let network: Arc<dyn devo::Network> = Arc::new(Wire);
    sink.over(&network)
}

pub fn devo(data: &[u8]) {
    let Some(canned) = Canned::read(data) else { return };
    NOW.set(Some(canned.clone()));
    let lines = vec![Bytes::from_static(b"{\"a\":1}"); 3];
    let batches = [devo::Batch { table: "my.app.x", lines }];
    let delivery = SINK.with(|sink| in_time(sink.send(&batches, Instant::now() + TIME)));
    assert!(delivery.settled[0] <= 3 && delivery.refused.iter().all(|refused| refused.index < delivery.settled[0]));
    assert_eq!(delivery.failure.is_none(), delivery.settled[0] == 3);
    if (200..300).contains(&canned.status) {
        assert!(delivery.failure.is_none() && delivery.refused.is_empty());
    }
    if let Some(error) = delivery.failure {
        let text = error.to_string();
        assert!(!text.contains(SECRET), "a secret in {text}");
        assert!(text.chars().count() <= 600 && !text.contains(char::is_control), "{text:?}");
    }
}
