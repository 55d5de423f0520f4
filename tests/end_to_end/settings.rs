//! Settings, secrets and events that are wrong: one line that says what and what to do, and never a secret.

use std::time::Duration;

use simulator::data;

use crate::support::runtime::{Deadline, Outcome};
use crate::world::{Api, World, now};

/// Asserts that `source` fails as `error_type`, with all of `words` in one line.
async fn fails(world: &mut World, source: &str, error_type: &str, words: &[&str]) {
    world.stop(source);
    let (found, message) = world.fail(source).await;
    assert_eq!(found, error_type, "{message}");
    assert!(!message.contains('\n'), "{message}");
    for word in words.iter().chain([&source, &"tenant"]) {
        assert!(message.contains(word), "`{word}` is not in: {message}");
    }
    world.assert_no_secret_printed();
}

#[tokio::test]
async fn a_missing_or_wrong_setting_is_named() {
    let mut world = World::new(Api::V2).await;
    for name in ["MIMECAST_SECRET_ID", "CHECKPOINT_TABLE", "DEVO_SECRET_ID"] {
        let mut world = World::new(Api::V2).await;
        let url = world.devo.url();
        world.set("DEVO_URL", &url).unset(name);
        fails(&mut world, "audit", "Configuration", &[name]).await;
    }
    for (name, value) in
        [("INITIAL_LOOKBACK", "soon"), ("PAGE_SIZE", "0"), ("THREATFEED_FORMAT", "xml"), ("TENANT", "Ä")]
    {
        let mut world = World::new(Api::V2).await;
        world.set(name, value);
        fails(&mut world, "audit", "Configuration", &[name]).await;
    }
    world.set("CHECKPOINT_TABLE", "nosuchtable");
    fails(&mut world, "audit", "Checkpoint", &["nosuchtable"]).await;
}

