//! `status`: where each source stands, read without getting in anybody's way.

use std::io::{self, Write};
use std::process::ExitCode;

use chrono::{DateTime, SecondsFormat, Utc};
use collector::{BackfillOverview, Overview};
use mimecast::Clock;

use crate::Error;
use crate::place::{Place, PlaceOptions, write_columns};

/// Say how far each source has been collected, on this host or on AWS
#[derive(clap::Args)]
pub struct Options {
    #[command(flatten)]
    place: PlaceOptions,
    /// One JSON object per source and line
    #[arg(long)]
    json: bool,
}

pub async fn run(options: &Options) -> Result<ExitCode, Error> {
    let place = Place::find(&options.place)?;
    let (settings, now) = (place.settings_to_look()?, Clock::System.now());
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
                        live.backfills.extend(overview.backfills);
                    }
                    None => found.push(overview),
                }
            }
        }
    }
    let mut out = io::stdout().lock();
    if options.json {
        for overview in &found {
            writeln!(out, "{}", serde_json::to_string(overview).map_err(io::Error::other)?)?;
        }
    } else {
        write(&mut out, &found, now)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn write(out: &mut impl Write, found: &[Overview], now: DateTime<Utc>) -> io::Result<()> {
    let title =
        ["tenant", "source", "collected to", "lag", "silent since", "late", "dead letters", "last write", "lease"]
            .map(str::to_owned);
    let rows = found.iter().map(|overview| {
        let Overview { source, tenant, collected_to, lag_seconds, lease_until, updated_at, .. } = overview;
        [
            tenant.clone(),
            (*source).to_owned(),
            collected_to.map(time).unwrap_or_else(none),
            lag_seconds.map(duration).unwrap_or_else(none),
            overview.silent_since.map(time).unwrap_or_else(none),
            overview.late_seconds.map(duration).unwrap_or_else(none),
            overview.dead_letters.to_string(),
            updated_at.as_deref().map_or_else(|| "never".to_owned(), |at| ago(at, now)),
            lease_until.map_or_else(|| "free".to_owned(), |until| format!("held until {}", time(until))),
        ]
    });
    write_columns(out, &[title].into_iter().chain(rows).collect::<Vec<_>>())?;
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
