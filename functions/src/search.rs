//! Archive search logs: who searched the archive for what.
//! <https://integrations.mimecast.com/documentation/endpoint-reference/archive/get-archive-search-logs/>

use chrono::TimeDelta;
use collector::source::{Kind, Source, Window};
use mimecast::Rows;

/// No id, newest first; entries appear up to two hours late.
pub static SOURCE: Source = Source {
    name: "search",
    table: "mail.mimecast.archive.search",
    permission: "Archive | Search Logs | Read",
    kind: Kind::Window(Window {
        path: "/api/archive/get-search-logs",
        rows: Rows::In("logs"),
        bounds: ["start", "end"],
        filter: "",
        id: None,
        time: "createTime",
        overlap: TimeDelta::hours(2),
        keeps: None,
        page_size: 100,
    }),
};
