//! From records to files on a disk.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileExt, OpenOptionsExt, PermissionsExt, chown, lchown, symlink},
    },
    path::{Path, PathBuf},
};

use haven_format::{
    Ino,
    record::{self, Entry, Extent, Inode, Time},
};
use prost::Message;
use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, UTIME_OMIT, XattrFlags},
    io::Errno,
};

use crate::{Library, Records};

const TYPE: u32 = 0o170_000;

/// What was restored.
#[derive(Debug, Default)]
pub struct Restored {
    pub files: u64,
    pub folders: u64,
    pub links: u64,
    pub bytes: u64,
    /// What is not there or not whole, and why. A file with damage has zeros where it is damaged.
    pub damaged: Vec<(PathBuf, String)>,
}

/// One name to be made.
pub(crate) struct Item {
    pub path: PathBuf,
    pub ino: Ino,
    pub inode: Inode,
}

/// The disk that is written to is full, can't be written to, or fails.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub struct DiskError {
    pub path: PathBuf,
    source: io::Error,
}

impl Restored {
    /// What was made, if it could be. What fails for this name alone is told; a full or dead disk ends it all.
    fn made<T>(&mut self, path: &Path, what: &str, done: io::Result<T>) -> Result<Option<T>, DiskError> {
        let source = match done {
            Ok(made) => return Ok(Some(made)),
            Err(error) => error,
        };
        let hopeless = [Errno::NOSPC, Errno::DQUOT, Errno::ROFS, Errno::IO];
        if Errno::from_io_error(&source).is_some_and(|errno| hopeless.contains(&errno)) {
            return Err(DiskError { path: path.to_owned(), source });
        }
        self.damaged.push((path.to_owned(), format!("{what}: {source}")));
        Ok(None)
    }
}

/// Writes the whole tree of `records` into `target`, an empty directory; `index` is the newest state, whose chunk index
/// counts. Fails only where the disk does.
pub async fn restore(
    library: &mut Library,
    records: &Records,
    index: &Records,
    target: &Path,
) -> Result<Restored, DiskError> {
    let mut out = Restored::default();
    let mut items = walk(records, target, &mut out.damaged);
    let (folders, mut others): (Vec<Item>, Vec<Item>) = items.drain(..).partition(|item| is_folder(&item.inode));
    let mut made = Vec::new();
    for folder in folders {
        if out.made(&folder.path, "the folder can't be made", fs::create_dir_all(&folder.path))?.is_some() {
            made.push(folder);
        }
    }
    out.folders = made.len() as u64;
    // In the order they were made, which is how they lie in packs.
    others.sort_by_key(|item| item.ino);
    let mut first: BTreeMap<Ino, PathBuf> = BTreeMap::new();
    for item in &others {
        // Where a disk knows no hard links, each name gets the content.
        if first.get(&item.ino).is_some_and(|made| fs::hard_link(made, &item.path).is_ok()) {
            out.links += 1;
        } else if make(library, (records, index), item, &mut out).await? {
            first.entry(item.ino).or_insert_with(|| item.path.clone());
        }
    }
    // Innermost first, and last of all: making something inside changes a folder's time.
    for folder in made.iter().rev() {
        attributes(records, folder, &mut out);
    }
    Ok(out)
}

/// Where files stand whose folder is lost, by their numbers.
const LOST: &str = "haven-lost-and-found";

/// Every name below the root, parents before children; then what has lost its name. Tells in `damaged` of what can't be
/// made.
pub(crate) fn walk(records: &Records, target: &Path, damaged: &mut Vec<(PathBuf, String)>) -> Vec<Item> {
    let mut items = Vec::new();
    let mut seen = BTreeSet::from([Ino::ROOT]);
    walk_from(records, (Ino::ROOT, target.to_path_buf()), &mut seen, &mut items, damaged);
    lost(records, target, &mut seen, &mut items, damaged);
    items
}

