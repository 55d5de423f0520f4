//! A function that is asked to check itself: what is wrong is an answer, and nothing is delivered or remembered.

use std::time::Duration;

use serde_json::{Value, json};
use simulator::data;

use crate::support::aws::Fault;
use crate::support::runtime::{Deadline, Outcome};
use crate::world::{Api, SOURCES, World, now};

impl World {
    async fn check(&mut self, source: &str, event: &str) -> Value {
        match self.invoke_with(source, event, Deadline::In(Duration::from_secs(60))).await {
            Outcome::Answer(answer) => answer,
            other => panic!("{source}: {other:?}"),
        }
    }
}

/// The names of what failed.
fn failed(answer: &Value) -> Vec<&str> {
    let failed: Vec<&Value> =
        answer["checks"].as_array().unwrap().iter().filter(|check| check["ok"] == false).collect();
    assert_eq!(answer["ok"], json!(failed.is_empty()), "{answer}");
    assert!(failed.iter().all(|check| check["remedy"].is_string()), "{answer}");
    failed.iter().map(|check| check["name"].as_str().unwrap()).collect()
}

const CHECK: &str = r#"{"check":true}"#;

#[tokio::test]
async fn each_function_checks_what_a_run_of_it_needs_and_delivers_nothing() {
    for api in [Api::V1, Api::V2] {
        let mut world = World::new(api).await;
        let expected = data::lively(&world.mimecast, 31, now(), 1);
        for source in SOURCES {
            let answer = world.check(source, CHECK).await;
            assert!(failed(&answer).is_empty(), "{answer}");
            assert_eq!((&answer["source"], &answer["tenant"]), (&json!(source), &json!("default")));
            let names: Vec<&str> =
                answer["checks"].as_array().unwrap().iter().map(|check| check["name"].as_str().unwrap()).collect();
            let wanted =
                ["settings", "checkpoints", "mimecast secret", "devo secret", "mimecast keys", "clock", source, "devo"];
            assert_eq!(names, wanted);
            assert_eq!(answer.as_object().unwrap().len(), 4);
        }
        assert!(world.devo.lines().is_empty());
        // Nothing has moved: a run finds all that there is.
        for source in SOURCES {
            world.run(source).await;
        }
        let mut delivered = world.devo.lines();
        delivered.remove(data::SUMMARY_TABLE);
        let mut expected = expected;
        expected.remove(data::SUMMARY_TABLE);
        for (table, mut lines) in expected {
            let mut came = delivered.remove(&table).unwrap_or_default();
            lines.sort();
            came.sort();
            assert_eq!(came, lines, "{table}");
        }
        assert!(delivered.is_empty(), "{:?}", delivered.keys());
    }
}

#[tokio::test]
async fn what_is_wrong_is_an_answer_that_names_it() {
    let mut world = World::new(Api::V2).await;
    for operation in ["Query", "PutItem", "UpdateItem"] {
        world.aws.fault(operation, Fault::DENIED, 1);
        let answer = world.check("audit", CHECK).await;
        assert_eq!(failed(&answer), ["checkpoints"]);
        assert!(answer.to_string().contains("Query, PutItem and UpdateItem"), "{answer}");
    }
    world.mimecast.deny("/api/audit/");
    world.aws.remove_secret("devo");
    let answer = world.check("audit", r#"{"check":true,"tenant":"acme"}"#).await;
    assert_eq!(failed(&answer), ["devo secret", "audit"]);
    assert_eq!(answer["tenant"], "acme");
    assert!(answer.to_string().contains("Account | Logs | Read"), "{answer}");

    world.stop("audit");
    world.unset("CHECKPOINT_TABLE").set("PAGE_SIZE", "0");
    let answer = world.check("audit", CHECK).await;
    assert_eq!(failed(&answer), ["settings"]);
    let text = answer.to_string();
    assert!(text.contains("CHECKPOINT_TABLE") && text.contains("PAGE_SIZE"), "{text}");
}

#[tokio::test]
async fn an_event_that_asks_wrongly_is_an_error() {
    let mut world = World::new(Api::V2).await;
    let outcome = world.invoke_with("audit", r#"{"check":"yes"}"#, Deadline::In(Duration::from_secs(60))).await;
    let Outcome::Failed { error_type, error_message } = outcome else { panic!("{outcome:?}") };
    assert!(error_type == "Configuration" && error_message.contains("check in the event"), "{error_message}");
    // Not asked for: a run.
    let answer = world.check("audit", r#"{"check":false}"#).await;
    assert_eq!(answer["status"], "caught_up");
}
