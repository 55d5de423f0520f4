//! Credentials: the signature of API 1.0 and the bearer tokens of API 2.0.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{NaiveDateTime, TimeDelta};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::json;
use sha1::Sha1;

use super::answer::Answer;
use super::server::{Call, pairs};
use super::state::State;

/// How far `x-mc-date` may be from the server's clock. No source states the real limit; this is the one people quote.
const LARGEST_SKEW: TimeDelta = TimeDelta::minutes(15);
/// What the real token endpoint says in `expires_in`.
const TOKEN_LIFE: i64 = 1799;

/// Which API a call belongs to, by its credentials.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Version {
    One,
    Two,
}

/// Checks a call to a function that both APIs have.
pub(super) fn either(state: &mut State, call: &Call) -> Result<Version, Answer> {
    match call.header("authorization").split(' ').next() {
        Some("Bearer") => bearer_only(state, call),
        _ => signed_only(state, call),
    }
}

/// Checks a call to a function of API 1.0.
pub(super) fn signed_only(state: &mut State, call: &Call) -> Result<Version, Answer> {
    post_of_json(call)?;
    for name in ["authorization", "x-mc-app-id", "x-mc-date", "x-mc-req-id"] {
        if call.header(name).is_empty() {
            return Err(Answer::fail(400, "err_validation_null", &format!("0001 {name} is missing")));
        }
    }
    let Some(credentials) = call.header("authorization").strip_prefix("MC ") else {
        return Err(Answer::fail(401, "err_xdk_auth_type", "0001 Authentication type is not supported"));
    };
    let (app_id, request_id) = (call.header("x-mc-app-id"), call.header("x-mc-req-id"));
    if app_id != state.keys_v1.app_id {
        // Recorded with this status.
        return Err(Answer::fail(200, "err_developer_key", &format!("App ID is invalid: {app_id}")));
    }
    if !is_guid(request_id) {
        return Err(Answer::invalid("x-mc-req-id is not a GUID"));
    }
    let date = call.header("x-mc-date");
    let refusal = || Answer::fail(401, "err_xdk_invalid_signature", "0004 Invalid Signature");
    let format = "%a, %d %b %Y %H:%M:%S UTC";
    let signed_at = NaiveDateTime::parse_from_str(date, format).map_err(|_| refusal())?.and_utc();
    if signed_at.format(format).to_string() != date || (state.now() - signed_at).abs() > LARGEST_SKEW {
        return Err(refusal());
    }
    let keys = &state.keys_v1;
    let expected = signature(&keys.secret_key, date, request_id, &call.path, &keys.app_key).ok_or_else(refusal)?;
    if credentials != format!("{}:{expected}", keys.access_key) {
        return Err(refusal());
    }
    if !state.request_ids.insert(request_id.to_lowercase()) {
        return Err(Answer::invalid("x-mc-req-id has been used before"));
    }
    Ok(Version::One)
}

/// Checks a call to a function of API 2.0.
pub(super) fn bearer_only(state: &mut State, call: &Call) -> Result<Version, Answer> {
    let Some(token) = call.header("authorization").strip_prefix("Bearer ") else {
        return Err(Answer::flat(401, "unauthorized", "No bearer token"));
    };
    match state.tokens.get(token) {
        None => return Err(Answer::flat(401, "invalid_access_token", "The access token is invalid")),
        Some(expiry) if *expiry <= state.now() => {
            return Err(Answer::flat(401, "token_expired", "The access token expired"));
        }
        Some(_) => {}
    }
    if call.path.starts_with("/api/") {
        post_of_json(call)?;
    } else if call.method != "GET" {
        return Err(Answer::flat(405, "method_not_allowed", "Use GET"));
    }
    Ok(Version::Two)
}

/// `POST /oauth/token`: client credentials in a form, nothing else.
pub(super) fn token(state: &mut State, call: &Call) -> Result<Answer, Answer> {
    if call.method != "POST" {
        return Err(Answer::flat(405, "method_not_allowed", "Use POST"));
    }
    let content_type = call.header("content-type").to_lowercase();
    if content_type.split(';').next() != Some("application/x-www-form-urlencoded") {
        return Err(Answer::flat(415, "unsupported_media_type", "Send a form"));
    }
    if !call.header("authorization").is_empty() {
        return Err(Answer::flat(400, "invalid_request", "Send the client's credentials in the form"));
    }
    let mut fields = pairs(&String::from_utf8_lossy(&call.body));
    fields.sort();
    let [(id, client_id), (secret, client_secret), (grant, grant_type)] = fields.as_slice() else {
        return Err(Answer::flat(400, "invalid_request", "Three fields are expected"));
    };
    if [id, secret, grant] != ["client_id", "client_secret", "grant_type"] || grant_type != "client_credentials" {
        return Err(Answer::flat(400, "invalid_request", "client_id, client_secret, grant_type=client_credentials"));
    }
    if *client_id != state.keys_v2.client_id || *client_secret != state.keys_v2.client_secret {
        return Err(Answer::flat(401, "invalid_client", "The client credentials are invalid"));
    }
    let token = state.issue_token(TimeDelta::seconds(TOKEN_LIFE));
    let body = json!({"access_token": token, "token_type": "Bearer", "expires_in": TOKEN_LIFE, "scope": ""});
    Ok(Answer::json(200, &body).with("cache-control", "no-store"))
}

/// HMAC-SHA1 over `date:request id:path:application key`; `None` where the key is no base64.
pub(super) fn signature(secret_key: &str, date: &str, request_id: &str, path: &str, app_key: &str) -> Option<String> {
    let key = STANDARD.decode(secret_key).ok()?;
    let mut mac = Hmac::<Sha1>::new_from_slice(&key).ok()?;
    mac.update(format!("{date}:{request_id}:{path}:{app_key}").as_bytes());
    Some(STANDARD.encode(mac.finalize().into_bytes()))
}

fn post_of_json(call: &Call) -> Result<(), Answer> {
    if call.method != "POST" {
        return Err(Answer::fail(405, "err_method_not_allowed", "Use POST"));
    }
    let content_type = call.header("content-type").to_lowercase();
    // A call without a body needs no content type.
    if !call.body.is_empty() && content_type.split(';').next() != Some("application/json") {
        return Err(Answer::fail(415, "err_unsupported_media_type", "Send application/json"));
    }
    Ok(())
}

fn is_guid(text: &str) -> bool {
    let groups: Vec<usize> = text.split('-').map(str::len).collect();
    groups == [8, 4, 4, 4, 12] && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Worked out with `openssl dgst -sha1 -mac HMAC -macopt hexkey:... -binary | base64`.
    #[test]
    fn signs_as_openssl_does() {
        let signed = signature(
            "VGhpcyBpcyBub3QgYSByZWFsIGtleS4=",
            "Tue, 24 Nov 2015 12:50:11 UTC",
            "8578fcfc-a305-4d9a-99cb-f4d5ece85297",
            "/api/audit/get-audit-events",
            "3e0e4ec4-3b3b-4b4b-8b8b-0123456789ab",
        );
        assert_eq!(signed.as_deref(), Some("7dfSHLYu4l+4RZfQHNFzLmb23Gg="));
        assert_eq!(signature("not base64!", "", "", "", ""), None);
    }

    #[test]
    fn knows_a_guid() {
        assert!(is_guid("8578fcfc-a305-4d9a-99cb-f4d5ece85297"));
        assert!(!is_guid("8578fcfca3054d9a99cbf4d5ece85297"));
        assert!(!is_guid("8578fcfc-a305-4d9a-99cb-f4d5ece8529g"));
    }
}
