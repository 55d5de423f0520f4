//! Instructions and allocations of the real programs, counted by valgrind: a guard that neither the machine's speed nor what else it
//! does can move.
//!
//! `INSTRUCTIONS_PROGRAMS=$PWD/target/lambda cargo bench --profile dev --workspace --bench instructions` prints a table, and fails
//! where a figure is above its limit; `-- siem idle` only the rows whose names contain one of these. The limits are for what is released
//! for `x86_64`, which `.ci/release` leaves there; on another processor nothing fails. Another folder will do, `target/release` for one:
//! what lies there is made for older processors, and takes up to a tenth more. All that the programs talk to runs uncounted, so nothing
//! else has to be optimised. With `INSTRUCTIONS_KEEP=<folder>` the profiles stay there, for
//! `callgrind_annotate`.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

mod load;
#[path = "../../shared/devo/tests/support/mod.rs"]
mod receiver;
#[path = "../support/mod.rs"]
mod support;
#[path = "../end_to_end/world.rs"]
mod world;

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use chrono::TimeDelta;
use load::{Files, Rhythm, Rows};
use receiver::{Authority, How, Receiver, Tls};
use simulator::data;
use support::runtime::{Deadline, Outcome};
use world::{Api, World};

/// What a program does, the source it is of, its way to Devo, and the most that it may take: instructions and allocations, for an
/// event where there are many. Each limit is a tenth above the figure when it was set. Who makes something cheaper lowers it.
const ROWS: [(&str, &str, Way, Work, Counts); 8] = [
    ("audit, start and first invocation", "audit", Way::Https, Work::First, [26_800_000.0, 7_330.0]),
    ("siem, start and first invocation", "siem", Way::Https, Work::First, [27_900_000.0, 8_170.0]),
    ("audit, idle", "audit", Way::Https, Work::Idle, [1_670_000.0, 1_250.0]),
    ("siem, idle", "siem", Way::Https, Work::Idle, [4_130_000.0, 2_530.0]),
    ("siem, an event to TLS", "siem", Way::Tls, Work::Files(2), [12_400.0, 0.3]),
    ("siem, an event to HTTPS", "siem", Way::Https, Work::Files(2), [17_900.0, 0.2]),
    ("url, an event to TLS", "url", Way::Tls, Work::Rows(5_000), [50_000.0, 11.2]),
    ("audit, an event to TLS", "audit", Way::Tls, Work::Rows(5_000), [22_700.0, 1.7]),
];

/// Idle invocations that are averaged.
const IDLE: u32 = 5;

#[derive(Clone, Copy)]
enum Way {
    /// To the simulator, without TLS.
    Https,
    /// To a receiver with mutual TLS.
    Tls,
}

#[derive(Clone, Copy)]
enum Work {
    First,
    Idle,
    Rows(u64),
    Files(usize),
}

/// Instructions and allocations.
type Counts = [f64; 2];

#[tokio::main]
async fn main() -> ExitCode {
    let parts: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let mut exceeded = false;
    println!("| what | instructions | at most | allocations | at most |\n|---|---:|---:|---:|---:|");
    for (name, source, way, work, most) in ROWS {
        if parts.is_empty() || parts.iter().any(|part| name.contains(part.as_str())) {
            let counts = measure(source, way, work).await;
            println!("| {name} | {:.0} | {:.0} | {:.1} | {:.1} |", counts[0], most[0], counts[1], most[1]);
            exceeded |= counts[0] > most[0] || counts[1] > most[1];
        }
    }
    let fails = exceeded && cfg!(target_arch = "x86_64");
    if fails {
        println!("More than the limits in tests/bench/instructions.rs allow.");
    }
    ExitCode::from(u8::from(fails))
}

async fn measure(source: &str, way: Way, work: Work) -> Counts {
    // What stands before the figure in the same program's life is counted alone, and taken away.
    let (before, after, count) = match work {
        Work::First => return total(source, way, Work::Rows(0), 1).await.0,
        Work::Idle => (total(source, way, work, 2).await, total(source, way, work, 2 + IDLE).await, u64::from(IDLE)),
        Work::Rows(_) | Work::Files(_) => {
            let (after, events) = total(source, way, work, 1).await;
            (total(source, way, Work::Rows(0), 1).await, (after, events), events)
        }
    };
    [0, 1].map(|index| (after.0[index] - before.0[index]) / count as f64)
}

