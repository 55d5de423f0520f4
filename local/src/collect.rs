//! `collect`: the sources on one host, each at its own period, until a signal comes.
//!
//! A run is the function's own; here is only when it starts and what is said about it. An end in the middle of a run is safe
//! by the checkpoint protocol. What is asked over HTTP is answered by `health`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::ValueEnum;
use collector::{Collector, Source, Status, Store};
use mimecast::Clock;
use mimecast_devo::embedded::{Embedded, TABLE};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant, MissedTickBehavior, interval_at, sleep};

use crate::config::Config;
use crate::health::{self, Health};
use crate::place;
use crate::signals::{self, Asked, Signals, Told};
use crate::{Error, health_line};

/// The first runs start so far apart, not to ask for everything at once.
const SPREAD: Duration = Duration::from_millis(300);
/// What a run may take: its period, within these.
const SHORTEST_RUN: Duration = Duration::from_secs(60);
const LONGEST_RUN: Duration = Duration::from_secs(15 * 60);
/// How long the end waits for runs in flight: services that take longer than five seconds are killed by some who start them.
const GRACE: Duration = Duration::from_secs(4);

/// Collect all the time, with checkpoints in a file on this host
#[derive(clap::Args)]
#[command(
    after_help = "SIGTERM and Ctrl-C stop it within five seconds, SIGHUP lets it read its configuration again; kill -9 loses nothing.

Examples:
  mimecast-devo collect --config mimecast-devo.toml
  mimecast-devo collect --config mimecast-devo.toml --once --source siem
  mimecast-devo collect --config mimecast-devo.toml --listen 127.0.0.1:9464 --log-format json"
)]
pub struct Options {
    /// Settings in TOML or YAML (.toml, .yaml, .yml), by the names of the environment variables; else
    /// /etc/mimecast-devo/mimecast-devo.toml, where there is one
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A source, once or several times; else SOURCES, else all
    #[arg(long = "source", value_name = "NAME", value_parser = place::source)]
    sources: Vec<&'static Source>,
    /// Where the checkpoints are kept; else where the settings say
    #[arg(long, value_name = "FILE")]
    state_file: Option<String>,
    /// Run each source once, until it is caught up, and end: with 1 where one has failed
    #[arg(long)]
    once: bool,
    /// Answer /healthz, /metrics (Prometheus), /status.json and a page for people on this loopback address
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = health::loopback, visible_alias = "page")]
    listen: Option<SocketAddr>,
    /// The form of the log
    #[arg(long, value_enum, value_name = "FORM", default_value = "human")]
    log_format: LogFormat,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum LogFormat {
    Human,
    Json,
}

/// Why the runs have ended.
enum End {
    Stopped,
    /// To this one, with where events go by it.
    ConfigurationChanged(Box<(Config, String)>),
}

impl Options {
    /// The configuration, where runs can start with it, and where events go by it.
    async fn prepared(&self) -> Result<(Config, String), Error> {
        let config = self.config()?;
        // What would otherwise fail every run; before there is a state file that nothing has come of.
        let nowhere = Store::new(Embedded::memory()?.client(), TABLE);
        let secrets = place::secrets(&config.settings).await;
        let collector = Collector::new(config.settings.clone(), nowhere, secrets, Clock::System);
        let destination = collector.prepare().await?;
        Ok((config, destination))
    }

    fn config(&self) -> Result<Config, Error> {
        let mut said = Vec::new();
        if !self.sources.is_empty() {
            let names: Vec<&str> = self.sources.iter().map(|source| source.name).collect();
            said.push(("SOURCES", names.join(",")));
        }
        said.extend(self.state_file.clone().map(|file| ("STATE_FILE", file)));
        if self.log_format == LogFormat::Json {
            said.push(("AWS_LAMBDA_LOG_FORMAT", "json".to_owned()));
        }
        Config::load(self.config.as_deref(), &said)
    }
}

pub async fn run(options: &Options) -> Result<ExitCode, Error> {
    let mut signals = Signals::catch()?;
    let (mut config, mut destination) = options.prepared().await?;
    let health = Arc::new(Health::new(Clock::System));
    if let Some(address) = options.listen {
        health.serve(address).await?;
    }
    loop {
        let store = Store::new(Embedded::open(&config.state_file)?.client(), TABLE).in_file(&config.state_file);
        say_start(&config, &destination);
        let secrets = place::secrets(&config.settings).await;
        let collector = Arc::new(Collector::new(config.settings, store, secrets, Clock::System));
        for (source, _) in &config.sources {
            // The state file is open here alone, so nobody holds the lease.
            collector.release(source).await?;
        }
        health.expect(&config.sources);
        if options.once {
            return Ok(once(&collector, &config.sources, &health).await);
        }
        signals::tell(Told::Ready);
        match until_the_end(options, &mut signals, collector, config.sources, &health).await? {
            End::Stopped => return Ok(ExitCode::SUCCESS),
            End::ConfigurationChanged(changed) => (config, destination) = *changed,
        }
    }
}

