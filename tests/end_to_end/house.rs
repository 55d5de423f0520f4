//! The descriptions, the programs, the README's table and the names the outside world relies on agree.

use std::collections::BTreeMap;
use std::path::Path;

use collector::source::{Ask, Kind};

use crate::world::{ON_REQUEST, SOURCES};

/// Name, endpoint and table: what users' templates and searches rely on.
const INTERFACE: [(&str, &str, &str); 15] = [
    ("audit", "/api/audit/get-audit-events", "mail.mimecast.audit.events"),
    ("attachments", "/api/ttp/attachment/get-logs", "mail.mimecast.ttp.attachment"),
    ("impersonation", "/api/ttp/impersonation/get-logs", "mail.mimecast.ttp.impersonation"),
    ("url", "/api/ttp/url/get-logs", "mail.mimecast.ttp.url"),
    ("search", "/api/archive/get-search-logs", "mail.mimecast.archive.search"),
    ("view", "/api/archive/get-view-logs", "mail.mimecast.archive.messageview"),
    ("threatfeed", "/api/ttp/threat-intel/get-feed", "mail.mimecast.threat.feed"),
    ("messageholdlist", "/api/gateway/get-hold-message-list", "mail.mimecast.message.list"),
    ("messageholdsummary", "/api/gateway/get-hold-summary-list", "mail.mimecast.message.summary"),
    ("dashboard", "/api/account/get-dashboard-notifications", "mail.mimecast.account.dashboard"),
    ("siem", "/api/audit/get-siem-logs", "mail.mimecast.siem"),
    ("dlp", "/api/dlp/get-logs", "my.app.mimecast.dlp"),
    ("release", "/api/gateway/get-held-release-logs", "my.app.mimecast.release"),
    ("rejections", "/api/gateway/get-rejections", "my.app.mimecast.rejections"),
    ("siemci", "/siem/v1/batch/events/ci", "my.app.mimecast.ci"),
];

const SIEM_TABLES: [&str; 9] =
    ["receipt", "process", "delivery", "jrnl", "av", "iep", "impersonation", "spameventthread", "ttp"];

const CI_TABLES: [&str; 3] = ["entities", "mailflow", "urlclick"];

fn paths(kind: &Kind, v2: bool) -> Vec<&'static str> {
    let variables = BTreeMap::from([("MIMECAST_SECRET_ID", "m"), ("DEVO_URL", "stdout:"), ("CHECKPOINT_TABLE", "t")]);
    let lookup = |name: &str| variables.get(name).map(|value| (*value).to_owned());
    let settings = collector::Settings::from_lookup(lookup).unwrap();
    match kind {
        Kind::Window(window) => vec![window.path],
        Kind::Snapshot(snapshot) => vec![snapshot.path],
        Kind::Stream(stream) => (stream.feeds)(&settings, v2)
            .iter()
            .map(|feed| match &feed.ask {
                Ask::File { path, .. } | Ask::Links { path, .. } => *path,
            })
            .collect(),
    }
}

#[test]
fn descriptions_are_the_interface() {
    // Where API 1.0 has the source, its path.
    let path = |source: &collector::Source| [false, true].map(|v2| paths(&source.kind, v2)).concat()[0];
    let described: Vec<_> = functions::ALL.iter().map(|source| (source.name, path(source), source.table)).collect();
    assert_eq!(described, INTERFACE);
    let names = |sources: &[&collector::Source]| sources.iter().map(|source| source.name).collect::<Vec<_>>();
    assert_eq!(names(functions::by_default()), SOURCES);
    assert_eq!(names(functions::on_request()), ON_REQUEST);
    for (source, expected) in [(&functions::siem::SOURCE, &SIEM_TABLES[..]), (&functions::siemci::SOURCE, &CI_TABLES)] {
        let Kind::Stream(stream) = &source.kind else { panic!("siem is a stream") };
        let mut tables: Vec<_> = stream.types.iter().map(|(_, table)| *table).collect();
        tables.sort_unstable();
        tables.dedup();
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        assert_eq!(tables, expected);
    }
    assert!(paths(&functions::siemci::SOURCE.kind, false).is_empty(), "API 1.0 does not have it");
    assert!(paths(&functions::siem::SOURCE.kind, true).iter().all(|path| *path == "/siem/v1/batch/events/cg"));
}

#[test]
fn every_source_has_a_program_of_three_statements() {
    for source in SOURCES.into_iter().chain(ON_REQUEST) {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/bin/{source}.rs"));
        let text = std::fs::read_to_string(&program).unwrap();
        assert!(text.contains(&format!("collector::serve(&functions::{source}::SOURCE)")), "{source}");
        assert!(text.lines().count() <= 6, "{source}: the program does more than it should");
        assert!(Path::new(env!("CARGO_BIN_EXE_audit")).with_file_name(source).exists());
    }
}

#[test]
fn the_readme_lists_every_source_endpoint_and_table() {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).unwrap();
    for (name, path, table) in INTERFACE {
        let row = readme.lines().find(|line| line.starts_with(&format!("| `{name}` |"))).expect(name);
        assert!(row.contains(path) && row.contains(table), "{row}");
    }
    for table in SIEM_TABLES.into_iter().chain(CI_TABLES) {
        assert!(readme.contains(table), "{table}");
    }
    for source in functions::ALL {
        let permission = source.permission.replace('|', r"\|");
        assert!(readme.contains(&permission), "{}", source.permission);
    }
}
