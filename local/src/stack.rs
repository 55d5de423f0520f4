//! A stack that the template has made on AWS: what its functions are set to, what its alarms do, and how a function or a backfill is
//! started. Its names follow from the stack's own, as the template gives them.
//!
//! Five calls of four services, signed as the SDK would: their SDK crates together would be larger than all of this program.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_dynamodb::config::ProvideCredentials as _;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::client::identity::Identity;
use collector::Source;
use mimecast::Clock;
use roxmltree::Document;
use serde_json::{Value, json};

use crate::Error;

/// A function's check may take a minute.
const TIMEOUT: Duration = Duration::from_secs(90);

/// A stack, and who may ask about it.
pub struct Stack {
    name: String,
    aws: SdkConfig,
    http: reqwest::Client,
    /// The variables of the functions, and `SOURCES`: which of them have a schedule.
    pub variables: BTreeMap<String, String>,
    /// `arn:aws:lambda:<region>:<account>:function:<name>` of one of them.
    function_arn: String,
}

/// How a state machine's execution is.
pub enum Execution {
    Running,
    Succeeded(Value),
    Failed(String),
}

impl Stack {
    /// Looks at the stack `name` with the SDK's usual credentials.
    ///
    /// # Errors
    /// [`Error::Configuration`] where there is no such stack, or nobody may look at it.
    pub async fn find(name: &str) -> Result<Self, Error> {
        let http = https::builder().map_err(|error| Error::Configuration(error.to_string()))?;
        let http = http.build().map_err(|error| Error::Configuration(https::explain(error)))?;
        let aws = collector::aws_config().await;
        let mut stack =
            Self { name: name.to_owned(), aws, http, variables: BTreeMap::new(), function_arn: String::new() };
        let form = [("Action", "DescribeStacks"), ("Version", "2010-05-15"), ("StackName", name)];
        let text = stack.query("cloudformation", &form).await?;
        let document = parsed(&text)?;
        let parameters = members(&document, "Parameters").map(|parameter| {
            let text = |name| {
                parameter.children().find(|child| child.tag_name().name() == name).and_then(|child| child.text())
            };
            (text("ParameterKey").unwrap_or_default(), text("ParameterValue").unwrap_or_default())
        });
        let parameters: BTreeMap<&str, &str> = parameters.collect();
        let sources = parameters.get("Sources").copied().unwrap_or_default().to_owned();
        let first = sources.split(',').next().unwrap_or_default().trim();
        let path = format!("/2015-03-31/functions/{name}-{first}/configuration");
        let configuration = json_of(&stack.call("lambda", "GET", &path, &[], "").await?)?;
        let variables = configuration["Environment"]["Variables"].as_object().into_iter().flatten();
        stack.variables =
            variables.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect();
        stack.variables.insert("SOURCES".to_owned(), sources);
        configuration["FunctionArn"].as_str().unwrap_or_default().clone_into(&mut stack.function_arn);
        Ok(stack)
    }

    /// Invokes the function of a source: what it answers, or the error that it ended with.
    ///
    /// # Errors
    /// Where it cannot be invoked.
    pub async fn invoke(&self, source: &Source, event: &Value) -> Result<Value, Error> {
        let path = format!("/2015-03-31/functions/{}-{}/invocations", self.name, source.name);
        json_of(&self.call("lambda", "POST", &path, &[], &event.to_string()).await?)
    }

    /// The stack's alarms, each with whether anybody is told when it goes off.
    ///
    /// # Errors
    /// Where they cannot be read.
    pub async fn alarms(&self) -> Result<Vec<(String, bool)>, Error> {
        let prefix = format!("{}-", self.name);
        let form = [
            ("Action", "DescribeAlarms"),
            ("Version", "2010-08-01"),
            ("AlarmNamePrefix", &*prefix),
            ("MaxRecords", "100"),
        ];
        let text = self.query("monitoring", &form).await?;
        let document = parsed(&text)?;
        let alarm = |alarm: roxmltree::Node<'_, '_>| {
            let child = |name| alarm.children().find(|child| child.tag_name().name() == name);
            let name = child("AlarmName")?.text()?.to_owned();
            Some((name, child("AlarmActions").is_some_and(|actions| actions.children().any(|node| node.is_element()))))
        };
        Ok(members(&document, "MetricAlarms").filter_map(alarm).collect())
    }

