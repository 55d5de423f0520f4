//! The settings of a function: every environment variable, read and checked in one place.
//!
//! `AWS_ENDPOINT_URL` and the like are the AWS SDK's own. Whether `MIMECAST_REGION` exists depends on the kind of keys and is
//! for the `mimecast` crate to say; what a URL's credentials are, for `devo`.

mod tables;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use chrono::TimeDelta;
use tracing::Level;

use crate::error::Error;
use crate::source::Source;

/// The settings of a function.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    mimecast_secret_id: String,
    /// `MIMECAST_REGION`; the secret's `region` wins.
    pub mimecast_region: Option<String>,
    /// `MIMECAST_BASE_URL`; the secret's `base_url` wins.
    pub mimecast_base_url: Option<String>,
    devo_secret_id: Option<String>,
    devo_url: Option<String>,
    /// `DEVO_HOST`, `DEVO_SYSLOG_DATE`, `DEVO_SYSLOG_FRAMING`, `DEVO_SYSLOG_GZIP`, `DEVO_ACCEPTED` and `DEVO_CONNECTIONS`.
    pub devo: devo::Options,
    /// `DEVO_TAG`: what stands at the front of every table in place of Devo's own, or of `my.app.mimecast`.
    pub devo_tag: Option<String>,
    /// `DEVO_TABLE_<SOURCE>`, by source; see [`Settings::with_tables_of`].
    devo_tables: BTreeMap<&'static str, String>,
    /// `CHECKPOINT_TABLE`: the name of the table.
    pub checkpoint_table: String,
    /// `TENANT`: the tenant of an event that names none.
    pub tenant: String,
    /// `INITIAL_LOOKBACK`: how far back the first run starts.
    pub initial_lookback: TimeDelta,
    /// `OVERLAP`: how far each run reads again; `None` for the source's own.
    pub overlap: Option<TimeDelta>,
    /// `SETTLE`: how far behind the server's clock a window ends; `None` for the source's own.
    pub settle: Option<TimeDelta>,
    /// `SIEM_TYPES`: the log types to collect by API 2.0, each once, in the order given.
    siem_types: Vec<&'static str>,
    /// `MIMECAST_DASHBOARD_ACCOUNT`: the account code to ask for the dashboard with; API 2.0 may demand it.
    pub dashboard_account: Option<String>,
    /// `THREATFEED_TYPES`: the feeds to collect, each once, in the order given.
    pub threatfeed_types: Vec<&'static str>,
    /// `THREATFEED_FORMAT`: how the feeds are asked for.
    pub threatfeed_format: ThreatfeedFormat,
    /// `PAGE_SIZE`: rows (siem 2.0: files) per request; `None` for the source's own. Not 0.
    pub page_size: Option<u32>,
    /// `LOG_LEVEL`, else `AWS_LAMBDA_LOG_LEVEL`.
    pub log_level: Level,
    /// `METRICS_NAMESPACE`: the CloudWatch namespace of the metrics; `None` for no metrics.
    pub metrics_namespace: Option<String>,
    /// `DEVO_OWN_LOGS`: whether each run also tells Devo of itself, as Devo's own collectors do.
    pub own_logs: bool,
}

/// The form of the threat feeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThreatfeedFormat {
    /// Rows with a header row.
    Csv,
    /// STIX bundles.
    Stix,
}

