//! The program `mimecast-devo`: the functions on one host, without AWS, and what looks after them here and there.

mod backfill;
mod balance;
mod check;
mod collect;
mod config;
mod dead_letters;
mod demo;
mod domains;
mod endpoint;
mod files;
mod health;
mod init;
mod known;
mod manual;
mod migrate;
mod place;
mod reset;
mod secrets_manager;
mod signals;
mod simulate;
mod stack;
mod status;
mod tail;
mod verify;
mod world;

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use collector::{Answer, ErrorType, Status};
use mimecast_devo::embedded;

/// Collects Mimecast's security logs and delivers them to Devo, without loss or duplicates.
#[derive(Parser)]
#[command(
    version,
    after_help = "The exit code is 0 where all is done, 1 where something went wrong at work, 2 where the command line or the configuration is
wrong. Each command has examples: mimecast-devo help <COMMAND>.

Examples:
  mimecast-devo demo                     all of it on this machine, with nothing set up
  mimecast-devo config init              a few questions make a configuration
  mimecast-devo check                    whether it would work
  mimecast-devo collect                  the work itself
  mimecast-devo status                   how it goes"
)]
enum Command {
    Collect(collect::Options),
    Check(check::Options),
    Status(status::Options),
    Verify(verify::Options),
    Tail(tail::Options),
    Backfill(backfill::Options),
    Reset(reset::Options),
    DeadLetters(dead_letters::Options),
    Config(init::Options),
    Migrate(migrate::Options),
    Demo(demo::Options),
    Simulate(simulate::Options),
    Completions(manual::Completions),
    Man(manual::Manual),
}

/// Why a command could not go on. The text is one line and never holds a secret.
#[derive(Debug, thiserror::Error)]
enum Error {
    /// What somebody has to correct before the next start.
    #[error("{0}")]
    Configuration(String),
    /// Somebody else works with the checkpoints.
    #[error("{0}")]
    InUse(String),
    #[error(transparent)]
    Collector(#[from] collector::Error),
    #[error(transparent)]
    Store(#[from] embedded::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
    /// One of the program's own tasks has panicked.
    #[error("a bug in this program: {0}")]
    Task(#[from] tokio::task::JoinError),
}

impl Error {
    /// 2 for what is wrong with the configuration, as for the command line; 1 for what went wrong at work.
    fn exit_code(&self) -> u8 {
        match self {
            Self::Configuration(_) => 2,
            Self::Collector(error) if error.error_type() == ErrorType::Configuration => 2,
            // Whoever has stopped reading has seen enough.
            Self::Io(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            _ => 1,
        }
    }
}

fn main() -> ExitCode {
    let command = Command::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    let outcome = runtime.block_on(async {
        match command {
            Command::Collect(options) => collect::run(&options).await,
            Command::Check(options) => check::run(&options).await,
            Command::Backfill(options) => backfill::run(&options).await,
            Command::Status(options) => status::run(&options).await,
            Command::Verify(options) => verify::run(&options).await,
            Command::Tail(options) => tail::run(&options).await,
            Command::Reset(options) => reset::run(&options).await,
            Command::DeadLetters(options) => dead_letters::run(&options).await,
            Command::Config(options) => init::run(&options).await,
            Command::Migrate(options) => migrate::run(&options).await,
            Command::Demo(options) => demo::run(&options).await,
            Command::Simulate(options) => simulate::run(&options).await,
            Command::Completions(options) => manual::completions(&options),
            Command::Man(options) => manual::manual(&options),
        }
    });
    // A name look-up or a write that hangs must not hold up the end.
    runtime.shutdown_background();
    outcome.unwrap_or_else(|error| failed(&error))
}

fn failed(error: &Error) -> ExitCode {
    let code = error.exit_code();
    if code != 0 {
        eprintln!("error: {error}");
    }
    code.into()
}

/// One line on a run that succeeded.
fn health_line(answer: &Answer, time: Duration) -> String {
    let status = match answer.status {
        Status::CaughtUp => "caught up",
        Status::More => "more to come",
        Status::Busy => return format!("{}: busy, another run holds the lease", answer.source),
    };
    let mut line = format!("{}: {status}, {} events", answer.source, answer.events);
    let rare = [("rejected", answer.rejected), ("of unknown types", answer.unknown_types.values().sum())];
    for (what, count) in rare {
        if count > 0 {
            line += &format!(", {count} {what}");
        }
    }
    if let Some(lag) = answer.lag_seconds {
        line += &format!(", lag {lag} s");
    }
    line + &format!(", {} requests, {:.1} s", answer.requests, time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_health_line_has_what_matters() {
        let mut answer = Answer {
            source: "audit",
            tenant: "default".to_owned(),
            status: Status::CaughtUp,
            events: 123,
            duplicates: 4,
            rejected: 0,
            requests: 2,
            batches: 1,
            lag_seconds: Some(62),
            unknown_types: [].into(),
            checkpoint: serde_json::json!({}),
            gap: None,
            repeat: None,
            silent_since: None,
            warnings: Vec::new(),
        };
        let time = Duration::from_millis(1234);
        assert_eq!(health_line(&answer, time), "audit: caught up, 123 events, lag 62 s, 2 requests, 1.2 s");
        answer.status = Status::More;
        answer.rejected = 1;
        answer.unknown_types = [("new".to_owned(), 3)].into();
        answer.lag_seconds = None;
        assert_eq!(
            health_line(&answer, time),
            "audit: more to come, 123 events, 1 rejected, 3 of unknown types, 2 requests, 1.2 s"
        );
        answer.status = Status::Busy;
        assert_eq!(health_line(&answer, time), "audit: busy, another run holds the lease");
    }
}
