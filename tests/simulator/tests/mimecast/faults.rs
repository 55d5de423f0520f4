use std::time::Duration;

use chrono::{TimeDelta, Utc};
use serde_json::json;
use simulator::Mimecast;
use simulator::mimecast::{Fault, FaultKind};

use crate::client::{AUDIT, CLICKS, Client, LOGS, date, day, guid, page, two_days};

async fn account() -> (Mimecast, Client) {
    let mimecast = Mimecast::start().await.unwrap();
    for n in 0..40 {
        let row = format!(r#"{{"n":{n},"subject":"{}"}}"#, "x".repeat(60));
        mimecast.push("url", Utc::now() - TimeDelta::minutes(n + 1), row);
    }
    let client = Client::new(&mimecast);
    (mimecast, client)
}

#[tokio::test]
async fn a_fault_strikes_the_calls_it_is_meant_for() {
    let (mimecast, client) = account().await;
    mimecast.fault(Fault::new("/api/ttp/url", FaultKind::Html503).skip(1).times(2));
    mimecast.fault(Fault::new("startDateTime", FaultKind::Garbage).forever());
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(client.v2(CLICKS, json!({"data": []})).await.status);
    }
    assert_eq!(statuses, [200, 503, 503, 200]);
    for _ in 0..3 {
        let got = client.v1(AUDIT, json!({"data": [day("startDateTime", "endDateTime")]})).await;
        assert_eq!(got.status, 200);
        assert!(serde_json::from_slice::<serde_json::Value>(&got.body).is_err());
    }
    mimecast.clear_faults();
    client.v1(AUDIT, json!({"data": [day("startDateTime", "endDateTime")]})).await.json();
    let log = mimecast.requests();
    let tokens = log.iter().filter(|request| request.source == "oauth").count();
    let failed = log.iter().filter(|request| request.status == 503).count();
    assert_eq!((log.len(), tokens, failed), (12, 4, 2));
    assert!(log.last().unwrap().body.contains("startDateTime"));
    mimecast.clear_requests();
    assert!(mimecast.requests().is_empty());
}

#[tokio::test]
async fn whole_answers_are_replaced() {
    let (mimecast, client) = account().await;
    let call = async |kind: FaultKind| {
        mimecast.fault(Fault::new(CLICKS, kind));
        client.v1(CLICKS, page(day("from", "to"), 10, None)).await
    };
    let got = call(FaultKind::rate_limited(Duration::from_millis(2500))).await;
    assert_eq!((got.status, got.header("x-ratelimit-reset")), (429, Some("2500")));
    let got = call(FaultKind::status(502)).await;
    assert_eq!((got.status, got.header("x-ratelimit-reset"), got.text().as_str()), (502, None, "{}"));
    let got = call(FaultKind::binding_expired()).await;
    assert_eq!((got.status, got.code().as_str()), (418, "err_xdk_binding_expired"));
    let got = call(FaultKind::EmptyBody).await;
    assert_eq!((got.status, got.body.len()), (200, 0));
    let got = call(FaultKind::FailOn200 { code: "err_x".into(), message: "y".into() }).await;
    assert_eq!((got.status, got.code().as_str()), (200, "err_x"));
    let got = call(FaultKind::MetaStatus404).await;
    assert_eq!((got.status, got.json()["meta"]["status"].as_u64()), (200, Some(404)));
    let got = call(FaultKind::TokenExpired).await;
    assert_eq!((got.status, got.code().as_str()), (401, "token_expired"));
    let started = tokio::time::Instant::now();
    let got = call(FaultKind::Hang(Duration::from_millis(30))).await;
    assert!(got.status == 200 && started.elapsed() >= Duration::from_millis(30));
}

