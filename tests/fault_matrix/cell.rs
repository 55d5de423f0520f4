//! One cell: a world with data, the fault, the run it strikes, the runs after it, and what has to be true in the end.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::TimeDelta;
use mimecast_devo::embedded::{Embedded, TABLE};
use serde_json::{Value, json};
use simulator::data::{self, Expected, SUMMARY_TABLE};
use simulator::devo::{Fault as DevoFault, Kind};
use simulator::mimecast::{Doubts, Fault, FaultKind, SiemMode};
use simulator::{Devo, Mimecast};

use crate::plant::{bad_line, dense_second, marked_event, poison_file};
use crate::row::{At, Change, Expect, Row, Strike};
use crate::subjects::Subject;
use crate::support::runtime::{Deadline, Outcome};
use crate::world::{Api, World};

/// How long Mimecast or Devo keeps the request waiting during which something else happens.
const MEANWHILE: Duration = Duration::from_millis(1500);
/// Runs after a deadline until all must be there.
const RUNS: usize = 4;

/// What some firewall takes for an attack.
const REFUSED: &str = "../../etc/passwd";

/// What has happened in a cell so far.
struct Ledger {
    /// What Devo has to have, each event once.
    expected: Expected,
    /// What the one dead letter has to hold; empty for any.
    letter: Option<Vec<u8>>,
    runs: usize,
    caught_up: usize,
    /// Lines that are at Devo once more, with reason.
    again: usize,
}

pub async fn cell(row: &Row, subject: Subject) {
    let mut world = World::new(subject.api).await;
    let page_size = if subject.has_links() { "2" } else { "12" };
    world.set("PAGE_SIZE", page_size);
    world.mimecast.set_feed_page(12);
    if let Strike::Clock(seconds) = row.strike {
        world.mimecast.set_clock_offset(seconds);
    }
    let mut ledger = Ledger { expected: Expected::new(), letter: None, runs: 0, caught_up: 0, again: 0 };
    if let Strike::PoisonFile(_) = row.strike {
        poison_file(&world.mimecast, subject);
        ledger.letter = Some(Vec::new());
    }
    ledger.fill(subject, events(&world, subject, 1));
    if let Strike::DenseSecond(..) = row.strike {
        ledger.expected.entry(subject.table().to_owned()).or_default().extend(dense_second(&world.mimecast, subject));
    }
    if let Strike::BadLine(line) = &row.strike {
        ledger.letter = Some(bad_line(&world.mimecast, subject, line, &mut ledger.expected));
    }
    let largest = ledger.expected.values().flatten().map(String::len).max().unwrap_or_default();
    if let Strike::LargeEvent = row.strike {
        ledger.letter = Some(marked_event(&world.mimecast, subject, &"x".repeat(largest + 1)));
    }
    if let Strike::RefusedEvent(fault) = &row.strike {
        ledger.letter = Some(marked_event(&world.mimecast, subject, REFUSED));
        world.devo.fault(fault.clone().times(usize::MAX).holding(REFUSED));
    }
    if let Strike::LargeEvent | Strike::NarrowDevo = row.strike {
        let narrow = Kind::TooLarge { max_bytes: largest + 1 };
        world.devo.fault(DevoFault::new(narrow).times(usize::MAX));
    }
    if let Strike::DuplicateLinks = row.strike {
        world.mimecast.siem_mode(SiemMode { duplicate_links: true, ..SiemMode::default() });
    }

    let outcome = struck_run(&mut world, row, subject).await;
    ledger.judge(&world, row.expect, &outcome);
    world.mimecast.clear_faults();
    world.mimecast.doubts(Doubts::default());
    world.devo.clear_faults();
    world.aws.clear_faults();
    if let Expect::Unrecorded = row.expect {
        ledger.again = world.devo.count();
        // A lease that could not be given back ends with its holder's deadline; not to wait for it here.
        take_lease(&world.store, subject.source);
    }

    ledger.fill(subject, events(&world, subject, 2));
    let most = if let Expect::CutShort(_) = row.expect { RUNS } else { 1 };
    let mut answer = ledger.run(&mut world, subject).await;
    for _ in 1..most {
        if answer["status"] == "caught_up" {
            break;
        }
        answer = ledger.run(&mut world, subject).await;
    }
    assert_eq!(answer["status"], "caught_up", "the fault is over: {answer}");
    ledger.assert_arrived(&world, subject).await;

    let idle = ledger.run(&mut world, subject).await;
    assert!(subject.is_polled() || idle["events"] == 0, "there is nothing new: {idle}");
    ledger.assert_arrived(&world, subject).await;
}

