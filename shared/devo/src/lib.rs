//! Ways out: delivers lines to Devo and says which of them were accepted.
//!
//! One file per way out; `query` asks what has become of what was sent. What a line holds, how lines are batched and what is remembered of them is the caller's.

mod credentials;
mod error;
mod http;
mod line;
mod network;
mod query;
mod relp;
mod retry;
mod stdout;
mod syslog;
mod tls;
mod transport;

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use reqwest::Url;
use tokio::time::Instant;

pub use credentials::Credentials;
pub use error::Error;
pub use network::Network;
pub use query::{Found, Query};
pub use stdout::ENOUGH;

use crate::{http::Http, relp::Relp, stdout::Stdout, syslog::Syslog, transport::Target};

/// How long a receiver that is only looked at may take.
const PROBE: Duration = Duration::from_secs(15);

/// Where lines go.
#[derive(Debug)]
pub struct Sink {
    destinations: Vec<Destination>,
}

/// One way out, chosen by the scheme of its URL.
#[derive(Debug)]
enum Destination {
    /// `https:` (or `http:` to a loopback address): Devo's HTTP stream API.
    Http(Http),
    /// `tls:` and `tcp:`: syslog lines.
    Syslog(Syslog),
    /// `relp:` and `relp+tls:`: syslog lines, each acknowledged.
    Relp(Relp),
    /// `stdout:`: the lines are printed.
    Stdout(Stdout),
}

/// Settings of the ways out; those that a way does not know are nothing to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The machine name that Devo shows for the events.
    pub host: String,
    /// The form of a syslog line's date.
    pub date: Date,
    /// Where a syslog line ends.
    pub framing: Framing,
    /// Whether syslog lines go out in gzip members (`tls:` and `tcp:`).
    pub gzip: bool,
    /// When lines count as accepted on the ways without acknowledgement (`tls:` and `tcp:`).
    pub accepted: Accepted,
    /// How many connections a destination may be sent to over at once, at least 1. Each table goes over one at a time.
    pub connections: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            host: "mimecast-collector".to_owned(),
            date: Date::Rfc3339,
            framing: Framing::Lf,
            gzip: false,
            accepted: Accepted::Closed,
            connections: 2,
        }
    }
}

/// The form of a syslog line's date. UTC, with milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Date {
    /// `2026-01-31T12:00:00.123Z`
    Rfc3339,
    /// `2026-01-31 12:00:00.123`, as Devo's collector SDK sends it.
    Collector,
}

/// How a receiver finds the end of a syslog line (RFC 6587).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// By its line feed.
    Lf,
    /// By its length, which stands before it and counts the line feed at its end.
    Octet,
}

/// When lines count as accepted on a way without acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// The receiver has closed the connection in order after our end of it: it has read everything.
    Closed,
    /// The receiver's kernel has acknowledged every byte. What the receiver has not read when it dies is lost.
    Acknowledged,
}

/// Lines of one table, in order. A line is not empty and holds no CR, LF or NUL.
#[derive(Debug, Clone)]
pub struct Batch<'a> {
    /// The Devo table.
    pub table: &'a str,
    /// Its lines.
    pub lines: Vec<Bytes>,
}

impl Sink {
    /// Opens the ways out that `url` names, several with commas between them; nothing is contacted yet.
    ///
    /// # Errors
    /// [`Error::Configuration`] for a URL that cannot be used, an empty host, or credentials without the keys the scheme needs.
    pub fn open(url: &str, credentials: Option<&Credentials>, options: &Options) -> Result<Self, Error> {
        let destinations = url.split(',').map(|url| Destination::open(url.trim(), credentials, options));
        Ok(Self { destinations: destinations.collect::<Result<_, _>>()? })
    }