/// What a program takes from its start to the end of so many invocations, and how many events it is given.
async fn total(source: &str, way: Way, work: Work, invocations: u32) -> (Counts, u64) {
    let folder = tempfile::tempdir().unwrap();
    let profile = folder.path().join("profile");
    let mut world = World::new(Api::V2).await;
    world.programs(folder.path());
    wrap(&program(source), &folder.path().join(source), &profile);
    let receiver = match way {
        Way::Https => None,
        Way::Tls => {
            let authority = Authority::new();
            let receiver = Receiver::tls(How::Orderly, &authority, Tls::V13).await;
            world.set("DEVO_URL", &receiver.url()).aws.set_secret("devo", &authority.secret());
            Some(receiver)
        }
    };
    let events = fill(&mut world, source, work);
    for number in 0..invocations {
        if number > 0 {
            // Windows are whole seconds.
            tokio::time::sleep(Duration::from_millis(1100)).await;
        }
        let outcome = world.invoke_with(source, "{}", Deadline::In(Duration::from_secs(600))).await;
        let Outcome::Answer(answer) = outcome else { panic!("{source}: {outcome:?}\n{}", world.output()) };
        assert_eq!(answer["status"], "caught_up", "{answer}");
    }
    if let Work::Rows(_) | Work::Files(_) = work {
        let lines = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'\n').count();
        let arrived: usize = match receiver {
            Some(receiver) => receiver.ended().iter().map(|one| lines(&one.bytes)).sum(),
            None => world.devo.lines().values().map(Vec::len).sum(),
        };
        assert_eq!(arrived as u64, events, "{source}: not what Mimecast has");
    }
    end(world.pid(source).unwrap()).await;
    let profile = fs::read_to_string(&profile).unwrap();
    if let Some(folder) = std::env::var_os("INSTRUCTIONS_KEEP") {
        let way = if let Way::Tls = way { "tls" } else { "https" };
        fs::write(Path::new(&folder).join(format!("{source}-{way}-{events}-{invocations}")), &profile).unwrap();
    }
    (read(&profile), events)
}

/// Puts events into Mimecast: how many.
fn fill(world: &mut World, source: &str, work: Work) -> u64 {
    let day = TimeDelta::seconds(86_400 - 180);
    match work {
        Work::First | Work::Rows(0) => 0,
        Work::Idle => {
            // Out of reach of what is read again.
            data::lively(&world.mimecast, 1, world.mimecast.now() - TimeDelta::hours(1), 1);
            0
        }
        Work::Files(count) => Files { count, long: 1 }.fill(&world.mimecast).lines,
        Work::Rows(rows) if source == "url" => {
            Rows { source: "url", rows, span: day, rhythm: Rhythm::Steady }.fill(&world.mimecast).lines
        }
        Work::Rows(rows) => {
            let newest = world.mimecast.now() - TimeDelta::seconds(90);
            let added = data::add(&world.mimecast, source, 1, newest - TimeDelta::hours(20), newest, rows as usize);
            added.values().map(Vec::len).sum::<usize>() as u64
        }
    }
}

/// The program of a source.
fn program(source: &str) -> PathBuf {
    let folder =
        std::env::var_os("INSTRUCTIONS_PROGRAMS").expect("INSTRUCTIONS_PROGRAMS: a folder of release programs");
    let program = Path::new(&folder).join(source);
    fs::canonicalize(if program.is_dir() { program.join("bootstrap") } else { program }).unwrap()
}

/// How the C library copies and fills memory: by vectors. Callgrind counts each byte of a `rep movsb`, which a CPU does 32 or more at
/// once, so that a copy would weigh twenty times what it costs.
const TUNABLES: &str = "glibc.cpu.x86_rep_movsb_threshold=0x7fffffff:glibc.cpu.x86_rep_stosb_threshold=0x7fffffff";

/// A script at `wrapped` that runs `program` under valgrind and leaves its counts in `profile`.
fn wrap(program: &Path, wrapped: &Path, profile: &Path) {
    let (program, profile) = (program.display(), profile.display());
    let options = "--tool=callgrind --quiet";
    // A program has no PATH of ours.
    let path = std::env::var_os("PATH").unwrap();
    let script = format!(
        "#!/bin/sh\nGLIBC_TUNABLES={TUNABLES} PATH='{}' exec valgrind {options} --callgrind-out-file={profile} {program}\n",
        path.display()
    );
    fs::write(wrapped, script).unwrap();
    fs::set_permissions(wrapped, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Ends a process and waits until it is gone, so that its counts are written.
async fn end(pid: u32) {
    assert!(Command::new("kill").arg(pid.to_string()).status().unwrap().success());
    while Path::new(&format!("/proc/{pid}")).exists() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The counts of a profile: <https://valgrind.org/docs/manual/cl-format.html>. Functions have numbers, with the name at the first.
fn read(profile: &str) -> Counts {
    let mut instructions = 0.0;
    let mut allocations = 0.0;
    let (mut names, mut called) = (HashMap::new(), "");
    for line in profile.lines() {
        match line.split_once(['=', ':']) {
            Some(("totals", count)) => instructions = count.trim().parse().unwrap(),
            Some((kind @ ("fn" | "cfn"), function)) => {
                let (number, name) = function.split_once(' ').unwrap_or((function, ""));
                let name: &mut &str = names.entry(number).or_insert(name);
                if kind == "cfn" {
                    called = *name;
                }
            }
            Some(("calls", calls)) if ["malloc", "calloc", "realloc", "posix_memalign"].contains(&called) => {
                allocations += calls.split(' ').next().unwrap().parse::<f64>().unwrap();
            }
            _ => {}
        }
    }
    assert!(instructions > 0.0 && allocations > 0.0, "a profile without totals, or with an allocator of its own");
    [instructions, allocations]
}
