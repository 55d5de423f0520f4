//! What a seed holds: which sources, how much goes wrong, and how long. Small worlds, as many kinds of them as possible.

use std::ops::RangeInclusive;
use std::time::Duration;

use chrono::TimeDelta;
use collector::Source;
use collector::source::Kind;
use fastrand::Rng;
use simulator::mimecast::SiemMode;

use crate::upstream::Upstream;

/// A seed's world before anything happens in it.
pub struct Plan {
    pub v2: bool,
    pub sources: Vec<&'static Source>,
    pub page_size: Option<u32>,
    pub overlap: Option<TimeDelta>,
    pub stix: bool,
    pub siem: SiemMode,
    pub feed_page: usize,
    /// Events before the first run, per source.
    pub history: usize,
    /// Most events added at once later.
    pub burst: usize,
    /// Pieces of input that are no events.
    pub nasty: bool,
    /// How likely a call has a fault.
    pub mimecast: f64,
    pub devo: f64,
    pub dynamo: f64,
    /// How likely an answer is lost, or a request stays on its way for long.
    pub lost: f64,
    /// How likely a run is dropped within.
    pub crash: f64,
    /// How likely another run of the same source starts beside one.
    pub beside: f64,
    /// How likely the next run starts in a new process, and each has a clock of its own, wrong by so much at most.
    pub cold: f64,
    pub skew: TimeDelta,
    /// Milliseconds of a way.
    pub latency: RangeInclusive<u64>,
    /// Seconds that a run is given.
    pub deadline: RangeInclusive<u64>,
    /// Runs of each source while things go wrong.
    pub ticks: u32,
    /// Secrets are rotated.
    pub rotations: bool,
    /// What Mimecast does besides what its pages say.
    pub upstream: Upstream,
}

impl Plan {
    pub fn draw(rng: &mut Rng) -> Self {
        let mut sources = functions::ALL.to_vec();
        rng.shuffle(&mut sources);
        // The one source that is read by two kinds of requests is in more worlds than its turn.
        let listed = rng.u8(..6) == 0;
        sources.sort_by_key(|source| !(listed && source.name == "siem"));
        let count = *pick(rng, &[1, 1, 1, 2, 3]);
        // Some worlds are calm in one way or all, so that the strict form of the promises is tested too.
        let rate = |rng: &mut Rng| *pick(rng, &[0.0, 0.0, 0.02, 0.1, 0.3]);
        let v2 = listed || rng.u8(..3) > 0;
        // API 1.0 does not have Cloud Integrated.
        sources.retain(|source| v2 || source.name != "siemci");
        sources.truncate(count);
        let listed = v2 && sources.iter().any(|source| is_dated(source));
        let siem = SiemMode {
            zip: rng.u8(..5) > 0,
            files_per_answer: rng.usize(1..5),
            duplicate_links: rng.bool(),
            link_life: Duration::from_secs(*pick(rng, &[2, 30, 300])),
            ..SiemMode::default()
        };
        Self {
            v2,
            sources,
            page_size: *pick(rng, &[None, Some(1), Some(2), Some(3), Some(7), Some(50)]),
            overlap: *pick(rng, &[None, Some(TimeDelta::minutes(1)), Some(TimeDelta::minutes(40))]),
            stix: rng.bool(),
            siem,
            feed_page: rng.usize(1..10),
            history: *pick(rng, &[0, 1, 5, 20, 40]),
            burst: rng.usize(1..8),
            nasty: rng.u8(..4) == 0,
            mimecast: rate(rng),
            devo: rate(rng),
            dynamo: rate(rng),
            lost: *pick(rng, &[0.0, 0.0, 0.02, 0.1]),
            crash: *pick(rng, &[0.0, 0.0, 0.2, 0.6]),
            beside: *pick(rng, &[0.0, 0.0, 0.3]),
            cold: *pick(rng, &[0.0, 0.3]),
            skew: *pick(
                rng,
                &[
                    TimeDelta::zero(),
                    TimeDelta::zero(),
                    TimeDelta::seconds(8),
                    TimeDelta::minutes(5),
                    TimeDelta::hours(1),
                ],
            ),
            latency: pick(rng, &[1..=20, 1..=20, 5..=300, 50..=3000]).clone(),
            deadline: pick(rng, &[2..=12, 10..=30, 60..=300, 60..=300]).clone(),
            ticks: rng.u32(2..=8),
            rotations: rng.u8(..8) == 0,
            upstream: Upstream::draw(rng, listed),
        }
    }

    /// In a line.
    pub fn shown(&self) -> String {
        let names: Vec<&str> = self.sources.iter().map(|source| source.name).collect();
        format!(
            "{} by API {}, faults {}/{}/{} lost {} crashes {} beside {} skew {} s, deadlines {:?} s, ways {:?} ms, {} ticks{}",
            names.join("+"),
            if self.v2 { "2.0" } else { "1.0" },
            self.mimecast,
            self.devo,
            self.dynamo,
            self.lost,
            self.crash,
            self.beside,
            self.skew.num_seconds(),
            self.deadline,
            self.latency,
            self.ticks,
            self.upstream.shown(),
        )
    }

    /// Whether a source is read by listings, which can be asked for by date.
    pub fn lists(&self, source: &Source) -> bool {
        self.v2 && is_dated(source)
    }
}

/// SIEM of either kind.
pub fn is_dated(source: &Source) -> bool {
    matches!(&source.kind, Kind::Stream(stream) if stream.dated)
}

/// One of several.
pub fn pick<'a, T>(rng: &mut Rng, choices: &'a [T]) -> &'a T {
    &choices[rng.usize(..choices.len())]
}
