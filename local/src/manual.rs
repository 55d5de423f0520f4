//! `completions` and `man`: what a shell and `man` want to know of this program, printed.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{Command, CommandFactory as _};
use clap_complete::Shell;

use crate::Error;

/// Print completions for a shell
#[derive(clap::Args)]
#[command(after_help = "Example:
  mimecast-devo completions bash > /etc/bash_completion.d/mimecast-devo")]
pub struct Completions {
    shell: Shell,
}

/// Print the manual page, of all commands or of one
#[derive(clap::Args)]
#[command(after_help = "Example:
  mimecast-devo man | man -l -
  mimecast-devo man collect > mimecast-devo-collect.1")]
pub struct Manual {
    /// The command
    command: Option<String>,
}

pub fn completions(options: &Completions) -> Result<ExitCode, Error> {
    let mut text = Vec::new();
    clap_complete::generate(options.shell, &mut crate::Command::command(), "mimecast-devo", &mut text);
    print(&text)
}

pub fn manual(options: &Manual) -> Result<ExitCode, Error> {
    let mut command = crate::Command::command().name("mimecast-devo");
    command.build();
    let page = match &options.command {
        None => command,
        Some(name) => match command.find_subcommand(name) {
            Some(found) => Command::clone(found),
            None => return Err(Error::Configuration(format!("there is no command {name}"))),
        },
    };
    let mut text = Vec::new();
    clap_mangen::Man::new(page).render(&mut text)?;
    print(&text)
}

fn print(text: &[u8]) -> Result<ExitCode, Error> {
    io::stdout().lock().write_all(text)?;
    Ok(ExitCode::SUCCESS)
}