    /// What its owner should know before it becomes an error: a client certificate that ends soon.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<String> = self.certificates().into_iter().filter_map(Result::err).collect();
        warnings.dedup();
        warnings
    }

    /// The client certificates of the ways out that have one: that it holds, or what its owner should know.
    pub fn certificates(&self) -> Vec<Result<String, String>> {
        let targets = self.destinations.iter().filter_map(|destination| match destination {
            Destination::Syslog(syslog) => Some(syslog.target()),
            Destination::Relp(relp) => Some(relp.target()),
            Destination::Http(_) | Destination::Stdout(_) => None,
        });
        targets.filter_map(Target::certificate).collect()
    }

    /// Looks at each way out without sending anything: reachable, trusted and trusting, whether the receiver closes or the token may
    /// write to these tables. For each what it says, in words.
    ///
    /// # Errors
    /// Those that sending would meet, as far as they show without anything sent.
    pub async fn probe(&self, tables: &[String], until: Instant) -> Vec<Result<String, Error>> {
        let probes = self.destinations.iter().map(|destination| async move {
            match destination {
                Destination::Http(http) => http.probe(tables, until).await,
                Destination::Syslog(syslog) => syslog.probe(until).await,
                Destination::Relp(relp) => relp.probe(until).await,
                Destination::Stdout(_) => Ok("standard output".to_owned()),
            }
        });
        join_all(probes).await
    }

    /// Whether a way out takes this line with a token that nobody has: then that it takes one with ours proves nothing.
    ///
    /// # Errors
    /// Those of sending.
    pub async fn takes_any_token(&self, table: &str, line: &str, until: Instant) -> Result<bool, Error> {
        for destination in &self.destinations {
            if let Destination::Http(http) = destination
                && http.takes_any_token(table, line, until).await?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The same ways out with `network` behind those that speak HTTP, for simulations.
    #[must_use]
    pub fn over(mut self, network: &Arc<dyn Network>) -> Self {
        for destination in &mut self.destinations {
            if let Destination::Http(http) = destination {
                http.over(network.clone());
            }
        }
        self
    }

    /// Delivers the lines of each table in their order, and returns when each is settled, a failure lasts or `until` has come.
    ///
    /// Lines are settled when all destinations have settled them. After a failure `lines[settled..]` of each batch remain to be
    /// sent; some of them may have arrived, those of an unknown acknowledgement and those that only some destinations took:
    /// what one destination has taken and another has not is not remembered, so sending them again repeats them there.
    pub async fn send(&self, batches: &[Batch<'_>], until: Instant) -> Delivery {
        let sends = self.destinations.iter().map(|destination| destination.send(batches, until));
        join_all(sends).await.into_iter().reduce(Delivery::and).unwrap_or_else(|| Delivery::none(batches))
    }
}

impl fmt::Display for Sink {
    /// Schemes, hosts and ports.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |destination: &Destination| match destination {
            Destination::Http(http) => http.origin().to_owned(),
            Destination::Syslog(syslog) => syslog.target().to_string(),
            Destination::Relp(relp) => relp.target().to_string(),
            Destination::Stdout(_) => "standard output".to_owned(),
        };
        f.write_str(&self.destinations.iter().map(name).collect::<Vec<_>>().join(" and "))
    }
}

impl Destination {
    fn open(url: &str, credentials: Option<&Credentials>, options: &Options) -> Result<Self, Error> {
        // The URL is not repeated in errors: people paste whole stream addresses, token included.
        let url = Url::parse(url).map_err(|error| {
            Error::Configuration(format!("devo url: {error}; write it like https://http-eu.devo.io"))
        })?;
        match url.scheme() {
            "https" | "http" => Http::open(&url, credentials, options).map(Self::Http),
            "tls" | "tcp" => Syslog::open(&url, credentials, options).map(Self::Syslog),
            "relp" | "relp+tls" => Relp::open(&url, credentials, options).map(Self::Relp),
            "stdout" => Stdout::open(&url).map(Self::Stdout),
            other => Err(Error::Configuration(format!(
                "devo url: scheme {other} is not supported; use https://<host> (Devo's HTTP stream API), tls://<host>:<port>, \
                 tcp://<host>:<port> (syslog), relp://<host>:<port>, relp+tls://<host>:<port> or stdout:"
            ))),
        }
    }

