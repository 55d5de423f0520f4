//! `config init` and `migrate`: what they write works, and no secret is where it should not be.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Output, Stdio};

use mimecast_devo::embedded::Embedded;
use serde_json::{Value, json};

use crate::support::aws::{Aws, Fault};
use crate::world::{World, said};

impl World {
    /// Nothing in the environment: all is in files.
    fn bare(mut self) -> World {
        self.settings.clear();
        self
    }

    fn written(&self, name: &str) -> String {
        fs::read_to_string(self.directory.path().join(name)).unwrap()
    }

    fn secret(&self, name: &str) -> Value {
        let path = self.directory.path().join(name);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
        serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
    }

    async fn answer(&self, words: &[&str], answers: &[&str]) -> Output {
        let mut command = self.command(words);
        command.stdin(Stdio::piped());
        let answers = answers.join("\n") + "\n";
        tokio::task::spawn_blocking(move || {
            let mut child = command.spawn().unwrap();
            child.stdin.take().unwrap().write_all(answers.as_bytes()).unwrap();
            child.wait_with_output().unwrap()
        })
        .await
        .unwrap()
    }
}

const YAML: &str = "\
globals: {debug: true, id: not_used, name: mimecast, persistence: {type: filesystem, config: {directory_name: state}}}
outputs:
  relay: {type: syslog, config: {address: 127.0.0.1, port: 13000, concurrent_connections: 1}}
  queue: {type: kafka, config: {}}
inputs:
  other: {id: 1, enabled: true, services: {something: null}}
  mimecast:
    id: '10001'
    enabled: true
    requests_per_second: 5
    environment: prod
    credentials: {client_id: the-id, client_secret: the-s3cret, tenant: x}
    override_api_base_url: https://uk-api.services.mimecast.com
    historic_date_utc: 2026-01-31T00:00:00.000Z
    services:
      audit: {request_period_in_seconds: 600}
      siem: null
      threatfeed: {}
      invented: {}
";

#[tokio::test]
async fn devo_s_own_configuration_becomes_ours() {
    let world = World::new().await.bare();
    let json = serde_json::to_string(&serde_saphyr::from_str::<Value>(YAML).unwrap()).unwrap();
    for (name, text) in [("config.yaml", YAML), ("config.json", &json)] {
        fs::write(world.directory.path().join(name), text).unwrap();
        let told = said(&world.run(&["migrate", name, "--to", &format!("of-{name}")]).await);
        for left in [
            "credentials.tenant",
            "services.invented",
            "requests_per_second",
            "inputs.*.environment",
            "globals.persistence",
            "outputs.queue of type kafka",
        ] {
            assert!(told.contains(left), "{left}: {told}");
        }
        let written = world.written(&format!("of-{name}/mimecast-devo.toml"));
        for line in [
            r#"SOURCES = "audit,siem,threatfeed""#,
            r#"PERIOD_AUDIT = "600s""#,
            r#"DEVO_URL = "tcp://127.0.0.1:13000""#,
            r#"MIMECAST_BASE_URL = "https://uk-api.services.mimecast.com""#,
            r#"LOG_LEVEL = "debug""#,
        ] {
            assert!(written.lines().any(|written| written == line), "{line}\n{written}");
        }
        assert!(!written.contains("the-") && !told.contains("the-s3cret"), "{written}");
        let lookback = written.lines().find_map(|line| line.strip_prefix("INITIAL_LOOKBACK = \"")).unwrap();
        let seconds: i64 = lookback.trim_end_matches("s\"").parse().unwrap();
        let begin = crate::world::ago(0) - chrono::TimeDelta::seconds(seconds);
        assert!((begin.timestamp() - 1_769_817_600).abs() < 120, "{begin}");
        let secret = world.secret(&format!("of-{name}/mimecast.json"));
        assert_eq!(secret, json!({"client_id": "the-id", "client_secret": "the-s3cret"}));
    }
    // Nothing is overwritten.
    let output = world.run(&["migrate", "config.yaml", "--to", "of-config.yaml"]).await;
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && text.contains("is there already"), "{text}");
}

