//! Where the checkpoints are that a command is about: in the state file of this host, or in a table on AWS.
//!
//! A backfill on one host keeps its checkpoints in a file of its own beside the state file: so it can run beside `collect`.

use std::fmt::Display;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use collector::{Collector, Invocation, Secrets, Settings, Source, Store};
use mimecast::Clock;
use mimecast_devo::embedded::{self, Embedded, TABLE};
use serde_json::json;

use crate::Error;
use crate::config;

#[derive(clap::Args)]
pub struct PlaceOptions {
    /// Settings in TOML or YAML (.toml, .yaml, .yml), by the names of the environment variables, which win
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The checkpoint table on AWS; without it the state file, unless only a table is set in the variables
    #[arg(long, value_name = "NAME")]
    table: Option<String>,
    /// A tenant, once or several times; else TENANT
    #[arg(long = "tenant", value_name = "NAME")]
    tenants: Vec<String>,
    /// A source, once or several times; else all
    #[arg(long = "source", value_name = "NAME", value_parser = source)]
    pub sources: Vec<&'static Source>,
}

/// The checkpoints and whose they are.
pub struct Place {
    lookup: Lookup,
    kept: Kept,
    pub tenants: Vec<String>,
    pub sources: Vec<&'static Source>,
}

/// The variables by name.
type Lookup = Box<dyn Fn(&str) -> Option<String>>;

enum Kept {
    File(PathBuf),
    Table(String),
}

/// Checkpoints that are open for work.
pub struct Open {
    pub store: Store,
    pub collector: Collector,
    /// Nobody else can hold a lease.
    pub alone: bool,
}

impl Place {
    pub fn find(options: &PlaceOptions) -> Result<Self, Error> {
        let lookup = config::lookup(options.config.as_deref())?;
        let kept = match (options.table.clone(), lookup("STATE_FILE"), lookup("CHECKPOINT_TABLE")) {
            (Some(table), ..) | (None, None, Some(table)) => Kept::Table(table),
            (None, ..) => Kept::File(config::state_file(&lookup)),
        };
        let tenants = match &options.tenants[..] {
            [] => vec![Settings::tenant_of(&lookup)],
            tenants => tenants.to_vec(),
        };
        for tenant in &tenants {
            Invocation::parse(&json!({ "tenant": tenant }))?;
        }
        let sources = if options.sources.is_empty() { functions::ALL.to_vec() } else { options.sources.clone() };
        Ok(Self { lookup: Box::new(lookup), kept, tenants, sources })
    }

    /// The settings, as a function or `collect` needs them.
    pub fn settings(&self) -> Result<Settings, Error> {
        self.settings_or(|_| None)
    }

    /// The settings, also where nothing is said about Mimecast and Devo: to look only.
    pub fn settings_to_look(&self) -> Result<Settings, Error> {
        self.settings_or(|name| match name {
            "MIMECAST_SECRET_ID" => Some("none"),
            "DEVO_URL" => Some("stdout:"),
            _ => None,
        })
    }

    fn settings_or(&self, other: impl Fn(&str) -> Option<&'static str>) -> Result<Settings, Error> {
        let table = match &self.kept {
            Kept::File(_) => TABLE,
            Kept::Table(table) => table,
        };
        Ok(Settings::from_lookup(|name| match name {
            "CHECKPOINT_TABLE" => Some(table.to_owned()),
            _ => (self.lookup)(name).or_else(|| other(name).map(str::to_owned)),
        })?
        .with_tables_of(&functions::ALL, &self.lookup)?)
    }

    /// The checkpoints to look at, also while a collector works with them.
    pub async fn look(&self) -> Result<Vec<Store>, Error> {
        match &self.kept {
            Kept::Table(table) => Ok(vec![Store::on_aws(table).await]),
            Kept::File(file) => {
                let mut stores = Vec::new();
                for found in existing(file)? {
                    match Embedded::look(&found) {
                        Ok(embedded) => stores.push(Store::new(embedded.client(), TABLE).in_file(&found)),
                        // Somebody else's backfill hides nothing of the live run.
                        Err(error) if found != *file => tracing::warn!("left out: {error}"),
                        Err(error) => return Err(error.into()),
                    }
                }
                Ok(stores)
            }
        }
    }

