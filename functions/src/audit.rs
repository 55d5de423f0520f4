//! Audit events: what administrators and integrations did in the account.
//! <https://integrations.mimecast.com/documentation/endpoint-reference/logs-and-statistics/get-audit-events/>

use chrono::TimeDelta;
use collector::source::{Kind, Source, Window};
use mimecast::Rows;

/// Flat rows with an id, newest first; the API looks back 60 days.
pub static SOURCE: Source = Source {
    name: "audit",
    table: "mail.mimecast.audit.events",
    permission: "Account | Logs | Read",
    kind: Kind::Window(Window {
        path: "/api/audit/get-audit-events",
        rows: Rows::Flat,
        bounds: ["startDateTime", "endDateTime"],
        filter: "",
        id: Some("id"),
        time: "eventTime",
        overlap: TimeDelta::minutes(15),
        keeps: Some(TimeDelta::days(60)),
        page_size: 500,
    }),
};
