//! `demo`: the eleven functions against a simulated Mimecast and Devo, and the proof that everything arrives once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use clap::ValueEnum;
use collector::{Answer, Collector, Secrets, Settings, Source, Status, Store};
use mimecast::Clock;
use mimecast_devo::embedded::{Embedded, TABLE};
use serde_json::json;
use simulator::data::{self, Expected, SUMMARY_TABLE};
use simulator::{Devo, Mimecast};
use tempfile::NamedTempFile;
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant, sleep};

use crate::signals::Signals;
use crate::{Error, health};

/// The time between two rounds of `--keep`, and how many new events each brings to a source.
const PAUSE: Duration = Duration::from_secs(5);
const NEW_EVENTS: usize = 5;
/// What one run may take; a longer one goes on in the next.
const LONGEST_RUN: Duration = Duration::from_secs(60);

/// Show all sources at work between a simulated Mimecast and a simulated Devo, and account for every event
#[derive(clap::Args)]
pub struct Options {
    /// Go on with new events every few seconds, until Ctrl-C
    #[arg(long)]
    keep: bool,
    /// Mimecast's API
    #[arg(long, value_enum, default_value = "2.0")]
    api: Api,
    /// The same number makes the same events
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// How many events: about 600 times this
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    scale: u16,
}

#[derive(Clone, Copy, ValueEnum)]
enum Api {
    #[value(name = "1.0")]
    V1,
    #[value(name = "2.0")]
    V2,
}

pub async fn run(options: &Options) -> Result<ExitCode, Error> {
    if std::env::var_os("LOG_LEVEL").is_some() {
        collector::init_logging(collector::variable);
    }
    let signals = options.keep.then(Signals::catch).transpose()?;
    let mut out = io::stdout();
    let mut demo = Demo::start(options).await?;
    let events = count(&demo.expected) + demo.summary.len();
    writeln!(out, "{events} events at a simulated Mimecast, on their way to a simulated Devo:\n")?;
    demo.pass(|answer, time| writeln!(io::stdout(), "{}", health(answer, time))).await?;
    if let Some(mut signals) = signals {
        writeln!(out, "\nNew events every {} s, until Ctrl-C:\n", PAUSE.as_secs())?;
        for round in 1.. {
            tokio::select! {
                () = signals.next() => break,
                () = sleep(PAUSE) => {}
            }
            demo.add_events(options.seed.wrapping_add(round));
            let pass = demo.pass(|_, _| Ok(())).await?;
            writeln!(out, "round {round}: {pass}")?;
        }
        writeln!(out)?;
        demo.write_table(&mut out)?;
        writeln!(out)?;
    } else {
        writeln!(out)?;
        demo.write_table(&mut out)?;
        let pass = demo.pass(|_, _| Ok(())).await?;
        writeln!(out, "\nidle run: {pass}")?;
    }
    demo.conclude(&mut out)
}

struct Demo {
    mimecast: Mimecast,
    devo: Devo,
    collector: Arc<Collector>,
    /// What Devo must hold by now, of the hold summary without `collectedAt`.
    expected: Expected,
    /// The hold summary, of which every poll is expected.
    summary: Vec<String>,
    tallies: BTreeMap<&'static str, Tally>,
    time: Duration,
    failed: bool,
    _secrets: [NamedTempFile; 2],
}

/// What a source has needed so far.
#[derive(Default)]
struct Tally {
    requests: u64,
    duplicates: u64,
    lag: Option<i64>,
    time: Duration,
}

/// What one run of each source has brought.
#[derive(Default)]
struct Pass {
    events: u64,
    summary: u64,
    requests: u64,
    time: Duration,
}

impl std::fmt::Display for Pass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { events, summary, requests, time } = self;
        let seconds = time.as_secs_f64();
        write!(f, "{events} events, {requests} requests, {seconds:.1} s")?;
        if *summary > 0 {
            write!(f, " (besides {summary} rows of the hold summary, which every poll sends)")?;
        }
        Ok(())
    }
}

