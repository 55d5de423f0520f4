//! How much CPU an event costs the real programs, and what the least would be: the limit is the same bytes inflated, split, hashed,
//! checked for UTF-8 and encrypted or packed, and nothing else; the floor besides, what no collector can leave out: that each event is
//! found to be JSON of some type, and written to a socket.
//!
//! `cargo bench -p functions --bench speed` prints a table; `-- siem` only the cases whose names contain it. With
//! `SPEED_BASE=<folder of other programs>` each case is measured with those too, and with `SPEED_PYTHON=<python>` `siem to tls` beside
//! a typical connector in Python, and devo-sdk where that Python has it. Simulators share the machine, and CPUs change their
//! pace: only what stands in one table may be compared, and each figure is the best of several.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

mod limit;
mod load;
#[path = "../../shared/devo/tests/support/mod.rs"]
mod receiver;
#[path = "../support/mod.rs"]
mod support;
mod usage;
#[path = "../end_to_end/world.rs"]
mod world;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::time::Duration;

use chrono::TimeDelta;
use limit::{Bound, Way};
use load::{Files, Rhythm, Rows, Sum};
use receiver::{Authority, How, Receiver, Tls};
use support::runtime::{Deadline, Outcome};
use usage::usage;
use world::{Api, World};

/// Measurements of a case, of which the best counts.
const ROUNDS: usize = 3;

struct Case {
    name: &'static str,
    source: &'static str,
    work: Work,
    way: Way,
}

enum Work {
    Files(Files),
    Rows(Rows),
}

fn cases() -> Vec<Case> {
    let files = || Work::Files(Files { count: 20, long: 1 });
    let rows = |source| Work::Rows(Rows { source, rows: 50_000, span: TimeDelta::hours(20), rhythm: Rhythm::Steady });
    vec![
        Case { name: "siem to tls", source: "siem", work: files(), way: Way::Tls },
        Case { name: "siem to https", source: "siem", work: files(), way: Way::Gzip },
        Case { name: "url to tls", source: "url", work: rows("url"), way: Way::Tls },
        Case { name: "audit to tls", source: "audit", work: rows("audit"), way: Way::Tls },
    ]
}

#[tokio::main]
async fn main() {
    let parts: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let base = std::env::var_os("SPEED_BASE");
    println!(
        "| case | programs | events | us of CPU an event | events a CPU-second | limit, us | share of it | floor, us | share of it | peak MB |"
    );
    println!("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|");
    for case in cases() {
        if !parts.is_empty() && !parts.iter().any(|part| case.name.contains(part.as_str())) {
            continue;
        }
        let labels = [("base", base.as_deref().map(Path::new)), ("this tree", None)];
        let labels = labels.into_iter().filter(|(label, folder)| *label != "base" || folder.is_some());
        let mut best: Vec<_> = labels.map(|(label, folder)| (label, folder, f64::MAX, 0.0, 0)).collect();
        let mut least = [f64::MAX; 2];
        for _ in 0..ROUNDS {
            // In turn, so that a slow minute is none of one's alone.
            for (_, folder, micros, peak, events) in &mut best {
                let (taken, memory, sum) = case.measure(*folder).await;
                *micros = micros.min(taken);
                *peak = memory;
                *events = sum.lines;
            }
            if let Work::Files(files) = &case.work {
                for (least, bound) in least.iter_mut().zip([Bound::Limit, Bound::Floor]) {
                    *least = least.min(limit::least(files.bytes(), case.way, bound));
                }
            }
        }
        for (label, _, micros, peak, events) in best {
            let shares = match &case.work {
                Work::Files(_) => least.map(|least| format!("{least:.2} | {:.2}", least / micros)).join(" | "),
                Work::Rows(_) => " | | | ".to_owned(),
            };
            println!(
                "| {} | {label} | {events} | {micros:.2} | {:.0} | {shares} | {peak:.0} |",
                case.name,
                1e6 / micros
            );
        }
        if let (Work::Files(files), Way::Tls, Some(python)) = (&case.work, case.way, std::env::var_os("SPEED_PYTHON")) {
            others(&python, files).await;
        }
    }
}

