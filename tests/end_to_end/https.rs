//! HTTPS with a CA of one's own and through proxies: `SSL_CERT_FILE` and `SSL_CERT_DIR` say whom a function trusts, `HTTPS_PROXY` and
//! `NO_PROXY` which way it goes, be it to AWS, Mimecast or Devo.

use std::fs;
use std::process::Command;
use std::sync::{Arc, Mutex};

use simulator::data;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use crate::receiver::Authority;
use crate::world::{Api, World, now};

/// HTTPS in front of a server at `plain`: its URL.
async fn front(authority: &Authority, plain: &str) -> String {
    let [cert, key] = authority.issue(Authority::server());
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        );
    let acceptor = TlsAcceptor::from(Arc::new(config.unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let plain = plain.strip_prefix("http://").unwrap().to_owned();
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            let (acceptor, plain) = (acceptor.clone(), plain.clone());
            tokio::spawn(async move {
                let Ok(mut outside) = acceptor.accept(connection).await else { return };
                let mut inside = TcpStream::connect(plain).await.unwrap();
                // Ends by either side are no matter of the test.
                drop(copy_bidirectional(&mut outside, &mut inside).await);
            });
        }
    });
    url
}

/// A world whose AWS, Mimecast and Devo are reached by HTTPS, with certificates of these.
async fn world(aws: &Authority, mimecast: &Authority, devo: &Authority) -> World {
    let mut world = World::new(Api::V2).await;
    let (plain, https) = (world.mimecast.base_url(), front(mimecast, &world.mimecast.base_url()).await);
    world.aws.set_secret("mimecast", &world.mimecast.secret_v2().replace(&plain, &https));
    let (plain, https) = (world.devo.url(), front(devo, &world.devo.url()).await);
    world.aws.set_secret("devo", &world.devo.secret().replace(&plain, &https));
    let https = front(aws, &world.aws.url()).await;
    world.set("AWS_ENDPOINT_URL", &https);
    world
}

#[tokio::test]
async fn an_own_ca_is_trusted_by_every_client_and_read_once() {
    let authority = Authority::new();
    let mut world = world(&authority, &authority, &authority).await;
    let expected = data::lively(&world.mimecast, 1, now(), 1);
    let folder = tempfile::tempdir().unwrap();
    // A pipe that is written once: who reads a second time waits for ever.
    let roots = folder.path().join("roots.pem");
    assert!(Command::new("mkfifo").arg(&roots).status().unwrap().success());
    world.set("SSL_CERT_FILE", roots.to_str().unwrap());
    let chain = authority.chain();
    let writer = std::thread::spawn(move || fs::write(roots, chain).unwrap());
    for _ in 0..2 {
        assert_eq!(world.run("audit").await["status"], "caught_up");
    }
    writer.join().unwrap();
    let table = "mail.mimecast.audit.events";
    let mut delivered = world.devo.lines().remove(table).unwrap();
    let mut expected = expected[table].clone();
    delivered.sort_unstable();
    expected.sort_unstable();
    assert_eq!(delivered, expected);
}

#[tokio::test]
async fn a_folder_of_certificates_will_do() {
    let (one, other) = (Authority::new(), Authority::new());
    let mut world = world(&one, &other, &other).await;
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("one.pem"), one.chain()).unwrap();
    fs::write(folder.path().join("other.pem"), other.chain()).unwrap();
    world.set("SSL_CERT_DIR", folder.path().to_str().unwrap());
    assert_eq!(world.run("audit").await["status"], "caught_up");
}

#[tokio::test]
async fn nobody_else_is_trusted() {
    let (ours, foreign) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().unwrap();
    let roots = folder.path().join("roots.pem");
    fs::write(&roots, ours.chain()).unwrap();
    for (authorities, kind, says) in [
        ([&foreign, &ours, &ours], "Configuration", "the secret mimecast cannot be read"),
        ([&ours, &foreign, &ours], "MimecastUnavailable", "invalid peer certificate: UnknownIssuer"),
        ([&ours, &ours, &foreign], "DevoRejected", "invalid peer certificate: UnknownIssuer"),
    ] {
        let mut world = world(authorities[0], authorities[1], authorities[2]).await;
        data::lively(&world.mimecast, 1, now(), 1);
        world.set("SSL_CERT_FILE", roots.to_str().unwrap());
        let (error_type, message) = world.fail("audit").await;
        assert_eq!(error_type, kind, "{message}");
        assert!(message.contains(says), "{message}");
        assert!(world.devo.lines().is_empty());
    }
}