impl Demo {
    async fn start(options: &Options) -> Result<Self, Error> {
        let (mimecast, devo) = (Mimecast::start().await?, Devo::start().await?);
        let secrets = [
            secret_file(&match options.api {
                Api::V1 => mimecast.secret_v1(),
                Api::V2 => mimecast.secret_v2(),
            })?,
            secret_file(&devo.secret())?,
        ];
        let settings = Settings::from_lookup(|name| match name {
            "MIMECAST_SECRET_ID" => Some(format!("file:{}", secrets[0].path().display())),
            "DEVO_SECRET_ID" => Some(format!("file:{}", secrets[1].path().display())),
            "CHECKPOINT_TABLE" => Some(TABLE.to_owned()),
            _ => None,
        })?;
        let store = Store::new(Embedded::memory()?.client(), TABLE);
        let collector = Arc::new(Collector::new(settings, store, Secrets::new(None), Clock::System));
        let mut expected = data::lively(&mimecast, options.seed, mimecast.now(), options.scale.into());
        let summary = expected.remove(SUMMARY_TABLE).unwrap_or_default();
        Ok(Self {
            mimecast,
            devo,
            collector,
            expected,
            summary,
            tallies: BTreeMap::new(),
            time: Duration::ZERO,
            failed: false,
            _secrets: secrets,
        })
    }

    fn add_events(&mut self, seed: u64) {
        for (table, lines) in data::more(&self.mimecast, seed, self.mimecast.now(), NEW_EVENTS) {
            self.expected.entry(table).or_default().extend(lines);
        }
    }

    /// Runs all sources at once until each has caught up; `done` hears of every run.
    async fn pass(&mut self, done: impl Fn(&Answer, Duration) -> io::Result<()>) -> Result<Pass, Error> {
        let mut pass = Pass::default();
        let started = Instant::now();
        let mut runs = JoinSet::new();
        for source in functions::ALL {
            runs.spawn(run_once(self.collector.clone(), source));
        }
        while let Some(ended) = runs.join_next().await {
            let (source, outcome, time) = ended?;
            let answer = match outcome {
                Ok(answer) => answer,
                Err((error, tenant)) => {
                    eprintln!("error: {}", error.report(source.name, &tenant, source.permission));
                    self.failed = true;
                    continue;
                }
            };
            done(&answer, time)?;
            let tally = self.tallies.entry(source.name).or_default();
            tally.requests += answer.requests;
            tally.duplicates += answer.duplicates;
            tally.lag = answer.lag_seconds;
            tally.time += time;
            pass.requests += answer.requests;
            if source.table == SUMMARY_TABLE {
                pass.summary += answer.events;
                self.expected.entry(SUMMARY_TABLE.to_owned()).or_default().extend(self.summary.iter().cloned());
            } else {
                pass.events += answer.events;
            }
            if answer.status == Status::More {
                runs.spawn(run_once(self.collector.clone(), source));
            }
        }
        pass.time = started.elapsed();
        self.time += pass.time;
        Ok(pass)
    }

    /// One row for each table that Devo holds or should hold.
    fn write_table(&self, out: &mut impl Write) -> io::Result<()> {
        let arrived = self.devo.lines();
        let tables: BTreeSet<&String> = self.expected.keys().chain(arrived.keys()).collect();
        let title = ["source", "Devo table", "events", "requests", "duplicates", "lag", "time"];
        let mut rows = vec![title.map(str::to_owned)];
        for source in functions::ALL {
            let tally = self.tallies.get(source.name);
            let mut about = tally.map_or([const { String::new() }; 4], |tally| {
                [
                    tally.requests.to_string(),
                    tally.duplicates.to_string(),
                    tally.lag.map_or("-".to_owned(), |lag| format!("{lag} s")),
                    seconds(tally.time),
                ]
            });
            let mut name = source.name;
            for table in tables.iter().filter(|table| table.strip_prefix(source.table).is_some_and(is_below)) {
                let events = arrived.get(*table).map_or(0, Vec::len).to_string();
                let [requests, duplicates, lag, time] = std::mem::take(&mut about);
                let name = std::mem::take(&mut name).to_owned();
                rows.push([name, (*table).clone(), events, requests, duplicates, lag, time]);
            }
        }
        rows.push([
            "total".to_owned(),
            String::new(),
            count(&arrived).to_string(),
            self.tallies.values().map(|tally| tally.requests).sum::<u64>().to_string(),
            self.tallies.values().map(|tally| tally.duplicates).sum::<u64>().to_string(),
            String::new(),
            seconds(self.time),
        ]);
        write_aligned(out, &rows)
    }

