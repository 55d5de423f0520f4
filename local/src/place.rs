//! Where the checkpoints are that a command is about: in the state file of this host, or in a table on AWS.
//!
//! A backfill on one host keeps its checkpoints in a file of its own beside the state file: so it can run beside `collect`.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use collector::{Collector, Invocation, Secrets, Settings, Source, Store};
use mimecast::Clock;
use mimecast_devo::embedded::{self, Embedded, TABLE};
use serde_json::json;

use crate::Error;
use crate::config;
use crate::stack::Stack;

#[derive(clap::Args)]
pub struct PlaceOptions {
    /// Settings in TOML or YAML (.toml, .yaml, .yml), by the names of the environment variables, which win
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The checkpoint table on AWS; without it the state file, unless only a table is set in the variables
    #[arg(long, value_name = "NAME")]
    table: Option<String>,
    /// The stack on AWS, whose functions' own settings and table are taken
    #[arg(long, value_name = "NAME", conflicts_with = "table")]
    stack: Option<String>,
    /// A tenant, once or several times; else TENANT
    #[arg(long = "tenant", value_name = "NAME")]
    tenants: Vec<String>,
    /// A source, once or several times; else SOURCES, else all
    #[arg(long = "source", value_name = "NAME", value_parser = source)]
    pub sources: Vec<&'static Source>,
}

impl PlaceOptions {
    /// What a configuration file says.
    pub fn of(config: &Path) -> Self {
        Self { config: Some(config.to_owned()), table: None, stack: None, tenants: Vec::new(), sources: Vec::new() }
    }
}

