//! A model of the checkpoint protocol, small enough to be searched whole: every order of steps, crashes, lost answers, late
//! requests and clocks that a few overlapping invocations of one source can meet. `store/tests.rs` tests the calls
//! themselves; what they mean together is shown here, and that each safeguard is needed.
//!
//! | here | there |
//! |---|---|
//! | `Start` | `Run::acquire`: an owner's name of its own, the lease until deadline + `LEASE_MARGIN` by its own clock |
//! | `Land` of `Acquire` | the conditional update in `Store::acquire`, at the moment it takes effect |
//! | `Marks` | `Task::seen`, once in a run and before its first event; the state came with the lease |
//! | `Send`, `Part`, `Unanswered` | `Delivery::send`: accepted whole, in part, or nobody knows |
//! | `Land` of `Commit` | `Lease::commit`: marks, dead letters, state and release in one conditional write |
//! | `Land` unanswered, `Late`, `Resend` | an attempt of the SDK that timed out: it took effect, or still may; the next one |
//! | `GiveUp` | the operation's timeout: an error, whatever became of the write |
//! | `Crash`, `Tick` | the end of a process at any instant; time, which also passes for a process that stands still |
//!
//! The checkpoint is the number of events passed. A `window` reads again from before it and marks what it sends; a stream
//! does not, and marks only what a failed delivery got through. One event is one that Devo refuses for good. Left out are
//! what Mimecast does, and commits of more than one transaction, whose state moves with the last. A crash before a commit is
//! one whose commit never lands. That readers read on meanwhile changes nothing here: they write nothing, and the next batch is sent
//! only when the one before it is committed.

mod search;
mod tests;

const EVENTS: u8 = 4;
const BATCH: u8 = 2;
/// Goes into a dead letter.
const REFUSED: u8 = 0b1000;

/// In ticks of ten seconds: an invocation's time, and how long after its deadline its last commit may still be on its way.
/// What the margin has beyond that, clocks may differ by.
const LIFE: i8 = 1;
const TAIL: i8 = 1;
/// Values of `World::lease` that are over by every clock.
const EXPIRED: i8 = -1;
const RELEASED: i8 = -2;

/// What the protocol does; each field is a safeguard.
#[derive(Clone, Copy)]
struct Protocol {
    /// `LEASE_MARGIN`.
    margin: i8,
    /// A lease is not taken from its holder while it lasts, and it ends.
    exclusive: bool,
    expires: bool,
    /// Each lease raises the epoch, and a commit and its release are conditional on it.
    raises: bool,
    fenced: bool,
    release_fenced: bool,
    /// Whether a commit comes before what it stands for.
    early: Early,
    /// A commit takes effect once, however often it arrives.
    commits_once: bool,
    /// So does a lease: its owner's repeated request is told of it and takes no other.
    leases_once: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Early {
    Never,
    Marks,
    Advance,
}

const OURS: Protocol = Protocol {
    margin: 2,
    exclusive: true,
    expires: true,
    raises: true,
    fenced: true,
    release_fenced: true,
    early: Early::Never,
    commits_once: true,
    leases_once: true,
};

/// How much of what may happen.
#[derive(Clone, Copy)]
struct Scope {
    window: bool,
    /// At a time; there is no end to them one after the other.
    invocations: usize,
    /// How far the clocks of machines may be ahead.
    skews: &'static [i8],
    /// Processes may stand still past their deadline.
    pauses: bool,
    /// Most faults, all together and of each kind.
    faults: u8,
    most: Faults,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug)]
struct Faults {
    crashes: u8,
    /// Operations on the table that ended without an answer.
    given_up: u8,
    /// Of Devo.
    unanswered: u8,
    /// Leases that ended before their holder did.
    overruns: u8,
    /// Attempts at the table: took effect without an answer, and still on its way when the next one began.
    lost: u8,
    late: u8,
}

