//! The few records that say which objects a state needs: packs, snapshots, the dead, the last collection.

use std::collections::BTreeMap;

use bytes::Bytes;
use haven_format::{
    PackId,
    record::{self, Collection, Dead, Key, Op, PackInfo, Snapshot},
    root::ShardRef,
    shard::Value,
};
use prost::Message;

/// Those records at one position of the log.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Records(BTreeMap<Key, Bytes>);

/// Whether a record is one of them.
pub(crate) fn wanted(key: &[u8]) -> bool {
    spaces().iter().any(|space| space.contains(key))
}

/// Whether a shard can hold any of them.
pub(crate) fn may_hold(shard: &ShardRef) -> bool {
    spaces().iter().any(|space| shard.first < space.end && shard.last >= space.start)
}

fn spaces() -> [std::ops::Range<Key>; 4] {
    let collection = record::collection_key();
    let end = Bytes::from([&collection[..], &[0]].concat());
    [record::packs(), record::snapshots(), record::dead(), collection..end]
}

impl Records {
    /// Puts the records of a newer run over these.
    pub(crate) fn cover(&mut self, newer: impl IntoIterator<Item = (Key, Value)>) {
        for (key, value) in newer {
            self.set(key, value);
        }
    }

    pub(crate) fn apply(&mut self, ops: &[Op]) {
        for op in ops {
            self.set(op.key.clone(), op.value.clone());
        }
    }

    fn set(&mut self, key: Key, value: Value) {
        match value {
            Some(value) => _ = self.0.insert(key, value),
            None => _ = self.0.remove(&key),
        }
    }

    fn scan(&self, range: std::ops::Range<Key>) -> impl Iterator<Item = (&Key, &Bytes)> {
        self.0.range(range)
    }

    /// Packs that are not condemned, and their lengths.
    pub(crate) fn packs(&self) -> impl Iterator<Item = (PackId, u64)> {
        let info = |value: &Bytes| PackInfo::decode(value.clone()).map_or(0, |info| info.bytes);
        self.scan(record::packs()).filter_map(move |(key, value)| Some((record::key_pack(key)?, info(value))))
    }

    pub(crate) fn snapshots(&self) -> impl Iterator<Item = Snapshot> {
        self.scan(record::snapshots()).filter_map(|(_, value)| Snapshot::decode(value.clone()).ok())
    }

    /// Objects that are needed no more.
    pub(crate) fn dead(&self) -> impl Iterator<Item = (&str, Dead)> {
        self.scan(record::dead())
            .filter_map(|(key, value)| Some((record::key_dead(key)?, Dead::decode(value.clone()).ok()?)))
    }

    pub(crate) fn is_dead(&self, object: &str) -> bool {
        self.0.contains_key(&record::dead_key(object))
    }

    /// How the last garbage collection went.
    pub(crate) fn collection(&self) -> Option<Collection> {
        Collection::decode(self.0.get(&record::collection_key())?.clone()).ok()
    }
}
