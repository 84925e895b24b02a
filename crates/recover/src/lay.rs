//! A folder copied to another place, many files at a time.
//! ```text
//!     walk ─▶ folders ─▶ files as they were found, under another name until whole ─▶ further names ─▶ times of folders
//! ```
//! Promises: what has its name is whole. What is there already with the same length and time is not copied again, so the
//! same call goes on where it was interrupted. A file that can't be read is named at the end and stops nothing; a disk
//! that is full or dead does. Within one Haven mount content is shared, not copied.

use std::{
    collections::{BTreeSet, HashMap},
    ffi::OsString,
    fs::{self, File, Metadata, OpenOptions},
    io,
    os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, symlink},
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rayon::prelude::*;
use rustix::{
    fs::{CWD, FileType, Mode},
    io::Errno,
};
use serde::Serialize;

use crate::{Error, dress::dress};

/// What was copied.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Laid {
    pub files: u64,
    pub bytes: u64,
    pub folders: u64,
    /// Of `files`: those that were there already.
    pub kept: u64,
    /// Names, relative, and why they did not come.
    pub failed: Vec<(String, String)>,
    /// From the beginning to the first photo that was whole.
    #[serde(skip)]
    pub first: Option<Duration>,
}

/// How far it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    pub files: u64,
    pub files_total: u64,
    pub bytes: u64,
    pub bytes_total: u64,
}

/// What a folder holds, before anything is copied.
#[derive(Debug, Default)]
pub struct Inventory {
    /// Relative to the folder, parents first.
    folders: Vec<(PathBuf, Metadata)>,
    files: Vec<(PathBuf, Metadata)>,
    /// Further names of a file, and its first.
    links: Vec<(PathBuf, PathBuf)>,
    pub bytes: u64,
}

impl Inventory {
    /// Looks through `from`. `wanted` says of a path relative to it whether it counts.
    pub fn of(from: &Path, wanted: &dyn Fn(&Path) -> bool) -> Result<Self, Error> {
        let mut found = Self::default();
        let mut first: HashMap<(u64, u64), PathBuf> = HashMap::new();
        let about = fs::metadata(from).map_err(Error::read(from))?;
        found.folders.push((PathBuf::new(), about));
        let mut next = 0;
        while let Some((folder, _)) = found.folders.get(next).cloned() {
            next += 1;
            let path = from.join(&folder);
            for entry in fs::read_dir(&path).map_err(Error::read(&path))? {
                let entry = entry.map_err(Error::read(&path))?;
                let below = folder.join(entry.file_name());
                let about = entry.metadata().map_err(Error::read(entry.path()))?;
                if about.is_dir() {
                    found.folders.push((below, about));
                } else if wanted(&below) {
                    let key = (about.dev(), about.ino());
                    match first.get(&key).filter(|_| about.nlink() > 1) {
                        Some(first) => found.links.push((below, first.clone())),
                        None => {
                            first.insert(key, below.clone());
                            found.bytes += if about.is_file() { about.len() } else { 0 };
                            found.files.push((below, about));
                        }
                    }
                }
            }
        }
        Ok(found)
    }

    /// Only these files, and the folders above them.
    pub fn only(from: &Path, wanted: &BTreeSet<PathBuf>) -> Result<Self, Error> {
        let mut found = Self::default();
        let mut folders = BTreeSet::from([PathBuf::new()]);
        for file in wanted {
            folders.extend(file.ancestors().skip(1).map(Path::to_owned));
            let path = from.join(file);
            let about = fs::symlink_metadata(&path).map_err(Error::read(&path))?;
            found.bytes += if about.is_file() { about.len() } else { 0 };
            found.files.push((file.clone(), about));
        }
        // A parent's path is before its children's.
        for folder in folders {
            let path = from.join(&folder);
            found.folders.push((folder, fs::symlink_metadata(&path).map_err(Error::read(&path))?));
        }
        Ok(found)
    }

    /// Of its files, relative to the folder.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.files.iter().map(|(path, _)| path.clone()).collect()
    }

    /// Every name of a file, relative to the folder.
    pub fn names(&self) -> Vec<PathBuf> {
        let further = self.links.iter().map(|(path, _)| path.clone());
        self.paths().into_iter().chain(further).collect()
    }

    pub fn files(&self) -> u64 {
        (self.files.len() + self.links.len()) as u64
    }
}

