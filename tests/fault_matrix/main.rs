//! The fault matrix: every fault that breaks collectors, at every source it can hit, through the real protocols.
//!
//! A row (`mimecast.rs`, `others.rs`) is a fault, what it can hit, and what has to come of the run it strikes. A cell
//! (`cell.rs`) is a row at one source of one API: the real program, fed by a Mimecast with several pages or files, is struck;
//! the fault ends, new events come, and the runs after it have to bring all of them to Devo byte for byte, or into a dead
//! letter, each once but as the row says. `-- --nocapture` shows the matrix.
//!
//! Left to tests that do it better: bodies that never end or are bombs (`end_to_end/hostile.rs`), a denied source beside the
//! ten others and `fail` of other shapes (`bad_input.rs`, `regressions.rs`), rows that move while they are paged and
//! single seconds that stay broken (`windows.rs`), a request larger than a link carries (`shared/devo`), crashes at every
//! instant (`tests/simulation`), the other ways into Devo, receivers that never close and addresses that lead nowhere
//! (`end_to_end/field_cases/sinks.rs`, `shared/devo`, `tests/interop`), and full disks (`local/tests/state_file.rs`).

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/mod.rs"]
mod support;
#[path = "../end_to_end/world.rs"]
mod world;

mod cell;
mod mimecast;
mod others;
mod plant;
mod row;
mod subjects;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};

use row::{Breadth, Row};
use subjects::Subject;
use world::Api;

/// Cells at a time: most of a cell's time is waiting.
const AT_ONCE: usize = 24;
/// So that none drops out unseen.
const CELLS: usize = 1398;

/// What came of a cell: its row's number, its subject, how long it took, and what was wrong.
type Done = (usize, Subject, Duration, Result<(), String>);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_fault_at_every_source_it_can_hit() {
    let rows: Arc<Vec<Row>> = Arc::new(mimecast::rows().into_iter().chain(others::rows()).collect());
    let cells = rows.iter().enumerate().flat_map(|(number, row)| {
        row.reach.subjects(row.breadth).into_iter().map(move |subject| (number, subject)).collect::<Vec<_>>()
    });
    let cells: Vec<_> = cells.filter(|(number, subject)| is_wanted(&rows[*number], *subject)).collect();
    let count = cells.len();
    let running = cells.into_iter().map(async |(number, subject)| -> Done {
        let (started, rows) = (Instant::now(), rows.clone());
        // A task of its own: a cell that fails does not end the others.
        let cell = tokio::spawn(async move { cell::cell(&rows[number], subject).await }).await;
        (number, subject, started.elapsed(), cell.map_err(|error| text(error.into_panic())))
    });
    let done: Vec<Done> = stream::iter(running).buffer_unordered(AT_ONCE).collect().await;
    for (number, row) in rows.iter().enumerate() {
        show(row, &done.iter().filter(|cell| cell.0 == number).collect::<Vec<_>>());
    }
    println!("{count} cells of {} faults", rows.len());
    let failed: Vec<String> = done.iter().filter_map(|cell| failure(&rows[cell.0], cell)).collect();
    assert!(failed.is_empty(), "{} cells failed:\n{}", failed.len(), failed.join("\n"));
    assert!(count >= CELLS || std::env::var_os(ONLY).is_some(), "{count} cells are fewer than there were");
}

/// For work on a row: a part of the names of the cells to try.
const ONLY: &str = "FAULT_MATRIX_ONLY";

fn is_wanted(row: &Row, subject: Subject) -> bool {
    let part = std::env::var_os(ONLY).unwrap_or_default();
    name(row, subject).contains(&*part.to_string_lossy())
}

fn name(row: &Row, subject: Subject) -> String {
    let api = if subject.api == Api::V1 { "1.0" } else { "2.0" };
    format!("{}, {}: {} {api}", row.side, row.name, subject.source)
}

/// One line of the matrix.
fn show(row: &Row, cells: &[&Done]) {
    let has = |source, api| cells.iter().any(|cell| cell.1 == Subject { source, api });
    let sources = world::SOURCES.into_iter().chain(world::ON_REQUEST);
    let sources = sources.filter_map(|source| match (has(source, Api::V1), has(source, Api::V2)) {
        (true, true) => Some(format!("{source} 1+2")),
        (true, false) => Some(format!("{source} 1")),
        (false, true) => Some(format!("{source} 2")),
        (false, false) => None,
    });
    let longest = cells.iter().map(|cell| cell.2).max().unwrap_or_default();
    println!(
        "{:15} | {:44} | {:32} | {:3} | {:4.1} s | {}{}",
        row.side,
        row.name,
        format!("{:?}", row.expect),
        cells.len(),
        longest.as_secs_f64(),
        sources.collect::<Vec<_>>().join(", "),
        match row.breadth {
            Breadth::Every => String::new(),
            Breadth::EachSource(why) => format!(" (each at one API: {why})"),
            Breadth::EachKind(why) => format!(" (one of each kind: {why})"),
        },
    );
}

fn failure(row: &Row, (_, subject, _, outcome): &Done) -> Option<String> {
    outcome.as_ref().err().map(|reason| format!("{}: {reason}", name(row, *subject)))
}

fn text(panic: Box<dyn std::any::Any + Send>) -> String {
    let owned = panic.downcast_ref::<String>().cloned();
    owned.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}
