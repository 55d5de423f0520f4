//! Held messages in numbers, per policy. The rows carry no time, so each poll is sent whole and stamped.
//! <https://integrations.mimecast.com/documentation/endpoint-reference/gateway/get-hold-summary-list/>

use collector::source::{Kind, Snapshot, Source};
use mimecast::Rows;

/// A snapshot of its own each time.
pub static SOURCE: Source = Source {
    name: "messageholdsummary",
    table: "mail.mimecast.message.summary",
    permission: "Account | Monitoring | Held Summary | Read",
    kind: Kind::Snapshot(Snapshot {
        path: "/api/gateway/get-hold-summary-list",
        item: |_| None,
        rows: Rows::Flat,
        id: None,
    }),
};
