//! The file system as simply as it can be said, to hold the real one against: for tests and simulations.
//!
//! [`Step`] is one call on the file system, made from a few random words; [`Driver`] makes it on an [`crate::Fs`] and
//! on a [`Model`] and tells where they part; [`Tree`] is what a reader of either sees.
//!
//! A crash is the driver's too: after the real one has been opened again, [`Driver::resume`] compares the trees.
//! Contents of files that were written and neither closed nor synced since are unsure and taken as found, but one
//! that had only been appended to must be a beginning of what was written.

mod drive;
mod step;
mod tree;

use std::collections::BTreeMap;

pub use drive::{Driver, Moment};
pub use step::Step;
pub use tree::{Content, Facts, Tree};

pub(crate) type Id = u32;
pub(crate) const TOP: Id = 0;

#[derive(Debug, Clone)]
pub(crate) enum Kind {
    File { data: Vec<u8>, unsaved: Option<Unsaved> },
    Directory { entries: BTreeMap<Vec<u8>, Id>, parent: Id },
    Link(Vec<u8>),
    Other,
}

/// What is known of a file whose bytes may be in memory only.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unsaved {
    /// Bytes that were safe when it began.
    pub safe: usize,
    /// Nothing but appending has happened since.
    pub appended: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub kind: Kind,
    /// Type and permissions.
    pub mode: u32,
    pub uid: u32,
    pub nlink: u32,
    pub rdev: u32,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// A file system in a few maps. Its calls give an errno where the real one must.
#[derive(Debug, Clone)]
pub struct Model {
    pub(crate) nodes: BTreeMap<Id, Node>,
    next: Id,
}

type Answer<T> = Result<T, i32>;

impl Model {
    /// What a new library looks like.
    pub fn new() -> Self {
        let kind = Kind::Directory { entries: BTreeMap::new(), parent: TOP };
        let root = Node { kind, mode: libc::S_IFDIR | 0o755, uid: 0, nlink: 2, rdev: 0, xattrs: BTreeMap::new() };
        Self { nodes: BTreeMap::from([(TOP, root)]), next: 1 }
    }

    pub(crate) fn node(&mut self, id: Id) -> &mut Node {
        self.nodes.get_mut(&id).expect("only known nodes are asked for")
    }

    pub(crate) fn is_dir(&self, id: Id) -> bool {
        matches!(self.nodes[&id].kind, Kind::Directory { .. })
    }

    pub(crate) fn entries(&mut self, id: Id) -> &mut BTreeMap<Vec<u8>, Id> {
        match &mut self.node(id).kind {
            Kind::Directory { entries, .. } => entries,
            _ => unreachable!("only directories are asked for entries"),
        }
    }

    pub(crate) fn data(&mut self, id: Id) -> &mut Vec<u8> {
        match &mut self.node(id).kind {
            Kind::File { data, .. } => data,
            _ => unreachable!("only files are asked for data"),
        }
    }

    /// Directories that have a place in the tree.
    pub(crate) fn directories(&self) -> Vec<Id> {
        self.nodes.iter().filter(|(id, node)| self.is_dir(**id) && node.nlink > 0).map(|(id, _)| *id).collect()
    }

    pub(crate) fn find(&mut self, parent: Id, name: &[u8]) -> Answer<Id> {
        self.entries(parent).get(name).copied().ok_or(libc::ENOENT)
    }

    pub(crate) fn make(&mut self, parent: Id, name: &[u8], mode: u32, kind: Kind, rdev: u32) -> Answer<Id> {
        if self.find(parent, name).is_ok() {
            return Err(libc::EEXIST);
        }
        let directory = matches!(kind, Kind::Directory { .. });
        let nlink = if directory { 2 } else { 1 };
        let id = self.next;
        self.next += 1;
        self.nodes.insert(id, Node { kind, mode, uid: 0, nlink, rdev, xattrs: BTreeMap::new() });
        self.entries(parent).insert(name.to_vec(), id);
        self.node(parent).nlink += u32::from(directory);
        Ok(id)
    }

    /// A file without a name.
    pub(crate) fn nameless(&mut self, mode: u32) -> Id {
        let id = self.next;
        self.next += 1;
        let kind = Kind::File { data: Vec::new(), unsaved: None };
        self.nodes.insert(id, Node { kind, mode, uid: 0, nlink: 0, rdev: 0, xattrs: BTreeMap::new() });
        id
    }

    pub(crate) fn link(&mut self, id: Id, parent: Id, name: &[u8]) -> Answer<()> {
        if self.is_dir(id) {
            return Err(libc::EPERM);
        }
        if self.find(parent, name).is_ok() {
            return Err(libc::EEXIST);
        }
        self.entries(parent).insert(name.to_vec(), id);
        self.node(id).nlink += 1;
        self.saved(id);
        Ok(())
    }

