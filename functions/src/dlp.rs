//! Data Leak Prevention logs: one row per recipient and action of a policy.
//! <https://integrations.mimecast.com/documentation/endpoint-reference/>, page `get-dlp-logs`

use chrono::TimeDelta;
use collector::source::{Kind, Source, Window};
use mimecast::Rows;

/// No id: a mail that is held and told of gives two rows, and equal rows are told apart by their number.
pub static SOURCE: Source = Source {
    name: "dlp",
    table: "my.app.mimecast.dlp",
    permission: "Monitoring | Data Leak Prevention | Read",
    kind: Kind::Window(Window {
        path: "/api/dlp/get-logs",
        rows: Rows::In("dlpLogs"),
        bounds: ["from", "to"],
        filter: r#""oldestFirst":true"#,
        id: None,
        time: "eventTime",
        overlap: TimeDelta::minutes(15),
        keeps: None,
        page_size: 500,
    }),
};
