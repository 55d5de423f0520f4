//! Real kills: the real function programs, killed by SIGKILL at random instants of their runs, and every line accounted for.
//!
//! What Devo takes is put down under the commit that covers it, as the stand-in of AWS sees it take effect. What a killed run
//! sent after its last commit is put down as open: the checkpoint knows nothing of it, so it has to come again. In the end
//! what commits cover is exactly what Mimecast had, each event once: nothing is lost, and only open lines have come twice.
//! A run that is not killed leaves nothing open.
//!
//! `KILL_ROUNDS=500 cargo test -p functions --test kills -- --nocapture` kills for longer. `KILL_SEED`, printed at the start,
//! repeats the plan but not the instants: a kill comes when the clock says so, wherever the run is by then.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

#[path = "support/mod.rs"]
mod support;
#[path = "end_to_end/world.rs"]
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::TimeDelta;
use collector::source::Kind;
use collector::{Source, Store};
use fastrand::Rng;
use mimecast_devo::embedded::TABLE;
use simulator::data::{self, Expected, SUMMARY_TABLE};
use simulator::{Devo, devo, mimecast};
use support::aws::Fault;
use support::runtime::Outcome;
use tokio::time::{Instant, sleep, sleep_until};
use world::{Api, World, assert_same, now, together, without_collected_at};

/// Rounds of all sources with each API, unless `KILL_ROUNDS` says otherwise.
const ROUNDS: u64 = 16;
/// Kills within runs of several batches.
const LONG_ROUNDS: u64 = 6;
/// Lines of such a run.
const LONG_RUN: i64 = 40_000;
/// The most that a kill may repeat.
const MOST_LINES: usize = 10_000;
const MOST_BYTES: usize = 8_000_000;

/// A request of a killed run has taken effect by then, or never does.
const ON_ITS_WAY: Duration = Duration::from_millis(120);

/// When a run is killed.
enum Kill {
    /// So long after its invocation.
    After(Duration),
    /// So long after Devo has taken the first of its lines that no commit covers.
    Within(Duration),
}

/// What Devo has taken, by what the checkpoints know of it.
#[derive(Default)]
struct Books {
    /// Covered by commits.
    kept: Expected,
    /// Sent by killed runs after their last commit, by kill.
    open: Vec<Expected>,
    /// Sources whose last run was killed and is not in the books yet.
    killed: BTreeSet<&'static str>,
    kills: u64,
    /// Kills between Devo's acceptance and the commit, by kind.
    within: BTreeMap<&'static str, u64>,
    /// Commits of the hold summary that covered lines: polls.
    polls: usize,
    /// The most lines that one kill left open.
    most_open: usize,
}

impl Books {
    /// Lines that a commit covers.
    fn keep(&mut self, lines: Expected) {
        self.polls += usize::from(lines.contains_key(SUMMARY_TABLE));
        check_poll(&lines);
        for (table, lines) in lines {
            self.kept.entry(table).or_default().extend(lines);
        }
    }

    /// Lines of the source's last run that no commit covers.
    fn leave_open(&mut self, source: &Source, lines: Expected) {
        let killed = self.killed.remove(source.name);
        if lines.is_empty() {
            return;
        }
        assert!(killed, "{} was not killed, and no commit covers {lines:#?}", source.name);
        let (count, bytes) =
            (lines.values().flatten().count(), lines.values().flatten().map(|line| line.len() + 1).sum());
        assert!(count <= MOST_LINES && MOST_BYTES >= bytes, "{}: {count} lines, {bytes} bytes open", source.name);
        self.most_open = self.most_open.max(count);
        *self.within.entry(kind(source)).or_default() += 1;
        check_poll(&lines);
        self.open.push(lines);
    }
}

/// What a run sends of the hold summary is one poll, each row once.
fn check_poll(lines: &Expected) {
    let poll = lines.get(SUMMARY_TABLE).map(Vec::as_slice).unwrap_or_default();
    assert_eq!(poll.iter().collect::<BTreeSet<_>>().len(), poll.len(), "a row came twice: {poll:#?}");
}

fn kind(source: &Source) -> &'static str {
    match source.kind {
        Kind::Window(_) => "window",
        Kind::Stream(_) => "stream",
        Kind::Snapshot(_) => "snapshot",
    }
}

/// The lines of a source that Devo has taken since this was asked last.
fn taken(devo: &Devo, source: &Source) -> Expected {
    devo.take(|table| table.strip_prefix(source.table).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
}

fn source(name: &str) -> &'static Source {
    functions::ALL.into_iter().find(|source| source.name == name).unwrap()
}

