//! The ten sources that are asked for a window of time and answer page by page.

use chrono::{DateTime, NaiveTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::answer::Answer;
use super::auth::Version;
use super::doubts::{LastPage, Order, Totals};
use super::envelope::{self, Envelope};
use super::faults::FaultKind;
use super::server::Call;
use super::state::{Row, State};

/// One time-window source.
pub(super) struct Window {
    pub source: &'static str,
    pub path: &'static str,
    /// Keys of the window's borders, both inclusive.
    start: &'static str,
    end: &'static str,
    /// The list in `data[0]` that holds the rows; `None` where `data` itself does.
    list: Option<&'static str>,
    /// Other keys that a request may have.
    options: &'static [&'static str],
}

/// How far back audit events are kept.
const AUDIT_DAYS: i64 = 60;
/// How far back released messages are shown where no start is given.
const A_MONTH: TimeDelta = TimeDelta::days(30);
/// How far beyond the server's clock a window may end.
const FUTURE: TimeDelta = TimeDelta::seconds(60);

pub(super) const WINDOWS: [Window; 10] = [
    Window {
        source: "audit",
        path: "/api/audit/get-audit-events",
        start: "startDateTime",
        end: "endDateTime",
        list: None,
        options: &["query", "categories"],
    },
    Window {
        source: "attachments",
        path: "/api/ttp/attachment/get-logs",
        start: "from",
        end: "to",
        list: Some("attachmentLogs"),
        options: &["route", "result", "oldestFirst"],
    },
    Window {
        source: "impersonation",
        path: "/api/ttp/impersonation/get-logs",
        start: "from",
        end: "to",
        list: Some("impersonationLogs"),
        options: &["oldestFirst", "taggedMalicious", "searchField", "query", "identifiers", "actions"],
    },
    Window {
        source: "url",
        path: "/api/ttp/url/get-logs",
        start: "from",
        end: "to",
        list: Some("clickLogs"),
        options: &["route", "scanResult", "oldestFirst"],
    },
    Window {
        source: "search",
        path: "/api/archive/get-search-logs",
        start: "start",
        end: "end",
        list: Some("logs"),
        options: &["query"],
    },
    Window {
        source: "view",
        path: "/api/archive/get-view-logs",
        start: "start",
        end: "end",
        list: None,
        options: &["query"],
    },
    Window {
        source: "messageholdlist",
        path: "/api/gateway/get-hold-message-list",
        start: "start",
        end: "end",
        list: None,
        options: &["admin", "searchBy", "filterBy"],
    },
    Window {
        source: "dlp",
        path: "/api/dlp/get-logs",
        start: "from",
        end: "to",
        list: Some("dlpLogs"),
        options: &["oldestFirst", "searchField", "query", "routes", "actions"],
    },
    Window {
        source: "release",
        path: "/api/gateway/get-held-release-logs",
        start: "start",
        end: "end",
        list: Some("heldReleaseLogs"),
        options: &["searchBy", "filterBy"],
    },
    Window {
        source: "rejections",
        path: "/api/gateway/get-rejections",
        start: "start",
        end: "end",
        list: Some("rejections"),
        options: &["admin", "mailbox", "searchBy"],
    },
];

