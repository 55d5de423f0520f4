//! Writes a host's configuration: a commented settings file, and secrets in files that only their owner can read.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use crate::Error;

/// A configuration to be written.
#[derive(Debug, Default)]
pub struct Files {
    /// Settings in order, each with what is said about it.
    pub settings: Vec<(String, String, &'static str)>,
    /// Secrets: the setting that names each, its name, and its JSON.
    pub secrets: Vec<(&'static str, &'static str, SecretString)>,
}

impl Files {
    /// Adds a setting.
    pub fn set(&mut self, name: &str, value: impl Into<String>, about: &'static str) {
        self.settings.push((name.to_owned(), value.into(), about));
    }

    /// Adds a secret.
    pub fn secret(&mut self, setting: &'static str, name: &'static str, value: impl Into<Value>) {
        self.secrets.push((setting, name, format!("{:#}\n", value.into()).into()));
    }

    /// The files that would be written: the settings', under `name`, and then the secrets'.
    ///
    /// # Errors
    /// [`Error::Configuration`] where one is there already.
    pub fn new_files(&self, folder: &Path, name: &str) -> Result<(PathBuf, Vec<PathBuf>), Error> {
        let settings = folder.join(name);
        let secrets: Vec<PathBuf> =
            self.secrets.iter().map(|(_, name, _)| folder.join(format!("{name}.json"))).collect();
        if let Some(there) = secrets.iter().chain([&settings]).find(|file| file.exists()) {
            return Err(Error::Configuration(format!(
                "{} is there already: move it away, or name another folder",
                there.display()
            )));
        }
        Ok((settings, secrets))
    }

    /// Writes all of it into `folder`, the settings under `name`. Nothing that is there is overwritten. The settings file.
    ///
    /// # Errors
    /// [`Error::Configuration`] where a file is there already, or cannot be written.
    pub fn write(&self, folder: &Path, name: &str) -> Result<PathBuf, Error> {
        let (settings, secrets) = self.new_files(folder, name)?;
        let failed = |file: &Path, error: std::io::Error| Error::Configuration(format!("{}: {error}", file.display()));
        fs::create_dir_all(folder).map_err(|error| failed(folder, error))?;
        // A text in JSON's quotes is one in TOML's too.
        let mut text = String::new();
        for ((setting, _, secret), file) in self.secrets.iter().zip(&secrets) {
            private(file, secret).map_err(|error| failed(file, error))?;
            let shown = fs::canonicalize(file).unwrap_or_else(|_| file.clone());
            text += &format!("{setting} = {}\n", json!(format!("file:{}", shown.display())));
        }
        for (setting, value, about) in &self.settings {
            if !about.is_empty() {
                text += &format!("\n# {about}\n");
            }
            text += &format!("{setting} = {}\n", json!(value));
        }
        fs::write(&settings, text).map_err(|error| failed(&settings, error))?;
        Ok(settings)
    }
}

fn private(file: &Path, secret: &SecretString) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(file)?.write_all(secret.expose_secret().as_bytes())
}
