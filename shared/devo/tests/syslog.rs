//! The ways out `tls:` and `tcp:` against receivers that do what receivers do, good and bad.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::{collections::HashSet, io::Read as _, time::Duration};

use bytes::Bytes;
use devo::{Accepted, Batch, Credentials, Date, Delivery, Error, Framing, Options, Refused, Sink};
use flate2::bufread::{GzDecoder, MultiGzDecoder};
use futures_util::future::join_all;
use support::{Authority, How, Receiver, Tls};
use tokio::time::Instant;

const TABLE: &str = "mail.mimecast.ttp.url";
const OTHER: &str = "mail.mimecast.audit.events";

/// Far enough not to matter.
fn later() -> Instant {
    Instant::now() + Duration::from_secs(600)
}

fn soon() -> Instant {
    Instant::now() + Duration::from_millis(700)
}

/// So many lines of so many bytes each, all different.
fn lines(count: usize, bytes: usize) -> Vec<Bytes> {
    let line = |number| {
        let id = format!(r#"{{"id":{number},"text":"a\/b \u003c "#);
        format!("{id}ü{}\"}}", "x".repeat(bytes.saturating_sub(id.len() + 4))).into()
    };
    (0..count).map(line).collect()
}

fn options() -> Options {
    Options { host: "h-1".to_owned(), connections: 1, ..Options::default() }
}

fn open(receiver: &Receiver, options: &Options) -> Sink {
    Sink::open(&receiver.url(), receiver.credentials().as_ref(), options).unwrap()
}

async fn send(sink: &Sink, lines: &[Bytes], until: Instant) -> Delivery {
    sink.send(&[Batch { table: TABLE, lines: lines.to_vec() }], until).await
}

#[track_caller]
fn assert_complete(delivery: &Delivery, settled: &[usize]) {
    assert!(delivery.failure.is_none(), "{delivery:?}");
    assert_eq!(delivery.settled, settled);
    assert!(delivery.refused.is_empty(), "{delivery:?}");
}

#[track_caller]
fn unavailable(delivery: &Delivery) -> &str {
    match &delivery.failure {
        Some(Error::Unavailable(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn rejected(delivery: &Delivery) -> &str {
    match &delivery.failure {
        Some(Error::Rejected(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn misconfigured(delivery: &Delivery) -> &str {
    match &delivery.failure {
        Some(Error::Configuration(text)) => text,
        other => panic!("{other:?}"),
    }
}

/// The events of a stream of LF-framed lines, whose heads must be exactly right. A last line without its end is left out.
fn events(stream: &[u8], table: &str) -> Vec<Bytes> {
    let whole = stream.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let rows = stream[..whole].split_inclusive(|byte| *byte == b'\n');
    rows.map(|row| {
        let row = std::str::from_utf8(row).unwrap().strip_suffix('\n').unwrap();
        let (date, rest) = row.strip_prefix("<14>").unwrap().split_at(24);
        assert!(chrono::DateTime::parse_from_rfc3339(date).is_ok() && date.ends_with('Z'), "{date}");
        rest.strip_prefix(&format!(" h-1 {table}: ")).unwrap().to_owned().into()
    })
    .collect()
}

/// Each event once, in the order in which each came first.
fn without_repeats(events: impl IntoIterator<Item = Bytes>) -> Vec<Bytes> {
    let mut known = HashSet::new();
    events.into_iter().filter(|event| known.insert(event.clone())).collect()
}

/// One receiver by TCP, one each by TLS 1.2 and 1.3.
async fn receivers(how: How) -> [Receiver; 3] {
    let authority = Authority::new();
    [
        Receiver::tcp(how.clone()).await,
        Receiver::tls(how.clone(), &authority, Tls::V12).await,
        Receiver::tls(how, &authority, Tls::V13).await,
    ]
}

#[tokio::test]
async fn every_byte_arrives_and_only_an_orderly_close_counts() {
    for receiver in receivers(How::Orderly).await {
        let sink = open(&receiver, &options());
        let sent = lines(3_000, 300);
        assert_complete(&send(&sink, &sent[..1_000], later()).await, &[1_000]);
        assert_complete(&send(&sink, &sent[1_000..], later()).await, &[2_000]);
        assert_complete(&send(&sink, &[], later()).await, &[0]);
        let ended = receiver.ended();
        assert_eq!(ended.len(), 2, "a connection for each checkpoint");
        assert_eq!(events(&ended[0].bytes, TABLE), sent[..1_000]);
        assert_eq!(events(&ended[1].bytes, TABLE), sent[1_000..]);
        assert!(ended.iter().all(|connection| connection.orderly));
        if receiver.is_tls() {
            assert!(ended.iter().all(|connection| connection.client_certificate));
            assert_eq!(ended.iter().map(|connection| connection.resumed).collect::<Vec<_>>(), [true, true]);
        }
    }
}

#[tokio::test]
async fn the_collector_s_date_and_octet_counts() {
    let receiver = Receiver::tcp(How::Orderly).await;
    let sink = open(&receiver, &Options { date: Date::Collector, framing: Framing::Octet, ..options() });
    let sent = lines(100, 200);
    assert_complete(&send(&sink, &sent, later()).await, &[100]);
    let stream = receiver.ended()[0].bytes.clone();
    let mut rest = &stream[..];
    for event in &sent {
        let blank = rest.iter().position(|byte| *byte == b' ').unwrap();
        let count: usize = std::str::from_utf8(&rest[..blank]).unwrap().parse().unwrap();
        let (line, others) = rest[blank + 1..].split_at(count);
        let line = std::str::from_utf8(line).unwrap();
        let date = &line[4..27];
        assert!(chrono::NaiveDateTime::parse_from_str(date, "%Y-%m-%d %H:%M:%S%.3f").is_ok(), "{date}");
        let event = std::str::from_utf8(event).unwrap();
        assert_eq!(line, format!("<14>{date} h-1 {TABLE}: {event}\n"));
        rest = others;
    }
    assert!(rest.is_empty());
}

#[tokio::test]
async fn gzip_members_are_complete_and_hold_whole_lines() {
    let receiver = Receiver::tcp(How::Orderly).await;
    let sink = open(&receiver, &Options { gzip: true, ..options() });
    let sent = lines(3_000, 300);
    assert_complete(&send(&sink, &sent, later()).await, &[3_000]);
    let stream = receiver.ended()[0].bytes.clone();
    let mut inflated = Vec::new();
    MultiGzDecoder::new(&stream[..]).read_to_end(&mut inflated).unwrap();
    assert_eq!(events(&inflated, TABLE), sent);
    let (mut rest, mut members) = (&stream[..], 0);
    while !rest.is_empty() {
        let mut member = Vec::new();
        // One member is what is wanted here.
        #[allow(clippy::disallowed_methods)]
        GzDecoder::new(&mut rest).read_to_end(&mut member).unwrap();
        assert!(member.ends_with(b"\n") && member.len() < 257_000);
        members += 1;
    }
    assert_eq!(members, inflated.len().div_ceil(256_200));
}

#[tokio::test]
async fn a_reset_every_64_kilobytes_loses_nothing() {
    for receiver in receivers(How::ResetAfter(64_000)).await {
        let sink = open(&receiver, &options());
        let sent = lines(1_500, 1_000);
        assert_complete(&send(&sink, &sent, later()).await, &[1_500]);
        let ended = receiver.ended();
        assert!(ended.iter().any(|connection| !connection.orderly), "no reset struck");
        let accepted = ended.iter().filter(|connection| connection.orderly);
        let accepted: Vec<Bytes> = accepted.flat_map(|connection| events(&connection.bytes, TABLE)).collect();
        assert_eq!(accepted, sent, "each once and in order on the connections that ended well");
        let all = ended.iter().flat_map(|connection| events(&connection.bytes, TABLE));
        assert_eq!(without_repeats(all), sent, "in order on all connections");
    }
}

#[tokio::test]
async fn portions_grow_again_once_the_storm_is_over() {
    let receiver = Receiver::tcp(How::First(4, Box::new(How::ResetAfter(10_000)))).await;
    let sink = open(&receiver, &options());
    let sent = lines(3_000, 1_000);
    assert_complete(&send(&sink, &sent, later()).await, &[3_000]);
    let sizes: Vec<usize> = receiver.ended().iter().filter(|one| one.orderly).map(|one| one.bytes.len()).collect();
    assert!(sizes[0] < 250_000 && sizes[8] > 350_000, "{sizes:?}");
    let all = receiver.ended().iter().flat_map(|one| events(&one.bytes, TABLE)).collect::<Vec<_>>();
    assert_eq!(without_repeats(all), sent);
}

#[tokio::test]
async fn an_end_before_ours_is_no_acceptance() {
    for receiver in receivers(How::CloseAtOnce(3)).await {
        let sink = open(&receiver, &options());
        let sent = lines(100, 100);
        assert_complete(&send(&sink, &sent, later()).await, &[100]);
        assert_eq!(events(&receiver.ended()[0].bytes, TABLE), sent);
    }
}

#[tokio::test]
async fn a_spare_connection_that_has_died_costs_nothing() {
    let receiver = Receiver::tcp(How::Orderly).await;
    let sink = open(&receiver, &options());
    let sent = lines(20, 100);
    assert_complete(&send(&sink, &sent[..10], later()).await, &[10]);
    receiver.opened(2).await;
    receiver.reset_all();
    receiver.idle(0).await;
    assert_complete(&send(&sink, &sent[10..], later()).await, &[10]);
    let ended = receiver.ended().into_iter().filter(|one| !one.bytes.is_empty());
    assert_eq!(ended.flat_map(|one| events(&one.bytes, TABLE)).collect::<Vec<_>>(), sent);
}

/// Sends 30 lines in three sends; all that came, of all connections, once no more comes.
async fn sent_in_three(receiver: &Receiver) -> (Vec<Bytes>, Vec<Bytes>) {
    let sink = open(receiver, &options());
    let sent = lines(30, 100);
    for part in sent.chunks(10) {
        assert_complete(&send(&sink, part, later()).await, &[10]);
    }
    drop(sink);
    receiver.idle(0).await;
    (receiver.ended().iter().flat_map(|one| events(&one.bytes, TABLE)).collect(), sent)
}

#[tokio::test]
async fn a_receiver_that_never_closes_gets_each_line_once() {
    join_all(receivers(How::NeverClose).await.map(async |receiver| {
        let (came, sent) = sent_in_three(&receiver).await;
        assert_eq!(came, sent);
    }))
    .await;
}

#[tokio::test]
async fn a_receiver_that_closes_late_gets_at_most_one_batch_again() {
    join_all([1, 5].map(async |seconds| {
        let receiver = Receiver::tcp(How::CloseLate(Duration::from_secs(seconds))).await;
        let (came, sent) = sent_in_three(&receiver).await;
        assert_eq!(came, sent);
    }))
    .await;
}

#[tokio::test]
async fn a_receiver_that_closes_only_empty_connections_gets_at_most_one_batch_again() {
    join_all(receivers(How::NeverCloseFull).await.map(async |receiver| {
        let (came, sent) = sent_in_three(&receiver).await;
        assert_eq!(came.len(), sent.len() + 10, "the first batch twice");
        assert_eq!(without_repeats(came), sent);
    }))
    .await;
}

#[tokio::test]
async fn the_deadline_says_nothing_of_a_receiver_that_has_not_closed_yet() {
    let receiver = Receiver::tcp(How::NeverClose).await;
    let sink = open(&receiver, &options());
    let delivery = send(&sink, &lines(10, 100), Instant::now() + Duration::from_millis(300)).await;
    assert_eq!(delivery.settled, [0]);
    let text = unavailable(&delivery);
    assert!(text.starts_with(&receiver.url()) && text.contains("does not close an empty connection"), "{text}");
}

#[tokio::test]
async fn an_end_that_a_reset_follows_is_no_acceptance() {
    for receiver in receivers(How::First(1, Box::new(How::EndThenReset(1)))).await {
        let sink = open(&receiver, &options());
        // More than the receiver's kernel takes unread, less than ours keeps for it.
        let sent = lines(700, 1_000);
        assert_complete(&send(&sink, &sent, later()).await, &[700]);
        let orderly = receiver.ended().into_iter().filter(|one| one.orderly);
        assert_eq!(orderly.flat_map(|one| events(&one.bytes, TABLE)).collect::<Vec<_>>(), sent);
    }
}

#[tokio::test]
async fn the_end_of_tls_is_enough() {
    for tls in [Tls::V12, Tls::V13] {
        let receiver = Receiver::tls(How::EndTlsAlone, &Authority::new(), tls).await;
        let sink = open(&receiver, &options());
        let sent = lines(1_000, 300);
        assert_complete(&send(&sink, &sent, later()).await, &[1_000]);
        assert_eq!(events(&receiver.ended()[0].bytes, TABLE), sent);
    }
}

#[tokio::test]
async fn a_stalled_receiver_takes_no_memory_and_the_deadline_ends_it() {
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let row = status.lines().find_map(|row| row.strip_prefix("VmHWM:")).unwrap();
        row.trim().trim_end_matches(" kB").parse::<usize>().unwrap() / 1_000
    };
    for receiver in receivers(How::Stall).await {
        let sink = open(&receiver, &options());
        let line = lines(1, 1_000).remove(0);
        let sent = vec![line; 300_000];
        let before = resident();
        // By then it is known that it does not close.
        let until = Instant::now() + Duration::from_secs(5);
        let delivery = send(&sink, &sent, until).await;
        assert!(Instant::now() >= until);
        assert_eq!(delivery.settled, [0]);
        let text = unavailable(&delivery);
        assert!(text.contains("takes no more data"), "{text}");
        let grown = resident() - before;
        // Other tests of this process take some of it.
        assert!(grown < 150, "{grown} MB more for 300 MB of lines");
    }
}

#[tokio::test]
async fn nothing_is_sent_once_the_deadline_has_come() {
    let receiver = Receiver::tcp(How::Orderly).await;
    let delivery = send(&open(&receiver, &options()), &lines(3, 100), Instant::now()).await;
    assert_eq!(delivery.settled, [0]);
    assert_eq!(unavailable(&delivery), "the deadline came before the first try");
    assert!(receiver.ended().is_empty());
}

#[tokio::test]
async fn acknowledged_keeps_the_connection_once_the_receiver_has_taken_us() {
    for receiver in receivers(How::Orderly).await {
        let sink = open(&receiver, &Options { accepted: Accepted::Acknowledged, ..options() });
        let sent = lines(3_000, 300);
        for part in sent.chunks(1_000) {
            assert_complete(&send(&sink, part, later()).await, &[1_000]);
        }
        drop(sink);
        receiver.idle(0).await;
        let carried: Vec<_> = receiver.ended().iter().map(|one| events(&one.bytes, TABLE)).collect();
        assert!(carried.len() <= 2 && carried.last().unwrap().len() >= 2_000, "{} connections", carried.len());
        assert_eq!(carried.concat(), sent);
    }
}

#[tokio::test]
async fn acknowledged_sends_again_after_a_reset_and_waits_for_a_stalled_receiver() {
    for receiver in receivers(How::First(1, Box::new(How::ResetAfter(100_000)))).await {
        let sink = open(&receiver, &Options { accepted: Accepted::Acknowledged, ..options() });
        let sent = lines(9_000, 1_000);
        assert_complete(&send(&sink, &sent, later()).await, &[9_000]);
        drop(sink);
        receiver.idle(0).await;
        assert_eq!(without_repeats(receiver.ended().iter().flat_map(|one| events(&one.bytes, TABLE))), sent);
    }
    let receiver = Receiver::tcp(How::Stall).await;
    let sink = open(&receiver, &Options { accepted: Accepted::Acknowledged, ..options() });
    let delivery = send(&sink, &lines(20_000, 1_000), soon()).await;
    assert_eq!(delivery.settled, [0]);
    unavailable(&delivery);
}

#[tokio::test]
async fn large_lines_arrive_whole_and_larger_ones_are_refused() {
    for receiver in receivers(How::Orderly).await {
        let sink = open(&receiver, &options());
        let sent = [lines(1, 60_000), lines(1, 1_000_001), lines(1, 1_000_000), lines(1, 2_000_000)].concat();
        let delivery = send(&sink, &sent, later()).await;
        assert!(delivery.failure.is_none());
        assert_eq!(delivery.settled, [4]);
        let refused =
            |index, bytes| Refused { batch: 0, index, reason: format!("too large for syslog: line of {bytes} bytes") };
        assert_eq!(delivery.refused, [refused(1, 1_000_001), refused(3, 2_000_000)]);
        assert_eq!(events(&receiver.ended()[0].bytes, TABLE), [sent[0].clone(), sent[2].clone()]);

        let delivery = send(&sink, &sent[1..2], later()).await;
        assert_eq!((delivery.settled, delivery.refused), (vec![1], vec![refused(0, 1_000_001)]));
        assert_eq!(receiver.ended().len(), 1, "nothing to send, so no connection is used");
    }
}

#[tokio::test]
async fn tables_go_over_several_connections_and_keep_their_order() {
    for receiver in receivers(How::First(2, Box::new(How::ResetAfter(200_000)))).await {
        let sink = open(&receiver, &Options { connections: 2, ..options() });
        let (one, other) = (lines(1_500, 1_000), lines(1_500, 900));
        let batches = [Batch { table: TABLE, lines: one.clone() }, Batch { table: OTHER, lines: other.clone() }];
        assert_complete(&sink.send(&batches, later()).await, &[1_500, 1_500]);
        let ended = receiver.ended();
        assert!(ended.len() >= 4);
        let of = |table: &str| {
            let name = format!(" {table}: ");
            let on = ended.iter().filter(|one| String::from_utf8_lossy(&one.bytes[..99]).contains(&name));
            without_repeats(on.flat_map(|one| events(&one.bytes, table)))
        };
        assert_eq!(of(TABLE), one);
        assert_eq!(of(OTHER), other);
    }
}

#[tokio::test]
async fn small_sends_share_one_connection() {
    let receiver = Receiver::tcp(How::Orderly).await;
    let sink = open(&receiver, &Options { connections: 8, ..options() });
    let batches = [Batch { table: TABLE, lines: lines(5, 100) }, Batch { table: OTHER, lines: lines(3, 100) }];
    assert_complete(&sink.send(&batches, later()).await, &[5, 3]);
    assert_eq!(receiver.ended().len(), 1);
}

#[tokio::test]
async fn several_destinations_must_all_accept() {
    let good = Receiver::tcp(How::Orderly).await;
    let bad = Receiver::tcp(How::CloseAtOnce(usize::MAX)).await;
    let sink = |urls: String| Sink::open(&urls, None, &options()).unwrap();
    let sent = lines(100, 100);
    let delivery = send(&sink(format!("{},{}", good.url(), bad.url())), &sent, soon()).await;
    assert_eq!(delivery.settled, [0]);
    assert!(unavailable(&delivery).starts_with(&bad.url()));
    let other = Receiver::tcp(How::Orderly).await;
    assert_complete(&send(&sink(format!("{}, {}", good.url(), other.url())), &sent, later()).await, &[100]);
    assert_eq!(events(&other.ended()[0].bytes, TABLE), sent);
    let repeated: Vec<Bytes> = good.ended().iter().flat_map(|one| events(&one.bytes, TABLE)).collect();
    assert_eq!(repeated, [sent.clone(), sent].concat(), "what one had taken is repeated there");
}

#[tokio::test]
async fn what_is_no_syslog_receiver_accepts_nothing() {
    let answer = "HTTP/1.1 400 Bad Request\r\n\r\n";
    for receiver in receivers(How::Answer(answer)).await {
        let delivery = send(&open(&receiver, &options()), &lines(3, 100), later()).await;
        assert_eq!(delivery.settled, [0]);
        let text = misconfigured(&delivery);
        assert!(text.contains(r#"this one says "HTTP/1.1 400"#) && text.contains("check scheme and port"), "{text}");
    }
    // TLS where TCP was meant: the answer is an alert.
    let receiver = Receiver::tls(How::Orderly, &Authority::new(), Tls::V13).await;
    let url = receiver.url().replace("tls:", "tcp:");
    let delivery = send(&Sink::open(&url, None, &options()).unwrap(), &lines(3, 100), soon()).await;
    assert_eq!(delivery.settled, [0]);
    misconfigured(&delivery);
}

#[tokio::test]
async fn tls_to_a_port_that_speaks_none() {
    let authority = Authority::new();
    let credentials = Credentials::from_json(&authority.secret().into()).unwrap();
    for (how, expected) in [
        (How::Answer("220 mail.example.com ESMTP\r\n"), "does not answer with TLS: check scheme and port"),
        (How::NeverClose, "no answer to the TLS handshake in time: does this port speak TLS?"),
        (How::CloseAfter(1), "closed during the TLS handshake: does this port speak TLS?"),
    ] {
        let receiver = Receiver::tcp(how).await;
        let url = receiver.url().replace("tcp:", "tls:");
        let sink = Sink::open(&url, Some(&credentials), &options()).unwrap();
        let delivery = send(&sink, &lines(3, 100), soon()).await;
        assert_eq!(delivery.settled, [0]);
        let text = delivery.failure.unwrap().to_string();
        assert!(text.starts_with(&url) && text.contains(expected), "{text}");
    }
}

#[tokio::test]
async fn nobody_there() {
    let receiver = Receiver::tcp(How::Orderly).await;
    let url = receiver.url().replace("127.0.0.1", "127.0.0.2");
    let delivery = send(&Sink::open(&url, None, &options()).unwrap(), &lines(3, 100), soon()).await;
    let text = unavailable(&delivery);
    assert!(text.starts_with(&format!("{url}: connection refused: check host and port")), "{text}");
    // Not a name that could be asked for.
    let delivery = send(&Sink::open("tcp://a..b:1", None, &options()).unwrap(), &lines(3, 100), soon()).await;
    let text = unavailable(&delivery);
    assert!(text.starts_with("tcp://a..b:1: host name not found: check it"), "{text}");
}

#[tokio::test]
async fn server_certificates_that_are_not_taken() {
    let authority = Authority::new();
    let year = |year| rcgen::date_time_ymd(year, 1, 1);
    let mut old = Authority::server();
    old.not_before = year(2019);
    old.not_after = year(2020);
    let mut new = Authority::server();
    new.not_before = year(4000);
    let named = rcgen::CertificateParams::new(["devo.example".to_owned()]).unwrap();
    for (authority_of_server, params, expected) in [
        (Authority::new(), Authority::server(), "not from the CA in the Devo secret's chain"),
        (authority.clone(), old, "the server's certificate has expired on 2020-01-01 00:00 UTC"),
        (authority.clone(), new, "the server's certificate is not valid before 4000-01-01 00:00 UTC"),
        (authority.clone(), named, "the server's certificate is for another host"),
    ] {
        for tls in [Tls::V12, Tls::V13] {
            let receiver =
                Receiver::tls_with(How::Orderly, &authority_of_server, &authority, params.clone(), tls).await;
            let credentials = Credentials::from_json(&authority.secret().into()).unwrap();
            let sink = Sink::open(&receiver.url(), Some(&credentials), &options()).unwrap();
            let delivery = send(&sink, &lines(3, 100), later()).await;
            assert_eq!(delivery.settled, [0]);
            let text = rejected(&delivery);
            assert!(text.starts_with(&receiver.url()) && text.contains(expected), "{text}");
            assert!(!text.contains('\n'));
        }
    }
}

#[tokio::test]
async fn a_server_that_wants_another_ca() {
    let authority = Authority::new();
    for tls in [Tls::V12, Tls::V13] {
        // Its own certificate is ours to trust, but it trusts another CA for clients.
        let receiver = Receiver::tls_with(How::Orderly, &authority, &Authority::new(), Authority::server(), tls).await;
        let credentials = Credentials::from_json(&authority.secret().into()).unwrap();
        let sink = Sink::open(&receiver.url(), Some(&credentials), &options()).unwrap();
        let delivery = send(&sink, &lines(2_000, 1_000), later()).await;
        assert_eq!(delivery.settled, [0]);
        let text = rejected(&delivery);
        assert!(text.contains("the server does not take the Devo secret's cert (received fatal alert: "), "{text}");
    }
}

#[tokio::test]
async fn our_own_certificate_is_looked_at_first() {
    let authority = Authority::new();
    let receiver = Receiver::tls(How::Orderly, &authority, Tls::V13).await;
    let year = |year| rcgen::date_time_ymd(year, 1, 1);
    let mut old = Authority::client();
    old.not_before = year(2019);
    old.not_after = year(2020);
    let mut new = Authority::client();
    new.not_before = year(4000);
    let other = Authority::new();
    for (secret, expected) in [
        (authority.secret_for(old), "cert has expired on 2020-01-01 00:00 UTC: put a new one there"),
        (authority.secret_for(new), "cert is not valid before 4000-01-01 00:00 UTC: put a valid one there"),
        (
            authority.secret_with("chain", &other.chain()),
            "cert was not issued by the CA in chain: take chain, cert and key from one download",
        ),
    ] {
        let credentials = Credentials::from_json(&secret.into()).unwrap();
        let sink = Sink::open(&receiver.url(), Some(&credentials), &options()).unwrap();
        let delivery = send(&sink, &lines(3, 100), later()).await;
        assert_eq!(rejected(&delivery), format!("devo secret: {expected}"));
    }
    assert!(receiver.ended().is_empty(), "nobody was contacted");
}

#[test]
fn secrets_that_cannot_be_used() {
    let authority = Authority::new();
    let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let locked = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----";
    let broken = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----";
    for (name, value, expected) in [
        ("key", key.as_str(), "key does not match cert"),
        ("key", "s3cret", "key holds no private key in PEM form"),
        ("key", &authority.chain(), "key holds no private key in PEM form"),
        ("key", locked, "key is protected by a passphrase: store it without one"),
        ("cert", "s3cret", "cert holds no certificate in PEM form"),
        ("cert", "-----BEGIN CERTIFICATE-----\ns3cret", "cert holds no certificate in PEM form"),
        ("cert", broken, "cert and key cannot be used"),
        ("chain", "s3cret", "chain holds no certificate in PEM form"),
        ("chain", &key, "chain holds no certificate in PEM form"),
        ("chain", broken, "chain cannot be used: "),
    ] {
        let credentials = Credentials::from_json(&authority.secret_with(name, value).into()).unwrap();
        match Sink::open("tls://127.0.0.1:1", Some(&credentials), &options()) {
            Err(Error::Configuration(text)) => {
                assert!(text.starts_with(&format!("devo secret: {expected}")), "{text}");
                assert!(!text.contains("s3cret") && !text.contains('\n'), "{text}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn pem_as_people_paste_it() {
    let authority = Authority::new();
    let receiver = Receiver::tls(How::Orderly, &authority, Tls::V13).await;
    let indented = |text: &str| text.lines().map(|line| format!("    {line}\r\n")).collect::<String>();
    let glued = |text: &str| text.replace('\n', "");
    type Change<'a> = &'a dyn Fn(&str) -> String;
    let forms: [(&str, Change<'_>); 5] = [
        ("two characters", &|text| text.replace('\n', "\\n")),
        ("blanks", &|text| text.replace('\n', " ")),
        ("indented", &indented),
        ("glued", &glued),
        ("with a remark", &|text| format!("subject=CN acme\n{text}\n")),
    ];
    for (form, change) in forms {
        let secret: serde_json::Value = serde_json::from_str(&authority.secret()).unwrap();
        let text = |name: &str| change(secret[name].as_str().unwrap());
        // A chain of two.
        let chain = change(&(authority.chain() + &Authority::new().chain()));
        let secret = serde_json::json!({ "chain": chain, "cert": text("cert"), "key": text("key") }).to_string();
        let credentials = Credentials::from_json(&secret.as_str().into()).unwrap();
        let sink = Sink::open(&receiver.url(), Some(&credentials), &options())
            .unwrap_or_else(|error| panic!("{form}: {error}"));
        assert_complete(&send(&sink, &lines(3, 100), later()).await, &[3]);
    }
}

#[test]
fn a_certificate_that_ends_soon_is_warned_of() {
    let authority = Authority::new();
    for (days, warned) in [(-1, true), (5, true), (13, true), (15, false)] {
        let now = chrono::DateTime::<chrono::Utc>::from(std::time::SystemTime::now());
        let end = now + chrono::TimeDelta::days(days);
        let mut params = Authority::client();
        params.not_after = std::time::SystemTime::from(end).into();
        let credentials = Credentials::from_json(&authority.secret_for(params).into()).unwrap();
        for url in ["tls://127.0.0.1:1", "relp+tls://127.0.0.1:1"] {
            let warnings = Sink::open(url, Some(&credentials), &options()).unwrap().warnings();
            assert_eq!(warnings.len(), usize::from(warned), "{days}: {warnings:?}");
            assert!(warnings.iter().all(|text| text.contains(&end.format("%F").to_string())), "{warnings:?}");
        }
    }
    assert!(Sink::open("tcp://127.0.0.1:1", None, &options()).unwrap().warnings().is_empty());
}
