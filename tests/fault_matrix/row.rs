//! What a row of the matrix is made of: the fault, what it can hit, and what has to come of it.

use std::time::Duration;

use simulator::devo::Fault as DevoFault;
use simulator::mimecast::{Doubts, FaultKind};

use crate::subjects::Reach;
use crate::support::aws::Fault as AwsFault;

/// One fault.
pub struct Row {
    /// Who or what goes wrong.
    pub side: &'static str,
    pub name: String,
    pub strike: Strike,
    pub reach: Reach,
    pub expect: Expect,
    /// The time that the struck run has.
    pub deadline: Duration,
    pub breadth: Breadth,
}

/// How many of the subjects that a fault can hit have a cell, and why not all.
#[derive(Clone, Copy, Debug)]
pub enum Breadth {
    Every,
    /// Each source at one of the two APIs.
    EachSource(&'static str),
    /// One source of each kind.
    EachKind(&'static str),
}

/// A date that is over: `Retry-After` in its other form.
pub const OVER: &str = "Wed, 21 Oct 2015 07:28:00 GMT";

/// What is done to a world before, or while, its first run goes on.
#[derive(Clone, Debug)]
pub enum Strike {
    Mimecast(At, FaultKind, Calls),
    /// Its calls, where more rows than a page holds are of one second.
    DenseSecond(FaultKind, Calls),
    Devo(DevoFault),
    /// An operation of DynamoDB or Secrets Manager, and how many of its calls are struck.
    Aws(&'static str, AwsFault, usize),
    /// The first file stays broken in this way.
    PoisonFile(FaultKind),
    /// These bytes stand in a line of their own among good ones.
    BadLine(&'static [u8]),
    /// Devo takes no request larger than the largest event.
    NarrowDevo,
    /// The same, and there is one larger event.
    LargeEvent,
    /// One event among the others is refused by Devo, in this way, whatever request it is in.
    RefusedEvent(DevoFault),
    DuplicateLinks,
    /// The account differs from a calm one in this.
    Doubts(Doubts),
    /// Mimecast's clock is so many seconds from ours.
    Clock(i64),
    /// The checkpoint is of eight days ago, and its token no longer good.
    OldCheckpoint,
    /// While Mimecast or Devo keeps a request waiting.
    Meanwhile(Change),
}

/// Which of Mimecast's calls.
#[derive(Clone, Copy, Debug)]
pub enum At {
    Endpoint,
    Links,
    /// The links to one file, which is neither the first nor the last of its page.
    OneFile,
    OAuth,
    /// The calls of one feed among several.
    Feed,
}

/// Which of the calls that match: so many pass, so many are struck.
#[derive(Clone, Copy, Debug)]
pub struct Calls {
    pub skip: usize,
    pub times: usize,
}

pub const ONCE: Calls = Calls { skip: 0, times: 1 };
pub const TWICE: Calls = Calls { skip: 0, times: 2 };
pub const FOREVER: Calls = Calls { skip: 0, times: usize::MAX };

/// Once, and not the first `skip` calls.
pub const fn after(skip: usize) -> Calls {
    Calls { skip, times: 1 }
}

#[derive(Clone, Copy, Debug)]
pub enum Change {
    MimecastRotates,
    DevoRotates,
    LeaseTaken,
}

/// What has to come of the struck run. Whatever it is: once the fault is over all of Mimecast's events are at Devo, byte for
/// byte, or in a dead letter, and none of them twice but as said here.
#[derive(Clone, Copy, Debug)]
pub enum Expect {
    /// It ends caught up, with everything.
    Outlasted,
    /// The same, and its answer says so under this name.
    Reported(&'static str),
    /// It ends caught up with what there seemed to be; the next run has the rest.
    Postponed,
    /// It fails with this type; the next run completes.
    Fails(&'static str),
    /// The same, and what the fault does not concern has arrived.
    FailsAlone(&'static str),
    /// It answers `more` or fails with this type.
    CutShort(&'static str),
    /// It ends caught up, with what cannot be delivered in one dead letter.
    DeadLetter,
    /// It ends caught up; what Devo took without an answer is there once more.
    Repeated,
    /// It fails with `Checkpoint` after Devo has taken what could not be recorded: exactly that is there once more.
    Unrecorded,
}

impl Row {
    pub fn new(side: &'static str, name: impl Into<String>, strike: Strike, reach: Reach, expect: Expect) -> Row {
        Row {
            side,
            name: name.into(),
            strike,
            reach,
            expect,
            deadline: Duration::from_secs(60),
            breadth: Breadth::Every,
        }
    }

    pub fn within(self, seconds: u64) -> Row {
        Row { deadline: Duration::from_secs(seconds), ..self }
    }

    pub fn each_source(self, why: &'static str) -> Row {
        Row { breadth: Breadth::EachSource(why), ..self }
    }

    pub fn each_kind(self, why: &'static str) -> Row {
        Row { breadth: Breadth::EachKind(why), ..self }
    }
}
