//! Way out `stdout:`: prints each line after its table, for trials.

use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use reqwest::Url;

use crate::{Batch, Delivery, Error};

/// What ends a run that prints no more lines.
pub const ENOUGH: &str = "standard output: as many lines as were asked for";

/// Standard output: without end, or for so many lines as its URL names (`stdout:10`).
#[derive(Debug)]
pub struct Stdout {
    left: AtomicUsize,
}

impl Stdout {
    pub(crate) fn open(url: &Url) -> Result<Self, Error> {
        let left = match url.path() {
            "" => usize::MAX,
            number => number.parse().map_err(|_| {
                Error::Configuration("devo url: write it like stdout: or, for ten lines, stdout:10".to_owned())
            })?,
        };
        Ok(Self { left: left.into() })
    }

    pub(crate) fn send(&self, batches: &[Batch<'_>]) -> Delivery {
        print(&mut io::stdout().lock(), batches, &self.left)
    }
}

fn print(out: &mut impl Write, batches: &[Batch<'_>], left: &AtomicUsize) -> Delivery {
    let mut delivery = Delivery::none(batches);
    for (batch, settled) in batches.iter().zip(&mut delivery.settled) {
        for line in &batch.lines {
            if left.load(Relaxed) == 0 {
                delivery.failure = Some(Error::Unavailable(ENOUGH.to_owned()));
                return delivery;
            }
            // One write and one flush a line, so that `settled` is what the reader of a broken pipe got.
            let printed = [batch.table.as_bytes(), b": ", line, b"\n"].concat();
            if let Err(error) = out.write_all(&printed).and_then(|()| out.flush()) {
                delivery.failure = Some(Error::Unavailable(format!("standard output: {error}")));
                return delivery;
            }
            *settled += 1;
            left.fetch_sub(1, Relaxed);
        }
    }
    delivery
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batches() -> [Batch<'static>; 2] {
        [
            Batch { table: "mail.mimecast.ttp.url", lines: vec!["{\"a\":1}".into(), "{\"b\":\"ü\"}".into()] },
            Batch { table: "my.app.test", lines: vec!["{\"c\":3}".into()] },
        ]
    }

    #[test]
    fn prints_table_and_line() {
        let mut out = Vec::new();
        let delivery = print(&mut out, &batches(), &usize::MAX.into());
        assert_eq!(delivery.settled, [2, 1]);
        assert!(delivery.failure.is_none());
        let expected =
            "mail.mimecast.ttp.url: {\"a\":1}\nmail.mimecast.ttp.url: {\"b\":\"ü\"}\nmy.app.test: {\"c\":3}\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn it_ends_after_as_many_lines_as_its_url_names() {
        let mut out = Vec::new();
        let delivery = print(&mut out, &batches(), &2.into());
        assert_eq!(delivery.settled, [2, 0]);
        assert!(matches!(delivery.failure, Some(Error::Unavailable(text)) if text == ENOUGH));
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 2);
        assert!(Stdout::open(&Url::parse("stdout:many").unwrap()).is_err());
    }

    #[test]
    fn a_broken_pipe_leaves_the_rest() {
        struct Pipe(usize);
        impl Write for Pipe {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0 = self.0.checked_sub(1).ok_or(io::ErrorKind::BrokenPipe)?;
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let delivery = print(&mut Pipe(1), &batches(), &usize::MAX.into());
        assert_eq!(delivery.settled, [1, 0]);
        assert!(matches!(delivery.failure, Some(Error::Unavailable(text)) if text == "standard output: broken pipe"));
    }
}
