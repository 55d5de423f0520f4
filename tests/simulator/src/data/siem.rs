//! SIEM events of the ten types, in files. The same lines serve both APIs. And of Cloud Integrated's three.

use chrono::{DateTime, Utc};

use super::Expected;
use super::text::{Maker, quoted};
use crate::mimecast::Mimecast;

/// API 2.0 types and their tables.
const KINDS: [(&str, &str); 10] = [
    ("receipt", "mail.mimecast.siem.receipt"),
    ("process", "mail.mimecast.siem.process"),
    ("delivery", "mail.mimecast.siem.delivery"),
    ("journal", "mail.mimecast.siem.jrnl"),
    ("av", "mail.mimecast.siem.av"),
    ("spam", "mail.mimecast.siem.spameventthread"),
    ("internal email protect", "mail.mimecast.siem.iep"),
    ("impersonation protect", "mail.mimecast.siem.impersonation"),
    ("url protect", "mail.mimecast.siem.ttp"),
    ("attachment protect", "mail.mimecast.siem.ttp"),
];

/// Types of Cloud Integrated and their tables.
const CI_KINDS: [(&str, &str); 3] = [
    ("entities", "my.app.mimecast.ci.entities"),
    ("mailflow", "my.app.mimecast.ci.mailflow"),
    ("urlclick", "my.app.mimecast.ci.urlclick"),
];

/// The table of an API 2.0 type, or `None` for one that nobody knows.
pub(super) fn table(kind: &str) -> Option<&'static str> {
    KINDS.iter().find(|(known, _)| *known == kind).map(|(_, table)| *table)
}

/// Publishes a file of about `lines` events for each type at each of the times, and one empty file.
pub(super) fn push(
    mimecast: &Mimecast,
    maker: &mut Maker,
    source: &str,
    mut times: Vec<DateTime<Utc>>,
    lines: usize,
    expected: &mut Expected,
) {
    times.sort();
    for (index, time) in times.into_iter().enumerate() {
        for (kind, table) in kinds(source) {
            let known = expected.entry((*table).to_owned()).or_default();
            let mut file = Vec::new();
            for number in 0..lines {
                let line = event(maker, kind, time);
                let copies = if number == 3 { 2 } else { 1 };
                for _ in 0..copies {
                    file.push(maker.dressed_in_line(&line).into_bytes());
                    known.push(line.clone());
                }
            }
            mimecast.push_siem_at(kind, time, file);
        }
        if index == 0 {
            mimecast.push_siem_at(kinds(source)[1].0, time, Vec::new());
        }
    }
}

/// Publishes about `lines` events in files of a few of them, each file of any type. Some files are empty.
pub(super) fn push_some(
    mimecast: &Mimecast,
    maker: &mut Maker,
    source: &str,
    time: DateTime<Utc>,
    lines: usize,
    expected: &mut Expected,
) {
    let kinds = kinds(source);
    let mut left = lines;
    while left > 0 {
        let (kind, table) = kinds[maker.random.usize(..kinds.len())];
        let count = maker.random.usize(..8).min(left);
        let mut file = Vec::new();
        for _ in 0..count {
            let line = event(maker, kind, time);
            for _ in 0..if maker.once_in(6) { 2 } else { 1 } {
                file.push(maker.dressed_in_line(&line).into_bytes());
                expected.entry(table.to_owned()).or_default().push(line.clone());
            }
        }
        mimecast.push_siem_at(kind, time, file);
        left -= count.max(1);
    }
}

fn kinds(source: &str) -> &'static [(&'static str, &'static str)] {
    if source == "siemci" { &CI_KINDS } else { &KINDS }
}

