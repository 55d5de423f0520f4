//! SIEM logs: every step of every message through the gateway, in ten types.
//!
//! API 1.0: one stream of files, <https://integrations.mimecast.com/documentation/tutorials/understanding-siem-logs/>.
//! API 2.0: one stream of signed links per type, `GET /siem/v1/batch/events/cg`. Both keep seven days.

use chrono::TimeDelta;
use collector::source::{Ask, Feed, Identity, Kind, Source, Stream};
use collector::{SIEM_TYPES, Settings};

/// Tables by the file-name prefix of API 1.0 or the event type of API 2.0.
pub static SOURCE: Source = Source {
    name: "siem",
    table: "mail.mimecast.siem",
    permission: "Gateway | Tracking | Read, with Enhanced Logging switched on (API 1.0); Security Events and Data Retrieval | \
                 Threat and Security Events (SIEM) | Read, with the product Threats, Security Events and Data for CG (API 2.0)",
    kind: Kind::Stream(Stream {
        feeds,
        identity: Identity::File,
        types: &[
            ("receipt", "receipt"),
            ("process", "process"),
            ("delivery", "delivery"),
            ("jrnl", "jrnl"),
            ("journal", "jrnl"),
            ("av", "av"),
            ("iep", "iep"),
            ("internal email protect", "iep"),
            ("impersonation", "impersonation"),
            ("impersonation protect", "impersonation"),
            ("spameventthread", "spameventthread"),
            ("spam", "spameventthread"),
            ("ttp", "ttp"),
            ("url protect", "ttp"),
            ("attachment protect", "ttp"),
        ],
        keeps: TimeDelta::days(7),
        dated: true,
    }),
};

fn feeds(settings: &Settings, v2: bool) -> Vec<Feed> {
    if !v2 {
        let ask = Ask::File {
            path: "/api/audit/get-siem-logs",
            filter: r#""type":"MTA","fileFormat":"json","compress":true"#.to_owned(),
            token_header: "mc-siem-token",
            start: None,
        };
        return vec![Feed { name: "MTA".to_owned(), ask }];
    }
    let feed =
        |kind: &'static str| Feed { name: kind.to_owned(), ask: Ask::Links { path: "/siem/v1/batch/events/cg", kind } };
    settings.siem_types(&SIEM_TYPES).map(feed).collect()
}
