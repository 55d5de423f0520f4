//! The run: from a source's description to events accepted by Devo, and a checkpoint that says so.
//!
//! ```text
//! invocation -> settings + secrets -> lease + state -> slices or files -> new or known? -> outbox: batch -> send -> commit
//!  (lambda)        (collector)           (store)            (read)             (seen)          (outbox)    (deliver) (store)
//!                                                              ^ several side by side, in order     (one batch, beside reading)
//! ```
//!
//! `run` is that line; each other module is one of its stations. What a source looks like is told by `functions/`, how
//! Mimecast and Devo are spoken to by the crates `mimecast` and `devo`.

mod deliver;
mod error;
mod ledger;
mod outbox;
mod process;
mod read;
mod replay;
mod reset;
mod run;
mod seen;
mod sent;
mod settings;
pub mod source;
mod state;
mod store;

pub use error::{Error, ErrorType};
pub use ledger::{Failure, Ledger, Lost};
pub use process::answer::{Answer, Gap, Status};
pub use process::aws::{config as aws_config, patience as aws_patience};
pub use process::check::{Check, Checked, Depth};
pub use process::collector::Collector;
pub use process::invocation::{Backfill, Invocation};
pub use process::lambda::serve;
pub use process::logging::init_logging;
pub use process::secrets::Secrets;
pub use replay::Replayed;
pub use settings::{SIEM_TYPES, SIEMCI_TYPES, Settings, ThreatfeedFormat, parse_duration, variable};
pub use source::Source;
pub use store::{BackfillOverview, Letter, Overview, Store};
