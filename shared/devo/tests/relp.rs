//! The RELP way out against a strict server, which was written from the protocol alone.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use devo::{Batch, Credentials, Delivery, Error, Options, Refused, Sink};
use rcgen::{CertificateParams, KeyPair};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::Barrier,
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{RootCertStore, ServerConfig, crypto::aws_lc_rs::default_provider, server::WebPkiClientVerifier},
};

const TABLE: &str = "mail.mimecast.audit.events";
/// What librelp allows.
const WINDOW: usize = 128;
const MAX_DATA: usize = 131_072;

/// The lines that came, by session.
type Log = Arc<Mutex<Vec<Vec<String>>>>;

struct Server {
    url: String,
    log: Log,
    /// Ends with the sessions, or with the first that was not content.
    sessions: tokio::task::JoinHandle<()>,
    stop: Arc<tokio::sync::Notify>,
}

impl Server {
    /// Runs `script` for each connection.
    async fn start<F>(script: impl Fn(Peer) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("relp://{}", listener.local_addr().unwrap());
        let log = Log::default();
        let stop = Arc::new(tokio::sync::Notify::new());
        let (peers, stopped) = (log.clone(), stop.clone());
        let sessions = tokio::spawn(async move {
            let mut tasks = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let session = peers.lock().unwrap().len();
                        peers.lock().unwrap().push(Vec::new());
                        let stream = BufReader::new(accepted.unwrap().0);
                        tasks.spawn(script(Peer { stream, session, last: 0, unanswered: VecDeque::new(), log: peers.clone() }));
                    }
                    () = stopped.notified() => break,
                }
            }
            while let Some(done) = tasks.join_next().await {
                done.unwrap();
            }
        });
        Self { url, log, sessions, stop }
    }

    fn sink(&self, connections: usize) -> Sink {
        open(&self.url, connections).unwrap()
    }

    /// The lines by session, once all sessions have ended and were content. The sink must have been dropped.
    async fn finish(self) -> Vec<Vec<String>> {
        self.stop.notify_one();
        self.sessions.await.unwrap();
        std::mem::take(&mut *self.log.lock().unwrap())
    }
}

/// The server's side of one session. Panics at whatever the protocol does not allow.
struct Peer {
    stream: BufReader<TcpStream>,
    session: usize,
    last: u32,
    unanswered: VecDeque<u32>,
    log: Log,
}

impl Peer {
    /// The next frame; nothing when the client has gone between two frames.
    async fn frame(&mut self) -> Option<(u32, String, Vec<u8>)> {
        let mut header = String::new();
        let mut fields = Vec::new();
        while fields.len() < 3 {
            let byte = match self.stream.read_u8().await {
                Ok(byte) => char::from(byte),
                Err(_) if header.is_empty() && fields.is_empty() => return None,
                Err(error) => panic!("in a frame's header: {error}"),
            };
            match byte {
                ' ' | '\n' => fields.push(std::mem::take(&mut header)),
                byte => header.push(byte),
            }
            assert!(byte != '\n' || (fields.len() == 3 && fields[2] == "0"), "{fields:?}");
        }
        let number: u32 = fields[0].parse().unwrap();
        assert!((1..=999_999_999).contains(&number) && number.to_string() == fields[0], "{fields:?}");
        assert_eq!(number, self.last + 1, "number out of order");
        self.last = number;
        let length: usize = fields[2].parse().unwrap();
        assert_eq!(length.to_string(), fields[2]);
        assert!(length <= MAX_DATA, "{length} bytes in a frame");
        let mut data = vec![0; length];
        if length > 0 {
            self.stream.read_exact(&mut data).await.unwrap();
            assert_eq!(self.stream.read_u8().await.unwrap(), b'\n', "length of the data");
        }
        self.unanswered.push_back(number);
        assert!(self.unanswered.len() <= WINDOW, "window exceeded");
        Some((number, fields.swap_remove(1), data))
    }

    /// Whether more has come or comes within a moment.
    async fn has_more(&mut self) -> bool {
        timeout(Duration::from_millis(100), self.stream.fill_buf()).await.is_ok_and(|more| !more.unwrap().is_empty())
    }

    async fn say(&mut self, text: &str) {
        // The client may have gone.
        self.stream.write_all(text.as_bytes()).await.ok();
    }