fn event(maker: &mut Maker, kind: &str, time: DateTime<Utc>) -> String {
    if CI_KINDS.iter().any(|(known, _)| *known == kind) {
        return ci_event(maker, kind, time);
    }
    let aggregate = maker.hex(22);
    let timestamp = time.timestamp_millis() - maker.random.i64(..900_000);
    // Both spellings are seen.
    let (kind_key, subtype_key) = if maker.once_in(4) { ("eventType", "subType") } else { ("type", "subtype") };
    let mut members = vec![
        ("processingId", quoted(&format!("{aggregate}_{}", timestamp / 1000))),
        ("aggregateId", quoted(&aggregate)),
        ("timestamp", timestamp.to_string()),
        ("accountId", quoted("C0SIM")),
        (kind_key, quoted(kind)),
        (subtype_key, maker.one_of(&["null", "\"Acc\"", "\"Hld\""]).to_owned()),
        ("Subject", maker.subject()),
        ("senderEnvelope", maker.address()),
        ("recipients", maker.address()),
        ("messageId", maker.message_id()),
    ];
    let detail = r#""{\"spf\":{\"allow\":true,\"info\":\"ALLOW\"},\"dkim\":{\"allow\":false}}""#;
    members.extend(match kind {
        "receipt" => vec![
            ("spamProcessingDetail", maker.one_of(&["null", detail, r#"{"spf":{"allow":true}}"#]).to_owned()),
            ("spamScore", maker.digits()),
            ("tlsVersion", quoted("TLSv1.3")),
        ],
        "process" => vec![("attachments", quoted("\\\"a.pdf\\\", \\\"b.png\\\"")), ("emailSize", maker.digits())],
        "delivery" => {
            vec![("Hostname", quoted("mx.example.com")), ("delivered", quoted("true")), ("Latency", maker.digits())]
        }
        "journal" => vec![("direction", quoted("Internal"))],
        "av" => vec![("virusFound", quoted("Eicar:Test")), ("sha256", quoted(&maker.hex(64)))],
        "spam" => vec![("senderIp", maker.address_v4()), ("route", quoted("Inbound"))],
        "internal email protect" => {
            vec![("scanResults", quoted("Blocked URL Category")), ("similarDomain", "null".into())]
        }
        "impersonation protect" => {
            vec![("itemsDetected", quoted("1")), ("tags", "[]".into()), ("tags", "[1.10]".into())]
        }
        "url protect" => vec![("url", maker.url()), ("analysis", quoted("null"))],
        _ => vec![("fileName", maker.subject()), ("md5", quoted(&maker.hex(32)))],
    });
    maker.object(members)
}

/// Unlike those of the gateway with true arrays, booleans and nulls.
fn ci_event(maker: &mut Maker, kind: &str, time: DateTime<Utc>) -> String {
    let (aggregate, processing) = (maker.hex(22), maker.hex(40));
    let timestamp = time.timestamp_millis() - maker.random.i64(..900_000);
    // The seconds in the two ids may differ by one.
    let second = timestamp / 1000;
    let threat = maker.one_of(&["NO_DETECTIONS", "MALWARE", "POLICIES_DISABLED"]);
    let mut members = vec![
        ("type", quoted(kind)),
        ("subtype", if kind == "entities" { quoted(threat) } else { "null".to_owned() }),
        ("timestamp", timestamp.to_string()),
        ("accountId", quoted("C0SIM")),
        ("aggregateId", quoted(&format!("{aggregate}_{second}"))),
        ("processingId", quoted(&format!("{processing}_{}", second + maker.random.i64(..2)))),
    ];
    members.extend(match kind {
        "entities" => vec![
            ("messageId", maker.message_id()),
            ("attachments", maker.one_of(&["[]", r#"["a.xlsx","b \"c\".pdf"]"#]).to_owned()),
            ("direction", quoted(maker.one_of(&["INBOUND", "Inbound"]))),
            ("historicalMail", "false".to_owned()),
            ("policiesApplied", r#"[{"action":"BLOCK","mode":null,"name":"Default"}]"#.to_owned()),
            ("recipients", format!("[{},{}]", maker.address(), maker.address())),
            ("senderEnvelope", maker.address()),
            ("senderHeader", quoted("")),
            ("senderIp", maker.address_v4()),
            ("source", quoted("OFFICE_365_MAIL")),
            ("subject", maker.subject()),
            ("tags", maker.one_of(&["null", r#"["MALWARE"]"#]).to_owned()),
            ("threatState", quoted(maker.one_of(&["DELIVERY_IN_PROGRESS", "DELIVERED", "BLOCKED"]))),
            ("threatType", quoted(threat)),
        ],
        "mailflow" => vec![
            ("messageId", maker.message_id()),
            (
                "authResults",
                r#"[{"aligned":null,"result":"pass","type":"SPF"},{"aligned":true,"type":"DKIM"}]"#.to_owned(),
            ),
        ],
        _ => vec![
            ("action", quoted("BLOCK")),
            ("originalUrl", maker.url()),
            ("redirectUrl", maker.url()),
            ("sourceIp", maker.address_v4()),
        ],
    });
    maker.object(members)
}
