//! `dead-letters`: lists what could not be delivered, shows it, delivers what can be read by now, and deletes it.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::Subcommand;
use collector::{Letter, Replayed, Source, Status, Store};
use mimecast::Clock;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::Error;
use crate::place::{self, Open, Place, PlaceOptions, write_columns};

/// How long a replay waits for a run that holds the lease.
const PATIENCE: Duration = Duration::from_secs(60);

/// List, show, replay and delete what could not be delivered
#[derive(clap::Args)]
#[command(after_help = "Example:
  mimecast-devo dead-letters list --config mimecast-devo.toml")]
pub struct Options {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// List dead letters, the oldest first
    #[command(after_help = "Examples:
  mimecast-devo dead-letters list --since 24h --config mimecast-devo.toml
  mimecast-devo dead-letters list --origin devo --stack mimecast-devo --json")]
    List {
        #[command(flatten)]
        chosen: Chosen,
        /// One JSON object per dead letter and line
        #[arg(long)]
        json: bool,
    },
    /// Write the bytes of dead letters to standard output, as they were received
    #[command(after_help = "Example:
  mimecast-devo dead-letters show --source siem --id 2026-01-31T12:00:00Z#1 --config mimecast-devo.toml")]
    Show {
        #[command(flatten)]
        chosen: Chosen,
    },
    /// Read dead letters again and deliver what can be read by now; the rest stays
    #[command(after_help = "The exit code is 1 where some stay.

Examples:
  mimecast-devo dead-letters replay --dry-run --config mimecast-devo.toml
  mimecast-devo dead-letters replay --source siem --reason 'not json' --config mimecast-devo.toml")]
    Replay {
        #[command(flatten)]
        chosen: Chosen,
        /// Say only what would come of it
        #[arg(long)]
        dry_run: bool,
    },
    /// Delete dead letters for good; what was in them is not delivered any more
    #[command(after_help = "Says how many there are, and asks.

Example:
  mimecast-devo dead-letters delete --source siem --before 30d --config mimecast-devo.toml")]
    Delete {
        #[command(flatten)]
        chosen: Chosen,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(clap::Args)]
struct Chosen {
    #[command(flatten)]
    place: PlaceOptions,
    /// Those written since a time, 2026-01-31T00:00:00Z, or for so long, 24h
    #[arg(long, value_name = "TIME", value_parser = place::instant)]
    since: Option<DateTime<Utc>>,
    /// Those written before
    #[arg(long, value_name = "TIME", value_parser = place::instant)]
    before: Option<DateTime<Utc>>,
    /// Those with this text in their reason
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Those with this text in their origin: an endpoint, a file, or devo for what Devo has refused
    #[arg(long, value_name = "TEXT")]
    origin: Option<String>,
    /// This one, once or several times
    #[arg(long = "id", value_name = "ID")]
    ids: Vec<String>,
}

impl Chosen {
    async fn letters(&self, store: &Store, tenant: &str, source: &Source) -> Result<Vec<Letter>, Error> {
        let mut letters = store.letters(tenant, source.name).await?;
        let holds = |text: &str, part: &Option<String>| part.as_ref().is_none_or(|part| text.contains(part));
        letters.retain(|letter| {
            self.since.is_none_or(|since| letter.at >= since)
                && self.before.is_none_or(|before| letter.at < before)
                && holds(&letter.reason, &self.reason)
                && holds(&letter.origin, &self.origin)
                && (self.ids.is_empty() || self.ids.contains(&letter.id))
        });
        Ok(letters)
    }
}

#[derive(Serialize)]
struct Listed<'a> {
    tenant: &'a str,
    source: &'static str,
    #[serde(flatten)]
    letter: Letter,
}

pub async fn run(options: &Options) -> Result<ExitCode, Error> {
    match &options.action {
        Action::List { chosen, json } => list(chosen, *json).await,
        Action::Show { chosen } => show(chosen).await,
        Action::Replay { chosen, dry_run } => replay(chosen, *dry_run).await,
        Action::Delete { chosen, yes } => delete(chosen, *yes).await,
    }
}

