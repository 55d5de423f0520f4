//! The settings of `collect`: those of the functions and a few of its own, from the environment and a file.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use collector::{Settings, Source};
use mimecast_devo::embedded::TABLE;

use crate::Error;

const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(86_400);

/// What `collect` works by.
pub struct Config {
    pub settings: Settings,
    /// `STATE_FILE`: where the checkpoints are kept.
    pub state_file: PathBuf,
    /// `SOURCES`, each with its `PERIOD_<SOURCE>`, else `PERIOD`, else its own.
    pub sources: Vec<(&'static Source, Duration)>,
}

impl Config {
    /// Reads what the command line says, the environment and a file, as [`lookup`] does.
    ///
    /// # Errors
    /// [`Error::Configuration`] that names each variable or key that is wrong and what it may hold, but no value.
    pub fn load(file: Option<&Path>, said: &[(&'static str, String)]) -> Result<Self, Error> {
        let lookup = lookup(file, said)?;
        Self::from_lookup(lookup)
    }

    fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let settings = Settings::from_lookup(|name| match (name, lookup(name)) {
            // A function's settings may be taken over as they are.
            ("CHECKPOINT_TABLE", _) => Some(TABLE.to_owned()),
            (_, value) => value,
        })
        .and_then(|settings| settings.with_tables_of(&functions::ALL, &lookup));
        let common = period(&lookup, "PERIOD");
        let sources = enabled(&lookup);
        let own = |source: &&'static Source| (*source, period(&lookup, &period_key(source)));
        let own: Vec<_> = sources.as_ref().unwrap_or(&functions::ALL.to_vec()).iter().map(own).collect();
        let state_file = state_file(&lookup);
        // The parent of a mere file name is the empty path.
        let directory = state_file.parent().filter(|parent| !parent.as_os_str().is_empty());
        let nowhere = (!directory.is_none_or(Path::is_dir))
            .then(|| format!("STATE_FILE is {}: there is no such directory", state_file.display()));
        // Whoever mends one thing should not meet the next one only then.
        let problems: Vec<String> = (settings.as_ref().err().map(ToString::to_string).into_iter())
            .chain([&common].into_iter().chain(own.iter().map(|(_, period)| period)).filter_map(text_of))
            .chain(sources.as_ref().err().map(ToString::to_string))
            .chain(nowhere)
            .collect();
        match (settings, common) {
            (Ok(settings), Ok(common)) if problems.is_empty() => {
                let period = |own: Option<Duration>, source| own.or(common).unwrap_or_else(|| default_period(source));
                let sources = own.into_iter().map(|(source, own)| (source, period(own.ok().flatten(), source)));
                Ok(Self { settings, state_file, sources: sources.collect() })
            }
            _ => Err(bad(problems.join("; "))),
        }
    }
}

fn text_of<T>(outcome: &Result<T, Error>) -> Option<String> {
    outcome.as_ref().err().map(ToString::to_string)
}

/// The sources that `SOURCES` names, else all.
///
/// # Errors
/// [`Error::Configuration`] for a name that is none.
pub fn enabled(lookup: &impl Fn(&str) -> Option<String>) -> Result<Vec<&'static Source>, Error> {
    chosen(set(lookup("SOURCES")).as_deref())
}

fn period(lookup: &impl Fn(&str) -> Option<String>, name: &str) -> Result<Option<Duration>, Error> {
    match set(lookup(name)).map(|text| parse_period(&text)) {
        Some(None) => {
            Err(bad(format!("{name} must be a whole number and s, m, h or d, like 90s or 15m, from 1s to 24h")))
        }
        period => Ok(period.flatten()),
    }
}

/// Where a configuration file is looked for when none is named.
const USUAL_FILE: &str = "/etc/mimecast-devo/mimecast-devo.toml";
/// With this before its name a variable is certainly meant for this program.
const PREFIX: &str = "MIMECAST_DEVO_";
/// Names so short that any shell may have them for something else: without the prefix they fill only what the file leaves open.
const SHORT: [&str; 8] = ["TENANT", "PERIOD", "SOURCES", "OVERLAP", "SETTLE", "PAGE_SIZE", "STATE_FILE", "LOG_LEVEL"];

/// The variables by name, and starts the log. What is found first holds: what the command line has `said`, a variable of the
/// environment with `MIMECAST_DEVO_` before its name, one without, the file. Of short names the file comes before the environment.
///
/// # Errors
/// As [`Config::load`].
pub fn lookup(
    file: Option<&Path>,
    said: &[(&'static str, String)],
) -> Result<impl Fn(&str) -> Option<String> + use<>, Error> {
    let usual = Path::new(USUAL_FILE);
    let file = match file {
        None if usual.is_file() => read(usual)?,
        None => BTreeMap::new(),
        Some(file) => read(file)?,
    };
    let said = said.to_vec();
    let lookup = move |name: &str| {
        let prefixed = || set(collector::variable(&format!("{PREFIX}{name}")));
        let plain = || set(collector::variable(name));
        let filed = || set(file.get(name).cloned());
        let first = said.iter().find(|(said, _)| *said == name).map(|(_, value)| value.clone()).or_else(prefixed);
        match SHORT.contains(&name) || name.starts_with("PERIOD_") {
            true => first.or_else(filed).or_else(plain),
            false => first.or_else(plain).or_else(filed),
        }
    };
    collector::init_logging(&lookup);
    Ok(lookup)
}

/// `STATE_FILE`, or where it is otherwise.
pub fn state_file(lookup: &impl Fn(&str) -> Option<String>) -> PathBuf {
    PathBuf::from(set(lookup("STATE_FILE")).unwrap_or_else(|| "mimecast-devo.db".to_owned()))
}

fn set(value: Option<String>) -> Option<String> {
    value.map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}

/// The settings in a file, of which every key is known.
fn read(path: &Path) -> Result<BTreeMap<String, String>, Error> {
    let wrong = |reason: String| bad(format!("{}: {reason}", path.display()));
    let parse = match path.extension().and_then(|extension| extension.to_str()) {
        Some("toml") => parse_toml,
        Some("yaml" | "yml") => parse_yaml,
        _ => return Err(wrong("the name of a configuration file ends in .toml, .yaml or .yml".to_owned())),
    };
    let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let values = parse(&text).map_err(wrong)?;
    let unknown = unknown(values.keys(), &text);
    if unknown.is_empty() { Ok(values) } else { Err(wrong(unknown)) }
}

/// The parsers' own messages end with the lines in question, in which somebody may have put a secret.
fn parse_toml(text: &str) -> Result<BTreeMap<String, String>, String> {
    let table: toml::Table = toml::from_str(text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        format!("line {}: {}", before.matches('\n').count() + 1, error.message().replace('\n', ", "))
    })?;
    let scalar = |(key, value)| match value {
        toml::Value::String(text) => Ok((key, text)),
        toml::Value::Integer(number) => Ok((key, number.to_string())),
        _ => Err(format!("{key} must be a text in quotes or a whole number")),
    };
    table.into_iter().map(scalar).collect()
}

fn parse_yaml(text: &str) -> Result<BTreeMap<String, String>, String> {
    if text.trim().is_empty() {
        return Ok(BTreeMap::new());
    }
    // A key without a value is one that is not set.
    let values: BTreeMap<String, Option<String>> = serde_saphyr::from_str(text).map_err(|error| {
        let line = error.location().map_or(1, |location| location.line());
        format!("line {line}: not YAML of the form KEY: value, each key once")
    })?;
    Ok(values.into_iter().filter_map(|(key, value)| Some((key, value?))).collect())
}

/// Names the keys that nobody reads, each with its line in the file and the known one that it resembles.
fn unknown<'a>(keys: impl Iterator<Item = &'a String>, text: &str) -> String {
    let known = known();
    let unknown = keys.filter(|key| !known.contains(*key)).map(|key| {
        let begins = |line: &str| line.trim_start().trim_start_matches(['"', '\'']).starts_with(key.as_str());
        let line = text.lines().position(begins).map(|line| format!("line {}: ", line + 1)).unwrap_or_default();
        let upper = key.to_ascii_uppercase();
        let likeness = |known: &str| strsim::normalized_damerau_levenshtein(known, &upper);
        match known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b))) {
            Some(nearest) if likeness(nearest) > 0.6 => format!("{line}unknown key {key} (did you mean {nearest}?)"),
            _ => format!("{line}unknown key {key}"),
        }
    });
    unknown.collect::<Vec<_>>().join(", ")
}

