//! What the API does besides what its pages say.

use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};
use simulator::Mimecast;
use simulator::mimecast::{DatesWithToken, Doubts, Fault, FaultKind, LastPage, Totals};

use crate::client::{CLICKS, Client, Got, day, page, two_days};

async fn account() -> (Mimecast, Client) {
    let mimecast = Mimecast::start().await.unwrap();
    let client = Client::new(&mimecast);
    (mimecast, client)
}

fn push(mimecast: &Mimecast) {
    mimecast.push_siem("spam", vec![b"{}".to_vec()]);
}

/// How many links a page has, its token, and whether it says that there are no more.
fn read(page: &Value) -> (usize, String, Value) {
    let token = page["@nextPage"].as_str().unwrap_or_default();
    (page["value"].as_array().unwrap().len(), token.to_owned(), page["isCaughtUp"].clone())
}

#[tokio::test]
async fn dates_are_optional_until_they_are_not() {
    let (mimecast, client) = account().await;
    let now = Utc::now();
    mimecast.push_siem_at("spam", now - TimeDelta::days(3), vec![b"{}".to_vec()]);
    push(&mimecast);
    let listed = async |query: &str| read(&client.batch(&format!("type=spam{query}")).await.json());
    let refused = async |query: &str| {
        let got = client.batch(&format!("type=spam{query}")).await;
        assert_eq!(got.status, 400, "{query}");
        got.json()["error"]["message"].as_str().unwrap().to_owned()
    };
    let day = |back: i64| (now - TimeDelta::days(back)).format("%Y-%m-%d").to_string();
    let (start, end) = (format!("&dateRangeStartsAt={}", day(6)), format!("&dateRangeEndsAt={}", day(2)));
    assert_eq!(listed("").await.0, 1, "the last day");
    assert_eq!(listed(&start).await.0, 2);
    assert_eq!(listed(&end).await.0, 1, "the last day before its end");
    assert_eq!(listed(&format!("{start}{end}")).await.0, 1);

    let (_, token, _) = listed(&format!("&pageSize=1{start}")).await;
    let next = format!("&nextPage={token}");
    assert_eq!(listed(&next).await.0, 1);
    assert_eq!(listed(&format!("{next}{start}{end}")).await.0, 0);
    mimecast.doubts(Doubts { end_required: true, ..Doubts::default() });
    assert!(refused("").await.contains("dateRangeEndsAt"));
    assert!(refused(&start).await.contains("dateRangeEndsAt"));
    assert_eq!(listed(&format!("{start}{end}")).await.0, 1);
    assert_eq!(listed(&next).await.0, 1);
    mimecast.doubts(Doubts { dates_with_token: DatesWithToken::Refused, ..Doubts::default() });
    assert_eq!(listed(&next).await.0, 1);
    for query in [format!("{next}{start}"), format!("{next}{end}")] {
        assert!(refused(&query).await.contains("must not be given with nextPage"));
    }
    mimecast.doubts(Doubts { dates_with_token: DatesWithToken::Required, ..Doubts::default() });
    assert_eq!(listed(&format!("{next}{start}&dateRangeEndsAt={}", day(0))).await.0, 1);
    for query in [next.clone(), format!("{next}{start}")] {
        let message = refused(&query).await;
        assert!(message.contains("dateRangeStartsAt") && message.contains("dateRangeEndsAt"), "{message}");
    }
    assert_eq!(listed(&start).await.0, 2);
}

#[tokio::test]
async fn sealed_tokens_show_nothing_of_a_later_day() {
    let (mimecast, client) = account().await;
    mimecast.doubts(Doubts { sealed_tokens: true, ..Doubts::default() });
    // Noon, so that the test has its days for itself.
    let noon = (Utc::now() + TimeDelta::days(1)).date_naive().and_hms_opt(12, 0, 0).unwrap().and_utc();
    let set_clock = |days: i64| {
        let offset = noon + TimeDelta::days(days) - Utc::now();
        mimecast.set_clock_offset(offset.num_seconds());
    };
    set_clock(0);
    push(&mimecast);
    let start = format!("dateRangeStartsAt={}", mimecast.now().format("%Y-%m-%d"));
    let end = (mimecast.now() + TimeDelta::days(1)).format("%Y-%m-%d").to_string();
    let open = read(&client.batch(&format!("type=spam&{start}")).await.json()).1;
    let ended = read(&client.batch(&format!("type=spam&{start}&dateRangeEndsAt={end}")).await.json()).1;
    let listed = async |token: &str| read(&client.batch(&format!("type=spam&nextPage={token}")).await.json());
    push(&mimecast);
    let (links, open, _) = listed(&open).await;
    assert_eq!(links, 1, "of the same day");
    set_clock(1);
    push(&mimecast);
    assert_eq!(listed(&open).await, (0, open.clone(), json!(true)));
    let (links, ended, _) = listed(&ended).await;
    assert_eq!(links, 2);
    set_clock(2);
    push(&mimecast);
    for token in [open, ended] {
        assert_eq!(listed(&token).await, (0, token, json!(true)));
    }
    assert_eq!(read(&client.batch(&format!("type=spam&{start}")).await.json()).0, 4, "by date");
    mimecast.doubts(Doubts::default());
    assert_eq!(read(&client.batch(&format!("type=spam&{start}&pageSize=1")).await.json()).0, 1);
}

