//! The program's `collect` between a simulated Mimecast and a simulated Devo, through its settings and signals alone.

#![allow(clippy::unwrap_used, clippy::expect_used)]
#![cfg(unix)]

#[path = "collect/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::time::Duration;

use chrono::TimeDelta;
use simulator::data::{self, Expected, SUMMARY_TABLE};
use simulator::devo;
use world::{World, add};

async fn all_sources_arrive_once(world: &World) {
    let mut expected = data::lively(&world.mimecast, 1, world.mimecast.now(), 1);
    let mut running = world.start();
    running.until_delivered(world, &expected).await;
    // New events, found at a later period.
    for seed in 2..4 {
        add(&mut expected, data::more(&world.mimecast, seed, world.mimecast.now(), 3));
        running.until_delivered(world, &expected).await;
    }
    running.stop().await;
    assert_eq!(world.differences(&expected).1, [""; 0]);
    let first = running.log();

    // A restart sends nothing again.
    let mut running = world.start();
    running.until_each_has_run().await;
    running.stop().await;
    assert_eq!(world.differences(&expected), (vec![], vec![]));

    let log = first + &running.log();
    assert!(log.lines().any(|line| line.contains(" audit: caught up, 40 events, lag ")), "{log}");
    assert!(!log.contains("ERROR") && !log.contains("WARN"), "{log}");
    for secret in [world.mimecast.secret_v1(), world.mimecast.secret_v2(), world.devo.secret()] {
        let secret: BTreeMap<String, String> = serde_json::from_str(&secret).unwrap();
        let keys = secret.iter().filter(|(name, _)| !["base_url", "url", "domain"].contains(&name.as_str()));
        assert_eq!(keys.filter(|(_, value)| log.contains(*value)).count(), 0, "{log}");
    }
}

#[tokio::test]
async fn all_sources_arrive_once_by_api_1() {
    let mut world = World::new().await;
    world.set_secret("MIMECAST_SECRET_ID", &world.mimecast.secret_v1());
    all_sources_arrive_once(&world).await;
}

#[tokio::test]
async fn all_sources_arrive_once_by_api_2() {
    all_sources_arrive_once(&World::new().await).await;
}

#[tokio::test]
async fn a_kill_loses_nothing() {
    let world = World::new().await;
    let expected = data::lively(&world.mimecast, 5, world.mimecast.now(), 2);
    for table in ["mail.mimecast.audit.events", "mail.mimecast.siem.process"] {
        // The runs stand still with lines on the way, and are killed there.
        world.devo.fault(devo::Fault::new(devo::Kind::Hang(Duration::from_secs(3600))).table(table));
    }
    let mut running = world.start();
    // In one batch this table comes just before the other.
    running.until("a siem batch", |_| world.devo.lines().contains_key("mail.mimecast.siem.receipt")).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!running.log().contains(" audit: ") && !running.log().contains(" siem: "), "{}", running.log());
    running.signal("KILL");
    assert_eq!(running.ended().await.code(), None);

    let mut running = world.start();
    running.until_delivered(&world, &expected).await;
    running.stop().await;
    let (missing, again) = world.differences(&expected);
    assert_eq!(missing, [""; 0]);
    // Only what was under way may have come twice.
    assert!(again.iter().all(|line| line.contains(" of mail.mimecast.siem.")), "{again:#?}");
}

#[tokio::test]
async fn kills_at_any_instant_lose_nothing() {
    let mut world = World::new().await;
    world.set("PAGE_SIZE", "5");
    let expected = data::lively(&world.mimecast, 6, world.mimecast.now(), 2);
    let mut so_far = 0;
    for _ in 0..6 {
        let mut running = world.start();
        let target = so_far + fastrand::usize(1..150);
        running
            .until("progress", |_| {
                so_far = world.devo.lines().values().map(Vec::len).sum();
                so_far >= target || world.differences(&expected).0.is_empty()
            })
            .await;
        running.signal("KILL");
        running.ended().await;
    }
    let mut running = world.start();
    running.until_delivered(&world, &expected).await;
    running.stop().await;
}

