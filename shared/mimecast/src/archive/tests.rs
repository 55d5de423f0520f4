use std::io::{Cursor, Write};

use flate2::{Compression, write::GzEncoder};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use super::*;

fn open(body: &[u8], name: &str) -> Result<Archive, ReadError> {
    open_from(64, body, name)
}

/// With a body of which so many bytes may be in memory.
fn open_from(in_memory: usize, body: &[u8], name: &str) -> Result<Archive, ReadError> {
    let mut spooled = SpooledTempFile::new(in_memory);
    spooled.write_all(body).unwrap();
    Archive::open(spooled, name)
}

fn zip(entries: &[(&str, &[u8], CompressionMethod)]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content, method) in entries {
        let options = SimpleFileOptions::default().compression_method(*method);
        if name.ends_with('/') {
            zip.add_directory(*name, options).unwrap();
        } else {
            zip.start_file(*name, options).unwrap();
            zip.write_all(content).unwrap();
        }
    }
    zip.finish().unwrap().into_inner()
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(content).unwrap();
    gzip.finish().unwrap()
}

fn content(archive: &mut Archive, index: usize) -> Result<Vec<u8>, ReadError> {
    let mut content = Vec::new();
    archive.read(index)?.read_to_end(&mut content)?;
    Ok(content)
}

fn names(archive: &Archive) -> Vec<&str> {
    archive.files().iter().map(|file| file.name.as_str()).collect()
}

/// Changes bytes in the local and the central header of a zip with one entry, at these offsets in each.
fn patch(zip: &mut [u8], local: usize, central: usize, value: u8) {
    let directory = zip.windows(4).rposition(|magic| magic == b"PK\x01\x02").unwrap();
    zip[local] = value;
    zip[directory + central] = value;
}

#[test]
fn a_zip_gives_its_files_in_order() {
    let long = b"{\"a\":1}\n".repeat(10_000);
    let body = zip(&[
        ("z/", b"", CompressionMethod::Stored),
        ("z/receipt_2.json", &long, CompressionMethod::Deflated),
        ("av_1.json", b"plain", CompressionMethod::Stored),
        ("empty.json", b"", CompressionMethod::Deflated),
    ]);
    let mut archive = open(&body, "guid.zip").unwrap();
    assert_eq!(names(&archive), ["receipt_2.json", "av_1.json", "empty.json"]);
    // crc32 as any zip tool lists it.
    // In any order, and again.
    assert_eq!(content(&mut archive, 1).unwrap(), b"plain");
    assert_eq!(content(&mut archive, 0).unwrap(), long);
    assert_eq!(content(&mut archive, 2).unwrap(), b"");
    assert_eq!(content(&mut archive, 0).unwrap(), long);
    assert_eq!(content(&mut archive, 3).unwrap_err().to_string(), "no file number 3");
}

#[test]
fn an_empty_zip_has_no_files() {
    assert_eq!(names(&open(&zip(&[]), "x.zip").unwrap()), [""; 0]);
}

#[test]
fn a_directory_that_holds_something_is_a_file() {
    let mut body = zip(&[("a.json", b"{}", CompressionMethod::Stored)]);
    while let Some(at) = body.windows(6).position(|name| name == b"a.json") {
        body[at + 5] = b'/';
    }
    let mut archive = open(&body, "x.zip").unwrap();
    assert_eq!(names(&archive), ["unnamed"]);
    assert_eq!(content(&mut archive, 0).unwrap(), b"{}");
}

#[test]
fn names_are_bare() {
    let body = zip(&[
        ("../../etc/passwd", b"", CompressionMethod::Stored),
        ("C:\\logs\\ttp_url_1.json", b"", CompressionMethod::Stored),
        ("a/b\r\n\0c.json", b"", CompressionMethod::Stored),
        ("x/..", b"", CompressionMethod::Stored),
    ]);
    let archive = open(&body, "x.zip").unwrap();
    assert_eq!(names(&archive), ["passwd", "ttp_url_1.json", "bc.json", "unnamed"]);
    assert_eq!(names(&open(b"x", "../a/b.siem").unwrap()), ["b.siem"]);
}

#[test]
fn a_gzip_is_one_file_of_all_its_members() {
    let body = [gzip(b"{\"a\":1}\n"), gzip(b"{\"b\":1}\n")].concat();
    let mut archive = open(&body, "receipt.json.gz").unwrap();
    assert_eq!(names(&archive), ["receipt.json.gz"]);
    for _ in 0..2 {
        assert_eq!(content(&mut archive, 0).unwrap(), b"{\"a\":1}\n{\"b\":1}\n");
    }
}

#[test]
fn any_other_body_is_itself() {
    assert_eq!(open(b"", "x.siem").err().unwrap().to_string(), "an empty body");
    for body in [&b"P"[..], b"a=1|b=2\r\n", b"PK\x03\x05 is no zip"] {
        let mut archive = open(body, "x.siem").unwrap();
        assert_eq!(content(&mut archive, 0).unwrap(), body);
    }
}

