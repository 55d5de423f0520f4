//! `simulation`: runs seeds, says what did not hold, and how to see it again.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use clap::Parser;
use simulation::Counts;

/// Deterministic simulation of the collector: every seed is a world with its own data, faults and crashes.
#[derive(Parser)]
struct Options {
    /// How many seeds
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    seeds: u64,
    /// The first of them
    #[arg(long, value_name = "N", default_value_t = 0)]
    first: u64,
    /// This seed alone, with all that happens in it
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Every so many seeds one is run twice, to compare the two
    #[arg(long, value_name = "N", default_value_t = 20)]
    twice: u64,
    /// Ends after so many seeds that fail
    #[arg(long, value_name = "N", default_value_t = 10)]
    failures: usize,
}

fn main() -> ExitCode {
    let options = Options::parse();
    if let Some(seed) = options.seed {
        return replay(seed);
    }
    let (next, failed) = (AtomicU64::new(options.first), Mutex::new(Vec::new()));
    let (total, started) = (Mutex::new(Counts::default()), Instant::now());
    let end = options.first.saturating_add(options.seeds);
    let work = || {
        let enough = || failed.lock().is_ok_and(|failed| failed.len() >= options.failures);
        while let seed = next.fetch_add(1, Relaxed)
            && seed < end
            && !enough()
        {
            let mut outcome = simulation::run(seed, false);
            if options.twice > 0 && seed % options.twice == 0 && simulation::run(seed, false).hash != outcome.hash {
                outcome.violations.push("(e) the same seed went another way".into());
            }
            if let Ok(mut total) = total.lock() {
                total.add(&outcome.counts);
            }
            if let (false, Ok(mut failed)) = (outcome.violations.is_empty(), failed.lock()) {
                println!("seed {seed}: {}", outcome.plan);
                outcome.violations.iter().take(5).for_each(|text| println!("  {text:.300}"));
                println!("  again: cargo run --release -p simulation -- --seed {seed}");
                failed.push(seed);
            }
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..cores).for_each(|_| drop(scope.spawn(work))));
    let seconds = started.elapsed().as_secs_f64();
    let done = next.load(Relaxed).min(end) - options.first;
    println!("{done} seeds in {seconds:.0} s ({:.0} a second)", done as f64 / seconds);
    if let Ok(total) = total.into_inner() {
        println!("{total}");
    }
    let failed = failed.into_inner().unwrap_or_default();
    println!("{} failed", failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn replay(seed: u64) -> ExitCode {
    let outcome = simulation::run(seed, true);
    outcome.trace.iter().for_each(|line| println!("{line}"));
    println!("seed {seed}: {}\n{}", outcome.plan, outcome.counts);
    outcome.violations.iter().for_each(|text| println!("  {text}"));
    if outcome.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
