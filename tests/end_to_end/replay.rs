//! Dead letters are replayed: nothing lost, nothing doubled, at most a batch repeated by a crash, never two writers.
//!
//! A parser cannot be mended in the middle of a test. So the bytes of a letter are mended instead, and what the functions
//! read again stays as broken as it was.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue::{B, N, S};
use chrono::TimeDelta;
use collector::{Collector, Error, Letter, Replayed, Secrets, Settings, Source, Status, Store};
use mimecast::Clock;
use mimecast_devo::embedded::TABLE;
use serde_json::json;
use simulator::devo::{self, Kind};
use simulator::mimecast::{Fault, FaultKind, SiemMode};

use crate::world::{Api, World, now};

const AUDIT: &str = "mail.mimecast.audit.events";
const URL: &str = "mail.mimecast.ttp.url";
const FEED: &str = "mail.mimecast.threat.feed";
const AV: &str = "mail.mimecast.siem.av";

/// What `mimecast-devo dead-letters` works with.
struct Mender {
    store: Store,
    collector: Collector,
    directory: tempfile::TempDir,
}

/// A collector in this process, over the store of the functions. Its secrets stand in `directory`.
pub(crate) fn collector(world: &World, directory: &Path, clock: Clock) -> Collector {
    let secret = |name: &str, text: String| {
        let path = directory.join(name);
        std::fs::write(&path, text).unwrap();
        format!("file:{}", path.display())
    };
    let keys = if world.api == Api::V1 { world.mimecast.secret_v1() } else { world.mimecast.secret_v2() };
    let variables = BTreeMap::from([
        ("MIMECAST_SECRET_ID", secret("mimecast", keys)),
        ("DEVO_SECRET_ID", secret("devo", world.devo.secret())),
        ("CHECKPOINT_TABLE", TABLE.to_owned()),
    ]);
    let settings = Settings::from_lookup(|name| variables.get(name).cloned()).unwrap();
    Collector::new(settings, Store::new(world.store.client(), TABLE), Secrets::new(None), clock)
}

impl Mender {
    fn new(world: &World) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let collector = collector(world, directory.path(), Clock::System);
        Self { store: Store::new(world.store.client(), TABLE), collector, directory }
    }

    async fn letters(&self, source: &Source) -> Vec<Letter> {
        self.store.letters("default", source.name).await.unwrap()
    }

    async fn try_replay(&self, source: &'static Source, letters: &[Letter]) -> (Result<Status, Error>, Replayed) {
        let mut done = Replayed::default();
        let outcome = self.collector.replay(source, "default", letters, false, &mut done).await;
        (outcome, done)
    }

    /// Replays all letters: how many are gone, sent, known, new, and stay.
    async fn replay(&self, source: &'static Source) -> [u64; 5] {
        let (outcome, done) = self.try_replay(source, &self.letters(source).await).await;
        assert_eq!(outcome.unwrap(), Status::CaughtUp);
        [done.letters, done.events, done.duplicates, done.rejected, done.kept.len() as u64]
    }
}

/// Puts other bytes into the letters of a source that hold `bad`.
async fn mend(world: &World, source: &str, bad: &[u8], good: &[u8]) {
    let client = world.store.client();
    let query = client.query().table_name(TABLE).key_condition_expression("pk = :pk AND begins_with(sk, :dead)");
    let query = query.expression_attribute_values(":pk", S(format!("default#{source}")));
    let items = query.expression_attribute_values(":dead", S("dead#".to_owned())).send().await.unwrap();
    for mut item in items.items.unwrap() {
        if item["raw"].as_b().unwrap().as_ref() == bad {
            item.insert("raw".to_owned(), B(Blob::new(good)));
            client.put_item().table_name(TABLE).set_item(Some(item)).send().await.unwrap();
        }
    }
}

async fn raw(world: &World, source: &str) -> Vec<Vec<u8>> {
    world.dead_letters(source).await.into_iter().map(|(raw, _)| raw).collect()
}

fn lines(table: &str, lines: &[&str]) -> BTreeMap<String, Vec<String>> {
    [(table.to_owned(), lines.iter().map(|line| (*line).to_owned()).collect())].into()
}

