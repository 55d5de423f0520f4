//! The real function programs under a Lambda Runtime API, against strict stand-ins for Mimecast, Devo and AWS.
//!
//! What arrives at Devo is compared byte for byte, as a multiset per table, with what Mimecast holds.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[allow(dead_code)]
#[path = "../../shared/devo/tests/support/mod.rs"]
mod receiver;
#[path = "../support/mod.rs"]
mod support;

mod all_sources;
mod bad_input;
mod checks;
mod economy;
mod field_cases;
mod hostile;
mod house;
mod https;
mod incremental;
mod on_request;
mod regressions;
mod replay;
mod reports;
mod settings;
mod upgrades;
mod ways;
mod windows;
mod world;
