//! The DynamoDB semantics that the store relies on, as the embedded engine has them.
//!
//! With `STORE_TEST_ENDPOINT` (`http://127.0.0.1:5501`) the same cases also run against that endpoint, each in a table
//! of its own.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{BehaviorVersion, Config, Credentials, Region};
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue::{self, B, N, S};
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, Put, ReturnValue, ReturnValuesOnConditionCheckFailure,
    ScalarAttributeType, TransactWriteItem, Update,
};
use mimecast_devo::embedded::{Embedded, TABLE};

type Item = HashMap<String, AttributeValue>;

/// One table to try a case on.
struct Store {
    client: Client,
    table: String,
}

/// The embedded engine, and the endpoint of `STORE_TEST_ENDPOINT` where that is set.
async fn stores() -> Vec<Store> {
    let mut stores = vec![Store { client: Embedded::memory().unwrap().client(), table: TABLE.to_owned() }];
    if let Some(endpoint) = std::env::var_os("STORE_TEST_ENDPOINT") {
        stores.push(Store::at(endpoint.to_str().unwrap()).await);
    }
    stores
}

impl Store {
    async fn at(endpoint: &str) -> Store {
        let config = Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .region(Region::from_static("eu-west-1"))
            .credentials_provider(Credentials::new("test", "test", None, None, "test"))
            .endpoint_url(endpoint)
            .build();
        let client = Client::from_conf(config);
        let table = format!("store-test-{:016x}", fastrand::u64(..));
        let mut create = client.create_table().table_name(&table).billing_mode(BillingMode::PayPerRequest);
        for (name, kind) in [("pk", KeyType::Hash), ("sk", KeyType::Range)] {
            let key = KeySchemaElement::builder().attribute_name(name).key_type(kind).build().unwrap();
            let attribute = AttributeDefinition::builder().attribute_name(name).attribute_type(ScalarAttributeType::S);
            create = create.key_schema(key).attribute_definitions(attribute.build().unwrap());
        }
        create.send().await.unwrap();
        Store { client, table }
    }

    fn update(&self) -> UpdateItemFluentBuilder {
        self.client.update_item().table_name(&self.table).key("pk", s("p")).key("sk", s("checkpoint"))
    }

    /// Takes the lease as the store does.
    async fn lease(&self, owner: &str, now: u64, until: u64) -> Result<Item, SdkError<UpdateItemError>> {
        let update = self
            .update()
            .condition_expression("attribute_not_exists(lease_until) OR lease_until < :now OR #owner = :me")
            .update_expression("SET #owner = :me, lease_until = :until ADD epoch :one")
            .expression_attribute_names("#owner", "owner")
            .expression_attribute_values(":me", s(owner))
            .expression_attribute_values(":now", n(now))
            .expression_attribute_values(":until", n(until))
            .expression_attribute_values(":one", n(1))
            .return_values(ReturnValue::AllNew);
        Ok(update.send().await?.attributes.unwrap())
    }

    /// Moves the cursor if `epoch` is still the lease's.
    fn advance(&self, epoch: u64, cursor: &str) -> TransactWriteItem {
        let update = Update::builder()
            .table_name(&self.table)
            .key("pk", s("p"))
            .key("sk", s("checkpoint"))
            .condition_expression("epoch = :epoch")
            .update_expression("SET cursor_at = :cursor ADD commits :one")
            .expression_attribute_values(":epoch", n(epoch))
            .expression_attribute_values(":cursor", s(cursor))
            .expression_attribute_values(":one", n(1))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        TransactWriteItem::builder().update(update.build().unwrap()).build()
    }

    fn put_in_transaction(&self, sk: &str, bytes: &[u8]) -> TransactWriteItem {
        let put = Put::builder().table_name(&self.table).set_item(Some(binary(sk, bytes)));
        TransactWriteItem::builder().put(put.build().unwrap()).build()
    }

    async fn put(&self, item: Item) {
        self.client.put_item().table_name(&self.table).set_item(Some(item)).send().await.unwrap();
    }

    async fn get(&self, sk: &str) -> Option<Item> {
        let get = self.client.get_item().table_name(&self.table).key("pk", s("p")).key("sk", s(sk));
        get.consistent_read(true).send().await.unwrap().item
    }
}

