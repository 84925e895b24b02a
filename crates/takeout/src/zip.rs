//! The parts of a Takeout, read in place: the central directory first, then each entry where it lies. No temporary file.
//!
//! Knows zip64, and entries that are stored or deflated. What is encrypted, leads out of the directory, or is packed in
//! another way is refused by itself; the rest of the part stays readable.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    sync::Arc,
};

use flate2::{Crc, read::DeflateDecoder};

const END: u32 = 0x0605_4b50;
const END_64_LOCATOR: u32 = 0x0706_4b50;
const END_64: u32 = 0x0606_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const LOCAL: u32 = 0x0403_4b50;

const END_BYTES: u64 = 22;
const LOCATOR_BYTES: u64 = 20;
const LOCAL_BYTES: u64 = 30;
const CENTRAL_BYTES: usize = 46;
/// The end record and the longest comment behind it.
const TAIL_BYTES_MAX: u64 = END_BYTES + u16::MAX as u64;
/// The longest central directory that is believed: some ten million entries.
const DIRECTORY_BYTES_MAX: u64 = 2 << 30;

/// Why a part can't be read.
#[derive(Debug, thiserror::Error)]
pub enum PartError {
    #[error("it can't be read: {0}")]
    Io(#[from] io::Error),
    #[error("its end is missing: it was not downloaded to the end, or is no zip")]
    Truncated,
    #[error("its list of files is damaged: {0}")]
    Damaged(&'static str),
}

/// Why an entry can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("it is encrypted")]
    Encrypted,
    #[error("its name leads out of the directory")]
    Escapes,
    #[error("it is packed by method {0}, which is not known")]
    Method(u16),
    #[error("its name is not UTF-8")]
    Name,
}

/// How an entry is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Stored,
    Deflated,
}

/// A file in a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartEntry {
    /// As in the zip, made readable where it is not UTF-8.
    pub path: String,
    /// What the central directory says of the unpacked bytes.
    pub crc32: u32,
    /// Unpacked, in bytes.
    pub bytes: u64,
    /// As it lies in the part, in bytes.
    pub packed_bytes: u64,
    /// Of its local header, from the beginning of the part.
    pub offset: u64,
    /// How it is read, or why it is not.
    pub method: Result<Method, Refused>,
}

/// A zip part. Entries can be read at the same time by several threads.
#[derive(Debug, Clone)]
pub struct Part {
    file: Arc<File>,
    /// Files, in the order of the central directory; directories are left out.
    pub entries: Vec<PartEntry>,
}

impl Part {
    /// Reads the central directory of `file`.
    pub fn open(file: File) -> Result<Self, PartError> {
        let length = file.metadata()?.len();
        let place = find_directory(&file, length)?;
        let mut directory = vec![0; place.bytes as usize];
        file.read_exact_at(&mut directory, place.offset)?;
        let entries = list(&directory, place.entries, place.offset)?;
        Ok(Self { file: Arc::new(file), entries })
    }

    /// A part whose list is known from an earlier look: it is not read again.
    pub fn known(file: File) -> Self {
        Self { file: Arc::new(file), entries: vec![] }
    }

    /// Reads some bytes of a stored entry, from `at` on; none where it is packed, and can't be sought in. Nothing of them is
    /// checked.
    pub fn read_at(&self, entry: &PartEntry, at: u64, bytes: usize) -> io::Result<Option<Vec<u8>>> {
        if entry.method != Ok(Method::Stored) || at >= entry.bytes {
            return Ok(None);
        }
        let mut found = vec![0; (entry.bytes - at).min(bytes as u64) as usize];
        self.file.read_exact_at(&mut found, self.start(entry)? + at)?;
        Ok(Some(found))
    }

    /// Reads an entry from its beginning. The reader fails at its end with `InvalidData` where length or CRC-32 are not
    /// what the part says: what was read until then is not the file.
    pub fn read(&self, entry: &PartEntry) -> io::Result<impl Read + Send + use<>> {
        let method = entry.method.map_err(|refused| io::Error::new(io::ErrorKind::Unsupported, refused))?;
        let packed = Window { file: self.file.clone(), at: self.start(entry)?, left: entry.packed_bytes };
        let plain = match method {
            Method::Stored => Unpacked::Stored(packed),
            Method::Deflated => Unpacked::Deflated(DeflateDecoder::new(io::BufReader::with_capacity(1 << 18, packed))),
        };
        Ok(Checked { plain, crc: Crc::new(), read: 0, crc32: entry.crc32, bytes: entry.bytes })
    }

