//! `verify`: is in Devo what was delivered? Compares what the commits say that Devo has accepted, by table and hour, with what
//! Devo's Query API counts there.
//!
//! An event near the end of an hour may be counted in the next one, so what one hour lacks and its neighbour has too much is no
//! difference. What is young may not be visible yet.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::ExitCode;

use chrono::{DateTime, DurationRound as _, SecondsFormat, TimeDelta, Utc};
use collector::{Ledger, Overview};
use devo::Found;
use mimecast::Clock;
use serde::Serialize;

use crate::Error;
use crate::domains::{Domain, domains};
use crate::place::{self, Place, PlaceOptions, plain, span, write_columns};
use crate::status::overviews;

/// The counts are kept for three days; the first hour may be one of which only a part is known.
const LONGEST: TimeDelta = TimeDelta::hours(71);

/// Ask Devo whether it has what was delivered to it, table by table
#[derive(clap::Args)]
#[command(
    after_help = "Needs a token for queries, which is another one than that for sending: DEVO_QUERY_SECRET_ID names a secret
{\"token\": \"...\"}, as the other two secrets are named, {tenant} included. DEVO_QUERY_URL is where to ask, unless the secret has a
\"url\" or the region of DEVO_URL tells it. Where DEVO_URL names several destinations, each is asked: DEVO_QUERY_SECRET_ID and
DEVO_QUERY_URL then name as many, in the same order, with commas between them. Tenants that share a Devo domain are named together.
The exit code is 1 where events are missing.

Examples:
  mimecast-devo verify --config mimecast-devo.toml
  mimecast-devo verify --config mimecast-devo.toml --from 48h --json
  mimecast-devo verify --stack mimecast-devo --tenant acme --tenant globex"
)]
pub struct Options {
    #[command(flatten)]
    place: PlaceOptions,
    /// From which hour on, at most 71 hours ago: how long ago, 24h, or a time
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = place::instant)]
    from: DateTime<Utc>,
    /// Until which hour; else now
    #[arg(long, value_name = "TIME", value_parser = place::instant)]
    to: Option<DateTime<Utc>>,
    /// How long an event may take to be visible in Devo
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = span)]
    visible_after: TimeDelta,
    /// One JSON object per table and line
    #[arg(long)]
    json: bool,
}

/// What has been found of a table.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Table {
    table: String,
    /// Lines that Devo has accepted.
    delivered: u64,
    /// Events that it has.
    found: u64,
    missing: u64,
    surplus: u64,
    not_yet_visible: u64,
    /// Hours in which some are missing.
    missing_in: Vec<DateTime<Utc>>,
    columns: Vec<String>,
    /// Why nothing is known, or what somebody should know.
    note: Option<String>,
}

/// The same for programs, with the domain that was asked.
#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    domain: &'a Domain,
    #[serde(flatten)]
    table: &'a Table,
}

type Hours = BTreeMap<DateTime<Utc>, u64>;

