//! `migrate`: from the configuration of Devo's own collector to ours.
//!
//! The frame of that configuration is public, what the Mimecast part holds only in part: so it is read leniently, any input that has
//! services or keys of Mimecast's counts, and whatever has no counterpart here is named. Its state is its plug-in's own, so
//! collecting starts by date.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use chrono::{DateTime, Utc};
use mimecast::Clock;
use serde_json::{Map, Value, json};

use crate::Error;
use crate::files::Files;
use crate::place;
use crate::secrets_manager;

const KEYS: [&str; 6] = ["client_id", "client_secret", "app_id", "app_key", "access_key", "secret_key"];
/// Names that other Devo collectors use for the day from which to collect, and for the address of an API.
const BEGINS: [&str; 3] = ["historic_date_utc", "override_historic_date_utc", "start_date"];
const ADDRESSES: [&str; 3] = ["override_api_base_url", "override_base_url", "base_url"];
/// What a host needs no word for.
const NEEDLESS: [&str; 2] = ["id", "enabled"];

/// Read the configuration of Devo's own collector (YAML or JSON) and write one for this program
#[derive(clap::Args)]
#[command(
    after_help = "Secrets go to files of their own that only their owner can read, or to AWS Secrets Manager, never into the settings. What
has no counterpart is named. Devo's collector must not run beside this one: both would deliver.

Examples:
  mimecast-devo migrate /etc/devo-collector/config.yaml --to /etc/mimecast-devo --from 2026-01-31
  mimecast-devo migrate config.json --secrets-manager mimecast-devo
  mimecast-devo check --config /etc/mimecast-devo/mimecast-devo.toml"
)]
pub struct Options {
    /// Its configuration
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The folder to write to; nothing that is there is overwritten
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    to: PathBuf,
    /// From when on to collect: 2026-01-31, or how long ago, 24h; else what the configuration says, else 24h
    #[arg(long, value_name = "TIME", value_parser = place::instant)]
    from: Option<DateTime<Utc>>,
    /// Keep the secrets in AWS Secrets Manager, as PREFIX/mimecast and PREFIX/devo, instead of in files
    #[arg(long, value_name = "PREFIX", value_parser = secrets_manager::prefix)]
    secrets_manager: Option<String>,
    /// Do not ask before secrets that are there already get a new value
    #[arg(long, requires = "secrets_manager")]
    yes: bool,
}

const FILE: &str = "mimecast-devo.toml";

/// A configuration read, and what of it has no counterpart.
#[derive(Default)]
struct Migrated {
    files: Files,
    left: BTreeSet<String>,
}

