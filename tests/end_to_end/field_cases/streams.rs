//! SIEM 2.0: tokens that die, are sealed or say nothing, and listings that hide files.

use chrono::{NaiveTime, TimeDelta};
use collector::Status;
use futures_util::future::join_all;
use mimecast::Clock;
use serde_json::json;
use simulator::devo::Fault as DevoFault;
use simulator::mimecast::{DatesWithToken, Doubts, Fault, FaultKind};

use super::{AV, answer, event, events, expected, leave, listing, publish, state, time_goes_by, warns};
use crate::replay::collector;
use crate::support::runtime::{Deadline, Outcome};
use crate::world::{Api, World, counts, now};

const HOUR: TimeDelta = TimeDelta::hours(1);

// A1
#[tokio::test]
async fn files_behind_a_dead_token_arrive() {
    let cases = [None, Some(false), Some(true)].into_iter().flat_map(|says| [(says, 5), (says, 0)]);
    // Also where the token has died before the feed had any file.
    join_all(cases.map(async |(says, before)| {
        let mut world = World::new(Api::V2).await;
        world.mimecast.doubts(Doubts { dead_tokens_caught_up: says, ..Doubts::default() });
        publish(&world, 0..before);
        world.run("siem").await;
        for n in before..before + 3 {
            world.mimecast.kill_tokens();
            publish(&world, [n]);
            if says == Some(true) && n > 0 {
                // It looks just like a token with nothing new behind it, until its feed has been silent for too long.
                time_goes_by(&world, "siem", HOUR);
            }
            let answer = world.run("siem").await;
            assert_eq!(counts(&answer), json!(["caught_up", 1, 0, 0]), "{says:?} {before}: {answer}");
            assert_eq!(warns(&answer, "the token never gave"), n > 0, "{says:?} {before}: {answer}");
        }
        world.assert_delivered(&events(0..before + 3));
    }))
    .await;
}

// A1: the token is good, and one answer to it is a dead one.
#[tokio::test]
async fn one_dead_answer_among_good_ones_loses_no_file() {
    for (says, skip) in [(Some(true), 0), (None, 0), (Some(true), 1), (None, 1), (Some(true), 2), (None, 2)] {
        let mut world = World::new(Api::V2).await;
        world.set("PAGE_SIZE", "2");
        world.mimecast.doubts(Doubts { dead_tokens_caught_up: says, ..Doubts::default() });
        publish(&world, 0..5);
        world.mimecast.fault(Fault::new("type=av", FaultKind::DeadToken).skip(skip));
        world.run("siem").await;
        publish(&world, 5..7);
        if skip < 2 {
            time_goes_by(&world, "siem", HOUR);
        } else {
            // Now it strikes: its own token is not kept in place of the good one.
            world.run("siem").await;
        }
        assert_eq!(world.run("siem").await["status"], "caught_up");
        world.assert_delivered(&events(0..7));
    }
}

// A1: the listing by date has pages as well, and behind a full one a dead token looks like the end.
#[tokio::test]
async fn a_dead_token_in_the_listing_by_date_ends_it_no_sooner() {
    let mut world = World::new(Api::V2).await;
    world.set("PAGE_SIZE", "2");
    world.mimecast.doubts(Doubts { dead_tokens_caught_up: Some(true), ..Doubts::default() });
    publish(&world, 0..5);
    world.mimecast.fault(Fault::new("type=av", FaultKind::DeadToken));
    assert_eq!(world.run("siem").await["status"], "caught_up");
    world.assert_delivered(&events(0..5));
}

// A2
#[tokio::test]
async fn a_token_sealed_to_a_day_that_is_over_loses_no_file() {
    let mut world = World::new(Api::V2).await;
    world.mimecast.doubts(Doubts { sealed_tokens: true, ..Doubts::default() });
    let days = |days| now() - TimeDelta::days(days);
    world.mimecast.push_siem_at("av", days(3), vec![event(0).into_bytes()]);
    // Its range ends yesterday, and its token is sealed to that.
    let range =
        json!({"from": days(4).format("%FT00:00:00Z").to_string(), "to": now().format("%FT00:00:00Z").to_string()});
    let range = json!({"backfill": range}).to_string();
    let Outcome::Answer(backfill) =
        world.invoke_with("siem", &range, Deadline::In(std::time::Duration::from_secs(60))).await
    else {
        panic!("no backfill")
    };
    let token = &backfill["checkpoint"]["streams"]["av"]["token"];
    assert!(token.is_string(), "{backfill}");
    let av = json!({"token": token, "gave": days(1), "listed": days(1), "caught_up": days(1), "since": days(5)});
    leave(&world, "siem", 1, &json!({"streams": {"av": av}}));
    publish(&world, [1]);
    assert_eq!(counts(&world.run("siem").await), json!(["caught_up", 1, 0, 0]));
    publish(&world, [2]);
    assert_eq!(counts(&world.run("siem").await), json!(["caught_up", 1, 0, 0]));
    world.assert_delivered(&events(0..3));
}

