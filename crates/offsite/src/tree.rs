//! Is everything that stands in one place in the other as well? A program's own word is not enough: a file that it
//! passes over without one would be found missing on the day it is needed.
//!
//! Programs tell names that are no UTF-8 with a mark in place of each byte that can't be told, and not all of them the
//! same one. So names are compared as they would be told.

use std::{
    collections::{HashMap, HashSet},
    ffi::OsStr,
    fs::{self, Metadata},
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, MetadataExt},
    },
    path::{Path, PathBuf},
};

use crate::{Count, Entry, Error, Kind, Sort, count};

type Told = (String, Sort, u64);

/// How a name is told where it may be no UTF-8.
pub fn told(path: &[u8], mark: char) -> String {
    let mut out = String::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        out.push_str(chunk.valid());
        out.extend(chunk.invalid().iter().map(|_| mark));
    }
    out
}

/// Where an entry comes to lie when the folder `root` becomes the target itself.
pub fn landed<'a>(entry: &'a Entry, root: &[u8]) -> &'a [u8] {
    let rest = entry.path.strip_prefix(root).unwrap_or(&entry.path);
    rest.strip_prefix(b"/").unwrap_or(rest)
}

/// By how many nanoseconds the time that a program tells may be another: Borg's are microseconds, rounded.
const ROUNDED: i128 = 2_000;

/// The paths of those of `entries` that need not come, for they are below `to`: files that are as long and as old as they
/// should be, further names of these, and folders. A program that gives a file its time before it is whole must not have
/// written there. Names that can't be told for sure always come.
pub fn kept<'a>(entries: &'a [Entry], root: &[u8], to: &Path, mark: char) -> HashSet<&'a [u8]> {
    let about = |entry: &Entry| fs::symlink_metadata(to.join(OsStr::from_bytes(landed(entry, root)))).ok();
    let inode = |about: Metadata| (about.dev(), about.ino());
    let whole = |entry: &Entry, about: &Metadata| match entry.sort {
        Sort::Directory => about.is_dir(),
        Sort::File => {
            let time = i128::from(about.mtime()) * 1_000_000_000 + i128::from(about.mtime_nsec());
            let as_old = entry.modified.is_some_and(|modified| (modified - time).abs() < ROUNDED);
            about.is_file() && about.len() == entry.size && as_old
        }
        Sort::Link | Sort::Other => false,
    };
    let mut kept: HashMap<&[u8], (u64, u64)> = HashMap::new();
    for entry in entries.iter().filter(|entry| !told(&entry.path, mark).contains(mark)) {
        if let Some(about) = about(entry).filter(|about| whole(entry, about)) {
            kept.insert(&entry.path, inode(about));
        }
    }
    // Names of one file stay together or come together: one alone would come as a file of its own.
    let links: Vec<&Entry> = entries.iter().filter(|entry| entry.sort == Sort::Link).collect();
    let joined = |link: &&&Entry| about(link).map(inode).is_some_and(|this| kept.get(&link.target[..]) == Some(&this));
    let apart: HashSet<&[u8]> = links.iter().filter(|link| !joined(link)).map(|link| &link.target[..]).collect();
    let mut paths: HashSet<&[u8]> = kept.into_keys().filter(|path| !apart.contains(path)).collect();
    for link in links {
        if paths.contains(&link.target[..]) {
            paths.insert(&link.path);
        }
    }
    paths
}

/// What lies below a directory, except ends of pipes that mean nothing elsewhere: sockets.
pub fn walk(directory: &Path) -> std::io::Result<Vec<Entry>> {
    let mut out = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(below) = open.pop() {
        for entry in fs::read_dir(directory.join(&below))? {
            let entry = entry?;
            let about = fs::symlink_metadata(entry.path())?;
            let path = below.join(entry.file_name());
            let kind = about.file_type();
            let sort = if kind.is_dir() {
                Sort::Directory
            } else if kind.is_file() {
                Sort::File
            } else if kind.is_socket() {
                continue;
            } else {
                Sort::Other
            };
            let size = if sort == Sort::File { about.len() } else { 0 };
            let name = path.as_os_str().as_bytes().to_vec();
            out.push(Entry { path: name, sort, size, modified: None, target: Vec::new() });
            if sort == Sort::Directory {
                open.push(path);
            }
        }
    }
    Ok(out)
}