    async fn answer(&mut self, number: u32, data: &str) {
        let place = self.unanswered.iter().position(|&other| other == number).unwrap();
        self.unanswered.remove(place);
        self.say(&format!("{number} rsp {} {data}\n", data.len())).await;
    }

    async fn answer_all(&mut self) {
        while let Some(&number) = self.unanswered.front() {
            self.answer(number, "200 OK").await;
        }
    }

    async fn open_as(&mut self, answer: &str) {
        let (number, command, offers) = self.frame().await.unwrap();
        assert_eq!((number, command.as_str()), (1, "open"));
        let software = format!("relp_software=mimecast-devo,{}", env!("CARGO_PKG_VERSION"));
        assert_eq!(String::from_utf8(offers).unwrap(), format!("relp_version=0\n{software}\ncommands=syslog"));
        self.answer(number, answer).await;
    }

    async fn open(&mut self) {
        self.open_as("200 OK\nrelp_version=0\nrelp_software=strict,1\ncommands=syslog").await;
    }

    /// The number of the next line, which is logged; nothing once the client has ended the session.
    async fn line(&mut self) -> Option<u32> {
        let (number, command, data) = self.frame().await?;
        match command.as_str() {
            "syslog" => {
                self.log.lock().unwrap()[self.session].push(String::from_utf8(data).unwrap());
                Some(number)
            }
            "close" => {
                assert!(data.is_empty() && self.unanswered.len() == 1, "lines unanswered at a close");
                self.answer(number, "200 OK").await;
                assert!(self.frame().await.is_none(), "a frame after the close");
                None
            }
            other => panic!("command {other}"),
        }
    }

    /// Takes so many lines; whether that many came.
    async fn lines(&mut self, count: usize) -> bool {
        for _ in 0..count {
            if self.line().await.is_none() {
                return false;
            }
        }
        true
    }

    /// Answers so many lines, one by one.
    async fn serve(&mut self, count: usize) {
        for _ in 0..count {
            let Some(number) = self.line().await else { return };
            self.answer(number, "200 OK").await;
        }
    }

    /// Closes in order: the client reads all answers before the end.
    async fn close(mut self) {
        self.stream.shutdown().await.ok();
        while self.line().await.is_some() {}
    }

    fn reset(self) {
        self.stream.get_ref().set_zero_linger().unwrap();
    }
}

fn open(url: &str, connections: usize) -> Result<Sink, Error> {
    Sink::open(url, None, &Options { host: "h-1".to_owned(), connections, ..Options::default() })
}

/// Far enough not to matter.
fn later() -> Instant {
    Instant::now() + Duration::from_secs(600)
}

/// All different.
fn batch(table: &str, count: usize) -> Batch<'_> {
    let line = |number| format!(r#"{{"id":{number},"text":"a\/b \u003c ü{}"}}"#, "x".repeat(number % 1000)).into();
    Batch { table, lines: (0..count).map(line).collect() }
}

/// What stands behind the head of lines for a table.
fn events<'a>(lines: &'a [String], table: &str) -> Vec<&'a [u8]> {
    let event = |line: &'a String| {
        let rest = line.strip_prefix("<14>").unwrap();
        let (date, rest) = rest.split_at(24);
        assert!(date.ends_with('Z') && date.as_bytes()[10] == b'T', "{date}");
        rest.strip_prefix(&format!(" h-1 {table}: ")).map(str::as_bytes)
    };
    lines.iter().filter_map(event).collect()
}

fn assert_same<'a>(came: impl IntoIterator<Item = &'a [u8]>, expected: &[Bytes]) {
    assert!(came.into_iter().eq(expected.iter().map(|line| &line[..])));
}

fn assert_complete(delivery: &Delivery, settled: &[usize]) {
    assert!(delivery.failure.is_none() && delivery.refused.is_empty(), "{delivery:?}");
    assert_eq!(delivery.settled, settled);
}

#[tokio::test]
async fn every_byte_in_order_over_sends_on_one_session() {
    let server = Server::start(|mut peer| async move {
        peer.open().await;
        peer.serve(usize::MAX).await;
    })
    .await;
    let sink = server.sink(1);
    let batch = batch(TABLE, 3000);
    assert_complete(&sink.send(std::slice::from_ref(&batch), later()).await, &[3000]);
    assert_complete(&sink.send(std::slice::from_ref(&batch), later()).await, &[3000]);
    assert_complete(&sink.send(&[], later()).await, &[]);
    drop(sink);
    let [came] = &server.finish().await[..] else { panic!("more than one session") };
    assert_same(events(came, TABLE), &[&batch.lines[..], &batch.lines].concat());
}

