//! The HTTP way out against the simulated Devo, which was written independently of it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use devo::{Batch, Credentials, Delivery, Error, Options, Refused, Sink};
use futures_util::future::join_all;
use simulator::{
    Devo,
    devo::{Fault, Kind},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Barrier,
    time::Instant,
};

const TABLE: &str = "mail.mimecast.audit.events";

async fn open() -> (Devo, Sink) {
    let devo = Devo::start().await.unwrap();
    let sink = sink(&devo.url(), &devo.secret());
    (devo, sink)
}

fn sink(url: &str, secret: &str) -> Sink {
    sink_of(url, secret, Options::default().connections)
}

fn sink_of(url: &str, secret: &str, connections: usize) -> Sink {
    let credentials = Credentials::from_json(&secret.into()).unwrap();
    let options = Options { host: "collector 1/ü".to_owned(), connections, ..Options::default() };
    Sink::open(url, Some(&credentials), &options).unwrap()
}

fn batch(table: &'static str, lines: &[Bytes]) -> Batch<'static> {
    Batch { table, lines: lines.to_vec() }
}

/// Stands before a simulated Devo and holds answers back until so many requests wait for theirs.
struct Door {
    url: String,
    waiting: Arc<AtomicUsize>,
    /// The most requests that have waited at once.
    most: Arc<AtomicUsize>,
    barrier: Arc<Barrier>,
}

impl Door {
    async fn before(devo: &Devo, requests: usize) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let barrier = Arc::new(Barrier::new(requests));
        let door = Arc::new(Self { url, waiting: Arc::default(), most: Arc::default(), barrier });
        let (inside, doorkeeper) = (devo.url().replace("http://", ""), door.clone());
        tokio::spawn(async move {
            while let Ok((outer, _)) = listener.accept().await {
                let inner = TcpStream::connect(&inside).await.unwrap();
                let door = doorkeeper.clone();
                tokio::spawn(async move { door.pass(outer, inner).await });
            }
        });
        door
    }

    /// One connection, request by request: the simulated Devo's answers are small enough to come in one piece.
    async fn pass(&self, mut outer: TcpStream, mut inner: TcpStream) {
        let (mut request, mut answer) = (vec![0; 100_000], vec![0; 100_000]);
        let mut asked = false;
        loop {
            tokio::select! {
                read = outer.read(&mut request) => {
                    let Ok(count @ 1..) = read else { return };
                    if !asked {
                        asked = true;
                        let waiting = self.waiting.fetch_add(1, SeqCst) + 1;
                        self.most.fetch_max(waiting, SeqCst);
                    }
                    inner.write_all(&request[..count]).await.unwrap();
                }
                read = inner.read(&mut answer) => {
                    let Ok(count @ 1..) = read else { return };
                    self.barrier.wait().await;
                    asked = false;
                    self.waiting.fetch_sub(1, SeqCst);
                    outer.write_all(&answer[..count]).await.unwrap();
                }
            }
        }
    }
}

/// Sends lines to [`TABLE`].
async fn send(sink: &Sink, lines: &[Bytes], until: Instant) -> Delivery {
    sink.send(&[Batch { table: TABLE, lines: lines.to_vec() }], until).await
}

/// Far enough not to matter.
fn later() -> Instant {
    Instant::now() + Duration::from_secs(600)
}

/// So many lines of so many bytes each, all different.
fn lines(count: usize, bytes: usize) -> Vec<Bytes> {
    (0..count)
        .map(|number| {
            let id = format!(r#"{{"id":{number},"text":"a\/b \u003c "#);
            format!("{id}ü{}\"}}", "x".repeat(bytes - id.len() - 4)).into()
        })
        .collect()
}

/// Exactly these lines arrived in [`TABLE`], in this order, and nothing anywhere else.
fn assert_arrived<'a>(devo: &Devo, expected: impl IntoIterator<Item = &'a Bytes>) {
    let mut arrived = devo.lines();
    let table = arrived.remove(TABLE).unwrap_or_default();
    assert!(arrived.is_empty());
    assert!(table.iter().map(String::as_bytes).eq(expected.into_iter().map(|line| &line[..])));
}

