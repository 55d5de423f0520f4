//! What a run tells of itself: metrics in its log, and own logs in Devo.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use simulator::{data, devo};

use crate::world::{Api, SOURCES, World, now};

const HEARTBEATS: &str = "devo.collectors.out.local.info";
const FAILURES: &str = "devo.collectors.out.local.error";
const SENT: &str = "devo.collector.metric.message_sent";

/// The metric lines that `source` has printed so far: their figures by name, metrics among them.
fn figures(world: &mut World, source: &str) -> Vec<BTreeMap<String, f64>> {
    // Only of an ended process is all output there.
    world.stop(source);
    let lines = world.output();
    let lines = lines.lines().filter(|line| line.starts_with('{') && line.contains(r#""_aws""#));
    let lines = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
    let figures = |line: Value| {
        for directive in line["_aws"]["CloudWatchMetrics"].as_array().unwrap() {
            assert_eq!(directive["Namespace"], "MimecastDevo/test");
            assert!(
                directive["Metrics"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .all(|of| line[of["Name"].as_str().unwrap()].is_number())
            );
        }
        let line = line.as_object().unwrap().iter();
        line.filter_map(|(name, value)| Some((name.to_owned(), value.as_f64()?))).collect()
    };
    lines.filter(|line| line["source"] == source).map(figures).collect()
}

/// The own-log lines in `table`, of `source`.
fn said(world: &World, table: &str, source: &str) -> Vec<Value> {
    let lines = world.devo.lines().remove(table).unwrap_or_default();
    let lines = lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["service_name"] == source || line["col_id"] == format!("default/{source}")).collect()
}

#[tokio::test]
async fn the_metrics_of_a_run_are_what_it_did() {
    for api in [Api::V1, Api::V2] {
        let mut world = World::new(api).await;
        world.set("METRICS_NAMESPACE", "MimecastDevo/test");
        data::lively(&world.mimecast, 21, now(), 1);
        for source in SOURCES {
            let before: usize = world.devo.lines().values().flatten().map(|line| line.len() + 1).sum();
            let answer = world.run(source).await;
            let after: usize = world.devo.lines().values().flatten().map(|line| line.len() + 1).sum();
            let told = figures(&mut world, source);
            let [told] = &told[..] else { panic!("{source}: {told:?}") };
            let number = |name: &str| told.get(name).copied().unwrap_or_default();
            assert_eq!(number("Events"), answer["events"].as_f64().unwrap(), "{source}: {told:?}");
            assert_eq!(number("Bytes"), (after - before) as f64, "{source}: {told:?}");
            assert_eq!(number("Requests"), answer["requests"].as_f64().unwrap(), "{source}: {told:?}");
            assert_eq!(number("Batches"), answer["batches"].as_f64().unwrap(), "{source}: {told:?}");
            assert_eq!(told["LagSeconds"], answer["lag_seconds"].as_f64().unwrap_or_default(), "{source}");
            assert!(!told.contains_key("Rejected") && !told.contains_key("DevoRefusals"), "{source}: {told:?}");
        }
    }
}

#[tokio::test]
async fn trouble_on_the_way_is_counted() {
    let mut world = World::new(Api::V2).await;
    world.set("METRICS_NAMESPACE", "MimecastDevo/test");
    data::lively(&world.mimecast, 22, now(), 1);
    let limited = simulator::mimecast::FaultKind::rate_limited(Duration::from_millis(300));
    world.mimecast.fault(simulator::mimecast::Fault::new("/api/audit", limited).times(2));
    world.devo.fault(devo::Fault::status(503).times(1));
    world.run("audit").await;
    let told = figures(&mut world, "audit");
    assert_eq!(told[0]["RateLimitWaits"], 2.0, "{told:?}");
    assert!(told[0].contains_key("LagSeconds"), "{told:?}");
    assert!(!told[0].contains_key("DevoRefusals"), "a later try has cured it: {told:?}");

    world.aws.remove_secret("mimecast");
    world.fail("audit").await;
    let told = figures(&mut world, "audit");
    assert_eq!(told.len(), 2);
    assert!(told[1].contains_key("Failures") && !told[1].contains_key("LagSeconds"), "{told:?}");
}

#[tokio::test]
async fn no_metrics_and_no_own_logs_unless_asked_for() {
    let mut world = World::new(Api::V2).await;
    world.run("audit").await;
    world.stop("audit");
    assert!(!world.output().contains("_aws"), "{}", world.output());
    assert!(world.devo.lines().is_empty());
}

#[tokio::test]
async fn a_heartbeat_tells_quiet_from_dead() {
    let mut world = World::new(Api::V2).await;
    world.set("DEVO_OWN_LOGS", "on").set("DEVO_TAG", "my.app");
    world.run("audit").await;
    let beats = said(&world, HEARTBEATS, "audit");
    assert_eq!(beats.len(), 1, "{beats:?}");
    let text = beats[0]["msg"].as_str().unwrap();
    assert!(text.starts_with("caught_up, 0 events, lag "), "{text}");
    assert_eq!(said(&world, SENT, "audit")[0]["msg_sent"]["part_counter"], 0);

    world.mimecast.push("audit", now() - chrono::TimeDelta::minutes(5), r#"{"id":"1"}"#);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    world.run("audit").await;
    assert_eq!(said(&world, SENT, "audit")[1]["msg_sent"]["part_counter"], 1);
    assert_eq!(said(&world, SENT, "audit")[1]["msg_sent"]["part_bytes"], r#"{"id":"1"}"#.len() + 1);
    assert_eq!(world.devo.lines()["my.app.audit.events"], [r#"{"id":"1"}"#]);

    world.mimecast.deny("/api/audit");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(world.fail("audit").await.0, "Permission");
    let failures = said(&world, FAILURES, "audit");
    assert_eq!(failures.len(), 1);
    assert!(failures[0]["msg"].as_str().unwrap().contains("Account | Logs | Read"), "{failures:?}");
    world.assert_no_secret_printed();
}

#[tokio::test]
async fn own_logs_that_devo_refuses_cost_nothing() {
    let mut world = World::new(Api::V2).await;
    let expected = data::lively(&world.mimecast, 23, now(), 1);
    world.set("DEVO_OWN_LOGS", "on");
    world.devo.fault(devo::Fault::status(403).table("devo.collectors.out.local.info").times(9));
    let answer = world.run("audit").await;
    assert_eq!(answer["status"], "caught_up");
    let table = "mail.mimecast.audit.events".to_owned();
    assert_eq!(world.devo.lines()[&table].len(), expected[&table].len());
    world.stop("audit");
    assert!(world.output().contains("own logs were not delivered"), "{}", world.output());
    assert!(!world.devo.lines().contains_key("devo.collectors.out.local.info"), "{:?}", world.devo.lines().keys());
}
