//! Files and the links to them: what is this machine's trouble, a gateway's, one link's, or the file's own.

use chrono::TimeDelta;
use futures_util::future::join_all;
use serde_json::json;
use simulator::mimecast::{Fault, FaultKind, SiemMode};

use super::{AV, FEED, answer, event, events, expected, leave, publish, state, time_goes_by};
use crate::world::{Api, World, counts, now};

const SIEM_1: &str = "/api/audit/get-siem-logs";

/// A file as SIEM 1.0 answers, or what stands in its place.
fn siem_1(body: &str, token: Option<&str>) -> FaultKind {
    let mut headers = vec![
        ("content-type".to_owned(), "application/octet-stream".to_owned()),
        ("content-disposition".to_owned(), r#"attachment; filename="av_20260101000000000.json""#.to_owned()),
    ];
    headers.extend(token.map(|token| ("mc-siem-token".to_owned(), token.to_owned())));
    FaultKind::Status { status: 200, headers, body: body.to_owned() }
}

// A10
#[tokio::test]
async fn a_file_without_its_token_is_an_error_and_none_is_read_twice() {
    for token in [None, Some(""), Some(" ")] {
        let mut world = World::new(Api::V1).await;
        publish(&world, 0..3);
        let body = format!(r#"{{"type":"MTA","data":[{}]}}"#, event(7));
        world.mimecast.fault(Fault::new(SIEM_1, siem_1(&body, token)).forever());
        for _ in 0..2 {
            let (error_type, message) = world.fail("siem").await;
            assert_eq!(error_type, "MimecastProtocol", "{message}");
            assert!(message.contains("mc-siem-token"), "{message}");
        }
        world.mimecast.clear_faults();
        assert_eq!(world.run("siem").await["status"], "caught_up");
        world.assert_delivered(&events(0..3));
    }
}

// A10
#[tokio::test]
async fn rows_in_an_envelope_are_a_file() {
    for meta in [r#"{"status":200}"#, r#"{"isLastToken":false,"status":200}"#, r#"{"isLastToken":true,"status":200}"#] {
        let mut world = World::new(Api::V1).await;
        let body = format!(r#"{{"meta":{meta},"data":[{},{}],"fail":[]}}"#, event(0), event(1));
        world.mimecast.fault(Fault::new(SIEM_1, siem_1(&body, Some("next"))));
        world.mimecast.fault(Fault::new("next", answer(200, r#"{"meta":{"isLastToken":true},"data":[],"fail":[]}"#)));
        assert_eq!(counts(&world.run("siem").await), json!(["caught_up", 2, 0, 0]), "{meta}");
        world.assert_delivered(&events(0..2));
    }
}

// A10: the feed can be asked by date, so there a file without a token is no error; it is delivered once.
#[tokio::test]
async fn a_threat_feed_without_tokens_and_in_an_envelope_arrives_once() {
    let row = |n: u8| format!(r#"{{"MD5":"{n}","SHA256":"s","SenderAddress":"a@b.c","Timestamp":"2026"}}"#);
    for body in [
        "MD5|SHA256|SenderAddress|Timestamp\n1|s|a@b.c|2026\n2|s|a@b.c|2026\n".to_owned(),
        format!(r#"{{"meta":{{"status":200}},"data":[{},{}],"fail":[]}}"#, row(1), row(2)),
    ] {
        let mut world = World::new(Api::V2).await;
        world.set("THREATFEED_TYPES", "malware_grid");
        world.mimecast.fault(Fault::new("get-feed", answer(200, &body)).forever());
        for _ in 0..3 {
            let answer = world.run("threatfeed").await;
            assert_eq!(answer["status"], "caught_up", "{body}: {answer}");
        }
        world.assert_delivered(&expected(FEED, [row(1), row(2)]));
    }
}

// B1
#[tokio::test]
async fn a_full_temporary_directory_loses_no_event() {
    for (api, directory) in [(Api::V1, "/not/there"), (Api::V2, "/not/there"), (Api::V2, "/dev/null")] {
        let mut world = World::new(api).await;
        // More than is unpacked in memory.
        let pad = "x".repeat(100_000);
        let large: Vec<String> = (0..180).map(|n| format!(r#"{{"type":"av","n":{n},"pad":"{pad}"}}"#)).collect();
        world.mimecast.push_siem("av", large.iter().map(|line| line.clone().into_bytes()).collect());
        world.set("TMPDIR", directory);
        for _ in 0..2 {
            let (error_type, message) = world.fail("siem").await;
            assert_eq!(error_type, "Configuration", "{message}");
            assert!(message.contains("this machine") || message.contains("temporary directory"), "{message}");
        }
        assert!(world.dead_letters("siem").await.is_empty() && world.devo.lines().is_empty());
        world.stop("siem");
        world.unset("TMPDIR");
        let answer = world.run("siem").await;
        assert_eq!(counts(&answer), json!(["caught_up", large.len(), 0, 0]), "{answer}");
        world.assert_delivered(&expected(AV, large));
    }
}

// B2
#[tokio::test]
async fn a_page_of_something_in_between_is_no_file_and_nothing_new_is_not_either() {
    let page = |body: &str| answer(200, body);
    let pages = [FaultKind::Html200, FaultKind::Xml200, page("\u{feff}\r\n\r\n  <HTML><body>Sign in</body></HTML>")];
    let places = [
        (Api::V2, "siem", "/files/"),
        (Api::V2, "siem", "/siem/v1/batch"),
        (Api::V1, "siem", SIEM_1),
        (Api::V2, "threatfeed", "malware_grid"),
        (Api::V2, "url", "/api/ttp/url"),
        (Api::V1, "dashboard", "/api/account/get-dashboard"),
    ];
    let cases = pages.iter().flat_map(|page| places.map(|place| (page.clone(), place)));
    for cases in cases.collect::<Vec<_>>().chunks(6) {
        join_all(cases.iter().map(async |(page, (api, source, text))| {
            let (page, api, source, text) = (page.clone(), *api, *source, *text);
            let mut world = World::new(api).await;
            let mut expected = simulator::data::lively(&world.mimecast, 1, now(), 1);
            // Of files a few: one that may pass is tried for seconds.
            let texts = match text {
                "/files/" => (0..3).map(|n| world.mimecast.siem_path(n)).collect(),
                _ => vec![text.to_owned()],
            };
            texts.iter().for_each(|text| world.mimecast.fault(Fault::new(text, page.clone()).forever()));
            let (error_type, message) = world.fail(source).await;
            assert!(["MimecastUnavailable", "MimecastProtocol"].contains(&&*error_type), "{source}: {message}");
            assert!(world.dead_letters(source).await.is_empty(), "{source} {page:?}");
            world.mimecast.clear_faults();
            assert_eq!(world.run(source).await["status"], "caught_up");
            expected.retain(|table, _| table.contains(if source == "threatfeed" { ".threat." } else { source }));
            world.assert_delivered(&expected);
            assert!(world.dead_letters(source).await.is_empty(), "{source} {page:?}");
        }))
        .await;
    }
}

// B3
#[tokio::test]
async fn links_that_are_refused_for_days_lose_no_file() {
    for fault in [FaultKind::ExpiredLink, FaultKind::status(404), FaultKind::status(500)] {
        let mut world = World::new(Api::V2).await;
        publish(&world, 0..3);
        world.run("siem").await;
        publish(&world, 3..12);
        world.mimecast.fault(Fault::new("/files/", fault.clone()).forever());
        for _ in 0..4 {
            let (error_type, message) = world.fail("siem").await;
            assert_eq!(error_type, "MimecastUnavailable", "{message}");
            time_goes_by(&world, "siem", TimeDelta::hours(13));
        }
        assert!(world.dead_letters("siem").await.is_empty());
        world.mimecast.clear_faults();
        let answer = world.run("siem").await;
        assert_eq!(counts(&answer), json!(["caught_up", 9, 0, 0]), "{fault:?}: {answer}");
        world.assert_delivered(&events(0..12));
    }
}

// B3: the end of Mimecast's retention.
#[tokio::test]
async fn a_file_that_could_not_be_had_for_as_long_as_it_was_kept_is_a_dead_letter() {
    let mut world = World::new(Api::V2).await;
    publish(&world, [0]);
    world.run("siem").await;
    let mut left = state(&world, "siem");
    let path = "https://store/files/gone.json.gz";
    left["streams"]["av"]["aside"] = json!({path: now() - TimeDelta::days(8)});
    leave(&world, "siem", 2, &left);
    assert_eq!(counts(&world.run("siem").await), json!(["caught_up", 0, 0, 1]));
    let letters = world.dead_letters("siem").await;
    assert_eq!(letters.iter().map(|(raw, _)| String::from_utf8_lossy(raw)).collect::<Vec<_>>(), [path]);
    publish(&world, [1]);
    assert_eq!(counts(&world.run("siem").await), json!(["caught_up", 1, 0, 0]));
    world.assert_delivered(&events(0..2));
}

// B4
#[tokio::test]
async fn a_link_that_cannot_be_had_is_in_no_other_files_way() {
    let status = |status| ("no Location".to_owned(), FaultKind::status(status));
    let circle = |status: u16| {
        let headers = vec![("location".to_owned(), "?again".to_owned())];
        ("circle".to_owned(), FaultKind::Status { status, headers, body: String::new() })
    };
    let leads = |location: &str| {
        let headers = vec![("location".to_owned(), location.to_owned())];
        (location.to_owned(), FaultKind::Status { status: 302, headers, body: String::new() })
    };
    let mut cases: Vec<(String, FaultKind)> =
        [300, 303, 307, 400, 401, 402, 410, 416, 418, 451, 499, 501].map(status).into();
    cases.extend([301, 303, 308].map(circle));
    cases.extend(["http://169.254.169.254/latest", "file:///etc/passwd", "", "https://user:key@localhost/"].map(leads));
    cases.push(("itself".to_owned(), FaultKind::RedirectToItself));
    for cases in cases.chunks(7) {
        join_all(cases.iter().map(async |(name, fault)| {
            let mut world = World::new(Api::V2).await;
            world.set("PAGE_SIZE", "4");
            publish(&world, 0..10);
            world.mimecast.fault(Fault::new(&world.mimecast.siem_path(2), fault.clone()).forever());
            let (error_type, message) = world.fail("siem").await;
            assert_eq!(error_type, "MimecastUnavailable", "{name} {fault:?}: {message}");
            assert!(message.contains(&world.mimecast.siem_path(2)), "{message}");
            world.assert_delivered(&events((0..10).filter(|n| *n != 2)));
            publish(&world, 10..12);
            world.fail("siem").await;
            world.assert_delivered(&events((0..12).filter(|n| *n != 2)));
            world.mimecast.clear_faults();
            assert_eq!(counts(&world.run("siem").await), json!(["caught_up", 1, 0, 0]), "{fault:?}");
            world.assert_delivered(&events(0..12));
        }))
        .await;
    }
}

// B4: more of them in a row than would do to say that their store is out of reach.
#[tokio::test]
async fn many_links_in_a_row_that_cannot_be_had_are_in_no_other_files_way() {
    let mut world = World::new(Api::V2).await;
    world.set("PAGE_SIZE", "10");
    publish(&world, 0..25);
    let bad = 1..8;
    for n in bad.clone() {
        world.mimecast.fault(Fault::new(&world.mimecast.siem_path(n), FaultKind::ExpiredLink).forever());
    }
    for _ in 0..3 {
        assert_eq!(world.fail("siem").await.0, "MimecastUnavailable");
    }
    world.assert_delivered(&events((0..25).filter(|n| !bad.contains(n))));
    world.mimecast.clear_faults();
    assert_eq!(counts(&world.run("siem").await), json!(["caught_up", bad.len(), 0, 0]));
    world.assert_delivered(&events(0..25));
}

// B4: a redirect that leads to the file is followed, and carries nothing of ours.
#[tokio::test]
async fn a_link_that_has_moved_is_followed() {
    let mut world = World::new(Api::V2).await;
    publish(&world, 0..5);
    world.mimecast.fault(Fault::new("/files/", FaultKind::Redirect).forever());
    assert_eq!(counts(&world.run("siem").await), json!(["caught_up", 5, 0, 0]));
    world.assert_delivered(&events(0..5));
    for request in world.mimecast.requests().iter().filter(|request| request.path.contains("/files/")) {
        assert!(!request.headers.iter().any(|(name, _)| name == "authorization" || name == "cookie"), "{request:?}");
    }
}

// B2, B4: the same for archives of several files.
#[tokio::test]
async fn siem_1_goes_on_after_any_answer_that_is_no_file() {
    join_all([FaultKind::Html200, answer(200, "{}"), answer(200, r#"{"meta":{"status":200}}"#)].map(async |fault| {
        let mut world = World::new(Api::V1).await;
        world.mimecast.siem_mode(SiemMode { files_per_answer: 2, ..SiemMode::default() });
        publish(&world, 0..6);
        world.mimecast.fault(Fault::new(SIEM_1, fault.clone()).skip(1).times(5));
        world.fail("siem").await;
        assert_eq!(world.devo.count(), 2, "{fault:?}");
        assert_eq!(counts(&world.run("siem").await), json!(["caught_up", 4, 0, 0]), "{fault:?}");
        world.assert_delivered(&events(0..6));
    }))
    .await;
}
