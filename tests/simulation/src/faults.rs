//! What goes wrong with one call: on its way, and at the server.

use std::time::Duration;

use fastrand::Rng;
use simulator::devo;
use simulator::mimecast::FaultKind;

use crate::plan::{Plan, pick};
use crate::world::{World, lock};

/// How one call travels.
#[derive(Debug, Clone)]
pub struct Way {
    pub there: Duration,
    pub back: Duration,
    pub breaks: Breaks,
    /// The request goes under with a client that gives up; else it arrives all the same.
    pub tied: bool,
}

/// Where a way ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Breaks {
    Nowhere,
    /// Reset before the server has it.
    ResetThere,
    /// Reset after it took effect.
    ResetBack,
    /// Never arrives, and nobody says so.
    SilentThere,
    /// Takes effect, and the answer never comes.
    SilentBack,
}

impl Way {
    /// Draws one; without faults where `calm`.
    pub fn draw(rng: &mut Rng, plan: &Plan, calm: bool) -> Self {
        let latency = if calm { 1..=20 } else { plan.latency.clone() };
        let way = |rng: &mut Rng| Duration::from_millis(rng.u64(latency.clone()));
        let mut drawn = Self { there: way(rng), back: way(rng), breaks: Breaks::Nowhere, tied: rng.bool() };
        if !calm && rng.f64() < plan.lost {
            match rng.u8(..6) {
                0 => drawn.breaks = Breaks::ResetThere,
                1 => drawn.breaks = Breaks::ResetBack,
                2 => drawn.breaks = Breaks::SilentThere,
                3 => drawn.breaks = Breaks::SilentBack,
                // Longer than any client waits: the effect comes after the next try's.
                4 => drawn.there = Duration::from_millis(rng.u64(1_000..90_000)),
                _ => drawn.back = Duration::from_millis(rng.u64(1_000..90_000)),
            }
        }
        drawn
    }
}

/// How often the answer to one question may be spoilt: what stays unreadable is rightly a dead letter, and which events were in
/// it nobody can say here.
const SPOILT_AT_MOST: u32 = 2;

/// What Mimecast does wrong with this call, if anything.
pub fn strike(world: &World, path: &str, asked: &str) -> Option<FaultKind> {
    if world.is_calm() {
        return None;
    }
    let upstream = &world.plan.upstream;
    if path.starts_with("/siem/") && world.rng().f64() < upstream.forms {
        world.ledger().counts.faults += 1;
        return Some(form_of_token(&mut world.rng(), asked));
    }
    // Of a link the signature differs each time.
    let question = if path.starts_with("/files/") { path.to_owned() } else { format!("{path} {asked}") };
    let mut spoilt = lock(&world.spoilt);
    let times = spoilt.entry(question).or_default();
    let packed = path.ends_with("get-feed") || (path.ends_with("siem-logs") && world.plan.siem.zip);
    // A file of one bad piece that no checksum covers is asked for so often by itself.
    let spoiling = *times < SPOILT_AT_MOST && (packed || !world.plan.nasty || !path.ends_with("siem-logs"));
    let fault = if world.rng().f64() < upstream.between {
        in_between(&mut world.rng(), path, spoiling)?
    } else if world.rng().f64() < world.plan.mimecast {
        spoil_or_refuse(&mut world.rng(), path, spoiling, packed)
    } else {
        return None;
    };
    *times += u32::from(is_spoiling(&fault));
    let mut ledger = world.ledger();
    ledger.counts.faults += 1;
    ledger.restarts += u64::from(matches!(fault, FaultKind::RefuseSiemToken));
    drop(ledger);
    Some(fault)
}

/// What goes wrong with a call to `path`; `packed`: its answer has a checksum.
fn spoil_or_refuse(rng: &mut Rng, path: &str, spoiling: bool, packed: bool) -> FaultKind {
    let status = |status: u16| FaultKind::status(status);
    if path.starts_with("/files/") {
        // An object store, not the API: it knows no tokens and no `fail`.
        let kinds = [
            FaultKind::ExpiredLink,
            FaultKind::ExpiredLink,
            status(404),
            status(410),
            status(307),
            status(500),
            FaultKind::Html503,
            FaultKind::CutBody,
            FaultKind::ResetBeforeAnswer,
            FaultKind::Truncated,
            FaultKind::CorruptZip,
            FaultKind::EmptyBody,
        ];
        return pick(rng, if spoiling { &kinds } else { &kinds[..9] }).clone();
    }
    let seconds = *pick(rng, &[0, 1, 5, 90, 2_000]);
    let fail = |code: &str, message: &str| FaultKind::FailOn200 { code: code.into(), message: message.into() };
    let kinds = [
        FaultKind::rate_limited(Duration::from_secs(seconds)),
        status(429),
        status(500),
        status(502),
        FaultKind::Html503,
        status(504),
        FaultKind::CutBody,
        FaultKind::ResetBeforeAnswer,
        FaultKind::TokenExpired,
        FaultKind::RefusePageToken,
        FaultKind::RefuseSiemToken,
        FaultKind::FailWithData { code: "err_internal".into(), message: "try later".into() },
        fail("err_internal", "try later"),
        fail("err_developer_key", "App ID is invalid"),
        FaultKind::binding_expired(),
        status(400),
        status(403),
        status(404),
        status(302),
        FaultKind::MetaStatus404,
        FaultKind::EmptyPageWithNext,
        FaultKind::NoPagination,
        // From here on spoiling.
        FaultKind::Garbage,
        FaultKind::EmptyBody,
        FaultKind::Truncated,
        FaultKind::NonUtf8,
        FaultKind::CorruptZip,
    ];
    // Without a checksum nobody can tell that bytes have changed; and a file with other bytes is another file.
    let untold = match packed {
        true => 0,
        false if path.ends_with("siem-logs") => 2,
        false => 1,
    };
    let most = kinds.len() - untold;
    pick(rng, if spoiling { &kinds[..most] } else { &kinds[..22] }).clone()
}

