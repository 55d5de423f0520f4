//! `--stack`: the answers of AWS, read as they are. That the calls are right is shown by the rehearsal of the deployment.

use std::collections::BTreeMap;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use mimecast_devo::embedded::TABLE;
use serde_json::{Value, json};

use crate::world::{World, said};

/// What is answered to a call, by what its path or body holds.
type Answers = BTreeMap<&'static str, String>;

const STACK: &str = "<DescribeStacksResponse xmlns=\"http://cloudformation.amazonaws.com/doc/2010-05-15/\"><DescribeStacksResult><Stacks>
    <member><Parameters><member><ParameterKey>Tenant</ParameterKey><ParameterValue>default</ParameterValue></member>
    <member><ParameterKey>Sources</ParameterKey><ParameterValue>url,audit</ParameterValue></member></Parameters></member>
    </Stacks></DescribeStacksResult></DescribeStacksResponse>";

fn alarms(action: &str) -> String {
    let alarm = |name: &str, actions: &str| {
        format!("<member><AlarmName>{name}</AlarmName><AlarmActions>{actions}</AlarmActions></member>")
    };
    let told = alarm("mine-lag", "<member>arn:aws:sns:eu-west-1:1:t</member>");
    format!(
        "<DescribeAlarmsResponse xmlns=\"http://monitoring.amazonaws.com/doc/2010-08-01/\"><DescribeAlarmsResult><MetricAlarms>{told}{}\
         </MetricAlarms></DescribeAlarmsResult></DescribeAlarmsResponse>",
        alarm("mine-gap", action)
    )
}

async fn answer(State(answers): State<Answers>, headers: HeaderMap, uri: Uri, body: Bytes) -> (StatusCode, String) {
    assert!(headers["authorization"].to_str().unwrap().starts_with("AWS4-HMAC-SHA256 Credential=test/"));
    let target = headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
    let asked = format!("{uri} {target} {}", String::from_utf8_lossy(&body));
    match answers.iter().find(|(part, _)| asked.contains(*part)) {
        Some((_, answer)) => (StatusCode::OK, answer.clone()),
        None => (
            StatusCode::BAD_REQUEST,
            "<ErrorResponse><Error><Message>Stack does not exist</Message></Error></ErrorResponse>".to_owned(),
        ),
    }
}

async fn world(answers: Answers) -> World {
    let mut world = World::new().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings = [
        ("AWS_ENDPOINT_URL", format!("http://{}", listener.local_addr().unwrap())),
        ("AWS_REGION", "eu-west-1".to_owned()),
        ("AWS_ACCESS_KEY_ID", "test".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
        ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
    ];
    world.settings = settings.map(|(name, value)| (name.to_owned(), value)).into();
    let app = Router::new().fallback(answer).with_state(answers);
    tokio::spawn(async move { axum::serve(listener, app).await });
    world
}

fn answers() -> Answers {
    let variables = json!({"CHECKPOINT_TABLE": TABLE, "DEVO_URL": "secret", "TENANT": "default"});
    let function = json!({
        "FunctionArn": "arn:aws:lambda:eu-west-1:123456789012:function:mine-url",
        "Environment": {"Variables": variables},
    });
    let well = json!({"checks": [{"name": "url", "ok": true, "detail": "may be read", "remedy": null}], "ok": true});
    [
        ("DescribeStacks", STACK.to_owned()),
        ("/functions/mine-url/configuration", function.to_string()),
        ("/functions/mine-url/invocations", well.to_string()),
        (
            "/functions/mine-audit/invocations",
            json!({"errorType": "Runtime.ExitError", "errorMessage": "it died"}).to_string(),
        ),
        ("DescribeAlarms", alarms("")),
        ("StartExecution", json!({"executionArn": "arn:of:the:execution"}).to_string()),
        ("DescribeExecution", json!({"status": "SUCCEEDED", "output": "{\"events\":7}"}).to_string()),
    ]
    .into()
}

#[tokio::test]
async fn the_functions_check_themselves_and_alarms_that_tell_nobody_are_named() {
    let world = world(answers()).await;
    let output = world.run(&["check", "--stack", "mine", "--json"]).await;
    let all: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    let failed: Vec<(&str, &str)> = all["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|check| check["ok"] == false)
        .map(|check| (check["name"].as_str().unwrap(), check["detail"].as_str().unwrap()))
        .collect();
    assert_eq!(failed, [("alarms", "1 of 2 tell nobody, such as mine-gap"), ("audit: function", "it died")]);
    assert_eq!(all["checks"].as_array().unwrap().len(), 3);
    assert_eq!(output.status.code(), Some(1));

    let mut good = answers();
    good.insert("DescribeAlarms", alarms("<member>arn:aws:sns:eu-west-1:1:t</member>"));
    good.insert("/functions/mine-audit/invocations", good["/functions/mine-url/invocations"].clone());
    let told = said(&self::world(good).await.run(&["check", "--stack", "mine"]).await);
    assert!(told.contains("\u{2713} alarms") && told.contains("all 2 tell somebody"), "{told}");
}

#[tokio::test]
async fn a_backfill_is_started_and_followed() {
    let words = ["backfill", "--stack", "mine", "--source", "url", "--from", "2026-01-01", "--to", "2026-01-02"];
    let told = said(&world(answers()).await.run(&words).await);
    assert!(told.contains("arn:of:the:execution") && told.contains(r#"finished, {"events":7}"#), "{told}");
    let mut bad = answers();
    bad.insert("DescribeExecution", json!({"status": "FAILED", "error": "SlicesFailed", "cause": "two"}).to_string());
    let output = world(bad).await.run(&words).await;
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && text.contains("SlicesFailed two"), "{text}");
}

#[tokio::test]
async fn a_stack_that_is_not_there_is_told_in_one_line() {
    let output = world(Answers::new()).await.run(&["status", "--stack", "nobody"]).await;
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.code() == Some(2) && text.contains("stack nobody") && text.contains("Stack does not exist"),
        "{text}"
    );
    assert_eq!(text.lines().count(), 1, "{text}");
}
