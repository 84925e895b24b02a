//! Reading directories.

use bytes::Bytes;
use haven_format::{
    Ino, TxSeq,
    record::{self, Cookie, Entry},
};

use crate::{
    Dirent, Fs, FsError, Handle, Result,
    history::{SNAPSHOTS_NAME, folder},
    meta::{decode, is_dir, kind},
};

/// Entries read at once.
const BATCH: usize = 128;
const SELF: Cookie = 1;
const PARENT: Cookie = 2;
/// The folder of snapshots, if it is listed.
const FOLDER: Cookie = 3;

fn directory(name: &'static [u8], ino: Ino, cookie: Cookie) -> Dirent {
    Dirent { name: Bytes::from_static(name), ino, kind: kind(libc::S_IFDIR), cookie, attr: None }
}

impl Fs {
    pub fn opendir(&self, ino: Ino) -> Result<Handle> {
        if ino == folder() || is_dir(self.record(ino)?.mode) {
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
        let parent = if ino == folder() { Ino::ROOT } else { self.parent_of(ino)? };
        for (cookie, name, ino) in [(SELF, &b"."[..], ino), (PARENT, b"..", parent)] {
            if from < cookie && !take(&directory(name, ino, cookie)) {
                return Ok(());
            }
        }
        if ino == folder() {
            return self.read_folder(from, plus, take);
        }
        let lists = ino == Ino::ROOT && self.options.list_snapshots && self.options.at.is_none();
        if lists && from < FOLDER && !self.hand(directory(SNAPSHOTS_NAME, folder(), FOLDER), plus, take)? {
            return Ok(());
        }
        let at = self.place(ino)?;
        let mut from = from.max(FOLDER) + 1;
        loop {
            let batch = at.view.scan(record::entries(at.ino, from..Cookie::MAX), BATCH)?;
            let more = batch.len() == BATCH;
            for (key, value) in batch {
                let cookie = record::entry_cookie(&key)
                    .ok_or_else(|| FsError::Broken(format!("an entry key of inode {ino} has another length")))?;
                from = cookie + 1;
                let entry: Entry = decode(value, "an entry", ino)?;
                let (own, child) = (Ino(entry.ino), at.beside(Ino(entry.ino)));
                let attr = match plus.then(|| self.attr_in(&at.view, own, child)) {
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

    /// The snapshots, as directories. Its cookies count them by age.
    fn read_folder(&self, from: Cookie, plus: bool, take: &mut dyn FnMut(&Dirent) -> bool) -> Result<()> {
        for (age, name, ino) in self.snapshot_roots()? {
            let cookie = FOLDER + age;
            if from < cookie && !self.hand(Dirent { name, ..directory(b"", ino, cookie) }, plus, take)? {
                return Ok(());
            }
        }
        Ok(())
    }

    fn hand(&self, mut entry: Dirent, plus: bool, take: &mut dyn FnMut(&Dirent) -> bool) -> Result<bool> {
        if plus {
            entry.attr = Some(self.attr(entry.ino)?);
        }
        let taken = take(&entry);
        if taken && plus {
            self.lookups.add(entry.ino);
        }
        Ok(taken)
    }

    pub fn releasedir(&self, ino: Ino, handle: Handle) -> Result<()> {
        self.release(ino, handle)
    }

    /// As [`Fs::fsync`], for a directory.
    pub fn fsyncdir(&self, ino: Ino, handle: Handle, datasync: bool) -> Result<TxSeq> {
        self.fsync(ino, handle, datasync)
    }
}
