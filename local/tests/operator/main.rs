//! The operator's commands, as a black box, against simulators.

#![allow(clippy::unwrap_used, clippy::expect_used)]
#![cfg(unix)]

#[path = "../../../tests/support/mod.rs"]
mod support;

mod check;
mod look_after;
mod service;
mod setup;
mod stack;
mod status;
mod terminal;
mod upkeep;
mod verify;
mod world;
