//! Bodies as files: bare names, the same content each time, and never more than is announced.

use std::io::{Read, Write};

use flate2::read::MultiGzDecoder;
use mimecast::archive::Archive;
use tempfile::SpooledTempFile;

pub fn archive(data: &[u8]) {
    let open = || {
        let mut body = SpooledTempFile::new(1 << 20);
        body.write_all(data).unwrap();
        Archive::open(body, "../receipt_1.json.gz")
    };
    let (zip, gzip) =
        (data.starts_with(b"PK\x03\x04") || data.starts_with(b"PK\x05\x06"), data.starts_with(b"\x1f\x8b"));
    let Ok(mut archive) = open() else {
        assert!(zip || data.is_empty(), "only a zip has a directory to be unreadable");
        return;
    };
    for file in archive.files() {
        assert!(!file.name.contains(['/', '\\']) && !file.name.contains(char::is_control), "{:?}", file.name);
        assert!(!["", ".", ".."].contains(&file.name.as_str()));
    }
    let count = archive.files().len();
    assert!(zip || count == 1);
    for index in (0..count).take(16) {
        let first = content(&mut archive, index);
        assert_eq!(content(&mut archive, index), first, "another content the second time");
        let extracted = archive.extract(index, data.to_vec()).map(|mut file| {
            let mut content = Vec::new();
            file.read_to_end(&mut content).unwrap();
            content
        });
        assert_eq!(extracted.ok(), first.clone().ok());
        if gzip {
            let mut reference = Vec::new();
            let whole = MultiGzDecoder::new(data).read_to_end(&mut reference).is_ok();
            assert_eq!(first, if whole { Ok(reference) } else { Err(()) });
        } else if !zip {
            assert_eq!(first.as_deref(), Ok(data));
        }
    }
    assert!(archive.read(count).is_err());
}

fn content(archive: &mut Archive, index: usize) -> Result<Vec<u8>, ()> {
    let mut content = Vec::new();
    archive.read(index).map_err(|_| ())?.read_to_end(&mut content).map_err(|_| ())?;
    Ok(content)
}
