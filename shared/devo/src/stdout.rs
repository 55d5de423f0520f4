//! Way out `stdout:`: prints each line after its table, for trials.

use std::io::{self, Write};

use crate::{Batch, Delivery, Error};

/// Standard output.
#[derive(Debug)]
pub struct Stdout;

impl Stdout {
    pub(crate) fn send(&self, batches: &[Batch<'_>]) -> Delivery {
        print(&mut io::stdout().lock(), batches)
    }
}

fn print(out: &mut impl Write, batches: &[Batch<'_>]) -> Delivery {
    let mut delivery = Delivery::none(batches);
    for (batch, settled) in batches.iter().zip(&mut delivery.settled) {
        for line in &batch.lines {
            // One write and one flush a line, so that `settled` is what the reader of a broken pipe got.
            let printed = [batch.table.as_bytes(), b": ", line, b"\n"].concat();
            if let Err(error) = out.write_all(&printed).and_then(|()| out.flush()) {
                delivery.failure = Some(Error::Unavailable(format!("standard output: {error}")));
                return delivery;
            }
            *settled += 1;
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
        let delivery = print(&mut out, &batches());
        assert_eq!(delivery.settled, [2, 1]);
        assert!(delivery.failure.is_none());
        let expected =
            "mail.mimecast.ttp.url: {\"a\":1}\nmail.mimecast.ttp.url: {\"b\":\"ü\"}\nmy.app.test: {\"c\":3}\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
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
        let delivery = print(&mut Pipe(1), &batches());
        assert_eq!(delivery.settled, [1, 0]);
        assert!(matches!(delivery.failure, Some(Error::Unavailable(text)) if text == "standard output: broken pipe"));
    }
}