#[tokio::test]
async fn certificates_are_taken_over_and_what_is_migrated_collects() {
    let world = World::new().await;
    let secret: Value = serde_json::from_str(&world.mimecast.secret_v2()).unwrap();
    let keys = json!({"client_id": secret["client_id"], "client_secret": secret["client_secret"]});
    let world = world.bare();
    for name in ["chain", "cert", "key"] {
        fs::write(world.directory.path().join(format!("{name}.pem")), format!("PEM of {name}\n")).unwrap();
    }
    let files = json!({"address": "collector-eu.devo.io", "port": 443, "type": "SSL", "chain": "chain.pem", "cert": "cert.pem", "key": "key.pem"});
    let config = |outputs: Value| {
        json!({"outputs": outputs, "inputs": {"m": {"credentials": keys, "services": {"audit": {}}}}}).to_string()
    };
    fs::write(
        world.directory.path().join("tls.json"),
        config(json!({"d": {"type": "devo_platform", "config": files}})),
    )
    .unwrap();
    said(&world.run(&["migrate", "tls.json", "--to", "tls", "--from", "7d"]).await);
    assert_eq!(world.secret("tls/devo.json")["cert"], "PEM of cert\n");
    assert!(world.written("tls/mimecast-devo.toml").contains(r#"DEVO_URL = "tls://collector-eu.devo.io:443""#));

    fs::write(world.directory.path().join("out.json"), config(json!({"d": {"type": "console"}}))).unwrap();
    said(&world.run(&["migrate", "out.json", "--to", "out"]).await);
    world.mimecast.push("audit", crate::world::ago(30), r#"{"id":"1","eventTime":"x"}"#);
    let base = world.mimecast.base_url();
    let file = world.directory.path().join("out/mimecast-devo.toml");
    let text = fs::read_to_string(&file).unwrap().replace("/var/lib/mimecast-devo/", "");
    fs::write(&file, format!("{text}MIMECAST_BASE_URL = \"{base}\"\n")).unwrap();
    let printed = said(&world.run(&["collect", "--once", "--config", "out/mimecast-devo.toml"]).await);
    assert_eq!(printed, "mail.mimecast.audit.events: {\"id\":\"1\",\"eventTime\":\"x\"}\n");
}

/// A host with an AWS account, and a configuration of Devo's collector that has this client secret.
pub async fn with_aws(client_secret: &str) -> (World, Aws) {
    let mut world = World::new().await;
    let aws = Aws::start(Embedded::memory().unwrap());
    world.on_aws(&aws);
    world.settings.retain(|name, _| name.starts_with("AWS_"));
    world.old_configuration(client_secret);
    (world, aws)
}

impl World {
    fn old_configuration(&self, client_secret: &str) {
        let mimecast: Value = serde_json::from_str(&self.mimecast.secret_v2()).unwrap();
        let keys = json!({"client_id": mimecast["client_id"], "client_secret": client_secret});
        let files = json!({"address": "127.0.0.1", "port": 1, "chain": "pem", "cert": "pem", "key": "pem"});
        fs::write(self.directory.path().join("pem"), "a-PEM-s3cret").unwrap();
        let config = json!({
            "outputs": {"d": {"type": "devo_platform", "config": files}},
            "inputs": {"m": {"credentials": keys, "services": {"audit": {}}}},
        });
        fs::write(self.directory.path().join("old.json"), config.to_string()).unwrap();
    }
}

fn everything(output: &Output) -> String {
    [&*output.stdout, &*output.stderr].map(String::from_utf8_lossy).concat()
}

#[tokio::test]
async fn secrets_go_to_secrets_manager_where_asked_to() {
    let (world, aws) = with_aws("the-s3cret").await;
    let migrate = |to: &'static str| ["migrate", "old.json", "--secrets-manager", "team/collector", "--to", to];
    let output = world.run(&migrate("here")).await;
    let told = said(&output);
    assert!(
        told.contains("secret team/collector/mimecast: created") && !everything(&output).contains("s3cret"),
        "{told}"
    );
    let kept = |name: &str| -> Value { serde_json::from_str(&aws.get_secret(name).unwrap()).unwrap() };
    assert_eq!(kept("team/collector/mimecast")["client_secret"], "the-s3cret");
    assert_eq!(kept("team/collector/devo")["key"], "a-PEM-s3cret");
    let written = world.written("here/mimecast-devo.toml");
    for line in [r#"MIMECAST_SECRET_ID = "team/collector/mimecast""#, r#"DEVO_SECRET_ID = "team/collector/devo""#] {
        assert!(written.lines().any(|written| written == line), "{line}\n{written}");
    }
    assert!(!written.contains("s3cret"), "{written}");
    assert_eq!(fs::read_dir(world.directory.path().join("here")).unwrap().count(), 1, "no secret in a file");

    // Where the settings cannot be written nothing is asked of AWS.
    let calls = aws.calls().len();
    assert_eq!(world.run(&migrate("here")).await.status.code(), Some(2));
    assert_eq!(aws.calls().len(), calls);

    // What is there stays, unless somebody says otherwise.
    world.old_configuration("another-s3cret");
    let output = world.run(&migrate("there")).await;
    let told = everything(&output);
    assert!(
        output.status.code() == Some(2) && told.contains("team/collector/mimecast") && told.contains("--yes"),
        "{told}"
    );
    assert!(!world.directory.path().join("there").exists() && !told.contains("s3cret"), "{told}");
    assert_eq!(kept("team/collector/mimecast")["client_secret"], "the-s3cret");
    let output = world.run(&[&migrate("there")[..], &["--yes"]].concat()).await;
    assert!(said(&output).contains("secret team/collector/mimecast: has a new value"), "{output:?}");
    assert_eq!(kept("team/collector/mimecast")["client_secret"], "another-s3cret");
}

#[tokio::test]
async fn secrets_manager_s_refusals_are_told_and_leave_no_settings() {
    let (world, aws) = with_aws("the-s3cret").await;
    let migrate = ["migrate", "old.json", "--secrets-manager", "mimecast-devo", "--to", "here"];
    for operation in ["DescribeSecret", "CreateSecret"] {
        aws.fault(operation, Fault::DENIED, 1);
        let output = world.run(&migrate).await;
        let told = everything(&output);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains(&format!("secretsmanager:{operation}")) && told.contains("AccessDenied"), "{told}");
        assert!(told.lines().count() == 1 && !told.contains("s3cret"), "{told}");
        assert!(aws.get_secret("mimecast-devo/mimecast").is_none() && !world.directory.path().join("here").exists());
    }
    // What is there by the second look only is not overwritten either.
    aws.fault("DescribeSecret", Fault::Refused(400, "ResourceNotFoundException"), 1);
    aws.set_secret("mimecast-devo/mimecast", "{}");
    let output = world.run(&[&migrate[..], &["--yes"]].concat()).await;
    let told = everything(&output);
    assert!(output.status.code() == Some(2) && told.contains("ResourceExistsException"), "{told}");
    assert_eq!(aws.get_secret("mimecast-devo/mimecast").unwrap(), "{}");
    // AWS repeats what it finds wrong.
    aws.remove_secret("mimecast-devo/mimecast");
    world.old_configuration(&"s3cret".repeat(20_000));
    let told = everything(&world.run(&migrate).await);
    assert!(told.contains("ValidationException") && !told.contains("s3cret"), "{} characters", told.len());
    for prefix in ["", "a b", "file:x", "/"] {
        let output = world.run(&["migrate", "old.json", "--secrets-manager", prefix]).await;
        assert_eq!(output.status.code(), Some(2), "{prefix:?}");
    }
    assert_eq!(world.run(&["migrate", "old.json", "--yes"]).await.status.code(), Some(2));
}

#[tokio::test]
async fn a_host_reads_what_is_in_secrets_manager() {
    let (mut world, aws) = with_aws("the-s3cret").await;
    aws.set_secret("mimecast", &world.mimecast.secret_v2());
    aws.set_secret("devo", &world.devo.secret());
    let settings =
        [("MIMECAST_SECRET_ID", "mimecast"), ("DEVO_SECRET_ID", "devo"), ("SOURCES", "audit"), ("STATE_FILE", "s.db")];
    world.settings.extend(settings.map(|(name, value)| (name.to_owned(), value.to_owned())));
    world.mimecast.push("audit", crate::world::ago(30), r#"{"id":"1","eventTime":"x"}"#);
    assert!(world.run(&["check"]).await.status.success());
    assert!(world.run(&["collect", "--once"]).await.status.success());
    assert_eq!(world.devo.count(), 1);
    aws.fault("GetSecretValue", Fault::DENIED, 1);
    let output = world.run(&["collect", "--once"]).await;
    assert!(output.status.code() == Some(2) && everything(&output).contains("AccessDenied"), "{output:?}");
}

#[tokio::test]
async fn what_is_no_such_configuration_is_refused() {
    let world = World::new().await.bare();
    for (text, said) in
        [("inputs: {a: {services: {b: {}}}}", "no input"), (": [", "neither YAML nor JSON"), ("", "no input")]
    {
        fs::write(world.directory.path().join("c.yaml"), text).unwrap();
        let output = world.run(&["migrate", "c.yaml"]).await;
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && told.contains(said), "{text}: {told}");
    }
}

#[tokio::test]
async fn a_few_questions_make_a_configuration_that_is_checked() {
    let world = World::new().await;
    let mimecast: Value = serde_json::from_str(&world.mimecast.secret_v2()).unwrap();
    let devo: Value = serde_json::from_str(&world.devo.secret()).unwrap();
    let world = world.bare();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let (id, key) = (text(&mimecast["client_id"]), text(&mimecast["client_secret"]));
    let (domain, token) = (text(&devo["domain"]), text(&devo["token"]));
    let url = world.devo.url();
    let answers = [&*id, &key, &url, &domain, &token, "url,audit", "", ""];
    let output = world.answer(&["config", "init", "--to", "here", "--no-check"], &answers).await;
    assert!(output.status.success(), "{output:?}");
    let written = world.written("here/mimecast-devo.toml");
    assert!(written.contains("SOURCES = \"url,audit\"") && written.contains("# where events go"), "{written}");
    assert!(!written.contains(&key) && !written.contains(&token), "{written}");
    assert_eq!(world.secret("here/devo.json"), json!({"domain": domain, "token": token}));
    // The check that follows says what is wrong: here nobody answers for Mimecast's global address.
    let mut world = world;
    world.settings.insert("MIMECAST_BASE_URL".to_owned(), world.mimecast.base_url());
    let output = world.answer(&["config", "init", "--to", "there"], &answers).await;
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success() && told.contains("\u{2713} url"),
        "{told} {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let output = world.answer(&["config", "init", "--to", "nowhere"], &answers[..2]).await;
    assert!(output.status.code() == Some(2) && !world.directory.path().join("nowhere").exists());
}

/// On a terminal what is secret is not shown.
#[tokio::test]
async fn a_terminal_does_not_show_what_is_secret() {
    let world = World::new().await.bare();
    let mut terminal = world.terminal("mimecast-devo config init --to here --no-check");
    // Each question is answered when it is asked.
    for (question, answer) in [
        ("(empty for API 1.0): ", "the-id"),
        ("client secret (not shown): ", "the-s3cret"),
        ("http-eu.devo.io]: ", "tcp://127.0.0.1:1"),
        ("siem]: ", ""),
        ("[24h]: ", ""),
        ("mimecast-devo.db]: ", ""),
    ] {
        terminal.until(question, 1).types(&format!("{answer}\n"));
    }
    let (_, shown) = terminal.end();
    assert!(shown.contains("the-id") && !shown.contains("the-s3cret"), "{shown}");
    assert_eq!(world.secret("here/mimecast.json"), json!({"client_id": "the-id", "client_secret": "the-s3cret"}));
}
