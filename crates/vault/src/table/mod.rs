//! The record space: memory over frozen memory over runs of shards. The newest that knows a key is right.
//! ```text
//!     active      changes since the last freeze
//!     frozen …    being written out by a checkpoint, newest first
//!     runs …      shards in the bucket, cached here, newest first
//! ```

mod mem;
mod merge;

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use haven_format::{
    TxSeq,
    record::{Key, Op},
    root::{Run, ShardRef},
    shard::{Bloom, Value},
};
use parking_lot::RwLock;

use crate::{Result, shards::Shards};
pub(crate) use mem::{Frozen, MemTable};
pub(crate) use merge::{MergeRuns, Merged};

/// Immutable layers, newest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Layers {
    pub(crate) frozen: Vec<(TxSeq, Frozen)>,
    pub(crate) runs: Arc<Vec<Run>>,
}

impl Layers {
    /// Frozen layers with changes up to `seq`, newest first.
    pub(crate) fn frozen_until(&self, seq: TxSeq) -> Vec<Frozen> {
        self.frozen.iter().filter(|(end, _)| *end <= seq).map(|(_, frozen)| frozen.clone()).collect()
    }
}

#[derive(Debug, Default)]
struct State {
    active: MemTable,
    layers: Layers,
}

#[derive(Debug)]
pub(crate) struct Table {
    state: RwLock<State>,
    pub(crate) shards: Arc<Shards>,
}

impl Table {
    pub(crate) fn new(shards: Arc<Shards>, runs: Vec<Run>) -> Self {
        let layers = Layers { frozen: Vec::new(), runs: Arc::new(runs) };
        Self { state: RwLock::new(State { active: MemTable::default(), layers }), shards }
    }

    pub(crate) fn apply(&self, ops: &[Op]) {
        let mut state = self.state.write();
        for op in ops {
            // A removal must be remembered only if something older could show through.
            if op.value.is_none() && !self.may_be_older(&state.layers, &op.key) {
                state.active.forget(&op.key);
            } else {
                state.active.apply(op);
            }
        }
    }

    /// Whether an immutable layer may know the key; looks at nothing that is not in memory.
    fn may_be_older(&self, layers: &Layers, key: &[u8]) -> bool {
        let mut bloom = None;
        layers.frozen.iter().any(|(_, frozen)| frozen.get(key).is_some())
            || layers.runs.iter().filter_map(|run| shard_for(run, key)).any(|wanted| {
                let Some(shard) = self.shards.opened(wanted) else { return true };
                bloom.get_or_insert_with(|| Bloom::of(key)).may_be_in(&shard.index.bloom)
            })
    }

    /// Memory taken by the changes since the last freeze, and by frozen ones.
    pub(crate) fn memory(&self) -> (usize, usize) {
        let state = self.state.read();
        (state.active.bytes(), state.layers.frozen.iter().map(|(_, frozen)| frozen.bytes()).sum())
    }

    /// Moves the active changes, which end with `seq`, to a frozen layer. `None` if there are none.
    pub(crate) fn freeze(&self, seq: TxSeq) -> Option<Frozen> {
        let mut state = self.state.write();
        if state.active.is_empty() {
            return None;
        }
        let frozen = Arc::new(std::mem::take(&mut state.active));
        state.layers.frozen.insert(0, (seq, frozen.clone()));
        Some(frozen)
    }

    pub(crate) fn layers(&self) -> Layers {
        self.state.read().layers.clone()
    }

    /// Frozen layers up to `seq` are in `runs` now.
    pub(crate) fn replace(&self, seq: TxSeq, runs: Vec<Run>) {
        let mut state = self.state.write();
        state.layers.frozen.retain(|(frozen, _)| *frozen > seq);
        state.layers.runs = Arc::new(runs);
    }

    /// Everything anew, for a reader that follows: what another table has been given.
    pub(crate) fn take_over(&self, other: &Table) {
        *self.state.write() = std::mem::take(&mut *other.state.write());
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        let runs = {
            let state = self.state.read();
            if let Some(value) = state.active.get(key) {
                return Ok(value.clone());
            }
            if let Some(value) = state.layers.frozen.iter().find_map(|(_, frozen)| frozen.get(key)) {
                return Ok(value.clone());
            }
            state.layers.runs.clone()
        };
        get_in_runs(&self.shards, &runs, key)
    }
}

