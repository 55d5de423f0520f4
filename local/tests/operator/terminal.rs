//! What a person at a terminal sees and types: the program in a pseudo-terminal, by `script` of util-linux.

use std::io::{Read as _, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crate::world::{World, ago, row, said, text};

/// How long anything may take to be shown.
const LONGEST: Duration = Duration::from_secs(60);
const CTRL_C: &str = "\u{3}";
const ESCAPE: &str = "\u{1b}[";
/// What only the bar of a backfill says.
const BAR: &str = "% ";

pub struct Terminal {
    child: Child,
    keys: ChildStdin,
    screen: Receiver<Vec<u8>>,
    shown: String,
}

impl World {
    /// Starts a line of the shell, in which `mimecast-devo` is the program.
    pub fn terminal(&self, line: &str) -> Terminal {
        let line = line.replace("mimecast-devo", env!("CARGO_BIN_EXE_mimecast-devo"));
        // Where the tests run in the background, a shell has Ctrl-C ignored in all that it starts.
        let mut command = Command::new("env");
        command.args(["--default-signal=INT", "script", "-qec", &line, "/dev/null"]).current_dir(self.directory.path());
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("TERM", "xterm").envs(&self.settings);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (keys, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, screen) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 1000];
            while let Some(length) = output.read(&mut buffer).ok().filter(|length| *length > 0) {
                if sender.send(buffer[..length].to_vec()).is_err() {
                    break;
                }
            }
        });
        Terminal { child, keys, screen, shown: String::new() }
    }

    /// The whole of what is shown, and the exit code; the simulators go on meanwhile.
    async fn watched(&self, line: &str) -> (i32, String) {
        let terminal = self.terminal(line);
        tokio::task::spawn_blocking(move || terminal.end()).await.unwrap()
    }
}

impl Terminal {
    /// Waits until this has been shown so often.
    pub fn until(&mut self, text: &str, times: usize) -> &mut Self {
        let started = Instant::now();
        while self.shown.matches(text).count() < times {
            let more = self.screen.recv_timeout(LONGEST.saturating_sub(started.elapsed()));
            self.shown += &String::from_utf8_lossy(&more.unwrap_or_else(|_| panic!("no {text:?}: {:?}", self.shown)));
        }
        self
    }

    /// Types this once the program waits for it: a terminal stops to show what is typed right after it has asked.
    pub fn types(&mut self, keys: &str) -> &mut Self {
        std::thread::sleep(Duration::from_millis(200));
        self.keys.write_all(keys.as_bytes()).unwrap();
        self
    }

    /// The exit code (130: by Ctrl-C) and all that was shown.
    pub fn end(mut self) -> (i32, String) {
        while let Ok(more) = self.screen.recv_timeout(LONGEST) {
            self.shown += &String::from_utf8_lossy(&more);
        }
        (self.child.wait().unwrap().code().unwrap(), std::mem::take(&mut self.shown))
    }
}

