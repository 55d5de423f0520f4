//! What can go wrong on the way to Devo, grouped by what the reader must do. Texts never hold a token or key.

/// Why a sink could not be opened or lines were not accepted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting or the Devo secret is incomplete or impossible: correct it.
    #[error("{0}")]
    Configuration(String),
    /// Devo refuses this sender or what it sends (401, 403, 400, a redirect, an untrusted certificate): trying again is of no use.
    #[error("{0}")]
    Rejected(String),
    /// Of a probe: what was answered tells nothing of whether Devo takes what this sender sends.
    #[error("{0}")]
    Unproven(String),
    /// Devo cannot be reached or takes nothing now (429, 408, 5xx, transport, time-out): a later run goes on from here.
    #[error("{0}")]
    Unavailable(String),
}

impl Error {
    /// Of two failures the one to show: one that waiting does not cure comes first.
    pub(crate) fn first(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        match (one, other) {
            (None | Some(Self::Unavailable(_)), Some(error)) => Some(error),
            (one, _) => one,
        }
    }
}
