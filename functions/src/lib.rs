//! The sources, one file each, nearly all data. Each has a program of the same name in `src/bin`.
//!
//! Knows nothing of HTTP, DynamoDB or Devo: that is what `collector` makes of a description.

pub mod attachments;
pub mod audit;
pub mod dashboard;
pub mod dlp;
pub mod impersonation;
pub mod messageholdlist;
pub mod messageholdsummary;
pub mod rejections;
pub mod release;
pub mod search;
pub mod siem;
pub mod siemci;
pub mod threatfeed;
pub mod url;
pub mod view;

use collector::Source;

/// How many of [`ALL`], from the first on, are collected unless others are asked for.
const BY_DEFAULT: usize = 11;

/// All of them, in the order of the README's table.
pub static ALL: [&Source; 15] = [
    &audit::SOURCE,
    &attachments::SOURCE,
    &impersonation::SOURCE,
    &url::SOURCE,
    &search::SOURCE,
    &view::SOURCE,
    &threatfeed::SOURCE,
    &messageholdlist::SOURCE,
    &messageholdsummary::SOURCE,
    &dashboard::SOURCE,
    &siem::SOURCE,
    &dlp::SOURCE,
    &release::SOURCE,
    &rejections::SOURCE,
    &siemci::SOURCE,
];

/// Those that are collected unless others are asked for.
pub fn by_default() -> &'static [&'static Source] {
    ALL.split_at(BY_DEFAULT).0
}

/// Those that are off unless asked for: they need permissions that not every API application has, and Devo has no tables for them.
pub fn on_request() -> &'static [&'static Source] {
    ALL.split_at(BY_DEFAULT).1
}
