//! The account behind the endpoints: its keys, its rows, its script of faults. One lock around it all.

use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Request;
use super::doubts::Doubts;
use super::faults::Fault;
use super::feed::Entry;
use super::load::Load;
use super::siem::{SiemFile, SiemMode};

pub(super) struct State {
    pub base_url: String,
    pub keys_v1: KeysV1,
    pub keys_v2: KeysV2,
    /// Issued OAuth tokens and the instant from which each is expired.
    pub tokens: HashMap<String, DateTime<Utc>>,
    /// Every `x-mc-req-id` seen.
    pub request_ids: HashSet<String>,
    /// Rows of the time-window sources by source, each in order of time.
    pub rows: HashMap<String, Vec<Row>>,
    pub siem: Vec<SiemFile>,
    pub siem_mode: SiemMode,
    pub doubts: Doubts,
    /// How often all tokens of API 2.0's listing have died.
    pub era: u64,
    /// Pages of the time-window sources answered so far.
    pub window_answers: usize,
    pub feed: Vec<Entry>,
    pub feed_page: usize,
    pub summary: Vec<Bytes>,
    pub notices: Vec<Bytes>,
    pub notice_as_object: bool,
    /// Requests with the number under which each began.
    pub requests: Vec<(u64, Request)>,
    pub faults: Vec<Fault>,
    /// How many calls a fault has struck.
    pub struck: usize,
    pub denied: Vec<String>,
    pub clock_offset: TimeDelta,
    /// Where the server's clock does not go by the machine's: what it showed at an instant of tokio's.
    pub clock: Option<(DateTime<Utc>, Instant)>,
    /// Requests begun so far.
    pub calls: u64,
    pub random: fastrand::Rng,
    pub load: Load,
    /// Makes this server's page and stream tokens, and link signatures, its own.
    pub seal: String,
}

pub(super) struct KeysV1 {
    pub app_id: String,
    pub app_key: String,
    pub access_key: String,
    /// Standard base64 of the signing key.
    pub secret_key: String,
}

pub(super) struct KeysV2 {
    pub client_id: String,
    pub client_secret: String,
}

pub(super) struct Row {
    pub time: DateTime<Utc>,
    pub visible_at: DateTime<Utc>,
    pub bytes: Bytes,
}

impl State {
    pub fn new(base_url: String, mut random: fastrand::Rng) -> Self {
        let keys_v1 = KeysV1 {
            app_id: guid(&mut random),
            app_key: guid(&mut random),
            access_key: secret(&mut random),
            secret_key: secret(&mut random),
        };
        let keys_v2 = KeysV2 { client_id: secret(&mut random), client_secret: secret(&mut random) };
        Self {
            base_url,
            keys_v1,
            keys_v2,
            tokens: HashMap::new(),
            request_ids: HashSet::new(),
            rows: HashMap::new(),
            siem: Vec::new(),
            siem_mode: SiemMode::default(),
            doubts: Doubts::default(),
            era: 0,
            window_answers: 0,
            feed: Vec::new(),
            feed_page: 25,
            summary: Vec::new(),
            notices: Vec::new(),
            notice_as_object: false,
            requests: Vec::new(),
            faults: Vec::new(),
            struck: 0,
            denied: Vec::new(),
            clock_offset: TimeDelta::zero(),
            clock: None,
            calls: 0,
            load: Load::default(),
            seal: guid(&mut random),
            random,
        }
    }

    /// The server's clock.
    #[expect(clippy::disallowed_methods, reason = "the simulated server's own clock, set by `set_clock_offset`")]
    pub fn now(&self) -> DateTime<Utc> {
        self.clock.map_or_else(Utc::now, |(then, start)| then + start.elapsed()) + self.clock_offset
    }

    pub fn guid(&mut self) -> String {
        guid(&mut self.random)
    }

    pub fn rotate_v1(&mut self) {
        self.keys_v1.access_key = secret(&mut self.random);
        self.keys_v1.secret_key = secret(&mut self.random);
    }

    pub fn rotate_v2(&mut self) {
        self.keys_v2 = KeysV2 { client_id: secret(&mut self.random), client_secret: secret(&mut self.random) };
        self.tokens.clear();
    }

    pub fn expire_tokens(&mut self) {
        self.tokens.values_mut().for_each(|expiry| *expiry = DateTime::<Utc>::MIN_UTC);
    }

    pub fn issue_token(&mut self, life: TimeDelta) -> String {
        let token = secret(&mut self.random).replace(['+', '/', '='], "");
        self.tokens.insert(token.clone(), self.now() + life);
        token
    }

    pub fn push(&mut self, source: &str, time: DateTime<Utc>, visible_at: DateTime<Utc>, bytes: Bytes) {
        let time = time.trunc_subsecs(0);
        let rows = self.rows.entry(source.to_owned()).or_default();
        let position = rows.partition_point(|row| row.time <= time);
        rows.insert(position, Row { time, visible_at, bytes });
    }

    /// An opaque token of this server, in the form of the real ones: base64url of deflated JSON.
    pub fn seal(&self, kind: &str, value: &Value) -> String {
        let plain = json!({"secureid": self.seal, "kind": kind, "value": value, "version": 1}).to_string();
        URL_SAFE_NO_PAD.encode(deflate(plain.as_bytes()))
    }

    /// What a token of this server and kind holds; `None` for any other text.
    pub fn unseal(&self, kind: &str, token: &str) -> Option<Value> {
        let packed = URL_SAFE_NO_PAD.decode(token).ok()?;
        let mut plain = Vec::new();
        flate2::read::ZlibDecoder::new(packed.as_slice()).take(65_536).read_to_end(&mut plain).ok()?;
        let mut sealed: Value = serde_json::from_slice(&plain).ok()?;
        let ours = sealed["secureid"] == self.seal && sealed["kind"] == kind;
        ours.then(|| sealed["value"].take())
    }
}

/// Zlib of `plain`.
pub(crate) fn deflate(plain: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    // Writing into a vector cannot fail; were it to, the token made of it would be refused.
    packer.write_all(plain).ok();
    packer.finish().unwrap_or_default()
}

/// One gzip member.
pub(super) fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(plain).ok();
    packer.finish().unwrap_or_default()
}

fn guid(random: &mut fastrand::Rng) -> String {
    let hex = format!("{:032x}", random.u128(..));
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// 48 random bytes in standard base64, so that `+` and `/` have to be escaped in a form.
fn secret(random: &mut fastrand::Rng) -> String {
    let mut bytes = [0; 48];
    random.fill(&mut bytes);
    STANDARD.encode(bytes)
}
