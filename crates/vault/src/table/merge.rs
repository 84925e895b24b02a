//! Merging layers: a batch at a time for reading, whole runs for writing out.

use std::{collections::BTreeMap, ops::Range};

use haven_format::{
    record::Key,
    root::{Run, ShardRef},
    shard::Value,
};

use super::mem::MemTable;
use crate::{
    Result,
    shards::{Block, Shards},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Ascending,
    Descending,
}

/// Records, nearest first, and the bound for the next batch, if there is one.
pub(crate) type Found = (Vec<(Key, Value)>, Option<Key>);

/// Collects about `count` records from one end of a range. Layers are added newest first.
pub(crate) struct Batch<'a> {
    range: &'a Range<Key>,
    count: usize,
    order: Order,
    merged: BTreeMap<Key, Value>,
    /// The innermost key up to which every layer has told all it knows; `None`: the whole range.
    horizon: Option<Key>,
}

impl<'a> Batch<'a> {
    pub(crate) fn new(range: &'a Range<Key>, count: usize, order: Order) -> Self {
        Self { range, count, order, merged: BTreeMap::new(), horizon: None }
    }

    fn beyond(&self, key: &Key) -> bool {
        match (&self.horizon, self.order) {
            (None, _) => false,
            (Some(horizon), Order::Ascending) => key > horizon,
            (Some(horizon), Order::Descending) => key < horizon,
        }
    }

    /// Adds one layer's records, nearest first, as many as `count`.
    fn add(&mut self, records: impl Iterator<Item = (Key, Value)>) {
        let mut taken = 0;
        for (key, value) in records {
            if self.beyond(&key) {
                return;
            }
            taken += 1;
            let full = taken == self.count;
            if full {
                self.horizon = Some(key.clone());
            }
            self.merged.entry(key).or_insert(value);
            if full {
                return;
            }
        }
    }

    pub(crate) fn add_memory(&mut self, table: &MemTable) {
        let own = |(key, value): (&Key, &Value)| (key.clone(), value.clone());
        let (from, until) = (&self.range.start, &self.range.end);
        match self.order {
            Order::Ascending => self.add(table.ascending(from, until).map(own).take(self.count)),
            Order::Descending => self.add(table.descending(from, until).map(own).take(self.count)),
        }
    }

    pub(crate) fn add_run(&mut self, run: &Run, shards: &Shards) -> Result<()> {
        let records = match self.order {
            Order::Ascending => first_of_run(run, shards, self.range, self.count)?,
            Order::Descending => last_of_run(run, shards, self.range, self.count)?,
        };
        self.add(records.into_iter());
        Ok(())
    }

    /// The records, nearest first, and the bound for the next batch (start or end of its range).
    pub(crate) fn finish(mut self) -> Found {
        let horizon = self.horizon.take();
        let next = horizon.as_ref().map(|horizon| match self.order {
            Order::Ascending => after(horizon),
            Order::Descending => horizon.clone(),
        });
        let records = match (self.order, horizon) {
            (Order::Ascending, None) => self.merged.into_iter().collect(),
            (Order::Ascending, Some(horizon)) => {
                self.merged.into_iter().take_while(|(key, _)| *key <= horizon).collect()
            }
            (Order::Descending, None) => self.merged.into_iter().rev().collect(),
            (Order::Descending, Some(horizon)) => {
                self.merged.into_iter().rev().take_while(|(key, _)| *key >= horizon).collect()
            }
        };
        (records, next)
    }
}

/// The smallest key greater than `key`.
fn after(key: &Key) -> Key {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next.into()
}

fn first_of_run(run: &Run, shards: &Shards, range: &Range<Key>, count: usize) -> Result<Vec<(Key, Value)>> {
    let mut out = Vec::new();
    let start = run.shards.partition_point(|shard| shard.last < range.start);
    for wanted in run.shards[start..].iter().take_while(|shard| shard.first < range.end) {
        let shard = shards.load(wanted)?;
        for number in shard.index.block_for(&range.start).unwrap_or(0)..shard.index.blocks.len() {
            if shard.index.blocks[number].first >= range.end {
                return Ok(out);
            }
            let block = shards.block(&shard, number)?;
            let from = block.partition_point(|(key, _)| *key < range.start);
            for (key, value) in &block[from..] {
                if *key >= range.end || out.len() == count {
                    return Ok(out);
                }
                out.push((key.clone(), value.clone()));
            }
        }
    }
    Ok(out)
}

