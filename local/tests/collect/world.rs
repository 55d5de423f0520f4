//! A host with `collect` between a simulated Mimecast and a simulated Devo: its settings, its signals, what it delivers.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use simulator::Devo;
use simulator::data::{Expected, SUMMARY_TABLE};
use simulator::mimecast::Mimecast;
use tempfile::TempDir;

pub const SOURCES: [&str; 11] = [
    "audit",
    "attachments",
    "impersonation",
    "url",
    "search",
    "view",
    "threatfeed",
    "messageholdlist",
    "messageholdsummary",
    "dashboard",
    "siem",
];

/// Far more than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(180);

pub struct World {
    pub mimecast: Mimecast,
    pub devo: Devo,
    pub directory: TempDir,
    pub settings: BTreeMap<String, String>,
}

/// A running `collect`; killed when dropped.
pub struct Running {
    pub child: Child,
    pub log: PathBuf,
}

impl World {
    /// Asks Mimecast by API 2.0, every second.
    pub async fn new() -> Self {
        let (mimecast, devo) = (Mimecast::start().await.unwrap(), Devo::start().await.unwrap());
        let mut world = Self { mimecast, devo, directory: tempfile::tempdir().unwrap(), settings: BTreeMap::new() };
        let secrets = [("MIMECAST_SECRET_ID", world.mimecast.secret_v2()), ("DEVO_SECRET_ID", world.devo.secret())];
        for (name, secret) in secrets {
            world.set_secret(name, &secret);
        }
        world.set("PERIOD", "1s");
        world
    }

    pub fn set(&mut self, name: &str, value: &str) {
        self.settings.insert(name.to_owned(), value.to_owned());
    }

    pub fn set_secret(&mut self, name: &str, secret: &str) {
        let path = self.file(&format!("{name}.json"), secret);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        self.set(name, &format!("file:{}", path.display()));
    }

    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mimecast-devo"));
        command.env_clear().envs(&self.settings).current_dir(self.directory.path()).arg("collect");
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command
    }

    pub fn start(&self) -> Running {
        self.start_as(self.command())
    }

    pub fn start_as(&self, mut command: Command) -> Running {
        let log = self.directory.path().join(format!("log-{}", fastrand::u64(..)));
        let child = command.stderr(File::create(&log).unwrap()).spawn().unwrap();
        Running { child, log }
    }

    /// Starts what is expected to fail at once: its exit code and the one line on standard error.
    pub fn refusal(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.command().args(arguments).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        let line = text.strip_suffix('\n').unwrap();
        assert!(!line.contains('\n'), "{text}");
        (output.status.code().unwrap(), line.strip_prefix("error: ").unwrap().to_owned())
    }

    /// Events that Devo has too few and too many of. The hold summary, sent by every poll, counts once.
    pub fn differences(&self, expected: &Expected) -> (Vec<String>, Vec<String>) {
        let mut arrived = self.devo.lines();
        if let Some(lines) = arrived.get_mut(SUMMARY_TABLE) {
            for line in &mut *lines {
                *line = format!("{}}}", line.rsplit_once(r#","collectedAt":""#).unwrap().0);
            }
            lines.sort();
            lines.dedup();
        }
        let mut lacking: BTreeMap<(&str, &str), i64> = BTreeMap::new();
        for (sign, tables) in [(1, expected), (-1, &arrived)] {
            for (table, lines) in tables {
                for line in lines {
                    *lacking.entry((table, line)).or_default() += sign;
                }
            }
        }
        let those = |sign: i64| {
            let those = lacking.iter().filter(|(_, count)| **count * sign > 0);
            those.map(|((table, line), count)| format!("{} of {table}: {line}", count * sign)).collect()
        };
        (those(1), those(-1))
    }
}

impl Running {
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(status.unwrap().success());
    }

    /// Waits until `done`, with the collector alive.
    pub async fn until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let started = Instant::now();
        while !done(self) {
            assert!(started.elapsed() < PATIENCE, "{what} does not come\n{}", self.log());
            assert_eq!(self.child.try_wait().unwrap(), None, "{}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn until_delivered(&mut self, world: &World, expected: &Expected) {
        self.until("all of the events", |_| world.differences(expected).0.is_empty()).await;
    }

    pub async fn until_each_has_run(&mut self) {
        let ran = |log: &str, source: &str| log.contains(&format!(" {source}: caught up, "));
        self.until("a run of each source", |running| SOURCES.iter().all(|source| ran(&running.log(), source))).await;
    }

    pub async fn ended(&mut self) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(started.elapsed() < PATIENCE, "it does not end\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn stop(&mut self) {
        // Before that it may not listen yet: all may be there already when it starts.
        self.until("a run", |running| running.log().contains(": caught up, ")).await;
        self.signal("TERM");
        assert_eq!(self.ended().await.code(), Some(0), "{}", self.log());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

pub fn add(expected: &mut Expected, more: Expected) {
    for (table, lines) in more {
        expected.entry(table).or_default().extend(lines);
    }
}
