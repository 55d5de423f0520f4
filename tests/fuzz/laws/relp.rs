//! RELP frames of a server: read as they are written, and never before they are complete.

use bytes::BytesMut;

#[path = "../../../shared/devo/src/relp/frame.rs"]
mod frame;

pub fn relp(data: &[u8]) {
    let Ok(Some((read, length))) = frame::parse(data) else { return };
    assert!(length <= data.len() && read.data.len() < length && read.number < 1_000_000_000);
    assert_eq!(frame::parse(&data[..length]), Ok(Some((frame::parse(data).unwrap().unwrap().0, length))));
    for part in 0..length {
        assert_eq!(frame::parse(&data[..part]), Ok(None), "read before its end");
    }
    let mut written = BytesMut::new();
    frame::put(&mut written, read.number, str::from_utf8(read.command).unwrap(), &[read.data]);
    assert_eq!(frame::parse(&written), Ok(Some((read, written.len()))));
}
