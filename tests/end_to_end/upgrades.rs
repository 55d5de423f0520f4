//! Checkpoints that earlier versions have written are gone on from: nothing lost, nothing sent again.
//!
//! `checkpoints/version_<n>.json` holds items as version `n` wrote them, with `{-60}` for the instant a minute ago and
//! `{token}` for one of the simulator's. A change of the state's form adds a file; the files that are there stay as they are.

use chrono::{SecondsFormat, TimeDelta};
use mimecast_devo::embedded::TABLE;
use serde_json::{Value, json};

use crate::world::{Api, World, now};

const VERSION_1: &str = include_str!("checkpoints/version_1.json");

/// Puts the items in place, as they would have been written at this moment.
fn restore(world: &World, items: &str, token: &str) {
    let mut text = items.replace("{token}", token);
    while let Some(start) = text.find("{-") {
        let end = start + text[start..].find('}').unwrap();
        let seconds: i64 = text[start + 1..end].parse().unwrap();
        let at = (now() + TimeDelta::seconds(seconds)).to_rfc3339_opts(SecondsFormat::Secs, true);
        text.replace_range(start..=end, &at);
    }
    for item in serde_json::from_str::<Vec<Value>>(&text).unwrap() {
        put(world, &item);
    }
}

fn put(world: &World, item: &Value) {
    let (status, _) = world.store.execute("PutItem", json!({"TableName": TABLE, "Item": item}).to_string().as_bytes());
    assert_eq!(status, 200, "{item}");
}

#[tokio::test]
async fn version_1_is_gone_on_from() {
    let mut world = World::new(Api::V2).await;
    let ago = |minutes: i64| now() - TimeDelta::minutes(minutes);
    // What the earlier version has delivered, and the simulator's token after it.
    world.mimecast.push("audit", ago(10), r#"{"id":"a1","n":1}"#);
    world.mimecast.push("audit", ago(5), r#"{"id":"a2","n":2}"#);
    world.mimecast.push("url", ago(10), r#"{"n":1}"#);
    world.mimecast.push("url", ago(10), r#"{"n":1}"#);
    world.mimecast.push_feed("malware_grid", ago(50), ["1", "2", "3", "4"]);
    world.mimecast.push_siem_at("receipt", ago(50), vec![br#"{"aggregateId":"1"}"#.to_vec()]);
    world.mimecast.set_notices(vec![r#"{"id":"d1","text":"one"}"#.into()]);
    let answer = world.run("siem").await;
    let token = answer["checkpoint"]["streams"]["receipt"]["token"].as_str().unwrap().to_owned();
    world.devo.clear();
    restore(&world, VERSION_1, &token);

    // What has come since.
    world.mimecast.push("audit", ago(4), r#"{"id":"a3"}"#);
    world.mimecast.push("url", ago(9), r#"{"n":1}"#);
    world.mimecast.push_feed("malware_grid", ago(40), ["5", "6", "7", "8"]);
    world.mimecast.push_siem_at("receipt", ago(1), vec![br#"{"aggregateId":"2"}"#.to_vec()]);
    world.mimecast.push_notice(r#"{"id":"d2","text":"two"}"#.into());
    for source in ["audit", "url", "threatfeed", "siem", "dashboard"] {
        let answer = world.run(source).await;
        assert_eq!(answer["status"], "caught_up", "{answer}");
    }
    let since = [
        ("mail.mimecast.audit.events", r#"{"id":"a3"}"#),
        ("mail.mimecast.ttp.url", r#"{"n":1}"#),
        ("mail.mimecast.threat.feed", r#"{"MD5":"5","SHA256":"6","SenderAddress":"7","Timestamp":"8"}"#),
        ("mail.mimecast.siem.receipt", r#"{"aggregateId":"2"}"#),
        ("mail.mimecast.account.dashboard", r#"{"id":"d2","text":"two"}"#),
    ];
    world.assert_delivered(&since.map(|(table, line)| (table.to_owned(), vec![line.to_owned()])).into());
}

#[tokio::test]
async fn a_newer_version_is_left_alone_after_a_roll_back() {
    let mut world = World::new(Api::V2).await;
    let item = json!({
        "pk": {"S": "default#audit"}, "sk": {"S": "checkpoint"}, "version": {"N": "99"}, "epoch": {"N": "7"},
        "lease_until": {"N": "0"}, "state": {"S": "in a form of the future"},
    });
    put(&world, &item);
    world.mimecast.push("audit", now() - TimeDelta::minutes(5), r#"{"id":"a1"}"#);
    let (error_type, message) = world.fail("audit").await;
    assert_eq!(error_type, "Checkpoint", "{message}");
    assert!(message.contains("newer version") && message.contains("default#audit/checkpoint"), "{message}");
    assert!(world.devo.lines().is_empty());
    let key = json!({"TableName": TABLE, "Key": {"pk": item["pk"], "sk": item["sk"]}}).to_string();
    let (_, body) = world.store.execute("GetItem", key.as_bytes());
    assert_eq!(serde_json::from_slice::<Value>(body.as_ref()).unwrap()["Item"], item, "nothing was touched");
}
