//! What a call has returned survives `kill -9`, a transaction is there whole or not at all, and the file opens again.
//!
//! The test starts itself again as the writer, kills it at random instants and reads what it left.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue::{B, N, S};
use aws_sdk_dynamodb::types::{AttributeValue, Put, TransactWriteItem};
use mimecast_devo::embedded::{Embedded, TABLE};

/// Names the file to the writer.
const FILE: &str = "KILL_TEST_FILE";
const ROUNDS: usize = 30;

type Item = HashMap<String, AttributeValue>;

#[tokio::test]
async fn survives_kill() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("checkpoint.db");
    let mut acknowledged = 0;
    let mut written = 0;

    for round in 0..ROUNDS {
        let mut writer = start_writer(&path);
        let output = BufReader::new(writer.stdout.take().unwrap());
        // One round in three dies while it opens (the first: creates) the file, the others between or inside writes.
        let lines = if round % 3 == 0 { 0 } else { fastrand::usize(1..50) };
        let mut numbers = output.split(b'\n').map_while(|line| number(&line.unwrap())).fuse();
        acknowledged = numbers.by_ref().take(lines).last().unwrap_or(acknowledged);
        sleep(Duration::from_micros(fastrand::u64(0..20_000)));
        writer.kill().unwrap();
        writer.wait().unwrap();
        acknowledged = numbers.last().unwrap_or(acknowledged);

        let engine = Embedded::open(&path).unwrap();
        let found = check(&engine.client()).await;
        assert!(found >= acknowledged, "round {round}: {acknowledged} was acknowledged, {found} is there");
        assert!(found >= written, "round {round}: {written} was there before, {found} is now");
        written = found;
    }
    assert!(written > ROUNDS, "the writer hardly wrote");
}

/// The number of the last transaction, once all of them are found complete.
async fn check(client: &Client) -> usize {
    let left = pair_item(client, "left").await;
    assert_eq!(left, pair_item(client, "right").await, "half a transaction");
    let last = left.map_or(0, |item| item["n"].as_n().unwrap().parse().unwrap());
    let query = client
        .query()
        .table_name(TABLE)
        .key_condition_expression("pk = :pk")
        .expression_attribute_values(":pk", S("log".to_owned()));
    let mut items = query.into_paginator().items().send();
    let mut count = 0;
    while let Some(item) = items.try_next().await.unwrap() {
        count += 1;
        assert_eq!(item["sk"], S(log_key(count)));
    }
    assert_eq!(count, last, "half a transaction");
    last
}

/// One of the two large items that every transaction rewrites, without its key.
async fn pair_item(client: &Client, name: &str) -> Option<Item> {
    let get = client.get_item().table_name(TABLE).key("pk", S("pair".to_owned())).key("sk", S(name.to_owned()));
    let mut item = get.send().await.unwrap().item?;
    item.remove("sk");
    Some(item)
}

fn log_key(number: usize) -> String {
    format!("{number:08}")
}

/// A whole line of the writer's; what the test harness prints around them is empty or no number.
fn number(line: &[u8]) -> Option<usize> {
    let line = String::from_utf8(line.to_vec()).unwrap();
    line.strip_prefix("wrote ")?.strip_suffix('.')?.parse().ok()
}

fn start_writer(path: &Path) -> Child {
    let mut writer = Command::new(std::env::current_exe().unwrap())
        .args(["writer", "--exact", "--nocapture", "--quiet"])
        .env(FILE, path)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The harness's own first lines: an empty one, then "running 1 test".
    let output = writer.stdout.as_mut().unwrap();
    let mut byte = [0];
    let mut seen = Vec::new();
    while !seen.ends_with(b"running 1 test\n") && output.read(&mut byte).unwrap() == 1 {
        seen.push(byte[0]);
    }
    writer
}

/// Not a test by itself: the process that gets killed. Its pairs are large, so that a kill also meets a log being
/// moved into the database.
#[tokio::test]
async fn writer() {
    let Some(path) = std::env::var_os(FILE) else { return };
    let engine = Embedded::open(Path::new(&path)).unwrap_or_else(|error| panic!("{error}"));
    let client = engine.client();
    let put = |pk: &str, sk: &str, number: usize, payload: usize| {
        let put = Put::builder()
            .table_name(TABLE)
            .item("pk", S(pk.to_owned()))
            .item("sk", S(sk.to_owned()))
            .item("n", N(number.to_string()))
            .item("payload", B(Blob::new(vec![number as u8; payload])));
        TransactWriteItem::builder().put(put.build().unwrap()).build()
    };
    for number in check(&client).await + 1.. {
        client
            .transact_write_items()
            .transact_items(put("pair", "left", number, 30_000))
            .transact_items(put("log", &log_key(number), number, 10))
            .transact_items(put("pair", "right", number, 30_000))
            .send()
            .await
            .unwrap();
        let mut output = std::io::stdout().lock();
        output.write_all(format!("wrote {number}.\n").as_bytes()).unwrap();
        output.flush().unwrap();
    }
}

#[test]
fn a_second_process_is_told_that_the_file_is_in_use() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("checkpoint.db");
    let _engine = Embedded::open(&path).unwrap();
    let second = start_writer(&path).wait_with_output().unwrap();
    assert!(!second.status.success());
    let message = format!("state file {} is in use by process {}", path.display(), std::process::id());
    let output = [second.stdout, second.stderr].concat();
    assert!(String::from_utf8_lossy(&output).contains(&message), "{}", String::from_utf8_lossy(&output));
}
