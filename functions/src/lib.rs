//! The eleven sources, one file each, nearly all data. Each has a program of the same name in `src/bin`.
//!
//! Knows nothing of HTTP, DynamoDB or Devo: that is what `collector` makes of a description.

pub mod attachments;
pub mod audit;
pub mod dashboard;
pub mod impersonation;
pub mod messageholdlist;
pub mod messageholdsummary;
pub mod search;
pub mod siem;
pub mod threatfeed;
pub mod url;
pub mod view;

use collector::Source;

/// All of them, in the order of the README's table.
pub static ALL: [&Source; 11] = [
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
];