/// The shard of a run that would hold `key`.
fn shard_for<'a>(run: &'a Run, key: &[u8]) -> Option<&'a ShardRef> {
    let after = run.shards.partition_point(|shard| shard.first <= key);
    run.shards.get(after.checked_sub(1)?).filter(|shard| key <= shard.last)
}

fn get_in_runs(shards: &Shards, runs: &[Run], key: &[u8]) -> Result<Option<Bytes>> {
    let mut bloom = None;
    for wanted in runs.iter().filter_map(|run| shard_for(run, key)) {
        let shard = shards.load(wanted)?;
        if !bloom.get_or_insert_with(|| Bloom::of(key)).may_be_in(&shard.index.bloom) {
            continue;
        }
        let Some(number) = shard.index.block_for(key) else { continue };
        let block = shards.block(&shard, number)?;
        if let Ok(found) = block.binary_search_by(|(other, _)| other.as_ref().cmp(key)) {
            return Ok(block[found].1.clone());
        }
    }
    Ok(None)
}

/// The record space, as it is now or as it was at one position.
#[derive(Debug, Clone)]
pub struct View {
    table: Arc<Table>,
    /// The past: these layers, whatever the table's own are by now.
    at: Option<Arc<Layers>>,
}

impl View {
    pub(crate) fn live(table: Arc<Table>) -> Self {
        Self { table, at: None }
    }

    pub(crate) fn fixed(table: Arc<Table>, layers: Arc<Layers>) -> Self {
        Self { table, at: Some(layers) }
    }

    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        match &self.at {
            None => self.table.get(key),
            Some(layers) => match layers.frozen.iter().find_map(|(_, frozen)| frozen.get(key)) {
                Some(value) => Ok(value.clone()),
                None => get_in_runs(&self.table.shards, &layers.runs, key),
            },
        }
    }

    /// The first records in `range`, in key order, at most `limit`.
    pub fn scan(&self, range: Range<Key>, limit: usize) -> Result<Vec<(Key, Bytes)>> {
        let mut out = Vec::new();
        let mut from = range.start;
        while out.len() < limit && from < range.end {
            let batch = (limit - out.len()).clamp(16, 1024);
            let (records, next) = self.batch(&(from..range.end.clone()), batch, merge::Order::Ascending)?;
            out.extend(live(records).take(limit - out.len()));
            match next {
                Some(next) => from = next,
                None => break,
            }
        }
        Ok(out)
    }

    /// The last record in `range`.
    pub fn last(&self, range: Range<Key>) -> Result<Option<(Key, Bytes)>> {
        let mut until = range.end;
        while range.start < until {
            let (records, next) = self.batch(&(range.start.clone()..until.clone()), 4, merge::Order::Descending)?;
            if let Some(found) = live(records).next() {
                return Ok(Some(found));
            }
            match next {
                Some(next) => until = next,
                None => break,
            }
        }
        Ok(None)
    }

    /// About `count` records from one end of the range, merged, and where to go on.
    fn batch(&self, range: &Range<Key>, count: usize, order: merge::Order) -> Result<merge::Found> {
        let mut merge = merge::Batch::new(range, count, order);
        let runs = match &self.at {
            None => {
                let state = self.table.state.read();
                merge.add_memory(&state.active);
                state.layers.frozen.iter().for_each(|(_, frozen)| merge.add_memory(frozen));
                state.layers.runs.clone()
            }
            Some(layers) => {
                layers.frozen.iter().for_each(|(_, frozen)| merge.add_memory(frozen));
                layers.runs.clone()
            }
        };
        for run in runs.iter() {
            merge.add_run(run, &self.table.shards)?;
        }
        Ok(merge.finish())
    }
}

fn live(records: Vec<(Key, Value)>) -> impl Iterator<Item = (Key, Bytes)> {
    records.into_iter().filter_map(|(key, value)| Some((key, value?)))
}