fn walk_from(
    records: &Records,
    top: (Ino, PathBuf),
    seen: &mut BTreeSet<Ino>,
    items: &mut Vec<Item>,
    damaged: &mut Vec<(PathBuf, String)>,
) {
    let mut open = vec![top];
    while let Some((folder, path)) = open.pop() {
        for value in records.range(record::entries(folder, 0..u64::MAX)).map(|(_, value)| value.clone()) {
            let Ok(entry) = Entry::decode(value) else {
                damaged.push((path.clone(), "a name in it can't be read".into()));
                continue;
            };
            let ino = Ino(entry.ino);
            let harmless = !entry.name.contains(&b'/') && !matches!(&entry.name[..], b"" | b"." | b"..");
            let here = path.join(OsStr::from_bytes(&entry.name));
            match inode(records, ino).filter(|_| harmless) {
                Some(inode) if is_folder(&inode) && !seen.insert(ino) => {
                    damaged.push((here, "the same folder stands elsewhere too".into()));
                }
                Some(inode) => {
                    seen.insert(ino);
                    if is_folder(&inode) {
                        open.push((ino, here.clone()));
                    }
                    items.push(Item { path: here, ino, inode });
                }
                None => damaged.push((here, "what it names can't be read".into())),
            }
        }
    }
}

/// Files that no folder names (and that were not unlinked while open), and folders that none names with all below them:
/// their own folder's records are lost.
fn lost(
    records: &Records,
    target: &Path,
    seen: &mut BTreeSet<Ino>,
    items: &mut Vec<Item>,
    damaged: &mut Vec<(PathBuf, String)>,
) {
    let orphans: BTreeSet<Ino> =
        records.range(record::orphans()).filter_map(|(key, _)| record::key_orphan(key)).collect();
    let mut without: BTreeSet<Ino> = BTreeSet::new();
    let mut named: BTreeSet<Ino> = BTreeSet::new();
    for (key, value) in records.range(record::inodes_from(Ino(0))) {
        let Some(ino) = record::key_inode(key).filter(|ino| !seen.contains(ino) && !orphans.contains(ino)) else {
            continue;
        };
        if record::is_inode(key) {
            without.insert(ino);
        } else if record::entry_cookie(key).is_some() {
            without.insert(ino);
            named.extend(Entry::decode(value.clone()).map(|entry| Ino(entry.ino)));
        }
    }
    let mut first = true;
    // Those that are named stand below the others, unless they name each other in a circle.
    for &ino in without.difference(&named).chain(&without) {
        if !seen.insert(ino) {
            continue;
        }
        let nothing = || Inode { mode: 0o040_700, ..Inode::default() };
        if std::mem::take(&mut first) {
            items.push(Item { path: target.join(LOST), ino: Ino(0), inode: nothing() });
        }
        let path = target.join(LOST).join(ino.to_string());
        damaged.push((path.clone(), "the folder that named it is lost".into()));
        let inode = inode(records, ino).unwrap_or_else(nothing);
        let folder = is_folder(&inode);
        items.push(Item { path: path.clone(), ino, inode });
        if folder {
            walk_from(records, (ino, path), seen, items, damaged);
        }
    }
}

fn inode(records: &Records, ino: Ino) -> Option<Inode> {
    records.get(&record::inode_key(ino)).and_then(|value| Inode::decode(value.clone()).ok())
}

fn is_folder(inode: &Inode) -> bool {
    inode.mode & TYPE == 0o040_000
}

/// Whether there is something under this name now.
async fn make(
    library: &mut Library,
    (records, index): (&Records, &Records),
    item: &Item,
    out: &mut Restored,
) -> Result<bool, DiskError> {
    match item.inode.mode & TYPE {
        0o120_000 => {
            let done = symlink(OsStr::from_bytes(&item.inode.target), &item.path);
            if out.made(&item.path, "the link can't be made", done)?.is_none() {
                return Ok(false);
            }
            out.links += 1;
        }
        0o100_000 => {
            let done = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&item.path);
            let Some(file) = out.made(&item.path, "the file can't be made", done)? else { return Ok(false) };
            content(library, (records, index), item, &file, out).await?;
            out.files += 1;
            out.bytes += item.inode.size;
        }
        other => {
            let mode = Mode::from_raw_mode(item.inode.mode & 0o7777);
            let kind = FileType::from_raw_mode(other);
            let done = rustix::fs::mknodat(CWD, &item.path, kind, mode, item.inode.rdev.into());
            if out.made(&item.path, "a special file can't be made", done.map_err(Into::into))?.is_none() {
                return Ok(false);
            }
        }
    }
    attributes(records, item, out);
    Ok(true)
}

