//! The entry of a Lambda function: one source, invoked by its schedule.

use std::pin::Pin;

use chrono::{DateTime, Utc};
use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::OnceCell;
use tokio::time::{Duration, Instant};

use crate::error::Error;
use crate::process::answer::Answer;
use crate::process::check::{Check, Checked, Depth};
use crate::process::collector::Collector;
use crate::process::invocation::Invocation;
use crate::process::logging;
use crate::settings::{Settings, variable};
use crate::source::Source;

/// How long a check may last where nobody says, and what it leaves for its answer.
const LONGEST_CHECK: Duration = Duration::from_secs(60);
const RESERVE: Duration = Duration::from_secs(2);

/// Serves invocations of `source` until the environment ends.
///
/// # Errors
/// Where the Lambda Runtime API cannot be reached. What is wrong with the settings fails the invocation, not the start:
/// so it shows as an error with a type and a text, and mending it needs no new environment.
pub fn serve(source: &'static Source) -> Pin<Box<dyn Future<Output = Result<(), lambda_runtime::Error>>>> {
    // Boxed as `dyn` here: an `async fn` would be compiled, with the whole run in it, into each of the programs once more.
    Box::pin(async move {
        logging::init_logging(variable);
        let collector = &OnceCell::new();
        lambda_runtime::run(service_fn(move |event: LambdaEvent<Value>| async move {
            let clock = mimecast::Clock::System;
            let deadline = deadline(event.context.deadline, clock.now());
            let collector = collector.get_or_try_init(|| Collector::from_env(source)).await;
            if Invocation::parse(&event.payload).is_ok_and(|invocation| invocation.check) {
                return Ok(Reply::Check(check(source, collector, &event.payload, deadline).await));
            }
            let outcome = match collector {
                Ok(collector) => collector.invoke(source, &event.payload, deadline).await,
                Err(error) => Err((error, Settings::tenant_of(variable))),
            };
            conclude(source, outcome).map(Reply::Run)
        }))
        .await
    })
}

/// What an invocation is answered.
#[derive(Serialize)]
#[serde(untagged)]
enum Reply {
    Run(Answer),
    Check(Checked),
}

/// Looks at all that a run of this function needs. What is wrong is an answer: a check that finds something has not failed.
async fn check(
    source: &'static Source,
    collector: Result<&Collector, Error>,
    event: &Value,
    deadline: Option<Instant>,
) -> Checked {
    let named = event["tenant"].as_str().map(str::to_owned);
    let tenant = named.unwrap_or_else(|| Settings::tenant_of(variable));
    let collector = match collector {
        Ok(collector) => collector,
        Err(error) => {
            let settings = Check::failed("settings", error.to_string(), "correct the function's variables");
            return Checked::new(source, tenant, vec![settings]);
        }
    };
    let until = deadline.unwrap_or_else(|| Instant::now() + LONGEST_CHECK) - RESERVE;
    let mut checks = vec![Check::passed("settings", "complete"), collector.check_checkpoints(source, &tenant).await];
    checks.extend(collector.check(&[source], &tenant, Depth::Online, until).await);
    Checked::new(source, tenant, checks)
}

/// When the run has to be over. A deadline already past is a tool's placeholder (`cargo lambda watch` sends one of 1970).
fn deadline(epoch_millis: u64, now: DateTime<Utc>) -> Option<Instant> {
    let now = u64::try_from(now.timestamp_millis()).unwrap_or_default();
    epoch_millis.checked_sub(now).filter(|left| *left > 0).map(|left| Instant::now() + Duration::from_millis(left))
}

/// One line of log, and the answer or the error in the form that Lambda records.
fn conclude(source: &Source, outcome: Result<Answer, (Error, String)>) -> Result<Answer, Diagnostic> {
    match outcome {
        Ok(answer) => {
            tracing::info!(
                source = answer.source,
                tenant = answer.tenant,
                status = ?answer.status,
                events = answer.events,
                duplicates = answer.duplicates,
                rejected = answer.rejected,
                requests = answer.requests,
                batches = answer.batches,
                lag_seconds = answer.lag_seconds,
                "run done"
            );
            Ok(answer)
        }
        Err((error, tenant)) => {
            let message = error.report(source.name, &tenant, source.permission);
            tracing::error!(error_type = error.error_type().as_str(), "{message}");
            Err(Diagnostic { error_type: error.error_type().as_str().to_owned(), error_message: message })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_in_the_past_is_none() {
        let now = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        assert_eq!(deadline(600_000, now), None);
        assert_eq!(deadline(1_700_000_000_000, now), None);
        assert_eq!(deadline(1_700_000_007_000, now), Some(Instant::now() + Duration::from_secs(7)));
    }
}
