//! rename, in all its kinds.

use haven_format::{Ino, record::Entry};
use parking_lot::MutexGuard;

use crate::{
    Fs, FsError, Result,
    content::How,
    meta::{Slot, Stage, check_name, find_entry, inode, is_dir, slot},
};

const NOREPLACE: u32 = libc::RENAME_NOREPLACE;
const EXCHANGE: u32 = libc::RENAME_EXCHANGE;

impl Fs {
    /// `flags` are those of renameat2(2): `RENAME_NOREPLACE` and `RENAME_EXCHANGE`; others are `EINVAL`. What was
    /// written to what moves is stored first: under its new name it is there whole, or not there.
    pub fn rename(&self, parent: Ino, name: &[u8], new_parent: Ino, new_name: &[u8], flags: u32) -> Result<()> {
        self.writable_at(parent)?;
        self.writable_at(new_parent)?;
        if self.names_folder(parent, name) || self.names_folder(new_parent, new_name) {
            return Err(FsError::ReadOnly { why: "the folder of snapshots stays".into() });
        }
        if flags & !(NOREPLACE | EXCHANGE) != 0 || flags == NOREPLACE | EXCHANGE {
            return Err(FsError::Invalid("a rename of this kind"));
        }
        check_name(name)?;
        check_name(new_name)?;
        let change = match flags {
            EXCHANGE => self.change_whole([Some((parent, name)), Some((new_parent, new_name))])?,
            _ => self.change_whole([Some((parent, name)), None])?,
        };
        let mut stage = self.stage();
        stage.directory(parent)?;
        stage.directory(new_parent)?;
        let Slot::Taken(cookie, entry) = slot(&self.keys, &stage.view, parent, name)? else {
            return Err(FsError::NotFound);
        };
        let ino = Ino(entry.ino);
        let mode = stage.inode(ino)?.mode;
        if is_dir(mode) {
            not_inside(&stage, new_parent, ino)?;
        }
        let mut orphan = None;
        match slot(&self.keys, &stage.view, new_parent, new_name)? {
            Slot::Taken(..) if flags == NOREPLACE => return Err(FsError::Exists),
            Slot::Free(_) if flags == EXCHANGE => return Err(FsError::NotFound),
            Slot::Taken(_, other) if other.ino == entry.ino => return Ok(()),
            Slot::Taken(other_cookie, other) if flags == EXCHANGE => {
                let other_mode = stage.inode(Ino(other.ino))?.mode;
                if is_dir(other_mode) {
                    not_inside(&stage, parent, Ino(other.ino))?;
                }
                stage.set_entry(parent, cookie, name, Ino(other.ino), other_mode);
                stage.set_entry(new_parent, other_cookie, new_name, ino, mode);
                moved(&mut stage, Ino(other.ino), new_parent, parent)?;
            }
            Slot::Taken(other_cookie, other) => {
                replaceable(&mut stage, mode, &other)?;
                stage.set_entry(new_parent, other_cookie, new_name, ino, mode);
                stage.remove_entry(parent, cookie);
                stage.inode(parent)?.entries -= 1;
                if is_dir(mode) {
                    stage.inode(new_parent)?.nlink -= 1;
                }
                orphan = self.drop_name(&mut stage, Ino(other.ino))?;
            }
            Slot::Free(new_cookie) => {
                stage.set_entry(new_parent, new_cookie, new_name, ino, mode);
                stage.remove_entry(parent, cookie);
                stage.inode(parent)?.entries -= 1;
                stage.inode(new_parent)?.entries += 1;
            }
        }
        moved(&mut stage, ino, parent, new_parent)?;
        self.commit(stage)?;
        self.remember(orphan);
        drop(change);
        self.reap_if_unused(orphan);
        Ok(())
    }
}

/// A name in a directory.
type Named<'a> = Option<(Ino, &'a [u8])>;

impl Fs {
    /// The change lock, taken when nothing that was written before to what these names stand for is in memory alone.
    fn change_whole(&self, names: [Named<'_>; 2]) -> Result<MutexGuard<'_, ()>> {
        loop {
            let moved = self.named(names)?;
            // A file's state is locked before the change lock, so this can't wait until that is held.
            moved.into_iter().flatten().try_for_each(|ino| self.store_if_there(ino, How::Keep))?;
            let change = self.change.lock();
            if self.named(names)? == moved {
                return Ok(change);
            }
        }
    }

    fn named(&self, names: [Named<'_>; 2]) -> Result<[Option<Ino>; 2]> {
        let view = self.vault.live();
        let mut found = [None; 2];
        for (at, (parent, name)) in names.into_iter().enumerate().filter_map(|(at, name)| Some((at, name?))) {
            found[at] = find_entry(&self.keys, &view, parent, name)?.map(|(_, entry)| Ino(entry.ino));
        }
        Ok(found)
    }
}

/// `inner` is neither `outer` nor below it.
fn not_inside(stage: &Stage, inner: Ino, outer: Ino) -> Result<()> {
    let mut at = inner;
    loop {
        if at == outer {
            return Err(FsError::Invalid("a directory can't move into itself"));
        }
        if at == Ino::ROOT {
            return Ok(());
        }
        at = Ino(inode(&stage.view, at)?.parent);
    }
}

/// An inode of `mode` may take the place of `other`.
fn replaceable(stage: &mut Stage, mode: u32, other: &Entry) -> Result<()> {
    let other = stage.inode(Ino(other.ino))?;
    match (is_dir(mode), is_dir(other.mode)) {
        (true, false) => Err(FsError::NotDirectory),
        (false, true) => Err(FsError::IsDirectory),
        _ if other.entries > 0 => Err(FsError::NotEmpty),
        _ => Ok(()),
    }
}

/// What a move means for the inode itself and, if it is a directory, for the link counts around it.
fn moved(stage: &mut Stage, ino: Ino, from: Ino, to: Ino) -> Result<()> {
    let now = stage.now;
    let inode = stage.inode(ino)?;
    inode.ctime = now;
    if is_dir(inode.mode) && from != to {
        inode.parent = to.0;
        stage.inode(from)?.nlink -= 1;
        stage.inode(to)?.nlink += 1;
    }
    Ok(())
}
