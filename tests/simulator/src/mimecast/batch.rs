//! SIEM of API 2.0: listings of signed links by type, and the files behind them.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chrono::{DateTime, NaiveDate, NaiveDateTime, SubsecRound, TimeDelta, Utc};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha1::Sha1;

use super::answer::Answer;
use super::doubts::DatesWithToken;
use super::faults::FaultKind;
use super::server::Call;
use super::siem::{CI_TYPES, KEPT, SiemFile, TYPES};
use super::state::State;

impl State {
    /// A link that works until the second after `expiry`.
    fn link(&self, file: &SiemFile, signed_at: DateTime<Utc>, life: u64) -> Option<String> {
        let date = signed_at.format("%Y%m%dT%H%M%SZ").to_string();
        let query =
            format!("X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date={date}&X-Amz-SignedHeaders=host&X-Amz-Expires={life}");
        let signature = self.link_signature(&file.path, &date, &life.to_string())?;
        Some(format!("{}{}?{query}&X-Amz-Signature={signature}", self.base_url, file.path))
    }

    fn link_signature(&self, path: &str, date: &str, life: &str) -> Option<String> {
        let mut mac = Hmac::<Sha1>::new_from_slice(self.seal.as_bytes()).ok()?;
        mac.update(format!("{path}\n{date}\n{life}").as_bytes());
        Some(mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// A function that lists the files of some types.
pub(super) struct Listing {
    pub source: &'static str,
    pub path: &'static str,
    types: &'static [&'static str],
}

pub(super) const LISTINGS: [Listing; 2] = [
    Listing { source: "siem", path: "/siem/v1/batch/events/cg", types: &TYPES },
    Listing { source: "siemci", path: "/siem/v1/batch/events/ci", types: &CI_TYPES },
];

/// Whether a call asks for a listing.
pub(super) fn is_listing(call: &Call) -> bool {
    LISTINGS.iter().any(|listing| listing.path == call.path)
}

/// Where a redirected link leads: the same files under another path.
const MOVED: &str = "/moved";

/// What a `nextPage` of this server holds.
#[derive(Serialize, Deserialize)]
struct Place {
    #[serde(rename = "type")]
    kind: String,
    /// Among all files.
    position: usize,
    /// The dates of the request without a token that it goes back to, and when that was.
    from: Option<NaiveDate>,
    to: Option<NaiveDate>,
    asked: DateTime<Utc>,
    /// How often tokens had died when it was issued.
    era: u64,
}

impl Place {
    /// The last day of which it shows files, where tokens are sealed.
    fn last_day(&self) -> NaiveDate {
        self.to.unwrap_or(self.asked.date_naive())
    }
}

/// `GET` of a listing.
pub(super) fn batch(state: &State, call: &Call, listing: &Listing) -> Result<Answer, Answer> {
    let known = ["type", "dateRangeStartsAt", "dateRangeEndsAt", "pageSize", "nextPage"];
    let mut names: Vec<&str> = call.query.iter().map(|(name, _)| name.as_str()).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(name)) {
        return Err(refusal(&format!("unknown parameter {unknown}")));
    }
    names.sort_unstable();
    if names.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(refusal("a parameter is given twice"));
    }
    let Some(kind) = call.parameter("type").filter(|kind| listing.types.contains(kind)) else {
        return Err(refusal("type must be one of the known types"));
    };
    let page_size = call.parameter("pageSize").map_or(Some(100), |size| size.parse().ok());
    let Some(page_size @ 1..=100) = page_size else {
        return Err(refusal("pageSize must be 1 to 100"));
    };
    let (from, to) = dates(state, call)?;
    let place = match call.parameter("nextPage") {
        // Without a start it is the last day.
        None => {
            let from = from.or_else(|| to.unwrap_or(state.now().date_naive()).pred_opt());
            Place { kind: kind.to_owned(), position: 0, from, to, asked: state.now(), era: state.era }
        }
        Some(token) if token == dead_token(listing) => return Ok(dead_page(state, listing)),
        Some(token) => {
            let place = state.unseal("batch", token).and_then(|sealed| serde_json::from_value(sealed).ok());
            let place = place.filter(|place: &Place| place.kind == kind);
            place.ok_or_else(|| Answer::flat(400, "err_validation", "nextPage invalid"))?
        }
    };
    if place.era < state.era || matches!(call.fault, Some(FaultKind::DeadToken)) {
        return Ok(dead_page(state, listing));
    }

