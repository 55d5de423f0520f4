//! `tail`: what Mimecast gives now, as it would go to Devo, without moving anything.
//!
//! It is a run like any other, but it prints, and its checkpoint is in memory and gone afterwards.

use std::process::ExitCode;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use collector::Source;
use mimecast::Clock;
use serde_json::json;
use tokio::time::{Duration, Instant};

use crate::Error;
use crate::place::{self, Place, PlaceOptions};

/// How long it may take.
const LONGEST: Duration = Duration::from_secs(300);

/// Print what a source gives now, as it would go to Devo: nothing is delivered or remembered
#[derive(clap::Args)]
#[command(mut_arg("sources", |arg| arg.hide(true)), after_help = "Each line is the Devo table, a colon and the event. Notes go to standard error.

Examples:
  mimecast-devo tail url --config mimecast-devo.toml
  mimecast-devo tail siem --from 2026-01-31 --to 2026-02-01 --limit 1000 --config mimecast-devo.toml")]
pub struct Options {
    /// The source
    #[arg(value_name = "SOURCE", value_parser = place::source, conflicts_with = "sources")]
    name: &'static Source,
    #[command(flatten)]
    place: PlaceOptions,
    /// From when on: 2026-01-31T00:00:00Z, 2026-01-31, or how long ago, 24h
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = place::instant)]
    from: DateTime<Utc>,
    /// Until when; else now
    #[arg(long, value_name = "TIME", value_parser = place::instant)]
    to: Option<DateTime<Utc>>,
    /// Most lines
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    limit: u32,
}

pub async fn run(options: &Options) -> Result<ExitCode, Error> {
    let place = Place::find(&options.place).await?;
    let now = Clock::System.now();
    if options.from >= options.to.unwrap_or(now) {
        return Err(Error::Configuration("--from must be before --to, and in the past".to_owned()));
    }
    // Rounded up, so that the begin is in it.
    let lookback = (now - options.from + TimeDelta::seconds(1)).num_seconds();
    let settings = place.settings_with(&[
        ("CHECKPOINT_TABLE", Some("none".to_owned())),
        ("DEVO_URL", Some(format!("stdout:{}", options.limit))),
        ("DEVO_SECRET_ID", None),
        ("METRICS_NAMESPACE", None),
        ("DEVO_OWN_LOGS", None),
        ("INITIAL_LOOKBACK", Some(format!("{lookback}s"))),
    ])?;
    let collector = place.collector_in_memory(settings).await?;
    for tenant in &place.tenants {
        let mut event = json!({ "tenant": tenant });
        if let Some(to) = options.to {
            let time = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Secs, true);
            event["backfill"] = json!({"from": time(options.from), "to": time(to)});
        }
        match collector.invoke(options.name, &event, Some(Instant::now() + LONGEST)).await {
            Ok(answer) => {
                for warning in &answer.warnings {
                    eprintln!("{warning}");
                }
                if answer.rejected > 0 {
                    eprintln!("{} pieces cannot be read, and would be dead letters", answer.rejected);
                }
                if answer.events == 0 {
                    eprintln!("{}: nothing", options.name.name);
                }
            }
            Err((collector::Error::Devo(devo::Error::Unavailable(text)), _)) if text == devo::ENOUGH => {
                eprintln!("{text}");
            }
            Err((error, tenant)) => {
                eprintln!("error: {}", error.report(options.name.name, &tenant, options.name.permission));
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
