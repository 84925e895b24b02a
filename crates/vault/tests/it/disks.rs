//! Disks that fail, are full, or let a process have few files open.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use haven_vault::disk::{Disk, DiskFile, DynFile, MemoryDisk};
use parking_lot::Mutex;

/// A disk whose journal, staged packs or shards can't be written, or which can't sync, on order.
#[derive(Debug, Clone)]
pub(crate) struct Frail {
    pub(crate) disk: Arc<MemoryDisk>,
    pub(crate) no_journal: Arc<AtomicBool>,
    pub(crate) no_staging: Arc<AtomicBool>,
    pub(crate) no_shards: Arc<AtomicBool>,
    pub(crate) no_sync: Arc<AtomicBool>,
    /// It fails to sync for want of room, as one does that finds room when it writes back.
    pub(crate) late: Arc<AtomicBool>,
    /// How many bytes it has room for.
    pub(crate) room: Arc<Mutex<Option<u64>>>,
    /// After so many more writes to the journal, the disk as a kill would leave it, and what is to be done then.
    pub(crate) kill: Arc<Mutex<Option<Kill>>>,
}

pub(crate) struct Kill {
    pub(crate) writes: usize,
    pub(crate) then: Box<dyn Fn() + Send>,
    pub(crate) left: Option<Arc<MemoryDisk>>,
}

impl std::fmt::Debug for Kill {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kill({})", self.writes)
    }
}

#[derive(Debug)]
struct FrailFile {
    file: DynFile,
    name: String,
    frail: Frail,
}

impl Frail {
    pub(crate) fn new(disk: &Arc<MemoryDisk>) -> Self {
        let (no_journal, no_staging, no_shards, no_sync, late, room, kill) = Default::default();
        Self { disk: disk.clone(), no_journal, no_staging, no_shards, no_sync, late, room, kill }
    }

    fn wrap(&self, name: &str, file: DynFile) -> DynFile {
        Arc::new(FrailFile { file, name: name.to_owned(), frail: self.clone() })
    }
}

impl Disk for Frail {
    fn create(&self, name: &str) -> io::Result<DynFile> {
        Ok(self.wrap(name, self.disk.create(name)?))
    }
    fn open(&self, name: &str) -> io::Result<DynFile> {
        Ok(self.wrap(name, self.disk.open(name)?))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }
    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        self.disk.list(folder)
    }
    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        self.disk.sync_folder(folder)
    }
}

impl DiskFile for FrailFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let fails = |folder: &str, order: &AtomicBool| self.name.starts_with(folder) && order.load(Ordering::Relaxed);
        let frail = &self.frail;
        if fails("shards/", &frail.no_shards) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if fails("journal/", &frail.no_journal) || fails("staging/", &frail.no_staging) {
            // As far as there is room.
            self.file.write_at(offset, &bytes[..bytes.len() / 2])?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        if self.frail.room.lock().is_some_and(|room| self.frail.disk.bytes() + bytes.len() as u64 > room) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file.write_at(offset, bytes)?;
        if let Some(kill) = &mut *self.frail.kill.lock()
            && self.name.starts_with("journal/")
        {
            kill.writes = kill.writes.saturating_sub(1);
            if kill.writes == 0 && kill.left.is_none() {
                kill.left = Some(self.frail.disk.killed());
                (kill.then)();
            }
        }
        Ok(())
    }
    fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        self.file.read_at(offset, len)
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn allocated(&self) -> io::Result<u64> {
        self.file.allocated()
    }
    fn sync(&self) -> io::Result<()> {
        if self.frail.no_sync.load(Ordering::Relaxed) {
            let full = self.frail.late.load(Ordering::Relaxed);
            return Err(if full { io::ErrorKind::StorageFull.into() } else { io::Error::other("the disk fails") });
        }
        self.file.sync()
    }
    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        self.file.punch(offset, len)
    }
    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.truncate(len)
    }
}

/// The disk as a process sees it that may only have so many files open.
#[derive(Debug, Clone)]
pub(crate) struct Narrow {
    pub(crate) disk: Arc<MemoryDisk>,
    pub(crate) open: Arc<AtomicUsize>,
    pub(crate) max: usize,
}

#[derive(Debug)]
struct NarrowFile {
    file: DynFile,
    open: Arc<AtomicUsize>,
}

impl Narrow {
    fn enter(&self, file: impl FnOnce() -> io::Result<DynFile>) -> io::Result<DynFile> {
        if self.open.load(Ordering::Relaxed) == self.max {
            return Err(rustix::io::Errno::MFILE.into());
        }
        let file = file()?;
        self.open.fetch_add(1, Ordering::Relaxed);
        Ok(Arc::new(NarrowFile { file, open: self.open.clone() }))
    }
}

impl Drop for NarrowFile {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Disk for Narrow {
    fn create(&self, name: &str) -> io::Result<DynFile> {
        self.enter(|| self.disk.create(name))
    }
    fn open(&self, name: &str) -> io::Result<DynFile> {
        self.enter(|| self.disk.open(name))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }
    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        self.disk.list(folder)
    }
    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        self.disk.sync_folder(folder)
    }
}

impl DiskFile for NarrowFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, bytes)
    }
    fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        self.file.read_at(offset, len)
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn allocated(&self) -> io::Result<u64> {
        self.file.allocated()
    }
    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        self.file.punch(offset, len)
    }
    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.truncate(len)
    }
}
