//! The fast path over an event: one walk that tells whether it is one compact JSON object, and finds members on the way.
//!
//! Nearly every event is, so it costs one look at each byte. All that is in the least doubtful is left to the slow path beside it,
//! `compact` and `members`, which stays the law: this one may refuse what that takes, never take what that refuses or reads otherwise.
//!
//! Each step takes what lies ahead and returns what lies behind it: slices stay in registers, where a reader with a position would
//! write that to memory at each byte.

use super::scan::{HIGH, ONES};

/// Nested deeper than this an event is not plain: each level takes stack.
const DEPTH: u8 = 64;

/// The raw values of these top-level members, where `line` is plainly one compact JSON object in UTF-8: what [`super::compact`]
/// returns unchanged, and the values that [`super::members`] gives, of each key the first.
///
/// `None`: perhaps it is none. White space outside strings, an escape in a key or deep nesting are enough for that.
pub fn plain<'a, const N: usize>(line: &'a [u8], keys: [&str; N]) -> Option<[Option<&'a [u8]>; N]> {
    walk(line, |_, ahead| {
        let behind = key(ahead)?;
        Some((which(keys, before(ahead, behind)), behind))
    })
}

/// [`plain`], of one line of many: its keys are likely to be those of the line before, and to compare them is cheaper than to look
/// for their ends. `layout` goes from line to line and changes nothing but the time.
pub fn plain_like<'a, const N: usize>(line: &'a [u8], layout: &mut Layout<N>) -> Option<[Option<&'a [u8]>; N]> {
    walk(line, |number, ahead| layout.pass(number, ahead))
}

/// `pass` goes behind the key of a member with this number and its colon, and says which of the wanted ones it is.
#[inline(always)]
fn walk<'a, const N: usize>(
    line: &'a [u8],
    mut pass: impl FnMut(usize, &'a [u8]) -> Option<(usize, &'a [u8])>,
) -> Option<[Option<&'a [u8]>; N]> {
    let mut found = [None; N];
    let mut ahead = line.strip_prefix(b"{")?;
    if let Some(behind) = ahead.strip_prefix(b"}") {
        return behind.is_empty().then_some(found);
    }
    for number in 0.. {
        let (wanted, start) = pass(number, ahead)?;
        let end = value(start, DEPTH)?;
        if let Some(found) = found.get_mut(wanted).filter(|found| found.is_none()) {
            *found = Some(before(start, end));
        }
        match end {
            [b',', behind @ ..] => ahead = behind,
            [b'}'] => break,
            _ => return None,
        }
    }
    is_text(line).then_some(found)
}

/// The keys of the line before and which of them are wanted, see [`plain_like`].
#[derive(Debug)]
pub struct Layout<const N: usize> {
    wanted: [&'static str; N],
    keys: Vec<Key>,
}

/// The longest key that is remembered, with its quotes and colon: it is compared in one go.
const LONGEST: usize = 32;
/// So many keys of a line are remembered.
const MOST: usize = 100;

#[derive(Debug)]
struct Key {
    /// With its quotes and colon, and zeros behind it.
    bytes: [u8; LONGEST],
    /// Which of them count.
    mask: [u8; LONGEST],
    length: usize,
    wanted: usize,
}

impl<const N: usize> Layout<N> {
    /// Of no line yet; `wanted` are the members whose values will be looked for.
    pub fn new(wanted: [&'static str; N]) -> Self {
        Self { wanted, keys: Vec::new() }
    }

    /// The members whose values are looked for.
    pub fn wanted(&self) -> [&'static str; N] {
        self.wanted
    }

    #[inline(always)]
    fn pass<'a>(&mut self, number: usize, ahead: &'a [u8]) -> Option<(usize, &'a [u8])> {
        if let Some(known) = self.keys.get(number).filter(|known| known.leads(ahead)) {
            return Some((known.wanted, &ahead[known.length..]));
        }
        let behind = key(ahead)?;
        Some((self.learn(number, before(ahead, behind)), behind))
    }

    /// Another key than before has this number.
    #[inline(never)]
    fn learn(&mut self, number: usize, key: &[u8]) -> usize {
        let known = Key::new(key, which(self.wanted, key));
        let wanted = known.wanted;
        match self.keys.get_mut(number) {
            Some(place) => *place = known,
            None if number < MOST => self.keys.push(known),
            None => {}
        }
        wanted
    }
}

impl Key {
    fn new(key: &[u8], wanted: usize) -> Self {
        // Where no byte counts, what is not zero agrees with nothing: so it is with a key that is too long.
        let (mut bytes, mut mask) = ([b'"'; LONGEST], [0; LONGEST]);
        if key.len() <= LONGEST {
            let (front, rest) = bytes.split_at_mut(key.len());
            front.copy_from_slice(key);
            rest.fill(0);
            mask[..key.len()].fill(0xff);
        }
        Self { bytes, mask, length: key.len(), wanted }
    }

