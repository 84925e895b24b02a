//! Changes since the last checkpoint, sorted, in memory.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use bytes::Bytes;
use haven_format::{
    record::{Key, Op},
    shard::Value,
};

/// About what a record costs in memory beside its key and value.
const OVERHEAD: usize = 96;

#[derive(Debug, Default, Clone)]
pub(crate) struct MemTable {
    records: BTreeMap<Key, Value>,
    bytes: usize,
}

impl MemTable {
    pub(crate) fn apply(&mut self, op: &Op) {
        let grown = op.key.len() + op.value.as_ref().map_or(0, Bytes::len) + OVERHEAD;
        if let Some(old) = self.records.insert(op.key.clone(), op.value.clone()) {
            self.bytes -= op.key.len() + old.map_or(0, |value| value.len()) + OVERHEAD;
        }
        self.bytes += grown;
    }

    /// As if the key had never been set.
    pub(crate) fn forget(&mut self, key: &[u8]) {
        if let Some(old) = self.records.remove(key) {
            self.bytes -= key.len() + old.map_or(0, |value| value.len()) + OVERHEAD;
        }
    }

    /// About how much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&Value> {
        self.records.get(key)
    }

    pub(crate) fn records(&self) -> &BTreeMap<Key, Value> {
        &self.records
    }

    pub(crate) fn ascending(&self, from: &Key, until: &Key) -> impl Iterator<Item = (&Key, &Value)> {
        let empty = from >= until;
        let range = (Bound::Included(from.clone()), Bound::Excluded(until.clone()));
        (!empty).then(|| self.records.range(range)).into_iter().flatten()
    }

    pub(crate) fn descending(&self, from: &Key, until: &Key) -> impl Iterator<Item = (&Key, &Value)> {
        let empty = from >= until;
        let range = (Bound::Included(from.clone()), Bound::Excluded(until.clone()));
        (!empty).then(|| self.records.range(range).rev()).into_iter().flatten()
    }
}

/// A frozen one.
pub(crate) type Frozen = Arc<MemTable>;