async fn content(
    library: &mut Library,
    (records, index): (&Records, &Records),
    item: &Item,
    file: &File,
    out: &mut Restored,
) -> Result<(), DiskError> {
    if out.made(&item.path, "it can't be that long", file.set_len(item.inode.size))?.is_none() {
        return Ok(());
    }
    for (key, value) in records.range(record::extents(item.ino, 0)) {
        let mut damaged = |why: String| out.damaged.push((item.path.clone(), why));
        let (Some(offset), Ok(extent)) = (record::extent_offset(key), Extent::decode(value.clone())) else {
            damaged("a part of it can't be read".into());
            continue;
        };
        let Some(id) = extent.chunk_id() else { continue };
        let length = extent.len.min(item.inode.size.saturating_sub(offset));
        match library.chunk(index, &extent, id).await {
            Ok(plain) => {
                let start = extent.skip as usize;
                match usize::try_from(length).ok().and_then(|length| plain.get(start..start.checked_add(length)?)) {
                    Some(part) => {
                        out.made(&item.path, &format!("at {offset}"), file.write_all_at(part, offset))?;
                    }
                    None => damaged(format!("at {offset}: its chunk is too short")),
                }
            }
            Err(error) => damaged(format!("at {offset}: {error}")),
        }
    }
    Ok(())
}

/// Owner, mode, extended attributes, times: what this user may set is set, the rest is told.
fn attributes(records: &Records, item: &Item, out: &mut Restored) {
    let mut failed = |what: &str, error: io::Error| out.damaged.push((item.path.clone(), format!("{what}: {error}")));
    let link = item.inode.mode & TYPE == 0o120_000;
    if rustix::process::geteuid().is_root() {
        let owner = (Some(item.inode.uid), Some(item.inode.gid));
        let done = if link { lchown(&item.path, owner.0, owner.1) } else { chown(&item.path, owner.0, owner.1) };
        done.unwrap_or_else(|error| failed("its owner", error));
    }
    for (key, value) in records.range(record::xattrs(item.ino)) {
        let name = OsStr::from_bytes(record::xattr_name(key).unwrap_or_default());
        let set = rustix::fs::lsetxattr(&item.path, name, value, XattrFlags::empty());
        set.unwrap_or_else(|error| failed(&format!("its attribute {}", name.to_string_lossy()), error.into()));
    }
    if !link {
        let mode = fs::Permissions::from_mode(item.inode.mode & 0o7777);
        fs::set_permissions(&item.path, mode).unwrap_or_else(|error| failed("its mode", error));
    }
    let times = Timestamps { last_access: timespec(item.inode.atime), last_modification: timespec(item.inode.mtime) };
    rustix::fs::utimensat(CWD, &item.path, &times, AtFlags::SYMLINK_NOFOLLOW)
        .unwrap_or_else(|error| failed("its times", error.into()));
}

fn timespec(time: Time) -> Timespec {
    let nanos = if time.nanos < 1_000_000_000 { time.nanos.into() } else { UTIME_OMIT };
    Timespec { tv_sec: time.seconds, tv_nsec: nanos }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_ends_it_with_the_path_and_a_name_that_cannot_be_made_does_not() {
        let mut out = Restored::default();
        let path = Path::new("/mnt/usb/2026/IMG_0001.JPG");
        let mut made = |errno: Errno| out.made(path, "the file can't be made", Err::<(), _>(errno.into()));
        assert!(matches!(made(Errno::NAMETOOLONG), Ok(None)) && matches!(made(Errno::PERM), Ok(None)));
        for errno in [Errno::NOSPC, Errno::DQUOT, Errno::ROFS, Errno::IO] {
            assert!(made(errno).unwrap_err().to_string().starts_with("/mnt/usb/2026/IMG_0001.JPG: "));
        }
        assert_eq!(out.damaged.len(), 2);
    }
}
