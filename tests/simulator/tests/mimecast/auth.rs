use chrono::{TimeDelta, Utc};
use serde_json::json;
use simulator::Mimecast;

use crate::client::{AUDIT, BATCH, CLICKS, Client, LOGS, day, guid, two_days};

fn body() -> Option<String> {
    Some(json!({"data": [day("startDateTime", "endDateTime")]}).to_string())
}

#[tokio::test]
async fn a_signature_counts_once_in_its_time_and_on_its_path() {
    let mimecast = Mimecast::start().await.unwrap();
    let client = Client::new(&mimecast);
    let post = |headers: Vec<(String, String)>| {
        let client = &client;
        async move { client.send("POST", AUDIT, &headers, body()).await }
    };

    let headers = client.signed(AUDIT, Utc::now(), &guid());
    let got = post(headers.clone()).await;
    assert_eq!((got.status, got.json()["fail"].clone()), (200, json!([])));
    let got = post(headers).await;
    assert_eq!((got.status, got.code().as_str()), (400, "err_validation"), "the same request again");

    for minutes in [-16, 16] {
        let got = post(client.signed(AUDIT, Utc::now() + TimeDelta::minutes(minutes), &guid())).await;
        assert_eq!((got.status, got.code().as_str()), (401, "err_xdk_invalid_signature"), "{minutes} minutes off");
        assert_eq!(got.json()["fail"][0]["errors"][0]["message"], "0004 Invalid Signature");
    }
    mimecast.set_clock_offset(16 * 60);
    let got = post(client.signed(AUDIT, Utc::now() + TimeDelta::minutes(16), &guid())).await;
    assert_eq!(got.status, 200, "the server's clock is what counts");
    let ahead = chrono::DateTime::parse_from_rfc2822(got.header("date").unwrap()).unwrap().to_utc() - Utc::now();
    assert!((900..=960).contains(&ahead.num_seconds()), "{ahead}");
    mimecast.set_clock_offset(0);

    let got = post(client.signed("/api/audit/get-audit-event", Utc::now(), &guid())).await;
    assert_eq!(got.status, 401, "signed for another path");
    let got = post(client.signed(AUDIT, Utc::now(), "not a guid")).await;
    assert_eq!(got.status, 400);
}

#[tokio::test]
async fn every_part_of_a_signed_request_is_needed() {
    let mimecast = Mimecast::start().await.unwrap();
    let client = Client::new(&mimecast);
    for missing in 0..4 {
        let mut headers = client.signed(AUDIT, Utc::now(), &guid());
        headers.remove(missing);
        assert_eq!(client.send("POST", AUDIT, &headers, body()).await.status, 400);
    }
    type Change = fn(&str) -> String;
    let changes: [(usize, Change, u16); 5] = [
        (0, |value| value.replace("MC ", "MC x"), 401),
        (0, |value| value.replace("MC ", "Basic "), 401),
        (0, |value| value.replace(":", ":A"), 401),
        (1, |_| guid(), 200),
        (2, |value| value.replace("UTC", "GMT"), 401),
    ];
    for (index, change, status) in changes {
        let mut headers = client.signed(AUDIT, Utc::now(), &guid());
        headers[index].1 = change(&headers[index].1);
        let got = client.send("POST", AUDIT, &headers, body()).await;
        assert_eq!(got.status, status, "{}", headers[index].1);
        assert!(["err_developer_key", "err_xdk_invalid_signature", "err_xdk_auth_type"].contains(&got.code().as_str()));
    }
    let mut headers = client.signed(AUDIT, Utc::now(), &guid());
    assert_eq!(client.send("GET", AUDIT, &headers, None).await.status, 405);
    headers.push(("content-type".into(), "text/plain".into()));
    assert_eq!(client.send("POST", AUDIT, &headers, body()).await.status, 415);
}

#[tokio::test]
async fn rotated_keys_are_refused() {
    let mimecast = Mimecast::start().await.unwrap();
    let old = Client::new(&mimecast);
    let body = json!({"data": [day("startDateTime", "endDateTime")]});
    let bearer = old.bearer().await;
    mimecast.rotate_v1();
    mimecast.rotate_v2();
    assert_eq!(old.v1(AUDIT, body.clone()).await.code(), "err_xdk_invalid_signature");
    let got = old.send("POST", AUDIT, &bearer, Some(body.to_string())).await;
    assert_eq!((got.status, got.code().as_str()), (401, "invalid_access_token"));
    assert_eq!(old.token().await.status, 401);
    let new = Client::new(&mimecast);
    assert_eq!(new.v1(AUDIT, body.clone()).await.status, 200);
    assert_eq!(new.v2(AUDIT, body).await.status, 200);
}

#[tokio::test]
async fn a_token_is_given_for_the_three_fields_alone() {
    let mimecast = Mimecast::start().await.unwrap();
    let client = Client::new(&mimecast);
    let token = client.token().await.json();
    assert_eq!((token["expires_in"].clone(), token["token_type"].clone()), (json!(1799), json!("Bearer")));

    let id = Client::text(&client.secret_v2, "client_id");
    for form in [
        format!("grant_type=client_credentials&client_id={id}"),
        "grant_type=password&client_id=a&client_secret=b".to_owned(),
        "grant_type=client_credentials&client_id=a&client_secret=b&scope=c".to_owned(),
    ] {
        assert_eq!(client.form(&form).await.status, 400, "{form}");
    }
    let got = client.form("grant_type=client_credentials&client_id=a&client_secret=b").await;
    assert_eq!((got.status, got.code().as_str()), (401, "invalid_client"));
    assert_eq!(client.send("POST", "/oauth/token", &[], Some("{}".into())).await.status, 415);
    assert_eq!(client.send("GET", "/oauth/token", &[], None).await.status, 405);
}

#[tokio::test]
async fn tokens_expire() {
    let mimecast = Mimecast::start().await.unwrap();
    let client = Client::new(&mimecast);
    let body = Some(json!({"data": []}).to_string());
    let bearer = client.bearer().await;
    assert_eq!(client.send("POST", CLICKS, &bearer, body.clone()).await.status, 200);
    mimecast.set_clock_offset(1800);
    assert_eq!(client.send("POST", CLICKS, &bearer, body.clone()).await.code(), "token_expired");
    mimecast.set_clock_offset(0);
    mimecast.expire_tokens();
    let got = client.send("POST", CLICKS, &bearer, body.clone()).await;
    assert_eq!((got.status, got.code().as_str()), (401, "token_expired"));
    assert_eq!(client.send("POST", CLICKS, &client.bearer().await, body).await.status, 200);
}

#[tokio::test]
async fn each_siem_function_has_one_kind_of_credentials() {
    let mimecast = Mimecast::start().await.unwrap();
    let client = Client::new(&mimecast);
    let item = json!({"data": [{"type": "MTA", "fileFormat": "json", "compress": true}]});
    assert_eq!(client.v1(LOGS, item.clone()).await.status, 200);
    assert_ne!(client.v2(LOGS, item).await.status, 200);
    let query = format!("type=av&{}", two_days());
    assert_eq!(client.batch(&query).await.status, 200);
    let headers = client.signed(BATCH, Utc::now(), &guid());
    let got = client.send("GET", &format!("{BATCH}?{query}"), &headers, None).await;
    assert_eq!((got.status, got.code().as_str()), (401, "unauthorized"));
}