#[tokio::test]
async fn right_answers_are_spoilt() {
    let (mimecast, client) = account().await;
    let item = day("from", "to");
    let call = async |kind: Option<FaultKind>| {
        if let Some(kind) = kind {
            mimecast.fault(Fault::new(CLICKS, kind));
        }
        client.v1(CLICKS, page(item.clone(), 500, None)).await
    };
    let good = call(None).await;
    assert!(good.body.len() > 3000);
    let got = call(Some(FaultKind::Truncated)).await;
    assert!((1400..good.body.len()).contains(&got.body.len()));
    let got = call(Some(FaultKind::NonUtf8)).await;
    assert_eq!(got.body.iter().filter(|byte| **byte == 0xff).count(), 1);
    let got = call(Some(FaultKind::FailWithData { code: "err_part".into(), message: "m".into() })).await;
    assert_eq!((got.code().as_str(), got.rows(Some("clickLogs")).len()), ("err_part", 40));

    let first = client.v1(CLICKS, page(item.clone(), 10, None)).await.next().unwrap();
    mimecast.fault(Fault::new(CLICKS, FaultKind::RefusePageToken));
    assert_eq!(client.v1(CLICKS, page(item.clone(), 10, None)).await.json()["fail"], json!([]), "has no page token");
    assert_eq!(client.v1(CLICKS, page(item.clone(), 10, Some(&first))).await.code(), "err_validation");

    mimecast.fault(Fault::new(CLICKS, FaultKind::NoPagination));
    assert!(call(None).await.json()["meta"]["pagination"].is_null());
    mimecast.fault(Fault::new(CLICKS, FaultKind::EmptyPageWithNext).times(2));
    let next = call(None).await.next().unwrap();
    let got = client.v1(CLICKS, page(item.clone(), 500, Some(&next))).await;
    assert_eq!(got.json()["meta"]["pagination"]["pageSize"], 0);
    assert!(got.next().is_some());
    assert_eq!(client.v1(CLICKS, page(item.clone(), 500, got.next().as_deref())).await.next(), None);

    mimecast.fault(Fault::new(CLICKS, FaultKind::WrongTotal(-3)));
    let got = call(None).await;
    assert_eq!(got.json()["meta"]["pagination"]["totalCount"], 37);
    assert_eq!(got.rows(Some("clickLogs")).len(), 40);
}

#[tokio::test]
async fn connections_break() {
    let (mimecast, client) = account().await;
    let call = async || {
        let headers = client.signed(CLICKS, Utc::now(), &guid());
        let body = page(day("from", "to"), 500, None).to_string();
        client.try_send("POST", CLICKS, &headers, Some(body)).await
    };
    mimecast.fault(Fault::new(CLICKS, FaultKind::CutBody));
    assert!(!call().await.err().unwrap().is_request(), "the head came, the body broke");
    assert_eq!(mimecast.requests()[0].status, 200);
    mimecast.fault(Fault::new(CLICKS, FaultKind::ResetBeforeAnswer));
    assert!(call().await.err().unwrap().is_request());
    assert_eq!(mimecast.requests().last().unwrap().status, 0);
    assert_eq!(call().await.unwrap().rows(Some("clickLogs")).len(), 40);
    mimecast.fault(Fault::new(CLICKS, FaultKind::ResetAfterHead));
    let error = call().await.err().unwrap();
    assert!(!error.is_request(), "the head came");
    let mut causes = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
    assert!(causes.any(|cause| cause.to_string().contains("reset")), "{error:?}");
    mimecast.fault(Fault::new(CLICKS, FaultKind::SlowBody(Duration::from_millis(400))));
    let started = tokio::time::Instant::now();
    assert_eq!(call().await.unwrap().rows(Some("clickLogs")).len(), 40);
    assert!(started.elapsed() >= Duration::from_millis(300));
    assert_eq!(mimecast.struck(), 4);
    let base_url = mimecast.base_url();
    drop(mimecast);
    assert!(client.try_send("GET", &base_url, &[], None).await.is_err());
}