/// `Ok` when the same files of the same sizes are in both. `over` is shown over a directory of the source's.
pub fn same(source: &Path, over: Option<&(PathBuf, PathBuf)>, made: &[Entry], mark: char) -> Result<(), Error> {
    let there = || -> std::io::Result<Vec<Entry>> {
        let mut there = walk(source)?;
        if let Some((directory, at)) = over {
            let at = at.as_os_str().as_bytes();
            let hidden = |entry: &Entry| entry.path.strip_prefix(at).is_some_and(|rest| rest.starts_with(b"/"));
            there.retain(|entry| !hidden(entry));
            there.extend(walk(directory)?.into_iter().map(|mut entry| {
                entry.path = [at, &entry.path[..]].join(&b"/"[..]);
                entry
            }));
        }
        Ok(there)
    };
    let there = there().map_err(|error| {
        Error::new(Kind::Incomplete, "the snapshot can't be compared with the library").because(error.to_string())
    })?;
    differences(&there, made, mark)
}

fn differences(there: &[Entry], made: &[Entry], mark: char) -> Result<(), Error> {
    // Two odd names may be told alike: counted, not just known.
    let mut open: HashMap<Told, i64> = HashMap::new();
    for entry in there {
        *open.entry((told(&entry.path, mark), entry.sort, entry.size)).or_default() += 1;
    }
    for entry in made {
        *open.entry((told(&entry.path, mark), entry.sort, entry.size)).or_default() -= 1;
    }
    let mut amiss: Vec<_> = open.into_iter().filter(|(_, count)| *count != 0).collect();
    if amiss.is_empty() {
        return Ok(());
    }
    amiss.sort();
    let lacking = amiss.iter().filter(|(_, count)| *count > 0).count();
    let what = format!("the snapshot lacks {lacking} of {} things, or has them otherwise", there.len());
    let error = Error::new(Kind::Incomplete, what);
    let line = |((path, _, size), count): &(Told, i64)| match count.signum() {
        1 => format!("{path} ({size} bytes) is in the library and not in the snapshot"),
        _ => format!("{path} ({size} bytes) is in the snapshot and not in the library"),
    };
    Err(amiss.iter().take(5).map(line).fold(error, Error::because))
}

