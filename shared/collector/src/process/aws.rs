//! AWS as the environment describes it, reached over the HTTPS that all clients here share. The SDK's own HTTP client would read
//! the root certificates a second time, and bring a second connection pool.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_dynamodb::config::ProvideCredentials as _;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use tokio::time::Duration;

/// How long a call may take, and how often it is tried: at most 24 s with all attempts.
pub fn patience() -> (TimeoutConfig, RetryConfig) {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(3))
        .operation_attempt_timeout(Duration::from_secs(4));
    // No limit on the whole operation: it would end it with a bare "timeout", whatever its attempts met.
    (timeouts.build(), RetryConfig::standard().with_max_attempts(5).with_max_backoff(Duration::from_secs(1)))
}

/// What the AWS SDK finds in the environment, over the HTTPS that all clients share.
pub async fn config() -> SdkConfig {
    let (timeouts, retries) = patience();
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .http_client(http_client())
        .timeout_config(timeouts)
        .retry_config(retries);
    // Lambda's keys. They come first in the SDK's chain too, which would set up the clients of all other kinds before.
    let keys = EnvironmentVariableCredentialsProvider::new();
    if keys.provide_credentials().await.is_ok() {
        loader = loader.credentials_provider(keys);
    }
    loader.load().await
}

/// The SDK's way to the network. It asks for a connector at each call: the clients, and their connections, are kept here.
pub(crate) fn http_client() -> SharedHttpClient {
    let clients = Mutex::new(HashMap::new());
    http_client_fn(move |settings, _| {
        let mut clients = clients.lock().unwrap_or_else(PoisonError::into_inner);
        let timeouts = (settings.connect_timeout(), settings.read_timeout());
        let client = match clients.get(&timeouts) {
            Some(client) => Ok(Clone::clone(client)),
            None => client(settings).inspect(|client| drop(clients.insert(timeouts, client.clone()))),
        };
        SharedHttpConnector::new(Connector(client))
    })
}

fn client(settings: &HttpConnectorSettings) -> Result<reqwest::Client, String> {
    // Bodies as they come: what the SDK did not ask for it would not undo.
    let mut client = https::builder().map_err(|error| error.to_string())?.no_gzip().no_deflate();
    if let Some(time) = settings.connect_timeout() {
        client = client.connect_timeout(time);
    }
    if let Some(time) = settings.read_timeout() {
        client = client.read_timeout(time);
    }
    client.build().map_err(|error| format!("{error:?}"))
}

/// One kind of client, or why there is none.
#[derive(Debug)]
struct Connector(Result<reqwest::Client, String>);

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let client = self.0.clone();
        HttpConnectorFuture::new(async move {
            let client = client.map_err(|text| ConnectorError::user(text.into()))?;
            let request = request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
            let request = reqwest::Request::try_from(request.map(reqwest::Body::wrap));
            let request = request.map_err(|error| ConnectorError::user(error.into()))?;
            let response = client.execute(request).await.map_err(|error| match error.is_timeout() {
                true => ConnectorError::timeout(https::explain(error).into()),
                // The SDK tries again after both.
                false => ConnectorError::io(https::explain(error).into()),
            })?;
            let response = http::Response::<reqwest::Body>::from(response).map(SdkBody::from_body_1_x);
            HttpResponse::try_from(response).map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}