/// The checkpoints and whose they are.
pub struct Place {
    lookup: Lookup,
    kept: Kept,
    /// Where a stack was named.
    pub stack: Option<Stack>,
    pub tenants: Vec<String>,
    pub sources: Vec<&'static Source>,
    /// Which sources are collected here is known, and not only which there may be.
    pub knows_its_sources: bool,
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
    pub async fn find(options: &PlaceOptions) -> Result<Self, Error> {
        let own = config::lookup(options.config.as_deref(), &[])?;
        let stack = match &options.stack {
            Some(name) => Some(Stack::find(name).await?),
            None => None,
        };
        let variables = stack.as_ref().map(|stack| stack.variables.clone()).unwrap_or_default();
        // Of a stack its functions' variables hold, whatever this shell has.
        let lookup = move |name: &str| variables.get(name).cloned().or_else(|| own(name));
        let file = lookup("STATE_FILE").filter(|_| stack.is_none());
        let kept = match (options.table.clone(), file, lookup("CHECKPOINT_TABLE")) {
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
        let sources = match &options.sources[..] {
            [] => config::enabled(&lookup)?,
            sources => sources.to_vec(),
        };
        let knows_its_sources =
            matches!(kept, Kept::File(_)) || !options.sources.is_empty() || lookup("SOURCES").is_some();
        Ok(Self { lookup: Box::new(lookup), kept, stack, tenants, sources, knows_its_sources })
    }

    /// The same place, of all sources unless some were named: what was left behind by one that is switched off is there too.
    pub async fn of_all_sources(options: &PlaceOptions) -> Result<Self, Error> {
        let place = Self::find(options).await?;
        Ok(if options.sources.is_empty() { Self { sources: functions::ALL.to_vec(), ..place } } else { place })
    }

    /// A variable by its name.
    pub fn variable(&self, name: &str) -> Option<String> {
        (self.lookup)(name)
    }

    /// Whether the checkpoints are in a table on AWS.
    pub fn is_on_aws(&self) -> bool {
        matches!(self.kept, Kept::Table(_))
    }

    /// The settings with other values for some variables (`None`: not set).
    pub fn settings_with(&self, other: &[(&str, Option<String>)]) -> Result<Settings, Error> {
        Ok(Settings::from_lookup(|name| match other.iter().find(|(known, _)| *known == name) {
            Some((_, value)) => value.clone(),
            None => (self.lookup)(name),
        })?
        .with_tables_of(&functions::ALL, &self.lookup)?)
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

    /// Whether the checkpoints could be worked with by this user, as far as a look can tell; `None` for a table, which tells it itself.
    pub fn check_state_file(&self) -> Option<Result<String, String>> {
        let Kept::File(file) = &self.kept else { return None };
        let shown = file.display();
        Some(if file.exists() {
            match (Embedded::look(file), File::options().append(true).open(file)) {
                (Err(error), _) => Err(error.to_string()),
                (_, Err(error)) => Err(format!("state file {shown}: {error}")),
                (Ok(_), Ok(_)) => Ok(format!("{shown} can be read and written")),
            }
        } else {
            let folder = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            // Goes with its handle.
            match tempfile::tempfile_in(folder) {
                Ok(_) => Ok(format!("{shown} will be made by the first start")),
                Err(error) => Err(format!("state file {shown}: nothing can be written in its folder: {error}")),
            }
        })
    }

    /// What works by these settings and leaves no trace in the checkpoints: its own are in memory.
    pub async fn collector_in_memory(&self, settings: Settings) -> Result<Collector, Error> {
        let (store, clock) = (Store::new(Embedded::memory()?.client(), TABLE), Clock::System);
        Ok(match &self.kept {
            Kept::Table(_) => Collector::new(settings, store, Secrets::on_aws().await, clock),
            Kept::File(_) => {
                let secrets = secrets(&settings).await;
                Collector::new(settings, store, secrets, clock)
            }
        })
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
            Kept::File(file) => {
                let mut opened = Vec::new();
                for file in existing(file)? {
                    opened.push(self.on_file(&file).await?);
                }
                Ok(opened)
            }
        }
    }

    /// The checkpoints to change, without a word to Mimecast or Devo. Nobody else holds a lease in a file that is open here.
    pub async fn open_stores(&self) -> Result<Vec<Store>, Error> {
        let file = match &self.kept {
            Kept::Table(table) => return Ok(vec![Store::on_aws(table).await]),
            Kept::File(file) => file,
        };
        let mut stores = Vec::new();
        for found in existing(file)? {
            let store = Store::new(open(&found)?.client(), TABLE).in_file(&found);
            for source in functions::ALL {
                for tenant in &self.tenants {
                    store.release(tenant, source.name).await?;
                }
            }
            stores.push(store);
        }
        Ok(stores)
    }

    /// The checkpoints of backfills, to work with.
    pub async fn open_for_backfill(&self) -> Result<Vec<Open>, Error> {
        match &self.kept {
            Kept::Table(_) => self.on_aws().await,
            Kept::File(file) => Ok(vec![self.on_file(&beside(file)).await?]),
        }
    }

    async fn on_aws(&self) -> Result<Vec<Open>, Error> {
        let settings = self.settings()?;
        let store = Store::on_aws(&settings.checkpoint_table).await;
        Ok(vec![Open { store, collector: Collector::on_aws(settings).await, alone: false }])
    }

    async fn on_file(&self, file: &Path) -> Result<Open, Error> {
        let store = Store::new(open(file)?.client(), TABLE).in_file(file);
        let settings = self.settings()?;
        let secrets = secrets(&settings).await;
        let collector = Collector::new(settings, store.clone(), secrets, Clock::System);
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

/// Where a host's secrets are read from.
pub async fn secrets(settings: &Settings) -> Secrets {
    let tenant = &settings.tenant;
    secrets_of(&[Some(settings.mimecast_secret_id(tenant)), settings.devo_secret_id(tenant)]).await
}

/// AWS is looked for only where an id is one of Secrets Manager's and the environment names a region: a host without AWS would wait
/// seconds for it, and be told of that instead of a misspelt id.
pub async fn secrets_of(ids: &[Option<String>]) -> Secrets {
    let is_local = |id: &String| id.starts_with("file:") || id.starts_with("env:");
    let has_region =
        ["AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"].iter().any(|name| collector::variable(name).is_some());
    if has_region && !ids.iter().flatten().all(is_local) { Secrets::on_aws().await } else { Secrets::new(None) }
}

fn open(file: &Path) -> Result<Embedded, Error> {
    Embedded::open(file).map_err(|error| match error {
        embedded::Error::InUse { .. } => Error::InUse(format!("{error}: stop that first, it goes on where it was")),
        error => error.into(),
    })
}

/// That a run holds the lease of a source.
pub fn busy(source: &Source) -> Error {
    Error::InUse(format!("{}: another run holds the lease; try again when `status` says that it is free", source.name))
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

/// A length of time: `90s`, `2h`.
pub fn span(text: &str) -> Result<TimeDelta, String> {
    collector::parse_duration(text).ok_or_else(|| "a whole number and s, m, h or d, like 90s or 2h".to_owned())
}

/// An instant in RFC 3339, or the begin of a day in UTC: the same one whenever the command is repeated.
pub fn border(text: &str) -> Result<DateTime<Utc>, String> {
    let day = || Some(text.parse::<NaiveDate>().ok()?.and_hms_opt(0, 0, 0)?.and_utc());
    let instant = DateTime::parse_from_rfc3339(text).map(|instant| instant.to_utc()).ok();
    instant.or_else(day).ok_or_else(|| "a time like 2026-01-31T00:00:00Z or a day like 2026-01-31".to_owned())
}

/// Asks on the terminal, where there is one, whether to go on.
///
/// # Errors
/// [`Error::Configuration`] where nobody can be asked.
pub fn confirmed(question: &str, yes: bool) -> Result<bool, Error> {
    if yes {
        return Ok(true);
    }
    if !io::stdin().is_terminal() {
        return Err(Error::Configuration(format!("{question} Say so with --yes")));
    }
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()))
}

/// A text from outside in one line, which moves no cursor.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Writes rows with their columns below each other.
pub fn write_columns<const N: usize>(out: &mut impl Write, rows: &[[String; N]]) -> io::Result<()> {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: [usize; N] = std::array::from_fn(width);
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{:width$}", plain(cell)));
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}
