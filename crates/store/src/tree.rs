//! Objects in folders, listed in the order of full names without reading what can't match.
//!
//! A folder `a` sorts as `a/`: all names below it start so, and `a-1` and `a.b` come before them.

use async_trait::async_trait;
use futures::{StreamExt, stream};

use crate::port::{ListPage, ObjectMeta, ObjectName, StoreError};

/// How many folders are read at once.
const READ_AHEAD: usize = 8;

/// What a listing asks for, beside its limit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub prefix: &'a str,
    /// Only names greater than this; empty for all.
    pub after: &'a str,
}

impl<'a> Wanted<'a> {
    pub(crate) fn new(prefix: &'a str, after: Option<&'a str>) -> Self {
        Self { prefix, after: after.unwrap_or("") }
    }

    /// The deepest folder that can hold all matches: empty, or with a slash at its end. `None` if no
    /// name can match.
    pub(crate) fn start(&self) -> Option<&'a str> {
        let start = self.prefix.rfind('/').map_or("", |slash| &self.prefix[..=slash]);
        let strange = start.split('/').any(|s| s == "." || s == "..") || start.starts_with('/');
        (!strange).then_some(start)
    }

    /// Whether an object of this name, or one in this folder (a slash at its end), may match.
    pub(crate) fn may_match(&self, name: &str) -> bool {
        if name.ends_with('/') {
            let inside_prefix = name.starts_with(self.prefix) || self.prefix.starts_with(name);
            inside_prefix && (name > self.after || self.after.starts_with(name))
        } else {
            name.starts_with(self.prefix) && name > self.after
        }
    }
}

/// What stands in a folder, by its full name.
#[derive(Debug, Clone)]
pub(crate) enum Entry {
    /// With a slash at its end.
    Folder(String),
    Object(ObjectMeta),
}

impl Entry {
    fn name(&self) -> &str {
        match self {
            Self::Folder(name) => name,
            Self::Object(meta) => meta.name.as_str(),
        }
    }
}

/// A store that keeps objects in folders and reads one folder at a time.
#[async_trait]
pub(crate) trait Folders: Sync {
    /// What stands in `folder` (empty, or with a slash at its end), in any order, without what no object
    /// can be called; nothing if it does not exist. A missing root is an error.
    async fn read(&self, folder: &str) -> Result<Vec<Entry>, StoreError>;
}

