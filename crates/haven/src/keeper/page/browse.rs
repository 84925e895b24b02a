//! Folders and files of snapshots, opened so that no name and no link leads out of them.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::Path,
};

use bytes::Bytes;
use haven_page::{Answer, ByteStream, Download, Entry, EntryKind, ErrorKind, Inside, Listing, SourceError};
use rustix::{
    fd::OwnedFd,
    fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, openat2, statat},
};

/// How much of a file is read at once.
const STEP: usize = 256 << 10;

fn missing(what: &str) -> SourceError {
    SourceError::new(ErrorKind::Missing, format!("{what} is not there")).next("go back to the snapshot's first folder")
}

fn trouble(what: &str, error: &io::Error) -> SourceError {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => missing(what),
        io::ErrorKind::PermissionDenied => {
            SourceError::new(ErrorKind::Refused, format!("{what} can't be opened: {error}"))
        }
        _ => SourceError::new(ErrorKind::Unavailable, format!("{what} can't be read: {error}"))
            .next("try again in a minute; the overview tells whether the store is in trouble"),
    }
}

/// The root of a snapshot.
fn root(point: &Path, snapshot: &str) -> Answer<OwnedFd> {
    let name = Inside::parse(snapshot).ok().filter(|name| name.parts().len() == 1);
    let name = name.ok_or_else(|| missing("the snapshot"))?;
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let snapshots = rustix::fs::open(point.join(".snapshots"), flags, Mode::empty())
        .map_err(|error| trouble("the folder of snapshots", &error.into()))?;
    below(&snapshots, &name, flags).map_err(|error| trouble("the snapshot", &error))
}

fn below(folder: &OwnedFd, path: &Inside, flags: OFlags) -> io::Result<OwnedFd> {
    let path = if path.is_root() { ".".to_owned() } else { path.to_string() };
    // Snapshots are mounts of their own to nobody but the kernel's rules about crossing them.
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    Ok(openat2(folder, path.as_str(), flags, Mode::empty(), how)?)
}

/// Entries of a folder, folders first, then by name.
pub fn list(point: &Path, snapshot: &str, path: &Inside, skip: usize, limit: usize) -> Answer<Listing> {
    let root = root(point, snapshot)?;
    let what = "the folder";
    let folder = below(&root, path, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC)
        .map_err(|error| trouble(what, &error))?;
    let mut names: Vec<(bool, Vec<u8>)> = Vec::new();
    let read = rustix::fs::Dir::read_from(&folder).map_err(|error| trouble(what, &error.into()))?;
    for entry in read {
        let entry = entry.map_err(|error| trouble(what, &error.into()))?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." && !(path.is_root() && name == b".snapshots") {
            names.push((entry.file_type() != FileType::Directory, name.to_owned()));
        }
    }
    names.sort();
    let total = names.len();
    let mut entries = Vec::new();
    for (_, name) in names.into_iter().skip(skip).take(limit) {
        let Ok(about) = statat(&folder, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW) else { continue };
        entries.push(Entry {
            name: String::from_utf8_lossy(&name).into_owned(),
            kind: match FileType::from_raw_mode(about.st_mode) {
                FileType::Directory => EntryKind::Folder,
                FileType::RegularFile => EntryKind::File,
                FileType::Symlink => EntryKind::Link,
                _ => EntryKind::Other,
            },
            bytes: u64::try_from(about.st_size).unwrap_or_default(),
            modified: about.st_mtime,
        });
    }
    Ok(Listing { entries, total })
}

/// A regular file, as a stream that reads ahead by one step at most.
pub fn open(point: &Path, snapshot: &str, path: &Inside) -> Answer<Download> {
    let root = root(point, snapshot)?;
    let name = path.name().ok_or_else(|| missing("the file"))?.to_owned();
    // A pipe must not hang whoever asks.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file: File = below(&root, path, flags).map_err(|error| trouble("the file", &error))?.into();
    let about = file.metadata().map_err(|error| trouble("the file", &error))?;
    if !about.is_file() {
        return Err(SourceError::new(ErrorKind::Refused, "this is no file that could be downloaded"));
    }
    Ok(Download { name, bytes: about.size(), content: stream(file) })
}

fn stream(file: File) -> ByteStream {
    let (sender, receiver) = tokio::sync::mpsc::channel::<io::Result<Bytes>>(1);
    tokio::task::spawn_blocking(move || {
        let mut file = file;
        loop {
            let mut part = vec![0; STEP];
            let read = match file.read(&mut part) {
                Ok(0) => return,
                Ok(count) => {
                    part.truncate(count);
                    Ok(Bytes::from(part))
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            let over = read.is_err();
            if sender.blocking_send(read).is_err() || over {
                // Nobody reads any more.
                return;
            }
        }
    });
    Box::pin(futures::stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) }))
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;

    fn inside(text: &str) -> Inside {
        Inside::parse(text).unwrap()
    }

    #[tokio::test]
    async fn a_snapshot_is_browsed_and_read_and_nothing_leads_out_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join(".snapshots/one");
        std::fs::create_dir_all(root.join("2026/b")).unwrap();
        std::fs::write(root.join("2026/a.jpg"), vec![7; STEP * 2 + 5]).unwrap();
        std::fs::write(folder.path().join("secret"), "x").unwrap();
        std::os::unix::fs::symlink("../../secret", root.join("link")).unwrap();
        std::os::unix::fs::symlink("2026", root.join("folder-link")).unwrap();
        let point = folder.path();
        let listing = list(point, "one", &inside("2026"), 0, 10).unwrap();
        let names: Vec<_> = listing.entries.iter().map(|entry| (entry.name.as_str(), entry.kind)).collect();
        assert_eq!((names, listing.total), (vec![("b", EntryKind::Folder), ("a.jpg", EntryKind::File)], 2));
        assert_eq!(list(point, "one", &inside("2026"), 1, 10).unwrap().entries.len(), 1);
        let mut download = open(point, "one", &inside("2026/a.jpg")).unwrap();
        let mut bytes = 0;
        while let Some(part) = download.content.next().await {
            bytes += part.unwrap().len();
        }
        assert_eq!((bytes, download.bytes), (STEP * 2 + 5, STEP as u64 * 2 + 5));
        for path in ["link", "folder-link/a.jpg", "none", "2026"] {
            assert!(open(point, "one", &inside(path)).is_err(), "{path}");
        }
        for snapshot in ["..", ".", "", "one/2026", "../.snapshots/one", "none"] {
            assert!(list(point, snapshot, &inside(""), 0, 1).is_err(), "{snapshot:?}");
        }
    }
}
