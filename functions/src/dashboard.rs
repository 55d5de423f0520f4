//! Mimecast's notices on the administrators' dashboard: each one once, and again when it has changed.
//! <https://integrations.mimecast.com/documentation/endpoint-reference/account/get-dashboard-notifications/>

use collector::source::{Kind, Snapshot, Source};
use mimecast::Rows;

/// A list that also shows notices which are years old. In collections for API 2.0 (ecpunk/MimecastAPI2.0, Postman) the account's code is
/// in the request; whether it must be is in no page.
pub static SOURCE: Source = Source {
    name: "dashboard",
    table: "mail.mimecast.account.dashboard",
    permission: "Account | Dashboard | Read",
    kind: Kind::Snapshot(Snapshot {
        path: "/api/account/get-dashboard-notifications",
        item: |settings| settings.dashboard_account.as_ref().map(|account| format!(r#"{{"accountCode":"{account}"}}"#)),
        rows: Rows::In("notifications"),
        id: Some("id"),
    }),
};
