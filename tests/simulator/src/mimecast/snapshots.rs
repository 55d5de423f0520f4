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
    check(call, version, &["accountCode"])?;
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
fn check(call: &Call, version: Version, allowed: &[&str]) -> Result<(), Answer> {
    if call.body.is_empty() && version == Version::Two {
        return Ok(());
    }
    Envelope::read(&call.body, allowed).map(|_| ())
}
