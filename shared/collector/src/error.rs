//! Why an invocation failed, grouped by what the reader must do, and the one line that tells so.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The stable name of a kind of failure: the `errorType` of a failed invocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErrorType {
    /// A missing setting, secret or key, or a bad event.
    Configuration,
    /// Mimecast does not accept the keys, fresh ones included.
    Credentials,
    /// The Mimecast API application may not read this source.
    Permission,
    /// Mimecast's quota is used up for longer than this invocation lasts.
    RateLimited,
    /// Mimecast cannot be reached or is faulty.
    MimecastUnavailable,
    /// Mimecast's answers cannot be understood.
    MimecastProtocol,
    /// Devo cannot be reached or takes nothing now.
    DevoUnavailable,
    /// Devo refuses this sender or what it sends.
    DevoRejected,
    /// The checkpoint table cannot be read or written.
    Checkpoint,
}

impl ErrorType {
    /// The name, as in the interface.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Configuration => "Configuration",
            Self::Credentials => "Credentials",
            Self::Permission => "Permission",
            Self::RateLimited => "RateLimited",
            Self::MimecastUnavailable => "MimecastUnavailable",
            Self::MimecastProtocol => "MimecastProtocol",
            Self::DevoUnavailable => "DevoUnavailable",
            Self::DevoRejected => "DevoRejected",
            Self::Checkpoint => "Checkpoint",
        }
    }

    /// What to do about a failure of this kind. `permission` is what the API application's role must allow.
    pub fn advice(self, permission: &str) -> String {
        match self {
            Self::Configuration => "correct this; the next run takes it up".to_owned(),
            Self::Credentials => {
                "put valid keys into the Mimecast secret, and check that the region is the account's".to_owned()
            }
            Self::Permission => format!(
                "give the API application's role the permission `{permission}`, or switch this source off if the \
                 account does not have the product"
            ),
            Self::RateLimited => {
                "nothing to do unless it lasts: the next run goes on from here; then run this source less often or ask \
                 Mimecast for a larger quota"
                    .to_owned()
            }
            Self::MimecastUnavailable => {
                "nothing to do unless it lasts: the next run goes on from here; then check the network's way to Mimecast \
                 and Mimecast's status page"
                    .to_owned()
            }
            Self::MimecastProtocol => {
                "the next run tries again; if it lasts, report this line to the maintainers".to_owned()
            }
            Self::DevoUnavailable => {
                "nothing to do unless it lasts: the next run goes on from here; then check the network's way to Devo and \
                 Devo's status page"
                    .to_owned()
            }
            Self::DevoRejected => {
                "check the domain, token or certificate in the Devo secret and the DEVO_URL's region, and that the token \
                 may write to this table; the next run goes on from here"
                    .to_owned()
            }
            Self::Checkpoint => "the next run goes on from the last checkpoint".to_owned(),
        }
    }
}

impl fmt::Display for ErrorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A failure of an invocation. The text never holds a secret, a token or a signature.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting, a secret or the event is missing or impossible.
    #[error("{0}")]
    Configuration(String),
    /// Reading from Mimecast failed.
    #[error(transparent)]
    Mimecast(#[from] mimecast::Error),
    /// Delivering to Devo failed.
    #[error(transparent)]
    Devo(#[from] devo::Error),
    /// What a checkpoint holds cannot be used, or another invocation holds it.
    #[error("{0}")]
    Checkpoint(String),
    /// The checkpoint table cannot be read or written.
    #[error("{0}")]
    CheckpointTable(String),
    /// The file with the checkpoints, on a host, cannot be read or written.
    #[error("{0}")]
    StateFile(String),
}

/// The most characters of a report, so that it stays one line for the eye; the cause is cut, never the advice.
const REPORT_LENGTH: usize = 600;

impl Error {
    /// What kind of failure this is.
    pub fn error_type(&self) -> ErrorType {
        match self {
            Self::Configuration(_) => ErrorType::Configuration,
            Self::Mimecast(error) => match error {
                mimecast::Error::Configuration(_) | mimecast::Error::Local(_) => ErrorType::Configuration,
                mimecast::Error::Credentials(_) => ErrorType::Credentials,
                mimecast::Error::Permission(_) => ErrorType::Permission,
                mimecast::Error::RateLimited { .. } => ErrorType::RateLimited,
                mimecast::Error::Unavailable(_) | mimecast::Error::LinkRefused(_) => ErrorType::MimecastUnavailable,
                mimecast::Error::Protocol(_)
                | mimecast::Error::NotFound(_)
                | mimecast::Error::TokenRefused(_)
                | mimecast::Error::BadRequest(_)
                | mimecast::Error::Unreadable { .. } => ErrorType::MimecastProtocol,
            },
            Self::Devo(error) => match error {
                devo::Error::Configuration(_) => ErrorType::Configuration,
                devo::Error::Rejected(_) | devo::Error::Unproven(_) => ErrorType::DevoRejected,
                devo::Error::Unavailable(_) => ErrorType::DevoUnavailable,
            },
            Self::Checkpoint(_) | Self::CheckpointTable(_) | Self::StateFile(_) => ErrorType::Checkpoint,
        }
    }

    /// One line for people: what failed, for which source and tenant, and what to do.
    ///
    /// `permission` is what the API application's role must allow, in the words of Mimecast's console.
    pub fn report(&self, source: &str, tenant: &str, permission: &str) -> String {
        let place = one_line(&format!("{source} (tenant {tenant})"));
        let advice = one_line(&self.advice(permission));
        let room = REPORT_LENGTH.saturating_sub(place.chars().count() + advice.chars().count() + ": ; ".len());
        let cause = self.line(room);
        format!("{place}: {cause}; {advice}")
    }

    /// What failed, in one line of so many characters at most.
    pub(crate) fn line(&self, room: usize) -> String {
        shortened(one_line(&self.to_string()), room)
    }

    pub(crate) fn advice(&self, permission: &str) -> String {
        let advice = self.error_type().advice(permission);
        match self {
            Self::CheckpointTable(_) => format!(
                "check CHECKPOINT_TABLE, the region, and that the function's role may Query, PutItem and UpdateItem on it; {advice}"
            ),
            _ => advice,
        }
    }
}

/// Blanks for all that could break the line in a log or console, U+2028 and U+2029 included.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') { ' ' } else { c }).collect()
}

