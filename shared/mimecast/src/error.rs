//! Everything that can go wrong between us and Mimecast, grouped by what the reader must do about it.

use std::io;
use std::time::Duration;

use bytes::Bytes;

/// An error of the Mimecast API client. The text never holds a key, a token or a signature.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting or a key of the secret is missing or impossible: mend the configuration.
    #[error("{0}")]
    Configuration(String),
    /// 401 or 418 that a fresh token did not cure: renew the keys.
    #[error("mimecast does not accept the keys: {0}")]
    Credentials(String),
    /// 403: give the API application's role the permission, or switch the source off.
    #[error("mimecast denies access: {0}")]
    Permission(String),
    /// 429 whose wait does not fit into the time left.
    #[error("mimecast's quota is used up, free again in {} s: {message}", .wait.as_secs())]
    RateLimited {
        /// How long the API asked us to wait.
        wait: Duration,
        /// What the API said.
        message: String,
    },
    /// 5xx, time-out or transport fault that outlasted the retries.
    #[error("mimecast cannot be reached: {0}")]
    Unavailable(String),
    /// An answer that cannot be understood, or a `fail` that lasts.
    #[error("mimecast answered something unexpected: {0}")]
    Protocol(String),
    /// 404 or 410: Mimecast knows no such thing, or not any more.
    #[error("mimecast does not find it: {0}")]
    NotFound(String),
    /// A page token or stream token that the API does not accept (any more): start that reading again.
    #[error("mimecast refused the token: {0}")]
    TokenRefused(String),
    /// 400 that is not about a token: the request is not accepted in this form, and never will be.
    #[error("mimecast does not accept a request of this form: {0}")]
    BadRequest(String),
    /// A signed file link leads nowhere: it has run out, or its store answers something that no further try changes. That file's
    /// trouble alone: ask for the page again.
    #[error("the file link is refused: {0}")]
    LinkRefused(String),
    /// This machine's temporary directory, memory or descriptors: nothing is wrong with what Mimecast sent.
    #[error("{0}")]
    Local(String),
    /// An answer of the right kind whose structure stays broken: a smaller window, or a dead letter.
    #[error("mimecast's answer is broken: {reason}")]
    Unreadable {
        /// The body as received.
        raw: Bytes,
        /// What is wrong with it.
        reason: String,
    },
}

impl Error {
    /// Puts what it is about, an endpoint, feed or file, in front of the text.
    #[must_use]
    pub fn about(mut self, what: &str) -> Self {
        match &mut self {
            Self::Credentials(text)
            | Self::Permission(text)
            | Self::RateLimited { message: text, .. }
            | Self::Unavailable(text)
            | Self::Protocol(text)
            | Self::NotFound(text)
            | Self::TokenRefused(text)
            | Self::BadRequest(text)
            | Self::LinkRefused(text) => *text = format!("{what}: {text}"),
            Self::Configuration(_) | Self::Local(_) | Self::Unreadable { .. } => {}
        }
        self
    }
}

/// For who has read the bytes before: what goes wrong now is this machine's trouble, or an answer that changes.
impl From<ReadError> for Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Broken(reason) => Self::Protocol(reason),
            ReadError::Local(_) => Self::Local(error.to_string()),
        }
    }
}

/// Why a file cannot be read, by whose fault it is: a full disk that passed for a broken file would make a dead letter of good
/// events.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The bytes are not what they should be, and no further try changes them.
    #[error("{0}")]
    Broken(String),
    /// This machine's trouble (disk, memory, descriptors): the bytes are as good as before.
    #[error("this machine cannot read or keep the file: {0}")]
    Local(io::Error),
}

/// The one place where an `io::Error` is sorted. By its kind, which is kept where the operating system's number is not.
impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::InvalidData
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::UnexpectedEof
            | io::ErrorKind::Unsupported => Self::Broken(error.to_string()),
            _ => Self::Local(error),
        }
    }
}

impl ReadError {
    /// The same once more: an `io::Error` cannot be cloned.
    pub(crate) fn again(&self) -> Self {
        match self {
            Self::Broken(reason) => Self::Broken(reason.clone()),
            Self::Local(error) => Self::Local(io::Error::new(error.kind(), error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_wrong_are_told_from_a_machine_that_is() {
        use io::ErrorKind::*;
        for kind in [InvalidData, InvalidInput, UnexpectedEof, Unsupported] {
            assert!(matches!(ReadError::from(io::Error::from(kind)), ReadError::Broken(_)), "{kind}");
        }
        for kind in [
            StorageFull,
            PermissionDenied,
            Other,
            OutOfMemory,
            NotFound,
            FileTooLarge,
            WriteZero,
            QuotaExceeded,
            TimedOut,
        ] {
            assert!(matches!(ReadError::from(io::Error::from(kind)), ReadError::Local(_)), "{kind}");
        }
        // No space, too many open files, an input/output error, read-only, a file past the limit.
        for number in [28, 24, 23, 5, 30, 27] {
            assert!(matches!(ReadError::from(io::Error::from_raw_os_error(number)), ReadError::Local(_)), "{number}");
        }
    }
}
