//! The program's `demo`, as a visitor sees it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Output, Stdio};

fn demo() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mimecast-devo"));
    command.env_clear().arg("demo");
    command
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The Devo tables in the table at the end, with the events of each.
fn tables(text: &str) -> Vec<(&str, usize)> {
    let is_table = |word: &str| word.starts_with("mail.mimecast.") || word.starts_with("my.app.mimecast.");
    let cells = text.lines().map(|line| line.split_whitespace().skip_while(|word| !is_table(word)));
    cells.filter_map(|mut cells| Some((cells.next()?, cells.next()?.parse().unwrap()))).collect()
}

#[test]
fn every_event_is_accounted_for_by_both_apis() {
    let all = "--all-sources";
    for (api, more, count) in [("1.0", "", 19), ("2.0", "", 19), ("1.0", all, 22), ("2.0", all, 25)] {
        let more = Some(more).filter(|more| !more.is_empty());
        let output = demo().args(["--api", api, "--seed", "7", "--scale", "1"]).args(more).output().unwrap();
        let text = text(&output);
        let tables = tables(&text);
        assert_eq!(tables.len(), count, "{text}");
        assert!(tables.iter().all(|(_, events)| *events > 0), "{text}");
        let total: usize = tables.iter().map(|(_, events)| events).sum();
        assert!(text.starts_with(&format!("{total} events at a simulated Mimecast")), "{text}");
        assert!(text.lines().any(|line| line.starts_with("total  ") && line.contains(&total.to_string())));
        assert!(text.contains("\nidle run: 0 events, "), "{text}");
        // The idle run has sent the hold summary once more.
        let verdict = format!("\nall {} events arrived, none twice\n", total + 4);
        assert!(text.ends_with(&verdict), "{text}");
    }
}

#[test]
fn logs_come_only_when_asked_for() {
    let output = demo().args(["--scale", "1"]).env("LOG_LEVEL", "trace").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    text(&demo().args(["--scale", "1"]).output().unwrap());
}

#[test]
fn nothing_of_the_environment_gets_in() {
    let mut command = demo();
    for name in ["MIMECAST_BASE_URL", "DEVO_URL", "DEVO_TAG", "PAGE_SIZE", "SETTLE", "TENANT"] {
        command.env(name, "impossible!");
    }
    text(&command.args(["--scale", "1"]).output().unwrap());
}

#[cfg(unix)]
#[test]
fn it_goes_on_with_new_events_until_interrupted() {
    let mut child = demo().args(["--keep", "--scale", "1", "--all-sources"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    while !text.contains("\nround 1: ") {
        assert_ne!(output.read_line(&mut text).unwrap(), 0, "{text}");
    }
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    output.read_to_string(&mut text).unwrap();
    assert!(child.wait().unwrap().success(), "{text}");
    let tables = tables(&text);
    let total: usize = tables.iter().map(|(_, events)| events).sum();
    assert_eq!(tables.len(), 25, "{text}");
    assert!(text.ends_with(&format!("\nall {total} events arrived, none twice\n")), "{text}");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let mut child = demo().args(["--scale", "1"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
}
