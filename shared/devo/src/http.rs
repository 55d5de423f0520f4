//! Way out `https:`: Devo's HTTP stream API, many lines of one table per request.
//!
//! `POST <url>/stream/<domain>/token!<token>/<host>/<table>`, lines ended by LF, gzip. Any 2xx means that the whole request was
//! taken. <https://devodocs.atlassian.net/wiki/spaces/latest/pages/94658823>
//!
//! A refusal says nothing of which line is meant, or whether any is. `search` narrows it down.

mod probe;
mod search;

use std::{
    io::{self, BufWriter, Write as _},
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use reqwest::{
    Client, RequestBuilder, Response, StatusCode, Url,
    header::{CONTENT_ENCODING, HeaderName, LOCATION, RETRY_AFTER},
};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

use self::search::Search;
use crate::{
    Batch, Credentials, Delivery, Error, Network, Options, Refused,
    retry::{Pace, Setback, retry},
};

/// The most a request holds before compression, in bytes. Devo allows 32 MB and does not say whether before or after.
const MAX_BYTES: usize = 8_000_000;
/// The least that a request is cut down to where connections keep breaking, in bytes.
const MIN_BYTES: usize = 64_000;
/// How many bytes are compressed at once.
const CHUNK: usize = 128_000;
/// From this try on a broken connection makes the request smaller.
const PATIENCE: u32 = 2;
const PACE: Pace = Pace { tries: 6, base: Duration::from_millis(500) };
/// While a line is looked for, each of many requests.
const PACE_OF_SEARCH: Pace = Pace { tries: 2, ..PACE };
/// How much of an answer is read, in bytes, and shown, in characters.
const MAX_READ: usize = 16_000;
const MAX_SHOWN: usize = 200;

/// Devo's HTTP stream API for one domain.
#[derive(Debug)]
pub struct Http {
    client: Client,
    network: Option<Arc<dyn Network>>,
    /// Scheme, host and port, for messages.
    origin: String,
    /// The address up to the table, in which the token stands.
    stream: SecretString,
    /// The token as it is and as it stands in the address: what an answer may repeat.
    token: [SecretString; 2],
    /// The most the next request holds: less where connections break before an answer, more again when it goes well.
    portion: AtomicUsize,
    /// How many tables of a send are under way at once.
    connections: usize,
}

/// What Devo says to one request.
enum Answer {
    Accepted,
    TooLarge,
    /// No further try of the same would help.
    Refused(Error),
    /// No answer, or 500: what was sent may have arrived, and Devo may have stumbled over a line. Not over one where it `hung`.
    Cut {
        text: String,
        hung: bool,
    },
}

impl Http {
    pub(crate) fn open(url: &Url, credentials: Option<&Credentials>, options: &Options) -> Result<Self, Error> {
        let plain = url.scheme() == "http";
        if plain && !is_loopback(url) {
            return Err(Error::Configuration(
                "devo url: http:// is for a loopback address only; use https://".to_owned(),
            ));
        }
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
            return Err(Error::Configuration("devo url: only scheme, host, port and path are possible".to_owned()));
        }
        let [domain, token] = Credentials::require(credentials, ["domain", "token"])?;
        let in_address = segment("token", token.expose_secret())?;
        let stream = format!(
            "{}/stream/{}/token!{in_address}/{}",
            url.as_str().trim_end_matches('/'),
            segment("domain", domain.expose_secret())?,
            segment("host", &options.host)?,
        );
        let origin = url.origin().ascii_serialization();
        Ok(Self {
            client: https::client(&origin).map_err(|error| Error::Configuration(error.to_string()))?,
            network: None,
            origin,
            stream: stream.into(),
            token: [token, in_address.into()],
            portion: AtomicUsize::new(MAX_BYTES),
            connections: options.connections.max(1),
        })
    }

    /// Scheme, host and port.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Puts `network` in the network's place.
    pub fn over(&mut self, network: Arc<dyn Network>) {
        self.network = Some(network);
    }

    pub(crate) async fn send(&self, batches: &[Batch<'_>], until: Instant) -> Delivery {
        let mut delivery = Delivery::none(batches);
        let mut waiting = (0..batches.len()).map(|number| self.send_table(number, batches, until));
        let mut under_way: FuturesUnordered<_> = waiting.by_ref().take(self.connections).collect();
        while let Some(table) = under_way.next().await {
            delivery = delivery.beside(table);
            // After a failure those under way are finished, as what Devo takes of them is not to be repeated.
            if delivery.failure.is_none() {
                under_way.extend(waiting.next());
            }
        }
        delivery
    }

    /// Sends one of the batches, one request after the other.
    async fn send_table(&self, number: usize, batches: &[Batch<'_>], until: Instant) -> Delivery {
        let mut delivery = Delivery::none(batches);
        delivery.failure = self.send_lines(number, &batches[number], until, &mut delivery).await.err();
        let settled = delivery.settled[number];
        delivery.refused.retain(|refused| refused.index < settled);
        delivery
    }

    async fn send_lines(
        &self,
        number: usize,
        batch: &Batch<'_>,
        until: Instant,
        delivery: &mut Delivery,
    ) -> Result<(), Error> {
        let Batch { table, lines } = batch;
        let (mut limit, mut search, mut last) = (MAX_BYTES, Search::new(lines.len()), None);
        while let Some(asked) = search.next() {
            let (first, asked) = (asked.start, &lines[asked]);
            let sent = &asked[..leading(asked, limit.min(self.portion.load(Relaxed)))];
            let pace = if last.is_some() && !search.is_verdict() { PACE_OF_SEARCH } else { PACE };
            let answer = match (self.request(table, sent, pace, until, &mut delivery.refusals).await, &last) {
                (Ok(answer), _) => answer,
                (Err(error), None) => return Err(error),
                // The time was over before the line was found.
                (Err(_), Some(_)) => break,
            };
            match answer {
                Answer::Accepted => {
                    search.accepted(sent.len());
                    // Not simply more: a small request that arrives says nothing of another table's large one.
                    self.portion.fetch_max(MAX_BYTES.min(size(sent) * 2), Relaxed);
                }
                Answer::Cut { text, .. } => {
                    delivery.refusals += 1;
                    tracing::warn!(fault = text, "devo: smaller requests");
                    self.portion.fetch_min(MIN_BYTES.max(size(sent) / 4), Relaxed);
                }
                Answer::TooLarge if sent.len() > 1 => limit = size(sent) / 2,
                Answer::TooLarge => {
                    let reason = format!("too large for Devo's HTTP API: line of {} bytes", sent[0].len());
                    delivery.refused.push(Refused { batch: number, index: first, reason });
                    search.impossible();
                }
                Answer::Refused(error) => {
                    delivery.refusals += 1;
                    if search.refused(sent.len()) {
                        let reason = format!("refused by Devo, which takes its neighbours: {error}");
                        delivery.refused.push(Refused { batch: number, index: first, reason });
                    } else {
                        tracing::warn!(table, lines = sent.len(), %error, "devo: looking for the line that is meant");
                    }
                    last = Some(error);
                }
            }
            delivery.settled[number] = search.settled();
        }
        match (lines.len() - search.settled(), last) {
            (left @ 1.., Some(error)) => Err(self.about(error, left, table)),
            _ => Ok(()),
        }
    }

    /// One request, tried until it is answered for good.
    async fn request(
        &self,
        table: &str,
        lines: &[Bytes],
        pace: Pace,
        until: Instant,
        refusals: &mut u64,
    ) -> Result<Answer, Error> {
        if size(lines) > MAX_BYTES {
            return Ok(Answer::TooLarge);
        }
        let url = format!("{}/{}", self.stream.expose_secret(), segment("table", table)?);
        let url = Url::parse(&url).map_err(|error| Error::Configuration(format!("devo url: {error}")))?;
        let body = gzip(lines).map_err(|error| Error::Unavailable(format!("gzip: {error}")))?;
        let (mut made, perhaps_a_line) = (0, AtomicBool::new(false));
        let smaller = lines.len() > 1 && size(lines) > MIN_BYTES;
        let attempt = |time| {
            made += 1;
            let give_up = smaller && made >= PATIENCE;
            let (attempt, perhaps_a_line) = (self.attempt(&url, body.clone(), time), &perhaps_a_line);
            async move {
                let answer = attempt.await;
                perhaps_a_line.store(matches!(answer, Ok(Answer::Cut { hung: false, .. })), Relaxed);
                match answer {
                    Ok(Answer::Cut { text, .. }) if !give_up => Err(Setback::Passing { text, wait: None }),
                    answer => answer,
                }
            }
        };
        match retry(pace, until, refusals, attempt).await {
            Err(error @ Error::Unavailable(_)) if perhaps_a_line.load(Relaxed) => Ok(Answer::Refused(error)),
            Err(error) => Err(self.about(error, lines.len(), table)),
            answer => answer,
        }
    }

    fn about(&self, error: Error, lines: usize, table: &str) -> Error {
        let context = format!("{} did not take {lines} lines for {table}", self.origin);
        match error {
            Error::Configuration(text) => Error::Configuration(format!("{context}: {text}")),
            Error::Rejected(text) => Error::Rejected(format!("{context}: {text}")),
            Error::Unproven(text) => Error::Unproven(format!("{context}: {text}")),
            Error::Unavailable(text) => Error::Unavailable(format!("{context}: {text}")),
        }
    }

    async fn attempt(&self, url: &Url, body: Bytes, time: Duration) -> Result<Answer, Setback> {
        let request = self.client.post(url.clone()).header(CONTENT_ENCODING, "gzip").body(body).timeout(time);
        let response = self.execute(request).await;
        let response = match response {
            Ok(response) => response,
            Err(error) => {
                let (is_connect, hung) = (error.is_connect(), error.is_timeout());
                let text = self.shown(&https::explain(error));
                return match is_untrusted(&text) {
                    true => Err(Setback::Lasting(Error::Rejected(text))),
                    false if is_connect => Err(Setback::Passing { text, wait: None }),
                    false => Ok(Answer::Cut { text, hung }),
                };
            }
        };
        let status = response.status();
        if status.is_success() {
            return Ok(Answer::Accepted);
        }
        if status == StatusCode::PAYLOAD_TOO_LARGE {
            return Ok(Answer::TooLarge);
        }
        if status.is_redirection() {
            let to = self.shown(header(&response, LOCATION).unwrap_or("nowhere"));
            return Err(Setback::Lasting(Error::Rejected(format!(
                "{status}: redirects to {to}, which is not followed"
            ))));
        }
        let wait = header(&response, RETRY_AFTER).and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
        let text = format!("{status}: {}", self.shown(&body_text(response).await));
        match status {
            StatusCode::INTERNAL_SERVER_ERROR if wait.is_none() => Ok(Answer::Cut { text, hung: false }),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => Err(Setback::Passing { text, wait }),
            _ if status.is_server_error() => Err(Setback::Passing { text, wait }),
            _ => Ok(Answer::Refused(Error::Rejected(text))),
        }
    }

    async fn execute(&self, request: RequestBuilder) -> Result<Response, reqwest::Error> {
        let request = request.build()?;
        match &self.network {
            None => self.client.execute(request).await,
            Some(network) => network.execute(request).await,
        }
    }

    /// A text of the other side for people: without the token, in one line, not long.
    fn shown(&self, text: &str) -> String {
        let masked = self.token.iter().fold(text.to_owned(), |text, token| text.replace(token.expose_secret(), "***"));
        let words: Vec<&str> =
            masked.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()).collect();
        words.join(" ").chars().take(MAX_SHOWN).collect()
    }
}

/// By rustls' words for a server that it does not trust.
fn is_untrusted(text: &str) -> bool {
    text.contains("invalid peer certificate")
}

/// How many of the first lines fit into `limit` bytes, a longer first line counting as one.
fn leading(lines: &[Bytes], limit: usize) -> usize {
    let mut bytes = 0;
    let fitting = lines.iter().take_while(|line| {
        bytes += line.len() + 1;
        bytes <= limit
    });
    fitting.count().max(1)
}

/// The bytes of a request's body before compression.
fn size(lines: &[Bytes]) -> usize {
    lines.iter().map(|line| line.len() + 1).sum()
}

fn gzip(lines: &[Bytes]) -> io::Result<Bytes> {
    // The encoder sets to work at each write, however small.
    let mut body = BufWriter::with_capacity(CHUNK, GzEncoder::new(Vec::new(), Compression::fast()));
    for line in lines {
        body.write_all(line)?;
        body.write_all(b"\n")?;
    }
    body.into_inner()?.finish().map(Bytes::from)
}

/// One path segment, percent-encoded but for the unreserved characters of RFC 3986.
fn segment(name: &str, text: &str) -> Result<String, Error> {
    if ["", ".", ".."].contains(&text) {
        return Err(Error::Configuration(format!("devo {name}: must not be empty or only dots")));
    }
    let encoded = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    Ok(text.bytes().map(encoded).collect())
}

pub(crate) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn header(response: &Response, name: HeaderName) -> Option<&str> {
    response.headers().get(name).and_then(|value| value.to_str().ok())
}

/// The start of an answer's body; what cannot be read is left out, as the status has said what matters.
async fn body_text(mut response: Response) -> String {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() >= MAX_READ {
            break;
        }
    }
    String::from_utf8_lossy(&body[..body.len().min(MAX_READ)]).into_owned()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::MultiGzDecoder;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn splitting_loses_no_byte_and_keeps_order(
            lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..60),
            limit in 1_usize..200,
        ) {
            let lines: Vec<Bytes> = lines.into_iter().map(Bytes::from).collect();
            let mut arrived = Vec::new();
            let mut rest = &lines[..];
            while !rest.is_empty() {
                let (sent, later) = rest.split_at(leading(rest, limit));
                prop_assert!(size(sent) <= limit || sent.len() == 1);
                if let Some(next) = later.first() {
                    prop_assert!(size(sent) + next.len() + 1 > limit, "more would have fitted");
                }
                let before = arrived.len();
                MultiGzDecoder::new(&gzip(sent).unwrap()[..]).read_to_end(&mut arrived).unwrap();
                prop_assert_eq!(arrived.len() - before, size(sent));
                rest = later;
            }
            let expected: Vec<u8> = lines.iter().flat_map(|line| [line, &b"\n"[..]].concat()).collect();
            prop_assert_eq!(arrived, expected);
        }

        #[test]
        fn a_segment_stays_one_and_reads_back(text in "\\PC{1,20}|[/?#%\\\\\t\n !]{1,20}") {
            prop_assume!(text != "." && text != "..");
            let url = Url::parse(&format!("https://x/{}/end", segment("host", &text).unwrap())).unwrap();
            let segments: Vec<&str> = url.path_segments().unwrap().collect();
            prop_assert_eq!(segments.len(), 2);
            let mut decoded = Vec::new();
            let mut bytes = segments[0].bytes();
            while let Some(byte) = bytes.next() {
                let hex = |b: u8| char::from(b).to_digit(16).unwrap() as u8;
                decoded.push(if byte == b'%' { hex(bytes.next().unwrap()) * 16 + hex(bytes.next().unwrap()) } else { byte });
            }
            prop_assert_eq!(String::from_utf8(decoded).unwrap(), text);
        }
    }

    #[test]
    fn texts_of_the_other_side_are_masked_and_short() {
        let credentials = Credentials::from_json(&r#"{"domain":"acme","token":"t/k"}"#.into()).unwrap();
        let http = Http::open(&Url::parse("https://x").unwrap(), Some(&credentials), &Options::default()).unwrap();
        assert_eq!(http.shown("no\r\n  t/k,\u{0}\tnot t%2Fk "), "no ***, not ***");
        assert_eq!(http.shown(&"t/k".repeat(90)), "***".repeat(66) + "**");
        assert_eq!(http.shown(&"ü".repeat(300)), "ü".repeat(200));
    }

    #[test]
    fn the_limit_is_inclusive() {
        let line = Bytes::from(vec![b'x'; MAX_BYTES / 2 - 1]);
        assert_eq!(leading(&[line.clone(), line.clone(), line], MAX_BYTES), 2);
        assert_eq!(leading(&[Bytes::from_static(b"longer than the limit"), Bytes::new()], 3), 1);
    }
}