    pub(crate) fn unlink(&mut self, parent: Id, name: &[u8]) -> Answer<()> {
        let id = self.find(parent, name)?;
        if self.is_dir(id) {
            return Err(libc::EISDIR);
        }
        self.entries(parent).remove(name);
        self.node(id).nlink -= 1;
        Ok(())
    }

    pub(crate) fn rmdir(&mut self, parent: Id, name: &[u8]) -> Answer<()> {
        let id = self.find(parent, name)?;
        if !self.is_dir(id) {
            return Err(libc::ENOTDIR);
        }
        if !self.entries(id).is_empty() {
            return Err(libc::ENOTEMPTY);
        }
        self.entries(parent).remove(name);
        self.node(parent).nlink -= 1;
        self.node(id).nlink = 0;
        Ok(())
    }

    fn inside(&self, mut inner: Id, outer: Id) -> bool {
        loop {
            if inner == outer {
                return true;
            }
            match self.nodes[&inner].kind {
                Kind::Directory { parent, .. } if inner != TOP => inner = parent,
                _ => return false,
            }
        }
    }

    pub(crate) fn rename(&mut self, from: (Id, &[u8]), to: (Id, &[u8]), flags: u32) -> Answer<()> {
        let id = self.find(from.0, from.1)?;
        if self.is_dir(id) && self.inside(to.0, id) {
            return Err(libc::EINVAL);
        }
        let other = self.find(to.0, to.1).ok();
        match other {
            None if flags == libc::RENAME_EXCHANGE => return Err(libc::ENOENT),
            Some(_) if flags == libc::RENAME_NOREPLACE => return Err(libc::EEXIST),
            Some(other) if other == id => return Ok(()),
            Some(other) if flags == libc::RENAME_EXCHANGE => {
                if self.is_dir(other) && self.inside(from.0, other) {
                    return Err(libc::EINVAL);
                }
                self.put(from, other, to.0);
                self.put(to, id, from.0);
                return Ok(());
            }
            Some(other) => match (self.is_dir(id), self.is_dir(other)) {
                (true, false) => return Err(libc::ENOTDIR),
                (false, true) => return Err(libc::EISDIR),
                (true, true) => self.rmdir(to.0, to.1)?,
                (false, false) => self.unlink(to.0, to.1)?,
            },
            None => {}
        }
        self.entries(from.0).remove(from.1);
        self.put(to, id, from.0);
        Ok(())
    }

    /// Gives `id`, which was in directory `was`, its place at `to`. What moves is stored first.
    fn put(&mut self, to: (Id, &[u8]), id: Id, was: Id) {
        self.entries(to.0).insert(to.1.to_vec(), id);
        self.saved(id);
        if let Kind::Directory { parent, .. } = &mut self.node(id).kind {
            *parent = to.0;
            self.node(was).nlink -= 1;
            self.node(to.0).nlink += 1;
        }
    }

    pub(crate) fn write(&mut self, id: Id, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        self.touch(id, |len| offset >= len);
        let data = self.data(id);
        if data.len() < end {
            data.resize(end, 0);
        }
        data[offset..end].copy_from_slice(bytes);
    }

    /// Notes that bytes of a file may be in memory only.
    fn touch(&mut self, id: Id, appends: impl Fn(usize) -> bool) {
        if let Kind::File { data, unsaved } = &mut self.node(id).kind {
            let known = unsaved.get_or_insert(Unsaved { safe: data.len(), appended: true });
            known.appended &= appends(data.len());
        }
    }

    pub(crate) fn truncate(&mut self, id: Id, size: usize) {
        if let Kind::File { data, unsaved } = &mut self.node(id).kind {
            data.resize(size, 0);
            if let Some(unsaved) = unsaved {
                unsaved.appended = false;
            }
        }
    }

    pub(crate) fn zero(&mut self, id: Id, range: std::ops::Range<usize>, grow: bool) {
        let data = self.data(id);
        if grow && data.len() < range.end {
            data.resize(range.end, 0);
        }
        let end = range.end.min(data.len());
        if range.start < end {
            data[range.start..end].fill(0);
        }
    }

    /// Everything of this file has reached the vault.
    pub(crate) fn saved(&mut self, id: Id) {
        if let Kind::File { unsaved, .. } = &mut self.node(id).kind {
            *unsaved = None;
        }
    }

    /// What a reader sees.
    pub fn tree(&self) -> Tree {
        tree::of_model(self)
    }
}

impl Default for Model {
    fn default() -> Self {
        Self::new()
    }
}