fn statuses(devo: &Devo) -> Vec<u16> {
    devo.requests().iter().map(|request| request.status).collect()
}

fn assert_complete(delivery: &Delivery, settled: usize) {
    assert!(delivery.failure.is_none(), "{delivery:?}");
    assert_eq!(delivery.settled, [settled]);
    assert!(delivery.refused.is_empty(), "{delivery:?}");
}

fn rejected(delivery: Delivery) -> String {
    match delivery.failure {
        Some(Error::Rejected(text)) => text,
        other => panic!("{other:?}"),
    }
}

fn unavailable(delivery: Delivery) -> String {
    match delivery.failure {
        Some(Error::Unavailable(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn every_byte_arrives_in_order() {
    let (devo, sink) = open().await;
    let lines = lines(3_000, 300);
    assert_complete(&send(&sink, &lines[..1_000], later()).await, 1_000);
    assert_complete(&send(&sink, &lines[1_000..], later()).await, 2_000);
    assert_complete(&send(&sink, &[], later()).await, 0);
    assert_arrived(&devo, &lines);
    let requests = devo.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0].host, "collector 1/ü");
    assert_eq!(requests[0].lines, 1_000);
}

#[tokio::test]
async fn requests_hold_at_most_eight_megabytes() {
    let (devo, sink) = open().await;
    let lines = lines(100, 200_000);
    assert_complete(&send(&sink, &lines, later()).await, 100);
    assert_arrived(&devo, &lines);
    let counts: Vec<usize> = devo.requests().iter().map(|request| request.lines).collect();
    assert_eq!(counts, [39, 39, 22]);
    assert!(devo.requests().iter().all(|request| request.bytes <= 8_000_000));
}

#[tokio::test]
async fn passing_faults_are_retried_without_loss_or_duplicate() {
    for fault in [
        Fault::status(503).times(2),
        Fault::status(429).header("retry-after", "0"),
        Fault::status(408),
        Fault::new(Kind::ResetBeforeAnswer),
        Fault::new(Kind::ResetBeforeAnswer).skip(1),
    ] {
        let (devo, sink) = open().await;
        let lines = lines(40, 100);
        devo.fault(fault.clone());
        assert_complete(&send(&sink, &lines[..20], later()).await, 20);
        assert_complete(&send(&sink, &lines[20..], later()).await, 20);
        assert_arrived(&devo, &lines);
        assert!(devo.requests().len() > 2, "{fault:?} did not strike");
    }
}

#[tokio::test]
async fn a_lost_answer_costs_one_request_again() {
    let (devo, sink) = open().await;
    let lines = lines(20, 100);
    devo.fault(Fault::new(Kind::AcceptThenReset));
    assert_complete(&send(&sink, &lines, later()).await, 20);
    assert_arrived(&devo, lines.iter().chain(&lines));
    assert_eq!(statuses(&devo), [0, 200]);
}

#[tokio::test]
async fn the_status_is_enough_when_the_answer_breaks_off() {
    let (devo, sink) = open().await;
    let lines = lines(20, 100);
    devo.fault(Fault::new(Kind::ResetMidBody));
    assert_complete(&send(&sink, &lines, later()).await, 20);
    assert_complete(&send(&sink, &lines, later()).await, 20);
    assert_arrived(&devo, lines.iter().chain(&lines));
    assert_eq!(statuses(&devo), [200, 200]);
}

#[tokio::test]
async fn too_large_requests_are_halved() {
    let (devo, sink) = open().await;
    let lines = lines(100, 1_000);
    devo.fault(Fault::new(Kind::TooLarge { max_bytes: 30_000 }).times(usize::MAX));
    assert_complete(&send(&sink, &lines, later()).await, 100);
    assert_arrived(&devo, &lines);
    assert_eq!(statuses(&devo), [413, 413, 200, 200, 200, 200]);
}

#[tokio::test]
async fn requests_get_smaller_where_connections_break_and_larger_again() {
    let (devo, sink) = open().await;
    let lines = lines(400, 1_000);
    devo.fault(Fault::new(Kind::ResetAbove { max_bytes: 90_000 }).times(usize::MAX));
    assert_complete(&send(&sink, &lines, later()).await, 400);
    assert_arrived(&devo, &lines);
    devo.clear();
    for _ in 0..4 {
        assert_complete(&send(&sink, &lines, later()).await, 400);
    }
    assert_eq!(devo.requests().last().unwrap().lines, 400);
}

#[tokio::test]
async fn a_line_too_large_is_refused_and_the_others_arrive() {
    let (devo, sink) = open().await;
    let mut lines = lines(10, 100);
    lines[0] = vec![b'x'; 8_000_000].into();
    lines[3] = vec![b'x'; 5_000].into();
    lines[9] = vec![b'x'; 7_999_999].into();
    devo.fault(Fault::new(Kind::TooLarge { max_bytes: 2_000 }).times(usize::MAX));
    let delivery = send(&sink, &lines, later()).await;
    assert!(delivery.failure.is_none());
    assert_eq!(delivery.settled, [10]);
    let refused = |index, bytes| Refused {
        batch: 0,
        index,
        reason: format!("too large for Devo's HTTP API: line of {bytes} bytes"),
    };
    assert_eq!(delivery.refused, [refused(0, 8_000_000), refused(3, 5_000), refused(9, 7_999_999)]);
    assert_arrived(&devo, lines[1..3].iter().chain(&lines[4..9]));
    assert!(devo.requests().iter().all(|request| request.bytes <= 8_000_000));

    devo.clear();
    assert_complete(&send(&sink, &lines[9..], later()).await, 1);
    assert_eq!(devo.requests()[0].bytes, 8_000_000);
}

#[tokio::test]
async fn a_wrong_token_is_rejected_after_a_few_tries_and_not_shown() {
    let (devo, sink) = open().await;
    let secret: serde_json::Value = serde_json::from_str(&devo.secret()).unwrap();
    devo.rotate();
    let delivery = send(&sink, &lines(20, 100), later()).await;
    assert_eq!(delivery.settled, [0]);
    assert!(!format!("{delivery:?}").contains(secret["token"].as_str().unwrap()));
    let text = rejected(delivery);
    assert!(text.contains("403 Forbidden: wrong domain or token: /stream/simulated/token!***/collector"), "{text}");
    assert!(text.starts_with(&format!("{} did not take 20 lines for {TABLE}: ", devo.url())), "{text}");
    assert_eq!(statuses(&devo), [403; 15], "halved to one line, then its neighbours");

    devo.clear();
    assert_complete(&send(&self::sink(&devo.url(), &devo.secret()), &lines(20, 100), later()).await, 20);
}

#[tokio::test]
async fn other_refusals_are_not_retried() {
    for (fault, shown) in [
        (Fault::status(400), "400 Bad Request: simulated fault 400"),
        (Fault::status(401), "401 Unauthorized: simulated fault 401"),
        (Fault::status(404), "404 Not Found: simulated fault 404"),
        (Fault::status(418), "418 I'm a teapot: simulated fault 418"),
        (
            Fault::status(307).header("location", "https://elsewhere.example/"),
            "307 Temporary Redirect: redirects to https://elsewhere.example/, which is not followed",
        ),
        (Fault::status(304), "304 Not Modified: redirects to nowhere, which is not followed"),
    ] {
        let (devo, sink) = open().await;
        devo.fault(fault);
        let delivery = send(&sink, &lines(1, 100), later()).await;
        assert_eq!(delivery.settled, [0]);
        let text = rejected(delivery);
        assert!(text.ends_with(shown), "{text}");
        assert_eq!(devo.requests().len(), 1);
        assert_arrived(&devo, []);
    }
}

#[tokio::test]
async fn one_line_that_is_refused_is_found_and_the_others_arrive() {
    // The first, the last, one amid, and several side by side.
    let places: [&[usize]; 4] = [&[0], &[199], &[77], &[50, 51, 52]];
    let answers = [400, 403, 422].map(Fault::status);
    let stumbles = [Fault::status(500), Fault::new(Kind::ResetBeforeAnswer)];
    let cases = answers.iter().flat_map(|fault| places.map(|bad| (fault, bad)));
    let cases = cases.chain(stumbles.iter().map(|fault| (fault, places[2])));
    join_all(cases.map(async |(fault, bad)| {
        let (devo, sink) = open().await;
        let mut lines = lines(200, 100);
        for &index in bad {
            lines[index] = format!(r#"{{"n":{index},"text":"union select"}}"#).into();
        }
        devo.fault(fault.clone().holding("union select"));
        let delivery = send(&sink, &lines, later()).await;
        assert!(delivery.failure.is_none(), "{bad:?}: {delivery:?}");
        assert_eq!(delivery.settled, [200]);
        let refused: Vec<_> = delivery.refused.iter().map(|refused| refused.index).collect();
        assert_eq!(refused, bad);
        assert!(delivery.refused.iter().all(|refused| refused.reason.contains("which takes its neighbours")));
        let others = lines.iter().enumerate().filter(|(index, _)| !bad.contains(index)).map(|(_, line)| line);
        assert_arrived(&devo, others);
    }))
    .await;
}

#[tokio::test]
async fn a_line_on_its_own_is_not_to_blame() {
    let (devo, sink) = open().await;
    devo.fault(Fault::status(400).holding("id"));
    for count in [1, 3, 2_000] {
        devo.clear();
        devo.fault(Fault::status(400).holding("id"));
        let delivery = send(&sink, &lines(count, 100), later()).await;
        assert_eq!((delivery.settled.as_slice(), delivery.refused.len()), ([0].as_slice(), 0));
        rejected(delivery);
        assert!(devo.requests().len() <= 30, "{count}: {}", devo.requests().len());
    }
}

#[tokio::test]
async fn what_was_taken_before_a_failure_is_settled() {
    let (devo, sink) = open().await;
    let lines = lines(9, 1_000_000);
    devo.fault(Fault::status(400).skip(1).times(usize::MAX));
    let delivery = send(&sink, &lines, later()).await;
    assert_eq!(delivery.settled, [7]);
    assert!(delivery.refused.is_empty(), "nothing has passed since: {delivery:?}");
    rejected(delivery);
    assert_arrived(&devo, &lines[..7]);
    devo.clear_faults();
    assert_complete(&send(&sink, &lines[7..], later()).await, 2);
    assert_arrived(&devo, &lines);
}

#[tokio::test]
async fn tables_go_side_by_side_as_many_as_there_are_connections() {
    let tables = ["my.app.a", "my.app.b", "my.app.c", "my.app.d", "my.app.e", "my.app.f"];
    for connections in [1, 2, 3] {
        let devo = Devo::start().await.unwrap();
        let door = Door::before(&devo, connections).await;
        let sink = sink_of(&door.url, &devo.secret(), connections);
        let batches = tables.map(|table| batch(table, &lines(5, 100)));
        let delivery = sink.send(&batches, later()).await;
        assert!(delivery.failure.is_none(), "{delivery:?}");
        assert_eq!(delivery.settled, [5; 6]);
        assert_eq!(door.most.load(SeqCst), connections);
        let came: Vec<_> = devo.requests().into_iter().map(|request| request.table).collect();
        if connections == 1 {
            assert_eq!(came, tables);
        }
        assert_eq!(came.len(), tables.len());
    }
}

#[tokio::test]
async fn tables_side_by_side_keep_their_order() {
    let devo = Devo::start().await.unwrap();
    devo.fault(Fault::new(Kind::TooLarge { max_bytes: 9_000 }).times(usize::MAX));
    let sink = sink_of(&devo.url(), &devo.secret(), 3);
    let batches = ["my.app.a", "my.app.b", "my.app.c", "my.app.d"].map(|table| batch(table, &lines(100, 1_000)));
    assert_eq!(sink.send(&batches, later()).await.settled, [100; 4]);
    let arrived = devo.lines();
    for Batch { table, lines } in &batches {
        assert!(arrived[*table].iter().map(String::as_bytes).eq(lines.iter().map(|line| &line[..])), "{table}");
    }
    let tables: Vec<_> = devo.requests().into_iter().map(|request| request.table).collect();
    assert!(!tables.is_sorted(), "the tables' requests were to alternate: {tables:?}");
}

#[tokio::test]
async fn what_is_under_way_when_a_table_fails_is_finished_and_no_table_is_begun() {
    let (devo, sink) = open().await;
    devo.fault(Fault::status(400).table("my.app.a").times(usize::MAX));
    // Two requests are needed, of which the first is answered long after the other table has failed.
    devo.fault(Fault::new(Kind::TooLarge { max_bytes: 1_000 }).table("my.app.b"));
    devo.fault(Fault::new(Kind::Hang(Duration::from_millis(300))).table("my.app.b"));
    let batches = ["my.app.a", "my.app.b", "my.app.c"].map(|table| batch(table, &lines(20, 100)));
    let delivery = sink.send(&batches, later()).await;
    assert_eq!(delivery.settled, [0, 20, 0]);
    assert_eq!(delivery.refusals, 15);
    let text = rejected(delivery);
    assert!(text.contains("for my.app.a: 400 Bad Request"), "{text}");
    let mut came: Vec<_> = devo.requests().into_iter().map(|request| (request.table, request.status)).collect();
    came.sort();
    let expected = [&[("a", 400); 15][..], &[("b", 200), ("b", 200), ("b", 413)]].concat();
    assert_eq!(came, expected.into_iter().map(|(t, status)| (format!("my.app.{t}"), status)).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_failure_that_waiting_does_not_cure_is_shown_before_one_that_it_does() {
    let (devo, sink) = open().await;
    let busy = Fault::status(503).header("retry-after", "100000");
    devo.fault(busy.table("my.app.a").times(usize::MAX));
    devo.fault(Fault::status(403).table("my.app.b").times(usize::MAX));
    let batches = [batch("my.app.a", &lines(5, 100)), batch("my.app.b", &lines(5, 100))];
    let delivery = sink.send(&batches, later()).await;
    assert_eq!(delivery.settled, [0, 0]);
    assert!(rejected(delivery).contains("for my.app.b: 403 Forbidden"));
}

#[tokio::test]
async fn nothing_is_sent_once_the_deadline_has_come() {
    let (devo, sink) = open().await;
    let delivery = send(&sink, &lines(3, 100), Instant::now()).await;
    assert_eq!(delivery.settled, [0]);
    assert!(unavailable(delivery).ends_with("the deadline came before the first try"));
    assert!(devo.requests().is_empty());
}

#[tokio::test]
async fn a_hanging_request_ends_with_the_deadline() {
    let (devo, sink) = open().await;
    devo.fault(Fault::new(Kind::Hang(Duration::from_secs(100_000))).times(usize::MAX));
    let delivery = send(&sink, &lines(3, 100), Instant::now() + Duration::from_millis(300)).await;
    assert_eq!(delivery.settled, [0]);
    let text = unavailable(delivery);
    assert!(text.contains("timed out"), "{text}");
    assert_arrived(&devo, []);
}

#[tokio::test]
async fn a_wait_beyond_the_deadline_is_not_waited_for() {
    let (devo, sink) = open().await;
    devo.fault(Fault::status(503).header("retry-after", "100000").times(usize::MAX));
    let delivery = send(&sink, &lines(3, 100), later()).await;
    assert_eq!(delivery.settled, [0]);
    let text = unavailable(delivery);
    assert!(text.ends_with("503 Service Unavailable: simulated fault 503 (try 1 of 6)"), "{text}");
    assert_eq!(statuses(&devo), [503]);
}

#[tokio::test]
async fn nobody_there() {
    let (devo, _) = open().await;
    let (url, secret) = (devo.url().replace("127.0.0.1", "127.0.0.2"), devo.secret());
    let delivery = send(&sink(&url, &secret), &lines(3, 100), Instant::now() + Duration::from_secs(1)).await;
    assert!(!format!("{delivery:?}").contains("simulatedToken"));
    let text = unavailable(delivery);
    assert!(text.starts_with(&url) && text.contains("onnection refused"), "{text}");
}

/// The clock is virtual: it goes on as soon as nothing but time is waited for.
#[tokio::test(start_paused = true)]
async fn a_server_that_answers_no_handshake_is_given_up_after_ten_seconds() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let secret = r#"{"domain":"acme","token":"tok3n"}"#;
    let delivery = send(&sink(&url, secret), &lines(3, 100), Instant::now() + Duration::from_secs(15)).await;
    let text = unavailable(delivery);
    assert!(text.ends_with("(try 2 of 6)"), "one try had all the time: {text}");
}
