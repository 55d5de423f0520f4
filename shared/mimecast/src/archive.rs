//! An answer's body as files: the entries of a zip, the content of a gzip, or the body itself.
//!
//! Decided by the body's first bytes, because headers and names of real answers are wrong at times. Files are inflated
//! while they are read and never lie unpacked anywhere. What is in them is left to `pieces`.

use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};

use flate2::{bufread, read};
use memchr::memmem::Finder;
use tempfile::{SpooledData, SpooledTempFile};
use zip::ZipArchive;
use zip::result::ZipError;

use crate::ReadError;

/// The largest file in bytes, inflated, and the most that the files of a zip may say they hold; reading on is an error.
pub const MAX_FILE: u64 = 2 << 30;
/// The largest body in bytes; of one that is longer only the beginning may have been received.
pub const MAX_BODY: u64 = 1 << 30;
/// The most files in a zip: its directory is held in memory.
const MAX_FILES: usize = 10_000;

/// What an inflated file may hold in memory; above it goes to a temporary file.
const IN_MEMORY: usize = 16 << 20;

/// An answer's body, opened.
pub struct Archive {
    body: Body,
    files: Vec<File>,
}

enum Body {
    Zip(ZipArchive<SpooledTempFile>),
    Gzip(SpooledData),
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

/// A file's content.
#[derive(Debug)]
pub enum Content {
    /// One of up to 16 MB.
    Memory(Cursor<Vec<u8>>),
    /// A larger one, in a temporary file.
    Disk(std::fs::File),
}

impl Archive {
    /// `name` is that of the body itself (from the answer's header or link), used where no zip names the file.
    ///
    /// # Errors
    /// `Broken`: the body is empty or larger than [`MAX_BODY`], or is a zip whose directory cannot be read, lists a name twice, or
    /// promises too much. `Local`: this machine does not give it back.
    pub fn open(mut body: SpooledTempFile, name: &str) -> Result<Self, ReadError> {
        if body.seek(SeekFrom::End(0))? > MAX_BODY {
            return Err(ReadError::Broken(format!("larger than {MAX_BODY} bytes")));
        }
        body.rewind()?;
        let mut magic = Vec::new();
        (&mut body).take(4).read_to_end(&mut magic)?;
        body.rewind()?;
        if magic.is_empty() {
            // A gzip or zip of nothing has bytes: this one broke off.
            return Err(ReadError::Broken("an empty body".into()));
        }
        if magic == b"PK\x03\x04" || magic == b"PK\x05\x06" {
            if central_headers(&mut body)? > MAX_FILES {
                return Err(ReadError::Broken(format!("a zip of more than {MAX_FILES} files")));
            }
            body.rewind()?;
            let zip = ZipArchive::new(body)?;
            let files = entries(&zip)?;
            return Ok(Self { body: Body::Zip(zip), files });
        }
        let name = last_component(name);
        let files = vec![File { name, entry: 0 }];
        let body = if magic.starts_with(b"\x1f\x8b") { Body::Gzip(body.into_inner()) } else { Body::Plain(body) };
        Ok(Self { body, files })
    }

    /// Whether checksums tell that what is read is whole.
    pub fn is_checked(&self) -> bool {
        !matches!(self.body, Body::Plain(_))
    }

    /// The files in the order of the zip, without empty directories.
    pub fn files(&self) -> &[File] {
        &self.files
    }

