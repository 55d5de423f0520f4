//! The checkpoint protocol, against the embedded engine and, with `STORE_TEST_ENDPOINT`, against another one too.

use std::io::Read;

use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_dynamodb::types::{AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType};
use bytes::Bytes;
use mimecast_devo::embedded::{Embedded, TABLE};

use super::lease::{MARKS_PER_ITEM, TRANSACTION_ITEMS};
use super::*;
use crate::ledger::Ledger;
use crate::read::portion::{DeadLetter, Place};
use crate::state::{Position, Windows};

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
}

fn key(source: &str) -> Key {
    Key::new("default", source, None, TimeDelta::days(90))
}

/// A store on each engine there is.
#[allow(clippy::disallowed_methods)]
async fn stores() -> Vec<Store> {
    let mut stores = vec![Store::new(Embedded::memory().unwrap().client(), TABLE)];
    if let Ok(endpoint) = std::env::var("STORE_TEST_ENDPOINT") {
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .http_client(crate::process::aws::http_client())
            .endpoint_url(endpoint)
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new("test", "test", None, None, "test"))
            .build();
        let client = Client::from_conf(config);
        let table = format!("store-{}", uuid::Uuid::new_v4());
        let mut request = client.create_table().table_name(&table).billing_mode(BillingMode::PayPerRequest);
        for (name, kind) in [("pk", KeyType::Hash), ("sk", KeyType::Range)] {
            let string = AttributeDefinition::builder().attribute_name(name).attribute_type(ScalarAttributeType::S);
            let schema = KeySchemaElement::builder().attribute_name(name).key_type(kind);
            request = request.attribute_definitions(string.build().unwrap()).key_schema(schema.build().unwrap());
        }
        request.send().await.unwrap();
        stores.push(Store::new(client, table));
    }
    stores
}

async fn items(store: &Store, pk: &str, prefix: &str) -> Vec<Item> {
    let query = store.client.query().table_name(&store.table).consistent_read(true);
    let query = query.key_condition_expression("pk = :pk AND begins_with(sk, :prefix)");
    let query = query.expression_attribute_values(":pk", text(pk)).expression_attribute_values(":prefix", text(prefix));
    query.into_paginator().items().send().try_collect().await.unwrap()
}

fn state(token: &str) -> State {
    let position = Position { token: Some(token.to_owned()), ..Position::default() };
    State { streams: [("s".to_owned(), position)].into(), ..State::default() }
}

fn marks(stamp: &str, marks: Vec<Mark>) -> Option<Marks> {
    Some(Marks { stamp: stamp.to_owned(), marks })
}

fn letter(raw: impl Into<Bytes>) -> DeadLetter {
    DeadLetter {
        raw: raw.into(),
        reason: "broken".into(),
        table: "t".into(),
        origin: "o".into(),
        place: Place::default(),
    }
}

#[tokio::test]
async fn one_holder_at_a_time() {
    for store in stores().await {
        let first = store.acquire(key("a"), "one", at(0), at(100)).await.unwrap().unwrap();
        assert!(store.acquire(key("a"), "two", at(99), at(200)).await.unwrap().is_none());
        assert!(store.acquire(key("b"), "two", at(99), at(200)).await.unwrap().is_some(), "another source is free");
        let next = store.acquire(key("a"), "two", at(101), at(200)).await.unwrap().unwrap();
        assert!(next.epoch > first.epoch);
    }
}

#[tokio::test]
async fn a_released_lease_is_free_at_once_and_the_state_is_kept() {
    for store in stores().await {
        let mut lease = store.acquire(key("a"), "one", at(0), at(100)).await.unwrap().unwrap();
        assert_eq!(lease.state, State::default());
        let windows = Windows { closed_to: Some(at(5)), ..Windows::default() };
        let moved = State { windows, ..state("t1") };
        lease.commit(Commit { state: Some(&moved), release: true, ..Commit::default() }, at(1)).await.unwrap();
        let next = store.acquire(key("a"), "two", at(2), at(100)).await.unwrap().unwrap();
        assert_eq!(next.state, moved);
    }
}

