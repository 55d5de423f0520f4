//! `collect` as a service: what it says when it starts, how it answers over HTTP, and what signals do to it.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use simulator::mimecast::{Fault, FaultKind};

use crate::world::{World, ago, row, said, signal};

/// A running `collect` that listens.
struct Service<'a> {
    world: &'a World,
    child: Child,
    address: SocketAddr,
}

impl World {
    /// Starts `collect` with a configuration file, as a service would.
    fn service(&self, words: &[&str]) -> Service<'_> {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let listen = address.to_string();
        let mut command = self.command(&[&["collect", "--config", "c.toml", "--listen", &listen], words].concat());
        // The environment keeps the secrets only.
        for name in ["SOURCES", "PERIOD"] {
            command.env_remove(name);
        }
        let log = File::create(self.directory.path().join("log")).unwrap();
        Service { world: self, child: command.stderr(log).stdout(Stdio::null()).spawn().unwrap(), address }
    }

    fn configure(&self, text: &str) {
        fs::write(self.directory.path().join("c.toml"), text).unwrap();
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap()
    }
}

impl Service<'_> {
    /// Status and body; `None` while nobody listens.
    fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(self.address).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    async fn until(&self, what: &str, done: impl Fn(&Self) -> bool) {
        let started = Instant::now();
        while !done(self) {
            assert!(started.elapsed() < Duration::from_secs(120), "{what} does not come\n{}", self.world.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn until_healthy(&self) {
        self.until("health", |service| service.get("/healthz") == Some((200, "ok\n".to_owned()))).await;
    }

    /// How long it takes to stop, in order.
    fn stop(mut self) -> Duration {
        let started = Instant::now();
        signal(&self.child, "TERM");
        let status = self.child.wait().unwrap();
        assert_eq!(status.code(), Some(0), "{}", self.world.log());
        started.elapsed()
    }
}

impl Drop for Service<'_> {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[tokio::test]
async fn it_is_healthy_only_when_it_knows_that_all_is_well() {
    let world = World::new().await;
    world.configure("SOURCES = 'url,audit'\nPERIOD = '1s'");
    world.mimecast.fault(Fault::new("/api/audit/", FaultKind::Hang(Duration::from_secs(2))).times(1));
    let service = world.service(&[]);
    service
        .until("the blind start", |service| {
            service
                .get("/healthz")
                .is_some_and(|(status, text)| status == 503 && text.contains("audit: has not run yet"))
        })
        .await;
    service.until_healthy().await;

    world.mimecast.deny("/api/ttp/url/");
    service.until("the failure", |service| service.get("/healthz").unwrap().0 == 503).await;
    let (_, text) = service.get("/healthz").unwrap();
    assert!(text.contains("url: failing since") && text.contains("Monitoring | URL Protection | Read"), "{text}");
    assert!(!text.contains("audit"), "{text}");
    world.mimecast.allow("/api/ttp/url/");
    service.until_healthy().await;
    assert!(service.stop() < Duration::from_secs(5));
}

#[tokio::test]
async fn its_numbers_are_what_it_did_and_all_series_are_there_from_the_start() {
    let world = World::new().await;
    world.configure("SOURCES = 'url,dashboard'\nPERIOD = '1s'\nPERIOD_DASHBOARD = '1h'");
    for n in 0..5 {
        world.mimecast.push("url", ago(30), row(n, ago(30)).as_str());
    }
    let service = world.service(&[]);
    service.until("an answer", |service| service.get("/metrics").is_some()).await;
    service.until_healthy().await;
    let (_, text) = service.get("/metrics").unwrap();
    for name in ["events_total", "runs_failed_total", "last_success_timestamp_seconds", "lag_seconds", "healthy"] {
        for source in ["url", "dashboard"] {
            assert!(text.contains(&format!("mimecast_devo_{name}{{source=\"{source}\"}} ")), "{name} {source}\n{text}");
        }
    }
    assert!(text.contains("mimecast_devo_events_total{source=\"url\"} 5\n"), "{text}");
    assert!(text.contains("mimecast_devo_lag_seconds{source=\"dashboard\"} NaN\n"), "{text}");
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (_, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
    }
    let (_, text) = service.get("/status.json").unwrap();
    let whole: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&whole["healthy"], &whole["sources"]["url"]["events"]), (&true.into(), &5.into()), "{whole}");
    let (status, page) = service.get("/").unwrap();
    assert!(status == 200 && page.contains("<title>Mimecast to Devo</title>"));
    // Nothing is loaded from elsewhere.
    assert!(!page.replace("http://www.w3.org/2000/svg", "").contains("://"), "{page}");
}

