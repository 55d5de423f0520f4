//! What the event that invokes a function asks for. Whether the source can do it is the run's business.

use chrono::{DateTime, SecondsFormat, TimeDelta, Timelike, Utc};
use serde_json::{Map, Value};

use crate::error::Error;
use crate::settings::is_tenant;

/// The part of an event that is read; everything else in it is ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// The tenant, where the event names one.
    pub tenant: Option<String>,
    /// A range to collect instead of the regular run.
    pub backfill: Option<Backfill>,
    /// Nothing is to be collected: only looked whether it could be.
    pub check: bool,
}

/// A half-open range of time, `[from, to)`, to collect without moving the regular checkpoint.
///
/// The borders are whole seconds, as Mimecast's are: a fraction is rounded up, which leaves every event with a time in
/// whole seconds on its side of the border.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backfill {
    /// The first second.
    pub from: DateTime<Utc>,
    /// The first second after it; later than `from`, possibly in the future.
    pub to: DateTime<Utc>,
    /// `[A-Za-z0-9:._-]{1,128}`, or `<from>/<to>` in RFC 3339 UTC where the event gives none.
    pub id: String,
}

impl Invocation {
    /// Reads an event.
    ///
    /// # Errors
    /// [`Error::Configuration`] that names the key and what it may hold, for an event that is not an object or a key with a
    /// wrong type or an impossible value. Values are not repeated: anything may be in an event.
    pub fn parse(event: &Value) -> Result<Self, Error> {
        let Value::Object(event) = event else {
            return Err(bad("the event must be a JSON object"));
        };
        let tenant = match present(event, "tenant") {
            None => None,
            Some(Value::String(tenant)) if is_tenant(tenant) => Some(tenant.clone()),
            Some(_) => return Err(bad("tenant in the event must be a text of 1 to 64 characters a-z 0-9 -")),
        };
        let backfill = match present(event, "backfill") {
            None => None,
            Some(Value::Object(backfill)) => Some(Backfill::parse(backfill)?),
            Some(_) => {
                return Err(bad(
                    r#"backfill in the event must be an object like {"from":"<RFC 3339>","to":"<RFC 3339>"}"#,
                ));
            }
        };
        let check = match present(event, "check") {
            None => false,
            Some(Value::Bool(check)) => *check,
            Some(_) => return Err(bad("check in the event must be true or false")),
        };
        Ok(Self { tenant, backfill, check })
    }
}

impl Backfill {
    fn parse(object: &Map<String, Value>) -> Result<Self, Error> {
        let from = instant(object, "from")?;
        let to = instant(object, "to")?;
        if from >= to {
            return Err(bad("backfill.from in the event must be at least one second before backfill.to"));
        }
        let id = match present(object, "id") {
            // The slash keeps it apart from every id that an event can give.
            None => format!("{}/{}", text(from), text(to)),
            Some(Value::String(id)) if is_id(id) => id.clone(),
            Some(_) => {
                return Err(bad("backfill.id in the event must be a text of 1 to 128 characters A-Z a-z 0-9 : . _ -"));
            }
        };
        Ok(Self { from, to, id })
    }
}

fn present<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    object.get(key)
}

fn instant(backfill: &Map<String, Value>, key: &str) -> Result<DateTime<Utc>, Error> {
    present(backfill, key)
        .and_then(Value::as_str)
        .and_then(|text| DateTime::parse_from_rfc3339(text).ok())
        .and_then(|instant| whole_seconds(instant.to_utc()))
        .ok_or_else(|| bad(format!("backfill.{key} in the event must be an RFC 3339 time like 2026-01-31T00:00:00Z")))
}

/// Rounds up; `None` outside the years that RFC 3339 can write.
fn whole_seconds(instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let second = instant.with_nanosecond(0)?;
    let rounded = if second == instant { second } else { second + TimeDelta::seconds(1) };
    (0..=9999).contains(&chrono::Datelike::year(&rounded)).then_some(rounded)
}

fn text(instant: DateTime<Utc>) -> String {
    instant.to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn is_id(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_alphanumeric() || b":._-".contains(&c))
}

