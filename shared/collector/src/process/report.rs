//! What an invocation tells of itself when it is over: metrics for CloudWatch, and log lines for Devo in the shape of Devo's
//! own collectors.
//!
//! Metrics are one line in CloudWatch's embedded metric format, from which Lambda's log makes them without a call:
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>.
//! Sending the lines is the collector's.

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};
use tokio::time::Duration;

use crate::deliver::Counts;
use crate::error::Error;
use crate::process::answer::{Answer, Status};
use crate::source::Source;

/// How Devo knows this collector.
const NAME: &str = "mimecast-devo";
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Seconds without anything new that are worth telling.
const SILENCE: u64 = 3600;

/// One invocation, over.
pub(crate) struct Report<'a> {
    pub source: &'a Source,
    pub tenant: &'a str,
    pub backfill: bool,
    pub outcome: Result<&'a Answer, &'a Error>,
    pub counts: &'a Counts,
    pub began: DateTime<Utc>,
    pub took: Duration,
}

impl Report<'_> {
    /// One line of embedded metrics: of the source the lag alone, which is told by each run that succeeds, and of the tenant what its
    /// alarms and the dashboard show. All other figures stand in the line, for Logs Insights.
    ///
    /// CloudWatch charges for each metric by the hours in which it is told. So a count of nothing is left out, and what one source
    /// alone would tell of is a figure, not a metric.
    pub fn metrics(&self, namespace: &str, now: DateTime<Utc>) -> String {
        let counts = self.counts;
        let failed = u64::from(self.outcome.is_err());
        let of_the_tenant = [
            ("Failures", "Count", if self.backfill { 0 } else { failed }),
            ("BackfillFailures", "Count", if self.backfill { failed } else { 0 }),
            ("Events", "Count", counts.events),
            ("Rejected", "Count", counts.rejected),
            ("RateLimitWaits", "Count", counts.calls.rate_limit_waits()),
            ("DevoRefusals", "Count", counts.refusals),
            ("GapSeconds", "Seconds", self.gap_seconds()),
            ("LateSeconds", "Seconds", counts.late_seconds),
        ];
        let figures = [
            ("Bytes", counts.bytes),
            ("Duplicates", counts.duplicates),
            ("Requests", counts.calls.requests()),
            ("Batches", counts.batches),
            ("Warnings", counts.warnings.len() as u64),
            ("SilentSeconds", self.silent_seconds(now)),
        ];
        let mut line = json!({
            "source": self.source.name,
            "tenant": self.tenant,
            "backfill": self.backfill,
            "outcome": self.said(),
            "RunSeconds": self.took.as_secs_f64(),
        });
        let mut directives = Vec::new();
        if let Some(lag) = self.lag_seconds() {
            line["LagSeconds"] = lag.into();
            directives.push(directive(
                namespace,
                json!([["source", "tenant"], ["tenant"]]),
                &[("LagSeconds", "Seconds")],
            ));
        }
        let told: Vec<_> =
            of_the_tenant.iter().filter(|(.., n)| *n > 0).map(|(name, unit, _)| (*name, *unit)).collect();
        if !told.is_empty() {
            directives.push(directive(namespace, json!([["tenant"]]), &told));
        }
        for (name, value) in
            of_the_tenant.map(|(name, _, n)| (name, n)).into_iter().chain(figures).filter(|(_, n)| *n > 0)
        {
            line[name] = value.into();
        }
        line["_aws"] = json!({"Timestamp": now.timestamp_millis(), "CloudWatchMetrics": directives});
        line.to_string()
    }

    /// How far a run that succeeded has left its source behind: not at all where there is no time. A backfill says nothing about it.
    fn lag_seconds(&self) -> Option<i64> {
        let answer = self.outcome.ok().filter(|answer| !self.backfill && answer.status != Status::Busy)?;
        Some(answer.lag_seconds.unwrap_or_default())
    }

    /// Lines for Devo, each with its table: that this source has run and how it went, and what it has delivered.
    ///
    /// As Devo's collector SDK writes them, so that dashboards made for it work; only `tenant` is new.
    pub fn own_logs(&self, now: DateTime<Utc>) -> [(String, Bytes); 2] {
        let (level, text) = match self.outcome {
            Ok(answer) => ("info", summary(answer)),
            Err(error) => ("error", error.report(self.source.name, self.tenant, self.source.permission)),
        };
        let log = json!({
            "msg": text,
            "time": now.to_rfc3339_opts(SecondsFormat::Millis, true),
            "level": level,
            "collector_name": NAME,
            "collector_version": VERSION,
            "collector_image": NAME,
            "input_name": "mimecast",
            "service_name": self.source.name,
            "module_name": if self.backfill { "backfill" } else { "run" },
            "shared_domain": false,
            "tenant": self.tenant,
        });
        let sent = json!({
            "col_id": format!("{}/{}", self.tenant, self.source.name),
            "col_name": NAME,
            "col_version": VERSION,
            "col_image": NAME,
            "msg_sent": {
                "part_counter": self.counts.events,
                "part_bytes": self.counts.bytes,
                "since_ts": self.began.timestamp_millis(),
            },
        });
        let line = |value: Value| Bytes::from(value.to_string());
        [
            (format!("devo.collectors.out.local.{level}"), line(log)),
            ("devo.collector.metric.message_sent".to_owned(), line(sent)),
        ]
    }

    /// The answer's status or the error's type.
    fn said(&self) -> &'static str {
        match self.outcome {
            Ok(answer) => answer.status.as_str(),
            Err(error) => error.error_type().as_str(),
        }
    }

    /// How long the source has given nothing, from an hour on.
    fn silent_seconds(&self, now: DateTime<Utc>) -> u64 {
        let since = self.outcome.ok().and_then(|answer| answer.silent_since);
        let seconds = since.map_or(0, |since| (now - since).num_seconds());
        u64::try_from(seconds).ok().filter(|seconds| *seconds >= SILENCE).unwrap_or_default()
    }

    fn gap_seconds(&self) -> u64 {
        let seconds = self.counts.gap.map_or(0, |gap| (gap.to - gap.from).num_seconds());
        u64::try_from(seconds).unwrap_or_default()
    }
}

/// What CloudWatch is to make of a line: these metrics, for each of these sets of dimensions.
fn directive(namespace: &str, dimensions: Value, metrics: &[(&str, &str)]) -> Value {
    let metrics: Vec<_> = metrics.iter().map(|(name, unit)| json!({"Name": name, "Unit": unit})).collect();
    json!({"Namespace": namespace, "Dimensions": dimensions, "Metrics": metrics})
}

fn summary(answer: &Answer) -> String {
    let mut text = format!("{}, {} events", answer.status.as_str(), answer.events);
    if answer.rejected > 0 {
        text += &format!(", {} rejected", answer.rejected);
    }
    if let Some(lag) = answer.lag_seconds {
        text += &format!(", lag {lag} s");
    }
    text + &format!(", {} requests", answer.requests)
}

#[cfg(test)]
mod tests;
