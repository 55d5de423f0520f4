//! `backfill`: collects a past range beside the live run, until it is whole.
//!
//! Each run is the function's own, under the backfill's checkpoint; here is only how often, and what is said about it. The
//! same command goes on where an earlier one was stopped or killed, and does nothing more once the range is whole.

use std::process::ExitCode;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use collector::{Answer, ErrorType, Source, Status};
use mimecast::Clock;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::place::{self, Open, Place, PlaceOptions};
use crate::signals::Signals;
use crate::{Error, health_line};

/// What a run takes at most: so long is a killed backfill's lease held, about.
const RUN: Duration = Duration::from_secs(60);
/// Failures in a row that another try may mend, before the source is given up.
const TRIES: u32 = 5;
/// What is newer is still being written.
const SETTLED: TimeDelta = TimeDelta::hours(1);

/// Collect a past range of sources, beside the live run
#[derive(clap::Args)]
pub struct Options {
    #[command(flatten)]
    place: PlaceOptions,
    /// The first instant: 2026-01-01T00:00:00Z
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
    let place = Place::find(&options.place)?;
    if options.place.sources.is_empty() {
        return Err(Error::Configuration("--source is needed, once or several times".to_owned()));
    }
    if options.to > Clock::System.now() - SETTLED {
        let text = "--to must be an hour ago or earlier: what is newer is for the live run to collect";
        return Err(Error::Configuration(text.to_owned()));
    }
    tokio::select! {
        outcome = all(options, &place) => outcome,
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
                println!("{}{}", health_line(&answer, started.elapsed()), position(&answer.checkpoint));
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
fn position(checkpoint: &Value) -> String {
    checkpoint["windows"]["closed_to"].as_str().map(|at| format!(", collected to {at}")).unwrap_or_default()
}