#[tokio::test]
async fn it_stops_at_once_also_while_it_backs_off() {
    let world = World::new().await;
    world.configure("SOURCES = 'url'\nPERIOD = '5m'");
    world.mimecast.fault(Fault::new("/api/ttp/url/", FaultKind::status(503)).forever());
    let service = world.service(&[]);
    service.until("a try", |service| service.world.mimecast.struck() >= 2).await;
    assert!(service.stop() < Duration::from_secs(5));
    assert!(world.log().contains("the next start goes on from their checkpoints"), "{}", world.log());
}

#[tokio::test]
async fn a_hangup_reads_the_configuration_again_unless_it_is_wrong() {
    let mut world = World::new().await;
    world.settings.remove("MIMECAST_SECRET_ID");
    let keys = "MIMECAST_SECRET_ID = 'env:MIMECAST'\n";
    world.configure(&format!("{keys}SOURCES = 'url'\nPERIOD = '1s'"));
    let service = world.service(&[]);
    service.until_healthy().await;
    // A secret that cannot be read is no reason to stop what runs.
    world.configure("MIMECAST_SECRET_ID = 'file:nowhere.json'\nSOURCES = 'url'");
    signal(&service.child, "HUP");
    service.until("the refusal", |service| service.world.log().contains("nowhere.json")).await;
    service.until_healthy().await;
    world.configure("SOURCES = 'url'\nPERIOD = 'soon'\nTENNANT = 'x'");
    signal(&service.child, "HUP");
    service.until("the refusal", |service| service.world.log().contains("unknown key TENNANT")).await;
    assert!(world.log().contains("line 3: unknown key TENNANT (did you mean TENANT?)"), "{}", world.log());
    world.configure(&format!("{keys}SOURCES = 'audit'\nPERIOD = '1s'"));
    signal(&service.child, "HUP");
    service.until("the other source", |service| service.world.log().contains("audit: caught up")).await;
    service.until_healthy().await;
    let (_, text) = service.get("/status.json").unwrap();
    assert!(text.contains("\"audit\"") && !text.contains("\"url\""), "{text}");
    service.stop();
}

