//! What Mimecast or Devo may do wrong: a clear error or a dead letter, nothing lost, nothing blocked.

use std::time::Duration;

use simulator::data;
use simulator::mimecast::{Fault, FaultKind, SiemMode};

use crate::world::{Api, SOURCES, World, counts, now};

const URL: &str = "mail.mimecast.ttp.url";

/// Two faulty answers, then good ones: everything arrives in the same run.
#[tokio::test]
async fn passing_faults_are_outlasted() {
    let faults = [
        FaultKind::Html503,
        FaultKind::Garbage,
        FaultKind::EmptyBody,
        FaultKind::CutBody,
        FaultKind::Truncated,
        FaultKind::ResetBeforeAnswer,
        FaultKind::status(500),
        FaultKind::status(502),
        FaultKind::status(509),
        FaultKind::rate_limited(Duration::from_millis(300)),
        FaultKind::FailOn200 { code: "err_internal".into(), message: "try later".into() },
        FaultKind::FailWithData { code: "err_internal".into(), message: "try later".into() },
    ];
    for fault in faults {
        for source in ["url", "messageholdsummary"] {
            let mut world = World::new(Api::V2).await;
            let expected = data::lively(&world.mimecast, 1, now(), 1);
            let path = if source == "url" { "/api/ttp/url" } else { "/api/gateway/get-hold-summary" };
            world.mimecast.fault(Fault::new(path, fault.clone()).times(2));
            let answer = world.run(source).await;
            assert_eq!(answer["status"], "caught_up", "{fault:?}");
            let table = if source == "url" { URL } else { data::SUMMARY_TABLE };
            world.assert_delivered(&[(table.to_owned(), expected[table].clone())].into());
        }
    }
}

#[tokio::test]
async fn lasting_faults_have_their_type_and_lose_nothing() {
    for (fault, error_type) in [
        (FaultKind::Html503, "MimecastUnavailable"),
        (FaultKind::ResetBeforeAnswer, "MimecastUnavailable"),
        (FaultKind::status(500), "MimecastUnavailable"),
        (FaultKind::status(404), "MimecastProtocol"),
        (FaultKind::status(400), "MimecastProtocol"),
        (FaultKind::status(403), "Permission"),
        (FaultKind::status(401), "Credentials"),
        (FaultKind::binding_expired(), "Credentials"),
        (FaultKind::Garbage, "MimecastProtocol"),
        (FaultKind::EmptyBody, "MimecastProtocol"),
        (FaultKind::MetaStatus404, "MimecastProtocol"),
        (FaultKind::FailOn200 { code: "err_developer_key".into(), message: "App ID is invalid".into() }, "Credentials"),
        (FaultKind::FailOn200 { code: "err_validation_null".into(), message: "no".into() }, "MimecastProtocol"),
        (FaultKind::rate_limited(Duration::from_secs(600)), "RateLimited"),
    ] {
        let mut world = World::new(Api::V2).await;
        let expected = data::lively(&world.mimecast, 1, now(), 1);
        world.mimecast.fault(Fault::new("/api/ttp/url", fault.clone()).forever());
        let (found, message) = world.fail("url").await;
        assert_eq!(found, error_type, "{fault:?}: {message}");
        assert!(!message.contains('\n') && message.contains("url (tenant default)"), "{message}");
        assert!(world.devo.lines().is_empty());
        world.mimecast.clear_faults();
        // A process that was told to wait ten minutes asks nothing before they are over.
        world.stop("url");
        world.run("url").await;
        world.assert_delivered(&[(URL.to_owned(), expected[URL].clone())].into());
        world.assert_no_secret_printed();
    }
}

#[tokio::test]
async fn a_denied_source_names_the_permission_and_leaves_the_others_alone() {
    let mut world = World::new(Api::V2).await;
    let mut expected = data::lively(&world.mimecast, 1, now(), 1);
    world.mimecast.deny("/api/archive/get-view-logs");
    for source in SOURCES {
        if source == "view" {
            let (error_type, message) = world.fail(source).await;
            assert_eq!(error_type, "Permission");
            assert!(message.contains("Archive | View Logs | Read"), "{message}");
        } else {
            world.run(source).await;
        }
    }
    expected.remove("mail.mimecast.archive.messageview");
    world.assert_delivered(&expected);
}