#[tokio::test]
async fn a_stale_holder_writes_nothing() {
    for store in stores().await {
        let mut stale = store.acquire(key("a"), "one", at(0), at(10)).await.unwrap().unwrap();
        let mut holder = store.acquire(key("a"), "two", at(11), at(100)).await.unwrap().unwrap();
        holder.commit(Commit { state: Some(&state("new")), ..Commit::default() }, at(12)).await.unwrap();
        let old = state("old");
        let plain = Commit { state: Some(&old), release: true, ..Commit::default() };
        let with_items = Commit {
            state: Some(&old),
            marks: marks("s", vec![1]),
            dead: &[letter("x")],
            release: true,
            ..Commit::default()
        };
        for commit in [plain, with_items] {
            let error = stale.commit(commit, at(13)).await.unwrap_err();
            assert!(error.to_string().contains("another invocation"), "{error}");
        }
        assert!(items(&store, "default#a", "seen#").await.is_empty());
        assert!(items(&store, "default#a", "dead#").await.is_empty());
        // Nor has it given back a lease that is not its own.
        assert!(store.acquire(key("a"), "three", at(14), at(100)).await.unwrap().is_none());
        let next = store.acquire(key("a"), "three", at(101), at(200)).await.unwrap().unwrap();
        assert_eq!(next.state, state("new"));
    }
}

/// Attempts of a request that were given up may arrive all the same, even after later requests.
#[tokio::test]
async fn a_request_that_arrives_again_and_late_does_nothing_more() {
    for store in stores().await {
        let acquire = || store.acquire(key("a"), "one", at(0), at(10));
        let mut lease = acquire().await.unwrap().unwrap();
        let again = acquire().await.unwrap().unwrap();
        assert_eq!(again.epoch, lease.epoch, "its own lease, and no other");
        let late = |commits| Lease {
            store: store.clone(),
            key: key("a"),
            epoch: lease.epoch,
            written: 0,
            commits,
            state: state(""),
            ledger: Ledger::default(),
            ledger_written: Ledger::default(),
        };
        let (mut first, mut second) = (late(0), late(1));
        let commit = |token: &str, marked: bool| {
            let marks = if marked { marks("s", vec![1]) } else { None };
            (state(token), marks)
        };
        for (token, marked) in [("t1", false), ("t2", true)] {
            let (state, marks) = commit(token, marked);
            lease.commit(Commit { state: Some(&state), marks, ..Commit::default() }, at(1)).await.unwrap();
        }
        let (old, none) = commit("t1", false);
        first
            .commit(Commit { state: Some(&old), marks: none, release: true, ..Commit::default() }, at(2))
            .await
            .unwrap_err();
        let (same, marks) = commit("t2", true);
        second.commit(Commit { state: Some(&same), marks, ..Commit::default() }, at(2)).await.unwrap();
        assert_eq!(acquire().await.unwrap().unwrap().state, state("t2"), "neither moved back nor given back");
        lease.commit(Commit { release: true, ..Commit::default() }, at(3)).await.unwrap();
        acquire().await.unwrap();
        assert!(store.acquire(key("a"), "two", at(4), at(10)).await.unwrap().is_some(), "nobody's lease came back");
    }
}

#[tokio::test]
async fn marks_come_back_from_a_stamp_on() {
    for store in stores().await {
        let mut lease = store.acquire(key("a"), "one", at(0), at(100)).await.unwrap().unwrap();
        let many: Vec<Mark> = (100..100 + MARKS_PER_ITEM as Mark * 2 + 5).collect();
        for marks in [
            marks("2026-01-01T00:00:00Z", vec![1]),
            marks("2026-01-02T00:00:00Z", vec![2]),
            marks("2026-01-03T00:00:00Z", many.clone()),
        ] {
            lease.commit(Commit { marks, ..Commit::default() }, at(1)).await.unwrap();
        }
        let seen = store.seen(&key("a"), "2026-01-02T00:00:00Z", |_| true).await.unwrap();
        assert!(!seen.contains(1));
        assert!([2].into_iter().chain(many).all(|mark| seen.contains(mark)));
        let expires: Vec<_> =
            items(&store, "default#a", "seen#").await.iter().map(|i| integer(i, "expires_at")).collect();
        assert_eq!(expires, vec![Some((at(1) + TimeDelta::days(90)).timestamp()); 5]);
    }
}

