//! One local port for the command under `simulate`: DynamoDB, and a say in what the simulation does.
//!
//! DynamoDB is the embedded engine with the empty checkpoint table, in memory. Below `/simulator`
//! - `GET /` answers what has arrived by table: `{"<table>":{"expected":5,"arrived":5,"missing":0,"too_many":0}}`
//! - `POST /events` adds a few new events to each source
//! - `POST /faults` makes Mimecast answer a status in place of the right answer: `{"text":"/api/audit","status":503,"times":5}`
//!   strikes the next five requests that contain the text, in path, query or body. A run tries a request five times, so
//!   that is one failed run; a 403 is not tried again. The start of a backfill's slice, as in the request
//!   (`2026-01-31T00:00:00+0000`), makes a text that no other slice has
//! - `DELETE /faults` ends them

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use mimecast_devo::embedded::Embedded;
use serde::Deserialize;
use simulator::data::SUMMARY_TABLE;
use simulator::mimecast::{Fault, FaultKind};
use tokio::net::TcpListener;

use crate::balance::{self, Balance};
use crate::world::World;

/// How many new events `POST /events` brings to a source.
const NEW_EVENTS: usize = 5;

#[derive(Clone)]
pub struct Simulation {
    world: Arc<Mutex<World>>,
    pub dynamodb: Embedded,
}

impl Simulation {
    pub fn new(world: World, dynamodb: Embedded) -> Self {
        Self { world: Arc::new(Mutex::new(world)), dynamodb }
    }

    /// Starts to serve on a free port of 127.0.0.1, for as long as the runtime lives: its URL.
    pub async fn serve(&self) -> io::Result<String> {
        let control = Router::new()
            .route("/", get(balances))
            .route("/events", post(add_events))
            .route("/faults", post(add_fault).delete(clear_faults));
        let app = Router::new()
            .nest("/simulator", control)
            .fallback(dynamodb)
            .layer(DefaultBodyLimit::disable())
            .with_state(self.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        tokio::spawn(async move { axum::serve(listener, app).await });
        Ok(url)
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What has arrived so far. Every poll sends the hold summary: so many whole polls are expected as its lines make,
    /// at least one.
    pub fn balances(&self) -> BTreeMap<String, Balance> {
        let world = self.world();
        let arrived = world.devo.lines();
        let lines = arrived.get(SUMMARY_TABLE).map_or(0, Vec::len);
        let polls = lines.div_ceil(world.summary.len().max(1)).max(1);
        let summary = std::iter::repeat_n(&world.summary, polls).flatten().cloned().collect();
        let mut expected = world.expected.clone();
        expected.insert(SUMMARY_TABLE.to_owned(), summary);
        balance::compare(&expected, &arrived)
    }
}

async fn dynamodb(State(simulation): State<Simulation>, headers: HeaderMap, body: Bytes) -> Response {
    let target = headers.get("x-amz-target").and_then(|target| target.to_str().ok());
    let operation = target.and_then(|target| target.strip_prefix("DynamoDB_20120810.")).unwrap_or_default().to_owned();
    // What is unknown, the engine refuses as DynamoDB does.
    let answer = tokio::task::spawn_blocking(move || simulation.dynamodb.execute(&operation, &body)).await;
    let Some((status, body)) = answer.ok().and_then(|(status, body)| Some((StatusCode::from_u16(status).ok()?, body)))
    else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    (status, [("content-type", "application/x-amz-json-1.0")], body).into_response()
}

async fn balances(State(simulation): State<Simulation>) -> Response {
    match serde_json::to_vec(&simulation.balances()) {
        Ok(body) => ([("content-type", "application/json")], body).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn add_events(State(simulation): State<Simulation>) {
    simulation.world().add_events(NEW_EVENTS);
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    text: String,
    status: u16,
    times: usize,
}

async fn add_fault(State(simulation): State<Simulation>, body: Bytes) -> Response {
    match serde_json::from_slice(&body) {
        Ok(Order { text, status, times }) => {
            simulation.world().mimecast.fault(Fault::new(&text, FaultKind::status(status)).times(times));
            ().into_response()
        }
        Err(error) => (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    }
}

async fn clear_faults(State(simulation): State<Simulation>) {
    simulation.world().mimecast.clear_faults();
}