pub async fn run(options: &Options) -> Result<ExitCode, Error> {
    let bad = |text: String| Error::Configuration(format!("{}: {text}", options.file.display()));
    let text = fs::read_to_string(&options.file).map_err(|error| bad(error.to_string()))?;
    // JSON is YAML.
    let all: Value = serde_saphyr::from_str(&text).map_err(|error| {
        let line = error.location().map_or(1, |location| location.line());
        bad(format!("line {line}: neither YAML nor JSON"))
    })?;
    let folder = options.file.parent().unwrap_or(Path::new("."));
    let inputs = inputs(&all);
    if inputs.is_empty() {
        return Err(bad("no input with services or keys of Mimecast's".to_owned()));
    }
    let several = inputs.len() > 1;
    for (name, input) in inputs {
        let mut migrated = Migrated::default();
        migrated.input(input, options.from);
        migrated.output(&all["outputs"], folder)?;
        migrated.rest(&all);
        let place = if several { options.to.join(name) } else { options.to.clone() };
        if let Some(prefix) = &options.secrets_manager {
            let prefix = if several { format!("{prefix}/{name}") } else { prefix.clone() };
            // What would be refused in the end is refused before anything is in Secrets Manager.
            migrated.files.new_files(&place, FILE)?;
            if !migrated.keep_in_secrets_manager(&prefix, options.yes).await? {
                println!("{name}: nothing changed");
                return Ok(ExitCode::FAILURE);
            }
        }
        let file = migrated.files.write(&place, FILE)?;
        println!("{name}: written to {}", file.display());
        for left in &migrated.left {
            println!("  no counterpart: {left}");
        }
        println!("  next: mimecast-devo check --config {}", file.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// The inputs that are Mimecast's.
fn inputs(all: &Value) -> Vec<(&str, &Map<String, Value>)> {
    let names: Vec<&str> = functions::ALL.iter().map(|source| source.name).collect();
    let is_ours = |input: &Map<String, Value>| {
        let services = input.get("services").and_then(Value::as_object);
        let credentials = input.get("credentials").and_then(Value::as_object);
        services.is_some_and(|services| services.keys().any(|name| names.contains(&name.as_str())))
            || credentials.is_some_and(|keys| keys.keys().any(|name| KEYS.contains(&name.as_str())))
    };
    let inputs = all["inputs"].as_object().into_iter().flatten();
    inputs
        .filter_map(|(name, input)| Some((name.as_str(), input.as_object().filter(|input| is_ours(input))?)))
        .collect()
}

impl Migrated {
    fn input(&mut self, input: &Map<String, Value>, from: Option<DateTime<Utc>>) {
        let mut keys = Map::new();
        let mut from = from;
        for (key, value) in input {
            let shown = format!("inputs.*.{key}");
            match (key.as_str(), value) {
                ("credentials", Value::Object(credentials)) => {
                    for (name, value) in credentials {
                        match value.as_str() {
                            Some(value) if KEYS.contains(&name.as_str()) => {
                                drop(keys.insert(name.clone(), json!(value)))
                            }
                            Some(_) | None => drop(self.left.insert(format!("{shown}.{name}"))),
                        }
                    }
                }
                ("services", Value::Object(services)) => self.services(services, &mut from),
                ("parameters", Value::Object(parameters)) => {
                    for (name, value) in parameters {
                        self.parameter(name, value, &format!("{shown}.{name}"), &mut from);
                    }
                }
                (key, _) if NEEDLESS.contains(&key) => {}
                (key, value) => self.parameter(key, value, &shown, &mut from),
            }
        }
        if !keys.is_empty() {
            self.files.secret("MIMECAST_SECRET_ID", "mimecast", keys);
        }
        if let Some(from) = from {
            let ago = (Clock::System.now() - from).num_seconds().max(1);
            self.files.set("INITIAL_LOOKBACK", format!("{ago}s"), "how far back the first run starts");
        }
    }

    /// Moves the secrets there; the settings name them. Whether that was confirmed.
    async fn keep_in_secrets_manager(&mut self, prefix: &str, yes: bool) -> Result<bool, Error> {
        let secrets = self.files.secrets.iter().map(|(_, name, secret)| (format!("{prefix}/{name}"), secret));
        if !secrets_manager::keep(&secrets.collect::<Vec<_>>(), yes).await? {
            return Ok(false);
        }
        for (setting, name, _) in std::mem::take(&mut self.files.secrets) {
            self.files.set(setting, format!("{prefix}/{name}"), "a secret in AWS Secrets Manager");
        }
        Ok(true)
    }

    fn parameter(&mut self, name: &str, value: &Value, shown: &str, from: &mut Option<DateTime<Utc>>) {
        let text = value.as_str().unwrap_or_default();
        let begin = place::border(text.split('.').next().unwrap_or(text).trim_end_matches('Z'));
        let begin = begin.or_else(|_| place::border(text)).or_else(|_| place::border(&format!("{text}Z")));
        if ADDRESSES.contains(&name) && text.starts_with("https://") {
            self.files.set("MIMECAST_BASE_URL", text, "");
        } else if let (true, Ok(begin)) = (BEGINS.contains(&name), begin) {
            *from = from.or(Some(begin));
        } else {
            self.left.insert(shown.to_owned());
        }
    }

    fn services(&mut self, services: &Map<String, Value>, from: &mut Option<DateTime<Utc>>) {
        let mut enabled = Vec::new();
        for (name, service) in services {
            if !functions::ALL.iter().any(|source| source.name == name) {
                self.left.insert(format!("inputs.*.services.{name}"));
                continue;
            }
            enabled.push(name.clone());
            for (key, value) in service.as_object().into_iter().flatten() {
                match (key.as_str(), value.as_u64()) {
                    ("request_period_in_seconds", Some(seconds @ 1..=86_400)) => {
                        let period = format!("PERIOD_{}", name.to_ascii_uppercase());
                        self.files.set(&period, format!("{seconds}s"), "");
                    }
                    _ => self.parameter(key, value, &format!("inputs.*.services.{name}.{key}"), from),
                }
            }
        }
        if !enabled.is_empty() {
            self.files.settings.insert(0, ("SOURCES".to_owned(), enabled.join(","), "what is collected"));
        }
    }

    /// The ways into Devo, all of them.
    fn output(&mut self, outputs: &Value, folder: &Path) -> Result<(), Error> {
        let mut urls = Vec::new();
        for (name, output) in outputs.as_object().into_iter().flatten() {
            let config = &output["config"];
            let text = |key: &str| match &config[key] {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            match output["type"].as_str().unwrap_or_default() {
                "devo_platform" => {
                    let mut secret = Map::new();
                    for key in ["chain", "cert", "key"] {
                        let file = folder.join(text(key));
                        let pem = fs::read_to_string(&file).map_err(|error| {
                            Error::Configuration(format!("outputs.{name}: {key} in {}: {error}", file.display()))
                        })?;
                        secret.insert(key.to_owned(), json!(pem));
                    }
                    urls.push(format!("tls://{}:{}", text("address"), text("port")));
                    if self.files.secrets.iter().any(|(setting, ..)| *setting == "DEVO_SECRET_ID") {
                        self.left.insert(format!("outputs.{name}: a second certificate; all ways share one"));
                    } else {
                        self.files.secret("DEVO_SECRET_ID", "devo", secret);
                    }
                }
                "syslog" => urls.push(format!("tcp://{}:{}", text("address"), text("port"))),
                "console" => urls.push("stdout:".to_owned()),
                other => drop(self.left.insert(format!("outputs.{name} of type {other}"))),
            }
        }
        match urls.is_empty() {
            true => drop(
                self.left.insert("no way into Devo: set DEVO_URL, and DEVO_SECRET_ID where it needs one".to_owned()),
            ),
            false => self.files.set("DEVO_URL", urls.join(","), "where events go"),
        }
        Ok(())
    }

    fn rest(&mut self, all: &Value) {
        for (key, value) in all.as_object().into_iter().flatten() {
            match key.as_str() {
                "inputs" | "outputs" => {}
                "globals" | "global_overrides" => {
                    let names = value.as_object().into_iter().flatten().map(|(name, _)| format!("{key}.{name}"));
                    self.left.extend(names.filter(|name| !name.ends_with(".id") && !name.ends_with(".name")));
                    if value["debug"] == true {
                        self.files.set("LOG_LEVEL", "debug", "");
                        self.left.remove(&format!("{key}.debug"));
                    }
                }
                _ => drop(self.left.insert(key.clone())),
            }
        }
        self.files.set("STATE_FILE", "/var/lib/mimecast-devo/state.db", "where the checkpoints are kept");
    }
}