pub async fn run(options: &Options) -> Result<ExitCode, Error> {
    let place = Place::of_all_sources(&options.place).await?;
    let now = Clock::System.now();
    let hour = |at: DateTime<Utc>| at.duration_trunc(TimeDelta::hours(1)).unwrap_or(at);
    let (from, to) = (hour(options.from), options.to.map_or(now, hour));
    if from >= to || now - from > LONGEST + TimeDelta::hours(1) {
        return Err(Error::Configuration(
            "--from must be before --to and at most 71 hours ago: no longer are counts kept".to_owned(),
        ));
    }
    let overviews = overviews(&place, now).await?;
    let visible = now - options.visible_after;
    let (mut verified, mut unanswered) = (Vec::new(), Vec::new());
    for domain in domains(&place).await? {
        let of = overviews.iter().filter(|overview| domain.tenants.contains(&overview.tenant));
        // What the others have is told, too, where one domain does not answer.
        match tables(&domain, &delivered(of, from, to), (from, to), visible).await {
            Ok(tables) => verified.push((domain, tables)),
            Err(error) => unanswered.push(error),
        }
    }
    let mut out = io::stdout().lock();
    if !options.json {
        writeln!(out, "{} to {}", time(from), time(to))?;
    }
    for (domain, tables) in &verified {
        if options.json {
            for table in tables {
                writeln!(out, "{}", serde_json::to_string(&Told { domain, table }).map_err(io::Error::other)?)?;
            }
        } else {
            write(&mut out, domain, tables)?;
        }
    }
    if let Some(last) = unanswered.pop() {
        for error in unanswered {
            eprintln!("error: {error}");
        }
        return Err(last);
    }
    let is_whole = verified.iter().flat_map(|(_, tables)| tables).all(|table| table.missing == 0);
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What a domain has, against what was `delivered` to it.
async fn tables(
    domain: &Domain,
    delivered: &BTreeMap<String, Hours>,
    span: (DateTime<Utc>, DateTime<Utc>),
    visible: DateTime<Utc>,
) -> Result<Vec<Table>, Error> {
    let mut tables = Vec::new();
    for (name, delivered) in delivered {
        let table = asked(domain, name, delivered, span, visible).await?;
        tables.push(Table { table: name.clone(), ..table });
    }
    Ok(tables)
}

/// What Devo has of a table, against what was `delivered` to it.
async fn asked(
    domain: &Domain,
    name: &str,
    delivered: &Hours,
    (from, to): (DateTime<Utc>, DateTime<Utc>),
    visible: DateTime<Utc>,
) -> Result<Table, Error> {
    let all = delivered.values().sum();
    if name == Ledger::OTHER {
        // No table of Devo's: what went to more tables than are counted one by one.
        let note = "tables beyond those that are counted one by one".to_owned();
        return Ok(Table { delivered: all, note: Some(note), ..Table::default() });
    }
    match domain.query.hours(name, from, to).await.map_err(collector::Error::from)? {
        Found::Known(found) => {
            let mut table = compared(delivered, &found, visible);
            match domain.query.columns(name).await.map_err(collector::Error::from)? {
                Found::Known(columns) => table.columns = columns,
                Found::Hidden(text) => table.note = Some(text),
            }
            if is_unparsed(&table.columns) {
                table.note = Some("no parser reads it: each event is in one column".to_owned());
            }
            Ok(table)
        }
        Found::Hidden(text) => {
            let note = format!("{text}: nothing has arrived there, or the token for queries may not read it");
            Ok(Table { delivered: all, missing: all, note: Some(note), ..Table::default() })
        }
    }
}

/// What the commits say that Devo has accepted, by table.
fn delivered<'a>(
    overviews: impl Iterator<Item = &'a Overview>,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> BTreeMap<String, Hours> {
    let mut tables: BTreeMap<String, Hours> = BTreeMap::new();
    for (table, hour, count) in overviews.flat_map(|overview| &overview.ledgers).flat_map(Ledger::hours) {
        if (from..to).contains(&hour) {
            *tables.entry(table.to_owned()).or_default().entry(hour).or_default() += count;
        }
    }
    tables
}

/// `visible`: what was accepted before this has to be there.
fn compared(delivered: &Hours, found: &Hours, visible: DateTime<Utc>) -> Table {
    let mut table = Table { delivered: delivered.values().sum(), found: found.values().sum(), ..Table::default() };
    let mut hours: Vec<DateTime<Utc>> = delivered.keys().chain(found.keys()).copied().collect();
    hours.sort_unstable();
    hours.dedup();
    // How many more than delivered each hour has, as far as its neighbour does not make up for it.
    let count = |hours: &Hours, hour| i64::try_from(hours.get(hour).copied().unwrap_or_default()).unwrap_or(i64::MAX);
    let mut more: Vec<i64> = hours.iter().map(|hour| count(found, hour) - count(delivered, hour)).collect();
    for next in 1..more.len() {
        let (a, b) = (more[next - 1], more[next]);
        if hours[next] - hours[next - 1] == TimeDelta::hours(1) && a.signum() * b.signum() < 0 {
            let shared = a.abs().min(b.abs()) * a.signum();
            more[next - 1] -= shared;
            more[next] += shared;
        }
    }
    for (hour, more) in hours.into_iter().zip(more) {
        match (more, hour + TimeDelta::hours(1) > visible) {
            (0.., _) => table.surplus += more.unsigned_abs(),
            (_, true) => table.not_yet_visible += more.unsigned_abs(),
            (_, false) => {
                table.missing += more.unsigned_abs();
                table.missing_in.push(hour);
            }
        }
    }
    table
}

