//! `status`, `dead-letters` and `backfill`, on the state file of a host and on a table on AWS.

use std::process::Stdio;
use std::time::{Duration, Instant};

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue::{B, S};
use mimecast_devo::embedded::{Embedded, TABLE};
use serde_json::{Value, json};
use simulator::devo;

use crate::support::aws::{Aws, Fault};
use crate::world::{URL, World, ago, row, said, signal, text};

const BAD: &[u8] = br#"{"n":}"#;

/// Puts good bytes into the dead letters.
async fn mend(store: &Embedded, good: &[u8]) {
    let client = store.client();
    let query = client.query().table_name(TABLE).key_condition_expression("pk = :pk AND begins_with(sk, :dead)");
    let query = query.expression_attribute_values(":pk", S("default#url".to_owned()));
    let items = query.expression_attribute_values(":dead", S("dead#".to_owned())).send().await.unwrap();
    for mut item in items.items.unwrap() {
        item.insert("raw".to_owned(), B(Blob::new(good)));
        client.put_item().table_name(TABLE).set_item(Some(item)).send().await.unwrap();
    }
}

#[tokio::test]
async fn on_a_host() {
    let world = World::new().await;
    let none = world.run(&["status"]).await;
    assert_eq!(none.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&none.stderr).contains("there is no state file state.db"));

    // Two days ago something was missed; and what is collected now has a bad row.
    let missed: Vec<String> = (0..3).map(|n| row(n, ago(3000))).collect();
    missed.iter().for_each(|row| world.mimecast.push("url", ago(3000), row.as_str()));
    let fresh = row(10, ago(5));
    world.mimecast.push("url", ago(5), fresh.as_str());
    world.mimecast.push("url", ago(5), BAD);
    let mut collect = world.command(&["collect"]).stderr(Stdio::null()).spawn().unwrap();
    world.until("the fresh row", || world.lines() == [fresh.clone()]).await;
    tokio::time::sleep(Duration::from_millis(500)).await;

    // Beside it one can look, and collect what was missed, but not replay.
    let status = said(&world.run(&["status", "--source", "url", "--json"]).await);
    let status: Value = serde_json::from_str(status.trim_end()).unwrap();
    assert_eq!((&status["source"], &status["dead_letters"]), (&json!("url"), &json!(1)), "{status}");
    assert!(status["lag_seconds"].as_i64().unwrap() < 120, "{status}");
    let list = said(&world.run(&["dead-letters", "list"]).await);
    assert!(list.contains("url") && list.contains("not json") && list.lines().count() == 2, "{list}");
    let refused = world.run(&["dead-letters", "replay"]).await;
    assert_eq!(refused.status.code(), Some(1));
    let error = String::from_utf8(refused.stderr).unwrap();
    assert!(error.contains("state.db is in use by process "), "{error}");
    let (from, to) = (text(ago(4000)), text(ago(2000)));
    let backfill = ["backfill", "--source", "url", "--from", &from, "--to", &to];
    let told = said(&world.run(&backfill).await);
    assert!(told.contains("url: finished, 3 events"), "{told}");
    let told = said(&world.run(&backfill).await);
    assert!(told.contains("url: finished, 0 events"), "{told}");
    let status = said(&world.run(&["status"]).await);
    assert!(status.contains(&from) && status.contains(&to) && status.contains("finished"), "{status}");
    signal(&collect, "TERM");
    tokio::task::spawn_blocking(move || collect.wait().unwrap()).await.unwrap();

    // The bad row stays until it can be read.
    let replay = world.run(&["dead-letters", "replay", "--source", "url"]).await;
    assert_eq!(replay.status.code(), Some(1));
    let told = String::from_utf8(replay.stdout).unwrap();
    assert!(told.contains("url (tenant default): 0 dead letters replayed, 0 events; 1 stay"), "{told}");
    mend(&Embedded::open(&world.directory.path().join("state.db")).unwrap(), br#"{"n": 11}"#).await;
    let shown = world.run(&["dead-letters", "show", "--reason", "not json"]).await;
    assert_eq!(said(&shown), "{\"n\": 11}\n");
    let told = said(&world.run(&["dead-letters", "replay", "--before", "1h"]).await);
    assert!(told.contains("no such dead letters in state.db"), "{told}");
    let told = said(&world.run(&["dead-letters", "replay", "--dry-run"]).await);
    assert!(told.contains("1 dead letters would be replayed, 1 events"), "{told}");
    let told = said(&world.run(&["dead-letters", "replay", "--since", "1h"]).await);
    assert!(told.contains("1 dead letters replayed, 1 events; 0 stay"), "{told}");
    assert!(said(&world.run(&["dead-letters", "list"]).await).contains("no dead letters in state.db"));
    let mut expected = [missed, vec![fresh, r#"{"n":11}"#.to_owned()]].concat();
    expected.sort();
    assert_eq!(world.lines(), expected);
}

#[tokio::test]
async fn a_backfill_that_is_killed_or_stopped_goes_on() {
    let mut world = World::new().await;
    world.settings.insert("PAGE_SIZE".to_owned(), "5".to_owned());
    let mut expected: Vec<String> = (0..60).map(|n| row(n, ago(3000 - i64::from(n)))).collect();
    for (n, row) in expected.iter().enumerate() {
        world.mimecast.push("url", ago(3000 - n as i64), row.as_str());
    }
    expected.sort();
    let (from, to) = (text(ago(4000)), text(ago(2000)));
    let backfill = ["backfill", "--source", "url", "--from", &from, "--to", &to, "--id", "missed"];
    // Devo does not answer: the command is stopped within a batch, and then killed within one.
    for (name, code) in [("INT", Some(130)), ("KILL", None)] {
        world.devo.fault(devo::Fault::new(devo::Kind::Hang(Duration::from_secs(3600))));
        let requests = world.mimecast.requests().len();
        let mut child = world.command(&backfill).spawn().unwrap();
        world.until("a reading", || world.mimecast.requests().len() > requests + 5).await;
        tokio::time::sleep(Duration::from_millis(700)).await;
        signal(&child, name);
        assert_eq!(tokio::task::spawn_blocking(move || child.wait().unwrap().code()).await.unwrap(), code);
        world.devo.clear_faults();
    }
    // Its lease is nobody's now, so the same command goes on at once.
    let started = Instant::now();
    assert!(said(&world.run(&backfill).await).contains("url: finished, 60 events"));
    assert!(started.elapsed() < Duration::from_secs(20));
    assert_eq!(world.lines(), expected);

    let (code, error) = {
        let output = world.run(&["backfill", "--source", "url", "--from", &from, "--to", &text(ago(5))]).await;
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert!(code == Some(2) && error.contains("--to must be an hour ago"), "{error}");
    let output = world.run(&["backfill", "--source", "dashboard", "--from", &from, "--to", &to]).await;
    assert!(output.status.code() == Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("backfill is not possible for this source"));
}

#[tokio::test]
async fn on_aws() {
    let mut world = World::new().await;
    let store = Embedded::memory().unwrap();
    let aws = Aws::start(store.clone());
    world.on_aws(&aws);
    let good = row(1, ago(3000));
    world.mimecast.push("url", ago(3000), good.as_str());
    world.mimecast.push("url", ago(3000), BAD);
    let (from, to) = (text(ago(4000)), text(ago(2000)));
    let table = ["--table", TABLE];
    let backfill = [&["backfill", "--source", "url", "--from", &from, "--to", &to][..], &table].concat();
    assert!(said(&world.run(&backfill).await).contains("url: finished, 1 events"));
    // Looking needs no more than the table, named by the variable too.
    for name in ["MIMECAST_SECRET_ID", "DEVO_SECRET_ID"] {
        world.settings.remove(name);
    }
    world.settings.insert("CHECKPOINT_TABLE".to_owned(), TABLE.to_owned());
    let output = world.run(&["status", "--source", "url"]).await;
    let status = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "its live run has never been");
    assert!(status.contains("finished") && status.contains("never"), "{status}");
    let list = said(&world.run(&["dead-letters", "list", "--json"]).await);
    let letter: Value = serde_json::from_str(list.trim_end()).unwrap();
    assert_eq!((&letter["source"], &letter["table"]), (&json!("url"), &json!(URL)), "{letter}");
    assert_eq!(
        said(&world.run(&["dead-letters", "list", "--tenant", "other"]).await),
        "no dead letters in table checkpoint\n"
    );
    let output = world.run(&["dead-letters", "list", "--tenant", "No Tenant"]).await;
    assert_eq!(output.status.code(), Some(2));

    // A commit that fails after Devo has accepted repeats that batch, and no more.
    world.on_aws(&aws);
    mend(&store, br#"{"n":2}"#).await;
    let id = letter["id"].as_str().unwrap();
    let replay = [&["dead-letters", "replay", "--id", id][..], &table].concat();
    aws.fault("TransactWriteItems", Fault::DENIED, 1);
    let output = world.run(&replay).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("AccessDenied"));
    for told in ["1 dead letters replayed, 1 events", "no such dead letters"] {
        assert!(said(&world.run(&replay).await).contains(told));
    }
    assert_eq!(world.lines(), [good, r#"{"n":2}"#.to_owned(), r#"{"n":2}"#.to_owned()]);
}
