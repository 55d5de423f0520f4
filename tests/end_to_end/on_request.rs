//! The sources that are off unless asked for: what is particular to them, and where their events go.

use std::time::Duration;

use chrono::TimeDelta;
use serde_json::json;
use simulator::mimecast::Doubts;

use crate::world::{Api, World, now};

const DLP: &str = "my.app.mimecast.dlp";
const RELEASE: &str = "my.app.mimecast.release";
const ENTITIES: &str = "my.app.mimecast.ci.entities";

#[tokio::test]
async fn cloud_integrated_needs_the_keys_of_api_2() {
    let mut world = World::new(Api::V1).await;
    let (error_type, message) = world.fail("siemci").await;
    assert_eq!(error_type, "Configuration");
    for word in ["API 1.0", "client_id", "client_secret", "siemci", "tenant default"] {
        assert!(message.contains(word), "`{word}` is not in: {message}");
    }
    assert!(world.mimecast.requests().is_empty());
    // With the right ones, in the same environment.
    world.aws.set_secret("mimecast", &world.mimecast.secret_v2());
    assert_eq!(world.run("siemci").await["status"], "caught_up");
}

/// A file of Cloud Integrated.
fn publish(world: &World, lines: &[&str]) {
    world.mimecast.push_siem("entities", lines.iter().map(|line| line.as_bytes().to_vec()).collect());
}

