//! Reads a secret's text by its id. What the text means, and how long it is kept, is the caller's business.

use aws_config::SdkConfig;
use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValueError;
use secrecy::SecretString;

use crate::error::Error;
use crate::process::aws;
use crate::settings::variable;

/// Where secrets are read from: AWS Secrets Manager, a file or an environment variable.
#[derive(Debug, Clone)]
pub struct Secrets {
    aws: Option<Client>,
}

impl Secrets {
    /// Reads from AWS through this client; without one only `file:` and `env:` ids can be read.
    pub fn new(aws: Option<Client>) -> Self {
        Self { aws }
    }

    /// Reads from AWS too, with the SDK's usual credentials and endpoints.
    pub async fn on_aws() -> Self {
        Self::over(&aws::config().await)
    }

    pub(super) fn over(config: &SdkConfig) -> Self {
        Self::new(Some(Client::new(config)))
    }

    /// The text of a secret: `file:<path>`, `env:<name of a variable>`, or a Secrets Manager name or ARN.
    ///
    /// # Errors
    /// [`Error::Configuration`] that names the id, what failed and what to do.
    pub async fn get(&self, id: &str) -> Result<SecretString, Error> {
        if let Some(path) = id.strip_prefix("file:") {
            read_file(path)
        } else if let Some(name) = id.strip_prefix("env:") {
            let unset = || configuration(id, &format!("the environment variable {name} is not set"));
            variable(name).map(SecretString::from).ok_or_else(unset)
        } else {
            self.get_from_aws(id).await
        }
    }

    async fn get_from_aws(&self, id: &str) -> Result<SecretString, Error> {
        let Some(client) = &self.aws else {
            return Err(configuration(
                id,
                "there is no AWS here: use file:<path> or env:<name of a variable>, or set AWS_REGION",
            ));
        };
        let value = client.get_secret_value().secret_id(id).send().await;
        let value = value.map_err(|error| configuration(id, &explain(&error)))?;
        match (value.secret_string, value.secret_binary) {
            (Some(text), _) => Ok(text.into()),
            (None, Some(binary)) => String::from_utf8(binary.into_inner())
                .map(SecretString::from)
                .map_err(|_| configuration(id, "it is binary and not UTF-8: store the JSON as text")),
            (None, None) => Err(configuration(id, "it has no value: store the JSON in it")),
        }
    }
}

fn read_file(path: &str) -> Result<SecretString, Error> {
    let text =
        std::fs::read_to_string(path).map_err(|error| configuration(&format!("file:{path}"), &error.to_string()))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        if std::fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o004 != 0) {
            tracing::warn!(path, "every user of this host can read the secret file: chmod 600 it");
        }
    }
    Ok(text.into())
}

/// What went wrong and what to do about it.
fn explain(error: &SdkError<GetSecretValueError>) -> String {
    let Some(code) = error.code() else {
        let causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
        let causes: Vec<String> = causes.map(ToString::to_string).collect();
        let advice = "check the AWS credentials and region, and the network's way to Secrets Manager";
        return format!("{}: {advice}", causes.join(": "));
    };
    let advice = match code {
        "ResourceNotFoundException" => {
            "there is none of this name, so create it or correct the id and the region; or it has no value yet, so store the JSON in it"
        }
        "AccessDeniedException" | "DecryptionFailure" => {
            "allow the function's role secretsmanager:GetSecretValue on it, and kms:Decrypt on its key if that is your own; or \
             there is no secret of this name and in this region, which a role that may read only some is told in the same words"
        }
        "InvalidRequestException" => "restore it if it is scheduled for deletion, or store a value in it",
        _ => "the next run tries again; if it lasts, check the id and the function's role",
    };
    format!("{code}: {}: {advice}", error.message().unwrap_or("no message"))
}

fn configuration(id: &str, text: &str) -> Error {
    Error::Configuration(format!("the secret {id} cannot be read: {text}"))
}

#[cfg(test)]
mod tests {
    use aws_sdk_secretsmanager::config::retry::RetryConfig;
    use aws_sdk_secretsmanager::config::{BehaviorVersion, Credentials, Region};
    use secrecy::ExposeSecret;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn read(aws: Option<Client>, id: &str) -> Result<String, String> {
        match Secrets::new(aws).get(id).await {
            Ok(secret) => Ok(secret.expose_secret().to_owned()),
            Err(Error::Configuration(message)) => Err(message),
            Err(other) => panic!("{other:?}"),
        }
    }

