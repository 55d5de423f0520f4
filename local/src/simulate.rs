//! `simulate`: a command of the user's, with the functions in it, between a simulated Mimecast, Devo and DynamoDB.
//!
//! The command gets the environment of a function, the two secrets as `SIMULATED_MIMECAST_SECRET` and
//! `SIMULATED_DEVO_SECRET` for an AWS of its own, and `SIMULATOR_URL`, see `endpoint`. All in this process, nothing is kept.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::{Command, ExitCode, ExitStatus};

use mimecast_devo::embedded::{Embedded, TABLE};

use crate::Error;
use crate::balance::{self, Balance, write_aligned};
use crate::endpoint::Simulation;
use crate::health;
use crate::known;
use crate::signals::Signals;
use crate::world::{World, WorldOptions};

/// Run a command that runs the functions, such as `cargo lambda watch`, with Mimecast, Devo and DynamoDB simulated
#[derive(clap::Args)]
#[command(
    after_help = "The command gets the variables of a function. SIMULATOR_URL tells it where to look at what has arrived, add events and
order faults. The exit code is the command's own.

Examples:
  mimecast-devo simulate -- cargo lambda watch --invoke-address 127.0.0.1
  mimecast-devo simulate --check --page 127.0.0.1:9464 -- ./my-test.sh"
)]
pub struct Options {
    #[command(flatten)]
    world: WorldOptions,
    /// Fail unless every event has arrived exactly once by the command's end
    #[arg(long)]
    check: bool,
    /// Show a page for people on this loopback address, like 127.0.0.1:9464: what the functions have left in the simulated DynamoDB and
    /// Devo
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = health::loopback)]
    page: Option<SocketAddr>,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// The child's exit code, or where that is 0 the check's.
pub async fn run(options: &Options) -> Result<ExitCode, Error> {
    // From here on Ctrl-C, which the terminal sends to the command too, no longer ends this process.
    let mut signals = Signals::catch()?;
    let simulation = Simulation::new(World::start(&options.world).await?, Embedded::memory()?);
    let url = simulation.serve().await?;
    if let Some(address) = options.page {
        // Standard output is the command's.
        eprintln!("page: http://{}", known::serve(&simulation, address).await?);
    }
    let mut command = command(&options.command, &simulation, &url)?;
    let mut child = command.spawn().map_err(|error| {
        let program = command.get_program().display();
        Error::Configuration(format!("cannot start {program}: {error}"))
    })?;
    let id = child.id();
    let mut ended = tokio::task::spawn_blocking(move || child.wait());
    let status = loop {
        tokio::select! {
            status = &mut ended => break status??,
            () = signals.terminate() => terminate(id),
        }
    };

    let balances = simulation.balances();
    let is_even = balances.values().all(|balance| balance.is_even());
    // Where nobody reads standard error, the exit code still tells.
    drop(report(&balances, &mut io::stderr()));
    Ok(match exit_code(status) {
        0 if options.check && !is_even => ExitCode::FAILURE,
        code => code.into(),
    })
}

fn command(words: &[OsString], simulation: &Simulation, url: &str) -> Result<Command, Error> {
    let (program, arguments) =
        words.split_first().ok_or_else(|| Error::Configuration("a command is needed".to_owned()))?;
    let mut command = Command::new(program);
    let world = simulation.world();
    command
        .args(arguments)
        .envs([
            ("MIMECAST_SECRET_ID", "env:SIMULATED_MIMECAST_SECRET"),
            ("DEVO_SECRET_ID", "env:SIMULATED_DEVO_SECRET"),
            ("CHECKPOINT_TABLE", TABLE),
            ("AWS_ENDPOINT_URL", url),
            ("AWS_REGION", "eu-west-1"),
            ("AWS_ACCESS_KEY_ID", "simulated"),
            ("AWS_SECRET_ACCESS_KEY", "simulated"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ])
        .env("SIMULATED_MIMECAST_SECRET", world.mimecast_secret())
        .env("SIMULATED_DEVO_SECRET", world.devo.secret())
        .env("SIMULATOR_URL", format!("{url}/simulator"));
    // What would lead the SDK to the user's own account.
    for name in ["AWS_ENDPOINT_URL_DYNAMODB", "AWS_PROFILE", "AWS_SESSION_TOKEN"] {
        command.env_remove(name);
    }
    Ok(command)
}

/// The table, with the verdict in words.
fn report(balances: &BTreeMap<String, Balance>, out: &mut impl Write) -> io::Result<()> {
    let row = |source: &str, table: &str, balance: &Balance| {
        let Balance { expected, arrived, missing, too_many } = balance;
        let [expected, arrived, missing, too_many] = [expected, arrived, missing, too_many].map(usize::to_string);
        [source.to_owned(), table.to_owned(), expected, arrived, missing, too_many]
    };
    let mut rows = vec![["source", "Devo table", "expected", "arrived", "missing", "too many"].map(str::to_owned)];
    let mut total = Balance::default();
    // Last come tables that no source has.
    for source in functions::ALL.iter().map(|source| Some(source.name)).chain([None]) {
        let mut name = source.unwrap_or("?");
        for (table, balance) in balances.iter().filter(|(table, _)| balance::source_of(table) == source) {
            rows.push(row(std::mem::take(&mut name), table, balance));
            total.expected += balance.expected;
            total.arrived += balance.arrived;
            total.missing += balance.missing;
            total.too_many += balance.too_many;
        }
    }
    rows.push(row("total", "", &total));
    writeln!(out)?;
    write_aligned(out, &rows)?;
    match total {
        Balance { expected, missing: 0, too_many: 0, .. } => {
            writeln!(out, "\nall {expected} events arrived, none twice")
        }
        Balance { missing, too_many, .. } => writeln!(out, "\n{missing} events missing, {too_many} too many"),
    }
}

/// As a shell has it: above 128 the signal that ended the process.
fn exit_code(status: ExitStatus) -> u8 {
    #[cfg(unix)]
    let signal = std::os::unix::process::ExitStatusExt::signal(&status).map(|signal| 128 + signal);
    #[cfg(not(unix))]
    let signal = None;
    // Outside a byte there are only codes that say "failed".
    status.code().or(signal).and_then(|code| code.try_into().ok()).unwrap_or(1)
}

/// Passes SIGTERM on, by a shell: the standard library cannot send a signal.
fn terminate(id: u32) {
    if let Err(error) = Command::new("sh").args(["-c", "kill -TERM $0", &id.to_string()]).status() {
        eprintln!("error: the command cannot be ended: {error}");
    }
}
