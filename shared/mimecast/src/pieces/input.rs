//! The reader with a buffer that grows to the piece under way: no byte is moved or looked at more than a few times.

use std::io::{self, Read};

use bytes::{Bytes, BytesMut};

use super::MAX_EVENT;
use crate::json::{self, Found, Layout};

pub(super) const BOM: &[u8] = b"\xef\xbb\xbf";

/// Events that are copied out lie together in blocks of this size: none is allocated alone, and none keeps much else in memory.
const BLOCK: usize = 64 << 10;

pub(super) struct Input<R, const N: usize> {
    reader: R,
    buffer: Vec<u8>,
    block: BytesMut,
    layout: Layout<N>,
    start: usize,
    end: usize,
    offset: u64,
    opened: bool,
    /// How much is asked of the reader at once.
    pub(super) chunk: usize,
    /// The longest piece.
    pub(super) cap: usize,
}

impl<R: Read, const N: usize> Input<R, N> {
    /// Where these first bytes have been read already. `keys` are the members of an event that are wanted.
    pub(super) fn after(buffer: Vec<u8>, reader: R, keys: [&'static str; N]) -> Self {
        let (block, layout, end) = (BytesMut::new(), Layout::new(keys), buffer.len());
        let (chunk, cap) = (256 << 10, MAX_EVENT);
        Self { reader, buffer, block, layout, start: 0, end, offset: 0, opened: false, chunk, cap }
    }

    pub(super) fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }

    pub(super) fn keys(&self) -> [&'static str; N] {
        self.layout.wanted()
    }

    /// What has been read and not consumed, up to the cap: a piece must end in it.
    pub(super) fn window(&self) -> &[u8] {
        // Nothing before it is known whether a byte order mark comes first.
        let end = if self.opened { self.end } else { self.start };
        &self.buffer[self.start..end.min(self.start + self.cap)]
    }

    /// Whether the window can grow no more.
    pub(super) fn full(&self) -> bool {
        self.window().len() == self.cap
    }

    /// Where in the file the window begins.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    pub(super) fn consume(&mut self, count: usize) {
        self.start += count;
        self.offset += count as u64;
    }

    /// The event in the first `count` bytes of the window as a compact line, and where in it the wanted members are. A copy: a slice
    /// would keep the whole buffer alive.
    pub(super) fn event(&mut self, count: usize) -> Result<(Bytes, Found<N>), String> {
        let event = &self.buffer[self.start..self.start + count];
        let Some(values) = json::plain_like(event, &mut self.layout) else {
            return json::compact_with(&Bytes::copy_from_slice(event), self.keys());
        };
        let found = json::places(event, values);
        if self.block.capacity() < event.len() {
            // No larger than what may still come: of a small file nothing is kept that is not an event.
            let left = self.end - self.start;
            self.block.reserve(left.min(BLOCK).max(event.len()));
        }
        self.block.extend_from_slice(event);
        Ok((self.block.split().freeze(), found))
    }

    /// The first `count` bytes of the window, in a copy of their own.
    pub(super) fn copy(&self, count: usize) -> Bytes {
        Bytes::copy_from_slice(&self.window()[..count])
    }

    /// The same, consumed.
    pub(super) fn take(&mut self, count: usize) -> Bytes {
        let taken = self.copy(count);
        self.consume(count);
        taken
    }

    /// Reads more; false at the end of the file.
    pub(super) fn fill(&mut self) -> io::Result<bool> {
        if !self.opened {
            while self.end < BOM.len() && self.read()? {}
            self.opened = true;
            if self.window().starts_with(BOM) {
                self.consume(BOM.len());
            }
            return Ok(self.end > 0);
        }
        self.read()
    }

    fn read(&mut self) -> io::Result<bool> {
        if self.start > 0 && self.end + self.chunk > self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.buffer.len() {
            self.buffer.resize(self.end + self.end.max(self.chunk), 0);
        }
        let until = self.buffer.len().min(self.end + self.chunk);
        loop {
            match self.reader.read(&mut self.buffer[self.end..until]) {
                Ok(count) => {
                    self.end += count;
                    return Ok(count > 0);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}