    fn client(port: u16) -> Client {
        let config = aws_sdk_secretsmanager::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(crate::process::aws::http_client())
            .region(Region::new("eu-west-1"))
            .credentials_provider(Credentials::new("AKID", "aws-s3cret", None, None, "test"))
            .endpoint_url(format!("http://127.0.0.1:{port}"))
            .retry_config(RetryConfig::disabled());
        Client::from_conf(config.build())
    }

    /// Reads the secret `some/id` from a server that answers so.
    async fn answered(status: &str, body: &str) -> Result<String, String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        let server = tokio::spawn(async move {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(br#"{"SecretId":"some/id"}"#) {
                assert_ne!(connection.read_buf(&mut request).await.unwrap(), 0);
            }
            connection.write_all(answer.as_bytes()).await.unwrap();
        });
        let result = read(Some(client(port)), "some/id").await;
        server.await.unwrap();
        result
    }

    #[tokio::test]
    async fn a_file() {
        let path = std::env::temp_dir().join(format!("collector-secret-{}", std::process::id()));
        std::fs::write(&path, "{\"token\":\"s3cret\"}\n").unwrap();
        let id = format!("file:{}", path.display());
        assert_eq!(read(None, &id).await.unwrap(), "{\"token\":\"s3cret\"}\n");
        std::fs::write(&path, b"s3cret\xff").unwrap();
        let message = read(None, &id).await.unwrap_err();
        assert!(message.contains(&id) && !message.contains("s3cret"), "{message}");
        std::fs::remove_file(&path).unwrap();
        let message = read(None, &id).await.unwrap_err();
        assert!(message.contains(&id) && message.contains("No such file"), "{message}");
    }

    #[tokio::test]
    async fn a_variable() {
        assert_eq!(read(None, "env:CARGO_PKG_NAME").await.unwrap(), "collector");
        assert_eq!(
            read(None, "env:NOBODY_SETS_THIS").await.unwrap_err(),
            "the secret env:NOBODY_SETS_THIS cannot be read: the environment variable NOBODY_SETS_THIS is not set"
        );
    }

    #[tokio::test]
    async fn without_aws_a_plain_id_is_an_error() {
        let message = read(None, "some/id").await.unwrap_err();
        assert!(message.contains("some/id") && message.contains("file:") && message.contains("env:"), "{message}");
    }

    #[tokio::test]
    async fn aws_answers_text_or_binary() {
        let text = r#"{"Name":"some/id","SecretString":"{\"token\":\"s3cret\"}"}"#;
        assert_eq!(answered("200 OK", text).await.unwrap(), r#"{"token":"s3cret"}"#);
        assert_eq!(answered("200 OK", r#"{"SecretBinary":"czNjcmV0"}"#).await.unwrap(), "s3cret");
        let message = answered("200 OK", r#"{"SecretBinary":"czNjcmV0/w=="}"#).await.unwrap_err();
        assert!(message.contains("some/id") && message.contains("not UTF-8"), "{message}");
        assert!(!message.contains("s3cret"), "{message}");
        assert!(answered("200 OK", "{}").await.unwrap_err().contains("no value"));
    }

    #[tokio::test]
    async fn aws_refuses() {
        for (code, advice) in [
            ("ResourceNotFoundException", "correct the id"),
            ("ResourceNotFoundException", "it has no value yet"),
            ("AccessDeniedException", "secretsmanager:GetSecretValue"),
            ("AccessDeniedException", "there is no secret of this name"),
            ("DecryptionFailure", "kms:Decrypt"),
            ("InvalidRequestException", "scheduled for deletion"),
            ("SomethingNew", "check the id"),
        ] {
            let body = format!(r#"{{"__type":"{code}","message":"said by AWS"}}"#);
            let message = answered("400 Bad Request", &body).await.unwrap_err();
            assert!(message.starts_with("the secret some/id cannot be read: "), "{message}");
            assert!(message.contains("said by AWS") && message.contains(advice), "{message}");
        }
    }

    #[tokio::test]
    async fn aws_cannot_be_reached_or_understood() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let message = read(Some(client(port)), "some/id").await.unwrap_err();
        assert!(message.contains("some/id") && message.contains("network"), "{message}");
        let message = answered("200 OK", r#"{"SecretString":"s3cret"#).await.unwrap_err();
        assert!(message.contains("some/id") && !message.contains("s3cret"), "{message}");
    }
}