impl Faults {
    /// Those after which a batch may be repeated. An attempt that the SDK repeats is none of them.
    fn repeating(self) -> u8 {
        self.crashes + self.given_up + self.unanswered + self.overruns
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct World {
    // The checkpoint item.
    cursor: u8,
    epoch: u8,
    /// `lease_until` from now.
    lease: i8,
    owner: u8,
    /// How many writes the lease has seen.
    written: u8,
    // The other items: marks, dead letters.
    marks: u8,
    dead: u8,
    /// How often Devo has got each event.
    devo: [u8; EVENTS as usize],
    runs: Vec<Run>,
    wire: Vec<Message>,
    faults: Faults,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
struct Run {
    owner: u8,
    /// Ticks until it is over, if nothing holds it up.
    left: i8,
    epoch: u8,
    cursor: u8,
    written: u8,
    seen: u8,
    step: Step,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
enum Step {
    /// For the answer to a request; `owed` is what it recorded too early.
    Waiting {
        request: Request,
        owed: u8,
    },
    Marks,
    Send,
    Owed(u8),
}

/// An attempt on its way to DynamoDB.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
struct Message {
    owner: u8,
    request: Request,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
enum Request {
    Acquire { skew: i8, until: i8 },
    Commit(Write),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
struct Write {
    epoch: u8,
    /// Of this lease, from 1 on.
    number: u8,
    /// The checkpoint that the writer goes on from, and the one to move to.
    from: u8,
    to: Option<u8>,
    marks: u8,
    dead: u8,
    release: bool,
}

#[derive(Clone, Copy, Debug)]
#[allow(dead_code, reason = "read in traces")]
enum Action {
    Start { skew: i8 },
    Land { message: Message, answered: bool },
    Late(Message),
    Resend(Message),
    GiveUp { owner: u8 },
    Crash { owner: u8 },
    Marks { owner: u8 },
    Send { owner: u8, events: u8 },
    Part { owner: u8, events: u8 },
    Unanswered { owner: u8, events: u8 },
    Early(Write),
    Tick,
}

#[derive(Clone, Copy)]
struct Model {
    protocol: Protocol,
    scope: Scope,
}

fn bits(from: u8, to: u8) -> u8 {
    (from..to).fold(0, |bits, event| bits | 1 << event)
}

impl World {
    fn new() -> Self {
        Self {
            cursor: 0,
            epoch: 1,
            lease: RELEASED,
            owner: 0,
            written: 0,
            marks: 0,
            dead: 0,
            devo: [0; EVENTS as usize],
            runs: Vec::new(),
            wire: Vec::new(),
            faults: Faults::default(),
        }
    }

    /// The events that are in Devo or in a dead letter.
    fn safe(&self) -> u8 {
        (0..EVENTS).filter(|event| self.devo[*event as usize] > 0).fold(self.dead, |bits, event| bits | 1 << event)
    }

    fn repeated(&self) -> u8 {
        self.devo.iter().map(|copies| copies.saturating_sub(1)).sum()
    }

    fn done(&self) -> bool {
        self.cursor == EVENTS && self.safe() == bits(0, EVENTS)
    }

    fn deliver(&mut self, events: u8) {
        for (event, copies) in self.devo.iter_mut().enumerate() {
            *copies += events >> event & 1;
        }
    }

    fn waits(&self, message: &Message) -> Option<usize> {
        let waits = |run: &Run| matches!(run.step, Step::Waiting { request, .. } if request == message.request);
        self.runs.iter().position(|run| run.owner == message.owner && waits(run))
    }

    /// Lets `run` ask for `request`.
    fn ask(&mut self, run: usize, request: Request, owed: u8) {
        let run = &mut self.runs[run];
        run.step = Step::Waiting { request, owed };
        if matches!(request, Request::Commit(Write { release: true, .. })) {
            // Its last: what it knows matters no more.
            (run.cursor, run.seen, run.written) = (0, 0, 0);
        }
        let owner = run.owner;
        self.wire.push(Message { owner, request });
    }
}

impl Model {
    /// Everything that can happen next.
    fn next(&self, world: &World) -> Vec<(Action, World)> {
        let mut next = Vec::new();
        self.start(world, &mut next);
        self.tick(world, &mut next);
        for index in 0..world.wire.len() {
            self.land(world, index, &mut next);
        }
        for index in 0..world.runs.len() {
            self.run(world, index, &mut next);
        }
        next
    }

    /// Whether the fault that `count` counts may happen; then it has.
    fn fault(&self, world: &mut World, count: fn(&mut Faults) -> &mut u8) -> bool {
        let mut most = self.scope.most;
        let Faults { crashes, given_up, unanswered, overruns, lost, late } = world.faults;
        let all = crashes + given_up + unanswered + overruns + lost + late;
        let one = count(&mut world.faults);
        *one += 1;
        all < self.scope.faults && *one <= *count(&mut most)
    }

    fn start(&self, world: &World, next: &mut Vec<(Action, World)>) {
        if world.runs.len() == self.scope.invocations {
            return;
        }
        for &skew in self.scope.skews {
            let mut after = world.clone();
            let owners = world.wire.iter().map(|message| message.owner).chain(world.runs.iter().map(|run| run.owner));
            let owner = owners.chain([world.owner]).max().unwrap_or_default() + 1;
            let run = Run { owner, left: LIFE + TAIL, epoch: 0, cursor: 0, written: 0, seen: 0, step: Step::Send };
            after.runs.push(run);
            let request = Request::Acquire { skew, until: skew + LIFE + self.protocol.margin };
            after.ask(world.runs.len(), request, 0);
            next.push((Action::Start { skew }, after));
        }
    }

    fn tick(&self, world: &World, next: &mut Vec<(Action, World)>) {
        if !self.scope.pauses && world.runs.iter().any(|run| run.left == 0) {
            return;
        }
        let mut after = world.clone();
        let age = |until: &mut i8| *until = (*until - 1).max(EXPIRED);
        if after.lease != RELEASED {
            age(&mut after.lease);
        }
        for run in &mut after.runs {
            if !self.scope.pauses {
                age(&mut run.left);
            }
            if let Step::Waiting { request: Request::Acquire { until, .. }, .. } = &mut run.step {
                age(until);
            }
        }
        for message in &mut after.wire {
            if let Request::Acquire { until, .. } = &mut message.request {
                age(until);
            }
        }
        next.push((Action::Tick, after));
    }

    /// A request takes effect or is refused. Of an attempt nobody waits for any more, nobody hears.
    fn land(&self, world: &World, index: usize, next: &mut Vec<(Action, World)>) {
        let mut landed = world.clone();
        let message = landed.wire.remove(index);
        let Some(accepted) = self.apply(&mut landed, message) else { return };
        let Some(run) = landed.waits(&message) else {
            next.push((Action::Land { message, answered: false }, landed));
            return;
        };
        let mut unanswered = landed.clone();
        if self.fault(&mut unanswered, |faults| &mut faults.lost) {
            next.push((Action::Land { message, answered: false }, unanswered));
        }
        let Step::Waiting { request, owed } = landed.runs[run].step else { return };
        match request {
            Request::Acquire { .. } if accepted => {
                let (epoch, cursor) = (landed.epoch, landed.cursor);
                let run = &mut landed.runs[run];
                *run = Run { epoch, cursor, step: Step::Marks, ..*run };
            }
            Request::Commit(write) if accepted && !write.release => {
                let run = &mut landed.runs[run];
                run.written = write.number;
                run.cursor = write.to.unwrap_or(run.cursor);
                run.step = if owed == 0 { Step::Send } else { Step::Owed(owed) };
            }
            // Busy, the lease lost, or done.
            _ => drop(landed.runs.remove(run)),
        }
        next.push((Action::Land { message, answered: true }, landed));
    }

    /// What the conditional writes do. `None` where more would happen than the scope has.
    fn apply(&self, world: &mut World, message: Message) -> Option<bool> {
        let protocol = &self.protocol;
        match message.request {
            Request::Acquire { skew, until } => {
                let free = if protocol.expires { world.lease < skew } else { world.lease == RELEASED };
                let mine = world.owner == message.owner;
                if mine && protocol.leases_once {
                    return Some(true);
                }
                if !free && !mine && protocol.exclusive {
                    return Some(false);
                }
                let holds = |run: &Run| run.owner == world.owner && world.lease != RELEASED && !mine;
                if world.runs.iter().any(holds)
                    && !self.fault(world, |faults| &mut faults.overruns)
                    && self.scope.most.overruns > 0
                {
                    return None;
                }
                (world.lease, world.owner, world.written) = (until, message.owner, 0);
                world.epoch += u8::from(protocol.raises);
                Some(true)
            }
            Request::Commit(write) => {
                let current = write.epoch == world.epoch;
                if protocol.commits_once && current && write.number <= world.written {
                    return Some(write.number == world.written);
                }
                if write.release && (current || !protocol.release_fenced) {
                    world.lease = RELEASED;
                }
                if !current && protocol.fenced {
                    return Some(false);
                }
                world.cursor = write.to.unwrap_or(world.cursor);
                world.marks |= write.marks;
                world.dead |= write.dead;
                world.written = write.number;
                Some(true)
            }
        }
    }

    fn run(&self, world: &World, index: usize, next: &mut Vec<(Action, World)>) {
        let run = world.runs[index];
        let owner = run.owner;
        let mut crashed = world.clone();
        crashed.runs.remove(index);
        let mut given_up = crashed.clone();
        if self.fault(&mut crashed, |faults| &mut faults.crashes) {
            next.push((Action::Crash { owner }, crashed));
        }
        match run.step {
            Step::Waiting { request, .. } => {
                let message = Message { owner, request };
                if self.fault(&mut given_up, |faults| &mut faults.given_up) {
                    next.push((Action::GiveUp { owner }, given_up));
                }
                let mut after = world.clone();
                after.wire.push(message);
                // An answer got lost that was not refused; or the attempt is late.
                if !world.wire.contains(&message) {
                    next.push((Action::Resend(message), after));
                } else if self.fault(&mut after, |faults| &mut faults.late) {
                    next.push((Action::Late(message), after));
                }
            }
            Step::Marks => {
                let mut after = world.clone();
                let run = &mut after.runs[index];
                (run.seen, run.step) = (world.marks, Step::Send);
                next.push((Action::Marks { owner }, after));
            }
            Step::Owed(events) => {
                let mut after = world.clone();
                after.deliver(events);
                after.runs[index].step = Step::Send;
                next.push((Action::Send { owner, events }, after));
            }
            Step::Send => self.send(world, index, next),
        }
    }

    fn send(&self, world: &World, index: usize, next: &mut Vec<(Action, World)>) {
        let run = world.runs[index];
        let Run { owner, epoch, cursor, .. } = run;
        let number = run.written + 1;
        let to = EVENTS.min(cursor + BATCH);
        let overlap = u8::from(self.scope.window);
        let fresh = bits(cursor.saturating_sub(overlap), to) & !run.seen;
        let (events, dead) = (fresh & !REFUSED, fresh & REFUSED);
        let marks = if self.scope.window { fresh } else { 0 };
        let nothing = Write { epoch, number, from: cursor, to: None, marks: 0, dead: 0, release: true };
        let whole = Write { to: Some(to), marks, dead, release: false, ..nothing };
        let early = match self.protocol.early {
            Early::Marks => Some(Write { marks: fresh, release: false, ..nothing }),
            Early::Advance => Some(whole),
            Early::Never => None,
        };
        if let Some(write) = early.filter(|_| events != 0) {
            let mut after = world.clone();
            after.runs[index].seen |= fresh;
            after.ask(index, Request::Commit(write), events);
            next.push((Action::Early(write), after));
            return;
        }
        // The deadline may come after any batch, and the last write gives the lease back.
        for release in [true, false] {
            if release || to < EVENTS {
                let mut after = world.clone();
                after.deliver(events);
                after.runs[index].seen |= fresh;
                after.ask(index, Request::Commit(Write { release, ..whole }), 0);
                next.push((Action::Send { owner, events }, after));
            }
        }
        // Devo or Mimecast fails. What Devo has accepted before is marked; the state stays.
        let first = events & events.wrapping_neg();
        for part in if first == events { vec![0] } else { vec![0, first] } {
            let mut after = world.clone();
            after.deliver(part);
            after.ask(index, Request::Commit(Write { marks: part, ..nothing }), 0);
            next.push((Action::Part { owner, events: part }, after));
        }
        let mut after = world.clone();
        if events != 0 && self.fault(&mut after, |faults| &mut faults.unanswered) {
            after.deliver(events);
            next.push((Action::Unanswered { owner, events }, after.clone()));
            after.ask(index, Request::Commit(nothing), 0);
            next.push((Action::Unanswered { owner, events }, after));
        }
    }
}
