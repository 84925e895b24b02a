//! Calls that make an inode.

use bytes::Bytes;
use haven_format::{
    Ino,
    record::{self, Inode},
};

use crate::{
    Attr, Caller, Fs, FsError, Handle, Result, acl,
    acl::Acl,
    meta::{Slot, Stage, check_name, find_entry, is_dir, is_file, slot},
};

/// Longest target of a symbolic link, bytes.
const TARGET_MAX: usize = 4095;

impl Fs {
    /// Makes a regular or special file; `mode` has the file type. Counts a lookup, as all calls that give a new
    /// name's [`Attr`].
    pub fn mknod(&self, caller: &Caller, parent: Ino, name: &[u8], mode: u32, rdev: u32) -> Result<Attr> {
        let mode = if crate::meta::file_type(mode) == 0 { mode | libc::S_IFREG } else { mode };
        let known = matches!(
            crate::meta::file_type(mode),
            libc::S_IFREG | libc::S_IFCHR | libc::S_IFBLK | libc::S_IFIFO | libc::S_IFSOCK
        );
        if !known {
            return Err(FsError::Invalid("an inode of this type is not made with mknod"));
        }
        let device = matches!(crate::meta::file_type(mode), libc::S_IFCHR | libc::S_IFBLK);
        let new = Inode { mode, nlink: 1, rdev: if device { rdev } else { 0 }, ..Default::default() };
        self.make(caller, parent, name, new)
    }

    pub fn mkdir(&self, caller: &Caller, parent: Ino, name: &[u8], mode: u32) -> Result<Attr> {
        let mode = libc::S_IFDIR | mode & 0o7777;
        self.make(caller, parent, name, Inode { mode, nlink: 2, parent: parent.0, ..Default::default() })
    }

    pub fn symlink(&self, caller: &Caller, parent: Ino, name: &[u8], target: &[u8]) -> Result<Attr> {
        if target.is_empty() {
            return Err(FsError::NotFound);
        }
        if target.len() > TARGET_MAX {
            return Err(FsError::NameTooLong);
        }
        let new = Inode {
            mode: libc::S_IFLNK | 0o777,
            nlink: 1,
            size: target.len() as u64,
            target: Bytes::copy_from_slice(target),
            ..Default::default()
        };
        self.make(caller, parent, name, new)
    }

    /// Makes and opens a regular file, or opens the one there is unless `flags` have `O_EXCL`. Counts a lookup.
    pub fn create(&self, caller: &Caller, parent: Ino, name: &[u8], mode: u32, flags: i32) -> Result<(Attr, Handle)> {
        let mode = libc::S_IFREG | mode & 0o7777;
        match self.make(caller, parent, name, Inode { mode, nlink: 1, ..Default::default() }) {
            Ok(attr) => Ok((attr, self.handles.open(&self.nodes.hold(attr.ino)))),
            Err(FsError::Exists) if flags & libc::O_EXCL == 0 => {
                let view = self.vault.live();
                let (_, entry) = find_entry(&self.keys, &view, parent, name)?.ok_or(FsError::NotFound)?;
                let handle = self.open(Ino(entry.ino), flags)?;
                let attr = self.attr(Ino(entry.ino))?;
                self.lookups.add(attr.ino);
                Ok((attr, handle))
            }
            Err(error) => Err(error),
        }
    }

    /// Makes and opens a regular file without a name (`O_TMPFILE`); [`Fs::link`] may give it one. Counts a lookup.
    pub fn tmpfile(&self, caller: &Caller, parent: Ino, mode: u32, _flags: i32) -> Result<(Attr, Handle)> {
        self.writable_at(parent)?;
        let _change = self.change.lock();
        let mut stage = self.stage();
        let directory = crate::meta::inode(&stage.view, parent)?;
        crate::meta::live_directory(&directory)?;
        let ino = self.vault.next_ino();
        let new = Inode { mode: libc::S_IFREG | mode & 0o7777, nlink: 0, ..Default::default() };
        let new = self.dress(&mut stage, caller, parent, &directory, ino, new)?;
        stage.set(record::orphan_key(ino), Bytes::new());
        stage.add_inode(ino, new.clone());
        self.commit(stage)?;
        let attr = self.fresh(ino, &new);
        let handle = self.handles.open(&self.nodes.hold(ino));
        self.orphans.lock().insert(ino);
        Ok((attr, handle))
    }

