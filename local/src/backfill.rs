//! `backfill`: collects a past range beside the live run, until it is whole.
//!
//! Each run is the function's own, under the backfill's checkpoint; here is only how often, and what is said about it. The
//! same command goes on where an earlier one was stopped or killed, and does nothing more once the range is whole.

use std::process::ExitCode;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use collector::{Answer, ErrorType, Source, Status};
use indicatif::{ProgressBar, ProgressStyle};
use mimecast::Clock;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::place::{self, Open, Place, PlaceOptions};
use crate::signals::Signals;
use crate::stack::{Execution, Stack};
use crate::{Error, health_line};

/// What a run takes at most: so long is a killed backfill's lease held, about.
const RUN: Duration = Duration::from_secs(60);
/// Failures in a row that another try may mend, before the source is given up.
const TRIES: u32 = 5;
/// Between two looks at an execution on AWS.
const LOOK_AGAIN: Duration = Duration::from_secs(3);
/// What is newer is still being written.
const SETTLED: TimeDelta = TimeDelta::hours(1);

/// Collect a past range of sources, beside the live run
#[derive(clap::Args)]
#[command(
    mut_arg("sources", |arg| arg.required(true).help("A source, once or several times")),
    after_help = "The same command goes on where an earlier one was stopped, and does nothing more once the range is whole.

Examples:
  mimecast-devo backfill --source url --from 2026-01-01 --to 2026-01-08 --config mimecast-devo.toml
  mimecast-devo backfill --source url --source audit --from 2026-01-01 --to 2026-01-08 --stack mimecast-devo"
)]
pub struct Options {
    #[command(flatten)]
    place: PlaceOptions,
    /// The first instant: 2026-01-01T00:00:00Z, or a day, 2026-01-01
    #[arg(long, value_name = "TIME", value_parser = place::border)]
    from: DateTime<Utc>,
    /// The first instant after the range, at least an hour ago
    #[arg(long, value_name = "TIME", value_parser = place::border)]
    to: DateTime<Utc>,
    /// A name: the same one goes on, another one collects the range again; else the range itself
    #[arg(long, value_name = "NAME")]
    id: Option<String>,
}

pub async fn run(options: &Options) -> Result<ExitCode, Error> {
    let mut signals = Signals::catch()?;
    let place = Place::find(&options.place).await?;
    if options.to > Clock::System.now() - SETTLED {
        let text = "--to must be an hour ago or earlier: what is newer is for the live run to collect";
        return Err(Error::Configuration(text.to_owned()));
    }
    let work = async {
        match &place.stack {
            Some(stack) => by_state_machine(options, &place, stack).await,
            None => all(options, &place).await,
        }
    };
    tokio::select! {
        outcome = work => outcome,
        () = signals.next() => {
            println!("stopped: the same command goes on from here");
            Ok(ExitCode::from(130))
        }
    }
}

