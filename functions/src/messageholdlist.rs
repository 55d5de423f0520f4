//! Held messages: each one once, by the time it was received.
//! <https://integrations.mimecast.com/documentation/endpoint-reference/gateway/get-hold-message-list/>

use chrono::TimeDelta;
use collector::source::{Kind, Source, Window};
use mimecast::Rows;

/// Flat rows with an id. Without `admin` the API shows only the API user's own mail.
pub static SOURCE: Source = Source {
    name: "messageholdlist",
    table: "mail.mimecast.message.list",
    permission: "Account | Dashboard | Read",
    kind: Kind::Window(Window {
        path: "/api/gateway/get-hold-message-list",
        rows: Rows::Flat,
        bounds: ["start", "end"],
        filter: r#""admin":true"#,
        id: Some("id"),
        time: "dateReceived",
        overlap: TimeDelta::minutes(15),
        keeps: None,
        page_size: 500,
    }),
};
