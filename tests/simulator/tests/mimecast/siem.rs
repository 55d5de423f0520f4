use std::time::Duration;

use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};
use simulator::Mimecast;
use simulator::mimecast::SiemMode;

use crate::client::{Client, LOGS, two_days};

fn lines(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn request(format: &str, compress: bool, token: Option<&str>) -> Value {
    let mut item = json!({"type": "MTA", "fileFormat": format, "compress": compress});
    if let Some(token) = token {
        item["token"] = token.into();
    }
    json!({"data": [item]})
}

#[tokio::test]
async fn api_1_streams_zips_of_files() {
    let mimecast = Mimecast::start().await.unwrap();
    let client = Client::new(&mimecast);
    let kinds = [
        ("receipt", "receipt_"),
        ("journal", "jrnl_"),
        ("av", "av_"),
        ("internal email protect", "iep_"),
        ("impersonation protect", "impersonation_"),
        ("spam", "spameventthread_"),
        ("url protect", "ttp_url_"),
        ("attachment protect", "ttp_ap_"),
        ("Brand New", "brandnew_"),
        ("delivery", "delivery_"),
    ];
    for (index, (kind, _)) in kinds.iter().enumerate() {
        mimecast.push_siem(kind, lines(&[&format!("{{\"n\": {index}}}"), r#"{"x":"}"}"#]));
    }
    let (mut files, mut sizes, mut token) = (Vec::new(), Vec::new(), None);
    loop {
        let got = client.v1(LOGS, request("json", true, token.as_deref())).await;
        if got.header("content-type") == Some("application/json") {
            assert_eq!(got.json(), json!({"meta": {"isLastToken": true, "status": 200}, "data": [], "fail": []}));
            break;
        }
        assert!(got.header("content-disposition").unwrap().ends_with(".zip\""));
        token = Some(got.header("mc-siem-token").unwrap().to_owned());
        let inner = got.unzip();
        sizes.push(inner.len());
        files.extend(inner);
    }
    assert_eq!(sizes, [4, 4, 2]);
    for (index, ((name, content), (_, prefix))) in files.iter().zip(kinds).enumerate() {
        assert!(name.starts_with(prefix) && name.ends_with(".json"), "{name}");
        let stamp = name.trim_end_matches(".json").rsplit('_').next().unwrap();
        assert!(stamp.len() == 17 && stamp.bytes().all(|byte| byte.is_ascii_digit()), "{name}");
        let text = String::from_utf8(content.clone()).unwrap();
        assert!(text.contains(&format!("{{\"n\": {index}}},")), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["type"], "MTA");
    }
    mimecast.push_siem("process", lines(&["{}"]));
    let got = client.v1(LOGS, request("json", true, token.as_deref())).await;
    assert_eq!(got.unzip().len(), 1, "the same token goes on when there is more");
}

#[tokio::test]
async fn api_1_streams_single_files() {
    let mimecast = Mimecast::start().await.unwrap();
    let client = Client::new(&mimecast);
    mimecast.push_siem("receipt", lines(&[r#"{"b":1.10,"Subject":"x|y","a":{"c":[]},"d":null}"#, r#"{"a":"b=c"}"#]));
    mimecast.push_siem("process", lines(&["{}"]));
    let got = client.v1(LOGS, request("key_value", false, None)).await;
    assert_eq!(got.text(), "b=1.10|Subject=\\x y\\|a={\"c\":[]}|d=null\r\na=b=c\r\n");
    let name = got.header("content-disposition").unwrap();
    assert!(name.starts_with("attachment; filename=\"receipt_") && name.ends_with(".siem\""), "{name}");
    let token = got.header("mc-siem-token").unwrap().to_owned();
    mimecast.siem_mode(SiemMode { zip: false, ..SiemMode::default() });
    let got = client.v1(LOGS, request("json", true, Some(&token))).await;
    assert_eq!(got.json(), json!({"type": "MTA", "data": [{}]}));

    for bad in [json!({"data": [{}]}), json!({"data": [{"type": "MTA", "fileFormat": "xml"}]})] {
        assert_eq!(client.v1(LOGS, bad).await.status, 400);
    }
    let got = client.v1(LOGS, request("json", true, Some("x"))).await;
    assert_eq!((got.status, got.code().as_str()), (400, "err_audit_siem_invalid_token"));
    let other = Mimecast::start().await.unwrap();
    assert_eq!(
        Client::new(&other).v1(LOGS, request("json", true, Some(&token))).await.status,
        400,
        "of another account"
    );
}

#[tokio::test]
async fn files_are_kept_for_seven_days() {
    let mimecast = Mimecast::start().await.unwrap();
    let client = Client::new(&mimecast);
    let now = Utc::now();
    mimecast.push_siem_at("receipt", now - TimeDelta::days(8), lines(&["{\"old\":1}"]));
    mimecast.push_siem_at("receipt", now - TimeDelta::days(6), lines(&["{\"new\":1}"]));
    let got = client.v1(LOGS, request("json", false, None)).await;
    assert!(got.text().contains("new"));
    let token = got.header("mc-siem-token").unwrap().to_owned();
    let start = (now - TimeDelta::days(7)).format("%Y-%m-%d");
    let page = client.batch(&format!("type=receipt&dateRangeStartsAt={start}&dateRangeEndsAt={start}")).await.json();
    assert_eq!(page["value"], json!([]));
    let day = (now - TimeDelta::days(6)).format("%Y-%m-%d");
    let page = client.batch(&format!("type=receipt&dateRangeStartsAt={day}&dateRangeEndsAt={day}")).await.json();
    assert_eq!(page["value"].as_array().unwrap().len(), 1);
    let early = (now - TimeDelta::days(8)).format("%Y-%m-%d");
    assert_eq!(
        client.batch(&format!("type=receipt&dateRangeStartsAt={early}&dateRangeEndsAt={day}")).await.status,
        400
    );

    mimecast.set_clock_offset(8 * 86_400);
    let headers = client.signed(LOGS, mimecast.now(), &crate::client::guid());
    let got = client.send("POST", LOGS, &headers, Some(request("json", false, Some(&token)).to_string())).await;
    assert_eq!(got.code(), "err_audit_siem_invalid_token");
    let link = page["value"][0]["url"].as_str().unwrap();
    assert_eq!(client.download(link).await.status, 403);
}

#[tokio::test]
async fn api_2_pages_through_signed_links() {
    let mimecast = Mimecast::start().await.unwrap();
    let client = Client::new(&mimecast);
    for n in 0..5 {
        mimecast.push_siem("url protect", lines(&[&format!("{{\"n\": {n}}}"), "\u{2028}not json", ""]));
        mimecast.push_siem("spam", lines(&["{}"]));
    }
    mimecast.push_siem("something new", lines(&[r#"{"type":"something new"}"#]));
    let (mut query, mut contents, mut sizes) =
        (format!("type=url+protect&pageSize=2&{}", two_days()), Vec::new(), Vec::new());
    let token = loop {
        let page = client.batch(&query).await.json();
        let links = page["value"].as_array().unwrap();
        sizes.push(links.len());
        for link in links {
            let got = client.download(link["url"].as_str().unwrap()).await;
            assert_eq!((got.status, link["size"].as_u64().unwrap()), (200, got.body.len() as u64));
            contents.push(String::from_utf8(got.gunzip()).unwrap());
        }
        let token = page["@nextPage"].as_str().unwrap().to_owned();
        if page["isCaughtUp"] == true {
            break token;
        }
        query = format!("type=url%20protect&pageSize=2&nextPage={token}");
    };
    assert_eq!(sizes, [2, 2, 1]);
    for (n, content) in contents.iter().enumerate() {
        assert_eq!(content.trim_end(), format!("{{\"n\": {n}}}\n\u{2028}not json"));
    }
    let page = client.batch(&format!("type=url+protect&nextPage={token}")).await.json();
    assert_eq!(page, json!({"value": [], "@nextPage": token, "isCaughtUp": true}), "the token stays");
    mimecast.push_siem("url protect", lines(&["{}"]));
    let page = client.batch(&format!("type=url+protect&nextPage={token}")).await.json();
    assert_eq!(page["value"].as_array().unwrap().len(), 1);
    let page = client.batch(&format!("type=receipt&{}", two_days())).await.json();
    assert_eq!(page["value"].as_array().unwrap().len(), 1, "a type that cannot be asked for");

    let got = client.batch(&format!("type=spam&nextPage={token}")).await;
    assert_eq!((got.status, got.code().as_str()), (400, "err_validation"), "a token of another type");
    for bad in [
        format!("type=spam,receipt&{}", two_days()),
        format!("type=spam&type=av&{}", two_days()),
        format!("type=spam&pageSize=0&{}", two_days()),
        format!("type=spam&pageSize=101&{}", two_days()),
        format!("type=spam&page=1&{}", two_days()),
        two_days(),
        "type=spam&dateRangeStartsAt=2024-1-1&dateRangeEndsAt=2024-01-02".to_owned(),
        format!("type=spam&dateRangeStartsAt={}&dateRangeEndsAt=x", Utc::now().format("%Y-%m-%dT00:00:00Z")),
    ] {
        let got = client.batch(&bad).await;
        assert_eq!(got.status, 400, "{bad}");
        assert!(got.json()["error"]["message"].is_string());
    }
}

#[tokio::test]
async fn cloud_integrated_is_another_listing_of_api_2_alone() {
    let mimecast = Mimecast::start().await.unwrap();
    let client = Client::new(&mimecast);
    mimecast.push_siem("entities", lines(&["{\"n\":1}"]));
    mimecast.push_siem("receipt", lines(&["{\"n\":2}"]));
    let ci = async |kind: &str| {
        let path = format!("/siem/v1/batch/events/ci?type={kind}&{}", two_days());
        client.send("GET", &path, &client.bearer().await, None).await
    };
    let links = ci("entities").await.json()["value"].as_array().unwrap().clone();
    assert_eq!(links.len(), 1);
    let file = client.download(links[0]["url"].as_str().unwrap()).await.gunzip();
    assert_eq!(String::from_utf8(file).unwrap().trim_end(), "{\"n\":1}");
    assert_eq!(mimecast.requests().iter().filter(|request| request.source == "siemci").count(), 1);
    assert_eq!(ci("receipt").await.status, 400);
    assert_eq!(client.batch(&format!("type=entities&{}", two_days())).await.status, 400);
    let answer = client.v1(LOGS, request("json", true, None)).await.unzip();
    assert_eq!(answer.len(), 1, "API 1.0 has what is of the gateway");
    assert!(answer[0].0.starts_with("receipt_"));
}

#[tokio::test]
async fn links_are_strict() {
    let mimecast = Mimecast::start().await.unwrap();
    let client = Client::new(&mimecast);
    mimecast.push_siem("av", lines(&["{}"]));
    mimecast.siem_mode(SiemMode { duplicate_links: true, ..SiemMode::default() });
    let query = format!("type=av&{}", two_days());
    let page = client.batch(&query).await.json();
    let (link, twin) = (page["value"][0]["url"].as_str().unwrap(), page["value"][1]["url"].as_str().unwrap());
    assert_ne!(link, twin);
    assert_eq!(link.split('?').next(), twin.split('?').next());
    assert_eq!(client.download(link).await.body, client.download(twin).await.body);
    assert_eq!(client.send("GET", link, &client.bearer().await, None).await.status, 400);
    assert_eq!(client.download(link.split('?').next().unwrap()).await.status, 403);
    assert_eq!(client.download(&link.replace("X-Amz-Expires=300", "X-Amz-Expires=900")).await.status, 403);
    assert_eq!(client.send("POST", link, &[], None).await.status, 405);
    let expiry = page["value"][0]["expiry"].as_str().unwrap();
    let left = chrono::DateTime::parse_from_rfc3339(expiry).unwrap().to_utc() - Utc::now();
    assert!((200..=300).contains(&left.num_seconds()), "{expiry}");
    mimecast.set_clock_offset(301);
    let got = client.download(link).await;
    assert_eq!(got.status, 403);
    assert!(got.text().contains("Request has expired"));
    mimecast.siem_mode(SiemMode { link_life: Duration::ZERO, ..SiemMode::default() });
    let page = client.batch(&query).await.json();
    assert_eq!(client.download(page["value"][0]["url"].as_str().unwrap()).await.status, 403);
}