/// The names that are looked up, found by looking on: a list would fall behind.
fn known() -> BTreeSet<String> {
    let names = RefCell::new(BTreeSet::new());
    let watched = |name: &str| {
        names.borrow_mut().insert(name.to_owned());
        match name {
            "MIMECAST_SECRET_ID" => Some("file:any".to_owned()),
            "DEVO_URL" => Some("stdout:".to_owned()),
            // Each has a period of its own, those too that are off unless asked for.
            "SOURCES" => Some(functions::ALL.map(|source| source.name).join(",")),
            _ => None,
        }
    };
    // For `verify` only.
    for name in ["DEVO_QUERY_SECRET_ID", "DEVO_QUERY_URL"] {
        watched(name);
    }
    // With these it cannot fail, and a failure would only leave names out.
    Config::from_lookup(watched).ok();
    names.into_inner()
}

/// The sources of a comma list, each once; without a list those that nobody has to ask for.
fn chosen(list: Option<&str>) -> Result<Vec<&'static Source>, Error> {
    let Some(list) = list else { return Ok(functions::by_default().to_vec()) };
    let names: Vec<&str> = list.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    let all: Vec<&str> = functions::ALL.iter().map(|source| source.name).collect();
    let strange = names.iter().find(|name| !all.contains(name));
    if names.is_empty() || strange.is_some() {
        let found = strange.map(|name| format!(", not {name}")).unwrap_or_default();
        return Err(bad(format!("SOURCES must be a comma list of {}{found}", all.join(", "))));
    }
    Ok(functions::ALL.into_iter().filter(|source| names.contains(&source.name)).collect())
}

