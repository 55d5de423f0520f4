//! The two sources that answer with how things are now: the hold summary and the dashboard.

use serde_json::json;

use super::answer::Answer;
use super::auth::Version;
use super::envelope::{self, Envelope};
use super::server::Call;
use super::state::State;

pub(super) fn summary(state: &State, call: &Call, version: Version) -> Result<Answer, Answer> {
    check(call, version, &[])?;
    let rows: Vec<&[u8]> = state.summary.iter().map(AsRef::as_ref).collect();
    Ok(envelope::write(call.turn, &json!({"status": 200}), None, &rows, &[]))
}

pub(super) fn dashboard(state: &State, call: &Call, version: Version) -> Result<Answer, Answer> {
    let request = check(call, version, &["accountCode"])?;
    let account = request.and_then(|request| request.item.get("accountCode").cloned());
    if state.doubts.account_required && version == Version::Two && account.is_none() {
        return Err(Answer::fail(400, "err_validation_null", "accountCode is required"));
    }
    let rows: Vec<&[u8]> = state.notices.iter().map(AsRef::as_ref).collect();
    let meta = json!({"status": 200});
    match rows.first() {
        Some(notice) if state.notice_as_object => {
            let wrapped = [b"{\"notifications\":", *notice, b"}"].concat();
            Ok(envelope::write(call.turn, &meta, None, &[&wrapped], &[]))
        }
        _ => Ok(envelope::write(call.turn, &meta, Some("notifications"), &rows, &[])),
    }
}

/// API 2.0 also takes a call without a body.
fn check(call: &Call, version: Version, allowed: &[&str]) -> Result<Option<Envelope>, Answer> {
    if call.body.is_empty() && version == Version::Two {
        return Ok(None);
    }
    Envelope::read(&call.body, allowed).map(Some)
}
