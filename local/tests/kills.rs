//! Real kills of `collect`: SIGKILL at random instants of many lives on one state file, and every line accounted for.
//!
//! A run whose end the log tells has committed: what it sent must not come again. What else a life has sent may have been
//! committed or not; it may come once more. No life sends an event twice, and in the end each is there.
//!
//! `KILL_ROUNDS=200 cargo test -p mimecast-devo --test kills -- --nocapture` kills for longer. `KILL_SEED`, printed at the
//! start, repeats the plan but not the instants: a kill comes when the clock says so, wherever the runs are by then.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]
#![cfg(unix)]

#[path = "collect/world.rs"]
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use collector::Source;
use fastrand::Rng;
use simulator::data::{self, Expected, SUMMARY_TABLE};
use simulator::{Devo, devo};
use tokio::time::{sleep, timeout};
use world::{SOURCES, World, add};

/// Lives that end by a kill, unless `KILL_ROUNDS` says otherwise.
const ROUNDS: u64 = 24;
/// Longest that Devo keeps a request waiting.
const LATE: Duration = Duration::from_millis(80);

/// Table and line, with how often each came.
type Lines = BTreeMap<(String, String), usize>;

/// What Devo has taken, by what is known of it.
#[derive(Default)]
struct Books {
    /// The rows of the hold summary, of which each poll is an event.
    rows: BTreeSet<String>,
    /// Of runs that have told of their end.
    kept: Lines,
    /// Of runs that were killed, before their commit or after it.
    open: Lines,
    /// Kills that left lines open, by source.
    within: BTreeMap<&'static str, u64>,
}

impl Books {
    /// The end of a life.
    fn enter(&mut self, devo: &Devo, log: &str, expected: &Expected) {
        let sent = in_order(devo);
        let mut known = counted(expected);
        let mut count = 0;
        for source in functions::ALL {
            let own = |table: &str| {
                table.strip_prefix(source.table).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            };
            let lines: Vec<_> = sent.iter().filter(|(table, _)| own(table)).collect();
            count += lines.len();
            let ended = told(log, source);
            assert!(ended <= lines.len(), "{}: {ended} told, {} arrived\n{log}", source.name, lines.len());
            if ended < lines.len() {
                *self.within.entry(source.name).or_default() += 1;
            }
            if source.table == SUMMARY_TABLE {
                self.check_polls(&lines);
                continue;
            }
            for (number, line) in lines.into_iter().enumerate() {
                let left = known.get_mut(line).unwrap_or_else(|| panic!("of nowhere: {line:?}"));
                *left = left.checked_sub(1).unwrap_or_else(|| panic!("too often in one life: {line:?}"));
                let part = if number < ended { &mut self.kept } else { &mut self.open };
                *part.entry(line.clone()).or_default() += 1;
            }
        }
        assert_eq!(count, sent.len(), "lines of no source");
    }