#[tokio::test]
async fn a_dead_letter_is_kept_whole_whatever_its_size() {
    // Bytes that do not compress: more than one item, more than one transaction.
    let large: Vec<u8> = std::iter::repeat_with(|| uuid::Uuid::new_v4().into_bytes()).take(250_000).flatten().collect();
    for store in stores().await {
        let mut lease = store.acquire(key("a"), "one", at(0), at(100)).await.unwrap().unwrap();
        let dead = [letter(&b"\xff\x00 small"[..]), letter(large.clone()), letter("")];
        lease.commit(Commit { state: Some(&state("t")), dead: &dead, ..Commit::default() }, at(1)).await.unwrap();
        let found = items(&store, "default#a", "dead#").await;
        let raw = |item: &Item| item["raw"].as_b().unwrap().as_ref().to_vec();
        let (single, parts): (Vec<_>, Vec<_>) = found.iter().partition(|item| !item.contains_key("part"));
        assert_eq!(single.iter().map(|item| raw(item)).collect::<Vec<_>>(), [b"\xff\x00 small".to_vec(), Vec::new()]);
        assert!(parts.len() > 10 && parts.iter().all(|item| item["encoding"] == text("gzip")));
        let count = parts.len() as i64;
        let numbers = parts.iter().map(|item| (integer(item, "part").unwrap(), integer(item, "parts").unwrap()));
        assert!(numbers.eq((1..=count).map(|part| (part, count))));
        let zipped: Vec<u8> = parts.iter().flat_map(|item| raw(item)).collect();
        let mut whole = Vec::new();
        flate2::read::MultiGzDecoder::new(&*zipped).read_to_end(&mut whole).unwrap();
        assert!(whole == large);
        assert!(found.iter().all(|item| item["reason"] == text("broken") && item["origin"] == text("o")));
    }
}

#[tokio::test]
async fn a_newer_or_unreadable_checkpoint_is_left_alone() {
    for store in stores().await {
        for (source, attribute, value) in
            [("newer", "version", number(VERSION + 1)), ("unreadable", "state", text("{not json"))]
        {
            let item = [("pk", text(&format!("default#{source}"))), ("sk", text("checkpoint")), (attribute, value)];
            let item: Item = item.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            store.client.put_item().table_name(&store.table).set_item(Some(item.clone())).send().await.unwrap();
            let error = store.acquire(key(source), "one", at(0), at(10)).await.unwrap_err();
            assert!(error.to_string().contains("default#"), "{error}");
            let left = &items(&store, &format!("default#{source}"), "checkpoint").await[0];
            assert_eq!(left[attribute], item[attribute]);
            // Nor does it keep the lease from a version that can read it.
            assert!(integer(left, "lease_until").unwrap_or_default() == 0);
        }
    }
}