    #[inline(always)]
    fn leads(&self, ahead: &[u8]) -> bool {
        match ahead.first_chunk::<LONGEST>() {
            Some(bytes) => std::array::from_fn(|index| bytes[index] & self.mask[index]) == self.bytes,
            None => self.bytes.get(..self.length).is_some_and(|key| ahead.starts_with(key)),
        }
    }
}

/// Which of the wanted keys this is, with its quotes and colon; `N`: none.
fn which<const N: usize>(wanted: [&str; N], key: &[u8]) -> usize {
    wanted.iter().position(|wanted| *wanted.as_bytes() == key[1..key.len() - 2]).unwrap_or(N)
}

/// What lies between here and there.
fn before<'a>(ahead: &'a [u8], behind: &[u8]) -> &'a [u8] {
    &ahead[..ahead.len() - behind.len()]
}

/// Bytes above ASCII are let through, in strings only, so they are looked at only where there are any.
fn is_text(line: &[u8]) -> bool {
    let (words, rest) = line.as_chunks();
    let bits = words.iter().fold(0, |bits, word| bits | u64::from_le_bytes(*word));
    (bits & HIGH == 0 && rest.is_ascii()) || str::from_utf8(line).is_ok()
}

fn key(ahead: &[u8]) -> Option<&[u8]> {
    // An escaped key may be a wanted one in disguise.
    match stop(ahead.strip_prefix(b"\"")?)? {
        (b'"', behind) => behind.strip_prefix(b":"),
        _ => None,
    }
}

#[inline(always)]
fn value(ahead: &[u8], depth: u8) -> Option<&[u8]> {
    match ahead {
        [b'"', behind @ ..] => text(behind),
        [b'{' | b'[', ..] => nested(ahead, depth.checked_sub(1)?),
        _ => word(ahead),
    }
}

#[inline(never)]
fn nested(ahead: &[u8], depth: u8) -> Option<&[u8]> {
    match ahead.split_first()? {
        (b'{', behind) => list(behind, b'}', |ahead| value(key(ahead)?, depth)),
        (_, behind) => list(behind, b']', |ahead| value(ahead, depth)),
    }
}

/// The rest of an object or array behind its bracket.
#[inline(always)]
fn list<'a>(mut ahead: &'a [u8], close: u8, item: impl Fn(&'a [u8]) -> Option<&'a [u8]>) -> Option<&'a [u8]> {
    if let Some(behind) = ahead.strip_prefix(&[close]) {
        return Some(behind);
    }
    loop {
        match item(ahead)?.split_first()? {
            (b',', behind) => ahead = behind,
            (last, behind) => return (*last == close).then_some(behind),
        }
    }
}

/// A number, `true`, `false` or `null`.
#[inline(never)]
fn word(mut ahead: &[u8]) -> Option<&[u8]> {
    ahead = match ahead {
        [b't', b'r', b'u', b'e', behind @ ..]
        | [b'f', b'a', b'l', b's', b'e', behind @ ..]
        | [b'n', b'u', b'l', b'l', behind @ ..] => return Some(behind),
        // No digit may follow it.
        [b'0', behind @ ..] | [b'-', b'0', behind @ ..] => behind,
        [b'-', behind @ ..] => digits(behind)?,
        _ => digits(ahead)?,
    };
    if let Some(behind) = ahead.strip_prefix(b".") {
        ahead = digits(behind)?;
    }
    match ahead {
        [b'e' | b'E', b'+' | b'-', behind @ ..] | [b'e' | b'E', behind @ ..] => digits(behind),
        _ => Some(ahead),
    }
}

/// At least one.
fn digits(ahead: &[u8]) -> Option<&[u8]> {
    let mut behind = ahead;
    while let [b'0'..=b'9', rest @ ..] = behind {
        behind = rest;
    }
    (behind.len() < ahead.len()).then_some(behind)
}

/// The rest of a string behind its quote.
#[inline(always)]
fn text(mut ahead: &[u8]) -> Option<&[u8]> {
    loop {
        let (byte, behind) = stop(ahead)?;
        if byte == b'"' {
            return Some(behind);
        }
        ahead = match behind {
            [b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', behind @ ..] => behind,
            // Half a pair of surrogates stays as it is sent: `compact` takes it too.
            [b'u', a, b, c, d, behind @ ..] if [a, b, c, d].into_iter().all(u8::is_ascii_hexdigit) => behind,
            _ => return None,
        };
    }
}

/// The next quote or backslash, and what lies behind it. `None`: a control character comes before it.
#[inline(always)]
fn stop(mut ahead: &[u8]) -> Option<(u8, &[u8])> {
    // Eight bytes at once: the highest bit of a byte in `ends` is set where one must be looked at. A borrow may set it in
    // bytes behind the first such, never in one before it.
    while let Some((word, behind)) = ahead.split_first_chunk() {
        let word = u64::from_le_bytes(*word);
        // With this bit turned a quote (0x22) is 0x20 and control characters stay below: one comparison with 0x21 finds both.
        let below = (word ^ (ONES * 2)).wrapping_sub(ONES * 0x21);
        let backslash = (word ^ (ONES * 0x5c)).wrapping_sub(ONES);
        let ends = (below | backslash) & !word & HIGH;
        if ends != 0 {
            let bit = ends.trailing_zeros();
            let byte = (word >> (bit - 7)) as u8;
            return (byte >= b' ').then_some((byte, &ahead[bit as usize / 8 + 1..]));
        }
        ahead = behind;
    }
    loop {
        match ahead.split_first()? {
            (byte @ (b'"' | b'\\'), behind) => return Some((*byte, behind)),
            (..b' ', _) => return None,
            (_, behind) => ahead = behind,
        }
    }
}
