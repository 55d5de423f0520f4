//! Receivers of syslog streams by TCP and mutual TLS, and the certificates for them.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use devo::Credentials;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::sleep,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        HandshakeKind, RootCertStore, ServerConfig,
        crypto::aws_lc_rs::default_provider,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
        server::WebPkiClientVerifier,
        version,
    },
};

/// What a receiver does with each connection.
#[derive(Clone)]
pub enum How {
    /// Reads to the end, then closes.
    Orderly,
    /// Reads so many bytes, then resets with the rest unread. Before that, orderly.
    ResetAfter(usize),
    /// Reads so many bytes, then closes in order.
    CloseAfter(usize),
    /// Reads so many bytes, ends in order after a while, and resets with the rest unread after another.
    EndThenReset(usize),
    /// Reads to the end and does not close.
    NeverClose,
    /// Closes a connection that has carried nothing, and does not close another.
    NeverCloseFull,
    /// Reads to the end and closes after that time.
    CloseLate(Duration),
    /// Reads to the end and ends TLS, but not the connection under it.
    EndTlsAlone,
    /// Reads nothing.
    Stall,
    /// Says something, reads to the end, closes.
    Answer(&'static str),
    /// Closes the first connections as soon as they are open, and is orderly with the others.
    CloseAtOnce(usize),
    /// Does so with the first connections that carry something, and is orderly with the others.
    First(usize, Box<How>),
}

#[derive(Clone, Copy)]
pub enum Tls {
    V12,
    V13,
}

/// A connection that is over, or of which all was read.
#[derive(Clone)]
pub struct Ended {
    pub bytes: Vec<u8>,
    pub orderly: bool,
    pub resumed: bool,
    pub client_certificate: bool,
}

/// A CA that issues certificates.
#[derive(Clone)]
pub struct Authority(Arc<(String, Issuer<'static, KeyPair>)>);

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, format!("CA {}", fastrand::u64(..)));
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self(Arc::new((pem, Issuer::new(params, key))))
    }

    pub fn server() -> CertificateParams {
        CertificateParams::new(["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap()
    }

    pub fn client() -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, "acme");
        params
    }

    /// Certificate and key, PEM.
    pub fn issue(&self, params: CertificateParams) -> [String; 2] {
        let key = KeyPair::generate().unwrap();
        [params.signed_by(&key, &self.0.1).unwrap().pem(), key.serialize_pem()]
    }

    pub fn chain(&self) -> String {
        self.0.0.clone()
    }

    /// A Devo secret.
    pub fn secret(&self) -> String {
        self.secret_for(Self::client())
    }

    pub fn secret_for(&self, params: CertificateParams) -> String {
        let [cert, key] = self.issue(params);
        serde_json::json!({ "chain": self.chain(), "cert": cert, "key": key }).to_string()
    }

    /// A Devo secret with one text replaced.
    pub fn secret_with(&self, name: &str, value: &str) -> String {
        let mut secret: serde_json::Value = serde_json::from_str(&self.secret()).unwrap();
        secret[name] = value.into();
        secret.to_string()
    }
}

/// A syslog receiver on a loopback port; it ends with its runtime.
pub struct Receiver {
    address: SocketAddr,
    secret: Option<String>,
    shared: Arc<Shared>,
}

struct Shared {
    how: How,
    ended: Mutex<Vec<Ended>>,
    /// How many connections were opened, how many of them are not over, how many have carried something.
    opened: watch::Sender<usize>,
    open: watch::Sender<usize>,
    carrying: Mutex<usize>,
    reset: watch::Sender<()>,
}

impl Receiver {
    pub async fn tcp(how: How) -> Self {
        Self::start(how, None, None).await
    }

    pub async fn tls(how: How, authority: &Authority, tls: Tls) -> Self {
        Self::tls_with(how, authority, authority, Authority::server(), tls).await
    }