#[tokio::test]
async fn archives_and_links_break() {
    let (mimecast, client) = account().await;
    for _ in 0..2 {
        mimecast.push_siem("receipt", vec![b"{\"some\":\"line\"}".to_vec(); 20]);
    }
    let item = json!({"data": [{"type": "MTA", "fileFormat": "json", "compress": true}]});
    mimecast.fault(Fault::new(LOGS, FaultKind::CorruptZip));
    let broken = client.v1(LOGS, item.clone()).await;
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(&broken.body)).unwrap();
    assert!(std::io::copy(&mut archive.by_index(0).unwrap(), &mut std::io::sink()).is_err());
    drop(archive);
    let good = client.v1(LOGS, item).await;
    assert_eq!(good.unzip().len(), 2);
    let token = good.header("mc-siem-token").unwrap();
    mimecast.fault(Fault::new(LOGS, FaultKind::RefuseSiemToken));
    let item = json!({"data": [{"type": "MTA", "fileFormat": "json", "compress": true, "token": token}]});
    let got = client.v1(LOGS, item).await;
    assert_eq!((got.status, got.code().as_str()), (200, "err_audit_siem_invalid_token"));

    let page = client.batch(&format!("type=receipt&{}", two_days())).await.json();
    let link = page["value"][0]["url"].as_str().unwrap();
    mimecast.fault(Fault::new("", FaultKind::ExpiredLink));
    assert_eq!(client.download(link).await.status, 403);
    mimecast.fault(Fault::new("/siem/v1", FaultKind::EmptyPageWithNext));
    let empty = client.batch(&format!("type=receipt&{}", two_days())).await.json();
    assert_eq!((&empty["value"], &empty["isCaughtUp"]), (&json!([]), &json!(false)));
    let after = client.batch(&format!("type=receipt&nextPage={}", empty["@nextPage"].as_str().unwrap())).await.json();
    assert_eq!(after["value"].as_array().map(Vec::len), page["value"].as_array().map(Vec::len));
    mimecast.fault(Fault::new("/files/", FaultKind::CorruptZip));
    let got = client.download(link).await;
    let mut reader = flate2::read::MultiGzDecoder::new(got.body.as_slice());
    assert!(std::io::copy(&mut reader, &mut std::io::sink()).is_err());
    assert_eq!(
        client.download(link).await.gunzip().split(|byte| *byte == b'\n').next().unwrap(),
        b"{\"some\":\"line\"}"
    );
}

#[tokio::test]
async fn something_in_between_answers() {
    let (mimecast, client) = account().await;
    mimecast.push_siem("receipt", vec![b"{}".to_vec()]);
    let link = client.batch(&format!("type=receipt&{}", two_days())).await.json()["value"][0]["url"].clone();
    for (kind, content_type, text) in
        [(FaultKind::Html200, "text/html", "<!DOCTYPE html>"), (FaultKind::Xml200, "application/xml", "<Error><Code>")]
    {
        mimecast.fault(Fault::new("", kind).times(2));
        let file = client.download(link.as_str().unwrap()).await;
        let answer = client.v1(CLICKS, json!({"data": []})).await;
        for got in [file, answer] {
            assert_eq!((got.status, got.header("content-type")), (200, Some(content_type)));
            assert!(got.text().contains(text));
        }
    }
}

#[tokio::test]
async fn links_lead_elsewhere() {
    let (mimecast, mut client) = account().await;
    for n in 0..2 {
        mimecast.push_siem("receipt", vec![format!("{{\"n\":{n}}}").into_bytes()]);
    }
    let page = client.batch(&format!("type=receipt&{}", two_days())).await.json();
    let links: Vec<&str> = page["value"].as_array().unwrap().iter().map(|link| link["url"].as_str().unwrap()).collect();
    let path = |link: &str| link.split('?').next().unwrap().strip_prefix(&mimecast.base_url()).unwrap().to_owned();
    mimecast.fault(Fault::new(&path(links[0]), FaultKind::Redirect).times(2));
    assert_eq!(client.download(links[0]).await.gunzip(), b"{\"n\":0}\n");
    client.http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let got = client.download(links[0]).await;
    let target = got.header("location").unwrap().to_owned();
    assert_eq!((got.status, target.starts_with("/moved/files/")), (307, true));
    let headers = client.bearer().await;
    assert_eq!(client.send("GET", &target, &headers, None).await.status, 400, "as strict as the link itself");
    assert_eq!(client.download(target.split('?').next().unwrap()).await.status, 403);

    mimecast.fault(Fault::new(&path(links[1]), FaultKind::RedirectToItself).forever());
    let got = client.download(links[1]).await;
    assert_eq!((got.status, got.header("location")), (307, links[1].strip_prefix(&mimecast.base_url())));
    assert_eq!(client.download(links[0]).await.status, 200, "the other one is not touched");
}

