//! How `collect` is, for who asks over HTTP: `/healthz`, `/metrics` in Prometheus's text form, `/status.json`, and a page for people.
//!
//! It is never well when it knows nothing: a source that has not run, that fails, that is late or has fallen silent makes
//! `/healthz` answer 503 with the reason. All series are there from the start, so that none can vanish.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse};
use axum::routing::get;
use chrono::{DateTime, TimeDelta, Utc};
use collector::{Answer, Error, Source, Status};
use mimecast::Clock;
use serde::Serialize;
use tokio::net::TcpListener;

/// A source is late that has not succeeded for so many of its periods, and a while.
const LATE_PERIODS: u32 = 3;
const LATE: TimeDelta = TimeDelta::minutes(5);
/// How far behind a source may be.
pub const LAG: TimeDelta = TimeDelta::hours(1);
/// SIEM that has given nothing for so long has gone blind: every message makes events.
const SILENCE: TimeDelta = TimeDelta::hours(24);
/// Minutes of which the events are shown.
pub const MINUTES: usize = 60;

/// What the runs of a process have come to.
pub struct Health {
    clock: Clock,
    started: DateTime<Utc>,
    sources: Mutex<BTreeMap<&'static str, Runs>>,
}

/// The runs of one source.
#[derive(Debug, Clone, Default, Serialize)]
struct Runs {
    table: &'static str,
    period_seconds: u64,
    succeeded: u64,
    failed: u64,
    events: u64,
    duplicates: u64,
    rejected: u64,
    requests: u64,
    last_success: Option<DateTime<Utc>>,
    last_run: Option<DateTime<Utc>>,
    next_run: Option<DateTime<Utc>>,
    failure: Option<Failure>,
    /// The instant up to which everything has been collected.
    collected_to: Option<DateTime<Utc>>,
    silent_since: Option<DateTime<Utc>>,
    warnings: Vec<String>,
    /// Events by minute, the latest last.
    minutes: VecDeque<(i64, u64)>,
}

/// Why the last run failed.
#[derive(Debug, Clone, Serialize)]
struct Failure {
    at: DateTime<Utc>,
    error_type: &'static str,
    /// With what to do.
    text: String,
}

/// All of it, for the page.
#[derive(Serialize)]
struct Whole {
    version: &'static str,
    started: DateTime<Utc>,
    now: DateTime<Utc>,
    healthy: bool,
    sources: BTreeMap<&'static str, Shown>,
}

#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    runs: Runs,
    lag_seconds: Option<i64>,
    trouble: Option<String>,
}

type Outcome = Result<Answer, (Error, String)>;

impl Health {
    pub fn new(clock: Clock) -> Self {
        Self { clock, started: clock.now(), sources: Mutex::default() }
    }