/// A listing with its token in another form. By date it is the truth: only a token may be answered as a dead one.
fn form_of_token(rng: &mut Rng, asked: &str) -> FaultKind {
    use FaultKind::{AbsentToken, DeadToken, EmptyToken, NullToken, RepeatedToken};
    let kinds = [EmptyToken, AbsentToken, NullToken, RepeatedToken, DeadToken];
    pick(rng, if asked.contains("nextPage=") { &kinds } else { &kinds[..3] }).clone()
}

/// A page of something in between. In place of a file, however often, it makes no dead letter; in place of rows it may be taken
/// for a broken answer, so that it counts as one.
fn in_between(rng: &mut Rng, path: &str, spoiling: bool) -> Option<FaultKind> {
    let store = path.starts_with("/files/");
    let kind = if store && rng.bool() { FaultKind::Xml200 } else { FaultKind::Html200 };
    (spoiling || store || has_files(path)).then_some(kind)
}

fn has_files(path: &str) -> bool {
    path.ends_with("siem-logs") || path.ends_with("get-feed")
}

/// Whether a fault leaves an answer that looks whole and is not.
fn is_spoiling(fault: &FaultKind) -> bool {
    use FaultKind::{CorruptZip, EmptyBody, Garbage, Html200, NonUtf8, Truncated};
    matches!(fault, Garbage | EmptyBody | Truncated | CorruptZip | NonUtf8 | Html200)
}

/// Whether an answer with this fault shows all the same what there is, or leads to it.
pub fn is_right(fault: &FaultKind) -> bool {
    use FaultKind::{AbsentToken, EmptyPageWithNext, EmptyToken, NoPagination, NonUtf8, NullToken, RepeatedToken};
    let with_token = matches!(fault, AbsentToken | EmptyToken | NullToken | RepeatedToken);
    with_token || matches!(fault, NoPagination | EmptyPageWithNext | NonUtf8)
}

/// Whether it says what nobody can doubt, that nothing is new, and may be wrong: by an empty body, API 1.0 says so.
pub fn misleads(fault: &FaultKind, path: &str) -> bool {
    matches!(fault, FaultKind::EmptyBody) && has_files(path)
}

/// What Devo does wrong.
pub fn devo(rng: &mut Rng) -> devo::Fault {
    let retry_after = rng.u32(..40).to_string();
    match rng.u8(..12) {
        0 => devo::Fault::status(429).header("retry-after", &retry_after),
        1 => devo::Fault::status(429),
        2 => devo::Fault::status(500),
        3 => devo::Fault::status(503),
        4 => devo::Fault::status(408),
        5 => devo::Fault::status(*pick(rng, &[400, 401, 403])),
        6 => devo::Fault::new(devo::Kind::ResetBeforeAnswer),
        7 | 8 => devo::Fault::new(devo::Kind::AcceptThenReset),
        9 => devo::Fault::new(devo::Kind::ResetMidBody),
        10 => devo::Fault::new(devo::Kind::ResetAbove { max_bytes: 500 }),
        _ => devo::Fault::new(devo::Kind::TooLarge { max_bytes: *pick(rng, &[400, 2_000]) }),
    }
}

/// What DynamoDB answers in place of the right answer: status and body. Nothing takes effect.
pub fn dynamo(rng: &mut Rng, operation: &str) -> (u16, String) {
    let simple = |status: u16, name: &str| {
        (status, format!(r#"{{"__type":"com.amazonaws.dynamodb.v20120810#{name}","message":"simulated"}}"#))
    };
    match rng.u8(..6) {
        0 => simple(400, "ThrottlingException"),
        1 => simple(500, "InternalServerError"),
        2 => (503, String::new()),
        3 if operation == "UpdateItem" => simple(400, "TransactionConflictException"),
        3 | 4 if operation == "TransactWriteItems" => {
            let code = *pick(rng, &["TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"]);
            let body = format!(
                r#"{{"__type":"com.amazonaws.dynamodb.v20120810#TransactionCanceledException","Message":"simulated","CancellationReasons":[{{"Code":"{code}","Message":"simulated"}},{{"Code":"None"}}]}}"#
            );
            (400, body)
        }
        _ => simple(400, "ProvisionedThroughputExceededException"),
    }
}
