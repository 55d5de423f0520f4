//! What a source is, as data. The descriptions live in `functions/`; nothing here knows any of them.

use chrono::TimeDelta;
use mimecast::Rows;

use crate::settings::Settings;

/// One Mimecast data source.
pub struct Source {
    /// The function's name, and the second half of the checkpoint's partition key.
    pub name: &'static str,
    /// The Devo table, or for a source with several tables what they have in common.
    pub table: &'static str,
    /// What the API application's role must allow, in the words of Mimecast's console.
    pub permission: &'static str,
    /// How it is read.
    pub kind: Kind,
}

/// The three ways of reading.
pub enum Kind {
    /// A log that is asked for by time: closed windows, pages within them.
    Window(Window),
    /// Files behind a token that the API hands on from answer to answer.
    Stream(Stream),
    /// A state of affairs, read whole each time.
    Snapshot(Snapshot),
}

/// A source asked for by time. Times are sent as `2026-01-31T12:00:00+0000`, the one form nobody reports trouble with.
pub struct Window {
    /// Endpoint, the same in both APIs.
    pub path: &'static str,
    /// Where the rows are.
    pub rows: Rows,
    /// Names of the request's members for the window's begin and end.
    pub bounds: [&'static str; 2],
    /// Further members of the request, as JSON text (`"oldestFirst":true`), or nothing.
    pub filter: &'static str,
    /// The row's member that tells rows apart; without one a row is its whole content.
    pub id: Option<&'static str>,
    /// The row's member that holds its time.
    pub time: &'static str,
    /// How far behind the newest collected instant rows still turn up.
    pub overlap: TimeDelta,
    /// How far back the API answers, where that is known.
    pub keeps: Option<TimeDelta>,
    /// Most rows per page that are proven to work.
    pub page_size: u32,
}

/// A source that hands on tokens: one or several streams, each with its own token.
pub struct Stream {
    /// The streams, by settings and API (`true`: 2.0); none where that API does not have the source.
    pub feeds: fn(&Settings, bool) -> Vec<Feed>,
    /// What makes two events the same.
    pub identity: Identity,
    /// Log types with a table of their own below [`Source::table`], as (name in the API, name in Devo).
    /// Empty: everything goes to [`Source::table`].
    pub types: &'static [(&'static str, &'static str)],
    /// How long the API keeps what it publishes.
    pub keeps: TimeDelta,
    /// API 2.0 selects by days, so that a range can be collected again.
    pub dated: bool,
}

/// One stream of a [`Stream`] source.
pub struct Feed {
    /// Its name in the checkpoint.
    pub name: String,
    /// How to ask for more.
    pub ask: Ask,
}

/// How the next portion of a stream is asked for.
pub enum Ask {
    /// A POST answered by a file; the next token comes in a header and goes back as `data[0].token`.
    File {
        /// Endpoint.
        path: &'static str,
        /// Members of `data[0]`, as JSON text.
        filter: String,
        /// The header with the next token.
        token_header: &'static str,
        /// The member for the begin, on a request without token; `None`: the API then starts at its oldest.
        start: Option<&'static str>,
    },
    /// A GET answered by signed links to files.
    Links {
        /// Endpoint.
        path: &'static str,
        /// `type` in the query.
        kind: &'static str,
    },
}

/// What makes two events of a stream the same.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// The place in a named file: a file is delivered once, and two equal lines in it are two events.
    File,
    /// The content, with its number among equal ones in one answer.
    Content,
}

/// A source that is read whole each time.
pub struct Snapshot {
    /// Endpoint, the same in both APIs.
    pub path: &'static str,
    /// What is asked for, by settings: a JSON object, or all there is.
    pub item: fn(&Settings) -> Option<String>,
    /// Where the rows are.
    pub rows: Rows,
    /// The member that tells rows apart: each is sent once, and again when its content has changed. Without one every poll
    /// is sent whole, stamped with `collectedAt`.
    pub id: Option<&'static str>,
}

impl Snapshot {
    /// The body of its request.
    pub(crate) fn question(&self, settings: &Settings) -> String {
        format!(r#"{{"data":[{}]}}"#, (self.item)(settings).unwrap_or_default())
    }
}

/// A longer log type is no name of a table.
const LONGEST_TYPE: usize = 60;

/// The table of a log type below `parent`, and whether the type is a known one. Only its letters and digits count: the same type is
/// spelt with blanks where it is asked for and otherwise elsewhere.
pub(crate) fn typed_table(parent: &str, types: &[(&str, &str)], kind: &str) -> (String, bool) {
    let letters = |text: &str| -> String {
        text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
    };
    let kind = letters(kind);
    match types.iter().find(|(name, _)| letters(name) == kind) {
        Some((_, table)) => (format!("{parent}.{table}"), true),
        None if kind.is_empty() || kind.len() > LONGEST_TYPE => (format!("{parent}.unknown"), false),
        None => (format!("{parent}.{kind}"), false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_has_its_table_in_any_spelling_and_an_unknown_one_its_own() {
        let types = [("journal", "jrnl"), ("url protect", "ttp")];
        assert_eq!(typed_table("m.siem", &types, "Journal"), ("m.siem.jrnl".into(), true));
        assert_eq!(typed_table("m.siem", &types, "url protect"), ("m.siem.ttp".into(), true));
        for spelling in ["url_protect", " URL-Protect\t", "urlProtect"] {
            assert_eq!(typed_table("m.siem", &types, spelling), ("m.siem.ttp".into(), true), "{spelling}");
        }
        assert_eq!(typed_table("m.siem", &types, "AI-Phish 2!"), ("m.siem.aiphish2".into(), false));
        assert_eq!(typed_table("m.siem", &types, "\u{e9}"), ("m.siem.unknown".into(), false));
        assert_eq!(typed_table("m.siem", &types, &"a".repeat(61)), ("m.siem.unknown".into(), false));
    }
}
