//! AWS behind one URL, as a function reaches it by `AWS_ENDPOINT_URL`: Secrets Manager, and the embedded engine in the
//! place of DynamoDB, with the table of the `Embedded` it was started with.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use mimecast_devo::embedded::Embedded;
use serde_json::{Value, json};

use super::Server;

/// What goes wrong with one call.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// Nothing happens; the answer is this status and error type.
    Refused(u16, &'static str),
    /// The call takes effect, and the answer is 500.
    Lost,
    /// The call takes effect, and the connection is cut without an answer.
    Cut,
    /// The call takes effect that much later, and is answered as much later again; never, if the client is gone by then.
    Late(Duration),
    /// The same, but it takes effect also when the client has given up or is gone.
    Overdue(Duration),
}

impl Fault {
    pub const THROTTLED: Fault = Fault::Refused(400, "ProvisionedThroughputExceededException");
    pub const ABSENT: Fault = Fault::Refused(400, "ResourceNotFoundException");
    pub const DENIED: Fault = Fault::Refused(400, "AccessDeniedException");
}

/// The running stand-in; it stops when its last handle is dropped.
#[derive(Clone)]
pub struct Aws {
    server: Arc<Server>,
    account: Arc<Account>,
}

struct Account {
    embedded: Embedded,
    secrets: Mutex<HashMap<String, String>>,
    faults: Mutex<Vec<(String, Fault)>>,
    struck: AtomicUsize,
    calls: Mutex<Vec<String>>,
    traffic: Mutex<(usize, usize)>,
    watcher: Mutex<Option<Watcher>>,
}

type Watcher = Box<dyn Fn(&str) + Send>;

impl Aws {
    pub fn start(embedded: Embedded) -> Aws {
        let account = Arc::new(Account {
            embedded,
            secrets: Mutex::default(),
            faults: Mutex::default(),
            struck: AtomicUsize::default(),
            calls: Mutex::default(),
            traffic: Mutex::default(),
            watcher: Mutex::default(),
        });
        let server = Server::start(Router::new().fallback(handle).with_state(account.clone()));
        Aws { server: Arc::new(server), account }
    }

    /// The value for `AWS_ENDPOINT_URL`.
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address)
    }

    pub fn set_secret(&self, name: &str, value: &str) {
        self.account.secrets.lock().unwrap().insert(name.to_owned(), value.to_owned());
    }

    /// The text of a secret.
    pub fn get_secret(&self, name: &str) -> Option<String> {
        self.account.secrets.lock().unwrap().get(name).cloned()
    }

    pub fn remove_secret(&self, name: &str) {
        self.account.secrets.lock().unwrap().remove(name);
    }

    /// The next `times` calls of `operation` go wrong; faults of one operation come in the order they were asked for.
    pub fn fault(&self, operation: &str, fault: Fault, times: usize) {
        let faults = std::iter::repeat_n((operation.to_owned(), fault), times);
        self.account.faults.lock().unwrap().extend(faults);
    }

    /// How many calls a fault has struck so far.
    pub fn struck(&self) -> usize {
        self.account.struck.load(Relaxed)
    }

    /// Forgets the faults.
    pub fn clear_faults(&self) {
        self.account.faults.lock().unwrap().clear();
    }

    /// Tells `watcher` the body of each DynamoDB call that takes effect from here on, before it is answered.
    pub fn watch(&self, watcher: impl Fn(&str) + Send + 'static) {
        *self.account.watcher.lock().unwrap() = Some(Box::new(watcher));
    }

    /// The operations called so far, those that went wrong included.
    pub fn calls(&self) -> Vec<String> {
        self.account.calls.lock().unwrap().clone()
    }

    /// Bytes of the bodies sent to DynamoDB and received from it so far.
    pub fn traffic(&self) -> (usize, usize) {
        *self.account.traffic.lock().unwrap()
    }
}

/// The ARN by which a secret can be asked for instead of its name.
pub fn secret_arn(name: &str) -> String {
    format!("arn:aws:secretsmanager:eu-west-1:000000000000:secret:{name}-AbCdEf")
}

