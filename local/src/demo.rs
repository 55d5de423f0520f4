//! `demo`: the functions against a simulated Mimecast and Devo, and the proof that everything arrives once.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use collector::{Answer, Collector, Secrets, Settings, Source, Status, Store};
use mimecast::Clock;
use mimecast_devo::embedded::{Embedded, TABLE};
use serde_json::json;
use simulator::data::SUMMARY_TABLE;
use tempfile::NamedTempFile;
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant, sleep};

use crate::balance::{self, count, write_aligned};
use crate::health::{self, Health};
use crate::signals::Signals;
use crate::world::{World, WorldOptions};
use crate::{Error, health_line};

/// The time between two rounds of `--keep`, and how many new events each brings to a source.
const PAUSE: Duration = Duration::from_secs(5);
const NEW_EVENTS: usize = 5;
/// What one run may take; a longer one goes on in the next.
const LONGEST_RUN: Duration = Duration::from_secs(60);

/// Show all sources at work between a simulated Mimecast and a simulated Devo, and account for every event
#[derive(clap::Args)]
#[command(after_help = "The exit code is 1 where an event is missing or came twice.

Examples:
  mimecast-devo demo
  mimecast-devo demo --keep --page 127.0.0.1:9464")]
pub struct Options {
    /// Go on with new events every few seconds, until Ctrl-C
    #[arg(long)]
    keep: bool,
    /// With --keep: show a page for people on this loopback address, like 127.0.0.1:9464
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = health::loopback, requires = "keep")]
    page: Option<SocketAddr>,
    #[command(flatten)]
    world: WorldOptions,
}

pub async fn run(options: &Options) -> Result<ExitCode, Error> {
    if std::env::var_os("LOG_LEVEL").is_some() {
        collector::init_logging(collector::variable);
    }
    let signals = options.keep.then(Signals::catch).transpose()?;
    let mut out = io::stdout();
    let mut demo = Demo::start(options).await?;
    let events = count(&demo.world.expected) + demo.world.summary.len();
    writeln!(out, "{events} events at a simulated Mimecast, on their way to a simulated Devo:\n")?;
    demo.pass(|answer, time| writeln!(io::stdout(), "{}", health_line(answer, time))).await?;
    if let Some(mut signals) = signals {
        writeln!(out, "\nNew events every {} s, until Ctrl-C:\n", PAUSE.as_secs())?;
        for round in 1.. {
            tokio::select! {
                () = signals.next() => break,
                () = sleep(PAUSE) => {}
            }
            demo.world.add_events(NEW_EVENTS);
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
    /// Each poll of the hold summary is expected from its answer on.
    world: World,
    collector: Arc<Collector>,
    tallies: BTreeMap<&'static str, Tally>,
    time: Duration,
    failed: bool,
    health: Arc<Health>,
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
        let world = World::start(&options.world).await?;
        let secrets = [secret_file(&world.mimecast_secret())?, secret_file(&world.devo.secret())?];
        let settings = Settings::from_lookup(|name| match name {
            "MIMECAST_SECRET_ID" => Some(format!("file:{}", secrets[0].path().display())),
            "DEVO_SECRET_ID" => Some(format!("file:{}", secrets[1].path().display())),
            "CHECKPOINT_TABLE" => Some(TABLE.to_owned()),
            _ => None,
        })?;
        let store = Store::new(Embedded::memory()?.client(), TABLE);
        let collector = Arc::new(Collector::new(settings, store, Secrets::new(None), Clock::System));
        let health = Arc::new(Health::new(Clock::System));
        if let Some(address) = options.page {
            health.serve(address).await?;
            println!("http://{address}\n");
        }
        let (tallies, time) = (BTreeMap::new(), Duration::ZERO);
        let demo = Self { world, collector, tallies, time, failed: false, health, _secrets: secrets };
        demo.health.expect(&demo.sources().into_iter().map(|source| (source, PAUSE)).collect::<Vec<_>>());
        Ok(demo)
    }

    /// Runs all sources at once until each has caught up; `done` hears of every run.
    async fn pass(&mut self, done: impl Fn(&Answer, Duration) -> io::Result<()>) -> Result<Pass, Error> {
        let mut pass = Pass::default();
        let started = Instant::now();
        let mut runs = JoinSet::new();
        for source in self.sources() {
            runs.spawn(run_once(self.collector.clone(), source));
        }
        while let Some(ended) = runs.join_next().await {
            let (source, outcome, time) = ended?;
            self.health.record(source, PAUSE, &outcome);
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
                let World { expected, summary, .. } = &mut self.world;
                expected.entry(SUMMARY_TABLE.to_owned()).or_default().extend(summary.iter().cloned());
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

    fn sources(&self) -> Vec<&'static Source> {
        [functions::by_default(), &self.world.on_request].concat()
    }

    /// One row for each table that Devo holds or should hold.
    fn write_table(&self, out: &mut impl Write) -> io::Result<()> {
        let arrived = self.world.devo.lines();
        let balances = balance::compare(&self.world.expected, &arrived);
        let title = ["source", "Devo table", "events", "requests", "duplicates", "lag", "time"];
        let mut rows = vec![title.map(str::to_owned)];
        for source in self.sources() {
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
            for (table, balance) in &balances {
                if balance::source_of(table) != Some(source.name) {
                    continue;
                }
                let [requests, duplicates, lag, time] = std::mem::take(&mut about);
                let name = std::mem::take(&mut name).to_owned();
                rows.push([name, table.clone(), balance.arrived.to_string(), requests, duplicates, lag, time]);
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
        let World { expected, devo, .. } = &self.world;
        let differences = balance::differences(&balance::compare(expected, &devo.lines()));
        if differences.is_empty() {
            writeln!(out, "all {} events arrived, none twice", count(expected))?;
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

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}
