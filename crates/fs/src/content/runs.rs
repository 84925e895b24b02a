//! Bytes written and still in memory.
//!
//! Invariants: runs do not overlap and are not empty; `clean` and `whole` never exceed the run's length.

use std::{collections::BTreeMap, ops::Range};

/// Consecutive bytes of a file.
#[derive(Debug, Default)]
pub(crate) struct Run {
    pub data: Vec<u8>,
    /// So many bytes from the start are in the vault as well, in records that say the same.
    pub clean: usize,
    /// So many of these are there as they would be if the file were closed now: cut in one piece.
    pub whole: usize,
}

/// Runs by offset.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    map: BTreeMap<u64, Run>,
    bytes: usize,
}

/// Runs that touch each other, as one.
#[derive(Debug)]
pub(crate) struct Group {
    pub range: Range<u64>,
    /// Offsets of its runs.
    pub runs: Vec<u64>,
}

impl Runs {
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn count(&self) -> usize {
        self.map.len()
    }

    /// Bytes that are nowhere else.
    pub fn unsaved(&self) -> u64 {
        self.map.values().map(|run| (run.data.len() - run.clean) as u64).sum()
    }

    /// Where they are, in order.
    pub fn unsaved_ranges(&self) -> impl Iterator<Item = Range<u64>> {
        let ranges = self.map.iter().map(|(start, run)| start + run.clean as u64..start + run.data.len() as u64);
        ranges.filter(|range| !range.is_empty())
    }

    /// The run that begins at `start`.
    pub fn get(&self, start: u64) -> Option<&Run> {
        self.map.get(&start)
    }

    /// Runs that have bytes in `range`, in order.
    pub fn overlapping(&self, range: Range<u64>) -> impl Iterator<Item = (u64, &Run)> {
        let before = self.map.range(..range.start).next_back();
        let before = before.filter(|(start, run)| **start + run.data.len() as u64 > range.start);
        let first = before.map_or(range.start, |(start, _)| *start);
        self.map.range(first..range.end.max(first)).map(|(start, run)| (*start, run))
    }

    /// Puts `data` over whatever is there. Gives the start and length of the run that its last byte is in.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> (u64, usize) {
        let end = offset + data.len() as u64;
        let mut at = offset;
        while at < end {
            let part = &data[(at - offset) as usize..];
            if let Some((start, run)) = self.map.range_mut(..=at).next_back() {
                let run_end = start + run.data.len() as u64;
                if at < run_end {
                    let from = (at - start) as usize;
                    let n = part.len().min(run.data.len() - from);
                    run.data[from..from + n].copy_from_slice(&part[..n]);
                    run.clean = run.clean.min(from);
                    run.whole = run.whole.min(from);
                    at += n as u64;
                    continue;
                }
            }
            let gap_end = self.map.range(at..).next().map_or(end, |(start, _)| end.min(*start));
            let n = (gap_end - at) as usize;
            match self.map.range_mut(..at).next_back() {
                Some((start, run)) if start + run.data.len() as u64 == at => run.data.extend_from_slice(&part[..n]),
                _ => {
                    self.map.insert(at, Run { data: part[..n].to_vec(), clean: 0, whole: 0 });
                }
            }
            self.bytes += n;
            at += n as u64;
        }
        let (start, run) = self.map.range(..end).next_back().expect("bytes were written just now");
        (*start, run.data.len())
    }

    /// Cuts off everything from `size` on.
    pub fn truncate(&mut self, size: u64) {
        let gone = self.map.split_off(&size);
        self.bytes -= gone.values().map(|run| run.data.len()).sum::<usize>();
        if let Some((start, run)) = self.map.range_mut(..size).next_back() {
            let keep = run.data.len().min((size - start) as usize);
            self.bytes -= run.data.len() - keep;
            run.data.truncate(keep);
            run.clean = run.clean.min(keep);
            run.whole = run.whole.min(keep);
        }
    }

    pub fn clear(&mut self) {
        self.map.clear();
        self.bytes = 0;
    }

    /// Takes the run at `start` out.
    pub fn take(&mut self, start: u64) -> Option<Run> {
        let run = self.map.remove(&start)?;
        self.bytes -= run.data.len();
        Some(run)
    }

    /// Puts a run in where there is none.
    pub fn put(&mut self, start: u64, run: Run) {
        if !run.data.is_empty() {
            self.bytes += run.data.len();
            self.map.insert(start, run);
        }
    }

    /// All runs, those that touch together.
    pub fn groups(&self) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::new();
        for (&start, run) in &self.map {
            let end = start + run.data.len() as u64;
            match groups.last_mut() {
                Some(group) if group.range.end == start => {
                    group.range.end = end;
                    group.runs.push(start);
                }
                _ => groups.push(Group { range: start..end, runs: vec![start] }),
            }
        }
        groups
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn flat(runs: &Runs) -> Vec<Option<u8>> {
        let mut out = vec![None; 200];
        for (start, run) in runs.overlapping(0..200) {
            for (at, &byte) in run.data.iter().enumerate() {
                assert_eq!(out[start as usize + at].replace(byte), None, "runs overlap");
            }
        }
        out
    }

    proptest! {
        #[test]
        fn the_last_write_of_each_byte_wins(steps in prop::collection::vec((0u64..100, 1usize..40, any::<bool>()), 1..30)) {
            let mut runs = Runs::default();
            let mut model = vec![None; 200];
            for (n, (offset, len, truncate)) in steps.into_iter().enumerate() {
                if truncate && n % 3 == 0 {
                    runs.truncate(offset);
                    model[offset as usize..].fill(None);
                } else {
                    let (start, length) = runs.write(offset, &vec![n as u8; len]);
                    model[offset as usize..offset as usize + len].fill(Some(n as u8));
                    prop_assert!(start + length as u64 >= offset + len as u64);
                }
                prop_assert_eq!(flat(&runs), model.clone());
                prop_assert_eq!(runs.bytes(), model.iter().flatten().count());
                let covered: u64 = runs.groups().iter().map(|group| group.range.end - group.range.start).sum();
                prop_assert_eq!(covered as usize, runs.bytes());
            }
        }
    }

    #[test]
    fn overwriting_stored_bytes_makes_them_unsaved() {
        let mut runs = Runs::default();
        runs.write(0, &[1; 100]);
        let mut run = runs.take(0).unwrap();
        (run.clean, run.whole) = (100, 100);
        runs.put(0, run);
        assert_eq!(runs.unsaved(), 0);
        runs.write(40, &[2; 10]);
        assert_eq!(runs.unsaved(), 60);
    }
}