/// What a failed test leaves would run on: with the terminal its program ends.
impl Drop for Terminal {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[tokio::test]
async fn a_reset_is_asked_about_and_only_yes_is_yes() {
    let (world, rows) = World::collected().await;
    let line = "mimecast-devo reset url --to 36h";
    for (keys, code, told) in [
        ("n\n", 1, "nothing changed"),
        ("\n", 1, "nothing changed"),
        ("yess\n", 1, "nothing changed"),
        (CTRL_C, 130, ""),
    ] {
        let mut terminal = world.terminal(line);
        terminal.until("Reset url in state.db? [y/N] ", 1).types(keys);
        let (found, shown) = terminal.end();
        assert!(
            found == code && shown.contains(told) && !shown.contains("reset, the next run"),
            "{keys:?} {found} {shown}"
        );
    }
    world.once().await;
    assert_eq!(world.lines(), rows, "nothing has been reset");
    let mut terminal = world.terminal(line);
    terminal.until("would be delivered once more", 1).until("[y/N] ", 1).types("Yes\n");
    let (code, shown) = terminal.end();
    assert!(code == 0 && shown.contains("reset, the next run collects"), "{shown}");
    world.once().await;
    assert_eq!(world.lines().len(), rows.len() + 2, "those of the last 36 hours once more");
}

#[tokio::test]
async fn dead_letters_are_deleted_only_by_a_yes() {
    let (world, _) = World::collected().await;
    for (keys, code, left) in [("n\n", 1, 1), (CTRL_C, 130, 1), ("y\n", 0, 0)] {
        let mut terminal = world.terminal("mimecast-devo dead-letters delete");
        terminal.until("Delete 1 dead letters in state.db?", 1).until("[y/N] ", 1).types(keys);
        let (found, shown) = terminal.end();
        assert_eq!(found, code, "{shown}");
        let list = said(&world.run(&["dead-letters", "list", "--json"]).await);
        assert_eq!(list.lines().count(), left, "{keys:?}: {list}");
    }
}

#[tokio::test]
async fn secrets_that_are_there_get_a_new_value_only_by_a_yes() {
    let (world, aws) = crate::setup::with_aws("the-s3cret").await;
    aws.set_secret("team/mimecast", "{}");
    let line = |to: &str| format!("mimecast-devo migrate old.json --secrets-manager team --to {to}");
    let mut terminal = world.terminal(&line("no"));
    terminal.until("team/mimecast. Give it a new value? [y/N] ", 1).types("n\n");
    let (code, shown) = terminal.end();
    assert!(code == 1 && shown.contains("nothing changed") && !shown.contains("s3cret"), "{shown}");
    assert_eq!(aws.get_secret("team/mimecast").unwrap(), "{}");
    assert!(aws.get_secret("team/devo").is_none() && !world.directory.path().join("no").exists());
    let mut terminal = world.terminal(&line("yes"));
    terminal.until("[y/N] ", 1).types("y\n");
    let (code, shown) = terminal.end();
    assert!(code == 0 && !shown.contains("s3cret"), "{shown}");
    assert!(aws.get_secret("team/mimecast").unwrap().contains("the-s3cret"));
    assert!(aws.get_secret("team/devo").is_some() && world.directory.path().join("yes/mimecast-devo.toml").exists());
}

#[tokio::test]
async fn a_watched_status_is_drawn_over_until_ctrl_c() {
    let (world, _) = World::collected().await;
    let mut terminal = world.terminal("mimecast-devo status --watch");
    // From the upper left corner, over what was there.
    terminal.until("\u{1b}[H\u{1b}[J", 3).until("tenant ", 3).types(CTRL_C);
    let (code, shown) = terminal.end();
    assert_eq!(code, 130, "{shown}");
}

#[tokio::test]
async fn a_bar_of_progress_is_on_standard_error_and_only_on_a_terminal() {
    let world = World::new().await;
    for n in 0..20 {
        world.mimecast.push("url", ago(3000 - i64::from(n)), row(n, ago(3000 - i64::from(n))).as_str());
    }
    let (from, to) = (text(ago(4000)), text(ago(2000)));
    let words = ["backfill", "--source", "url", "--from", &from, "--to", &to];
    let line = format!("mimecast-devo {}", words.join(" "));
    let (code, shown) = world.watched(&format!("{line} --id a >/dev/null")).await;
    assert!(code == 0 && shown.contains(BAR), "{shown:?}");
    let (code, shown) = world.watched(&format!("{line} --id b 2>/dev/null")).await;
    assert!(code == 0 && shown.contains("url: finished, 20 events") && !shown.contains(BAR), "{shown:?}");
    let output = world.run(&[&words[..], &["--id", "c"]].concat()).await;
    let (told, bar) = (said(&output), String::from_utf8(output.stderr).unwrap());
    assert!(told.contains("url: finished, 20 events") && !told.contains(BAR) && !bar.contains(BAR), "{bar:?}");
}

#[tokio::test]
async fn colours_are_for_terminals_without_no_color() {
    let world = World::new().await;
    for line in ["mimecast-devo --help", "mimecast-devo nonsense", "mimecast-devo collect --once"] {
        let (_, shown) = world.watched(line).await;
        assert!(shown.contains(ESCAPE), "{line}: {shown:?}");
        let (_, shown) = world.watched(&format!("NO_COLOR=1 {line}")).await;
        assert!(!shown.is_empty() && !shown.contains(ESCAPE), "{line}: {shown:?}");
        let words: Vec<&str> = line.split(' ').skip(1).collect();
        let output = world.run(&words).await;
        let shown = [&*output.stdout, &*output.stderr].map(String::from_utf8_lossy).concat();
        assert!(!shown.is_empty() && !shown.contains(ESCAPE), "{line}: {shown:?}");
    }
}
