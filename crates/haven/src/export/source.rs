//! The file system as a stream of items with their content.

use std::{
    collections::{HashMap, VecDeque},
    ffi::OsStr,
    ops::Range,
    os::unix::ffi::OsStrExt,
    path::PathBuf,
};

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use haven_format::Ino;
use haven_fs::{Attr, Fs, FsError, Handle};

use super::sums::Sum;

const TYPE: u32 = 0o170_000;
/// How much is read at once, in bytes.
const STEP: u64 = 1 << 20;
/// `SEEK_DATA` and `SEEK_HOLE` of lseek(2).
const SEEK_DATA: i32 = 3;
const SEEK_HOLE: i32 = 4;

/// A name, and what it stands for.
#[derive(Debug, Clone)]
pub struct Item {
    /// Below the target; empty for the root.
    pub path: PathBuf,
    pub attr: Attr,
    pub what: What,
    /// Names and values.
    pub xattrs: Vec<(Bytes, Bytes)>,
    /// What of the above could not be read.
    pub trouble: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    Folder,
    File,
    Symlink(Bytes),
    /// The same file as this one, which came before.
    HardLink(PathBuf),
    /// A device, a pipe, a socket: by its mode and device number.
    Special,
    /// It has a name, and that is all that is known of it.
    Unreadable,
}

/// The content of a file.
#[derive(Debug)]
pub enum Content {
    /// Not a file.
    Nothing,
    /// The target has it, with this sum.
    There(Sum),
    /// To be read piece by piece, with [`Stream`].
    Large,
    Whole(Whole),
    Failed(String),
}

/// A small file.
#[derive(Debug, Default)]
pub struct Whole {
    /// Data by offset; what lies between is holes.
    pub data: Vec<(u64, Bytes)>,
    pub sum: Sum,
    pub trouble: Option<String>,
}

/// Calls until nothing is missing on this machine any more.
pub async fn settled<T>(fs: &Fs, call: impl Fn() -> Result<T, FsError>) -> Result<T, FsError> {
    loop {
        match call() {
            Err(error) => match error.need() {
                Some(need) => fs.settle(need).await?,
                None => return Err(error),
            },
            ok => return ok,
        }
    }
}

/// Everything below the root, folders before what is in them.
pub struct Walk<'a> {
    fs: &'a Fs,
    /// Items to come, the next one last.
    open: Vec<(PathBuf, Ino)>,
    /// Where files with several names were met first.
    first: HashMap<Ino, PathBuf>,
}

impl<'a> Walk<'a> {
    pub fn new(fs: &'a Fs) -> Self {
        Self { fs, open: vec![(PathBuf::new(), Ino::ROOT)], first: HashMap::new() }
    }

    pub async fn next(&mut self) -> Option<Item> {
        let (path, ino) = self.open.pop()?;
        let fs = self.fs;
        let attr = match settled(fs, || fs.getattr(ino, None)).await {
            Ok(attr) => attr,
            Err(error) => return Some(unreadable(path, ino, &error)),
        };
        let mut item = Item { path, attr, what: What::Special, xattrs: Vec::new(), trouble: Vec::new() };
        item.what = match attr.mode & TYPE {
            0o040_000 => {
                self.enter(&mut item).await;
                What::Folder
            }
            0o100_000 if attr.nlink > 1 => match self.first.get(&ino) {
                Some(first) => What::HardLink(first.clone()),
                None => {
                    self.first.insert(ino, item.path.clone());
                    What::File
                }
            },
            0o100_000 => What::File,
            0o120_000 => match settled(fs, || fs.readlink(ino)).await {
                Ok(target) => What::Symlink(target),
                Err(error) => return Some(unreadable(item.path, ino, &error)),
            },
            _ => What::Special,
        };
        if !matches!(item.what, What::HardLink(_)) {
            self.xattrs(&mut item).await;
        }
        Some(item)
    }

    /// Notes what is in a folder, to come next, in the order in which it was made: so it lies in packs.
    async fn enter(&mut self, item: &mut Item) {
        let (fs, ino) = (self.fs, item.attr.ino);
        let mut found: Vec<(Bytes, Ino)> = Vec::new();
        match settled(fs, || fs.opendir(ino)).await {
            Ok(handle) => {
                let mut from = 0;
                loop {
                    let before = from;
                    let batch = settled(fs, || {
                        let mut batch = Vec::new();
                        fs.readdir(ino, handle, before, false, &mut |entry| {
                            batch.push((entry.name.clone(), entry.ino, entry.cookie));
                            batch.len() < 1000
                        })?;
                        Ok(batch)
                    })
                    .await;
                    let batch = match batch {
                        Ok(batch) => batch,
                        Err(error) => {
                            item.trouble.push(format!("what is in it can't be read, or not all: {error}"));
                            break;
                        }
                    };
                    let Some((.., last)) = batch.last() else { break };
                    from = *last;
                    found.extend(batch.into_iter().map(|(name, ino, _)| (name, ino)));
                }
                // Nothing is held by a handle on a folder.
                _ = fs.releasedir(ino, handle);
            }
            Err(error) => item.trouble.push(format!("what is in it can't be read: {error}")),
        }
        found.retain(|(name, _)| !matches!(&name[..], b"." | b".."));
        if let Some((name, _)) = found.iter().find(|(name, _)| name.contains(&b'/') || name.is_empty()) {
            item.trouble.push(format!("it names {:?}, which no file can be called", String::from_utf8_lossy(name)));
        }
        found.retain(|(name, _)| !name.contains(&b'/') && !name.is_empty());
        found.sort_by_key(|(_, ino)| std::cmp::Reverse(*ino));
        self.open.extend(found.into_iter().map(|(name, ino)| (item.path.join(OsStr::from_bytes(&name)), ino)));
    }

