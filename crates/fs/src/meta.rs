//! Inodes and directory entries as records, and the change of several of them at once.

use bytes::Bytes;
use haven_format::{
    Ino, Keys, TxSeq,
    record::{self, Cookie, Entry, Inode, Key, Op, Time},
};
use haven_vault::{Change, Vault, View};
use prost::Message;

use crate::{FsError, Result};

/// Longest name in bytes.
pub const NAME_MAX: usize = 255;

pub(crate) fn file_type(mode: u32) -> u32 {
    mode & libc::S_IFMT
}

pub(crate) fn is_dir(mode: u32) -> bool {
    file_type(mode) == libc::S_IFDIR
}

pub(crate) fn is_file(mode: u32) -> bool {
    file_type(mode) == libc::S_IFREG
}

/// `d_type` for an inode of this mode.
pub(crate) fn kind(mode: u32) -> u32 {
    file_type(mode) >> 12
}

fn broken(what: &str, ino: Ino) -> FsError {
    FsError::Broken(format!("{what} of inode {ino} is unreadable"))
}

pub(crate) fn decode<M: Message + Default>(value: Bytes, what: &str, ino: Ino) -> Result<M> {
    M::decode(value).map_err(|_| broken(what, ino))
}

pub(crate) fn find_inode(view: &View, ino: Ino) -> Result<Option<Inode>> {
    let value = view.get(&record::inode_key(ino))?;
    value.map(|value| decode(value, "the record", ino)).transpose()
}

pub(crate) fn inode(view: &View, ino: Ino) -> Result<Inode> {
    find_inode(view, ino)?.ok_or(FsError::NotFound)
}

/// The inode, if it is a directory that still has its place in the tree.
pub(crate) fn live_directory(inode: &Inode) -> Result<()> {
    match (is_dir(inode.mode), inode.nlink) {
        (false, _) => Err(FsError::NotDirectory),
        (true, 0) => Err(FsError::NotFound),
        (true, _) => Ok(()),
    }
}

/// Where a name stands in a directory, or may.
#[derive(Debug)]
pub(crate) enum Slot {
    Taken(Cookie, Entry),
    Free(Cookie),
}

/// What a name must be, for a call that makes or removes it.
pub(crate) fn check_name(name: &[u8]) -> Result<()> {
    match name {
        [] => Err(FsError::NotFound),
        b"." | b".." => Err(FsError::Invalid("a directory's own name")),
        _ if name.len() > NAME_MAX => Err(FsError::NameTooLong),
        _ if name.iter().any(|byte| matches!(byte, b'/' | 0)) => Err(FsError::Invalid("a name with / or NUL")),
        _ => Ok(()),
    }
}

pub(crate) fn slot(keys: &Keys, view: &View, parent: Ino, name: &[u8]) -> Result<Slot> {
    let cookies = record::cookie_range(keys.name_hash(parent, name));
    let mut free = cookies.start;
    for (key, value) in view.scan(record::entries(parent, cookies.clone()), 256)? {
        let cookie = record::entry_cookie(&key).ok_or_else(|| broken("an entry", parent))?;
        let entry: Entry = decode(value, "an entry", parent)?;
        if entry.name == name {
            return Ok(Slot::Taken(cookie, entry));
        }
        if cookie == free {
            free += 1;
        }
    }
    if free < cookies.end { Ok(Slot::Free(free)) } else { Err(FsError::Broken("256 names with one hash".into())) }
}

pub(crate) fn find_entry(keys: &Keys, view: &View, parent: Ino, name: &[u8]) -> Result<Option<(Cookie, Entry)>> {
    // Nearly always the name is alone with its hash, and one get tells.
    let first = record::cookie_range(keys.name_hash(parent, name)).start;
    if let Some(value) = view.get(&record::entry_key(parent, first))? {
        let entry: Entry = decode(value, "an entry", parent)?;
        if entry.name == name {
            return Ok(Some((first, entry)));
        }
    }
    Ok(match slot(keys, view, parent, name)? {
        Slot::Taken(cookie, entry) => Some((cookie, entry)),
        Slot::Free(_) => None,
    })
}

/// A change in the making: read first, then commit once. Made and committed under the file system's change lock.
pub(crate) struct Stage {
    pub view: View,
    pub now: Time,
    pub change: Change,
    inodes: Vec<(Ino, Inode)>,
    ops: Vec<Op>,
}

impl Stage {
    pub fn new(view: View, now: Time) -> Self {
        Self { view, now, change: Change::default(), inodes: Vec::with_capacity(4), ops: Vec::with_capacity(4) }
    }

    /// The inode, to be changed: it will be written with the commit.
    pub fn inode(&mut self, ino: Ino) -> Result<&mut Inode> {
        let at = match self.inodes.iter().position(|(known, _)| *known == ino) {
            Some(at) => at,
            None => {
                self.inodes.push((ino, inode(&self.view, ino)?));
                self.inodes.len() - 1
            }
        };
        Ok(&mut self.inodes[at].1)
    }

    /// A directory that is about to get, lose or change an entry: its times move.
    pub fn directory(&mut self, ino: Ino) -> Result<&mut Inode> {
        let now = self.now;
        let inode = self.inode(ino)?;
        live_directory(inode)?;
        (inode.mtime, inode.ctime) = (now, now);
        Ok(inode)
    }

    /// A new inode.
    pub fn add_inode(&mut self, ino: Ino, inode: Inode) {
        self.change.inodes += 1;
        self.inodes.push((ino, inode));
    }

    pub fn set_entry(&mut self, parent: Ino, cookie: Cookie, name: &[u8], child: Ino, mode: u32) {
        let entry = Entry { name: Bytes::copy_from_slice(name), ino: child.0, kind: kind(mode) };
        self.set(record::entry_key(parent, cookie), entry.encode_to_vec().into());
    }

    pub fn remove_entry(&mut self, parent: Ino, cookie: Cookie) {
        self.remove(record::entry_key(parent, cookie));
    }

    pub fn set(&mut self, key: Key, value: Bytes) {
        self.ops.push(Op { key, value: Some(value) });
    }

    pub fn remove(&mut self, key: Key) {
        self.ops.push(Op { key, value: None });
    }

    /// The inodes it changes.
    pub fn touched(&self) -> Vec<Ino> {
        self.inodes.iter().map(|(ino, _)| *ino).collect()
    }

    pub fn commit(mut self, vault: &Vault) -> Result<TxSeq> {
        for (ino, inode) in self.inodes {
            self.ops.push(Op { key: record::inode_key(ino), value: Some(inode.encode_to_vec().into()) });
        }
        Ok(vault.commit(self.ops, self.change)?)
    }
}
