//! Files and the links to them: what is one, what says that there is none, and what is in a file's place.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::io::Read;

use mimecast::{Error, FileAnswer, Link};
use support::{Answer, BATCH, PATH, V1, V2, answer, client, ok, until};

const TOKEN: (&str, &str) = ("mc-siem-token", "next");
const PAGES: [&str; 6] = [
    "<html><body>Service is being maintained</body></html>",
    "<!DOCTYPE html>\n<title>Sign in</title>",
    "\u{feff}<?xml version=\"1.0\"?><Error><Code>SlowDown</Code></Error>",
    " \r\n\t<Error/>",
    "\u{feff} \n<HTML>",
    "<\0h\0",
];

async fn file(required: bool, given: impl Fn() -> Answer + Send + Sync + 'static) -> Result<FileAnswer, Error> {
    let (client, _) = client(V1, move |_, _| given());
    client.file(PATH, "{}", "mc-siem-token", required, until()).await
}

fn content(answer: FileAnswer) -> Option<String> {
    let mut text = String::new();
    answer.file?.read_to_string(&mut text).unwrap();
    Some(text)
}

/// A client of API 2.0 and one link that it has been given.
async fn linked(
    url: &str,
    given: impl Fn(&str, usize) -> Answer + Send + Sync + 'static,
) -> (mimecast::Client, Link, impl Fn() -> Vec<(String, bool)>) {
    let listing = format!(r#"{{"value":[{{"url":"{url}"}}]}}"#);
    let (client, asked) = client(V2, move |url, number| match url {
        _ if url.ends_with("/oauth/token") => ok(r#"{"access_token":"topsecret-token","expires_in":1799}"#),
        _ if url.contains(BATCH) => answer(200, &[], listing.clone()),
        _ => given(url, number - 2),
    });
    let link = client.listing(BATCH, &[], until()).await.unwrap().links.remove(0);
    (client, link, move || asked.lock().unwrap()[2..].to_vec())
}

#[tokio::test(start_paused = true)]
async fn a_page_of_html_or_xml_is_no_file_of_the_api_and_no_quiet_hour() {
    for page in PAGES {
        let error = file(false, move || answer(200, &[TOKEN], page)).await.unwrap_err();
        assert!(
            matches!(&error, Error::Unavailable(text) if text.contains("an HTML or XML page in place of the file")),
            "{error}"
        );
    }
    let (client, _) =
        client(V1, |_, number| if number < 3 { ok(PAGES[0]) } else { answer(200, &[TOKEN], "a=1|b=2\r\n") });
    let passing = client.file(PATH, "{}", "mc-siem-token", true, until()).await.unwrap();
    assert_eq!(content(passing).unwrap(), "a=1|b=2\r\n");
}

#[tokio::test(start_paused = true)]
async fn a_page_of_html_or_xml_behind_a_link_is_asked_for_again() {
    for page in PAGES {
        let (client, link, _) = linked("https://store/a?X-Amz-Signature=topsecret", move |_, _| ok(page)).await;
        let error = client.download(&link, until()).await.unwrap_err();
        assert!(matches!(&error, Error::Unavailable(text) if text.contains("an HTML or XML page")), "{error}");
    }
    let (client, link, asked) =
        linked("https://store/a", |_, number| ok(if number < 2 { PAGES[0] } else { "{}" })).await;
    let mut text = String::new();
    client.download(&link, until()).await.unwrap().read_to_string(&mut text).unwrap();
    assert_eq!((text.as_str(), asked().len()), ("{}", 3));
}

#[tokio::test(start_paused = true)]
async fn a_file_without_the_token_of_the_next_is_an_error_that_names_the_header() {
    for headers in [&[][..], &[("mc-siem-token", "")], &[("mc-siem-token", "  ")]] {
        for body in ["a=1|b=2", r#"{"type":"MTA","data":[{"a":1}]}"#, r#"{"meta":{"status":200},"data":[{"a":1}]}"#] {
            let error = file(true, move || answer(200, headers, body)).await.unwrap_err();
            assert!(matches!(&error, Error::Protocol(text) if text.contains("mc-siem-token")), "{error}");
            assert!(file(false, move || answer(200, headers, body)).await.unwrap().file.is_some());
        }
    }
    let nothing = r#"{"meta":{"isLastToken":true,"status":200},"data":[],"fail":[]}"#;
    assert!(file(true, move || ok(nothing)).await.unwrap().file.is_none());
    // As real answers say at times that nothing is new.
    assert_eq!(content(file(true, || ok("")).await.unwrap()).unwrap(), "");
    let passing = || answer(200, &[TOKEN], "a=1|b=2");
    let (client, _) = client(V1, move |_, number| if number == 0 { ok("a=1|b=2") } else { passing() });
    assert_eq!(client.file(PATH, "{}", "mc-siem-token", true, until()).await.unwrap().next.as_deref(), Some("next"));
}

#[tokio::test(start_paused = true)]
async fn an_envelope_with_rows_is_a_file() {
    for body in [
        r#"{"meta":{"status":200},"data":[{"acc":"C0A0"}],"fail":[]}"#,
        r#"{"meta":{"isLastToken":true,"status":200},"data":[{"acc":"C0A0"}]}"#,
    ] {
        let found = file(true, move || answer(200, &[TOKEN], body)).await.unwrap();
        assert_eq!(content(found).unwrap(), body);
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_new_has_to_be_said() {
    for body in [
        r#"{"meta":{"status":200},"data":[]}"#,
        r#"{"meta":{"status":200},"data":null}"#,
        "\u{feff}{\"meta\":{\"status\":200},\"data\":[]}",
        r#"{"meta":{"isLastToken":true,"status":200}}"#,
        r#"{"meta":{"isLastToken":"true","status":"200"},"fail":[]}"#,
        r#"{"meta":{"status":200},"data":[],"fail":[{"errors":[{"code":"err_threat_intel_feed_no_result_found","message":"Nada"}]}]}"#,
        r#"{"meta":{"status":200},"fail":[{"errors":[{"code":"err_threat_intel_feed_no_result_found"}]}]}"#,
        r#"{"fail":[{"errors":[{"code":"x","message":"No results found for threat intel feed."}]}]}"#,
    ] {
        assert!(file(false, move || ok(body)).await.unwrap().file.is_none(), "{body}");
    }
    for body in [
        "{}",
        " { } ",
        r#"{"meta":{"status":200}}"#,
        r#"{"meta":{"status":200},"fail":[]}"#,
        r#"{"meta":{},"data":"none"}"#,
        r#"{"meta":{"isLastToken":true},"data":7}"#,
    ] {
        let error = file(false, move || ok(body)).await.unwrap_err();
        assert!(matches!(error, Error::Protocol(_)), "{body}: {error}");
    }
}

#[tokio::test(start_paused = true)]
async fn redirects_of_a_link_are_followed_and_carry_no_credentials() {
    for status in [301, 302, 303, 307, 308] {
        let (client, link, asked) = linked("https://store/a?X-Amz-Signature=topsecret", move |url, _| match url {
            "https://store/a?X-Amz-Signature=topsecret" => answer(status, &[("location", "/b?c#d")], ""),
            "https://store/b?c#d" => answer(status, &[("location", "https://elsewhere/e")], ""),
            "https://elsewhere/e" => answer(status, &[("location", "http://127.0.0.1:1/f")], ""),
            _ => ok("{}"),
        })
        .await;
        client.download(&link, until()).await.unwrap();
        assert_eq!(asked().last().unwrap().0, "http://127.0.0.1:1/f");
        assert!(asked().iter().all(|(_, authorized)| !authorized));
    }
}

#[tokio::test(start_paused = true)]
async fn a_redirect_that_leads_nowhere_is_that_links_trouble() {
    let signed = "https://store/a?X-Amz-Signature=topsecret";
    for location in [
        Some(signed),
        Some("http://store/plain?topsecret"),
        Some("ftp://store/a"),
        Some("https://name:topsecret@store/a"),
        Some("https://"),
        Some(""),
        None,
    ] {
        let headers: Vec<_> = location.map(|location| ("location", location)).into_iter().collect();
        let (client, link, asked) = linked(signed, move |_, _| answer(307, &headers, "")).await;
        let error = client.download(&link, until()).await.unwrap_err();
        assert!(matches!(error, Error::LinkRefused(_)), "{location:?}: {error}");
        assert!(
            error.to_string().contains("HTTP 307, a redirect ") && !error.to_string().contains("topsecret"),
            "{error}"
        );
        assert!(asked().len() <= 6 && asked().iter().all(|(_, authorized)| !authorized));
    }
}

#[tokio::test(start_paused = true)]
async fn a_status_that_no_further_try_changes_refuses_the_link_and_no_more() {
    for status in [300, 304, 305, 399, 400, 401, 403, 404, 405, 410, 416, 418, 451] {
        let (client, link, asked) = linked("https://store/a", move |_, _| answer(status, &[], PAGES[2])).await;
        let error = client.download(&link, until()).await.unwrap_err();
        assert!(matches!(error, Error::LinkRefused(_)), "{status}: {error}");
        assert_eq!(asked().len(), 1);
    }
    for status in [408, 429, 500, 503] {
        let (client, link, _) =
            linked("https://store/a", move |_, number| answer(if number < 2 { status } else { 200 }, &[], "{}")).await;
        client.download(&link, until()).await.unwrap();
    }
}
