//! `verify`: what Devo has against what was delivered.

use serde_json::{Value, json};
use simulator::Devo;

use crate::world::{URL, World, ago, row};

impl World {
    /// A host that has delivered seven events and may ask Devo.
    async fn delivered() -> World {
        let mut world = World::new().await;
        for n in 0..7 {
            world.mimecast.push("url", ago(30), row(n, ago(30)).as_str());
        }
        assert!(world.run(&["collect", "--once"]).await.status.success());
        let settings = [
            ("DEVO_QUERY_SECRET_ID", "env:QUERY".to_owned()),
            ("QUERY", json!({"token": world.devo.query_token()}).to_string()),
            ("DEVO_QUERY_URL", world.devo.url()),
        ];
        world.settings.extend(settings.map(|(name, value)| (name.to_owned(), value)));
        world
    }

    async fn verify(&self, words: &[&str]) -> (i32, Vec<Value>) {
        let output = self.run(&[&["verify", "--json"], words].concat()).await;
        let text = String::from_utf8(output.stdout).unwrap();
        let tables = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (output.status.code().unwrap(), tables)
    }
}

fn counts(table: &Value) -> [u64; 5] {
    ["delivered", "found", "missing", "surplus", "not_yet_visible"].map(|name| table[name].as_u64().unwrap())
}

#[tokio::test]
async fn what_has_arrived_is_proven_and_what_has_not_is_told() {
    let world = World::delivered().await;
    let (code, tables) = world.verify(&[]).await;
    assert_eq!((code, tables.len(), counts(&tables[0])), (0, 1, [7, 7, 0, 0, 0]), "{tables:?}");
    assert_eq!(tables[0]["table"], URL);
    assert_eq!(tables[0]["columns"], json!(["eventdate", "date", "n", "rawMessage"]));
    let output = world.run(&["verify"]).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("\u{2713}  mail.mimecast.ttp.url"), "{text}");

    // Dates and numbers in another form.
    world.devo.answer_queries_in_text();
    assert_eq!(counts(&world.verify(&[]).await.1[0]), [7, 7, 0, 0, 0]);

    // Not visible: young, and then for good.
    world.devo.hide(URL, 3);
    let (code, tables) = world.verify(&[]).await;
    assert_eq!((code, counts(&tables[0])), (0, [7, 4, 0, 0, 3]));
}

#[tokio::test]
async fn what_is_there_besides_is_surplus() {
    let world = World::delivered().await;
    // Somebody else sends there too.
    let http = reqwest::Client::new();
    let secret: Value = serde_json::from_str(&world.devo.secret()).unwrap();
    let (domain, token) = (secret["domain"].as_str().unwrap(), secret["token"].as_str().unwrap());
    let url = format!("{}/stream/{domain}/token!{token}/other/{URL}", world.devo.url());
    assert!(http.post(url).body("{}\n{}\n").send().await.unwrap().status().is_success());
    let (code, tables) = world.verify(&[]).await;
    assert_eq!((code, counts(&tables[0])), (0, [7, 9, 0, 2, 0]));
}

#[tokio::test]
async fn a_table_that_cannot_be_read_is_not_taken_for_well() {
    let world = World::delivered().await;
    world.devo.forbid(URL);
    let (code, tables) = world.verify(&[]).await;
    assert_eq!((code, counts(&tables[0])), (1, [7, 0, 7, 0, 0]));
    assert!(tables[0]["note"].as_str().unwrap().contains("may not read it"), "{tables:?}");
    let output = world.run(&["verify"]).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("\u{2717}  mail.mimecast.ttp.url") && text.contains("backfill"), "{text}");
}

#[tokio::test]
async fn a_table_that_no_parser_reads_is_named() {
    let mut world = World::new().await;
    world.settings.insert("DEVO_TAG".to_owned(), "my.app".to_owned());
    world.mimecast.push("url", ago(30), row(1, ago(30)).as_str());
    assert!(world.run(&["collect", "--once"]).await.status.success());
    world.settings.insert("DEVO_QUERY_SECRET_ID".to_owned(), "env:QUERY".to_owned());
    world.settings.insert("QUERY".to_owned(), json!({"token": world.devo.query_token()}).to_string());
    world.settings.insert("DEVO_QUERY_URL".to_owned(), world.devo.url());
    let (code, tables) = world.verify(&[]).await;
    assert_eq!((code, &tables[0]["table"]), (0, &json!("my.app.ttp.url")));
    assert!(tables[0]["note"].as_str().unwrap().contains("no parser"), "{tables:?}");
}

