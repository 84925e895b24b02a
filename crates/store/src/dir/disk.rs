//! The file work of a directory store: all paths are relative to the root, which is held open.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    ops::Range,
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use rustix::{
    fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, RenameFlags},
    io::Errno,
};

use crate::port::{ObjectMeta, ObjectName, PutMode, StoreError};

/// The folder of puts under way.
const TEMPORARY: &str = "~tmp";
/// A leftover is swept only when it is older than this (and nobody holds its lock).
const LEFTOVER_AGE: Duration = Duration::from_secs(60);

/// An open root directory.
#[derive(Debug)]
pub(super) struct Disk {
    path: PathBuf,
    root: RwLock<Arc<OwnedFd>>,
    /// Folders (relative) known to be durable: made, and synced in the folder above.
    durable: Mutex<HashSet<PathBuf>>,
    /// Makes the names in `~tmp` unique within the process.
    next_temporary: AtomicU64,
}

impl Disk {
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let root = open_root(path)?;
        Ok(Self {
            path: path.to_owned(),
            root: RwLock::new(Arc::new(root)),
            durable: Mutex::default(),
            next_temporary: AtomicU64::new(0),
        })
    }

    pub(super) fn root_path(&self) -> &Path {
        &self.path
    }

    /// The root as last opened.
    pub(super) fn root(&self) -> Arc<OwnedFd> {
        self.root.read().clone()
    }

    /// After an `ENOENT`: is the root itself gone? If it was deleted and made anew, takes the new one.
    pub(super) fn check_root(&self) -> Result<(), StoreError> {
        let alive = rustix::fs::fstat(&*self.root()).is_ok_and(|stat| stat.st_nlink > 0);
        if !alive {
            *self.root.write() = Arc::new(open_root(&self.path)?);
            self.durable.lock().clear();
        }
        Ok(())
    }

    pub(super) fn put(&self, name: &ObjectName, body: &[u8], mode: &PutMode) -> Result<(), StoreError> {
        let replace = match mode {
            PutMode::Always => true,
            PutMode::IfAbsent => false,
            PutMode::IfMatch(_) => {
                return Err(StoreError::Unsupported { detail: "a directory has no conditional replace".into() });
            }
        };
        if !replace && self.head(name).is_ok() {
            return Err(exists(name));
        }
        self.publish(name, replace, |file| file.write_all(body))
    }

    pub(super) fn copy(&self, from: &ObjectName, to: &ObjectName) -> Result<(), StoreError> {
        let mut source = self.open_object(from)?;
        // On Linux this is copy_file_range: a reflink where the file system can.
        self.publish(to, true, |target| io::copy(&mut source, target).map(drop))
    }

    /// The same from another root.
    pub(super) fn copy_from(&self, source: &Self, name: &ObjectName) -> Result<(), StoreError> {
        let mut source = source.open_object(name)?;
        self.publish(name, true, |target| io::copy(&mut source, target).map(drop))
    }

    /// Whether both roots are on one file system.
    pub(super) fn is_beside(&self, other: &Self) -> bool {
        let device = |disk: &Self| rustix::fs::fstat(&*disk.root()).map(|stat| stat.st_dev).ok();
        device(self).is_some_and(|ours| device(other) == Some(ours))
    }

    pub(super) fn read(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, StoreError> {
        let mut file = self.open_object(name)?;
        let mut read = || -> io::Result<Vec<u8>> {
            let length = file.metadata()?.len();
            let wanted = range.end.min(length).saturating_sub(range.start);
            if wanted == 0 {
                return Ok(Vec::new());
            }
            file.seek(SeekFrom::Start(range.start))?;
            let mut body = Vec::with_capacity(usize::try_from(wanted).map_err(io::Error::other)?);
            (&file).take(wanted).read_to_end(&mut body)?;
            if body.len() as u64 != wanted {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Ok(body)
        };
        read().map(Bytes::from).map_err(|e| failure(name, &e))
    }

    pub(super) fn head(&self, name: &ObjectName) -> Result<ObjectMeta, StoreError> {
        let file = self.open_object(name)?;
        let stat = file.metadata().map_err(|e| failure(name, &e))?;
        Ok(ObjectMeta {
            name: name.clone(),
            bytes: stat.len(),
            etag: Some(format!("\"{:x}-{:x}\"", stat.ino(), stat.mtime_nsec())),
            modified: Some(stat.mtime()),
        })
    }

    pub(super) fn remove(&self, name: &ObjectName) -> Result<(), StoreError> {
        match rustix::fs::unlinkat(&*self.root(), name.as_str(), AtFlags::empty()) {
            Ok(()) => Ok(()),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::ISDIR) => self.check_root(),
            Err(errno) => Err(failure(name, &errno.into())),
        }
    }

    /// Removes files of `~tmp` whose writers are dead. Best effort: what fails is tried next time.
    pub(super) fn sweep(&self) {
        let folder = self.path.join(TEMPORARY);
        let Ok(entries) = std::fs::read_dir(&folder) else {
            return;
        };
        for entry in entries.flatten() {
            let old = entry
                .metadata()
                .and_then(|m| m.modified())
                .is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age > LEFTOVER_AGE));
            let Ok(file) = File::open(entry.path()) else {
                continue;
            };
            let orphan = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
            if old && orphan && std::fs::remove_file(entry.path()).is_ok() {
                tracing::debug!(file = %entry.path().display(), "removed the leftover of a put");
            }
        }
    }

    fn open_object(&self, name: &ObjectName) -> Result<File, StoreError> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        match rustix::fs::openat(&*self.root(), name.as_str(), flags, Mode::empty()) {
            Ok(fd) => {
                let file = File::from(fd);
                match file.metadata() {
                    Ok(stat) if stat.is_file() => Ok(file),
                    Ok(_) => Err(not_found(name)),
                    Err(e) => Err(failure(name, &e)),
                }
            }
            Err(Errno::NOENT | Errno::NOTDIR) => {
                self.check_root()?;
                Err(not_found(name))
            }
            Err(errno) => Err(failure(name, &errno.into())),
        }
    }

    /// Makes a file by `fill` and gives it its name, durably.
    fn publish(
        &self,
        name: &ObjectName,
        replace: bool,
        fill: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<(), StoreError> {
        let root = self.root();
        let target = Path::new(name.as_str());
        let folder = target.parent().unwrap_or(Path::new(""));
        let temporary = self.temporary(&root, name)?;
        let fail = |error: io::Error| {
            let _ = rustix::fs::unlinkat(&*root, &temporary.path, AtFlags::empty());
            failure(name, &error)
        };

        let mut file = temporary.file;
        fill(&mut file).and_then(|()| file.sync_data()).map_err(fail)?;
        self.make_folder(&root, folder).map_err(fail)?;
        let mut renamed = rename(&root, &temporary.path, target, replace);
        if renamed == Err(Errno::NOENT) {
            // Somebody removed the folder meanwhile: we knew it from before.
            self.durable.lock().clear();
            self.make_folder(&root, folder).map_err(fail)?;
            renamed = rename(&root, &temporary.path, target, replace);
        }
        match renamed {
            Ok(()) => {}
            Err(Errno::EXIST) if !replace => {
                fail(Errno::EXIST.into());
                return Err(exists(name));
            }
            Err(errno) => return Err(fail(errno.into())),
        }
        sync_folder(&root, folder).map_err(|e| failure(name, &e))
    }

    fn temporary(&self, root: &OwnedFd, name: &ObjectName) -> Result<Temporary, StoreError> {
        let number = self.next_temporary.fetch_add(1, Ordering::Relaxed);
        let stamp = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_nanos());
        let file_name = format!("{}-{stamp:x}-{number:x}", std::process::id());
        let path = Path::new(TEMPORARY).join(file_name);
        let open = || {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            rustix::fs::openat(root, &path, flags, Mode::from_raw_mode(0o644))
        };
        let mut opened = open();
        if matches!(opened, Err(Errno::NOENT)) {
            match rustix::fs::mkdirat(root, TEMPORARY, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => opened = open(),
                Err(Errno::NOENT) => {
                    self.check_root()?;
                    return Err(StoreError::Unavailable {
                        detail: format!("{} was made anew", self.path.display()),
                        after: None,
                    });
                }
                Err(errno) => return Err(failure(name, &errno.into())),
            }
        }
        let file = File::from(opened.map_err(|errno| failure(name, &errno.into()))?);
        // Says "in use" to a sweep. Where locks don't work, the file's age protects it.
        let _ = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive);
        Ok(Temporary { path, file })
    }

    /// Makes `folder` and those above it (never the root) and sees to it that they survive a power cut.
    fn make_folder(&self, root: &OwnedFd, folder: &Path) -> io::Result<()> {
        if folder.as_os_str().is_empty() || self.durable.lock().contains(folder) {
            return Ok(());
        }
        let above = folder.parent().unwrap_or(Path::new(""));
        self.make_folder(root, above)?;
        match rustix::fs::mkdirat(root, folder, Mode::from_raw_mode(0o755)) {
            // Who finds it there can't know whether its maker has synced it yet.
            Ok(()) | Err(Errno::EXIST) => sync_folder(root, above)?,
            Err(errno) => return Err(errno.into()),
        }
        self.durable.lock().insert(folder.to_owned());
        Ok(())
    }
}

