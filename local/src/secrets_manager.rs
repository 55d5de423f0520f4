//! Puts secrets into AWS Secrets Manager. None that is there gets another value before somebody has said so.

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_secretsmanager::Client;
use secrecy::{ExposeSecret as _, SecretString};

use crate::Error;
use crate::place::confirmed;

/// The begin of the secrets' names.
pub fn prefix(text: &str) -> Result<String, String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || "/_+=.@-".contains(c);
    match text.trim_end_matches('/') {
        "" => Err("the begin of the secrets' names, like mimecast-devo".to_owned()),
        name if name.chars().all(is_name) => Ok(name.to_owned()),
        _ => Err("letters, digits and /_+=.@- only, as in the name of a secret".to_owned()),
    }
}

/// Creates secrets, by their names, or gives those that are there a new value: all of them or, where that is declined, none (`false`).
///
/// # Errors
/// [`Error::Configuration`] where AWS refuses, or where nobody can be asked.
pub async fn keep(secrets: &[(String, &SecretString)], yes: bool) -> Result<bool, Error> {
    let client = Client::new(&collector::aws_config().await);
    let mut there = Vec::new();
    for (name, _) in secrets {
        match client.describe_secret().secret_id(name).send().await {
            Ok(_) => there.push(name.as_str()),
            Err(error) if error.as_service_error().is_some_and(|error| error.is_resource_not_found_exception()) => {}
            Err(error) => return Err(failed(name, "looked at", &error)),
        }
    }
    let question = format!("In Secrets Manager there is already {}. Give it a new value?", there.join(" and "));
    if !there.is_empty() && !confirmed(&question, yes)? {
        return Ok(false);
    }
    for (name, secret) in secrets {
        let text = secret.expose_secret();
        if there.contains(&name.as_str()) {
            let put = client.put_secret_value().secret_id(name).secret_string(text).send().await;
            put.map_err(|error| failed(name, "given a new value", &error))?;
            println!("secret {name}: has a new value");
        } else {
            let made = client.create_secret().name(name).secret_string(text).send().await;
            made.map_err(|error| failed(name, "created", &error))?;
            println!("secret {name}: created");
        }
    }
    Ok(true)
}

fn failed<E: ProvideErrorMetadata>(name: &str, done: &str, error: &SdkError<E>) -> Error {
    let advice = match error.code() {
        None => "check the AWS credentials and region, and the network's way to Secrets Manager",
        Some("AccessDeniedException") => {
            "allow secretsmanager:DescribeSecret, secretsmanager:CreateSecret and secretsmanager:PutSecretValue on it, and kms:GenerateDataKey \
             and kms:Decrypt on its key if that is your own"
        }
        Some("InvalidRequestException") => "restore it if it is scheduled for deletion, or name another prefix",
        Some("ResourceExistsException") => "somebody has made it meanwhile: try again",
        Some(_) => "try again; if it lasts, check the name and your permissions",
    };
    // What AWS says about a request may repeat its values, and one of these is the secret; a refusal only names who may not do what.
    let message = error.message().filter(|_| error.code() == Some("AccessDeniedException"));
    let said = message.map(|message| format!(": {}", message.replace('\n', " "))).unwrap_or_default();
    Error::Configuration(format!(
        "the secret {name} cannot be {done}: {}{said}: {advice}",
        error.code().unwrap_or("no answer of AWS")
    ))
}
