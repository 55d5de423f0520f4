//! What a run waits for, asks for and holds: time, requests and peak memory of the real programs, where every answer of
//! Mimecast comes late.
//!
//! `cargo bench -p functions --bench waiting` prints a table; `-- siem idle` only the cases whose names contain one of these.
//! With `WAITING_BASE=<folder of other programs, such as target/release of another clone>` each case is measured with those
//! first, so that before and after stand beside each other. All is simulated on this machine, on CPUs that the simulators use too:
//! wall time without latency means little elsewhere.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

mod load;
#[path = "../support/mod.rs"]
mod support;
mod usage;
#[path = "../end_to_end/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use load::{Files, Rhythm, Rows, Sum};
use simulator::data;
use simulator::devo::{Fault, Kind};
use support::runtime::{Deadline, Outcome};
use usage::{Usage, usage};
use world::{Api, World};

/// One run that is measured.
struct Case {
    name: &'static str,
    source: &'static str,
    work: Work,
    /// Of every answer of Mimecast, in milliseconds.
    latency: u64,
    /// Of every answer of Devo, in milliseconds.
    devo: u64,
    /// Calls in a second that Mimecast allows.
    quota: Option<u64>,
}

enum Work {
    Clicks(Rows),
    Files(Files),
    /// Nothing new, in a process that has run before.
    Idle,
    /// The same, where the rows that are read again in case that late ones have come among them are as many.
    Again(Rows),
}

/// A day without the margins of `Rows::lookback`: with them it is one.
const DAY: TimeDelta = TimeDelta::seconds(86_400 - 180);

fn cases() -> Vec<Case> {
    let case = |name, source, work, latency| Case { name, source, work, latency, devo: 0, quota: None };
    let clicks = |name, rows, span, rhythm, latency| {
        case(name, "url", Work::Clicks(Rows { source: "url", rows, span, rhythm }), latency)
    };
    let backlog = |name, latency| clicks(name, 100_000, DAY, Rhythm::Steady, latency);
    let files = |name, count, long, latency| case(name, "siem", Work::Files(Files { count, long }), latency);
    let busy = Rows { source: "url", rows: 10_417, span: TimeDelta::minutes(15), rhythm: Rhythm::Steady };
    vec![
        backlog("url, 100,000 rows, 200 ms", 200),
        // Four requests at once would be twenty a second.
        Case {
            quota: Some(10),
            ..clicks("url, 20,000 rows, 200 ms, quota 10 a second", 20_000, DAY, Rhythm::Steady, 200)
        },
        backlog("url, 100,000 rows, 0 ms", 0),
        Case { quota: Some(50), ..backlog("url, 100,000 rows, 0 ms, quota 50 a second", 0) },
        files("siem, 500,000 events, 200 ms", 50, 1, 200),
        Case { devo: 200, ..files("siem, 500,000 events, 200 ms, Devo 200 ms", 50, 1, 200) },
        files("siem, 500,000 events, 0 ms", 50, 1, 0),
        files("siem, 132 files with 1 GB, 0 ms", 132, 1, 0),
        files("siem, 1 file of 1 GB, 0 ms", 1, 132, 0),
        case("siem, idle, 200 ms", "siem", Work::Idle, 200),
        case("audit, idle, 200 ms", "audit", Work::Idle, 200),
        case("url, idle at 1,000,000 rows a day, 200 ms", "url", Work::Again(busy), 200),
        clicks("url, 10 rows a day", 10, DAY, Rhythm::Steady, 0),
        clicks("url, 1,000 rows a day", 1_000, DAY, Rhythm::Steady, 0),
        clicks("url, 100,000 rows a day, night and bursts", 100_000, DAY, Rhythm::Day, 0),
        clicks("url, 1,000,000 rows a day, for 150 min", 104_167, TimeDelta::minutes(150), Rhythm::Steady, 0),
        clicks("url, 10,000,000 rows a day, for 15 min", 104_167, TimeDelta::minutes(15), Rhythm::Steady, 0),
    ]
}

