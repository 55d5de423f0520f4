use chrono::{TimeDelta, Utc};
use serde_json::json;
use simulator::Mimecast;
use simulator::mimecast::stix_objects;

use crate::client::{Client, FEED, date};

#[tokio::test]
async fn a_feed_is_a_chain_of_files() {
    let mimecast = Mimecast::start().await.unwrap();
    let client = Client::new(&mimecast);
    let now = Utc::now();
    let rows: Vec<[String; 4]> =
        (0..5).map(|n| [format!("m{n}"), "null".into(), format!("a{n}@x"), format!("t{n}")]).collect();
    for row in &rows {
        mimecast.push_feed("malware_grid", now - TimeDelta::hours(1), row.each_ref().map(String::as_str));
    }
    mimecast.push_feed("malware_grid", now - TimeDelta::days(3), ["old", "old", "old", "old"]);
    mimecast.push_feed("malware_customer", now, ["own", "own", "own", "own"]);
    mimecast.push_stix("malware_grid", now - TimeDelta::hours(1), vec![b"{ \"type\":\"note\"}".to_vec()]);
    mimecast.set_feed_page(2);

    for (form, compress) in [("csv", false), ("csv", true), ("stix", false), ("stix", true)] {
        let window = json!({"feedType": "malware_grid", "fileType": form, "compress": compress,
            "start": date(now - TimeDelta::days(1)), "end": date(now)});
        let (mut item, mut texts) = (window, Vec::new());
        let mut ends = [false, false];
        while ends != [true, true] {
            let got = client.v2(FEED, json!({"data": [item]})).await;
            assert_eq!(got.status, 200);
            let Some(token) = got.header("x-mc-threat-feed-next-token") else {
                let message = &got.json()["fail"][0]["errors"][0]["message"];
                assert_eq!(message, "No results found for threat intel feed.");
                ends[0] = true;
                continue;
            };
            let next = json!({"feedType": "malware_grid", "fileType": form, "compress": compress, "token": token});
            let text = if compress {
                let mut files = got.unzip();
                assert_eq!(files.len(), 1);
                String::from_utf8(files.remove(0).1).unwrap()
            } else {
                got.text()
            };
            let name = got.header("content-disposition").unwrap();
            assert!(name.starts_with(&format!("attachment; filename=\"malware_grid_{form}_")), "{name}");
            // At the end the server answers in two ways, and both are wanted.
            if item == next {
                ends[1] = true;
            }
            item = next;
            texts.push(text);
        }
        if form == "csv" {
            let lines: Vec<&str> = texts.iter().flat_map(|text| text.lines().skip(1)).collect();
            let mut sent: Vec<String> = rows.iter().map(|row| row.join("|")).collect();
            // Behind the first page the token counts, not the window.
            sent.push("old|old|old|old".into());
            assert_eq!(lines, sent);
            assert!(texts.iter().all(|text| text.starts_with("MD5|SHA256|SenderAddress|Timestamp")));
        } else {
            let joined = texts.concat();
            for row in &rows {
                for object in stix_objects(row.each_ref().map(String::as_str)) {
                    assert_eq!(joined.matches(&object).count(), 1);
                }
            }
            assert_eq!(joined.matches("{ \"type\":\"note\"}").count(), 1);
        }
    }
}

#[tokio::test]
async fn a_feed_is_asked_for_properly() {
    let mimecast = Mimecast::start().await.unwrap();
    let client = Client::new(&mimecast);
    mimecast.push_feed("malware_grid", Utc::now(), ["a", "b", "c", "d"]);
    let got = client.v1(FEED, json!({"data": [{"feedType": "malware_grid"}]})).await;
    assert_eq!(
        got.text().lines().collect::<Vec<_>>(),
        ["MD5|SHA256|SenderAddress|Timestamp", "a|b|c|d"],
        "csv by default"
    );
    let token = got.header("x-mc-threat-feed-next-token").unwrap();
    for bad in [
        json!({"data": []}),
        json!({"data": [{"feedType": "malware"}]}),
        json!({"data": [{"feedType": "malware_grid", "fileType": "json"}]}),
        json!({"data": [{"feedType": "malware_grid", "compress": "true"}]}),
        json!({"data": [{"feedType": "malware_grid", "token": "x"}]}),
        json!({"data": [{"feedType": "malware_customer", "token": token}]}),
        json!({"data": [{"feedType": "malware_grid", "fileType": "stix", "token": token}]}),
        json!({"data": [{"feedType": "malware_grid", "start": "2024-01-01"}]}),
    ] {
        assert_eq!(client.v1(FEED, bad.clone()).await.status, 400, "{bad}");
    }
}
