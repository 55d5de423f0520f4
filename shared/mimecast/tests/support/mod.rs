//! A network of canned answers in front of the real client, on paused time.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use mimecast::{Client, Clock, Credentials, Network};
use reqwest::{Request, Response, Result};
use tokio::time::Instant;

pub const PATH: &str = "/api/audit/get-siem-logs";
pub const BATCH: &str = "/siem/v1/batch/events/cg";
pub const V1: &str = r#"{"app_id":"id","app_key":"topsecret","access_key":"topsecret","secret_key":"c2VjcmV0"}"#;
pub const V2: &str = r#"{"client_id":"topsecret","client_secret":"topsecret"}"#;

pub type Answer = http::Response<Bytes>;
type Sent = Pin<Box<dyn Future<Output = Result<Response>> + Send>>;

/// What was asked: its address and whether it had `Authorization`.
type Asked = Arc<Mutex<Vec<(String, bool)>>>;

struct Canned<F> {
    answer: F,
    asked: Asked,
}

impl<F> std::fmt::Debug for Canned<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("canned answers")
    }
}

impl<F: Fn(&str, usize) -> Answer + Send + Sync> Network for Canned<F> {
    fn execute(&self, request: Request) -> Sent {
        let url = request.url().to_string();
        let mut asked = self.asked.lock().unwrap();
        let answer = (self.answer)(&url, asked.len());
        asked.push((url, request.headers().contains_key("authorization")));
        Box::pin(async { Ok(answer.into()) })
    }
}

/// A client whose requests `answer` gets, by address and number.
pub fn client(secret: &str, answer: impl Fn(&str, usize) -> Answer + Send + Sync + 'static) -> (Client, Asked) {
    let credentials = Credentials::from_json(&secret.into()).unwrap();
    let client = Client::new(credentials, "https://mimecast.simulated".into(), Clock::starting_at(start())).unwrap();
    let asked = Asked::default();
    (client.over(Arc::new(Canned { answer, asked: asked.clone() })), asked)
}

/// When all tests begin.
pub fn start() -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000, 0).unwrap()
}

pub fn answer(status: u16, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
    let mut answer = http::Response::builder().status(status);
    for (name, value) in headers {
        answer = answer.header(*name, *value);
    }
    answer.body(body.into()).unwrap()
}

pub fn ok(body: &'static str) -> Answer {
    answer(200, &[], body)
}

/// In ten minutes.
pub fn until() -> Instant {
    Instant::now() + Duration::from_secs(600)
}
