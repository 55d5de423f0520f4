use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};
use simulator::Mimecast;

use crate::client::{AUDIT, CLICKS, Client, Got, date, day, guid, page};

const HELD: &str = "/api/gateway/get-hold-message-list";

#[tokio::test]
async fn pages_hold_every_row_as_it_was_pushed() {
    let mimecast = Mimecast::start().await.unwrap();
    let client = Client::new(&mimecast);
    let start = (Utc::now() - TimeDelta::hours(1)).timestamp();
    let time = |second: i64| chrono::DateTime::from_timestamp(start + second, 500_000_000).unwrap();
    // Two rows a second, one of them with white space; the first and the last second are outside.
    let pushed: Vec<String> =
        (0..60).map(|n| if n % 2 == 0 { format!("{{ \"n\" :\t{n}\n}}") } else { format!(r#"{{"n":{n}}}"#) }).collect();
    for (second, row) in (0..).map(|n: i64| n / 2).zip(&pushed) {
        mimecast.push("url", time(second), row);
    }
    let item = json!({"from": date(time(1)), "to": date(time(28))});
    for (oldest_first, version) in [(true, 1), (true, 2), (false, 1), (false, 2)] {
        let mut item = item.clone();
        if oldest_first {
            item["oldestFirst"] = true.into();
        }
        let (mut rows, mut sizes, mut token) = (Vec::new(), Vec::new(), None);
        loop {
            let body = page(item.clone(), 25, token.as_deref());
            let got = if version == 1 { client.v1(CLICKS, body).await } else { client.v2(CLICKS, body).await };
            let paging = got.json()["meta"]["pagination"].clone();
            assert_eq!(paging["totalCount"], 56);
            sizes.push(paging["pageSize"].as_u64().unwrap());
            rows.extend(got.rows(Some("clickLogs")));
            token = got.next();
            if token.is_none() {
                break;
            }
        }
        assert_eq!(sizes, [25, 25, 6]);
        if !oldest_first {
            rows.reverse();
        }
        assert_eq!(rows, pushed[2..58]);
    }
}

#[tokio::test]
async fn each_source_has_its_own_layout_and_keys() {
    let mimecast = Mimecast::start().await.unwrap();
    let client = Client::new(&mimecast);
    let sources = [
        ("audit", AUDIT, "startDateTime", "endDateTime", None),
        ("attachments", "/api/ttp/attachment/get-logs", "from", "to", Some("attachmentLogs")),
        ("impersonation", "/api/ttp/impersonation/get-logs", "from", "to", Some("impersonationLogs")),
        ("url", CLICKS, "from", "to", Some("clickLogs")),
        ("search", "/api/archive/get-search-logs", "start", "end", Some("logs")),
        ("view", "/api/archive/get-view-logs", "start", "end", None),
        ("messageholdlist", HELD, "start", "end", None),
        ("dlp", "/api/dlp/get-logs", "from", "to", Some("dlpLogs")),
        ("release", "/api/gateway/get-held-release-logs", "start", "end", Some("heldReleaseLogs")),
        ("rejections", "/api/gateway/get-rejections", "start", "end", Some("rejections")),
    ];
    for (source, path, start, end, list) in sources {
        let mut item = day(start, end);
        if source == "rejections" {
            for admin in [json!(null), json!(false)] {
                let got =
                    client.v2(path, page(json!({"admin": admin, start: item[start], end: item[end]}), 10, None)).await;
                assert_eq!(got.code(), "err_validation", "{admin}");
            }
        }
        if ["messageholdlist", "rejections"].contains(&source) {
            item["admin"] = true.into();
        }
        for _ in 0..6 {
            let empty = client.v1(path, page(item.clone(), 10, None)).await;
            assert_eq!((empty.rows_or_none(list), empty.next()), (Vec::<String>::new(), None), "{source}");
        }
        mimecast.push(source, Utc::now() - TimeDelta::minutes(1), r#"{"of":1}"#);
        for _ in 0..3 {
            let got = client.v2(path, page(item.clone(), 10, None)).await;
            assert_eq!(got.rows(list), [r#"{"of":1}"#], "{source}");
            assert_eq!(got.json()["fail"], json!([]));
        }
        let mut unknown = item.clone();
        unknown["since"] = "x".into();
        assert_eq!(client.v2(path, page(unknown, 10, None)).await.code(), "err_validation", "{source}");
        assert_eq!(mimecast.requests().last().unwrap().source, source);
    }
}

impl Got {
    /// As `rows`, where an empty answer may lack the list.
    fn rows_or_none(&self, list: Option<&str>) -> Vec<String> {
        if self.json()["data"] == json!([]) { Vec::new() } else { self.rows(list) }
    }
}

#[tokio::test]
async fn page_tokens_belong_to_their_request() {
    let mimecast = Mimecast::start().await.unwrap();
    let client = Client::new(&mimecast);
    for n in 0..10 {
        mimecast.push("url", Utc::now() - TimeDelta::minutes(n + 1), format!(r#"{{"n":{n}}}"#));
    }
    let item = day("from", "to");
    let token = client.v1(CLICKS, page(item.clone(), 3, None)).await.next().unwrap();
    let other = json!({"from": item["from"], "to": item["to"], "oldestFirst": true});
    let path = "/api/ttp/attachment/get-logs";
    for (path, body) in [
        (CLICKS, page(item.clone(), 4, Some(&token))),
        (CLICKS, page(other, 3, Some(&token))),
        (CLICKS, page(item.clone(), 3, Some("eJyrVgIAAHkAfw"))),
        (path, page(item.clone(), 3, Some(&token))),
    ] {
        let got = client.v1(path, body).await;
        assert_eq!((got.status, got.code().as_str()), (400, "err_validation"));
    }
    // An empty token is none; a good one works, and a row that comes late shifts the pages behind it.
    assert_eq!(client.v1(CLICKS, page(item.clone(), 3, Some(""))).await.rows(Some("clickLogs"))[0], r#"{"n":0}"#);
    let second = client.v1(CLICKS, page(item.clone(), 3, Some(&token))).await.rows(Some("clickLogs"));
    assert_eq!(second[0], r#"{"n":3}"#);
    mimecast.push("url", Utc::now() - TimeDelta::seconds(90), r#"{"n":"late"}"#);
    let second = client.v1(CLICKS, page(item, 3, Some(&token))).await.rows(Some("clickLogs"));
    assert_eq!(second[0], r#"{"n":2}"#);
}

#[tokio::test]
async fn rows_come_late_and_go() {
    let mimecast = Mimecast::start().await.unwrap();
    let client = Client::new(&mimecast);
    let now = Utc::now();
    mimecast.push_late("messageholdlist", now - TimeDelta::hours(1), now + TimeDelta::minutes(30), r#"{"id":"a"}"#);
    mimecast.push("messageholdlist", now - TimeDelta::hours(1), r#"{"id":"b"}"#);
    let item = json!({"admin": true, "start": date(now - TimeDelta::hours(2)), "end": date(now)});
    assert_eq!(client.v2(HELD, page(item.clone(), 9, None)).await.rows(None), [r#"{"id":"b"}"#]);
    mimecast.set_clock_offset(1801);
    assert_eq!(client.v2(HELD, page(item.clone(), 9, None)).await.rows(None), [r#"{"id":"b"}"#, r#"{"id":"a"}"#]);
    mimecast.remove("messageholdlist", r#""id":"b""#);
    assert_eq!(client.v2(HELD, page(item.clone(), 9, None)).await.rows(None), [r#"{"id":"a"}"#]);
    let own = json!({"start": item["start"], "end": item["end"]});
    assert_eq!(
        client.v2(HELD, page(own, 9, None)).await.rows(None),
        Vec::<String>::new(),
        "not the administrator's view"
    );
    assert_eq!(client.v2(HELD, json!({"data": [{"admin": true}]})).await.status, 400, "2.0 needs a window");
    mimecast.set_clock_offset(0);
    assert_eq!(client.v1(HELD, json!({"data": [{"admin": true}]})).await.status, 200, "1.0 does not");
}

#[tokio::test]
async fn an_envelope_is_checked() {
    let mimecast = Mimecast::start().await.unwrap();
    let client = Client::new(&mimecast);
    let item = day("startDateTime", "endDateTime");
    let (from, to) = (item["startDateTime"].clone(), item["endDateTime"].clone());
    let with = |from: &str, to: &Value| json!({"data": [{"startDateTime": from, "endDateTime": to}]});
    let now = Utc::now();
    let bad = [
        json!({}),
        json!({"data": {}}),
        json!({"data": []}),
        json!({"data": [item, item]}),
        json!({"data": [item], "paging": {}}),
        json!({"data": [item], "meta": {"pagination": {"pageSize": 0}}}),
        json!({"data": [item], "meta": {"pagination": {"pageSize": 501}}}),
        json!({"data": [item], "meta": {"pagination": {"pageSize": "10"}}}),
        json!({"data": [item], "meta": {"pagination": {"size": 10}}}),
        json!({"data": [{"startDateTime": from}]}),
        json!({"data": [{"startDateTime": to, "endDateTime": from}]}),
        with(&date(now - TimeDelta::days(61)), &to),
        with(from.as_str().unwrap(), &date(now + TimeDelta::minutes(2)).into()),
    ];
    for body in bad {
        let got = client.v1(AUDIT, body.clone()).await;
        assert_eq!(got.status, 400, "{body}");
        assert!(got.code().starts_with("err_validation"), "{body}");
    }
    let day = now.format("%Y-%m-%d");
    for form in
        ["T00:00:00Z", "T00:00:00+00:00", "T00:00:00.000+0000", "T00:00:00+0100", "T0:00:00+0000", " 00:00:00+0000", ""]
    {
        let got = client.v1(AUDIT, with(&format!("{day}{form}"), &to)).await;
        assert_eq!(got.code(), "err_validation_invalid_date", "{form}");
    }
    let headers = client.signed(AUDIT, now, &guid());
    assert_eq!(client.send("POST", AUDIT, &headers, Some("{".into())).await.status, 400);
    assert_eq!(client.v1(AUDIT, page(item, 500, None)).await.status, 200);
    assert_eq!(client.v1(CLICKS, json!({"data": []})).await.status, 200);
}

#[tokio::test]
async fn snapshots_show_how_things_are() {
    let mimecast = Mimecast::start().await.unwrap();
    let client = Client::new(&mimecast);
    let (summary, dashboard) = ("/api/gateway/get-hold-summary-list", "/api/account/get-dashboard-notifications");
    assert_eq!(client.v1(summary, json!({"data": []})).await.rows(None), Vec::<String>::new());
    mimecast.set_summary(vec![r#"{ "policyInfo":"p"}"#.into(), "{}".into()]);
    mimecast.set_notices(vec![r#"{"id" : 1}"#.into()]);
    mimecast.push_notice(r#"{"id":2}"#.into());
    for body in [json!({"data": []}), json!({"data": [{}]})] {
        assert_eq!(client.v1(summary, body.clone()).await.rows(None), [r#"{ "policyInfo":"p"}"#, "{}"]);
        let notices = client.v2(dashboard, body).await.rows(Some("notifications"));
        assert_eq!(notices, [r#"{"id" : 1}"#, r#"{"id":2}"#]);
    }
    let bearer = client.bearer().await;
    assert_eq!(client.send("POST", dashboard, &bearer, None).await.rows(Some("notifications")).len(), 2);
    assert_eq!(client.v1(summary, json!({"data": [{"since": 1}]})).await.status, 400);
    mimecast.set_notice_as_object(true);
    let got = client.v1(dashboard, json!({"data": []})).await;
    assert_eq!(got.json()["data"], json!([{"notifications": {"id": 1}}]));
}
