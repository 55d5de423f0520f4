//! The Lambda Runtime API, and a function's real program under it.
//! Paths and headers: <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path as UrlPath, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use super::Server;
use super::aws::Aws;

/// How an invocation ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Answer(Value),
    Failed {
        error_type: String,
        error_message: String,
    },
    /// The process ended, by itself or killed, before it answered.
    Died {
        status: ExitStatus,
        output: String,
    },
}

/// When the invocation's time is over.
#[derive(Clone, Copy, Debug)]
pub enum Deadline {
    In(Duration),
    /// Milliseconds since 1970, as in the header.
    At(u128),
}

/// One function's Runtime API: made before its process, of no use after it.
pub struct Runtime {
    server: Server,
    next: mpsc::UnboundedSender<Invocation>,
    calls: Arc<Calls>,
}

struct Invocation {
    id: String,
    deadline: u128,
    event: String,
}

struct Calls {
    queue: tokio::sync::Mutex<mpsc::UnboundedReceiver<Invocation>>,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    invocations: HashMap<String, oneshot::Sender<Outcome>>,
    /// Set when the process can answer no more: the outcome of all that is waiting and comes.
    over: Option<Outcome>,
}

impl Runtime {
    pub fn start() -> Runtime {
        let (next, queue) = mpsc::unbounded_channel();
        let calls = Arc::new(Calls { queue: tokio::sync::Mutex::new(queue), waiting: Mutex::default() });
        let app = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(serve_next))
            .route("/2018-06-01/runtime/invocation/{id}/response", post(take_response))
            .route("/2018-06-01/runtime/invocation/{id}/error", post(take_error))
            .route("/2018-06-01/runtime/init/error", post(take_init_error))
            .with_state(calls.clone());
        Runtime { server: Server::start(app), next, calls }
    }

    /// Hands `event` to the function and waits for the end. Invocations made at once are served one after another.
    pub async fn invoke(&self, event: &str, deadline: Deadline) -> Outcome {
        let deadline = match deadline {
            Deadline::In(duration) => (SystemTime::now() + duration).duration_since(UNIX_EPOCH).unwrap().as_millis(),
            Deadline::At(milliseconds) => milliseconds,
        };
        let id = format!("00000000-0000-4000-8000-{:012x}", fastrand::u64(..1 << 48));
        let (end, ended) = oneshot::channel();
        {
            let mut waiting = self.calls.waiting.lock().unwrap();
            if let Some(outcome) = &waiting.over {
                return outcome.clone();
            }
            waiting.invocations.insert(id.clone(), end);
        }
        self.next.send(Invocation { id, deadline, event: event.to_owned() }).unwrap();
        ended.await.unwrap()
    }
}

