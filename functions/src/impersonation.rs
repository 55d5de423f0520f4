//! Impersonation Protect logs: mail that pretends to come from somebody known.
//! <https://integrations.mimecast.com/documentation/endpoint-reference/logs-and-statistics/get-ttp-impersonation-protect-logs/>

use chrono::TimeDelta;
use collector::source::{Kind, Source, Window};
use mimecast::Rows;

/// Rows with an id; their time is `eventTime`, unlike the other two of the family.
pub static SOURCE: Source = Source {
    name: "impersonation",
    table: "mail.mimecast.ttp.impersonation",
    permission: "Monitoring | Impersonation Protection | Read",
    kind: Kind::Window(Window {
        path: "/api/ttp/impersonation/get-logs",
        rows: Rows::In("impersonationLogs"),
        bounds: ["from", "to"],
        filter: r#""oldestFirst":true"#,
        id: Some("id"),
        time: "eventTime",
        overlap: TimeDelta::minutes(15),
        keeps: None,
        page_size: 500,
    }),
};
