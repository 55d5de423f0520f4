//! The outside world, simulated: a strict Mimecast, a strict Devo, and the data that flows between them.
//!
//! For the end-to-end tests and the product's `demo` command. Written from the two APIs' documentation and independent of
//! the product's crates, so that an error in reading those pages does not cancel out.

pub mod data;
pub mod devo;
pub mod mimecast;

pub use devo::Devo;
pub use mimecast::Mimecast;