    /// With a certificate of `server` for `params`, demanding one of `client`.
    pub async fn tls_with(
        how: How,
        server: &Authority,
        client: &Authority,
        params: CertificateParams,
        tls: Tls,
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(client.chain().as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone()).build().unwrap();
        let [cert, key] = server.issue(params);
        let versions = match tls {
            Tls::V12 => [&version::TLS12],
            Tls::V13 => [&version::TLS13],
        };
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
            )
            .unwrap();
        Self::start(how, Some(TlsAcceptor::from(Arc::new(config))), Some(server.secret())).await
    }

    async fn start(how: How, tls: Option<TlsAcceptor>, secret: Option<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            how,
            ended: Mutex::default(),
            opened: watch::Sender::new(0),
            open: watch::Sender::new(0),
            carrying: Mutex::new(0),
            reset: watch::Sender::new(()),
        });
        let of_server = shared.clone();
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let (tls, shared) = (tls.clone(), of_server.clone());
                shared.opened.send_modify(|count| *count += 1);
                shared.open.send_modify(|count| *count += 1);
                tokio::spawn(async move {
                    shared.clone().serve(socket, tls).await;
                    shared.open.send_modify(|count| *count -= 1);
                });
            }
        });
        Self { address, secret, shared }
    }

    pub fn is_tls(&self) -> bool {
        self.secret.is_some()
    }

    pub fn url(&self) -> String {
        format!("{}://{}", if self.is_tls() { "tls" } else { "tcp" }, self.address)
    }

    pub fn credentials(&self) -> Option<Credentials> {
        self.secret.as_ref().map(|secret| Credentials::from_json(&secret.as_str().into()).unwrap())
    }

    /// The connections that have carried something and are over, in the order of their ends.
    pub fn ended(&self) -> Vec<Ended> {
        self.shared.ended.lock().unwrap().clone()
    }

    /// Waits until so many connections have been opened.
    pub async fn opened(&self, count: usize) {
        self.shared.opened.subscribe().wait_for(|opened| *opened >= count).await.unwrap();
    }

    /// Waits until only so many connections are not over.
    pub async fn idle(&self, count: usize) {
        self.shared.open.subscribe().wait_for(|open| *open <= count).await.unwrap();
    }

    /// Resets all connections that are not over.
    pub fn reset_all(&self) {
        self.shared.reset.send_replace(());
    }
}

impl Shared {
    async fn serve(&self, socket: TcpStream, tls: Option<TlsAcceptor>) {
        let Some(tls) = tls else {
            return self.receive(socket, |socket| socket, [false, false]).await;
        };
        let Ok(mut stream) = tls.accept(socket).await else { return };
        if matches!(self.how, How::EndTlsAlone) {
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).await.unwrap();
            stream.get_mut().1.send_close_notify();
            stream.flush().await.unwrap();
            if !bytes.is_empty() {
                let ended = Ended { bytes, orderly: true, resumed: false, client_certificate: true };
                self.ended.lock().unwrap().push(ended);
            }
            return sleep(Duration::from_secs(1_000)).await;
        }
        let state = stream.get_ref().1;
        let told = [state.handshake_kind() == Some(HandshakeKind::Resumed), state.peer_certificates().is_some()];
        self.receive(stream, |stream| stream.get_ref().0, told).await;
    }

    async fn receive<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        mut stream: S,
        socket: impl Fn(&S) -> &TcpStream,
        [resumed, client_certificate]: [bool; 2],
    ) {
        let mut bytes = Vec::new();
        let mut reset = self.reset.subscribe();
        if let How::Answer(text) = &self.how {
            stream.write_all(text.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
        }
        if matches!(self.how, How::Stall) {
            return sleep(Duration::from_secs(1_000)).await;
        }
        if matches!(self.how, How::CloseAtOnce(first) if *self.opened.borrow() <= first) {
            return;
        }
        let mut how = self.how.clone();
        let mut buffer = vec![0; 16_000];
        let mut orderly = false;
        loop {
            let read = tokio::select! {
                read = stream.read(&mut buffer) => read,
                _ = reset.changed() => {
                    socket(&stream).set_zero_linger().unwrap();
                    break;
                }
            };
            let Ok(count @ 1..) = read else {
                orderly = read.is_ok();
                break;
            };
            if bytes.is_empty()
                && let How::First(first, then) = how
            {
                let mut carrying = self.carrying.lock().unwrap();
                *carrying += 1;
                how = if *carrying <= first { *then } else { How::Orderly };
            }
            bytes.extend_from_slice(&buffer[..count]);
            match how {
                How::ResetAfter(limit) if bytes.len() >= limit => {
                    socket(&stream).set_zero_linger().unwrap();
                    break;
                }
                How::CloseAfter(limit) if bytes.len() >= limit => break,
                How::EndThenReset(limit) if bytes.len() >= limit => {
                    sleep(Duration::from_millis(300)).await;
                    stream.shutdown().await.unwrap();
                    sleep(Duration::from_millis(300)).await;
                    socket(&stream).set_zero_linger().unwrap();
                    break;
                }
                _ => {}
            }
        }
        let bytes_came = !bytes.is_empty();
        if bytes_came {
            self.ended.lock().unwrap().push(Ended { bytes, orderly, resumed, client_certificate });
        }
        match how {
            How::NeverCloseFull if bytes_came => {
                self.open.send_modify(|count| *count -= 1);
                sleep(Duration::from_secs(1_000)).await;
            }
            How::CloseLate(time) if orderly => {
                sleep(time).await;
                drop(stream.shutdown().await);
            }
            How::NeverClose if orderly => {
                self.open.send_modify(|count| *count -= 1);
                sleep(Duration::from_secs(1_000)).await;
            }
            _ if orderly => drop(stream.shutdown().await),
            _ => {}
        }
    }
}
