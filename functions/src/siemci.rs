//! SIEM logs of Cloud Integrated: mail that Mimecast looks at in Microsoft 365 itself, in three types.
//!
//! API 2.0 only: one stream of signed links per type, `GET /siem/v1/batch/events/ci` (Mimecast's tutorial `siem-tutorial-ci`). It keeps
//! seven days.

use chrono::TimeDelta;
use collector::source::{Ask, Feed, Identity, Kind, Source, Stream};
use collector::{SIEMCI_TYPES, Settings};

/// A mail whose state changes (`DELIVERY_IN_PROGRESS`, then another) gives an event for each.
pub static SOURCE: Source = Source {
    name: "siemci",
    table: "my.app.mimecast.ci",
    permission: "Security Events and Data Retrieval | Threat and Security Events (SIEM) | Read, with the product Threats, Security \
                 Events and Data for CI ticked (API 2.0)",
    kind: Kind::Stream(Stream {
        feeds,
        identity: Identity::File,
        types: &[("entities", "entities"), ("mailflow", "mailflow"), ("urlclick", "urlclick")],
        keeps: TimeDelta::days(7),
        dated: true,
    }),
};

fn feeds(settings: &Settings, v2: bool) -> Vec<Feed> {
    if !v2 {
        return Vec::new();
    }
    let feed =
        |kind: &'static str| Feed { name: kind.to_owned(), ask: Ask::Links { path: "/siem/v1/batch/events/ci", kind } };
    settings.siem_types(&SIEMCI_TYPES).map(feed).collect()
}
