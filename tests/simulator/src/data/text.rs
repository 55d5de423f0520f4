//! Values as awkward as the real ones, and the white space around them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, SubsecRound, TimeDelta, Utc};

use crate::mimecast::deflate;

/// Contents of JSON strings, escaped as they are sent.
const SUBJECTS: [&str; 20] = [
    "Quarterly report",
    r#"Re: \"urgent\" invoice \\ draft"#,
    r"\u003cb\u003eSpecial offer\u003c\/b\u003e \u0026 more",
    "before\u{2028}after\u{2029}end",
    r"before\u2028after",
    "\u{1f389} You won \u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}",
    r"\ud83d\ude00 in two halves",
    r"cut in half \ud83d",
    "Gr\u{fc}\u{df}e aus K\u{f6}ln \u{2013} \u{6771}\u{4eac}",
    r"tab\tline\r\nnext\u0000null\u0007bell",
    "",
    "null",
    "a|b=c;d,e",
    "  two  spaces : and , colons  ",
    r#"{\"looks\":[\"like\",\"json\"]}"#,
    "]}, {[",
    "<>",
    "' OR 1=1 --",
    "e\u{301} is not \u{e9}, nor is \u{feff} nothing",
    "\u{85} next line \u{7f} delete",
];

/// Numbers whose digits must survive.
const NUMBERS: [&str; 10] = [
    "12345678901234567890",
    "1.10",
    "1e5",
    "-0",
    "0.1000000000000000055511151231257827",
    "1E+2",
    "-1.5e-7",
    "9007199254740993",
    "0",
    "340282366920938463463374607431768211456",
];

/// Makes values from a seed; no two calls of `number` give the same.
pub(super) struct Maker {
    pub random: fastrand::Rng,
    seed: u64,
    count: u64,
}

impl Maker {
    pub fn new(seed: u64) -> Self {
        Self { random: fastrand::Rng::with_seed(seed), seed: seed % 1_000_000, count: 0 }
    }

    /// Unlike any other of this seed, and of other seeds below a million.
    pub fn number(&mut self) -> u64 {
        self.count += 1;
        self.seed * 1_000_000 + self.count
    }