/// Many events at first, which have the seed 1, and a few more later. What is off unless asked for is filled alone.
fn events(world: &World, subject: Subject, seed: u64) -> Expected {
    let (mimecast, source, now) = (&world.mimecast, subject.source, world.mimecast.now());
    match (seed, subject.is_on_request()) {
        (1, true) => data::lively_on_request(mimecast, source, seed, now, 1),
        (1, false) => data::lively(mimecast, seed, now, 1),
        (_, true) => data::add(mimecast, source, seed, now - TimeDelta::minutes(5), now - TimeDelta::seconds(90), 5),
        (_, false) => data::more(mimecast, seed, now, 5),
    }
}

/// The run that is struck, and proof that it was.
async fn struck_run(world: &mut World, row: &Row, subject: Subject) -> Outcome {
    let deadline = Deadline::In(row.deadline);
    let struck = |world: &World| world.mimecast.struck() + world.devo.struck() + world.aws.struck();
    match &row.strike {
        Strike::Mimecast(at, kind, calls) => {
            let text = match at {
                At::Endpoint => subject.path().to_owned(),
                At::Links => "/files/".to_owned(),
                At::OneFile => world.mimecast.siem_path(1),
                At::OAuth => "/oauth/token".to_owned(),
                At::Feed => subject.feed().to_owned(),
            };
            world.mimecast.fault(Fault::new(&text, kind.clone()).skip(calls.skip).times(calls.times));
        }
        Strike::DenseSecond(kind, calls) => {
            world.mimecast.fault(Fault::new(subject.path(), kind.clone()).skip(calls.skip).times(calls.times));
        }
        Strike::Devo(fault) => world.devo.fault(fault.clone()),
        Strike::Aws(operation, fault, times) => world.aws.fault(operation, *fault, *times),
        Strike::PoisonFile(kind) => {
            // The others are asked for side by side with it.
            let text = match subject.source {
                "threatfeed" => "malware_customer".to_owned(),
                _ if subject.has_links() => world.mimecast.siem_path(0),
                _ => subject.path().to_owned(),
            };
            // As often as the product tries it, in two runs: by the first it might have been cut on its way.
            world.mimecast.fault(Fault::new(&text, kind.clone()).times(6));
            assert_eq!(world.fail(subject.source).await.0, "MimecastUnavailable");
        }
        Strike::LargeEvent | Strike::NarrowDevo | Strike::RefusedEvent(_) => {}
        Strike::OldCheckpoint => old_checkpoint(world, subject),
        Strike::Doubts(doubts) => world.mimecast.doubts(doubts.clone()),
        Strike::Meanwhile(change) => return changed_run(world, subject, *change, deadline).await,
        Strike::BadLine(_) | Strike::DuplicateLinks | Strike::Clock(_) => {
            return world.invoke_with(subject.source, "{}", deadline).await;
        }
    }
    let outcome = world.invoke_with(subject.source, "{}", deadline).await;
    let is_struck = matches!(row.strike, Strike::OldCheckpoint | Strike::Doubts(_)) || struck(world) > 0;
    assert!(is_struck, "the fault has struck nothing: {outcome:?}");
    outcome
}

