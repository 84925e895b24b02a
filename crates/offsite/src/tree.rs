//! Is everything that stands in one place in the other as well? A program's own word is not enough: a file that it
//! passes over without one would be found missing on the day it is needed.
//!
//! Programs tell names that are no UTF-8 with a mark in place of each byte that can't be told, and not all of them the
//! same one. So names are compared as they would be told.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt, fs::FileTypeExt},
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
            out.push(Entry { path: path.as_os_str().as_bytes().to_vec(), sort, size, target: Vec::new() });
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
        Entry { path: path.into(), sort: Sort::File, size, target: Vec::new() }
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