    // Without dates of its own a later page goes on from the first day that was asked for, and has no end.
    let (from, now) = (from.or(place.from), state.now());
    let to = if state.doubts.sealed_tokens { Some(to.unwrap_or(place.last_day()).min(place.last_day())) } else { to };
    let listed = |file: &SiemFile| {
        let day = file.published.date_naive();
        let shown = file.hidden_until.is_none_or(|until| until <= now && until <= place.asked);
        shown && file.kind == kind && from.is_none_or(|from| from <= day) && to.is_none_or(|to| day <= to)
    };
    let mut files: Vec<(usize, &SiemFile)> =
        state.kept(place.position).filter(|(_, file)| listed(file)).take(page_size + 1).collect();
    let caught_up = files.len() <= page_size;
    let empty = matches!(call.fault, Some(FaultKind::EmptyPageWithNext));
    files.truncate(if empty { 0 } else { page_size });
    let life = state.siem_mode.link_life;
    let entry = |file: &SiemFile, life: u64| {
        let expiry = now.trunc_subsecs(0) + TimeDelta::seconds(life as i64);
        let expiry = expiry.format("%Y-%m-%dT%H:%M:%S.000Z").to_string();
        json!({"url": state.link(file, now, life), "expiry": expiry, "size": file.gzip.len()})
    };
    let mut value: Vec<_> = files.iter().map(|(_, file)| entry(file, life.as_secs())).collect();
    if let (true, Some((_, file))) = (state.siem_mode.duplicate_links, files.first()) {
        value.push(entry(file, life.as_secs() + 1));
    }
    let position = files.last().map_or(place.position, |(index, _)| index + 1);
    let mut page = json!({"value": value, "isCaughtUp": caught_up && !empty});
    let next = match call.fault {
        Some(FaultKind::AbsentToken) => None,
        Some(FaultKind::NullToken) => Some(Value::Null),
        Some(FaultKind::EmptyToken) => Some("".into()),
        Some(FaultKind::RepeatedToken) => call.parameter("nextPage").map(Value::from),
        _ => Some(state.seal("batch", &json!(Place { position, ..place })).into()),
    };
    page.as_object_mut().into_iter().zip(next).for_each(|(page, next)| drop(page.insert("@nextPage".into(), next)));
    Ok(Answer::json(200, &page))
}

fn refusal(message: &str) -> Answer {
    Answer::json(400, &json!({"error": {"code": "validation_error", "message": message}}))
}

/// The days that a request asks for, where it is one that may or must.
fn dates(state: &State, call: &Call) -> Result<(Option<NaiveDate>, Option<NaiveDate>), Answer> {
    let date = |name: &str| match call.parameter(name) {
        None => Ok(None),
        Some(text) => {
            let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok();
            let date = date.filter(|date| date.format("%Y-%m-%d").to_string() == text);
            date.map(Some).ok_or_else(|| refusal(&format!("{name} must be a date as yyyy-MM-dd")))
        }
    };
    let (from, to) = (date("dateRangeStartsAt")?, date("dateRangeEndsAt")?);
    let doubts = &state.doubts;
    let token = call.parameter("nextPage").is_some();
    match (from.is_some() && to.is_some(), doubts.dates_with_token) {
        (false, DatesWithToken::Required) if token => {
            return Err(refusal("dateRangeStartsAt and dateRangeEndsAt are required with nextPage"));
        }
        _ if token && doubts.dates_with_token == DatesWithToken::Refused && (from.is_some() || to.is_some()) => {
            return Err(refusal("dateRangeStartsAt and dateRangeEndsAt must not be given with nextPage"));
        }
        _ => {}
    }
    if doubts.end_required && !token && to.is_none() {
        return Err(refusal("dateRangeEndsAt is required without nextPage"));
    }
    let today = state.now().date_naive();
    let oldest = today - KEPT + TimeDelta::days(doubts.oldest_day_refused.into());
    if from.is_some_and(|from| from < oldest) {
        return Err(refusal("dateRangeStartsAt must be within the last 7 days"));
    }
    if from.is_some_and(|from| from > today) || (to.is_some() && from > to) {
        return Err(refusal("dateRangeStartsAt must not be after dateRangeEndsAt or today"));
    }
    Ok((from, to))
}

