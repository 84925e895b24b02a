//! Calls that only look.

use std::{ops::Range, sync::atomic::Ordering};

use bytes::Bytes;
use haven_format::{Ino, record::Inode};
use haven_vault::View;

use crate::{
    Atime, Attr, Fs, FsError, Handle, Result, StatFs,
    content::{Runs, clip, extents_in},
    history::{folder, is_past},
    meta::{NAME_MAX, file_type, find_entry, inode, is_dir},
};

/// What `statfs` counts in, bytes.
const BLOCK: u32 = 4096;
/// Bytes and inodes that `statfs` tells of when no quota is set: more than anybody fills, and few enough for every
/// program's arithmetic.
const ENDLESS_BYTES: u64 = 1 << 50;
const ENDLESS_INODES: u64 = 1 << 32;

impl Fs {
    /// Finds `name` in `parent` and counts a lookup of what it found.
    pub fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Attr> {
        if name.len() > NAME_MAX {
            return Err(FsError::NameTooLong);
        }
        let ino = self.child(parent, name)?;
        let attr = self.attr(ino)?;
        self.lookups.add(ino);
        Ok(attr)
    }

    fn child(&self, parent: Ino, name: &[u8]) -> Result<Ino> {
        if self.names_folder(parent, name) {
            return Ok(folder());
        }
        if parent == folder() {
            return match name {
                b"." => Ok(parent),
                b".." => Ok(Ino::ROOT),
                _ => self.find_snapshot(name),
            };
        }
        let at = self.place(parent)?;
        match name {
            b"." => Ok(parent),
            b".." => self.parent_of(parent),
            _ => match find_entry(&self.keys, &at.view, at.ino, name)? {
                Some((_, entry)) => Ok(at.beside(Ino(entry.ino))),
                None if is_dir(inode(&at.view, at.ino)?.mode) => Err(FsError::NotFound),
                None => Err(FsError::NotDirectory),
            },
        }
    }

    /// The directory that a directory stands in.
    pub(crate) fn parent_of(&self, ino: Ino) -> Result<Ino> {
        let at = self.place(ino)?;
        if at.ino == Ino::ROOT && is_past(ino) {
            return Ok(folder());
        }
        Ok(at.beside(Ino(inode(&at.view, at.ino)?.parent)))
    }

    pub fn getattr(&self, ino: Ino, _handle: Option<Handle>) -> Result<Attr> {
        self.attr(ino)
    }

    /// The record, with what is in memory laid over. The caller holds no node's state.
    pub(crate) fn attr(&self, ino: Ino) -> Result<Attr> {
        if ino == folder() {
            return Ok(Attr::new(ino, &self.folder_inode()?));
        }
        let at = self.place(ino)?;
        self.attr_in(&at.view, at.ino, ino)
    }

    /// The same for the inode that `view` calls `own` and the kernel `ino`.
    pub(crate) fn attr_in(&self, view: &View, own: Ino, ino: Ino) -> Result<Attr> {
        let Some(node) = self.nodes.find(ino) else {
            return Ok(self.with_atime(Attr::new(ino, &inode(view, own)?)));
        };
        let state = node.state.read();
        let inode = inode(view, own)?;
        let mut attr = Attr::new(ino, &inode);
        if let Some(size) = state.size {
            attr.size = size;
        }
        if let Some(mtime) = state.mtime {
            attr.mtime = mtime;
        }
        if let Some(ctime) = state.ctime {
            attr.ctime = attr.ctime.max(ctime);
        }
        if state.runs.unsaved() > 0 {
            attr.blocks = allocated(view, own, &inode, &state.runs).div_ceil(512);
        }
        Ok(self.with_atime(attr))
    }

    fn with_atime(&self, mut attr: Attr) -> Attr {
        if self.options.atime != Atime::Off
            && let Some(atime) = self.atimes.lock().get(&attr.ino)
        {
            attr.atime = *atime;
        }
        attr
    }

    /// What a new or changed inode looks like, when it is known not to be open.
    pub(crate) fn fresh(&self, ino: Ino, inode: &Inode) -> Attr {
        self.lookups.add(ino);
        Attr::new(ino, inode)
    }

    pub fn readlink(&self, ino: Ino) -> Result<Bytes> {
        let at = self.place(ino)?;
        let inode = inode(&at.view, at.ino)?;
        if file_type(inode.mode) == libc::S_IFLNK {
            Ok(inode.target)
        } else {
            Err(FsError::Invalid("not a symbolic link"))
        }
    }

    pub fn statfs(&self) -> Result<StatFs> {
        let totals = self.vault.totals();
        let block = u64::from(BLOCK);
        let memory = self.in_memory.load(Ordering::Relaxed) as u64;
        let used = (totals.file_bytes + memory).div_ceil(block);
        let blocks = match self.options.quota {
            Some(quota) => quota / block,
            None => (ENDLESS_BYTES / block).max(used * 2),
        };
        let inodes = ENDLESS_INODES.max(totals.inodes * 2);
        Ok(StatFs {
            block: BLOCK,
            blocks,
            blocks_free: blocks.saturating_sub(used),
            inodes,
            inodes_free: inodes - totals.inodes,
            name_max: NAME_MAX as u32,
        })
    }
}

/// Bytes that a file will have allocated when what is in memory is stored. The kernel remembers it, so it must not be
/// another number then: bytes over stored ones add nothing.
fn allocated(view: &View, ino: Ino, inode: &Inode, runs: &Runs) -> u64 {
    let over = |range: Range<u64>| -> Result<u64> {
        let extents = extents_in(view, ino, range.clone(), usize::MAX)?;
        Ok(extents.iter().map(|(offset, extent)| clip(*offset, extent, &range).1.len).sum())
    };
    let fresh = runs.unsaved_ranges().map(|range| Ok(range.end - range.start - over(range)?)).sum::<Result<u64>>();
    // Where the records are elsewhere: what it is if nothing of the file is a hole.
    let guess = |_| runs.unsaved().min(inode.size.saturating_sub(inode.allocated));
    inode.allocated + fresh.unwrap_or_else(guess)
}
