//! A host, or a table on AWS, between a simulated Mimecast and a simulated Devo; the program is run on it from outside.

use std::collections::BTreeMap;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use simulator::Devo;
use simulator::mimecast::Mimecast;
use tempfile::TempDir;

use crate::support::aws::Aws;

pub const URL: &str = "mail.mimecast.ttp.url";

pub struct World {
    pub mimecast: Mimecast,
    pub devo: Devo,
    pub directory: TempDir,
    pub settings: BTreeMap<String, String>,
}

#[allow(clippy::disallowed_methods)]
pub fn ago(minutes: i64) -> DateTime<Utc> {
    Utc::now() - TimeDelta::minutes(minutes)
}

pub fn text(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

pub fn row(n: u32, at: DateTime<Utc>) -> String {
    format!(r#"{{"n":{n},"date":"{}"}}"#, at.format("%Y-%m-%dT%H:%M:%S+0000"))
}

/// Standard output of a success.
#[track_caller]
pub fn said(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

impl World {
    pub async fn new() -> Self {
        let (mimecast, devo) = (Mimecast::start().await.unwrap(), Devo::start().await.unwrap());
        let settings = [
            ("MIMECAST_SECRET_ID", "env:MIMECAST".to_owned()),
            ("MIMECAST", mimecast.secret_v2()),
            ("DEVO_SECRET_ID", "env:DEVO".to_owned()),
            ("DEVO", devo.secret()),
            ("STATE_FILE", "state.db".to_owned()),
            ("SOURCES", "url".to_owned()),
            ("PERIOD", "1s".to_owned()),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), value)).into();
        Self { mimecast, devo, directory: tempfile::tempdir().unwrap(), settings }
    }

    /// On AWS from here on.
    pub fn on_aws(&mut self, aws: &Aws) {
        aws.set_secret("mimecast", &self.mimecast.secret_v2());
        aws.set_secret("devo", &self.devo.secret());
        let settings = [
            ("MIMECAST_SECRET_ID", "mimecast".to_owned()),
            ("DEVO_SECRET_ID", "devo".to_owned()),
            ("AWS_REGION", "eu-west-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
            ("AWS_ENDPOINT_URL", aws.url()),
        ];
        self.settings = settings.map(|(name, value)| (name.to_owned(), value)).into();
    }

    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mimecast-devo"));
        command.env_clear().envs(&self.settings).current_dir(self.directory.path()).args(words);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs to the end; the simulators go on meanwhile.
    pub async fn run(&self, words: &[&str]) -> Output {
        let mut command = self.command(words);
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    pub fn lines(&self) -> Vec<String> {
        let mut lines = self.devo.lines().remove(URL).unwrap_or_default();
        lines.sort();
        lines
    }

    pub async fn until(&self, what: &str, done: impl Fn() -> bool) {
        let started = Instant::now();
        while !done() {
            assert!(started.elapsed() < Duration::from_secs(120), "{what} does not come");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

pub fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().unwrap().success());
}