#[tokio::test]
async fn a_source_that_fails_is_reported_and_tried_again_while_others_go_on() {
    let mut world = World::new().await;
    world.set("SOURCES", "audit,url,messageholdsummary");
    let wanted = ["mail.mimecast.audit.events", "mail.mimecast.ttp.url", SUMMARY_TABLE];
    let mut expected = data::lively(&world.mimecast, 8, world.mimecast.now(), 1);
    expected.retain(|table, _| wanted.contains(&table.as_str()));
    world.mimecast.deny("audit");
    let mut running = world.start();
    running
        .until("the report", |running| {
            let log = running.log();
            let report = log.lines().find(|line| line.contains("ERROR") && line.contains(" audit (tenant default): "));
            report.is_some_and(|line| line.contains("permission `")) && log.contains(" url: caught up, ")
        })
        .await;
    world.mimecast.allow("audit");
    running.until_delivered(&world, &expected).await;
    running.stop().await;
    assert_eq!(world.differences(&expected), (vec![], vec![]));
}

#[tokio::test]
async fn sources_that_are_off_by_default_are_collected_where_they_are_asked_for() {
    let mut world = World::new().await;
    world.set("SOURCES", "dlp,release,rejections,siemci");
    world.set("DEVO_TABLE_RELEASE", "my.app.released");
    let (now, mut expected) = (world.mimecast.now(), Expected::new());
    let (oldest, newest) = (now - TimeDelta::hours(20), now - TimeDelta::seconds(90));
    for source in functions::on_request() {
        add(&mut expected, data::add(&world.mimecast, source.name, 1, oldest, newest, 30));
    }
    let released = expected.remove("my.app.mimecast.release").unwrap();
    expected.insert("my.app.released".to_owned(), released);
    let mut running = world.start();
    running.until_delivered(&world, &expected).await;
    running.stop().await;
    assert_eq!(world.differences(&expected), (vec![], vec![]));
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let mut world = World::new().await;
    world.set("SOURCES", "audit");
    data::lively(&world.mimecast, 9, world.mimecast.now(), 1);
    world.devo.fault(devo::Fault::new(devo::Kind::Hang(Duration::from_secs(3600))));
    let mut running = world.start();
    let asked = |world: &World| world.mimecast.requests().iter().any(|request| request.source == "audit");
    running.until("a request", |_| asked(&world)).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    running.signal("TERM");
    running.until("the stop", |running| running.log().contains("stopping")).await;
    running.signal("INT");
    assert_eq!(running.ended().await.code(), Some(0), "{}", running.log());
    assert!(running.log().contains("stopped within runs"), "{}", running.log());
}

#[tokio::test]
async fn settings_come_from_a_file_and_the_environment_wins() {
    let mut world = World::new().await;
    let mut expected = data::lively(&world.mimecast, 10, world.mimecast.now(), 1);
    expected.retain(|table, _| table == "mail.mimecast.ttp.url" || table == SUMMARY_TABLE);
    let settings = std::mem::take(&mut world.settings);
    let more = [("SOURCES", "url,messageholdsummary"), ("STATE_FILE", "own.db"), ("DEVO_HOST", "of-the-file")];
    let all = settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).chain(more);
    let lines =
        |between: &str| all.clone().map(|(name, value)| format!("{name}{between}'{value}'\n")).collect::<String>();
    let files = [world.file("c.toml", &lines(" = ")), world.file("c.yaml", &lines(": "))];
    world.set("DEVO_HOST", "of-the-environment");
    for file in files {
        world.devo.clear();
        let mut command = world.command();
        command.arg("--config").arg(file);
        let mut running = world.start_as(command);
        running.until_delivered(&world, &expected).await;
        running.stop().await;
        assert_eq!(world.differences(&expected), (vec![], vec![]));
        assert!(world.devo.requests().iter().all(|request| request.host == "of-the-environment"));
        fs::remove_file(world.directory.path().join("own.db")).unwrap();
        for rest in ["own.db-wal", "own.db-shm"] {
            fs::remove_file(world.directory.path().join(rest)).ok();
        }
    }
}

