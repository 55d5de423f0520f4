//! Answers of the API as the outside gives them: tokens, clocks, quotas, requests that are not accepted.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::time::Duration;

use chrono::TimeDelta;
use mimecast::{Error, Page, Rows};
use support::{Answer, V1, V2, answer, client, ok, start, until};
use tokio::time::Instant;

const AUDIT: &str = "/api/audit/get-audit-events";
const EMPTY: &str = r#"{"meta":{"status":200},"data":[]}"#;

async fn page(given: impl Fn(usize) -> Answer + Send + Sync + 'static) -> Result<Page, Error> {
    let (client, _) = client(V1, move |_, number| given(number));
    client.page(AUDIT, Rows::Flat, "{}", until()).await
}

/// Asks for a page with a token that `grant` gives, and tells how often a token was asked for in an hour.
async fn granted(grant: &'static str) -> Result<usize, Error> {
    let (client, asked) = client(V2, move |url, _| ok(if url.ends_with("/oauth/token") { grant } else { EMPTY }));
    for _ in 0..60 {
        client.page(AUDIT, Rows::Flat, "{}", until()).await?;
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    let tokens = asked.lock().unwrap().iter().filter(|(url, _)| url.ends_with("/oauth/token")).count();
    Ok(tokens)
}

#[tokio::test(start_paused = true)]
async fn a_token_is_taken_whatever_is_said_of_its_life() {
    for life in
        ["", r#","expires_in":"1799""#, r#","expires_in":1799.0"#, r#","expires_in":null"#, r#","expires_in":-1"#]
    {
        let grant = format!(r#"{{"access_token":"topsecret"{life}}}"#).leak();
        assert_eq!(granted(grant).await.unwrap(), 3, "{grant}");
    }
    assert_eq!(granted(r#"{"access_token":"topsecret","expires_in":"7200"}"#).await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_a_token_says_so() {
    for grant in [
        "{}",
        r#"{"access_token":""}"#,
        r#"{"access_token":" ","expires_in":1799}"#,
        r#"{"access_token":null}"#,
        "<html>",
    ] {
        let error = granted(grant).await.unwrap_err();
        assert!(matches!(&error, Error::Protocol(text) if text.contains("no access_token")), "{grant}: {error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_without_the_token_endpoint_means_a_wrong_base_url() {
    for status in [404, 405, 301, 302] {
        let (client, _) =
            client(V2, move |_, _| answer(status, &[("location", "https://www.mimecast.com/")], "<html>"));
        let error = client.page(AUDIT, Rows::Flat, "{}", until()).await.unwrap_err();
        assert!(
            matches!(&error, Error::Configuration(text) if text.contains("base URL is wrong")),
            "{status}: {error}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_without_its_data_does_not_say_that_nothing_is_new() {
    for body in
        ["{}", r#"{"meta":{"status":200}}"#, r#"{"values":[]}"#, r#"{"meta":{"status":200},"data":7}"#, "<html>", ""]
    {
        let error = page(move |_| ok(body)).await.unwrap_err();
        assert!(matches!(&error, Error::Protocol(text) if text.starts_with(AUDIT)), "{body}: {error}");
    }
    assert!(page(|number| ok(if number < 2 { r#"{"meta":{"status":200}}"# } else { EMPTY })).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_not_accepted_is_sent_once() {
    for (status, body) in [(400, ""), (400, "<html>"), (200, r#"{"meta":{"status":400},"data":[]}"#)] {
        let (client, asked) = client(V1, move |_, _| answer(status, &[], body));
        let error = client.page(AUDIT, Rows::Flat, "{}", until()).await.unwrap_err();
        assert!(matches!(&error, Error::BadRequest(text) if text.starts_with(AUDIT)), "{error}");
        assert_eq!(asked.lock().unwrap().len(), 1);
    }
    let token = r#"{"fail":[{"code":"err_validation","message":"pageToken is not valid"}]}"#;
    assert!(matches!(page(move |_| answer(400, &[], token)).await, Err(Error::TokenRefused(_))));
}

#[tokio::test(start_paused = true)]
async fn clocks_that_are_hours_apart_are_told_and_nothing_is_read_by_them() {
    let dated = |hours: i64| {
        let date = (start() + TimeDelta::hours(hours)).format("%a, %d %b %Y %H:%M:%S GMT").to_string();
        answer(200, &[("date", &date)], EMPTY)
    };
    for hours in [7, -7, 24 * 400] {
        let (client, asked) = client(V1, move |_, _| dated(hours));
        let error = client.page(AUDIT, Rows::Flat, "{}", until()).await.unwrap_err().to_string();
        let expected = format!("clock and Mimecast's differ by {} hours: set this machine's clock", hours.abs());
        assert!(error.contains(&expected), "{error}");
        assert!(asked.lock().unwrap().len() > 1 && (client.now() - start()).num_hours() == 0);
    }
    // The wrong clock of one gateway fails no run, and a clock that may be right is followed.
    assert!(page(move |number| dated(if number == 0 { 9 } else { 0 })).await.is_ok());
    let right = page(move |_| dated(5)).await.unwrap();
    assert!(right.at - start() > TimeDelta::hours(5));
}

#[tokio::test(start_paused = true)]
async fn the_clock_of_the_store_behind_a_link_is_not_learned_from() {
    let (client, _) = client(V1, |url, _| match url {
        _ if url.contains("/batch/") => ok(r#"{"value":[{"url":"https://store/a"}]}"#),
        _ => answer(
            200,
            &[
                ("date", "Thu, 01 Jan 1970 00:00:00 GMT"),
                ("x-ratelimit-remaining", "0"),
                ("x-ratelimit-reset", "900000"),
            ],
            "{}",
        ),
    });
    let links = client.listing(support::BATCH, &[], until()).await.unwrap().links;
    client.download(&links[0], until()).await.unwrap();
    let began = Instant::now();
    client.download(&links[0], until()).await.unwrap();
    client.listing(support::BATCH, &[], until()).await.unwrap();
    assert_eq!((began.elapsed(), client.now()), (Duration::ZERO, start()));
}

#[tokio::test(start_paused = true)]
async fn a_quota_that_is_used_up_is_waited_for_before_the_next_request() {
    let used_up = |reset: &str| answer(200, &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", reset)], EMPTY);
    let (client, asked) = client(V1, move |_, number| used_up(if number == 0 { "4000" } else { "900000" }));
    let began = Instant::now();
    client.page(AUDIT, Rows::Flat, "{}", until()).await.unwrap();
    client.clone().page(AUDIT, Rows::Flat, "{}", until()).await.unwrap();
    assert_eq!(began.elapsed(), Duration::from_secs(4));
    let error = client.page(AUDIT, Rows::Flat, "{}", until()).await.unwrap_err();
    assert!(matches!(error, Error::RateLimited { wait, .. } if wait == Duration::from_secs(900)), "{error}");
    assert_eq!((began.elapsed(), asked.lock().unwrap().len()), (Duration::from_secs(4), 2));
}

#[tokio::test(start_paused = true)]
async fn no_link_or_token_is_shown_by_an_answer_that_is_no_listing() {
    for body in
        [r#"{"value":[{"url":"https://s3/a?X-Amz-Signature=topsecret"}"#, r#"{"values":[],"@nextPage":"topsecret"}"#]
    {
        let (client, _) = client(V1, move |_, _| ok(body));
        let error = client.listing(support::BATCH, &[], until()).await.unwrap_err();
        assert!(matches!(error, Error::Protocol(_)) && !format!("{error:?}").contains("topsecret"), "{error:?}");
    }
}