    /// Where an entry's bytes begin.
    fn start(&self, entry: &PartEntry) -> io::Result<u64> {
        let mut header = [0; LOCAL_BYTES as usize];
        self.file.read_exact_at(&mut header, entry.offset)?;
        if u32_at(&header, 0) != Some(LOCAL) {
            return Err(damaged("no file begins where the part says that this one does"));
        }
        // The extra field here may be longer than in the central directory.
        let names = u64::from(u16_at(&header, 26).unwrap_or(0)) + u64::from(u16_at(&header, 28).unwrap_or(0));
        Ok(entry.offset + LOCAL_BYTES + names)
    }
}

/// Where the central directory lies.
struct Place {
    offset: u64,
    bytes: u64,
    entries: u64,
}

fn find_directory(file: &File, length: u64) -> Result<Place, PartError> {
    let tail_bytes = length.min(TAIL_BYTES_MAX);
    let mut tail = vec![0; tail_bytes as usize];
    file.read_exact_at(&mut tail, length - tail_bytes)?;
    let at = (0..=tail.len().checked_sub(END_BYTES as usize).ok_or(PartError::Truncated)?)
        .rev()
        // The comment must reach to the very end: a picture may hold the four bytes by chance.
        .find(|at| {
            let comment = u16_at(&tail, at + 20).map_or(usize::MAX, usize::from);
            u32_at(&tail, *at) == Some(END) && at.checked_add(END_BYTES as usize + comment) == Some(tail.len())
        })
        .ok_or(PartError::Truncated)?;
    let end = length - tail_bytes + at as u64;
    let short = PartError::Damaged("its end is too short");
    let field = |at: usize| u32_at(&tail, at).map(u64::from);
    let (Some(entries), Some(bytes), Some(offset)) = (u16_at(&tail, at + 10), field(at + 12), field(at + 16)) else {
        return Err(short);
    };
    let mut place = Place { offset, bytes, entries: u64::from(entries) };
    let mut until = end;
    if entries == u16::MAX || bytes == u64::from(u32::MAX) || offset == u64::from(u32::MAX) {
        (place, until) = find_directory_64(file, end)?.unwrap_or((place, end));
    }
    let ends = place.offset.checked_add(place.bytes).ok_or(PartError::Damaged("it lies beyond every file"))?;
    if ends > until || place.bytes > DIRECTORY_BYTES_MAX {
        return Err(PartError::Damaged("it does not lie within the part"));
    }
    Ok(place)
}

/// The directory as zip64 tells it, and where the records of zip64 begin; none where there are none.
fn find_directory_64(file: &File, end: u64) -> Result<Option<(Place, u64)>, PartError> {
    let Some(at) = end.checked_sub(LOCATOR_BYTES) else { return Ok(None) };
    let mut locator = [0; LOCATOR_BYTES as usize];
    file.read_exact_at(&mut locator, at)?;
    if u32_at(&locator, 0) != Some(END_64_LOCATOR) {
        return Ok(None);
    }
    let damaged = PartError::Damaged("the zip64 record is not where it should be");
    let Some(record_at) = u64_at(&locator, 8).filter(|record| record.checked_add(56).is_some_and(|e| e <= at)) else {
        return Err(damaged);
    };
    let mut record = [0; 56];
    file.read_exact_at(&mut record, record_at)?;
    match (u32_at(&record, 0), u64_at(&record, 32), u64_at(&record, 40), u64_at(&record, 48)) {
        (Some(END_64), Some(entries), Some(bytes), Some(offset)) => {
            Ok(Some((Place { offset, bytes, entries }, record_at)))
        }
        _ => Err(damaged),
    }
}

