//! Extended attributes and, as two of them, access control lists.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use haven_format::{
    Ino,
    record::{self, Inode},
};

use super::setattr::CAPABILITY;
use crate::{
    Caller, Fs, FsError, Result, STATE_ATTRIBUTE, acl,
    acl::Acl,
    history::folder,
    meta::{Stage, file_type, inode, is_dir, is_file},
};

const NAME_MAX: usize = 255;
const VALUE_MAX: usize = 64 << 10;
/// Bytes of all names of an inode, each with its NUL.
const LIST_MAX: usize = 64 << 10;

impl Fs {
    /// `flags`: 0, `XATTR_CREATE` or `XATTR_REPLACE`.
    pub fn setxattr(&self, caller: &Caller, ino: Ino, name: &[u8], value: &[u8], flags: i32) -> Result<()> {
        self.writable_at(ino)?;
        if flags & !(libc::XATTR_CREATE | libc::XATTR_REPLACE) != 0 {
            return Err(FsError::Invalid("unknown flags for an extended attribute"));
        }
        let _change = self.change.lock();
        let mut stage = self.stage();
        let now = stage.now;
        check_name(name, stage.inode(ino)?)?;
        not_ours(name)?;
        if value.len() > VALUE_MAX {
            return Err(FsError::AttributeTooLarge);
        }
        let key = record::xattr_key(ino, name);
        let there = stage.inode(ino)?.xattrs > 0 && stage.view.get(&key)?.is_some();
        match flags {
            libc::XATTR_CREATE if there => return Err(FsError::Exists),
            libc::XATTR_REPLACE if !there => return Err(FsError::NoAttribute),
            _ => {}
        }
        let value = match name {
            acl::ACCESS => access(&mut stage, caller, ino, value)?,
            acl::DEFAULT => default(&mut stage, ino, value)?,
            _ => Some(Bytes::copy_from_slice(value)),
        };
        if value.is_some() && !there {
            room_for(&mut stage, ino, name)?;
        }
        let inode = stage.inode(ino)?;
        inode.ctime = now;
        inode.xattrs = inode.xattrs + u32::from(value.is_some()) - u32::from(there);
        match value {
            Some(value) => stage.set(key, value),
            None => stage.remove(key),
        }
        self.commit(stage)?;
        self.marks.fetch_add(u64::from(name == CAPABILITY), Ordering::AcqRel);
        Ok(())
    }

    /// The whole value; comparing it with the caller's buffer (`ERANGE`) is the adapter's.
    pub fn getxattr(&self, ino: Ino, name: &[u8]) -> Result<Bytes> {
        if ino == folder() {
            return Err(FsError::NoAttribute);
        }
        let at = self.place(ino)?;
        let inode = inode(&at.view, at.ino)?;
        check_name(name, &inode).map_err(|error| match error {
            FsError::NotPermitted(_) => FsError::NoAttribute,
            other => other,
        })?;
        if name == STATE_ATTRIBUTE {
            return Ok(self.file_state(ino)?.to_string().into());
        }
        if inode.xattrs == 0 {
            return Err(FsError::NoAttribute);
        }
        at.view.get(&record::xattr_key(at.ino, name))?.ok_or(FsError::NoAttribute)
    }

    /// All names, each followed by a NUL.
    pub fn listxattr(&self, ino: Ino) -> Result<Vec<u8>> {
        if ino == folder() {
            return Ok(Vec::new());
        }
        let at = self.place(ino)?;
        let inode = inode(&at.view, at.ino)?;
        let mut names = Vec::new();
        if inode.xattrs > 0 {
            for (key, _) in at.view.scan(record::xattrs(at.ino), LIST_MAX)? {
                names.extend_from_slice(record::xattr_name(&key).unwrap_or_default());
                names.push(0);
            }
        }
        Ok(names)
    }

    pub fn removexattr(&self, _caller: &Caller, ino: Ino, name: &[u8]) -> Result<()> {
        self.writable_at(ino)?;
        let _change = self.change.lock();
        let mut stage = self.stage();
        let now = stage.now;
        check_name(name, stage.inode(ino)?)?;
        not_ours(name)?;
        let key = record::xattr_key(ino, name);
        if stage.inode(ino)?.xattrs == 0 || stage.view.get(&key)?.is_none() {
            return Err(FsError::NoAttribute);
        }
        let inode = stage.inode(ino)?;
        inode.ctime = now;
        inode.xattrs -= 1;
        stage.remove(key);
        self.commit(stage)?;
        Ok(())
    }
}

/// Whether an inode of this kind may have an attribute of this name.
fn check_name(name: &[u8], inode: &Inode) -> Result<()> {
    if name.is_empty() || name.len() > NAME_MAX {
        return Err(FsError::AttributeName);
    }
    let acl = matches!(name, acl::ACCESS | acl::DEFAULT);
    if acl && file_type(inode.mode) == libc::S_IFLNK {
        return Err(FsError::Unsupported("an access control list on a symbolic link"));
    }
    if name.starts_with(b"user.") && !is_file(inode.mode) && !is_dir(inode.mode) {
        return Err(FsError::NotPermitted("user attributes stand on files and directories only"));
    }
    let spaces: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];
    if acl || spaces.iter().any(|space| name.starts_with(space) && name.len() > space.len()) {
        Ok(())
    } else {
        Err(FsError::Unsupported("an attribute outside user., trusted., security. and the ACLs"))
    }
}

fn not_ours(name: &[u8]) -> Result<()> {
    if name == STATE_ATTRIBUTE { Err(FsError::NotPermitted("the state of a file is told, not set")) } else { Ok(()) }
}

/// Whether the list of names stays within what listxattr(2) can give.
fn room_for(stage: &mut Stage, ino: Ino, name: &[u8]) -> Result<()> {
    if (stage.inode(ino)?.xattrs as usize + 1) * (NAME_MAX + 1) <= LIST_MAX {
        return Ok(());
    }
    let names = stage.view.scan(record::xattrs(ino), LIST_MAX)?;
    let length: usize = names.iter().filter_map(|(key, _)| Some(record::xattr_name(key)?.len() + 1)).sum();
    if length + name.len() < LIST_MAX { Ok(()) } else { Err(FsError::AttributeTooLarge) }
}

/// Sets the mode as an access list says, and gives what is left to keep of it.
fn access(stage: &mut Stage, caller: &Caller, ino: Ino, value: &[u8]) -> Result<Option<Bytes>> {
    if Acl::is_empty(value) {
        return Ok(None);
    }
    let list = Acl::parse(value).ok_or(FsError::Invalid("not an access control list"))?;
    let inode = stage.inode(ino)?;
    inode.mode = list.mode(inode.mode);
    if caller.uid != 0 && inode.gid != caller.gid && !(caller.in_group)(inode.gid) {
        inode.mode &= !libc::S_ISGID;
    }
    Ok((!list.is_plain()).then(|| list.to_bytes()))
}

fn default(stage: &mut Stage, ino: Ino, value: &[u8]) -> Result<Option<Bytes>> {
    if Acl::is_empty(value) {
        return Ok(None);
    }
    if !is_dir(stage.inode(ino)?.mode) {
        return Err(FsError::Denied("only directories have a default list"));
    }
    let list = Acl::parse(value).ok_or(FsError::Invalid("not an access control list"))?;
    Ok(Some(list.to_bytes()))
}
