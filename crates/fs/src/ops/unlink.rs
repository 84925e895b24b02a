//! Names go, and with the last name, handle and lookup the inode.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use haven_format::{
    Ino,
    record::{self, Extent},
};

use crate::{
    Fs, FsError, Result,
    errno::Tried,
    meta::{Slot, Stage, check_name, decode, is_dir, slot},
};

/// Records removed in one commit.
const BATCH: usize = 2048;
/// Inodes removed by one tick.
const REAPED_AT_ONCE: usize = 256;

impl Fs {
    pub fn unlink(&self, parent: Ino, name: &[u8]) -> Result<()> {
        self.writable_at(parent)?;
        if self.names_folder(parent, name) {
            return Err(FsError::ReadOnly { why: "the folder of snapshots stays".into() });
        }
        check_name(name)?;
        let change = self.change.lock();
        let mut stage = self.stage();
        stage.directory(parent)?;
        let Slot::Taken(cookie, entry) = slot(&self.keys, &stage.view, parent, name)? else {
            return Err(FsError::NotFound);
        };
        let ino = Ino(entry.ino);
        if is_dir(stage.inode(ino)?.mode) {
            return Err(FsError::IsDirectory);
        }
        stage.remove_entry(parent, cookie);
        stage.inode(parent)?.entries -= 1;
        let orphan = self.drop_name(&mut stage, ino)?;
        self.commit(stage)?;
        self.remember(orphan);
        drop(change);
        self.reap_if_unused(orphan);
        Ok(())
    }

    pub fn rmdir(&self, parent: Ino, name: &[u8]) -> Result<()> {
        self.writable_at(parent)?;
        if self.names_folder(parent, name) {
            return Err(FsError::ReadOnly { why: "the folder of snapshots stays".into() });
        }
        match name {
            b".." => return Err(FsError::NotEmpty),
            _ => check_name(name)?,
        }
        let change = self.change.lock();
        let mut stage = self.stage();
        stage.directory(parent)?;
        let Slot::Taken(cookie, entry) = slot(&self.keys, &stage.view, parent, name)? else {
            return Err(FsError::NotFound);
        };
        let ino = Ino(entry.ino);
        let inode = stage.inode(ino)?;
        if !is_dir(inode.mode) {
            return Err(FsError::NotDirectory);
        }
        if inode.entries > 0 {
            return Err(FsError::NotEmpty);
        }
        stage.remove_entry(parent, cookie);
        let directory = stage.inode(parent)?;
        directory.entries -= 1;
        directory.nlink -= 1;
        let orphan = self.drop_name(&mut stage, ino)?;
        self.commit(stage)?;
        self.remember(orphan);
        drop(change);
        self.reap_if_unused(orphan);
        Ok(())
    }

    /// Takes a name from `ino`. Gives it back if that was the last.
    pub(crate) fn drop_name(&self, stage: &mut Stage, ino: Ino) -> Result<Option<Ino>> {
        let now = stage.now;
        let inode = stage.inode(ino)?;
        inode.nlink = if is_dir(inode.mode) { 0 } else { inode.nlink.saturating_sub(1) };
        inode.ctime = now;
        if inode.nlink > 0 {
            return Ok(None);
        }
        stage.set(record::orphan_key(ino), Bytes::new());
        Ok(Some(ino))
    }

    /// Notes a new orphan. Under the change lock, after the commit that made it one.
    pub(crate) fn remember(&self, orphan: Option<Ino>) {
        self.orphans.lock().extend(orphan);
    }

    /// Takes back `lookups` lookups of `ino`. What has no name, no lookups and no handles is removed.
    pub fn forget(&self, ino: Ino, lookups: u64) {
        if self.lookups.remove(ino, lookups) {
            self.reap_if_unused(Some(ino));
        }
    }

    /// Removes what is left of an orphan, unless somebody can still reach it. A failure is not told: the orphan
    /// stays on record and the next tick tries again.
    pub(crate) fn reap_if_unused(&self, orphan: Option<Ino>) {
        let Some(ino) = orphan else { return };
        if self.orphans.lock().contains(&ino)
            && let Err(error) = self.reap(ino)
        {
            tracing::debug!(%ino, %error, "an inode without a name is removed later");
        }
    }

    /// An inode without a name that nobody has open, and the kernel does not know any more.
    fn is_unreachable(&self, ino: Ino) -> bool {
        !self.lookups.any(ino) && !self.nodes.is_open(ino) && self.orphans.lock().contains(&ino)
    }

    fn reap(&self, ino: Ino) -> Result<()> {
        if self.is_unreachable(ino)
            && let Some(node) = self.nodes.find(ino)
        {
            self.discard(&node);
        }
        loop {
            let _change = self.change.lock();
            if !self.is_unreachable(ino) {
                return Ok(());
            }
            let mut stage = self.stage();
            let records = stage.view.scan(record::whole_inode(ino), BATCH)?;
            let last = records.len() < BATCH;
            let mut freed = 0;
            for (key, value) in records {
                if record::extent_offset(&key).is_some() {
                    freed += decode::<Extent>(value, "an extent", ino)?.len;
                }
                if last || !record::is_inode(&key) {
                    stage.remove(key);
                }
            }
            stage.change.file_bytes -= freed as i64;
            if last {
                stage.change.inodes -= 1;
                stage.remove(record::orphan_key(ino));
            } else {
                let inode = stage.inode(ino)?;
                inode.allocated = inode.allocated.saturating_sub(freed);
            }
            self.commit(stage)?;
            if last {
                self.orphans.lock().remove(&ino);
                self.atimes.lock().remove(&ino);
                return Ok(());
            }
        }
    }

    /// Some of the orphans that nobody can reach.
    pub(crate) fn reap_some(&self) -> Result<()> {
        if self.options.read_only {
            return Ok(());
        }
        let orphans: Vec<_> = self.orphans.lock().iter().copied().collect();
        let unused = orphans.into_iter().filter(|ino| !self.lookups.any(*ino) && !self.nodes.is_open(*ino));
        let mut tried = Tried::default();
        unused.take(REAPED_AT_ONCE).for_each(|ino| tried.note(self.reap(ino)));
        tried.outcome()
    }

    /// Drops what is in memory of an inode that nobody can reach any more.
    pub(crate) fn discard(&self, node: &crate::handle::Node) {
        let mut state = node.state.write();
        state.runs.clear();
        (state.size, state.mtime, state.ctime, state.changed) = (None, None, None, false);
        self.count(node, &mut state);
        node.unprivileged.store(0, Ordering::Relaxed);
    }
}
