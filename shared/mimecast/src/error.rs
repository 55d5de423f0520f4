//! Everything that can go wrong between us and Mimecast, grouped by what the reader must do about it.

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
    /// A page token or stream token that the API does not accept (any more): start that reading again.
    #[error("mimecast refused the token: {0}")]
    TokenRefused(String),
    /// A signed file link has run out (403 or 404): ask for the page again.
    #[error("the file link is gone: {0}")]
    LinkGone(String),
    /// An answer of the right kind whose structure stays broken: a smaller window, or a dead letter.
    #[error("mimecast's answer is broken: {reason}")]
    Unreadable {
        /// The body as received.
        raw: Bytes,
        /// What is wrong with it.
        reason: String,
    },
}