/// The overlap is read again once the window has moved on.
async fn run_again(world: &mut World, source: &str) {
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let answer = world.run(source).await;
    assert_eq!((&answer["events"], &answer["rejected"]), (&json!(0), &json!(0)), "{answer}");
}

#[tokio::test]
async fn what_devo_refused_is_sent_as_it_was_once_devo_takes_it() {
    let mut world = World::new(Api::V2).await;
    let large = format!(r#"{{"n":2,"pad":"{}"}}"#, "x".repeat(500));
    for row in [r#"{"n":1}"#, &large, &large] {
        world.mimecast.push("url", now() - TimeDelta::minutes(5), row);
    }
    world.devo.fault(devo::Fault::new(Kind::TooLarge { max_bytes: 300 }).times(usize::MAX));
    world.run("url").await;
    let mender = Mender::new(&world);
    let before = mender.letters(&functions::url::SOURCE).await;
    // Devo is as it was: so are they.
    assert_eq!(mender.replay(&functions::url::SOURCE).await, [0, 0, 0, 0, 2]);
    assert_eq!(mender.letters(&functions::url::SOURCE).await, before);
    world.devo.clear_faults();
    assert_eq!(mender.replay(&functions::url::SOURCE).await, [2, 2, 0, 0, 0]);
    run_again(&mut world, "url").await;
    assert_eq!(mender.replay(&functions::url::SOURCE).await, [0; 5]);
    world.assert_delivered(&lines(URL, &[r#"{"n":1}"#, &large, &large]));
}

#[tokio::test]
async fn rows_that_can_be_read_by_now_arrive_and_the_others_stay() {
    for (source, table) in [(&functions::url::SOURCE, URL), (&functions::audit::SOURCE, AUDIT)] {
        let mut world = World::new(Api::V2).await;
        let rows: [&[u8]; 4] = [br#"{"id":"1"}"#, br#"{"id":}"#, br#"{"id":}"#, b"{\"id\":\"\xff\"}"];
        for row in rows {
            world.mimecast.push(source.name, now() - TimeDelta::minutes(5), row);
        }
        world.run(source.name).await;
        let mender = Mender::new(&world);
        assert_eq!(mender.replay(source).await, [0, 0, 0, 0, 3]);
        mend(&world, source.name, rows[1], br#" {"id": 1.10, "date":"x"}"#).await;
        let letters = mender.letters(source).await;
        // A dry run touches nothing.
        let mut done = Replayed::default();
        mender.collector.replay(source, "default", &letters, true, &mut done).await.unwrap();
        assert_eq!((done.letters, done.events, done.kept.len()), (2, 2, 1));
        assert_eq!(mender.letters(source).await, letters);
        // Two equal ones are two, also one after the other.
        for letter in letters.iter().filter(|letter| !done.kept.contains_key(&letter.id)) {
            let (outcome, done) = mender.try_replay(source, std::slice::from_ref(letter)).await;
            assert_eq!((outcome.unwrap(), done.letters, done.events), (Status::CaughtUp, 1, 1));
            // A list that is out of date names what is gone.
            assert_eq!(mender.try_replay(source, std::slice::from_ref(letter)).await.1, Replayed::default());
        }
        assert_eq!(raw(&world, source.name).await, [rows[3].to_vec()]);
        run_again(&mut world, source.name).await;
        let mended = r#"{"id":1.10,"date":"x"}"#;
        world.assert_delivered(&lines(table, &[r#"{"id":"1"}"#, mended, mended]));
    }
}

#[tokio::test]
async fn a_page_gives_its_rows_once_whoever_reads_them_first() {
    let mut world = World::new(Api::V2).await;
    world.set("INITIAL_LOOKBACK", "3m");
    let at = now() - TimeDelta::seconds(110);
    let time = at.format("%Y-%m-%dT%H:%M:%S+0000").to_string();
    world.mimecast.push("url", at, r#"{"a":[}"#);
    world.run("url").await;
    let letters = raw(&world, "url").await;
    let (of_the_second, before) = letters.split_last().unwrap();
    // As the parser might see them one day: two that are equal, one that is as bad as before, and one of the next second.
    let next = (at + TimeDelta::seconds(5)).format("%Y-%m-%dT%H:%M:%S+0000").to_string();
    let row = format!(r#"{{"date":"{time}","n":1}}"#);
    let page = format!(
        r#"{{"meta":{{"status":200}},"data":[{{"clickLogs":[{row}, {row},{{"n":}},{{"date":"{next}"}}]}}],"fail":[]}}"#
    );
    let mender = Mender::new(&world);
    // The second before shows the row too: there it would be of the next one.
    for letter in before {
        mend(
            &world,
            "url",
            letter,
            br#"{"meta":{"status":200},"data":[{"clickLogs":[{"date":"2999-01-01T00:00:00Z"}]}]}"#,
        )
        .await;
    }
    mend(&world, "url", of_the_second, page.as_bytes()).await;
    let done = mender.replay(&functions::url::SOURCE).await;
    assert_eq!(done[1..], [2, 0, 1, 0], "{done:?}");
    assert_eq!(raw(&world, "url").await, [br#"{"n":}"#.to_vec()]);
    world.assert_delivered(&lines(URL, &[&row, &row]));
    // The same page once more, as after a crash before its end: all of it is known, the bad row too.
    mend(&world, "url", br#"{"n":}"#, page.as_bytes()).await;
    let done = mender.replay(&functions::url::SOURCE).await;
    assert_eq!(done, [1, 0, 3, 0, 0]);
    world.assert_delivered(&lines(URL, &[&row, &row]));
}

#[tokio::test]
async fn siem_lines_arrive_in_their_tables() {
    for api in [Api::V1, Api::V2] {
        let mut world = World::new(api).await;
        let bad: &[u8] = b"{\"n\":\"\xff\"}";
        world.mimecast.push_siem("av", vec![br#"{"type":"av","n":1}"#.to_vec(), bad.to_vec(), bad.to_vec()]);
        world.run("siem").await;
        let mender = Mender::new(&world);
        assert_eq!(mender.replay(&functions::siem::SOURCE).await, [0, 0, 0, 0, 2]);
        mend(&world, "siem", bad, br#"{"type": "av","n":1}"#).await;
        assert_eq!(mender.replay(&functions::siem::SOURCE).await, [2, 2, 0, 0, 0]);
        run_again(&mut world, "siem").await;
        world.assert_delivered(&lines(AV, &[r#"{"type":"av","n":1}"#; 3]));
    }
}

#[tokio::test]
async fn a_file_gives_its_lines_and_what_is_bad_in_it_stays() {
    for api in [Api::V1, Api::V2] {
        let mut world = World::new(api).await;
        let line = |n: usize| format!(r#"{{"type":"av","n":{n}}}"#);
        (0..2).for_each(|n| world.mimecast.push_siem("av", vec![line(n).into_bytes()]));
        world.mimecast.siem_mode(SiemMode { files_per_answer: 1, ..SiemMode::default() });
        let path = if api == Api::V1 { "/api/audit/get-siem".to_owned() } else { world.mimecast.siem_path(0) };
        world.mimecast.fault(Fault::new(&path, FaultKind::CorruptZip).times(6));
        world.fail("siem").await;
        world.run("siem").await;
        let mender = Mender::new(&world);
        let broken = raw(&world, "siem").await;
        assert_eq!(broken.len(), 1);
        assert_eq!(mender.replay(&functions::siem::SOURCE).await, [0, 0, 0, 0, 1]);
        // More than a batch holds, two of them equal, one as bad as it was.
        let mut rows: Vec<String> = (10..10_510).map(line).collect();
        rows.push(line(10));
        let file = [rows.join("\n").as_bytes(), b"\n{bad\n"].concat();
        mend(&world, "siem", &broken[0], &file).await;
        assert_eq!(mender.replay(&functions::siem::SOURCE).await, [1, 10_501, 0, 1, 0]);
        assert_eq!(raw(&world, "siem").await, [b"{bad".to_vec()]);
        assert!(mender.letters(&functions::siem::SOURCE).await[0].origin.ends_with(" line 10502"));
        run_again(&mut world, "siem").await;
        let other =
            world.devo.lines()[AV].iter().find(|arrived| [line(0), line(1)].contains(arrived)).cloned().unwrap();
        rows.push(other);
        world.assert_delivered(&[(AV.to_owned(), rows)].into());
        drop(mender.directory);
    }
}

#[tokio::test]
async fn a_file_that_is_only_a_name_stays() {
    let mut world = World::new(Api::V2).await;
    world.mimecast.push_siem("av", vec![br#"{"type":"av"}"#.to_vec()]);
    world.mimecast.fault(Fault::new("/files/", FaultKind::CorruptZip).times(6));
    world.fail("siem").await;
    world.run("siem").await;
    let mender = Mender::new(&world);
    let letters = mender.letters(&functions::siem::SOURCE).await;
    let name = letters[0].origin.rsplit(' ').next().unwrap();
    mend(&world, "siem", &raw(&world, "siem").await[0], name.as_bytes()).await;
    let (_, done) = mender.try_replay(&functions::siem::SOURCE, &letters).await;
    assert!(done.kept[&letters[0].id].contains("only the name"), "{done:?}");
    assert_eq!(mender.letters(&functions::siem::SOURCE).await.len(), 1);
}

#[tokio::test]
async fn feed_rows_have_their_header_and_equal_ones_are_counted() {
    let mut world = World::new(Api::V2).await;
    let at = now() - TimeDelta::minutes(50);
    world.mimecast.push_feed("malware_grid", at, ["1", "2", "3", "4"]);
    for _ in 0..3 {
        world.mimecast.push_feed("malware_grid", at, ["5|x", "6", "7", "8"]);
    }
    world.run("threatfeed").await;
    let mender = Mender::new(&world);
    let source = &functions::threatfeed::SOURCE;
    assert_eq!(mender.replay(source).await, [0, 0, 0, 0, 3]);
    mend(&world, "threatfeed", b"5|x|6|7|8", b"5|6|7|8").await;
    let letters = mender.letters(source).await;
    assert_eq!(mender.try_replay(source, &letters[..1]).await.1.events, 1);
    assert_eq!(mender.try_replay(source, &letters[1..]).await.1.events, 2);
    // A download that has the rows as they should be: the replay's are known.
    let row = |n: &str| format!(r#"{{"MD5":"{n}","SHA256":"6","SenderAddress":"7","Timestamp":"8"}}"#);
    for _ in 0..4 {
        world.mimecast.push_feed("malware_grid", now(), ["5", "6", "7", "8"]);
    }
    let answer = world.run("threatfeed").await;
    assert_eq!((&answer["events"], &answer["duplicates"]), (&json!(1), &json!(3)), "{answer}");
    let first = r#"{"MD5":"1","SHA256":"2","SenderAddress":"3","Timestamp":"4"}"#.to_owned();
    let five = row("5");
    world.assert_delivered(&lines(FEED, &[&first, &five, &five, &five, &five]));
}

#[tokio::test]
async fn a_feed_s_file_between_two_equal_rows_hides_neither() {
    let mut world = World::new(Api::V2).await;
    let source = &functions::threatfeed::SOURCE;
    world.mimecast.push_feed("malware_grid", now() - TimeDelta::minutes(50), ["5|x", "6", "7", "8"]);
    world.run("threatfeed").await;
    world.mimecast.push_feed("malware_grid", now() - TimeDelta::minutes(40), ["1", "2", "3", "4"]);
    world.mimecast.fault(Fault::new("malware_grid", FaultKind::CorruptZip).times(6));
    world.fail("threatfeed").await;
    world.run("threatfeed").await;
    world.mimecast.push_feed("malware_grid", now() - TimeDelta::minutes(30), ["5|y", "6", "7", "8"]);
    world.run("threatfeed").await;
    let found = raw(&world, "threatfeed").await;
    let [first, file, last] = &found[..] else { panic!("{} letters", found.len()) };
    mend(&world, "threatfeed", first, b"5|6|7|8").await;
    mend(&world, "threatfeed", file, b"MD5|SHA256|SenderAddress|Timestamp\n1|2|3|4\n1|2|3|4\n").await;
    mend(&world, "threatfeed", last, b"5|6|7|8").await;
    assert_eq!(Mender::new(&world).replay(source).await, [3, 4, 0, 0, 0]);
    let [five, one] = [["5", "6", "7", "8"], ["1", "2", "3", "4"]]
        .map(|[a, b, c, d]| format!(r#"{{"MD5":"{a}","SHA256":"{b}","SenderAddress":"{c}","Timestamp":"{d}"}}"#));
    world.assert_delivered(&lines(FEED, &[&five, &five, &one, &one]));
}

#[tokio::test]
async fn snapshots_are_stamped_and_a_notice_is_sent_once() {
    let mut world = World::new(Api::V2).await;
    world.mimecast.set_summary(vec![r#"{"numberOfItems":}"#.into()]);
    world.run("messageholdsummary").await;
    world.mimecast.set_notices(vec![r#"{"id":"1","n":}"#.into(), r#"{"id":"2","n":}"#.into()]);
    world.run("dashboard").await;
    let mender = Mender::new(&world);
    mend(&world, "messageholdsummary", br#"{"numberOfItems":}"#, br#"{"numberOfItems":3}"#).await;
    let at = mender.letters(&functions::messageholdsummary::SOURCE).await[0].at;
    assert_eq!(mender.replay(&functions::messageholdsummary::SOURCE).await, [1, 1, 0, 0, 0]);
    let stamp = at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    let summary = format!(r#"{{"numberOfItems":3,"collectedAt":"{stamp}"}}"#);
    assert_eq!(world.devo.lines()["mail.mimecast.message.summary"], [summary]);
    world.devo.clear();
    // The first is delivered by a poll that can read it, the second by its replay.
    mend(&world, "dashboard", br#"{"id":"1","n":}"#, br#"{"id":"1","n":1}"#).await;
    mend(&world, "dashboard", br#"{"id":"2","n":}"#, br#"{"id":"2","n":2}"#).await;
    world.mimecast.set_notices(vec![r#"{"id":"1","n":1}"#.into()]);
    world.run("dashboard").await;
    assert_eq!(mender.replay(&functions::dashboard::SOURCE).await, [2, 1, 1, 0, 0]);
    world.mimecast.set_notices(vec![r#"{"id":"1","n":1}"#.into(), r#"{"id":"2","n":2}"#.into()]);
    assert_eq!(world.run("dashboard").await["events"], 0);
    let table = "mail.mimecast.account.dashboard";
    world.assert_delivered(&lines(table, &[r#"{"id":"1","n":1}"#, r#"{"id":"2","n":2}"#]));
}

/// Three lines that Devo refused.
async fn refused(world: &mut World) -> (Mender, Vec<String>) {
    let rows: Vec<String> = (0..3).map(|n| format!(r#"{{"n":{n},"pad":"{}"}}"#, "x".repeat(300))).collect();
    for row in &rows {
        world.mimecast.push("url", now() - TimeDelta::minutes(5), row.as_str());
    }
    world.devo.fault(devo::Fault::new(Kind::TooLarge { max_bytes: 200 }).times(usize::MAX));
    assert_eq!(world.run("url").await["rejected"], 3);
    world.devo.clear_faults();
    (Mender::new(world), rows)
}

#[tokio::test]
async fn a_replay_waits_for_the_lease_and_has_one() {
    let mut world = World::new(Api::V2).await;
    let (mender, rows) = refused(&mut world).await;
    let lease = async |until: i64, epoch: &str| {
        let update = world.store.client().update_item().table_name(TABLE).key("pk", S("default#url".to_owned()));
        let update =
            update.key("sk", S("checkpoint".to_owned())).update_expression("SET lease_until = :until ADD epoch :more");
        let update = update.expression_attribute_values(":until", N(until.to_string()));
        update.expression_attribute_values(":more", N(epoch.to_owned())).send().await.unwrap();
    };
    let letters = mender.letters(&functions::url::SOURCE).await;
    lease((now() + TimeDelta::seconds(60)).timestamp_millis(), "1").await;
    let (outcome, done) = mender.try_replay(&functions::url::SOURCE, &letters).await;
    assert_eq!((outcome.unwrap(), done), (Status::Busy, Replayed::default()));
    lease(0, "0").await;
    // While Devo takes its time, somebody else takes over: nothing is written, and nothing is gone.
    world.devo.fault(devo::Fault::new(Kind::Hang(Duration::from_millis(800))));
    let take_over = async {
        tokio::time::sleep(Duration::from_millis(400)).await;
        lease(0, "1").await;
    };
    let ((outcome, done), ()) = tokio::join!(mender.try_replay(&functions::url::SOURCE, &letters), take_over);
    assert!(outcome.unwrap_err().to_string().contains("went to another invocation"));
    assert_eq!(done.letters, 0);
    assert_eq!(mender.letters(&functions::url::SOURCE).await, letters);
    // Sent, but not committed: that much comes again, and no more.
    assert_eq!(mender.replay(&functions::url::SOURCE).await, [3, 3, 0, 0, 0]);
    assert_eq!(mender.replay(&functions::url::SOURCE).await, [0; 5]);
    let twice: Vec<&str> = rows.iter().chain(&rows).map(String::as_str).collect();
    world.assert_delivered(&lines(URL, &twice));
}

#[tokio::test]
async fn a_replay_that_devo_fails_keeps_what_is_left() {
    let mut world = World::new(Api::V1).await;
    let kinds = ["av", "jrnl", "process"];
    for kind in kinds {
        world.mimecast.push_siem(kind, vec![b"{\"n\":\"\xff\"}".to_vec()]);
    }
    world.run("siem").await;
    let mender = Mender::new(&world);
    mend(&world, "siem", b"{\"n\":\"\xff\"}", br#"{"n":1}"#).await;
    world.devo.fault(devo::Fault::status(403).table("mail.mimecast.siem.jrnl").times(1000));
    let (outcome, done) =
        mender.try_replay(&functions::siem::SOURCE, &mender.letters(&functions::siem::SOURCE).await).await;
    outcome.unwrap_err();
    let left = mender.letters(&functions::siem::SOURCE).await;
    assert_eq!(done.letters + left.len() as u64, 3);
    assert_eq!(done.letters, done.events);
    world.devo.clear_faults();
    // The lease was given back at once.
    assert_eq!(mender.replay(&functions::siem::SOURCE).await[..2], [left.len() as u64; 2]);
    let expected = kinds.map(|kind| (format!("mail.mimecast.siem.{kind}"), vec![r#"{"n":1}"#.to_owned()]));
    world.assert_delivered(&expected.into());
}

#[tokio::test]
async fn a_late_row_is_measured() {
    let mut world = World::new(Api::V2).await;
    world.set("METRICS_NAMESPACE", "N");
    let time = |seconds: i64| now() - TimeDelta::seconds(seconds);
    let row = |at: chrono::DateTime<chrono::Utc>| format!(r#"{{"date":"{}"}}"#, at.format("%Y-%m-%dT%H:%M:%S+0000"));
    world.mimecast.push("url", time(700), row(time(700)));
    let answer = world.run("url").await;
    assert!(answer["checkpoint"]["windows"]["late"].is_null(), "{answer}");
    world.mimecast.push("url", time(600), row(time(600)));
    world.mimecast.push("url", time(400), row(time(400)));
    world.mimecast.push("url", time(400), r#"{"date":"nobody knows"}"#);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let answer = world.run("url").await;
    assert_eq!(answer["events"], 3, "{answer}");
    // Behind what was closed, a settle lag of a minute ago.
    let late = answer["checkpoint"]["windows"]["late"]["seconds"].as_i64().unwrap();
    assert!((535..=545).contains(&late), "{answer}");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(world.run("url").await["checkpoint"]["windows"]["late"]["seconds"], late, "it is remembered");
    let mender = Mender::new(&world);
    let settings = Settings::from_lookup(|name| match name {
        "DEVO_URL" => Some("stdout:".to_owned()),
        "MIMECAST_SECRET_ID" | "CHECKPOINT_TABLE" => Some("x".to_owned()),
        _ => None,
    });
    let overview = mender.store.overview("default", &functions::url::SOURCE, &settings.unwrap(), now()).await.unwrap();
    assert_eq!((overview.late_seconds, overview.dead_letters, overview.lease_until), (Some(late), 0, None));
    world.stop("url");
    let told: Vec<String> =
        world.output().lines().filter(|line| line.contains("\"LateSeconds\":")).map(Into::into).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains(&format!("\"LateSeconds\":{late}")), "{told:?}");
}
