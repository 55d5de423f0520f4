//! Mimecast's notices on the administrators' dashboard: each one once, and again when it has changed.
//! <https://integrations.mimecast.com/documentation/endpoint-reference/account/get-dashboard-notifications/>

use collector::source::{Kind, Snapshot, Source};
use mimecast::Rows;

/// A list that also shows notices which are years old.
pub static SOURCE: Source = Source {
    name: "dashboard",
    table: "mail.mimecast.account.dashboard",
    permission: "Account | Dashboard | Read",
    kind: Kind::Snapshot(Snapshot {
        path: "/api/account/get-dashboard-notifications",
        rows: Rows::In("notifications"),
        id: Some("id"),
    }),
};