    pub fn one_of<'a>(&mut self, values: &[&'a str]) -> &'a str {
        self.random.choice(values).copied().unwrap_or_default()
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: u32) -> bool {
        self.random.u32(..times) == 0
    }

    pub fn subject(&mut self) -> String {
        let (number, subject) = (self.number(), self.one_of(&SUBJECTS));
        // Half of them with a number, so that equal rows are meant and not chance.
        quoted(&if self.random.bool() { subject.to_owned() } else { format!("{subject} {number}") })
    }

    /// A JSON number.
    pub fn digits(&mut self) -> String {
        self.one_of(&NUMBERS).to_owned()
    }

    pub fn address(&mut self) -> String {
        let number = self.number();
        quoted(&match self.random.u8(..9) {
            0 => "<>".to_owned(),
            1 => format!("\\u003cperson{number}@example.com\\u003e"),
            2 => format!("o'neil+tag{number}@example.co.uk"),
            3 => format!("\\\"quoted local\\\"{number}@example.net"),
            4 => format!("J\u{f6}rg{number}@b\u{fc}cher.example"),
            _ => format!("person{number}@example.com"),
        })
    }

    pub fn message_id(&mut self) -> String {
        let hex = self.hex(16);
        quoted(&if self.random.bool() {
            format!("\\u003c{hex}@mail.example\\u003e")
        } else {
            format!("<{hex}@mail.example>")
        })
    }

    pub fn address_v4(&mut self) -> String {
        if self.once_in(7) {
            return quoted("Internal IP");
        }
        quoted(&format!("192.0.2.{}", self.random.u8(1..)))
    }

    /// Now and then a very long one.
    pub fn url(&mut self) -> String {
        let number = self.number();
        let length = if self.once_in(16) { 12_000 } else { 24 };
        let query = self.hex(length);
        quoted(&match self.random.u8(..3) {
            0 => format!("https:\\/\\/click.example\\/?q={query}\\u0026n={number}"),
            1 => format!("https://click.example/?q={query}&n={number}#top"),
            _ => format!("http://example.test/{query}/%F0%9F%8E%89?a[]=1&b={{{number}}}"),
        })
    }

    pub fn hex(&mut self, length: usize) -> String {
        (0..length).map(|_| char::from_digit(self.random.u32(..16), 16).unwrap_or('0')).collect()
    }

    /// A record id in the form of the real ones: base64url of deflated JSON, unique.
    pub fn record_id(&mut self, key: &str, mark: &str) -> String {
        let (number, secure) = (self.number(), self.hex(32));
        let plain = format!(r#"{{"secureid":"{secure}","{key}":{number},"customercode":"C0SIM","version":1}}"#);
        quoted(&format!("{mark}{}", URL_SAFE_NO_PAD.encode(deflate(plain.as_bytes()))))
    }

    /// `count` instants in whole seconds, from `oldest` to `newest`; some of them equal.
    pub fn times(&mut self, oldest: DateTime<Utc>, newest: DateTime<Utc>, count: usize) -> Vec<DateTime<Utc>> {
        let span = (newest - oldest).num_seconds().max(0);
        let mut times: Vec<DateTime<Utc>> = Vec::with_capacity(count);
        for index in 0..count {
            let time =
                (oldest + TimeDelta::seconds(self.random.i64(0..=span))).trunc_subsecs(0).max(oldest.trunc_subsecs(0));
            times.push(if index % 5 == 4 { times[index - 1] } else { time });
        }
        times
    }

    /// The members in their order or, for a third of the objects, in another.
    pub fn object(&mut self, mut members: Vec<(&str, String)>) -> String {
        if self.once_in(3) {
            self.random.shuffle(&mut members);
        }
        object(&members)
    }

    /// The same JSON text with white space between some of its tokens; half of the texts as they are.
    pub fn dressed(&mut self, compact: &str) -> String {
        self.spaced(compact, &["", "", " ", "\n", "\t", "\r\n    ", "  "])
    }

    /// As `dressed`, without line ends.
    pub fn dressed_in_line(&mut self, compact: &str) -> String {
        self.spaced(compact, &["", "", " ", "\t", "  "])
    }

    fn spaced(&mut self, compact: &str, spaces: &[&str]) -> String {
        if self.random.bool() {
            return compact.to_owned();
        }
        let mut text = String::with_capacity(compact.len() * 2);
        let (mut in_string, mut escape) = (false, false);
        for letter in compact.chars() {
            let structural = !in_string && matches!(letter, '{' | '}' | '[' | ']' | ':' | ',');
            if structural && !text.is_empty() {
                text.push_str(self.random.choice(spaces).copied().unwrap_or_default());
            }
            text.push(letter);
            if structural {
                text.push_str(self.random.choice(spaces).copied().unwrap_or_default());
            }
            in_string ^= letter == '"' && !escape;
            escape = in_string && letter == '\\' && !escape;
        }
        text.trim_end().to_owned()
    }
}

/// A JSON string around contents that are escaped already.
pub(super) fn quoted(contents: &str) -> String {
    format!("\"{contents}\"")
}

/// Contents for a JSON string, with only the necessary escapes.
pub(super) fn escaped(plain: &str) -> String {
    plain.replace('\\', "\\\\").replace('"', "\\\"")
}

/// A compact object.
pub(super) fn object(members: &[(&str, String)]) -> String {
    let members: Vec<String> = members.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
    format!("{{{}}}", members.join(","))
}

/// The API's form of an instant, as a JSON string.
pub(super) fn date(time: DateTime<Utc>) -> String {
    quoted(&time.format("%Y-%m-%dT%H:%M:%S+0000").to_string())
}

/// A JSON text without the white space between its tokens.
pub(super) fn compact(text: &[u8]) -> Vec<u8> {
    let (mut in_string, mut escape) = (false, false);
    let mut kept = Vec::with_capacity(text.len());
    for &byte in text {
        if in_string || !matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
            kept.push(byte);
        }
        in_string ^= byte == b'"' && !escape;
        escape = in_string && byte == b'\\' && !escape;
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_comes_and_goes() {
        let mut maker = Maker::new(7);
        for subject in SUBJECTS {
            let line = object(&[("s", quoted(subject)), ("n", "[1.10,{\"a\":null},[]]".into())]);
            for _ in 0..20 {
                let dressed = maker.dressed(&line);
                assert_eq!(compact(dressed.as_bytes()), line.as_bytes(), "{dressed}");
                assert!(!maker.dressed_in_line(&line).contains(['\n', '\r']));
            }
        }
        assert_eq!(compact(b" { \"a b\" : \" \\\" \" }\n"), b"{\"a b\":\" \\\" \"}");
    }
}