#[tokio::test]
async fn answers_take_their_time_side_by_side() {
    let (mimecast, client) = account().await;
    mimecast.push_siem("receipt", vec![b"{}".to_vec()]);
    let link = client.batch(&format!("type=receipt&{}", two_days())).await.json()["value"][0]["url"].clone();
    let link = link.as_str().unwrap();
    assert_eq!(mimecast.most_in_flight(), 1);
    mimecast.set_latency(Duration::from_millis(200));
    let started = tokio::time::Instant::now();
    assert_eq!(client.download(link).await.status, 200);
    assert!(started.elapsed() < Duration::from_millis(200), "a file is not of the API");
    let call = async || client.v1(CLICKS, json!({"data": []})).await.status;
    let started = tokio::time::Instant::now();
    let statuses: [u16; 4] = tokio::join!(call(), call(), call(), call()).into();
    assert_eq!(statuses, [200; 4]);
    assert!((Duration::from_millis(200)..Duration::from_millis(800)).contains(&started.elapsed()));
    assert_eq!(mimecast.most_in_flight(), 4);
    mimecast.set_file_latency(Duration::from_millis(200));
    let started = tokio::time::Instant::now();
    assert_eq!(client.download(link).await.status, 200);
    assert!(started.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn quotas_permissions_and_manners() {
    let (mimecast, client) = account().await;
    let call = async || client.v1(CLICKS, json!({"data": []})).await;
    mimecast.set_quota("/api/ttp", 2, Duration::from_secs(60));
    assert_eq!(call().await.header("x-ratelimit-remaining"), Some("1"));
    assert_eq!(call().await.header("x-ratelimit-remaining"), Some("0"));
    let got = call().await;
    assert_eq!(
        (got.status, got.header("x-ratelimit-limit"), got.header("x-ratelimit-remaining")),
        (429, Some("2"), Some("0"))
    );
    let reset: u64 = got.header("x-ratelimit-reset").unwrap().parse().unwrap();
    assert!((2_000..=60_000).contains(&reset), "milliseconds");
    assert_eq!(mimecast.over_quota(), 1);
    mimecast.set_quota("/api/ttp", 1, Duration::from_millis(20));
    assert_eq!(call().await.status, 200);
    tokio::time::sleep(Duration::from_millis(25)).await;
    assert_eq!(call().await.status, 200);
    mimecast.set_quota("/api/ttp", u64::MAX, Duration::from_secs(60));

    // Whatever the answer, its headers are true, and by the tightest quota.
    mimecast.set_quota("/api/ttp/url", 5, Duration::from_secs(60));
    mimecast.deny("/api/ttp/url");
    let got = call().await;
    assert_eq!((got.status, got.header("x-ratelimit-remaining")), (403, Some("4")));
    let got = client.send("POST", CLICKS, &[], Some("{}".into())).await;
    assert_eq!((got.status, got.header("x-ratelimit-remaining")), (400, Some("4")), "not signed, not counted");
    mimecast.set_quota("/api/ttp/url", u64::MAX, Duration::from_secs(60));
    assert_eq!(mimecast.over_quota(), 1);
    mimecast.allow("/api/ttp/url");
    assert_eq!(call().await.status, 200);

    let mut headers = client.signed(CLICKS, Utc::now(), &guid());
    headers.push(("accept-encoding".into(), "gzip, zstd".into()));
    assert_eq!(client.send("POST", CLICKS, &headers, Some(json!({"data": []}).to_string())).await.status, 500);
    assert_eq!(client.v1("/api/ttp/url/get-log", json!({"data": []})).await.status, 404);
    let got = client.v1(CLICKS, json!({"data": [{"from": date(Utc::now() - TimeDelta::hours(1))}]})).await;
    assert!(got.header("x-request-id").is_some() && got.header("date").is_some());
    assert_eq!(got.header("x-ratelimit-limit"), Some(u64::MAX.to_string().as_str()));
}

#[tokio::test]
async fn large_answers_are_packed_where_the_client_offers_it() {
    let (_mimecast, mut client) = account().await;
    client.http = reqwest::Client::builder().no_gzip().no_deflate().build().unwrap();
    let body = page(day("from", "to"), 500, None).to_string();
    for (offered, packed) in [("gzip, deflate", true), ("identity", false)] {
        let mut headers = client.signed(CLICKS, Utc::now(), &guid());
        headers.push(("accept-encoding".into(), offered.into()));
        let got = client.send("POST", CLICKS, &headers, Some(body.clone())).await;
        assert_eq!(got.header("content-encoding").is_some(), packed);
        let text = if packed { got.gunzip() } else { got.body };
        assert!(serde_json::from_slice::<serde_json::Value>(&text).is_ok());
    }
}