/// Copies what `inventory` found in `from` to `to`. As many files at once as the rayon pool it is called in has threads.
/// `photo` says which files count as the first photo.
pub fn lay(
    from: &Path,
    inventory: &Inventory,
    to: &Path,
    stop: &AtomicBool,
    photo: &(dyn Fn(&Path) -> bool + Sync),
    told: &(dyn Fn(Progress) + Sync),
) -> Result<Laid, Error> {
    let begun = Instant::now();
    fs::create_dir_all(to).map_err(Error::write(to))?;
    for (folder, _) in inventory.folders.iter().skip(1) {
        let path = to.join(folder);
        match fs::create_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
            other => other.map_err(Error::write(path))?,
        }
    }
    let (files, bytes, kept) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let (failed, hopeless, first) = (Mutex::new(Vec::new()), Mutex::new(None), Mutex::new(None));
    let full = AtomicBool::new(false);
    inventory.files.par_iter().for_each(|(below, about)| {
        if full.load(Ordering::Relaxed) || stop.load(Ordering::Relaxed) {
            return;
        }
        let (source, target) = (from.join(below), to.join(below));
        match put(&source, about, &target) {
            Ok(was_there) => {
                kept.fetch_add(u64::from(was_there), Ordering::Relaxed);
                if photo(below)
                    && let Ok(mut first) = first.lock()
                {
                    first.get_or_insert_with(|| begun.elapsed());
                }
                let length = if about.is_file() { about.len() } else { 0 };
                told(Progress {
                    files: files.fetch_add(1, Ordering::Relaxed) + 1,
                    files_total: inventory.files(),
                    bytes: bytes.fetch_add(length, Ordering::Relaxed) + length,
                    bytes_total: inventory.bytes,
                });
            }
            Err(Trouble::Target(error)) => {
                full.store(true, Ordering::Relaxed);
                hopeless.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get_or_insert((target, error));
            }
            Err(Trouble::Source(error)) => {
                let name = below.display().to_string();
                failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((name, error.to_string()));
            }
        }
    });
    if let Some((path, source)) = hopeless.into_inner().unwrap_or_default() {
        return Err(Error::Write { path, source });
    }
    if stop.load(Ordering::Relaxed) {
        return Err(haven_point::pg::PgError::Stopped.into());
    }
    let mut laid = Laid {
        files: files.into_inner(),
        bytes: bytes.into_inner(),
        folders: inventory.folders.len() as u64,
        kept: kept.into_inner(),
        failed: failed.into_inner().unwrap_or_default(),
        first: first.into_inner().unwrap_or_default(),
    };
    for (below, first) in &inventory.links {
        let (path, first) = (to.join(below), to.join(first));
        if !same_file(&path, &first) {
            _ = fs::remove_file(&path);
            if let Err(error) = fs::hard_link(first, &path) {
                laid.failed.push((below.display().to_string(), error.to_string()));
                continue;
            }
        }
        laid.files += 1;
    }
    // Innermost first: making something inside changes a folder's time.
    for (folder, about) in inventory.folders.iter().rev() {
        let path = to.join(folder);
        dress(&from.join(folder), about, &path).map_err(Error::write(path))?;
    }
    laid.failed.sort();
    let target = File::open(to).map_err(Error::read(to))?;
    rustix::fs::syncfs(target).map_err(|errno| Error::write(to)(errno.into()))?;
    Ok(laid)
}

fn same_file(a: &Path, b: &Path) -> bool {
    match (fs::symlink_metadata(a), fs::symlink_metadata(b)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

enum Trouble {
    Source(io::Error),
    /// Nothing more can be written there.
    Target(io::Error),
}

impl Trouble {
    fn of(error: io::Error) -> Self {
        let hopeless = [Errno::NOSPC, Errno::DQUOT, Errno::ROFS, Errno::NOTCONN];
        match Errno::from_io_error(&error) {
            Some(errno) if hopeless.contains(&errno) => Self::Target(error),
            _ => Self::Source(error),
        }
    }
}

/// Copies one; whether it was there.
fn put(source: &Path, about: &Metadata, target: &Path) -> Result<bool, Trouble> {
    let there = fs::symlink_metadata(target).ok();
    let time = |about: &Metadata| (about.len(), about.mtime(), about.mtime_nsec(), about.file_type());
    if there.is_some_and(|there| time(&there) == time(about)) {
        return Ok(true);
    }
    let half = half_name(target);
    _ = fs::remove_file(&half);
    let kind = about.file_type();
    let made = if kind.is_file() {
        content(source, &half, about.len())
    } else if kind.is_symlink() {
        fs::read_link(source).and_then(|to| symlink(to, &half))
    } else if kind.is_fifo() || kind.is_socket() || kind.is_char_device() || kind.is_block_device() {
        let (kind, mode) = (FileType::from_raw_mode(about.mode()), Mode::from_raw_mode(about.mode()));
        rustix::fs::mknodat(CWD, &half, kind, mode, about.rdev()).map_err(io::Error::from)
    } else {
        Ok(())
    };
    let done = made.and_then(|()| dress(source, about, &half)).and_then(|()| fs::rename(&half, target));
    done.map(|()| false).map_err(|error| {
        _ = fs::remove_file(&half);
        Trouble::of(error)
    })
}

fn half_name(target: &Path) -> PathBuf {
    let mut name = OsString::from(".haven-recover-");
    // Names of 255 bytes are possible: nothing is added to them.
    let hash = target
        .as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
    name.push(format!("{hash:016x}"));
    target.with_file_name(name)
}

/// The kernel is asked to copy: a file system that can share content does.
fn content(source: &Path, target: &Path, length: u64) -> io::Result<()> {
    let mut from = File::open(source)?;
    let mut to = OpenOptions::new().write(true).create_new(true).mode(0o600).open(target)?;
    let copied = io::copy(&mut from, &mut to)?;
    if copied == length {
        return Ok(());
    }
    let text = format!("it ends after {copied} of {length} bytes");
    Err(io::Error::new(io::ErrorKind::UnexpectedEof, text))
}

/// Whether a directory is there and holds anything.
pub fn occupied(path: &Path) -> Result<bool, Error> {
    match fs::read_dir(path) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::read(path)(error)),
    }
}

/// How much room there is in the file system that `path` will be in, bytes.
pub fn room(path: &Path) -> Option<u64> {
    let there = path.ancestors().find(|path| path.exists())?;
    let about = rustix::fs::statvfs(there).ok()?;
    Some(about.f_bavail.saturating_mul(about.f_frsize))
}
