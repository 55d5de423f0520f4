//! `check`: whether collecting would work here, each thing on its own, with the remedy for what would not.
//!
//! What is looked at is the collector's business; here is where it looks, and how it is shown.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use collector::{Check, Depth};
use futures_util::future::join_all;
use mimecast::Clock;
use serde_json::json;
use tokio::time::{Duration, Instant};

use crate::Error;
use crate::place::{Place, PlaceOptions, plain};
use crate::stack::Stack;

/// How long all of it may take.
const LONGEST: Duration = Duration::from_secs(120);
/// What makes the exit code 2, as it does for the other commands.
const CONFIGURATION: [&str; 3] = ["settings", "mimecast secret", "devo secret"];

/// Say whether collecting would work: settings, secrets, each source, the way into Devo; nothing is delivered
#[derive(clap::Args)]
#[command(after_help = "The exit code is 0 only where all is well, 2 where settings or secrets are wrong, else 1.

Examples:
  mimecast-devo check --config mimecast-devo.toml
  mimecast-devo check --config mimecast-devo.toml --source siem --send
  mimecast-devo check --config mimecast-devo.toml --offline --json
  mimecast-devo check --stack mimecast-devo")]
pub struct Options {
    #[command(flatten)]
    place: PlaceOptions,
    /// Look only at what needs no network: settings, secrets, the certificate's dates, the state file
    #[arg(long, conflicts_with = "send")]
    offline: bool,
    /// Also deliver one test event to my.app.mimecast.check
    #[arg(long)]
    send: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

impl Options {
    /// Of a configuration file, for people.
    pub fn of(config: &Path) -> Self {
        Self { place: PlaceOptions::of(config), offline: false, send: false, json: false }
    }
}

pub async fn run(options: &Options) -> Result<ExitCode, Error> {
    let place = Place::find(&options.place).await?;
    let depth = match (options.offline, options.send) {
        (true, _) => Depth::Offline,
        (false, false) => Depth::Online,
        (false, true) => Depth::TestEvent,
    };
    let checks = all(&place, depth).await?;
    let ok = checks.iter().all(|check| check.ok);
    let mut out = io::stdout().lock();
    if options.json {
        writeln!(out, "{}", json!({"checks": checks, "ok": ok}))?;
    } else {
        write(&mut out, &checks)?;
    }
    let is_configuration = |check: &Check| !check.ok && CONFIGURATION.iter().any(|name| check.name.ends_with(name));
    Ok(match ok {
        true => ExitCode::SUCCESS,
        false if checks.iter().any(is_configuration) => ExitCode::from(2),
        false => ExitCode::FAILURE,
    })
}

async fn all(place: &Place, depth: Depth) -> Result<Vec<Check>, Error> {
    let mut checks = Vec::new();
    if let (Some(stack), false) = (&place.stack, depth == Depth::Offline) {
        return of_stack(place, stack).await;
    }
    let state_file = place.check_state_file();
    let is_in_table = state_file.is_none();
    match state_file {
        None => {}
        Some(Ok(detail)) => checks.push(Check::passed("state file", detail)),
        Some(Err(detail)) => {
            let remedy = "make STATE_FILE's folder, and let it and the files in it belong to the user who collects";
            checks.push(Check::failed("state file", detail, remedy));
        }
    }
    let settings = match place.settings() {
        Ok(settings) => settings,
        Err(error) => {
            checks.insert(0, Check::failed("settings", error.to_string(), "correct this and check again"));
            return Ok(checks);
        }
    };
    checks.insert(0, Check::passed("settings", format!("complete, for {} sources", place.sources.len())));
    let until = Instant::now() + LONGEST;
    if is_in_table && depth != Depth::Offline {
        checks.push(table(place).await?);
    }
    let collector = place.collector_in_memory(settings).await?;
    for tenant in &place.tenants {
        let mut found = collector.check(&place.sources, tenant, depth, until).await;
        if place.tenants.len() > 1 {
            found.iter_mut().for_each(|check| check.name = format!("{tenant}: {}", check.name));
        }
        checks.extend(found);
    }
    Ok(checks)
}

/// The functions check themselves, so that network, role and secrets are those of Lambda; here is what they cannot know.
async fn of_stack(place: &Place, stack: &Stack) -> Result<Vec<Check>, Error> {
    let mut checks = Vec::new();
    let alarms = stack.alarms().await?;
    let silent: Vec<&str> = alarms.iter().filter(|(_, told)| !told).map(|(name, _)| name.as_str()).collect();
    checks.push(match (alarms.len(), silent.len()) {
        (0, _) => Check::failed("alarms", "there are none", "deploy the stack of the template, which has them"),
        (all, 0) => Check::passed("alarms", format!("all {all} tell somebody")),
        (all, _) => Check::failed(
            "alarms",
            format!("{} of {all} tell nobody, such as {}", silent.len(), silent[0]),
            "deploy the stack with AlarmTopicArn, the ARN of an SNS topic that somebody reads",
        ),
    });
    let event = |tenant: &str| json!({"check": true, "tenant": tenant});
    for tenant in &place.tenants {
        let event = event(tenant);
        let asked = place.sources.iter().map(|source| async { (source.name, stack.invoke(source, &event).await) });
        for (source, answer) in join_all(asked).await {
            match answer {
                Ok(answer) if answer["checks"].is_array() => {
                    let found: Vec<Check> = serde_json::from_value(answer["checks"].clone()).map_err(io::Error::other)?;
                    checks.extend(found.into_iter().map(|check| Check { name: format!("{source}: {}", check.name), ..check }));
                }
                Ok(answer) => {
                    let text = answer["errorMessage"].as_str().unwrap_or("it does not know the event").to_owned();
                    checks.push(Check::failed(format!("{source}: function"), text, "see its log; deploy the newest version"));
                }
                Err(error) => checks.push(Check::failed(
                    format!("{source}: function"),
                    error.to_string(),
                    "check the stack's name and that your AWS credentials may invoke its functions (lambda:InvokeFunction)",
                )),
            }
        }
    }
    Ok(checks)
}

/// What the functions' own role may do is for their own check to say: here are other credentials.
async fn table(place: &Place) -> Result<Check, Error> {
    let (settings, now) = (place.settings_to_look()?, Clock::System.now());
    for store in place.look().await? {
        for (tenant, source) in place.tenants.iter().zip(place.sources.first()) {
            if let Err(error) = store.overview(tenant, source, &settings, now).await {
                let remedy =
                    "check the table's name, the region and your AWS credentials, which need dynamodb:Query on it";
                return Ok(Check::failed("checkpoints", error.to_string(), remedy));
            }
        }
    }
    Ok(Check::passed("checkpoints", format!("{place} can be read")))
}

fn write(out: &mut impl Write, checks: &[Check]) -> io::Result<()> {
    let width = checks.iter().map(|check| check.name.chars().count()).max().unwrap_or_default();
    for Check { name, ok, detail, remedy } in checks {
        writeln!(out, "{} {name:width$}  {}", if *ok { "\u{2713}" } else { "\u{2717}" }, plain(detail))?;
        if let Some(remedy) = remedy {
            writeln!(out, "  {:width$}  -> {}", "", plain(remedy))?;
        }
    }
    Ok(())
}
