//! Deterministic simulation: the real run loop, store and clients against a simulated Mimecast, Devo and DynamoDB, in one
//! thread, on virtual time, with everything that can go wrong drawn from a seed.
//!
//! ```text
//! plan (what the seed holds) -> life (invocations, crashes, overlaps) -> collector::Collector, as it is
//!                                                                         |  requests
//! ledger (what has to hold)  <- world (the three servers) <- network (latency, faults, crashes)
//!   honesty, progress              upstream (what Mimecast does besides what its pages say)
//! ```
//!
//! Not in it: sockets, TLS and the ways into Devo other than HTTP, which end-to-end and kill tests cover, and the Lambda
//! runtime.

mod dynamo;
mod faults;
mod honesty;
mod ledger;
mod life;
mod log;
mod network;
mod plan;
mod progress;
mod trace;
mod upstream;
mod world;

use std::fmt;

/// What came of a seed.
#[derive(Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// What it was about, in a line.
    pub plan: String,
    /// What did not hold; empty where all did.
    pub violations: Vec<String>,
    /// The hash of all that happened.
    pub hash: u64,
    /// What happened, where it was asked for.
    pub trace: Vec<String>,
    /// How much of it there was.
    pub counts: Counts,
}

/// How much happened.
#[derive(Debug, Default, Clone, Copy)]
pub struct Counts {
    /// Runs of a source.
    pub runs: u64,
    /// Those that were dropped within, by a crash or at their deadline.
    pub crashes: u64,
    /// Those that failed.
    pub failures: u64,
    /// Those that ended because the lease was another's.
    pub busy: u64,
    /// Calls over the network.
    pub calls: u64,
    /// Those with a fault.
    pub faults: u64,
    /// Events that had to arrive.
    pub events: u64,
    /// Those that arrived again, as allowed after a crash or a lost answer.
    pub repeats: u64,
    /// Dead letters.
    pub dead: u64,
}

impl Counts {
    /// The sum.
    pub fn add(&mut self, other: &Self) {
        let Self { runs, crashes, failures, busy, calls, faults, events, repeats, dead } = other;
        self.runs += runs;
        self.crashes += crashes;
        self.failures += failures;
        self.busy += busy;
        self.calls += calls;
        self.faults += faults;
        self.events += events;
        self.repeats += repeats;
        self.dead += dead;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { runs, crashes, failures, busy, calls, faults, events, repeats, dead } = self;
        write!(
            f,
            "{runs} runs ({crashes} crashed, {failures} failed, {busy} busy), {calls} calls ({faults} with a fault), \
             {events} events, {repeats} repeats as allowed, {dead} dead letters"
        )
    }
}

/// Runs one seed; with `verbose` it keeps what happened.
pub fn run(seed: u64, verbose: bool) -> Outcome {
    // What the product and the SDK draw: jitter.
    fastrand::seed(seed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    match runtime {
        Ok(runtime) => runtime.block_on(life::live(seed, verbose)),
        Err(error) => Outcome {
            seed,
            plan: String::new(),
            violations: vec![format!("no runtime: {error}")],
            hash: 0,
            trace: Vec::new(),
            counts: Counts::default(),
        },
    }
}