    fn make(&self, caller: &Caller, parent: Ino, name: &[u8], new: Inode) -> Result<Attr> {
        self.writable_at(parent)?;
        if self.names_folder(parent, name) {
            return Err(FsError::Exists);
        }
        match name {
            b"." | b".." => return Err(FsError::Exists),
            _ => check_name(name)?,
        }
        let _change = self.change.lock();
        let mut stage = self.stage();
        let directory = stage.directory(parent)?;
        directory.entries += 1;
        if is_dir(new.mode) {
            if directory.nlink >= super::LINK_MAX {
                return Err(FsError::TooManyLinks);
            }
            directory.nlink += 1;
        }
        let directory = directory.clone();
        let Slot::Free(cookie) = slot(&self.keys, &stage.view, parent, name)? else {
            return Err(FsError::Exists);
        };
        let ino = self.vault.next_ino();
        let new = self.dress(&mut stage, caller, parent, &directory, ino, new)?;
        stage.set_entry(parent, cookie, name, ino, new.mode);
        stage.add_inode(ino, new.clone());
        self.commit(stage)?;
        Ok(self.fresh(ino, &new))
    }

    /// Gives a new inode its owner, permissions, default ACL and times.
    fn dress(
        &self,
        stage: &mut Stage,
        caller: &Caller,
        parent: Ino,
        directory: &Inode,
        ino: Ino,
        mut new: Inode,
    ) -> Result<Inode> {
        (new.uid, new.gid) = (caller.uid, caller.gid);
        if directory.mode & libc::S_ISGID != 0 {
            new.gid = directory.gid;
            if is_dir(new.mode) {
                new.mode |= libc::S_ISGID;
            }
        }
        let group_mark = libc::S_ISGID | libc::S_IXGRP;
        if is_file(new.mode)
            && new.mode & group_mark == group_mark
            && caller.uid != 0
            && new.gid != caller.gid
            && !(caller.in_group)(new.gid)
        {
            new.mode &= !libc::S_ISGID;
        }
        if crate::meta::file_type(new.mode) != libc::S_IFLNK {
            match self.default_acl(stage, parent, directory)? {
                Some(default) => inherit(stage, ino, &mut new, &default),
                None => new.mode &= !(caller.umask & 0o777),
            }
        }
        (new.atime, new.mtime, new.ctime, new.btime) = (stage.now, stage.now, stage.now, stage.now);
        Ok(new)
    }

    fn default_acl(&self, stage: &Stage, parent: Ino, directory: &Inode) -> Result<Option<Acl>> {
        if directory.xattrs == 0 {
            return Ok(None);
        }
        let value = stage.view.get(&record::xattr_key(parent, acl::DEFAULT))?;
        value
            .map(|value| Acl::parse(&value).ok_or_else(|| FsError::Broken(format!("the ACL of inode {parent}"))))
            .transpose()
    }
}

fn inherit(stage: &mut Stage, ino: Ino, new: &mut Inode, default: &Acl) {
    let mut access = default.clone();
    new.mode = access.limit(new.mode);
    if !access.is_plain() {
        stage.set(record::xattr_key(ino, acl::ACCESS), access.to_bytes());
        new.xattrs += 1;
    }
    if is_dir(new.mode) {
        stage.set(record::xattr_key(ino, acl::DEFAULT), default.to_bytes());
        new.xattrs += 1;
    }
}
