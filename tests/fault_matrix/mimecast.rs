//! What Mimecast does wrong.

use std::time::Duration;

use simulator::mimecast::FaultKind::{self, *};

use crate::row::Expect::*;
use crate::row::{At, Calls, FOREVER, ONCE, Row, Strike, TWICE, after};
use crate::subjects::Reach;

/// The product does not look at which source it is.
const SAME: &str = "the same code for all of a kind";
/// The answer is read in the same way whoever has signed the request.
const BODY: &str = "the body of both APIs is one";
/// The retries alone take seconds.
const SLOW: &str = "takes seconds of retries";

pub fn rows() -> Vec<Row> {
    [passing(), lasting(), limited(), paging(), tokens(), files()].into_iter().flatten().collect()
}

fn row(name: &str, at: At, kind: FaultKind, calls: Calls, reach: Reach, expect: crate::row::Expect) -> Row {
    Row::new("Mimecast", name, Strike::Mimecast(at, kind, calls), reach, expect)
}

fn fail(code: &str, message: &str) -> FaultKind {
    FailOn200 { code: code.into(), message: message.into() }
}

/// Two bad answers, then good ones.
fn passing() -> Vec<Row> {
    let endpoint = |name: &str, kind, reach| row(name, At::Endpoint, kind, TWICE, reach, Outlasted);
    let mut rows = vec![
        endpoint("503 page", Html503, Reach::All),
        endpoint("reset before the head", ResetBeforeAnswer, Reach::All),
        endpoint("reset after the head", ResetAfterHead, Reach::All).each_source(BODY),
        endpoint("body cut", CutBody, Reach::All).each_source(BODY),
        endpoint("body truncated", Truncated, Reach::All).each_source(BODY),
        endpoint("fail on 200", fail("err_internal", "try later"), Reach::All).each_source(BODY),
        endpoint(
            "fail with data",
            FailWithData { code: "err_internal".into(), message: "try later".into() },
            Reach::Envelopes,
        )
        .each_source(BODY),
        endpoint("garbage", Garbage, Reach::All).each_source(BODY),
        endpoint("empty body", EmptyBody, Reach::All).each_source(BODY),
        row("empty body for ever", At::Endpoint, EmptyBody, FOREVER, Reach::Files, Postponed),
        row("hang of 1 s", At::Endpoint, Hang(Duration::from_secs(1)), ONCE, Reach::All, Outlasted).each_kind(SAME),
        row("body over 2 s", At::Endpoint, SlowBody(Duration::from_secs(2)), ONCE, Reach::All, Outlasted)
            .each_kind(SAME),
        row("401 once", At::Endpoint, FaultKind::status(401), ONCE, Reach::All, Outlasted).each_kind(SAME),
        row("418 once", At::Endpoint, FaultKind::binding_expired(), ONCE, Reach::All, Outlasted).each_kind(SAME),
        row(
            "App ID is invalid, a false alarm",
            At::Endpoint,
            fail("err_developer_key", "App ID is invalid"),
            ONCE,
            Reach::All,
            Outlasted,
        )
        .each_kind(SAME),
    ];
    for status in [408, 500, 502, 504, 509] {
        rows.push(endpoint(&format!("status {status}"), FaultKind::status(status), Reach::All).each_kind(SAME));
    }
    rows
}

/// One bad answer after the other until the run gives up.
fn lasting() -> Vec<Row> {
    let mut rows: Vec<Row> = [
        ("503 storm", Html503, Fails("MimecastUnavailable")),
        ("resets without end", ResetBeforeAnswer, Fails("MimecastUnavailable")),
        ("garbage without end", Garbage, Fails("MimecastProtocol")),
        ("status 400", FaultKind::status(400), Fails("MimecastProtocol")),
        ("status 404", FaultKind::status(404), Fails("MimecastProtocol")),
        ("meta.status 404", MetaStatus404, Fails("MimecastProtocol")),
        ("fail on 200 without end", fail("err_internal", "try later"), Fails("MimecastProtocol")),
        ("401 without end", FaultKind::status(401), Fails("Credentials")),
        ("418 without end", FaultKind::binding_expired(), Fails("Credentials")),
        ("App ID is invalid", fail("err_developer_key", "App ID is invalid"), Fails("Credentials")),
    ]
    .into_iter()
    .map(|(name, kind, expect)| row(name, At::Endpoint, kind, FOREVER, Reach::All, expect).each_kind(SLOW))
    .collect();
    // Garbage in a file's place is a file that stays broken: see `files`.
    rows[2].reach = Reach::Envelopes;
    rows.extend([
        row("403", At::Endpoint, FaultKind::status(403), FOREVER, Reach::All, Fails("Permission")),
        row("403 for one feed", At::Feed, FaultKind::status(403), FOREVER, Reach::Feeds, FailsAlone("Permission")),
        row("503 storm for one feed", At::Feed, Html503, FOREVER, Reach::Feeds, FailsAlone("MimecastUnavailable")),
        row("pages truncated for ever", At::Endpoint, Truncated, FOREVER, Reach::Windows, Fails("MimecastProtocol"))
            .within(8)
            .each_kind(SLOW),
    ]);
    rows
}

