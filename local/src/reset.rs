//! `reset`: lets a source collect again from a time on. Says first what that means.

use std::process::ExitCode;

use chrono::{DateTime, SecondsFormat, Utc};
use collector::Source;
use mimecast::Clock;

use crate::Error;
use crate::place::{self, Place, PlaceOptions, confirmed};
use crate::status::overviews;

/// Let sources collect again from a time on: what was delivered since then is delivered once more
#[derive(clap::Args)]
#[command(mut_arg("sources", |arg| arg.hide(true)), after_help = "Examples:
  mimecast-devo reset url --to 2026-01-31 --dry-run --config mimecast-devo.toml
  mimecast-devo reset siem --to 24h --yes --table CheckpointTable-1A2B3C")]
pub struct Options {
    /// The source
    #[arg(value_name = "SOURCE", value_parser = place::source, conflicts_with = "sources")]
    name: &'static Source,
    #[command(flatten)]
    place: PlaceOptions,
    /// From when on: 2026-01-31T00:00:00Z, 2026-01-31, or how long ago, 24h; else as if it had never run
    #[arg(long, value_name = "TIME", value_parser = place::instant)]
    to: Option<DateTime<Utc>>,
    /// Say only what would come of it
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

pub async fn run(options: &Options) -> Result<ExitCode, Error> {
    let mut place = Place::find(&options.place).await?;
    place.sources = vec![options.name];
    let (now, source) = (Clock::System.now(), options.name);
    if options.to.is_some_and(|to| to > now) {
        return Err(Error::Configuration("--to must be in the past".to_owned()));
    }
    for overview in overviews(&place, now).await? {
        let time = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Secs, true);
        let since = options.to.unwrap_or(DateTime::UNIX_EPOCH);
        let events: u64 = overview.ledgers.iter().map(|ledger| ledger.since(since)).sum();
        let from = options.to.map_or_else(|| "INITIAL_LOOKBACK before its next run".to_owned(), time);
        let stands = overview.collected_to.map_or_else(|| "nowhere yet".to_owned(), time);
        println!(
            "{} (tenant {}): collected to {stands}; would be collected again from {from}; of what it delivered in the last three days, \
             {events} events would be delivered once more",
            source.name, overview.tenant
        );
    }
    if options.dry_run {
        return Ok(ExitCode::SUCCESS);
    }
    if !confirmed(&format!("Reset {} in {place}?", source.name), options.yes)? {
        println!("nothing changed");
        return Ok(ExitCode::FAILURE);
    }
    for store in place.open_stores().await?.into_iter().take(1) {
        for tenant in &place.tenants {
            if !store.reset(tenant, source, options.to, now).await? {
                return Err(place::busy(source));
            }
            println!("{} (tenant {tenant}): reset, the next run collects", source.name);
        }
    }
    Ok(ExitCode::SUCCESS)
}
