//! The slice of the seeds that every test run goes through: the same seeds each time, so that a failure is the change's.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A minute or two in a debug build on two cores.
const SEEDS: u64 = 400;
/// One in so many is run twice.
const TWICE: u64 = 10;

#[test]
fn every_promise_holds_for_every_seed() {
    let next = AtomicU64::new(0);
    let work = || {
        let mut failed = Vec::new();
        while let seed = next.fetch_add(1, Relaxed)
            && seed < SEEDS
        {
            let outcome = simulation::run(seed, false);
            if !outcome.violations.is_empty() {
                failed.push(format!("seed {seed}: {}\n  {}", outcome.plan, outcome.violations.join("\n  ")));
            }
            if seed % TWICE == 0 && simulation::run(seed, false).hash != outcome.hash {
                failed.push(format!("seed {seed}: (e) the same seed went another way"));
            }
        }
        failed
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let failed: Vec<String> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    assert!(
        failed.is_empty(),
        "{} of {SEEDS} seeds failed; `cargo run --release -p simulation -- --seed N` shows one\n{}",
        failed.len(),
        failed.join("\n")
    );
}