/// The token of a stream that leads nowhere any more, as clients have met it.
fn dead_token(listing: &Listing) -> String {
    let mut places: Vec<_> = listing.types.iter().map(|kind| format!("{}=0-0", kind.replace(' ', "_"))).collect();
    places.sort_unstable();
    STANDARD.encode(format!("[{}]:0:null", places.join(", ")))
}

/// What a dead token gives, for ever.
fn dead_page(state: &State, listing: &Listing) -> Answer {
    let mut page = json!({"value": [], "@nextPage": dead_token(listing)});
    if let Some(caught_up) = state.doubts.dead_tokens_caught_up {
        page["isCaughtUp"] = caught_up.into();
    }
    Answer::json(200, &page)
}

/// Whether a path is that of a signed link, or where one was redirected to.
pub(super) fn is_file(path: &str) -> bool {
    path.strip_prefix(MOVED).unwrap_or(path).starts_with("/files/")
}

/// Sends the client of a signed link elsewhere: to the same file, or to the link itself.
pub(super) fn redirect(call: &Call, to_itself: bool) -> Answer {
    // Nothing in the query of a link has to be escaped.
    let query: Vec<String> = call.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let prefix = if to_itself { "" } else { MOVED };
    Answer::new(307, "text/plain", "").with("location", &format!("{prefix}{}?{}", call.path, query.join("&")))
}

/// `GET /files/...`: a signed link, as the object store behind the API answers it.
pub(super) fn file(state: &State, call: &Call) -> Result<Answer, Answer> {
    if !call.header("authorization").is_empty() {
        return Err(Answer::xml(400, "InvalidArgument", "Only one auth mechanism allowed"));
    }
    if call.method != "GET" {
        return Err(Answer::xml(405, "MethodNotAllowed", "Use GET"));
    }
    let parameter = |name: &str| call.parameter(name).unwrap_or_default();
    let (date, life) = (parameter("X-Amz-Date"), parameter("X-Amz-Expires"));
    let path = call.path.strip_prefix(MOVED).unwrap_or(&call.path);
    let signature = state.link_signature(path, date, life);
    if signature.as_deref() != Some(parameter("X-Amz-Signature")) {
        return Err(Answer::xml(403, "SignatureDoesNotMatch", "The signature does not match"));
    }
    let signed_at = NaiveDateTime::parse_from_str(date, "%Y%m%dT%H%M%SZ").ok();
    let life = life.parse().ok().and_then(TimeDelta::try_seconds);
    let expiry = signed_at.zip(life).map(|(signed_at, life)| signed_at.and_utc() + life);
    if expiry.is_none_or(|expiry| expiry <= state.now()) {
        return Err(Answer::xml(403, "AccessDenied", "Request has expired"));
    }
    let Some((_, file)) = state.kept(0).find(|(_, file)| file.path == path) else {
        return Err(Answer::xml(404, "NoSuchKey", "The specified key does not exist."));
    };
    Ok(Answer::new(200, "binary/octet-stream", file.gzip.clone()).with("etag", &etag(&file.path)))
}

fn etag(path: &str) -> String {
    format!("\"{}\"", URL_SAFE_NO_PAD.encode(path).chars().rev().take(32).collect::<String>())
}
