//! (g) Honesty: what `caught_up` has to mean.

use chrono::{DateTime, Days, NaiveTime, TimeDelta, Utc};
use collector::Status;
use collector::source::{Kind, Source};
use simulator::data::Expected;

use crate::ledger::Lines;
use crate::network::Run;
use crate::world::World;

/// Default of the product's `SETTLE`.
const SETTLE: TimeDelta = TimeDelta::seconds(60);
/// How far behind a run's begin a window has to reach at least: SETTLE, and what is not worth another request.
pub const SETTLED: TimeDelta = TimeDelta::minutes(3);

impl World {
    /// From when on a run that begins then must not say that it has caught up without `line`, which Mimecast shows from `shown`
    /// on.
    ///
    /// This is the bound. A request by date at the run's end would show all that was there at its begin; no run may pass over
    /// more of it than
    /// - a row of a window that is not SETTLED yet, and one that came later than SETTLE until it is OVERLAP old: then at the
    ///   latest every instant is read once more;
    /// - a file whose tokens mislead (sealed, or dead and saying that there is no more), or that listings had lost for a while,
    ///   until the day after: then at the latest every feed is listed by date. Before, an hour of silence may lead to a listing,
    ///   which is not asked for here, as a feed's habit is the product's to judge.
    pub fn due(&self, source: &Source, line: &str, shown: DateTime<Utc>, lost: bool) -> DateTime<Utc> {
        match &source.kind {
            Kind::Window(window) => {
                let overlap = self.plan.overlap.unwrap_or(window.overlap);
                // A row may come without a time, and is of any within the overlap then.
                let Some(time) = time(line, window.time) else { return shown + SETTLED + overlap };
                let late = shown > time + SETTLE;
                time + SETTLED + if late { overlap } else { TimeDelta::zero() }
            }
            Kind::Stream(_) if self.plan.lists(source) && (lost || self.plan.upstream.tokens_mislead()) => {
                self.day_after(shown)
            }
            _ => shown,
        }
    }

    /// When a day has begun by every machine's clock that had begun by none of them at `time`.
    pub fn day_after(&self, time: DateTime<Utc>) -> DateTime<Utc> {
        let day = (time + self.plan.skew).date_naive();
        let next = day.checked_add_days(Days::new(1)).unwrap_or(day);
        next.and_time(NaiveTime::MIN).and_utc() + self.plan.skew
    }

    /// A run of `source` that began at `began` has ended in order.
    pub fn check_honesty(&self, source: &Source, run: &Run, status: Status, began: DateTime<Utc>) {
        if status != Status::CaughtUp || run.misled {
            return;
        }
        let told = |text: &String| text.starts_with(&format!("(g) {}/", source.name));
        if self.ledger().violations.iter().any(told) {
            return;
        }
        let owed = self.ledger().owed(source.name, began);
        if let Some(missing) = self.missing(&owed) {
            self.ledger().violate(format!("(g) {} has caught up without {missing}", run.name));
        }
    }

    /// What of `owed` has neither arrived at Devo nor become a dead letter.
    fn missing(&self, owed: &Lines) -> Option<String> {
        let delivered = self.devo.lines();
        let first = absent(owed, &delivered, &[]);
        // Dead letters are looked at where they matter.
        first.and_then(|_| absent(owed, &delivered, &self.dead()))
    }
}

/// The first of `owed` that is not there as often.
fn absent(owed: &Lines, delivered: &Expected, dead: &[(Vec<u8>, bool)]) -> Option<String> {
    let dead: Vec<String> = dead.iter().map(|(raw, _)| crate::ledger::legible(raw)).collect();
    owed.iter().find_map(|((table, line), count)| {
        let lines = delivered.get(table).into_iter().flatten();
        let there = lines.chain(&dead).filter(|there| *there == line).count();
        (there < *count).then(|| format!("{there} of {count} in {table}: {line}"))
    })
}

/// The time of a row, as text: not every row is text for a JSON reader.
fn time(line: &str, key: &str) -> Option<DateTime<Utc>> {
    let (_, rest) = line.split_once(&format!("\"{key}\":\""))?;
    let (text, _) = rest.split_once('"')?;
    let time = DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%z").ok()?;
    Some(time.to_utc())
}