    /// The checkpoints to work with: all there are.
    pub async fn open(&self) -> Result<Vec<Open>, Error> {
        match &self.kept {
            Kept::Table(_) => self.on_aws().await,
            Kept::File(file) => existing(file)?.iter().map(|file| self.on_file(file)).collect(),
        }
    }

    /// The checkpoints of backfills, to work with.
    pub async fn open_for_backfill(&self) -> Result<Vec<Open>, Error> {
        match &self.kept {
            Kept::Table(_) => self.on_aws().await,
            Kept::File(file) => Ok(vec![self.on_file(&beside(file))?]),
        }
    }

    async fn on_aws(&self) -> Result<Vec<Open>, Error> {
        let settings = self.settings()?;
        let store = Store::on_aws(&settings.checkpoint_table).await;
        Ok(vec![Open { store, collector: Collector::on_aws(settings).await, alone: false }])
    }

    fn on_file(&self, file: &Path) -> Result<Open, Error> {
        let embedded = Embedded::open(file).map_err(|error| match error {
            embedded::Error::InUse { .. } => Error::InUse(format!("{error}: stop that first, it goes on where it was")),
            error => error.into(),
        })?;
        let store = Store::new(embedded.client(), TABLE).in_file(file);
        let collector = Collector::new(self.settings()?, store.clone(), Secrets::new(None), Clock::System);
        Ok(Open { store, collector, alone: true })
    }
}

impl Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.kept {
            Kept::File(file) => write!(f, "{}", file.display()),
            Kept::Table(table) => write!(f, "table {table}"),
        }
    }
}

/// The state file and the backfills' beside it, as far as they exist.
fn existing(file: &Path) -> Result<Vec<PathBuf>, Error> {
    let files: Vec<_> = [file.to_owned(), beside(file)].into_iter().filter(|file| file.exists()).collect();
    if files.is_empty() {
        let file = file.display();
        let text =
            format!("there is no state file {file}: name it by STATE_FILE or --config, or a table on AWS by --table");
        return Err(Error::Configuration(text));
    }
    Ok(files)
}

/// The backfills' file: `state.db` has `state.backfill.db`.
fn beside(file: &Path) -> PathBuf {
    let mut extension = std::ffi::OsString::from("backfill");
    if let Some(own) = file.extension() {
        extension.push(".");
        extension.push(own);
    }
    file.with_extension(extension)
}

pub fn source(name: &str) -> Result<&'static Source, String> {
    let found = functions::ALL.into_iter().find(|source| source.name == name);
    found.ok_or_else(|| format!("one of {}", functions::ALL.map(|source| source.name).join(", ")))
}

/// An instant in RFC 3339, or how long ago: `24h`.
pub fn instant(text: &str) -> Result<DateTime<Utc>, String> {
    if let Some(ago) = collector::parse_duration(text) {
        return Ok(Clock::System.now() - ago);
    }
    border(text).map_err(|error| format!("{error}, or how long ago like 24h"))
}

/// An instant in RFC 3339: the same one whenever the command is repeated.
pub fn border(text: &str) -> Result<DateTime<Utc>, String> {
    let instant = DateTime::parse_from_rfc3339(text).map(|instant| instant.to_utc());
    instant.map_err(|_| "a time like 2026-01-31T00:00:00Z".to_owned())
}

/// Writes rows with their columns below each other. What comes from outside moves no cursor.
pub fn write_columns<const N: usize>(out: &mut impl Write, rows: &[[String; N]]) -> io::Result<()> {
    let plain = |cell: &str| cell.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: [usize; N] = std::array::from_fn(width);
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{:width$}", plain(cell)));
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}
