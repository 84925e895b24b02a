//! Whether the records of a library agree with each other.
//!
//! For tests and for the command that looks after a library; it reads every record but no content.

use std::collections::BTreeMap;

use haven_format::{
    Ino,
    chunk::CHUNK_MAX,
    record::{self, Entry, Extent, Inode},
};
use haven_vault::View;

use crate::{
    Fs, FsError, Result,
    meta::{decode, is_dir, kind},
};

const BATCH: usize = 4096;

/// What was counted of one inode.
#[derive(Default)]
struct Seen {
    inode: Option<Inode>,
    /// Names that lead here, and the last directory that has one.
    names: u32,
    named_in: u64,
    kind: u32,
    entries: u64,
    directories: u32,
    xattrs: u32,
    extents: u64,
    extents_end: u64,
    orphan: bool,
}

impl Fs {
    /// Everything that contradicts something else, in words; empty for a sound library. Nothing may be changed
    /// meanwhile.
    pub fn check(&self) -> Result<Vec<String>> {
        let view = self.vault.live();
        let mut faults = Vec::new();
        let mut all: BTreeMap<u64, Seen> = BTreeMap::new();
        each(&view, record::inodes_from(Ino(0)), |key, value| {
            let ino = record::key_inode(key).ok_or_else(|| FsError::Broken("a key of no inode".into()))?;
            note(&mut all, &mut faults, ino, key, value)
        })?;
        each(&view, record::orphans(), |key, _| {
            if let Some(ino) = record::key_orphan(key) {
                all.entry(ino.0).or_default().orphan = true;
            }
            Ok(())
        })?;
        let (mut inodes, mut bytes) = (0, 0);
        for (ino, seen) in &all {
            judge(*ino, seen, &all, &mut faults);
            inodes += 1;
            bytes += seen.extents;
        }
        let totals = self.vault.totals();
        if (totals.inodes, totals.file_bytes) != (inodes, bytes) {
            faults.push(format!(
                "the sums say {} inodes with {} bytes, there are {inodes} with {bytes}",
                totals.inodes, totals.file_bytes
            ));
        }
        Ok(faults)
    }
}

fn each(
    view: &View,
    mut range: std::ops::Range<record::Key>,
    mut what: impl FnMut(&[u8], bytes::Bytes) -> Result<()>,
) -> Result<()> {
    loop {
        let batch = view.scan(range.clone(), BATCH)?;
        let Some((last, _)) = batch.last() else { return Ok(()) };
        let mut next = last.to_vec();
        next.push(0);
        for (key, value) in batch {
            what(&key, value)?;
        }
        range.start = next.into();
    }
}

fn note(
    all: &mut BTreeMap<u64, Seen>,
    faults: &mut Vec<String>,
    ino: Ino,
    key: &[u8],
    value: bytes::Bytes,
) -> Result<()> {
    let seen = all.entry(ino.0).or_default();
    if record::is_inode(key) {
        seen.inode = Some(decode(value, "the record", ino)?);
    } else if let Some(offset) = record::extent_offset(key) {
        let extent: Extent = decode(value, "an extent", ino)?;
        let in_chunk = u64::from(extent.skip) + extent.len <= CHUNK_MAX as u64;
        let chunk = extent.chunk.is_empty() || (extent.chunk_id().is_some() && in_chunk);
        if extent.len == 0 || offset < seen.extents_end || !chunk {
            faults.push(format!("inode {ino}: the extent at {offset} is empty, overlaps or leaves its chunk"));
        }
        seen.extents += extent.len;
        seen.extents_end = offset + extent.len;
    } else if record::xattr_name(key).is_some() {
        seen.xattrs += 1;
    } else if record::entry_cookie(key).is_some() {
        let entry: Entry = decode(value, "an entry", ino)?;
        seen.entries += 1;
        let child = all.entry(entry.ino).or_default();
        child.names += 1;
        child.named_in = ino.0;
        child.kind = entry.kind;
        if entry.kind == u32::from(libc::DT_DIR) {
            all.entry(ino.0).or_default().directories += 1;
        }
    } else {
        faults.push(format!("inode {ino}: a record of no known kind"));
    }
    Ok(())
}

fn judge(ino: u64, seen: &Seen, all: &BTreeMap<u64, Seen>, faults: &mut Vec<String>) {
    let mut fault = |what: String| faults.push(format!("inode {ino}: {what}"));
    let Some(inode) = &seen.inode else {
        fault(format!("no record, but {} names, {} bytes of extents", seen.names, seen.extents));
        return;
    };
    let mut equal = |what: &str, said: u64, is: u64| {
        if said != is {
            fault(format!("says {said} {what}, has {is}"));
        }
    };
    equal("bytes allocated", inode.allocated, seen.extents);
    equal("attributes", u64::from(inode.xattrs), u64::from(seen.xattrs));
    equal("entries", inode.entries, seen.entries);
    equal("orphan records", u64::from(inode.nlink == 0), u64::from(seen.orphan));
    if seen.names > 0 {
        equal("as its kind", u64::from(kind(inode.mode)), u64::from(seen.kind));
    }
    if is_dir(inode.mode) {
        let names = u32::from(inode.nlink > 0 && ino != Ino::ROOT.0);
        equal("names", u64::from(names), u64::from(seen.names));
        if inode.nlink > 0 {
            equal("links", u64::from(inode.nlink), u64::from(2 + seen.directories));
        }
        let parent = if ino == Ino::ROOT.0 { ino } else { seen.named_in };
        if names > 0 || ino == Ino::ROOT.0 {
            equal("as its parent", inode.parent, parent);
        }
        // A way up that is longer than there are inodes goes in circles.
        let mut at = inode.parent;
        let mut steps = 0;
        while inode.nlink > 0 && at != Ino::ROOT.0 && steps <= all.len() {
            steps += 1;
            at = all.get(&at).and_then(|seen| seen.inode.as_ref()).map_or(Ino::ROOT.0, |inode| inode.parent);
        }
        equal("way to the root (0: none)", u64::from(steps <= all.len()), 1);
    } else {
        equal("names", u64::from(inode.nlink), u64::from(seen.names));
    }
}
