//! `status`: where each source stands, read without getting in anybody's way.

use std::io::{self, IsTerminal as _, Write};
use std::process::ExitCode;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use collector::{BackfillOverview, Lost, Overview};
use mimecast::Clock;
use serde_json::json;
use tokio::time::{Duration, sleep};

use crate::Error;
use crate::place::{Place, PlaceOptions, plain, span, write_columns};

/// Say how far each source has been collected, and whether somebody has to look, on this host or on AWS
#[derive(clap::Args)]
#[command(after_help = "The exit code is 1 where a source is failing, late or has never run.

Examples:
  mimecast-devo status --config mimecast-devo.toml
  mimecast-devo status --table CheckpointTable-1A2B3C --max-lag 30m --json
  mimecast-devo status --config mimecast-devo.toml --watch")]
pub struct Options {
    #[command(flatten)]
    place: PlaceOptions,
    /// A source is late that is further behind, or has not run for longer
    #[arg(long, value_name = "TIME", default_value = "2h", value_parser = span)]
    max_lag: TimeDelta,
    /// Show it again every few seconds, until Ctrl-C
    #[arg(long)]
    watch: bool,
    /// One JSON object per source and line
    #[arg(long)]
    json: bool,
}

/// How often it is shown again.
const PAUSE: Duration = Duration::from_secs(2);
/// Puts the cursor home and clears what is below.
const CLEAR: &str = "\u{1b}[H\u{1b}[J";

pub async fn run(options: &Options) -> Result<ExitCode, Error> {
    let place = Place::find(&options.place).await?;
    loop {
        let now = Clock::System.now();
        let found = overviews(&place, now).await?;
        let troubles: Vec<Option<String>> =
            found.iter().map(|overview| trouble(overview, &place, options.max_lag, now)).collect();
        let mut shown = Vec::new();
        if options.json {
            for (overview, trouble) in found.iter().zip(&troubles) {
                let mut value = serde_json::to_value(overview).map_err(io::Error::other)?;
                value["trouble"] = json!(trouble);
                writeln!(shown, "{value}")?;
            }
        } else {
            write(&mut shown, &found, &troubles, now)?;
        }
        let mut out = io::stdout().lock();
        if options.watch && !options.json && out.is_terminal() {
            out.write_all(CLEAR.as_bytes())?;
        }
        out.write_all(&shown)?;
        out.flush()?;
        drop(out);
        if !options.watch {
            let is_well = troubles.iter().all(Option::is_none);
            return Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        sleep(PAUSE).await;
    }
}

/// Where all sources stand, from all checkpoints there are.
pub async fn overviews(place: &Place, now: DateTime<Utc>) -> Result<Vec<Overview>, Error> {
    let settings = place.settings_to_look()?;
    let mut found: Vec<Overview> = Vec::new();
    for store in place.look().await? {
        for tenant in &place.tenants {
            for source in &place.sources {
                let overview = store.overview(tenant, source, &settings, now).await?;
                match found.iter_mut().find(|other| other.tenant == overview.tenant && other.source == overview.source)
                {
                    Some(live) => {
                        // The backfills' file: nothing else is in it.
                        live.dead_letters += overview.dead_letters;
                        live.events_last_day += overview.events_last_day;
                        live.ledgers.extend(overview.ledgers);
                        live.backfills.extend(overview.backfills);
                    }
                    None => found.push(overview),
                }
            }
        }
    }
    Ok(found)
}

/// Why somebody has to look at a source. One that has never run is only in trouble where it is known that it should.
fn trouble(overview: &Overview, place: &Place, most: TimeDelta, now: DateTime<Utc>) -> Option<String> {
    let is_wanted = place.knows_its_sources || overview.updated_at.is_some();
    overview.trouble(most, now).filter(|_| is_wanted)
}

fn write(out: &mut impl Write, found: &[Overview], troubles: &[Option<String>], now: DateTime<Utc>) -> io::Result<()> {
    let title = [
        "tenant",
        "source",
        "state",
        "collected to",
        "lag",
        "last success",
        "last day",
        "silent since",
        "late",
        "dead letters",
        "last write",
        "lease",
    ]
    .map(str::to_owned);
    let rows = found.iter().zip(troubles).map(|(overview, trouble)| {
        let Overview { source, tenant, collected_to, lag_seconds, lease_until, updated_at, .. } = overview;
        [
            tenant.clone(),
            (*source).to_owned(),
            state(overview, trouble.is_some()).to_owned(),
            collected_to.map(time).unwrap_or_else(none),
            lag_seconds.map(duration).unwrap_or_else(none),
            overview.succeeded_at.map_or_else(none, |at| ago(&at.to_rfc3339(), now)),
            overview.events_last_day.to_string(),
            overview.silent_since.map(time).unwrap_or_else(none),
            overview.late_seconds.map(duration).unwrap_or_else(none),
            overview.dead_letters.to_string(),
            updated_at.as_deref().map_or_else(|| "never".to_owned(), |at| ago(at, now)),
            match (lease_until, &overview.lease_holder) {
                (None, _) => "free".to_owned(),
                (Some(until), None) => format!("held until {}", time(*until)),
                (Some(until), Some(holder)) => format!("held by {holder} until {}", time(*until)),
            },
        ]
    });
    write_columns(out, &[title].into_iter().chain(rows).collect::<Vec<_>>())?;
    write_troubles(out, found, troubles)?;
    write_backfills(out, found, now)
}

/// The state in a word or two.
fn state(overview: &Overview, is_troubled: bool) -> &'static str {
    match overview {
        _ if !is_troubled => "ok",
        Overview { failure: Some(_), .. } => "failing",
        Overview { updated_at: None, .. } => "never ran",
        _ => "late",
    }
}

