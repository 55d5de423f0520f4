use std::collections::BTreeMap;

use chrono::TimeDelta;

use super::*;
use crate::process::answer::Gap;
use crate::source::{Kind, Snapshot};

static SOURCE: Source = Source {
    name: "audit",
    table: "mail.mimecast.audit.events",
    permission: "Account | Logs | Read",
    kind: Kind::Snapshot(Snapshot { path: "/", item: |_| None, rows: mimecast::Rows::Flat, id: None }),
};

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap() + TimeDelta::seconds(seconds)
}

fn answer(status: Status) -> Answer {
    Answer {
        source: "audit",
        tenant: "acme".to_owned(),
        status,
        events: 3,
        duplicates: 0,
        rejected: 0,
        requests: 2,
        batches: 1,
        lag_seconds: Some(62),
        unknown_types: BTreeMap::new(),
        checkpoint: json!({}),
        gap: None,
        repeat: None,
        silent_since: None,
        warnings: Vec::new(),
    }
}

fn counts() -> Counts {
    Counts { events: 3, bytes: 120, batches: 1, ..Counts::default() }
}

fn report<'a>(outcome: Result<&'a Answer, &'a Error>, counts: &'a Counts) -> Report<'a> {
    let took = Duration::from_millis(1500);
    Report { source: &SOURCE, tenant: "acme", backfill: false, outcome, counts, began: at(-2), took }
}

/// What CloudWatch would make of a line: the metrics with their units, by name; that of the source first, then those of the tenant.
fn metrics(line: &str) -> [BTreeMap<String, (String, f64)>; 2] {
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!((&line["source"], &line["tenant"]), (&json!("audit"), &json!("acme")));
    let mut found = [BTreeMap::new(), BTreeMap::new()];
    for directive in line["_aws"]["CloudWatchMetrics"].as_array().unwrap() {
        for metric in directive["Metrics"].as_array().unwrap() {
            let name = metric["Name"].as_str().unwrap();
            let told = (metric["Unit"].as_str().unwrap().to_owned(), line[name].as_f64().unwrap());
            for dimensions in directive["Dimensions"].as_array().unwrap() {
                let of = usize::from(*dimensions == json!(["tenant"]));
                assert!(of == 1 || *dimensions == json!(["source", "tenant"]), "{dimensions}");
                found[of].insert(name.to_owned(), told.clone());
            }
        }
    }
    found
}

/// The names of the source's metrics and of the tenant's.
fn names(line: &str) -> [String; 2] {
    metrics(line).map(|told| told.keys().map(String::as_str).collect::<Vec<_>>().join(" "))
}

#[test]
fn a_quiet_success_costs_two_metrics_and_an_event_one_more() {
    let (answer, counts, none) = (answer(Status::CaughtUp), counts(), Counts::default());
    let line = report(Ok(&answer), &counts).metrics("My/Space", at(0));
    assert_eq!(names(&report(Ok(&answer), &none).metrics("N", at(0))), ["LagSeconds", "LagSeconds"]);
    assert_eq!(names(&line), ["LagSeconds", "Events LagSeconds"]);
    let [source, tenant] = metrics(&line);
    assert_eq!(source["LagSeconds"], ("Seconds".to_owned(), 62.0));
    assert_eq!(tenant["Events"], ("Count".to_owned(), 3.0));
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["_aws"]["Timestamp"], 1_800_000_000_000_i64);
    assert_eq!(line["_aws"]["CloudWatchMetrics"][0]["Namespace"], "My/Space");
    // Figures cost nothing.
    assert_eq!((&line["outcome"], &line["RunSeconds"]), (&json!("caught_up"), &json!(1.5)));
    assert_eq!((&line["Bytes"], &line["Batches"]), (&json!(120), &json!(1)));
    assert_eq!(line["Duplicates"], Value::Null);
}

#[test]
fn a_source_without_time_has_no_lag_and_is_alive() {
    let (answer, none) = (Answer { lag_seconds: None, ..answer(Status::CaughtUp) }, Counts::default());
    let [source, _] = metrics(&report(Ok(&answer), &none).metrics("N", at(0)));
    assert_eq!(source["LagSeconds"].1, 0.0);
}