    /// Each poll is there whole, with one time in all of its rows.
    fn check_polls(&self, lines: &[&(String, String)]) {
        for poll in lines.chunks(self.rows.len()) {
            let stamped = poll.iter().map(|(_, line)| line.rsplit_once(r#","collectedAt":""#).unwrap());
            let (rows, times): (BTreeSet<_>, BTreeSet<_>) =
                stamped.map(|(row, time)| (format!("{row}}}"), time)).unzip();
            assert_eq!((&rows, times.len()), (&self.rows, 1), "{poll:#?}");
        }
    }

    /// Nothing is lost, and only what was open has come again: how many lines have.
    fn balance(&self, expected: &Expected) -> usize {
        let mut repeats = 0;
        for (event, wanted) in counted(expected) {
            let [kept, open] = [&self.kept, &self.open].map(|lines| lines.get(&event).copied().unwrap_or_default());
            assert!(kept + open >= wanted, "lost: {} of {wanted} arrived: {event:?}", kept + open);
            assert!(kept <= wanted, "repeated: {kept} of {wanted} by runs that had ended: {event:?}");
            repeats += kept + open - wanted;
        }
        repeats
    }
}

fn counted(lines: &Expected) -> Lines {
    let mut counted = Lines::new();
    for (table, line) in lines.iter().flat_map(|(table, lines)| lines.iter().map(move |line| (table, line))) {
        *counted.entry((table.clone(), line.clone())).or_default() += 1;
    }
    counted
}

/// All that Devo has taken, in the order of its answers.
fn in_order(devo: &Devo) -> Vec<(String, String)> {
    let mut lines: BTreeMap<_, _> = devo.lines().into_iter().map(|(table, lines)| (table, lines.into_iter())).collect();
    let mut all = Vec::new();
    for request in devo.requests() {
        assert_eq!(request.status, 200);
        let table = lines.get_mut(&request.table).unwrap();
        all.extend(table.take(request.lines).map(|line| (request.table.clone(), line)));
    }
    all
}

/// How many events the runs of a source that have ended tell of.
fn told(log: &str, source: &Source) -> usize {
    let end = format!(" {}: caught up, ", source.name);
    let ends = log.split(&end).skip(1);
    ends.map(|rest| rest.split(' ').next().unwrap().parse::<usize>().unwrap()).sum()
}

#[allow(clippy::disallowed_methods)]
fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|number| number.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_lives_lose_and_repeat_nothing_more() {
    let seed = variable("KILL_SEED").unwrap_or_else(|| fastrand::u64(..));
    let rounds = variable("KILL_ROUNDS").unwrap_or(ROUNDS);
    println!("KILL_SEED={seed} KILL_ROUNDS={rounds}");
    let mut random = Rng::with_seed(seed);
    let mut world = World::new().await;
    // Not so small that a source counts as busy: of such a one late rows come only when they are OVERLAP old.
    world.set("PAGE_SIZE", "50");
    let mut expected = data::lively(&world.mimecast, 1, world.mimecast.now(), 1);
    let rows = expected.remove(SUMMARY_TABLE).unwrap().into_iter().collect();
    let mut books = Books { rows, ..Books::default() };
    let mut sources = SOURCES;
    for round in 0..rounds {
        add(&mut expected, data::more(&world.mimecast, 2 + round, world.mimecast.now(), 8));
        let late = Duration::from_millis(random.u64(..LATE.as_millis() as u64));
        world.devo.fault(devo::Fault::new(devo::Kind::Hang(late)).skip(random.usize(..12)));
        // Some in each life, as they start some time apart and always in the same order.
        random.shuffle(&mut sources);
        world.set("SOURCES", &sources[..random.usize(1..=4)].join(","));
        let mut running = world.start();
        // At a random instant, or just after Devo has taken some lines.
        let time = Duration::from_secs_f64(0.01 * 300_f64.powf(random.f64()));
        let lines = random.usize(1..60);
        if random.u8(..3) == 0 {
            sleep(time).await;
        } else {
            let taken = async {
                while world.devo.count() < lines {
                    sleep(Duration::from_millis(1)).await;
                }
            };
            // Where there are fewer, the life ends between runs.
            timeout(Duration::from_secs(3), taken).await.ok();
        }
        running.signal("KILL");
        assert_eq!(running.ended().await.code(), None, "{}", running.log());
        // What was on its way arrives now.
        sleep(LATE + Duration::from_millis(100)).await;
        books.enter(&world.devo, &running.log(), &expected);
        world.devo.clear();
    }
    world.set("SOURCES", &SOURCES.join(","));
    let mut running = world.start();
    // Twice: where a first run only ends what another life began.
    let ended = |log: &str, source: &str| log.matches(&format!(" {source}: caught up, ")).count() >= 2;
    running
        .until("two runs of each source", |running| SOURCES.iter().all(|source| ended(&running.log(), source)))
        .await;
    running.stop().await;
    let log = running.log();
    assert!(!log.contains("ERROR") && !log.contains("rejected"), "{log}");
    books.enter(&world.devo, &log, &expected);
    let repeats = books.balance(&expected);

    let events: usize = expected.values().map(Vec::len).sum();
    let within: u64 = books.within.values().sum();
    println!(
        "collect: {rounds} kills, runs of {within} sources met between acceptance and report {:?}, {events} events, \
         {repeats} repeats, 0 lost",
        books.within
    );
    assert!(within >= rounds / 4 && books.within.len() >= 4, "{:?}", books.within);
    assert!(repeats > 0, "no kill has met a run between acceptance and commit");
}
