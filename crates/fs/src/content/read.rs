//! From the vault and from memory to the reader.

use std::ops::Range;

use bytes::Bytes;
use haven_format::record::Extent;

use super::extents::{clip, extents_in};
use crate::{
    Fs, FsError, Result,
    handle::{Node, Open, Reading},
    history::Place,
};

/// Files up to this many bytes are fetched as a whole when reading begins at their start.
const WHOLE_FILE: u64 = 8 << 20;
/// How far ahead of sequential reading to fetch, bytes: at first, and at most.
const WINDOW_MIN: u64 = 8 << 20;
const WINDOW_MAX: u64 = 32 << 20;
/// Extents of one look ahead.
const AHEAD_MAX: usize = 4096;
/// Reads that go on arrive out of order by at most so many bytes, when several threads carry them.
const DISORDER: u64 = 1 << 20;

/// A read in two halves: what to take from where, seen at one moment, then the fetching.
struct Found {
    range: Range<u64>,
    extents: Vec<(u64, Extent)>,
    /// Bytes in memory that lie over the extents.
    over: Vec<(u64, Bytes)>,
    size: u64,
}

impl Fs {
    pub(crate) fn read_range(&self, at: &Place, open: &Open, offset: u64, len: usize) -> Result<Bytes> {
        let found = self.find(at, &open.node, offset, len)?;
        if found.range.is_empty() {
            return Ok(Bytes::new());
        }
        if !found.extents.is_empty() {
            self.look_ahead(at, open, &found)?;
        }
        let range = &found.range;
        if let [(start, extent)] = &found.extents[..]
            && found.over.is_empty()
            && *start <= range.start
            && start + extent.len >= range.end
            && extent.chunk_id().is_some()
        {
            return self.load_for(open, &clip(*start, extent, range).1);
        }
        if let [(start, bytes)] = &found.over[..]
            && *start == range.start
            && bytes.len() as u64 == range.end - range.start
        {
            return Ok(bytes.clone());
        }
        let mut out = Vec::with_capacity((range.end - range.start) as usize);
        for (start, extent) in &found.extents {
            let (start, extent) = clip(*start, extent, range);
            out.resize((start - range.start) as usize, 0);
            if extent.chunk_id().is_some() {
                out.extend_from_slice(&self.load_for(open, &extent)?);
            }
        }
        out.resize((range.end - range.start) as usize, 0);
        for (start, bytes) in &found.over {
            let at = (start - range.start) as usize;
            out[at..at + bytes.len()].copy_from_slice(bytes);
        }
        Ok(out.into())
    }

    fn find(&self, at: &Place, node: &Node, offset: u64, len: usize) -> Result<Found> {
        let state = node.state.read();
        let size = match state.size {
            Some(size) => size,
            None => crate::meta::inode(&at.view, at.ino)?.size,
        };
        let range = offset.min(size)..offset.saturating_add(len as u64).min(size);
        let mut over = Vec::new();
        for (start, run) in state.runs.overlapping(range.clone()) {
            let from = start.max(range.start);
            let to = (start + run.data.len() as u64).min(range.end);
            if from < to {
                over.push((from, Bytes::copy_from_slice(&run.data[(from - start) as usize..(to - start) as usize])));
            }
        }
        let covered: usize = over.iter().map(|(_, bytes)| bytes.len()).sum();
        let extents = if covered as u64 == range.end - range.start {
            Vec::new()
        } else {
            // No extent is empty, so this many there may be at most: all are wanted.
            extents_in(&at.view, at.ino, range.clone(), len + 1)?
        };
        Ok(Found { range, extents, over, size })
    }

    /// The bytes of an extent that has a chunk.
    pub(crate) fn load(&self, extent: &Extent) -> Result<Bytes> {
        let id = extent.chunk_id().ok_or_else(|| FsError::Broken("an extent's chunk id has another length".into()))?;
        part(&self.vault.chunk(id, extent.place.as_ref())?, extent)
    }

    /// The same, remembering the chunk for the next read through this handle.
    fn load_for(&self, open: &Open, extent: &Extent) -> Result<Bytes> {
        let id = extent.chunk_id().ok_or_else(|| FsError::Broken("an extent's chunk id has another length".into()))?;
        if let Some(bytes) = self.kept.get(open.handle, id) {
            return part(&bytes, extent);
        }
        let bytes = self.vault.chunk(id, extent.place.as_ref())?;
        let wanted = part(&bytes, extent)?;
        if extent.skip as usize + (extent.len as usize) < bytes.len() {
            self.kept.keep(open.handle, id, bytes);
        } else {
            // A chunk read to its end won't be asked for again.
            self.kept.forget(open.handle);
        }
        Ok(wanted)
    }

    /// Has the vault fetch what will be read next, if reading goes on as it does.
    fn look_ahead(&self, at: &Place, open: &Open, found: &Found) -> Result<()> {
        let wanted = {
            let mut reading = open.reading.lock();
            let wanted = ahead(&mut reading, &found.range, found.size);
            match wanted {
                Some(wanted) => wanted,
                None => return Ok(()),
            }
        };
        let chunks: Vec<_> = extents_in(&at.view, at.ino, wanted, AHEAD_MAX)?
            .into_iter()
            .filter_map(|(_, extent)| Some((extent.chunk_id()?, extent.place?)))
            .collect();
        if !chunks.is_empty() {
            self.vault.prefetch(&chunks);
        }
        Ok(())
    }
}

/// Which range to fetch ahead when `range` is being read of a file of `size` bytes.
fn ahead(reading: &mut Reading, range: &Range<u64>, size: u64) -> Option<Range<u64>> {
    let sequential = range.start.abs_diff(reading.expected) <= DISORDER;
    reading.expected = if sequential { reading.expected.max(range.end) } else { range.end };
    if !sequential {
        reading.window = 0;
        reading.asked = range.end;
        return None;
    }
    let asked = reading.asked.max(range.end);
    if asked >= size {
        return None;
    }
    if range.start == 0 && size <= WHOLE_FILE {
        reading.asked = size;
        return Some(range.end..size);
    }
    let window = if reading.window == 0 { WINDOW_MIN } else { reading.window };
    if asked > range.end + window / 2 {
        return None;
    }
    reading.window = (window * 2).min(WINDOW_MAX);
    reading.asked = (range.end + reading.window).min(size);
    Some(asked..reading.asked)
}

fn part(chunk: &Bytes, extent: &Extent) -> Result<Bytes> {
    let range = extent.skip as usize..extent.skip as usize + extent.len as usize;
    if range.end > chunk.len() {
        return Err(FsError::Broken("an extent reaches behind its chunk".into()));
    }
    Ok(chunk.slice(range))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequential_reading_looks_further_and_further_ahead_and_asks_once() {
        let mut reading = Reading::default();
        let size = 200 << 20;
        let (mut asked, mut at) = (0, 0);
        let mut calls = 0;
        while at < size {
            let end = at + (128 << 10);
            if let Some(range) = ahead(&mut reading, &(at..end), size) {
                assert!(range.start >= asked && range.end - end <= WINDOW_MAX);
                asked = range.end;
                calls += 1;
            }
            at = end;
        }
        assert_eq!(asked, size);
        assert!(calls < 30, "{calls}");
    }

    #[test]
    fn random_reading_does_not_look_ahead() {
        let mut reading = Reading::default();
        for at in [50 << 20, 3 << 20, 90 << 20] {
            assert_eq!(ahead(&mut reading, &(at..at + 4096), 100 << 20), None);
        }
    }
}
