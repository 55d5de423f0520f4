//! What happened, in order: a hash of it always, the lines where asked for.

use std::hash::{DefaultHasher, Hasher};

use tokio::time::Instant;

/// A record of events at virtual instants. Names that differ from run to run (UUIDs) are kept out by who writes to it.
pub struct Trace {
    start: Instant,
    hash: DefaultHasher,
    lines: Option<Vec<String>>,
}

impl Trace {
    /// Starts now.
    pub fn new(verbose: bool) -> Self {
        Self { start: Instant::now(), hash: DefaultHasher::new(), lines: verbose.then(Vec::new) }
    }

    /// Something happened now.
    pub fn note(&mut self, text: &str) {
        let at = self.start.elapsed();
        self.hash.write_u128(at.as_nanos());
        self.hash.write(text.as_bytes());
        if let Some(lines) = &mut self.lines {
            let seconds = at.as_secs();
            let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
            lines.push(format!("{h:02}:{m:02}:{s:02}.{:03} {}", at.subsec_millis(), shortened(text)));
        }
    }

    /// The hash so far, and the lines.
    pub fn end(self) -> (u64, Vec<String>) {
        (self.hash.finish(), self.lines.unwrap_or_default())
    }
}

/// Tokens and signatures by short names.
fn shortened(text: &str) -> String {
    let part_of_token = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '=');
    let (mut short, mut rest) = (String::new(), text);
    while let Some(begin) = rest.find(part_of_token) {
        let token = &rest[begin..];
        let token = &token[..token.find(|c| !part_of_token(c)).unwrap_or(token.len())];
        short.push_str(&rest[..begin]);
        if token.len() < 60 {
            short.push_str(token)
        } else {
            short.push_str(&format!("~{}", digest(token.as_bytes())))
        }
        rest = &rest[begin + token.len()..];
    }
    short + rest
}

/// A short name for bytes.
pub fn digest(bytes: &[u8]) -> String {
    let mut hash = DefaultHasher::new();
    hash.write(bytes);
    format!("{:08x}", hash.finish() as u32)
}
