//! The three servers of a seed, their data, and the books about them.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, TimeDelta, Utc};
use collector::source::{Kind, Source};
use fastrand::Rng;
use mimecast_devo::embedded::{Embedded, TABLE};
use serde_json::{Value, json};
use simulator::data;
use simulator::{Devo, Mimecast};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::honesty::SETTLED;
use crate::ledger::Ledger;
use crate::plan::{Plan, is_dated, pick};
use crate::trace::Trace;

/// When a world begins at the earliest. The engine drops what has expired by the machine's clock, so this lies behind no such
/// clock.
const BEGIN: i64 = 4_102_448_400;
/// How much later it is evening.
const EVENING: TimeDelta = TimeDelta::hours(21);
/// How far back the data goes when it begins.
const HISTORY: TimeDelta = TimeDelta::hours(12);

/// All of a seed.
pub struct World {
    pub seed: u64,
    pub plan: Plan,
    pub mimecast: Mimecast,
    pub devo: Devo,
    pub table: Embedded,
    rng: Mutex<Rng>,
    ledger: Mutex<Ledger>,
    trace: Mutex<Trace>,
    begin: Instant,
    start: DateTime<Utc>,
    calm: AtomicBool,
    /// The last instant until which a file is hidden.
    hidden_until: Mutex<DateTime<Utc>>,
    /// How often the answer to a question was spoilt.
    pub spoilt: Mutex<HashMap<String, u32>>,
    secrets: TempDir,
    filled: Mutex<u64>,
}

impl World {
    pub fn new(seed: u64, verbose: bool) -> io::Result<Self> {
        let mut rng = Rng::with_seed(seed);
        let plan = Plan::draw(&mut rng);
        let later =
            if plan.upstream.evening { EVENING + TimeDelta::minutes(rng.i64(0..100)) } else { TimeDelta::zero() };
        let start = DateTime::from_timestamp(BEGIN, 0).unwrap_or_default() + later;
        let world = Self {
            seed,
            mimecast: Mimecast::in_process(rng.u64(..), start),
            devo: Devo::in_process(),
            table: Embedded::memory().map_err(io::Error::other)?,
            rng: Mutex::new(rng),
            ledger: Mutex::default(),
            trace: Mutex::new(Trace::new(verbose)),
            begin: Instant::now(),
            start,
            calm: AtomicBool::new(false),
            hidden_until: Mutex::new(start),
            spoilt: Mutex::default(),
            secrets: tempfile::tempdir()?,
            filled: Mutex::new(0),
            plan,
        };
        world.mimecast.siem_mode(world.plan.siem.clone());
        world.mimecast.doubts(world.plan.upstream.doubts.clone());
        world.mimecast.set_feed_page(world.plan.feed_page);
        world.write_secrets()?;
        for source in &world.plan.sources {
            let steps = if matches!(source.kind, Kind::Stream(_)) { world.plan.history.div_ceil(5) } else { 1 };
            for step in 1..=steps {
                let newest = world.now() - HISTORY + HISTORY * i32::try_from(step).unwrap_or(1) / 1.max(steps as i32);
                let count = world.plan.history.div_ceil(steps.max(1));
                // No run has been before it, so none of it is late.
                let oldest = world.now() - HISTORY;
                world.fill(source, oldest, newest.min(world.now()), count, oldest);
            }
        }
        Ok(world)
    }

    /// The true time.
    pub fn now(&self) -> DateTime<Utc> {
        self.start + self.begin.elapsed()
    }

