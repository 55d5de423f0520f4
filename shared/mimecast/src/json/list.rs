//! The members of an object and the elements of an array, by their borders alone.

use super::{Scan, is_space};

/// JSON whose own level cannot be read: a bracket, comma, colon or value is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unreadable json: {expected} expected at byte {at}")]
pub struct Broken {
    /// Offset in the slice that was given.
    pub at: usize,
    /// What should have been there.
    pub expected: &'static str,
}

/// The members of an object, as (key text between the quotes, escapes as sent; value). Ends after the first error.
pub fn members(object: &[u8]) -> Members<'_> {
    Members(List::new(object, [b'{', b'}']))
}

/// The elements of an array. Ends after the first error.
pub fn elements(array: &[u8]) -> Elements<'_> {
    Elements(List::new(array, [b'[', b']']))
}

/// See [`members`].
pub struct Members<'a>(List<'a>);

/// See [`elements`].
pub struct Elements<'a>(List<'a>);

impl<'a> Iterator for Members<'a> {
    type Item = Result<(&'a [u8], &'a [u8]), Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next(|list| {
            let key = list.key()?;
            Ok((key, list.value()?))
        })
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Result<&'a [u8], Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next(List::value)
    }
}

/// A walk over comma-separated items in brackets.
#[derive(Clone, Copy)]
pub(crate) struct List<'a> {
    bytes: &'a [u8],
    at: usize,
    brackets: [u8; 2],
    stage: Stage,
    /// It is an item of another, and may have more behind it.
    is_item: bool,
}

#[derive(Clone, Copy)]
enum Stage {
    Before,
    Inside,
    Over,
}

impl<'a> List<'a> {
    fn new(bytes: &'a [u8], brackets: [u8; 2]) -> Self {
        Self { bytes, at: 0, brackets, stage: Stage::Before, is_item: false }
    }

    /// Stands before the one value in `bytes`.
    pub(crate) fn before(bytes: &'a [u8]) -> Self {
        Self { stage: Stage::Over, ..Self::new(bytes, [0; 2]) }
    }

    /// Walks over the list that is the value here, without looking for its end first. `item` has to take one value each time.
    pub(crate) fn nested<E: From<Broken>>(
        &mut self,
        brackets: [u8; 2],
        mut item: impl FnMut(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut list = Self { brackets, stage: Stage::Before, is_item: true, ..*self };
        while list.step()? {
            item(&mut list)?;
        }
        self.at = list.at;
        Ok(())
    }

    /// The key here, between its quotes, and moves to its value.
    pub(crate) fn key(&mut self) -> Result<&'a [u8], Broken> {
        if self.peek() != Some(b'"') {
            return Err(self.broken("a key"));
        }
        let key = self.value()?;
        if self.peek() != Some(b':') {
            return Err(self.broken("a colon"));
        }
        self.at += 1;
        Ok(&key[1..key.len() - 1])
    }

    fn next<T>(&mut self, item: impl FnOnce(&mut Self) -> Result<T, Broken>) -> Option<Result<T, Broken>> {
        let item = match self.step() {
            Ok(true) => item(self),
            Ok(false) => return None,
            Err(broken) => Err(broken),
        };
        if item.is_err() {
            self.stage = Stage::Over;
        }
        Some(item)
    }

    /// Moves to where an item must be; false: the list is over.
    fn step(&mut self) -> Result<bool, Broken> {
        let [open, close] = self.brackets;
        let next = self.peek();
        match self.stage {
            Stage::Before if next == Some(open) => {
                self.stage = Stage::Inside;
                self.at += 1;
                if self.peek() != Some(close) {
                    return Ok(true);
                }
            }
            Stage::Inside if next == Some(b',') => {
                self.at += 1;
                return Ok(true);
            }
            Stage::Inside if next == Some(close) => {}
            Stage::Before => return Err(self.broken("an opening bracket")),
            Stage::Inside => return Err(self.broken("a comma or closing bracket")),
            Stage::Over => return Ok(false),
        }
        self.at += 1;
        self.stage = Stage::Over;
        if !self.is_item {
            self.over()?;
        }
        Ok(false)
    }

    /// The value here, gone over by `walk`, and what came of that. Where `walk` fails, brackets alone tell where the value ends.
    pub(crate) fn walked<E>(
        &mut self,
        walk: impl FnOnce(&mut Self) -> Result<(), E>,
    ) -> (Result<&'a [u8], Broken>, Result<(), E>) {
        self.peek();
        let before = *self;
        let outcome = walk(self);
        let value = match &outcome {
            Ok(()) => Ok(&self.bytes[before.at..self.at]),
            Err(_) => {
                *self = before;
                self.value()
            }
        };
        (value, outcome)
    }

    /// # Errors
    /// Where anything but white space is left.
    pub(crate) fn over(&mut self) -> Result<(), Broken> {
        if self.peek().is_some() { Err(self.broken("nothing more")) } else { Ok(()) }
    }

    /// The value here, and moves behind it.
    pub(crate) fn value(&mut self) -> Result<&'a [u8], Broken> {
        self.peek();
        let start = self.at;
        match Scan::default().end(self.bytes, start) {
            Some(end) if end > start => {
                self.at = end;
                Ok(&self.bytes[start..end])
            }
            _ => Err(self.broken("a value")),
        }
    }

    /// The next byte that is not white space, and moves there.
    pub(crate) fn peek(&mut self) -> Option<u8> {
        let found = self.bytes[self.at..].iter().position(|&byte| !is_space(byte));
        self.at = found.map_or(self.bytes.len(), |found| self.at + found);
        self.bytes.get(self.at).copied()
    }

    fn broken(&self, expected: &'static str) -> Broken {
        Broken { at: self.at, expected }
    }
}
