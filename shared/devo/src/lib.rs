//! Ways out: delivers lines to Devo and says which of them were accepted.
//!
//! One file per way out. What a line holds, how lines are batched and what is remembered of them is the caller's.

mod credentials;
mod error;
mod http;
mod retry;
mod stdout;

use bytes::Bytes;
use reqwest::Url;
use tokio::time::Instant;

pub use credentials::Credentials;
pub use error::Error;
pub use http::Http;
pub use stdout::Stdout;

/// Where lines go, chosen by the scheme of the Devo URL.
#[derive(Debug)]
pub enum Sink {
    /// `https:` (or `http:` to a loopback address): Devo's HTTP stream API.
    Http(Http),
    /// `stdout:`: the lines are printed.
    Stdout(Stdout),
}

impl Sink {
    /// Opens the way out that `url` names; nothing is contacted yet.
    ///
    /// `host` is the machine name that Devo shows for the events.
    ///
    /// # Errors
    /// [`Error::Configuration`] for a URL that cannot be used, an empty host, or credentials without the keys the scheme needs.
    pub fn open(url: &str, credentials: Option<&Credentials>, host: &str) -> Result<Self, Error> {
        // The URL is not repeated in errors: people paste whole stream addresses, token included.
        let url = Url::parse(url).map_err(|error| {
            Error::Configuration(format!("devo url: {error}; write it like https://http-eu.devo.io"))
        })?;
        match url.scheme() {
            "https" | "http" => Http::open(&url, credentials, host).map(Self::Http),
            "stdout" => Ok(Self::Stdout(Stdout)),
            other => Err(Error::Configuration(format!(
                "devo url: scheme {other} is not supported; use https://<host> (Devo's HTTP stream API) or stdout:"
            ))),
        }
    }

    /// Delivers `lines` to one table, in order, and returns when each is settled, a failure lasts or `until` has come.
    ///
    /// A line is not empty and holds no CR, LF or NUL. After a failure `lines[delivery.settled..]` remain to be sent; those of
    /// the request that failed may have arrived when its answer was lost.
    pub async fn send(&self, table: &str, lines: &[Bytes], until: Instant) -> Delivery {
        match self {
            Self::Http(http) => http.send(table, lines, until).await,
            Self::Stdout(stdout) => stdout.send(table, lines),
        }
    }
}

/// What became of the lines of one [`Sink::send`].
#[derive(Debug, Default)]
pub struct Delivery {
    /// How many leading lines are settled: accepted or refused.
    pub settled: usize,
    /// Those of the settled lines that were refused.
    pub refused: Vec<Refused>,
    /// Why the lines from `settled` on were not delivered.
    pub failure: Option<Error>,
}

/// A line that this way out can never carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its place in the lines given to [`Sink::send`].
    pub index: usize,
    /// Why, for the dead letter.
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(url: &str, credentials: Option<&str>, host: &str) -> String {
        let credentials = credentials.map(|json| Credentials::from_json(&json.into()).unwrap());
        match Sink::open(url, credentials.as_ref(), host) {
            Err(Error::Configuration(message)) => message,
            other => panic!("{other:?}"),
        }
    }

    const COMPLETE: &str = r#"{"domain":"acme","token":"tok3n"}"#;

    #[test]
    fn opens_by_scheme() {
        let credentials = Credentials::from_json(&COMPLETE.into()).unwrap();
        for url in [
            "https://http-eu.devo.io",
            "https://collector-ap.devo.io:8443/",
            "http://127.8.9.10:1",
            "http://[::1]:8080",
            "http://localhost/prefix",
        ] {
            assert!(matches!(Sink::open(url, Some(&credentials), "h"), Ok(Sink::Http(_))), "{url}");
        }
        assert!(matches!(Sink::open("stdout:", None, ""), Ok(Sink::Stdout(_))));
    }

    #[test]
    fn refuses_urls_that_cannot_be_used() {
        for url in ["tls://collector-eu.devo.io:443", "tcp://relay:13000", "relp://relay:1", "ftp://x"] {
            let message = refusal(url, Some(COMPLETE), "h");
            assert!(message.contains("https://") && message.contains("stdout:"), "{message}");
            assert!(message.contains(url.split(':').next().unwrap()), "{message}");
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
    fn refuses_path_segments_that_a_url_would_swallow() {
        for host in ["", ".", ".."] {
            assert!(refusal("https://x", Some(COMPLETE), host).starts_with("devo host"), "{host}");
        }
        assert!(refusal("https://x", Some(r#"{"domain":"..","token":"tok3n"}"#), "h").starts_with("devo domain"));
    }

    #[test]
    fn shows_no_token() {
        let credentials = Credentials::from_json(&COMPLETE.into()).unwrap();
        let sink = Sink::open("https://http-eu.devo.io", Some(&credentials), "h").unwrap();
        assert!(!format!("{sink:?} {sink:#?}").contains("tok3n"));
    }

    #[tokio::test]
    async fn a_send_may_move_between_threads() {
        fn movable<T: Send>(future: T) -> T {
            future
        }
        let delivery = movable(Sink::Stdout(Stdout).send("my.app.test", &[], Instant::now())).await;
        assert_eq!(delivery.settled, 0);
        assert!(delivery.failure.is_none());
    }
}
