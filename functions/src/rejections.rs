//! Rejected messages: what the gateway did not take in, and why.
//! <https://integrations.mimecast.com/documentation/endpoint-reference/>, page `get-rejection-logs`

use chrono::TimeDelta;
use collector::source::{Kind, Source, Window};
use mimecast::Rows;

/// Rows with an id. Without `admin` the API shows only the API user's own mail.
pub static SOURCE: Source = Source {
    name: "rejections",
    table: "my.app.mimecast.rejections",
    permission: "Monitoring | Rejections | Read",
    kind: Kind::Window(Window {
        path: "/api/gateway/get-rejections",
        rows: Rows::In("rejections"),
        bounds: ["start", "end"],
        filter: r#""admin":true"#,
        id: Some("id"),
        time: "created",
        overlap: TimeDelta::minutes(15),
        keeps: None,
        page_size: 100,
    }),
};