/// A run during which something changes, while one of its requests is kept waiting.
async fn changed_run(world: &mut World, subject: Subject, change: Change, deadline: Deadline) -> Outcome {
    // The run borrows the world: what has to be reached meanwhile is taken out of it.
    let mimecast = std::mem::replace(&mut world.mimecast, Mimecast::start().await.unwrap());
    let devo = std::mem::replace(&mut world.devo, Devo::start().await.unwrap().into());
    let (store, aws) = (world.store.clone(), world.aws.clone());
    if let Change::LeaseTaken = change {
        devo.fault(DevoFault::new(Kind::Hang(MEANWHILE)));
    } else {
        let skip = usize::from(subject.is_window() || subject.is_stream());
        mimecast.fault(Fault::new(subject.path(), FaultKind::Hang(MEANWHILE)).skip(skip));
    }
    let meanwhile = async {
        while mimecast.struck() + devo.struck() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        match change {
            Change::LeaseTaken => take_lease(&store, subject.source),
            Change::DevoRotates => {
                devo.rotate();
                aws.set_secret("devo", &devo.secret());
            }
            Change::MimecastRotates => {
                mimecast.rotate_v1();
                mimecast.rotate_v2();
                let v1 = subject.api == Api::V1;
                aws.set_secret("mimecast", &if v1 { mimecast.secret_v1() } else { mimecast.secret_v2() });
            }
        }
    };
    let (outcome, ()) = tokio::join!(world.invoke_with(subject.source, "{}", deadline), meanwhile);
    (world.mimecast, world.devo) = (mimecast, devo);
    outcome
}

/// As another invocation would that has come and gone.
fn take_lease(store: &Embedded, source: &str) {
    let update = json!({
        "TableName": TABLE,
        "Key": {"pk": {"S": format!("default#{source}")}, "sk": {"S": "checkpoint"}},
        "UpdateExpression": "SET lease_until = :over ADD epoch :one",
        "ExpressionAttributeValues": {":over": {"N": "0"}, ":one": {"N": "1"}},
    });
    let (status, _) = store.execute("UpdateItem", update.to_string().as_bytes());
    assert_eq!(status, 200);
}

/// The state of a stream that nobody has read for eight days.
fn old_checkpoint(world: &World, subject: Subject) {
    let feed = match subject.source {
        "threatfeed" => "malware_customer",
        _ if subject.has_links() => subject.siem_type(),
        _ => "MTA",
    };
    let caught_up = world.mimecast.now() - TimeDelta::days(8);
    let state = json!({"streams": {feed: {"token": "of-eight-days-ago", "caught_up": caught_up}}}).to_string();
    let item = json!({
        "pk": {"S": format!("default#{}", subject.source)}, "sk": {"S": "checkpoint"},
        "epoch": {"N": "7"}, "version": {"N": "1"}, "state": {"S": state},
    });
    let put = json!({"TableName": TABLE, "Item": item}).to_string();
    assert_eq!(world.store.execute("PutItem", put.as_bytes()).0, 200);
}

impl Ledger {
    /// Takes in what of a filling of Mimecast is the subject's.
    fn fill(&mut self, subject: Subject, all: Expected) {
        for (table, lines) in all {
            if table.starts_with(subject.table()) {
                self.expected.entry(table).or_default().extend(lines);
            }
        }
    }

