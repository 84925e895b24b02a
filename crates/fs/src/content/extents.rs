//! The extents of one file, and changes to them.

use std::{collections::BTreeMap, ops::Range};

use bytes::Bytes;
use haven_format::{
    Ino,
    record::{self, Extent},
};
use haven_vault::View;
use prost::Message;

use crate::{
    Result,
    meta::{Stage, decode},
};

/// How many records are read at once.
const BATCH: usize = 512;

fn parse(ino: Ino, key: &[u8], value: Bytes) -> Result<(u64, Extent)> {
    let offset = record::extent_offset(key)
        .ok_or_else(|| crate::FsError::Broken(format!("an extent key of inode {ino} has another length")))?;
    Ok((offset, decode(value, "an extent", ino)?))
}

/// The last extent that begins before `offset`.
pub(crate) fn last_before(view: &View, ino: Ino, offset: u64) -> Result<Option<(u64, Extent)>> {
    let range = record::extent_key(ino, 0)..record::extent_key(ino, offset);
    view.last(range)?.map(|(key, value)| parse(ino, &key, value)).transpose()
}

/// Extents that begin in `range`, the first `limit`.
fn beginning_in(view: &View, ino: Ino, range: Range<u64>, limit: usize) -> Result<Vec<(u64, Extent)>> {
    let keys = record::extent_key(ino, range.start)..record::extent_key(ino, range.end.max(range.start));
    view.scan(keys, limit)?.into_iter().map(|(key, value)| parse(ino, &key, value)).collect()
}

/// Extents that have bytes in `range`, in order, the first `limit`.
pub(crate) fn extents_in(view: &View, ino: Ino, range: Range<u64>, limit: usize) -> Result<Vec<(u64, Extent)>> {
    // An extent that begins just there is the common case of reading on; then nothing before it matters.
    let mut found = beginning_in(view, ino, range.clone(), limit)?;
    if found.first().is_none_or(|(offset, _)| *offset != range.start)
        && let Some((offset, extent)) = last_before(view, ino, range.start)?
        && offset + extent.len > range.start
    {
        found.insert(0, (offset, extent));
        found.truncate(limit);
    }
    Ok(found)
}

/// The first extent with bytes at `offset` or later.
pub(crate) fn next_extent(view: &View, ino: Ino, offset: u64) -> Result<Option<(u64, Extent)>> {
    Ok(extents_in(view, ino, offset..u64::MAX, 1)?.into_iter().next())
}

/// The part of `extent` (which begins at `offset`) that lies in `range`, and where it begins.
pub(crate) fn clip(offset: u64, extent: &Extent, range: &Range<u64>) -> (u64, Extent) {
    let from = offset.max(range.start);
    let to = (offset + extent.len).min(range.end);
    let skip = if extent.chunk.is_empty() { 0 } else { extent.skip + (from - offset) as u32 };
    (from, Extent { len: to - from, skip, ..extent.clone() })
}

/// A change to the extents of a file, seen by itself before it is committed.
pub(crate) struct Edit<'a> {
    view: &'a View,
    ino: Ino,
    staged: BTreeMap<u64, Option<Extent>>,
    /// How many bytes more the file has allocated.
    pub allocated: i64,
}

impl<'a> Edit<'a> {
    pub fn new(view: &'a View, ino: Ino) -> Self {
        Self { view, ino, staged: BTreeMap::new(), allocated: 0 }
    }

    fn before(&self, offset: u64) -> Result<Option<(u64, Extent)>> {
        let staged = self.staged.range(..offset).rev().find_map(|(at, extent)| Some((*at, extent.clone()?)));
        let floor = staged.as_ref().map(|(at, _)| *at);
        let mut end = offset;
        loop {
            match last_before(self.view, self.ino, end)? {
                Some((at, _)) if floor.is_some_and(|floor| at <= floor) => return Ok(staged),
                Some((at, _)) if self.staged.contains_key(&at) => end = at,
                Some(found) => return Ok(Some(found)),
                None => return Ok(staged),
            }
        }
    }

    /// Makes a hole of `range`: what reaches into it is trimmed, what reaches over it is split.
    pub fn clear(&mut self, range: Range<u64>) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        if let Some((offset, extent)) = self.before(range.start)?
            && offset + extent.len > range.start
        {
            self.cut_out(offset, extent, &range);
        }
        let staged: Vec<_> = self.staged.range(range.clone()).filter_map(|(at, e)| Some((*at, e.clone()?))).collect();
        for (offset, extent) in staged {
            self.cut_out(offset, extent, &range);
        }
        let mut from = range.start;
        loop {
            let batch = beginning_in(self.view, self.ino, from..range.end, BATCH)?;
            let more = batch.len() == BATCH;
            for (offset, extent) in batch {
                from = offset + 1;
                if !self.staged.contains_key(&offset) {
                    self.cut_out(offset, extent, &range);
                }
            }
            if !more {
                return Ok(());
            }
        }
    }

    fn cut_out(&mut self, offset: u64, extent: Extent, range: &Range<u64>) {
        let end = offset + extent.len;
        let (from, to) = (offset.max(range.start), end.min(range.end));
        self.allocated -= (to - from) as i64;
        let left = (offset < from).then(|| clip(offset, &extent, &(offset..from)).1);
        self.staged.insert(offset, left);
        if to < end {
            let (at, right) = clip(offset, &extent, &(to..end));
            self.staged.insert(at, Some(right));
        }
    }

    /// Puts an extent where there is a hole.
    pub fn set(&mut self, offset: u64, extent: Extent) {
        self.allocated += extent.len as i64;
        self.staged.insert(offset, Some(extent));
    }

    /// Fills the holes in `range` with allocated zeros.
    pub fn allocate(&mut self, range: Range<u64>) -> Result<()> {
        let mut at = range.start;
        while at < range.end {
            let next = next_extent(self.view, self.ino, at)?.filter(|(offset, _)| *offset < range.end);
            let (hole_end, resume) = next.map_or((range.end, range.end), |(offset, e)| (offset, offset + e.len));
            if at < hole_end {
                self.set(at, Extent { len: hole_end - at, ..Default::default() });
            }
            at = resume;
        }
        Ok(())
    }

    /// Hands the change to `stage`, the inode's and the library's sums included.
    pub fn stage(self, stage: &mut Stage) -> Result<()> {
        let inode = stage.inode(self.ino)?;
        inode.allocated = inode.allocated.saturating_add_signed(self.allocated);
        stage.change.file_bytes += self.allocated;
        for (offset, extent) in self.staged {
            let key = record::extent_key(self.ino, offset);
            match extent {
                Some(extent) => stage.set(key, extent.encode_to_vec().into()),
                None => stage.remove(key),
            }
        }
        Ok(())
    }
}

/// `range` in parts that have at most a few thousand extents each, so that a commit can clear one.
pub(crate) fn windows(view: &View, ino: Ino, range: Range<u64>) -> Result<Vec<Range<u64>>> {
    const EXTENTS: usize = 4096;
    let mut parts = vec![range.clone()];
    loop {
        let from = parts.last().map_or(range.start, |part| part.start);
        let batch = beginning_in(view, ino, from..range.end, EXTENTS)?;
        match batch.last() {
            Some((offset, _)) if batch.len() == EXTENTS => {
                if let Some(part) = parts.last_mut() {
                    part.end = *offset;
                }
                parts.push(*offset..range.end);
            }
            _ => return Ok(parts),
        }
    }
}
