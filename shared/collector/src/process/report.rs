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
/// Seconds without anything new that are worth a metric.
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
    /// One line of embedded metrics, by source and tenant and by tenant alone.
    ///
    /// A count of nothing is left out: CloudWatch charges for each metric by the hours in which it is told.
    pub fn metrics(&self, namespace: &str, now: DateTime<Utc>) -> String {
        let counts = self.counts;
        let counted = [
            ("Events", "Count", counts.events),
            ("Bytes", "Bytes", counts.bytes),
            ("Duplicates", "Count", counts.duplicates),
            ("Rejected", "Count", counts.rejected),
            ("Requests", "Count", counts.calls.requests()),
            ("RateLimitWaits", "Count", counts.calls.rate_limit_waits()),
            ("Batches", "Count", counts.batches),
            ("DevoRefusals", "Count", counts.refusals),
            ("GapSeconds", "Seconds", self.gap_seconds()),
            ("LateSeconds", "Seconds", counts.late_seconds),
            ("Warnings", "Count", counts.warnings.len() as u64),
            ("SilentSeconds", "Seconds", self.silent_seconds(now)),
        ];
        let mut metrics: Vec<(&str, &str, Value)> =
            counted.into_iter().filter(|(.., n)| *n > 0).map(|(name, unit, n)| (name, unit, n.into())).collect();
        metrics.push(("RunSeconds", "Seconds", self.took.as_secs_f64().into()));
        if self.outcome.is_err() {
            metrics.push((if self.backfill { "BackfillFailures" } else { "Failures" }, "Count", 1.into()));
        }
        // A backfill says nothing about how current a source is.
        if let (false, Ok(answer)) = (self.backfill, self.outcome) {
            if answer.status != Status::Busy {
                metrics.push(("Success", "Count", 1.into()));
            }
            metrics.extend(answer.lag_seconds.map(|lag| ("LagSeconds", "Seconds", lag.into())));
        }
        let names: Vec<_> = metrics.iter().map(|(name, unit, _)| json!({"Name": name, "Unit": unit})).collect();
        let mut line = json!({
            "_aws": {
                "Timestamp": now.timestamp_millis(),
                "CloudWatchMetrics": [{
                    "Namespace": namespace,
                    "Dimensions": [["source", "tenant"], ["tenant"]],
                    "Metrics": names,
                }],
            },
            "source": self.source.name,
            "tenant": self.tenant,
            "backfill": self.backfill,
            "outcome": self.said(),
        });
        for (name, _, value) in metrics {
            line[name] = value;
        }
        line.to_string()
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