    /// Names the sources that are to run. What is known of them stays.
    pub fn expect(&self, sources: &[(&'static Source, Duration)]) {
        let mut known = self.lock();
        known.retain(|name, _| sources.iter().any(|(source, _)| source.name == *name));
        for (source, period) in sources {
            let runs = known.entry(source.name).or_default();
            (runs.table, runs.period_seconds) = (source.table, period.as_secs());
        }
    }

    /// Takes in a run that has ended.
    pub fn record(&self, source: &'static Source, period: Duration, outcome: &Outcome) {
        let now = self.clock.now();
        let mut sources = self.lock();
        let runs = sources.entry(source.name).or_default();
        runs.last_run = Some(now);
        runs.next_run = TimeDelta::from_std(period).ok().map(|period| now + period);
        match outcome {
            // Somebody else collects it: nothing is known of how.
            Ok(Answer { status: Status::Busy, .. }) => {}
            Ok(answer) => {
                runs.succeeded += 1;
                runs.last_success = Some(now);
                runs.failure = None;
                runs.events += answer.events;
                runs.duplicates += answer.duplicates;
                runs.rejected += answer.rejected;
                runs.requests += answer.requests;
                runs.collected_to = answer.lag_seconds.map(|lag| now - TimeDelta::seconds(lag));
                runs.silent_since = answer.silent_since;
                runs.warnings.clone_from(&answer.warnings);
                runs.count(now, answer.events);
            }
            Err((error, tenant)) => {
                runs.failed += 1;
                let text = error.report(source.name, tenant, source.permission);
                runs.failure = Some(Failure { at: now, error_type: error.error_type().as_str(), text });
            }
        }
    }

    /// Answers on `address`, for as long as the runtime lives.
    ///
    /// # Errors
    /// Where it cannot listen there.
    pub async fn serve(self: &Arc<Self>, address: SocketAddr) -> io::Result<()> {
        let app = Router::new()
            .route("/healthz", get(healthz))
            .route("/metrics", get(metrics))
            .route("/status.json", get(status))
            .with_state(self.clone());
        let address = serve_with_page(address, app).await?;
        tracing::info!("listening on http://{address}");
        Ok(())
    }

    fn whole(&self) -> Whole {
        let now = self.clock.now();
        let shown = |runs: &Runs| Shown { lag_seconds: runs.lag(now), trouble: runs.trouble(now), runs: runs.clone() };
        let sources: BTreeMap<_, _> = self.lock().iter().map(|(name, runs)| (*name, shown(runs))).collect();
        let healthy = !sources.is_empty() && sources.values().all(|shown| shown.trouble.is_none());
        Whole { version: env!("CARGO_PKG_VERSION"), started: self.started, now, healthy, sources }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Runs>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Runs {
    fn count(&mut self, now: DateTime<Utc>, events: u64) {
        let minute = now.timestamp().div_euclid(60);
        match self.minutes.back_mut() {
            Some((last, count)) if *last == minute => *count += events,
            _ => self.minutes.push_back((minute, events)),
        }
        while self.minutes.front().is_some_and(|(first, _)| minute - first >= MINUTES as i64) {
            self.minutes.pop_front();
        }
    }

    /// It grows also while nothing runs.
    fn lag(&self, now: DateTime<Utc>) -> Option<i64> {
        self.collected_to.map(|at| (now - at).num_seconds().max(0))
    }

    /// Why this source is not well.
    fn trouble(&self, now: DateTime<Utc>) -> Option<String> {
        if let Some(failure) = &self.failure {
            return Some(format!("failing since {}: {}", failure.at.format("%FT%TZ"), failure.text));
        }
        let Some(success) = self.last_success else { return Some("has not run yet".to_owned()) };
        let period = TimeDelta::seconds(i64::try_from(self.period_seconds).unwrap_or(i64::MAX / 1000));
        let late = period * i32::try_from(LATE_PERIODS).unwrap_or(1) + LATE;
        if now - success > late {
            return Some(format!("late: the last run that succeeded was {} s ago", (now - success).num_seconds()));
        }
        if let Some(lag) = self.lag(now).filter(|lag| *lag > LAG.max(late).num_seconds()) {
            return Some(format!("late: collected to {lag} s ago"));
        }
        let is_silent = |since: &DateTime<Utc>| now - *since > SILENCE && self.table.ends_with(".siem");
        self.silent_since
            .filter(is_silent)
            .map(|since| format!("silent: nothing has come since {}", since.format("%FT%TZ")))
    }
}

async fn healthz(State(health): State<Arc<Health>>) -> impl IntoResponse {
    let whole = health.whole();
    let troubles =
        whole.sources.iter().filter_map(|(name, shown)| Some(format!("{name}: {}\n", shown.trouble.as_ref()?)));
    match whole.healthy {
        true => (StatusCode::OK, "ok\n".to_owned()),
        false if whole.sources.is_empty() => (StatusCode::SERVICE_UNAVAILABLE, "nothing has started yet\n".to_owned()),
        false => (StatusCode::SERVICE_UNAVAILABLE, troubles.collect()),
    }
}

async fn status(State(health): State<Arc<Health>>) -> impl IntoResponse {
    fresh(serde_json::to_string(&health.whole()).unwrap_or_default())
}

async fn metrics(State(health): State<Arc<Health>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], prometheus(&health.whole()))
}

/// Prometheus's text form, version 0.0.4.
fn prometheus(whole: &Whole) -> String {
    type Value = fn(&Shown) -> Option<f64>;
    let series: [(&str, &str, &str, Value); 11] = [
        ("events_total", "counter", "Lines that Devo has accepted.", |shown| Some(shown.runs.events as f64)),
        ("duplicates_total", "counter", "Events left out because they had been sent before.", |shown| {
            Some(shown.runs.duplicates as f64)
        }),
        ("rejected_total", "counter", "Pieces of input that became dead letters.", |shown| {
            Some(shown.runs.rejected as f64)
        }),
        ("requests_total", "counter", "Requests to Mimecast.", |shown| Some(shown.runs.requests as f64)),
        ("runs_succeeded_total", "counter", "Runs that ended well.", |shown| Some(shown.runs.succeeded as f64)),
        ("runs_failed_total", "counter", "Runs that failed.", |shown| Some(shown.runs.failed as f64)),
        ("healthy", "gauge", "1 where nobody has to look, else 0.", |shown| {
            Some(f64::from(u8::from(shown.trouble.is_none())))
        }),
        ("period_seconds", "gauge", "How often it runs.", |shown| Some(shown.runs.period_seconds as f64)),
        ("last_success_timestamp_seconds", "gauge", "When a run last ended well; 0 before the first.", |shown| {
            Some(shown.runs.last_success.map_or(0.0, |at| at.timestamp() as f64))
        }),
        (
            "lag_seconds",
            "gauge",
            "Now minus the instant up to which everything has been collected; NaN where there is none.",
            |shown| Some(shown.lag_seconds.map_or(f64::NAN, |lag| lag as f64)),
        ),
        ("silent_since_timestamp_seconds", "gauge", "When a silent source last gave anything.", |shown| {
            shown.runs.silent_since.map(|at| at.timestamp() as f64)
        }),
    ];
    let mut text = String::new();
    for (name, kind, help, value) in series {
        writeln!(text, "# HELP mimecast_devo_{name} {help}\n# TYPE mimecast_devo_{name} {kind}").ok();
        for (source, shown) in &whole.sources {
            if let Some(value) = value(shown) {
                writeln!(text, "mimecast_devo_{name}{{source=\"{source}\"}} {value}").ok();
            }
        }
    }
    let started = whole.started.timestamp();
    writeln!(text, "# HELP mimecast_devo_start_timestamp_seconds When this process started.").ok();
    writeln!(
        text,
        "# TYPE mimecast_devo_start_timestamp_seconds gauge\nmimecast_devo_start_timestamp_seconds {started}"
    )
    .ok();
    writeln!(text, "# HELP mimecast_devo_info The version.\n# TYPE mimecast_devo_info gauge").ok();
    writeln!(text, "mimecast_devo_info{{version=\"{}\"}} 1", whole.version).ok();
    text
}

/// Serves the page beside the `/status.json` that it asks for, for as long as the runtime lives: the address.
///
/// # Errors
/// Where it cannot listen there.
pub async fn serve_with_page(address: SocketAddr, app: Router) -> io::Result<SocketAddr> {
    let app = app.route("/", get(async || Html(include_str!("page.html"))));
    let listener = TcpListener::bind(address).await.map_err(|error| {
        io::Error::new(error.kind(), format!("cannot listen on {address}: {error}: name another port"))
    })?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(address)
}

/// A status that is read anew each time.
pub fn fresh(text: String) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")], text)
}

/// A loopback address and a port: what is answered is for this host only.
pub fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|_| "an address like 127.0.0.1:9464".to_owned())?;
    if !address.ip().is_loopback() {
        return Err(
            "a loopback address, like 127.0.0.1:9464: put a proxy with a password before it to show it elsewhere"
                .to_owned(),
        );
    }
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_another_has_kept_out_says_nothing() {
        let (health, source) = (Health::new(Clock::System), functions::ALL[0]);
        let period = Duration::from_secs(1);
        let answer = |status| Answer {
            source: source.name,
            tenant: "default".to_owned(),
            status,
            events: 0,
            duplicates: 0,
            rejected: 0,
            requests: 0,
            batches: 0,
            lag_seconds: None,
            unknown_types: [].into(),
            checkpoint: serde_json::json!({}),
            gap: None,
            repeat: None,
            silent_since: None,
            warnings: Vec::new(),
        };
        health.expect(&[(source, period)]);
        health.record(source, period, &Ok(answer(Status::Busy)));
        assert!(!health.whole().healthy);
        health.record(source, period, &Ok(answer(Status::CaughtUp)));
        assert!(health.whole().healthy);
    }
}
