//! The answer of the SIEM 2.0 batch endpoint: a page of signed links to files.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::{Error, json, lenient};

/// The answer of the SIEM 2.0 batch endpoint. `Debug` shows no token and no signature.
pub struct Listing {
    /// Signed links to gzip NDJSON files.
    pub links: Vec<Link>,
    /// Entries without a link, as sent: the good ones beside them are files all the same.
    pub unusable: Vec<Bytes>,
    /// The token of the next page; given even when nothing is new.
    pub next: Option<String>,
    /// Nothing more at present.
    pub is_caught_up: bool,
    /// The server's time when it answered.
    pub at: DateTime<Utc>,
}

/// One signed link. `Debug` does not show the signature.
#[derive(Clone)]
pub struct Link {
    pub(crate) url: String,
}

impl Link {
    /// The link without its signature: the same file has the same path under every signature.
    pub fn path(&self) -> &str {
        self.url.split(['?', '#']).next().unwrap_or_default()
    }

    /// The link of an entry `{"url":"..."}`.
    fn of(entry: &[u8]) -> Option<Self> {
        let (_, url) = json::members(entry).map_while(Result::ok).find(|(key, _)| json::key_is(key, "url"))?;
        match serde_json::from_slice(url) {
            Ok(Value::String(url)) if !url.trim().is_empty() => Some(Self { url }),
            _ => None,
        }
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.path())
    }
}

impl std::fmt::Debug for Listing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listing")
            .field("links", &self.links)
            .field("unusable", &self.unusable.len())
            .field("has_next", &self.next.is_some())
            .field("is_caught_up", &self.is_caught_up)
            .field("at", &self.at)
            .finish()
    }
}

impl Listing {
    /// # Errors
    /// `Protocol`, where this is no listing: without `value` nobody has said that nothing is new.
    pub(crate) fn read(body: &Bytes, at: DateTime<Utc>) -> Result<Self, Error> {
        // `Broken` names a place and never shows the body, which may hold signed links.
        let broken = |e: json::Broken| Error::Protocol(format!("no listing of links: {e}"));
        let (mut listing, mut has_value) =
            (Self { links: Vec::new(), unusable: Vec::new(), next: None, is_caught_up: false, at }, false);
        for member in json::members(body) {
            let (key, value) = member.map_err(broken)?;
            if json::key_is(key, "value") {
                has_value = true;
                listing.add(body, value)?;
            } else if json::key_is(key, "@nextPage") {
                listing.next = lenient::text(&control(value));
            } else if json::key_is(key, "isCaughtUp") {
                listing.is_caught_up = lenient::is_true(&control(value));
            }
        }
        if has_value { Ok(listing) } else { Err(Error::Protocol("no member `value` in the answer".into())) }
    }

    fn add(&mut self, body: &Bytes, value: &[u8]) -> Result<(), Error> {
        if value == b"null" {
            return Ok(());
        }
        for entry in json::elements(value) {
            let entry = entry.map_err(|e| Error::Protocol(format!("`value` is no list of links: {e}")))?;
            // Spoilt on its way, and another request gives it right: a file that passed for an entry without a link would be lost.
            if str::from_utf8(entry).is_err() || serde_json::from_slice::<IgnoredAny>(entry).is_err() {
                return Err(Error::Protocol("an entry of `value` is not json".to_owned()));
            }
            match Link::of(entry) {
                Some(link) => self.links.push(link),
                None => self.unusable.push(body.slice_ref(entry)),
            }
        }
        Ok(())
    }
}

/// What cannot be read is as good as absent.
fn control(value: &[u8]) -> Value {
    serde_json::from_slice(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Listing, String> {
        Listing::read(&Bytes::copy_from_slice(body.as_bytes()), DateTime::UNIX_EPOCH).map_err(|e| e.to_string())
    }

    #[test]
    fn one_entry_without_a_link_takes_no_other_with_it() {
        let listing = read(
            r#"{"value":[{"url":"https://s3/a?X-Amz-Signature=topsecret"},{"url":null},{"size":1},{"url":7}, 9,{"url":" "},
            {"url":{"a":"x"}},{"size":2,"\u0075rl":"https:\/\/s3/b"}],"@nextPage":"t","isCaughtUp":true}"#,
        )
        .unwrap();
        assert_eq!(listing.links.iter().map(Link::path).collect::<Vec<_>>(), ["https://s3/a", "https://s3/b"]);
        let unusable =
            [r#"{"url":null}"#, r#"{"size":1}"#, r#"{"url":7}"#, "9", r#"{"url":" "}"#, r#"{"url":{"a":"x"}}"#];
        assert_eq!(listing.unusable, unusable);
        assert!(!format!("{listing:?}").contains("topsecret"));
    }

    #[test]
    fn an_answer_without_a_list_of_links_does_not_say_that_nothing_is_new() {
        for body in
            ["{}", r#"{"values":[]}"#, r#"{"@nextPage":"t","isCaughtUp":true}"#, r#"{"value":7}"#, r#"{"value":{}}"#]
        {
            assert!(read(body).unwrap_err().contains("`value`"), "{body}");
        }
        for body in
            ["", "[]", "<html>", r#"{"value":[{"url":"https://s3/a?X-Amz-Signature=topsecret"}"#, r#"{"value":[]}}"#]
        {
            let error = read(body).unwrap_err();
            assert!(error.contains("no listing of links") || error.contains("no list of links"), "{body}: {error}");
            assert!(!error.contains("topsecret"));
        }
        for body in [r#"{"value":null}"#, r#"{"value":[]}"#] {
            assert!(read(body).unwrap().links.is_empty());
        }
    }

    #[test]
    fn a_token_that_says_nothing_is_none() {
        for (sent, expected) in [
            (r#""NDU1NA==""#, Some("NDU1NA==")),
            ("4554", Some("4554")),
            (r#""""#, None),
            (r#"" ""#, None),
            ("null", None),
            ("{}", None),
            ("false", None),
            ("nonsense", None),
        ] {
            assert_eq!(
                read(&format!(r#"{{"value":[],"@nextPage":{sent}}}"#)).unwrap().next.as_deref(),
                expected,
                "{sent}"
            );
        }
        assert_eq!(read(r#"{"value":[]}"#).unwrap().next, None);
    }

    #[test]
    fn caught_up_is_what_says_so() {
        for (sent, expected) in [
            ("true", true),
            (r#""true""#, true),
            (r#""True""#, true),
            ("false", false),
            ("null", false),
            (r#""no""#, false),
            ("1", false),
        ] {
            assert_eq!(
                read(&format!(r#"{{"value":[],"isCaughtUp":{sent}}}"#)).unwrap().is_caught_up,
                expected,
                "{sent}"
            );
        }
    }
}
