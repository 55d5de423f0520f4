//! Sources read by time: clocks, look-back limits, rows that move while they are paged, pages that stay broken.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;
use serde_json::json;
use simulator::data;
use simulator::mimecast::{Fault, FaultKind};

use crate::support::aws::Fault as AwsFault;
use crate::support::runtime::{Deadline, Outcome};
use crate::world::{Api, World, counts, now};

const URL: &str = "mail.mimecast.ttp.url";
const AUDIT: &str = "mail.mimecast.audit.events";

/// Puts a checkpoint there as an earlier run would have left it.
async fn left_at(world: &World, source: &str, closed_to: DateTime<Utc>) {
    let state = json!({"windows": {"closed_to": closed_to}}).to_string();
    let item = [
        ("pk", AttributeValue::S(format!("default#{source}"))),
        ("sk", AttributeValue::S("checkpoint".into())),
        ("epoch", AttributeValue::N("7".into())),
        ("state", AttributeValue::S(state)),
        ("version", AttributeValue::N("1".into())),
    ];
    let item = item.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let put = world.store.client().put_item().table_name(mimecast_devo::embedded::TABLE).set_item(Some(item));
    put.send().await.unwrap();
}

#[tokio::test]
async fn time_that_mimecast_no_longer_keeps_is_reported() {
    let mut world = World::new(Api::V2).await;
    let left = now() - TimeDelta::days(70);
    left_at(&world, "audit", left).await;
    world.mimecast.push("audit", now() - TimeDelta::days(65), r#"{"id":"lost"}"#);
    world.mimecast.push("audit", now() - TimeDelta::days(59), r#"{"id":"kept"}"#);
    let answer = world.run("audit").await;
    assert_eq!(answer["gap"]["from"], json!(left), "{answer}");
    let to: DateTime<Utc> = serde_json::from_value(answer["gap"]["to"].clone()).unwrap();
    assert!((now() - to - TimeDelta::days(60)).abs() < TimeDelta::hours(2), "{answer}");
    world.assert_delivered(&[(AUDIT.to_owned(), vec![r#"{"id":"kept"}"#.to_owned()])].into());
    assert!(world.output().contains("gap"));
    assert!(world.run("audit").await.get("gap").is_none(), "it is reported once");
}

#[tokio::test]
async fn the_first_run_goes_back_as_far_as_it_may() {
    let mut world = World::new(Api::V2).await;
    world.set("INITIAL_LOOKBACK", "90d");
    world.mimecast.push("audit", now() - TimeDelta::days(59), r#"{"id":"1"}"#);
    world.mimecast.push("url", now() - TimeDelta::days(89), r#"{"n":1}"#);
    for source in ["audit", "url", "siem", "threatfeed"] {
        assert_eq!(world.run(source).await["status"], "caught_up");
    }
    let line = |text: &str| vec![text.to_owned()];
    world.assert_delivered(&[(AUDIT.to_owned(), line(r#"{"id":"1"}"#)), (URL.to_owned(), line(r#"{"n":1}"#))].into());
}

#[tokio::test]
async fn clocks_that_differ_by_an_hour_lose_nothing() {
    for api in [Api::V1, Api::V2] {
        for offset in [-3600, 3600] {
            let mut world = World::new(api).await;
            world.mimecast.set_clock_offset(offset);
            let server = now() + TimeDelta::seconds(offset);
            let expected = data::lively(&world.mimecast, 1, server, 1);
            let answer = world.run("url").await;
            assert_eq!(answer["status"], "caught_up", "{answer}");
            // Rows that come in the server's present are there in the next run.
            let more = data::more(&world.mimecast, 2, server, 5);
            tokio::time::sleep(Duration::from_millis(1100)).await;
            world.run("url").await;
            let lines = [expected[URL].clone(), more[URL].clone()].concat();
            world.assert_delivered(&[(URL.to_owned(), lines)].into());
        }
    }
}

#[tokio::test]
async fn late_rows_that_move_the_pages_double_nothing() {
    // In front of what is being paged, and among the rows of the page before the border, whichever way the list runs.
    let places: [&[f64]; 3] = [&[300.0, 2.0], &[93.5, 93.4, 93.3], &[97.5, 97.4, 97.3]];
    let cases = places.iter().flat_map(|late| ["url", "view"].map(|source| (source, late)));
    // At once: they wait most of the time.
    join_all(cases.map(async |(source, late)| {
        let mut world = World::new(Api::V2).await;
        world.set("PAGE_SIZE", "4");
        let mut lines = Vec::new();
        for n in 0..20 {
            // Every row twice, in the same second.
            let row = format!(r#"{{"n":{}}}"#, n / 2);
            let at = now() - TimeDelta::minutes(100 - n / 2);
            world.mimecast.push(source, at, &row);
            lines.push(row);
        }
        // Between the answers to the second request and to the third, which hangs.
        for minutes in *late {
            let row = format!(r#"{{"late":{minutes}}}"#);
            let visible = now() + TimeDelta::seconds(3);
            world.mimecast.push_late(source, now() - TimeDelta::seconds((minutes * 60.0) as i64), visible, &row);
            lines.push(row);
        }
        let path = format!("/api/{}", if source == "url" { "ttp/url" } else { "archive/get-view" });
        world.mimecast.fault(Fault::new(&path, FaultKind::Hang(Duration::from_secs(5))).skip(2));
        world.run(source).await;
        tokio::time::sleep(Duration::from_millis(1100)).await;
        world.run(source).await;
        let table = if source == "url" { URL } else { "mail.mimecast.archive.messageview" };
        world.assert_delivered(&[(table.to_owned(), lines)].into());
    }))
    .await;
}

#[tokio::test]
async fn a_row_that_spoils_its_page_is_cut_out() {
    let mut world = World::new(Api::V2).await;
    world.set("INITIAL_LOOKBACK", "3m");
    let at = |seconds| now() - TimeDelta::seconds(seconds);
    // Brackets that do not match: nobody can tell where this row ends.
    let poison = r#"{"id":"x","a":[}"#;
    world.mimecast.push("audit", at(150), r#"{"id":"1"}"#);
    world.mimecast.push("audit", at(110), poison);
    world.mimecast.push("audit", at(80), r#"{"id":"2"}"#);
    let answer = world.run("audit").await;
    // The second before shows it too, where the API counts a window's end in.
    let rejected = answer["rejected"].as_u64().unwrap();
    assert_eq!(counts(&answer), json!(["caught_up", 2, 0, rejected]), "{answer}");
    assert!((1..=2).contains(&rejected), "{answer}");
    let letters = world.dead_letters("audit").await;
    assert!(String::from_utf8_lossy(&letters[0].0).contains(poison), "{letters:?}");
    // The next window's overlap has it too: it is in nobody's way.
    world.mimecast.push("audit", at(61), r#"{"id":"3"}"#);
    tokio::time::sleep(Duration::from_millis(3100)).await;
    let answer = world.run("audit").await;
    assert_eq!((&answer["status"], &answer["rejected"]), (&json!("caught_up"), &json!(0)), "{answer}");
    let lines = (1..4).map(|n| format!(r#"{{"id":"{n}"}}"#)).collect();
    world.assert_delivered(&[(AUDIT.to_owned(), lines)].into());
}

#[tokio::test]
async fn pages_that_are_all_broken_are_an_error_and_lose_nothing() {
    let mut world = World::new(Api::V2).await;
    let expected = data::lively(&world.mimecast, 1, now(), 1);
    world.mimecast.fault(Fault::new("/api/ttp/url", FaultKind::Truncated).forever());
    let outcome = world.invoke_with("url", "{}", Deadline::In(Duration::from_secs(6))).await;
    let Outcome::Failed { error_type, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(error_type, "MimecastProtocol");
    world.mimecast.clear_faults();
    world.run("url").await;
    world.assert_delivered(&[(URL.to_owned(), expected[URL].clone())].into());
}

#[tokio::test]
async fn a_backfill_collects_its_range_beside_the_live_run() {
    for (source, table, time) in [
        ("url", URL, "date"),
        ("dlp", "my.app.mimecast.dlp", "eventTime"),
        ("release", "my.app.mimecast.release", "released"),
        ("rejections", "my.app.mimecast.rejections", "created"),
        ("siem", "mail.mimecast.siem.av", "timestamp"),
        ("siemci", "my.app.mimecast.ci.mailflow", "timestamp"),
    ] {
        let mut world = World::new(Api::V2).await;
        let start = now() - TimeDelta::hours(50);
        let at = |hours: i64| start + TimeDelta::hours(hours);
        let row = |n: i64| match source {
            "siem" | "siemci" => format!(r#"{{"n":{n},"{time}":{}}}"#, at(n).timestamp_millis()),
            _ => format!(r#"{{"n":{n},"{time}":"{}"}}"#, at(n).format("%FT%T+0000")),
        };
        for n in 0..40 {
            match source {
                "siem" => world.mimecast.push_siem_at("av", at(n), vec![row(n).into_bytes()]),
                "siemci" => world.mimecast.push_siem_at("mailflow", at(n), vec![row(n).into_bytes()]),
                _ => world.mimecast.push(source, at(n), row(n)),
            }
        }
        let backfill = |from: i64, to: i64, id: &str| {
            let (from, to) = (at(from).format("%FT%TZ"), at(to).format("%FT%TZ"));
            json!({"backfill": {"from": from.to_string(), "to": to.to_string(), "id": id}}).to_string()
        };
        let deadline = Deadline::In(Duration::from_secs(60));
        let mut expected = Vec::new();
        // Half-open ranges that join; the second is asked for twice, and then under another name.
        for (event, range) in [
            (backfill(3, 7, "a"), 3..7),
            (backfill(7, 20, "b"), 7..20),
            (backfill(7, 20, "b"), 0..0),
            (backfill(7, 20, "c"), 7..20),
        ] {
            let outcome = world.invoke_with(source, &event, deadline).await;
            let Outcome::Answer(answer) = outcome else { panic!("{outcome:?}") };
            assert_eq!((&answer["status"], &answer["events"]), (&json!("caught_up"), &json!(range.clone().count())));
            expected.extend(range.map(row));
        }
        world.assert_delivered(&[(table.to_owned(), expected.clone())].into());
        // The live run knows nothing of it.
        world.set("INITIAL_LOOKBACK", "60h");
        world.stop(source);
        world.run(source).await;
        expected.extend((0..40).map(row));
        world.assert_delivered(&[(table.to_owned(), expected)].into());
    }
}

#[tokio::test]
async fn a_backfill_of_what_has_no_time_is_refused() {
    let range = r#"{"backfill":{"from":"2026-01-01T00:00:00Z","to":"2026-01-02T00:00:00Z"}}"#;
    for (api, source) in
        [(Api::V2, "dashboard"), (Api::V2, "messageholdsummary"), (Api::V2, "threatfeed"), (Api::V1, "siem")]
    {
        let mut world = World::new(api).await;
        let outcome = world.invoke_with(source, range, Deadline::In(Duration::from_secs(60))).await;
        let Outcome::Failed { error_type, error_message } = outcome else { panic!("{outcome:?}") };
        assert_eq!(error_type, "Configuration", "{source}");
        assert!(error_message.contains("backfill"), "{error_message}");
    }
}

#[tokio::test]
async fn dynamodb_faults_lose_nothing_and_double_nothing() {
    for (operation, source) in
        [("UpdateItem", "audit"), ("Query", "audit"), ("TransactWriteItems", "url"), ("UpdateItem", "dashboard")]
    {
        for fault in [AwsFault::THROTTLED, AwsFault::Lost, AwsFault::Cut] {
            let mut world = World::new(Api::V2).await;
            let mut expected = data::lively(&world.mimecast, 1, now(), 1);
            world.aws.fault(operation, fault, 2);
            for _ in 0..2 {
                assert_eq!(world.run(source).await["status"], "caught_up", "{operation} {fault:?}");
                tokio::time::sleep(Duration::from_millis(1100)).await;
            }
            expected.retain(|table, _| table.contains(if source == "url" { ".ttp.url" } else { source }));
            world.assert_delivered(&expected);
        }
    }
    // Throttled for good: an error of its own type, and nothing is sent that could not be recorded.
    let mut world = World::new(Api::V2).await;
    data::lively(&world.mimecast, 1, now(), 1);
    world.aws.fault("UpdateItem", AwsFault::THROTTLED, 1000);
    let (error_type, _) = world.fail("audit").await;
    assert_eq!(error_type, "Checkpoint");
    assert!(world.devo.lines().is_empty());
}