#[tokio::main]
async fn main() {
    let parts: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let base = std::env::var_os("WAITING_BASE");
    println!(
        "| case | programs | events | wall s | CPU s | peak MB | requests | of the least | in flight | over quota | AWS calls |"
    );
    println!("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---|");
    for case in cases() {
        if parts.is_empty() || parts.iter().any(|part| case.name.contains(part.as_str())) {
            if let Some(base) = &base {
                case.measure("base", Some(Path::new(base))).await;
            }
            case.measure("this tree", None).await;
        }
    }
}

impl Case {
    /// Measures the run in a world of its own, and prints its row of the table.
    async fn measure(&self, label: &str, programs: Option<&Path>) {
        let mut world = World::new(Api::V2).await;
        if let Some(folder) = programs {
            world.programs(folder);
        }
        let (expected, least) = self.prepare(&mut world).await;
        self.slow(&world);
        let before = world.pid(self.source).map_or(0, |pid| usage(pid).cpu_ms);
        let (calls, start) = (world.aws.calls().len(), Instant::now());
        self.run(&mut world).await;
        let wall = start.elapsed();
        let Usage { cpu_ms, peak_mb } = usage(world.pid(self.source).unwrap());
        let mut delivered = Sum::default();
        let lines = world.devo.take(|_| true);
        lines.values().flatten().for_each(|line| delivered.add(line.as_bytes(), 1));
        assert_eq!(delivered, expected, "{}: not what Mimecast has", self.name);
        let requests = world.mimecast.requests().iter().filter(|request| request.source != "oauth").count();
        println!(
            "| {} | {label} | {} | {:.1} | {:.2} | {peak_mb:.0} | {requests} | {:.2} | {} | {} | {} |",
            self.name,
            delivered.lines,
            wall.as_secs_f64(),
            (cpu_ms - before) as f64 / 1000.0,
            requests as f64 / least as f64,
            world.mimecast.most_in_flight(),
            world.mimecast.over_quota(),
            tally(&world.aws.calls()[calls..]),
        );
    }

    /// Puts the load into Mimecast, and runs what has to have run before: what must arrive, and the fewest requests for it.
    async fn prepare(&self, world: &mut World) -> (Sum, u64) {
        let (new, least) = match &self.work {
            Work::Clicks(clicks) | Work::Again(clicks) => {
                world.set("INITIAL_LOOKBACK", &format!("{}s", clicks.lookback().num_seconds()));
                (clicks.fill(&world.mimecast), clicks.least())
            }
            Work::Files(files) => (files.fill(&world.mimecast), files.least()),
            Work::Idle => {
                // Out of reach of what is read again.
                data::lively(&world.mimecast, 1, world.mimecast.now() - TimeDelta::hours(1), 1);
                (Sum::default(), if self.source == "siem" { 10 } else { 1 })
            }
        };
        if let Work::Clicks(_) | Work::Files(_) = self.work {
            return (new, least);
        }
        // Twice, as a reader may want to see for itself that nothing is new.
        for _ in 0..2 {
            self.run(world).await;
            tokio::time::sleep(Duration::from_millis(1100)).await;
        }
        world.devo.clear();
        world.mimecast.clear_requests();
        (Sum::default(), least)
    }

    fn slow(&self, world: &World) {
        let Case { latency, devo, quota, .. } = *self;
        world.mimecast.set_latency(Duration::from_millis(latency));
        world.mimecast.set_file_latency(Duration::from_millis(latency));
        if devo > 0 {
            world.devo.fault(Fault::new(Kind::Hang(Duration::from_millis(devo))).times(usize::MAX));
        }
        if let Some(calls) = quota {
            world.mimecast.set_quota("", calls, Duration::from_secs(1));
        }
    }

    async fn run(&self, world: &mut World) {
        let outcome = world.invoke_with(self.source, "{}", Deadline::In(Duration::from_secs(600))).await;
        let Outcome::Answer(answer) = outcome else { panic!("{}: {outcome:?}\n{}", self.name, world.output()) };
        assert_eq!(answer["status"], "caught_up", "{}: {answer}", self.name);
    }
}

/// How many calls, and of which operation how many.
fn tally(calls: &[String]) -> String {
    let mut counts = BTreeMap::<&str, usize>::new();
    calls.iter().for_each(|operation| *counts.entry(operation).or_default() += 1);
    let counts: Vec<String> = counts.iter().map(|(operation, count)| format!("{count} {operation}")).collect();
    format!("{}: {}", calls.len(), counts.join(", "))
}
