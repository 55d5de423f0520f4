//! One JSON object with the events in an array under one of its keys: `{"type":"MTA","data":[{...},{...}]}`.
//!
//! Until the array is found nothing is consumed, so that a document without it comes out whole as bad.

use std::io::{self, Read};

use super::{Input, Piece};
use crate::json::{self, Found, Scan};

pub(super) struct Array {
    key: &'static str,
    stage: Stage,
    /// How far the window has been read.
    at: usize,
    scan: Scan,
    found: bool,
}

enum Stage {
    Start,
    Members,
    Elements {
        first: bool,
    },
    /// In the middle of an element longer than the cap.
    Long,
    /// The structure is broken for this reason.
    Broken {
        reason: String,
        first: bool,
    },
}

/// Expected within the cap.
const START: &str = "its start";

/// Why there is no next element.
enum Stop {
    Io(io::Error),
    Broken(&'static str),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Array {
    pub(super) fn new(key: &'static str) -> Self {
        Self { key, stage: Stage::Start, at: 0, scan: Scan::default(), found: false }
    }

    pub(super) fn broke_off(&self) -> bool {
        matches!(self.stage, Stage::Broken { .. })
    }

    /// Whether the array begins in these first bytes of a document.
    pub(super) fn finds(mut self, head: &[u8]) -> bool {
        self.next(&mut Input::after(Vec::new(), head, [])).is_ok() && self.found
    }

    pub(super) fn next<R: Read, const N: usize>(
        &mut self,
        input: &mut Input<R, N>,
    ) -> io::Result<Option<(Piece, Found<N>)>> {
        match self.step(input) {
            Ok(piece) => Ok(piece),
            Err(Stop::Io(error)) => Err(error),
            Err(Stop::Broken(expected)) => {
                let key = self.key;
                let fault = if self.found { "unreadable json".into() } else { format!("no array {key:?}") };
                let at = input.offset() + self.at as u64;
                let reason = format!("{fault}: {expected} expected at byte {at} of the file");
                self.stage = Stage::Broken { reason, first: true };
                self.next(input)
            }
        }
    }

    fn step<R: Read, const N: usize>(&mut self, input: &mut Input<R, N>) -> Result<Option<(Piece, Found<N>)>, Stop> {
        loop {
            match &mut self.stage {
                Stage::Start => match self.peek(input)? {
                    None => return Ok(None),
                    Some(b'{') => {
                        self.at += 1;
                        self.stage = Stage::Members;
                        if self.peek(input)? != Some(b'}') {
                            self.member(input)?;
                        }
                    }
                    Some(_) => return Err(Stop::Broken("an object")),
                },
                Stage::Members => match self.peek(input)? {
                    Some(b',') => {
                        self.at += 1;
                        self.member(input)?;
                    }
                    Some(b'}') if !self.found => return Err(Stop::Broken("that member")),
                    Some(b'}') => {
                        self.at += 1;
                        return match self.peek(input)? {
                            Some(_) => Err(Stop::Broken("nothing more")),
                            None => Ok(None),
                        };
                    }
                    _ => return Err(Stop::Broken("a comma or closing brace")),
                },
                Stage::Elements { first } => {
                    let first = std::mem::take(first);
                    match self.peek(input)? {
                        Some(b']') => {
                            self.at += 1;
                            self.stage = Stage::Members;
                            continue;
                        }
                        Some(b',') if !first => self.at += 1,
                        Some(_) if first => {}
                        _ => return Err(Stop::Broken("a comma or closing bracket")),
                    }
                    self.start_of_value(input)?;
                    if !self.value(input)? {
                        self.stage = Stage::Long;
                        return Ok(Some(self.part(input)));
                    }
                    let event = input.event(self.at);
                    let piece = Piece::of(event, || input.copy(self.at));
                    self.consume(input);
                    return Ok(Some(piece));
                }
                Stage::Long => {
                    if self.value(input)? {
                        self.stage = Stage::Elements { first: false };
                    }
                    if self.at > 0 {
                        return Ok(Some(self.part(input)));
                    }
                }
                Stage::Broken { reason, first } => {
                    while !input.full() && input.fill()? {}
                    let raw = input.take(input.window().len());
                    if raw.is_empty() && !*first {
                        return Ok(None);
                    }
                    *first = false;
                    return Ok(Some(Piece::bad(raw, reason.clone())));
                }
            }
        }
    }

    /// Passes over a member, or into the array.
    fn member<R: Read, const N: usize>(&mut self, input: &mut Input<R, N>) -> Result<(), Stop> {
        if self.peek(input)? != Some(b'"') {
            return Err(Stop::Broken("a key"));
        }
        let start = self.at;
        if !self.value(input)? {
            return Err(Stop::Broken("a shorter key"));
        }
        let wanted = json::key_is(&input.window()[start + 1..self.at - 1], self.key);
        if self.peek(input)? != Some(b':') {
            return Err(Stop::Broken("a colon"));
        }
        self.at += 1;
        if self.start_of_value(input)? == b'[' && wanted {
            self.at += 1;
            self.found = true;
            self.stage = Stage::Elements { first: true };
            return Ok(());
        }
        while !self.value(input)? {
            if !self.found {
                return Err(Stop::Broken(START));
            }
            self.consume(input);
        }
        Ok(())
    }

    fn start_of_value<R: Read, const N: usize>(&mut self, input: &mut Input<R, N>) -> Result<u8, Stop> {
        match self.peek(input)? {
            None | Some(b',' | b']' | b'}') => Err(Stop::Broken("a value")),
            Some(byte) => Ok(byte),
        }
    }

    /// Moves `at` past the value that begins or goes on there; false: the window is full before its end.
    fn value<R: Read, const N: usize>(&mut self, input: &mut Input<R, N>) -> Result<bool, Stop> {
        loop {
            let window = input.window();
            if let Some(end) = self.scan.end(window, self.at) {
                self.at = end;
                self.scan = Scan::default();
                return Ok(true);
            }
            self.at = window.len();
            if input.full() {
                return Ok(false);
            }
            if !input.fill()? {
                return Err(Stop::Broken("the rest of a value"));
            }
        }
    }

    /// The next byte that is not white space, and moves there.
    fn peek<R: Read, const N: usize>(&mut self, input: &mut Input<R, N>) -> Result<Option<u8>, Stop> {
        loop {
            let ahead = &input.window()[self.at..];
            let next = ahead.iter().position(|&byte| !json::is_space(byte));
            let byte = next.map(|next| ahead[next]);
            self.at += next.unwrap_or(ahead.len());
            if self.found {
                self.consume(input);
            }
            if byte.is_some() {
                return Ok(byte);
            }
            if !self.found && input.full() {
                return Err(Stop::Broken(START));
            }
            if self.at == input.window().len() && !input.fill()? {
                return Ok(None);
            }
        }
    }

    fn consume<R: Read, const N: usize>(&mut self, input: &mut Input<R, N>) {
        input.consume(std::mem::take(&mut self.at));
    }

    fn part<R: Read, const N: usize>(&mut self, input: &mut Input<R, N>) -> (Piece, Found<N>) {
        let raw = input.take(std::mem::take(&mut self.at));
        Piece::bad(raw, format!("part of an event longer than {} bytes", input.cap))
    }
}