    /// The content of a file, from its start.
    ///
    /// # Errors
    /// `Broken`, here or as [`ReadError::from`] an error of the reader: the file is encrypted, of an unsupported compression,
    /// damaged or larger than [`MAX_FILE`] or than the zip's directory says. The other files stay readable.
    pub fn read(&mut self, index: usize) -> Result<Box<dyn Read + '_>, ReadError> {
        let file = self.files.get(index).ok_or_else(|| ReadError::Broken(format!("no file number {index}")))?;
        let content: Box<dyn Read + '_> = match &mut self.body {
            Body::Zip(zip) => Box::new(zip.by_index(file.entry)?),
            Body::Gzip(SpooledData::InMemory(body)) => Box::new(bufread::MultiGzDecoder::new(&body.get_ref()[..])),
            Body::Gzip(SpooledData::OnDisk(body)) => {
                body.rewind()?;
                Box::new(read::MultiGzDecoder::new(body))
            }
            Body::Plain(body) => {
                body.rewind()?;
                Box::new(body)
            }
        };
        Ok(Box::new(Capped { content, cap: MAX_FILE, left: MAX_FILE }))
    }

    /// The content of a file, inflated and checked to its end: nothing of a damaged file gets out. `held` is memory to use: that of
    /// the file before, or none. To have new memory mapped, page by page, costs half as much as inflating into it.
    ///
    /// # Errors
    /// As [`Archive::read`]; `Local`, where the temporary directory does not take it.
    pub fn extract(&mut self, index: usize, mut held: Vec<u8>) -> Result<Content, ReadError> {
        // With a byte to spare, into which the end is read.
        let room = self.expected(index)?.min(IN_MEMORY) + 1;
        // One that has served a file on disk may be larger than any file in memory needs.
        if (room..=2 * IN_MEMORY).contains(&held.capacity()) {
            held.resize(room, 0);
        } else {
            held = vec![0; room];
        }
        let (mut length, mut disk) = (0, None);
        let mut content = self.read(index)?;
        loop {
            if length == held.len() && length <= IN_MEMORY {
                held.resize((2 * length).min(IN_MEMORY) + 1, 0);
            } else if length == held.len() {
                write(&mut disk, &held).map_err(ReadError::Local)?;
                length = 0;
            }
            match content.read(&mut held[length..]) {
                Ok(0) => break,
                Ok(count) => length += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        held.truncate(length);
        if disk.is_some() {
            write(&mut disk, &held).map_err(ReadError::Local)?;
        }
        let Some(mut disk) = disk else { return Ok(Content::Memory(Cursor::new(held))) };
        disk.rewind().map_err(ReadError::Local)?;
        Ok(Content::Disk(disk))
    }

    /// How many bytes a file is likely to have. A guess: it may be a lie.
    fn expected(&mut self, index: usize) -> Result<usize, ReadError> {
        let Some(file) = self.files.get(index) else { return Ok(0) };
        let size = match &mut self.body {
            Body::Zip(zip) => zip.by_index_data(file.entry)?.size(),
            // Its last four bytes say the length of its last member.
            Body::Gzip(SpooledData::InMemory(body)) => {
                body.get_ref().last_chunk().map_or(0, |size| u32::from_le_bytes(*size).into())
            }
            // Too large to be held.
            Body::Gzip(SpooledData::OnDisk(_)) => IN_MEMORY as u64,
            Body::Plain(body) => body.seek(SeekFrom::End(0))?,
        };
        Ok(usize::try_from(size).unwrap_or(usize::MAX))
    }
}

/// Whatever goes wrong in writing, and by whatever kind, is no fault of the bytes.
fn write(disk: &mut Option<std::fs::File>, bytes: &[u8]) -> io::Result<()> {
    let disk = match disk {
        Some(disk) => disk,
        None => disk.insert(tempfile::tempfile()?),
    };
    disk.write_all(bytes)
}

impl Content {
    /// Its first bytes, all of them where it is in memory, and a reader of the others.
    pub fn into_parts(self) -> (Vec<u8>, Box<dyn Read + Send>) {
        match self {
            Self::Memory(bytes) => (bytes.into_inner(), Box::new(io::empty())),
            Self::Disk(file) => (Vec::new(), Box::new(file)),
        }
    }
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Memory(bytes) => bytes.read(buffer),
            Self::Disk(file) => file.read(buffer),
        }
    }
}

impl Seek for Content {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match self {
            Self::Memory(bytes) => bytes.seek(to),
            Self::Disk(file) => file.seek(to),
        }
    }
}

fn entries(zip: &ZipArchive<SpooledTempFile>) -> Result<Vec<File>, ReadError> {
    if zip.has_duplicate_names() {
        // Only the last of each name could be read; the others would be lost.
        return Err(ReadError::Broken("the zip lists a file name twice".into()));
    }
    let mut files = Vec::with_capacity(zip.len());
    let mut left = MAX_FILE;
    for entry in 0..zip.len() {
        let listed = zip.by_index_data(entry)?;
        // What is named as a directory and holds something is a file all the same.
        if !listed.is_dir() || listed.size() > 0 {
            let name = last_component(&String::from_utf8_lossy(listed.name_raw()));
            // A reader gives no more than this, and entries may share their packed bytes: few of these can hold any amount.
            let rest = left.checked_sub(listed.size());
            left = rest.ok_or_else(|| ReadError::Broken(format!("a zip of more than {MAX_FILE} bytes")))?;
            files.push(File { name, entry });
        }
    }
    Ok(files)
}

/// How many files the directory can list at most, wherever in the body it lies: `ZipArchive` takes in all of it at once.
fn central_headers(body: &mut impl Read) -> io::Result<usize> {
    let header = Finder::new(b"PK\x01\x02");
    let (mut chunk, mut kept, mut count) = (vec![0; 64 << 10], 0, 0);
    loop {
        let read = body.read(&mut chunk[kept..])?;
        if read == 0 {
            return Ok(count);
        }
        let length = kept + read;
        count += header.find_iter(&chunk[..length]).count();
        // One may lie across the border; three bytes are too few to be counted twice.
        kept = length.min(3);
        chunk.copy_within(length - kept..length, 0);
    }
}

/// What zip complains of is wrong with the bytes, but for an error of the file that it reads them from.
impl From<ZipError> for ReadError {
    fn from(error: ZipError) -> Self {
        match error {
            ZipError::Io(error) => of_decoder(error).into(),
            error => Self::Broken(error.to_string()),
        }
    }
}

/// A decoder's error. Of bytes that they do not like decoders say `Other` at times, which the operating system never says.
fn of_decoder(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::Other && error.raw_os_error().is_none() {
        return io::Error::new(io::ErrorKind::InvalidData, error);
    }
    error
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
        let count = self.content.read(buffer).map_err(of_decoder)?;
        let Some(left) = self.left.checked_sub(count as u64) else {
            // Not `FileTooLarge`: that is what a file system says that has no room.
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("larger than {} bytes", self.cap)));
        };
        self.left = left;
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
