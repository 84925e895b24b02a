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

use bytes::Bytes;
use haven_format::{
    Ino,
    record::{self, Entry, Extent, Inode, Key, Time},
};
use prost::Message;
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, UTIME_OMIT, XattrFlags};

use crate::Library;

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
struct Item {
    path: PathBuf,
    ino: Ino,
    inode: Inode,
}

/// Writes the whole tree of `records` into `target`, an empty directory. Fails only where the disk does.
pub async fn restore(library: &mut Library, records: &BTreeMap<Key, Bytes>, target: &Path) -> io::Result<Restored> {
    let mut out = Restored::default();
    let mut items = walk(records, target, &mut out);
    let (folders, mut others): (Vec<Item>, Vec<Item>) =
        items.drain(..).partition(|item| item.inode.mode & TYPE == 0o040_000);
    for folder in &folders {
        fs::create_dir_all(&folder.path)?;
        out.folders += 1;
    }
    // In the order they were made, which is how they lie in packs.
    others.sort_by_key(|item| item.ino);
    let mut first: BTreeMap<Ino, PathBuf> = BTreeMap::new();
    for item in &others {
        if let Some(made) = first.get(&item.ino) {
            fs::hard_link(made, &item.path)?;
            out.links += 1;
            continue;
        }
        make(library, records, item, &mut out).await?;
        first.insert(item.ino, item.path.clone());
    }
    // Innermost first, and last of all: making something inside changes a folder's time.
    for folder in folders.iter().rev() {
        attributes(records, folder, &mut out);
    }
    Ok(out)
}

/// Every name below the root, parents before children.
fn walk(records: &BTreeMap<Key, Bytes>, target: &Path, out: &mut Restored) -> Vec<Item> {
    let mut items = Vec::new();
    let mut open = vec![(Ino::ROOT, target.to_path_buf())];
    let mut seen = BTreeSet::from([Ino::ROOT]);
    while let Some((folder, path)) = open.pop() {
        for value in records.range(record::entries(folder, 0..u64::MAX)).map(|(_, value)| value.clone()) {
            let Ok(entry) = Entry::decode(value) else {
                out.damaged.push((path.clone(), "a name in it can't be read".into()));
                continue;
            };
            let ino = Ino(entry.ino);
            let harmless = !entry.name.contains(&b'/') && !matches!(&entry.name[..], b"" | b"." | b"..");
            let here = path.join(OsStr::from_bytes(&entry.name));
            let inode = records.get(&record::inode_key(ino)).and_then(|value| Inode::decode(value.clone()).ok());
            match inode.filter(|_| harmless) {
                Some(inode) if inode.mode & TYPE == 0o040_000 && !seen.insert(ino) => {
                    out.damaged.push((here, "the same folder stands elsewhere too".into()));
                }
                Some(inode) => {
                    if inode.mode & TYPE == 0o040_000 {
                        open.push((ino, here.clone()));
                    }
                    items.push(Item { path: here, ino, inode });
                }
                None => out.damaged.push((here, "what it names can't be read".into())),
            }
        }
    }
    items
}

async fn make(
    library: &mut Library,
    records: &BTreeMap<Key, Bytes>,
    item: &Item,
    out: &mut Restored,
) -> io::Result<()> {
    match item.inode.mode & TYPE {
        0o120_000 => {
            symlink(OsStr::from_bytes(&item.inode.target), &item.path)?;
            out.links += 1;
        }
        0o100_000 => {
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&item.path)?;
            content(library, records, item, &file, out).await?;
            out.files += 1;
            out.bytes += item.inode.size;
        }
        other => {
            let mode = Mode::from_raw_mode(item.inode.mode & 0o7777);
            let kind = FileType::from_raw_mode(other);
            if let Err(error) = rustix::fs::mknodat(CWD, &item.path, kind, mode, item.inode.rdev.into()) {
                out.damaged.push((item.path.clone(), format!("a special file can't be made: {error}")));
                return Ok(());
            }
        }
    }
    attributes(records, item, out);
    Ok(())
}

async fn content(
    library: &mut Library,
    records: &BTreeMap<Key, Bytes>,
    item: &Item,
    file: &File,
    out: &mut Restored,
) -> io::Result<()> {
    file.set_len(item.inode.size)?;
    for (key, value) in records.range(record::extents(item.ino, 0)) {
        let mut damaged = |why: String| out.damaged.push((item.path.clone(), why));
        let (Some(offset), Ok(extent)) = (record::extent_offset(key), Extent::decode(value.clone())) else {
            damaged("a part of it can't be read".into());
            continue;
        };
        let Some(id) = extent.chunk_id() else { continue };
        let length = extent.len.min(item.inode.size.saturating_sub(offset));
        match library.chunk(records, &extent, id).await {
            Ok(plain) => {
                let start = extent.skip as usize;
                match usize::try_from(length).ok().and_then(|length| plain.get(start..start.checked_add(length)?)) {
                    Some(part) => file.write_all_at(part, offset)?,
                    None => damaged(format!("at {offset}: its chunk is too short")),
                }
            }
            Err(error) => damaged(format!("at {offset}: {error}")),
        }
    }
    Ok(())
}

/// Owner, mode, extended attributes, times: what this user may set is set, the rest is told.
fn attributes(records: &BTreeMap<Key, Bytes>, item: &Item, out: &mut Restored) {
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
