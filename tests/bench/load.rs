//! Loads for the benches: many rows and files in the simulated Mimecast, made fast out of a few patterns.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io::Write;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use fastrand::Rng;
use flate2::{Compression, write::GzEncoder};
use simulator::{Mimecast, data};

/// Largest page of a window source.
const PAGE: u64 = 500;
/// Events of a file.
const FILE: u64 = 10_000;
/// Bytes of an event, without its line end.
const EVENT: usize = 756;
/// Between the clock and the newest row: longer than the time for which rows may still come.
const SETTLED: TimeDelta = TimeDelta::seconds(90);
/// Types of SIEM files: every listing is of one.
const KINDS: [&str; 10] = [
    "receipt",
    "process",
    "delivery",
    "journal",
    "av",
    "spam",
    "internal email protect",
    "impersonation protect",
    "url protect",
    "attachment protect",
];

/// How many lines there are, and a sum over them, in any order: nothing lost, repeated or altered goes unnoticed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sum {
    pub lines: u64,
    hash: u64,
}

impl Sum {
    pub fn add(&mut self, line: &[u8], times: u64) {
        self.lines += times;
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(line);
        self.hash = self.hash.wrapping_add(hash.wrapping_mul(times));
    }
}

/// Rows of `url` or `audit`.
pub struct Rows {
    pub source: &'static str,
    pub rows: u64,
    /// From the oldest to the newest.
    pub span: TimeDelta,
    pub rhythm: Rhythm,
}

/// How rows are spread over their time.
#[derive(Clone, Copy)]
pub enum Rhythm {
    /// Each falls anywhere.
    Steady,
    /// A day with a night, and twenty bursts of half a minute that hold a fifth of all rows.
    Day,
}

impl Rows {
    /// The `INITIAL_LOOKBACK` that reaches as far before the oldest row as the newest is from the clock.
    pub fn lookback(&self) -> TimeDelta {
        SETTLED + self.span + SETTLED
    }

    /// Fewest requests that can bring them all.
    pub fn least(&self) -> u64 {
        self.rows.div_ceil(PAGE)
    }