/// A world whose commits are entered in the books.
async fn observed(api: Api) -> (World, Arc<Mutex<Books>>) {
    let world = World::new(api).await;
    let books = Arc::new(Mutex::new(Books::default()));
    let (of_commits, devo) = (books.clone(), world.devo.clone());
    world.aws.watch(move |request| {
        // The holder of a lease shows its fencing token.
        if request.contains(r#"":epoch""#) {
            let source =
                functions::ALL.into_iter().find(|source| request.contains(&format!(r#""default#{}""#, source.name)));
            let source = source.unwrap();
            of_commits.lock().unwrap().keep(taken(&devo, source));
        }
    });
    (world, books)
}

/// One run of a source, killed as planned where it has not ended by then.
async fn run(world: &mut World, books: &Mutex<Books>, name: &str, kill: Option<Kill>) -> Outcome {
    let source = source(name);
    // Now, and not at the kill: what was on its way then has arrived since.
    books.lock().unwrap().leave_open(source, taken(&world.devo, source));
    // What killed runs of other sources have left there, which is entered when they have their turn.
    let (devo, others) = (world.devo.clone(), world.devo.count());
    let outcome = match kill {
        None => world.invoke(name).await,
        Some(Kill::After(time)) => world.invoke_until(name, sleep(time)).await,
        Some(Kill::Within(time)) => {
            let instant = async {
                while devo.count() <= others {
                    sleep(Duration::from_millis(1)).await;
                }
                sleep(time).await;
            };
            world.invoke_until(name, instant).await
        }
    };
    match &outcome {
        Outcome::Answer(answer) => assert_eq!(answer["status"], "caught_up", "{name}: {answer}"),
        Outcome::Failed { .. } => panic!("{name}: {outcome:?}\n{}", world.output()),
        Outcome::Died { .. } => {
            let mut books = books.lock().unwrap();
            books.kills += 1;
            books.killed.insert(source.name);
        }
    }
    if matches!(outcome, Outcome::Died { .. }) {
        sleep(ON_ITS_WAY).await;
    }
    // The lease of a killed run goes by the clock and nothing else: ended here, the next run is the one that would come
    // once its time is over. Its fencing token stays as it is.
    Store::new(world.store.client(), TABLE).release("default", name).await.unwrap();
    outcome
}

/// Makes some steps of the next run slow, so that kills meet each of them.
fn slow(world: &World, random: &mut Rng) {
    let mut time = || Duration::from_millis(random.u64(1..60));
    world.mimecast.clear_faults();
    world.devo.clear_faults();
    world.aws.clear_faults();
    world
        .mimecast
        .fault(mimecast::Fault::new("", mimecast::FaultKind::Hang(time())).skip(time().as_millis() as usize % 8));
    world.devo.fault(devo::Fault::new(devo::Kind::Hang(time())).skip(time().as_millis() as usize % 4));
    // The commit more than others: before it lies what a kill repeats.
    let late = time() + Duration::from_millis(20);
    // A killed run's request mostly ends with it, and sometimes arrives all the same.
    let late = if random.u8(..4) == 0 { Fault::Overdue(late) } else { Fault::Late(late) };
    world.aws.fault("UpdateItem", late, 2);
    world.aws.fault("TransactWriteItems", late, 2);
}

fn plan(random: &mut Rng) -> Option<Kill> {
    // As many within the first milliseconds as within the last hundreds.
    let spread = Duration::from_secs_f64(0.001 * 400_f64.powf(random.f64()));
    match random.u8(..8) {
        0 | 1 => None,
        2..5 => Some(Kill::After(spread)),
        _ => Some(Kill::Within(Duration::from_millis(random.u64(..40)))),
    }
}

/// Files and rows enough for runs of several batches, in one source of each kind that can have them.
fn fill_long(world: &World) -> Expected {
    let line = |n: i64| format!(r#"{{"n":{n},"type":"receipt"}}"#);
    let lines: Vec<String> = (0..LONG_RUN).map(line).collect();
    for (n, line) in lines.iter().enumerate() {
        // Before all that later runs read again.
        world.mimecast.push("view", now() - TimeDelta::hours(4) - TimeDelta::seconds(n as i64), line);
    }
    for file in lines.chunks(7_000) {
        let file = file.iter().map(|line| line.clone().into_bytes()).collect();
        world.mimecast.push_siem_at("receipt", now() - TimeDelta::hours(4), file);
    }
    let tables = ["mail.mimecast.archive.messageview", "mail.mimecast.siem.receipt"];
    tables.map(|table| (table.to_owned(), lines.clone())).into()
}

#[allow(clippy::disallowed_methods)]
fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|number| number.parse().unwrap())
}

async fn kills_lose_and_repeat_nothing_more(api: Api) {
    let seed = variable("KILL_SEED").unwrap_or_else(|| fastrand::u64(..));
    let rounds = variable("KILL_ROUNDS").unwrap_or(ROUNDS);
    println!("{api:?}: KILL_SEED={seed} KILL_ROUNDS={rounds}");
    let mut random = Rng::with_seed(seed);
    let (mut world, books) = observed(api).await;
    let mut expected = vec![fill_long(&world), data::lively(&world.mimecast, 1, now(), 1)];
    let summary = expected[1].remove(SUMMARY_TABLE).unwrap();
    for round in 0..LONG_ROUNDS {
        for name in ["view", "siem"] {
            slow(&world, &mut random);
            // Within the first batch, or later, however fast this machine is.
            let longest = if round % 2 == 0 { 4.0 } else { 150.0 };
            let time = Duration::from_secs_f64(0.01 * f64::powf(longest, random.f64()));
            run(&mut world, &books, name, Some(Kill::Within(time))).await;
        }
    }
    world.stop_all();
    // Small pages, thus many steps in a run.
    world.set("PAGE_SIZE", "25");
    let mut sources = world.sources();
    expected.push(world.fill_on_request(1, TimeDelta::hours(20), 40));
    for round in 0..rounds {
        let started = Instant::now();
        expected.push(data::more(&world.mimecast, 2 + round, now(), 4));
        expected.push(world.fill_on_request(2 + round, TimeDelta::minutes(5), 4));
        random.shuffle(&mut sources);
        for name in &sources {
            slow(&world, &mut random);
            run(&mut world, &books, name, plan(&mut random)).await;
        }
        // Windows end on whole seconds: a second run within the first one's second has nothing to read.
        sleep_until(started + Duration::from_millis(1100)).await;
    }
    // Twice: a run that only ends what another began may leave the rest to the next.
    for _ in 0..2 {
        for name in &sources {
            let outcome = run(&mut world, &books, name, None).await;
            assert!(matches!(outcome, Outcome::Answer(_)), "{name}: {outcome:?}");
        }
        sleep(Duration::from_millis(1100)).await;
    }
    assert_eq!(world.devo.count(), 0, "no commit covers {:#?}", world.devo.lines());
    for name in &sources {
        assert_eq!(world.dead_letters(name).await, [], "{name}");
    }
    let books = std::mem::take(&mut *books.lock().unwrap());
    balance(&books, expected, &summary);

    let (events, repeats) =
        (books.kept.values().flatten().count(), books.open.iter().flat_map(Expected::values).flatten().count());
    println!(
        "{api:?}: {rounds} rounds, {} kills that struck, of them within acceptance and commit {:?}, {events} events, \
         {repeats} repeats, at most {} by one kill, 0 lost",
        books.kills, books.within, books.most_open
    );
    // Enough of them met what they are for.
    assert!(books.kills >= 3 * rounds + LONG_ROUNDS, "{} kills", books.kills);
    assert_eq!(books.within.len(), 3, "of each kind: {:?}", books.within);
    assert!(books.within.values().sum::<u64>() >= rounds, "{:?}", books.within);
    assert!(books.most_open > 1_000, "no kill met a large batch");
}

/// What commits cover is what Mimecast had, once; what a kill left open is of it too, and no event twice.
fn balance(books: &Books, expected: Vec<Expected>, summary: &[String]) {
    let polls = (0..books.polls).flat_map(|_| summary.iter().cloned()).collect();
    let expected = together(expected.into_iter().chain([[(SUMMARY_TABLE.to_owned(), polls)].into()]));
    assert_same(&books.kept, &expected);
    for (table, lines) in books.open.iter().flatten() {
        let mut left: BTreeMap<&str, usize> = BTreeMap::new();
        expected[table].iter().for_each(|line| *left.entry(line).or_default() += 1);
        for line in lines {
            let event = if table == SUMMARY_TABLE { without_collected_at(line) } else { line.clone() };
            let left = left.get_mut(&*event).unwrap_or_else(|| panic!("{table}: of nowhere: {line}"));
            *left = left.checked_sub(1).unwrap_or_else(|| panic!("{table}: too often in one run: {line}"));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_by_api_1() {
    kills_lose_and_repeat_nothing_more(Api::V1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_by_api_2() {
    kills_lose_and_repeat_nothing_more(Api::V2).await;
}