#[test]
fn what_went_wrong_on_the_way_is_told() {
    let gap = Some(Gap { from: at(-7200), to: at(-3600) });
    let warnings = vec!["a file is missing".to_owned()];
    let counts = Counts { rejected: 2, duplicates: 5, refusals: 4, gap, late_seconds: 540, warnings, ..counts() };
    let more = Answer { silent_since: Some(at(-3700)), ..answer(Status::More) };
    let line = report(Ok(&more), &counts).metrics("N", at(0));
    assert_eq!(names(&line)[1], "DevoRefusals Events GapSeconds LagSeconds LateSeconds Rejected");
    let [_, told] = metrics(&line);
    assert_eq!(told["LateSeconds"], ("Seconds".to_owned(), 540.0));
    assert_eq!(told["GapSeconds"].1, 3600.0);
    assert_eq!((told["Rejected"].1, told["DevoRefusals"].1), (2.0, 4.0));
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&line["SilentSeconds"], &line["Warnings"], &line["Duplicates"]), (&json!(3700), &json!(1), &json!(5)));
}

#[test]
fn neither_a_failure_nor_a_busy_run_is_a_success() {
    let (error, none) = (Error::Configuration("no".into()), Counts::default());
    let failed = report(Err(&error), &none).metrics("N", at(0));
    assert_eq!(names(&failed), ["", "Failures"]);
    assert!(failed.contains(r#""outcome":"Configuration""#), "{failed}");
    let busy = Answer { lag_seconds: None, ..answer(Status::Busy) };
    assert_eq!(names(&report(Ok(&busy), &none).metrics("N", at(0))), ["", ""]);
    let backfill = Report { backfill: true, ..report(Err(&error), &none) };
    assert_eq!(names(&backfill.metrics("N", at(0))), ["", "BackfillFailures"]);
    // What was delivered before a failure was delivered.
    assert_eq!(names(&report(Err(&error), &counts()).metrics("N", at(0))), ["", "Events Failures"]);
}

#[test]
fn a_backfill_is_no_sign_of_life() {
    let (answer, counts) = (answer(Status::CaughtUp), counts());
    let report = Report { backfill: true, ..report(Ok(&answer), &counts) };
    assert_eq!(names(&report.metrics("N", at(0))), ["", "Events"]);
    let line: Value = serde_json::from_slice(&report.own_logs(at(0))[0].1).unwrap();
    assert_eq!(line["module_name"], "backfill");
}

#[test]
fn own_logs_have_the_shape_of_devo_s_collectors() {
    let (answer, counts) = (answer(Status::CaughtUp), counts());
    let [(log_table, log), (sent_table, sent)] = report(Ok(&answer), &counts).own_logs(at(0));
    assert_eq!((&*log_table, &*sent_table), ("devo.collectors.out.local.info", "devo.collector.metric.message_sent"));
    let log: Value = serde_json::from_slice(&log).unwrap();
    assert_eq!(
        log,
        json!({
            "msg": "caught_up, 3 events, lag 62 s, 2 requests", "time": "2027-01-15T08:00:00.000Z", "level": "info",
            "collector_name": "mimecast-devo", "collector_version": VERSION, "collector_image": "mimecast-devo",
            "input_name": "mimecast", "service_name": "audit", "module_name": "run", "shared_domain": false,
            "tenant": "acme",
        })
    );
    let sent: Value = serde_json::from_slice(&sent).unwrap();
    assert_eq!(
        sent,
        json!({
            "col_id": "acme/audit", "col_name": "mimecast-devo", "col_version": VERSION, "col_image": "mimecast-devo",
            "msg_sent": {"part_counter": 3, "part_bytes": 120, "since_ts": 1_799_999_998_000_i64},
        })
    );
}

#[test]
fn a_failure_is_an_error_in_devo_with_what_to_do() {
    let (error, none) = (Error::Mimecast(mimecast::Error::Permission("403".into())), Counts::default());
    let [(table, line), _] = report(Err(&error), &none).own_logs(at(0));
    assert_eq!(table, "devo.collectors.out.local.error");
    let line: Value = serde_json::from_slice(&line).unwrap();
    assert!(line["msg"].as_str().unwrap().contains("Account | Logs | Read"), "{line}");
}