/// What has to be done, and what has been lost, each in a line of its own.
fn write_troubles(out: &mut impl Write, found: &[Overview], troubles: &[Option<String>]) -> io::Result<()> {
    for (Overview { tenant, source, failure, remedy, gap, .. }, trouble) in found.iter().zip(troubles) {
        match (trouble, failure) {
            (_, Some(failure)) => {
                let remedy = remedy.as_deref().unwrap_or_default();
                let text = plain(&failure.text);
                writeln!(out, "\n{source} (tenant {tenant}), {}: {text}\n  -> {}", time(failure.at), plain(remedy))?;
            }
            (Some(trouble), None) => {
                let remedy =
                    "see whether it is switched on and what its log says; `mimecast-devo check` finds what is wrong";
                writeln!(out, "\n{source} (tenant {tenant}): {trouble}\n  -> {remedy}")?;
            }
            (None, None) => {}
        }
        if let Some(Lost { at, from, to }) = gap {
            let (at, from, to) = (time(*at), time(*from), time(*to));
            writeln!(
                out,
                "\n{source} (tenant {tenant}), {at}: Mimecast no longer kept {from} to {to}, which was not collected"
            )?;
        }
    }
    Ok(())
}

fn write_backfills(out: &mut impl Write, found: &[Overview], now: DateTime<Utc>) -> io::Result<()> {
    let backfills =
        found.iter().flat_map(|overview| overview.backfills.iter().map(move |backfill| (overview, backfill)));
    let rows = backfills.map(|(overview, backfill)| {
        let BackfillOverview { id, from, to, finished, collected_to, lease_until, updated_at } = backfill;
        let own = id == &format!("{from}/{to}") || id.contains('/');
        let state = match (finished, lease_until, collected_to) {
            (true, ..) => "finished".to_owned(),
            (false, Some(_), _) => "running".to_owned(),
            (false, None, Some(at)) => format!("stopped at {}", time(*at)),
            (false, None, None) => "stopped".to_owned(),
        };
        [
            overview.tenant.clone(),
            overview.source.to_owned(),
            if own { none() } else { id.clone() },
            from.replace(".000Z", "Z"),
            to.replace(".000Z", "Z"),
            updated_at.as_deref().map_or_else(none, |at| ago(at, now)),
            state,
        ]
    });
    let rows: Vec<_> = rows.collect();
    if !rows.is_empty() {
        let title = ["tenant", "source", "backfill", "from", "to", "last write", "state"].map(str::to_owned);
        writeln!(out)?;
        write_columns(out, &[title].into_iter().chain(rows).collect::<Vec<_>>())?;
    }
    Ok(())
}

fn none() -> String {
    "-".to_owned()
}

fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn ago(at: &str, now: DateTime<Utc>) -> String {
    let at = DateTime::parse_from_rfc3339(at);
    at.map_or_else(|_| none(), |at| format!("{} ago", duration((now - at.to_utc()).num_seconds().max(0))))
}

/// The two largest units: `62 s`, `3 h 20 min`.
fn duration(seconds: i64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_for_people() {
        let all = [0, 119, 120, 7199, 7200, 172_799, 172_800, -5].map(duration);
        assert_eq!(all[..4], ["0 s", "119 s", "2 min", "119 min"]);
        assert_eq!(all[4..7], ["2 h 0 min", "47 h 59 min", "2 d 0 h"]);
    }
}
