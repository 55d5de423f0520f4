//! Every variable: what it takes, and that a wrong value is named and never shown.

use super::*;

const REQUIRED: [(&str, &str); 4] = [
    ("MIMECAST_SECRET_ID", "mimecast/{tenant}"),
    ("DEVO_SECRET_ID", "devo/{tenant}/{tenant}"),
    ("DEVO_URL", "https://http-eu.devo.io"),
    ("CHECKPOINT_TABLE", "checkpoints"),
];

/// The required variables, with `changes` over them.
fn read(changes: &[(&str, &str)]) -> Result<Settings, String> {
    let lookup = |name: &str| {
        let found = changes.iter().chain(&REQUIRED).find(|(known, _)| *known == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    Settings::from_lookup(lookup).map_err(|error| {
        assert!(matches!(error, Error::Configuration(_)));
        error.to_string()
    })
}

#[test]
fn the_defaults_are_the_interface_s() {
    let settings = read(&[]).unwrap();
    assert_eq!(
        settings,
        Settings {
            mimecast_secret_id: "mimecast/{tenant}".to_owned(),
            mimecast_region: None,
            mimecast_base_url: None,
            devo_secret_id: Some("devo/{tenant}/{tenant}".to_owned()),
            devo_url: Some("https://http-eu.devo.io".to_owned()),
            devo: devo::Options {
                host: "mimecast-collector".to_owned(),
                date: devo::Date::Rfc3339,
                framing: devo::Framing::Lf,
                gzip: false,
                accepted: devo::Accepted::Closed,
                connections: 2,
            },
            devo_tag: None,
            devo_tables: BTreeMap::new(),
            checkpoint_table: "checkpoints".to_owned(),
            tenant: "default".to_owned(),
            initial_lookback: TimeDelta::days(1),
            overlap: None,
            settle: None,
            siem_types: [&SIEM_TYPES[..], &SIEMCI_TYPES].concat(),
            dashboard_account: None,
            threatfeed_types: vec!["malware_customer", "malware_grid"],
            threatfeed_format: ThreatfeedFormat::Csv,
            page_size: None,
            log_level: Level::INFO,
            metrics_namespace: None,
            own_logs: false,
        }
    );
    assert_eq!(settings.mimecast_secret_id("acme"), "mimecast/acme");
    assert_eq!(settings.devo_secret_id("acme").unwrap(), "devo/acme/acme");
}

#[test]
fn every_variable_is_read() {
    let settings = read(&[
        ("MIMECAST_REGION", " uk\n"),
        ("MIMECAST_BASE_URL", "http://127.0.0.1:8080"),
        ("DEVO_HOST", "mail-7.example.com"),
        ("DEVO_SYSLOG_DATE", "collector"),
        ("DEVO_SYSLOG_FRAMING", "octet"),
        ("DEVO_SYSLOG_GZIP", "on"),
        ("DEVO_ACCEPTED", "acknowledged"),
        ("DEVO_CONNECTIONS", "16"),
        ("DEVO_TAG", "my.app"),
        ("TENANT", "acme-2"),
        ("INITIAL_LOOKBACK", "7d"),
        ("OVERLAP", "90s"),
        ("SETTLE", "0s"),
        ("SIEM_TYPES", "av, url protect, mailflow"),
        ("MIMECAST_DASHBOARD_ACCOUNT", "CUSA1A234"),
        ("THREATFEED_TYPES", "malware_grid, malware_customer,malware_grid,"),
        ("THREATFEED_FORMAT", "stix"),
        ("PAGE_SIZE", "500"),
        ("LOG_LEVEL", "debug"),
        ("METRICS_NAMESPACE", "MimecastDevo/prod"),
        ("DEVO_OWN_LOGS", "on"),
    ])
    .unwrap();
    assert_eq!(settings.mimecast_region.as_deref(), Some("uk"));
    assert_eq!(settings.mimecast_base_url.as_deref(), Some("http://127.0.0.1:8080"));
    assert_eq!(
        settings.devo,
        devo::Options {
            host: "mail-7.example.com".to_owned(),
            date: devo::Date::Collector,
            framing: devo::Framing::Octet,
            gzip: true,
            accepted: devo::Accepted::Acknowledged,
            connections: 16,
        }
    );
    assert_eq!(settings.devo_tag.as_deref(), Some("my.app"));
    assert_eq!(settings.tenant, "acme-2");
    assert_eq!(settings.initial_lookback, TimeDelta::days(7));
    assert_eq!(settings.overlap, Some(TimeDelta::seconds(90)));
    assert_eq!(settings.settle, Some(TimeDelta::zero()));
    assert_eq!(settings.siem_types, ["av", "url protect", "mailflow"]);
    assert_eq!(settings.dashboard_account.as_deref(), Some("CUSA1A234"));
    assert_eq!(settings.threatfeed_types, ["malware_grid", "malware_customer"]);
    assert_eq!(settings.threatfeed_format, ThreatfeedFormat::Stix);
    assert_eq!(settings.page_size, Some(500));
    assert_eq!(settings.log_level, Level::DEBUG);
    assert_eq!(settings.metrics_namespace.as_deref(), Some("MimecastDevo/prod"));
    assert!(settings.own_logs);
}

#[test]
fn a_blank_variable_is_an_unset_one() {
    let optional = "MIMECAST_REGION MIMECAST_BASE_URL DEVO_HOST DEVO_TAG TENANT INITIAL_LOOKBACK OVERLAP SETTLE \
                    SIEM_TYPES THREATFEED_TYPES THREATFEED_FORMAT PAGE_SIZE LOG_LEVEL METRICS_NAMESPACE DEVO_OWN_LOGS \
                    MIMECAST_DASHBOARD_ACCOUNT";
    for blank in ["", " \t"] {
        let changes: Vec<_> = optional.split(' ').map(|name| (name, blank)).collect();
        assert_eq!(read(&changes), read(&[]));
        for (name, _) in [REQUIRED[0], REQUIRED[1], REQUIRED[3]] {
            assert!(read(&[(name, blank)]).unwrap_err().starts_with(&format!("{name} is not set: ")), "{name}");
        }
    }
}

#[test]
fn durations() {
    for (text, seconds) in [("0s", 0), ("90s", 90), ("15m", 900), ("24h", 86_400), ("3650d", 315_360_000)] {
        assert_eq!(read(&[("OVERLAP", text)]).unwrap().overlap, Some(TimeDelta::seconds(seconds)));
    }
}

#[test]
fn an_error_names_its_variable_and_what_is_allowed() {
    let duration: Vec<&str> =
        "90 s -1s 1.5h 1h30m 15\tm 15M 1w 5ms 3651d 4294967296s ever 1é s3cret".split(' ').collect();
    let devo_urls: Vec<&str> = "http-eu.devo.io stdout ftp://x https: https:// https:///x tls:x tcp://:13000 relp:// \
        http://http-eu.devo.io http://10.0.0.1 http://127.0.0.1.example.com http://127.0.0.1@example.com \
        http://127.0.0.1:80@example.com http://[::2]:80 http://[::1 https://s3cret@http-eu.devo.io https://a\tb \
        https://http-eu.devo.io/stream/acme/token!s3cret/h/t , stdout:, ,stdout: https://a,ftp://x"
        .split(' ')
        .collect();
    let tables: [(&str, &[&str], &str); 23] = [
        ("MIMECAST_SECRET_ID", &[r#"{"client_id":"s3cret"}"#, "a/{Tenant}", "a\nb"], "not the secret itself"),
        ("DEVO_SECRET_ID", &[r#"{"token":"s3cret"}"#, r#"env:{"token":"s3cret"}"#], "file:<path> or env:<name>"),
        ("DEVO_HOST", &["a b", "a/b", "a\\b", "a\u{a0}b", "a\nb", "a\u{0}b"], "without blanks"),
        ("DEVO_TAG", &["Mail", ".", "a.", ".a", "a..b", "a b", "a-b", "a/b", "é"], "my.app"),
        ("DEVO_SYSLOG_DATE", &["RFC3339", "s3cret"], "rfc3339 or collector"),
        ("DEVO_SYSLOG_FRAMING", &["crlf", "s3cret"], "lf or octet"),
        ("DEVO_SYSLOG_GZIP", &["true", "1", "s3cret"], "off or on"),
        ("DEVO_ACCEPTED", &["written", "s3cret"], "closed or acknowledged"),
        ("DEVO_CONNECTIONS", &["0", "-1", "17", "two"], "from 1 to 16"),
        ("TENANT", &["Acme", "a_b", "a b", "a#b", "é", &"a".repeat(65)], "1 to 64"),
        ("INITIAL_LOOKBACK", &duration, "90s, 15m, 24h or 7d"),
        ("OVERLAP", &duration, "90s, 15m, 24h or 7d"),
        ("SETTLE", &duration, "90s, 15m, 24h or 7d"),
        ("SIEM_TYPES", &["virus", ",", "av;spam"], "attachment protect"),
        ("MIMECAST_DASHBOARD_ACCOUNT", &["C 1", "s3cret!", "é", "C\"1"], "an account code"),
        ("THREATFEED_TYPES", &["malware", ",", "malware_grid;malware_customer", "MALWARE_GRID"], "malware_customer"),
        ("THREATFEED_FORMAT", &["json", "csv,stix", "s3cret"], "csv or stix"),
        ("PAGE_SIZE", &["0", "-1", "1.5", "ten", "4294967296"], "from 1"),
        ("LOG_LEVEL", &["loud", "3", "info,debug"], "error, warn, info, debug or trace"),
        ("METRICS_NAMESPACE", &["AWS/Lambda", "My Space", "a:b", &"n".repeat(256)], "1 to 255"),
        ("DEVO_OWN_LOGS", &["yes", "1", "On"], "off or on"),
        (
            "MIMECAST_BASE_URL",
            &["api.mimecast.com", "http://api.mimecast.com", "ftp://x", "https://", "https://s3cret:s3cret@x"],
            "https://<host>",
        ),
        ("DEVO_URL", &devo_urls, "tcp://<host>:<port>"),
    ];
    for (name, values, allowed) in tables {
        for value in values {
            let message = read(&[(name, value)]).unwrap_err();
            assert!(message.starts_with(&format!("{name} must be ")) && message.contains(allowed), "{message}");
            assert!(!message.contains("s3cret") && !message.contains(char::is_control), "{message}");
        }
    }
}

/// A source with this table, or with several below it.
fn source(name: &'static str, table: &'static str, types: &'static [(&'static str, &'static str)]) -> &'static Source {
    use crate::source::{Identity, Kind, Stream};
    let feeds = |_: &Settings, _| Vec::new();
    let stream = Stream { feeds, identity: Identity::File, types, keeps: TimeDelta::days(7), dated: true };
    Box::leak(Box::new(Source { name, table, permission: "", kind: Kind::Stream(stream) }))
}

#[test]
fn tables_are_moved_by_their_front_or_one_by_one() {
    let (feed, dlp) = (source("feed", "mail.mimecast.threat.feed", &[]), source("dlp", "my.app.mimecast.dlp", &[]));
    let table = |changes: &[(&str, &str)], source: &'static Source| {
        let lookup =
            |name: &str| changes.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        read(changes).unwrap().with_tables_of(&[source], lookup).map(|settings| settings.table(source, source.table))
    };
    for untouched in [&[][..], &[("DEVO_TAG", "mail.mimecast")], &[("DEVO_TABLE_FEED", " ")]] {
        assert_eq!(table(untouched, feed).unwrap(), "mail.mimecast.threat.feed");
        assert_eq!(table(untouched, dlp).unwrap(), "my.app.mimecast.dlp");
    }
    let moved = [("DEVO_TAG", "my.app.trial"), ("DEVO_TABLE_DLP", "my.app.leaks")];
    assert_eq!(table(&moved, feed).unwrap(), "my.app.trial.threat.feed");
    assert_eq!(table(&moved, dlp).unwrap(), "my.app.leaks");
    assert_eq!(table(&moved[..1], dlp).unwrap(), "my.app.trial.dlp");
    let several = source("dlp", "my.app.mimecast.ci", &[("a", "a")]);
    assert!(table(&moved, several).unwrap_err().to_string().starts_with("DEVO_TABLE_DLP is set, but dlp has several"));
    let wrong = table(&[("DEVO_TABLE_DLP", "S3cret")], dlp).unwrap_err().to_string();
    assert!(wrong.starts_with("DEVO_TABLE_DLP must be ") && !wrong.contains("S3cret"), "{wrong}");
}

#[test]
fn a_list_that_names_none_of_a_source_s_types_leaves_them_all() {
    let types = |list, own: &[&'static str]| read(&[("SIEM_TYPES", list)]).unwrap().siem_types(own).collect::<Vec<_>>();
    assert_eq!(types("", &SIEM_TYPES), SIEM_TYPES);
    assert_eq!(types("av, mailflow, receipt", &SIEM_TYPES), ["av", "receipt"]);
    assert_eq!(types("av, mailflow, receipt", &SIEMCI_TYPES), ["mailflow"]);
    assert_eq!(types("av", &SIEMCI_TYPES), SIEMCI_TYPES);
}

#[test]
fn ways_out() {
    for url in [
        "https://http-eu.devo.io",
        "HTTPS://http-eu.devo.io/prefix",
        "tls://collector-eu.devo.io:443",
        "relp+tls://relay:2514",
        "tcp://relay:13000, https://http-eu.devo.io",
        "http://127.9.9.9:80/",
        "http://[::1]:80",
        "http://localhost",
    ] {
        assert_eq!(read(&[("DEVO_URL", url)]).unwrap().devo_url(None).unwrap(), url);
        let message = read(&[("DEVO_URL", url), ("DEVO_SECRET_ID", "")]).unwrap_err();
        assert!(message.starts_with("DEVO_SECRET_ID is not set"), "{message}");
    }
    for url in [
        "tcp://relay:13000",
        "tcp://[fe80::1]:13000",
        "TCP://relay:1",
        "relp://relay:2514",
        "stdout:",
        "stdout://",
        "stdout:,tcp://r:1",
    ] {
        let settings = read(&[("DEVO_URL", url), ("DEVO_SECRET_ID", "")]).unwrap();
        assert_eq!(settings.devo_url(None).unwrap(), url);
        assert_eq!(settings.devo_secret_id("acme"), None);
    }
}

#[test]
fn the_devo_secret_may_carry_the_url() {
    let settings = read(&[("DEVO_URL", "")]).unwrap();
    assert_eq!(settings.devo_url(Some("tls://x:443")).unwrap(), "tls://x:443");
    assert!(settings.devo_url(None).unwrap_err().to_string().starts_with("DEVO_URL is not set"));
    let settings = read(&[("DEVO_URL", "stdout:")]).unwrap();
    assert_eq!(settings.devo_url(Some("https://x")).unwrap(), "https://x");
    let message = settings.devo_url(Some("https://x/token!s3cret")).unwrap_err().to_string();
    assert!(message.starts_with("url in the Devo secret must be ") && !message.contains("s3cret"), "{message}");
    let message = read(&[("DEVO_URL", ""), ("DEVO_SECRET_ID", "")]).unwrap_err();
    assert!(message.starts_with("DEVO_URL is not set"), "{message}");
}

#[test]
fn one_variable_may_hold_more_of_them() {
    let more = |text| read(&[("SETTINGS", text), ("OVERLAP", "5m")]);
    let settings = more("PAGE_SIZE=7; SIEM_TYPES = av,internal email protect ;LOG_LEVEL=debug;").unwrap();
    assert_eq!((settings.page_size, settings.log_level), (Some(7), Level::DEBUG));
    assert_eq!(settings.siem_types, ["av", "internal email protect"]);
    // What is set by itself wins.
    assert_eq!(more("OVERLAP=9m").unwrap().overlap, Some(TimeDelta::minutes(5)));
    assert!(more("PAGE_SIZE=none").unwrap_err().contains("PAGE_SIZE must be"));
    for wrong in ["OVERLP=9m", "PAGE_SIZE", "=7", "PAGE_SIZE=7, SETTLE=9s; x"] {
        let error = more(wrong).unwrap_err();
        assert!(error.contains("SETTINGS must be") || error.contains("PAGE_SIZE must be"), "{wrong}: {error}");
    }
}

#[test]
fn the_log_level_is_ours_then_lambda_s_then_info() {
    let level = |ours, lambda| read(&[("LOG_LEVEL", ours), ("AWS_LAMBDA_LOG_LEVEL", lambda)]).unwrap().log_level;
    assert_eq!(level("WARN", "TRACE"), Level::WARN);
    assert_eq!(level("", "TRACE"), Level::TRACE);
    assert_eq!(level("", "FATAL"), Level::ERROR);
    assert_eq!(level("", "something new"), Level::INFO);
    assert_eq!(level("", ""), Level::INFO);
}

#[test]
fn the_environment_is_read() {
    // Set for every test by cargo.
    assert!(variable("CARGO_PKG_NAME").is_some());
    assert_eq!(variable("A_VARIABLE_THAT_NOBODY_SETS"), None);
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let lookup = |name: &str| {
        let wrong =
            [("PAGE_SIZE", "0"), ("TENANT", "A"), ("DEVO_ACCEPTED", "yes"), ("DEVO_URL", "https://http-eu.devo.io")];
        wrong.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    };
    let Err(Error::Configuration(text)) = Settings::from_lookup(lookup) else { panic!() };
    for name in ["MIMECAST_SECRET_ID", "CHECKPOINT_TABLE", "DEVO_SECRET_ID", "PAGE_SIZE", "TENANT", "DEVO_ACCEPTED"] {
        assert_eq!(text.split("; ").filter(|problem| problem.starts_with(name)).count(), 1, "{name}: {text}");
    }
}