    /// Rows as the simulator makes them, numbered; of those without an id every tenth is there twice, as real ones are.
    pub fn fill(&self, mimecast: &Mimecast) -> Sum {
        let newest = mimecast.now() - SETTLED;
        let (time, name, twins) =
            if self.source == "audit" { ("eventTime", "id", 0) } else { ("date", "messageId", 1) };
        let patterns = data::add(&Mimecast::in_process(1, newest), self.source, 1, newest, newest, 1_000);
        // One URL in sixteen is of 12,000 characters there, which would be most of the load.
        let patterns: Vec<String> = patterns.into_values().flatten().filter(|row| row.len() < 2_000).collect();
        let date = |at: DateTime<Utc>| format!(r#""{time}":"{}""#, at.format("%Y-%m-%dT%H:%M:%S+0000"));
        let (dated, identified) = (date(newest), format!(r#""{name}":""#));
        let mut sum = Sum::default();
        let mut row = (newest, String::new());
        for (number, time) in self.times(newest).into_iter().enumerate() {
            if twins == 0 || number % 10 != twins {
                let line = patterns[number % patterns.len()].replacen(&dated, &date(time), 1);
                row = (time, line.replacen(&identified, &format!("{identified}{number}."), 1));
            }
            mimecast.push(self.source, row.0, &row.1);
            sum.add(row.1.as_bytes(), 1);
        }
        sum
    }

    /// The rows' times, in order: the simulator is slow to put a row between others.
    fn times(&self, newest: DateTime<Utc>) -> Vec<DateTime<Utc>> {
        let mut random = Rng::with_seed(self.rows);
        let span = self.span.as_seconds_f64();
        let bursts: Vec<f64> = (0..20).map(|_| random.f64()).collect();
        let mut place = || match self.rhythm {
            Rhythm::Steady => random.f64(),
            Rhythm::Day if random.u8(..5) == 0 => {
                (random.choice(&bursts).unwrap() + random.f64() * 30.0 / span).min(1.0)
            }
            // From the small hours on: a twentieth of midday's rate at night.
            Rhythm::Day => loop {
                let place = random.f64();
                let sun = ((place - 0.25) * 2.0 * std::f64::consts::PI).sin().max(0.0);
                if random.f64() < 0.05 + 0.95 * sun {
                    break place;
                }
            },
        };
        let mut places: Vec<f64> = (0..self.rows).map(|_| place()).collect();
        places.sort_unstable_by(f64::total_cmp);
        let oldest = newest - self.span;
        places.iter().map(|place| oldest + TimeDelta::milliseconds((place * span * 1000.0) as i64)).collect()
    }
}

/// SIEM files, of the ten types in turn.
pub struct Files {
    pub count: usize,
    /// How often ten thousand events stand in each.
    pub long: u64,
}

impl Files {
    /// Fewest requests that can bring them all.
    pub fn least(&self) -> u64 {
        (KINDS.len() + self.count) as u64
    }

    /// Files of a type have the same bytes: the product tells them by their path, and does not look into their events.
    pub fn fill(&self, mimecast: &Mimecast) -> Sum {
        let mut sum = Sum::default();
        for (kind, files) in self.kinds() {
            let block = block(kind);
            block.iter().for_each(|line| sum.add(line.as_bytes(), self.long * files as u64));
            let packed = pack(&block, self.long);
            (0..files).for_each(|_| mimecast.push_siem_gzip(kind, mimecast.now(), packed.clone()));
        }
        sum
    }

    /// The files' bytes.
    pub fn bytes(&self) -> Vec<Bytes> {
        self.kinds().flat_map(|(kind, files)| vec![pack(&block(kind), self.long); files]).collect()
    }

    /// The types there are, and how many files of each.
    fn kinds(&self) -> impl Iterator<Item = (&'static str, usize)> {
        let files = |index: usize| (self.count - index).div_ceil(KINDS.len());
        KINDS.into_iter().enumerate().take(self.count).map(move |(index, kind)| (kind, files(index)))
    }
}

fn block(kind: &str) -> Vec<String> {
    (0..FILE).map(|number| event(kind, number)).collect()
}

/// One gzip member.
fn pack(block: &[String], times: u64) -> Bytes {
    let text = block.join("\n") + "\n";
    let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
    (0..times).for_each(|_| packer.write_all(text.as_bytes()).unwrap());
    packer.finish().unwrap().into()
}

/// An event as API 2.0 gives it, its subject as long as makes it `EVENT` bytes.
fn event(kind: &str, number: u64) -> String {
    let mut random = Rng::with_seed(number);
    let mut id = |length| (0..length).map(|_| random.alphanumeric()).collect::<String>();
    let (processing, aggregate, person, name) = (id(43), id(22), id(8), id(12));
    let before = format!(
        r#"{{"_offset":{number},"_partition":{},"accountId":"CUSB4A274","action":"Rej","aggregateId":"{aggregate}","direction":"Inbound","messageId":"<{name}@mail.example>","processingId":"{processing}_1731454604","recipients":"{person}@example.com","rejectionType":"Manual Envelope Rejection","senderEnvelope":"{name}@example.org","senderHeader":null,"senderIp":"192.0.2.144","spamDetectionLevel":null,"spamProcessingDetail":"{{\"spf\":{{\"allow\":true,\"info\":\"ALLOW\"}}}}","spamScore":null,"subject":""#,
        number % 64,
    );
    let after = format!(
        r#"","subtype":"Rej","timestamp":{},"tlsCipher":"TLS_AES_256_GCM_SHA384","tlsVersion":"TLSv1.3","type":"{kind}","virusFound":null}}"#,
        1_731_454_604_992 + number
    );
    let subject: String =
        "Your order has left our house: ".chars().cycle().take(EVENT - before.len() - after.len()).collect();
    before + &subject + &after
}