impl Case {
    /// The CPU of one run in microseconds an event, its peak memory, and what has arrived.
    async fn measure(&self, programs: Option<&Path>) -> (f64, f64, Sum) {
        let (mut world, receiver) = self.world(programs).await;
        // What a process does once, such as to have its memory mapped, is not what an event costs.
        let (before, expected) = match &self.work {
            Work::Files(files) => {
                files.fill(&world.mimecast);
                self.run(&mut world).await;
                tokio::time::sleep(Duration::from_millis(1100)).await;
                (usage(world.pid(self.source).unwrap()).cpu_ms, files.fill(&world.mimecast))
            }
            // Rows of the past are read by a first run only.
            Work::Rows(rows) => {
                let (mut empty, _receiver) = self.world(programs).await;
                self.run(&mut empty).await;
                world.set("INITIAL_LOOKBACK", &format!("{}s", rows.lookback().num_seconds()));
                (usage(empty.pid(self.source).unwrap()).cpu_ms, rows.fill(&world.mimecast))
            }
        };
        let earlier = receiver.as_ref().map_or(0, |receiver| receiver.ended().len());
        world.devo.take(|_| true);
        self.run(&mut world).await;
        let after = usage(world.pid(self.source).unwrap());
        let mut delivered = Sum::default();
        match &receiver {
            None => world.devo.take(|_| true).values().flatten().for_each(|line| delivered.add(line.as_bytes(), 1)),
            Some(receiver) => receiver.ended().iter().skip(earlier).for_each(|ended| add(&mut delivered, &ended.bytes)),
        }
        assert_eq!(delivered, expected, "{}: not what Mimecast has", self.name);
        ((after.cpu_ms - before) as f64 * 1e3 / delivered.lines as f64, after.peak_mb, delivered)
    }

    async fn world(&self, programs: Option<&Path>) -> (World, Option<Receiver>) {
        let mut world = World::new(Api::V2).await;
        if let Some(folder) = programs {
            world.programs(folder);
        }
        let authority = Authority::new();
        let receiver = match self.way {
            Way::Tls => Some(Receiver::tls(How::Orderly, &authority, Tls::V13).await),
            Way::Gzip => None,
        };
        if let Some(receiver) = &receiver {
            world.aws.set_secret("devo", &authority.secret());
            world.set("DEVO_URL", &receiver.url());
        }
        (world, receiver)
    }

    async fn run(&self, world: &mut World) {
        let outcome = world.invoke_with(self.source, "{}", Deadline::In(Duration::from_secs(600))).await;
        let Outcome::Answer(answer) = outcome else { panic!("{}: {outcome:?}\n{}", self.name, world.output()) };
        assert_eq!(answer["status"], "caught_up", "{}: {answer}", self.name);
    }
}

/// What others take for the same files to the same receiver, in microseconds of CPU an event.
async fn others(python: &OsStr, files: &Files) {
    for (way, name) in [("plain", "a connector in Python"), ("sdk", "the same with devo-sdk")] {
        let authority = Authority::new();
        let receiver = Receiver::tls(How::Orderly, &authority, Tls::V13).await;
        let folder = tempfile::tempdir().unwrap();
        let secret: HashMap<String, String> = serde_json::from_str(&authority.secret()).unwrap();
        for (name, text) in secret {
            fs::write(folder.path().join(name + ".pem"), text).unwrap();
        }
        for (number, file) in files.bytes().into_iter().enumerate() {
            fs::write(folder.path().join(format!("{number}.gz")), file).unwrap();
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/bench/connector.py");
        let mut command = tokio::process::Command::new(python);
        let ended = command.arg(script).arg(way).arg(receiver.url()).arg(folder.path()).output().await.unwrap();
        let printed = String::from_utf8(ended.stdout).unwrap();
        let Some((count, micros)) = printed.trim().split_once(' ').filter(|_| ended.status.success()) else {
            println!("| {name}: {} |", String::from_utf8_lossy(&ended.stderr).lines().last().unwrap_or_default());
            continue;
        };
        let lines: usize = receiver.ended().iter().map(|one| one.bytes.split(|byte| *byte == b'\n').count() - 1).sum();
        assert_eq!(lines.to_string(), count, "{name}: not all has arrived");
        let micros: f64 = micros.parse().unwrap();
        println!("| siem to tls | {name} | {count} | {micros:.2} | {:.0} | | | | | |", 1e6 / micros);
    }
}

/// Adds the events of a syslog stream.
fn add(sum: &mut Sum, stream: &[u8]) {
    for line in stream.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let event = line.iter().position(|byte| *byte == b'{').unwrap();
        sum.add(&line[event..], 1);
    }
}