/// Looks whether everything that was wanted is below `to`, each file as long as it should be.
pub fn arrived(entries: &[Entry], root: &[u8], to: &Path, mark: char) -> Result<Count, Error> {
    let here = |entry: &Entry| {
        let about = fs::symlink_metadata(to.join(OsStr::from_bytes(landed(entry, root)))).ok();
        match (about, entry.sort) {
            (None, _) => false,
            (Some(about), Sort::File) => about.is_file() && about.len() == entry.size,
            (Some(about), Sort::Directory) => about.is_dir(),
            (Some(_), Sort::Link | Sort::Other) => true,
        }
    };
    let mut missing: Vec<&Entry> = entries.iter().filter(|entry| !here(entry)).collect();
    let marked = |entry: &Entry| told(&entry.path, mark).contains(mark);
    if missing.iter().any(|entry| marked(entry)) {
        let found = walk(to).map_err(|error| {
            Error::new(Kind::Local, format!("{} can't be looked through", to.display())).because(error.to_string())
        })?;
        let mut open: HashMap<(String, u64), u64> = HashMap::new();
        for entry in found.iter().filter(|entry| str::from_utf8(&entry.path).is_err()) {
            *open.entry((told(&entry.path, mark), entry.size)).or_default() += 1;
        }
        missing.retain(|entry| match open.get_mut(&(told(landed(entry, root), mark), entry.size)) {
            Some(left) if *left > 0 => {
                *left -= 1;
                false
            }
            // The size of another name is not told.
            _ => !(entry.sort == Sort::Link && open.keys().any(|(path, _)| *path == told(landed(entry, root), mark))),
        });
    }
    if missing.is_empty() {
        return Ok(count(entries));
    }
    let what = format!("{} of {} things did not come back whole", missing.len(), entries.len());
    let error = Error::new(Kind::NotRestored, what);
    Err(missing.iter().take(5).map(|entry| told(&entry.path, mark)).fold(error, Error::because))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, size: u64) -> Entry {
        Entry { path: path.into(), sort: Sort::File, size, modified: None, target: Vec::new() }
    }

    #[test]
    fn what_is_as_long_and_as_old_as_it_should_be_need_not_come() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let old = std::time::UNIX_EPOCH + std::time::Duration::from_nanos(1_600_000_000_123_456_789);
        let put = |name: &str, time| {
            fs::write(at(name), "12").unwrap();
            fs::File::open(at(name)).unwrap().set_modified(time).unwrap();
        };
        ["a", "short", "what?", "linked", "parted", "untold"].iter().for_each(|name| put(name, old));
        put("half", std::time::SystemTime::now());
        fs::hard_link(at("linked"), at("again")).unwrap();
        put("copy", old);
        std::os::unix::fs::symlink("a", at("link")).unwrap();
        fs::create_dir(at("d")).unwrap();
        let file =
            |name: &str, size| Entry { modified: Some(1_600_000_000_123_457_000), ..entry(&format!("x/{name}"), size) };
        let link = |name: &str, first: &str| Entry {
            sort: Sort::Link,
            target: format!("x/{first}").into_bytes(),
            ..entry(&format!("x/{name}"), 0)
        };
        let entries = [
            Entry { sort: Sort::Directory, ..entry("x/d", 0) },
            Entry { sort: Sort::Directory, ..entry("x/e", 0) },
            Entry { sort: Sort::Other, ..entry("x/link", 0) },
            file("a", 2),
            file("short", 3),
            file("half", 2),
            file("what?", 2),
            file("gone", 2),
            entry("x/untold", 2),
            file("linked", 2),
            link("again", "linked"),
            file("parted", 2),
            link("copy", "parted"),
        ];
        let mut kept: Vec<&[u8]> = kept(&entries, b"x", directory.path(), '?').into_iter().collect();
        kept.sort_unstable();
        let kept: Vec<_> = kept.into_iter().map(String::from_utf8_lossy).collect();
        assert_eq!(kept, ["x/a", "x/again", "x/d", "x/linked"]);
    }

    #[test]
    fn a_file_that_is_missing_or_of_another_size_is_named() {
        let there = [entry("a", 1), entry("b", 2)];
        assert!(differences(&there, &there, '?').is_ok());
        let error = differences(&there, &[entry("a", 1)], '?').unwrap_err();
        assert!(error.kind == Kind::Incomplete && error.to_string().contains("b (2 bytes)"), "{error}");
        let error = differences(&there, &[entry("a", 1), entry("b", 0)], '?').unwrap_err();
        assert!(error.to_string().contains("b (0 bytes) is in the snapshot and not"), "{error}");
    }

    #[test]
    fn what_did_not_arrive_is_named_and_odd_names_are_known_by_how_they_are_told() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(OsStr::from_bytes(b"\xff.jpg")), "12").unwrap();
        fs::write(directory.path().join("a"), "123").unwrap();
        let arrived = |entries: &[Entry]| arrived(entries, b"x", directory.path(), '?').map_err(|e| e.to_string());
        assert_eq!(arrived(&[entry("x/?.jpg", 2), entry("x/a", 3)]).unwrap().bytes, 5);
        assert!(arrived(&[entry("x/?.jpg", 3)]).is_err());
        assert!(arrived(&[entry("x/?.jpg", 2), entry("x/?.jpg", 2)]).is_err());
        assert!(arrived(&[entry("x/a", 4)]).unwrap_err().contains("x/a"));
    }
}
