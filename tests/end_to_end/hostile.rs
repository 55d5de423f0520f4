//! Input made to harm: memory stays bounded, what is wrong is told or becomes a dead letter, and the source goes on.
//!
//! In the place of the simulated Mimecast, which says only what the real one could, stands one that says anything.

use std::convert::Infallible;
use std::io::{Cursor, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use flate2::{Compression, write::GzEncoder};
use futures_util::future::join_all;
use futures_util::stream;
use serde_json::{Value, json};
use simulator::devo::{Fault, Kind};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use crate::support::Server;
use crate::support::runtime::{Deadline, Outcome};
use crate::world::{Api, World, counts};

const RECEIPT: &str = "mail.mimecast.siem.receipt";
const TOKEN: HeaderName = HeaderName::from_static("mc-siem-token");
/// What a function may take at its peak, of the 256 MB that the template gives it.
const BOUND_MB: u64 = 230;

/// A request as the hostile Mimecast sees it.
struct Asked {
    uri: String,
    host: String,
    /// The `Authorization` header.
    keys: String,
    body: String,
}

/// A Mimecast of one's own: `answer` gets every request but those for a token.
fn hostile(world: &World, api: Api, answer: impl Fn(&Asked) -> Response + Clone + Send + Sync + 'static) -> Server {
    let server = Server::start(Router::new().fallback(async move |request: Request| {
        let (head, body) = request.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let header = |name| head.headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
        let (uri, host, keys) = (head.uri.to_string(), header(header::HOST), header(header::AUTHORIZATION));
        let asked = Asked { uri, host, keys, body: String::from_utf8(body.to_vec()).unwrap() };
        match asked.uri.as_str() {
            "/oauth/token" => r#"{"access_token":"hostile-token-0123456789","expires_in":1799}"#.into_response(),
            _ => answer(&asked),
        }
    }));
    let secret = if api == Api::V1 { world.mimecast.secret_v1() } else { world.mimecast.secret_v2() };
    let mut secret: Value = serde_json::from_str(&secret).unwrap();
    secret["base_url"] = format!("http://{}", server.address).into();
    world.aws.set_secret("mimecast", &secret.to_string());
    server
}

/// SIEM 2.0 with these bodies behind links of one type.
fn links(world: &World, bodies: Vec<Bytes>) -> Server {
    hostile(world, Api::V2, move |asked| {
        if let Some(number) = asked.uri.strip_prefix("/files/") {
            return bodies[number.parse::<usize>().unwrap()].clone().into_response();
        }
        let some = asked.uri.contains("type=receipt") && !asked.uri.contains("nextPage");
        let urls =
            (0..bodies.len()).filter(|_| some).map(|n| json!({"url": format!("http://{}/files/{n}", asked.host)}));
        json!({"value": urls.collect::<Vec<_>>(), "@nextPage": "t", "isCaughtUp": true}).to_string().into_response()
    })
}

/// SIEM 1.0 with these answers, each under the token that the one before it gave.
fn answers(world: &World, bodies: Vec<Bytes>) -> Server {
    hostile(world, Api::V1, move |asked| {
        let token = (0..=bodies.len()).rev().find(|n| asked.body.contains(&format!(r#""token":"t{n}""#))).unwrap_or(0);
        match bodies.get(token) {
            Some(body) => ([(TOKEN, format!("t{}", token + 1))], body.clone()).into_response(),
            None => r#"{"meta":{"isLastToken":true,"status":200},"data":[],"fail":[]}"#.into_response(),
        }
    })
}

/// As `url` and the other windows are asked for: this body each time.
fn pages(world: &World, body: impl Fn() -> Body + Clone + Send + Sync + 'static) -> Server {
    hostile(world, Api::V2, move |_| Response::new(body()))
}

fn endless() -> Body {
    Body::from_stream(stream::repeat(Ok::<_, Infallible>(Bytes::from_static(&[b' '; 1 << 16]))))
}

fn siem(rows: &str) -> Vec<u8> {
    format!(r#"{{"type":"MTA","data":[{rows}]}}"#).into_bytes()
}

fn gzip(parts: &[&[u8]]) -> Bytes {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    parts.iter().for_each(|part| gzip.write_all(part).unwrap());
    gzip.finish().unwrap().into()
}

fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in files {
        zip.start_file(*name, SimpleFileOptions::default().compression_method(CompressionMethod::Deflated)).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// Changes the last file's header in a zip's directory.
fn patched(mut zip: Vec<u8>, offset: usize, value: &[u8]) -> Vec<u8> {
    let header = zip.windows(4).rposition(|magic| magic == b"PK\x01\x02").unwrap() + offset;
    zip[header..header + value.len()].copy_from_slice(value);
    zip
}

/// The most memory that a function's process has had.
fn assert_bounded(world: &World, source: &str, what: &str) {
    let status = std::fs::read_to_string(format!("/proc/{}/status", world.pid(source).unwrap())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak = peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024;
    println!("{what}: peak {peak} MB");
    assert!(peak < BOUND_MB, "{what}: {peak} MB");
}

fn delivered(world: &World, table: &str) -> Vec<String> {
    world.devo.lines().remove(table).unwrap_or_default()
}

#[tokio::test]
async fn hostile_lines_are_dead_letters_and_the_lines_around_them_arrive() {
    let mut world = World::new(Api::V2).await;
    let deep = format!(r#"{{"d":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    let wide = format!(r#"{{"{}":1}}"#, "k".repeat(1 << 20));
    let lines: [&[u8]; 9] = [
        br#"{"n":1}"#,
        "[".repeat(100_000).as_bytes(),
        "{\"a\":".repeat(100_000).as_bytes(),
        b"{\"a\":\"\xff\xfe\"}",
        b"\0\0\0",
        b"{\"a\":\"\0\"}",
        deep.as_bytes(),
        wide.as_bytes(),
        br#"{"n":2}"#,
    ]
    .map(|line: &[u8]| line.to_vec().leak() as &[u8]);
    let server = links(&world, vec![gzip(&[&lines.join(&b'\n')])]);
    let answer = world.run("siem").await;
    assert_eq!(counts(&answer), json!(["caught_up", 4, 0, 5]));
    assert_eq!(delivered(&world, RECEIPT), [r#"{"n":1}"#, &deep, &wide, r#"{"n":2}"#]);
    assert_bounded(&world, "siem", "hostile lines");
    drop(server);
}

/// 1,000 to 1, and one line of 100 MB: in parts, each of which is a dead letter.
#[tokio::test]
async fn a_line_of_100_mb_out_of_a_gzip_bomb_is_a_dead_letter_in_parts() {
    let mut world = World::new(Api::V2).await;
    let megabyte = "x".repeat(1 << 20);
    let mut parts: Vec<&[u8]> = vec![b"{\"n\":1}\n{\"a\":\""];
    parts.extend([megabyte.as_bytes()].repeat(100));
    parts.push(b"\"}\n{\"n\":2}\n");
    let _server = links(&world, vec![gzip(&parts), gzip(&[br#"{"n":3}"#])]);
    let answer = world.run("siem").await;
    assert_eq!(counts(&answer), json!(["caught_up", 3, 0, 7]));
    assert_eq!(delivered(&world, RECEIPT), [r#"{"n":1}"#, r#"{"n":2}"#, r#"{"n":3}"#]);
    assert_bounded(&world, "siem", "a line of 100 MB");
}

/// Noise does not get smaller: the largest dead letter there is.
#[tokio::test]
async fn a_large_file_that_stays_broken_is_a_dead_letter_with_its_beginning() {
    let mut world = World::new(Api::V2).await;
    let mut random = fastrand::Rng::with_seed(1);
    let noise: Vec<u8> = (0..10 << 20).flat_map(|_| random.u32(..).to_le_bytes()).collect();
    let whole = gzip(&[&noise]);
    let _server = links(&world, vec![whole.slice(..whole.len() - 4), gzip(&[br#"{"n":1}"#])]);
    assert_eq!(world.fail("siem").await.0, "MimecastUnavailable");
    assert_eq!(counts(&world.run("siem").await), json!(["caught_up", 0, 0, 1]));
    assert_bounded(&world, "siem", "40 MB of noise");
    let parts = world.dead_letters("siem").await;
    assert!(parts[0].1.contains("; the first 33554432 of "), "{}", parts[0].1);
    assert_eq!(delivered(&world, RECEIPT), [r#"{"n":1}"#]);
}

#[tokio::test]
async fn hostile_zips_are_dead_letters_and_the_answers_after_them_arrive() {
    let line = |n: usize| format!(r#"{{"n":{n}}}"#);
    let good = |n: usize| zip(&[("receipt_1.json", &siem(&line(n)))]);
    let bomb = vec![b'x'; 40 << 20];
    let many: Vec<String> = (0..=10_000).map(|n| format!("receipt_{n}.json")).collect();
    let many: Vec<(&str, &[u8])> = many.iter().map(|name| (name.as_str(), &b""[..])).collect();
    let two = zip(&[("receipt_1.json", &siem(&line(1))), ("receipt_2.json", &siem(&line(2)))]);
    let mut twice = two.clone();
    while let Some(at) = twice.windows(9).position(|name| name == b"receipt_2") {
        twice[at + 8] = b'1';
    }
    for (what, body, events, reason) in [
        (
            "a bomb",
            zip(&[("receipt_1.json", &bomb)]),
            0,
            "unknown file format; the first 33554432 of 41943040 bytes are kept",
        ),
        (
            "a bomb that says it is small",
            patched(zip(&[("receipt_1.json", &bomb)]), 24, &[0, 1, 0, 0]),
            0,
            "larger than its declared uncompressed size",
        ),
        (
            "a small one that says it is a bomb",
            patched(good(1), 24, &[0, 0, 0, 0xf0]),
            0,
            "a zip of more than 2147483648 bytes",
        ),
        ("10,001 files", zip(&many), 0, "a zip of more than 10000 files"),
        ("a name listed twice", twice, 0, "the zip lists a file name twice"),
        ("an encrypted file", patched(two.clone(), 8, &[1]), 1, "Password required"),
        ("a method nobody knows", patched(two, 10, &[99]), 1, "compression method"),
    ] {
        let mut world = World::new(Api::V1).await;
        let _server = answers(&world, vec![body.into(), good(7).into()]);
        // What cannot be read might have been cut on its way: it is a dead letter in the second run.
        if what != "a bomb" {
            assert_eq!(world.fail("siem").await.0, "MimecastUnavailable", "{what}");
        }
        let answer = world.run("siem").await;
        assert_eq!(answer["rejected"], 1, "{what}: {answer}");
        assert_eq!(delivered(&world, RECEIPT).len(), events + 1, "{what}");
        let [(_, found)] = &world.dead_letters("siem").await[..] else { panic!("{what}: one dead letter") };
        assert!(found.contains(reason), "{what}: {found}");
        assert_eq!(delivered(&world, RECEIPT).last(), Some(&line(7)), "{what}");
        assert_bounded(&world, "siem", what);
    }
}

#[tokio::test]
async fn many_broken_files_in_one_answer_are_one_copy_of_it() {
    let mut world = World::new(Api::V1).await;
    let content = siem(r#"{"n":1}"#);
    let names: Vec<String> = (0..30).map(|n| format!("receipt_{n}.json")).collect();
    let mut body = zip(&names.iter().map(|name| (name.as_str(), content.as_slice())).collect::<Vec<_>>());
    let headers = body.windows(4).enumerate().filter(|(_, magic)| magic == b"PK\x01\x02");
    let headers: Vec<usize> = headers.map(|(at, _)| at).collect();
    headers.into_iter().skip(1).for_each(|header| body[header + 16] ^= 1);
    let _server = answers(&world, vec![body.clone().into()]);
    assert_eq!(world.fail("siem").await.0, "MimecastUnavailable");
    assert_eq!(counts(&world.run("siem").await), json!(["caught_up", 0, 0, 29]));
    let letters = world.dead_letters("siem").await;
    assert!(letters[0] == (body, "Invalid checksum".to_owned()));
    assert!(letters[1..].iter().all(|(raw, reason)| raw.is_empty() && reason.contains("a dead letter before this")));
}

#[tokio::test]
async fn a_files_name_leads_nowhere() {
    let mut world = World::new(Api::V1).await;
    let names = [
        "../../../../tmp/receipt_hostile.json",
        "/etc/receipt_1.json",
        "..\\receipt_2.json",
        "receipt_3\r\n\0.json",
        "..",
    ];
    let rows: Vec<String> = (0..names.len()).map(|n| format!(r#"{{"n":{n}}}"#)).collect();
    let contents: Vec<Vec<u8>> = rows.iter().map(|row| siem(row)).collect();
    let files: Vec<(&str, &[u8])> = names.into_iter().zip(contents.iter().map(Vec::as_slice)).collect();
    let _server = answers(&world, vec![zip(&files).into()]);
    assert_eq!(counts(&world.run("siem").await), json!(["caught_up", 5, 0, 0]));
    assert_eq!(delivered(&world, RECEIPT), rows[..4]);
    assert_eq!(delivered(&world, "mail.mimecast.siem.unknown"), rows[4..]);
    assert!(!std::path::Path::new("/tmp/receipt_hostile.json").exists());
}

/// A body that never ends, one that comes a byte at a time, and a compressed one.
#[tokio::test]
async fn a_page_that_does_not_end_is_an_error_of_its_own_kind() {
    let drip = || {
        Body::from_stream(stream::unfold((), async |()| {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Some((Ok::<_, Infallible>(Bytes::from_static(b"{")), ()))
        }))
    };
    for (what, source, error_type, body) in [
        ("an endless page", "url", "MimecastProtocol", endless as fn() -> Body),
        ("an endless snapshot", "messageholdsummary", "MimecastProtocol", endless),
        ("a dripping page", "url", "MimecastUnavailable", drip),
    ] {
        let mut world = World::new(Api::V2).await;
        let _server = pages(&world, body);
        match world.invoke_with(source, "{}", Deadline::In(Duration::from_secs(6))).await {
            Outcome::Failed { error_type: found, error_message } => {
                assert_eq!(found, error_type, "{what}: {error_message}")
            }
            other => panic!("{what}: {other:?}"),
        }
        assert_bounded(&world, source, what);
    }
}

#[tokio::test]
async fn hostile_pages_are_errors_of_their_own_kind() {
    let page = |data: &str| format!(r#"{{"meta":{{"status":200}},"data":{data},"fail":[]}}"#);
    let bomb = gzip(&[page("[").as_bytes(), &vec![b' '; 100 << 20]]);
    let cases = [
        ("100,000 brackets", Bytes::from("[".repeat(100_000)), "no JSON envelope"),
        (
            "10 million rows",
            page(&format!(r#"[{{"clickLogs":[{}1]}}]"#, "1,".repeat(10_000_000))).into(),
            "more than 100000 rows",
        ),
        ("deep groups", page(&format!("{}{}", "[{\"x\":".repeat(50_000), "1}]".repeat(50_000))).into(), ""),
        (
            "a long complaint",
            format!(r#"{{"fail":[{{"code":"c","message":"{}"}}]}}"#, "m\\n".repeat(10_000_000)).into(),
            "c m",
        ),
        ("deep complaints", format!("{{\"fail\":{}", r#"[{"errors":"#.repeat(100_000)).into(), ""),
        ("a bomb", bomb, "more than"),
    ];
    // At once: they wait between their tries most of the time.
    join_all(cases.map(async |(what, body, reason)| {
        let mut world = World::new(Api::V2).await;
        let zipped = body.starts_with(b"\x1f\x8b");
        let _server = hostile(&world, Api::V2, move |_| match zipped {
            true => ([(header::CONTENT_ENCODING, "gzip")], body.clone()).into_response(),
            false => body.clone().into_response(),
        });
        match world.invoke("url").await {
            Outcome::Failed { error_type, error_message } => {
                assert!(error_type == "MimecastProtocol" && error_message.contains(reason), "{what}: {error_message}");
            }
            other => assert!(reason.is_empty(), "{what}: {other:?}"),
        }
        assert!(world.output().len() < 100_000, "{what}: {} bytes of log", world.output().len());
        assert_bounded(&world, "url", what);
    }))
    .await;
}

/// A refusal whose reason never ends.
#[tokio::test]
async fn an_answer_of_devos_that_does_not_end_does_no_harm() {
    let mut world = World::new(Api::V2).await;
    world.mimecast.set_notices(vec![r#"{"id":"1"}"#.to_owned()]);
    let devo = Server::start(Router::new().fallback(async move |request: Request| {
        axum::body::to_bytes(request.into_body(), usize::MAX).await.unwrap();
        (StatusCode::BAD_REQUEST, endless())
    }));
    let mut secret: Value = serde_json::from_str(&world.devo.secret()).unwrap();
    secret["url"] = format!("http://{}", devo.address).into();
    world.aws.set_secret("devo", &secret.to_string());
    assert_eq!(world.fail("dashboard").await.0, "DevoRejected");
    assert_bounded(&world, "dashboard", "an endless answer of Devo's");
}

/// There is no token to move on and no window to divide: each poll is an answer of its own.
#[tokio::test]
async fn a_snapshot_that_stays_broken_is_a_dead_letter() {
    let body = r#"{"meta":{"status":200},"data":[{"id":"1"},{"#;
    for (source, again) in [("messageholdsummary", 1), ("dashboard", 0)] {
        let mut world = World::new(Api::V2).await;
        let _server = pages(&world, move || Body::from(body));
        assert_eq!(counts(&world.run(source).await), json!(["caught_up", 0, 0, 1]));
        let [(raw, reason)] = &world.dead_letters(source).await[..] else { panic!("{source}: one dead letter") };
        assert!(raw == body.as_bytes() && reason.contains("unreadable json"), "{reason}");
        // The same notices are polled again and again.
        assert_eq!(world.run(source).await["rejected"], again, "{source}");
    }
}

#[tokio::test]
async fn a_token_that_does_not_end_or_lives_for_ever_does_no_harm() {
    let for_ever = || Body::from(format!(r#"{{"access_token":"t","expires_in":{}}}"#, u64::MAX));
    for (what, body) in [("an endless token", endless as fn() -> Body), ("a token for ever", for_ever)] {
        let mut world = World::new(Api::V2).await;
        let server = Server::start(Router::new().fallback(async move || Response::new(body())));
        let mut secret: Value = serde_json::from_str(&world.mimecast.secret_v2()).unwrap();
        secret["base_url"] = format!("http://{}", server.address).into();
        world.aws.set_secret("mimecast", &secret.to_string());
        match world.invoke_with("url", "{}", Deadline::In(Duration::from_secs(10))).await {
            Outcome::Failed { error_type, error_message } => {
                assert_eq!(error_type, "MimecastProtocol", "{error_message}")
            }
            other => panic!("{what}: {other:?}"),
        }
        assert_bounded(&world, "url", what);
    }
}

/// What is refused is told, and not what the refusal repeats of the request.
#[tokio::test]
async fn keys_that_an_answer_repeats_are_not_shown() {
    for (api, status) in [(Api::V1, 400), (Api::V1, 401), (Api::V2, 403), (Api::V2, 500)] {
        let mut world = World::new(api).await;
        let _server = hostile(&world, api, move |asked| {
            let complaint = json!({"fail": [{"code": "err_odd", "message": format!("no use for {}", asked.keys)}]});
            (StatusCode::from_u16(status).unwrap(), complaint.to_string()).into_response()
        });
        let (_, message) = world.fail("url").await;
        assert!(message.contains("err_odd no use for ") && message.contains("***"), "{message}");
        let output = world.output();
        assert!(!output.contains("hostile-token"), "{output}");
    }
}

/// Neither with the keys, nor with a link's signature, nor with Devo's token.
#[tokio::test]
async fn a_redirect_to_another_host_gets_no_keys() {
    // Links of an object store may be redirected: nothing goes along but the link itself.
    let (strangers, with_keys) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (visits, keys) = (strangers.clone(), with_keys.clone());
    let stranger = Server::start(Router::new().fallback(async move |headers: header::HeaderMap| {
        visits.fetch_add(1, SeqCst);
        keys.fetch_add(usize::from(headers.contains_key("authorization") || headers.contains_key("cookie")), SeqCst);
        StatusCode::FORBIDDEN
    }));
    let elsewhere = format!("http://{}/", stranger.address);
    let mut visited = 0;
    for status in [301, 302, 303, 307, 308] {
        let (location, link) = (elsewhere.clone(), elsewhere.clone());
        let away = move |to: &str| {
            (StatusCode::from_u16(status).unwrap(), [(header::LOCATION, to.to_owned())]).into_response()
        };
        let mut world = World::new(Api::V2).await;
        let api = hostile(&world, Api::V2, move |_| away(&location));
        for source in ["url", "siem"] {
            assert_eq!(world.fail(source).await.0, "MimecastProtocol", "{status}");
        }
        let before = strangers.load(SeqCst);
        assert_eq!(before, visited, "{status}: the API is followed nowhere");
        drop(api);
        world.stop_all();
        let _links = hostile(&world, Api::V2, move |asked| match asked.uri.starts_with("/files/") {
            true => away(&link),
            false => {
                let url = format!("http://{}/files/1?X-Amz-Signature=s", asked.host);
                json!({"value": [{"url": url}], "@nextPage": "t", "isCaughtUp": true}).to_string().into_response()
            }
        });
        assert_eq!(world.fail("siem").await.0, "MimecastUnavailable", "{status}");
        assert!(strangers.load(SeqCst) > before, "{status}: a link is followed");
        visited = strangers.load(SeqCst);
    }
    let mut world = World::new(Api::V2).await;
    world.mimecast.set_notices(vec![r#"{"id":"1"}"#.to_owned()]);
    let headers = vec![("location", elsewhere)];
    world.devo.fault(Fault::new(Kind::Status { status: 307, body: String::new(), headers }).times(usize::MAX));
    assert_eq!(world.fail("dashboard").await.0, "DevoRejected");
    assert_eq!((strangers.load(SeqCst), with_keys.load(SeqCst)), (visited, 0));
}