// A2: an outage of nearly as long as files are kept, and a token that has died meanwhile. Whether the oldest day, of which only a part
// is kept, may be asked for is not documented.
#[tokio::test]
async fn what_was_published_on_the_oldest_day_arrives_or_is_a_gap() {
    for oldest_day_refused in [false, true] {
        let mut world = World::new(Api::V2).await;
        world.mimecast.doubts(Doubts { oldest_day_refused, ..Doubts::default() });
        publish(&world, 0..1);
        world.run("siem").await;
        let oldest = now() - TimeDelta::days(7);
        let end = (oldest + TimeDelta::days(1)).date_naive().and_time(chrono::NaiveTime::MIN).and_utc();
        time_goes_by(&world, "siem", TimeDelta::days(7) - (end - oldest) / 4);
        world.mimecast.kill_tokens();
        world.mimecast.push_siem_at("av", oldest + (end - oldest) / 2, vec![event(1).into_bytes()]);
        publish(&world, 2..3);
        let answer = world.run("siem").await;
        if oldest_day_refused {
            assert_eq!(answer["gap"]["to"], json!(end), "{answer}");
            world.assert_delivered(&expected(AV, [event(0), event(2)]));
        } else {
            assert_eq!(answer["gap"], json!(null), "{answer}");
            world.assert_delivered(&events(0..3));
        }
    }
}

// A2: whatever dates the API wants or refuses.
#[tokio::test]
async fn a_live_token_has_no_end_and_other_wishes_are_met() {
    let calm = Doubts::default();
    for doubts in [
        calm.clone(),
        Doubts { end_required: true, ..calm.clone() },
        Doubts { dates_with_token: DatesWithToken::Refused, ..calm.clone() },
        Doubts { dates_with_token: DatesWithToken::Required, end_required: true, ..calm.clone() },
        Doubts { sealed_tokens: true, ..calm.clone() },
    ] {
        let mut world = World::new(Api::V2).await;
        world.set("PAGE_SIZE", "2");
        world.mimecast.doubts(doubts.clone());
        for numbers in [0..5, 5..6, 6..9] {
            let count = numbers.len();
            publish(&world, numbers);
            assert_eq!(counts(&world.run("siem").await), json!(["caught_up", count, 0, 0]), "{doubts:?}");
        }
        world.assert_delivered(&events(0..9));
        let requests = world.mimecast.requests();
        let batch = requests.iter().filter(|request| request.path.contains("/batch/") && request.status == 200);
        let has = |request: &simulator::mimecast::Request, name: &str| request.query.iter().any(|(key, _)| key == name);
        let sealed = batch.filter(|request| has(request, "dateRangeEndsAt")).count();
        let may_end = doubts.end_required || doubts.dates_with_token == DatesWithToken::Required;
        assert!(sealed == 0 || may_end, "{doubts:?}: {sealed} requests with an end");
    }
}

// A2: dates are demanded beside the token, and the machine's clock is behind: its day has ended where Mimecast is.
#[tokio::test]
async fn a_day_that_has_not_begun_by_our_clock_hides_nothing() {
    let world = World::new(Api::V2).await;
    world.mimecast.doubts(Doubts {
        dates_with_token: DatesWithToken::Required,
        end_required: true,
        ..Doubts::default()
    });
    let midnight = now().date_naive().and_time(NaiveTime::MIN).and_utc();
    let (directory, source) = (tempfile::tempdir().unwrap(), &functions::siem::SOURCE);
    for (n, (minutes, behind)) in [(-30, 0), (5, 0), (10, 90)].into_iter().enumerate() {
        let server = midnight + TimeDelta::minutes(minutes);
        world.mimecast.set_clock_offset((server - now()).num_seconds());
        world.mimecast.push_siem_at("av", server, vec![event(n).into_bytes()]);
        let collector = collector(&world, directory.path(), Clock::starting_at(server - TimeDelta::minutes(behind)));
        let answer = collector.invoke(source, &json!({}), None).await.unwrap();
        assert_eq!((answer.status, answer.events), (Status::CaughtUp, 1), "file {n}");
    }
    world.assert_delivered(&events(0..3));
}

