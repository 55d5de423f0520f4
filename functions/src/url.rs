//! URL Protect logs: one row per recipient, URL and click.
//! <https://integrations.mimecast.com/documentation/endpoint-reference/logs-and-statistics/get-ttp-url-logs/>

use chrono::TimeDelta;
use collector::source::{Kind, Source, Window};
use mimecast::Rows;

/// No id: equal rows are told apart by their number.
pub static SOURCE: Source = Source {
    name: "url",
    table: "mail.mimecast.ttp.url",
    permission: "Monitoring | URL Protection | Read",
    kind: Kind::Window(Window {
        path: "/api/ttp/url/get-logs",
        rows: Rows::In("clickLogs"),
        bounds: ["from", "to"],
        filter: r#""oldestFirst":true"#,
        id: None,
        time: "date",
        overlap: TimeDelta::minutes(15),
        keeps: None,
        page_size: 500,
    }),
};
