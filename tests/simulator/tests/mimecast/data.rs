use std::collections::BTreeMap;

use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};
use simulator::Mimecast;
use simulator::data::{Expected, FEED_TABLE, captured, lively, more, stix};

use crate::client::{Client, FEED, LOGS, date, elements, page, two_days};

const WINDOWS: [(&str, &str, &str, Option<&str>, &str); 7] = [
    ("/api/audit/get-audit-events", "startDateTime", "endDateTime", None, "audit.events"),
    ("/api/ttp/attachment/get-logs", "from", "to", Some("attachmentLogs"), "ttp.attachment"),
    ("/api/ttp/impersonation/get-logs", "from", "to", Some("impersonationLogs"), "ttp.impersonation"),
    ("/api/ttp/url/get-logs", "from", "to", Some("clickLogs"), "ttp.url"),
    ("/api/archive/get-search-logs", "start", "end", Some("logs"), "archive.search"),
    ("/api/archive/get-view-logs", "start", "end", None, "archive.messageview"),
    ("/api/gateway/get-hold-message-list", "start", "end", None, "message.list"),
];
const TYPES: [(&str, &str, &str); 10] = [
    ("receipt", "receipt_", "receipt"),
    ("process", "process_", "process"),
    ("delivery", "delivery_", "delivery"),
    ("journal", "jrnl_", "jrnl"),
    ("av", "av_", "av"),
    ("spam", "spameventthread_", "spameventthread"),
    ("internal email protect", "iep_", "iep"),
    ("impersonation protect", "impersonation_", "impersonation"),
    ("url protect", "ttp_url_", "ttp"),
    ("attachment protect", "ttp_ap_", "ttp"),
];

/// White space outside strings removed.
fn compact(text: &str) -> String {
    let (mut kept, mut rest) = (String::new(), text);
    while let Some(start) = rest.find('"') {
        let mut end = start + 1;
        while rest.as_bytes()[end] != b'"' {
            end += if rest.as_bytes()[end] == b'\\' { 2 } else { 1 };
        }
        kept.extend(rest[..start].split_ascii_whitespace());
        kept.push_str(&rest[start..=end]);
        rest = &rest[end + 1..];
    }
    kept.extend(rest.split_ascii_whitespace());
    kept
}

fn sorted(mut expected: Expected) -> Expected {
    expected.values_mut().for_each(|lines| lines.sort());
    expected
}

/// Everything that one of the APIs shows, by table.
async fn collect(client: &Client, version: u8, feed_form: &str) -> Expected {
    let mut got = Expected::new();
    let mut put = |table: &str, lines: Vec<String>| {
        let table = if table.contains("mail.") { table.to_owned() } else { format!("mail.mimecast.{table}") };
        got.entry(table).or_default().extend(lines.iter().map(|line| compact(line)));
    };
    let post = async |path: &str, body: Value| {
        if version == 1 { client.v1(path, body).await } else { client.v2(path, body).await }
    };
    for (path, start, end, list, table) in WINDOWS {
        let mut item = json!({start: date(Utc::now() - TimeDelta::hours(24)), end: date(Utc::now())});
        if table == "message.list" {
            item["admin"] = true.into();
        }
        let mut token = None;
        loop {
            let got = post(path, page(item.clone(), 37, token.as_deref())).await;
            put(table, got.rows(list));
            token = got.next();
            if token.is_none() {
                break;
            }
        }
    }
    put("message.summary", post("/api/gateway/get-hold-summary-list", json!({"data": []})).await.rows(None));
    let notices = post("/api/account/get-dashboard-notifications", json!({"data": []})).await;
    put("account.dashboard", notices.rows(Some("notifications")));
    for feed in ["malware_customer", "malware_grid"] {
        let mut item = json!({"feedType": feed, "fileType": feed_form, "compress": version == 1});
        loop {
            let got = post(FEED, json!({"data": [item]})).await;
            let Some(token) = got.header("x-mc-threat-feed-next-token") else { break };
            let text = if version == 1 { String::from_utf8(got.unzip().remove(0).1).unwrap() } else { got.text() };
            let lines: Vec<String> = if feed_form == "csv" {
                let mut rows = text.lines().map(|line| line.split('|').collect::<Vec<_>>());
                let names = rows.next().unwrap();
                let fields = |row: Vec<&str>| {
                    let fields = names.iter().zip(row).map(|(name, field)| format!("{}:{}", json!(name), json!(field)));
                    format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
                };
                rows.map(fields).collect()
            } else {
                elements(text.as_bytes(), "objects")
            };
            if lines.is_empty() {
                break;
            }
            put("threat.feed", lines);
            item["token"] = token.into();
        }
    }
    if version == 1 {
        let mut item = json!({"type": "MTA", "fileFormat": "json", "compress": true});
        loop {
            let got = client.v1(LOGS, json!({"data": [item]})).await;
            if got.header("content-disposition").is_none() {
                break;
            }
            for (name, content) in got.unzip() {
                let (_, _, table) = TYPES.iter().find(|(_, prefix, _)| name.starts_with(prefix)).unwrap();
                put(&format!("siem.{table}"), elements(&content, "data"));
            }
            item["token"] = got.header("mc-siem-token").unwrap().into();
        }
    } else {
        for (kind, _, table) in TYPES {
            let page = client.batch(&format!("type={}&{}", kind.replace(' ', "+"), two_days())).await.json();
            assert_eq!(page["isCaughtUp"], true);
            for link in page["value"].as_array().unwrap() {
                let content = client.download(link["url"].as_str().unwrap()).await.gunzip();
                let lines = content.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
                put(&format!("siem.{table}"), lines.map(|line| String::from_utf8(line.to_vec()).unwrap()).collect());
            }
        }
    }
    sorted(got)
}