    /// Starts the state machine for backfills: the execution's ARN.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub async fn start_backfill(&self, input: &Value) -> Result<String, Error> {
        let parts: Vec<&str> = self.function_arn.split(':').collect();
        let [arn, partition, _, region, account, ..] = parts[..] else {
            return Err(Error::Configuration(format!("the functions of {} have no ARN", self.name)));
        };
        let machine = format!("{arn}:{partition}:states:{region}:{account}:stateMachine:{}-backfill", self.name);
        let body = json!({"stateMachineArn": machine, "input": input.to_string()});
        let answer = self.states("StartExecution", &body).await?;
        Ok(answer["executionArn"].as_str().unwrap_or_default().to_owned())
    }

    /// How an execution is.
    ///
    /// # Errors
    /// Where that cannot be asked.
    pub async fn execution(&self, arn: &str) -> Result<Execution, Error> {
        let answer = self.states("DescribeExecution", &json!({"executionArn": arn})).await?;
        let text = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
        Ok(match text("status").as_str() {
            "RUNNING" | "PENDING_REDRIVE" => Execution::Running,
            "SUCCEEDED" => Execution::Succeeded(serde_json::from_str(&text("output")).unwrap_or_default()),
            status => Execution::Failed(format!("{status} {} {}", text("error"), text("cause"))),
        })
    }

    async fn states(&self, operation: &str, body: &Value) -> Result<Value, Error> {
        let target = format!("AWSStepFunctions.{operation}");
        let headers = [("content-type", "application/x-amz-json-1.0"), ("x-amz-target", &*target)];
        json_of(&self.call("states", "POST", "/", &headers, &body.to_string()).await?)
    }

    async fn query(&self, service: &str, form: &[(&str, &str)]) -> Result<String, Error> {
        let mut url = reqwest::Url::parse("https://form").map_err(|error| Error::Configuration(error.to_string()))?;
        url.query_pairs_mut().extend_pairs(form);
        let headers = [("content-type", "application/x-www-form-urlencoded; charset=utf-8")];
        self.call(service, "POST", "/", &headers, url.query().unwrap_or_default()).await
    }

    async fn call(
        &self,
        service: &str,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<String, Error> {
        let failed = |text: String| Error::Configuration(format!("stack {}: {service}: {text}", self.name));
        let region =
            self.aws.region().map(ToString::to_string).ok_or_else(|| failed("no AWS region is set".to_owned()))?;
        let url = match self.aws.endpoint_url() {
            Some(endpoint) => format!("{}{path}", endpoint.trim_end_matches('/')),
            None => format!("https://{service}.{region}.amazonaws.com{path}"),
        };
        let provider = self.aws.credentials_provider().ok_or_else(|| failed("no AWS credentials".to_owned()))?;
        let credentials = provider.provide_credentials().await.map_err(|error| failed(error.to_string()))?;
        let identity = Identity::from(credentials);
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&region)
            .name(service)
            .time(Clock::System.now().into())
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| failed(error.to_string()))?
            .into();
        let request =
            SignableRequest::new(method, &*url, headers.iter().copied(), SignableBody::Bytes(body.as_bytes()));
        let signed =
            request.and_then(|request| sign(request, &parameters)).map_err(|error| failed(error.to_string()))?;
        let method = reqwest::Method::from_bytes(method.as_bytes()).map_err(|error| failed(error.to_string()))?;
        let mut request = self.http.request(method, &url).body(body.to_owned()).timeout(TIMEOUT);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        for (name, value) in signed.output().headers() {
            request = request.header(name, value);
        }
        let answer = request.send().await.map_err(|error| failed(https::explain(error)))?;
        let status = answer.status();
        let text = answer.text().await.map_err(|error| failed(https::explain(error)))?;
        match status.is_success() {
            true => Ok(text),
            false => Err(failed(format!("{status}: {}", said(&text)))),
        }
    }
}

/// What an error's body says, in either of the two forms.
fn said(text: &str) -> String {
    let json: Value = serde_json::from_str(text).unwrap_or_default();
    let message = json["message"].as_str().or(json["Message"].as_str()).map(str::to_owned);
    let of_xml = || {
        let document = Document::parse(text).ok()?;
        let message = document.descendants().find(|node| node.tag_name().name() == "Message");
        message?.text().map(str::to_owned)
    };
    message.or_else(of_xml).unwrap_or_else(|| text.chars().take(200).collect()).replace('\n', " ")
}

fn parsed(text: &str) -> Result<Document<'_>, Error> {
    Document::parse(text).map_err(|error| Error::Configuration(format!("an answer of AWS cannot be read: {error}")))
}

fn json_of(text: &str) -> Result<Value, Error> {
    serde_json::from_str(text)
        .map_err(|error| Error::Configuration(format!("an answer of AWS cannot be read: {error}")))
}

/// The `member` elements of a list of this name.
fn members<'a, 'input>(
    document: &'a Document<'input>,
    name: &'a str,
) -> impl Iterator<Item = roxmltree::Node<'a, 'input>> + use<'a, 'input> {
    let lists = document.descendants().filter(move |node| node.tag_name().name() == name);
    lists.flat_map(|list| list.children()).filter(|node| node.tag_name().name() == "member")
}