#[tokio::test]
async fn without_roots_the_answer_says_so_and_they_are_looked_for_again() {
    let authority = Authority::new();
    let mut world = world(&authority, &authority, &authority).await;
    let folder = tempfile::tempdir().unwrap();
    let roots = folder.path().join("roots.pem");
    world.set("SSL_CERT_FILE", roots.to_str().unwrap());
    let (error_type, message) = world.fail("audit").await;
    assert_eq!(error_type, "Configuration");
    assert!(message.contains("TLS cannot be set up") && message.contains("SSL_CERT_FILE"), "{message}");
    fs::write(&roots, authority.chain()).unwrap();
    assert_eq!(world.run("audit").await["status"], "caught_up");
}

/// A proxy, and where it was asked to connect to.
struct Proxy {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// By HTTP's CONNECT or by SOCKS 5 with names (RFC 1928).
    async fn start(socks: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let all = asked.clone();
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let all = all.clone();
                tokio::spawn(async move {
                    let mut connection = connection;
                    let to = if socks { by_socks(&mut connection).await } else { by_connect(&mut connection).await };
                    all.lock().unwrap().push(to.clone());
                    let mut inside = TcpStream::connect(to).await.unwrap();
                    drop(copy_bidirectional(&mut connection, &mut inside).await);
                });
            }
        });
        Self { address, asked }
    }

    /// The ports it was asked for, each once.
    fn ports(&self) -> usize {
        self.asked.lock().unwrap().iter().collect::<std::collections::HashSet<_>>().len()
    }
}

async fn by_connect(connection: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(connection.read_u8().await.unwrap());
    }
    connection.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
    let head = String::from_utf8(head).unwrap();
    head.strip_prefix("CONNECT ").unwrap().split(' ').next().unwrap().to_owned()
}

async fn by_socks(connection: &mut TcpStream) -> String {
    let mut greeting = [0; 2];
    connection.read_exact(&mut greeting).await.unwrap();
    let mut methods = vec![0; greeting[1].into()];
    connection.read_exact(&mut methods).await.unwrap();
    assert!(greeting[0] == 5 && methods.contains(&0), "{methods:?}");
    connection.write_all(&[5, 0]).await.unwrap();
    let mut request = [0; 5];
    connection.read_exact(&mut request).await.unwrap();
    assert_eq!(request[..4], [5, 1, 0, 3], "connect, by name");
    let mut name = vec![0; request[4].into()];
    connection.read_exact(&mut name).await.unwrap();
    let port = connection.read_u16().await.unwrap();
    connection.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await.unwrap();
    format!("{}:{port}", String::from_utf8(name).unwrap())
}

#[tokio::test]
async fn proxies_of_both_kinds_carry_all_three_and_are_left_out_where_asked() {
    for (scheme, socks) in [("http", false), ("socks5h", true)] {
        let authority = Authority::new();
        let mut world = world(&authority, &authority, &authority).await;
        let mut expected = data::lively(&world.mimecast, 1, now(), 1);
        expected.retain(|table, _| table.contains(".ttp.url"));
        let proxy = Proxy::start(socks).await;
        let folder = tempfile::tempdir().unwrap();
        let roots = folder.path().join("roots.pem");
        fs::write(&roots, authority.chain()).unwrap();
        world.set("SSL_CERT_FILE", roots.to_str().unwrap());
        world.set("HTTPS_PROXY", &format!("{scheme}://{}", proxy.address));
        assert_eq!(world.run("url").await["status"], "caught_up");
        world.assert_delivered(&expected);
        assert_eq!(proxy.ports(), 3, "AWS, Mimecast and Devo: {:?}", proxy.asked);
        // Past one that is not there.
        world.stop("url");
        world.set("HTTPS_PROXY", "http://127.0.0.1:1").set("NO_PROXY", "localhost");
        assert_eq!(world.run("url").await["status"], "caught_up");
    }
}

// B13
#[tokio::test]
async fn a_proxy_that_is_down_is_named() {
    let authority = Authority::new();
    let mut world = world(&authority, &authority, &authority).await;
    let folder = tempfile::tempdir().unwrap();
    let roots = folder.path().join("roots.pem");
    fs::write(&roots, authority.chain()).unwrap();
    world.set("SSL_CERT_FILE", roots.to_str().unwrap()).set("HTTPS_PROXY", "http://user:s3cret@127.0.0.1:1");
    let (_, message) = world.fail("url").await;
    assert!(message.contains("by the proxy 127.0.0.1:1, which HTTPS_PROXY names"), "{message}");
    assert!(!message.contains("s3cret") && !message.contains('\n'), "{message}");
}
