//! The simulated Devo refuses what it should, byte by byte over a plain connection.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use simulator::Devo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Sends one request and returns the status answered.
async fn status(devo: &Devo, method: &str, path: &str, headers: &str, body: &[u8]) -> u16 {
    let mut stream = TcpStream::connect(devo.url().strip_prefix("http://").unwrap()).await.unwrap();
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
    );
    stream.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).split(' ').nth(1).unwrap().parse().unwrap()
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(body).unwrap();
    gzip.finish().unwrap()
}

fn token(devo: &Devo) -> String {
    let secret: serde_json::Value = serde_json::from_str(&devo.secret()).unwrap();
    secret["token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn refuses_wrong_addresses() {
    let devo = Devo::start().await.unwrap();
    let token = token(&devo);
    for (expected, method, path) in [
        (405, "GET", format!("/stream/simulated/token!{token}/h/my.app.test")),
        (405, "PUT", format!("/stream/simulated/token!{token}/h/my.app.test")),
        (404, "POST", format!("/event/simulated/token!{token}/h/my.app.test")),
        (404, "POST", format!("/stream/simulated/token!{token}/my.app.test")),
        (404, "POST", format!("/stream/simulated/token!{token}/h/my.app.test/")),
        (404, "POST", format!("//stream/simulated/token!{token}/h/my.app.test")),
        (400, "POST", format!("/stream/simulated/token!{token}/h/my.app.test?x")),
        (400, "POST", format!("/stream/simulated/{token}/h/my.app.test")),
        (403, "POST", "/stream/simulated/token!/h/my.app.test".to_owned()),
        (403, "POST", format!("/stream/simulated/token!{token}0/h/my.app.test")),
        (403, "POST", format!("/stream/other/token!{token}/h/my.app.test")),
        (400, "POST", format!("/stream/simulated/token!{token}//my.app.test")),
        (400, "POST", format!("/stream/simulated/token!{token}/%FF/my.app.test")),
        (400, "POST", format!("/stream/simulated/token!{token}/%4/my.app.test")),
        (400, "POST", format!("/stream/simulated/token!{token}/h/")),
        (400, "POST", format!("/stream/simulated/token!{token}/h/my.app")),
        (400, "POST", format!("/stream/simulated/token!{token}/h/my.app.")),
        (400, "POST", format!("/stream/simulated/token!{token}/h/my.app.Test")),
        (400, "POST", format!("/stream/simulated/token!{token}/h/my.app.te-st")),
    ] {
        assert_eq!(status(&devo, method, &path, "", b"a\n").await, expected, "{method} {path}");
    }
    assert!(devo.lines().is_empty());
    assert_eq!(devo.requests().len(), 19);
}

#[tokio::test]
async fn refuses_wrong_bodies() {
    let devo = Devo::start().await.unwrap();
    let path = format!("/stream/simulated/token!{}/h%2F1/mail.mimecast.ttp_2.url", token(&devo));
    // Members of gzip in a row are one file.
    let large = [gzip(&vec![b'x'; 1024 * 1024]).repeat(32), gzip(b"\n")].concat();
    let encoded = "content-encoding: gzip\r\n";
    for (expected, headers, body) in [
        (400, "", &b""[..]),
        (400, "", b"a"),
        (400, "", b"\n"),
        (400, "", b"a\n\nb\n"),
        (400, "", b"a\r\n"),
        (400, "", b"a\0\n"),
        (400, "", b"good\n\xff\n"),
        (400, "", &gzip(b"a\n")),
        (400, encoded, b"a\n"),
        (400, encoded, &gzip(b"a\n")[..15]),
        (400, encoded, &[gzip(b"a\n"), b"rest".to_vec()].concat()),
        (400, encoded, &gzip(b"")),
        (413, encoded, &large),
        (415, "content-encoding: br\r\n", b"a\n"),
    ] {
        let start = String::from_utf8_lossy(&body[..body.len().min(20)]);
        assert_eq!(status(&devo, "POST", &path, headers, body).await, expected, "{headers} {start:?}");
    }
    assert!(devo.lines().is_empty());

    assert_eq!(status(&devo, "POST", &path, "", "ü\n".as_bytes()).await, 200);
    assert_eq!(status(&devo, "POST", &path, encoded, &gzip(b"b\nc\n")).await, 200);
    assert_eq!(
        devo.lines().into_iter().collect::<Vec<_>>(),
        [("mail.mimecast.ttp_2.url".to_owned(), vec!["ü".to_owned(), "b".to_owned(), "c".to_owned()],)]
    );
    let last = devo.requests().pop().unwrap();
    assert_eq!((last.host.as_str(), last.status, last.bytes, last.lines), ("h/1", 200, 4, 2));
}

#[tokio::test]
async fn stops_when_dropped() {
    let devo = Devo::start().await.unwrap();
    let mut stream = TcpStream::connect(devo.url().strip_prefix("http://").unwrap()).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert_ne!(stream.read(&mut [0; 1_000]).await.unwrap(), 0);
    drop(devo);
    // An open connection ends too.
    let mut rest = Vec::new();
    drop(stream.read_to_end(&mut rest).await);
    assert!(rest.len() < 1_000);
}