// A2: a file that is published late, or that listings leave out for a while.
#[tokio::test]
async fn a_file_that_no_token_shows_arrives_by_date() {
    let mut world = World::new(Api::V2).await;
    publish(&world, 0..2);
    world.run("siem").await;
    publish(&world, 2..4);
    world.mimecast.hide_siem(2, now() + TimeDelta::seconds(3));
    assert_eq!(counts(&world.run("siem").await), json!(["caught_up", 1, 0, 0]));
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    assert_eq!(world.run("siem").await["events"], 0, "no token shows it");
    time_goes_by(&world, "siem", HOUR);
    let answer = world.run("siem").await;
    assert_eq!(counts(&answer), json!(["caught_up", 1, 0, 0]), "{answer}");
    assert!(warns(&answer, "the token never gave"), "{answer}");
    world.assert_delivered(&events(0..4));
}

// A4
#[tokio::test]
async fn a_token_that_says_nothing_is_never_stored() {
    let faults = [FaultKind::EmptyToken, FaultKind::NullToken, FaultKind::AbsentToken, FaultKind::RepeatedToken];
    for fault in faults {
        for times in [1, usize::MAX] {
            let mut world = World::new(Api::V2).await;
            publish(&world, 0..1);
            world.run("siem").await;
            world.mimecast.fault(Fault::new("type=av", fault.clone()).times(times));
            for n in 1..4 {
                publish(&world, [n]);
                let answer = world.run("siem").await;
                assert_eq!(counts(&answer), json!(["caught_up", 1, 0, 0]), "{fault:?}: {answer}");
            }
            world.mimecast.clear_faults();
            publish(&world, [4]);
            assert_eq!(counts(&world.run("siem").await), json!(["caught_up", 1, 0, 0]), "{fault:?}");
            world.assert_delivered(&events(0..5));
            let blank = |(name, value): &(String, String)| name == "nextPage" && value.trim().is_empty();
            assert!(!world.mimecast.requests().iter().any(|request| request.query.iter().any(blank)), "{fault:?}");
        }
    }
}

// A4: blank, of another type, and on the page of a backlog.
#[tokio::test]
async fn a_full_page_without_a_token_is_an_error_and_loses_nothing() {
    for token in [json!(""), json!("  "), json!(null), json!({}), json!([]), json!(false)] {
        let mut world = World::new(Api::V2).await;
        world.set("PAGE_SIZE", "2");
        publish(&world, 0..2);
        let mut page = listing(&world);
        page["@nextPage"] = token.clone();
        page["isCaughtUp"] = json!(false);
        publish(&world, 2..5);
        world.mimecast.fault(Fault::new("type=av", answer(200, &page.to_string())));
        let (error_type, message) = world.fail("siem").await;
        assert_eq!(error_type, "MimecastProtocol", "{token}: {message}");
        assert_eq!(world.devo.lines()[AV].len(), 2);
        let stored = &state(&world, "siem")["streams"]["av"]["token"];
        assert!(stored.is_null(), "{token} is stored as {stored}");
        assert_eq!(counts(&world.run("siem").await), json!(["caught_up", 3, 0, 0]), "{token}");
        world.assert_delivered(&events(0..5));
    }
}

