//! The threat intelligence feeds: malware seen in the account (`malware_customer`) and in the region (`malware_grid`).
//! <https://integrations.mimecast.com/documentation/endpoint-reference/threat-intel/get-feed/>

use chrono::TimeDelta;
use collector::source::{Ask, Feed, Identity, Kind, Source, Stream};
use collector::{Settings, ThreatfeedFormat};

/// Files named after the moment of their download, so a row is known by its content.
pub static SOURCE: Source = Source {
    name: "threatfeed",
    table: "mail.mimecast.threat.feed",
    permission: "Services | Gateway | Tracking | Read",
    kind: Kind::Stream(Stream {
        feeds,
        identity: Identity::Content,
        types: &[],
        keeps: TimeDelta::days(7),
        dated: false,
    }),
};

fn feeds(settings: &Settings, _v2: bool) -> Vec<Feed> {
    let format = match settings.threatfeed_format {
        ThreatfeedFormat::Csv => "csv",
        ThreatfeedFormat::Stix => "stix",
    };
    let feed = |name: &&str| Feed {
        name: (*name).to_owned(),
        ask: Ask::File {
            path: "/api/ttp/threat-intel/get-feed",
            filter: format!(r#""feedType":"{name}","fileType":"{format}","compress":true"#),
            token_header: "x-mc-threat-feed-next-token",
            start: Some("start"),
        },
    };
    settings.threatfeed_types.iter().map(feed).collect()
}