fn shortened(text: String, room: usize) -> String {
    if text.chars().count() <= room {
        return text;
    }
    text.chars().take(room.saturating_sub(3)).chain("...".chars()).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// One of every kind, with `text` in it, and its type's name.
    fn all(text: &str) -> Vec<(Error, &'static str)> {
        use mimecast::Error as M;
        let text = || text.to_owned();
        vec![
            (Error::Configuration(text()), "Configuration"),
            (M::Configuration(text()).into(), "Configuration"),
            (M::Credentials(text()).into(), "Credentials"),
            (M::Permission(text()).into(), "Permission"),
            (M::RateLimited { wait: Duration::from_secs(90), message: text() }.into(), "RateLimited"),
            (M::Unavailable(text()).into(), "MimecastUnavailable"),
            (M::LinkRefused(text()).into(), "MimecastUnavailable"),
            (M::Local(text()).into(), "Configuration"),
            (M::BadRequest(text()).into(), "MimecastProtocol"),
            (M::Protocol(text()).into(), "MimecastProtocol"),
            (M::TokenRefused(text()).into(), "MimecastProtocol"),
            (M::Unreadable { raw: "raw body".into(), reason: text() }.into(), "MimecastProtocol"),
            (devo::Error::Configuration(text()).into(), "Configuration"),
            (devo::Error::Rejected(text()).into(), "DevoRejected"),
            (devo::Error::Unproven(text()).into(), "DevoRejected"),
            (devo::Error::Unavailable(text()).into(), "DevoUnavailable"),
            (Error::Checkpoint(text()), "Checkpoint"),
            (Error::CheckpointTable(text()), "Checkpoint"),
            (Error::StateFile(text()), "Checkpoint"),
        ]
    }

    #[test]
    fn every_error_has_the_interface_s_name() {
        for (error, name) in all("x") {
            assert_eq!(error.error_type().as_str(), name);
            assert_eq!(error.error_type().to_string(), name);
            assert_eq!(format!("{:?}", error.error_type()), name);
        }
    }

    #[test]
    fn a_report_says_what_where_and_what_to_do() {
        let error = Error::from(mimecast::Error::Permission("the server said no".to_owned()));
        assert_eq!(
            error.report("audit", "default", "Account | Logs | Read"),
            "audit (tenant default): mimecast denies access: the server said no; give the API application's role the \
             permission `Account | Logs | Read`, or switch this source off if the account does not have the product"
        );
        let error = Error::Configuration("OVERLAP is wrong".to_owned());
        assert_eq!(
            error.report("siem", "acme", "-"),
            "siem (tenant acme): OVERLAP is wrong; correct this; the next run takes it up"
        );
    }

    #[test]
    fn a_report_is_one_line_whatever_the_cause_says() {
        let hostile = "a\r\nb\u{0}\u{1b}[31m\u{85}\u{2028}\u{2029}\u{9b}".to_owned() + &"\u{1f600}\n".repeat(10_000);
        for (error, _) in all(&hostile) {
            let report = error.report("audit", "default", "Account | Logs | Read");
            assert!(!report.contains(|c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')), "{report:?}");
            assert_eq!(report.chars().count(), REPORT_LENGTH, "{report:?}");
            assert!(report.ends_with(&format!("...; {}", error.advice("Account | Logs | Read"))), "{report:?}");
        }
    }

    #[test]
    fn the_operators_table_has_every_type_and_what_its_message_advises() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operations.md");
        let text = std::fs::read_to_string(path).unwrap();
        let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for (error, name) in all("x") {
            let row = text.lines().find(|line| line.starts_with(&format!("| `{name}` |"))).unwrap();
            let advice = error.advice("…");
            let (first, last) = advice.rsplit_once("on it; ").unwrap_or(("", &advice));
            assert!(row.ends_with(&format!("| {last} |")), "{row}");
            assert!(flat.contains(first), "{first}");
        }
    }

    #[test]
    fn the_raw_bytes_of_an_answer_are_not_shown() {
        for (error, _) in all("x") {
            assert!(!error.report("audit", "default", "p").contains("raw body"));
        }
    }

    #[test]
    fn a_chain_of_causes_says_nothing_twice() {
        for (error, _) in all("x") {
            assert!(std::error::Error::source(&error).is_none());
        }
    }
}
