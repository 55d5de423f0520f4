//! The shared stand-ins do what they stand for: AWS as the SDK sees it, the Runtime API as `lambda_runtime` does.
//!
//! The function under the Runtime API is this test program itself, started without arguments.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../../tests/support/mod.rs"]
mod support;

use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_dynamodb::config::Credentials;
use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_sdk_dynamodb::types::AttributeValue::{self, N, S};
use aws_sdk_dynamodb::types::{TransactWriteItem, Update};
use lambda_runtime::{Context, Diagnostic, LambdaEvent, service_fn};
use mimecast_devo::embedded::{Embedded, TABLE};
use serde_json::{Value, json};
use support::aws::{Aws, Fault, secret_arn};
use support::runtime::{Deadline, Function, Outcome, Runtime};

/// True in the process that plays the function, where only `function` may do something.
fn is_function() -> bool {
    std::env::var_os("AWS_LAMBDA_RUNTIME_API").is_some()
}

fn start() -> (Embedded, Aws) {
    let embedded = Embedded::memory().unwrap();
    (embedded.clone(), Aws::start(embedded))
}

async fn config(aws: &Aws) -> SdkConfig {
    aws_config::defaults(BehaviorVersion::v2026_01_12())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .region(Region::from_static("eu-west-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "test"))
        .endpoint_url(aws.url())
        .load()
        .await
}

fn key(sk: &str) -> [(String, AttributeValue); 2] {
    [("pk".to_owned(), S("p".to_owned())), ("sk".to_owned(), S(sk.to_owned()))]
}

/// Adds one to the item's `count`.
fn add(sk: &str) -> TransactWriteItem {
    let update = Update::builder()
        .table_name(TABLE)
        .set_key(Some(key(sk).into()))
        .update_expression("ADD commits :one")
        .expression_attribute_values(":one", N("1".to_owned()));
    TransactWriteItem::builder().update(update.build().unwrap()).build()
}

async fn commits(client: &aws_sdk_dynamodb::Client, sk: &str) -> Option<AttributeValue> {
    let get = client.get_item().table_name(TABLE).set_key(Some(key(sk).into())).send().await.unwrap();
    get.item?.remove("commits")
}

#[tokio::test]
async fn secrets_are_found_by_name_and_arn() {
    if is_function() {
        return;
    }
    let (_, aws) = start();
    let client = aws_sdk_secretsmanager::Client::new(&config(&aws).await);
    let get = |id: &str| client.get_secret_value().secret_id(id).send();
    aws.set_secret("devo", r#"{"domain":"d"}"#);
    for id in ["devo", &secret_arn("devo")] {
        assert_eq!(get(id).await.unwrap().secret_string(), Some(r#"{"domain":"d"}"#));
    }
    aws.fault("GetSecretValue", Fault::DENIED, 1);
    assert_eq!(get("devo").await.unwrap_err().code(), Some("AccessDeniedException"));
    aws.remove_secret("devo");
    assert!(get("devo").await.unwrap_err().into_service_error().is_resource_not_found_exception());
    assert_eq!(aws.calls(), ["GetSecretValue"; 4]);
}

#[tokio::test]
async fn the_table_is_the_engines_and_faults_come_as_ordered() {
    if is_function() {
        return;
    }
    let (embedded, aws) = start();
    let client = aws_sdk_dynamodb::Client::new(&config(&aws).await);
    let transact = |sk| client.transact_write_items().transact_items(add(sk)).send();

    aws.fault("TransactWriteItems", Fault::THROTTLED, 2);
    transact("throttled").await.unwrap();
    assert_eq!(aws.calls(), ["TransactWriteItems"; 3], "the SDK tried again");
    assert_eq!(commits(&embedded.client(), "throttled").await, Some(N("1".to_owned())));

    aws.fault("TransactWriteItems", Fault::THROTTLED, 3);
    let error = transact("refused").await.unwrap_err();
    assert!(error.into_service_error().is_provisioned_throughput_exceeded_exception());
    assert_eq!(commits(&client, "refused").await, None);

    // The answer is lost, the SDK sends the same token again, and the engine knows it.
    for (sk, fault) in [("lost", Fault::Lost), ("cut", Fault::Cut)] {
        let before = aws.calls().len();
        aws.fault("TransactWriteItems", fault, 1);
        transact(sk).await.unwrap();
        assert_eq!(aws.calls()[before..], ["TransactWriteItems"; 2], "{sk}");
        assert_eq!(commits(&client, sk).await, Some(N("1".to_owned())), "{sk}");
    }
}

/// The function: says what it was given, fails, or dies. Not a test by itself.
#[tokio::test]
async fn function() {
    if !is_function() {
        return;
    }
    let handler = service_fn(async |event: LambdaEvent<Value>| {
        println!("event {}", event.payload);
        let Context { deadline, env_config, .. } = event.context;
        match event.payload["do"].as_str() {
            Some("fail") => {
                let (error_type, error_message) = ("Configuration".to_owned(), "as told".to_owned());
                Err(Diagnostic { error_type, error_message })
            }
            Some("die") => std::process::exit(7),
            Some("hang") => std::future::pending().await,
            _ => Ok(json!({"deadline": deadline, "function": env_config.function_name, "home": std::env::home_dir()})),
        }
    });
    lambda_runtime::run(handler).await.unwrap();
}

#[tokio::test]
async fn a_function_answers_fails_dies_and_is_killed() {
    if is_function() {
        return;
    }
    let (_, aws) = start();
    let binary = std::env::current_exe().unwrap();
    let start = || {
        let runtime = Runtime::start();
        let function = Function::spawn(&binary, &runtime, &aws, &[("HOME", "/nowhere"), ("RUST_TEST_NOCAPTURE", "1")]);
        (runtime, function)
    };
    let minute = Deadline::In(Duration::from_secs(60));

    let (runtime, function) = start();
    let answer = runtime.invoke("{}", Deadline::At(600_000)).await;
    let name = binary.file_stem().unwrap().to_str().unwrap();
    assert_eq!(answer, Outcome::Answer(json!({"deadline": 600_000, "function": name, "home": "/nowhere"})));
    let failed = runtime.invoke(r#"{"do":"fail"}"#, minute).await;
    let (error_type, error_message) = ("Configuration".to_owned(), "as told".to_owned());
    assert_eq!(failed, Outcome::Failed { error_type, error_message });
    for _ in 0..2 {
        let Outcome::Died { status, output } = runtime.invoke(r#"{"do":"die"}"#, minute).await else {
            panic!("it lives")
        };
        assert_eq!(status.code(), Some(7));
        for event in ["event {}", r#"event {"do":"fail"}"#, r#"event {"do":"die"}"#] {
            assert!(output.contains(event), "{output}");
        }
        assert_eq!(output, function.output());
    }

    let (runtime, mut function) = start();
    let hang = runtime.invoke(r#"{"do":"hang"}"#, minute);
    let kill = async {
        while !function.output().contains("hang") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        function.kill();
    };
    let (died, ()) = tokio::join!(hang, kill);
    let Outcome::Died { status, .. } = died else { panic!("it lives") };
    assert_eq!(status.code(), None, "killed by a signal");
}