#[tokio::test]
async fn a_backfill_has_a_checkpoint_of_its_own() {
    let backfill = |to| Backfill { from: at(0), to: at(to), id: "x".into() };
    let key_of = |backfill: &Backfill| Key::new("default", "a", Some(backfill), TimeDelta::days(90));
    for store in stores().await {
        let mut live = store.acquire(key("a"), "one", at(0), at(100)).await.unwrap().unwrap();
        live.commit(Commit { marks: marks("s", vec![7]), ..Commit::default() }, at(1)).await.unwrap();
        let other = store.acquire(key_of(&backfill(5)), "two", at(1), at(100)).await.unwrap().unwrap();
        assert!(!store.seen(&other.key, "", |_| true).await.unwrap().contains(7));
        assert!(store.acquire(key_of(&backfill(5)), "three", at(1), at(100)).await.unwrap().is_none());
        assert!(store.acquire(key_of(&backfill(6)), "three", at(1), at(100)).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn no_mark_is_written_before_the_dead_letter_it_stands_for() {
    // More than one transaction, of which a later one is refused: an item of more than 400 KB.
    let mut dead: Vec<DeadLetter> = (0..TRANSACTION_ITEMS).map(|n| letter(format!("bad {n}"))).collect();
    dead.push(DeadLetter { table: "x".repeat(500_000), ..letter("bad") });
    for store in stores().await {
        let mut lease = store.acquire(key("a"), "one", at(0), at(100)).await.unwrap().unwrap();
        let commit = Commit { marks: marks("s", vec![1, 2]), dead: &dead, ..Commit::default() };
        lease.commit(commit, at(1)).await.unwrap_err();
        assert!(!store.seen(&lease.key, "", |_| true).await.unwrap().contains(1), "its row would never be read again");
        assert_eq!(items(&store, "default#a", "dead#").await.len(), TRANSACTION_ITEMS);
    }
}

#[tokio::test]
async fn a_backfill_s_dead_letter_takes_no_other_s_place() {
    let backfill = |id: &str| Backfill { from: at(0), to: at(5), id: id.into() };
    let keys = [
        key("a"),
        Key::new("default", "a", Some(&backfill("x")), TimeDelta::days(90)),
        Key::new("default", "a", Some(&backfill("y")), TimeDelta::days(90)),
    ];
    for store in stores().await {
        // Each first run of its checkpoint, at the same millisecond.
        for key in &keys {
            let mut lease = store.acquire(key.clone(), "one", at(0), at(100)).await.unwrap().unwrap();
            let dead = [letter(key.sk.clone())];
            lease.commit(Commit { dead: &dead, ..Commit::default() }, at(1)).await.unwrap();
        }
        let letters = store.letters("default", "a").await.unwrap();
        let found: std::collections::BTreeSet<&str> = letters.iter().map(|letter| &*letter.checkpoint).collect();
        assert_eq!(found, keys.iter().map(|key| &*key.sk).collect());
        for letter in &letters {
            let raw = store.letter("default", "a", letter).await.unwrap().unwrap();
            assert_eq!(raw, letter.checkpoint);
        }
    }
}

// B14
#[tokio::test]
async fn a_dead_letter_with_long_texts_is_kept_too() {
    for store in stores().await {
        let mut lease = store.acquire(key("a"), "one", at(0), at(60)).await.unwrap().unwrap();
        let header: Bytes = (0..500_000).map(|n| char::from(b'a' + (n % 26) as u8)).collect::<String>().into();
        let long = "ü".repeat(300_000);
        for raw in [
            Bytes::from_static(b"1|2"),
            vec![b'x'; 350_000].into(),
            (0..125_000).flat_map(|_| uuid::Uuid::new_v4().into_bytes()).collect(),
        ] {
            let place = Place { header: Some(header.clone()), file: Some(long.clone()), ..Place::default() };
            let dead = [DeadLetter { reason: long.clone(), origin: long.clone(), place, ..letter(raw.clone()) }];
            lease.commit(Commit { dead: &dead, ..Commit::default() }, at(1)).await.unwrap();
            let letters = store.letters("default", "a").await.unwrap();
            let found = store.raw("default", "a", letters.last().unwrap()).await.unwrap().unwrap();
            assert!(found == (raw, Some(header.clone())));
        }
    }
}

#[tokio::test]
async fn letters_are_read_back_whole_and_go_with_a_commit() {
    let large: Vec<u8> = std::iter::repeat_with(|| uuid::Uuid::new_v4().into_bytes()).take(250_000).flatten().collect();
    for store in stores().await {
        let mut lease = store.acquire(key("a"), "one", at(0), at(100)).await.unwrap().unwrap();
        let row = DeadLetter { place: Place { header: Some("a|b".into()), ..Place::default() }, ..letter("1|2|3") };
        let dead = [letter(large.clone()), row, letter("")];
        lease.commit(Commit { dead: &dead, ..Commit::default() }, at(1)).await.unwrap();
        let letters = store.letters("default", "a").await.unwrap();
        assert_eq!(letters.len(), 3);
        for (letter, dead) in letters.iter().zip(&dead) {
            let (raw, header) = store.raw("default", "a", letter).await.unwrap().unwrap();
            assert!(letter.whole && !letter.is_rest() && raw == dead.raw && header == dead.place.header);
            assert_eq!((letter.at, &*letter.reason, &*letter.origin), (at(1), "broken", "o"));
        }
        // A write that broke off has its first part and not its last; a deletion that did, the other way round.
        let [first, .., last] = &letters[0].parts[..] else { panic!("one part") };
        let delete = async |sk: &str| {
            let delete = store.client.delete_item().table_name(&store.table).key("pk", text("default#a"));
            delete.key("sk", text(sk)).send().await.unwrap();
        };
        delete(&last.sk).await;
        let begun = &store.letters("default", "a").await.unwrap()[0];
        assert!(!begun.whole && !begun.is_rest() && begun.id == letters[0].id);
        delete(&first.sk).await;
        let rest = &store.letters("default", "a").await.unwrap()[0];
        assert!(!rest.whole && rest.is_rest() && rest.id == letters[0].id);
        // Who has lost the lease deletes nothing.
        let mut next = store.acquire(key("a"), "two", at(101), at(200)).await.unwrap().unwrap();
        let all = || vec![rest, &letters[1], &letters[2]];
        lease.commit(Commit { replayed: all(), ..Commit::default() }, at(102)).await.unwrap_err();
        assert_eq!(store.letters("default", "a").await.unwrap().len(), 3);
        next.commit(Commit { replayed: all(), ..Commit::default() }, at(102)).await.unwrap();
        assert!(items(&store, "default#a", "dead#").await.is_empty());
        assert_eq!(store.raw("default", "a", &letters[1]).await.unwrap(), None);
    }
}
