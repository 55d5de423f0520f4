//! What Mimecast does wrong.

use std::time::Duration;

use simulator::mimecast::FaultKind::{self, *};
use simulator::mimecast::{DatesWithToken, Doubts, LastPage, Order, Totals};

use crate::row::Expect::*;
use crate::row::{At, Calls, FOREVER, ONCE, OVER, Row, Strike, TWICE, after};
use crate::subjects::Reach;

/// The product does not look at which source it is.
const SAME: &str = "the same code for all of a kind";
/// The answer is read in the same way whoever has signed the request.
const BODY: &str = "the body of both APIs is one";
/// The retries alone take seconds.
const SLOW: &str = "takes seconds of retries";

pub fn rows() -> Vec<Row> {
    [passing(), lasting(), limited(), paging(), doubts(), tokens(), files()].into_iter().flatten().collect()
}

fn row(name: &str, at: At, kind: FaultKind, calls: Calls, reach: Reach, expect: crate::row::Expect) -> Row {
    Row::new("Mimecast", name, Strike::Mimecast(at, kind, calls), reach, expect)
}

fn object(body: &str) -> FaultKind {
    Status { status: 200, headers: Vec::new(), body: body.into() }
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
        endpoint("an HTML page on 200", Html200, Reach::All).each_source(BODY),
        endpoint("an XML error on 200", Xml200, Reach::All).each_source(BODY),
        endpoint("an empty object", object("{}"), Reach::All).each_source(BODY),
        endpoint("an envelope without data", object(r#"{"meta":{"status":200}}"#), Reach::All).each_source(BODY),
        row("empty body for ever", At::Endpoint, EmptyBody, FOREVER, Reach::Files, Fails("MimecastUnavailable")),
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
        ("an empty object without end", object("{}"), Fails("MimecastProtocol")),
        ("an envelope without data, without end", object(r#"{"meta":{"status":200}}"#), Fails("MimecastProtocol")),
        ("an HTML page on 200 without end", Html200, Fails("MimecastProtocol")),
        ("401 without end", FaultKind::status(401), Fails("Credentials")),
        ("418 without end", FaultKind::binding_expired(), Fails("Credentials")),
        ("App ID is invalid", fail("err_developer_key", "App ID is invalid"), Fails("Credentials")),
    ]
    .into_iter()
    .map(|(name, kind, expect)| row(name, At::Endpoint, kind, FOREVER, Reach::All, expect).each_kind(SLOW))
    .collect();
    // Garbage in a file's place is a file that stays broken: see `files`.
    rows[2].reach = Reach::Envelopes;
    // In a file's place a page of something in between says that the file cannot be had.
    rows.iter_mut().filter(|row| row.name.contains("HTML")).for_each(|row| row.reach = Reach::Envelopes);
    rows.extend([
        row(
            "an HTML page for a file without end",
            At::Endpoint,
            Html200,
            FOREVER,
            Reach::Files,
            Fails("MimecastUnavailable"),
        ),
        row(
            "an HTML page for a listing without end",
            At::Endpoint,
            Html200,
            FOREVER,
            Reach::Links,
            Fails("MimecastProtocol"),
        ),
        row("an HTML page for one feed", At::Feed, Html200, FOREVER, Reach::Links, FailsAlone("MimecastProtocol")),
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
        ("429 with Retry-After as a date that is over", &[("retry-after", OVER)], Outlasted),
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

/// What lasts, and no page rules out: totals, last pages, pages of another size, dates and tokens of SIEM 2.0.
fn doubts() -> Vec<Row> {
    let with = |name: &str, doubts, reach| Row::new("Mimecast", name, Strike::Doubts(doubts), reach, Outlasted);
    let windows = |name: &str, doubts| with(name, doubts, Reach::Windows).each_source(BODY);
    let links = |name: &str, doubts| with(name, doubts, Reach::Links);
    let calm = Doubts::default;
    let totals = |totals| Doubts { totals, ..calm() };
    let last = |last_page, error| Doubts { last_page, totals: Totals::Off(vec![error]), ..calm() };
    vec![
        windows("totalCount flaps", totals(Totals::Off(vec![-5, 0, 5, 300]))),
        windows("totalCount is negative", totals(Totals::Off(vec![-1000]))),
        windows("totalCount is absent", totals(Totals::Absent)),
        windows("totalCount is not on the first page", totals(Totals::NotOnFirstPage)),
        windows("totalCount is a text", totals(Totals::Text)),
        windows("totalCount is never zero", totals(Totals::NeverZero)),
        windows("the last page leads to an empty one", last(LastPage::LeadsToEmpty, 0)),
        windows("the last page leads to 404", last(LastPage::LeadsTo404, 0)),
        windows("the last page leads to 400", last(LastPage::LeadsTo400, 0)),
        windows("a total too high and a last page to 404", last(LastPage::LeadsTo404, 7)),
        windows("a total too high and a last page to 400", last(LastPage::LeadsTo400, 7)),
        windows("pages of nine rows at most", Doubts { page_cap: Some(9), ..calm() }),
        windows(
            "pages of nine rows at most, without totals",
            Doubts { page_cap: Some(9), totals: Totals::Absent, ..calm() },
        ),
        windows("lists in the order of arrival", Doubts { order: Order::Arrival, ..calm() }),
        windows("pages that do not turn", Doubts { stuck_pages: true, ..calm() }),
        links("sealed tokens", Doubts { sealed_tokens: true, ..calm() }),
        links("an end date is demanded", Doubts { end_required: true, ..calm() }),
        links("dates beside a token refused", Doubts { dates_with_token: DatesWithToken::Refused, ..calm() }),
        links("dates beside a token demanded", Doubts { dates_with_token: DatesWithToken::Required, ..calm() }),
        links(
            "dates demanded everywhere",
            Doubts { dates_with_token: DatesWithToken::Required, end_required: true, sealed_tokens: true, ..calm() },
        ),
    ]
}

/// Tokens of each of the three sorts: of access, of a page, of a stream.
fn tokens() -> Vec<Row> {
    let oauth = |name: &str, kind, calls, expect| row(name, At::OAuth, kind, calls, Reach::V2, expect).each_kind(SAME);
    // Only a second with more rows than a page is paged.
    let dense = |name: &str, calls, expect| {
        let strike = Strike::DenseSecond(RefusePageToken, calls);
        Row::new("Mimecast", name, strike, Reach::Windows, expect).each_source(BODY)
    };
    vec![
        row("access token expired between pages", At::Endpoint, TokenExpired, after(1), Reach::Paged, Outlasted),
        row("access token expired", At::Endpoint, TokenExpired, ONCE, Reach::Snapshots, Outlasted),
        oauth("no access token: 503", Html503, TWICE, Outlasted),
        oauth("no access token: reset", ResetBeforeAnswer, TWICE, Outlasted),
        oauth("no access token: 503 storm", Html503, FOREVER, Fails("MimecastUnavailable")),
        oauth("no access token: 401", FaultKind::status(401), FOREVER, Fails("Credentials")),
        dense("page token refused", ONCE, Outlasted),
        dense("page token refused on the third page", after(1), Outlasted),
        dense("page token refused for ever", FOREVER, Fails("MimecastProtocol")),
        row("a dead token", At::Endpoint, DeadToken, ONCE, Reach::Links, Postponed),
        row("dead tokens between pages", At::Endpoint, DeadToken, after(1), Reach::Links, Postponed),
        row("a token is empty", At::Endpoint, EmptyToken, ONCE, Reach::Links, FailsAlone("MimecastProtocol")),
        row("tokens are empty", At::Endpoint, EmptyToken, FOREVER, Reach::Links, FailsAlone("MimecastProtocol")),
        row("tokens are absent", At::Endpoint, AbsentToken, FOREVER, Reach::Links, FailsAlone("MimecastProtocol")),
        row("tokens are null", At::Endpoint, NullToken, FOREVER, Reach::Links, FailsAlone("MimecastProtocol")),
        row("tokens are repeated", At::Endpoint, RepeatedToken, FOREVER, Reach::Links, Outlasted),
        row("stream token refused", At::Endpoint, RefuseSiemToken, ONCE, Reach::Files, Reported("repeat")),
        // Asked once more with dates beside it, it is accepted.
        row("stream token refused", At::Endpoint, RefuseSiemToken, ONCE, Reach::Links, Outlasted),
        // In either form, of what a listing by date has just handed out.
        row(
            "stream tokens refused",
            At::Endpoint,
            RefuseSiemToken,
            Calls { skip: 0, times: 20 },
            Reach::Links,
            FailsAlone("MimecastProtocol"),
        ),
        Row::new("Mimecast", "stream token older than is kept", Strike::OldCheckpoint, Reach::Streams, Reported("gap")),
    ]
}

/// Files and the links to them.
fn files() -> Vec<Row> {
    let links = |name: &str, kind, calls, expect| row(name, At::Links, kind, calls, Reach::Links, expect);
    let one = |name: &str, kind| row(name, At::OneFile, kind, FOREVER, Reach::Links, FailsAlone("MimecastUnavailable"));
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
        links("file of HTML", Html200, TWICE, Outlasted),
        links("file of an XML error on 200", Xml200, TWICE, Outlasted),
        // Each is tried as often as anything that may pass, and that may take all of the run's time.
        links("files of HTML without end", Html200, FOREVER, CutShort("MimecastUnavailable")).within(20),
        links("links redirected", Redirect, FOREVER, Outlasted),
        links("links redirected to themselves", RedirectToItself, FOREVER, Fails("MimecastUnavailable")),
        one("a link redirected to itself", RedirectToItself),
        one("a link gone for ever", FaultKind::status(404)),
        one("a link expired for ever", ExpiredLink),
        one("a file of 503 for ever", Html503),
        one("a file of HTML for ever", Html200),
        one("a link of status 300", FaultKind::status(300)),
        one("a link of status 307 without a place", FaultKind::status(307)),
        one("a link of status 401", FaultKind::status(401)),
        one("a link of status 418", FaultKind::binding_expired()),
        one("a link of status 451", FaultKind::status(451)),
        links("links expired for ever", ExpiredLink, FOREVER, Fails("MimecastUnavailable")),
        Row::new("Mimecast", "link listed twice", Strike::DuplicateLinks, Reach::Links, Outlasted),
        poison("file stays corrupt", CorruptZip),
        poison("file stays truncated", Truncated),
        Row::new("Mimecast", "bad line", Strike::BadLine(br#"{"id":}"#), Reach::All, DeadLetter).each_source(BODY),
        Row::new("Mimecast", "line not UTF-8", Strike::BadLine(b"{\"id\":\"\xff\"}"), Reach::RawLines, DeadLetter)
            .each_source(BODY),
    ]
}
