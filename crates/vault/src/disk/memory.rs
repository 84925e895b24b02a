//! Files in memory that can lose power: for tests.
//!
//! What was synced survives. Of each later write a part survives or none; a name made, moved or removed since its
//! folder was synced may or may not have been.

use std::{collections::BTreeMap, io, sync::Arc};

use parking_lot::Mutex;

use super::{Disk, DiskFile, DynFile};

#[derive(Debug, Default)]
struct Content {
    now: Vec<u8>,
    stable: Vec<u8>,
    /// Since the last sync, in order; `None` bytes mean a truncation to that offset.
    pending: Vec<(u64, Option<Vec<u8>>)>,
}

fn write(data: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let end = offset as usize + bytes.len();
    if data.len() < end {
        data.resize(end, 0);
    }
    data[offset as usize..end].copy_from_slice(bytes);
}

#[derive(Debug, Default)]
struct MemoryFile(Mutex<Content>);

#[derive(Debug, Default)]
struct Names {
    now: BTreeMap<String, Arc<MemoryFile>>,
    stable: BTreeMap<String, Arc<MemoryFile>>,
}

/// A machine's disk.
#[derive(Debug, Default)]
pub struct MemoryDisk(Mutex<Names>);

fn absent(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, name.to_owned())
}

fn in_folder(name: &str, folder: &str) -> bool {
    match name.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/')) {
        Some(rest) => !rest.contains('/'),
        None => folder == "." && !name.contains('/'),
    }
}

impl MemoryDisk {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The disk as it might be after the power went now. `dice(n)` gives a number below n. The old disk must not be
    /// used any more.
    pub fn power_cut(&self, mut dice: impl FnMut(u64) -> u64) -> Arc<Self> {
        let names = self.0.lock();
        let mut all: Vec<&String> = names.now.keys().chain(names.stable.keys()).collect();
        all.sort();
        all.dedup();
        let mut after = BTreeMap::new();
        for name in all {
            let (now, stable) = (names.now.get(name), names.stable.get(name));
            let kept = if dice(2) == 0 { now } else { stable };
            if let Some(file) = kept {
                after.insert(name.clone(), Arc::new(file.torn(&mut dice)));
            }
        }
        Arc::new(Self(Mutex::new(Names { stable: after.clone(), now: after })))
    }

    /// The disk as it is after the process was killed: everything written is there.
    pub fn killed(&self) -> Arc<Self> {
        let names = self.0.lock();
        let copy = |files: &BTreeMap<String, Arc<MemoryFile>>| {
            files.iter().map(|(name, file)| (name.clone(), Arc::new(file.copy()))).collect::<BTreeMap<_, _>>()
        };
        let now = copy(&names.now);
        // What was stable under a name that is the same file stays the same file.
        let stable = names
            .stable
            .iter()
            .map(|(name, file)| {
                let same = names.now.iter().find(|(_, other)| Arc::ptr_eq(file, other));
                let kept = same.and_then(|(name, _)| now.get(name)).cloned();
                (name.clone(), kept.unwrap_or_else(|| Arc::new(file.copy())))
            })
            .collect();
        Arc::new(Self(Mutex::new(Names { now, stable })))
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.0.lock().now.values().map(|file| file.0.lock().now.len() as u64).sum()
    }

    /// Flips one bit of one file, for tests of what notices.
    pub fn flip(&self, name: &str, byte: usize) {
        if let Some(file) = self.0.lock().now.get(name) {
            let mut content = file.0.lock();
            content.now[byte] ^= 1;
            content.stable = content.now.clone();
            content.pending.clear();
        }
    }
}

impl Disk for MemoryDisk {
    fn create(&self, name: &str) -> io::Result<DynFile> {
        let file = Arc::new(MemoryFile::default());
        self.0.lock().now.insert(name.to_owned(), file.clone());
        Ok(file)
    }

    fn open(&self, name: &str) -> io::Result<DynFile> {
        let file = self.0.lock().now.get(name).cloned().ok_or_else(|| absent(name))?;
        Ok(file)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut names = self.0.lock();
        let file = names.now.remove(from).ok_or_else(|| absent(from))?;
        names.now.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.lock().now.remove(name);
        Ok(())
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let names = self.0.lock();
        let inside = names.now.keys().filter(|name| in_folder(name, folder));
        Ok(inside.map(|name| name.rsplit('/').next().unwrap_or(name).to_owned()).collect())
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        let mut names = self.0.lock();
        let Names { now, stable } = &mut *names;
        stable.retain(|name, _| !in_folder(name, folder));
        stable.extend(now.iter().filter(|(name, _)| in_folder(name, folder)).map(|(n, f)| (n.clone(), f.clone())));
        Ok(())
    }
}

impl MemoryFile {
    fn copy(&self) -> Self {
        let content = self.0.lock();
        Self(Mutex::new(Content {
            now: content.now.clone(),
            stable: content.stable.clone(),
            pending: content.pending.clone(),
        }))
    }

    fn torn(&self, dice: &mut impl FnMut(u64) -> u64) -> Self {
        let content = self.0.lock();
        let mut data = content.stable.clone();
        for (offset, bytes) in &content.pending {
            match (dice(3), bytes) {
                (0, _) => {}
                (1, Some(bytes)) => {
                    // Sectors reach the disk whole or not at all.
                    let sectors = bytes.len() as u64 / 512 + 1;
                    let survived = (dice(sectors) * 512).min(bytes.len() as u64) as usize;
                    write(&mut data, *offset, &bytes[..survived]);
                }
                (_, Some(bytes)) => write(&mut data, *offset, bytes),
                (_, None) => data.resize(*offset as usize, 0),
            }
        }
        Self(Mutex::new(Content { now: data.clone(), stable: data, pending: Vec::new() }))
    }
}

impl DiskFile for MemoryFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut content = self.0.lock();
        write(&mut content.now, offset, bytes);
        content.pending.push((offset, Some(bytes.to_vec())));
        Ok(())
    }

    fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let content = self.0.lock();
        let range = offset as usize..offset as usize + len;
        content.now.get(range).map(<[u8]>::to_vec).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().now.len() as u64)
    }

    fn allocated(&self) -> io::Result<u64> {
        self.len()
    }

    fn sync(&self) -> io::Result<()> {
        let mut content = self.0.lock();
        let Content { stable, pending, .. } = &mut *content;
        for (offset, bytes) in pending.drain(..) {
            match bytes {
                Some(bytes) => write(stable, offset, &bytes),
                None => stable.resize(offset as usize, 0),
            }
        }
        Ok(())
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        let end = (offset + len).min(self.len()?);
        let zeros = vec![0; end.saturating_sub(offset) as usize];
        self.write_at(offset, &zeros)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let mut content = self.0.lock();
        content.now.resize(len as usize, 0);
        content.pending.push((len, None));
        Ok(())
    }
}