/// One line that says what starts: where from, where to, how often, where it is kept.
fn say_start(config: &Config, destination: &str) {
    let sources = config.sources.iter().map(|(source, period)| format!("{} {} s", source.name, period.as_secs()));
    tracing::info!(
        "mimecast-devo {} collects into {destination}, checkpoints in {}; every: {}",
        env!("CARGO_PKG_VERSION"),
        config.state_file.display(),
        sources.collect::<Vec<_>>().join(", ")
    );
}

/// Runs each source until it is caught up.
async fn once(collector: &Collector, sources: &[(&'static Source, Duration)], health: &Health) -> ExitCode {
    let mut failed = false;
    for (source, period) in sources {
        while let Some(more) = run_once(collector, source, *period, health).await {
            failed |= more.is_err();
            if more != Ok(Status::More) {
                break;
            }
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Runs the sources until a signal comes.
async fn until_the_end(
    options: &Options,
    signals: &mut Signals,
    collector: Arc<Collector>,
    sources: Vec<(&'static Source, Duration)>,
    health: &Arc<Health>,
) -> Result<End, Error> {
    let (stop, stopping) = watch::channel(false);
    let mut tasks = JoinSet::new();
    let mut first = Instant::now();
    for (source, period) in sources {
        tasks.spawn(repeat(collector.clone(), source, first, period, stopping.clone(), health.clone()));
        first += SPREAD;
    }
    drop(collector);
    let end = loop {
        let asked = tokio::select! {
            asked = signals.asked() => asked,
            // Untold, a task ends only when nobody reads standard output any more.
            Some(ended) = tasks.join_next() => {
                ended?;
                Asked::Stop
            }
        };
        match asked {
            Asked::Stop => {
                tracing::info!("stopping");
                signals::tell(Told::Stopping);
                break End::Stopped;
            }
            Asked::Reload => match options.prepared().await {
                Ok(changed) => {
                    tracing::info!("the configuration has been read again");
                    signals::tell(Told::Reloading);
                    break End::ConfigurationChanged(Box::new(changed));
                }
                Err(error) => tracing::error!("the configuration stays as it was: {error}"),
            },
        }
    };
    stop.send_replace(true);
    tokio::select! {
        ended = all(&mut tasks) => ended?,
        () = signals.next() => tracing::warn!("stopped within runs: the next start goes on from their checkpoints"),
        () = sleep(GRACE) => tracing::warn!("stopped within runs: the next start goes on from their checkpoints"),
    }
    // The state file is free again only when no run has it open.
    tasks.shutdown().await;
    Ok(end)
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
    health: Arc<Health>,
) {
    let mut ticks = interval_at(first, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => return,
            _ = ticks.tick() => {}
        }
        loop {
            match run_once(&collector, source, period, &health).await {
                None => return,
                Some(Ok(Status::More)) if !*stopping.borrow() => {}
                Some(_) => break,
            }
        }
    }
}

/// One run, and what is said of it. `None` where nobody reads standard output any more.
async fn run_once(
    collector: &Collector,
    source: &'static Source,
    period: Duration,
    health: &Health,
) -> Option<Result<Status, ()>> {
    let started = Instant::now();
    let deadline = started + period.clamp(SHORTEST_RUN, LONGEST_RUN);
    let outcome = collector.invoke(source, &json!({}), Some(deadline)).await;
    health.record(source, period, &outcome);
    match outcome {
        Ok(answer) => {
            tracing::info!("{}", health_line(&answer, started.elapsed()));
            Some(Ok(answer.status))
        }
        Err((error, _)) if nobody_reads(&error) => None,
        Err((error, tenant)) => {
            tracing::error!("{}", error.report(source.name, &tenant, source.permission));
            Some(Err(()))
        }
    }
}

/// Whether the reader of `stdout:` has gone.
fn nobody_reads(error: &collector::Error) -> bool {
    let collector::Error::Devo(devo::Error::Unavailable(text)) = error else { return false };
    text.starts_with("standard output: ") && text.contains("Broken pipe")
}
