//! Logging to standard error: lines for people, or flat JSON objects where Lambda's logging controls ask for them.
//!
//! Standard output is left alone, as it is a way out to Devo.

use std::io::{self, IsTerminal};

use tracing::{Dispatch, Level};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, layer::SubscriberExt};

use crate::settings::{log_level, set};

/// The crates that log at the level set; all others at warn, or less if less is asked for.
const OWN: [&str; 5] = ["collector", "mimecast", "devo", "functions", "mimecast_devo"];

/// Starts logging as `LOG_LEVEL`, `AWS_LAMBDA_LOG_LEVEL` and `AWS_LAMBDA_LOG_FORMAT` in `lookup` say. Does nothing if that has
/// been done.
///
/// An impossible `LOG_LEVEL` counts as info here: [`crate::Settings`] reports it.
pub fn init_logging(lookup: impl Fn(&str) -> Option<String>) {
    let colours = io::stderr().is_terminal() && set(&lookup, "NO_COLOR").is_none();
    // An error says that something logs already.
    dispatch(lookup, colours, io::stderr).try_init().ok();
}

fn dispatch<W>(lookup: impl Fn(&str) -> Option<String>, colours: bool, writer: W) -> Dispatch
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let level = log_level(&lookup).unwrap_or(Level::INFO);
    let targets = Targets::new()
        .with_default(LevelFilter::from(level).min(LevelFilter::WARN))
        // Says each error of ours once more; a panic is printed without it.
        .with_target("lambda_runtime::layers::panic", LevelFilter::OFF);
    let targets = OWN.into_iter().fold(targets, |targets, name| targets.with_target(name, level));
    let json = set(&lookup, "AWS_LAMBDA_LOG_FORMAT").is_some_and(|format| format.eq_ignore_ascii_case("json"));
    let layer = fmt::layer().with_writer(writer).with_ansi(colours);
    let layer = if json {
        layer.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed()
    } else {
        layer.boxed()
    };
    tracing_subscriber::registry().with(layer.with_filter(targets)).into()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is written of the same few events under these variables.
    fn logged(variables: &[(&str, &str)]) -> Vec<String> {
        let lookup = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, v)| (*v).to_owned());
        let buffer = Buffer::default();
        let writer = buffer.clone();
        tracing::dispatcher::with_default(&dispatch(lookup, false, move || writer.clone()), || {
            let _span = tracing::error_span!(target: "collector", "run", source = "siem").entered();
            let _other = tracing::info_span!(target: "hyper", "other", secret = "in a span").entered();
            tracing::debug!(target: "mimecast::client", "own debug");
            tracing::info!(target: "collector::run", rows = 7, "own info");
            tracing::error!(target: "mimecast_devo", "own error\u{1b}[31m\nsecond line");
            tracing::info!(target: "hyper::client", "other info");
            tracing::warn!(target: "hyper::client", "other warn");
        });
        let bytes = buffer.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }

    fn count(lines: &[String], text: &str) -> usize {
        lines.iter().filter(|line| line.contains(text)).count()
    }

    #[test]
    fn own_crates_at_the_level_and_others_at_warn() {
        for (variables, own_debug, own_info, other_warn) in [
            (&[][..], 0, 1, 1),
            (&[("LOG_LEVEL", "debug")], 1, 1, 1),
            (&[("AWS_LAMBDA_LOG_LEVEL", "DEBUG")], 1, 1, 1),
            (&[("LOG_LEVEL", "error"), ("AWS_LAMBDA_LOG_LEVEL", "DEBUG")], 0, 0, 0),
            (&[("LOG_LEVEL", "impossible")], 0, 1, 1),
        ] {
            let lines = logged(variables);
            assert_eq!(count(&lines, "own debug"), own_debug, "{lines:?}");
            assert_eq!(count(&lines, "own info"), own_info, "{lines:?}");
            assert_eq!(count(&lines, "own error"), 1, "{lines:?}");
            assert_eq!(count(&lines, "other info"), 0, "{lines:?}");
            assert_eq!(count(&lines, "other warn"), other_warn, "{lines:?}");
        }
    }

    #[test]
    fn json_lines_are_flat() {
        let lines = logged(&[("AWS_LAMBDA_LOG_FORMAT", "JSON")]);
        assert_eq!(lines.len(), 3, "{lines:?}");
        let line: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["message"], "own info");
        assert_eq!(line["target"], "collector::run");
        assert_eq!(line["rows"], 7);
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
        assert_eq!(line["span"], serde_json::json!({"name": "run", "source": "siem"}));
        assert_eq!(line.as_object().unwrap().len(), 6, "{line}");
    }

    #[test]
    fn text_lines_have_no_colours_and_let_none_through() {
        let lines = logged(&[("AWS_LAMBDA_LOG_FORMAT", "Text")]);
        assert!(lines[0].contains("INFO") && lines[0].ends_with("own info rows=7"), "{lines:?}");
        assert!(lines.iter().all(|line| line.contains("run{source=\"siem\"}: ") || line == "second line"), "{lines:?}");
        assert_eq!(count(&lines, "\u{1b}"), 0, "{lines:?}");
    }

    #[test]
    fn starting_twice_is_fine() {
        init_logging(crate::variable);
        init_logging(crate::variable);
    }
}
