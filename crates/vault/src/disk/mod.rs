//! Local files, as few verbs as the vault needs, so that a simulation can tear them.

mod memory;

use std::{
    fmt::Debug,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

pub use memory::MemoryDisk;
use rustix::fs::{FallocateFlags, fallocate};

/// A directory of files with flat names such as `packs/0a1b…`; the directories exist already.
pub trait Disk: Send + Sync + Debug {
    /// A new empty file, replacing any of that name.
    fn create(&self, name: &str) -> io::Result<DynFile>;
    fn open(&self, name: &str) -> io::Result<DynFile>;
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removing what is absent is success.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Names (without the folder) of the files in a folder, in no order.
    fn list(&self, folder: &str) -> io::Result<Vec<String>>;
    /// Makes creations, renames and removals in a folder survive a power cut.
    fn sync_folder(&self, folder: &str) -> io::Result<()>;
}

#[allow(clippy::len_without_is_empty)] // Nobody asks whether a file is empty.
/// An open file. Reads and writes are at absolute offsets, in bytes.
pub trait DiskFile: Send + Sync + Debug {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Exactly `len` bytes; an error of kind `UnexpectedEof` when the file is shorter.
    fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>>;
    fn len(&self) -> io::Result<u64>;
    /// Bytes the file takes on the disk.
    fn allocated(&self) -> io::Result<u64>;
    /// Makes all writes so far survive a power cut.
    fn sync(&self) -> io::Result<()>;
    /// Gives the range's space back; it reads as zeros after.
    fn punch(&self, offset: u64, len: u64) -> io::Result<()>;
    fn truncate(&self, len: u64) -> io::Result<()>;
}

pub type DynFile = Arc<dyn DiskFile>;

/// The folders of a cache directory.
pub const FOLDERS: [&str; 4] = ["journal", "staging", "packs", "shards"];

/// A directory of this machine, locked for one process.
#[derive(Debug)]
pub struct LocalDisk {
    root: PathBuf,
    _lock: File,
}

/// Why a cache directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    #[error("{path} is in use by another mount")]
    InUse { path: PathBuf },
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
}

impl LocalDisk {
    /// Makes the directory (mode 0700) where needed and locks it until dropped.
    pub fn open(root: &Path) -> Result<Self, DiskError> {
        let fail = |path: &Path| {
            let path = path.to_path_buf();
            move |source| DiskError::Io { path, source }
        };
        use std::os::unix::fs::DirBuilderExt;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(fail(root))?;
        let lock_path = root.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock_path)
            .map_err(fail(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(DiskError::InUse { path: root.to_path_buf() }),
            Err(fs::TryLockError::Error(source)) => return Err(fail(&lock_path)(source)),
        }
        for folder in FOLDERS {
            let path = root.join(folder);
            fs::create_dir_all(&path).map_err(fail(&path))?;
        }
        File::open(root).and_then(|root| root.sync_all()).map_err(fail(root))?;
        Ok(Self { root: root.to_path_buf(), _lock: lock })
    }

    pub fn path(&self) -> &Path {
        &self.root
    }
}

impl Disk for LocalDisk {
    fn create(&self, name: &str) -> io::Result<DynFile> {
        let path = self.root.join(name);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(path)?;
        Ok(Arc::new(LocalFile(file)))
    }

    fn open(&self, name: &str) -> io::Result<DynFile> {
        Ok(Arc::new(LocalFile(OpenOptions::new().read(true).write(true).open(self.root.join(name))?)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.root.join(from), self.root.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.root.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.root.join(folder))? {
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        File::open(self.root.join(folder))?.sync_all()
    }
}

#[derive(Debug)]
struct LocalFile(File);

impl DiskFile for LocalFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut out = vec![0; len];
        self.0.read_exact_at(&mut out, offset)?;
        Ok(out)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn allocated(&self) -> io::Result<u64> {
        use std::os::unix::fs::MetadataExt;
        Ok(self.0.metadata()?.blocks() * 512)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        fallocate(&self.0, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, len)?;
        Ok(())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
}