    async fn send(&self, batches: &[Batch<'_>], until: Instant) -> Delivery {
        match self {
            Self::Http(http) => http.send(batches, until).await,
            Self::Syslog(syslog) => syslog.send(batches, until).await,
            Self::Relp(relp) => relp.send(batches, until).await,
            Self::Stdout(stdout) => stdout.send(batches),
        }
    }
}

/// What became of the lines of one [`Sink::send`].
#[derive(Debug, Default)]
pub struct Delivery {
    /// For each batch, how many leading lines are settled: accepted or refused.
    pub settled: Vec<usize>,
    /// Those of the settled lines that were refused.
    pub refused: Vec<Refused>,
    /// Why the lines from `settled` on were not delivered.
    pub failure: Option<Error>,
    /// Tries that were refused or broke off, be it that a later one succeeded.
    pub refusals: u64,
}

impl Delivery {
    /// Nothing done yet.
    fn none(batches: &[Batch<'_>]) -> Self {
        Self { settled: vec![0; batches.len()], ..Self::default() }
    }

    /// What both have done, where each batch was one's only.
    fn beside(mut self, other: Self) -> Self {
        self.settled.iter_mut().zip(other.settled).for_each(|(settled, more)| *settled += more);
        self.refused.extend(other.refused);
        self.failure = Error::first(self.failure, other.failure);
        self.refusals += other.refusals;
        self
    }

    /// Only what both have done.
    fn and(mut self, other: Self) -> Self {
        for (settled, others) in self.settled.iter_mut().zip(other.settled) {
            *settled = others.min(*settled);
        }
        for refused in other.refused {
            if !self.refused.iter().any(|known| (known.batch, known.index) == (refused.batch, refused.index)) {
                self.refused.push(refused);
            }
        }
        self.refused.retain(|refused| refused.index < self.settled[refused.batch]);
        self.failure = Error::first(self.failure, other.failure);
        self.refusals += other.refusals;
        self
    }
}

/// A line that this way out can never carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The place of its batch in those given to [`Sink::send`].
    pub batch: usize,
    /// Its place in the batch.
    pub index: usize,
    /// Why, for the dead letter.
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(url: &str, credentials: Option<&str>, host: &str) -> String {
        let credentials = credentials.map(|json| Credentials::from_json(&json.into()).unwrap());
        match Sink::open(url, credentials.as_ref(), &Options { host: host.to_owned(), ..Options::default() }) {
            Err(Error::Configuration(message)) => message,
            other => panic!("{other:?}"),
        }
    }

    const COMPLETE: &str = r#"{"domain":"acme","token":"tok3n"}"#;

    fn credentials() -> Credentials {
        Credentials::from_json(&COMPLETE.into()).unwrap()
    }

    #[test]
    fn opens_by_scheme() {
        for url in [
            "https://http-eu.devo.io",
            "https://collector-ap.devo.io:8443/",
            "http://127.8.9.10:1",
            "http://[::1]:8080",
            "http://localhost/prefix",
        ] {
            let sink = Sink::open(url, Some(&credentials()), &Options::default()).unwrap();
            assert!(matches!(sink.destinations[..], [Destination::Http(_)]), "{url}");
        }
        let sink = Sink::open("stdout:, tcp://relay:13000,tcp://[::1]:13000/", None, &Options::default()).unwrap();
        assert!(matches!(
            sink.destinations[..],
            [Destination::Stdout(_), Destination::Syslog(_), Destination::Syslog(_)]
        ));
    }

