//! The functions over other ways into Devo than HTTP; the ways themselves are tested in `shared/devo`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use simulator::data;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use crate::world::{Api, World, assert_same, now};

/// A syslog receiver: reads each connection to its end and only then closes it, or never.
pub struct Receiver {
    port: u16,
    received: Arc<Mutex<Vec<Connection>>>,
}

/// What one of them has brought so far.
type Connection = Arc<Mutex<Vec<u8>>>;

impl Receiver {
    pub async fn start() -> Receiver {
        Receiver::listen(true).await
    }

    pub async fn never_closing() -> Receiver {
        Receiver::listen(false).await
    }

    async fn listen(closes: bool) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let received = Arc::new(Mutex::new(Vec::new()));
        let all = received.clone();
        tokio::spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                let brought = Connection::default();
                all.lock().unwrap().push(brought.clone());
                tokio::spawn(async move {
                    let mut buffer = vec![0; 64_000];
                    while let Ok(count @ 1..) = connection.read(&mut buffer).await {
                        brought.lock().unwrap().extend_from_slice(&buffer[..count]);
                    }
                    if !closes {
                        std::future::pending::<()>().await;
                    }
                });
            }
        });
        Receiver { port, received }
    }

    pub fn url(&self) -> String {
        format!("tcp://127.0.0.1:{}", self.port)
    }

    /// `<14>2026-01-31T12:00:00.123Z host table: {event}`
    pub fn lines(&self) -> BTreeMap<String, Vec<String>> {
        let mut tables: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let received: Vec<u8> =
            self.received.lock().unwrap().iter().flat_map(|one| one.lock().unwrap().clone()).collect();
        for line in String::from_utf8(received).unwrap().split_terminator('\n') {
            let mut words = line.splitn(4, ' ');
            let (date, host) = (words.next().unwrap(), words.next().unwrap());
            chrono::DateTime::parse_from_rfc3339(date.strip_prefix("<14>").unwrap()).unwrap();
            assert_eq!(host, "mimecast-collector");
            let table = words.next().unwrap().strip_suffix(':').unwrap();
            tables.entry(table.to_owned()).or_default().push(words.next().unwrap().to_owned());
        }
        tables
    }
}

#[tokio::test]
async fn a_relay_gets_every_line_and_two_destinations_get_them_all() {
    let (one, other) = (Receiver::start().await, Receiver::start().await);
    let mut world = World::new(Api::V2).await;
    let mut expected = data::lively(&world.mimecast, 1, now(), 1);
    world.unset("DEVO_SECRET_ID").set("DEVO_URL", &format!("{},{}", one.url(), other.url()));
    for source in ["siem", "url"] {
        assert_eq!(world.run(source).await["status"], "caught_up");
    }
    expected.retain(|table, _| table.contains(".siem.") || table.contains(".ttp.url"));
    assert_same(&one.lines(), &expected);
    assert_same(&other.lines(), &expected);
}
