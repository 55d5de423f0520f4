//! Sends a file of events through the crate and prints what became of them as one line of JSON, for the tests in `tests/interop`.
//!
//! `send URL FILE [SETTINGS]`: a line of FILE is a table, a tab and the event; SETTINGS is a JSON object of [`Options`]' names and
//! `credentials` (a file, the Devo secret) and `seconds` (the most it may take).

use std::{
    collections::VecDeque,
    error::Error,
    fs,
    time::{Duration, Instant},
};

use bytes::Bytes;
use devo::{Accepted, Batch, Credentials, Date, Delivery, Error as DevoError, Framing, Options, Sink};
use serde_json::{Value, json};

/// The most that one `Sink::send` is given.
const MAX_LINES: usize = 10_000;
const MAX_BYTES: usize = 8_000_000;
/// The kernel counts CPU time in hundredths of a second.
const TICKS: f64 = 100.0;

/// Events of one table, in the order of the file.
struct Run {
    table: String,
    lines: Vec<Bytes>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, file, rest @ ..] = &arguments[..] else { return Err("usage: send URL FILE [SETTINGS]".into()) };
    let settings: Value = rest.first().map_or(Ok(Value::Null), |text| serde_json::from_str(text))?;
    let sink = Sink::open(url, credentials(&settings)?.as_ref(), &options(&settings))?;
    let mut waiting = portions(&Bytes::from(fs::read(file)?))?;

    let before = cpu_seconds()?;
    let start = Instant::now();
    let until = start + Duration::from_secs(settings["seconds"].as_u64().unwrap_or(600));
    let (mut sends, mut accepted, mut refused, mut failures) = (0, 0, 0, Vec::new());
    while let Some(portion) = waiting.pop_front() {
        let batches: Vec<Batch<'_>> =
            portion.iter().map(|run| Batch { table: &run.table, lines: run.lines.clone() }).collect();
        let delivery = sink.send(&batches, until.into()).await;
        sends += 1;
        refused += delivery.refused.len();
        accepted += delivery.settled.iter().sum::<usize>() - delivery.refused.len();
        failures.extend(delivery.failure.as_ref().map(ToString::to_string));
        let rest = unsettled(portion, &delivery);
        if !rest.is_empty() {
            waiting.push_front(rest);
        }
        let lasting = matches!(delivery.failure, Some(DevoError::Configuration(_) | DevoError::Rejected(_)));
        if lasting || Instant::now() >= until {
            break;
        }
    }
    let unsettled: usize = waiting.iter().flatten().map(|run| run.lines.len()).sum();
    println!(
        "{}",
        json!({
            "accepted": accepted,
            "refused": refused,
            "unsettled": unsettled,
            "sends": sends,
            "failures": failures.len(),
            "last_failure": failures.last(),
            "seconds": start.elapsed().as_secs_f64(),
            "cpu_seconds": cpu_seconds()? - before,
        })
    );
    Ok(())
}

fn credentials(settings: &Value) -> Result<Option<Credentials>, Box<dyn Error>> {
    let Some(file) = settings["credentials"].as_str() else { return Ok(None) };
    Ok(Some(Credentials::from_json(&fs::read_to_string(file)?.into())?))
}

fn options(settings: &Value) -> Options {
    let default = Options::default();
    Options {
        host: settings["host"].as_str().map_or(default.host, str::to_owned),
        date: if settings["date"] == "collector" { Date::Collector } else { Date::Rfc3339 },
        framing: if settings["framing"] == "octet" { Framing::Octet } else { Framing::Lf },
        gzip: settings["gzip"] == "on",
        accepted: if settings["accepted"] == "acknowledged" { Accepted::Acknowledged } else { Accepted::Closed },
        connections: settings["connections"].as_u64().map_or(default.connections, |count| count as usize),
    }
}

/// The file in pieces for one send each: its events by table, the tables in the order of their first event.
fn portions(file: &Bytes) -> Result<VecDeque<Vec<Run>>, Box<dyn Error>> {
    let mut portions = VecDeque::new();
    let (mut portion, mut count, mut bytes) = (Vec::<Run>::new(), 0, 0);
    for line in file.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let tab = line.iter().position(|byte| *byte == b'\t').ok_or("a line without a tab")?;
        let (table, event) = (std::str::from_utf8(&line[..tab])?, file.slice_ref(&line[tab + 1..]));
        if count == MAX_LINES || bytes + event.len() > MAX_BYTES {
            portions.push_back(std::mem::take(&mut portion));
            (count, bytes) = (0, 0);
        }
        (count, bytes) = (count + 1, bytes + event.len());
        match portion.iter_mut().find(|run| run.table == table) {
            Some(run) => run.lines.push(event),
            None => portion.push(Run { table: table.to_owned(), lines: vec![event] }),
        }
    }
    portions.push_back(portion);
    Ok(portions)
}

/// What is to be sent again.
fn unsettled(portion: Vec<Run>, delivery: &Delivery) -> Vec<Run> {
    let rest = portion.into_iter().zip(&delivery.settled).map(|(mut run, settled)| {
        run.lines.drain(..settled);
        run
    });
    rest.filter(|run| !run.lines.is_empty()).collect()
}

/// What this process has used, user and system.
fn cpu_seconds() -> Result<f64, Box<dyn Error>> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The second field, the program's name in brackets, may hold blanks.
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / TICKS)
}