async fn all(options: &Options, place: &Place) -> Result<ExitCode, Error> {
    let mut failed = false;
    for open in place.open_for_backfill().await? {
        for tenant in &place.tenants {
            for source in &place.sources {
                failed |= !backfill(options, &open, tenant, source).await?;
            }
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// On AWS the stack's state machine does it, and goes on when this command is stopped. Here it is started and followed.
async fn by_state_machine(options: &Options, place: &Place, stack: &Stack) -> Result<ExitCode, Error> {
    let time = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Secs, true);
    let mut executions = Vec::new();
    for tenant in &place.tenants {
        for source in &place.sources {
            let mut input = json!({
                "source": source.name, "tenant": tenant, "from": time(options.from), "to": time(options.to),
            });
            if let Some(id) = &options.id {
                input["id"] = json!(id);
            }
            let arn = stack.start_backfill(&input).await?;
            println!("{} (tenant {tenant}): {arn}", source.name);
            executions.push((source.name, tenant, arn));
        }
    }
    let mut failed = false;
    for (source, tenant, arn) in executions {
        loop {
            match stack.execution(&arn).await? {
                Execution::Running => sleep(LOOK_AGAIN).await,
                Execution::Succeeded(output) => {
                    println!("{source} (tenant {tenant}): finished, {output}");
                    break;
                }
                Execution::Failed(text) => {
                    failed = true;
                    eprintln!("error: {source} (tenant {tenant}): {}", place::plain(&text));
                    break;
                }
            }
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Whether the range is whole in the end.
async fn backfill(options: &Options, open: &Open, tenant: &str, source: &'static Source) -> Result<bool, Error> {
    let name = source.name;
    let time = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::AutoSi, true);
    let mut range = json!({"from": time(options.from), "to": time(options.to)});
    if let Some(id) = &options.id {
        range["id"] = json!(id);
    }
    let event = json!({"tenant": tenant, "backfill": range});
    if open.alone {
        open.store.release(tenant, name).await?;
    }
    let (mut events, mut failures) = (0, 0);
    let progress = Progress::start(options, name);
    loop {
        let started = Instant::now();
        match open.collector.invoke(source, &event, Some(started + RUN)).await {
            Ok(Answer { status: Status::Busy, .. }) => {
                println!("{name}: another run of this backfill holds the lease, waiting for it");
                sleep(Duration::from_secs(10)).await;
            }
            Ok(answer) => {
                // How current it is says nothing of a past range.
                let answer = Answer { lag_seconds: None, ..answer };
                failures = 0;
                events += answer.events;
                progress.at(position(&answer.checkpoint), events);
                let position = position(&answer.checkpoint).map(|at| format!(", collected to {}", time(at)));
                progress.say(&format!("{}{}", health_line(&answer, started.elapsed()), position.unwrap_or_default()));
                if let Some(gap) = answer.gap {
                    println!("{name}: mimecast no longer keeps {} to {}", time(gap.from), time(gap.to));
                }
                if answer.status == Status::CaughtUp {
                    let whole = answer.checkpoint["finished"] == json!(true);
                    let state = if whole { "finished" } else { "not finished: start it again later" };
                    println!("{name}: {state}, {events} events");
                    return Ok(whole);
                }
            }
            Err((error, tenant)) => {
                failures += 1;
                eprintln!("error: {}", error.report(name, &tenant, source.permission));
                if failures >= TRIES || !may_pass(error.error_type()) {
                    return Ok(false);
                }
                sleep(Duration::from_secs(5) * failures).await;
            }
        }
    }
}

/// Whether another try may mend it.
fn may_pass(error: ErrorType) -> bool {
    use ErrorType::{Checkpoint, DevoUnavailable, MimecastUnavailable, RateLimited};
    matches!(error, RateLimited | MimecastUnavailable | DevoUnavailable | Checkpoint)
}

/// How far the range has been collected, where the source has such a point.
fn position(checkpoint: &Value) -> Option<DateTime<Utc>> {
    checkpoint["windows"]["closed_to"].as_str()?.parse().ok()
}

/// A bar on a terminal's standard error, with rate and time left; elsewhere nothing.
struct Progress {
    bar: ProgressBar,
    from: DateTime<Utc>,
}

impl Progress {
    fn start(options: &Options, name: &str) -> Self {
        let seconds = u64::try_from((options.to - options.from).num_seconds()).unwrap_or_default();
        let bar = ProgressBar::new(seconds);
        if let Ok(style) = ProgressStyle::with_template("{prefix} {bar:30} {percent}% {msg}, {eta} left") {
            bar.set_style(style);
        }
        bar.set_prefix(name.to_owned());
        bar.enable_steady_tick(Duration::from_secs(1));
        Self { bar, from: options.from }
    }

    fn at(&self, position: Option<DateTime<Utc>>, events: u64) {
        let done = position.map(|at| (at - self.from).num_seconds());
        self.bar.set_position(done.and_then(|done| u64::try_from(done).ok()).unwrap_or_default());
        let seconds = self.bar.elapsed().as_secs_f64().max(0.001);
        self.bar.set_message(format!("{events} events, {:.0} a second", events as f64 / seconds));
    }

    /// A line on standard output, which the bar does not run through.
    fn say(&self, line: &str) {
        self.bar.suspend(|| println!("{line}"));
    }
}
