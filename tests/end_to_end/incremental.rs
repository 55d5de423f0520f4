//! One run after the other: new events arrive once, an idle run costs next to nothing.

use std::time::Duration;

use chrono::TimeDelta;
use simulator::data;
use simulator::data::SUMMARY_TABLE;

use crate::support::runtime::{Deadline, Outcome};
use crate::world::{Api, World, now, together};

/// Times that a second run of the hold summary sends it once more.
fn with_summary_twice(mut expected: data::Expected) -> data::Expected {
    let summary = expected[SUMMARY_TABLE].clone();
    expected.entry(SUMMARY_TABLE.into()).or_default().extend(summary);
    expected
}

#[tokio::test]
async fn new_events_arrive_once() {
    for api in [Api::V1, Api::V2] {
        let mut world = World::new(api).await;
        let first = data::lively(&world.mimecast, 1, now(), 1);
        let first_on_request = world.fill_on_request(1, TimeDelta::hours(20), 40);
        for source in world.sources() {
            world.run(source).await;
        }
        world.stop_all();
        let second = data::more(&world.mimecast, 2, now(), 7);
        let second_on_request = world.fill_on_request(2, TimeDelta::minutes(5), 7);
        for source in world.sources() {
            world.run(source).await;
        }
        world.assert_delivered(&with_summary_twice(together([first, first_on_request, second, second_on_request])));
    }
}

#[tokio::test]
async fn an_idle_run_is_cheap() {
    for api in [Api::V1, Api::V2] {
        let mut world = World::new(api).await;
        data::lively(&world.mimecast, 3, now(), 1);
        world.fill_on_request(3, TimeDelta::hours(20), 40);
        for source in world.sources() {
            world.run(source).await;
            world.mimecast.clear_requests();
            let before = world.aws.calls().len();
            tokio::time::sleep(Duration::from_millis(1100)).await;
            let answer = world.run(source).await;
            let requests = world.mimecast.requests();
            let most = match (source, api) {
                ("siem", Api::V2) => 10,
                ("siemci", _) => 3,
                ("threatfeed", _) => 2,
                _ => 1,
            };
            assert!(requests.len() <= most, "{source} {api:?}: {requests:#?}");
            assert_eq!(answer["requests"], requests.len(), "{answer}");
            let calls = &world.aws.calls()[before..];
            let reads = calls.iter().filter(|call| call.contains("Query") || call.contains("Get")).count();
            assert!(reads <= 1, "{source} {api:?}: {calls:?}");
            assert!(calls.len() - reads <= 2, "{source} {api:?}: {calls:?}");
            assert_eq!(answer["status"], "caught_up");
            assert_eq!(answer["events"], if source == "messageholdsummary" { 4 } else { 0 }, "{answer}");
        }
    }
}

