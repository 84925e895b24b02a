//! Reading directories.

use bytes::Bytes;
use haven_format::{
    Ino, TxSeq,
    record::{self, Cookie, Entry},
};

use crate::{
    Dirent, Fs, FsError, Handle, Result,
    meta::{decode, inode, is_dir, kind},
};

/// Entries read at once.
const BATCH: usize = 128;
const SELF: Cookie = 1;
const PARENT: Cookie = 2;

impl Fs {
    pub fn opendir(&self, ino: Ino) -> Result<Handle> {
        if is_dir(inode(&self.vault.live(), ino)?.mode) {
            Ok(self.handles.open(&self.nodes.hold(ino)))
        } else {
            Err(FsError::NotDirectory)
        }
    }

    /// Hands entries behind `from` (0 for the first; then a [`Dirent::cookie`]) to `take`, until it returns false,
    /// meaning that it had no room and this entry must come again.
    pub fn readdir(
        &self,
        ino: Ino,
        handle: Handle,
        from: Cookie,
        plus: bool,
        take: &mut dyn FnMut(&Dirent) -> bool,
    ) -> Result<()> {
        self.opened(ino, handle)?;
        let view = self.vault.live();
        let directory = inode(&view, ino)?;
        for (cookie, name, ino) in [(SELF, &b"."[..], ino), (PARENT, b"..", Ino(directory.parent))] {
            let entry = Dirent { name: Bytes::from_static(name), ino, kind: kind(directory.mode), cookie, attr: None };
            if from < cookie && !take(&entry) {
                return Ok(());
            }
        }
        let mut from = from.max(PARENT) + 1;
        loop {
            let batch = view.scan(record::entries(ino, from..Cookie::MAX), BATCH)?;
            let more = batch.len() == BATCH;
            for (key, value) in batch {
                let cookie = record::entry_cookie(&key)
                    .ok_or_else(|| FsError::Broken(format!("an entry key of inode {ino} has another length")))?;
                from = cookie + 1;
                let entry: Entry = decode(value, "an entry", ino)?;
                let child = Ino(entry.ino);
                let attr = match plus.then(|| self.attr(&view, child)) {
                    // Removed since the batch was read.
                    Some(Err(FsError::NotFound)) => continue,
                    other => other.transpose()?,
                };
                if !take(&Dirent { name: entry.name, ino: child, kind: entry.kind, cookie, attr }) {
                    return Ok(());
                }
                if plus {
                    self.lookups.add(child);
                }
            }
            if !more {
                return Ok(());
            }
        }
    }

    pub fn releasedir(&self, ino: Ino, handle: Handle) -> Result<()> {
        self.release(ino, handle)
    }

    /// As [`Fs::fsync`], for a directory.
    pub fn fsyncdir(&self, ino: Ino, handle: Handle, datasync: bool) -> Result<TxSeq> {
        self.fsync(ino, handle, datasync)
    }
}
