//! The functions over other ways into Devo than HTTP; the ways themselves are tested in `shared/devo`.

use std::collections::BTreeMap;

use simulator::data;

use crate::receiver::{How, Receiver};
use crate::world::{Api, World, assert_same, now};

/// What a receiver has got, once no function is left: `<14>2026-01-31T12:00:00.123Z host table: {event}`
pub async fn lines(world: &mut World, receiver: &Receiver) -> BTreeMap<String, Vec<String>> {
    world.stop_all();
    receiver.idle(0).await;
    let mut tables: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let received: Vec<u8> = receiver.ended().into_iter().flat_map(|one| one.bytes).collect();
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

#[tokio::test]
async fn a_relay_gets_every_line_and_two_destinations_get_them_all() {
    let (one, other) = (Receiver::tcp(How::Orderly).await, Receiver::tcp(How::Orderly).await);
    let mut world = World::new(Api::V2).await;
    let mut expected = data::lively(&world.mimecast, 1, now(), 1);
    world.unset("DEVO_SECRET_ID").set("DEVO_URL", &format!("{},{}", one.url(), other.url()));
    for source in ["siem", "url"] {
        assert_eq!(world.run(source).await["status"], "caught_up");
    }
    expected.retain(|table, _| table.contains(".siem.") || table.contains(".ttp.url"));
    assert_same(&lines(&mut world, &one).await, &expected);
    assert_same(&lines(&mut world, &other).await, &expected);
}