fn bad(message: impl Into<String>) -> Error {
    Error::Configuration(message.into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(event: Value) -> Result<Invocation, String> {
        Invocation::parse(&event).map_err(|error| {
            assert!(matches!(error, Error::Configuration(_)));
            error.to_string()
        })
    }

    fn backfill(backfill: Value) -> Result<Backfill, String> {
        parse(json!({ "backfill": backfill })).map(|invocation| invocation.backfill.unwrap())
    }

    const NOTHING: Invocation = Invocation { tenant: None, backfill: None, check: false };

    #[test]
    fn events_that_ask_for_nothing_special() {
        let scheduled = json!({
            "version": "0", "id": "53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa", "detail-type": "Scheduled Event",
            "source": "aws.events", "account": "123456789012", "time": "2026-01-31T12:00:00Z", "region": "eu-west-1",
            "resources": ["arn:aws:events:eu-west-1:123456789012:rule/every-5-minutes"], "detail": {}
        });
        for event in [json!({}), scheduled, json!({"Tenant": 7})] {
            assert_eq!(parse(event), Ok(NOTHING));
        }
    }

    #[test]
    fn a_check_is_asked_for_by_true() {
        assert!(parse(json!({"check": true})).unwrap().check);
        assert!(!parse(json!({"check": false})).unwrap().check);
        for check in [json!("true"), json!(1), json!(null)] {
            assert_eq!(parse(json!({"check": check})), Err("check in the event must be true or false".to_owned()));
        }
    }

    #[test]
    fn a_tenant_and_a_backfill() {
        let event = json!({"tenant": "acme-2", "backfill": {
            "from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00+01:00", "id": "ticket_7:a.b-c", "other": []
        }});
        let invocation = parse(event).unwrap();
        assert_eq!(invocation.tenant.as_deref(), Some("acme-2"));
        let backfill = invocation.backfill.unwrap();
        assert_eq!(text(backfill.from), "2026-01-01T00:00:00Z");
        assert_eq!(text(backfill.to), "2026-01-01T23:00:00Z");
        assert_eq!(backfill.id, "ticket_7:a.b-c");
    }

    #[test]
    fn the_default_id_is_the_range_however_it_is_written() {
        for (from, to) in [
            ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
            ("2026-01-01T01:00:00+01:00", "2026-01-01t19:00:00.000-05:00"),
            ("2025-12-31T23:59:59.000001Z", "2026-01-01T23:59:59.999Z"),
        ] {
            let id = backfill(json!({"from": from, "to": to})).unwrap().id;
            assert_eq!(id, "2026-01-01T00:00:00Z/2026-01-02T00:00:00Z");
        }
    }

    #[test]
    fn an_event_that_is_not_an_object_is_an_error() {
        for event in [json!(null), json!([]), json!([{}]), json!("{}"), json!(7), json!(true)] {
            assert_eq!(parse(event), Err("the event must be a JSON object".to_owned()));
        }
    }

    #[test]
    fn a_bad_tenant_is_named() {
        let long = "a".repeat(65);
        for tenant in [
            json!(""),
            json!("Acme"),
            json!("a b"),
            json!("a#b"),
            json!("a\n"),
            json!("é"),
            json!(7),
            json!(["a"]),
            json!({}),
            json!(false),
            json!(long),
        ] {
            let message = parse(json!({ "tenant": tenant })).unwrap_err();
            assert_eq!(message, "tenant in the event must be a text of 1 to 64 characters a-z 0-9 -");
        }
    }

    #[test]
    fn a_bad_backfill_is_named() {
        for value in [json!("2026"), json!([]), json!(true), json!(7)] {
            assert!(backfill(value).unwrap_err().starts_with("backfill in the event must be an object"));
        }
        let (from, to) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
        for bad in [
            json!(null),
            json!(""),
            json!(1767225600),
            json!("yesterday"),
            json!("2026-01-01"),
            json!("2026-01-01T00:00:00"),
            json!("2026-02-30T00:00:00Z"),
            json!("2026-01-01T00:00:00Z\n"),
            json!("+12026-01-01T00:00:00Z"),
            json!("9999-12-31T23:59:59.5Z"),
            json!("0000-01-01T00:00:00+01:00"),
            json!({}),
        ] {
            assert!(backfill(json!({"from": bad, "to": to})).unwrap_err().starts_with("backfill.from "), "{bad}");
            assert!(backfill(json!({"from": from, "to": bad})).unwrap_err().starts_with("backfill.to "), "{bad}");
        }
        assert!(backfill(json!({})).unwrap_err().starts_with("backfill.from "));
        for id in [json!(""), json!("a/b"), json!("a b"), json!("a#b"), json!("ü"), json!(7), json!("x".repeat(129))] {
            let message = backfill(json!({"from": from, "to": to, "id": id})).unwrap_err();
            assert!(message.starts_with("backfill.id "), "{message}");
        }
    }

    #[test]
    fn a_range_is_not_empty() {
        for (from, to) in [
            ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
            ("2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z"),
            ("2026-01-01T00:00:00.2Z", "2026-01-01T00:00:00.8Z"),
        ] {
            let message = backfill(json!({"from": from, "to": to})).unwrap_err();
            assert!(message.contains("backfill.from") && message.contains("backfill.to"), "{message}");
        }
    }

    #[test]
    fn errors_repeat_no_value() {
        for event in [
            json!("s3cret"),
            json!({"tenant": "S3CRET s3cret"}),
            json!({"backfill": "s3cret"}),
            json!({"backfill": {"from": "s3cret"}}),
            json!({"backfill": {"from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z", "id": "s3cret\n"}}),
        ] {
            let message = parse(event).unwrap_err();
            assert!(!message.contains("s3cret") && !message.contains('\n'), "{message}");
        }
    }
}