#[tokio::test]
async fn a_missing_or_wrong_secret_is_named() {
    let mut world = World::new(Api::V2).await;
    world.aws.remove_secret("mimecast");
    fails(&mut world, "audit", "Configuration", &["mimecast"]).await;
    world.aws.set_secret("mimecast", r#"{"client_id":"hunter2"}"#);
    fails(&mut world, "audit", "Configuration", &["client_secret"]).await;
    world.aws.set_secret("mimecast", &world.mimecast.secret_v2());
    world.aws.set_secret("devo", r#"{"domain":"d"}"#);
    world.set("DEVO_URL", &world.devo.url());
    fails(&mut world, "audit", "Configuration", &["token"]).await;
    assert!(!world.output().contains("hunter2"));
}

#[tokio::test]
async fn wrong_keys_are_credentials() {
    for api in [Api::V1, Api::V2] {
        let mut world = World::new(api).await;
        world.mimecast.rotate_v1();
        world.mimecast.rotate_v2();
        fails(&mut world, "audit", "Credentials", &[]).await;
        assert!(world.mimecast.requests().len() <= 4, "{:#?}", world.mimecast.requests());
    }
}

#[tokio::test]
async fn a_wrong_devo_token_is_rejected_by_devo() {
    let mut world = World::new(Api::V2).await;
    let expected = data::lively(&world.mimecast, 1, now(), 1);
    world.devo.rotate();
    fails(&mut world, "view", "DevoRejected", &[]).await;
    // With the right one everything comes: nothing was lost.
    world.aws.set_secret("devo", &world.devo.secret());
    world.run("view").await;
    let table = "mail.mimecast.archive.messageview";
    world.assert_delivered(&[(table.to_owned(), expected[table].clone())].into());
}

#[tokio::test]
async fn a_rotated_secret_is_picked_up_by_a_warm_function() {
    for api in [Api::V1, Api::V2] {
        let mut world = World::new(api).await;
        let first = data::lively(&world.mimecast, 1, now(), 1);
        world.run("url").await;
        world.mimecast.rotate_v1();
        world.mimecast.rotate_v2();
        world.devo.rotate();
        let secret = if api == Api::V1 { world.mimecast.secret_v1() } else { world.mimecast.secret_v2() };
        world.aws.set_secret("mimecast", &secret);
        world.aws.set_secret("devo", &world.devo.secret());
        let second = data::more(&world.mimecast, 2, now(), 5);
        // Windows have whole seconds: within the same one there is nothing to ask for.
        tokio::time::sleep(Duration::from_millis(1100)).await;
        world.run("url").await;
        let table = "mail.mimecast.ttp.url";
        let lines = [first[table].clone(), second[table].clone()].concat();
        world.assert_delivered(&[(table.to_owned(), lines)].into());
    }
}

#[tokio::test]
async fn an_expired_token_is_renewed_once() {
    let mut world = World::new(Api::V2).await;
    world.run("audit").await;
    world.mimecast.expire_tokens();
    world.mimecast.clear_requests();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    world.run("audit").await;
    let paths: Vec<_> = world.mimecast.requests().iter().map(|r| (r.source, r.status)).collect();
    assert_eq!(paths, [("audit", 401), ("oauth", 200), ("audit", 200)]);
}

#[tokio::test]
async fn tenants_are_apart() {
    let mut world = World::new(Api::V2).await;
    let expected = data::lively(&world.mimecast, 1, now(), 1);
    let table = "mail.mimecast.ttp.url";
    for tenant in ["acme", "zeta-2"] {
        world.aws.set_secret(&format!("mc/{tenant}"), &world.mimecast.secret_v2());
    }
    world.set("MIMECAST_SECRET_ID", "mc/{tenant}");
    let deadline = Deadline::In(Duration::from_secs(60));
    for tenant in ["acme", "zeta-2", "acme"] {
        let event = format!(r#"{{"tenant":"{tenant}","source":"aws.events"}}"#);
        match world.invoke_with("url", &event, deadline).await {
            Outcome::Answer(answer) => assert_eq!(answer["tenant"], tenant),
            other => panic!("{other:?}"),
        }
    }
    let twice = [expected[table].clone(), expected[table].clone()].concat();
    world.assert_delivered(&[(table.to_owned(), twice)].into());
    let outcome = world.invoke_with("url", r#"{"tenant":"nobody"}"#, deadline).await;
    let Outcome::Failed { error_type, error_message } = outcome else { panic!("{outcome:?}") };
    assert_eq!(error_type, "Configuration");
    assert!(error_message.contains("mc/nobody") && error_message.contains("tenant nobody"), "{error_message}");
}

#[tokio::test]
async fn a_wrong_event_is_a_configuration_error() {
    let mut world = World::new(Api::V2).await;
    for (event, word) in [
        ("[]", "event"),
        ("7", "event"),
        (r#"{"tenant":7}"#, "tenant"),
        (r#"{"tenant":"A B"}"#, "tenant"),
        (r#"{"backfill":"x"}"#, "backfill"),
        (r#"{"backfill":{"from":"2026-01-01T00:00:00Z"}}"#, "backfill.to"),
        (r#"{"backfill":{"from":"2026-01-02T00:00:00Z","to":"2026-01-01T00:00:00Z"}}"#, "backfill"),
    ] {
        let outcome = world.invoke_with("audit", event, Deadline::In(Duration::from_secs(60))).await;
        let Outcome::Failed { error_type, error_message } = outcome else { panic!("{event}: {outcome:?}") };
        assert_eq!(error_type, "Configuration", "{event}");
        assert!(error_message.contains(word), "{event}: {error_message}");
    }
    assert!(world.mimecast.requests().is_empty());
}

#[tokio::test]
async fn a_deadline_of_1970_counts_as_none() {
    let mut world = World::new(Api::V2).await;
    data::lively(&world.mimecast, 1, now(), 1);
    match world.invoke_with("audit", "{}", Deadline::At(600_000)).await {
        Outcome::Answer(answer) => assert_eq!(answer["status"], "caught_up"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn stdout_is_a_way_out_without_a_secret() {
    let mut world = World::new(Api::V2).await;
    let expected = data::lively(&world.mimecast, 1, now(), 1);
    world.unset("DEVO_SECRET_ID").set("DEVO_URL", "stdout:");
    world.run("view").await;
    world.stop("view");
    let output = world.output();
    let table = "mail.mimecast.archive.messageview";
    let prefix = format!("{table}: ");
    let mut printed: Vec<_> = output.lines().filter_map(|line| line.strip_prefix(&prefix)).collect();
    let mut lines: Vec<_> = expected[table].iter().map(String::as_str).collect();
    printed.sort_unstable();
    lines.sort_unstable();
    assert_eq!(printed, lines);
}
