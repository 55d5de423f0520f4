//! Rows of the time-window sources and of the two snapshots.

use chrono::{DateTime, TimeDelta, Utc};

use super::Expected;
use super::text::{Maker, date, object, quoted};
use crate::mimecast::Mimecast;

/// A source of rows, its table, and how a row is made.
pub(super) struct Source {
    pub name: &'static str,
    pub table: &'static str,
    make: fn(&mut Maker, DateTime<Utc>) -> String,
    /// Rows have no id: some come twice in the same second and are two events.
    twins: bool,
}

/// Those that are collected by default.
pub(super) const SOURCES: [Source; 7] = [
    Source { name: "audit", table: "mail.mimecast.audit.events", make: audit, twins: false },
    Source { name: "attachments", table: "mail.mimecast.ttp.attachment", make: attachment, twins: true },
    Source { name: "impersonation", table: "mail.mimecast.ttp.impersonation", make: impersonation, twins: false },
    Source { name: "url", table: "mail.mimecast.ttp.url", make: click, twins: true },
    Source { name: "search", table: "mail.mimecast.archive.search", make: search, twins: true },
    Source { name: "view", table: "mail.mimecast.archive.messageview", make: view, twins: true },
    Source { name: "messageholdlist", table: "mail.mimecast.message.list", make: held, twins: false },
];

/// Those that are not.
const ON_REQUEST: [Source; 3] = [
    Source { name: "dlp", table: "my.app.mimecast.dlp", make: leak, twins: true },
    Source { name: "release", table: "my.app.mimecast.release", make: release, twins: true },
    Source { name: "rejections", table: "my.app.mimecast.rejections", make: rejection, twins: false },
];

/// The source of this name, where it is one of rows.
pub(super) fn source(name: &str) -> Option<&'static Source> {
    SOURCES.iter().chain(&ON_REQUEST).find(|source| source.name == name)
}

/// Makes `count` rows or a few more, pushes them dressed, and notes them compact.
pub(super) fn push(
    mimecast: &Mimecast,
    maker: &mut Maker,
    source: &Source,
    oldest: DateTime<Utc>,
    newest: DateTime<Utc>,
    count: usize,
    expected: &mut Expected,
) {
    let lines = expected.entry(source.table.to_owned()).or_default();
    for (index, time) in maker.times(oldest, newest, count).into_iter().enumerate() {
        let line = (source.make)(maker, time);
        let copies = if source.twins && index % 10 == 1 { 2 } else { 1 };
        for _ in 0..copies {
            mimecast.push(source.name, time, maker.dressed(&line));
            lines.push(line.clone());
        }
    }
}

fn audit(maker: &mut Maker, time: DateTime<Utc>) -> String {
    let kind = maker.one_of(&["User Logged On", "Connectors Management", "Threat Intel Feed Download"]);
    let category = maker.one_of(&["authentication_logs", "integrations_and_apis", "reporting_logs"]);
    let user = if maker.once_in(8) { quoted("Doe, John") } else { maker.address() };
    let clock = time.format("%Y-%m-%d, Time: %H:%M:%S+0000");
    let info = format!(
        "Did \\u003cthis\\u003e, Date: {clock}, IP: 192.0.2.7,\\nApplication: \\\"Console\\\" {}",
        maker.number()
    );
    let members = vec![
        ("id", maker.record_id("auditlogid", "")),
        ("auditType", quoted(kind)),
        ("user", user),
        ("eventTime", date(time)),
        ("eventInfo", quoted(&info)),
        ("category", quoted(category)),
    ];
    maker.object(members)
}

fn attachment(maker: &mut Maker, time: DateTime<Utc>) -> String {
    let result = maker.one_of(&["safe", "malicious", "timeout", "error"]);
    let members = vec![
        ("senderAddress", maker.address()),
        ("recipientAddress", maker.address()),
        ("fileName", maker.subject()),
        ("fileType", quoted("application\\/pdf")),
        ("result", quoted(result)),
        ("actionTriggered", quoted("user release, none")),
        ("date", date(time)),
        ("details", quoted("Safe                    \\r\\nTime taken: 0 hrs, 0 min, 4 sec")),
        ("route", quoted("inbound")),
        ("messageId", maker.message_id()),
        ("subject", maker.subject()),
        ("fileHash", quoted(&maker.hex(64))),
        ("definition", quoted("Default Attachment Protection")),
        ("fileSize", maker.digits()),
    ];
    maker.object(members)
}