async fn handle(State(account): State<Arc<Account>>, headers: HeaderMap, body: Bytes) -> Response {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !header("authorization").starts_with("AWS4-HMAC-SHA256 Credential=") {
        return error(400, "MissingAuthenticationTokenException", "Request is missing Authentication Token");
    }
    let (service, operation) = header("x-amz-target").split_once('.').unwrap_or_default();
    account.calls.lock().unwrap().push(operation.to_owned());

    let fault = account.next_fault(operation);
    if let Some(Fault::Refused(status, kind)) = fault {
        return error(status, kind, "as the test wants it");
    }
    let late = match fault {
        Some(Fault::Late(time) | Fault::Overdue(time)) => time,
        _ => Duration::ZERO,
    };
    let (service, operation) = (service.to_owned(), operation.to_owned());
    let effect = async move {
        tokio::time::sleep(late).await;
        account.effect(&service, &operation, &body)
    };
    let answer = match fault {
        Some(Fault::Overdue(_)) => tokio::spawn(effect).await.unwrap(),
        _ => effect.await,
    };
    tokio::time::sleep(late).await;
    match fault {
        Some(Fault::Lost) => error(500, "InternalServerError", "as the test wants it"),
        // Ends the connection's task, and the connection with it, without a word on stderr.
        Some(Fault::Cut) => std::panic::resume_unwind(Box::new("cut")),
        _ => answer,
    }
}

impl Account {
    fn effect(&self, service: &str, operation: &str, request: &[u8]) -> Response {
        match (service, operation) {
            ("DynamoDB_20120810", _) => {
                let (status, body) = self.embedded.execute(operation, request);
                if let (200, Some(watcher)) = (status, &*self.watcher.lock().unwrap()) {
                    watcher(std::str::from_utf8(request).unwrap());
                }
                let mut traffic = self.traffic.lock().unwrap();
                *traffic = (traffic.0 + request.len(), traffic.1 + body.len());
                (StatusCode::from_u16(status).unwrap(), body).into_response()
            }
            ("secretsmanager", "GetSecretValue") => self.secret(request),
            ("secretsmanager", "DescribeSecret") => self.described(request),
            ("secretsmanager", "CreateSecret" | "PutSecretValue") => self.keep(operation, request),
            _ => error(400, "UnknownOperationException", ""),
        }
    }

    fn next_fault(&self, operation: &str) -> Option<Fault> {
        let mut faults = self.faults.lock().unwrap();
        let index = faults.iter().position(|(name, _)| name == operation)?;
        self.struck.fetch_add(1, Relaxed);
        Some(faults.remove(index).1)
    }

    fn described(&self, body: &[u8]) -> Response {
        let request: Value = serde_json::from_slice(body).unwrap();
        let name = request["SecretId"].as_str().unwrap();
        match self.secrets.lock().unwrap().contains_key(name) {
            true => json!({"ARN": secret_arn(name), "Name": name}).to_string().into_response(),
            false => error(400, "ResourceNotFoundException", "Secrets Manager can't find the specified secret."),
        }
    }

    /// Creates a secret that is not there, or puts a value into one that is.
    fn keep(&self, operation: &str, body: &[u8]) -> Response {
        let request: Value = serde_json::from_slice(body).unwrap();
        let create = operation == "CreateSecret";
        let name = request[if create { "Name" } else { "SecretId" }].as_str().unwrap();
        let text = request["SecretString"].as_str().unwrap();
        if text.len() > 65_536 {
            let message =
                format!("Value '{text}' at 'secretString' failed to satisfy constraint: Member must be shorter");
            return error(400, "ValidationException", &message);
        }
        let mut secrets = self.secrets.lock().unwrap();
        match (create, secrets.contains_key(name)) {
            (true, true) => return error(400, "ResourceExistsException", "The secret already exists."),
            (false, false) => return error(400, "ResourceNotFoundException", "There is no such secret."),
            _ => {}
        }
        secrets.insert(name.to_owned(), text.to_owned());
        json!({"ARN": secret_arn(name), "Name": name, "VersionId": request["ClientRequestToken"]})
            .to_string()
            .into_response()
    }

    fn secret(&self, body: &[u8]) -> Response {
        let request: Value = serde_json::from_slice(body).unwrap();
        let id = request["SecretId"].as_str().unwrap();
        let secrets = self.secrets.lock().unwrap();
        let Some((name, value)) = secrets.iter().find(|(name, _)| *name == id || secret_arn(name) == id) else {
            let message = "Secrets Manager can't find the specified secret.";
            return error(400, "ResourceNotFoundException", message);
        };
        json!({
            "ARN": secret_arn(name), "Name": name, "SecretString": value, "CreatedDate": 1_767_225_600.0,
            "VersionId": "00000000-0000-4000-8000-000000000000", "VersionStages": ["AWSCURRENT"],
        })
        .to_string()
        .into_response()
    }
}

fn error(status: u16, kind: &str, message: &str) -> Response {
    let status = StatusCode::from_u16(status).unwrap();
    (status, json!({"__type": kind, "message": message}).to_string()).into_response()
}