#[tokio::test]
async fn the_lively_data_set_is_what_both_apis_show() {
    let mimecast = Mimecast::start().await.unwrap();
    let client = Client::new(&mimecast);
    let expected = lively(&mimecast, 1, Utc::now(), 1);
    assert_eq!(expected.len(), 19);
    assert!(expected.values().all(|lines| !lines.is_empty()));
    assert_eq!(collect(&client, 1, "csv").await, sorted(expected.clone()));
    assert_eq!(collect(&client, 2, "csv").await, sorted(expected.clone()));

    let mut in_stix = expected.clone();
    in_stix.insert(FEED_TABLE.into(), stix(&expected[FEED_TABLE]));
    assert_eq!(collect(&client, 2, "stix").await, sorted(in_stix));

    let mut all = expected;
    for (table, lines) in more(&mimecast, 2, Utc::now(), 7) {
        all.entry(table).or_default().extend(lines);
    }
    assert_eq!(collect(&client, 1, "csv").await, sorted(all.clone()));
    assert_eq!(collect(&client, 2, "csv").await, sorted(all));
}

#[tokio::test]
async fn the_lively_data_set_is_nasty_and_repeatable() {
    let (one, two) = (Mimecast::start().await.unwrap(), Mimecast::start().await.unwrap());
    let now = Utc::now();
    let expected = lively(&one, 1, now, 1);
    assert_eq!(expected, lively(&two, 1, now, 1));
    assert_ne!(expected, lively(&two, 2, now, 1));
    let text: Vec<&str> = expected.values().flatten().map(String::as_str).collect();
    let text = text.join("\n");
    let wanted = [
        "12345678901234567890",
        "1.10",
        "1e5",
        r"\u003c",
        r"\/",
        "\u{2028}",
        r"\u2028",
        "\u{1f389}",
        r#"\"urgent\""#,
        r#""<>""#,
        r"\ud83d",
        r"\u0000",
        "\u{feff}",
        r#""note":"first""#,
        "null",
    ];
    for wanted in wanted {
        assert!(text.contains(wanted), "{wanted}");
    }
    assert!(expected["mail.mimecast.ttp.url"].iter().any(|line| line.len() > 12_000));
    for table in ["ttp.url", "ttp.attachment", "archive.search", "archive.messageview", "siem.jrnl"] {
        let lines = &expected[&format!("mail.mimecast.{table}")];
        let mut counts = BTreeMap::new();
        lines.iter().for_each(|line| *counts.entry(line).or_insert(0) += 1);
        assert!(counts.values().any(|count| *count == 2), "{table}");
    }
}

#[tokio::test]
async fn captured_events_are_served_unchanged() {
    let folder = std::env::temp_dir().join(format!("captured-{}", crate::client::guid()));
    std::fs::create_dir(&folder).unwrap();
    let files = [
        ("url.jsonl", "{\"url\": \"a b\", \"date\":\"2001-01-01T00:00:00+0000\"}\r\n{\"url\":2}\n"),
        ("messageholdsummary.jsonl", "{\"numberOfItems\":1.10}\n"),
        ("siem_v1_ttp_ap.jsonl", "{\"one\": 1}\n"),
        ("siem_v2_url_protect.jsonl", "{\"two\":2}"),
        ("threatfeed.stix_bundle.jsonl", "{\"type\":\"bundle\",\"objects\":[{\"id\": 1},{\"id\":2}]}\n"),
        ("oauth_token_response.jsonl", "{}\n"),
        ("SOURCES.md", "text"),
    ];
    for (name, content) in files {
        std::fs::write(folder.join(name), content).unwrap();
    }
    let mimecast = Mimecast::start().await.unwrap();
    let now = Utc::now();
    let expected = captured(&mimecast, &folder, now - TimeDelta::hours(1), now).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    let lines = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let tables = [
        ("mail.mimecast.message.summary", lines(&[r#"{"numberOfItems":1.10}"#])),
        ("mail.mimecast.siem.ttp", lines(&[r#"{"one":1}"#, r#"{"two":2}"#])),
        ("mail.mimecast.threat.feed", lines(&[r#"{"id":1}"#, r#"{"id":2}"#])),
        ("mail.mimecast.ttp.url", lines(&[r#"{"url":"a b","date":"2001-01-01T00:00:00+0000"}"#, r#"{"url":2}"#])),
    ];
    let tables: Expected = tables.into_iter().map(|(table, lines)| (table.to_owned(), lines)).collect();
    assert_eq!(expected, tables);
    let mut got = collect(&Client::new(&mimecast), 2, "stix").await;
    got.retain(|_, lines| !lines.is_empty());
    assert_eq!(got, sorted(tables));
}