#[tokio::test]
async fn a_wrong_configuration_is_one_line_and_exit_code_2() {
    let mut world = World::new().await;

    let file = world.file("c.toml", "MIMECAST_SECRETID = \"s3cret\"\n");
    let (code, line) = world.refusal(&["--config", file.to_str().unwrap()]);
    assert_eq!(code, 2);
    assert!(
        line.ends_with("c.toml: line 1: unknown key MIMECAST_SECRETID (did you mean MIMECAST_SECRET_ID?)"),
        "{line}"
    );
    let (code, line) = world.refusal(&["--config", "missing.yaml"]);
    assert!(code == 2 && line.starts_with("missing.yaml: "), "{line}");

    let good = world.settings.clone();
    let mut refused = |name: &str, value: &str, parts: &[&str]| {
        world.settings = good.clone();
        world.set(name, value);
        let (code, line) = world.refusal(&[]);
        assert_eq!(code, 2, "{line}");
        assert!(parts.iter().all(|part| line.contains(part)), "{line}");
    };
    refused("PERIOD_SIEM", "1x", &["PERIOD_SIEM"]);
    refused("SOURCES", "audit,mail", &["SOURCES", "not mail", "messageholdsummary"]);
    refused("MIMECAST_SECRET_ID", "", &["MIMECAST_SECRET_ID is not set"]);
    refused("MIMECAST_SECRET_ID", "mimecast", &["the secret mimecast cannot be read", "file:<path>", "env:<"]);
    refused("DEVO_SECRET_ID", "file:missing.json", &["file:missing.json", "No such file"]);
    refused("DEVO_SECRET_ID", "env:MISSING", &["MISSING is not set"]);
    refused("STATE_FILE", "missing/state.db", &["STATE_FILE", "no such directory"]);

    world.settings = good;
    world.settings.remove("DEVO_SECRET_ID");
    let (code, line) = world.refusal(&[]);
    assert!(code == 2 && line.starts_with("DEVO_URL is not set"), "{line}");
}

#[tokio::test]
async fn a_wrong_secret_is_refused_without_its_values() {
    for (name, secret, missing) in [
        ("MIMECAST_SECRET_ID", r#"{"client_id":"s3cret-a","client_secrett":"s3cret-b"}"#, "client_secret "),
        ("MIMECAST_SECRET_ID", r#"{"app_id":"s3cret-a","app_key":"s3cret-b"}"#, "access_key, secret_key"),
        ("DEVO_SECRET_ID", r#"{"domain":"s3cret-a","tokn":"s3cret-b","url":"https://x"}"#, "token"),
        ("DEVO_SECRET_ID", r#"{"domain":"s3cret-a","token":"s3cret-b"}"#, "DEVO_URL"),
        ("DEVO_SECRET_ID", "s3cret-a", "not a JSON object"),
    ] {
        let mut world = World::new().await;
        world.set_secret(name, secret);
        let (code, line) = world.refusal(&[]);
        assert_eq!(code, 2, "{line}");
        assert!(line.contains(missing) && !line.contains("s3cret-"), "{line}");
        assert!(!world.directory.path().join("mimecast-devo.db").exists(), "a start that fails leaves no state file");
    }
}

#[tokio::test]
async fn a_state_file_serves_one_process() {
    let world = World::new().await;
    let mut first = world.start();
    first.until("the state file", |_| world.directory.path().join("mimecast-devo.db").exists()).await;
    first.until_each_has_run().await;
    let (code, line) = world.refusal(&[]);
    assert_eq!(code, 1);
    assert!(line.starts_with("state file mimecast-devo.db is in use by process "), "{line}");
    first.stop().await;
}

#[tokio::test]
async fn a_reader_of_standard_output_that_has_seen_enough_is_no_error() {
    let mut world = World::new().await;
    let expected = data::lively(&world.mimecast, 11, world.mimecast.now(), 1);
    world.settings.remove("DEVO_SECRET_ID");
    world.set("DEVO_URL", "stdout:");
    world.set("SOURCES", "audit");
    let mut running = world.start();
    let mut output = BufReader::new(running.child.stdout.take().unwrap());
    let mut line = String::new();
    let (line, output) = tokio::task::spawn_blocking(move || {
        output.read_line(&mut line).unwrap();
        (line, output)
    })
    .await
    .unwrap();
    let event = line.strip_prefix("mail.mimecast.audit.events: ").unwrap().trim_end();
    assert!(expected["mail.mimecast.audit.events"].contains(&event.to_owned()));
    drop(output);
    // Where the pipe took all of the first lines, the next are the ones that nobody reads.
    data::more(&world.mimecast, 12, world.mimecast.now(), 3);
    assert_eq!(running.ended().await.code(), Some(0), "{}", running.log());
    assert!(!running.log().contains("ERROR"), "{}", running.log());
}