#[tokio::test]
async fn tokens_die() {
    let (mimecast, client) = account().await;
    push(&mimecast);
    let token = read(&client.batch(&format!("type=spam&{}", two_days())).await.json()).1;
    mimecast.kill_tokens();
    push(&mimecast);
    for caught_up in [None, Some(true), Some(false)] {
        mimecast.doubts(Doubts { dead_tokens_caught_up: caught_up, ..Doubts::default() });
        let page = client.batch(&format!("type=spam&nextPage={token}")).await.json();
        let (links, dead, said) = read(&page);
        assert_eq!((links, said), (0, json!(caught_up)));
        assert_eq!(page.get("isCaughtUp").is_some(), caught_up.is_some());
        let text = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, &dead).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.starts_with("[attachment_protect=0-0, av=0-0, ") && text.ends_with("]:0:null"), "{text}");
        let encoded = dead.replace('+', "%2B").replace('=', "%3D");
        for kind in ["spam", "av"] {
            let after = client.batch(&format!("type={kind}&nextPage={encoded}")).await.json();
            assert_eq!(read(&after).1, dead, "for ever");
        }
    }
    let (links, fresh, _) = read(&client.batch(&format!("type=spam&{}", two_days())).await.json());
    assert_eq!(links, 2);
    push(&mimecast);
    mimecast.fault(Fault::new("", FaultKind::DeadToken));
    let struck = client.batch(&format!("type=spam&nextPage={fresh}")).await.json();
    assert_eq!(read(&struck).0, 0);
    assert_ne!(read(&struck).1, fresh);
    assert_eq!(read(&client.batch(&format!("type=spam&nextPage={fresh}")).await.json()).0, 1, "the token itself lives");
}

#[tokio::test]
async fn tokens_come_in_other_forms() {
    let (mimecast, client) = account().await;
    (0..3).for_each(|_| push(&mimecast));
    let first = client.batch(&format!("type=spam&pageSize=1&{}", two_days())).await.json();
    let token = first["@nextPage"].clone();
    let query = format!("type=spam&pageSize=1&nextPage={}", token.as_str().unwrap());
    let mut pages = Vec::new();
    for kind in [FaultKind::EmptyToken, FaultKind::NullToken, FaultKind::AbsentToken, FaultKind::RepeatedToken] {
        mimecast.fault(Fault::new("", kind));
        let page = client.batch(&query).await.json();
        assert_eq!((read(&page).0, &page["isCaughtUp"]), (1, &json!(false)), "the right answer but for its token");
        pages.push(page);
    }
    let tokens: Vec<Option<&Value>> = pages.iter().map(|page| page.get("@nextPage")).collect();
    assert_eq!(tokens, [Some(&json!("")), Some(&Value::Null), None, Some(&token)]);
    mimecast.fault(Fault::new("", FaultKind::RepeatedToken));
    assert_ne!(client.batch(&format!("type=spam&{}", two_days())).await.json()["@nextPage"], json!(null));
    assert_eq!(mimecast.struck(), 4, "nothing can be repeated yet");
}

#[tokio::test]
async fn listings_lose_files_for_a_while() {
    let (mimecast, client) = account().await;
    (0..3).for_each(|_| push(&mimecast));
    assert_eq!(mimecast.siem_files(), 3);
    let by_date = async || read(&client.batch(&format!("type=spam&pageSize=1&{}", two_days())).await.json());
    let by_token = async |token: &str| read(&client.batch(&format!("type=spam&nextPage={token}")).await.json());
    let (_, before, _) = by_date().await;
    mimecast.hide_siem(1, Utc::now() + TimeDelta::minutes(10));
    let (_, meanwhile, _) = by_date().await;
    assert_eq!(by_token(&before).await.0, 1, "2 of 3 are behind it");
    assert_eq!(by_token(&meanwhile).await.0, 1);
    mimecast.set_clock_offset(601);
    assert_eq!(by_token(&before).await.0, 1);
    assert_eq!(by_token(&meanwhile).await.0, 1);
    let (links, token, _) = by_date().await;
    assert_eq!((links, by_token(&token).await.0), (1, 2), "by date, and by what follows from it");
}

