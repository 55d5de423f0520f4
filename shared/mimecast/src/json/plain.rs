//! The fast path over an event: one walk that tells whether it is one compact JSON object, and finds members on the way.
//!
//! Nearly every event is, so it costs one look at each byte. All that is in the least doubtful is left to the slow path beside it,
//! `compact` and `members`, which stays the law: this one may refuse what that takes, never take what that refuses or reads otherwise.

use super::scan::{HIGH, ONES};

/// Nested deeper than this an event is not plain: each level takes stack.
const DEPTH: u8 = 64;

/// The raw values of these top-level members, where `line` is plainly one compact JSON object in UTF-8: what [`super::compact`]
/// returns unchanged, and the values that [`super::members`] gives, of each key the first.
///
/// `None`: perhaps it is none. White space outside strings, an escape in a key or deep nesting are enough for that.
pub fn plain<'a, const N: usize>(line: &'a [u8], keys: [&str; N]) -> Option<[Option<&'a [u8]>; N]> {
    walk(line, keys, None)
}

/// [`plain`], of one line of many: its keys are likely to be those of the line before, and to compare them is cheaper than to look
/// for their ends. `layout` goes from line to line and changes nothing but the time.
pub fn plain_like<'a, const N: usize>(
    line: &'a [u8],
    keys: [&str; N],
    layout: &mut Layout,
) -> Option<[Option<&'a [u8]>; N]> {
    layout.at = (0, 0);
    walk(line, keys, Some(layout))
}

#[inline(always)]
fn walk<'a, const N: usize>(
    line: &'a [u8],
    keys: [&str; N],
    layout: Option<&mut Layout>,
) -> Option<[Option<&'a [u8]>; N]> {
    let mut found = [None; N];
    let mut walk = Walk { line, at: 0, bits: 0 };
    walk.expect(b'{')?;
    walk.object(DEPTH, layout, |key, value| {
        for (found, wanted) in found.iter_mut().zip(keys) {
            if found.is_none() && key == wanted.as_bytes() {
                *found = Some(value);
            }
        }
    })?;
    // Bytes above ASCII are let through in strings only, so they are looked at only where there are any.
    let is_text = walk.bits & HIGH == 0 || str::from_utf8(line).is_ok();
    (walk.at == line.len() && is_text).then_some(found)
}

/// The top-level keys of the line before, see [`plain_like`].
#[derive(Debug, Default)]
pub struct Layout {
    /// One after another, each with its quotes and colon.
    keys: Vec<u8>,
    ends: Vec<usize>,
    /// How many of them the line at hand has had, and where the next begins.
    at: (usize, usize),
}

/// What is remembered of keys, in bytes.
const LAYOUT: usize = 4 << 10;

impl Layout {
    /// The length of the next key, where it stands at the front of `ahead`.
    #[inline(always)]
    fn next(&mut self, ahead: &[u8]) -> Option<usize> {
        let (number, start) = self.at;
        let end = *self.ends.get(number)?;
        let key = self.keys.get(start..end)?;
        ahead.starts_with(key).then(|| {
            self.at = (number + 1, end);
            key.len()
        })
    }

    /// Another key stands in place of the next, and nobody knows what comes behind it.
    #[inline(never)]
    fn learn(&mut self, key: &[u8]) {
        let (number, start) = self.at;
        self.ends.truncate(number);
        self.keys.truncate(start);
        // What is compared is not looked at again, so no key may stay that makes a line no text.
        if start + key.len() <= LAYOUT && key.is_ascii() {
            self.keys.extend_from_slice(key);
            self.ends.push(self.keys.len());
            self.at = (number + 1, self.keys.len());
        }
    }
}

struct Walk<'a> {
    line: &'a [u8],
    at: usize,
    /// All bits that are set in any byte of a string, or near one.
    bits: u64,
}

impl<'a> Walk<'a> {
    fn peek(&self) -> Option<u8> {
        self.line.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then_some(())
    }

    fn passes(&mut self, byte: u8) -> bool {
        let is_there = self.peek() == Some(byte);
        self.at += usize::from(is_there);
        is_there
    }

