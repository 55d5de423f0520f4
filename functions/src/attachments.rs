//! Attachment Protect logs: one row per recipient and scanned file.
//! <https://integrations.mimecast.com/documentation/endpoint-reference/logs-and-statistics/get-ttp-attachment-protection-logs/>

use chrono::TimeDelta;
use collector::source::{Kind, Source, Window};
use mimecast::Rows;

/// No id: equal rows are told apart by their number.
pub static SOURCE: Source = Source {
    name: "attachments",
    table: "mail.mimecast.ttp.attachment",
    permission: "Monitoring | Attachment Protection | Read",
    kind: Kind::Window(Window {
        path: "/api/ttp/attachment/get-logs",
        rows: Rows::In("attachmentLogs"),
        bounds: ["from", "to"],
        filter: r#""oldestFirst":true"#,
        id: None,
        time: "date",
        overlap: TimeDelta::minutes(15),
        keeps: None,
        page_size: 500,
    }),
};