fn s(value: &str) -> AttributeValue {
    S(value.to_owned())
}

fn n(value: u64) -> AttributeValue {
    N(value.to_string())
}

fn binary(sk: &str, bytes: &[u8]) -> Item {
    let item = [("pk", s("p")), ("sk", s(sk)), ("raw", B(Blob::new(bytes)))];
    item.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Bytes of every value, and no two calls' the same.
fn noise(length: usize) -> Vec<u8> {
    (0..length).map(|_| fastrand::u8(..)).collect()
}

#[tokio::test]
async fn a_lease_is_taken_when_free_over_or_mine_and_each_time_raises_the_epoch() {
    for store in stores().await {
        let taken = store.lease("a", 100, 200).await.unwrap();
        let fields: [(&str, AttributeValue); 5] =
            [("pk", s("p")), ("sk", s("checkpoint")), ("owner", s("a")), ("lease_until", n(200)), ("epoch", n(1))];
        assert_eq!(taken, fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect());

        let refused = store.lease("b", 199, 300).await.unwrap_err();
        assert!(refused.into_service_error().is_conditional_check_failed_exception());
        assert!(store.lease("b", 200, 300).await.is_err(), "the last second still belongs to the holder");
        assert_eq!(store.get("checkpoint").await.unwrap(), taken, "a refused lease changes nothing");

        assert_eq!(store.lease("a", 150, 250).await.unwrap()["epoch"], n(2), "mine");
        let over = store.lease("b", 251, 350).await.unwrap();
        assert_eq!((&over["epoch"], &over["owner"]), (&n(3), &s("b")));
    }
}

#[tokio::test]
async fn only_one_of_many_takes_the_lease() {
    for store in stores().await {
        let store = std::sync::Arc::new(store);
        let runs: Vec<_> = (0..20)
            .map(|run| {
                let store = store.clone();
                tokio::spawn(async move { store.lease(&format!("run {run}"), 100, 200).await.is_ok() })
            })
            .collect();
        let mut taken = 0;
        for run in runs {
            taken += usize::from(run.await.unwrap());
        }
        assert_eq!(taken, 1);
        assert_eq!(store.get("checkpoint").await.unwrap()["epoch"], n(1));
    }
}

#[tokio::test]
async fn a_stale_epoch_moves_nothing() {
    for store in stores().await {
        store.lease("a", 100, 200).await.unwrap();
        let held = store.lease("b", 300, 400).await.unwrap();

        let stale = store
            .update()
            .condition_expression("epoch = :epoch")
            .update_expression("SET lease_until = :zero")
            .expression_attribute_values(":epoch", n(1))
            .expression_attribute_values(":zero", n(0))
            .send()
            .await
            .unwrap_err();
        assert!(stale.into_service_error().is_conditional_check_failed_exception());

        let seen = store.put_in_transaction("seen#1", b"hash");
        let transaction = store.client.transact_write_items();
        let stale = transaction.transact_items(seen.clone()).transact_items(store.advance(1, "x")).send().await;
        let TransactWriteItemsError::TransactionCanceledException(cancelled) = stale.unwrap_err().into_service_error()
        else {
            panic!("not a cancelled transaction")
        };
        let reasons = cancelled.cancellation_reasons();
        let codes: Vec<_> = reasons.iter().map(|reason| reason.code()).collect();
        assert_eq!(codes, [Some("None"), Some("ConditionalCheckFailed")]);
        assert_eq!(reasons[1].item(), Some(&held), "ALL_OLD shows who holds the lease");

        assert_eq!(store.get("checkpoint").await.unwrap(), held);
        assert_eq!(store.get("seen#1").await, None);

        let transaction = store.client.transact_write_items();
        transaction.transact_items(seen).transact_items(store.advance(2, "x")).send().await.unwrap();
        assert_eq!(store.get("checkpoint").await.unwrap()["cursor_at"], s("x"));
        assert_eq!(store.get("seen#1").await, Some(binary("seen#1", b"hash")));
    }
}

#[tokio::test]
async fn a_transaction_with_the_same_token_happens_once() {
    for store in stores().await {
        store.lease("a", 100, 200).await.unwrap();
        // An account's tokens are one name space, over all its tables and for ten minutes.
        let token = format!("{:032x}", fastrand::u128(..));
        let send = |cursor| {
            let transaction = store.client.transact_write_items().client_request_token(&token);
            transaction.transact_items(store.advance(1, cursor)).send()
        };
        send("x").await.unwrap();
        send("x").await.unwrap();
        assert_eq!(store.get("checkpoint").await.unwrap()["commits"], n(1));

        let other = send("y").await.unwrap_err().into_service_error();
        assert!(other.is_idempotent_parameter_mismatch_exception(), "{other:?}");
        assert_eq!(store.get("checkpoint").await.unwrap()["cursor_at"], s("x"));
    }
}

#[tokio::test]
async fn a_query_between_two_sort_keys_pages_through_megabytes_in_order() {
    for store in stores().await {
        let mut expected = Vec::new();
        for number in (0..12).rev() {
            let item = binary(&format!("seen#{number:02}"), &noise(160_000));
            store.put(item.clone()).await;
            expected.insert(0, item);
        }
        for outside in ["checkpoint", "dead#2026-01-01T00:00:00Z#0", "seen", "seen$"] {
            store.put(binary(outside, b"outside")).await;
        }
        let query = |from: &str, to: &str| {
            store
                .client
                .query()
                .table_name(&store.table)
                .consistent_read(true)
                .key_condition_expression("pk = :pk AND sk BETWEEN :from AND :to")
                .expression_attribute_values(":pk", s("p"))
                .expression_attribute_values(":from", s(from))
                .expression_attribute_values(":to", s(to))
        };

        let mut pages = query("seen#", "seen#~").into_paginator().send();
        let mut found = Vec::new();
        let mut count = 0;
        while let Some(page) = pages.try_next().await.unwrap() {
            found.extend(page.items.unwrap());
            count += 1;
        }
        assert_eq!(found, expected);
        assert!(count > 1, "1.9 MB in one page");

        let borders = query("seen#03", "seen#05").send().await.unwrap().items.unwrap();
        assert_eq!(borders, expected[3..=5]);
        let elsewhere = query("seen#", "seen#~").expression_attribute_values(":pk", s("q")).send().await.unwrap();
        assert_eq!(elsewhere.count, 0);
    }
}

#[tokio::test]
async fn binary_of_300_kilobytes_comes_back_unchanged_and_more_than_400_is_refused() {
    for store in stores().await {
        let item = binary("large", &noise(300_000));
        store.put(item.clone()).await;
        assert_eq!(store.get("large").await, Some(item));

        // Names and values count: 400 KB are 409,600 bytes with `pk`, `p`, `sk`, `limit` and `raw` in them.
        store.put(binary("limit", &noise(409_600 - 13))).await;
        let above = binary("limit", &noise(409_600 - 12));
        let refused = store.client.put_item().table_name(&store.table).set_item(Some(above.clone())).send().await;
        assert_eq!(refused.unwrap_err().code(), Some("ValidationException"));
        let put = Put::builder().table_name(&store.table).set_item(Some(above)).build().unwrap();
        let put = TransactWriteItem::builder().put(put).build();
        let refused = store.client.transact_write_items().transact_items(put).send().await.unwrap_err();
        let code = refused.code().unwrap();
        assert!(["ValidationException", "TransactionCanceledException"].contains(&code), "{code}");
    }
}

#[tokio::test]
async fn a_deleted_item_is_gone_and_deleting_it_again_is_no_error() {
    for store in stores().await {
        store.put(binary("dead", b"x")).await;
        store.put(binary("kept", b"x")).await;
        for _ in 0..2 {
            let delete = store.client.delete_item().table_name(&store.table).key("pk", s("p")).key("sk", s("dead"));
            delete.send().await.unwrap();
        }
        assert_eq!(store.get("dead").await, None);
        assert_eq!(store.get("kept").await, Some(binary("kept", b"x")));

        let delete = store.client.delete_item().table_name(&store.table).key("pk", s("p")).key("sk", s("kept"));
        let refused = delete.condition_expression("attribute_not_exists(pk)").send().await.unwrap_err();
        assert!(refused.into_service_error().is_conditional_check_failed_exception());
        assert_eq!(store.get("kept").await, Some(binary("kept", b"x")));
    }
}
