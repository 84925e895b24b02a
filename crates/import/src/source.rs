//! Where the bytes are: opened parts and folders, read in place by several readers at once.

use std::{
    borrow::Cow,
    collections::HashMap,
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::UNIX_EPOCH,
};

use bytes::Bytes;
use futures::{StreamExt, stream};
use haven_takeout::{
    parts::Packed,
    zip::{Method, Part, PartEntry},
};
use tokio::sync::{mpsc, oneshot};

pub use crate::buffer::PIECE_BYTES;
use crate::{
    buffer,
    input::InputKind,
    journal::{Journal, JournalError},
    progress::Progress,
    server::{Body, Sha1},
    sum::Hasher,
};

/// Pieces between a reader and its request.
const PIECES_AHEAD: usize = 4;

/// Where a file's bytes lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    pub part: i64,
    /// In the part.
    pub path: String,
    pub place: u64,
    pub packed: u64,
    pub method: i64,
    pub bytes: u64,
    pub crc32: u32,
    pub mtime_ms: Option<i64>,
}

enum Opened {
    Zip(Part),
    Folder(PathBuf),
    Tar(PathBuf, Packed),
}

/// The parts that are here now.
pub struct Sources {
    opened: HashMap<i64, Opened>,
    /// Bytes of files that were read.
    read: Arc<AtomicU64>,
}

impl Sources {
    /// Opens those of `parts` that can be opened.
    pub fn open(journal: &Journal, parts: &[i64], progress: &Progress) -> Result<Self, JournalError> {
        let db = journal.db();
        let mut query = db.prepare("SELECT path, kind FROM part WHERE id = ?1")?;
        let mut opened = HashMap::new();
        for id in parts {
            let (path, kind): (String, String) = query.query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let path = PathBuf::from(path);
            let source = match InputKind::of(&kind) {
                InputKind::Folder => Opened::Folder(path),
                InputKind::Archive(Packed::Zip) => match File::open(&path) {
                    Ok(file) => Opened::Zip(Part::known(file)),
                    Err(_) => continue,
                },
                InputKind::Archive(packed) => Opened::Tar(path, packed),
            };
            opened.insert(*id, source);
        }
        Ok(Self { opened, read: progress.source_bytes.clone() })
    }

    pub fn has(&self, part: i64) -> bool {
        self.opened.contains_key(&part)
    }

    /// Archives that are read from their beginning to their end.
    pub fn streams(&self) -> Vec<(i64, PathBuf, Packed)> {
        let mut found: Vec<_> = self
            .opened
            .iter()
            .filter_map(|(id, opened)| match opened {
                Opened::Tar(path, packed) => Some((*id, path.clone(), *packed)),
                _ => None,
            })
            .collect();
        found.sort_by_key(|(id, ..)| *id);
        found
    }

    pub fn is_stream(&self, part: i64) -> bool {
        matches!(self.opened.get(&part), Some(Opened::Tar(..)))
    }

    /// A reader from the file's beginning, which fails at the end where the bytes are not the right ones.
    pub fn read(&self, piece: &Piece) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(Counted { reader: self.reader(piece)?, read: self.read.clone() }))
    }

    fn reader(&self, piece: &Piece) -> io::Result<Box<dyn Read + Send>> {
        match self.opened.get(&piece.part) {
            None => Err(io::Error::new(io::ErrorKind::NotFound, "its part is not here")),
            Some(Opened::Zip(part)) => Ok(Box::new(part.read(&entry(piece))?)),
            Some(Opened::Folder(root)) => {
                let file = File::open(root.join(&piece.path))?;
                let about = file.metadata()?;
                let mtime = about.modified()?.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as i64);
                if about.len() != piece.bytes || piece.mtime_ms.is_some_and(|before| before != mtime) {
                    return Err(io::Error::other("it was changed since it was looked at; run the import again"));
                }
                Ok(Box::new(Exact { file, left: piece.bytes }))
            }
            Some(Opened::Tar(..)) => Err(io::Error::other("its archive can only be read from its beginning")),
        }
    }

    /// The whole file, for short ones.
    pub fn whole(&self, piece: &Piece) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(piece.bytes as usize + 1);
        self.read(piece)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// The whole file in pieces, and its SHA-1.
    pub fn held(&self, piece: &Piece) -> io::Result<(Held, Sha1)> {
        let mut reader = self.read(piece)?;
        let (mut pieces, mut hasher) = (vec![], Hasher::new());
        loop {
            let bytes = buffer::fill(&mut *reader)?;
            if bytes.is_empty() {
                return Ok((Held(pieces), hasher.finish()));
            }
            hasher.update(&bytes);
            pieces.push(bytes);
        }
    }

    /// Reads the whole file for its SHA-1.
    pub fn hash(&self, piece: &Piece) -> io::Result<Sha1> {
        let mut hasher = Hasher::new();
        let mut reader = self.read(piece)?;
        let mut buffer = vec![0; PIECE_BYTES];
        loop {
            match reader.read(&mut buffer)? {
                0 => return Ok(hasher.finish()),
                got => hasher.update(&buffer[..got]),
            }
        }
    }

    /// Some bytes of a file, where its source can be sought in; unchecked.
    pub fn at(&self, piece: &Piece, at: u64, bytes: usize) -> Option<Vec<u8>> {
        let found = self.found_at(piece, at, bytes)?;
        self.read.fetch_add(found.len() as u64, Relaxed);
        Some(found)
    }

    fn found_at(&self, piece: &Piece, at: u64, bytes: usize) -> Option<Vec<u8>> {
        match self.opened.get(&piece.part)? {
            Opened::Zip(part) => part.read_at(&entry(piece), at, bytes).ok()?,
            Opened::Folder(root) => {
                let mut found = vec![0; piece.bytes.checked_sub(at)?.min(bytes as u64) as usize];
                File::open(root.join(&piece.path)).ok()?.read_exact_at(&mut found, at).ok()?;
                Some(found)
            }
            Opened::Tar(..) => None,
        }
    }
}

