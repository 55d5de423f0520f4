//! An answer's body as files: the entries of a zip, the content of a gzip, or the body itself.
//!
//! Decided by the body's first bytes, because headers and names of real answers are wrong at times. Files are inflated
//! while they are read and never lie unpacked anywhere. What is in them is left to `pieces`.

use std::io::{self, Read, Seek};

use flate2::read::MultiGzDecoder;
use tempfile::SpooledTempFile;
use zip::ZipArchive;

/// The largest file in bytes, inflated; reading on is an error.
pub const MAX_FILE: u64 = 2 << 30;

/// What an inflated file may hold in memory; above it goes to a temporary file.
const IN_MEMORY: usize = 16 << 20;

/// An answer's body, opened.
pub struct Archive {
    body: Body,
    files: Vec<File>,
}

enum Body {
    Zip(ZipArchive<SpooledTempFile>),
    Gzip(SpooledTempFile),
    Plain(SpooledTempFile),
}

/// A file in an answer's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// The last component of its path, without control characters.
    pub name: String,
    /// Its number in the zip.
    entry: usize,
}

impl Archive {
    /// `name` is that of the body itself (from the answer's header or link), used where no zip names the file.
    ///
    /// # Errors
    /// The body cannot be read, or is a zip whose directory cannot be read or lists a name twice.
    pub fn open(mut body: SpooledTempFile, name: &str) -> io::Result<Self> {
        body.rewind()?;
        let mut magic = Vec::new();
        body.by_ref().take(4).read_to_end(&mut magic)?;
        body.rewind()?;
        if magic == b"PK\x03\x04" || magic == b"PK\x05\x06" {
            let zip = ZipArchive::new(body)?;
            let files = entries(&zip)?;
            return Ok(Self { body: Body::Zip(zip), files });
        }
        let name = last_component(name);
        let files = vec![File { name, entry: 0 }];
        let body = if magic.starts_with(b"\x1f\x8b") { Body::Gzip(body) } else { Body::Plain(body) };
        Ok(Self { body, files })
    }

    /// The files in the order of the zip, without directories.
    pub fn files(&self) -> &[File] {
        &self.files
    }

    /// The content of a file, from its start.
    ///
    /// # Errors
    /// Here or from the reader: the file is encrypted, of an unsupported compression, damaged or larger than [`MAX_FILE`].
    /// The other files stay readable.
    pub fn read(&mut self, index: usize) -> io::Result<Box<dyn Read + '_>> {
        let file = self.files.get(index).ok_or(io::ErrorKind::NotFound)?;
        let content: Box<dyn Read + '_> = match &mut self.body {
            Body::Zip(zip) => Box::new(zip.by_index(file.entry)?),
            Body::Gzip(body) => {
                body.rewind()?;
                Box::new(MultiGzDecoder::new(body))
            }
            Body::Plain(body) => {
                body.rewind()?;
                Box::new(body)
            }
        };
        Ok(Box::new(Capped { content, cap: MAX_FILE, left: MAX_FILE }))
    }

    /// The content of a file, inflated and checked to its end: nothing of a damaged file gets out.
    ///
    /// # Errors
    /// As [`Archive::read`], or the temporary directory is full.
    pub fn extract(&mut self, index: usize) -> io::Result<SpooledTempFile> {
        let mut file = SpooledTempFile::new(IN_MEMORY);
        io::copy(&mut self.read(index)?, &mut file)?;
        file.rewind()?;
        Ok(file)
    }
}

fn entries(zip: &ZipArchive<SpooledTempFile>) -> io::Result<Vec<File>> {
    if zip.has_duplicate_names() {
        // Only the last of each name could be read; the others would be lost.
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the zip lists a file name twice"));
    }
    let mut files = Vec::with_capacity(zip.len());
    for entry in 0..zip.len() {
        let listed = zip.by_index_data(entry)?;
        if !listed.is_dir() {
            let name = last_component(&String::from_utf8_lossy(listed.name_raw()));
            files.push(File { name, entry });
        }
    }
    Ok(files)
}

fn last_component(path: &str) -> String {
    let last = path.rsplit(['/', '\\']).next().unwrap_or_default();
    let name: String = last.chars().filter(|character| !character.is_control()).collect();
    if matches!(name.as_str(), "" | "." | "..") { "unnamed".into() } else { name }
}

/// A reader that fails past its cap, where `Take` would end as if the file were over.
struct Capped<R> {
    content: R,
    cap: u64,
    left: u64,
}

impl<R: Read> Read for Capped<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.content.read(buffer)?;
        let Some(left) = self.left.checked_sub(count as u64) else {
            let text = format!("larger than {} bytes", self.cap);
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
        };
        self.left = left;
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
