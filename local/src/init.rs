//! `config init`: asks the few things that nobody else can know, writes a commented configuration, and checks it.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::json;

use crate::Error;
use crate::check;
use crate::files::Files;

/// Make a configuration for this host
#[derive(clap::Args)]
#[command(after_help = "Example:
  mimecast-devo config init --to /etc/mimecast-devo")]
pub struct Options {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Ask a few questions, write the files and check them
    #[command(
        after_help = "Keys and tokens go to files that only their owner can read, and are not shown while they are typed.

Example:
  mimecast-devo config init --to /etc/mimecast-devo"
    )]
    Init {
        /// The folder to write to; nothing that is there is overwritten
        #[arg(long, value_name = "FOLDER", default_value = ".")]
        to: PathBuf,
        /// Write only, and do not check
        #[arg(long)]
        no_check: bool,
    },
}

pub async fn run(options: &Options) -> Result<ExitCode, Error> {
    let Action::Init { to, no_check } = &options.action;
    let mut files = Files::default();
    eprintln!("API 2.0 has a client id and a client secret; API 1.0 has four keys and a region.");
    let id = ask("Mimecast client id (empty for API 1.0)", "")?;
    let mimecast = if id.is_empty() {
        let keys = [secret("app id")?, secret("app key")?, secret("access key")?, secret("secret key")?];
        let region = ask("Mimecast region (eu de us usb ca za au je)", "eu")?;
        files.set("MIMECAST_REGION", region, "the account's region");
        json!({"app_id": keys[0], "app_key": keys[1], "access_key": keys[2], "secret_key": keys[3]})
    } else {
        json!({"client_id": id, "client_secret": secret("Mimecast client secret")?})
    };
    files.secret("MIMECAST_SECRET_ID", "mimecast", mimecast);

    let url = ask("Devo URL (https://http-<region>.devo.io, tls://..., tcp://relay:port)", "https://http-eu.devo.io")?;
    if url.starts_with("https:") || url.starts_with("http:") {
        let devo = json!({"domain": ask("Devo domain", "")?, "token": secret("Devo token (HTTP ingestion)")?});
        files.secret("DEVO_SECRET_ID", "devo", devo);
    } else if url.starts_with("tls:") || url.starts_with("relp+tls:") {
        let mut devo = serde_json::Map::new();
        for key in ["chain", "cert", "key"] {
            let file = ask(&format!("File with the {key} (PEM)"), "")?;
            let pem =
                std::fs::read_to_string(&file).map_err(|error| Error::Configuration(format!("{file}: {error}")))?;
            devo.insert(key.to_owned(), json!(pem));
        }
        files.secret("DEVO_SECRET_ID", "devo", devo);
    }
    files.set("DEVO_URL", url, "where events go");
    let all: Vec<&str> = functions::by_default().iter().map(|source| source.name).collect();
    let sources = ask("Sources", &all.join(","))?;
    files.set("SOURCES", sources, "what is collected");
    let lookback = ask("How far back to start", "24h")?;
    files.set("INITIAL_LOOKBACK", lookback, "how far back the first run starts");
    let state = ask("State file", "mimecast-devo.db")?;
    files.set("STATE_FILE", state, "where the checkpoints are kept: its folder belongs to the user who collects");
    let file = files.write(to, "mimecast-devo.toml")?;
    eprintln!("written to {}", file.display());
    if *no_check {
        return Ok(ExitCode::SUCCESS);
    }
    check::run(&check::Options::of(&file)).await
}

/// One line from standard input, or the default.
fn ask(question: &str, default: &str) -> Result<String, Error> {
    let hint = if default.is_empty() { String::new() } else { format!(" [{default}]") };
    eprint!("{question}{hint}: ");
    io::stderr().flush()?;
    let mut line = String::new();
    if io::stdin().lock().read_line(&mut line)? == 0 {
        return Err(Error::Configuration("the answers have ended before the questions".to_owned()));
    }
    let answer = line.trim();
    Ok(if answer.is_empty() { default } else { answer }.to_owned())
}

/// What the terminal does not show.
fn secret(question: &str) -> Result<String, Error> {
    if io::stdin().is_terminal() {
        return Ok(rpassword::prompt_password(format!("{question} (not shown): "))?.trim().to_owned());
    }
    ask(question, "")
}