fn entry(piece: &Piece) -> PartEntry {
    let method = if piece.method == 8 { Method::Deflated } else { Method::Stored };
    PartEntry {
        path: piece.path.clone(),
        crc32: piece.crc32,
        bytes: piece.bytes,
        packed_bytes: piece.packed,
        offset: piece.place,
        method: Ok(method),
    }
}

/// A file in memory, in pieces of [`PIECE_BYTES`].
#[derive(Debug, Clone)]
pub struct Held(Vec<Bytes>);

impl Held {
    /// The first bytes, as many as lie in one piece or are asked for.
    pub fn head(&self, bytes: usize) -> Cow<'_, [u8]> {
        match &self.0[..] {
            [] => Cow::Borrowed(&[]),
            [one] => Cow::Borrowed(one),
            [one, ..] if one.len() >= bytes => Cow::Borrowed(one),
            all => Cow::Owned(all[..all.len().min(bytes.div_ceil(PIECE_BYTES))].concat()),
        }
    }

    /// Some bytes from anywhere.
    pub fn at(&self, at: u64, bytes: usize) -> Option<Vec<u8>> {
        let at = usize::try_from(at).ok()?;
        let all = self.0.get(at / PIECE_BYTES..)?.iter().flat_map(|piece| piece.iter());
        let found: Vec<u8> = all.skip(at % PIECE_BYTES).take(bytes).copied().collect();
        (!found.is_empty()).then_some(found)
    }

    /// As the body of a request.
    pub fn body(&self) -> Body {
        stream::iter(self.0.clone().into_iter().map(Ok)).boxed()
    }
}

/// Counts what is read.
struct Counted {
    reader: Box<dyn Read + Send>,
    read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.reader.read(buffer)?;
        self.read.fetch_add(got as u64, Relaxed);
        Ok(got)
    }
}

/// A file that must end where it was said to end.
struct Exact {
    file: File,
    left: u64,
}

impl Read for Exact {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.file.read(buffer)? as u64;
        if got > self.left || got == 0 && self.left > 0 && !buffer.is_empty() {
            return Err(io::Error::other("it changed while it was read"));
        }
        self.left -= got;
        Ok(got as usize)
    }
}

/// A file in memory as the body of a request.
pub fn body_of(bytes: &Bytes) -> Body {
    let bytes = bytes.clone();
    let starts = (0..bytes.len()).step_by(PIECE_BYTES);
    let pieces: Vec<_> =
        starts.map(|at| Ok(bytes.slice(at..bytes.len().min(at + PIECE_BYTES)))).collect::<Vec<io::Result<Bytes>>>();
    stream::iter(pieces).boxed()
}

/// The body of a request, read by a thread of its own; and its SHA-1, when it was read to the end.
pub fn body_from(
    open: impl FnOnce() -> io::Result<Box<dyn Read + Send>> + Send + 'static,
) -> (Body, oneshot::Receiver<Sha1>) {
    let (pieces, received) = mpsc::channel(PIECES_AHEAD);
    let (summed, sum) = oneshot::channel();
    tokio::task::spawn_blocking(move || {
        let mut reader = match open() {
            Ok(reader) => reader,
            Err(error) => return drop(pieces.blocking_send(Err(error))),
        };
        if let Some(sha1) = pump(&mut *reader, &pieces) {
            // Nobody may be waiting for it.
            _ = summed.send(sha1);
        }
    });
    let stream = stream::unfold(received, |mut received| async move { Some((received.recv().await?, received)) });
    (stream.boxed(), sum)
}

/// Hands on all of `reader`, and one error; the SHA-1 where all was read and taken. The last piece is held back until the end
/// was seen: a file whose end is wrong never becomes a whole request.
pub fn pump(reader: &mut dyn Read, pieces: &mpsc::Sender<io::Result<Bytes>>) -> Option<Sha1> {
    let mut hasher = Hasher::new();
    let mut held: Option<Bytes> = None;
    loop {
        let piece = match buffer::fill(reader) {
            Ok(piece) => piece,
            Err(error) => {
                _ = pieces.blocking_send(Err(error));
                return None;
            }
        };
        let ended = piece.is_empty();
        hasher.update(&piece);
        if let Some(held) = held.replace(piece) {
            pieces.blocking_send(Ok(held)).ok()?;
        }
        if ended {
            return Some(hasher.finish());
        }
    }
}
