//! A world's course: runs of each source while things go wrong, then calm, and what has to have become of it.

use std::sync::{Arc, Mutex};

use chrono::TimeDelta;
use collector::source::{Kind, Source};
use collector::{Collector, ErrorType, Secrets, Settings, Status, Store};
use mimecast::Clock;
use mimecast_devo::embedded::TABLE;
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::{Duration, Instant, sleep, sleep_until};

use crate::log::Log;
use crate::network::{Run, Wire};
use crate::world::{World, lock};
use crate::{Counts, Outcome, dynamo};

/// What a run in calm weather is given.
const CALM_DEADLINE: Duration = Duration::from_secs(300);
/// From one of them to the next.
const CALM_PERIOD: Duration = Duration::from_secs(600);
/// In how many of them late rows come, in a world of late rows.
const LATE: u64 = 3;

/// Lives a seed through.
pub async fn live(seed: u64, verbose: bool) -> Outcome {
    let world = match World::new(seed, verbose) {
        Ok(world) => Arc::new(world),
        Err(error) => {
            let violations = vec![format!("no world: {error}")];
            let (plan, counts) = (String::new(), Counts::default());
            return Outcome { seed, plan, violations, hash: 0, trace: Vec::new(), counts };
        }
    };
    let _listening = tracing::subscriber::set_default(Log(world.clone()));
    let sources = world.plan.sources.iter();
    let lives: Vec<_> = sources.map(|source| tokio::spawn(rough(world.clone(), source))).collect();
    for life in lives {
        joined(&world, life.await);
    }
    world.calm_down();
    let sources = world.plan.sources.iter();
    let lives: Vec<_> = sources.map(|source| tokio::spawn(calm(world.clone(), source))).collect();
    for life in lives {
        joined(&world, life.await);
    }
    let (ledger, hash, trace) = world.end();
    Outcome { seed, plan: world.plan.shown(), violations: ledger.violations, hash, trace, counts: ledger.counts }
}

fn joined(world: &World, ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        world.ledger().violate(format!("panicked: {error}"));
    }
}

/// Runs of one source while things go wrong, now and then two beside each other.
async fn rough(world: Arc<World>, source: &'static Source) {
    let mut machines = [None, None];
    for tick in 0..world.plan.ticks {
        let (pause, rotate, beside, later) = {
            let mut rng = world.rng();
            let beside = rng.f64() < world.plan.beside;
            let later = Duration::from_millis(rng.u64(0..20_000));
            (Duration::from_secs(rng.u64(0..900)), rng.u8(..4) == 0, beside, later)
        };
        sleep(pause).await;
        if rotate && world.plan.rotations && world.rotate().is_err() {
            world.ledger().violate("the secrets cannot be written".into());
        }
        world.kill_tokens(source);
        world.produce(source);
        let during = {
            let world = world.clone();
            tokio::spawn(async move {
                sleep(later / 4).await;
                world.produce(source);
                if world.plan.upstream.late {
                    world.produce_late(source);
                }
            })
        };
        let [one, other] = &mut machines;
        let second = async {
            if beside {
                sleep(later).await;
                other.get_or_insert_with(|| Machine::start(&world, source, &format!("{tick}b"))).turn(source).await
            } else {
                true
            }
        };
        let first = one.get_or_insert_with(|| Machine::start(&world, source, &format!("{tick}a"))).turn(source);
        let (first, second) = tokio::join!(biased; first, second);
        for (alive, machine) in [first, second].into_iter().zip(&mut machines) {
            if !alive || world.rng().f64() < world.plan.cold {
                *machine = None;
            }
        }
        joined(&world, during.await);
    }
}

/// Runs of one source when nothing goes wrong any more: it has to catch up soon, and then to have nothing more to do; and once
/// more when all that a run may pass over is due.
async fn calm(world: Arc<World>, source: &'static Source) {
    let mut machine = Machine::start(&world, source, "calm");
    // A lease of a machine that is gone, by a clock that was ahead of ours; and some for the work.
    let wait = Duration::from_secs(330 + 2 * world.plan.skew.num_seconds().unsigned_abs());
    let late = if world.plan.upstream.late { LATE } else { 0 };
    // Each may find late rows: what is behind is read again piece by piece, as it comes to be OVERLAP old.
    let overlap = match &source.kind {
        Kind::Window(window) => world.plan.overlap.unwrap_or(window.overlap).num_seconds().unsigned_abs(),
        Kind::Stream(_) | Kind::Snapshot(_) => 0,
    };
    let most = 4 + (wait.as_secs() + overlap).div_ceil(CALM_PERIOD.as_secs());
    catch_up(&mut machine, source, most, late).await;
    sleep((world.settled(source) - world.now()).to_std().unwrap_or_default()).await;
    catch_up(&mut machine, source, 4, 0).await;
}

/// At most `most` runs after the first `late`, in each of which a late row comes.
async fn catch_up(machine: &mut Machine, source: &'static Source, most: u64, late: u64) {
    let world = machine.world.clone();
    for run in 0..most + late {
        sleep(CALM_PERIOD).await;
        let row = async {
            if run < late {
                let soon = Duration::from_millis(world.rng().u64(0..200));
                sleep(soon).await;
                world.produce_late(source);
            }
        };
        let (answer, ()) = tokio::join!(biased; machine.answer(source, CALM_DEADLINE), row);
        if let Some((Status::CaughtUp, events)) = answer
            && (events == 0 || source.name == "messageholdsummary")
            && run >= late
        {
            return;
        }
    }
    world.ledger().violate(format!("(c) {} has not caught up after {} calm runs", source.name, most + late));
}

