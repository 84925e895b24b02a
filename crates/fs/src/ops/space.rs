//! Holes, space promised, and bytes shared between files.

use std::ops::Range;

use haven_format::{Ino, record::Extent};

use crate::{
    Fs, FsError, Handle, Result, SIZE_MAX,
    content::{Edit, How, clip, extents_in, next_extent, windows},
    handle::{Node, State},
    is_past,
    meta::{Stage, inode},
};

/// Extents shared by one call; a longer copy comes back for more.
const SHARED_AT_ONCE: usize = 4096;

impl Fs {
    /// `whence`: `SEEK_DATA` or `SEEK_HOLE`. Space promised and not written counts as a hole.
    pub fn lseek(&self, ino: Ino, handle: Handle, offset: u64, whence: i32) -> Result<u64> {
        let open = self.opened(ino, handle)?;
        let state = open.node.state.read();
        let size = match state.size {
            Some(size) => size,
            None => self.record(ino)?.size,
        };
        if offset >= size {
            return Err(FsError::NoSuchOffset);
        }
        let data = |at: u64| self.next_data(&state, ino, at..size);
        match whence {
            libc::SEEK_DATA => data(offset)?.map(|range| range.start).ok_or(FsError::NoSuchOffset),
            libc::SEEK_HOLE => {
                let mut at = offset;
                while at < size
                    && let Some(range) = data(at)?
                    && range.start == at
                {
                    at = range.end;
                }
                Ok(at.min(size))
            }
            _ => Err(FsError::Invalid("seeking of this kind")),
        }
    }

    /// The first bytes in `within` that are no hole, in memory or stored.
    fn next_data(&self, state: &State, ino: Ino, within: Range<u64>) -> Result<Option<Range<u64>>> {
        let run = state.runs.overlapping(within.clone()).next();
        let run = run.map(|(start, run)| start.max(within.start)..start + run.data.len() as u64);
        let place = self.place(ino)?;
        let mut at = within.start;
        let stored = loop {
            match next_extent(&place.view, place.ino, at)? {
                Some((offset, _)) if offset >= within.end => break None,
                Some((offset, extent)) if extent.chunk.is_empty() => at = offset + extent.len,
                Some((offset, extent)) => break Some(offset.max(within.start)..offset + extent.len),
                None => break None,
            }
        };
        Ok(match (run, stored) {
            (Some(a), Some(b)) => Some(if a.start <= b.start { a } else { b }),
            (a, b) => a.or(b),
        })
    }

    /// `mode`: `FALLOC_FL_KEEP_SIZE`, `FALLOC_FL_PUNCH_HOLE`, `FALLOC_FL_ZERO_RANGE`.
    pub fn fallocate(&self, ino: Ino, handle: Handle, offset: u64, len: u64, mode: i32) -> Result<()> {
        self.writable_at(ino)?;
        let open = self.opened(ino, handle)?;
        if len == 0 {
            return Err(FsError::Invalid("no bytes to allocate"));
        }
        let end = offset.checked_add(len).filter(|end| *end <= SIZE_MAX).ok_or(FsError::TooLarge)?;
        let keep = mode & libc::FALLOC_FL_KEEP_SIZE != 0;
        let range = offset..end;
        let grow = if keep { 0 } else { end };
        match mode & !libc::FALLOC_FL_KEEP_SIZE {
            0 => self.reshape(&open.node, grow, |edit, _| edit.allocate(range.clone())),
            libc::FALLOC_FL_ZERO_RANGE => {
                self.clear_most(&open.node, range.clone())?;
                self.reshape(&open.node, grow, |edit, _| {
                    edit.clear(range.clone())?;
                    edit.set(offset, Extent { len, ..Default::default() });
                    Ok(())
                })
            }
            libc::FALLOC_FL_PUNCH_HOLE if keep => {
                self.clear_most(&open.node, range.clone())?;
                self.reshape(&open.node, 0, |edit, _| edit.clear(range.clone()))
            }
            _ => Err(FsError::Unsupported("allocation of this kind")),
        }
    }

