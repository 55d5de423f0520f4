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
        let [failed, backfill_failed] =
            [false, true].map(|of| self.outcome.is_err() && self.backfill == of).map(u64::from);
        // With a unit where it is a metric.
        let counted = [
            ("Failures", failed, Some("Count")),
            ("BackfillFailures", backfill_failed, Some("Count")),
            ("Events", counts.events, Some("Count")),
            ("Rejected", counts.rejected, Some("Count")),
            ("RateLimitWaits", counts.calls.rate_limit_waits(), Some("Count")),
            ("DevoRefusals", counts.refusals, Some("Count")),
            ("GapSeconds", self.gap_seconds(), Some("Seconds")),
            ("LateSeconds", counts.late_seconds, Some("Seconds")),
            ("Bytes", counts.bytes, None),
            ("Duplicates", counts.duplicates, None),
            ("Requests", counts.calls.requests(), None),
            ("Batches", counts.batches, None),
            ("Warnings", counts.warnings.len() as u64, None),
            ("SilentSeconds", self.silent_seconds(now), None),
        ];
        let mut line = json!({
            "source": self.source.name,
            "tenant": self.tenant,
            "backfill": self.backfill,
            "outcome": self.said(),
            "RunSeconds": self.took.as_secs_f64(),
        });
        let directive =
            |dimensions, metrics| json!({"Namespace": namespace, "Dimensions": dimensions, "Metrics": metrics});
        let mut directives = Vec::new();
        if let Some(lag) = self.lag_seconds() {
            line["LagSeconds"] = lag.into();
            let metric = vec![json!({"Name": "LagSeconds", "Unit": "Seconds"})];
            directives.push(directive(json!([["source", "tenant"], ["tenant"]]), metric));
        }
        let mut of_the_tenant = Vec::new();
        for (name, number, unit) in counted.into_iter().filter(|(_, number, _)| *number > 0) {
            line[name] = number.into();
            of_the_tenant.extend(unit.map(|unit| json!({"Name": name, "Unit": unit})));
        }
        if !of_the_tenant.is_empty() {
            directives.push(directive(json!([["tenant"]]), of_the_tenant));
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