#[tokio::test]
async fn another_state_of_the_same_mail_is_another_event() {
    let mut world = World::new(Api::V2).await;
    let ids = r#""aggregateId":"4Xa-b_1772442000","processingId":"f00d_1772442000","messageId":"<a@example.org>""#;
    let state =
        |state: &str| format!(r#"{{"type":"entities","timestamp":1772442000456,{ids},"threatState":"{state}"}}"#);
    let [progress, delivered, blocked] = ["DELIVERY_IN_PROGRESS", "DELIVERED", "BLOCKED"].map(state);
    publish(&world, &[&progress, &delivered]);
    publish(&world, &[&progress]);
    assert_eq!(world.run("siemci").await["events"], 3);
    publish(&world, &[&blocked]);
    assert_eq!(world.run("siemci").await["events"], 1);
    let lines = vec![progress.clone(), delivered, progress, blocked];
    world.assert_delivered(&[(ENTITIES.to_owned(), lines)].into());
}

#[tokio::test]
async fn a_released_id_in_another_state_is_another_event_and_may_lack_its_time() {
    for api in [Api::V1, Api::V2] {
        let mut world = World::new(api).await;
        let at = now() - TimeDelta::minutes(10);
        let stamp = at.format("%FT%T+00:00");
        let released = format!(r#"{{"id":"eNoV1","released":"{stamp}","status":"released"}}"#);
        let pending = r#"{"id":"eNoV1","status":"pending"}"#.to_owned();
        for row in [&pending, &released] {
            world.mimecast.push("release", at, row);
        }
        assert_eq!(world.run("release").await["events"], 2);
        // Later, in the range that is read again; what is known there is not sent once more.
        let rejected = released.replace(r#""status":"released""#, r#""status":"rejected""#);
        world.mimecast.push("release", at, &rejected);
        world.set("OVERLAP", "0s").stop("release");
        tokio::time::sleep(Duration::from_millis(1100)).await;
        world.run("release").await;
        world.assert_delivered(&[(RELEASE.to_owned(), vec![pending, released, rejected])].into());
    }
}

#[tokio::test]
async fn a_mail_s_actions_are_rows_of_their_own_and_equal_rows_too() {
    for api in [Api::V1, Api::V2] {
        let mut world = World::new(api).await;
        let at = now() - TimeDelta::minutes(10);
        let row = |action: &str| {
            let mail = r#""senderAddress":"ann@example.org","messageId":"<a1@example.org>""#;
            format!(r#"{{{mail},"eventTime":"{}","action":"{action}"}}"#, at.format("%FT%T+0000"))
        };
        let rows = vec![row("hold"), row("notification"), row("notification")];
        rows.iter().for_each(|row| world.mimecast.push("dlp", at, row));
        for events in [3, 0] {
            assert_eq!(world.run("dlp").await["events"], events);
            tokio::time::sleep(Duration::from_millis(1100)).await;
        }
        world.assert_delivered(&[(DLP.to_owned(), rows)].into());
    }
}

#[tokio::test]
async fn a_cloud_integrated_type_that_nobody_knows_has_its_own_table_and_is_counted() {
    let mut world = World::new(Api::V2).await;
    let (known, unknown) = (r#"{"type":"entities","n":1}"#, r#"{"type":"Safe Links 2","n":2}"#);
    publish(&world, &[known, unknown]);
    // What the gateway's function is asked for is another matter.
    assert_eq!(world.run("siem").await["events"], 0);
    let answer = world.run("siemci").await;
    assert_eq!((&answer["events"], &answer["unknown_types"]), (&json!(2), &json!({"Safe Links 2": 1})), "{answer}");
    let lines = [(ENTITIES, known), ("my.app.mimecast.ci.safelinks2", unknown)];
    world.assert_delivered(&lines.map(|(table, line)| (table.to_owned(), vec![line.to_owned()])).into());
}

#[tokio::test]
async fn siem_types_chooses_among_a_source_s_own() {
    for (types, asked) in [
        ("mailflow,receipt", vec!["mailflow"]),
        ("urlclick, entities", vec!["urlclick", "entities"]),
        ("receipt,av", vec!["entities", "mailflow", "urlclick"]),
    ] {
        let mut world = World::new(Api::V2).await;
        world.set("SIEM_TYPES", types);
        world.run("siemci").await;
        let requests = world.mimecast.requests();
        let kinds = requests.iter().filter(|request| request.source == "siemci").flat_map(|request| &request.query);
        let mut kinds: Vec<_> = kinds.filter(|(name, _)| name == "type").map(|(_, kind)| kind.as_str()).collect();
        kinds.dedup();
        assert_eq!(kinds, asked, "{types}");
    }
}

#[tokio::test]
async fn a_tag_moves_all_tables_and_a_table_one_of_them() {
    let mut world = World::new(Api::V2).await;
    let expected = world.fill_on_request(1, TimeDelta::hours(20), 20);
    world.set("DEVO_TAG", "my.app.trial").set("DEVO_TABLE_DLP", "my.app.leaks");
    for source in ["dlp", "release", "siemci"] {
        world.run(source).await;
    }
    let moved = |(table, lines): (String, Vec<String>)| match table.as_str() {
        DLP => Some(("my.app.leaks".to_owned(), lines)),
        "my.app.mimecast.rejections" => None,
        _ => Some((table.replace("my.app.mimecast", "my.app.trial"), lines)),
    };
    world.assert_delivered(&expected.into_iter().filter_map(moved).collect());

    for (source, name, table, word) in [
        ("siemci", "DEVO_TABLE_SIEMCI", "my.app.ci", "several tables"),
        ("rejections", "DEVO_TABLE_REJECTIONS", "My.App", "like my.app"),
    ] {
        world.set(name, table);
        world.stop(source);
        let (error_type, message) = world.fail(source).await;
        assert_eq!(error_type, "Configuration");
        assert!(message.contains(name) && message.contains(word), "{message}");
    }
}

#[tokio::test]
async fn the_dashboard_is_asked_with_the_account_s_code_where_it_is_set() {
    let mut world = World::new(Api::V2).await;
    let notice = r#"{"id":"1"}"#;
    world.mimecast.set_notices(vec![notice.to_owned()]);
    world.mimecast.doubts(Doubts { account_required: true, ..Doubts::default() });
    let (error_type, message) = world.fail("dashboard").await;
    assert!(error_type == "MimecastProtocol" && message.contains("accountCode"), "{error_type}: {message}");
    world.set("MIMECAST_DASHBOARD_ACCOUNT", "CUSA1A234").stop("dashboard");
    world.run("dashboard").await;
    assert_eq!(world.mimecast.requests().last().unwrap().body, r#"{"data":[{"accountCode":"CUSA1A234"}]}"#);
    world.mimecast.doubts(Doubts::default());
    world.run("dashboard").await;
    world.assert_delivered(&[("mail.mimecast.account.dashboard".to_owned(), vec![notice.to_owned()])].into());
}