#[tokio::test]
async fn it_says_what_it_does_and_tells_systemd() {
    let mut world = World::new().await;
    world.configure("SOURCES = 'url'\nPERIOD = '7s'\nSTATE_FILE = 'here.db'\nTENANT = 'acme'");
    // Of a shell that has such a variable for something else.
    world.settings.insert("TENANT".to_owned(), "of-a-shell".to_owned());
    world.settings.remove("STATE_FILE");
    let path = world.directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_nonblocking(true).unwrap();
    world.settings.insert("NOTIFY_SOCKET".to_owned(), path.display().to_string());
    let service = world.service(&["--log-format", "json"]);
    service.until_healthy().await;
    service.stop();
    let log = world.log();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let start =
        lines.iter().find_map(|line| line["message"].as_str().filter(|text| text.contains("collects into"))).unwrap();
    for part in [env!("CARGO_PKG_VERSION"), "127.0.0.1", "here.db", "url 7 s"] {
        assert!(start.contains(part), "{start}");
    }
    let output = world.run(&["status", "--config", "c.toml", "--json"]).await;
    assert!(String::from_utf8(output.stdout).unwrap().contains(r#""tenant":"acme""#));
    let mut told = Vec::new();
    let mut buffer = [0; 200];
    while let Ok(length) = socket.recv(&mut buffer) {
        told.push(String::from_utf8_lossy(&buffer[..length]).trim().to_owned());
    }
    assert_eq!(told, ["READY=1", "STOPPING=1"]);
    // With its prefix a variable is certainly meant.
    world.settings.insert("MIMECAST_DEVO_TENANT".to_owned(), "prefixed".to_owned());
    let output = world.run(&["status", "--config", "c.toml", "--json"]).await;
    assert!(String::from_utf8(output.stdout).unwrap().contains(r#""tenant":"prefixed""#));
}

#[tokio::test]
async fn it_answers_on_this_host_only() {
    let world = World::new().await;
    for address in ["0.0.0.0:9464", "192.0.2.1:80", "[::]:1", "localhost"] {
        let output = world.run(&["collect", "--listen", address]).await;
        assert_eq!(output.status.code(), Some(2), "{address}");
        assert!(String::from_utf8(output.stderr).unwrap().contains("127.0.0.1:9464"));
    }
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let output = world.run(&["collect", "--listen", &taken.local_addr().unwrap().to_string()]).await;
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && text.contains("name another port"), "{text}");
}

#[tokio::test]
async fn once_runs_each_source_once_and_tells_by_its_exit_code() {
    let mut world = World::new().await;
    world.settings.remove("SOURCES");
    world.mimecast.push("url", ago(30), row(1, ago(30)).as_str());
    let words = ["collect", "--once", "--source", "url", "--source", "audit", "--state-file", "other.db"];
    assert_eq!(world.run(&words).await.status.code(), Some(0));
    assert_eq!(world.lines().len(), 1);
    assert!(world.directory.path().join("other.db").exists() && !world.directory.path().join("state.db").exists());
    assert!(world.mimecast.requests().iter().all(|request| !request.path.contains("siem")));
    world.mimecast.deny("/api/audit/");
    assert_eq!(world.run(&words).await.status.code(), Some(1));
}

#[tokio::test]
async fn shells_and_man_are_told_of_every_command() {
    let world = World::new().await;
    for shell in ["bash", "zsh", "fish"] {
        assert!(said(&world.run(&["completions", shell]).await).contains("dead-letters"), "{shell}");
    }
    let page = said(&world.run(&["man"]).await);
    // Each command and each of its own, with an example that begins as it is typed.
    let mut asked: Vec<Vec<String>> = vec![Vec::new()];
    for n in 0.. {
        let Some(words) = asked.get(n).cloned() else { break };
        let line: Vec<&str> = words.iter().map(String::as_str).chain(["--help"]).collect();
        let help = said(&world.run(&line).await);
        let example = format!("\n  {}", [&["mimecast-devo"][..], &line[..words.len()]].concat().join(" "));
        let (_, examples) = help.split_once("\nExample").unwrap_or_else(|| panic!("{words:?}: no example\n{help}"));
        assert!(examples.contains(&example), "{words:?}\n{help}");
        let own = help.lines().skip_while(|line| !line.starts_with("Commands:")).skip(1);
        let own = own.take_while(|line| !line.is_empty()).filter_map(|line| line.split_whitespace().next());
        asked.extend(own.filter(|name| *name != "help").map(|name| [&words[..], &[name.to_owned()]].concat()));
    }
    assert!(asked.len() > 15, "{asked:?}");
    for command in asked.iter().filter_map(|words| <&[String; 1]>::try_from(&words[..]).ok()) {
        assert!(page.contains(&command[0].replace('-', "\\-")), "{command:?}\n{page}");
        assert!(said(&world.run(&["man", &command[0]]).await).contains(".TH"), "{command:?}");
    }
}

#[tokio::test]
async fn what_would_be_passed_over_is_refused() {
    let world = World::new().await;
    for words in [
        &["tail", "url", "--source", "siem"][..],
        &["reset", "url", "--source", "siem"],
        &["backfill", "--from", "2026-01-01", "--to", "2026-01-02"],
    ] {
        let output = world.run(words).await;
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && text.contains("--source"), "{words:?}: {text}");
    }
}
