//! Sources read by time: totals and page tokens that lie, late rows, broken seconds.

use std::time::Duration;

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use futures_util::future::join_all;
use serde_json::json;
use simulator::mimecast::{Doubts, Fault, FaultKind, LastPage, Order, Totals};

use super::{AUDIT, URL, VIEW, expected, leave, state, warns};
use crate::support::runtime::{Deadline, Outcome};
use crate::world::{Api, World, counts, now};

/// Rows over twenty hours and, more than a page holds, in one second.
fn fill(world: &World, source: &str) -> Vec<String> {
    let of = |n: i64, minutes: i64| {
        let row = format!(r#"{{"n":{n}}}"#);
        world.mimecast.push(source, now() - TimeDelta::minutes(minutes), &row);
        row
    };
    let spread: Vec<String> = (0..30).map(|n| of(n, 40 * n + 5)).collect();
    [spread, (30..39).map(|n| of(n, 500)).collect()].concat()
}

/// Reads a source of such a Mimecast, twice, and asserts that all arrives once in a bounded number of requests.
async fn all_arrives(source: &str, doubts: Doubts) -> serde_json::Value {
    let mut world = World::new(Api::V2).await;
    world.set("PAGE_SIZE", "4");
    let lines = fill(&world, source);
    let case = format!("{source} {doubts:?}");
    world.mimecast.doubts(doubts);
    let answer = world.run(source).await;
    // A second that two slices share is read twice.
    let duplicates = &answer["duplicates"];
    assert_eq!(counts(&answer), json!(["caught_up", lines.len(), duplicates, 0]), "{case}: {answer}");
    let requests = answer["requests"].as_u64().unwrap();
    // Where every slice's total and last page lie, each is asked for twice, and its token three times.
    assert!(requests < 260, "{case}: {requests} requests");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let again = world.run(source).await;
    assert_eq!((&again["status"], &again["events"]), (&json!("caught_up"), &json!(0)), "{case}: {again}");
    world.assert_delivered(&expected(if source == "url" { URL } else { VIEW }, lines));
    answer
}

// A5
#[tokio::test]
async fn totals_that_change_from_page_to_page_hold_nothing_up() {
    let cycles: [&[i64]; 6] = [&[-5, 0, -5, 0], &[0, 5], &[5, -5, 0], &[300, 0, 0], &[1, 2, 3, 4, 5, 6, 7], &[-1000]];
    let totals = cycles.map(|cycle| Totals::Off(cycle.to_vec())).into_iter();
    let totals = totals.chain([Totals::NotOnFirstPage, Totals::Absent, Totals::Text]);
    let sources = ["url", "view"].into_iter().cycle();
    join_all(totals.zip(sources).map(|(totals, source)| all_arrives(source, Doubts { totals, ..Doubts::default() })))
        .await;
}

// A6
#[tokio::test]
async fn a_total_too_high_and_a_token_to_nowhere_end_in_a_warning() {
    let ends = [LastPage::Ends, LastPage::LeadsToEmpty, LastPage::LeadsTo404, LastPage::LeadsTo400];
    let cases = ends.into_iter().flat_map(|last_page| [(last_page, 7, "url"), (last_page, 0, "view")]);
    join_all(cases.map(async |(last_page, error, source)| {
        let doubts = Doubts { totals: Totals::Off(vec![error]), last_page, ..Doubts::default() };
        let answer = all_arrives(source, doubts).await;
        assert_eq!(warns(&answer, "totalCount"), error > 0, "{last_page:?}: {answer}");
    }))
    .await;
}

// A6: the server has pages of its own size, or turns none.
#[tokio::test]
async fn pages_smaller_than_asked_for_and_pages_that_do_not_turn_lose_nothing() {
    let capped = Doubts { page_cap: Some(3), ..Doubts::default() };
    let capped_in_the_dark = Doubts { page_cap: Some(3), totals: Totals::Absent, ..Doubts::default() };
    join_all([capped, capped_in_the_dark].map(|doubts| all_arrives("url", doubts))).await;
}

// A6: a refusal by chance is not the end of a list, also where the total and the length of the page agree that it is.
#[tokio::test]
async fn a_page_token_that_is_refused_once_hides_no_row() {
    // The first answer is left alone: what has a token is asked for behind it.
    let kinds = [(FaultKind::RefusePageToken, 0), (FaultKind::status(404), 1)];
    join_all(kinds.map(async |(kind, skip)| {
        let mut world = World::new(Api::V2).await;
        world.set("PAGE_SIZE", "4");
        world.mimecast.doubts(Doubts { page_cap: Some(3), totals: Totals::Off(vec![-1]), ..Doubts::default() });
        let lines: Vec<String> = (0..4).map(|n| format!(r#"{{"n":{n}}}"#)).collect();
        for (n, line) in lines.iter().enumerate() {
            world.mimecast.push("url", now() - TimeDelta::minutes(600 + 10 * n as i64), line);
        }
        world.mimecast.fault(Fault::new("ttp/url", kind).skip(skip));
        assert_eq!(world.run("url").await["status"], "caught_up");
        world.assert_delivered(&expected(URL, lines));
    }))
    .await;
}

/// A row that comes while a slice is paged moves others from page to page, or is not on any. This is so long ago that nothing is read
/// again.
#[tokio::test]
async fn a_row_that_comes_between_two_pages_neither_hides_another_nor_makes_it_come_twice() {
    join_all(["url", "view"].map(async |source| {
        let mut world = World::new(Api::V2).await;
        world.set("PAGE_SIZE", "10");
        world.mimecast.set_latency(Duration::from_millis(400));
        let begin = now() - TimeDelta::hours(10);
        let lines: Vec<String> = (0..25).map(|n| format!(r#"{{"n":{n}}}"#)).collect();
        for (n, line) in lines.iter().enumerate() {
            world.mimecast.push(source, begin + TimeDelta::seconds(20 * n as i64), line);
        }
        // Of every page, in whichever order it is listed, and between any two requests.
        for n in 0..12 {
            let (second, came) = (50 + 200 * (n % 3), world.mimecast.now() + TimeDelta::milliseconds(200 * n));
            world.mimecast.push_late(source, begin + TimeDelta::seconds(second), came, format!(r#"{{"late":{n}}}"#));
        }
        assert_eq!(world.run(source).await["status"], "caught_up");
        let delivered = &world.devo.lines()[if source == "url" { URL } else { VIEW }];
        for line in &lines {
            assert_eq!(delivered.iter().filter(|found| *found == line).count(), 1, "{source}: {line}");
        }
        assert!(delivered.len() <= 37 && delivered.iter().all(|line| line.contains("late") || lines.contains(line)));
    }))
    .await;
}

// A6: where no token of a second with more rows than a page is ever accepted, its rows are really out of reach.
#[tokio::test]
async fn a_second_whose_pages_cannot_be_had_is_an_error_and_loses_nothing() {
    let mut world = World::new(Api::V2).await;
    world.set("PAGE_SIZE", "4");
    let lines = fill(&world, "view");
    world.mimecast.fault(Fault::new("/api/archive/get-view", FaultKind::RefusePageToken).forever());
    let (error_type, message) = world.fail("view").await;
    assert_eq!(error_type, "MimecastProtocol");
    assert!(message.contains("page token is refused"), "{message}");
    world.mimecast.clear_faults();
    assert_eq!(world.run("view").await["status"], "caught_up");
    world.assert_delivered(&expected(VIEW, lines));
}

/// However long page tokens are refused: the rows of a second that needs them are all there in the end, or the run fails.
#[tokio::test]
async fn page_tokens_that_are_refused_for_a_while_hide_no_row() {
    join_all((3..=60).step_by(3).map(async |times| {
        let mut world = World::new(Api::V2).await;
        world.set("PAGE_SIZE", "4");
        let at = now() - TimeDelta::minutes(500);
        let lines: Vec<String> = (0..9).map(|n| format!(r#"{{"n":{n}}}"#)).collect();
        lines.iter().for_each(|line| world.mimecast.push("url", at, line));
        world.mimecast.fault(Fault::new("/api/ttp/url", FaultKind::RefusePageToken).times(times));
        match world.invoke("url").await {
            Outcome::Failed { error_type, .. } => assert_eq!(error_type, "MimecastProtocol", "{times}"),
            outcome => assert!(matches!(outcome, Outcome::Answer(_)), "{times}: {outcome:?}"),
        }
        world.mimecast.clear_faults();
        tokio::time::sleep(Duration::from_millis(1100)).await;
        assert_eq!(world.run("url").await["status"], "caught_up", "{times}");
        world.assert_delivered(&expected(URL, lines));
    }))
    .await;
}

/// Nobody promises that lists are sorted by time: a first page that looks so may have left out a row that came late.
#[tokio::test]
async fn a_list_in_the_order_of_arrival_hides_no_late_row_behind_a_sorted_page() {
    join_all(["url", "view"].map(async |source| {
        let mut world = World::new(Api::V2).await;
        world.set("PAGE_SIZE", "10");
        world.mimecast.doubts(Doubts { order: Order::Arrival, ..Doubts::default() });
        let begin = now() - TimeDelta::minutes(30);
        let time = if source == "url" { "date" } else { "viewed" };
        let row = |n: i64, second: i64, came: i64| {
            let at = begin + TimeDelta::seconds(second);
            let row = format!(r#"{{"n":{n},"{time}":"{}"}}"#, at.format("%FT%T+0000"));
            world.mimecast.push_late(source, at, begin + TimeDelta::seconds(came), &row);
            row
        };
        // Two pages and a half; those that come first in the list, from whichever end, are sorted by time.
        let mut lines: Vec<String> = (0..25).map(|n| row(n, 20 * n, 20 * n)).collect();
        // By its time among these, and at the other end of the list.
        let (second, came) = if source == "url" { (50, 600) } else { (470, 0) };
        lines.push(row(25, second, came));
        let answer = world.run(source).await;
        assert_eq!(counts(&answer), json!(["caught_up", 26, 0, 0]), "{answer}");
        world.assert_delivered(&expected(if source == "url" { URL } else { VIEW }, lines));
    }))
    .await;
}

// A7
#[tokio::test]
async fn a_late_row_in_every_run_does_not_keep_a_backlog_from_getting_shorter() {
    // In front of all that is read, whichever way the list runs.
    join_all(["url", "view"].map(async |source| {
        let mut world = World::new(Api::V2).await;
        world.set("PAGE_SIZE", "5");
        let mut lines: Vec<String> = (0..600).map(|n| format!(r#"{{"n":{n}}}"#)).collect();
        for (n, line) in lines.iter().enumerate() {
            world.mimecast.push(source, now() - TimeDelta::minutes(2 * n as i64 + 5), line);
        }
        world.mimecast.set_latency(Duration::from_millis(250));
        let (mut runs, mut failed) = (0, 0);
        loop {
            runs += 1;
            assert!(runs < 60, "{source} does not get there");
            let closed_to = &state(&world, source)["windows"]["closed_to"];
            let closed_to: Option<DateTime<Utc>> = serde_json::from_value(closed_to.clone()).unwrap();
            let row = format!(r#"{{"late":{runs}}}"#);
            world.mimecast.push(source, now() - TimeDelta::seconds(70), &row);
            lines.push(row);
            match world.invoke_with(source, "{}", Deadline::In(Duration::from_millis(3500))).await {
                Outcome::Answer(answer) if answer["status"] == "caught_up" => break,
                Outcome::Answer(answer) => {
                    let after: Option<DateTime<Utc>> =
                        serde_json::from_value(answer["checkpoint"]["windows"]["closed_to"].clone()).unwrap();
                    assert!(after > closed_to, "no progress: {answer}");
                }
                // On a busy machine a run may be over before anything was answered. That says nothing of the backlog, unless it goes on.
                Outcome::Failed { error_type, .. } if error_type == "MimecastUnavailable" => {
                    failed += 1;
                    assert!(failed < 4, "{source} does not get on");
                }
                other => panic!("{source}: {other:?}"),
            }
        }
        assert!(runs > 1, "the backlog is to take several runs");
        world.assert_delivered(&expected(if source == "url" { URL } else { VIEW }, lines));
    }))
    .await;
}

// A7: pages come one after the other, so a slice may take longer than a run has.
#[tokio::test]
async fn a_slice_with_more_pages_than_a_run_has_time_for_is_read_in_shorter_ones() {
    let mut world = World::new(Api::V2).await;
    world.set("PAGE_SIZE", "5");
    let begin = now().trunc_subsecs(0) - TimeDelta::hours(3);
    let lines: Vec<String> = (0..75).map(|n| format!(r#"{{"n":{n}}}"#)).collect();
    for (n, line) in lines.iter().enumerate() {
        world.mimecast.push("url", begin + TimeDelta::minutes(2 * n as i64 + 1), line);
    }
    leave(
        &world,
        "url",
        2,
        &json!({"windows": {"since": begin, "closed_to": begin, "reread_to": begin, "span": 12000}}),
    );
    world.mimecast.set_latency(Duration::from_millis(400));
    let mut runs = 0;
    loop {
        runs += 1;
        assert!(runs < 30, "it does not get there");
        match world.invoke_with("url", "{}", Deadline::In(Duration::from_secs(4))).await {
            Outcome::Answer(answer) if answer["status"] == "caught_up" => break,
            // Already the first run gets somewhere.
            Outcome::Answer(answer) => assert!(answer["events"].as_u64() > Some(0), "{answer}"),
            other => panic!("{other:?}"),
        }
    }
    world.assert_delivered(&expected(URL, lines));
}

// A7: reading the overlap again takes longer than a run has.
#[tokio::test]
async fn what_is_new_does_not_wait_for_what_is_read_again() {
    let mut world = World::new(Api::V2).await;
    world.set("PAGE_SIZE", "5").set("OVERLAP", "10m");
    let closed_to = now().trunc_subsecs(0) - TimeDelta::minutes(5);
    let mut lines: Vec<String> = (0..200).map(|n| format!(r#"{{"n":{n}}}"#)).collect();
    for (n, line) in lines.iter().enumerate() {
        world.mimecast.push("url", closed_to - TimeDelta::seconds(3 * n as i64 + 1), line);
    }
    let new = r#"{"new":1}"#.to_owned();
    world.mimecast.push("url", closed_to + TimeDelta::seconds(5), &new);
    let begin = closed_to - TimeDelta::minutes(10);
    leave(
        &world,
        "url",
        2,
        &json!({"windows": {"since": begin, "closed_to": closed_to, "reread_to": begin, "span": 10}}),
    );
    world.mimecast.set_latency(Duration::from_secs(1));
    world.invoke_with("url", "{}", Deadline::In(Duration::from_secs(6))).await;
    assert!(world.devo.lines()[URL].contains(&new), "{:?}", world.devo.lines());
    world.mimecast.set_latency(Duration::ZERO);
    assert_eq!(world.run("url").await["status"], "caught_up");
    lines.push(new);
    world.assert_delivered(&expected(URL, lines));
}

/// The API counts the end of a range in, so what is read again ends with the second at which what is new began.
#[tokio::test]
async fn a_row_at_the_begin_of_what_is_new_comes_once() {
    let mut world = World::new(Api::V2).await;
    world.set("PAGE_SIZE", "5").set("OVERLAP", "10m");
    let closed_to = now().trunc_subsecs(0) - TimeDelta::minutes(8);
    let lines: Vec<String> = (0..40).map(|n| format!(r#"{{"n":{n}}}"#)).collect();
    for (n, line) in lines.iter().enumerate() {
        world.mimecast.push("url", closed_to + TimeDelta::seconds(10 * n as i64), line);
    }
    let begin = closed_to - TimeDelta::minutes(10);
    leave(
        &world,
        "url",
        2,
        &json!({"windows": {"since": begin, "closed_to": closed_to, "reread_to": begin, "span": 40}}),
    );
    assert_eq!(world.run("url").await["status"], "caught_up");
    world.assert_delivered(&expected(URL, lines));
}

/// Our clock is behind, so a run begins with the one second that is new by it, and reads again what is further back only then.
#[tokio::test]
async fn what_is_read_again_behind_what_is_new_is_known() {
    let mut world = World::new(Api::V2).await;
    world.set("OVERLAP", "10m");
    let row = |n: i64, at: DateTime<Utc>| {
        let row = format!(r#"{{"n":{n}}}"#);
        world.mimecast.push("url", at, &row);
        row
    };
    let old = now() - TimeDelta::minutes(5);
    let mut lines = vec![row(1, old)];
    let closed_to = now();
    lines.push(row(2, closed_to));
    assert_eq!(world.run("url").await["events"], 1);
    let again = json!({"closed_to": closed_to, "since": old, "reread_to": old - TimeDelta::minutes(1), "again": 1000});
    leave(&world, "url", 2, &json!({ "windows": again }));
    world.mimecast.set_clock_offset(3600);
    assert_eq!(world.run("url").await["status"], "caught_up");
    world.assert_delivered(&expected(URL, lines));
}

// A8
#[tokio::test]
async fn a_total_without_any_row_is_told_and_gone_on_from() {
    join_all([Totals::NeverZero, Totals::Off(vec![5]), Totals::Off(vec![0, 5])].map(async |totals| {
        for last_page in [LastPage::Ends, LastPage::LeadsToEmpty] {
            let mut world = World::new(Api::V2).await;
            world.mimecast.doubts(Doubts { totals: totals.clone(), last_page, ..Doubts::default() });
            for _ in 0..2 {
                let answer = world.run("url").await;
                assert_eq!(counts(&answer), json!(["caught_up", 0, 0, 0]), "{answer}");
                assert!(answer["requests"].as_u64().unwrap() <= 5, "{answer}");
                assert!(warns(&answer, "totalCount") || totals == Totals::Off(vec![0, 5]), "{answer}");
                tokio::time::sleep(Duration::from_millis(1100)).await;
            }
            world.mimecast.push("url", now() - TimeDelta::minutes(5), r#"{"n":1}"#);
            assert_eq!(world.run("url").await["status"], "caught_up");
            world.assert_delivered(&expected(URL, [r#"{"n":1}"#.to_owned()]));
        }
    }))
    .await;
}

// A9
#[tokio::test]
async fn a_broken_second_beside_broken_probes_does_not_stop_a_source() {
    // Seconds from where the run begins, the last of them the one that could be read before.
    let cases: [&[i64]; 4] = [&[0, 1], &[0, 2], &[-60, -1, 0, 2], &[0, 1, 2, 3, -1]];
    join_all(cases.map(async |broken| {
        let mut world = World::new(Api::V2).await;
        let begin = now().trunc_subsecs(0) - TimeDelta::seconds(100);
        let at = |seconds: i64| begin + TimeDelta::seconds(seconds);
        for second in broken {
            // Brackets that do not match: nobody can tell where this row ends.
            world.mimecast.push("audit", at(*second), format!(r#"{{"id":"x{second}","a":[}}"#));
        }
        let seconds = [6, 20, 30];
        let rows = seconds.map(|second| format!(r#"{{"id":"{second}"}}"#));
        seconds.iter().zip(&rows).for_each(|(second, row)| world.mimecast.push("audit", at(*second), row));
        let readable = at(*broken.last().unwrap());
        let windows = json!({"since": begin, "closed_to": begin, "reread_to": begin, "readable": readable});
        leave(&world, "audit", 1, &json!({"windows": windows}));
        let mut runs = 0;
        while world.run("audit").await["status"] != "caught_up" {
            runs += 1;
            assert!(runs < 8, "{broken:?}");
        }
        world.assert_delivered(&expected(AUDIT, rows));
        let letters = world.dead_letters("audit").await;
        let letters: Vec<_> = letters.iter().map(|(raw, _)| String::from_utf8_lossy(raw)).collect();
        for second in broken.iter().filter(|second| **second >= 0) {
            let held = letters.iter().any(|letter| letter.contains(&format!(r#""x{second}""#)));
            assert!(held, "{broken:?}: {letters:?}");
        }
    }))
    .await;
}

/// Form 1 had an open window with a page token, and labelled its marks with the reading they were of.
#[tokio::test]
async fn an_open_window_of_form_1_is_gone_on_from() {
    for (source, table) in [("url", URL), ("view", VIEW)] {
        let mut world = World::new(Api::V2).await;
        world.set("PAGE_SIZE", "4");
        let start = now();
        let ago = |minutes: i64| start - TimeDelta::minutes(minutes);
        // Every row twice, in the same second.
        let push = |world: &World, range: std::ops::Range<i64>| -> Vec<String> {
            let row = |n: i64| {
                let row = format!(r#"{{"n":{}}}"#, n / 2);
                world.mimecast.push(source, ago(40 - n / 2), &row);
                row
            };
            range.map(row).collect()
        };
        let mut lines = push(&world, 0..12);
        let since = ago(24 * 60);
        world.run(source).await;
        // As form 1 would have left it: half of the window is delivered, the marks say of which reading.
        let label = format!("{}/{}/3", ago(60).format("%FT%TZ"), ago(1).format("%FT%TZ"));
        label_marks(&world, source, &label);
        let open = json!({
            "from": ago(60), "to": ago(1), "page": ["a token of then", 8], "rows": 8, "total": 12, "reading": 3,
            "before": 2, "reread": true,
        });
        leave(
            &world,
            source,
            1,
            &json!({"windows": {"since": since, "closed_to": ago(45), "open": open, "readings": 3}}),
        );
        lines.extend(push(&world, 12..20));
        for _ in 0..2 {
            assert_eq!(world.run(source).await["status"], "caught_up");
            tokio::time::sleep(Duration::from_millis(1100)).await;
        }
        world.assert_delivered(&expected(table, lines));
    }
}

/// Puts the attribute on a source's marks that form 1 had.
fn label_marks(world: &World, source: &str, label: &str) {
    let pk = json!({"S": format!("default#{source}")});
    let query = json!({
        "TableName": mimecast_devo::embedded::TABLE, "KeyConditionExpression": "pk = :pk AND begins_with(sk, :seen)",
        "ExpressionAttributeValues": {":pk": pk, ":seen": {"S": "seen#"}},
    });
    let (_, body) = world.store.execute("Query", query.to_string().as_bytes());
    let found: serde_json::Value = serde_json::from_slice(body.as_ref()).unwrap();
    let items = found["Items"].as_array().unwrap();
    assert!(!items.is_empty());
    for item in items {
        let mut item = item.clone();
        item["reading"] = json!({"S": label});
        let put = json!({"TableName": mimecast_devo::embedded::TABLE, "Item": item}).to_string();
        assert_eq!(world.store.execute("PutItem", put.as_bytes()).0, 200);
    }
}