fn push_rows(mimecast: &Mimecast, count: i64) {
    for n in 0..count {
        mimecast.push("url", Utc::now() - TimeDelta::minutes(n + 1), format!(r#"{{"n":{n}}}"#));
    }
}

fn total(got: &Got) -> Value {
    got.json()["meta"]["pagination"]["totalCount"].clone()
}

#[tokio::test]
async fn totals_are_what_they_are() {
    let (mimecast, client) = account().await;
    let ask = async || client.v1(CLICKS, page(day("from", "to"), 10, None)).await;
    let totals = |totals: Totals| mimecast.doubts(Doubts { totals, ..Doubts::default() });
    totals(Totals::NeverZero);
    assert_eq!(total(&ask().await), 1);
    push_rows(&mimecast, 3);
    assert_eq!(total(&ask().await), 3);
    totals(Totals::Right);
    assert_eq!(total(&ask().await), 3);
    totals(Totals::Text);
    assert_eq!(total(&ask().await), "3");
    totals(Totals::Absent);
    let got = ask().await;
    assert_eq!(got.json()["meta"]["pagination"], json!({"pageSize": 3}));
    totals(Totals::Off(vec![5]));
    assert_eq!((total(&ask().await), total(&ask().await)), (json!(8), json!(8)));
    totals(Totals::Off(vec![0, -4, 1 << 40]));
    let mut seen = Vec::new();
    for _ in 0..6 {
        let got = ask().await;
        assert_eq!((got.rows(Some("clickLogs")).len(), got.next()), (3, None));
        seen.push(total(&got).as_i64().unwrap() - 3);
    }
    assert_eq!(seen[..3], seen[3..]);
    seen.truncate(3);
    seen.sort();
    assert_eq!(seen, [-4, 0, 1 << 40]);
}

#[tokio::test]
async fn the_last_page_leads_on() {
    let (mimecast, client) = account().await;
    push_rows(&mimecast, 3);
    let item = day("from", "to");
    let ask = async |token: Option<&str>| client.v1(CLICKS, page(item.clone(), 2, token)).await;
    for (last_page, status) in [(LastPage::LeadsToEmpty, 200), (LastPage::LeadsTo404, 404), (LastPage::LeadsTo400, 400)]
    {
        mimecast.doubts(Doubts { last_page, ..Doubts::default() });
        let first = ask(None).await.next();
        let second = ask(first.as_deref()).await;
        assert_eq!(second.rows(Some("clickLogs")).len(), 1);
        let beyond = ask(second.next().as_deref()).await;
        assert_eq!(beyond.status, status);
        if status == 200 {
            assert_eq!((beyond.json()["meta"]["pagination"]["pageSize"].clone(), beyond.next()), (json!(0), None));
        }
    }
}

#[tokio::test]
async fn pages_are_capped_or_stuck() {
    let (mimecast, client) = account().await;
    push_rows(&mimecast, 5);
    let item = day("from", "to");
    let ask = async |token: Option<&str>| client.v1(CLICKS, page(item.clone(), 4, token)).await;
    mimecast.doubts(Doubts { page_cap: Some(2), ..Doubts::default() });
    let (mut sizes, mut token) = (Vec::new(), None);
    loop {
        let got = ask(token.as_deref()).await;
        assert_eq!(total(&got), 5);
        sizes.push(got.rows(Some("clickLogs")).len());
        token = got.next();
        if token.is_none() {
            break;
        }
    }
    assert_eq!(sizes, [2, 2, 1]);

    mimecast.doubts(Doubts { stuck_pages: true, ..Doubts::default() });
    let first = ask(None).await;
    let (mut tokens, mut token) = (std::collections::HashSet::new(), first.next());
    for _ in 0..5 {
        assert!(tokens.insert(token.clone().unwrap()), "a new one each time");
        let got = ask(token.as_deref()).await;
        assert_eq!(got.rows(Some("clickLogs")), first.rows(Some("clickLogs")));
        token = got.next();
    }
}