    /// The rest of an object behind its bracket.
    #[inline(always)]
    fn object(
        &mut self,
        depth: u8,
        mut layout: Option<&mut Layout>,
        mut member: impl FnMut(&'a [u8], &'a [u8]),
    ) -> Option<()> {
        if self.passes(b'}') {
            return Some(());
        }
        loop {
            let start = self.at;
            match layout.as_deref_mut().and_then(|layout| layout.next(self.line.get(start..)?)) {
                Some(length) => self.at += length,
                None => {
                    self.key()?;
                    if let Some(layout) = layout.as_deref_mut() {
                        layout.learn(self.line.get(start..self.at)?);
                    }
                }
            }
            let key = self.line.get(start + 1..self.at - 2)?;
            let start = self.at;
            self.value(depth)?;
            member(key, self.line.get(start..self.at)?);
            match self.next()? {
                b',' => {}
                b'}' => return Some(()),
                _ => return None,
            }
        }
    }

    #[inline(always)]
    fn key(&mut self) -> Option<()> {
        self.expect(b'"')?;
        // An escaped key may be a wanted one in disguise.
        (self.stop()? == b'"').then_some(())?;
        self.expect(b':')
    }

    fn array(&mut self, depth: u8) -> Option<()> {
        if self.passes(b']') {
            return Some(());
        }
        loop {
            self.value(depth)?;
            match self.next()? {
                b',' => {}
                b']' => return Some(()),
                _ => return None,
            }
        }
    }

    #[inline(always)]
    fn value(&mut self, depth: u8) -> Option<()> {
        match self.next()? {
            b'"' => self.text(),
            bracket @ (b'{' | b'[') => self.nested(bracket, depth),
            b't' => self.word(b"rue"),
            b'f' => self.word(b"alse"),
            b'n' => self.word(b"ull"),
            b'-' => {
                let first = self.next()?;
                self.number(first)
            }
            first => self.number(first),
        }
    }

    #[inline(never)]
    fn nested(&mut self, bracket: u8, depth: u8) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        if bracket == b'{' { self.object(depth, None, |_, _| {}) } else { self.array(depth) }
    }

    #[inline(always)]
    fn word(&mut self, rest: &[u8]) -> Option<()> {
        let is_there = self.line.get(self.at..)?.starts_with(rest);
        self.at += rest.len();
        is_there.then_some(())
    }

    fn number(&mut self, first: u8) -> Option<()> {
        match first {
            // No digit may follow it.
            b'0' => {}
            b'1'..=b'9' => self.digits(),
            _ => return None,
        }
        if self.passes(b'.') {
            self.some_digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.some_digits()?;
        }
        Some(())
    }

    fn some_digits(&mut self) -> Option<()> {
        self.next()?.is_ascii_digit().then(|| self.digits())
    }

    fn digits(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
    }

    /// The rest of a string behind its quote.
    #[inline(always)]
    fn text(&mut self) -> Option<()> {
        while self.stop()? == b'\\' {
            match self.next()? {
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                // Half a pair of surrogates stays as it is sent: `compact` takes it too.
                b'u' => {
                    let digits = self.line.get(self.at..self.at + 4)?;
                    self.at += 4;
                    digits.iter().all(u8::is_ascii_hexdigit).then_some(())?;
                }
                _ => return None,
            }
        }
        Some(())
    }

    /// Goes behind the next quote or backslash and says which it is. `None`: a control character comes before it.
    #[inline(always)]
    fn stop(&mut self) -> Option<u8> {
        // Eight bytes at once: the highest bit of a byte in `ends` is set where one must be looked at. A borrow may set it in
        // bytes behind the first such, never in one before it.
        while let Some(chunk) = self.line.get(self.at..).and_then(|ahead| ahead.first_chunk()) {
            let word = u64::from_le_bytes(*chunk);
            self.bits |= word;
            // With this bit turned a quote (0x22) is 0x20 and control characters stay below: one comparison with 0x21 finds both.
            let below = (word ^ (ONES * 2)).wrapping_sub(ONES * 0x21);
            let backslash = (word ^ (ONES * 0x5c)).wrapping_sub(ONES);
            let ends = (below | backslash) & !word & HIGH;
            if ends != 0 {
                let bit = ends.trailing_zeros();
                self.at += bit as usize / 8 + 1;
                let byte = (word >> (bit - 7)) as u8;
                return (byte >= b' ').then_some(byte);
            }
            self.at += 8;
        }
        loop {
            let byte = self.next()?;
            self.bits |= u64::from(byte);
            match byte {
                b'"' | b'\\' => return Some(byte),
                ..b' ' => return None,
                _ => {}
            }
        }
    }
}