/// The log types of SIEM by API 2.0. One call takes one type.
pub const SIEM_TYPES: [&str; 10] = [
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

/// Those of Cloud Integrated.
pub const SIEMCI_TYPES: [&str; 3] = ["entities", "mailflow", "urlclick"];

const THREATFEED_TYPES: [&str; 2] = ["malware_customer", "malware_grid"];

/// Far above any sense, far below what an instant can be moved by.
const LONGEST: TimeDelta = TimeDelta::days(3650);

const TAG: &str = "words of a-z 0-9 _ with single dots between them, like my.app";

const DEVO_URLS: &str = "https://<host>, tls://<host>:<port>, tcp://<host>:<port>, relp://<host>:<port>, \
                         relp+tls://<host>:<port> or stdout: (http:// for a loopback address only), without a path of \
                         domain and token; several with commas between them";

/// More connections would help nobody.
const MAX_CONNECTIONS: usize = 16;

impl Settings {
    /// Reads the environment, for one source.
    ///
    /// # Errors
    /// As [`Settings::from_lookup`] and [`Settings::with_tables_of`].
    pub fn from_env(source: &'static Source) -> Result<Self, Error> {
        Self::from_lookup(variable)?.with_tables_of(&[source], variable)
    }

    /// Reads the variables that `lookup` gives by name. A blank one counts as unset; white space around a value is dropped.
    /// `SETTINGS` has more of them in one: `OVERLAP=30m; LOG_LEVEL=debug`.
    ///
    /// # Errors
    /// [`Error::Configuration`] that names each variable that is wrong and what it may hold. Values are not repeated: people paste secrets
    /// into the wrong variable.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let known = RefCell::new(BTreeSet::new());
        let lookup = |name: &str| {
            known.borrow_mut().insert(name.to_owned());
            lookup(name)
        };
        let get = |name: &str| set(&lookup, name);
        let checked = |name: &str, allowed: &str, fits: fn(&str) -> bool| match get(name) {
            Some(value) if !fits(&value) => Err(bad(name, allowed)),
            value => Ok(value),
        };
        let secret_id = |name| {
            checked(
                name,
                "a Secrets Manager name or ARN, file:<path> or env:<name>, not the secret itself",
                is_secret_id,
            )
        };
        let duration = |name| {
            let allowed = "a whole number and s, m, h or d, like 90s, 15m, 24h or 7d, at most 3650d";
            get(name).map(|value| parse_duration(&value).ok_or_else(|| bad(name, allowed))).transpose()
        };

        let types = |name, known: &[&'static str]| match get(name) {
            None => Ok(known.to_vec()),
            Some(list) => {
                parse_types(&list, known).ok_or_else(|| bad(name, &format!("a comma list of {}", known.join(", "))))
            }
        };

        let problems = Problems::default();
        let required = |name, value: Result<Option<String>, Error>, purpose| {
            problems.or(value.and_then(|value| value.ok_or_else(|| missing(name, purpose))), String::new())
        };
        let devo_url = problems.or(checked("DEVO_URL", DEVO_URLS, are_devo_urls).map(Some), None);
        let devo_secret_id = problems.or(secret_id("DEVO_SECRET_ID"), None);
        if let (None, Some(url)) = (&devo_secret_id, &devo_url) {
            let needs_none =
                |url: &str| destinations(url).all(|url| ["tcp", "relp", "stdout"].contains(&split_url(url).0.as_str()));
            match url {
                None => problems.add(missing("DEVO_URL", DEVO_URLS)),
                Some(url) if !needs_none(url) => {
                    let purpose = "the Devo secret's id (only a DEVO_URL with tcp:, relp: or stdout: needs none)";
                    problems.add(missing("DEVO_SECRET_ID", purpose));
                }
                Some(_) => {}
            }
        }
        let settings = Self {
            mimecast_secret_id: required(
                "MIMECAST_SECRET_ID",
                secret_id("MIMECAST_SECRET_ID"),
                "the Mimecast secret's id",
            ),
            mimecast_region: get("MIMECAST_REGION"),
            mimecast_base_url: problems.or(
                checked(
                    "MIMECAST_BASE_URL",
                    "https://<host> (http:// for a loopback address only)",
                    is_https_or_loopback,
                ),
                None,
            ),
            devo_secret_id,
            devo_url: devo_url.flatten(),
            devo: devo_options(&lookup, &problems),
            // What was the default once, and stands in deployments of that time: no source's table moves.
            devo_tag: problems.or(checked("DEVO_TAG", TAG, is_tag), None).filter(|tag| tag != tables::FRONTS[0]),
            devo_tables: BTreeMap::new(),
            checkpoint_table: required("CHECKPOINT_TABLE", Ok(get("CHECKPOINT_TABLE")), "the DynamoDB table's name"),
            tenant: problems
                .or(checked("TENANT", "1 to 64 characters a-z 0-9 -", is_tenant), None)
                .unwrap_or_else(|| "default".to_owned()),
            initial_lookback: problems.or(duration("INITIAL_LOOKBACK"), None).unwrap_or(TimeDelta::hours(24)),
            overlap: problems.or(duration("OVERLAP"), None),
            settle: problems.or(duration("SETTLE"), None),
            siem_types: problems.or(types("SIEM_TYPES", &[&SIEM_TYPES[..], &SIEMCI_TYPES].concat()), Vec::new()),
            dashboard_account: problems
                .or(checked("MIMECAST_DASHBOARD_ACCOUNT", "an account code, like CUSA1A234", is_account), None),
            threatfeed_types: problems.or(types("THREATFEED_TYPES", &THREATFEED_TYPES), Vec::new()),
            threatfeed_format: problems.one_of(
                "THREATFEED_FORMAT",
                get("THREATFEED_FORMAT"),
                [("csv", ThreatfeedFormat::Csv), ("stix", ThreatfeedFormat::Stix)],
            ),
            page_size: match get("PAGE_SIZE").map(|value| value.parse::<u32>()) {
                None => None,
                Some(Ok(size)) if size > 0 => Some(size),
                Some(_) => {
                    problems.add(bad("PAGE_SIZE", "a whole number from 1 on"));
                    None
                }
            },
            log_level: problems.or(log_level(&lookup), Level::INFO),
            metrics_namespace: problems.or(
                checked(
                    "METRICS_NAMESPACE",
                    "1 to 255 characters a-z A-Z 0-9 . - _ / #, not beginning with AWS/",
                    is_namespace,
                ),
                None,
            ),
            own_logs: problems.one_of("DEVO_OWN_LOGS", get("DEVO_OWN_LOGS"), [("off", false), ("on", true)]),
        };
        // All names have been asked for by now.
        if get("SETTINGS").is_some_and(|more| !are_settings(&more, &known.borrow())) {
            problems
                .add(bad("SETTINGS", "<variable>=<value> with semicolons between them, of variables that there are"));
        }
        problems.none().map(|()| settings)
    }

    /// Which of a source's own SIEM types to collect: those that `SIEM_TYPES` names, or all where it names none of them.
    pub fn siem_types(&self, own: &[&'static str]) -> impl Iterator<Item = &'static str> {
        let named: Vec<_> = self.siem_types.iter().copied().filter(|name| own.contains(name)).collect();
        if named.is_empty() { own.to_vec() } else { named }.into_iter()
    }

    /// The default tenant of `lookup`, also where other settings are wrong: for messages.
    pub fn tenant_of(lookup: impl Fn(&str) -> Option<String>) -> String {
        set(&lookup, "TENANT").filter(|tenant| is_tenant(tenant)).unwrap_or_else(|| "default".to_owned())
    }

    /// The id of the Mimecast secret of a tenant.
    pub fn mimecast_secret_id(&self, tenant: &str) -> String {
        self.mimecast_secret_id.replace("{tenant}", tenant)
    }

    /// The id of the Devo secret of a tenant; `None` where no secret is needed.
    pub fn devo_secret_id(&self, tenant: &str) -> Option<String> {
        self.devo_secret_id.as_ref().map(|id| id.replace("{tenant}", tenant))
    }

    /// Where events go: the Devo secret's `url` if it has one, else `DEVO_URL`.
    ///
    /// # Errors
    /// [`Error::Configuration`] when there is neither, or the secret's is not a URL of the schemes known.
    pub fn devo_url<'a>(&'a self, secret_url: Option<&'a str>) -> Result<&'a str, Error> {
        match (secret_url, &self.devo_url) {
            (Some(url), _) if are_devo_urls(url) => Ok(url),
            (Some(_), _) => Err(bad("url in the Devo secret", DEVO_URLS)),
            (None, Some(url)) => Ok(url),
            (None, None) => Err(missing("DEVO_URL", DEVO_URLS)),
        }
    }
}

/// The settings of the ways to Devo.
fn devo_options(lookup: &impl Fn(&str) -> Option<String>, problems: &Problems) -> devo::Options {
    let (get, default) = (|name| set(lookup, name), devo::Options::default());
    devo::Options {
        host: match get("DEVO_HOST") {
            None => default.host,
            Some(host) if is_host(&host) => host,
            Some(_) => {
                problems.add(bad("DEVO_HOST", "a host name without blanks and slashes"));
                default.host
            }
        },
        date: problems.one_of(
            "DEVO_SYSLOG_DATE",
            get("DEVO_SYSLOG_DATE"),
            [("rfc3339", devo::Date::Rfc3339), ("collector", devo::Date::Collector)],
        ),
        framing: problems.one_of(
            "DEVO_SYSLOG_FRAMING",
            get("DEVO_SYSLOG_FRAMING"),
            [("lf", devo::Framing::Lf), ("octet", devo::Framing::Octet)],
        ),
        gzip: problems.one_of("DEVO_SYSLOG_GZIP", get("DEVO_SYSLOG_GZIP"), [("off", false), ("on", true)]),
        accepted: problems.one_of(
            "DEVO_ACCEPTED",
            get("DEVO_ACCEPTED"),
            [("closed", devo::Accepted::Closed), ("acknowledged", devo::Accepted::Acknowledged)],
        ),
        connections: match get("DEVO_CONNECTIONS").map(|value| value.parse()) {
            None => default.connections,
            Some(Ok(number)) if (1..=MAX_CONNECTIONS).contains(&number) => number,
            Some(_) => {
                problems.add(bad("DEVO_CONNECTIONS", "a whole number from 1 to 16"));
                default.connections
            }
        },
    }
}

/// All that is wrong with the settings: who mends one thing should not meet the next one only then.
#[derive(Default)]
struct Problems(RefCell<Vec<String>>);

impl Problems {
    fn add(&self, error: Error) {
        self.0.borrow_mut().push(error.to_string());
    }

    fn or<T>(&self, outcome: Result<T, Error>, otherwise: T) -> T {
        outcome.unwrap_or_else(|error| {
            self.add(error);
            otherwise
        })
    }

    /// The one of two words that is set, the first one by default.
    fn one_of<T>(&self, name: &str, value: Option<String>, [one, other]: [(&str, T); 2]) -> T {
        match value.as_deref() {
            Some(word) if word == other.0 => other.1,
            Some(word) if word != one.0 => {
                self.add(bad(name, &format!("{} or {}", one.0, other.0)));
                one.1
            }
            _ => one.1,
        }
    }

    fn none(self) -> Result<(), Error> {
        let problems = self.0.into_inner();
        if problems.is_empty() { Ok(()) } else { Err(Error::Configuration(problems.join("; "))) }
    }
}

/// An environment variable's text; `None` where it is not set. What is not Unicode fails its check, not silently.
pub fn variable(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// A variable's value, or else the one that `SETTINGS` has for it; blank ones left out.
pub(crate) fn set(lookup: &impl Fn(&str) -> Option<String>, name: &str) -> Option<String> {
    let filled = |value: &str| Some(value.trim().to_owned()).filter(|value| !value.is_empty());
    let of_it =
        |one: &str| one.split_once('=').filter(|(key, _)| key.trim() == name).and_then(|(_, value)| filled(value));
    lookup(name).and_then(|value| filled(&value)).or_else(|| lookup("SETTINGS")?.split(';').find_map(of_it))
}

/// `LOG_LEVEL`, else the level set in Lambda's own logging controls, else info.
pub(crate) fn log_level(lookup: &impl Fn(&str) -> Option<String>) -> Result<Level, Error> {
    let level = |name| set(lookup, name).map(|value| parse_level(&value));
    match level("LOG_LEVEL") {
        Some(Some(level)) => Ok(level),
        Some(None) => Err(bad("LOG_LEVEL", "error, warn, info, debug or trace")),
        None => Ok(level("AWS_LAMBDA_LOG_LEVEL").flatten().unwrap_or(Level::INFO)),
    }
}

/// Whether a text may name a tenant.
pub(crate) fn is_tenant(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
}

fn parse_level(text: &str) -> Option<Level> {
    match text.to_ascii_lowercase().as_str() {
        // Lambda knows one level more.
        "error" | "fatal" => Some(Level::ERROR),
        "warn" => Some(Level::WARN),
        "info" => Some(Level::INFO),
        "debug" => Some(Level::DEBUG),
        "trace" => Some(Level::TRACE),
        _ => None,
    }
}

/// `90s`, `15m`, `24h` or `7d`: one whole number and one unit, ten years at most.
pub fn parse_duration(text: &str) -> Option<TimeDelta> {
    let unit = text.chars().last()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return None,
    };
    let number: u32 = text.strip_suffix(unit)?.parse().ok()?;
    TimeDelta::try_seconds(i64::from(number) * seconds).filter(|duration| *duration <= LONGEST)
}

/// Those of the `known` types that a comma list names.
fn parse_types(list: &str, known: &[&'static str]) -> Option<Vec<&'static str>> {
    let mut types = Vec::new();
    for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let known = *known.iter().find(|known| **known == name)?;
        if !types.contains(&known) {
            types.push(known);
        }
    }
    (!types.is_empty()).then_some(types)
}

/// Whether a text sets nothing but known variables.
fn are_settings(text: &str, known: &BTreeSet<String>) -> bool {
    let parts = text.split(';').map(str::trim).filter(|part| !part.is_empty());
    parts
        .map(|part| part.split_once('='))
        .all(|part| part.is_some_and(|(name, _)| known.contains(name.trim()) || name.trim().starts_with(tables::OWN)))
}

/// Catches the secret's JSON where its id belongs, and a misspelt `{tenant}`.
fn is_secret_id(text: &str) -> bool {
    !text.replace("{tenant}", "").contains(|c: char| matches!(c, '{' | '}' | '"') || c.is_control())
}

fn is_account(text: &str) -> bool {
    text.bytes().all(|c| c.is_ascii_alphanumeric())
}

fn is_host(text: &str) -> bool {
    !text.contains(|c: char| c == '/' || c == '\\' || c.is_whitespace() || c.is_control())
}

/// A namespace as CloudWatch takes it; `AWS/` is Amazon's.
fn is_namespace(text: &str) -> bool {
    text.len() <= 255
        && !text.starts_with("AWS/")
        && text.bytes().all(|c| c.is_ascii_alphanumeric() || b".-_/#".contains(&c))
}

fn is_tag(text: &str) -> bool {
    text.split('.')
        .all(|word| !word.is_empty() && word.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_'))
}

fn are_devo_urls(text: &str) -> bool {
    destinations(text).all(is_devo_url)
}

fn destinations(urls: &str) -> impl Iterator<Item = &str> {
    urls.split(',').map(str::trim)
}

fn is_devo_url(text: &str) -> bool {
    // People paste the whole stream address; its token belongs in the secret.
    !text.contains("token!")
        && match split_url(text) {
            (scheme, _) if scheme == "stdout" => true,
            (scheme, host) if ["tls", "tcp", "relp", "relp+tls"].contains(&scheme.as_str()) => !host.is_empty(),
            _ => is_https_or_loopback(text),
        }
}

fn is_https_or_loopback(text: &str) -> bool {
    let (scheme, host) = split_url(text);
    match scheme.as_str() {
        "https" => !host.is_empty(),
        "http" => host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()),
        _ => false,
    }
}

/// The scheme in lower case and the host. No host where the authority is anything but `host` or `host:port`.
fn split_url(url: &str) -> (String, &str) {
    let (scheme, rest) = url.split_once(':').unwrap_or_default();
    let authority = rest.strip_prefix("//").unwrap_or_default().split(['/', '\\', '?', '#']).next().unwrap_or_default();
    let host = if authority.contains(|c: char| c == '@' || c.is_whitespace() || c.is_control()) {
        ""
    } else if let Some(v6) = authority.strip_prefix('[') {
        v6.split_once(']').map_or("", |(address, _)| address)
    } else {
        authority.split(':').next().unwrap_or_default()
    };
    (scheme.to_ascii_lowercase(), host)
}

fn bad(name: &str, allowed: &str) -> Error {
    Error::Configuration(format!("{name} must be {allowed}"))
}

fn missing(name: &str, purpose: &str) -> Error {
    Error::Configuration(format!("{name} is not set: set it to {purpose}"))
}

#[cfg(test)]
mod tests;
