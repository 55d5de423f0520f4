//! A client for the tests, written from the API's description and straight to the point.

use std::io::{Cursor, Read};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, TimeDelta, Utc};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json, value::RawValue};
use simulator::Mimecast;

pub const AUDIT: &str = "/api/audit/get-audit-events";
pub const CLICKS: &str = "/api/ttp/url/get-logs";
pub const LOGS: &str = "/api/audit/get-siem-logs";
pub const BATCH: &str = "/siem/v1/batch/events/cg";
pub const FEED: &str = "/api/ttp/threat-intel/get-feed";

pub struct Client {
    pub http: reqwest::Client,
    pub base_url: String,
    pub secret_v1: Value,
    pub secret_v2: Value,
}

pub struct Got {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: Vec<u8>,
}

impl Got {
    pub fn json(&self) -> Value {
        // The data set has a string that is cut within a surrogate pair: good JSON, but no text for serde.
        let whole = self.text().replace("cut in half \\ud83d", "cut in half");
        serde_json::from_str(&whole).unwrap_or_else(|error| panic!("{error}: {whole}"))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The code of the one `fail`, in either shape.
    pub fn code(&self) -> String {
        let body = self.json();
        let fail = &body["fail"][0];
        let code = if fail["code"].is_null() { &fail["errors"][0]["code"] } else { &fail["code"] };
        code.as_str().unwrap_or_default().to_owned()
    }

    /// The members of the object at the top, as written.
    pub fn member(&self, name: &str) -> Box<RawValue> {
        let mut members: std::collections::HashMap<String, Box<RawValue>> = serde_json::from_slice(&self.body).unwrap();
        members.remove(name).unwrap()
    }

    /// The rows of a page, as written.
    pub fn rows(&self, list: Option<&str>) -> Vec<String> {
        let data: Vec<Box<RawValue>> = serde_json::from_str(self.member("data").get()).unwrap();
        let rows = match list {
            None => data,
            Some(list) => data.first().map_or(Vec::new(), |first| {
                let mut lists: std::collections::HashMap<String, Box<RawValue>> =
                    serde_json::from_str(first.get()).unwrap();
                serde_json::from_str(lists.remove(list).unwrap().get()).unwrap()
            }),
        };
        rows.iter().map(|row| row.get().to_owned()).collect()
    }

    pub fn next(&self) -> Option<String> {
        self.json()["meta"]["pagination"]["next"].as_str().map(str::to_owned)
    }

    /// The files of a zip, by name.
    pub fn unzip(&self) -> Vec<(String, Vec<u8>)> {
        let mut archive = zip::ZipArchive::new(Cursor::new(&self.body)).unwrap();
        let mut files = Vec::new();
        for index in 0..archive.len() {
            let mut file = archive.by_index(index).unwrap();
            let mut content = Vec::new();
            file.read_to_end(&mut content).unwrap();
            files.push((file.name().unwrap().into_owned(), content));
        }
        files
    }

    pub fn gunzip(&self) -> Vec<u8> {
        let mut content = Vec::new();
        flate2::read::MultiGzDecoder::new(self.body.as_slice()).read_to_end(&mut content).unwrap();
        content
    }
}

impl Client {
    pub fn new(mimecast: &Mimecast) -> Self {
        Self {
            http: reqwest::Client::new(),
            base_url: mimecast.base_url(),
            secret_v1: serde_json::from_str(&mimecast.secret_v1()).unwrap(),
            secret_v2: serde_json::from_str(&mimecast.secret_v2()).unwrap(),
        }
    }

    pub fn text(secret: &Value, key: &str) -> String {
        secret[key].as_str().unwrap().to_owned()
    }

    /// The four headers of a signed request.
    pub fn signed(&self, path: &str, date: DateTime<Utc>, request_id: &str) -> Vec<(String, String)> {
        let secret = |key| Self::text(&self.secret_v1, key);
        let date = date.format("%a, %d %b %Y %H:%M:%S UTC").to_string();
        let key = STANDARD.decode(secret("secret_key")).unwrap();
        let mut mac = Hmac::<sha1::Sha1>::new_from_slice(&key).unwrap();
        mac.update(format!("{date}:{request_id}:{path}:{}", secret("app_key")).as_bytes());
        let signature = STANDARD.encode(mac.finalize().into_bytes());
        vec![
            ("authorization".into(), format!("MC {}:{signature}", secret("access_key"))),
            ("x-mc-app-id".into(), secret("app_id")),
            ("x-mc-date".into(), date),
            ("x-mc-req-id".into(), request_id.into()),
        ]
    }