    /// Clears all but the last part of a range that is too much for one commit.
    fn clear_most(&self, node: &Node, range: Range<u64>) -> Result<()> {
        let mut parts = windows(&self.vault.live(), node.ino, range)?;
        parts.pop();
        parts.into_iter().try_for_each(|part| self.reshape(node, 0, |edit, _| edit.clear(part.clone())))
    }

    /// Changes stored extents, after everything in memory has joined them. The file is at least `grow` bytes long
    /// afterwards.
    fn reshape(
        &self,
        node: &Node,
        grow: u64,
        mut change: impl FnMut(&mut Edit<'_>, &mut Stage) -> Result<()>,
    ) -> Result<()> {
        self.drop_privileges(node, true)?;
        let _state = loop {
            self.store(node, How::Drop)?;
            let state = node.state.write();
            if state.runs.is_empty() {
                break state;
            }
        };
        let _change = self.change.lock();
        let mut stage = self.stage();
        let view = stage.view.clone();
        let mut edit = Edit::new(&view, node.ino);
        change(&mut edit, &mut stage)?;
        edit.stage(&mut stage)?;
        let now = stage.now;
        let inode = stage.inode(node.ino)?;
        inode.size = inode.size.max(grow);
        (inode.mtime, inode.ctime) = (now, now);
        self.commit(stage)?;
        Ok(())
    }

    /// Extents of the past, about to be referred to from the present: what the library was about to forget is stored
    /// anew.
    fn keep_alive(&self, extents: &mut [(u64, Extent)]) -> Result<()> {
        for (_, extent) in extents {
            let Some(id) = extent.chunk_id() else { continue };
            extent.place = match self.vault.kept(id)? {
                None => Some(self.vault.put(&self.vault.chunk(id, extent.place.as_ref())?)?.1),
                place => place,
            };
        }
        Ok(())
    }

    /// Copies by sharing chunks. Gives how many bytes; fewer than `len` at the end of the source, or of what one
    /// commit can hold, so the caller goes on until it gets 0.
    pub fn copy_file_range(&self, from: (Ino, Handle, u64), to: (Ino, Handle, u64), len: u64) -> Result<u64> {
        self.writable_at(to.0)?;
        let (source, target) = (self.opened(from.0, from.1)?, self.opened(to.0, to.1)?);
        let same = from.0 == to.0;
        if same && from.2 < to.2.saturating_add(len) && to.2 < from.2.saturating_add(len) {
            return Err(FsError::Invalid("a copy onto itself"));
        }
        if !same {
            self.store(&source.node, How::Keep)?;
        }
        let mut copied = 0;
        let target_end = to.2.checked_add(len).filter(|end| *end <= SIZE_MAX).ok_or(FsError::TooLarge)?;
        self.clear_most(&target.node, to.2..target_end)?;
        self.reshape(&target.node, 0, |edit, stage| {
            // Under the change lock: what is now, as this change finds it.
            let at = self.place(from.0)?;
            let size = inode(&at.view, at.ino)?.size;
            let mut range = from.2..from.2.saturating_add(len).min(size);
            if range.is_empty() {
                return Ok(());
            }
            let mut extents = extents_in(&at.view, at.ino, range.clone(), SHARED_AT_ONCE)?;
            if is_past(from.0) {
                self.keep_alive(&mut extents)?;
            }
            if extents.len() == SHARED_AT_ONCE
                && let Some((offset, extent)) = extents.last()
            {
                range.end = range.end.min(offset + extent.len);
            }
            copied = range.end - range.start;
            edit.clear(to.2..to.2 + copied)?;
            for (offset, extent) in extents {
                let (offset, extent) = clip(offset, &extent, &range);
                edit.set(to.2 + (offset - range.start), extent);
            }
            let inode = stage.inode(to.0)?;
            inode.size = inode.size.max(to.2 + copied);
            Ok(())
        })?;
        Ok(copied)
    }
}