/// Reads the central directory; `end` is where it begins in the part, and all entries end.
fn list(mut directory: &[u8], count: u64, end: u64) -> Result<Vec<PartEntry>, PartError> {
    let mut entries = Vec::new();
    for _ in 0..count {
        let (entry, rest) = entry(directory).ok_or(PartError::Damaged("a file in it is cut off"))?;
        directory = rest;
        if entry.path.ends_with('/') && entry.bytes == 0 {
            continue;
        }
        let ends = entry.offset.checked_add(LOCAL_BYTES).and_then(|at| at.checked_add(entry.packed_bytes));
        if ends.is_none_or(|ends| ends > end) {
            return Err(PartError::Damaged("a file lies beyond the part's end"));
        }
        entries.push(entry);
    }
    Ok(entries)
}

/// The first entry, and what is behind it.
fn entry(directory: &[u8]) -> Option<(PartEntry, &[u8])> {
    let length = |at: usize| u16_at(directory, at).map(usize::from);
    if u32_at(directory, 0)? != CENTRAL {
        return None;
    }
    let extra_at = CENTRAL_BYTES + length(28)?;
    let comment_at = extra_at + length(30)?;
    let name = directory.get(CENTRAL_BYTES..extra_at)?;
    let extra = directory.get(extra_at..comment_at)?;
    let rest = directory.get(comment_at + length(32)?..)?;
    let told = [u32_at(directory, 24)?, u32_at(directory, 20)?, u32_at(directory, 42)?];
    let [bytes, packed_bytes, offset] = widen(told, extra)?;
    let path = String::from_utf8_lossy(name).into_owned();
    let encrypted = u16_at(directory, 8)? & 1 != 0;
    let method = match u16_at(directory, 10)? {
        _ if std::str::from_utf8(name).is_err() => Err(Refused::Name),
        _ if escapes(&path) => Err(Refused::Escapes),
        _ if encrypted => Err(Refused::Encrypted),
        0 => Ok(Method::Stored),
        8 => Ok(Method::Deflated),
        other => Err(Refused::Method(other)),
    };
    Some((PartEntry { path, crc32: u32_at(directory, 16)?, bytes, packed_bytes, offset, method }, rest))
}

/// Replaces the numbers that did not fit by those of the zip64 field, which has only those, in this order.
fn widen(told: [u32; 3], mut extra: &[u8]) -> Option<[u64; 3]> {
    let mut wide: &[u8] = &[];
    while let (Some(id), Some(length)) = (u16_at(extra, 0), u16_at(extra, 2)) {
        let field = extra.get(4..4 + usize::from(length))?;
        if id == 1 {
            wide = field;
        }
        extra = &extra[4 + usize::from(length)..];
    }
    let mut numbers = told.map(u64::from);
    for number in numbers.iter_mut().filter(|number| **number == u64::from(u32::MAX)) {
        // Without the field the number is what it says.
        if let Some(real) = u64_at(wide, 0) {
            *number = real;
            wide = &wide[8..];
        }
    }
    Some(numbers)
}

/// Would a file of that path lie outside the directory it is unpacked into?
pub fn escapes(path: &str) -> bool {
    path.starts_with('/') || path.contains(['\\', '\0']) || path.split('/').any(|name| name == "..")
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

fn damaged(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Some bytes of a shared file.
struct Window {
    file: Arc<File>,
    at: u64,
    left: u64,
}

impl Read for Window {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = self.left.min(buffer.len() as u64) as usize;
        let got = self.file.read_at(&mut buffer[..want], self.at)?;
        self.at += got as u64;
        self.left -= got as u64;
        Ok(got)
    }
}

enum Unpacked {
    Stored(Window),
    Deflated(DeflateDecoder<io::BufReader<Window>>),
}

/// Gives the bytes, and at their end says whether they were the right ones.
struct Checked {
    plain: Unpacked,
    crc: Crc,
    read: u64,
    crc32: u32,
    bytes: u64,
}

impl Read for Checked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let got = match &mut self.plain {
            Unpacked::Stored(window) => window.read(buffer)?,
            Unpacked::Deflated(decoder) => decoder.read(buffer)?,
        };
        self.crc.update(&buffer[..got]);
        self.read += got as u64;
        if self.read > self.bytes || got == 0 && self.read < self.bytes {
            return Err(damaged("it is not as long as the part says"));
        }
        if got == 0 && self.crc.sum() != self.crc32 {
            return Err(damaged("its CRC-32 is not what the part says"));
        }
        Ok(got)
    }
}