/// A file of `~tmp`, open and locked.
struct Temporary {
    /// Relative to the root.
    path: PathBuf,
    file: File,
}

/// Makes `root` and what is missing above it, durably.
pub(super) fn make_root(root: &Path) -> Result<(), StoreError> {
    let make = |path: &Path| -> io::Result<()> {
        let mut missing: Vec<&Path> = path.ancestors().take_while(|p| !p.is_dir()).collect();
        while let Some(next) = missing.pop() {
            match std::fs::create_dir(next) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
                _ => {}
            }
            let above = next.parent().filter(|p| !p.as_os_str().is_empty());
            File::open(above.unwrap_or(Path::new(".")))?.sync_all()?;
        }
        Ok(())
    };
    make(root).map_err(|e| io_failure(&root.display().to_string(), &e))
}

fn open_root(path: &Path) -> Result<OwnedFd, StoreError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(|errno| match errno {
        Errno::NOENT | Errno::NOTDIR => StoreError::NoBucket { location: path.display().to_string() },
        errno => io_failure(&path.display().to_string(), &errno.into()),
    })
}

fn rename(root: &OwnedFd, from: &Path, to: &Path, replace: bool) -> rustix::io::Result<()> {
    if replace {
        return rustix::fs::renameat(root, from, root, to);
    }
    match rustix::fs::renameat_with(root, from, root, to, RenameFlags::NOREPLACE) {
        // File systems without that flag (NFS among them) can still link without replacing.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            rustix::fs::linkat(root, from, root, to, AtFlags::empty())?;
            rustix::fs::unlinkat(root, from, AtFlags::empty())
        }
        other => other,
    }
}