    pub async fn send(&self, method: &str, url: &str, headers: &[(String, String)], body: Option<String>) -> Got {
        self.try_send(method, url, headers, body).await.unwrap()
    }

    pub async fn try_send(
        &self,
        method: &str,
        url: &str,
        headers: &[(String, String)],
        body: Option<String>,
    ) -> reqwest::Result<Got> {
        let url = if url.starts_with('/') { format!("{}{url}", self.base_url) } else { url.to_owned() };
        let mut request = self.http.request(method.parse().unwrap(), url);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        if let Some(body) = body {
            if !headers.iter().any(|(name, _)| name == "content-type") {
                request = request.header("content-type", "application/json");
            }
            request = request.body(body);
        }
        let answer = request.send().await?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Ok(Got { status, headers, body: answer.bytes().await?.to_vec() })
    }

    /// A call of API 1.0.
    pub async fn v1(&self, path: &str, body: Value) -> Got {
        let headers = self.signed(path, Utc::now(), &guid());
        self.send("POST", path, &headers, Some(body.to_string())).await
    }

    /// Asks for a token.
    pub async fn token(&self) -> Got {
        let secret = |key| Self::text(&self.secret_v2, key).replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
        let form = format!(
            "grant_type=client_credentials&client_id={}&client_secret={}",
            secret("client_id"),
            secret("client_secret")
        );
        self.form(&form).await
    }

    pub async fn form(&self, form: &str) -> Got {
        let headers = [("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned())];
        self.send("POST", "/oauth/token", &headers, Some(form.to_owned())).await
    }

    /// The header of API 2.0, with a new token.
    pub async fn bearer(&self) -> Vec<(String, String)> {
        let token = self.token().await.json();
        vec![("authorization".to_owned(), format!("Bearer {}", token["access_token"].as_str().unwrap()))]
    }

    /// A `/api` call of API 2.0.
    pub async fn v2(&self, path: &str, body: Value) -> Got {
        self.send("POST", path, &self.bearer().await, Some(body.to_string())).await
    }

    pub async fn batch(&self, query: &str) -> Got {
        self.send("GET", &format!("{BATCH}?{query}"), &self.bearer().await, None).await
    }

    pub async fn download(&self, link: &str) -> Got {
        self.send("GET", link, &[], None).await
    }
}

/// A request's body for one page.
pub fn page(item: Value, size: usize, token: Option<&str>) -> Value {
    let mut paging = json!({"pageSize": size});
    if let Some(token) = token {
        paging["pageToken"] = token.into();
    }
    json!({"meta": {"pagination": paging}, "data": [item]})
}

pub fn date(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%dT%H:%M:%S+0000").to_string()
}

/// A window of the last day.
pub fn day(start: &str, end: &str) -> Value {
    json!({start: date(Utc::now() - TimeDelta::hours(24)), end: date(Utc::now())})
}

/// The dates of yesterday and today, so that a test may run over midnight.
pub fn two_days() -> String {
    let (from, to) = (Utc::now() - TimeDelta::days(1), Utc::now());
    format!("dateRangeStartsAt={}&dateRangeEndsAt={}", from.format("%Y-%m-%d"), to.format("%Y-%m-%d"))
}

pub fn guid() -> String {
    let hex = format!("{:032x}", fastrand::u128(..));
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// The elements of a list in a JSON file, as written.
pub fn elements(file: &[u8], list: &str) -> Vec<String> {
    let mut members: std::collections::HashMap<String, Box<RawValue>> = serde_json::from_slice(file).unwrap();
    let elements: Vec<Box<RawValue>> = serde_json::from_str(members.remove(list).unwrap().get()).unwrap();
    elements.iter().map(|element| element.get().to_owned()).collect()
}
