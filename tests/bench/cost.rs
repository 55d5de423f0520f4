//! What a run costs: CPU, memory, calls and bytes written, of each source's real program, by the number of new events.
//!
//! `cargo bench -p functions --bench cost` prints the table from which `docs/cost.md` is reckoned. Mimecast, Devo and AWS are the
//! stand-ins of the tests on the same machine, so wall time means little and is left out; CPU is the program's own.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/mod.rs"]
mod support;
mod usage;
#[path = "../end_to_end/world.rs"]
mod world;

use std::time::Duration;

use simulator::data;
use support::runtime::{Deadline, Outcome};
use usage::{Usage, usage};
use world::{Api, SOURCES, World, now};

/// New events of a source at a run: none, some, many.
const SIZES: [usize; 3] = [0, 1_000, 20_000];

#[tokio::main]
async fn main() {
    println!(
        "source             | run  | events | batches | CPU ms | peak MB | requests | AWS calls | kB to DynamoDB | kB from it | kB logged"
    );
    for source in SOURCES {
        for (number, size) in SIZES.into_iter().enumerate() {
            // A world for each, so that peak memory belongs to the one run.
            let mut world = World::new(Api::V2).await;
            world.set("METRICS_NAMESPACE", "Bench");
            cell(&mut world, source, "cold").await;
            if size > 0 {
                data::more(&world.mimecast, number as u64, now(), size);
                tokio::time::sleep(Duration::from_millis(1100)).await;
                cell(&mut world, source, "new").await;
            }
            tokio::time::sleep(Duration::from_millis(1100)).await;
            cell(&mut world, source, "idle").await;
        }
    }
}

/// One invocation, and its row of the table.
async fn cell(world: &mut World, source: &str, label: &str) {
    let before = world.pid(source).map_or(0, |pid| usage(pid).cpu_ms);
    let (calls, traffic, printed) = (world.aws.calls().len(), world.aws.traffic(), world.output().len());
    let outcome = world.invoke_with(source, "{}", Deadline::In(Duration::from_secs(300))).await;
    // The world notes the outcome beside what the program prints.
    let logged = world.output().len() - printed - format!("{outcome:?}\n").len();
    let Outcome::Answer(answer) = outcome else { panic!("{source}: {outcome:?}\n{}", world.output()) };
    assert_eq!(answer["status"], "caught_up", "{answer}");
    let Usage { cpu_ms, peak_mb } = usage(world.pid(source).unwrap());
    let (sent, received) = world.aws.traffic();
    println!(
        "{source:18} | {label:4} | {:6} | {:7} | {:6} | {peak_mb:7.1} | {:8} | {:9} | {:14.1} | {:10.1} | {:9.1}",
        answer["events"].as_u64().unwrap(),
        answer["batches"].as_u64().unwrap(),
        cpu_ms - before,
        answer["requests"].as_u64().unwrap(),
        world.aws.calls().len() - calls,
        (sent - traffic.0) as f64 / 1000.0,
        (received - traffic.1) as f64 / 1000.0,
        logged as f64 / 1000.0,
    );
}
