//! What a careful reader once found wrong: each of these lost, doubled or blocked something.

use std::time::Duration;

use chrono::TimeDelta;
use serde_json::json;
use simulator::devo::{Fault as DevoFault, Kind};
use simulator::mimecast::{Fault, FaultKind, SiemMode};

use crate::support::aws::Fault as AwsFault;
use crate::support::runtime::{Deadline, Outcome};
use crate::world::{Api, World, now};

const URL: &str = "mail.mimecast.ttp.url";
const AUDIT: &str = "mail.mimecast.audit.events";
const VIEW: &str = "mail.mimecast.archive.messageview";

fn partial(world: &World) {
    world.devo.fault(DevoFault::new(Kind::TooLarge { max_bytes: 300 }).times(1000));
    world.devo.fault(DevoFault::status(403).skip(2).times(1000));
}

#[tokio::test]
async fn a_first_run_that_devo_cuts_short_repeats_nothing() {
    let mut world = World::new(Api::V2).await;
    let lines: Vec<String> = (0..40).map(|n| format!(r#"{{"n":{n},"pad":"{}"}}"#, "x".repeat(30))).collect();
    for (n, line) in lines.iter().enumerate() {
        world.mimecast.push("url", now() - TimeDelta::minutes(200 - n as i64), line);
    }
    partial(&world);
    world.fail("url").await;
    let sent = world.devo.lines().get(URL).map_or(0, Vec::len);
    assert!(sent > 0 && sent < 40);
    world.devo.clear_faults();
    world.run("url").await;
    world.assert_delivered(&[(URL.to_owned(), lines)].into());
}

#[tokio::test]
async fn notices_that_devo_took_before_it_failed_are_not_sent_again() {
    let mut world = World::new(Api::V2).await;
    let lines: Vec<String> = (0..40).map(|n| format!(r#"{{"id":"{n}","pad":"{}"}}"#, "x".repeat(30))).collect();
    world.mimecast.set_notices(lines.clone());
    partial(&world);
    world.fail("dashboard").await;
    assert!(!world.devo.lines().is_empty());
    world.devo.clear_faults();
    world.run("dashboard").await;
    world.assert_delivered(&[("mail.mimecast.account.dashboard".to_owned(), lines)].into());
}

#[tokio::test]
async fn a_dead_letter_is_written_once_while_devo_is_down() {
    let mut world = World::new(Api::V2).await;
    world.mimecast.push("audit", now() - TimeDelta::minutes(100), r#"{"id":"x","a":bad}"#);
    world.mimecast.push("audit", now() - TimeDelta::minutes(90), r#"{"id":"1"}"#);
    world.devo.fault(DevoFault::status(403).times(1000));
    for _ in 0..3 {
        world.fail("audit").await;
    }
    world.devo.clear_faults();
    world.run("audit").await;
    assert_eq!(world.dead_letters("audit").await.len(), 1);
}

#[tokio::test]
async fn links_refused_for_a_while_lose_no_file() {
    let mut world = World::new(Api::V2).await;
    let line = |n: usize| format!(r#"{{"type":"av","n":{n}}}"#);
    (0..5).for_each(|n| world.mimecast.push_siem("av", vec![line(n).into_bytes()]));
    world.mimecast.fault(Fault::new("/files/", FaultKind::ExpiredLink).forever());
    world.invoke("siem").await;
    world.mimecast.clear_faults();
    world.invoke("siem").await;
    world.assert_delivered(&[("mail.mimecast.siem.av".to_owned(), (0..5).map(line).collect())].into());
}

#[tokio::test]
async fn a_late_row_between_two_runs_of_one_window_doubles_nothing() {
    for source in ["view", "url"] {
        let mut world = World::new(Api::V2).await;
        world.set("PAGE_SIZE", "4");
        let mut lines: Vec<String> = (0..12).map(|n| format!(r#"{{"n":{n}}}"#)).collect();
        for (n, line) in lines.iter().enumerate() {
            world.mimecast.push(source, now() - TimeDelta::minutes(100 - n as i64), line);
        }
        let path = if source == "url" { "/api/ttp/url" } else { "/api/archive/get-view" };
        world.mimecast.fault(Fault::new(path, FaultKind::Hang(Duration::from_secs(6))).skip(1));
        world.invoke_with(source, "{}", Deadline::In(Duration::from_secs(5))).await;
        world.stop(source);
        world.mimecast.clear_faults();
        let row = r#"{"n":100}"#.to_owned();
        world.mimecast.push(source, now() - TimeDelta::minutes(if source == "url" { 300 } else { 2 }), &row);
        lines.push(row);
        world.run(source).await;
        let table = if source == "url" { URL } else { VIEW };
        world.assert_delivered(&[(table.to_owned(), lines)].into());
    }
}

#[tokio::test]
async fn a_repeated_page_doubles_nothing() {
    let mut world = World::new(Api::V2).await;
    world.set("PAGE_SIZE", "4");
    let lines: Vec<String> = (0..12).map(|n| format!(r#"{{"n":{n}}}"#)).collect();
    for (n, line) in lines.iter().enumerate() {
        world.mimecast.push("view", now() - TimeDelta::minutes(100 - n as i64), line);
    }
    let rows = lines.iter().rev().take(4).cloned().collect::<Vec<_>>().join(",");
    let body = format!(
        r#"{{"meta":{{"status":200,"pagination":{{"pageSize":4,"totalCount":12,"next":"zzz"}}}},"data":[{rows}],"fail":[]}}"#
    );
    world
        .mimecast
        .fault(Fault::new("/api/archive/get-view", FaultKind::Status { status: 200, headers: vec![], body }).skip(1));
    world.run("view").await;
    world.assert_delivered(&[(VIEW.to_owned(), lines)].into());
}

#[tokio::test]
async fn a_message_released_while_paging_skips_no_other() {
    let mut world = World::new(Api::V2).await;
    world.set("PAGE_SIZE", "4");
    let lines: Vec<String> = (0..12).map(|n| format!(r#"{{"id":"i{n}e"}}"#)).collect();
    for (n, line) in lines.iter().enumerate() {
        world.mimecast.push("messageholdlist", now() - TimeDelta::minutes(100 - n as i64), line);
    }
    let mimecast = std::mem::replace(&mut world.mimecast, simulator::Mimecast::start().await.unwrap());
    mimecast.fault(
        Fault::new(
            "/api/gateway/get-hold-message",
            FaultKind::Status { status: 503, headers: vec![], body: "{}".into() },
        )
        .skip(1),
    );
    let (_, ()) = tokio::join!(world.run("messageholdlist"), async {
        while mimecast.requests().iter().filter(|r| r.path.contains("get-hold-message")).count() < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        mimecast.remove("messageholdlist", "i11e");
    });
    world.run("messageholdlist").await;
    world.assert_delivered(&[("mail.mimecast.message.list".to_owned(), lines)].into());
}

#[tokio::test]
async fn the_lag_is_that_of_the_feeds_in_use() {
    let mut world = World::new(Api::V1).await;
    world.run("siem").await;
    world.stop("siem");
    world.aws.set_secret("mimecast", &world.mimecast.secret_v2());
    tokio::time::sleep(Duration::from_secs(4)).await;
    let answer = world.run("siem").await;
    assert!(answer["lag_seconds"].as_u64().unwrap() < 3, "{answer}");
}

#[tokio::test]
async fn a_divided_backfill_in_a_new_process_doubles_nothing() {
    let mut world = World::new(Api::V2).await;
    world.set("PAGE_SIZE", "4");
    let start = now() - TimeDelta::hours(10);
    let at = |n: i64| start + TimeDelta::minutes(5 * n);
    let lines: Vec<String> =
        (0..12).map(|n| format!(r#"{{"n":{n},"viewed":"{}"}}"#, at(n).format("%FT%T+0000"))).collect();
    for (n, line) in lines.iter().enumerate() {
        world.mimecast.push("view", at(n as i64), line);
    }
    let event = json!({"backfill":{"from": at(0).format("%FT%TZ").to_string(), "to": at(12).format("%FT%TZ").to_string(), "id":"a"}}).to_string();
    world.mimecast.fault(Fault::new("/api/archive/get-view", FaultKind::Truncated).skip(1).times(3));
    world.mimecast.fault(Fault::new("/api/archive/get-view", FaultKind::Hang(Duration::from_secs(20))).skip(1));
    world.invoke_with("view", &event, Deadline::In(Duration::from_secs(6))).await;
    world.stop("view");
    world.mimecast.clear_faults();
    world.invoke_with("view", &event, Deadline::In(Duration::from_secs(60))).await;
    world.assert_delivered(&[(VIEW.to_owned(), lines)].into());
}

#[tokio::test]
async fn no_signature_gets_into_an_error() {
    let mut world = World::new(Api::V2).await;
    let body = r#"{"value":["https://bucket.s3.eu-west-1.amazonaws.com/a/very/long/path/that/is/long/enough/to/fill/eighty/bytes/f.json.gz?X-Amz-Signature=0123abcd"],"@nextPage":"t","isCaughtUp":true}"#;
    world
        .mimecast
        .fault(Fault::new("/siem/v1", FaultKind::Status { status: 200, headers: vec![], body: body.into() }).forever());
    let (_, message) = world.fail("siem").await;
    assert!(!message.contains("X-Amz-Signature="), "{message}");
    world.assert_no_secret_printed();
}

#[tokio::test]
async fn a_fail_of_another_shape_is_no_success() {
    for fail in [
        r#"[{"code":"err_x","message":"boom","errors":null}]"#,
        r#"[{"errors":[{"code":17,"message":"boom"}]}]"#,
        r#"{"code":"err_x","message":"boom"}"#,
        r#"["boom"]"#,
    ] {
        let mut world = World::new(Api::V2).await;
        world.mimecast.push("audit", now() - TimeDelta::hours(3), r#"{"id":"1"}"#);
        let body = format!(r#"{{"meta":{{"status":200}},"data":[],"fail":{fail}}}"#);
        world
            .mimecast
            .fault(Fault::new("/api/audit/get-audit", FaultKind::Status { status: 200, headers: vec![], body }));
        world.invoke("audit").await;
        world.invoke("audit").await;
        let got = world.devo.lines().get(AUDIT).map_or(0, Vec::len);
        assert_eq!(got, 1, "{fail}");
    }
}

#[tokio::test]
async fn a_plain_siem_file_that_breaks_off_blocks_nothing() {
    let mut world = World::new(Api::V1).await;
    world.mimecast.siem_mode(SiemMode { zip: false, ..SiemMode::default() });
    let body = r#"{"data":[{"a":1}],"type":"MTA""#;
    let headers = vec![
        ("content-type".to_owned(), "application/octet-stream".to_owned()),
        ("content-disposition".to_owned(), r#"attachment; filename="receipt_20260101000000000.json""#.to_owned()),
        ("mc-siem-token".to_owned(), "next".to_owned()),
    ];
    world.mimecast.fault(
        Fault::new("/api/audit/get-siem", FaultKind::Status { status: 200, headers, body: body.into() }).times(6),
    );
    // It might have been cut on its way.
    assert_eq!(world.fail("siem").await.0, "MimecastUnavailable");
    world.run("siem").await;
}

#[tokio::test]
async fn the_lease_goes_back_when_the_marks_cannot_be_read() {
    let mut world = World::new(Api::V2).await;
    world.run("siem").await;
    // They are asked for when a file appears.
    world.mimecast.push_siem("av", vec![br#"{"type":"av"}"#.to_vec()]);
    world.aws.fault("Query", AwsFault::DENIED, 1);
    let (kind, _) = world.fail("siem").await;
    assert_eq!(kind, "Checkpoint");
    let answer = world.run("siem").await;
    assert_eq!(answer["status"], "caught_up", "{answer}");
}

#[tokio::test]
async fn a_conflict_on_the_lease_is_busy() {
    let mut world = World::new(Api::V2).await;
    world.aws.fault(
        "UpdateItem",
        AwsFault::Refused(400, "com.amazonaws.dynamodb.v20120810#TransactionConflictException"),
        1,
    );
    let outcome = world.invoke("audit").await;
    assert!(matches!(outcome, Outcome::Answer(_)), "{outcome:?}");
}

#[tokio::test]
async fn a_cancelled_transaction_is_tried_again() {
    let mut world = World::new(Api::V2).await;
    world.mimecast.push("audit", now() - TimeDelta::hours(3), r#"{"id":"1"}"#);
    world.aws.fault(
        "TransactWriteItems",
        AwsFault::Refused(400, "com.amazonaws.dynamodb.v20120810#TransactionCanceledException"),
        1,
    );
    let outcome = world.invoke("audit").await;
    world.stop("audit");
    // the lease
    world.invoke("audit").await;
    assert!(matches!(outcome, Outcome::Answer(_)), "{outcome:?}");
}

#[tokio::test]
async fn rows_with_an_empty_id_are_not_one() {
    let mut world = World::new(Api::V2).await;
    let lines = vec![r#"{"id":"","n":1}"#.to_owned(), r#"{"id":"","n":2}"#.to_owned()];
    for line in &lines {
        world.mimecast.push("audit", now() - TimeDelta::minutes(100), line);
    }
    world.run("audit").await;
    world.assert_delivered(&[(AUDIT.to_owned(), lines)].into());
}

#[tokio::test]
async fn a_backfill_beyond_the_look_back_reports_its_gap() {
    let mut world = World::new(Api::V2).await;
    let line = r#"{"aggregateId":"1"}"#;
    for kind in ["receipt", "entities"] {
        world.mimecast.push_siem_at(kind, now() - TimeDelta::days(3), vec![line.into()]);
    }
    let sources =
        [("audit", 80, 70), ("audit", 70, 50), ("siem", 12, 9), ("siem", 9, 2), ("siemci", 12, 9), ("siemci", 9, 2)];
    for (source, from, to) in sources {
        let at = |days| (now() - TimeDelta::days(days)).format("%FT%TZ").to_string();
        let event = json!({"backfill": {"from": at(from), "to": at(to), "id": "b"}}).to_string();
        for first in [true, false] {
            let outcome = world.invoke_with(source, &event, Deadline::In(Duration::from_secs(60))).await;
            let Outcome::Answer(answer) = outcome else { panic!("{source}: {outcome:?}") };
            assert_eq!(answer["status"], "caught_up", "{answer}");
            assert_eq!(answer.get("gap").is_some(), first, "{source} {from} to {to}: {answer}");
        }
    }
    let tables = ["mail.mimecast.siem.receipt", "my.app.mimecast.ci.entities"];
    world.assert_delivered(&tables.map(|table| (table.to_owned(), vec![line.to_owned()])).into());
}

#[tokio::test]
async fn a_clock_behind_finds_its_marks_again() {
    let mut world = World::new(Api::V2).await;
    world.mimecast.set_clock_offset(7200);
    let server = now() + TimeDelta::hours(2);
    world.mimecast.push("url", server - TimeDelta::minutes(100), r#"{"n":"first"}"#);
    world.run("url").await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let mut lines: Vec<String> = (0..40).map(|n| format!(r#"{{"n":{n},"pad":"{}"}}"#, "x".repeat(30))).collect();
    for line in &lines {
        world.mimecast.push("url", server - TimeDelta::minutes(5), line);
    }
    partial(&world);
    tokio::time::sleep(Duration::from_millis(2100)).await;
    world.fail("url").await;
    world.devo.clear_faults();
    world.run("url").await;
    lines.push(r#"{"n":"first"}"#.to_owned());
    world.assert_delivered(&[(URL.to_owned(), lines)].into());
}

#[tokio::test]
async fn an_impossible_link_blocks_nothing() {
    let mut world = World::new(Api::V2).await;
    let line = |n: usize| format!(r#"{{"type":"av","n":{n}}}"#);
    (0..2).for_each(|n| world.mimecast.push_siem("av", vec![line(n).into_bytes()]));
    let body = r#"{"value":[{"url":"http://10.0.0.1/x.gz","expiry":"x","size":1}],"@nextPage":"t","isCaughtUp":true}"#;
    world
        .mimecast
        .fault(Fault::new("type=av", FaultKind::Status { status: 200, headers: vec![], body: body.into() }).forever());
    let outcome = world.invoke("siem").await;
    assert!(matches!(outcome, Outcome::Answer(_)), "{outcome:?}");
}

#[tokio::test]
async fn feed_files_without_a_name_double_nothing() {
    let mut world = World::new(Api::V2).await;
    world.set("THREATFEED_TYPES", "malware_customer");
    let answer = |token: &str, rows: &str| FaultKind::Status {
        status: 200,
        headers: vec![
            ("content-type".to_owned(), "application/octet-stream".to_owned()),
            ("x-mc-threat-feed-next-token".to_owned(), token.to_owned()),
        ],
        body: format!("MD5|SHA256|SenderAddress|Timestamp\n{rows}"),
    };
    world.mimecast.fault(Fault::new("get-feed", answer("a", "m|s|a@b.c|1\n")));
    world.mimecast.fault(Fault::new("get-feed", answer("b", "m|s|a@b.c|1\nm|s|a@b.c|2\n")));
    world.mimecast.fault(Fault::new("get-feed", answer("b", "")));
    world.run("threatfeed").await;
    let lines = world.devo.lines()["mail.mimecast.threat.feed"].clone();
    assert_eq!(lines.len(), 2, "{lines:?}");
}

#[tokio::test]
async fn a_deadline_after_empty_windows_is_more() {
    let mut world = World::new(Api::V2).await;
    world.set("INITIAL_LOOKBACK", "96h");
    world.mimecast.fault(Fault::new("/api/ttp/url", FaultKind::Hang(Duration::from_secs(20))).skip(2));
    let outcome = world.invoke_with("url", "{}", Deadline::In(Duration::from_secs(4))).await;
    let Outcome::Answer(answer) = &outcome else { panic!("{outcome:?}") };
    assert_eq!(answer["status"], "more");
}

#[tokio::test]
async fn many_notices_are_remembered() {
    let mut world = World::new(Api::V2).await;
    let lines: Vec<String> = (0..9000).map(|n| format!(r#"{{"id":"{n:0150}"}}"#)).collect();
    world.mimecast.set_notices(lines.clone());
    for _ in 0..2 {
        world.invoke("dashboard").await;
        world.stop("dashboard");
    }
    let sent = world.devo.lines()["mail.mimecast.account.dashboard"].len();
    assert_eq!(sent, 9000);
}

#[tokio::test]
async fn rows_in_an_unexpected_place_are_not_passed_over() {
    let mut world = World::new(Api::V2).await;
    world.mimecast.push("url", now() - TimeDelta::hours(3), r#"{"n":1}"#);
    let body = r#"{"meta":{"status":200,"pagination":{"pageSize":1,"totalCount":1}},"data":[{"clicklogs":[{"n":1}]}],"fail":[]}"#;
    world.mimecast.fault(
        Fault::new("/api/ttp/url", FaultKind::Status { status: 200, headers: vec![], body: body.into() }).times(2),
    );
    for _ in 0..2 {
        let (error_type, message) = world.fail("url").await;
        assert_eq!((error_type.as_str(), message.contains("clickLogs")), ("MimecastProtocol", true), "{message}");
    }
    world.run("url").await;
    world.assert_delivered(&[(URL.to_owned(), vec![r#"{"n":1}"#.to_owned()])].into());
}

/// The page token of a backfill has run out between two runs.
#[tokio::test]
async fn a_token_refused_in_a_new_process_doubles_nothing() {
    let mut world = World::new(Api::V2).await;
    world.set("PAGE_SIZE", "4");
    let start = now() - TimeDelta::hours(10);
    let at = |n: i64| start + TimeDelta::minutes(5 * n);
    let lines: Vec<String> =
        (0..12).map(|n| format!(r#"{{"n":{n},"viewed":"{}"}}"#, at(n).format("%FT%T+0000"))).collect();
    for (n, line) in lines.iter().enumerate() {
        world.mimecast.push("view", at(n as i64), line);
    }
    let event = json!({"backfill":{"from": at(0).format("%FT%TZ").to_string(), "to": at(12).format("%FT%TZ").to_string(), "id":"a"}}).to_string();
    world.mimecast.fault(Fault::new("/api/archive/get-view", FaultKind::Hang(Duration::from_secs(20))).skip(1));
    world.invoke_with("view", &event, Deadline::In(Duration::from_secs(3))).await;
    world.stop("view");
    world.mimecast.clear_faults();
    world.mimecast.fault(Fault::new("/api/archive/get-view", FaultKind::RefusePageToken));
    world.invoke_with("view", &event, Deadline::In(Duration::from_secs(60))).await;
    world.assert_delivered(&[(VIEW.to_owned(), lines)].into());
}

/// Neither a body nor a token: nobody knows whether there is something, so the next run asks for the same again.
#[tokio::test]
async fn an_empty_first_answer_is_not_taken_for_nothing() {
    for fault in [FaultKind::EmptyBody, FaultKind::Garbage] {
        let mut world = World::new(Api::V2).await;
        let expected = simulator::data::lively(&world.mimecast, 1, now(), 1);
        world.mimecast.fault(Fault::new("malware_grid", fault.clone()).times(6));
        assert_eq!(world.fail("threatfeed").await.0, "MimecastUnavailable");
        world.run("threatfeed").await;
        world.run("threatfeed").await;
        let table = simulator::data::FEED_TABLE;
        world.assert_delivered(&[(table.to_owned(), expected[table].clone())].into());
    }
}

/// Of what no checksum covers, an end that cannot be read may be a cut: the rest would be lost with the token.
#[tokio::test]
async fn a_plain_document_that_is_cut_on_its_way_is_asked_for_again() {
    let mut world = World::new(Api::V1).await;
    world.mimecast.siem_mode(SiemMode { zip: false, ..SiemMode::default() });
    let mut expected = simulator::data::lively(&world.mimecast, 1, now(), 1);
    world.mimecast.fault(Fault::new("/api/audit/get-siem", FaultKind::Truncated).skip(1).times(2));
    assert_eq!(world.run("siem").await["rejected"], 0);
    expected.retain(|table, _| table.contains(".siem."));
    world.assert_delivered(&expected);
}
