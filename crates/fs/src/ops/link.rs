//! Another name for a file.

use haven_format::{Ino, record};

use crate::{
    Attr, Fs, FsError, Result,
    content::How,
    meta::{Slot, check_name, is_dir, slot},
};

/// Most names of one file, and most sub-directories of one directory.
pub const LINK_MAX: u32 = 1 << 31;

impl Fs {
    /// Gives `ino` the name `name` in `parent` as well. Counts a lookup of it. What was written to it is stored first:
    /// under that name it is there whole, or not there.
    pub fn link(&self, ino: Ino, parent: Ino, name: &[u8]) -> Result<Attr> {
        self.writable_at(ino)?;
        self.writable_at(parent)?;
        if self.names_folder(parent, name) {
            return Err(FsError::Exists);
        }
        match name {
            b"." | b".." => return Err(FsError::Exists),
            _ => check_name(name)?,
        }
        self.store_if_there(ino, How::Keep)?;
        let change = self.change.lock();
        let mut stage = self.stage();
        let now = stage.now;
        let inode = stage.inode(ino)?;
        if is_dir(inode.mode) {
            return Err(FsError::NotPermitted("a directory has one name"));
        }
        if inode.nlink >= LINK_MAX {
            return Err(FsError::TooManyLinks);
        }
        let was_orphan = inode.nlink == 0;
        inode.nlink += 1;
        inode.ctime = now;
        let mode = inode.mode;
        stage.directory(parent)?.entries += 1;
        let Slot::Free(cookie) = slot(&self.keys, &stage.view, parent, name)? else {
            return Err(FsError::Exists);
        };
        stage.set_entry(parent, cookie, name, ino, mode);
        if was_orphan {
            stage.remove(record::orphan_key(ino));
        }
        self.commit(stage)?;
        if was_orphan {
            self.orphans.lock().remove(&ino);
        }
        drop(change);
        let attr = self.attr(ino)?;
        self.lookups.add(ino);
        Ok(attr)
    }
}
