//! What runs cost, as counts: requests to Mimecast and calls of AWS in fixed scenarios.

use std::time::Duration;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use simulator::mimecast::Request;

use crate::support::runtime::{Deadline, Outcome};
use crate::world::{Api, World, counts, now};

const URL: &str = "mail.mimecast.ttp.url";
const LEASE: &str = "UpdateItem";
const COMMIT: &str = "UpdateItem";
const COMMIT_WITH_MARKS: &str = "TransactWriteItems";

/// A run in a warm environment: its answer, its requests and its AWS calls.
async fn warm_run(world: &mut World, source: &str) -> (Value, Vec<Request>, Vec<String>) {
    tokio::time::sleep(Duration::from_millis(1100)).await;
    world.mimecast.clear_requests();
    let before = world.aws.calls().len();
    let answer = world.run(source).await;
    assert_eq!(answer["status"], "caught_up", "{answer}");
    (answer, world.mimecast.requests(), world.aws.calls()[before..].to_vec())
}

#[tokio::test]
async fn a_warm_idle_run_asks_once_and_takes_and_gives_back_its_lease() {
    for (api, source, most) in [
        (Api::V1, "audit", 1),
        (Api::V2, "audit", 1),
        (Api::V2, "url", 1),
        (Api::V2, "view", 1),
        (Api::V1, "siem", 1),
        (Api::V2, "siem", 10),
    ] {
        let mut world = World::new(api).await;
        // Before the overlap of any source.
        world.mimecast.push("audit", now() - TimeDelta::hours(5), r#"{"id":"1"}"#);
        world.mimecast.push("url", now() - TimeDelta::hours(5), r#"{"n":1}"#);
        world.mimecast.push("view", now() - TimeDelta::hours(5), r#"{"n":1}"#);
        world.mimecast.push_siem("av", vec![br#"{"type":"av"}"#.to_vec()]);
        world.run(source).await;
        for _ in 0..2 {
            let (answer, requests, calls) = warm_run(&mut world, source).await;
            assert_eq!(requests.len(), most, "{source} {api:?}: {requests:#?}");
            assert_eq!(calls, [LEASE, COMMIT], "{source} {api:?}");
            assert_eq!(counts(&answer), json!(["caught_up", 0, 0, 0]));
        }
    }
}

#[tokio::test]
async fn a_new_row_costs_a_query_and_its_marks_come_with_the_commit() {
    let mut world = World::new(Api::V2).await;
    world.run("audit").await;
    world.mimecast.push("audit", now() - TimeDelta::minutes(2), r#"{"id":"1"}"#);
    let (_, requests, calls) = warm_run(&mut world, "audit").await;
    assert_eq!(requests.len(), 1, "{requests:#?}");
    assert_eq!(calls, [LEASE, "Query", COMMIT_WITH_MARKS]);
    // The row is in the overlap of the next runs: known by its mark.
    let (answer, requests, calls) = warm_run(&mut world, "audit").await;
    assert_eq!((requests.len(), calls), (1, [LEASE, "Query", COMMIT].map(str::to_owned).into()));
    assert_eq!(counts(&answer), json!(["caught_up", 0, 1, 0]));
}

/// How rows lie in the twenty hours before the last one.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Spread {
    Even,
    /// Nine in ten in two busy times of two hours.
    BusyHours,
    /// Nine in ten in six busy times of ten minutes.
    ShortBursts,
    /// Ten million a day, for as long as it takes.
    Rush,
}

fn fill(world: &World, count: i64, spread: Spread) -> Vec<String> {
    let begin = if spread == Spread::Rush { now() - TimeDelta::seconds(240) } else { now() - TimeDelta::hours(21) };
    let seconds = 20 * 3600;
    let row = |n: i64| {
        let (bursts, length) = if spread == Spread::BusyHours { (2, 7200) } else { (6, 600) };
        let at = match spread {
            Spread::Even => n * seconds / count,
            Spread::Rush => n / 115,
            _ if n % 10 == 0 => n * 7919 % seconds,
            _ => n % bursts * seconds / bursts + n / 10 * 7919 % length,
        };
        let time = begin + TimeDelta::seconds(at);
        let row = format!(r#"{{"n":{n},"date":"{}"}}"#, time.format("%FT%T+0000"));
        world.mimecast.push("url", time, &row);
        row
    };
    (0..count).map(row).collect()
}

#[tokio::test]
async fn a_backlog_costs_little_more_requests_than_it_has_pages() {
    use Spread::{BusyHours, Even, Rush, ShortBursts};
    for (count, size, spread) in [
        (5_000, 100, Even),
        (20_000, 500, Even),
        (20_000, 100, BusyHours),
        (5_000, 100, ShortBursts),
        (20_000, 500, Rush),
    ] {
        let mut world = World::new(Api::V2).await;
        world.set("PAGE_SIZE", &size.to_string());
        if spread == Rush {
            world.set("INITIAL_LOOKBACK", "270s");
        }
        let lines = fill(&world, count, spread);
        let answer = world.run("url").await;
        assert_eq!((&answer["status"], &answer["events"]), (&json!("caught_up"), &json!(count)), "{answer}");
        world.assert_delivered(&[(URL.to_owned(), lines)].into());
        let requests = world.mimecast.requests().iter().filter(|request| request.source == "url").count();
        let most = (count as usize).div_ceil(size) * 16 / 10;
        println!("{count} rows by {size}, {spread:?}: {requests} requests of at most {most}");
        assert!(requests <= most, "{count} rows by {size}, {spread:?}: {requests} requests of at most {most}");
    }
}

/// A single second with more rows than a page takes the length of slices down to a second and up again.
#[tokio::test]
async fn a_dense_second_in_a_quiet_day_costs_few_requests() {
    let mut world = World::new(Api::V2).await;
    world.set("PAGE_SIZE", "10");
    let of = |n: i64, minutes: i64| {
        let row = format!(r#"{{"n":{n}}}"#);
        world.mimecast.push("url", now() - TimeDelta::minutes(minutes), &row);
        row
    };
    let at = now() - TimeDelta::minutes(700);
    let dense = (0..35).map(|n| {
        let row = format!(r#"{{"n":{n}}}"#);
        world.mimecast.push("url", at, &row);
        row
    });
    let lines: Vec<String> = dense.chain((35..50).map(|n| of(n, (n - 34) * 80))).collect();
    let answer = world.run("url").await;
    assert_eq!((&answer["status"], &answer["events"]), (&json!("caught_up"), &json!(50)), "{answer}");
    world.assert_delivered(&[(URL.to_owned(), lines)].into());
    println!("a dense second: {} requests", answer["requests"]);
    assert!(answer["requests"].as_u64().unwrap() <= 60, "{answer}");
}

/// What a request for a slice asks for.
fn slice(request: &Request) -> (DateTime<Utc>, DateTime<Utc>) {
    let body: Value = serde_json::from_str(&request.body).unwrap();
    let time = |name: &str| {
        let text = body["data"][0][name].as_str().unwrap();
        DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%z").unwrap().to_utc()
    };
    (time("from"), time("to"))
}

#[tokio::test]
async fn a_busy_source_reads_each_instant_again_once_when_it_is_as_old_as_the_overlap() {
    let mut world = World::new(Api::V2).await;
    world.set("PAGE_SIZE", "4").set("OVERLAP", "45s").set("SETTLE", "0s").set("INITIAL_LOOKBACK", "60s");
    let (begin, mut lines) = (now(), Vec::new());
    // As they come, before the test and while it goes on.
    for n in 0..700 {
        let row = format!(r#"{{"n":{n}}}"#);
        let at = begin + TimeDelta::milliseconds(n * 200 - 60_000);
        world.mimecast.push_late("url", at, at, &row);
        if at > begin - TimeDelta::seconds(50) && at < begin + TimeDelta::seconds(10) {
            lines.push(row);
        }
    }
    // So late that only the reading at its overlap's age finds it.
    let late = r#"{"late":1}"#.to_owned();
    world.mimecast.push_late("url", begin - TimeDelta::seconds(34), begin + TimeDelta::seconds(3), &late);
    lines.push(late);
    // The first run that reads again learns that this takes more than the forty requests which are worth it in every run.
    world.run("url").await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    world.run("url").await;
    let mut before: Option<(DateTime<Utc>, DateTime<Utc>)> = None;
    while now() < begin + TimeDelta::seconds(16) {
        let (answer, requests, _) = warm_run(&mut world, "url").await;
        let windows = &answer["checkpoint"]["windows"];
        let at = |name: &str| serde_json::from_value::<DateTime<Utc>>(windows[name].clone()).unwrap();
        if let Some((reread_to, closed_to)) = before {
            let slices: Vec<_> = requests.iter().filter(|request| request.source == "url").map(slice).collect();
            // Each either goes on from where the reading again had got to, to the overlap's age, or is new.
            let overlap = |end: DateTime<Utc>| now() - end >= TimeDelta::seconds(44);
            for (from, to) in slices {
                let again = from >= reread_to && overlap(to);
                assert!(again || from >= closed_to, "{from} to {to}, {reread_to}, {closed_to}: {answer}");
            }
        }
        before = Some((at("reread_to"), at("closed_to")));
        let behind = at("closed_to") - at("reread_to");
        assert!(behind >= TimeDelta::seconds(44) && behind <= TimeDelta::seconds(49), "{behind}: {answer}");
    }
    let delivered = &world.devo.lines()[URL];
    for line in &lines {
        assert_eq!(delivered.iter().filter(|found| *found == line).count(), 1, "{line}");
    }
}

#[tokio::test]
async fn requests_overlap_and_none_comes_above_the_quota() {
    for (source, text, path) in [("url", "/api/ttp/url", 20), ("siem", "/siem/v1/batch", 40)] {
        // Without a quota they overlap, with one they wait.
        for quota in [false, true] {
            let mut world = World::new(Api::V2).await;
            world.set("PAGE_SIZE", "5");
            let mut expected = simulator::data::lively(&world.mimecast, 1, now(), 3);
            expected.retain(|table, _| table.contains(if source == "url" { ".ttp.url" } else { ".siem." }));
            world.mimecast.set_latency(Duration::from_millis(200));
            if quota {
                world.mimecast.set_quota(text, path / 2, Duration::from_secs(2));
            }
            let answer = world.run(source).await;
            assert_eq!(answer["status"], "caught_up", "{answer}");
            world.assert_delivered(&expected);
            assert!(world.mimecast.most_in_flight() > 1, "{source}: one after the other");
            assert_eq!(world.mimecast.over_quota(), 0, "{source}");
        }
    }
}

/// Rows that have been delivered are known by 16 bytes each: the marks of ten million of them in one overlap fit into a function.
#[tokio::test]
async fn the_marks_of_ten_million_rows_in_an_overlap_fit_into_a_function() {
    const ITEMS: u64 = 500;
    const MARKS: u64 = 20_000;
    let mut world = World::new(Api::V2).await;
    let stamp = (now() - TimeDelta::minutes(2)).format("%FT%TZ").to_string();
    for item in 0..ITEMS {
        let marks: Vec<u8> = (0..MARKS)
            .flat_map(|mark| {
                // Spread as hashes are.
                let spread = (item * MARKS + mark).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                [spread.to_le_bytes(), spread.rotate_left(32).to_le_bytes()].concat()
            })
            .collect();
        let put = world.store.client().put_item().table_name(mimecast_devo::embedded::TABLE);
        let put = put.item("pk", AttributeValue::S("default#url".into()));
        let put = put.item("sk", AttributeValue::S(format!("seen#{stamp}#{item:07}")));
        put.item("marks", AttributeValue::B(Blob::new(marks))).send().await.unwrap();
    }
    let row = r#"{"n":1}"#.to_owned();
    world.mimecast.push("url", now() - TimeDelta::minutes(4), &row);
    let outcome = world.invoke_with("url", "{}", Deadline::In(Duration::from_secs(240))).await;
    let Outcome::Answer(answer) = outcome else { panic!("{outcome:?}") };
    assert_eq!((&answer["status"], &answer["events"]), (&json!("caught_up"), &json!(1)), "{answer}");
    world.assert_delivered(&[(URL.to_owned(), vec![row])].into());
    let status = std::fs::read_to_string(format!("/proc/{}/status", world.pid("url").unwrap())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak_mb = peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024;
    println!("{} marks: {peak_mb} MB", ITEMS * MARKS);
    assert!(peak_mb < 230, "{peak_mb} MB, of the 256 that the template gives it");
}
