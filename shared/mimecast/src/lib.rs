//! The Mimecast API client, for API 1.0 (signed requests) and API 2.0 (OAuth2).
//!
//! Gives pages of raw rows, files of raw events, and typed errors. Knows nothing of Devo, DynamoDB or Lambda, nor of
//! windows and checkpoints: which page to ask for next is the collector's business.

pub mod archive;
mod client;
mod clock;
mod credentials;
mod envelope;
mod error;
pub mod json;
mod network;
pub mod pieces;
mod refusal;
mod retry;
mod sign;
mod token;

pub use client::{Calls, Client, FileAnswer, Link, Listing, Page};
pub use clock::Clock;
pub use credentials::Credentials;
pub use envelope::{Envelope, Rows};
pub use error::Error;
pub use network::Network;
