//! Held messages that were released, or were to be: by whom, and what became of them.
//! <https://integrations.mimecast.com/documentation/endpoint-reference/>, page `get-held-release-logs`

use chrono::TimeDelta;
use collector::source::{Kind, Source, Window};
use mimecast::Rows;

/// An id may come again with another state, and is another event then: rows are told apart by their content. `released` may be absent.
pub static SOURCE: Source = Source {
    name: "release",
    table: "my.app.mimecast.release",
    permission: "Monitoring | Held | Read",
    kind: Kind::Window(Window {
        path: "/api/gateway/get-held-release-logs",
        rows: Rows::In("heldReleaseLogs"),
        bounds: ["start", "end"],
        filter: "",
        id: None,
        time: "released",
        overlap: TimeDelta::minutes(15),
        keeps: None,
        page_size: 100,
    }),
};
