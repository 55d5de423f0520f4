//! The Mimecast API client, for API 1.0 (signed requests) and API 2.0 (OAuth2).
//!
//! Gives pages of raw rows, files of raw events, and typed errors. Knows nothing of Devo, DynamoDB or Lambda, nor of
//! windows and checkpoints: which page to ask for next is the collector's business.

mod answer;
pub mod archive;
mod calls;
mod client;
mod clock;
mod credentials;
mod download;
mod envelope;
mod error;
mod file;
pub mod json;
mod lenient;
mod listing;
mod network;
pub mod pieces;
mod quota;
mod refusal;
mod retry;
mod sign;
mod token;

pub use calls::Calls;
pub use client::{Client, Page};
pub use clock::Clock;
pub use credentials::Credentials;
pub use envelope::{Envelope, Rows};
pub use error::{Error, ReadError};
pub use file::FileAnswer;
pub use listing::{Link, Listing};
pub use network::Network;