    #[test]
    fn refuses_urls_that_cannot_be_used() {
        let message = refusal("ftp://x", Some(COMPLETE), "h");
        assert!(message.contains("ftp") && message.contains("https://") && message.contains("stdout:"), "{message}");
        for url in ["tcp://x", "tcp://", "tcp:x:1", "tcp://x:1/a", "tcp://u@x:1", "tcp://x:1?a", "tcp://x:1#a"] {
            assert!(refusal(url, None, "h").contains("write it like tcp://<host>:<port>"), "{url}");
        }
        for url in ["", ",", "stdout:,", "tcp://x:1,,"] {
            assert!(refusal(url, None, "h").contains("write it like"), "{url}");
        }
        for url in ["http://http-eu.devo.io", "http://127.0.0.1.example.com", "http://10.0.0.1", "http://[::2]"] {
            assert!(refusal(url, Some(COMPLETE), "h").contains("loopback"), "{url}");
        }
        for url in ["https://u:p@devo.io", "https://devo.io/?a", "https://devo.io/#a"] {
            assert!(refusal(url, Some(COMPLETE), "h").contains("only scheme, host"), "{url}");
        }
        assert!(refusal("http-eu.devo.io/token!tok3n", Some(COMPLETE), "h").contains("write it like"));
        assert!(!refusal("http-eu.devo.io/token!tok3n", Some(COMPLETE), "h").contains("tok3n"));
    }

    #[test]
    fn names_the_keys_that_https_needs() {
        let url = "https://http-eu.devo.io";
        assert_eq!(refusal(url, None, "h"), "devo secret: domain, token missing");
        assert_eq!(refusal(url, Some(r#"{"domain":"acme"}"#), "h"), "devo secret: token missing");
        assert_eq!(refusal(url, Some(r#"{"token":"tok3n","key":"k"}"#), "h"), "devo secret: domain missing");
    }

    #[test]
    fn names_the_keys_that_tls_needs() {
        let url = "tls://collector-eu.devo.io:443";
        assert_eq!(refusal(url, Some(COMPLETE), "h"), "devo secret: chain, cert, key missing");
    }

    #[test]
    fn refuses_path_segments_that_a_url_would_swallow() {
        for host in ["", ".", ".."] {
            assert!(refusal("https://x", Some(COMPLETE), host).starts_with("devo host"), "{host}");
        }
        assert!(refusal("https://x", Some(r#"{"domain":"..","token":"tok3n"}"#), "h").starts_with("devo domain"));
    }

    #[test]
    fn shows_no_token() {
        let sink = Sink::open("https://http-eu.devo.io", Some(&credentials()), &Options::default()).unwrap();
        assert!(!format!("{sink:?} {sink:#?}").contains("tok3n"));
    }

    #[tokio::test]
    async fn a_send_may_move_between_threads() {
        fn movable<T: Send>(future: T) -> T {
            future
        }
        let sink =
            Sink::open("stdout:,http://[::1]:1,tcp://[::1]:1", Some(&credentials()), &Options::default()).unwrap();
        let delivery = movable(sink.send(&[], Instant::now())).await;
        assert!(delivery.settled.is_empty());
        assert!(delivery.failure.is_none());
    }

    #[test]
    fn settled_is_what_all_destinations_have_settled() {
        let refused = |batch, index, reason: &str| Refused { batch, index, reason: reason.to_owned() };
        let one = Delivery {
            settled: vec![5, 2, 3],
            refused: vec![refused(0, 1, "one"), refused(0, 4, "one"), refused(2, 0, "one")],
            failure: None,
            refusals: 1,
        };
        let other = Delivery {
            settled: vec![4, 2, 0],
            refused: vec![refused(0, 1, "other"), refused(0, 2, "other")],
            failure: Some(Error::Unavailable("busy".to_owned())),
            refusals: 2,
        };
        let worst = Delivery { failure: Some(Error::Rejected("no".to_owned())), ..Delivery::none(&[]) };
        let both = one.and(other);
        assert_eq!(both.settled, [4, 2, 0]);
        assert_eq!(both.refusals, 3);
        assert_eq!(both.refused, [refused(0, 1, "one"), refused(0, 2, "other")]);
        assert!(matches!(&both.failure, Some(Error::Unavailable(text)) if text == "busy"));
        assert!(matches!(both.and(worst).failure, Some(Error::Rejected(_))));
    }
}