/// What every table has that no parser reads.
fn is_unparsed(columns: &[String]) -> bool {
    !columns.is_empty()
        && columns.iter().all(|name| ["eventdate", "message", "rawMessage", "hostname"].contains(&name.as_str()))
}

fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn write(out: &mut impl Write, domain: &Domain, tables: &[Table]) -> io::Result<()> {
    let Domain { url, name, tenants, .. } = domain;
    let name = name.as_ref().map_or_else(|| "of the token for queries".to_owned(), |name| plain(name));
    writeln!(out, "Devo domain {name}, asked at {}, tenant {}", plain(url), tenants.join(", "))?;
    let title =
        ["", "table", "delivered", "in devo", "missing", "surplus", "not yet visible", "columns"].map(str::to_owned);
    let rows = tables.iter().map(|table| {
        [
            if table.missing == 0 { "\u{2713}" } else { "\u{2717}" }.to_owned(),
            table.table.clone(),
            table.delivered.to_string(),
            table.found.to_string(),
            table.missing.to_string(),
            table.surplus.to_string(),
            table.not_yet_visible.to_string(),
            table.columns.len().to_string(),
        ]
    });
    write_columns(out, &[title].into_iter().chain(rows).collect::<Vec<_>>())?;
    for Table { table, note, missing_in, .. } in tables {
        if let Some(note) = note {
            writeln!(out, "{table}: {}", plain(note))?;
        }
        if !missing_in.is_empty() {
            let hours: Vec<String> = missing_in.iter().take(5).map(|hour| time(*hour)).collect();
            writeln!(out, "{table}: missing in the hours from {}", hours.join(", "))?;
        }
    }
    if tables.iter().any(|table| table.missing > 0) {
        writeln!(
            out,
            "-> collect those hours once more by `mimecast-devo backfill` or `reset`, and ask Devo what became of them"
        )?;
    }
    if tables.is_empty() {
        writeln!(out, "nothing was delivered in this time")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(counts: &[(i64, u64)]) -> Hours {
        counts.iter().map(|(hour, count)| (DateTime::from_timestamp(hour * 3600, 0).unwrap(), *count)).collect()
    }

    /// missing, surplus, not yet visible; what is of hour 10 or later need not be visible.
    fn of(delivered: &[(i64, u64)], found: &[(i64, u64)]) -> (u64, u64, u64) {
        let visible = DateTime::from_timestamp(10 * 3600, 0).unwrap();
        let table = compared(&hours(delivered), &hours(found), visible);
        assert_eq!(table.missing > 0, !table.missing_in.is_empty());
        (table.missing, table.surplus, table.not_yet_visible)
    }

    #[test]
    fn differences_are_told_apart() {
        assert_eq!(of(&[(1, 5), (2, 7)], &[(1, 5), (2, 7)]), (0, 0, 0));
        assert_eq!(of(&[(1, 5), (2, 7)], &[(1, 5)]), (7, 0, 0));
        assert_eq!(of(&[(1, 5)], &[(1, 9), (2, 1)]), (0, 5, 0));
        // Over the border of two hours.
        assert_eq!(of(&[(1, 5), (2, 7)], &[(1, 3), (2, 9)]), (0, 0, 0));
        assert_eq!(of(&[(1, 5)], &[(2, 5)]), (0, 0, 0));
        // Not over an hour between them.
        assert_eq!(of(&[(1, 5)], &[(3, 5)]), (5, 5, 0));
        // Young.
        assert_eq!(of(&[(10, 5)], &[]), (0, 0, 5));
        assert_eq!(of(&[(9, 5), (10, 5)], &[]), (5, 0, 5));
    }
}
