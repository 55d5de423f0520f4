//! What the outside does: each case was met by somebody in public, or follows from a format. What has to hold is the kind, so
//! beside each case stand variations that nobody has met yet.
//!
//! The letter and number before a test are the case's. `windows` has the sources read by time, `streams` tokens and listings,
//! `files` what is behind links and in answers, `answers` what concerns all sources.

mod answers;
mod files;
mod sinks;
mod streams;
mod windows;

use axum::body::Bytes;
use axum::http::Request;
use chrono::{DateTime, SecondsFormat, TimeDelta};
use mimecast_devo::embedded::TABLE;
use serde_json::{Value, json};
use simulator::data::Expected;
use simulator::mimecast::FaultKind;

use crate::world::World;

const URL: &str = "mail.mimecast.ttp.url";
const AUDIT: &str = "mail.mimecast.audit.events";
const VIEW: &str = "mail.mimecast.archive.messageview";
const AV: &str = "mail.mimecast.siem.av";
const FEED: &str = "mail.mimecast.threat.feed";

/// An answer with this body.
fn answer(status: u16, body: &str) -> FaultKind {
    FaultKind::Status { status, headers: Vec::new(), body: body.to_owned() }
}

fn expected(table: &str, lines: impl IntoIterator<Item = String>) -> Expected {
    [(table.to_owned(), lines.into_iter().collect())].into()
}

/// The event in the file `n` of viruses.
fn event(n: usize) -> String {
    format!(r#"{{"type":"av","n":{n}}}"#)
}

fn events(numbers: impl IntoIterator<Item = usize>) -> Expected {
    expected(AV, numbers.into_iter().map(event))
}

/// Publishes files of viruses with one event each.
fn publish(world: &World, numbers: impl IntoIterator<Item = usize>) {
    numbers.into_iter().for_each(|n| world.mimecast.push_siem("av", vec![event(n).into_bytes()]));
}

/// The state in a source's checkpoint; null where it has none.
fn state(world: &World, source: &str) -> Value {
    let get = json!({"TableName": TABLE, "Key": key(source)}).to_string();
    let (status, body) = world.store.execute("GetItem", get.as_bytes());
    assert_eq!(status, 200);
    let item: Value = serde_json::from_slice(body.as_ref()).unwrap();
    item["Item"]["state"]["S"].as_str().map_or(Value::Null, |state| serde_json::from_str(state).unwrap())
}

/// Puts a state there as an earlier run would have left it, in the form of `version`.
fn leave(world: &World, source: &str, version: u8, state: &Value) {
    let update = json!({
        "TableName": TABLE, "Key": key(source),
        "UpdateExpression": "SET #state = :state, #version = :version",
        "ExpressionAttributeNames": {"#state": "state", "#version": "version"},
        "ExpressionAttributeValues": {":state": {"S": state.to_string()}, ":version": {"N": version.to_string()}},
    });
    assert_eq!(world.store.execute("UpdateItem", update.to_string().as_bytes()).0, 200);
}

fn key(source: &str) -> Value {
    json!({"pk": {"S": format!("default#{source}")}, "sk": {"S": "checkpoint"}})
}

/// As if the last run had been that much earlier: every instant in its state is.
fn time_goes_by(world: &World, source: &str, time: TimeDelta) {
    fn earlier(value: &mut Value, time: TimeDelta) {
        match value {
            Value::Object(members) => members.values_mut().for_each(|value| earlier(value, time)),
            Value::String(text) => {
                if let Ok(at) = DateTime::parse_from_rfc3339(text) {
                    *text = (at.to_utc() - time).to_rfc3339_opts(SecondsFormat::Millis, true);
                }
            }
            _ => {}
        }
    }
    let mut state = state(world, source);
    earlier(&mut state, time);
    leave(world, source, 1, &state);
}

/// What the simulated Mimecast itself answers, for tests that change a part of it.
fn ask(world: &World, request: axum::http::request::Builder, body: String) -> Value {
    let request: Request<Bytes> = request.body(body.into()).unwrap();
    let (answer, _) = world.mimecast.exchange(request);
    assert_eq!(answer.status(), 200);
    serde_json::from_slice(answer.body()).unwrap()
}

/// An access token of API 2.0.
fn access_token(world: &World) -> String {
    let secret: Value = serde_json::from_str(&world.mimecast.secret_v2()).unwrap();
    let field = |name: &str| {
        let value = secret[name].as_str().unwrap().replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
        format!("{name}={value}")
    };
    let form = format!("{}&{}&grant_type=client_credentials", field("client_id"), field("client_secret"));
    let request = Request::post("/oauth/token").header("content-type", "application/x-www-form-urlencoded");
    ask(world, request, form)["access_token"].as_str().unwrap().to_owned()
}

/// The listing of viruses.
fn listing(world: &World) -> Value {
    let authorization = format!("Bearer {}", access_token(world));
    let request = Request::get("/siem/v1/batch/events/cg?type=av").header("authorization", authorization);
    ask(world, request, String::new())
}

/// Texts that an answer warns of.
fn warns(answer: &Value, part: &str) -> bool {
    answer["warnings"].as_array().into_iter().flatten().any(|text| text.as_str().unwrap().contains(part))
}