/// See [`crate::port::Store::list`].
pub(crate) async fn list(
    folders: &dyn Folders,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<ListPage, StoreError> {
    let wanted = Wanted::new(prefix, after);
    let mut page = ListPage::default();
    if let Some(start) = wanted.start() {
        let entries = folders.read(start).await?;
        descend(folders, &wanted, limit, entries, &mut page).await?;
    }
    Ok(page)
}

/// Adds what matches among `entries` and below. False once the page is full.
async fn descend(
    folders: &dyn Folders,
    wanted: &Wanted<'_>,
    limit: usize,
    mut entries: Vec<Entry>,
    page: &mut ListPage,
) -> Result<bool, StoreError> {
    entries.retain(|entry| wanted.may_match(entry.name()));
    entries.sort_unstable_by(|a, b| a.name().cmp(b.name()));
    // Folders that come later are read while earlier ones are gone through.
    let visits = entries.into_iter().map(|entry| async {
        match entry {
            Entry::Folder(name) => Ok(Visited::Below(folders.read(&name).await?)),
            Entry::Object(meta) => Ok(Visited::Here(meta)),
        }
    });
    let mut visits = stream::iter(visits).buffered(limit.clamp(1, READ_AHEAD));
    while let Some(visited) = visits.next().await {
        match visited? {
            Visited::Here(_) if page.objects.len() == limit => {
                page.more = true;
                return Ok(false);
            }
            Visited::Here(meta) => page.objects.push(meta),
            Visited::Below(entries) => {
                if !Box::pin(descend(folders, wanted, limit, entries, page)).await? {
                    return Ok(false);
                }
            }
        }
    }
    Ok(true)
}

enum Visited {
    Here(ObjectMeta),
    Below(Vec<Entry>),
}

/// The object or folder that an entry `name` of `folder` is; `None` if no object can be called so.
pub(crate) fn named(folder: &str, name: &str) -> Option<ObjectName> {
    // By itself first: a name with a slash in it is none.
    if name.contains('/') || ObjectName::new(name).is_err() {
        return None;
    }
    ObjectName::new(format!("{folder}{name}")).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use parking_lot::Mutex;

    use super::*;

    /// Names in folders, and how many folders were read.
    #[derive(Default)]
    struct Shelf {
        names: BTreeSet<String>,
        reads: Mutex<usize>,
    }

    #[async_trait]
    impl Folders for Shelf {
        async fn read(&self, folder: &str) -> Result<Vec<Entry>, StoreError> {
            *self.reads.lock() += 1;
            let mut found = BTreeSet::new();
            for rest in self.names.iter().filter_map(|name| name.strip_prefix(folder)) {
                found.insert(rest.split_inclusive('/').next().unwrap_or_default().to_owned());
            }
            let entry = |rest: String| match rest.strip_suffix('/') {
                Some(_) => Entry::Folder(format!("{folder}{rest}")),
                None => Entry::Object(ObjectMeta {
                    name: named(folder, &rest).expect("a valid name"),
                    bytes: 0,
                    etag: None,
                    modified: None,
                }),
            };
            Ok(found.into_iter().rev().map(entry).collect())
        }
    }

    #[tokio::test]
    async fn every_prefix_and_start_gives_what_a_sorted_list_gives() {
        let names = ["A", "B/a", "a-1", "a-2/x", "a.b", "a/0", "a/b-c", "a/b/c", "a/b0", "a0", "a_", "b/0/0/0"];
        let shelf = Shelf { names: names.iter().map(|n| (*n).to_owned()).collect(), ..Shelf::default() };
        for prefix in ["", "a", "a/", "a/b", "a/b/", "a-", "b/0/0", "z", "../a", "/a", "a/./b"] {
            for after in ["", "A", "a", "a-1", "a/", "a/b", "a/b/c", "b", "c"] {
                for limit in [1, 3, 100] {
                    let all: Vec<&str> = shelf
                        .names
                        .iter()
                        .map(String::as_str)
                        .filter(|n| n.starts_with(prefix) && *n > after)
                        .collect();
                    let page = list(&shelf, prefix, Some(after), limit).await.expect("a listing");
                    let seen: Vec<&str> = page.objects.iter().map(|o| o.name.as_str()).collect();
                    assert_eq!(seen, all[..all.len().min(limit)], "{prefix:?} after {after:?}");
                    assert_eq!(page.more, all.len() > limit, "{prefix:?} after {after:?}, {limit}");
                }
            }
        }
    }

    #[tokio::test]
    async fn only_folders_that_may_hold_a_match_are_read() {
        let names = (0..40).map(|i| format!("p/{:02}/{}", i / 2, i % 2)).collect();
        let shelf = Shelf { names, ..Shelf::default() };
        for (prefix, after, found, most) in
            [("p/07/", "", 2, 1), ("p/07", "", 2, 2), ("p/1", "", 20, 11), ("p/", "p/18/0", 3, 3), ("q/", "", 0, 1)]
        {
            *shelf.reads.lock() = 0;
            let page = list(&shelf, prefix, Some(after), 100).await.expect("a listing");
            assert_eq!((page.objects.len(), *shelf.reads.lock()), (found, most), "{prefix:?} after {after:?}");
        }
        *shelf.reads.lock() = 0;
        list(&shelf, "", None, 3).await.expect("a listing");
        assert!(*shelf.reads.lock() <= 3 + 3, "a short page reads few folders: {}", shelf.reads.lock());
    }
}