async fn list(chosen: &Chosen, json: bool) -> Result<ExitCode, Error> {
    let place = Place::of_all_sources(&chosen.place).await?;
    let mut listed = Vec::new();
    for store in place.look().await? {
        for tenant in &place.tenants {
            for source in &place.sources {
                let letters = chosen.letters(&store, tenant, source).await?;
                listed.extend(letters.into_iter().map(|letter| Listed { tenant, source: source.name, letter }));
            }
        }
    }
    let mut out = io::stdout().lock();
    if json {
        for letter in &listed {
            writeln!(out, "{}", serde_json::to_string(letter).map_err(io::Error::other)?)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    if listed.is_empty() {
        writeln!(out, "no dead letters in {place}")?;
        return Ok(ExitCode::SUCCESS);
    }
    let title = ["tenant", "source", "id", "bytes", "table", "origin", "reason"].map(str::to_owned);
    let rows = listed.into_iter().map(|Listed { tenant, source, letter }| {
        let reason = if letter.whole { letter.reason } else { format!("not whole: {}", letter.reason) };
        let (bytes, table) = (letter.bytes.to_string(), letter.table);
        [tenant.to_owned(), source.to_owned(), letter.id, bytes, table, letter.origin, reason]
    });
    write_columns(&mut out, &[title].into_iter().chain(rows).collect::<Vec<_>>())?;
    Ok(ExitCode::SUCCESS)
}

async fn show(chosen: &Chosen) -> Result<ExitCode, Error> {
    let place = Place::of_all_sources(&chosen.place).await?;
    for store in place.look().await? {
        for tenant in &place.tenants {
            for source in &place.sources {
                for letter in chosen.letters(&store, tenant, source).await? {
                    let Some(raw) = store.letter(tenant, source.name, &letter).await? else { continue };
                    let mut out = io::stdout().lock();
                    out.write_all(&raw)?;
                    out.write_all(b"\n")?;
                }
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn replay(chosen: &Chosen, dry_run: bool) -> Result<ExitCode, Error> {
    let place = Place::of_all_sources(&chosen.place).await?;
    let (mut any, mut stays) = (false, false);
    for open in place.open().await? {
        for tenant in &place.tenants {
            for source in &place.sources {
                let mut done = Replayed::default();
                let outcome = replay_source(&open, chosen, tenant, source, dry_run, &mut done).await;
                if done != Replayed::default() {
                    any = true;
                    report(tenant, source, &done, dry_run)?;
                }
                stays |= !done.kept.is_empty();
                outcome?;
            }
        }
    }
    if !any {
        println!("no such dead letters in {place}");
    }
    Ok(if stays { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn delete(chosen: &Chosen, yes: bool) -> Result<ExitCode, Error> {
    let place = Place::of_all_sources(&chosen.place).await?;
    let mut found = Vec::new();
    for store in place.open_stores().await? {
        for tenant in &place.tenants {
            for source in &place.sources {
                let letters = chosen.letters(&store, tenant, source).await?;
                found.extend((!letters.is_empty()).then(|| (store.clone(), tenant.clone(), *source, letters)));
            }
        }
    }
    let count: usize = found.iter().map(|(.., letters)| letters.len()).sum();
    if count == 0 {
        println!("no such dead letters in {place}");
        return Ok(ExitCode::SUCCESS);
    }
    let question = format!("Delete {count} dead letters in {place}? What is in them will not be delivered any more.");
    if !place::confirmed(&question, yes)? {
        println!("nothing deleted");
        return Ok(ExitCode::FAILURE);
    }
    for (store, tenant, source, letters) in found {
        if !store.delete(&tenant, source, &letters, Clock::System.now()).await? {
            return Err(place::busy(source));
        }
        println!("{} (tenant {tenant}): {} dead letters deleted", source.name, letters.len());
    }
    Ok(ExitCode::SUCCESS)
}

async fn replay_source(
    open: &Open,
    chosen: &Chosen,
    tenant: &str,
    source: &'static Source,
    dry_run: bool,
    done: &mut Replayed,
) -> Result<(), Error> {
    let started = Instant::now();
    loop {
        let mut letters = chosen.letters(&open.store, tenant, source).await?;
        letters.retain(|letter| !done.kept.contains_key(&letter.id));
        if letters.is_empty() {
            return Ok(());
        }
        if open.alone && !dry_run {
            open.store.release(tenant, source.name).await?;
        }
        match open.collector.replay(source, tenant, &letters, dry_run, done).await? {
            Status::CaughtUp => return Ok(()),
            Status::More if dry_run => return Ok(()),
            Status::More => {}
            Status::Busy if started.elapsed() < PATIENCE => sleep(Duration::from_secs(2)).await,
            Status::Busy => return Err(place::busy(source)),
        }
    }
}

fn report(tenant: &str, source: &Source, done: &Replayed, dry_run: bool) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    let Replayed { letters, events, duplicates, rejected, kept } = done;
    let verb = if dry_run { "would be replayed" } else { "replayed" };
    write!(out, "{} (tenant {tenant}): {letters} dead letters {verb}, {events} events", source.name)?;
    for (count, what) in [(duplicates, "delivered before"), (rejected, "new dead letters out of them")] {
        if *count > 0 {
            write!(out, ", {count} {what}")?;
        }
    }
    writeln!(out, "; {} stay", kept.len())?;
    let rows: Vec<_> = kept.iter().map(|(id, reason)| [String::new(), id.clone(), reason.clone()]).collect();
    write_columns(&mut out, &rows)?;
    Ok(())
}
