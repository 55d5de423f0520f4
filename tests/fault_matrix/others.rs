//! What goes wrong around Mimecast: Devo, AWS, the clock, the secrets, the lease, the deadline.

use std::time::Duration;

use simulator::devo::{Fault as DevoFault, Kind};
use simulator::mimecast::FaultKind;

use crate::row::Expect::*;
use crate::row::{At, Change, Expect, OVER, Row, Strike, after};
use crate::subjects::Reach;
use crate::support::aws::Fault as AwsFault;

const SAME: &str = "the same code for all of a kind";
const BEHIND: &str = "behind the reader there is one API";
const SLOW: &str = "waits for its deadline or for retries";
/// Longer than any run.
const FOR_EVER: Duration = Duration::from_secs(600);

pub fn rows() -> Vec<Row> {
    [devo(), dynamodb(), secrets(), clock_and_lease(), deadlines()].into_iter().flatten().collect()
}

fn devo() -> Vec<Row> {
    let strike = |name: &str, strike, reach, expect| Row::new("Devo", name, strike, reach, expect).each_source(BEHIND);
    let row = |name: &str, fault, reach, expect| strike(name, Strike::Devo(fault), reach, expect);
    let refused = |name: &str, fault| {
        let name = format!("{name} to one event, for ever");
        strike(&name, Strike::RefusedEvent(fault), Reach::Remembering, DeadLetter)
    };
    let for_ever = |status| DevoFault::status(status).times(usize::MAX);
    vec![
        row("429", DevoFault::status(429).header("retry-after", "1").times(2), Reach::All, Outlasted).each_kind(SAME),
        row(
            "429 until a date that is over",
            DevoFault::status(429).header("retry-after", OVER).times(2),
            Reach::All,
            Outlasted,
        )
        .each_kind(SAME),
        row("503", DevoFault::status(503).times(2), Reach::All, Outlasted),
        row("503 storm", for_ever(503), Reach::All, Fails("DevoUnavailable")).each_kind(SLOW),
        row("503 storm from the second request on", for_ever(503).skip(1), Reach::Siem, Fails("DevoUnavailable")),
        row("400", for_ever(400), Reach::All, Fails("DevoRejected")),
        row("400 from the second request on", for_ever(400).skip(1), Reach::Siem, Fails("DevoRejected")),
        row("403", for_ever(403), Reach::All, Fails("DevoRejected")).each_kind(SAME),
        row("reset before the answer", DevoFault::new(Kind::ResetBeforeAnswer).times(2), Reach::All, Outlasted),
        row("taken, then reset", DevoFault::new(Kind::AcceptThenReset), Reach::All, Repeated),
        row("taken, then reset, twice", DevoFault::new(Kind::AcceptThenReset).times(2), Reach::All, Repeated)
            .each_kind(SAME),
        row("reset within the answer", DevoFault::new(Kind::ResetMidBody).times(2), Reach::All, Outlasted),
        strike("413", Strike::NarrowDevo, Reach::Remembering, Outlasted),
        row("hang of 1 s", DevoFault::new(Kind::Hang(Duration::from_secs(1))), Reach::All, Outlasted).each_kind(SAME),
        strike("an event too large", Strike::LargeEvent, Reach::Remembering, DeadLetter),
        refused("400", DevoFault::status(400)),
        refused("a firewall's 403", DevoFault::status(403)).each_kind(SAME),
        refused("500", DevoFault::status(500)).each_kind(SLOW),
        refused("a reset", DevoFault::new(Kind::ResetBeforeAnswer)).each_kind(SLOW),
    ]
}