/// 429 with all that its headers may say.
fn limited() -> Vec<Row> {
    let limited = |name: &str, headers: &[(&str, &str)], calls, expect| {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        row(name, At::Endpoint, Status { status: 429, headers, body: "{}".into() }, calls, Reach::All, expect)
    };
    let reset = "x-ratelimit-reset";
    let mut rows = vec![
        row("429", At::Endpoint, FaultKind::rate_limited(Duration::from_millis(300)), TWICE, Reach::All, Outlasted)
            .each_source(BODY),
        // Without a number it is a minute, and that is more than the run has.
        limited("429 without a word", &[], ONCE, Fails("RateLimited")).each_source(BODY),
    ];
    let odd = [
        ("429 with a reset of 0", &[(reset, "0")][..], Outlasted),
        ("429 with Retry-After", &[("retry-after", "1")], Outlasted),
        ("429 with a reset in words and Retry-After", &[(reset, "soon"), ("retry-after", "1")], Outlasted),
        ("429 with an epoch of the past", &[(reset, "1600000000")], Outlasted),
        ("429 with an epoch in milliseconds", &[(reset, "1600000000000")], Outlasted),
        ("429 with a reset in words", &[(reset, "soon")], Fails("RateLimited")),
        ("429 with a negative reset", &[(reset, "-5")], Fails("RateLimited")),
        ("429 with the largest number", &[(reset, "18446744073709551615")], Fails("RateLimited")),
        ("429 with more than the largest", &[(reset, "99999999999999999999")], Fails("RateLimited")),
        ("429 with Retry-After of a day", &[("retry-after", "86400")], Fails("RateLimited")),
    ];
    rows.extend(odd.map(|(name, headers, expect)| limited(name, headers, ONCE, expect).each_kind(SAME)));
    let lasting = limited("429 without end", &[(reset, "600000")], FOREVER, Fails("RateLimited"));
    rows.push(lasting.each_kind(SAME));
    rows
}

/// Lists that do not say where they end.
fn paging() -> Vec<Row> {
    let lists = |name: &str, kind| row(name, At::Endpoint, kind, FOREVER, Reach::Windows, Outlasted).each_source(BODY);
    vec![
        lists("empty page with a next", EmptyPageWithNext),
        row("empty page with a next", At::Endpoint, EmptyPageWithNext, TWICE, Reach::Links, Outlasted),
        lists("no pagination", NoPagination),
        lists("totalCount too large", WrongTotal(3)),
        lists("totalCount too small", WrongTotal(-3)),
        row("totalCount wrong on one page", At::Endpoint, WrongTotal(5), after(1), Reach::Windows, Outlasted)
            .each_source(BODY),
    ]
}

/// Tokens of each of the three sorts: of access, of a page, of a stream.
fn tokens() -> Vec<Row> {
    let oauth = |name: &str, kind, calls, expect| row(name, At::OAuth, kind, calls, Reach::V2, expect).each_kind(SAME);
    vec![
        row("access token expired between pages", At::Endpoint, TokenExpired, after(1), Reach::Paged, Outlasted),
        row("access token expired", At::Endpoint, TokenExpired, ONCE, Reach::Snapshots, Outlasted),
        oauth("no access token: 503", Html503, TWICE, Outlasted),
        oauth("no access token: reset", ResetBeforeAnswer, TWICE, Outlasted),
        oauth("no access token: 503 storm", Html503, FOREVER, Fails("MimecastUnavailable")),
        oauth("no access token: 401", FaultKind::status(401), FOREVER, Fails("Credentials")),
        row("page token refused", At::Endpoint, RefusePageToken, ONCE, Reach::Windows, Outlasted).each_source(BODY),
        row("page token refused on the third page", At::Endpoint, RefusePageToken, after(1), Reach::Windows, Outlasted)
            .each_source(BODY),
        row("stream token refused", At::Endpoint, RefuseSiemToken, ONCE, Reach::Streams, Reported("repeat")),
        Row::new("Mimecast", "stream token older than is kept", Strike::OldCheckpoint, Reach::Streams, Reported("gap")),
    ]
}

/// Files and the links to them.
fn files() -> Vec<Row> {
    let links = |name: &str, kind, calls, expect| row(name, At::Links, kind, calls, Reach::Links, expect);
    let poison = |name: &str, kind| Row::new("Mimecast", name, Strike::PoisonFile(kind), Reach::Streams, DeadLetter);
    vec![
        row("corrupt archive", At::Endpoint, CorruptZip, TWICE, Reach::Files, Outlasted),
        links("file corrupt", CorruptZip, TWICE, Outlasted),
        links("file truncated", Truncated, TWICE, Outlasted),
        links("file cut", CutBody, TWICE, Outlasted),
        links("file of 503", Html503, TWICE, Outlasted),
        links("file of garbage", Garbage, TWICE, Outlasted),
        links("file of no bytes", EmptyBody, TWICE, Outlasted),
        links("file slow", SlowBody(Duration::from_secs(2)), ONCE, Outlasted),
        links("link expired", ExpiredLink, Calls { skip: 1, times: 2 }, Outlasted),
        links("link gone", FaultKind::status(404), TWICE, Outlasted),
        links("links expired for ever", ExpiredLink, FOREVER, Fails("MimecastUnavailable")),
        Row::new("Mimecast", "link listed twice", Strike::DuplicateLinks, Reach::Links, Outlasted),
        poison("file stays corrupt", CorruptZip),
        poison("file stays truncated", Truncated),
        Row::new("Mimecast", "bad line", Strike::BadLine(br#"{"id":}"#), Reach::All, DeadLetter).each_source(BODY),
        Row::new("Mimecast", "line not UTF-8", Strike::BadLine(b"{\"id\":\"\xff\"}"), Reach::RawLines, DeadLetter)
            .each_source(BODY),
    ]
}
