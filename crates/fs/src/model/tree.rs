//! What a reader of a file system sees, path by path.

use std::collections::BTreeMap;

use haven_format::Ino;

use super::{Id, Kind, Model, TOP};
use crate::{Dirent, Fs, FsError};

/// The bytes of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    Known(Vec<u8>),
    /// Written and not known to be safe: anything may be found. If there are bytes, what is found begins with the
    /// first so many of them and is a beginning of them all.
    Unsure(Option<(usize, Vec<u8>)>),
    None,
}

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    pub mode: u32,
    pub uid: u32,
    pub nlink: u32,
    pub rdev: u32,
    /// The first path that leads to the same inode.
    pub same_as: Vec<u8>,
    pub target: Vec<u8>,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub content: Content,
}

/// All paths of a file system; the root is the empty one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree(pub BTreeMap<Vec<u8>, Facts>);

impl Tree {
    /// Reads a whole file system. Where the vault needs something first, waits for it.
    pub async fn read(fs: &Fs) -> Result<Self, FsError> {
        let mut tree = Self::default();
        let mut first: BTreeMap<Ino, Vec<u8>> = BTreeMap::new();
        let mut todo = vec![(Vec::new(), Ino::ROOT)];
        while let Some((path, ino)) = todo.pop() {
            let same_as = first.entry(ino).or_insert_with(|| path.clone()).clone();
            let facts = facts(fs, ino, same_as).await?;
            if facts.mode & libc::S_IFMT == libc::S_IFDIR {
                let mut children = list(fs, ino).await?;
                // Last in, first out: paths come in order, so that the first of several names is known.
                children.sort_by(|a, b| b.name.cmp(&a.name));
                todo.extend(children.into_iter().map(|child| (join(&path, &child.name), child.ino)));
            }
            tree.0.insert(path, facts);
        }
        Ok(tree)
    }

    /// The first thing that `found` has other than `self` expects.
    pub fn differs(&self, found: &Self) -> Option<String> {
        for (path, facts) in &found.0 {
            if !self.0.contains_key(path) {
                return Some(format!("{} should not be there: {}", name(path), brief(facts)));
            }
        }
        for (path, expected) in &self.0 {
            let Some(facts) = found.0.get(path) else {
                return Some(format!("{} is missing", name(path)));
            };
            let content = match (&expected.content, &facts.content) {
                (Content::Unsure(None), _) => true,
                (Content::Unsure(Some((safe, all))), Content::Known(is)) => is.len() >= *safe && all.starts_with(is),
                (expected, is) => expected == is,
            };
            let alike = Facts { content: Content::None, ..expected.clone() };
            if !content || alike != (Facts { content: Content::None, ..facts.clone() }) {
                return Some(format!("{} is {}, expected {}", name(path), brief(facts), brief(expected)));
            }
        }
        None
    }
}

fn name(path: &[u8]) -> String {
    format!("\"/{}\"", path.escape_ascii())
}

fn brief(facts: &Facts) -> String {
    let content = match &facts.content {
        Content::Known(bytes) | Content::Unsure(Some((_, bytes))) => {
            let sum = bytes.iter().fold(7u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(*byte)));
            let from = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
            format!("{} bytes, sum {sum:08x}, the first {from} zero", bytes.len())
        }
        Content::Unsure(None) => "unsure".into(),
        Content::None => "no content".into(),
    };
    format!("{:?} ({content})", Facts { content: Content::None, ..facts.clone() })
}

fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() }
}

/// Makes a call until the vault needs nothing more for it.
macro_rules! settled {
    ($fs:expr, $call:expr) => {
        loop {
            match $call {
                Err(crate::FsError::Need(need)) => {
                    if let Err(error) = $fs.settle(&need).await {
                        break Err(error);
                    }
                }
                other => break other,
            }
        }
    };
}
pub(crate) use settled;

async fn list(fs: &Fs, ino: Ino) -> Result<Vec<Dirent>, FsError> {
    let handle = settled!(fs, fs.opendir(ino))?;
    let mut entries: Vec<Dirent> = Vec::new();
    let result = settled!(fs, {
        let from = entries.last().map_or(0, |entry| entry.cookie);
        fs.readdir(ino, handle, from, false, &mut |entry| {
            entries.push(entry.clone());
            true
        })
    });
    fs.releasedir(ino, handle)?;
    result?;
    entries.retain(|entry| !matches!(&entry.name[..], b"." | b".."));
    Ok(entries)
}

async fn facts(fs: &Fs, ino: Ino, same_as: Vec<u8>) -> Result<Facts, FsError> {
    let attr = settled!(fs, fs.getattr(ino, None))?;
    let mut xattrs = BTreeMap::new();
    for name in settled!(fs, fs.listxattr(ino))?.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        xattrs.insert(name.to_vec(), settled!(fs, fs.getxattr(ino, name))?.to_vec());
    }
    let target = match attr.mode & libc::S_IFMT {
        libc::S_IFLNK => settled!(fs, fs.readlink(ino))?.to_vec(),
        _ => Vec::new(),
    };
    let content = match attr.mode & libc::S_IFMT {
        libc::S_IFREG => Content::Known(content(fs, ino, attr.size).await?),
        _ => Content::None,
    };
    let (mode, uid, nlink, rdev) = (attr.mode, attr.uid, attr.nlink, attr.rdev);
    Ok(Facts { mode, uid, nlink, rdev, same_as, target, xattrs, content })
}

async fn content(fs: &Fs, ino: Ino, size: u64) -> Result<Vec<u8>, FsError> {
    let handle = settled!(fs, fs.open(ino, libc::O_RDONLY))?;
    let mut all = Vec::new();
    let result = loop {
        match settled!(fs, fs.read(ino, handle, all.len() as u64, 100_000)) {
            Ok(bytes) if bytes.is_empty() => break Ok(()),
            Ok(bytes) => all.extend_from_slice(&bytes),
            Err(error) => break Err(error),
        }
    };
    // Not being the last handle, it stores nothing; as the last, there is nothing to store.
    fs.release(ino, handle).or_else(|error| error.need().map(|_| ()).ok_or(error))?;
    result?;
    if all.len() as u64 == size {
        Ok(all)
    } else {
        Err(FsError::Broken(format!("stat tells {size} bytes of inode {ino}, reading {}", all.len())))
    }
}

pub(super) fn of_model(model: &Model) -> Tree {
    let mut tree = Tree::default();
    let mut first: BTreeMap<Id, Vec<u8>> = BTreeMap::new();
    let mut todo = vec![(Vec::new(), TOP)];
    while let Some((path, id)) = todo.pop() {
        let node = &model.nodes[&id];
        let mut target = Vec::new();
        let content = match &node.kind {
            Kind::File { data, unsaved: None } => Content::Known(data.clone()),
            Kind::File { data, unsaved: Some(unsaved) } if unsaved.appended => {
                Content::Unsure(Some((unsaved.safe, data.clone())))
            }
            Kind::File { .. } => Content::Unsure(None),
            Kind::Directory { entries, .. } => {
                todo.extend(entries.iter().rev().map(|(name, id)| (join(&path, name), *id)));
                Content::None
            }
            Kind::Link(to) => {
                target.clone_from(to);
                Content::None
            }
            Kind::Other => Content::None,
        };
        let facts = Facts {
            mode: node.mode,
            uid: node.uid,
            nlink: node.nlink,
            rdev: node.rdev,
            same_as: first.entry(id).or_insert_with(|| path.clone()).clone(),
            target,
            xattrs: node.xattrs.clone(),
            content,
        };
        tree.0.insert(path, facts);
    }
    tree
}