#[tokio::test]
async fn each_destination_is_asked_for_all_of_it() {
    let mut world = World::new().await;
    let second = Devo::start().await.unwrap();
    let mut secret: Value = serde_json::from_str(&world.devo.secret()).unwrap();
    secret.as_object_mut().unwrap().remove("url");
    world.settings.insert("DEVO".to_owned(), secret.to_string());
    world.settings.insert("DEVO_URL".to_owned(), format!("{},{}", world.devo.url(), second.url()));
    for n in 0..7 {
        world.mimecast.push("url", ago(30), row(n, ago(30)).as_str());
    }
    assert!(world.run(&["collect", "--once"]).await.status.success());

    // Who may ask but one of them would take the other for well.
    world
        .settings
        .insert("QUERY".to_owned(), json!({"token": world.devo.query_token(), "domain": "first"}).to_string());
    world.settings.insert("DEVO_QUERY_URL".to_owned(), format!("{}, {}", world.devo.url(), second.url()));
    world.settings.insert("DEVO_QUERY_SECRET_ID".to_owned(), "env:QUERY".to_owned());
    let output = world.run(&["verify"]).await;
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && text.lines().count() == 1, "{text}");
    assert!(text.contains("2 destinations") && text.contains(second.url().trim_start_matches("http://")), "{text}");

    world.settings.insert("DEVO_QUERY_SECRET_ID".to_owned(), "env:QUERY,env:SECOND".to_owned());
    world.settings.insert("SECOND".to_owned(), json!({"token": second.query_token()}).to_string());
    let (code, tables) = world.verify(&[]).await;
    assert_eq!((code, tables.len()), (0, 2), "{tables:?}");
    assert!(tables.iter().all(|table| counts(table) == [7, 7, 0, 0, 0] && table["tenants"] == json!(["default"])));
    assert_eq!((&tables[0]["domain"], &tables[0]["asked"]), (&json!("first"), &json!(world.devo.url())));
    assert_eq!((&tables[1]["domain"], &tables[1]["asked"]), (&Value::Null, &json!(second.url())));
    // One of them has lost it all.
    second.forbid(URL);
    let (code, tables) = world.verify(&[]).await;
    assert_eq!((code, counts(&tables[0]), counts(&tables[1])), (1, [7, 7, 0, 0, 0], [7, 0, 7, 0, 0]));
    let output = world.run(&["verify"]).await;
    let text = String::from_utf8(output.stdout).unwrap();
    for said in ["Devo domain first, asked at", &format!("of the token for queries, asked at {}", second.url())] {
        assert!(text.contains(said), "{said}: {text}");
    }
    // One of them, the first, does not answer.
    let query = json!({"token": "another", "domain": "first"}).to_string();
    world.settings.insert("QUERY".to_owned(), query);
    let output = world.run(&["verify"]).await;
    let (told, failed) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(told.contains(&second.url()) && !told.contains("domain first"), "{told}");
    assert!(output.status.code() == Some(1) && failed.contains(&world.devo.url()), "{failed}");
}

