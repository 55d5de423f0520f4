//! Ways out that refuse one line or never close, and secrets that are wrong in the ways that people get them wrong.

use chrono::TimeDelta;
use futures_util::future::join_all;
use serde_json::json;
use simulator::devo::Fault;
use simulator::{Devo, data};
use tokio::net::TcpListener;

use super::{URL, expected, publish, state};
use crate::receiver::{How, Receiver};
use crate::ways::lines;
use crate::world::{Api, World, assert_same, counts, now, together};

/// Rows of clicks, of which these hold what some firewall takes for an attack.
fn clicks(world: &World, count: usize, bad: &[usize]) -> Vec<String> {
    let row = |n: usize| format!(r#"{{"n":{n},"text":"{}"}}"#, if bad.contains(&n) { "union select" } else { "calm" });
    let rows: Vec<String> = (0..count).map(row).collect();
    for (n, row) in rows.iter().enumerate() {
        world.mimecast.push("url", now() - TimeDelta::seconds(2000 - n as i64), row);
    }
    rows
}

// B5
#[tokio::test]
async fn one_line_that_devo_refuses_does_not_stop_a_source() {
    let cases: [(u16, &[usize]); 4] = [(400, &[150]), (403, &[0]), (400, &[299]), (422, &[7, 8, 200])];
    join_all(cases.map(async |(status, bad)| {
        let mut world = World::new(Api::V2).await;
        let mut rows = clicks(&world, 300, bad);
        world.devo.fault(Fault::status(status).holding("union select"));
        let answer = world.run("url").await;
        assert_eq!(counts(&answer), json!(["caught_up", 300 - bad.len(), 0, bad.len()]), "{answer}");
        assert!(world.devo.requests().len() < 60, "{}", world.devo.requests().len());
        let letters = world.dead_letters("url").await;
        let letters: Vec<_> = letters.iter().map(|(raw, _)| String::from_utf8_lossy(raw).into_owned()).collect();
        let refused: Vec<_> = rows.extract_if(.., |row| row.contains("union")).collect();
        assert_eq!(letters, refused);
        world.assert_delivered(&expected(URL, rows));
        assert_eq!(counts(&world.run("url").await)[1], 0);
    }))
    .await;
}

// B5
#[tokio::test]
async fn where_devo_refuses_all_nothing_is_a_dead_letter() {
    let mut world = World::new(Api::V2).await;
    let rows = clicks(&world, 40, &[]);
    world.devo.fault(Fault::status(403).holding("calm"));
    for _ in 0..2 {
        let (error_type, message) = world.fail("url").await;
        assert_eq!(error_type, "DevoRejected", "{message}");
        assert!(message.contains("403") && !message.contains('\n'), "{message}");
    }
    assert_eq!(world.dead_letters("url").await, []);
    world.devo.clear_faults();
    assert_eq!(counts(&world.run("url").await), json!(["caught_up", 40, 0, 0]));
    world.assert_delivered(&expected(URL, rows));
}

// B6
#[tokio::test]
async fn a_receiver_that_never_closes_gets_each_line_of_each_source_once() {
    let mut world = World::new(Api::V2).await;
    let receiver = Receiver::tcp(How::NeverClose).await;
    world.unset("DEVO_SECRET_ID").set("DEVO_URL", &receiver.url());
    let all = [data::lively(&world.mimecast, 1, now(), 1), world.fill_on_request(1, TimeDelta::hours(20), 20)];
    let mut expected = together(all);
    for (started, source) in world.sources().into_iter().enumerate() {
        // Twice by the same process, which finds it out, and says so, once.
        for _ in 0..2 {
            assert_eq!(world.run(source).await["status"], "caught_up");
        }
        let said = world.output().matches("the receiver does not close after our end").count();
        assert_eq!(said, started + 1, "{source}: {}", world.output());
    }
    // Of this one there is no old and new: each run sends what there is.
    let summary = expected.get_mut(data::SUMMARY_TABLE).unwrap();
    summary.extend(summary.clone());
    assert_same(&lines(&mut world, &receiver).await, &expected);
}

// B16
#[tokio::test]
async fn a_secret_whose_url_has_moved_is_read_again_once_the_old_host_is_gone() {
    let mut world = World::new(Api::V2).await;
    let moved = Devo::start().await.unwrap();
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut secret: serde_json::Value = serde_json::from_str(&world.devo.secret()).unwrap();
    publish(&world, 0..1);
    assert_eq!(world.run("siem").await["events"], 1);
    // What was the old host's answers no more: its connections are refused.
    let gone = format!("http://{}", nobody.local_addr().unwrap());
    drop(nobody);
    secret["url"] = json!(gone);
    world.aws.set_secret("devo", &secret.to_string());
    world.stop("siem");
    publish(&world, 1..2);
    let (error_type, message) = world.fail("siem").await;
    assert!(error_type == "DevoUnavailable" && message.contains(&gone), "{message}");
    // The same process, which has read the old secret.
    world.aws.set_secret("devo", &moved.secret());
    assert_eq!(world.run("siem").await["events"], 1);
    assert_eq!(moved.lines()[super::AV], [super::event(1)]);
}

// B18
#[tokio::test]
async fn relp_without_tls_needs_no_devo_secret() {
    let mut world = World::new(Api::V2).await;
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    world.unset("DEVO_SECRET_ID").set("DEVO_URL", &format!("relp://{nobody}"));
    publish(&world, 0..1);
    let (error_type, message) = world.fail("siem").await;
    assert!(error_type == "DevoUnavailable" && message.contains(&format!("relp://{nobody}")), "{message}");
}

// B9, B11
#[tokio::test]
async fn a_secret_that_is_wrong_says_what_to_do() {
    let devo = json!({"chain": "MIIB", "cert": "MIIB", "key": "MIIB"}).to_string();
    let cut = json!({"chain": "-----BEGIN CERTIFICATE-----\nMIIB", "cert": "x", "key": "x"}).to_string();
    let cases = [(devo, "chain holds no certificate in PEM form: its line -----BEGIN"), (cut, "it is cut")];
    for (secret, said) in cases {
        let mut world = World::new(Api::V2).await;
        world.aws.set_secret("devo", &secret);
        world.set("DEVO_URL", "tls://127.0.0.1:1");
        let (error_type, message) = world.fail("url").await;
        assert!(error_type == "Configuration" && message.contains(said), "{message}");
        assert_eq!(state(&world, "url"), json!(null));
    }
    let mut world = World::new(Api::V2).await;
    world.set("DEVO_SECRET_ID", "not/there");
    let (_, message) = world.fail("url").await;
    assert!(message.contains("not/there") && message.contains("it has no value yet"), "{message}");
}