#[test]
fn a_damaged_gzip_fails_after_what_it_gave() {
    let mut body = gzip(b"{\"a\":1}\n");
    let crc = body.len() - 8;
    body[crc] ^= 1;
    let mut archive = open(&body, "x").unwrap();
    let mut given = Vec::new();
    archive.read(0).unwrap().read_to_end(&mut given).unwrap_err();
    assert_eq!(given, b"{\"a\":1}\n");
    let cut = open(&body[..crc], "x").and_then(|mut archive| content(&mut archive, 0));
    assert!(matches!(cut.unwrap_err(), ReadError::Broken(reason) if reason.contains("end of file")));
}

#[test]
fn a_zip_without_a_readable_directory_does_not_open() {
    let body = zip(&[("a.json", b"{}", CompressionMethod::Stored)]);
    assert!(open(&body[..body.len() - 10], "x.zip").is_err());
    assert!(open(b"PK\x03\x04", "x.zip").is_err());
    assert!(open(b"PK\x05\x06", "x.zip").is_err());
}

#[test]
fn a_zip_with_a_name_listed_twice_does_not_open() {
    let mut body = zip(&[("a.json", b"1", CompressionMethod::Stored), ("b.json", b"2", CompressionMethod::Stored)]);
    while let Some(at) = body.windows(6).position(|name| name == b"b.json") {
        body[at] = b'a';
    }
    let error = open(&body, "x.zip").err().unwrap();
    assert_eq!(error.to_string(), "the zip lists a file name twice");
}

#[test]
fn a_file_that_cannot_be_read_leaves_the_others_readable() {
    let faults: [(usize, usize, u8, &str); 3] = [
        (6, 8, 1, "unsupported Zip archive: Password required to decrypt file"),
        (8, 10, 99, "compression method not supported: 99"),
        (14, 16, 0, "Invalid checksum"),
    ];
    for (local, central, value, expected) in faults {
        let first = zip(&[("a.json", b"1", CompressionMethod::Stored)]);
        let second = first.windows(4).position(|magic| magic == b"PK\x01\x02").unwrap();
        let mut body = zip(&[("a.json", b"1", CompressionMethod::Stored), ("b.json", b"2", CompressionMethod::Stored)]);
        patch(&mut body, second + local, central, value);
        let mut archive = open(&body, "x.zip").unwrap();
        assert_eq!(content(&mut archive, 1).unwrap_err().to_string(), expected);
        assert_eq!(content(&mut archive, 0).unwrap(), b"1");
    }
}

#[test]
fn a_body_that_is_too_large_does_not_open() {
    let mut body = SpooledTempFile::new(0);
    body.seek(SeekFrom::Start(MAX_BODY)).unwrap();
    body.write_all(b"x").unwrap();
    assert_eq!(Archive::open(body, "x").err().unwrap().to_string(), "larger than 1073741824 bytes");
}

#[test]
fn a_zip_of_too_many_files_does_not_open() {
    let names: Vec<String> = (0..=MAX_FILES).map(|n| n.to_string()).collect();
    let entries: Vec<_> = names.iter().map(|name| (name.as_str(), &b""[..], CompressionMethod::Stored)).collect();
    assert_eq!(open(&zip(&entries[1..]), "x.zip").unwrap().files().len(), MAX_FILES);
    let error = open(&zip(&entries), "x.zip").err().unwrap();
    assert_eq!(error.to_string(), "a zip of more than 10000 files");
    for cut in 1..9 {
        let headers = [&b"x".repeat((64 << 10) - cut)[..], b"PK\x01\x02PK\x01", b"\x02"].concat();
        assert_eq!(central_headers(&mut &headers[..]).unwrap(), 2);
    }
}

#[test]
fn a_zip_that_promises_too_much_does_not_open() {
    let first = zip(&[("a.json", b"1", CompressionMethod::Stored)]);
    let mut body = zip(&[("a.json", b"1", CompressionMethod::Stored), ("b.json", b"1", CompressionMethod::Stored)]);
    // 1.5 GB each, as two entries over the same packed bytes may well have.
    let directory = body.windows(4).position(|magic| magic == b"PK\x01\x02").unwrap();
    let second = first.len() - first.windows(4).position(|magic| magic == b"PK\x01\x02").unwrap() - 22;
    for header in [directory, directory + second] {
        body[header + 24..header + 28].copy_from_slice(&1_500_000_000_u32.to_le_bytes());
    }
    assert_eq!(open(&body, "x.zip").err().unwrap().to_string(), "a zip of more than 2147483648 bytes");
}