#[tokio::test]
async fn a_window_of_lines_without_an_answer_and_answers_in_any_order() {
    let server = Server::start(|mut peer| async move {
        peer.open().await;
        peer.serve(WINDOW).await;
        while peer.lines(WINDOW).await {
            assert!(!peer.has_more().await, "more than a window");
            peer.unanswered.make_contiguous().reverse();
            peer.answer_all().await;
        }
    })
    .await;
    let sink = server.sink(1);
    let batch = batch(TABLE, 5 * WINDOW);
    assert_complete(&sink.send(std::slice::from_ref(&batch), later()).await, &[5 * WINDOW]);
    drop(sink);
    assert_same(events(&server.finish().await[0], TABLE), &batch.lines);
}

#[tokio::test]
async fn a_new_session_begins_with_one_line() {
    let server = Server::start(|mut peer| async move {
        peer.open().await;
        for lines in [1, 2, 4, 8] {
            peer.lines(lines).await;
            assert!(!peer.has_more().await, "more than what has been answered and one");
            peer.answer_all().await;
        }
        peer.serve(usize::MAX).await;
    })
    .await;
    let sink = server.sink(1);
    assert_complete(&sink.send(&[batch(TABLE, 100)], later()).await, &[100]);
    drop(sink);
    server.finish().await;
}

#[tokio::test]
async fn only_the_leading_answered_lines_are_settled() {
    let server = Server::start(|mut peer| async move {
        peer.open().await;
        peer.serve(WINDOW).await;
        peer.lines(100).await;
        let numbers = std::mem::take(&mut peer.unanswered);
        // The 11th of them stays without an answer.
        for number in numbers.iter().filter(|number| **number != numbers[10]) {
            peer.unanswered.push_back(*number);
            peer.answer(*number, "200 OK").await;
        }
        assert!(peer.line().await.is_none());
    })
    .await;
    let sink = server.sink(1);
    let delivery = sink.send(&[batch(TABLE, WINDOW + 100)], Instant::now() + Duration::from_secs(1)).await;
    assert_eq!(delivery.settled, [WINDOW + 10]);
    let Some(Error::Unavailable(text)) = delivery.failure else { panic!("{delivery:?}") };
    assert!(text.contains("the deadline came with 1 lines unacknowledged"), "{text}");
    drop(sink);
    server.finish().await;
}

#[tokio::test]
async fn after_an_end_exactly_what_is_unacknowledged_is_sent_again() {
    for hint in ["", "0 serverclose 0\n", "0 news 3 a\nb\n0 serverclose 0\n"] {
        let server = Server::start(move |mut peer| async move {
            peer.open().await;
            if peer.session == 2 {
                return peer.serve(usize::MAX).await;
            }
            peer.serve(200).await;
            peer.lines(20).await;
            peer.say(hint).await;
            peer.close().await;
        })
        .await;
        let sink = server.sink(1);
        let batch = batch(TABLE, 1000);
        assert_complete(&sink.send(std::slice::from_ref(&batch), later()).await, &[1000]);
        drop(sink);
        let sessions = server.finish().await;
        assert_eq!(sessions.len(), 3);
        assert_same(events(&sessions[1], TABLE)[..200].iter().copied(), &batch.lines[200..400]);
        assert_same(events(&sessions[2], TABLE), &batch.lines[400..]);
    }
}

#[tokio::test]
async fn resets_lose_nothing() {
    let server = Server::start(|mut peer| async move {
        peer.open().await;
        // Lines on their way and answers on theirs are lost.
        peer.serve(300).await;
        peer.reset();
    })
    .await;
    let sink = server.sink(2);
    let (one, two) = (batch("my.app.one", 3000), batch("my.app.two", 2000));
    assert_complete(&sink.send(&[one.clone(), two.clone()], later()).await, &[3000, 2000]);
    drop(sink);
    let sessions = server.finish().await;
    for batch in [one, two] {
        let mut came: Vec<&[u8]> = Vec::new();
        for session in &sessions {
            for event in events(session, batch.table) {
                // The first time in order.
                if !came.contains(&event) {
                    came.push(event);
                }
            }
        }
        assert_same(came, &batch.lines);
    }
}

