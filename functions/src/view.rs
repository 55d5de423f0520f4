//! Archive message view logs: who opened which archived message.
//! <https://integrations.mimecast.com/documentation/endpoint-reference/archive/get-view-logs/>

use chrono::TimeDelta;
use collector::source::{Kind, Source, Window};
use mimecast::Rows;

/// Flat rows without an id, newest first; entries appear up to two hours late.
pub static SOURCE: Source = Source {
    name: "view",
    table: "mail.mimecast.archive.messageview",
    permission: "Archive | View Logs | Read",
    kind: Kind::Window(Window {
        path: "/api/archive/get-view-logs",
        rows: Rows::Flat,
        bounds: ["start", "end"],
        filter: "",
        id: None,
        time: "viewed",
        overlap: TimeDelta::hours(2),
        keeps: None,
        page_size: 100,
    }),
};