fn period_key(source: &Source) -> String {
    format!("PERIOD_{}", source.name.to_ascii_uppercase())
}

fn default_period(source: &Source) -> Duration {
    let minutes = match source.name {
        "threatfeed" | "dashboard" => 60,
        "messageholdlist" | "messageholdsummary" | "search" | "view" | "dlp" | "release" | "rejections" | "siemci" => {
            15
        }
        _ => 5,
    };
    Duration::from_secs(minutes * 60)
}

fn parse_period(text: &str) -> Option<Duration> {
    let period = collector::parse_duration(text)?.to_std().ok()?;
    (SHORTEST..=LONGEST).contains(&period).then_some(period)
}

fn bad(message: String) -> Error {
    Error::Configuration(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUIRED: [(&str, &str); 2] = [("MIMECAST_SECRET_ID", "file:mimecast.json"), ("DEVO_URL", "stdout:")];

    fn load(changes: &[(&str, &str)]) -> Result<Config, String> {
        let lookup = |name: &str| {
            let found = changes.iter().chain(&REQUIRED).find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Config::from_lookup(lookup).map_err(|error| {
            assert_eq!(error.exit_code(), 2);
            error.to_string()
        })
    }

    fn refusal(changes: &[(&str, &str)]) -> String {
        load(changes).err().unwrap()
    }

    fn periods(changes: &[(&str, &str)]) -> BTreeMap<&'static str, u64> {
        let sources = load(changes).unwrap().sources;
        sources.into_iter().map(|(source, period)| (source.name, period.as_secs())).collect()
    }

    fn file(name: &str, text: &str) -> Result<BTreeMap<String, String>, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        read(&path).map_err(|error| {
            let message = error.to_string();
            assert!(!message.contains('\n') && !message.contains("s3cret"), "{message}");
            message.strip_prefix(&format!("{}: ", path.display())).unwrap().to_owned()
        })
    }

    #[test]
    fn the_defaults() {
        let config = load(&[]).unwrap();
        assert_eq!(config.state_file, Path::new("mimecast-devo.db"));
        assert_eq!(config.settings.checkpoint_table, TABLE);
        let expected = [
            ("siem", 300),
            ("audit", 300),
            ("attachments", 300),
            ("impersonation", 300),
            ("url", 300),
            ("messageholdlist", 900),
            ("messageholdsummary", 900),
            ("search", 900),
            ("view", 900),
            ("threatfeed", 3600),
            ("dashboard", 3600),
        ];
        assert_eq!(periods(&[]), expected.into());
    }

    #[test]
    fn a_source_s_own_period_wins() {
        let periods = periods(&[("PERIOD", " 10s "), ("PERIOD_SIEM", "2m"), ("PERIOD_VIEW", "24h")]);
        assert_eq!((periods["siem"], periods["view"], periods["audit"], periods["dashboard"]), (120, 86_400, 10, 10));
    }

    #[test]
    fn impossible_periods_are_refused_by_name() {
        for name in ["PERIOD", "PERIOD_THREATFEED"] {
            for value in ["0s", "5", "m", "-1s", "1.5h", "25h", "s3cret", "4294967295h", "1s1s"] {
                assert_eq!(
                    refusal(&[(name, value)]),
                    format!("{name} must be a whole number and s, m, h or d, like 90s or 15m, from 1s to 24h")
                );
            }
        }
    }

    #[test]
    fn sources_are_chosen_by_name() {
        assert_eq!(periods(&[("SOURCES", "url, audit,,url")]), [("audit", 300), ("url", 300)].into());
        assert_eq!(periods(&[("SOURCES", "")]).len(), 11);
        let on_request = "release,siemci,rejections,dlp,audit";
        let expected = [("audit", 300), ("dlp", 900), ("release", 900), ("rejections", 900), ("siemci", 900)];
        assert_eq!(periods(&[("SOURCES", on_request)]), expected.into());
        for list in ["audit,siem2", ",", "Audit"] {
            let message = refusal(&[("SOURCES", list)]);
            assert!(message.starts_with("SOURCES must be a comma list of audit, attachments, "), "{message}");
        }
        assert!(refusal(&[("SOURCES", "audit,siem2")]).ends_with(", siemci, not siem2"));
    }

    #[test]
    fn the_functions_settings_are_checked_too() {
        let message = refusal(&[("DEVO_URL", "")]);
        assert!(message.starts_with("DEVO_URL is not set"), "{message}");
        assert!(refusal(&[("PAGE_SIZE", "0")]).starts_with("PAGE_SIZE must be"));
        load(&[("DEVO_TABLE_DLP", "my.app.leaks"), ("DEVO_TABLE_AUDIT", "my.app.audit")]).unwrap();
        assert!(refusal(&[("DEVO_TABLE_SIEMCI", "my.app.ci")]).starts_with("DEVO_TABLE_SIEMCI is set, but"));
    }

    #[test]
    fn the_state_file_needs_its_directory() {
        assert_eq!(
            refusal(&[("STATE_FILE", "/does/not/exist/state.db")]),
            "STATE_FILE is /does/not/exist/state.db: there is no such directory"
        );
        load(&[("STATE_FILE", "/state.db")]).unwrap();
    }

    #[test]
    fn a_file_fills_what_the_environment_leaves_open() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("c.toml");
        let text = "MIMECAST_SECRET_ID = 'file:m'\nDEVO_URL = 'stdout:'\nPERIOD_VIEW = '7m'\nPERIOD_DLP = '5m'\nPAGE_SIZE = 12";
        fs::write(&path, text).unwrap();
        let config = Config::load(Some(&path), &[]).unwrap();
        assert_eq!(config.settings.page_size, Some(12));
        let view = config.sources.iter().find(|(source, _)| source.name == "view").unwrap();
        assert_eq!(view.1, Duration::from_secs(420));
    }

    #[test]
    fn both_forms_say_the_same() {
        let toml = "# Comment\nTENANT = 'acme'\nPAGE_SIZE = 100\nDEVO_HOST = \"h\\u00e9\"\nOVERLAP = \"\"\n";
        let yaml = "# Comment\nTENANT: acme\nPAGE_SIZE: 100\nDEVO_HOST: \"h\\u00e9\"\nOVERLAP: ''\nSETTLE:\n";
        let expected = [("TENANT", "acme"), ("PAGE_SIZE", "100"), ("DEVO_HOST", "h\u{e9}"), ("OVERLAP", "")];
        let expected: BTreeMap<_, _> = expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        assert_eq!(file("c.toml", toml).unwrap(), expected);
        assert_eq!(file("c.yaml", yaml).unwrap(), expected);
        assert_eq!(file("c.yml", yaml).unwrap(), expected);
        // YAML keeps what stands there.
        assert_eq!(file("c.yml", "TENANT: 007\nDEVO_TAG: no").unwrap()["TENANT"], "007");
        for name in ["c.toml", "c.yaml"] {
            assert_eq!(file(name, "").unwrap(), BTreeMap::new());
            assert_eq!(file(name, "# nothing set\n").unwrap(), BTreeMap::new());
        }
    }

    #[test]
    fn unknown_keys_are_named_with_the_nearest() {
        let expected = "unknown key colour, unknown key devo_url (did you mean DEVO_URL?), \
                        unknown key MIMECAST_SECRETID (did you mean MIMECAST_SECRET_ID?), \
                        unknown key PERIOD_SEIM (did you mean PERIOD_SIEM?)";
        let mut keys: Vec<String> =
            ["colour", "devo_url", "MIMECAST_SECRETID", "PERIOD_SEIM", "PERIOD_SIEM"].map(str::to_owned).into();
        assert_eq!(unknown(keys.iter(), ""), expected);
        keys.sort();
        let toml: Vec<String> = keys.iter().map(|key| format!("{key} = \"s3cret\"")).collect();
        let yaml: Vec<String> = keys.iter().map(|key| format!("{key}: s3cret")).collect();
        for message in [file("c.toml", &toml.join("\n")).unwrap_err(), file("c.yml", &yaml.join("\n")).unwrap_err()] {
            assert!(message.contains("MIMECAST_SECRET_ID?") && message.contains("PERIOD_SIEM?"), "{message}");
            assert!(message.contains("line 1: unknown key") && message.contains("line 4: unknown key"), "{message}");
        }
    }

    #[test]
    fn files_that_cannot_be_read_are_refused_in_one_line_without_values() {
        assert_eq!(
            file("c.toml", "TENANT = 'a'\nDEVO_TAG = ['s3cret']").unwrap_err(),
            "DEVO_TAG must be a text in quotes or a whole number"
        );
        for (name, text) in [
            ("c.toml", "TENANT = 'a'\nDEVO_TAG = s3cret"),
            ("c.toml", "TENANT = 'a'\n= 's3cret'"),
            ("c.toml", "TENANT = 'a'\nTENANT = 's3cret'"),
            ("c.yaml", "TENANT: a\nDEVO_TAG: [s3cret]"),
            ("c.yaml", "TENANT: a\nTENANT: s3cret"),
            ("c.yaml", "TENANT: a\nDEVO_TAG: {s3cret: 1}"),
            ("c.yaml", "TENANT: a\n\"s3cret"),
        ] {
            let message = file(name, text).unwrap_err();
            assert!(message.starts_with("line 2: "), "{text}: {message}");
        }
        assert!(file("c.yaml", "- s3cret").unwrap_err().starts_with("line 1: "));
        assert!(file("c.json", "{}").unwrap_err().contains(".toml, .yaml or .yml"));
        let missing = read(Path::new("missing.toml")).unwrap_err().to_string();
        assert!(missing.starts_with("missing.toml: No such file"), "{missing}");
    }

    #[test]
    fn the_document_lists_what_is_read_and_nothing_else() {
        let text = fs::read_to_string("../docs/settings.md").unwrap();
        let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
        let listed: BTreeSet<_> = rows.flat_map(|names| names.split(", ")).map(|name| name.trim_matches('`')).collect();
        // One row stands for those of all sources.
        let of_all = |name: &String| {
            let front = ["PERIOD_", "DEVO_TABLE_"].into_iter().find(|front| name.starts_with(front));
            front.map_or(name.clone(), |front| format!("{front}<SOURCE>"))
        };
        let read: BTreeSet<_> = known().iter().map(of_all).collect();
        assert_eq!(listed, read.iter().map(String::as_str).collect());
    }
}
