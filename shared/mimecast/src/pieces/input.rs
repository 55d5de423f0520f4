//! The reader with a buffer that grows to the piece under way: no byte is moved or looked at more than a few times.

use std::io::{self, Read};

use bytes::Bytes;

use super::MAX_EVENT;

pub(super) const BOM: &[u8] = b"\xef\xbb\xbf";

pub(super) struct Input<R> {
    reader: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    offset: u64,
    opened: bool,
    /// How much is asked of the reader at once.
    pub(super) chunk: usize,
    /// The longest piece.
    pub(super) cap: usize,
}

impl<R: Read> Input<R> {
    pub(super) fn new(reader: R) -> Self {
        let (buffer, chunk, cap) = (Vec::new(), 256 << 10, MAX_EVENT);
        Self { reader, buffer, start: 0, end: 0, offset: 0, opened: false, chunk, cap }
    }

    /// What has been read and not consumed, up to the cap: a piece must end in it.
    pub(super) fn window(&self) -> &[u8] {
        &self.buffer[self.start..self.end.min(self.start + self.cap)]
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

    /// The first `count` bytes of the window, consumed. A copy: a slice would keep the whole buffer alive.
    pub(super) fn take(&mut self, count: usize) -> Bytes {
        let taken = Bytes::copy_from_slice(&self.window()[..count]);
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
