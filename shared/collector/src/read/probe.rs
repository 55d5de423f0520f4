//! Asks a source the least that its reader would ask, to see whether it may be read. Nothing is delivered or remembered.

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use mimecast::{Client, Error};
use tokio::time::Instant;

use super::time::wire;
use crate::settings::Settings;
use crate::source::{Ask, Kind, Source, Window};

/// How long ago the minute was that is asked for: more than this machine's clock may be ahead, as a time to come is refused.
const AGO: TimeDelta = TimeDelta::hours(7);

/// Asks each of the source's feeds, or the source itself, for as little as it can give. What each that failed has said, by feed;
/// the source's own name where it has no feeds.
pub(crate) async fn probe(
    source: &Source,
    settings: &Settings,
    client: &Client,
    until: Instant,
) -> Vec<(String, Error)> {
    let Kind::Stream(stream) = &source.kind else {
        let outcome = match &source.kind {
            Kind::Window(window) => rows(window, client, until).await,
            Kind::Snapshot(snapshot) => {
                client.page(snapshot.path, snapshot.rows, &snapshot.question(settings), until).await.map(drop)
            }
            Kind::Stream(_) => Ok(()),
        };
        return outcome.err().map(|error| (source.name.to_owned(), error)).into_iter().collect();
    };
    let (mut failed, feeds) = (Vec::new(), (stream.feeds)(settings, client.is_v2()));
    if feeds.is_empty() {
        let text =
            "API 1.0 does not have this source: give the Mimecast secret the keys of API 2.0, or leave this source out";
        failed.push((source.name.to_owned(), Error::Configuration(text.to_owned())));
    }
    for feed in feeds {
        let Err(error) = ask(&feed.ask, client, until).await else { continue };
        // What the other feeds would meet too.
        let is_all = matches!(error, Error::Credentials(_) | Error::RateLimited { .. } | Error::Unavailable(_));
        failed.push((feed.name, error));
        if is_all {
            break;
        }
    }
    failed
}

/// One row of one minute.
async fn rows(window: &Window, client: &Client, until: Instant) -> Result<(), Error> {
    let ([from, to], filter) = (window.bounds, window.filter);
    let (end, comma) = (client.now().trunc_subsecs(0) - AGO, if filter.is_empty() { "" } else { "," });
    let (begin, end) = (wire(end - TimeDelta::minutes(1)), wire(end));
    let body = format!(
        r#"{{"meta":{{"pagination":{{"pageSize":1}}}},"data":[{{"{from}":"{begin}","{to}":"{end}"{comma}{filter}}}]}}"#
    );
    client.page(window.path, window.rows, &body, until).await.map(drop)
}

async fn ask(ask: &Ask, client: &Client, until: Instant) -> Result<(), Error> {
    match ask {
        Ask::File { path, filter, token_header, start } => {
            let begin = start.map(|start| format!(r#","{start}":"{}""#, wire(client.now() - AGO)));
            let body = format!(r#"{{"data":[{{{filter}{}}}]}}"#, begin.unwrap_or_default());
            client.file(path, &body, token_header, start.is_none(), until).await.map(drop)
        }
        Ask::Links { path, kind } => {
            let day = day(client.now() - AGO);
            let query = [("type", *kind), ("pageSize", "1"), ("dateRangeStartsAt", &*day), ("dateRangeEndsAt", &*day)];
            // Some accounts are refused a request without an end.
            match client.listing(path, &query[..3], until).await {
                Err(Error::BadRequest(_)) => client.listing(path, &query, until).await.map(drop),
                outcome => outcome.map(drop),
            }
        }
    }
}

fn day(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d").to_string()
}