#[tokio::test]
async fn a_malformed_answer_ends_the_session() {
    for answer in [
        "55 rsp 3 200\n55 rsp 3 200\n",
        "777 rsp 6 200 OK\n",
        "55 rsp 5 OK 20\n",
        "55 rsp 0\n",
        "55 syslog 1 x\n",
        "55 rsp 6 200 OK2 ",
    ] {
        let server = Server::start(move |mut peer| async move {
            peer.open().await;
            if peer.session == 1 {
                return peer.serve(usize::MAX).await;
            }
            peer.serve(50).await;
            peer.lines(10).await;
            peer.say(answer).await;
            peer.close().await;
        })
        .await;
        let sink = server.sink(1);
        let batch = batch(TABLE, 100);
        assert_complete(&sink.send(std::slice::from_ref(&batch), later()).await, &[100]);
        drop(sink);
        let sessions = server.finish().await;
        assert_eq!(sessions.len(), 2);
        // The line of number 55 was accepted before its second answer.
        let accepted = |index| index < 50 || (index == 53 && answer.starts_with("55 rsp 3"));
        let open: Vec<Bytes> =
            (0..100).filter(|index| !accepted(*index)).map(|index| batch.lines[index].clone()).collect();
        assert_same(events(&sessions[1], TABLE), &open);
    }
}

#[tokio::test]
async fn a_refused_line_has_one_more_try_on_a_new_session() {
    let server = Server::start(|mut peer| async move {
        peer.open().await;
        while let Some(number) = peer.line().await {
            let refused = peer.session == 0 && [WINDOW + 21, WINDOW + 31].contains(&(number as usize));
            peer.answer(number, if refused { "500 not now" } else { "200 OK" }).await;
        }
    })
    .await;
    let sink = server.sink(1);
    assert_complete(&sink.send(&[batch("my.app.before", WINDOW)], later()).await, &[WINDOW]);
    let batch = batch(TABLE, 40);
    assert_complete(&sink.send(std::slice::from_ref(&batch), later()).await, &[40]);
    drop(sink);
    let sessions = server.finish().await;
    assert_same(events(&sessions[0], TABLE), &batch.lines);
    assert_same(events(&sessions[1], TABLE), &[batch.lines[19].clone(), batch.lines[29].clone()]);
    assert_eq!(sessions.len(), 2);
}