// A12
#[tokio::test]
async fn a_file_that_is_left_in_its_middle_for_others_is_gone_on_from() {
    // The other one whole, and left in its middle as well.
    for whole in [true, false] {
        let mut world = World::new(Api::V2).await;
        let lines = |name: &str| (0..15_000).map(|n| format!(r#"{{"type":"av","{name}":{n}}}"#)).collect::<Vec<_>>();
        let push = |world: &World, lines: &[String]| {
            world.mimecast.push_siem("av", lines.iter().map(|line| line.clone().into_bytes()).collect());
        };
        let (a, b) = (lines("a"), lines("b"));
        push(&world, &a);
        world.devo.fault(DevoFault::status(403).skip(1).times(1000));
        assert_eq!(world.fail("siem").await.0, "DevoRejected");
        assert!((1..15_000).contains(&world.devo.count()), "{} of it", world.devo.count());
        world.devo.clear_faults();

        push(&world, &b);
        world.mimecast.fault(Fault::new(&world.mimecast.siem_path(0), FaultKind::ExpiredLink).forever());
        if !whole {
            world.devo.fault(DevoFault::status(403).skip(1).times(1000));
        }
        world.fail("siem").await;
        world.devo.clear_faults();
        world.mimecast.clear_faults();
        for _ in 0..2 {
            assert_eq!(world.run("siem").await["status"], "caught_up");
        }
        world.assert_delivered(&expected(AV, [a, b].concat()));
    }
}

// B7
#[tokio::test]
async fn a_type_that_is_denied_can_be_left_out() {
    let mut world = World::new(Api::V2).await;
    let mut all = simulator::data::lively(&world.mimecast, 1, now(), 1);
    world.mimecast.deny("type=journal");
    world
        .set("SIEM_TYPES", "receipt,process,delivery,av,spam,internal email protect,impersonation protect,url protect");
    let answer = world.run("siem").await;
    assert_eq!(answer["status"], "caught_up");
    assert!(answer["lag_seconds"].as_u64().unwrap() < 60, "{answer}");
    all.retain(|table, _| table.contains(".siem.") && !table.contains(".jrnl"));
    // Of attachments and links, which share a table, these were asked for.
    let of_links = |line: &String| !line.contains("attachment protect");
    all.get_mut("mail.mimecast.siem.ttp").unwrap().retain(of_links);
    world.assert_delivered(&all);
}

// B7
#[tokio::test]
async fn a_type_that_is_denied_is_named_and_the_others_flow() {
    for (kind, answer) in
        [("process", None), ("av", None), ("url protect", Some(404)), ("spam", Some(400)), ("journal", Some(500))]
    {
        let mut world = World::new(Api::V2).await;
        let all = simulator::data::lively(&world.mimecast, 1, now(), 1);
        let siem = |tables: &simulator::data::Expected| {
            let tables = tables.iter().filter(|(table, _)| table.contains(".siem."));
            tables.map(|(table, lines)| (table.clone(), lines.clone())).collect::<simulator::data::Expected>()
        };
        let text = format!("type={kind}");
        match answer {
            None => world.mimecast.deny(&text),
            Some(status) => world.mimecast.fault(Fault::new(&text, FaultKind::status(status)).forever()),
        }
        let (error_type, message) = world.fail("siem").await;
        let wanted = match answer {
            None => "Permission",
            Some(500) => "MimecastUnavailable",
            Some(_) => "MimecastProtocol",
        };
        assert_eq!(error_type, wanted, "{message}");
        assert!(message.contains(kind), "{message}");
        let arrived: usize = world.devo.count();
        let total: usize = siem(&all).values().map(Vec::len).sum();
        assert!(arrived > total / 2 && arrived < total, "{arrived} of {total}");
        world.mimecast.allow(&text);
        world.mimecast.clear_faults();
        assert_eq!(world.run("siem").await["status"], "caught_up");
        world.assert_delivered(&siem(&all));
    }
}

/// Form 1 kept one place per feed, and whatever token it was given.
#[tokio::test]
async fn a_half_delivered_file_and_an_empty_token_of_form_1_are_gone_on_from() {
    let mut world = World::new(Api::V2).await;
    let lines: Vec<String> = (0..15_000).map(event).collect();
    world.mimecast.push_siem("av", lines.iter().map(|line| line.clone().into_bytes()).collect());
    world.devo.fault(DevoFault::status(403).skip(1).times(1000));
    world.fail("siem").await;
    world.devo.clear_faults();
    let places = state(&world, "siem")["streams"]["av"]["places"].clone();
    let (file, place) = places.as_object().unwrap().iter().next().unwrap();
    let caught_up = now() - TimeDelta::minutes(10);
    let av = json!({"token": "", "file": [file, place], "gone": caught_up, "caught_up": caught_up});
    leave(&world, "siem", 1, &json!({"streams": {"av": av, "process": {"token": " ", "caught_up": caught_up}}}));
    let answer = world.run("siem").await;
    assert_eq!(answer["status"], "caught_up", "{answer}");
    world.assert_delivered(&expected(AV, lines));
}
