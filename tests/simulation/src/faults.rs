//! What goes wrong with one call: on its way, and at the server.

use std::time::Duration;

use fastrand::Rng;
use simulator::devo;
use simulator::mimecast::FaultKind;

use crate::plan::{Plan, pick};

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
pub const SPOILT_AT_MOST: u32 = 2;

/// What Mimecast does wrong with a call to `path`; `packed`: its answer has a checksum.
pub fn mimecast(rng: &mut Rng, path: &str, spoiling: bool, packed: bool) -> FaultKind {
    let status = |status: u16| FaultKind::status(status);
    if path.starts_with("/files/") {
        // An object store, not the API: it knows no tokens and no `fail`.
        let kinds = [
            FaultKind::ExpiredLink,
            FaultKind::ExpiredLink,
            status(404),
            status(500),
            FaultKind::Html503,
            FaultKind::CutBody,
            FaultKind::ResetBeforeAnswer,
            FaultKind::Truncated,
            FaultKind::CorruptZip,
            FaultKind::EmptyBody,
        ];
        return pick(rng, if spoiling { &kinds } else { &kinds[..7] }).clone();
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

/// Whether a fault leaves an answer that looks whole and is not.
pub fn is_spoiling(fault: &FaultKind) -> bool {
    use FaultKind::{CorruptZip, EmptyBody, Garbage, NonUtf8, Truncated};
    matches!(fault, Garbage | EmptyBody | Truncated | CorruptZip | NonUtf8)
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
