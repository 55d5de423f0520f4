//! `status`: where each source stands, and whether somebody has to look.

use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use simulator::devo::Fault as DevoFault;

use crate::world::{World, ago, row, signal};

fn overview(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

impl World {
    /// Lets `collect` run until its log holds a text.
    async fn collect_until(&self, text: &str) {
        let log = self.directory.path().join("log");
        let file = std::fs::File::create(&log).unwrap();
        let mut collect = self.command(&["collect"]).stderr(file).stdout(Stdio::null()).spawn().unwrap();
        self.until(text, || std::fs::read_to_string(&log).unwrap().contains(text)).await;
        signal(&collect, "TERM");
        tokio::task::spawn_blocking(move || collect.wait().unwrap()).await.unwrap();
    }

    async fn status(&self, words: &[&str]) -> (Option<i32>, Value) {
        let output = self.run(&[&["status", "--json"], words].concat()).await;
        (output.status.code(), overview(&output))
    }
}

#[tokio::test]
async fn a_source_that_is_well_and_what_it_has_delivered() {
    let world = World::new().await;
    for n in 0..7 {
        world.mimecast.push("url", ago(30), row(n, ago(30)).as_str());
    }
    world.collect_until("url: caught up, 7 events").await;
    let (code, status) = world.status(&[]).await;
    assert_eq!((code, &status["events_last_day"], &status["trouble"]), (Some(0), &json!(7), &json!(null)), "{status}");
    assert!(status["succeeded_at"].is_string() && status["failure"].is_null(), "{status}");
    let output = world.run(&["status"]).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.lines().nth(1).unwrap().contains("url     ok  "), "{text}");
    // A second later it is late, for whom that is late.
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let (code, status) = world.status(&["--max-lag", "1s"]).await;
    assert!(code == Some(1) && status["trouble"].is_string(), "{status}");
    let text = String::from_utf8(world.run(&["status", "--max-lag", "1s"]).await.stdout).unwrap();
    assert!(text.lines().nth(1).unwrap().contains("url     late  "), "{text}");
}

#[tokio::test]
async fn a_source_that_fails_says_why_and_what_to_do_until_it_is_well() {
    let world = World::new().await;
    world.mimecast.deny("/api/ttp/url/");
    world.collect_until("mimecast denies access").await;
    let (code, status) = world.status(&[]).await;
    assert_eq!((code, &status["failure"]["type"]), (Some(1), &json!("Permission")), "{status}");
    assert!(status["remedy"].as_str().unwrap().contains("Monitoring | URL Protection | Read"), "{status}");
    let output = world.run(&["status"]).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("url     failing") && text.contains("  -> give the API application's role"), "{text}");
    world.mimecast.allow("/api/ttp/url/");

    // Devo's refusals are told too: they end a run in another way.
    world.mimecast.push("url", ago(20), row(1, ago(20)).as_str());
    world.devo.fault(DevoFault::status(403).times(usize::MAX));
    world.collect_until("DEVO_URL's region").await;
    let (code, status) = world.status(&[]).await;
    assert_eq!((code, &status["failure"]["type"]), (Some(1), &json!("DevoRejected")), "{status}");
    world.devo.clear_faults();
    world.collect_until("caught up").await;
    let (code, status) = world.status(&[]).await;
    assert!(code == Some(0) && status["failure"].is_null() && status["remedy"].is_null(), "{status}");
    assert_eq!(status["events_last_day"], 1);
}

#[tokio::test]
async fn one_that_has_never_run_is_not_well() {
    let mut world = World::new().await;
    world.collect_until("caught up").await;
    world.settings.insert("SOURCES".to_owned(), "url,audit".to_owned());
    let output = world.run(&["status"]).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.code() == Some(1) && text.contains("audit (tenant default): has never run"), "{text}");
    assert!(text.contains("audit   never ran  "), "{text}");
    assert!(text.contains("`mimecast-devo check` finds what is wrong"), "{text}");
}

#[tokio::test]
async fn it_can_be_watched() {
    let world = World::new().await;
    world.collect_until("caught up").await;
    let log = world.directory.path().join("watch");
    let file = std::fs::File::create(&log).unwrap();
    let mut watch = world.command(&["status", "--watch"]).stdout(file).spawn().unwrap();
    world.until("a third look", || std::fs::read_to_string(&log).unwrap().matches("tenant ").count() >= 3).await;
    signal(&watch, "TERM");
    watch.wait().unwrap();
    // Not on a terminal: no character moves the cursor.
    assert!(!std::fs::read_to_string(&log).unwrap().contains('\u{1b}'));
}
