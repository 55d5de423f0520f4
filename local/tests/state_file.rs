//! The file with the checkpoints when its disk is full, when it is damaged, and when it is only looked at.

#![allow(clippy::unwrap_used, clippy::expect_used)]
#![cfg(target_os = "linux")]

#[path = "collect/world.rs"]
#[allow(dead_code)]
mod world;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use simulator::data;
use world::{World, add};

/// Files cannot grow beyond a limit, as on a disk that is full; the limit goes while it runs.
#[tokio::test]
async fn a_full_disk_is_told_in_one_line_and_collecting_goes_on_once_there_is_room() {
    let mut world = World::new().await;
    world.set("SOURCES", "audit,siem");
    let mut expected = data::lively(&world.mimecast, 1, world.mimecast.now(), 2);
    expected.retain(|table, _| table.contains(".audit.") || table.contains(".siem."));
    let inner = world.command();
    let mut command = Command::new("/bin/bash");
    command.args(["-c", r#"trap '' XFSZ; ulimit -S -f 80; exec "$0" collect"#]).arg(inner.get_program());
    command.env_clear().envs(&world.settings);
    command.current_dir(world.directory.path()).stdin(Stdio::null()).stdout(Stdio::null());
    let mut running = world.start_as(command);
    let told = |log: &str| {
        log.lines().any(|line| line.contains("ERROR") && line.contains("in the state file mimecast-devo.db: the disk"))
    };
    running.until("the error", |running| told(&running.log())).await;
    let log = running.log();
    for engine in ["SQLite", "InternalServerError", "AWS", "CHECKPOINT_TABLE", "dispatch"] {
        assert!(!log.contains(engine), "{log}");
    }
    let id = running.child.id().to_string();
    assert!(Command::new("prlimit").args(["--pid", &id, "--fsize=unlimited"]).status().unwrap().success());
    let mut more = data::more(&world.mimecast, 2, world.mimecast.now(), 3);
    more.retain(|table, _| expected.contains_key(table));
    add(&mut expected, more);
    running.until_delivered(&world, &expected).await;
    running.stop().await;
}

#[tokio::test]
async fn a_damaged_state_file_is_told_in_one_line_and_left_alone() {
    let world = World::new().await;
    let file = world.file("mimecast-devo.db", &"dear diary, ".repeat(1000));
    let (code, line) = world.refusal(&[]);
    assert_eq!(code, 1);
    assert!(line.starts_with("state file mimecast-devo.db: it is damaged or no state file"), "{line}");
    assert_eq!(fs::read_to_string(file).unwrap(), "dear diary, ".repeat(1000));
}

#[tokio::test]
async fn status_leaves_nothing_behind_and_a_backfill_that_it_cannot_read_hides_nothing() {
    let mut world = World::new().await;
    world.set("SOURCES", "audit");
    let mut running = world.start();
    running.stop().await;
    // What root's backfill might leave: not even a state file can be made of it.
    let backfill = world.file("mimecast-devo.backfill.db", "unreadable");
    fs::set_permissions(&backfill, fs::Permissions::from_mode(0o000)).unwrap();
    let files = || {
        let entries = fs::read_dir(world.directory.path()).unwrap().map(|entry| entry.unwrap());
        let mut files: Vec<_> =
            entries.map(|entry| (entry.file_name(), entry.metadata().unwrap().modified().unwrap())).collect();
        files.sort();
        files
    };
    let before = files();
    fs::set_permissions(world.directory.path(), fs::Permissions::from_mode(0o500)).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_mimecast-devo"))
        .args(["status", "--source", "audit", "--json"])
        .env_clear()
        .current_dir(world.directory.path())
        .output()
        .unwrap();
    fs::set_permissions(world.directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
    assert!(output.status.success(), "{output:?}");
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(status["collected_to"].is_string(), "{status}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("left out: state file") && said.contains("backfill.db"), "{said}");
    assert_eq!(files(), before);
}
