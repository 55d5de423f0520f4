//! Where a value ends, by brackets and strings alone.

use memchr::memchr2;

use super::is_space;

/// Finds the end of one value; keeps its state, so that a value may arrive in pieces and no byte is looked at twice.
#[derive(Default)]
pub(crate) struct Scan {
    depth: usize,
    within: Within,
}

#[derive(Default, Clone, Copy)]
enum Within {
    #[default]
    Start,
    Scalar,
    Brackets,
    Text,
    Escape,
}

impl Scan {
    /// The offset just past the value, looking from `at` on; `None`: not in these bytes, go on at their length.
    ///
    /// A bare word or number ends before a comma, closing bracket or white space; an empty one is a value that is missing.
    pub(crate) fn end(&mut self, bytes: &[u8], mut at: usize) -> Option<usize> {
        loop {
            let ahead = &bytes[at..];
            let first = *ahead.first()?;
            match self.within {
                Within::Start => {
                    self.within = match first {
                        b'"' => Within::Text,
                        b'{' | b'[' => Within::Brackets,
                        _ => Within::Scalar,
                    };
                    at += usize::from(first == b'"');
                }
                Within::Scalar => {
                    return ahead
                        .iter()
                        .position(|&byte| matches!(byte, b',' | b']' | b'}') || is_space(byte))
                        .map(|end| at + end);
                }
                Within::Brackets => loop {
                    let byte = *bytes.get(at)?;
                    at += 1;
                    match byte {
                        b'"' => match end_of_text(&bytes[at..]) {
                            Some((length, _)) => at += length + 1,
                            None => {
                                self.within = Within::Text;
                                break;
                            }
                        },
                        b'{' | b'[' => self.depth += 1,
                        b'}' | b']' => {
                            self.depth -= 1;
                            if self.depth == 0 {
                                return Some(at);
                            }
                        }
                        _ => {}
                    }
                },
                Within::Text => {
                    let mark = memchr2(b'"', b'\\', ahead)?;
                    at += mark + 1;
                    match (ahead[mark], self.depth) {
                        (b'\\', _) => self.within = Within::Escape,
                        (_, 0) => return Some(at),
                        _ => self.within = Within::Brackets,
                    }
                }
                Within::Escape => {
                    at += 1;
                    self.within = Within::Text;
                }
            }
        }
    }
}

/// A one in each byte of a word.
pub(super) const ONES: u64 = u64::MAX / 255;
/// The highest bit of each byte.
pub(super) const HIGH: u64 = ONES << 7;
/// Strings are short: so many words are looked through here, before it is worth it to call for help.
const WORDS: usize = 8;

/// The length of a string's inner part, from behind its quote on, and whether it has an escape. `None`: it is not all there.
#[inline(always)]
pub(super) fn end_of_text(ahead: &[u8]) -> Option<(usize, bool)> {
    let (mut at, mut has_escape) = (0, false);
    loop {
        at += quote_or_escape(ahead.get(at..)?)?;
        if ahead[at] == b'"' {
            return Some((at, has_escape));
        }
        has_escape = true;
        at += 2;
    }
}

#[inline(always)]
fn quote_or_escape(ahead: &[u8]) -> Option<usize> {
    let mut rest = ahead;
    for _ in 0..WORDS {
        let Some((word, behind)) = rest.split_first_chunk() else { break };
        let word = u64::from_le_bytes(*word);
        let is = |byte: u8| (word ^ (ONES * u64::from(byte))).wrapping_sub(ONES);
        // The lowest bit that is set is right; those above it may be wrong, by a borrow.
        let ends = (is(b'"') | is(b'\\')) & !word & HIGH;
        if ends != 0 {
            return Some(ahead.len() - rest.len() + ends.trailing_zeros() as usize / 8);
        }
        rest = behind;
    }
    memchr2(b'"', b'\\', rest).map(|found| ahead.len() - rest.len() + found)
}
