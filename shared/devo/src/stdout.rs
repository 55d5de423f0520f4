//! Way out `stdout:`: prints each line after its table, for trials.

use std::io::{self, Write};

use bytes::Bytes;

use crate::{Delivery, Error};

/// Standard output.
#[derive(Debug)]
pub struct Stdout;

impl Stdout {
    pub(crate) fn send(&self, table: &str, lines: &[Bytes]) -> Delivery {
        print(&mut io::stdout().lock(), table, lines)
    }
}

fn print(out: &mut impl Write, table: &str, lines: &[Bytes]) -> Delivery {
    let mut delivery = Delivery::default();
    for line in lines {
        // One write and one flush a line, so that `settled` is what the reader of a broken pipe got.
        let printed = [table.as_bytes(), b": ", line, b"\n"].concat();
        if let Err(error) = out.write_all(&printed).and_then(|()| out.flush()) {
            delivery.failure = Some(Error::Unavailable(format!("standard output: {error}")));
            break;
        }
        delivery.settled += 1;
    }
    delivery
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: [Bytes; 2] = [Bytes::from_static(b"{\"a\":1}"), Bytes::from_static("{\"b\":\"ü\"}".as_bytes())];

    #[test]
    fn prints_table_and_line() {
        let mut out = Vec::new();
        let delivery = print(&mut out, "mail.mimecast.ttp.url", &LINES);
        assert_eq!(delivery.settled, 2);
        assert!(delivery.failure.is_none());
        let expected = "mail.mimecast.ttp.url: {\"a\":1}\nmail.mimecast.ttp.url: {\"b\":\"ü\"}\n";
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
        let delivery = print(&mut Pipe(1), "my.app.test", &LINES);
        assert_eq!(delivery.settled, 1);
        assert!(matches!(delivery.failure, Some(Error::Unavailable(text)) if text == "standard output: broken pipe"));
    }
}
