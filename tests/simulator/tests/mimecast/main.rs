//! The simulated Mimecast through its own doors: what it serves, and what it refuses.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod auth;
mod client;
mod data;
mod doubts;
mod faults;
mod feed;
mod siem;
mod windows;
