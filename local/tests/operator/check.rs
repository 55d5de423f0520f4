//! `check`: all is well, or each problem with its remedy, all of them at once; and it leaves nothing behind.

use std::collections::BTreeMap;
use std::process::Output;

use chrono::{TimeDelta, Utc};
use rcgen::{CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use simulator::devo::Fault as DevoFault;
use simulator::mimecast::{Fault, FaultKind};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

use crate::support::aws::{Aws, Fault as AwsFault};
use crate::world::World;

/// One look: the exit code, and what failed by name, with detail and remedy.
struct Look {
    code: i32,
    failed: BTreeMap<String, (String, String)>,
    passed: Vec<String>,
}

fn look(output: &Output) -> Look {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let all: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{output:?}"));
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let checks = all["checks"].as_array().unwrap();
    let (passed, failed): (Vec<&Value>, Vec<&Value>) = checks.iter().partition(|check| check["ok"] == true);
    assert_eq!(all["ok"] == true, failed.is_empty());
    assert!(passed.iter().all(|check| check["remedy"].is_null()), "{passed:?}");
    let failed = failed.iter().map(|check| (text(&check["name"]), (text(&check["detail"]), text(&check["remedy"]))));
    let passed = passed.iter().map(|check| text(&check["name"])).collect();
    Look { code: output.status.code().unwrap(), failed: failed.collect(), passed }
}

impl World {
    async fn check(&self, words: &[&str]) -> Look {
        look(&self.run(&[&["check", "--json"], words].concat()).await)
    }

    /// Of a world with all sources in which one thing is wrong: the name of what fails, its detail and its remedy.
    async fn failing(&self, code: i32) -> (String, String, String) {
        let Look { code: found, failed, .. } = self.check(&[]).await;
        assert_eq!((found, failed.len()), (code, 1), "{failed:?}");
        let (name, (detail, remedy)) = failed.into_iter().next().unwrap();
        assert!(self.devo.lines().is_empty() && !self.directory.path().join("state.db").exists());
        (name, detail, remedy)
    }
}

async fn all_sources() -> World {
    let mut world = World::new().await;
    world.settings.remove("SOURCES");
    world
}

#[tokio::test]
async fn where_all_is_well_it_says_so_and_leaves_nothing() {
    for v1 in [false, true] {
        let mut world = all_sources().await;
        if v1 {
            world.settings.insert("MIMECAST".to_owned(), world.mimecast.secret_v1());
        }
        let Look { code, failed, passed } = world.check(&[]).await;
        assert_eq!((code, failed.len()), (0, 0), "{failed:?}");
        let wanted = ["settings", "state file", "mimecast secret", "devo secret", "mimecast keys", "clock", "devo"];
        let sources: Vec<&str> = functions::by_default().iter().map(|source| source.name).collect();
        assert!(wanted.iter().chain(&sources).all(|name| passed.iter().any(|passed| passed == name)), "{passed:?}");
        assert_eq!(passed.len(), wanted.len() + sources.len());
        assert!(world.devo.lines().is_empty());
        assert_eq!(world.directory.path().read_dir().unwrap().count(), 0);
        // For people: a line with a tick each.
        let output = world.run(&["check"]).await;
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text.lines().filter(|line| line.starts_with("\u{2713} ")).count(), text.lines().count(), "{text}");
    }
}

