//! The program's `simulate`, around small commands in the place of `cargo lambda watch`.

#![allow(clippy::unwrap_used, clippy::expect_used)]
#![cfg(unix)]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{BehaviorVersion, Config, Credentials, Region};
use aws_sdk_dynamodb::types::AttributeValue::S;
use collector::{Collector, Error, Secrets, Settings, Store};
use mimecast::Clock;
use mimecast_devo::embedded::{Embedded, TABLE};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

const SUMMARY_TABLE: &str = "mail.mimecast.message.summary";

fn simulate(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mimecast-devo"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    command.args(["simulate", "--scale", "1"]).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(arguments: &[&str]) -> Output {
    simulate(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap()
}

/// Status line and body of a request.
fn ask(host: &str, method: &str, path: &str, body: &str) -> (String, String) {
    let mut stream = TcpStream::connect(host).unwrap();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close");
    write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

/// A simulation whose command tells its environment and then waits for the end of its input.
struct Running {
    child: Child,
    environment: HashMap<String, String>,
}

impl Running {
    fn start(arguments: &[&str]) -> Self {
        let mut command = simulate(arguments);
        let mut child = command.args(["sh", "-c", "env; echo; cat"]).stdin(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines().map(Result::unwrap);
        let lines = lines.take_while(|line| !line.is_empty());
        let environment = lines.filter_map(|line| Some(line.split_once('=')?).map(|(k, v)| (k.into(), v.into())));
        Self { environment: environment.collect(), child }
    }

    /// A function's settings with this environment. Secrets come by files: the test's process does not have it.
    fn settings(&self) -> (Settings, [NamedTempFile; 2]) {
        let secrets = ["SIMULATED_MIMECAST_SECRET", "SIMULATED_DEVO_SECRET"].map(|name| {
            let mut file = NamedTempFile::new().unwrap();
            file.write_all(self.environment[name].as_bytes()).unwrap();
            file
        });
        let settings = Settings::from_lookup(|name| match name {
            "MIMECAST_SECRET_ID" => Some(format!("file:{}", secrets[0].path().display())),
            "DEVO_SECRET_ID" => Some(format!("file:{}", secrets[1].path().display())),
            _ => self.environment.get(name).cloned(),
        });
        (settings.unwrap(), secrets)
    }

    /// DynamoDB as the functions see it.
    fn dynamodb(&self) -> Client {
        let config = Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .region(Region::new(self.environment["AWS_REGION"].clone()))
            .credentials_provider(Credentials::new("simulated", "simulated", None, None, "test"))
            .endpoint_url(&self.environment["AWS_ENDPOINT_URL"])
            .build();
        Client::from_conf(config)
    }

    /// The function's own work.
    fn collector(&self) -> (Collector, [NamedTempFile; 2]) {
        let (settings, secrets) = self.settings();
        let store = Store::new(self.dynamodb(), self.environment["CHECKPOINT_TABLE"].clone());
        (Collector::new(settings, store, Secrets::new(None), Clock::System), secrets)
    }

    /// Where the page is, as it is said first of all.
    fn page(&mut self) -> String {
        let mut line = String::new();
        BufReader::new(self.child.stderr.as_mut().unwrap()).read_line(&mut line).unwrap();
        line.trim().strip_prefix("page: http://").unwrap().to_owned()
    }

    /// Status line and body of a request to the simulator.
    fn ask(&self, method: &str, path: &str, body: &str) -> (String, String) {
        let (host, root) = self.environment["SIMULATOR_URL"].strip_prefix("http://").unwrap().split_once('/').unwrap();
        ask(host, method, &format!("/{root}{path}"), body)
    }

    fn balances(&self) -> Value {
        let (status, body) = self.ask("GET", "", "");
        assert_eq!(status, "HTTP/1.1 200 OK");
        serde_json::from_str(&body).unwrap()
    }

    fn end(mut self) -> Output {
        drop(self.child.stdin.take());
        self.child.wait_with_output().unwrap()
    }
}

#[test]
fn the_command_gets_the_environment_of_a_function() {
    let variables = "echo $MIMECAST_SECRET_ID $DEVO_SECRET_ID $CHECKPOINT_TABLE $AWS_ENDPOINT_URL $AWS_REGION $PAGE_SIZE \
        $AWS_ACCESS_KEY_ID $AWS_SECRET_ACCESS_KEY $AWS_EC2_METADATA_DISABLED $AWS_PROFILE $AWS_SESSION_TOKEN \
        $AWS_ENDPOINT_URL_DYNAMODB; echo $SIMULATED_MIMECAST_SECRET; echo $SIMULATED_DEVO_SECRET; echo $SIMULATOR_URL $1";
    for (api, id) in [("1.0", "app_id"), ("2.0", "client_id")] {
        let mut command = simulate(&["--api", api, "sh", "-c", variables, "sh", "--check"]);
        command.env("PAGE_SIZE", "7").env("AWS_REGION", "us-east-1");
        for name in ["AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_DYNAMODB"] {
            command.env(name, "mine");
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let [variables, mimecast, devo, simulator] = text(&output.stdout).lines().collect::<Vec<_>>()[..] else {
            panic!("{output:?}")
        };
        let url = simulator.strip_suffix("/simulator --check").unwrap();
        assert_eq!(
            variables,
            format!(
                "env:SIMULATED_MIMECAST_SECRET env:SIMULATED_DEVO_SECRET checkpoint {url} eu-west-1 7 simulated simulated true"
            )
        );
        let keys = |secret: &str| -> Value { serde_json::from_str(secret).unwrap() };
        assert!(keys(mimecast)[id].is_string() && keys(mimecast)["base_url"].is_string());
        assert!(keys(devo)["token"].is_string() && keys(devo)["url"].is_string());
    }
}

#[test]
fn what_is_missing_is_told_and_fails_only_a_check() {
    let output = run(&["true"]);
    let report = text(&output.stderr);
    assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    let tables = report.lines().filter(|line| line.contains(" mail.mimecast."));
    let numbers = tables.map(|line| line.split_whitespace().rev().take(4).map(|n| n.parse().unwrap()).collect());
    let numbers: Vec<Vec<usize>> = numbers.collect();
    assert_eq!(numbers.len(), 19, "{report}");
    assert!(numbers.iter().all(|n| n[0] == 0 && n[1] > 0 && n[2] == 0 && n[3] == n[1]), "{report}");
    let total: usize = numbers.iter().map(|numbers| numbers[3]).sum();
    assert!(report.ends_with(&format!("\n{total} events missing, 0 too many\n")), "{report}");

    let output = run(&["--check", "true"]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(1), report), "the same events, and failed");

    let mut child = simulate(&["--check", "cat"]).stdin(Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take());
    assert_eq!(child.wait().unwrap().code(), Some(1), "whether it is read or not");
}

#[test]
fn a_failure_of_the_command_is_passed_on() {
    assert_eq!(run(&["sh", "-c", "exit 7"]).status.code(), Some(7));
    assert_eq!(run(&["--check", "sh", "-c", "exit 7"]).status.code(), Some(7));
    assert_eq!(run(&["sh", "-c", "kill -KILL $$"]).status.code(), Some(137));
    let output = run(&["/no/such/command"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).starts_with("error: cannot start /no/such/command: "), "{output:?}");
    assert_eq!(run(&[]).status.code(), Some(2));
}

#[test]
fn the_command_outlives_an_interrupt_and_is_told_to_end() {
    let script = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done";
    let mut child = simulate(&["sh", "-c", script]).spawn().unwrap();
    let mut ready = [0; 6];
    child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    // A terminal would have sent the interrupt to the command too; here it does not, and nothing ends.
    for signal in ["-INT", "-TERM"] {
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
    }
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(text(&output.stderr).contains("events missing"), "{output:?}");
}

#[tokio::test]
async fn a_check_passes_when_all_sources_have_arrived_once() {
    let (few, all) = (functions::by_default(), &functions::ALL[..]);
    for (arguments, sources) in [(&["--api", "1.0", "--check"][..], few), (&["--all-sources", "--check"], all)] {
        let running = Running::start(arguments);
        let (collector, _secrets) = running.collector();
        let mut events = 0;
        for source in sources {
            events += collector.invoke(source, &json!({}), None).await.unwrap().events;
        }
        // Another poll of the hold summary is as expected as the first, and new events are missed until they come.
        assert_eq!(running.ask("POST", "/events", "").0, "HTTP/1.1 200 OK");
        assert_ne!(running.balances()["mail.mimecast.siem.av"]["missing"], 0);
        // Within the same second a window has nothing new to ask for.
        tokio::time::sleep(Duration::from_millis(1100)).await;
        for source in sources {
            events += collector.invoke(source, &json!({}), None).await.unwrap().events;
        }
        let even = json!({"expected": 8, "arrived": 8, "missing": 0, "too_many": 0});
        assert_eq!(running.balances()[SUMMARY_TABLE], even);
        let output = running.end();
        assert!(output.status.success(), "{output:?}");
        let verdict = format!("\nall {events} events arrived, none twice\n");
        assert!(text(&output.stderr).ends_with(&verdict), "{output:?}");
    }
}

#[tokio::test]
async fn a_fault_fails_a_run_and_what_arrives_twice_a_check() {
    let running = Running::start(&["--check"]);
    let (collector, _secrets) = running.collector();
    let fault = json!({"text": "/api/audit", "status": 403, "times": 1}).to_string();
    assert_eq!(running.ask("POST", "/faults", &fault).0, "HTTP/1.1 200 OK");
    let audit = &functions::audit::SOURCE;
    let (error, _) = collector.invoke(audit, &json!({}), None).await.unwrap_err();
    assert!(matches!(error, Error::Mimecast(_)), "{error}");
    for fault in ["", r#"{"text":"/api/audit"}"#, r#"{"text":"/","status":503,"times":1,"for":"ever"}"#] {
        assert_eq!(running.ask("POST", "/faults", fault).0, "HTTP/1.1 400 Bad Request");
    }
    running.ask("POST", "/faults", &fault);
    assert_eq!(running.ask("DELETE", "/faults", "").0, "HTTP/1.1 200 OK");

    for tenant in ["one", "two"] {
        for source in functions::by_default() {
            collector.invoke(source, &json!({"tenant": tenant}), None).await.unwrap();
        }
    }
    let twice = json!({"expected": 40, "arrived": 80, "missing": 0, "too_many": 40});
    assert_eq!(running.balances()["mail.mimecast.audit.events"], twice);
    let output = running.end();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stderr).contains("\n0 events missing, "), "{output:?}");
}

/// What the page of a simulation is told.
fn status(page: &str) -> Value {
    let (status, body) = ask(page, "GET", "/status.json", "");
    assert_eq!(status, "HTTP/1.1 200 OK", "{body}");
    serde_json::from_str(&body).unwrap()
}

#[tokio::test]
async fn the_page_shows_what_the_functions_have_left_also_after_a_fault() {
    let mut running = Running::start(&["--page", "127.0.0.1:0"]);
    let page = running.page();
    assert!(ask(&page, "GET", "/", "").1.starts_with("<!doctype html>"));
    let whole = status(&page);
    assert_eq!((&whole["healthy"], whole["sources"].as_object().unwrap().len()), (&json!(false), 11));
    assert_eq!(whole["sources"]["url"]["trouble"], "has not run yet");
    assert!(whole["note"].as_str().unwrap().contains("not known here"), "{whole}");

    let (collector, _secrets) = running.collector();
    let audit = &functions::audit::SOURCE;
    let mut events: HashMap<&str, u64> = HashMap::new();
    for round in 0..3 {
        // In the second round audit is denied, while there is something new.
        if round > 0 {
            running.ask("POST", "/events", "");
        }
        if round == 1 {
            running.ask("POST", "/faults", &json!({"text": "/api/audit", "status": 403, "times": 100}).to_string());
        }
        for source in functions::by_default() {
            match collector.invoke(source, &json!({}), None).await {
                Ok(answer) => *events.entry(source.name).or_default() += answer.events,
                Err((error, _)) => assert!(round == 1 && source.name == audit.name, "{error}"),
            }
        }
        running.ask("DELETE", "/faults", "");
        let whole = status(&page);
        assert_eq!(whole["healthy"], json!(round != 1), "{whole}");
        for (name, source) in whole["sources"].as_object().unwrap() {
            assert_eq!(source["events"], events[&**name], "{name} in round {round}");
            let minutes = source["minutes"].as_array().unwrap();
            assert_eq!(minutes.iter().map(|minute| minute[1].as_u64().unwrap()).sum::<u64>(), events[&**name]);
            assert!(source["last_success"].is_string() && source["lag_seconds"].as_i64().is_none_or(|lag| lag < 600));
            assert_eq!(source["trouble"].is_null(), round != 1 || name != audit.name, "{source}");
            // Nobody here starts the functions.
            assert!(source.get("next_run").is_none(), "{source}");
        }
        if round == 1 {
            let trouble = whole["sources"]["audit"]["trouble"].as_str().unwrap();
            assert!(trouble.starts_with("failing since ") && trouble.contains(audit.permission), "{trouble}");
        }
        tokio::time::sleep(Duration::from_millis(1100)).await;
    }
    assert_eq!(running.balances()["mail.mimecast.audit.events"]["missing"], 0);

    // A dead letter, and a tenant that is not well.
    let item = [("pk", "other#url"), ("sk", "dead#2026-01-31T12:00:00Z#1")];
    let item = item.map(|(name, value)| (name.to_owned(), S(value.to_owned())));
    let put = running.dynamodb().put_item().table_name(&running.environment["CHECKPOINT_TABLE"]);
    put.set_item(Some(item.into())).send().await.unwrap();
    running.ask("POST", "/faults", &json!({"text": "/api/ttp/url", "status": 403, "times": 100}).to_string());
    collector.invoke(&functions::url::SOURCE, &json!({"tenant": "other"}), None).await.unwrap_err();
    let url = &status(&page)["sources"]["url"];
    assert!(url["trouble"].as_str().unwrap().ends_with("(tenant other)"), "{url}");
    assert_eq!((&url["rejected"], &url["last_success"]), (&json!(1), &Value::Null));
    running.end();
}

#[tokio::test]
async fn of_functions_with_a_dynamodb_of_their_own_the_page_shows_what_has_arrived_and_no_more() {
    let mut running = Running::start(&["--page", "127.0.0.1:0"]);
    let page = running.page();
    let (settings, _secrets) = running.settings();
    let store = Store::new(Embedded::memory().unwrap().client(), TABLE);
    let collector = Collector::new(settings, store, Secrets::new(None), Clock::System);
    let answer = collector.invoke(&functions::url::SOURCE, &json!({}), None).await.unwrap();
    let whole = status(&page);
    let url = &whole["sources"]["url"];
    assert_eq!((&url["events"], &whole["healthy"]), (&json!(answer.events), &json!(false)));
    assert!(url["trouble"].as_str().unwrap().starts_with("elsewhere: "), "{url}");
    assert!(url["last_success"].is_null() && url["lag_seconds"].is_null(), "{url}");
    running.end();
}

#[test]
fn what_is_not_dynamodb_is_refused_as_dynamodb_does() {
    let running = Running::start(&[]);
    let (status, body) = running.ask("POST", "/../", "{}");
    assert_eq!(status, "HTTP/1.1 400 Bad Request");
    assert!(body.contains("UnknownOperationException"), "{body}");
    assert!(running.end().status.success());
}