impl Calls {
    fn end(&self, id: &str, outcome: Outcome) -> Response {
        let Some(invocation) = self.waiting.lock().unwrap().invocations.remove(id) else {
            return (StatusCode::BAD_REQUEST, r#"{"errorType":"InvalidRequestID"}"#).into_response();
        };
        // A test that gave up waiting is no reason to refuse the function's answer.
        drop(invocation.send(outcome));
        accepted()
    }

    fn end_all(&self, outcome: Outcome) {
        let mut waiting = self.waiting.lock().unwrap();
        let outcome = waiting.over.get_or_insert(outcome).clone();
        for (_, invocation) in waiting.invocations.drain() {
            drop(invocation.send(outcome.clone()));
        }
    }
}

fn accepted() -> Response {
    (StatusCode::ACCEPTED, r#"{"status":"OK"}"#).into_response()
}

async fn serve_next(State(calls): State<Arc<Calls>>) -> Response {
    let invocation = calls.queue.lock().await.recv().await.unwrap();
    let headers = [
        ("content-type", "application/json".to_owned()),
        ("lambda-runtime-aws-request-id", invocation.id),
        ("lambda-runtime-deadline-ms", invocation.deadline.to_string()),
        ("lambda-runtime-invoked-function-arn", "arn:aws:lambda:eu-west-1:000000000000:function:test".to_owned()),
        ("lambda-runtime-trace-id", "Root=1-00000000-000000000000000000000000;Sampled=0".to_owned()),
    ];
    (headers, invocation.event).into_response()
}

async fn take_response(State(calls): State<Arc<Calls>>, UrlPath(id): UrlPath<String>, body: Bytes) -> Response {
    let outcome = match serde_json::from_slice(&body) {
        Ok(answer) => Outcome::Answer(answer),
        Err(error) => {
            Outcome::Failed { error_type: "Runtime.InvalidResponse".to_owned(), error_message: error.to_string() }
        }
    };
    calls.end(&id, outcome)
}

async fn take_error(State(calls): State<Arc<Calls>>, UrlPath(id): UrlPath<String>, body: Bytes) -> Response {
    calls.end(&id, failed(&body))
}

async fn take_init_error(State(calls): State<Arc<Calls>>, body: Bytes) -> Response {
    calls.end_all(failed(&body));
    accepted()
}

fn failed(body: &[u8]) -> Outcome {
    let body: Value = serde_json::from_slice(body).unwrap();
    let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
    Outcome::Failed { error_type: text("errorType"), error_message: text("errorMessage") }
}

/// A function's process. It has Lambda's variables and those it is given, and nothing of the test's environment.
/// Killed when dropped.
pub struct Function {
    child: Arc<Mutex<Child>>,
    output: Arc<Mutex<Vec<u8>>>,
    watcher: Option<JoinHandle<()>>,
}

impl Function {
    pub fn spawn(binary: &Path, runtime: &Runtime, aws: &Aws, env: &[(&str, &str)]) -> Function {
        let name = binary.file_stem().unwrap();
        let mut child = Command::new(binary)
            .env_clear()
            .env("AWS_LAMBDA_RUNTIME_API", runtime.server.address.to_string())
            .env("AWS_LAMBDA_FUNCTION_NAME", name)
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/test")
            .env("AWS_LAMBDA_LOG_STREAM_NAME", "2026/01/01/[$LATEST]00000000000000000000000000000000")
            .env("AWS_REGION", "eu-west-1")
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_ENDPOINT_URL", aws.url())
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output = Arc::new(Mutex::new(Vec::new()));
        let readers =
            [copy(child.stdout.take().unwrap(), output.clone()), copy(child.stderr.take().unwrap(), output.clone())];
        let child = Arc::new(Mutex::new(child));
        let watcher = {
            let (child, output, calls) = (child.clone(), output.clone(), runtime.calls.clone());
            thread::spawn(move || {
                let status = wait(&child);
                readers.into_iter().for_each(|reader| reader.join().unwrap());
                let output = String::from_utf8_lossy(&output.lock().unwrap()).into_owned();
                calls.end_all(Outcome::Died { status, output });
            })
        };
        Function { child, output, watcher: Some(watcher) }
    }

    /// Standard output and standard error. May lag behind an answer; complete once the process is gone (`kill`).
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&self.output.lock().unwrap()).into_owned()
    }

    pub fn pid(&self) -> u32 {
        self.child.lock().unwrap().id()
    }

    /// `kill -9`. When it returns the process is gone and its invocation has ended as `Died`.
    pub fn kill(&mut self) {
        // Fails where the process has ended by itself, which comes to the same.
        drop(self.child.lock().unwrap().kill());
        if let Some(watcher) = self.watcher.take() {
            watcher.join().unwrap();
        }
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        self.kill();
    }
}

fn wait(child: &Mutex<Child>) -> ExitStatus {
    loop {
        // Not `wait`: `kill` needs the child meanwhile.
        if let Some(status) = child.lock().unwrap().try_wait().unwrap() {
            return status;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn copy(mut from: impl Read + Send + 'static, to: Arc<Mutex<Vec<u8>>>) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut chunk = [0; 8192];
        while let Ok(length @ 1..) = from.read(&mut chunk) {
            to.lock().unwrap().extend_from_slice(&chunk[..length]);
        }
    })
}
