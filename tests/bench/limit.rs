//! What the bytes of an event cost at least: each part as fast as a library of the product does it, in one go.

use std::fs;
use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;
use flate2::{Compression, write::GzEncoder};
use memchr::memchr_iter;
use mimecast::json::{Layout, plain_like};
use rcgen::{CertificateParams, KeyPair};
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use xxhash_rust::xxh3::xxh3_128;

/// How events go out.
#[derive(Clone, Copy)]
pub enum Way {
    Tls,
    Gzip,
}

/// Bytes that are encrypted at once.
const RECORDS: usize = 64 << 10;

/// More than a file holds.
const LARGEST: usize = 16 << 20;

/// What is counted: nobody can do with less.
#[derive(Clone, Copy, PartialEq)]
pub enum Bound {
    /// The bytes, from memory to memory.
    Limit,
    /// Besides, what no collector can leave out: to tell that each event is JSON and of which type, and to write to a socket.
    Floor,
}

/// Microseconds of CPU an event, of these gzip files of one event a line.
pub fn least(files: Vec<Bytes>, way: Way, bound: Bound) -> f64 {
    // A thread of its own, as the time is the thread's.
    std::thread::spawn(move || {
        let (mut tls, mut socket, mut layout) = (Pair::new(), socket(), Layout::new(["type"]));
        let mut send = |bytes: &[u8]| {
            black_box(bytes);
            if bound == Bound::Floor {
                socket.write_all(bytes).unwrap();
            }
        };
        let (mut buffer, mut events, before) = (vec![0; LARGEST], 0_u32, cpu_nanos());
        for file in files {
            let length = inflate(&file, &mut buffer);
            let (text, mut start) = (&buffer[..length], 0);
            for end in memchr_iter(b'\n', text) {
                let line = &text[start..end];
                if bound == Bound::Floor {
                    assert!(plain_like(line, &mut layout).is_some());
                }
                black_box((xxh3_128(line), str::from_utf8(line).unwrap()));
                start = end + 1;
                events += 1;
            }
            match way {
                Way::Tls => text.chunks(RECORDS).for_each(|chunk| send(tls.encrypt(chunk))),
                Way::Gzip => {
                    let mut packer = GzEncoder::new(Vec::with_capacity(text.len() / 2), Compression::fast());
                    packer.write_all(text).unwrap();
                    send(&packer.finish().unwrap());
                }
            }
        }
        (cpu_nanos() - before) as f64 / 1e3 / f64::from(events)
    })
    .join()
    .unwrap()
}

/// To a thread that reads and forgets.
fn socket() -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let mut accepted = listener.accept().unwrap().0;
    std::thread::spawn(move || {
        let mut buffer = vec![0; 4 * RECORDS];
        while accepted.read(&mut buffer).unwrap() > 0 {}
    });
    socket
}

fn inflate(file: &[u8], buffer: &mut [u8]) -> usize {
    let (mut decoder, mut length) = (MultiGzDecoder::new(file), 0);
    loop {
        match decoder.read(&mut buffer[length..]).unwrap() {
            0 => return length,
            count => length += count,
        }
    }
}

/// How long this thread has been on a CPU.
fn cpu_nanos() -> u64 {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split(' ').next().unwrap().parse().unwrap()
}

/// A client and a server after their handshake.
struct Pair {
    client: ClientConnection,
    out: Vec<u8>,
}

impl Pair {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        let der = CertificateDer::from_pem_slice(certificate.pem().as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(der.clone()).unwrap();
        let provider = Arc::new(default_provider());
        let client = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
        let client = client.unwrap().with_root_certificates(roots).with_no_client_auth();
        let server = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let server = server.unwrap().with_no_client_auth().with_single_cert(vec![der], key).unwrap();
        let mut client = ClientConnection::new(Arc::new(client), "localhost".try_into().unwrap()).unwrap();
        let mut server = ServerConnection::new(Arc::new(server)).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            let mut sent = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut sent).unwrap();
            }
            server.read_tls(&mut &sent[..]).unwrap();
            server.process_new_packets().unwrap();
            let mut answer = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut answer).unwrap();
            }
            let mut answer = &answer[..];
            while !answer.is_empty() {
                client.read_tls(&mut answer).unwrap();
                client.process_new_packets().unwrap();
            }
        }
        client.set_buffer_limit(None);
        Self { client, out: Vec::new() }
    }

    fn encrypt(&mut self, text: &[u8]) -> &[u8] {
        self.client.writer().write_all(text).unwrap();
        self.out.clear();
        while self.client.wants_write() {
            self.client.write_tls(&mut self.out).unwrap();
        }
        &self.out
    }
}