/// Answers one page.
pub(super) fn page(state: &mut State, call: &Call, window: &Window, version: Version) -> Result<Answer, Answer> {
    let allowed = [&[window.start, window.end][..], window.options].concat();
    let request = Envelope::read(&call.body, &allowed)?;
    let (from, to) = borders(&request, window, version, state.now())?;
    for key in ["route", "result", "scanResult"] {
        request.choice(key, &["all"])?;
    }
    let unsupported = ["query", "categories", "taggedMalicious", "searchField", "identifiers", "actions"];
    let unsupported = unsupported.iter().chain(&["searchBy", "filterBy", "routes", "mailbox"]);
    if let Some(key) = unsupported.copied().find(|key| request.item.contains_key(*key)) {
        return Err(Answer::new(501, "text/plain", format!("the simulator does not filter by {key}")));
    }
    let oldest_first = request.flag("oldestFirst")?;
    let is_admin = request.flag("admin")?;
    let hidden = window.source == "messageholdlist" && !is_admin;
    if window.source == "rejections" && !is_admin {
        return Err(Answer::invalid("admin must be true: the caller has no mailbox"));
    }

    state.window_answers += 1;
    let state: &State = state;
    let rows = state.rows.get(window.source).map(Vec::as_slice).unwrap_or_default();
    let rows = &rows[rows.partition_point(|row| row.time < from)..rows.partition_point(|row| row.time <= to)];
    let now = state.now();
    let visible = |row: &&Row| !hidden && row.visible_at <= now;
    let total = rows.iter().filter(visible).count();
    let about = json!({"path": window.path, "size": request.page_size, "filter": request.item});
    let doubts = &state.doubts;
    let place = place(state, &request, &about)?;
    let offset = if doubts.stuck_pages { 0 } else { place.offset };
    let mut arrived: Vec<&Row> = Vec::new();
    if doubts.order == Order::Arrival {
        arrived.extend(rows.iter().filter(visible));
        arrived.sort_by_key(|row| row.visible_at);
    }
    let ordered: &mut dyn Iterator<Item = &Row> = match (doubts.order, oldest_first) {
        (Order::Time, true) => &mut rows.iter().filter(visible),
        (Order::Time, false) => &mut rows.iter().rev().filter(visible),
        (Order::Arrival, true) => &mut arrived.into_iter(),
        (Order::Arrival, false) => &mut arrived.into_iter().rev(),
    };
    let size = doubts.page_cap.map_or(request.page_size, |cap| cap.min(request.page_size));
    let page: Vec<&[u8]> = ordered.skip(offset).take(size).map(|row| row.bytes.as_ref()).collect();

    let after = offset + page.len();
    let last = after >= total;
    // Each of a stuck list's tokens is another.
    let turn = if doubts.stuck_pages { state.window_answers } else { 0 };
    let token = |offset, beyond| state.seal("page", &json!({"about": about, "place": Place { offset, beyond, turn }}));
    let mut paging = json!({"pageSize": page.len(), "totalCount": stated(state, call, total, page.is_empty())});
    let untold = doubts.totals == Totals::Absent || doubts.totals == Totals::NotOnFirstPage && offset == 0;
    if untold && let Some(members) = paging.as_object_mut() {
        members.remove("totalCount");
    }
    if !last || matches!(call.fault, Some(FaultKind::EmptyPageWithNext)) {
        paging["next"] = token(after, false).into();
    } else if doubts.last_page != LastPage::Ends && !place.beyond {
        paging["next"] = token(after, true).into();
    }
    if window.source == "messageholdlist" && offset > 0 {
        paging["previous"] = token(offset.saturating_sub(request.page_size), false).into();
    }
    let mut meta = json!({"status": 200, "pagination": paging});
    if last && matches!(call.fault, Some(FaultKind::NoPagination)) {
        meta = json!({"status": 200});
    }
    let count = [("resultCount", Value::from(page.len()))];
    let extra = if window.source == "impersonation" { &count[..] } else { &[] };
    Ok(envelope::write(call.turn, &meta, window.list, &page, extra))
}

/// The window's borders: given, or the documented defaults.
fn borders(
    request: &Envelope,
    window: &Window,
    version: Version,
    now: DateTime<Utc>,
) -> Result<(DateTime<Utc>, DateTime<Utc>), Answer> {
    let (from, to) = (request.date(window.start)?, request.date(window.end)?);
    let required = window.source == "audit" || (window.source == "messageholdlist" && version == Version::Two);
    if required && (from.is_none() || to.is_none()) {
        let message = format!("{} and {} are required", window.start, window.end);
        return Err(Answer::fail(400, "err_validation_null", &message));
    }
    let start = match window.source {
        "messageholdlist" => DateTime::<Utc>::MIN_UTC,
        "release" => now - A_MONTH,
        _ => now.date_naive().and_time(NaiveTime::MIN).and_utc(),
    };
    let (from, to) = (from.unwrap_or(start), to.unwrap_or(now));
    if from > to {
        return Err(Answer::invalid("the window ends before it starts"));
    }
    if to > now + FUTURE {
        return Err(Answer::invalid("the window ends in the future"));
    }
    if window.source == "audit" && from < now - TimeDelta::days(AUDIT_DAYS) {
        return Err(Answer::invalid("audit events are kept for 60 days"));
    }
    Ok((from, to))
}

/// What `totalCount` says.
fn stated(state: &State, call: &Call, total: usize, empty: bool) -> Value {
    if let Some(FaultKind::WrongTotal(error)) = call.fault {
        return total.saturating_add_signed(error as isize).into();
    }
    match &state.doubts.totals {
        Totals::Right | Totals::Absent | Totals::NotOnFirstPage => total.into(),
        Totals::Off(errors) => {
            let error = errors.get(state.window_answers % errors.len().max(1)).copied().unwrap_or_default();
            (total as i64).saturating_add(error).into()
        }
        Totals::Text => total.to_string().into(),
        Totals::NeverZero => total.max(usize::from(empty)).into(),
    }
}

/// What a page token of this server stands for.
#[derive(Serialize, Deserialize)]
struct Place {
    offset: usize,
    /// It came with the last page.
    beyond: bool,
    turn: usize,
}

/// Where a page begins. Offsets count the rows as they are now, so a late row shifts them, as it does in the real API.
fn place(state: &State, request: &Envelope, about: &Value) -> Result<Place, Answer> {
    let Some(token) = &request.page_token else { return Ok(Place { offset: 0, beyond: false, turn: 0 }) };
    let sealed = state.unseal("page", token).filter(|sealed| sealed["about"] == *about);
    let place: Option<Place> = sealed.and_then(|mut sealed| serde_json::from_value(sealed["place"].take()).ok());
    let place = place.ok_or_else(|| Answer::invalid("pageToken invalid"))?;
    match state.doubts.last_page {
        LastPage::LeadsTo404 if place.beyond => Err(Answer::fail(404, "err_not_found", "Resource not found")),
        LastPage::LeadsTo400 if place.beyond => Err(Answer::invalid("pageToken is beyond the last page")),
        _ => Ok(place),
    }
}