    /// The verdict in words and as exit code.
    fn conclude(&self, out: &mut impl Write) -> Result<ExitCode, Error> {
        let differences = differences(&self.expected, &self.devo.lines());
        if differences.is_empty() {
            writeln!(out, "all {} events arrived, none twice", count(&self.expected))?;
        }
        for difference in &differences {
            writeln!(out, "{difference}")?;
        }
        Ok(if self.failed || !differences.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

type Outcome = Result<Answer, (collector::Error, String)>;

async fn run_once(collector: Arc<Collector>, source: &'static Source) -> (&'static Source, Outcome, Duration) {
    let started = Instant::now();
    let outcome = collector.invoke(source, &json!({}), Some(started + LONGEST_RUN)).await;
    (source, outcome, started.elapsed())
}

/// A file that only this user can read.
fn secret_file(secret: &str) -> io::Result<NamedTempFile> {
    let mut file = NamedTempFile::new()?;
    file.write_all(secret.as_bytes())?;
    Ok(file)
}

/// Whether a table's name ends at the source's or goes on below it.
fn is_below(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with('.')
}

fn count(lines: &BTreeMap<String, Vec<String>>) -> usize {
    lines.values().map(Vec::len).sum()
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

/// Names to the left, numbers to the right.
fn write_aligned(out: &mut impl Write, rows: &[[String; 7]]) -> io::Result<()> {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or_default();
    let widths: [usize; 7] = std::array::from_fn(width);
    for row in rows {
        let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, width))| match column {
            0 | 1 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

/// One line for each table that does not hold exactly what it should.
fn differences(expected: &Expected, arrived: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let tables: BTreeSet<&String> = expected.keys().chain(arrived.keys()).collect();
    let mut differences = Vec::new();
    for table in tables {
        // Of each line, how often it should be there and is not; below zero, how often too often.
        let mut lacking: HashMap<&str, i64> = HashMap::new();
        for line in expected.get(table).into_iter().flatten() {
            *lacking.entry(line).or_default() += 1;
        }
        let arrived: Vec<String> = arrived.get(table).into_iter().flatten().map(|line| plain(table, line)).collect();
        for line in &arrived {
            *lacking.entry(line).or_default() -= 1;
        }
        let missing: i64 = lacking.values().filter(|count| **count > 0).sum();
        let surplus: i64 = -lacking.values().filter(|count| **count < 0).sum::<i64>();
        if missing > 0 || surplus > 0 {
            differences.push(format!("{table}: {missing} events missing, {surplus} too many"));
        }
    }
    differences
}

/// The line as Mimecast has it: without the time that is added to the hold summary.
fn plain(table: &str, line: &str) -> String {
    let stamp = (table == SUMMARY_TABLE).then(|| line.rsplit_once(r#","collectedAt":""#)).flatten();
    stamp.map_or_else(|| line.to_owned(), |(event, _)| format!("{event}}}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables(tables: &[(&str, &[&str])]) -> Expected {
        let lines = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect();
        tables.iter().map(|(table, of)| ((*table).to_owned(), lines(of))).collect()
    }

    #[test]
    fn equal_multisets_do_not_differ() {
        let expected = tables(&[("a", &["1", "2", "1"]), (SUMMARY_TABLE, &[r#"{"n":1}"#]), ("empty", &[])]);
        let stamped = r#"{"n":1,"collectedAt":"2026-01-31T12:00:00Z"}"#;
        let arrived = tables(&[("a", &["2", "1", "1"]), (SUMMARY_TABLE, &[stamped])]);
        assert_eq!(differences(&expected, &arrived), [""; 0]);
    }

    #[test]
    fn each_difference_is_counted() {
        let expected = tables(&[("lost", &["1", "2", "2"]), ("twice", &["1"]), ("changed", &["1"])]);
        let arrived = tables(&[("lost", &["2"]), ("twice", &["1", "1"]), ("changed", &["x"]), ("strange", &["1"])]);
        assert_eq!(
            differences(&expected, &arrived),
            [
                "changed: 1 events missing, 1 too many",
                "lost: 2 events missing, 0 too many",
                "strange: 0 events missing, 1 too many",
                "twice: 0 events missing, 1 too many"
            ]
        );
    }
}