#[tokio::test]
async fn each_tenant_s_domain_is_asked_for_its_own() {
    let mut world = World::new().await;
    let second = Devo::start().await.unwrap();
    let mut set = |name: &str, value: String| drop(world.settings.insert(name.to_owned(), value));
    for (tenant, devo) in [("one", &world.devo), ("two", &second)] {
        set(&format!("DEVO_{tenant}"), devo.secret());
        set(&format!("QUERY_{tenant}"), json!({"token": devo.query_token(), "url": devo.url()}).to_string());
    }
    set("DEVO_SECRET_ID", "env:DEVO_{tenant}".to_owned());
    set("DEVO_QUERY_SECRET_ID", "env:QUERY_{tenant}".to_owned());
    for (tenant, n) in [("one", 1), ("two", 2)] {
        // So that the second tenant has one more than the first.
        world.mimecast.push("url", ago(30), row(n, ago(30)).as_str());
        world.settings.insert("TENANT".to_owned(), tenant.to_owned());
        assert!(world.run(&["collect", "--once"]).await.status.success());
    }
    let both = ["--tenant", "one", "--tenant", "two"];
    let (code, tables) = world.verify(&both).await;
    assert_eq!((code, tables.len()), (0, 2), "{tables:?}");
    for (table, (tenant, events, devo)) in tables.iter().zip([("one", 1, &world.devo), ("two", 2, &second)]) {
        assert_eq!(counts(table), [events, events, 0, 0, 0], "{table}");
        assert_eq!((&table["tenants"], &table["asked"]), (&json!([tenant]), &json!(devo.url())));
        assert!(table["domain"].is_string(), "{table}");
    }
    second.forbid(URL);
    let (code, tables) = world.verify(&both).await;
    assert_eq!((code, counts(&tables[0]), counts(&tables[1])), (1, [1, 1, 0, 0, 0], [2, 0, 2, 0, 0]));

    // One secret for domains that are known to be two.
    let mut devo: Value = serde_json::from_str(&second.secret()).unwrap();
    devo["domain"] = json!("another");
    world.settings.insert("DEVO_two".to_owned(), devo.to_string());
    world.settings.insert("DEVO_QUERY_SECRET_ID".to_owned(), "env:QUERY_one".to_owned());
    let output = world.run(&[&["verify"][..], &both].concat()).await;
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && text.lines().count() == 1, "{text}");
    assert!(text.contains("tenant two") && text.contains("another") && text.contains("{tenant}"), "{text}");
}

#[tokio::test]
async fn tables_beyond_those_that_are_counted_one_by_one_are_no_table_of_devo_s() {
    let mut world = World::new().await;
    world.settings.insert("SOURCES".to_owned(), "siem".to_owned());
    for n in 0..50 {
        // Types that nobody knows: each has a table of its own.
        world.mimecast.push_siem(&format!("new{n}"), vec![format!(r#"{{"type":"new{n}"}}"#).into_bytes()]);
    }
    assert!(world.run(&["collect", "--once"]).await.status.success());
    assert_eq!(world.devo.lines().len(), 50);
    world.settings.insert("DEVO_QUERY_SECRET_ID".to_owned(), "env:QUERY".to_owned());
    world.settings.insert("QUERY".to_owned(), json!({"token": world.devo.query_token()}).to_string());
    world.settings.insert("DEVO_QUERY_URL".to_owned(), world.devo.url());
    // A table of this name would be none that was asked for.
    world.devo.forbid("other");
    let (code, tables) = world.verify(&[]).await;
    let (other, counted): (Vec<&Value>, Vec<&Value>) = tables.iter().partition(|table| table["table"] == "other");
    assert_eq!((code, counted.len(), other.len()), (0, 40, 1), "{tables:?}");
    assert!(counted.iter().all(|table| counts(table) == [1, 1, 0, 0, 0]), "{counted:?}");
    assert_eq!(counts(other[0]), [10, 0, 0, 0, 0]);
    assert!(other[0]["note"].as_str().unwrap().contains("beyond those"), "{other:?}");
    let text = String::from_utf8(world.run(&["verify"]).await.stdout).unwrap();
    assert!(text.lines().any(|line| line.starts_with("other: tables beyond those")), "{text}");
}

#[tokio::test]
async fn who_may_not_ask_is_told_what_to_do() {
    let mut world = World::delivered().await;
    world.settings.insert("QUERY".to_owned(), json!({"token": "another"}).to_string());
    let output = world.run(&["verify"]).await;
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && text.contains("401") && !text.contains("another"), "{text}");
    for (name, value) in [("QUERY", "{}"), ("DEVO_QUERY_SECRET_ID", ""), ("DEVO_QUERY_URL", "http://example.com")] {
        let mut world = World::delivered().await;
        world.settings.insert(name.to_owned(), value.to_owned());
        let output = world.run(&["verify"]).await;
        assert_eq!(output.status.code(), Some(2), "{name}: {output:?}");
    }
    let output = world.run(&["verify", "--from", "80h"]).await;
    assert_eq!(output.status.code(), Some(2));
}