    async fn xattrs(&self, item: &mut Item) {
        let (fs, ino) = (self.fs, item.attr.ino);
        let names = match settled(fs, || fs.listxattr(ino)).await {
            Ok(names) => Bytes::from(names),
            Err(error) => return item.trouble.push(format!("its attributes can't be read: {error}")),
        };
        for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            match settled(fs, || fs.getxattr(ino, name)).await {
                Ok(value) => item.xattrs.push((names.slice_ref(name), value)),
                Err(error) => {
                    let name = String::from_utf8_lossy(name);
                    item.trouble.push(format!("its attribute {name} can't be read: {error}"));
                }
            }
        }
    }
}

fn unreadable(path: PathBuf, ino: Ino, error: &FsError) -> Item {
    let nothing = haven_format::record::Time::default();
    let attr = Attr {
        ino,
        mode: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        size: 0,
        blocks: 0,
        blksize: 0,
        rdev: 0,
        atime: nothing,
        mtime: nothing,
        ctime: nothing,
        btime: nothing,
    };
    Item { path, attr, what: What::Unreadable, xattrs: Vec::new(), trouble: vec![error.to_string()] }
}

/// The content of a small file.
pub async fn read(fs: &Fs, item: &Item) -> Content {
    let mut stream = match Stream::open(fs, item).await {
        Ok(stream) => stream,
        Err(error) => return Content::Failed(error.to_string()),
    };
    let mut data = Vec::new();
    while let Some((offset, bytes)) = stream.next().await {
        data.push((offset, bytes));
    }
    let (sum, trouble) = stream.close();
    Content::Whole(Whole { data, sum, trouble })
}

/// The data of a file in order, hashed with the zeros between.
pub struct Stream<'a> {
    fs: &'a Fs,
    ino: Ino,
    handle: Handle,
    size: u64,
    /// Parts with data, those to come.
    pub parts: VecDeque<Range<u64>>,
    hash: Context,
    hashed: u64,
    trouble: Option<String>,
}

impl<'a> Stream<'a> {
    /// Opens it and finds out where its data is.
    pub async fn open(fs: &'a Fs, item: &Item) -> Result<Self, FsError> {
        let (ino, size) = (item.attr.ino, item.attr.size);
        let handle = settled(fs, || fs.open(ino, 0)).await?;
        let mut stream = Self {
            fs,
            ino,
            handle,
            size,
            parts: Default::default(),
            hash: Context::new(&SHA256),
            hashed: 0,
            trouble: None,
        };
        let mut at = 0;
        while at < size {
            let start = match settled(fs, || fs.lseek(ino, handle, at, SEEK_DATA)).await {
                Ok(start) => start,
                Err(FsError::NoSuchOffset) => break,
                Err(error) => return stream.failed(error),
            };
            at = match settled(fs, || fs.lseek(ino, handle, start, SEEK_HOLE)).await {
                Ok(end) => end,
                Err(error) => return stream.failed(error),
            };
            stream.parts.push_back(start..at);
        }
        Ok(stream)
    }

    fn failed<T>(self, error: FsError) -> Result<T, FsError> {
        _ = self.fs.release(self.ino, self.handle);
        Err(error)
    }

    /// The next piece. What can't be read comes as zeros, and is told at the end.
    pub async fn next(&mut self) -> Option<(u64, Bytes)> {
        let part = self.parts.front_mut()?;
        let (at, length) = (part.start, (part.end - part.start).min(STEP));
        part.start += length;
        if part.is_empty() {
            self.parts.pop_front();
        }
        let (fs, ino, handle) = (self.fs, self.ino, self.handle);
        let read = settled(fs, || fs.read(ino, handle, at, length as usize)).await;
        let bytes = match read {
            Ok(bytes) if bytes.len() as u64 == length => bytes,
            Ok(bytes) => {
                self.trouble
                    .get_or_insert_with(|| format!("it ends at {} of {} bytes", at + bytes.len() as u64, self.size));
                let mut padded = bytes.to_vec();
                padded.resize(length as usize, 0);
                padded.into()
            }
            Err(error) => {
                self.trouble.get_or_insert_with(|| format!("from byte {at}: {error}"));
                vec![0; length as usize].into()
            }
        };
        self.zeros_to(at);
        self.hash.update(&bytes);
        self.hashed += length;
        Some((at, bytes))
    }

    fn zeros_to(&mut self, end: u64) {
        static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
        while self.hashed < end {
            let length = (end - self.hashed).min(ZEROS.len() as u64);
            self.hash.update(&ZEROS[..length as usize]);
            self.hashed += length;
        }
    }

    /// The hash of all, and what could not be read.
    pub fn close(mut self) -> (Sum, Option<String>) {
        self.zeros_to(self.size);
        if let Err(error) = self.fs.release(self.ino, self.handle) {
            self.trouble.get_or_insert(error.to_string());
        }
        (Sum::of(&self.hash.clone().finish()), self.trouble)
    }
}