fn last_of_run(run: &Run, shards: &Shards, range: &Range<Key>, count: usize) -> Result<Vec<(Key, Value)>> {
    let mut out = Vec::new();
    let end = run.shards.partition_point(|shard| shard.first < range.end);
    for wanted in run.shards[..end].iter().rev().take_while(|shard| shard.last >= range.start) {
        let shard = shards.load(wanted)?;
        let end = shard.index.blocks.partition_point(|block| block.first < range.end);
        for number in (0..end).rev() {
            let block = shards.block(&shard, number)?;
            let until = block.partition_point(|(key, _)| *key < range.end);
            for (key, value) in block[..until].iter().rev() {
                if *key < range.start || out.len() == count {
                    return Ok(out);
                }
                out.push((key.clone(), value.clone()));
            }
        }
    }
    Ok(out)
}

/// Walks a run's records in order, a block at a time. Restartable: an error leaves the position as it was.
struct RunCursor<'a> {
    run: &'a Run,
    shard: usize,
    block: usize,
    records: Option<Block>,
    record: usize,
}

impl<'a> RunCursor<'a> {
    fn new(run: &'a Run) -> Self {
        Self { run, shard: 0, block: 0, records: None, record: 0 }
    }

    /// Makes sure a record is under the cursor, unless the run has ended.
    fn fill(&mut self, shards: &Shards) -> Result<()> {
        while let Some(wanted) = self.run.shards.get(self.shard) {
            if self.records.as_ref().is_some_and(|records| self.record < records.len()) {
                return Ok(());
            }
            let shard = shards.load(wanted)?;
            let next = if self.records.is_some() { self.block + 1 } else { self.block };
            if next >= shard.index.blocks.len() {
                (self.shard, self.block, self.records, self.record) = (self.shard + 1, 0, None, 0);
                continue;
            }
            let records = shards.block(&shard, next)?;
            (self.block, self.records, self.record) = (next, Some(records), 0);
        }
        self.records = None;
        Ok(())
    }

    fn peek(&self) -> Option<&(Key, Value)> {
        self.records.as_ref().and_then(|records| records.get(self.record))
    }

    /// The shard the cursor stands at the very beginning of, if it does.
    fn at_start_of(&self) -> Option<&'a ShardRef> {
        (self.block == 0 && self.record == 0).then(|| self.run.shards.get(self.shard)).flatten()
    }

    fn skip_shard(&mut self) {
        (self.shard, self.block, self.records, self.record) = (self.shard + 1, 0, None, 0);
    }
}

/// Merges runs, newest first, into one sorted stream. Whole shards of the oldest run that nothing newer touches are
/// handed on as they are.
pub(crate) struct MergeRuns<'a> {
    cursors: Vec<RunCursor<'a>>,
    /// Whether removed records may be forgotten: nothing older than these runs exists.
    drop_removed: bool,
}

/// The next thing of a merge.
pub(crate) enum Merged {
    Record(Key, Value),
    /// This shard can be used as it is.
    Shard(ShardRef),
    End,
}

impl<'a> MergeRuns<'a> {
    pub(crate) fn new(runs: &'a [Run], drop_removed: bool) -> Self {
        Self { cursors: runs.iter().map(RunCursor::new).collect(), drop_removed }
    }

    /// Restartable: after an error ([`crate::Need`]) call again.
    pub(crate) fn next(&mut self, shards: &Shards) -> Result<Merged> {
        loop {
            if let Some(shard) = self.untouched_shard(shards)? {
                return Ok(Merged::Shard(shard));
            }
            for cursor in &mut self.cursors {
                cursor.fill(shards)?;
            }
            let Some(key) = self.cursors.iter().filter_map(|c| c.peek()).map(|(key, _)| key).min().cloned() else {
                return Ok(Merged::End);
            };
            let mut found = None;
            for cursor in &mut self.cursors {
                if let Some((_, value)) = cursor.peek().filter(|(other, _)| *other == key) {
                    found.get_or_insert_with(|| value.clone());
                    cursor.record += 1;
                }
            }
            let value = found.expect("some cursor stood at the key");
            if value.is_some() || !self.drop_removed {
                return Ok(Merged::Record(key, value));
            }
        }
    }

    fn untouched_shard(&mut self, shards: &Shards) -> Result<Option<ShardRef>> {
        let Some((oldest, newer)) = self.cursors.split_last_mut() else { return Ok(None) };
        // Records of the shard before may be used up without the cursor having moved on.
        if oldest.records.is_some() {
            oldest.fill(shards)?;
        }
        let Some(shard) = oldest.at_start_of() else { return Ok(None) };
        for cursor in newer {
            cursor.fill(shards)?;
            if cursor.peek().is_some_and(|(key, _)| *key <= shard.last) {
                return Ok(None);
            }
        }
        let shard = shard.clone();
        oldest.skip_shard();
        Ok(Some(shard))
    }
}