#[tokio::test]
async fn late_events_within_the_overlap_arrive() {
    let mut world = World::new(Api::V2).await;
    let at = now() - chrono::TimeDelta::minutes(10);
    world.mimecast.push("url", at, r#"{"n":1,"date":"x"}"#);
    world.run("url").await;
    world.mimecast.push("url", at, r#"{"n":1,"date":"x"}"#);
    world.mimecast.push("url", at, r#"{"n":2,"date":"x"}"#);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    world.run("url").await;
    let line = |n: u8| format!(r#"{{"n":{n},"date":"x"}}"#);
    world.assert_delivered(&[("mail.mimecast.ttp.url".to_owned(), vec![line(1), line(1), line(2)])].into());
}

#[tokio::test]
async fn collecting_begins_where_the_first_run_began() {
    for lookback in ["0s", "30m"] {
        let mut world = World::new(Api::V2).await;
        world.set("INITIAL_LOOKBACK", lookback).set("SETTLE", "0s");
        let ago = |minutes| now() - chrono::TimeDelta::minutes(minutes);
        world.mimecast.push("view", ago(60), r#"{"n":1}"#);
        world.mimecast.push("view", ago(20), r#"{"n":2}"#);
        world.run("view").await;
        tokio::time::sleep(Duration::from_millis(1100)).await;
        world.mimecast.push("view", now(), r#"{"n":3}"#);
        tokio::time::sleep(Duration::from_millis(1100)).await;
        // Its overlap of two hours does not go back behind the beginning.
        world.run("view").await;
        let all = [r#"{"n":2}"#, r#"{"n":3}"#].map(str::to_owned);
        let lines = if lookback == "0s" { all[1..].to_vec() } else { all.to_vec() };
        world.assert_delivered(&[("mail.mimecast.archive.messageview".to_owned(), lines)].into());
    }
}

#[tokio::test]
async fn a_notice_comes_again_when_it_has_changed() {
    let mut world = World::new(Api::V2).await;
    let (one, other) = (r#"{"id":"1","title":"a"}"#, r#"{"id":"1","title":"b"}"#);
    for notice in [one, one, other, one] {
        world.mimecast.set_notices(vec![notice.to_owned()]);
        world.run("dashboard").await;
    }
    let lines = [one, other, one].map(str::to_owned).to_vec();
    world.assert_delivered(&[(data::DASHBOARD_TABLE.to_owned(), lines)].into());
}

#[tokio::test]
async fn a_short_deadline_makes_progress_until_all_is_there() {
    let mut world = World::new(Api::V2).await;
    let expected = data::lively(&world.mimecast, 4, now(), 3);
    world.set("PAGE_SIZE", "5");
    for source in ["audit", "siem", "view"] {
        let mut runs = 0;
        loop {
            runs += 1;
            assert!(runs < 100, "{source} does not get there");
            let deadline = Deadline::In(Duration::from_millis(2500));
            match world.invoke_with(source, "{}", deadline).await {
                Outcome::Answer(answer) if answer["status"] == "caught_up" => break,
                Outcome::Answer(answer) => assert_eq!(answer["status"], "more"),
                other => panic!("{source}: {other:?}"),
            }
        }
    }
    let wanted = |table: &str| table.contains(".siem.") || table.contains(".audit.") || table.contains(".messageview");
    world.assert_delivered(&expected.into_iter().filter(|(table, _)| wanted(table)).collect());
}

#[tokio::test]
async fn a_second_invocation_is_busy_while_the_first_holds_the_lease() {
    let mut world = World::new(Api::V2).await;
    data::lively(&world.mimecast, 5, now(), 1);
    let hang = simulator::mimecast::FaultKind::Hang(Duration::from_secs(60));
    world.mimecast.fault(simulator::mimecast::Fault::new("/api/audit", hang));
    let deadline = Deadline::In(Duration::from_millis(100));
    // A deadline so short that the first is over before it has got anything done; the lease outlives it.
    let first = world.invoke_with("audit", "{}", deadline).await;
    assert!(matches!(first, Outcome::Failed { .. } | Outcome::Answer(_)), "{first:?}");
    let client = world.store.client();
    let key = |name: &str, value: &str| (name.to_owned(), aws_sdk_dynamodb::types::AttributeValue::S(value.to_owned()));
    client
        .update_item()
        .table_name(mimecast_devo::embedded::TABLE)
        .set_key(Some([key("pk", "default#audit"), key("sk", "checkpoint")].into()))
        .update_expression("SET lease_until = :later ADD epoch :one")
        .expression_attribute_values(
            ":later",
            aws_sdk_dynamodb::types::AttributeValue::N((now().timestamp_millis() + 60_000).to_string()),
        )
        .expression_attribute_values(":one", aws_sdk_dynamodb::types::AttributeValue::N("1".into()))
        .send()
        .await
        .unwrap();
    world.mimecast.clear_requests();
    let answer = world.run("audit").await;
    assert_eq!(answer["status"], "busy");
    assert!(world.mimecast.requests().is_empty());
    assert!(world.devo.lines().is_empty());
}