    /// What came of the struck run is what has to come of it.
    fn judge(&mut self, world: &World, expect: Expect, outcome: &Outcome) {
        self.runs += 1;
        if let Outcome::Answer(answer) = outcome {
            self.caught_up += usize::from(answer["status"] == "caught_up");
        }
        let fine = match (expect, outcome) {
            (Expect::Outlasted | Expect::Postponed, Outcome::Answer(answer)) => {
                answer["status"] == "caught_up" && answer["rejected"] == 0
            }
            (Expect::Repeated, Outcome::Answer(answer)) => {
                let unanswered = world.devo.requests().into_iter().filter(|request| request.status == 0);
                self.again = unanswered.map(|request| request.lines).sum();
                answer["status"] == "caught_up" && self.again > 0
            }
            (Expect::Reported(name), Outcome::Answer(answer)) => {
                answer["status"] == "caught_up" && answer[name].is_object()
            }
            (Expect::DeadLetter, Outcome::Answer(answer)) => answer["status"] == "caught_up" && answer["rejected"] == 1,
            (Expect::CutShort(_), Outcome::Answer(answer)) => answer["status"] == "more",
            (Expect::Fails(wanted) | Expect::CutShort(wanted), Outcome::Failed { error_type, .. }) => {
                error_type == wanted
            }
            (Expect::FailsAlone(wanted), Outcome::Failed { error_type, .. }) => {
                error_type == wanted && world.devo.count() > 0
            }
            (Expect::Unrecorded, Outcome::Failed { error_type, .. }) => error_type == "Checkpoint",
            _ => false,
        };
        assert!(fine, "the struck run was to be {expect:?}: {outcome:?}");
        // Of what it outlasts nothing is left for the next run.
        if let Expect::Outlasted | Expect::Reported(_) | Expect::DeadLetter = expect {
            world.assert_delivered(&self.expected);
        }
    }

    /// A run without a fault.
    async fn run(&mut self, world: &mut World, subject: Subject) -> Value {
        if subject.is_window() {
            // Windows end on whole seconds: within the last run's second there is nothing to read.
            tokio::time::sleep(Duration::from_millis(1100)).await;
        }
        self.runs += 1;
        let answer = world.run(subject.source).await;
        self.caught_up += usize::from(answer["status"] == "caught_up");
        answer
    }

    /// All of Mimecast's events are at Devo or in a dead letter, and nothing else.
    async fn assert_arrived(&self, world: &World, subject: Subject) {
        let letters = world.dead_letters(subject.source).await;
        if subject.is_polled() {
            let rows = &self.expected[SUMMARY_TABLE];
            let polls = world.devo.count() / rows.len();
            let most = self.runs + self.again / rows.len();
            assert!((self.caught_up..=most).contains(&polls), "{polls} polls in {} runs", self.runs);
            world.assert_delivered(&[(SUMMARY_TABLE.to_owned(), vec![rows.clone(); polls].concat())].into());
        } else if self.again > 0 {
            assert_again(&world.devo.lines(), &self.expected, self.again);
        } else {
            world.assert_delivered(&self.expected);
        }
        match &self.letter {
            None => assert!(letters.is_empty(), "{letters:?}"),
            Some(held) => {
                // What is polled again is read, and is unreadable, again.
                let count = if subject.is_polled() { self.caught_up } else { 1 };
                assert_eq!(letters.len(), count, "{letters:?}");
                let holds = |raw: &[u8]| !raw.is_empty() && raw.windows(held.len().max(1)).any(|part| part == held);
                assert!(letters.iter().all(|(raw, _)| held.is_empty() || holds(raw)), "{letters:?}");
            }
        }
    }
}

/// Every event is there, nothing else is, and `again` lines are there once more.
fn assert_again(delivered: &BTreeMap<String, Vec<String>>, expected: &Expected, again: usize) {
    let count = |all: &BTreeMap<String, Vec<String>>| {
        let mut counts = BTreeMap::new();
        for (table, lines) in all {
            lines.iter().for_each(|line| *counts.entry((table.clone(), line.clone())).or_insert(0) += 1);
        }
        counts
    };
    let (delivered, expected) = (count(delivered), count(expected));
    for (line, times) in &expected {
        assert!(delivered.get(line) >= Some(times), "missing: {line:?}");
    }
    let foreign: Vec<_> = delivered.keys().filter(|line| !expected.contains_key(line)).take(3).collect();
    assert!(foreign.is_empty(), "not of Mimecast's: {foreign:?}");
    let surplus = delivered.values().sum::<usize>() - expected.values().sum::<usize>();
    assert_eq!(surplus, again, "lines that are there once more");
}