#[test]
fn a_file_of_a_zip_gives_no_more_than_its_directory_says() {
    let bomb = vec![b'x'; 10 << 20];
    let mut body = zip(&[("a.json", &bomb, CompressionMethod::Deflated), ("b.json", b"1", CompressionMethod::Stored)]);
    let directory = body.windows(4).position(|magic| magic == b"PK\x01\x02").unwrap();
    body[directory + 24..directory + 28].copy_from_slice(&1000_u32.to_le_bytes());
    let mut archive = open(&body, "x.zip").unwrap();
    let mut given = Vec::new();
    archive.read(0).unwrap().read_to_end(&mut given).unwrap_err();
    assert!(given.len() <= 1000, "{}", given.len());
    assert_eq!(content(&mut archive, 1).unwrap(), b"1");
}

#[test]
fn a_file_past_the_cap_is_an_error_and_no_end() {
    for (cap, fits) in [(7, false), (8, true), (9, true)] {
        let mut read = Vec::new();
        let result = Capped { content: &b"12345678"[..], cap, left: cap }.read_to_end(&mut read);
        assert_eq!(result.is_ok(), fits);
        if let Err(error) = result {
            assert_eq!(ReadError::from(error).to_string(), "larger than 7 bytes");
        }
    }
}

#[test]
fn a_damaged_file_is_broken_and_never_this_machines_trouble() {
    let packed = gzip(&b"{\"a\":1}\n".repeat(1000));
    let zipped = zip(&[("a.json", &b"{\"a\":1}\n".repeat(1000), CompressionMethod::Deflated)]);
    for whole in [packed, zipped] {
        for at in 4..whole.len() {
            for spoilt in [[&whole[..at], &[!whole[at]], &whole[at + 1..]].concat(), whole[..at].to_vec()] {
                for in_memory in [0, usize::MAX] {
                    let failed =
                        open_from(in_memory, &spoilt, "x").and_then(|mut archive| match archive.files().len() {
                            0 => Ok(0),
                            _ => archive.extract(0, Vec::new())?.seek(SeekFrom::End(0)).map_err(ReadError::from),
                        });
                    assert!(!matches!(failed, Err(ReadError::Local(_))), "{at}: {failed:?}");
                }
            }
        }
    }
}

/// Every way in which the same bytes may come, by how many gzip members or by zip, from memory or disk, gives them; in memory up to
/// its bound, whatever a gzip's last member says of its length and whatever lay in that memory before.
#[test]
fn the_same_bytes_come_out_of_every_path() {
    let text: Vec<u8> = b"{\"a\":12345678901234567890}\n".iter().copied().cycle().take(IN_MEMORY + 1).collect();
    for length in [1, 7_000, IN_MEMORY - 1, IN_MEMORY, IN_MEMORY + 1] {
        let text = &text[..length];
        let (first, second) = text.split_at(length / 2);
        let (third, fourth) = second.split_at(second.len() - 1);
        let paths = [
            ("plain", text.to_vec()),
            ("gzip", gzip(text)),
            ("gzip, 2 members", [gzip(first), gzip(second)].concat()),
            ("gzip, 3 members", [gzip(first), gzip(third), gzip(fourth)].concat()),
            ("gzip, an empty member last", [gzip(text), gzip(b"")].concat()),
            ("zip", zip(&[("a.json", text, CompressionMethod::Deflated)])),
            ("zip, stored", zip(&[("a.json", text, CompressionMethod::Stored)])),
        ];
        for (path, body) in paths {
            for (in_memory, held) in [(0, Vec::new()), (usize::MAX, vec![b'x'; 8_000])] {
                let case = format!("{path}, {length}, a body with {in_memory} bytes in memory");
                let mut content = open_from(in_memory, &body, "x").unwrap().extract(0, held).unwrap();
                assert_eq!(matches!(content, Content::Memory(_)), length <= IN_MEMORY, "{case}");
                let mut read = Vec::new();
                content.read_to_end(&mut read).unwrap();
                assert!(read == text, "{case}: as a reader");
                content.rewind().unwrap();
                let (mut read, mut rest) = content.into_parts();
                rest.read_to_end(&mut read).unwrap();
                assert!(read == text, "{case}: in parts");
            }
        }
    }
}

#[test]
fn a_disk_that_fails_while_it_is_read_is_no_broken_file() {
    /// A disk that gives the first half.
    struct Failing(usize);
    impl Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let Some(left) = self.0.checked_sub(1) else { return Err(io::Error::from_raw_os_error(5)) };
            self.0 = left;
            buffer[0] = b'x';
            Ok(1)
        }
    }
    let mut read = Vec::new();
    let error = Capped { content: Failing(3), cap: 9, left: 9 }.read_to_end(&mut read).unwrap_err();
    assert!(matches!(error.into(), ReadError::Local(_)));
    assert!(matches!(ReadError::from(ZipError::Io(io::Error::from_raw_os_error(5))), ReadError::Local(_)));
    assert!(matches!(ReadError::from(ZipError::Io(io::Error::other("an extra field"))), ReadError::Broken(_)));
}
