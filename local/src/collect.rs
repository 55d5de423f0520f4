//! `collect`: the sources on one host, each at its own period, until a signal comes.
//!
//! A run is the function's own; here is only when it starts and what is said about it. An end in the middle of a run is safe
//! by the checkpoint protocol.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use collector::{Collector, Secrets, Source, Status, Store};
use mimecast::Clock;
use mimecast_devo::embedded::{Embedded, TABLE};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant, MissedTickBehavior, interval_at, sleep};

use crate::config::Config;
use crate::signals::Signals;
use crate::{Error, health};

/// The first runs start so far apart, not to ask for everything at once.
const SPREAD: Duration = Duration::from_millis(300);
/// What a run may take: its period, within these.
const SHORTEST_RUN: Duration = Duration::from_secs(60);
const LONGEST_RUN: Duration = Duration::from_secs(15 * 60);
/// How long the end waits for runs in flight.
const GRACE: Duration = Duration::from_secs(20);

/// Collect all the time, with checkpoints in a file on this host
#[derive(clap::Args)]
pub struct Options {
    /// Settings in TOML or YAML (.toml, .yaml, .yml), by the names of the environment variables, which win
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub async fn run(options: &Options) -> Result<ExitCode, Error> {
    let mut signals = Signals::catch()?;
    let config = Config::load(options.config.as_deref())?;
    // What would otherwise fail every run; before there is a state file that nothing has come of.
    let nowhere = Store::new(Embedded::memory()?.client(), TABLE);
    Collector::new(config.settings.clone(), nowhere, Secrets::new(None), Clock::System).prepare().await?;
    let store = Store::new(Embedded::open(&config.state_file)?.client(), TABLE).in_file(&config.state_file);
    let collector = Arc::new(Collector::new(config.settings, store, Secrets::new(None), Clock::System));
    for (source, _) in &config.sources {
        // The state file is open here alone, so nobody holds the lease.
        collector.release(source).await?;
    }
    let (stop, stopping) = watch::channel(false);
    let mut tasks = JoinSet::new();
    let mut first = Instant::now();
    for (source, period) in config.sources {
        tasks.spawn(repeat(collector.clone(), source, first, period, stopping.clone()));
        first += SPREAD;
    }

    tokio::select! {
        () = signals.next() => tracing::info!("stopping"),
        // Untold, a task ends only when nobody reads standard output any more.
        Some(ended) = tasks.join_next() => ended?,
    }
    stop.send_replace(true);
    tokio::select! {
        ended = all(&mut tasks) => ended?,
        () = signals.next() => tracing::warn!("stopped within runs: the next start goes on from their checkpoints"),
        () = sleep(GRACE) => tracing::warn!("stopped within runs: the next start goes on from their checkpoints"),
    }
    Ok(ExitCode::SUCCESS)
}

async fn all(tasks: &mut JoinSet<()>) -> Result<(), Error> {
    while let Some(ended) = tasks.join_next().await {
        ended?;
    }
    Ok(())
}

/// Runs `source` at `first` and then every `period`, one run at a time, until told to stop.
async fn repeat(
    collector: Arc<Collector>,
    source: &'static Source,
    first: Instant,
    period: Duration,
    mut stopping: watch::Receiver<bool>,
) {
    let mut ticks = interval_at(first, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => return,
            _ = ticks.tick() => {}
        }
        loop {
            let started = Instant::now();
            let deadline = started + period.clamp(SHORTEST_RUN, LONGEST_RUN);
            match collector.invoke(source, &json!({}), Some(deadline)).await {
                Ok(answer) => {
                    tracing::info!("{}", health(&answer, started.elapsed()));
                    if answer.status == Status::More && !*stopping.borrow() {
                        continue;
                    }
                }
                Err((error, _)) if nobody_reads(&error) => return,
                Err((error, tenant)) => tracing::error!("{}", error.report(source.name, &tenant, source.permission)),
            }
            break;
        }
    }
}

/// Whether the reader of `stdout:` has gone.
fn nobody_reads(error: &collector::Error) -> bool {
    let collector::Error::Devo(devo::Error::Unavailable(text)) = error else { return false };
    text.starts_with("standard output: ") && text.contains("Broken pipe")
}