/// A process on a machine: a collector with a network and a clock of its own.
struct Machine {
    world: Arc<World>,
    wire: Wire,
    collector: Option<Collector>,
    name: String,
    runs: u32,
}

impl Machine {
    fn start(world: &Arc<World>, source: &'static Source, name: &str) -> Self {
        let (run, crashed) = (Arc::new(Mutex::new(Run::default())), Arc::new(Notify::new()));
        let wire = Wire { world: world.clone(), source, run, crashed };
        let widest = world.plan.skew.num_milliseconds();
        let skew = TimeDelta::milliseconds(world.rng().i64(-widest..=widest));
        let collector = settings(world).map(|settings| {
            let store = Store::new(dynamo::client(wire.clone()), TABLE);
            let collector = Collector::new(settings, store, Secrets::new(None), Clock::starting_at(world.now() + skew));
            collector.over(Arc::new(wire.clone()), Arc::new(wire.clone()))
        });
        let name = format!("{}/{name}", source.name);
        world.note(&format!("{name} starts with a clock wrong by {} ms", skew.num_milliseconds()));
        if let Err(error) = &collector {
            world.ledger().violate(format!("no settings: {error}"));
        }
        Self { world: world.clone(), wire, collector: collector.ok(), name, runs: 0 }
    }

    /// One run in rough weather; whether the machine has survived it.
    async fn turn(&mut self, source: &'static Source) -> bool {
        let (crash, deadline) = {
            let (plan, mut rng) = (&self.world.plan, self.world.rng());
            let reach = *crate::plan::pick(&mut rng, &[4, 10, 40]);
            let crash = (rng.f64() < plan.crash).then(|| (rng.u32(1..=reach), rng.bool()));
            (crash, Duration::from_secs(rng.u64(plan.deadline.clone())))
        };
        self.run(source, deadline, crash).await.is_some()
    }

    /// The status of a calm run, where it has one, and how many events it delivered.
    async fn answer(&mut self, source: &'static Source, deadline: Duration) -> Option<(Status, u64)> {
        let outcome = self.run(source, deadline, None).await;
        if outcome.is_none() {
            self.world.ledger().violate(format!("(c) {}: a calm run went past its deadline", source.name));
        }
        outcome?
    }

    /// One run, dropped at its crash or deadline, which gives `None`.
    async fn run(
        &mut self,
        source: &'static Source,
        deadline: Duration,
        crash: Option<(u32, bool)>,
    ) -> Option<Option<(Status, u64)>> {
        let collector = self.collector.as_ref()?;
        let world = &self.world;
        self.runs += 1;
        let name = format!("{}.{}", self.name, self.runs);
        world.note(&format!("{name} runs for {} s", deadline.as_secs()));
        world.ledger().counts.runs += 1;
        *lock(&self.wire.run) = Run { name: name.clone(), crash, ..Run::default() };
        let (started, began) = (Instant::now(), world.now());
        let until = started + deadline;
        let event = json!({});
        let ended = tokio::select! {
            biased;
            ended = collector.invoke(source, &event, Some(until)) => Some(ended),
            () = self.wire.crashed.notified() => None,
            () = sleep_until(until) => {
                world.note(&format!("{name} is killed at its deadline"));
                None
            }
        };
        let run = std::mem::take(&mut *lock(&self.wire.run));
        if let Some(Ok(answer)) = &ended {
            world.check_progress(&run, answer.status, started.elapsed(), deadline);
            world.check_honesty(source, &run, answer.status, began);
        }
        let uncommitted = run.uncommitted;
        let mut ledger = world.ledger();
        if !matches!(&ended, Some(Ok(answer)) if answer.status == Status::More) {
            ledger.shown_for(source.name);
        }
        let outcome = match ended {
            None => {
                ledger.counts.crashes += 1;
                ledger.allow(&uncommitted);
                drop(ledger);
                return None;
            }
            Some(Ok(answer)) => {
                ledger.counts.busy += u64::from(answer.status == Status::Busy);
                drop(ledger);
                world.note(&format!("{name} {} {}", answer.status.as_str(), answer.events));
                Some((answer.status, answer.events))
            }
            Some(Err((error, _))) => {
                ledger.counts.failures += 1;
                let kind = error.error_type();
                if kind == ErrorType::Checkpoint {
                    ledger.allow(&uncommitted);
                }
                drop(ledger);
                world.note(&format!("{name} fails: {kind}: {error}"));
                if kind == ErrorType::Checkpoint {
                    return Some(None);
                }
                None
            }
        };
        if !uncommitted.is_empty() {
            let text = format!("(b) {name} ended in order and left {} accepted lines unrecorded", uncommitted.len());
            world.ledger().violate(text);
        }
        Some(outcome)
    }
}

fn settings(world: &World) -> Result<Settings, collector::Error> {
    let plan = &world.plan;
    let secret = |name: &str| Some(format!("file:{}", world.secrets().join(name).display()));
    Settings::from_lookup(|name| match name {
        "MIMECAST_SECRET_ID" => secret("mimecast"),
        "DEVO_SECRET_ID" => secret("devo"),
        "CHECKPOINT_TABLE" => Some(TABLE.to_owned()),
        "PAGE_SIZE" => plan.page_size.map(|size| size.to_string()),
        "OVERLAP" => plan.overlap.map(|overlap| format!("{}s", overlap.num_seconds())),
        "THREATFEED_FORMAT" => plan.stix.then(|| "stix".to_owned()),
        _ => None,
    })
}