fn dynamodb() -> Vec<Row> {
    let late = AwsFault::Overdue(Duration::from_secs(7));
    let operations: [(&'static str, Reach, Expect); 3] = [
        ("UpdateItem", Reach::All, Fails("Checkpoint")),
        ("Query", Reach::Remembering, Fails("Checkpoint")),
        ("TransactWriteItems", Reach::Paged, Unrecorded),
    ];
    let mut rows = Vec::new();
    for (operation, reach, denial) in operations {
        let faults = [
            ("throttled", AwsFault::THROTTLED, 2, Outlasted),
            ("answer lost", AwsFault::Lost, 2, Outlasted),
            ("connection cut", AwsFault::Cut, 2, Outlasted),
            ("down for long", AwsFault::Refused(500, "InternalServerError"), 1000, denial),
            ("overdue", late, 1, Outlasted),
            ("denied", AwsFault::DENIED, 1000, denial),
            ("no such table", AwsFault::ABSENT, 1000, denial),
        ];
        for (name, fault, times, expect) in faults {
            let strike = Strike::Aws(operation, fault, times);
            rows.push(Row::new("DynamoDB", format!("{operation}: {name}"), strike, reach, expect).each_kind(SAME));
        }
    }
    rows
}

fn secrets() -> Vec<Row> {
    let down = AwsFault::Refused(500, "InternalServiceError");
    let row = |name: &str, fault, times, expect| {
        let strike = Strike::Aws("GetSecretValue", fault, times);
        Row::new("Secrets Manager", name, strike, Reach::All, expect).each_kind(SAME)
    };
    vec![
        row("down", down, 2, Outlasted),
        row("down for long", down, 1000, Fails("Configuration")),
        row("denied", AwsFault::DENIED, 1000, Fails("Configuration")),
        row("no such secret, or an empty one", AwsFault::ABSENT, 1000, Fails("Configuration")),
    ]
}

fn clock_and_lease() -> Vec<Row> {
    let change = |side, name: &str, change, expect| Row::new(side, name, Strike::Meanwhile(change), Reach::All, expect);
    vec![
        Row::new("clock", "ours an hour behind", Strike::Clock(3600), Reach::All, Outlasted),
        Row::new("clock", "ours an hour ahead", Strike::Clock(-3600), Reach::All, Outlasted),
        change("secret", "Mimecast's rotated in the run", Change::MimecastRotates, Outlasted),
        change("secret", "Devo's rotated in the run", Change::DevoRotates, Outlasted).each_kind(SAME),
        change("lease", "taken during a long send", Change::LeaseTaken, Unrecorded).each_source(BEHIND),
    ]
}

/// The deadline comes while call `n` is waited for.
fn deadlines() -> Vec<Row> {
    let mut rows = Vec::new();
    let mut mimecast = |call: usize, at, name: &str, kind, reach| {
        let strike = Strike::Mimecast(at, kind, after(call));
        let name = format!("at {name} {}", call + 1);
        rows.push(Row::new("deadline", name, strike, reach, CutShort("MimecastUnavailable")).within(6).each_kind(SLOW));
    };
    let (hang, slow) = (FaultKind::Hang(FOR_EVER), FaultKind::SlowBody(FOR_EVER));
    mimecast(0, At::Endpoint, "call", hang.clone(), Reach::All);
    mimecast(0, At::Endpoint, "body", slow.clone(), Reach::All);
    mimecast(0, At::OAuth, "access token", hang.clone(), Reach::V2);
    for call in 1..4 {
        mimecast(call, At::Endpoint, "call", hang.clone(), Reach::Paged);
    }
    mimecast(2, At::Endpoint, "body", slow.clone(), Reach::Paged);
    for call in [4, 6] {
        mimecast(call, At::Endpoint, "call", hang.clone(), Reach::Siem);
    }
    for call in [0, 1, 5] {
        mimecast(call, At::Links, "file", hang.clone(), Reach::Links);
    }
    mimecast(3, At::Links, "body of file", slow, Reach::Links);
    for (request, reach) in [(0, Reach::All), (1, Reach::Siem), (4, Reach::Siem)] {
        let strike = Strike::Devo(DevoFault::new(Kind::Hang(FOR_EVER)).skip(request));
        let name = format!("at Devo's request {}", request + 1);
        rows.push(Row::new("deadline", name, strike, reach, Fails("DevoUnavailable")).within(6).each_kind(SLOW));
    }
    rows
}