#[tokio::test]
async fn a_line_refused_twice_is_found_and_the_others_arrive() {
    let server = Server::start(|mut peer| async move {
        peer.open().await;
        while let Some(number) = peer.line().await {
            let poison = peer.log.lock().unwrap()[peer.session].last().unwrap().contains(r#"{"id":300,"#);
            peer.answer(number, if poison { "422 no\u{1b}[2J" } else { "200 OK" }).await;
        }
    })
    .await;
    let sink = server.sink(1);
    let delivery = sink.send(&[batch("my.app.one", 250), batch(TABLE, 3000)], later()).await;
    assert!(delivery.failure.is_none(), "{delivery:?}");
    assert_eq!(delivery.settled, [250, 3000]);
    let [Refused { batch: 1, index: 300, reason }] = &delivery.refused[..] else { panic!("{delivery:?}") };
    assert!(reason.ends_with("which takes its neighbours: 422 no\\x1b[2J"), "{reason}");
    drop(sink);
    let sessions = server.finish().await;
    assert_eq!(sessions.len(), 2);
    // What was on its way with it had been answered when the new session began with it.
    let (lines, before) = (batch(TABLE, 3000).lines, events(&sessions[0], TABLE).len());
    assert_same(events(&sessions[0], TABLE), &lines[..before]);
    assert_same(events(&sessions[1], TABLE), &[&lines[300..301], &lines[before..]].concat());
}

#[tokio::test]
async fn a_server_that_refuses_all_lines_blames_none() {
    let server = Server::start(|mut peer| async move {
        peer.open().await;
        while let Some(number) = peer.line().await {
            peer.answer(number, "403 no").await;
        }
    })
    .await;
    let sink = server.sink(1);
    for count in [1, 5, 3000] {
        let delivery = sink.send(&[batch(TABLE, count)], later()).await;
        assert_eq!((delivery.settled.as_slice(), delivery.refused.len()), ([0].as_slice(), 0));
        let Some(Error::Rejected(text)) = delivery.failure else { panic!("{delivery:?}") };
        assert!(text.contains("403 no"), "{text}");
    }
    drop(sink);
    assert!(server.finish().await.len() < 30);
}

#[tokio::test]
async fn a_server_that_opens_no_session() {
    for (answer, expected) in [
        ("500 required command not supported", "500 required command not supported"),
        ("200 OK", "200 OK"),
        ("200 OK\nrelp_version=1\ncommands=syslog", "200 OK\\nrelp_version=1\\ncommands=syslog"),
        ("200 OK\nrelp_version=0\ncommands=eventlog", "200 OK\\nrelp_version=0\\ncommands=eventlog"),
    ] {
        let server = Server::start(move |mut peer| async move { peer.open_as(answer).await }).await;
        let delivery = server.sink(1).send(&[batch(TABLE, 3)], later()).await;
        let Some(Error::Rejected(text)) = delivery.failure else { panic!("{delivery:?}") };
        assert_eq!(text, format!("{}: opens no RELP session for syslog: {expected}", server.url));
        assert_eq!((delivery.settled, server.finish().await.len()), (vec![0], 1));
    }
}

#[tokio::test]
async fn a_server_that_is_none() {
    for said in ["HTTP/1.1 400 Bad Request\r\n\r\n", "220 mail ESMTP\r\n", "\u{15}\u{3}\u{1}"] {
        let server = Server::start(move |mut peer| async move { peer.say(said).await }).await;
        let delivery = server.sink(1).send(&[batch(TABLE, 3)], later()).await;
        let Some(Error::Configuration(text)) = delivery.failure else { panic!("{delivery:?}") };
        assert!(text.starts_with(&format!("{}: not a RELP server", server.url)), "{text}");
        server.finish().await;
    }
}

#[tokio::test]
async fn nothing_waits_beyond_the_deadline() {
    // Silent from the first connection on, after the open, and without reading.
    for stage in 0..3 {
        let server = Server::start(move |mut peer| async move {
            if stage > 0 {
                peer.open().await;
            }
            if stage == 1 {
                while peer.line().await.is_some() {}
            }
            tokio::time::sleep(Duration::from_secs(2)).await;
        })
        .await;
        let sink = server.sink(1);
        let until = Instant::now() + Duration::from_millis(400);
        let delivery = timeout(Duration::from_secs(60), sink.send(&[batch(TABLE, 20_000)], until)).await.unwrap();
        assert!(Instant::now() >= until || stage == 0);
        assert_eq!(delivery.settled, [0]);
        assert!(matches!(delivery.failure, Some(Error::Unavailable(_))), "{delivery:?}");
        server.sessions.abort();
    }
    let server = Server::start(|_| async {}).await;
    let delivery = server.sink(1).send(&[batch(TABLE, 1)], Instant::now()).await;
    assert!(matches!(delivery.failure, Some(Error::Unavailable(_))), "{delivery:?}");
    assert!(server.finish().await.is_empty(), "connected after the deadline");
}

#[tokio::test]
async fn sessions_that_end_at_once_are_tried_again_with_pauses() {
    let opened = Arc::new(AtomicUsize::new(0));
    let count = opened.clone();
    let server = Server::start(move |mut peer| {
        let count = count.clone();
        async move {
            peer.open().await;
            count.fetch_add(1, Ordering::Relaxed);
            peer.lines(1).await;
            peer.close().await;
        }
    })
    .await;
    let delivery = server.sink(1).send(&[batch(TABLE, 1)], Instant::now() + Duration::from_secs(1)).await;
    assert_eq!(delivery.settled, [0]);
    let Some(Error::Unavailable(text)) = delivery.failure else { panic!("{delivery:?}") };
    assert!(text.contains("closed by the server"), "{text}");
    assert!((1..=6).contains(&opened.load(Ordering::Relaxed)));
    server.finish().await;
}

#[tokio::test]
async fn a_kept_session_that_the_server_has_ended_is_replaced() {
    let server = Server::start(|mut peer| async move {
        peer.open().await;
        peer.serve(10).await;
        peer.close().await;
    })
    .await;
    let sink = server.sink(1);
    let batch = batch(TABLE, 10);
    for _ in 0..5 {
        assert_complete(&sink.send(std::slice::from_ref(&batch), later()).await, &[10]);
    }
    drop(sink);
    assert!(server.finish().await.len() >= 5);
}

#[tokio::test]
async fn tables_go_over_several_sessions_at_once() {
    // Goes on only once all three sessions have a line without an answer.
    let barrier = Arc::new(Barrier::new(3));
    let server = Server::start(move |mut peer| {
        let barrier = barrier.clone();
        async move {
            peer.open().await;
            peer.lines(1).await;
            barrier.wait().await;
            peer.answer_all().await;
            peer.serve(usize::MAX).await;
        }
    })
    .await;
    let sink = server.sink(3);
    let batches = ["my.app.a", "my.app.b", "my.app.c", "my.app.d", "my.app.e"].map(|table| batch(table, 700));
    assert_complete(&sink.send(&batches, later()).await, &[700; 5]);
    drop(sink);
    let sessions = server.finish().await;
    assert_eq!(sessions.len(), 3);
    for batch in &batches {
        let came: Vec<_> = sessions.iter().map(|session| events(session, batch.table)).collect();
        assert_eq!(came.iter().filter(|events| !events.is_empty()).count(), 1, "a table over two sessions");
        assert_same(came.concat(), &batch.lines);
    }
}

#[tokio::test]
async fn the_largest_lines_arrive_whole_and_larger_ones_are_refused() {
    let server = Server::start(|mut peer| async move {
        peer.open().await;
        peer.serve(usize::MAX).await;
    })
    .await;
    let sink = server.sink(1);
    let most = MAX_DATA - format!("<14>2026-01-31T12:00:00.123Z h-1 {TABLE}: ").len();
    let lines: Vec<Bytes> = [60_000, most, most + 1, most, 2_000_000, 7].map(|length| vec![b'x'; length].into()).into();
    let delivery = sink.send(&[Batch { table: TABLE, lines: lines.clone() }], later()).await;
    assert!(delivery.failure.is_none());
    assert_eq!(delivery.settled, [6]);
    let refused = |index, length| Refused {
        batch: 0,
        index,
        reason: format!("too large for RELP: line of {length} bytes, {most} are possible"),
    };
    assert_eq!(delivery.refused, [refused(2, most + 1), refused(4, 2_000_000)]);
    drop(sink);
    let expected = [0, 1, 3, 5].map(|index| lines[index].clone());
    assert_same(events(&server.finish().await[0], TABLE), &expected);
}

#[tokio::test]
async fn over_tls() {
    let server = Server::start(|mut peer| async move {
        peer.open().await;
        peer.serve(1500).await;
        peer.close().await;
    })
    .await;
    // One certificate for both sides and as the CA.
    let key = KeyPair::generate().unwrap();
    let cert = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let provider = Arc::new(default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone()).build().unwrap();
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_client_cert_verifier(verifier);
    let config = config.with_single_cert(vec![cert.der().clone()], key.serialize_der().try_into().unwrap()).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("relp+tls://{}", listener.local_addr().unwrap());
    let behind = server.url.strip_prefix("relp://").unwrap().to_owned();
    tokio::spawn(async move {
        loop {
            let mut stream = acceptor.accept(listener.accept().await.unwrap().0).await.unwrap();
            let mut behind = TcpStream::connect(&behind).await.unwrap();
            tokio::spawn(async move { copy_bidirectional(&mut stream, &mut behind).await });
        }
    });
    let secret = serde_json::json!({ "chain": cert.pem(), "cert": cert.pem(), "key": key.serialize_pem() }).to_string();
    let credentials = Credentials::from_json(&secret.into()).unwrap();
    let options = Options { host: "h-1".to_owned(), connections: 1, ..Options::default() };
    let sink = Sink::open(&url, Some(&credentials), &options).unwrap();
    let batch = batch(TABLE, 4000);
    assert_complete(&sink.send(std::slice::from_ref(&batch), later()).await, &[4000]);
    drop(sink);
    let sessions = server.finish().await;
    assert_eq!(sessions.len(), 3);
    assert_same(events(&sessions[2], TABLE), &batch.lines[3000..]);
}

#[test]
fn urls() {
    for url in ["relp://relay:1", "relp://[::1]:20514", "relp://relay:1/"] {
        assert!(open(url, 1).is_ok(), "{url}");
    }
    for url in ["relp://relay", "relp://relay:1/x", "relp://u@relay:1", "relp:relay:1"] {
        let Err(Error::Configuration(text)) = open(url, 1) else { panic!("{url}") };
        assert_eq!(text, "devo url: write it like relp://<host>:<port>, nothing else");
    }
    let Err(Error::Configuration(text)) = open("relp+tls://relay:1", 1) else { panic!("opened") };
    assert_eq!(text, "devo secret: chain, cert, key missing");
}
