//! Listing a directory store in the order of full names, without walking what can't match: by the rules
//! of [`crate::tree`], and asking the file system only for the entries that go onto the page.

use std::io;

use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags},
    io::Errno,
};

use super::disk::{Disk, failure, io_failure};
use crate::{
    port::{ListPage, ObjectMeta, ObjectName, StoreError},
    tree::Wanted,
};

/// See [`crate::port::Store::list`].
pub(super) fn list(disk: &Disk, prefix: &str, after: Option<&str>, limit: usize) -> Result<ListPage, StoreError> {
    Ok(walk(disk, prefix, after, limit)?.page)
}

fn walk<'a>(disk: &'a Disk, prefix: &'a str, after: Option<&'a str>, limit: usize) -> Result<Walk<'a>, StoreError> {
    let wanted = Wanted::new(prefix, after);
    let mut walk = Walk { disk, wanted, limit, page: ListPage::default(), folders_read: 0 };
    if let Some(start) = wanted.start() {
        walk.folder(start)?;
    }
    Ok(walk)
}

struct Walk<'a> {
    disk: &'a Disk,
    wanted: Wanted<'a>,
    limit: usize,
    page: ListPage,
    folders_read: usize,
}

impl Walk<'_> {
    /// Adds what lies below `folder` (empty, or with a slash at its end). False once the page is full.
    fn folder(&mut self, folder: &str) -> Result<bool, StoreError> {
        self.folders_read += 1;
        let entries = match read(self.disk, folder) {
            Ok(entries) if entries.is_empty() && folder.is_empty() => {
                // A deleted directory that is still open reads as empty.
                self.disk.check_root()?;
                entries
            }
            Ok(entries) => entries,
            Err(Errno::NOENT | Errno::NOTDIR) => {
                self.disk.check_root()?;
                return Ok(true);
            }
            Err(errno) => return Err(io_failure(folder, &errno.into())),
        };
        let mut names: Vec<String> = entries
            .into_iter()
            .map(|entry| format!("{folder}{entry}"))
            .filter(|name| self.wanted.may_match(name))
            .collect();
        names.sort_unstable();
        for name in names {
            let go_on = if name.ends_with('/') { self.folder(&name)? } else { self.object(&name)? };
            if !go_on {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn object(&mut self, name: &str) -> Result<bool, StoreError> {
        let Ok(name) = ObjectName::new(name) else {
            return Ok(true);
        };
        if self.page.objects.len() == self.limit {
            self.page.more = true;
            return Ok(false);
        }
        let root = self.disk.root();
        match rustix::fs::statat(&*root, name.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
                self.page.objects.push(ObjectMeta {
                    bytes: u64::try_from(stat.st_size).unwrap_or(0),
                    etag: Some(format!("\"{:x}-{:x}\"", stat.st_ino, stat.st_mtime_nsec)),
                    modified: Some(stat.st_mtime),
                    name,
                });
            }
            // Not an object, or deleted since we read the folder.
            Ok(_) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(failure(&name, &io::Error::from(errno))),
        }
        Ok(true)
    }
}

/// The entries of a folder: files as they are, folders with a slash; only what can be part of a name.
fn read(disk: &Disk, folder: &str) -> rustix::io::Result<Vec<String>> {
    let root = disk.root();
    let here = if folder.is_empty() { "." } else { folder };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(&*root, here, flags, Mode::empty())?;
    let mut found = Vec::new();
    for entry in Dir::new(fd)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else {
            continue;
        };
        if ObjectName::new(name).is_err() {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => {
                let path = format!("{folder}{name}");
                match rustix::fs::statat(&*root, &path, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                    Err(Errno::NOENT) => continue,
                    Err(errno) => return Err(errno),
                }
            }
            known => known,
        };
        match kind {
            FileType::Directory => found.push(format!("{name}/")),
            FileType::RegularFile => found.push(name.to_owned()),
            _ => {}
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::PutMode;

    #[test]
    fn only_folders_that_may_hold_a_match_are_read() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let disk = Disk::open(root.path()).expect("it opens");
        for shard in 0..20 {
            for object in 0..2 {
                let name = ObjectName::new(format!("p/{shard:02}/{object}")).expect("a valid name");
                disk.put(&name, b"x", &PutMode::Always).expect("a put");
            }
        }
        let cost = |prefix, after, limit| {
            let walk = walk(&disk, prefix, after, limit).expect("a listing");
            (walk.page.objects.len(), walk.folders_read)
        };
        assert_eq!(cost("p/07/", None, 100), (2, 1));
        assert_eq!(cost("p/07", None, 100), (2, 2));
        assert_eq!(cost("p/1", None, 100), (20, 11));
        assert_eq!(cost("p/", Some("p/18/0"), 100), (3, 3));
        assert_eq!(cost("", None, 3), (3, 4));
        assert_eq!(cost("q/", None, 3), (0, 1));
    }
}
