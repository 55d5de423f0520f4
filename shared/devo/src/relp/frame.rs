//! RELP frames: `TXNR SP COMMAND SP DATALEN [SP DATA] LF`.
//! <https://github.com/rsyslog/librelp/blob/main/doc/relp.md>

use bytes::{BufMut, BytesMut};

/// The most an answer's data may hold, in bytes: a code, a text of at most 80 characters, and the offers of `open`.
const MAX_ANSWER: usize = 16_000;

/// A frame of the server.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    /// That of the command it answers; 0 for a hint.
    pub number: u32,
    pub command: &'a [u8],
    pub data: &'a [u8],
}

/// Appends the frame of a command whose data are these parts, one after the other.
pub(super) fn put(out: &mut BytesMut, number: u32, command: &str, data: &[&[u8]]) {
    let length: usize = data.iter().map(|part| part.len()).sum();
    out.extend_from_slice(format!("{number} {command} {length}").as_bytes());
    if length > 0 {
        out.put_u8(b' ');
        data.iter().for_each(|part| out.extend_from_slice(part));
    }
    out.put_u8(b'\n');
}

/// The frame that `input` begins with, and its length; nothing while it is incomplete.
///
/// # Errors
/// What is malformed about it.
pub(super) fn parse(input: &[u8]) -> Result<Option<(Frame<'_>, usize)>, &'static str> {
    let mut rest = input;
    let Some(number) = field(&mut rest, 9, u8::is_ascii_digit)? else { return Ok(None) };
    rest = rest.strip_prefix(b" ").ok_or("no space after the number")?;
    let Some(command) = field(&mut rest, 32, u8::is_ascii_alphabetic)? else { return Ok(None) };
    rest = rest.strip_prefix(b" ").ok_or("no space after the command")?;
    let Some(length) = field(&mut rest, 9, u8::is_ascii_digit)? else { return Ok(None) };
    let length = decimal(length) as usize;
    if length > MAX_ANSWER {
        return Err("longer than any answer");
    }
    if length > 0 {
        rest = rest.strip_prefix(b" ").ok_or("no space before the data")?;
    }
    match rest.get(length) {
        None => Ok(None),
        Some(b'\n') => {
            let frame = Frame { number: decimal(number), command, data: &rest[..length] };
            Ok(Some((frame, input.len() - rest.len() + length + 1)))
        }
        Some(_) => Err("its data are not as long as it says"),
    }
}

/// Takes a field off `rest`; nothing while the byte that ends it has not come.
fn field<'a>(
    rest: &mut &'a [u8],
    most: usize,
    belongs: impl Fn(&u8) -> bool,
) -> Result<Option<&'a [u8]>, &'static str> {
    match rest.iter().position(|byte| !belongs(byte)) {
        Some(0) => Err("a field is missing"),
        Some(length) if length <= most => {
            let (field, after) = rest.split_at(length);
            *rest = after;
            Ok(Some(field))
        }
        None if rest.len() <= most => Ok(None),
        _ => Err("a field is too long"),
    }
}

/// The value of at most nine digits.
fn decimal(digits: &[u8]) -> u32 {
    digits.iter().fold(0, |value, digit| value * 10 + u32::from(digit - b'0'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn frames_as_librelp_writes_them() {
        let mut out = BytesMut::new();
        put(&mut out, 1, "open", &[b"relp_version=0\n", b"commands=syslog"]);
        put(&mut out, 999_999_999, "close", &[]);
        assert_eq!(&out[..], b"1 open 30 relp_version=0\ncommands=syslog\n999999999 close 0\n");
        let rsp = |data| Frame { number: 7, command: b"rsp", data };
        assert_eq!(parse(b"7 rsp 6 200 OK\n7 rsp").unwrap(), Some((rsp(b"200 OK"), 15)));
        assert_eq!(parse(b"7 rsp 3 \n \n\n").unwrap(), Some((rsp(b"\n \n"), 12)));
        let hint = Frame { number: 0, command: b"serverclose", data: b"" };
        assert_eq!(parse(b"0 serverclose 0\n").unwrap(), Some((hint, 16)));
    }

    #[test]
    fn says_what_is_malformed() {
        for (input, error) in [
            (&b" rsp 0\n"[..], "a field is missing"),
            (b"x", "a field is missing"),
            (b"1  6 200 OK\n", "a field is missing"),
            (b"1 rsp \n", "a field is missing"),
            (b"1234567890", "a field is too long"),
            (b"1 abcdefghabcdefghabcdefghabcdefgha", "a field is too long"),
            (b"1 rsp 0000000001 x\n", "a field is too long"),
            (b"1\trsp", "no space after the number"),
            (b"1 rsp6 200 OK\n", "no space after the command"),
            (b"1 rsp 6\n200 OK\n", "no space before the data"),
            (b"1 rsp 16001 ", "longer than any answer"),
            (b"1 rsp 0 \n", "its data are not as long as it says"),
            (b"1 rsp 6 200 O\n1", "its data are not as long as it says"),
            (b"1 rsp 6 200 OKAY\n", "its data are not as long as it says"),
        ] {
            assert_eq!(parse(input).unwrap_err(), error, "{}", input.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn reads_what_was_written(
            number in 0_u32..1_000_000_000,
            command in "[a-zA-Z]{1,32}",
            data in proptest::collection::vec(any::<u8>(), 0..200),
            after in any::<Vec<u8>>(),
        ) {
            let mut out = BytesMut::new();
            put(&mut out, number, &command, &[&data[..data.len() / 2], &data[data.len() / 2..]]);
            let length = out.len();
            for part in 0..length {
                prop_assert_eq!(parse(&out[..part]), Ok(None));
            }
            out.extend(after);
            let frame = Frame { number, command: command.as_bytes(), data: &data };
            prop_assert_eq!(parse(&out), Ok(Some((frame, length))));
        }

        #[test]
        fn takes_any_bytes(input in "[0-9]{0,11} ?[a-z]{0,3} ?[0-9]{0,3}[ \n]?.{0,4}\n?") {
            if let Ok(Some((_, length))) = parse(input.as_bytes()) {
                prop_assert!(length <= input.len());
            }
        }
    }
}
