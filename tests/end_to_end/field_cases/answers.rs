//! What concerns answers of all sources: members that are missing or of another type, clocks, a feed without anything new.

use chrono::TimeDelta;
use futures_util::future::join_all;
use serde_json::{Value, json};
use simulator::mimecast::Fault;

use super::{AV, FEED, URL, access_token, answer, event, events, expected, listing, publish, state};
use crate::world::{Api, World, counts, now};

// A3
#[tokio::test]
async fn an_answer_without_its_list_is_an_error_and_moves_nothing() {
    let batch = ["{}", r#"{"values":[]}"#, r#"{"value":7}"#, r#"{"@nextPage":"t","isCaughtUp":true}"#];
    let page = [r#"{"meta":{"status":200}}"#, r#"{"meta":{"status":200},"data":"none"}"#, r#"{"fail":[]}"#, "{}"];
    let file = [r#"{"meta":{"status":200}}"#, "{}"];
    let of = |api, source, text, bodies: &[&'static str]| {
        bodies.iter().map(|body| (api, source, text, *body)).collect::<Vec<_>>()
    };
    let cases = [
        of(Api::V2, "siem", "type=av", &batch),
        of(Api::V2, "url", "/api/ttp/url", &page),
        of(Api::V1, "audit", "/api/audit/get-audit", &page[..2]),
        of(Api::V2, "messageholdlist", "/api/gateway/get-hold-message", &page[..1]),
        of(Api::V2, "dashboard", "/api/account/get-dashboard", &page[..2]),
        of(Api::V1, "siem", "/api/audit/get-siem", &file),
        of(Api::V2, "threatfeed", "malware_grid", &file),
    ]
    .concat();
    for cases in cases.chunks(6) {
        join_all(cases.iter().map(async |(api, source, text, body)| {
            let mut world = World::new(*api).await;
            let all = simulator::data::lively(&world.mimecast, 1, now(), 1);
            world.mimecast.fault(Fault::new(text, answer(200, body)).forever());
            let (error_type, message) = world.fail(source).await;
            assert_eq!(error_type, "MimecastProtocol", "{source} {body}: {message}");
            let state = state(&world, source);
            let place = match *source {
                "siem" | "threatfeed" => {
                    let feed = if *text == "type=av" { "av" } else { "malware_grid" };
                    &state["streams"][feed]["caught_up"]
                }
                "url" => &state["windows"]["gave"],
                _ => &Value::Null,
            };
            assert!(place.is_null(), "{source} {body}: {state}");
            world.mimecast.clear_faults();
            assert_eq!(world.run(source).await["status"], "caught_up", "{source} {body}");
            let table = match *source {
                "threatfeed" => ".threat.",
                "messageholdlist" => ".message.list",
                other => other,
            };
            world.assert_delivered(&all.into_iter().filter(|(name, _)| name.contains(table)).collect());
        }))
        .await;
    }
}

// A11
#[tokio::test]
async fn a_clock_that_is_hours_off_is_an_error_that_says_so() {
    let cases =
        [(Api::V1, "url"), (Api::V2, "audit"), (Api::V2, "siem"), (Api::V2, "threatfeed"), (Api::V2, "dashboard")];
    for offset in [-7 * 3600, 7 * 3600, -400 * 86_400] {
        join_all(cases.map(async |(api, source)| {
            let mut world = World::new(api).await;
            let all = simulator::data::lively(&world.mimecast, 1, now(), 1);
            world.mimecast.set_clock_offset(offset);
            let (error_type, message) = world.fail(source).await;
            assert_eq!(error_type, "MimecastProtocol", "{source} {offset}: {message}");
            assert!(message.contains("clock"), "{message}");
            assert!(world.devo.lines().is_empty());
            world.mimecast.set_clock_offset(0);
            assert_eq!(world.run(source).await["status"], "caught_up", "{source} {offset}");
            let table = if source == "threatfeed" { ".threat." } else { source };
            world.assert_delivered(&all.into_iter().filter(|(name, _)| name.contains(table)).collect());
        }))
        .await;
    }
}

// A13
#[tokio::test]
async fn an_access_token_is_taken_whatever_is_said_of_its_life() {
    let lives =
        [json!("1799"), json!(1799.0), json!(null), json!("soon"), json!(-1), json!(0), json!(1e300), json!([])];
    let lives = lives.into_iter().map(Some).chain([None]);
    for life in lives {
        let mut world = World::new(Api::V2).await;
        world.mimecast.push("url", now() - TimeDelta::hours(3), r#"{"n":1}"#);
        let mut grant = json!({"access_token": access_token(&world), "token_type": "Bearer"});
        if let Some(life) = &life {
            grant["expires_in"] = life.clone();
        }
        world.mimecast.fault(Fault::new("/oauth/token", answer(200, &grant.to_string())).forever());
        let answer = world.run("url").await;
        assert_eq!(counts(&answer), json!(["caught_up", 1, 0, 0]), "{life:?}: {answer}");
        let asked = world.mimecast.requests().iter().filter(|request| request.path == "/oauth/token").count();
        assert_eq!(asked, 1 + 1, "{life:?}: the test's and the function's");
        world.assert_delivered(&expected(URL, [r#"{"n":1}"#.to_owned()]));
    }
    // What is essential and missing is named.
    for grant in ["{}", r#"{"access_token":""}"#, r#"{"access_token":null}"#, r#"{"expires_in":1799}"#] {
        let mut world = World::new(Api::V2).await;
        world.mimecast.fault(Fault::new("/oauth/token", answer(200, grant)).forever());
        let (error_type, message) = world.fail("url").await;
        assert_eq!(error_type, "MimecastProtocol", "{grant}: {message}");
        assert!(message.contains("access_token"), "{grant}: {message}");
    }
}

// A13
#[tokio::test]
async fn control_members_of_a_page_are_read_in_any_type() {
    for (status, total, size) in [
        (json!("200"), json!("2"), json!("2")),
        (json!(200.0), json!(2.0), json!(null)),
        (json!(200), json!(-1), json!("x")),
        (json!(null), json!({}), json!([])),
        (json!(200), json!(1e300), json!(-1)),
    ] {
        let mut world = World::new(Api::V2).await;
        let pagination = json!({"pageSize": size, "totalCount": total, "next": null});
        let body = json!({
            "meta": {"status": status, "pagination": pagination}, "data": [{"clickLogs": [{"n": 1}, {"n": 2}]}], "fail": [],
        });
        // Also where the slice is asked for once more because of its total.
        world.mimecast.fault(Fault::new("/api/ttp/url", answer(200, &body.to_string())).times(2));
        let answer = world.run("url").await;
        assert_eq!((&answer["status"], &answer["rejected"]), (&json!("caught_up"), &json!(0)), "{body}: {answer}");
        world.assert_delivered(&expected(URL, [1, 2].map(|n| format!(r#"{{"n":{n}}}"#))));
    }
}

// A13
#[tokio::test]
async fn control_members_of_a_listing_are_read_in_any_type() {
    for (caught_up, next) in [
        (json!("true"), json!("t")),
        (json!(null), json!(null)),
        (json!("no"), json!(17)),
        (json!(1), json!("")),
        (json!({}), json!({})),
    ] {
        let mut world = World::new(Api::V2).await;
        publish(&world, 0..2);
        let mut page = listing(&world);
        page["isCaughtUp"] = caught_up;
        page["@nextPage"] = next;
        world.mimecast.fault(Fault::new("type=av", answer(200, &page.to_string())));
        // A token of the test's own is refused, and the feed is asked by date.
        world.invoke("siem").await;
        assert_eq!(world.devo.lines()[AV].len(), 2, "{page}");
        publish(&world, [2]);
        assert_eq!(world.run("siem").await["status"], "caught_up", "{page}");
        world.assert_delivered(&events(0..3));
    }
    // Nothing new, said with null.
    let mut world = World::new(Api::V2).await;
    world.mimecast.fault(Fault::new("type=av", answer(200, r#"{"value":null,"isCaughtUp":true}"#)));
    assert_eq!(counts(&world.run("siem").await), json!(["caught_up", 0, 0, 0]));
    publish(&world, [0]);
    world.run("siem").await;
    world.assert_delivered(&events(0..1));
}

// A13
#[tokio::test]
async fn one_entry_without_a_link_takes_no_file_with_it() {
    for entry in [json!({"url": null}), json!({"size": 1}), json!({"url": 7}), json!("https://a/b"), json!(null)] {
        let mut world = World::new(Api::V2).await;
        publish(&world, 0..3);
        let mut page = listing(&world);
        page["value"].as_array_mut().unwrap().insert(1, entry.clone());
        world.mimecast.fault(Fault::new("type=av", answer(200, &page.to_string())));
        let answer = world.run("siem").await;
        assert_eq!(counts(&answer), json!(["caught_up", 3, 0, 1]), "{entry}: {answer}");
        let letters = world.dead_letters("siem").await;
        assert_eq!(
            letters.iter().map(|(raw, _)| String::from_utf8_lossy(raw)).collect::<Vec<_>>(),
            [entry.to_string()]
        );
        assert_eq!(counts(&world.run("siem").await), json!(["caught_up", 0, 0, 0]), "{entry}");
        world.assert_delivered(&events(0..3));
    }
}

// A14
#[tokio::test]
async fn a_threat_feed_without_results_is_known_by_its_code() {
    let code = "err_threat_intel_feed_no_result_found";
    for fail in [
        json!([{"errors": [{"code": code, "message": "Nothing here"}]}]),
        json!([{"errors": [{"code": code, "message": ""}]}]),
        json!([{"errors": [{"code": code}]}]),
        json!([{"code": code, "message": null}]),
        json!({"code": code}),
    ] {
        for body in [json!({"meta": {"status": 200}, "data": [], "fail": fail}), json!({"fail": fail})] {
            let mut world = World::new(Api::V2).await;
            world.set("THREATFEED_TYPES", "malware_grid");
            world.mimecast.fault(Fault::new("get-feed", answer(200, &body.to_string())));
            let answer = world.run("threatfeed").await;
            assert_eq!(counts(&answer), json!(["caught_up", 0, 0, 0]), "{body}: {answer}");
            assert_eq!(answer["requests"], 2, "once, with its access token: {answer}");
            world.mimecast.push_feed("malware_grid", now(), ["1", "2", "3", "4"]);
            world.run("threatfeed").await;
            let row = r#"{"MD5":"1","SHA256":"2","SenderAddress":"3","Timestamp":"4"}"#;
            world.assert_delivered(&expected(FEED, [row.to_owned()]));
        }
    }
}

// A13: an unknown member beside the known ones, and a listing in a file's order.
#[tokio::test]
async fn members_that_nobody_knows_are_passed_over() {
    let mut world = World::new(Api::V2).await;
    publish(&world, 0..2);
    let mut page = listing(&world);
    page["error"] = json!(null);
    page["meta"] = json!({"status": "200"});
    page["@count"] = json!("2");
    world.mimecast.fault(Fault::new("type=av", answer(200, &page.to_string())));
    assert_eq!(counts(&world.run("siem").await), json!(["caught_up", 2, 0, 0]));
    world.assert_delivered(&expected(AV, (0..2).map(event)));
}