    pub fn rng(&self) -> MutexGuard<'_, Rng> {
        lock(&self.rng)
    }

    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }

    pub fn note(&self, text: &str) {
        lock(&self.trace).note(text);
    }

    /// Before a run of `source` all tokens may die.
    pub fn kill_tokens(&self, source: &Source) {
        if self.plan.upstream.dying && self.plan.lists(source) && self.rng().bool() {
            self.note("-- all tokens die");
            self.mimecast.kill_tokens();
        }
    }

    /// From here on nothing goes wrong, but for what lasts.
    pub fn calm_down(&self) {
        self.calm.store(true, Relaxed);
        let mode =
            simulator::mimecast::SiemMode { link_life: std::time::Duration::from_secs(300), ..self.plan.siem.clone() };
        self.mimecast.siem_mode(mode);
        self.note("-- calm");
    }

    pub fn is_calm(&self) -> bool {
        self.calm.load(Relaxed)
    }

    pub fn secrets(&self) -> &Path {
        self.secrets.path()
    }

    /// New keys for Mimecast or a new token for Devo, known to the secrets' readers from now on.
    pub fn rotate(&self) -> io::Result<()> {
        self.note("-- secrets rotated");
        match self.rng().bool() {
            true if self.plan.v2 => self.mimecast.rotate_v2(),
            true => self.mimecast.rotate_v1(),
            false => self.devo.rotate(),
        }
        self.write_secrets()
    }

    fn write_secrets(&self) -> io::Result<()> {
        let mimecast = if self.plan.v2 { self.mimecast.secret_v2() } else { self.mimecast.secret_v1() };
        std::fs::write(self.secrets().join("mimecast"), mimecast)?;
        std::fs::write(self.secrets().join("devo"), self.devo.secret())
    }

    /// Something new at the source, or something old that shows only now.
    pub fn produce(&self, source: &Source) {
        let (count, late) = {
            let mut rng = self.rng();
            let overlap = match &source.kind {
                Kind::Window(window) => self.plan.overlap.unwrap_or(window.overlap),
                _ => TimeDelta::zero(),
            };
            (rng.usize(1..=self.plan.burst), TimeDelta::seconds(rng.i64(0..=overlap.num_seconds())))
        };
        let now = self.now();
        let oldest = now - late;
        let newest = if self.rng().bool() { oldest } else { now };
        if source.name != "messageholdsummary" {
            self.fill(source, oldest, newest, count, now);
        }
        self.push_twin(source, newest);
        if self.plan.nasty {
            self.push_bad(source, newest);
        }
    }

    /// A row that shows only now, of any time within the overlap.
    pub fn produce_late(&self, source: &Source) {
        let Kind::Window(window) = &source.kind else { return };
        let overlap = self.plan.overlap.unwrap_or(window.overlap);
        let time = self.now() - TimeDelta::seconds(self.rng().i64(0..=overlap.num_seconds()));
        self.fill(source, time, time, 1, self.now());
    }

    /// `count` more, of which Mimecast shows none before `shown`.
    fn fill(&self, source: &Source, oldest: DateTime<Utc>, newest: DateTime<Utc>, count: usize, shown: DateTime<Utc>) {
        // Ids follow from this number below a million.
        let number = {
            let mut filled = lock(&self.filled);
            *filled += 1;
            (self.seed % 1_000) * 1_000 + *filled
        };
        let first = self.mimecast.siem_files();
        let mut expected = data::add(&self.mimecast, source.name, number, oldest, newest, count);
        if self.plan.stix
            && let Some(rows) = expected.get_mut(data::FEED_TABLE)
        {
            *rows = data::stix(rows);
        }
        let hidden = self.plan.lists(source).then(|| self.plan.upstream.hides(&mut self.rng(), self.now())).flatten();
        if let Some(until) = hidden {
            (first..self.mimecast.siem_files()).for_each(|file| self.mimecast.hide_siem(file, until));
            let mut last = lock(&self.hidden_until);
            *last = until.max(*last);
        }
        let due = |line: &str| self.due(source, line, hidden.unwrap_or(shown), hidden.is_some());
        self.ledger().expect(source.name, expected, due);
        let hidden = hidden.map_or(String::new(), |until| format!(", hidden until {until}"));
        self.note(&format!("-- {} has {count} more, {oldest} to {newest}{hidden}", source.name));
    }

    /// When all that a run may rightly pass over is due, where nothing comes any more.
    pub fn settled(&self, source: &Source) -> DateTime<Utc> {
        match &source.kind {
            Kind::Window(window) => self.now() + self.plan.overlap.unwrap_or(window.overlap) + SETTLED,
            _ if self.plan.lists(source) => self.day_after(self.now().max(*lock(&self.hidden_until))),
            _ => self.now(),
        }
    }

    /// A row without an id that is there already shows a second time: two events.
    fn push_twin(&self, source: &Source, time: DateTime<Utc>) {
        let Kind::Window(window) = &source.kind else { return };
        if window.id.is_some() || self.rng().u8(..3) > 0 {
            return;
        }
        let stamp = self.rng().u32(..);
        let row = format!(r#"{{"{}":"{}","n":{stamp}}}"#, window.time, time.format("%Y-%m-%dT%H:%M:%S+0000"));
        for shown in [self.now(), self.now() + TimeDelta::seconds(self.rng().i64(0..40))] {
            self.mimecast.push_late(source.name, time, shown, &row);
            let line = [(source.table.to_owned(), vec![row.clone()])].into();
            self.ledger().expect(source.name, line, |line| self.due(source, line, shown, false));
        }
    }

    /// A piece of input that is no event.
    fn push_bad(&self, source: &Source, time: DateTime<Utc>) {
        let stamp = self.rng().u32(..);
        let raw = [format!(r#"{{"n":{stamp},"text":""#).as_bytes(), b"\xfe\xc0", br#""}"#].concat();
        match &source.kind {
            Kind::Window(_) => self.mimecast.push(source.name, time, &raw),
            // Of a listing, which any line may be in; in an answer of files only what its JSON survives.
            Kind::Stream(_) if is_dated(source) => {
                let gateway = source.name == "siem";
                let kinds = if gateway { ["receipt", "process", "av"] } else { ["entities", "mailflow", "urlclick"] };
                let kind = *pick(&mut self.rng(), &kinds);
                self.mimecast.push_siem_at(kind, self.now(), vec![raw.clone()]);
            }
            _ => return,
        }
        self.ledger().expect_bad(&raw);
        self.note(&format!("-- {} has a bad piece {stamp}", source.name));
    }

    /// The dead letters, with whether Devo's refusal made them so.
    pub fn dead(&self) -> Vec<(Vec<u8>, bool)> {
        self.letters().iter().map(|letter| (raw(letter), letter["origin"]["S"] == "devo")).collect()
    }

    fn letters(&self) -> Vec<Value> {
        let mut letters = Vec::new();
        for source in &self.plan.sources {
            let request = json!({
                "TableName": TABLE,
                "KeyConditionExpression": "pk = :pk AND begins_with(sk, :dead)",
                "ExpressionAttributeValues": {":pk": {"S": format!("default#{}", source.name)}, ":dead": {"S": "dead#"}},
            });
            let (_, answer) = self.table.execute("Query", request.to_string().as_bytes());
            let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
            letters.extend(answer["Items"].as_array().into_iter().flatten().cloned());
        }
        letters
    }

    /// Whether everything is where it should be; what happened.
    pub fn end(&self) -> (Ledger, u64, Vec<String>) {
        for letter in self.letters() {
            let (origin, reason, raw) = (&letter["origin"]["S"], &letter["reason"]["S"], raw(&letter));
            self.note(&format!("-- dead letter: {origin} {reason} {}", String::from_utf8_lossy(&raw)));
        }
        let mut ledger = std::mem::take(&mut *self.ledger());
        ledger.balance(&self.devo.lines(), &self.dead());
        let (hash, lines) = std::mem::replace(&mut *lock(&self.trace), Trace::new(false)).end();
        (ledger, hash, lines)
    }
}

/// What is dead.
fn raw(letter: &Value) -> Vec<u8> {
    STANDARD.decode(letter["raw"]["B"].as_str().unwrap_or_default()).unwrap_or_default()
}

/// One thread: a lock is never poisoned but by a panic, which ends the seed.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