#[tokio::test]
async fn it_delivers_one_test_event_where_asked_to() {
    let world = World::new().await;
    let Look { code, passed, .. } = world.check(&["--send"]).await;
    assert!(code == 0 && passed.contains(&"devo test event".to_owned()), "{passed:?}");
    let lines = world.devo.lines();
    let (table, lines) = lines.iter().next().unwrap();
    assert_eq!((table.as_str(), lines.len(), world.devo.count()), ("my.app.mimecast.check", 1, 1));
    assert!(lines[0].starts_with(r#"{"check":"mimecast-devo "#), "{lines:?}");
}

#[tokio::test]
async fn only_what_is_enabled_is_asked() {
    let world = World::new().await;
    let Look { code, passed, .. } = world.check(&[]).await;
    assert!(code == 0 && passed.contains(&"url".to_owned()) && !passed.contains(&"siem".to_owned()), "{passed:?}");
    assert!(world.mimecast.requests().iter().all(|request| !request.path.contains("siem")));
}

#[tokio::test]
async fn a_missing_permission_is_named_in_the_words_of_the_console() {
    let world = all_sources().await;
    world.mimecast.deny("/api/ttp/url/");
    let (name, detail, remedy) = world.failing(1).await;
    assert_eq!(name, "url");
    assert!(detail.contains("403") && remedy.contains("Monitoring | URL Protection | Read"), "{detail} {remedy}");
    world.mimecast.allow("/api/ttp/url/");
    // One type of SIEM's ten.
    world.mimecast.deny("type=av");
    let (name, detail, remedy) = world.failing(1).await;
    assert!(name == "siem" && detail.contains("av: "), "{detail}");
    assert!(remedy.contains("Threats, Security Events and Data for CG"), "{remedy}");
}

#[tokio::test]
async fn those_off_unless_asked_for_say_what_they_need() {
    let mut world = World::new().await;
    world.settings.insert("SOURCES".to_owned(), "dlp,release,rejections,siemci".to_owned());
    let Look { code, failed, .. } = world.check(&[]).await;
    assert!(code == 0 && failed.is_empty(), "{failed:?}");
    let needs = [
        ("dlp", "/api/dlp/", "Monitoring | Data Leak Prevention | Read"),
        ("release", "get-held-release-logs", "Monitoring | Held | Read"),
        ("rejections", "get-rejections", "Monitoring | Rejections | Read"),
        ("siemci", "/batch/events/ci", "Threats, Security Events and Data for CI"),
    ];
    needs.iter().for_each(|(_, denied, _)| world.mimecast.deny(denied));
    let Look { code, failed, .. } = world.check(&[]).await;
    assert!(code == 1 && failed.len() == needs.len(), "{failed:?}");
    for (name, _, permission) in needs {
        let (detail, remedy) = &failed[name];
        assert!(detail.contains("403") && remedy.contains(permission), "{name}: {detail} {remedy}");
    }
    // With the keys of API 1.0, which has no such endpoint.
    needs.iter().for_each(|(_, denied, _)| world.mimecast.allow(denied));
    world.settings.insert("MIMECAST".to_owned(), world.mimecast.secret_v1());
    let Look { code, failed, .. } = world.check(&[]).await;
    let names: Vec<&str> = failed.keys().map(String::as_str).collect();
    assert_eq!((code, names), (1, vec!["siemci"]), "{failed:?}");
    let (detail, remedy) = &failed["siemci"];
    assert!(detail.contains("2.0") && !remedy.is_empty(), "{detail} {remedy}");
}

#[tokio::test]
async fn all_problems_are_told_at_once() {
    let world = all_sources().await;
    for denied in ["/api/ttp/url/", "/api/audit/get-audit", "/api/archive/get-view"] {
        world.mimecast.deny(denied);
    }
    world.devo.rotate();
    let Look { code, failed, .. } = world.check(&[]).await;
    assert_eq!(
        (code, failed.keys().map(String::as_str).collect::<Vec<_>>()),
        (1, vec!["audit", "devo", "url", "view"])
    );
}

#[tokio::test]
async fn keys_that_are_not_accepted() {
    let world = all_sources().await;
    world.mimecast.rotate_v2();
    let Look { code, failed, .. } = world.check(&[]).await;
    let (detail, remedy) = &failed["mimecast keys"];
    assert!(code == 1 && detail.contains("401") && remedy.contains("client id and secret"), "{detail} {remedy}");
    assert_eq!(failed.len(), 1 + functions::by_default().len());
    assert!(failed["siem"].0 == "not asked" && world.mimecast.requests().len() <= 2);

    let mut world = all_sources().await;
    world.settings.insert("MIMECAST".to_owned(), world.mimecast.secret_v1());
    world.mimecast.fault(Fault::new("/api/", FaultKind::binding_expired()).forever());
    let (_, remedy) = &world.check(&[]).await.failed["mimecast keys"];
    assert!(remedy.contains("binding") && remedy.contains("Authentication TTL"), "{remedy}");
}

#[tokio::test]
async fn another_region_or_nobody_there() {
    let world = all_sources().await;
    world.mimecast.fault(Fault::new("/api/account/", FaultKind::status(404)).forever());
    let (name, _, remedy) = world.failing(1).await;
    assert!(name == "dashboard" && remedy.contains("region") && remedy.contains("127.0.0.1"), "{remedy}");

    let mut world = World::new().await;
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut secret: Value = serde_json::from_str(&world.mimecast.secret_v2()).unwrap();
    secret["base_url"] = json!(format!("http://{nobody}"));
    world.settings.insert("MIMECAST".to_owned(), secret.to_string());
    let (name, detail, remedy) = world.failing(1).await;
    assert!(name == "url" && detail.contains("127.0.0.1") && remedy.contains("network"), "{detail} {remedy}");
}

#[tokio::test]
async fn a_clock_that_is_off() {
    for (seconds, name) in [(600, "clock"), (-600, "clock"), (8 * 3600, "url")] {
        let world = World::new().await;
        world.mimecast.set_clock_offset(seconds);
        let (failed, detail, remedy) = world.failing(1).await;
        assert!(failed == name && remedy.contains("set this machine's clock"), "{failed}: {detail} {remedy}");
    }
}

#[tokio::test]
async fn devo_takes_the_token_for_some_tables_or_for_none() {
    let world = all_sources().await;
    world.devo.fault(DevoFault::status(403).table("mail.mimecast.ttp.url").times(usize::MAX));
    let (name, detail, remedy) = world.failing(1).await;
    assert!(name == "devo" && detail.contains("mail.mimecast.ttp.url") && !detail.contains("audit"), "{detail}");
    assert!(remedy.contains("HTTP ingestion"), "{remedy}");
    world.devo.clear_faults();
    // Said in other words than to a token that nobody has.
    world.devo.fault(DevoFault::status(401).table("mail.mimecast.siem.av").times(usize::MAX));
    let (name, detail, _) = world.failing(1).await;
    assert!(name == "devo" && detail.contains("mail.mimecast.siem.av"), "{detail}");
    world.devo.clear_faults();
    world.devo.rotate();
    let (name, detail, _) = world.failing(1).await;
    assert!(name == "devo" && detail.contains("does not take the token"), "{detail}");
}

#[tokio::test]
async fn what_devo_says_to_an_empty_request_is_not_believed_without_proof() {
    // Taken by a Devo that takes them, from who has a token.
    let world = World::new().await;
    world.devo.fault(DevoFault::status(200).times(usize::MAX));
    assert_eq!(world.check(&[]).await.code, 0);
    // Refused whoever sends it: nothing is known of the token.
    world.devo.clear_faults();
    world.devo.refuse_empty_first();
    let (name, _, remedy) = world.failing(1).await;
    assert!(name == "devo" && remedy.contains("--send"), "{remedy}");
    assert_eq!(world.check(&["--send"]).await.code, 0);
}

#[tokio::test]
async fn a_devo_that_takes_any_token_proves_nothing() {
    let world = World::new().await;
    world.devo.answer_any_token();
    let (name, detail, _) = world.failing(1).await;
    assert!(name == "devo" && detail.contains("whatever the token"), "{detail}");
    let Look { code, failed, .. } = world.check(&["--send"]).await;
    let (_, remedy) = &failed["devo test event"];
    assert!(code == 1 && remedy.contains("verify"), "{remedy}");
}

#[tokio::test]
async fn devo_is_not_there() {
    let mut world = World::new().await;
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut secret: Value = serde_json::from_str(&world.devo.secret()).unwrap();
    secret["url"] = json!(format!("http://{nobody}"));
    world.settings.insert("DEVO".to_owned(), secret.to_string());
    let (name, detail, remedy) = world.failing(1).await;
    assert!(name == "devo" && detail.contains(&nobody.to_string()) && remedy.contains("host, port"), "{detail}");
}

#[tokio::test]
async fn whether_a_receiver_closes_is_told() {
    for closes in [true, false] {
        let mut world = World::new().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        world.settings.remove("DEVO_SECRET_ID");
        world.settings.insert("DEVO_URL".to_owned(), format!("tcp://{}", listener.local_addr().unwrap()));
        tokio::spawn(async move {
            let mut kept = Vec::new();
            while let Ok((mut connection, _)) = listener.accept().await {
                connection.read_to_end(&mut Vec::new()).await.ok();
                kept.extend((!closes).then_some(connection));
            }
        });
        let output = world.run(&["check"]).await;
        let text = String::from_utf8(output.stdout).unwrap();
        let said =
            if closes { "the receiver closes after our end" } else { "the receiver does not close after our end" };
        assert!(output.status.success() && text.contains(said), "{text}");
    }
}

#[tokio::test]
async fn settings_secrets_and_certificates_without_network() {
    let mut world = World::new().await;
    for name in ["MIMECAST_SECRET_ID", "DEVO_SECRET_ID"] {
        world.settings.insert(name.to_owned(), "file:nowhere.json".to_owned());
    }
    let Look { code, failed, .. } = world.check(&["--offline"]).await;
    assert_eq!((code, failed.len()), (2, 2), "{failed:?}");
    assert!(failed.values().all(|(detail, _)| detail.contains("nowhere.json")), "{failed:?}");
    world.settings.insert("DEVO_CONNECTIONS".to_owned(), "99".to_owned());
    world.settings.insert("PAGE_SIZE".to_owned(), "0".to_owned());
    let Look { code, failed, .. } = world.check(&["--offline"]).await;
    let (detail, _) = &failed["settings"];
    assert!(code == 2 && detail.contains("DEVO_CONNECTIONS") && detail.contains("PAGE_SIZE"), "{detail}");
    assert!(world.mimecast.requests().is_empty() && world.devo.requests().is_empty());

    for (days, code) in [(12, 1), (-1, 1), (30, 0)] {
        let mut world = World::new().await;
        let end = ago(-days);
        world.settings.insert("DEVO".to_owned(), certificate(end));
        world.settings.insert("DEVO_URL".to_owned(), "tls://collector.example:443".to_owned());
        let look = world.check(&["--offline"]).await;
        assert_eq!(look.code, code, "{days}: {:?}", look.failed);
        if let Some((detail, remedy)) = look.failed.get("devo certificate") {
            assert!(detail.contains(&end.format("%F").to_string()), "{detail}");
            assert!(remedy.contains("X.509"), "{remedy}");
        }
    }
}

#[allow(clippy::disallowed_methods)]
fn ago(days: i64) -> chrono::DateTime<Utc> {
    Utc::now() - TimeDelta::days(days)
}

/// A Devo secret whose client certificate ends then.
fn certificate(end: chrono::DateTime<Utc>) -> String {
    let key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    authority.distinguished_name.push(DnType::CommonName, "test CA");
    let chain = authority.clone().self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(authority, key);
    let client_key = KeyPair::generate().unwrap();
    let mut client = CertificateParams::default();
    client.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    client.not_after = std::time::SystemTime::from(end).into();
    let cert = client.signed_by(&client_key, &issuer).unwrap().pem();
    json!({"chain": chain, "cert": cert, "key": client_key.serialize_pem()}).to_string()
}

#[tokio::test]
async fn on_aws_the_table_is_read_too() {
    let mut world = World::new().await;
    let aws = Aws::start(mimecast_devo::embedded::Embedded::memory().unwrap());
    world.on_aws(&aws);
    let table = ["--table", mimecast_devo::embedded::TABLE, "--source", "url"];
    let Look { code, failed, passed } = world.check(&table).await;
    assert!(code == 0 && passed.contains(&"checkpoints".to_owned()), "{failed:?}");
    aws.fault("Query", AwsFault::DENIED, 1);
    let Look { code, failed, .. } = world.check(&table).await;
    assert!(code == 1 && failed["checkpoints"].1.contains("dynamodb:Query"), "{failed:?}");
    aws.remove_secret("devo");
    aws.remove_secret("mimecast");
    let Look { code, failed, .. } = world.check(&table).await;
    assert_eq!(
        (code, failed.keys().map(String::as_str).collect::<Vec<_>>()),
        (2, vec!["devo secret", "mimecast secret"])
    );
}