#[tokio::test]
async fn a_bad_row_is_a_dead_letter_and_the_rows_around_it_arrive() {
    for source in ["url", "audit"] {
        let mut world = World::new(Api::V2).await;
        let table = if source == "url" { URL } else { "mail.mimecast.audit.events" };
        let rows: [&[u8]; 4] = [br#"{"id":"1"}"#, br#"{"id":}"#, b"{\"id\":\"\xff\"}", br#"{"id":"2"}"#];
        for row in rows {
            world.mimecast.push(source, now() - chrono::TimeDelta::minutes(5), row);
        }
        let answer = world.run(source).await;
        assert_eq!(counts(&answer), serde_json::json!(["caught_up", 2, 0, 2]), "{answer}");
        let lines = [r#"{"id":"1"}"#, r#"{"id":"2"}"#].map(str::to_owned).to_vec();
        world.assert_delivered(&[(table.to_owned(), lines)].into());
        let mut raw: Vec<_> = world.dead_letters(source).await.into_iter().map(|(raw, _)| raw).collect();
        raw.sort();
        assert_eq!(raw, [rows[2].to_vec(), rows[1].to_vec()]);
        // The overlap is read again, the bad rows with it: they are not rejected twice.
        tokio::time::sleep(Duration::from_millis(1100)).await;
        assert_eq!(world.run(source).await["rejected"], 0);
    }
}

#[tokio::test]
async fn a_bad_siem_line_is_a_dead_letter_and_the_lines_around_it_arrive() {
    for api in [Api::V1, Api::V2] {
        let mut world = World::new(api).await;
        let lines: [&[u8]; 5] = [
            br#"{"type":"av","n":1}"#,
            b"{broken",
            b"{\"n\":\"\xff\"}",
            br#"{"type":"av","n":2}"#,
            br#"{"type":"av","n":2}"#,
        ];
        // In a JSON document a broken row may hold no unbalanced brace.
        let lines: Vec<Vec<u8>> =
            lines.iter().filter(|line| api == Api::V2 || **line != b"{broken").map(|line| line.to_vec()).collect();
        let bad = lines.len() - 3;
        world.mimecast.push_siem("av", lines);
        let answer = world.run("siem").await;
        assert_eq!(answer["rejected"], bad, "{answer}");
        let line = |n: u8| format!(r#"{{"type":"av","n":{n}}}"#);
        world.assert_delivered(&[("mail.mimecast.siem.av".to_owned(), vec![line(1), line(2), line(2)])].into());
        assert_eq!(world.dead_letters("siem").await.len(), bad);
    }
}

#[tokio::test]
async fn an_unknown_siem_type_gets_its_own_table() {
    for api in [Api::V1, Api::V2] {
        let mut world = World::new(api).await;
        // 2.0 is asked type by type: there an unknown type can only come in a file of a known one.
        let kind = if api == Api::V1 { "novel" } else { "receipt" };
        world.mimecast.push_siem(kind, vec![br#"{"type":"Novel 2","n":1}"#.to_vec()]);
        let answer = world.run("siem").await;
        let (table, name) = if api == Api::V1 { ("novel", "novel") } else { ("novel2", "Novel 2") };
        assert_eq!(answer["unknown_types"][name], 1, "{answer}");
        let table = format!("mail.mimecast.siem.{table}");
        world.assert_delivered(&[(table, vec![r#"{"type":"Novel 2","n":1}"#.to_owned()])].into());
    }
}

/// SIEM and threat feed files that are broken twice and then whole.
#[tokio::test]
async fn a_broken_file_is_fetched_again() {
    for (api, source, path) in [
        (Api::V1, "siem", "/api/audit/get-siem"),
        (Api::V2, "siem", "/files/"),
        (Api::V2, "threatfeed", "malware_grid"),
    ] {
        for fault in [FaultKind::CorruptZip, FaultKind::Truncated, FaultKind::CutBody, FaultKind::Html503] {
            let mut world = World::new(api).await;
            let mut expected = data::lively(&world.mimecast, 1, now(), 1);
            world.mimecast.fault(Fault::new(path, fault.clone()).times(2));
            let answer = world.run(source).await;
            assert_eq!(
                (&answer["status"], &answer["rejected"]),
                (&"caught_up".into(), &0.into()),
                "{fault:?} {answer}"
            );
            expected.retain(|table, _| table.contains(if source == "siem" { ".siem." } else { ".threat." }));
            world.assert_delivered(&expected);
        }
    }
}

#[tokio::test]
async fn a_file_that_stays_broken_is_a_dead_letter_and_the_others_arrive() {
    for (api, fault) in [
        (Api::V1, FaultKind::CorruptZip),
        (Api::V1, FaultKind::Truncated),
        (Api::V2, FaultKind::CorruptZip),
        (Api::V2, FaultKind::Truncated),
        (Api::V2, FaultKind::ExpiredLink),
        (Api::V2, FaultKind::status(404)),
    ] {
        let mut world = World::new(api).await;
        let line = |n: usize| format!(r#"{{"type":"av","n":{n}}}"#);
        (0..3).for_each(|n| world.mimecast.push_siem("av", vec![line(n).into_bytes()]));
        world.mimecast.siem_mode(SiemMode { files_per_answer: 1, ..SiemMode::default() });
        // All three tries for the first of the three files: it may have been cut on its way, or its store may be out of reach. The
        // others arrive where they can be asked for without it, and the next run tries it again.
        let path = if api == Api::V1 { "/api/audit/get-siem".to_owned() } else { world.mimecast.siem_path(0) };
        world.mimecast.fault(Fault::new(&path, fault.clone()).times(3));
        assert_eq!(world.fail("siem").await.0, "MimecastUnavailable", "{fault:?}");
        let others = world.devo.lines().get("mail.mimecast.siem.av").map_or(0, Vec::len);
        assert_eq!((others, world.dead_letters("siem").await), (if api == Api::V1 { 0 } else { 2 }, Vec::new()));
        if matches!(fault, FaultKind::ExpiredLink | FaultKind::Status { .. }) {
            assert_eq!(counts(&world.run("siem").await), serde_json::json!(["caught_up", 1, 0, 0]));
            continue;
        }
        world.mimecast.fault(Fault::new(&path, fault.clone()).times(3));
        let answer = world.run("siem").await;
        let dead = world.dead_letters("siem").await;
        assert_eq!(counts(&answer), serde_json::json!(["caught_up", 2 - others, 0, 1]), "{fault:?}: {answer}");
        assert_eq!(dead.len(), 1);
        assert!(!dead[0].0.is_empty() && !dead[0].1.is_empty());
        let again = world.run("siem").await;
        assert_eq!(counts(&again), serde_json::json!(["caught_up", 0, 0, 0]), "{again}");
        let [one, two] = &world.devo.lines()["mail.mimecast.siem.av"][..] else { panic!("{:?}", world.devo.lines()) };
        assert!(one != two && [one, two].iter().all(|found| (0..3).any(|n| **found == line(n))));
    }
}

#[tokio::test]
async fn an_expired_link_is_asked_for_again() {
    let mut world = World::new(Api::V2).await;
    let mut expected = data::lively(&world.mimecast, 1, now(), 1);
    world.mimecast.fault(Fault::new("/files/", FaultKind::ExpiredLink).skip(1).times(2));
    assert_eq!(world.run("siem").await["rejected"], 0);
    expected.retain(|table, _| table.contains(".siem."));
    world.assert_delivered(&expected);
}

#[tokio::test]
async fn a_link_listed_twice_is_delivered_once() {
    let mut world = World::new(Api::V2).await;
    let mut expected = data::lively(&world.mimecast, 1, now(), 1);
    world.mimecast.siem_mode(SiemMode { duplicate_links: true, ..SiemMode::default() });
    world.run("siem").await;
    expected.retain(|table, _| table.contains(".siem."));
    world.assert_delivered(&expected);
}

#[tokio::test]
async fn a_refused_token_starts_that_reading_again_and_repeats_nothing() {
    for (api, source, fault) in [
        (Api::V2, "url", FaultKind::RefusePageToken),
        (Api::V1, "siem", FaultKind::RefuseSiemToken),
        (Api::V2, "siem", FaultKind::RefuseSiemToken),
    ] {
        let mut world = World::new(api).await;
        let mut expected = data::lively(&world.mimecast, 1, now(), 1);
        world.set("PAGE_SIZE", "7");
        world.run(source).await;
        world.stop(source);
        // Of API 2.0 it is asked with dates too before it counts as refused, in each of the ten feeds.
        let (path, times) = match api {
            _ if source == "url" => ("/api/ttp/url", 1),
            Api::V1 => ("siem", 1),
            Api::V2 => ("siem", 20),
        };
        world.mimecast.fault(Fault::new(path, fault).times(times));
        let more = data::more(&world.mimecast, 2, now(), 20);
        tokio::time::sleep(Duration::from_millis(1100)).await;
        let answer = world.run(source).await;
        assert_eq!(answer["status"], "caught_up", "{answer}");
        assert_eq!(answer["repeat"].is_object(), source == "siem", "{answer}");
        for (table, lines) in more {
            expected.entry(table).or_default().extend(lines);
        }
        expected.retain(|table, _| table.contains(&format!(".{source}")));
        world.assert_delivered(&expected);
    }
}

#[tokio::test]
async fn empty_pages_with_a_token_and_missing_pagination_end_well() {
    for fault in [FaultKind::EmptyPageWithNext, FaultKind::NoPagination] {
        let mut world = World::new(Api::V2).await;
        let expected = data::lively(&world.mimecast, 1, now(), 1);
        world.mimecast.fault(Fault::new("/api/ttp/url", fault.clone()).forever());
        let answer = world.run("url").await;
        assert_eq!(answer["status"], "caught_up", "{fault:?}");
        world.assert_delivered(&[(URL.to_owned(), expected[URL].clone())].into());
    }
}

#[tokio::test]
async fn devo_faults_lose_nothing_and_repeat_nothing() {
    use simulator::devo::{Fault, Kind};
    for fault in
        [Fault::status(503).times(2), Fault::status(429).times(2), Fault::new(Kind::ResetBeforeAnswer).times(2)]
    {
        let mut world = World::new(Api::V2).await;
        let mut expected = data::lively(&world.mimecast, 1, now(), 1);
        world.devo.fault(fault);
        world.run("siem").await;
        expected.retain(|table, _| table.contains(".siem."));
        world.assert_delivered(&expected);
    }
    // One of the nine SIEM tables is refused for good: what Devo took before is not sent again.
    for (status, error_type) in [(400, "DevoRejected"), (503, "DevoUnavailable")] {
        let mut world = World::new(Api::V2).await;
        let mut expected = data::lively(&world.mimecast, 1, now(), 1);
        world.devo.fault(Fault::status(status).table("mail.mimecast.siem.delivery").times(1000));
        let (found, message) = world.fail("siem").await;
        assert_eq!(found, error_type, "{message}");
        assert!(!world.devo.lines().is_empty());
        world.devo.clear_faults();
        world.run("siem").await;
        expected.retain(|table, _| table.contains(".siem."));
        world.assert_delivered(&expected);
    }
}

#[tokio::test]
async fn an_event_larger_than_devo_takes_is_a_dead_letter_and_the_others_arrive() {
    use simulator::devo::{Fault, Kind};
    let mut world = World::new(Api::V2).await;
    let large = format!(r#"{{"n":2,"pad":"{}"}}"#, "x".repeat(500));
    for row in [r#"{"n":1}"#, &large, r#"{"n":3}"#] {
        world.mimecast.push("url", now() - chrono::TimeDelta::minutes(5), row);
    }
    world.devo.fault(Fault::new(Kind::TooLarge { max_bytes: 300 }).times(usize::MAX));
    assert_eq!(counts(&world.run("url").await), serde_json::json!(["caught_up", 2, 0, 1]));
    let lines = [r#"{"n":1}"#, r#"{"n":3}"#].map(str::to_owned).to_vec();
    world.assert_delivered(&[(URL.to_owned(), lines)].into());
    let [(raw, reason)] = &world.dead_letters("url").await[..] else { panic!("one dead letter") };
    assert!(*raw == large.as_bytes() && reason.contains("too large"), "{reason}");
    // It is known from now on: the overlap does not reject it again.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(world.run("url").await["rejected"], 0);
}
