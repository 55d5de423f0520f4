//! A temporary directory that takes nothing. Alone in its process, which has one such directory.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use mimecast::archive::Archive;
use mimecast::{Error, ReadError};
use support::{PATH, V1, answer, client, until};
use tempfile::SpooledTempFile;

#[tokio::test(start_paused = true)]
async fn a_temporary_directory_that_takes_nothing_makes_no_file_a_broken_one() {
    tempfile::env::override_temp_dir("/nowhere/at/all".as_ref()).unwrap();

    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(&vec![b'x'; 20 << 20]).unwrap();
    let mut body = SpooledTempFile::new(1 << 20);
    body.write_all(&gzip.finish().unwrap()).unwrap();
    let mut archive = Archive::open(body, "x.gz").unwrap();
    assert!(matches!(archive.extract(0, Vec::new()).unwrap_err(), ReadError::Local(_)));

    let (client, asked) = client(V1, |_, _| answer(200, &[("mc-siem-token", "t")], vec![b'x'; 9 << 20]));
    let error = client.file(PATH, "{}", "mc-siem-token", true, until()).await.unwrap_err();
    assert!(
        matches!(&error, Error::Local(text) if text.starts_with("the temporary directory does not take the file: No such file")),
        "{error}"
    );
    assert_eq!(asked.lock().unwrap().len(), 1);
}
