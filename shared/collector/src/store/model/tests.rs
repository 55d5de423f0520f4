//! What holds in every state of the model, and what breaks without each safeguard. `-- --nocapture` shows the numbers of
//! states, and how each promise is broken.

use super::*;

const NONE: Faults = Faults { crashes: 0, given_up: 0, unanswered: 0, overruns: 0, lost: 0, late: 0 };
const ANY: Faults = Faults { crashes: 9, given_up: 9, unanswered: 9, overruns: 9, lost: 9, late: 9 };
const QUIET: Scope = Scope { window: false, invocations: 2, skews: &[0], pauses: false, faults: 0, most: NONE };
const ROUGH: Scope = Scope { pauses: true, faults: 1, most: ANY, ..QUIET };
/// Nothing stands still and clocks agree, so no lease may end before its holder.
const ON_TIME: Scope = Scope { faults: 2, most: Faults { overruns: 0, ..ANY }, ..QUIET };
/// Requests that arrive when nobody waits for them any more, and nothing else.
const LATE: Scope = Scope { faults: 1, most: Faults { late: 1, ..NONE }, ..QUIET };

fn holds(what: &str, scope: Scope) {
    match (Model { protocol: OURS, scope }).check() {
        Ok(states) => println!("{states} states: {what}"),
        Err((broken, trace)) => panic!("{what}: {broken}\n{trace}"),
    }
}

#[test]
fn without_a_fault_nothing_is_repeated_and_one_holds_the_lease() {
    for window in [false, true] {
        let three = Scope { window, invocations: 3, ..QUIET };
        holds("no fault, three at a time", three);
        holds("no fault, three at a time, clocks a tick apart", Scope { skews: &[0, 1], ..three });
    }
}

#[test]
fn a_fault_among_three() {
    holds("one fault, three at a time, a stream", Scope { invocations: 3, ..ROUGH });
    holds("one fault, three at a time, a window", Scope { invocations: 3, window: true, ..ROUGH });
}

#[test]
fn two_faults_of_a_stream() {
    holds("two faults, two at a time, a stream", ON_TIME);
}

#[test]
fn two_faults_of_a_window() {
    holds("two faults, two at a time, a window", Scope { window: true, ..ON_TIME });
}

#[test]
fn two_faults_and_processes_that_stand_still() {
    holds("two faults, two at a time, a stream that stands still", Scope { faults: 2, ..ROUGH });
    holds("two faults, two at a time, a window that stands still", Scope { faults: 2, window: true, ..ROUGH });
}

#[test]
fn clocks_that_differ_by_more_than_the_margin_repeat_a_batch_and_no_more() {
    let apart = Scope { skews: &[0, 2], ..QUIET };
    assert_eq!(broken(OURS, apart), "two hold the lease");
    holds("clocks too far apart, one takeover", Scope { faults: 1, most: Faults { overruns: 1, ..NONE }, ..apart });
}

fn broken(protocol: Protocol, scope: Scope) -> &'static str {
    let found = Model { protocol, scope }.check();
    let (broken, trace) = found.expect_err("found nothing");
    println!("{broken}\n{trace}");
    broken
}

/// Without any one safeguard there is a way to break a promise, and the search finds it.
#[test]
fn every_safeguard_is_needed() {
    let ours = OURS;
    let lost = "an event is lost";
    let stale = "a stale holder's write took effect";
    let two = "two hold the lease";
    for (without, scope, protocol, promise) in [
        ("the fencing condition", ROUGH, Protocol { fenced: false, ..ours }, stale),
        ("the fencing condition of the release", ROUGH, Protocol { release_fenced: false, ..ours }, stale),
        ("an epoch for each lease", ROUGH, Protocol { raises: false, ..ours }, "an update was lost"),
        ("marks after sending", ROUGH, Protocol { early: Early::Marks, ..ours }, lost),
        ("advance after acceptance", ROUGH, Protocol { early: Early::Advance, ..ours }, lost),
        ("exclusion", QUIET, Protocol { exclusive: false, ..ours }, two),
        ("the margin", QUIET, Protocol { margin: 0, ..ours }, two),
        ("an end of the lease", ROUGH, Protocol { expires: false, ..ours }, "there is no way on"),
        ("commits that count once", LATE, Protocol { commits_once: false, ..ours }, "an update was lost"),
        (
            "leases that count once",
            LATE,
            Protocol { leases_once: false, ..ours },
            "more was repeated than was in flight",
        ),
    ] {
        println!("\nwithout {without}:");
        assert_eq!(broken(protocol, scope), promise, "without {without}");
    }
}