fn sync_folder(root: &OwnedFd, folder: &Path) -> io::Result<()> {
    let here = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(root, here, flags, Mode::empty())?;
    Ok(rustix::fs::fsync(fd)?)
}

fn not_found(name: &ObjectName) -> StoreError {
    StoreError::NotFound { name: name.to_string() }
}

fn exists(name: &ObjectName) -> StoreError {
    StoreError::Exists { name: name.to_string() }
}

pub(super) fn failure(name: &ObjectName, error: &io::Error) -> StoreError {
    io_failure(name.as_str(), error)
}

/// What an I/O error on `what` means to a caller of the store.
pub(super) fn io_failure(what: &str, error: &io::Error) -> StoreError {
    let detail = format!("{what}: {error}");
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOSPC | Errno::DQUOT) => StoreError::Full { detail },
        Some(Errno::ACCESS | Errno::PERM | Errno::ROFS) => StoreError::Denied { detail },
        Some(Errno::NOTDIR | Errno::ISDIR | Errno::NAMETOOLONG | Errno::NOTEMPTY) => StoreError::Unsupported { detail },
        _ => StoreError::Unavailable { detail, after: None },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_errno_says_what_the_owner_can_do() {
        let meaning = |errno: Errno| io_failure("p/a", &errno.into());
        assert!(matches!(meaning(Errno::NOSPC), StoreError::Full { .. }));
        assert!(matches!(meaning(Errno::DQUOT), StoreError::Full { .. }));
        assert!(matches!(meaning(Errno::ACCESS), StoreError::Denied { .. }));
        assert!(matches!(meaning(Errno::ROFS), StoreError::Denied { .. }));
        assert!(matches!(meaning(Errno::IO), StoreError::Unavailable { .. }));
        assert!(matches!(meaning(Errno::NAMETOOLONG), StoreError::Unsupported { .. }));
    }
}
