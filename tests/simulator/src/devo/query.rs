//! The simulated Devo's Query API: how many events a table has by hour, and which columns. Strict in what it understands.
//!
//! Written from Devo's documentation (pages 95128301 and 95128442). How dates and numbers look in an answer depends on the mode and
//! is not told in full: they come as numbers or as text, as a test wants it.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::{Devo, Shared};

/// How it answers.
#[derive(Debug, Clone, Default)]
pub(super) struct Manner {
    /// Dates as text and counts as text, not as numbers.
    text: bool,
    /// Events that nobody sees, by table: lost, or not visible yet.
    hidden: std::collections::BTreeMap<String, usize>,
    /// Tables that the token may not read, or that are not there: Devo does not tell which.
    forbidden: Vec<String>,
}

impl Devo {
    /// The token that may ask, which is another one than that for sending.
    pub fn query_token(&self) -> String {
        "simulatedQueryToken".to_owned()
    }

    /// Dates and numbers come as text from now on.
    pub fn answer_queries_in_text(&self) {
        self.state.lock().queries.text = true;
    }

    /// So many events of a table are not visible from now on.
    pub fn hide(&self, table: &str, events: usize) {
        self.state.lock().queries.hidden.insert(table.to_owned(), events);
    }

    /// A table cannot be asked for from now on.
    pub fn forbid(&self, table: &str) {
        self.state.lock().queries.forbidden.push(table.to_owned());
    }
}

#[allow(clippy::disallowed_methods)] // Devo has a clock of its own
pub(super) fn now() -> i64 {
    Utc::now().timestamp()
}

fn refuse(status: StatusCode, text: &str) -> Response {
    (status, Json(json!({"status": status.as_u16(), "error": text, "object": null}))).into_response()
}

fn is_authorized(headers: &HeaderMap) -> bool {
    headers.get("authorization").is_some_and(|value| value == "Bearer simulatedQueryToken")
}

pub(super) async fn table(State(state): State<Shared>, Path(table): Path<String>, headers: HeaderMap) -> Response {
    if !is_authorized(&headers) {
        return refuse(StatusCode::UNAUTHORIZED, "Invalid token");
    }
    let inner = state.lock();
    if inner.queries.forbidden.contains(&table) || !inner.lines.contains_key(&table) {
        return refuse(StatusCode::FORBIDDEN, "The table does not exist or you have no access to it");
    }
    let mut columns = vec![json!({"fieldName": "eventdate", "type": "timestamp"})];
    if table.starts_with("my.app.") {
        // No parser reads it: it is what every such table has.
        columns.push(json!({"fieldName": "message", "type": "str"}));
    } else {
        let first = inner.lines[&table].first().and_then(|line| serde_json::from_str::<Value>(line).ok());
        let keys = first.as_ref().and_then(Value::as_object).into_iter().flat_map(|object| object.keys());
        columns.extend(keys.map(|key| json!({"fieldName": key, "type": "str"})));
        columns.push(json!({"fieldName": "rawMessage", "type": "str"}));
    }
    Json(json!({"timestamp": 0, "status": 0, "object": columns})).into_response()
}

/// `from <table> group every 1h select count() as <name>`, and nothing else.
pub(super) async fn query(State(state): State<Shared>, headers: HeaderMap, body: String) -> Response {
    if !is_authorized(&headers) {
        return refuse(StatusCode::UNAUTHORIZED, "Invalid token");
    }
    let Ok(body) = serde_json::from_str::<Value>(&body) else { return refuse(StatusCode::BAD_REQUEST, "not JSON") };
    let words: Vec<&str> = body["query"].as_str().unwrap_or_default().split_whitespace().collect();
    let ["from", table, "group", "every", "1h", "select", "count()", "as", name] = words[..] else {
        return refuse(StatusCode::BAD_REQUEST, "cannot parse the query");
    };
    let (Some(from), Some(to)) = (body["from"].as_i64(), body["to"].as_i64()) else {
        return refuse(StatusCode::BAD_REQUEST, "from and to must be seconds");
    };
    if body["mode"] != json!({"type": "json"}) || from >= to {
        return refuse(StatusCode::BAD_REQUEST, "mode or range");
    }
    let inner = state.lock();
    if inner.queries.forbidden.iter().any(|forbidden| forbidden == table) || !inner.lines.contains_key(table) {
        return refuse(StatusCode::FORBIDDEN, "The table does not exist or you have no access to it");
    }
    let mut hours = std::collections::BTreeMap::new();
    let hidden = inner.queries.hidden.get(table).copied().unwrap_or_default();
    let arrived = &inner.arrived[table];
    for hour in arrived[..arrived.len().saturating_sub(hidden)].iter().map(|at| at.div_euclid(3600)) {
        if (from..to).contains(&(hour * 3600)) {
            *hours.entry(hour).or_insert(0) += 1;
        }
    }
    let text = inner.queries.text;
    let rows: Vec<Value> = hours
        .into_iter()
        .map(|(hour, count)| {
            let at = DateTime::from_timestamp(hour * 3600, 0).unwrap_or_default();
            match text {
                true => json!({"eventdate": at.format("%F %T%.3f").to_string(), name: count.to_string()}),
                false => json!({"eventdate": at.timestamp_millis(), name: count}),
            }
        })
        .collect();
    Json(json!({"msg": "", "timestamp": 0, "cid": "simulated", "status": 0, "object": rows})).into_response()
}