fn impersonation(maker: &mut Maker, time: DateTime<Utc>) -> String {
    let near = maker.subject();
    let results = match maker.random.u8(..3) {
        0 => "[]".to_owned(),
        1 => format!(r#"[{{"impersonationDomainSource":"internal_user_name","stringSimilarToDomain":{near}}}]"#),
        _ => format!(
            r#"[{{"impersonationDomainSource":"targeted_threat_dictionary","similarDomain":"Jo \u003cjo@example.com\u003e","stringSimilarToDomain":{near},"checkerResult":"hit"}},{{}}]"#
        ),
    };
    let members = vec![
        ("id", maker.record_id("id", "MTOKEN:")),
        ("senderAddress", maker.address()),
        ("recipientAddress", maker.address()),
        ("subject", maker.subject()),
        ("definition", quoted("IP - 1 hit (Tag email)")),
        ("hits", maker.digits()),
        ("identifiers", r#"["internal_user_name","newly_observed_domain"]"#.to_owned()),
        ("action", quoted(maker.one_of(&["none", "hold", "bounce"]))),
        ("taggedExternal", "false".to_owned()),
        ("taggedMalicious", "true".to_owned()),
        ("senderIpAddress", maker.address_v4()),
        ("eventTime", date(time)),
        ("impersonationResults", results),
        ("messageId", maker.message_id()),
    ];
    maker.object(members)
}

fn click(maker: &mut Maker, time: DateTime<Utc>) -> String {
    // An object with the same key twice: which of the two counts is for Devo's reader to say.
    let tags = r#"{"UrlReputationScan":{"Status":["Verdict"],"Status":["Verdict","Block"]},"Inspect:FileExts":["[exe]"],"Empty":{}}"#;
    let members = vec![
        ("userEmailAddress", maker.address()),
        ("fromUserEmailAddress", maker.address()),
        ("url", maker.url()),
        ("ttpDefinition", quoted("Inbound URL 'Aggressive'")),
        ("subject", maker.subject()),
        ("action", quoted(maker.one_of(&["allow", "warn", "block"]))),
        ("adminOverride", quoted("N\\/A")),
        ("userOverride", quoted("None")),
        ("scanResult", quoted(maker.one_of(&["clean", "malicious"]))),
        ("category", quoted("Phishing & Fraud")),
        ("sendingIp", maker.address_v4()),
        ("userAwarenessAction", quoted("Continue")),
        ("date", date(time)),
        ("actions", quoted("Allow")),
        ("route", quoted("inbound")),
        ("creationMethod", quoted(maker.one_of(&["User Click", "Entry Scan"]))),
        ("emailPartsDescription", r#"["Body","Attachment"]"#.to_owned()),
        ("messageId", maker.message_id()),
        ("tagMap", tags.to_owned()),
        ("score", maker.digits()),
    ];
    maker.object(members)
}

fn search(maker: &mut Maker, time: DateTime<Utc>) -> String {
    let members = vec![
        ("createTime", date(time)),
        ("emailAddr", maker.address()),
        ("source", quoted("archive")),
        ("searchText", quoted("{'mailbox':'example@example.com','query':'[]'} [Status : held]")),
        ("searchPath", quoted("\\/INBOX\\/")),
        ("searchReason", maker.subject()),
        // A key that comes twice at the top.
        ("note", quoted("first")),
        ("note", quoted("second")),
        ("isAdmin", quoted("true")),
        ("museQuery", quoted("[]")),
        ("description", quoted("Message Tracking Search")),
    ];
    maker.object(members)
}

fn view(maker: &mut Maker, time: DateTime<Utc>) -> String {
    let members = vec![
        ("viewer", maker.address()),
        ("source", quoted("Message Tracking")),
        ("viewed", date(time)),
        ("from", maker.address()),
        ("to", maker.address()),
        ("subject", maker.subject()),
        ("messageDate", date(time - TimeDelta::days(40))),
        ("contentViewed", "false".to_owned()),
        ("discoveryCase", "null".to_owned()),
    ];
    maker.object(members)
}

fn held(maker: &mut Maker, time: DateTime<Utc>) -> String {
    let party = |maker: &mut Maker| {
        let members = [("emailAddress", maker.address()), ("displayableName", maker.subject())];
        object(&members)
    };
    let members = vec![
        ("id", maker.record_id("hldqid", "")),
        ("reason", quoted("Message Hold Applied - Spam Signature policy")),
        ("reasonId", quoted("MESSAGE_HOLD_APPLIED_SPAM_SIGNATURE_POLICY")),
        ("reasonCode", quoted("message_hold_applied_spam_signature_policy")),
        ("from", party(maker)),
        ("fromHeader", party(maker)),
        ("to", party(maker)),
        ("subject", maker.subject()),
        ("route", quoted("INBOUND")),
        ("hasAttachments", "false".to_owned()),
        ("size", maker.digits()),
        ("dateReceived", date(time)),
        ("policyInfo", quoted("Relaxed Spam Detection")),
    ];
    maker.object(members)
}

fn leak(maker: &mut Maker, time: DateTime<Utc>) -> String {
    // Another offset is rare, and the same instant.
    let there = (time + TimeDelta::hours(7)).format("%Y-%m-%dT%H:%M:%S+0700").to_string();
    let members = vec![
        ("senderAddress", maker.address()),
        ("recipientAddress", maker.address()),
        ("subject", maker.subject()),
        ("eventTime", if maker.once_in(6) { quoted(&there) } else { date(time) }),
        ("route", quoted("outbound")),
        ("policy", quoted("Card \\u003cnumbers\\u003e")),
        ("action", quoted(maker.one_of(&["hold", "notification", "smart_folder", "block"]))),
        ("messageId", maker.message_id()),
    ];
    maker.object(members)
}

fn release(maker: &mut Maker, time: DateTime<Utc>) -> String {
    let party = |maker: &mut Maker| {
        let members = [("displayableName", maker.subject()), ("emailAddress", maker.address())];
        object(&members)
    };
    let mut members = vec![
        ("id", maker.record_id("hldqid", "")),
        ("status", quoted(maker.one_of(&["released", "rejected", "expired"]))),
        ("operator", maker.address()),
        ("messageInfo", quoted("Released by user, after it \\\"expired\\\" in the queue")),
        ("heldReason", quoted("Spam")),
        ("heldGroup", quoted("")),
        ("policy", quoted("Default Spam Scanning")),
        ("rejectReason", quoted("")),
        ("detectionLevel", quoted("moderate")),
        ("spamScore", maker.digits()),
        ("size", maker.digits()),
        ("attachments", "false".to_owned()),
        ("route", quoted("inbound")),
        ("subject", maker.subject()),
        ("fromEnv", party(maker)),
        ("fromHdr", party(maker)),
        ("to", format!("[{},{}]", party(maker), party(maker))),
        ("spamProcessingDetail", r#"{"dkim":{"allow":true,"info":"UNKNOWN"},"greyEmail":false,"rbl":null}"#.to_owned()),
    ];
    if !maker.once_in(5) {
        members.push(("released", quoted(&time.format("%Y-%m-%dT%H:%M:%S+00:00").to_string())));
    }
    maker.object(members)
}

fn rejection(maker: &mut Maker, time: DateTime<Utc>) -> String {
    let to = maker.address();
    let members = vec![
        ("id", maker.record_id("rejid", "")),
        ("created", date(time)),
        ("fromAddress", maker.address()),
        ("toAddress", to.clone()),
        ("toAddressPreCheck", to.clone()),
        ("toAddressPostCheck", to),
        ("description", quoted("Sender failed to retry \\/ gave up")),
        ("type", "14030".to_owned()),
        ("info", quoted("")),
        ("ipAddress", maker.address_v4()),
        ("remoteName", quoted("mx.example.net")),
        ("remoteEhlo", quoted("mx.example.net")),
        ("manageRecipient", quoted("false")),
        ("spamScore", maker.digits()),
        ("detectionLevel", quoted("")),
    ];
    maker.object(members)
}

/// A row of the hold summary.
pub(super) fn summary(maker: &mut Maker) -> String {
    let number = maker.number();
    let members =
        [("policyInfo", quoted(&format!("Policy \\u003c{number}\\u003e"))), ("numberOfItems", maker.digits())];
    object(&members)
}

/// A notification of the dashboard.
pub(super) fn notice(maker: &mut Maker, time: DateTime<Utc>) -> String {
    let number = maker.number();
    let members = vec![
        ("id", quoted(&format!("notice-{number}"))),
        ("title", maker.subject()),
        ("displayMessage", quoted(&format!("<a href=\\\"https:\\/\\/example.com\\\">Notice<\\/a> {number}"))),
        ("customerCode", quoted("C0SIM")),
        ("clusterCode", quoted("eu")),
        ("noticeType", quoted(maker.one_of(&["PRODUCT_NEWS", "SERVICE_NOTIFICATION"]))),
        ("warningLevel", quoted(maker.one_of(&["GOOD", "INFO"]))),
        ("visibleFrom", date(time)),
        ("enabled", "true".to_owned()),
    ];
    maker.object(members)
}
