//! The checkpoint table as a machine reaches it: DynamoDB's engine in this process, behind the simulated network.

use std::time::SystemTime;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::{RetryPartition, TokenBucket};
use aws_sdk_dynamodb::config::{BehaviorVersion, Config, Credentials, Region};
use aws_smithy_async::time::TimeSource;
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use serde_json::Value;

use crate::faults;
use crate::ledger;
use crate::network::Wire;
use crate::trace::digest;
use crate::world::{World, lock};

/// A client over this machine's network, as patient as the product's.
pub fn client(wire: Wire) -> Client {
    let clock = Clock(wire.clone());
    let connector = SharedHttpConnector::new(Connector(wire));
    let (timeouts, retries) = collector::aws_patience();
    let config = Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::from_static("simulated"))
        .credentials_provider(Credentials::new("simulated", "simulated", None, None, "simulated"))
        .endpoint_url("https://dynamodb.simulated")
        .timeout_config(timeouts)
        .retry_config(retries)
        // By default all clients of a process draw on one budget of tries.
        .retry_partition(RetryPartition::custom("machine").token_bucket(TokenBucket::default()).build())
        .time_source(clock)
        .http_client(http_client_fn(move |_, _| connector.clone()))
        .build();
    Client::from_conf(config)
}

/// The world's time for the SDK.
#[derive(Debug)]
struct Clock(Wire);

impl TimeSource for Clock {
    fn now(&self) -> SystemTime {
        self.0.world.now().into()
    }
}

#[derive(Debug)]
struct Connector(Wire);

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let wire = self.0.clone();
        HttpConnectorFuture::new(async move {
            let target = request.headers().get("x-amz-target").unwrap_or_default();
            let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
            let body = request.body().bytes().unwrap_or_default().to_vec();
            let (way, run) = (wire.way(), wire.run.clone());
            let (name, breaks, sent) = (wire.name(), way.breaks, lock(&run).uncommitted.clone());
            let source = wire.source.name;
            let effect = move |world: &World| {
                let (status, answer, said) = answer(world, &operation, &body);
                let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
                let answered: Value = serde_json::from_slice(&answer).unwrap_or_default();
                if status == 200
                    && let Some(moved) = record(world, &asked, &answered)
                {
                    let mut run = lock(&run);
                    ledger::subtract(&mut run.uncommitted, &sent);
                    run.moved |= moved || !sent.is_empty();
                    if moved {
                        world.ledger().shown_for(source);
                    }
                }
                world.note(&format!("{name} dynamo {operation} {} -> {status}{said} {breaks:?}", shown(&asked)));
                (status, answer)
            };
            match wire.carry(way, effect).await {
                Ok((status, answer)) => {
                    let status = status.try_into().map_err(|error| ConnectorError::other(Box::new(error), None))?;
                    Ok(HttpResponse::new(status, SdkBody::from(answer)))
                }
                Err(error) => Err(ConnectorError::io(error.into())),
            }
        })
    }
}

fn answer(world: &World, operation: &str, body: &[u8]) -> (u16, Vec<u8>, &'static str) {
    if !world.is_calm() && world.rng().f64() < world.plan.dynamo {
        world.ledger().counts.faults += 1;
        let (status, body) = faults::dynamo(&mut world.rng(), operation);
        return (status, body.into_bytes(), " (fault)");
    }
    let (status, answer) = world.table.execute(operation, body);
    (status, answer, "")
}

/// Enters a write that took effect into the books; where it was a commit, whether it moved the state on.
fn record(world: &World, asked: &Value, answered: &Value) -> Option<bool> {
    let update = asked.get("TransactItems").map_or(asked, |items| &items[0]["Update"]);
    let (Some(expression), Some(sk)) = (update["UpdateExpression"].as_str(), update["Key"]["sk"]["S"].as_str()) else {
        return None;
    };
    let key = format!("{}/{sk}", update["Key"]["pk"]["S"].as_str().unwrap_or_default());
    let number = |value: &Value| value["N"].as_str().and_then(|text| text.parse::<i64>().ok()).unwrap_or_default();
    if expression.contains("ADD epoch") {
        world.ledger().leased(&key, number(&answered["Attributes"]["epoch"]));
        return None;
    }
    if asked["ClientRequestToken"].as_str().is_some_and(|token| !world.ledger().done(token)) {
        return Some(false);
    }
    let values = &update["ExpressionAttributeValues"];
    let state = values[":state"]["S"].as_str().and_then(|text| serde_json::from_str(text).ok());
    // A listing by date may rightly give a token that is further back than the one before it.
    let position =
        |token: &str| world.mimecast.token_position(token).filter(|_| !world.plan.v2 || !key.contains("siem"));
    Some(world.ledger().moved(&key, number(&values[":epoch"]), state, position))
}

/// A request without what differs from run to run: the owner's UUID, the idempotency token.
fn shown(asked: &Value) -> String {
    let update = asked.get("TransactItems").map_or(asked, |items| &items[0]["Update"]);
    let values = &update["ExpressionAttributeValues"];
    let text = |name: &str| values[name]["S"].as_str().or_else(|| values[name]["N"].as_str()).unwrap_or("-").to_owned();
    let puts = asked["TransactItems"].as_array().into_iter().flatten().skip(1);
    let puts: Vec<String> = puts.map(|put| digest(sorted(&put["Put"]["Item"]).as_bytes())).collect();
    let lease = if values.get(":until").is_some() { format!(" lease until {}", text(":until")) } else { String::new() };
    let release = if values.get(":released").is_some() { " release" } else { "" };
    format!("epoch {} state {} +{puts:?}{lease}{release} from {}", text(":epoch"), text(":state"), text(":from"))
}

/// The members in order, whatever the map they were written from.
fn sorted(item: &Value) -> String {
    let mut members: Vec<String> = item.as_object().into_iter().flatten().map(|(k, v)| format!("{k}:{v}")).collect();
    members.sort();
    members.join(",")
}
