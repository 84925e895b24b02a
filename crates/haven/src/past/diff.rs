//! What differs between two states: by the records, not by walking two trees.
//!
//! First the inodes whose records differ, or whose names do, are found by reading both states side by side; then their
//! paths.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use bytes::Bytes;
use haven_format::{
    Ino,
    record::{self, Entry, Extent, Inode, Key, Time},
};
use haven_mount::control::Refusal;
use haven_vault::View;
use prost::Message;
use serde::{Deserialize, Serialize};

use super::{
    Library, missing,
    names::{Pages, unreadable},
    refusal,
};

/// One path that differs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Difference {
    pub path: String,
    /// `added`, `removed`, `changed`, `attributes` (only owner, mode, times or extended attributes), `renamed`.
    pub what: String,
    /// Of what was renamed: the path before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Length in bytes before and after.
    pub size_before: Option<u64>,
    pub size_after: Option<u64>,
}

/// How an inode differs.
#[derive(Debug, Clone, Copy, Default)]
struct Change {
    content: bool,
    attributes: bool,
}

/// Whether two values of one key say the same of a file.
fn differs(key: &Key, a: Option<&Bytes>, b: Option<&Bytes>) -> Result<Change, Refusal> {
    let content = Change { content: true, attributes: false };
    let attributes = Change { content: false, attributes: true };
    if record::is_inode(key) {
        let (Some(a), Some(b)) = (a, b) else { return Ok(content) };
        let [mut a, mut b] = [a, b].map(|value| Inode::decode(value.clone()));
        for inode in [&mut a, &mut b].into_iter().flatten() {
            inode.atime = Time { seconds: 0, nanos: 0 };
            if inode.mode & 0o170_000 == 0o040_000 {
                // A directory's times and counts move with its entries, which are told for themselves.
                (inode.mtime, inode.ctime) = (inode.atime, inode.atime);
                (inode.entries, inode.nlink, inode.parent) = (0, 0, 0);
            }
        }
        let (a, b) = (a.map_err(unreadable)?, b.map_err(unreadable)?);
        if a.size != b.size || a.target != b.target {
            return Ok(content);
        }
        return Ok(if a == b { Change::default() } else { attributes });
    }
    if record::extent_offset(key).is_some() {
        let bare = |value: Option<&Bytes>| {
            value.map(|value| Extent::decode(value.clone()).map(|extent| Extent { place: None, ..extent })).transpose()
        };
        let same = bare(a).map_err(unreadable)? == bare(b).map_err(unreadable)?;
        return Ok(if same { Change::default() } else { content });
    }
    Ok(if a == b { Change::default() } else { attributes })
}

impl Library {
    /// How to get from `a` to `b`. An empty name stands for the library as it is now.
    pub(super) async fn diff(&self, a: &str, b: &str) -> Result<Vec<Difference>, Refusal> {
        let (before, after) = (self.view(a).await?, self.view(b).await?);
        let changes = self.changed_inodes(&before, &after).await?;
        let wanted: HashSet<u64> = changes.keys().copied().collect();
        let (old, new) = (self.names(&before, &wanted).await?, self.names(&after, &wanted).await?);
        let mut out = Vec::new();
        for (ino, change) in changes {
            let sizes = (self.size(&before, ino).await?, self.size(&after, ino).await?);
            tell(&mut out, (old.paths(ino), new.paths(ino)), change, sizes);
        }
        out.sort();
        Ok(out)
    }

    async fn view(&self, name: &str) -> Result<View, Refusal> {
        if name.is_empty() {
            return Ok(self.vault.live());
        }
        let found = self.vault.state_of(name.as_bytes()).await.map_err(|error| refusal(&error))?;
        Ok(found.ok_or_else(|| missing(name))?.view)
    }

    async fn changed_inodes(&self, before: &View, after: &View) -> Result<BTreeMap<u64, Change>, Refusal> {
        let mut changes: BTreeMap<u64, Change> = BTreeMap::new();
        let (mut a, mut b) = (Pages::new(self, before), Pages::new(self, after));
        loop {
            a.fill().await?;
            b.fill().await?;
            let key = match (a.page.peek(), b.page.peek()) {
                (Some((x, _)), Some((y, _))) => x.min(y).clone(),
                (Some((key, _)), None) | (None, Some((key, _))) => key.clone(),
                (None, None) => return Ok(changes),
            };
            let x = a.page.next_if(|(other, _)| *other == key).map(|(_, value)| value);
            let y = b.page.next_if(|(other, _)| *other == key).map(|(_, value)| value);
            if x == y {
                continue;
            }
            if record::entry_cookie(&key).is_some() {
                // The name tells of the inode it stands for, not of the directory it stands in.
                for value in [x, y].into_iter().flatten() {
                    changes.entry(Entry::decode(value).map_err(unreadable)?.ino).or_default();
                }
                continue;
            }
            let change = differs(&key, x.as_ref(), y.as_ref())?;
            if (change.content || change.attributes)
                && let Some(ino) = record::key_inode(&key)
            {
                let known = changes.entry(ino.0).or_default();
                known.content |= change.content;
                known.attributes |= change.attributes;
            }
        }
    }

    async fn size(&self, view: &View, ino: u64) -> Result<Option<u64>, Refusal> {
        let value = self.settled(|| view.get(&record::inode_key(Ino(ino)))).await?;
        Ok(value.map(Inode::decode).transpose().map_err(unreadable)?.map(|inode| inode.size))
    }
}

/// What happened to one inode, path by path.
fn tell(
    out: &mut Vec<Difference>,
    (old, new): (BTreeSet<String>, BTreeSet<String>),
    change: Change,
    (size_before, size_after): (Option<u64>, Option<u64>),
) {
    let one = |path: &String, what: &str, from: Option<&String>| Difference {
        path: path.clone(),
        what: what.to_owned(),
        from: from.cloned(),
        size_before,
        size_after,
    };
    let mut lost = old.difference(&new);
    let mut found = new.difference(&old);
    loop {
        match (lost.next(), found.next()) {
            (Some(from), Some(to)) => {
                out.push(one(to, "renamed", Some(from)));
                if change.content {
                    out.push(one(to, "changed", None));
                }
            }
            (Some(gone), None) => out.push(Difference { size_after: None, ..one(gone, "removed", None) }),
            (None, Some(come)) => out.push(Difference { size_before: None, ..one(come, "added", None) }),
            (None, None) => break,
        }
    }
    for same in old.intersection(&new) {
        match change {
            Change { content: true, .. } => out.push(one(same, "changed", None)),
            Change { attributes: true, .. } => out.push(one(same, "attributes", None)),
            Change { .. } => {}
        }
    }
}
