//! What is open: handles, the nodes behind them, and how often the kernel knows an inode.
//!
//! A [`Node`] is what this session knows of one inode beyond its record: written bytes that the vault has not got
//! yet, and the size and times that go with them. It exists while somebody holds it or it has such bytes.
//!
//! Locks, in the order they are taken: one node's state; the change lock of the file system; the small tables here.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use haven_format::{ChunkId, Ino, record::Time};
use parking_lot::{Mutex, RwLock};

use crate::{FsError, Handle, Result, content::Runs};

const SHARDS: usize = 64;

fn shard(number: u64) -> usize {
    number as usize % SHARDS
}

/// How many lookups of each inode the kernel has not taken back.
#[derive(Debug)]
pub(crate) struct Lookups {
    shards: [Mutex<HashMap<u64, u64>>; SHARDS],
}

impl Lookups {
    pub fn new() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()) }
    }

    pub fn add(&self, ino: Ino) {
        *self.shards[shard(ino.0)].lock().entry(ino.0).or_default() += 1;
    }

    /// Whether none are left.
    pub fn remove(&self, ino: Ino, count: u64) -> bool {
        let mut known = self.shards[shard(ino.0)].lock();
        match known.get_mut(&ino.0) {
            Some(left) if *left > count => {
                *left -= count;
                false
            }
            _ => {
                known.remove(&ino.0);
                true
            }
        }
    }

    pub fn any(&self, ino: Ino) -> bool {
        self.shards[shard(ino.0)].lock().contains_key(&ino.0)
    }
}

/// What is known of an open file beyond its record.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// Bytes written, by offset.
    pub runs: Runs,
    /// Length of the file where it differs, or may, from the record's.
    pub size: Option<u64>,
    pub mtime: Option<Time>,
    pub ctime: Option<Time>,
    /// Something above has not reached the record.
    pub changed: bool,
    /// The tick when that began.
    pub since: u64,
    /// Bytes of `runs` that are counted in the sum over all files.
    pub counted: usize,
    /// Stands in the list of nodes with something in memory.
    pub listed: bool,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub ino: Ino,
    pub state: RwLock<State>,
    /// Handles on it.
    pub opens: AtomicUsize,
    /// The generation of set-user-ID marks for which it was seen to have none; see `Fs::drop_privileges`.
    pub unprivileged: AtomicU64,
}

/// All nodes there are.
#[derive(Debug)]
pub(crate) struct Nodes {
    shards: [Mutex<HashMap<u64, Arc<Node>>>; SHARDS],
    /// Inodes whose node has bytes in memory or something unsaved, in order.
    pub holding: Mutex<BTreeSet<u64>>,
}

/// A node in use. It is forgotten with its last holder, unless something in it is unsaved.
pub(crate) struct Held<'a> {
    nodes: &'a Nodes,
    node: Arc<Node>,
}

impl Deref for Held<'_> {
    type Target = Node;

    fn deref(&self) -> &Node {
        &self.node
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut shard = self.nodes.shards[shard(self.node.ino.0)].lock();
        // Two: the table's and ours. Others are only ever made under the shard's lock, or from one that exists.
        if Arc::strong_count(&self.node) == 2 && self.node.opens.load(Ordering::Acquire) == 0 {
            let idle = self.node.state.try_read().is_some_and(|state| !state.listed && !state.changed);
            if idle {
                shard.remove(&self.node.ino.0);
            }
        }
    }
}

impl Nodes {
    pub fn new() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()), holding: Mutex::default() }
    }

    /// The node of `ino`, if there is one.
    pub fn find(&self, ino: Ino) -> Option<Held<'_>> {
        let node = self.shards[shard(ino.0)].lock().get(&ino.0).cloned()?;
        Some(Held { nodes: self, node })
    }

    /// The node of `ino`, made if need be.
    pub fn hold(&self, ino: Ino) -> Held<'_> {
        let new = || {
            Arc::new(Node {
                ino,
                state: RwLock::default(),
                opens: AtomicUsize::new(0),
                unprivileged: AtomicU64::new(0),
            })
        };
        let node = self.shards[shard(ino.0)].lock().entry(ino.0).or_insert_with(new).clone();
        Held { nodes: self, node }
    }

    /// Holds what `open` has open.
    pub fn of(&self, open: &Open) -> Held<'_> {
        Held { nodes: self, node: open.node.clone() }
    }

    pub fn is_open(&self, ino: Ino) -> bool {
        let shard = self.shards[shard(ino.0)].lock();
        shard.get(&ino.0).is_some_and(|node| node.opens.load(Ordering::Acquire) > 0)
    }

    /// The first inode after `ino` with something in memory.
    pub fn next_holding(&self, ino: u64) -> Option<u64> {
        self.holding.lock().range(ino + 1..).next().copied()
    }
}

/// Where sequential reading has come to.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    /// Where the next read begins if it goes on.
    pub expected: u64,
    /// How far ahead to fetch, bytes.
    pub window: u64,
    /// What has been asked for already.
    pub asked: u64,
    /// The access time has been seen to.
    pub touched: bool,
}

/// What a handle stands for.
#[derive(Debug)]
pub(crate) struct Open {
    pub handle: Handle,
    pub node: Arc<Node>,
    pub reading: Mutex<Reading>,
}

#[derive(Debug)]
pub(crate) struct Handles {
    next: AtomicU64,
    shards: [RwLock<HashMap<u64, Arc<Open>>>; SHARDS],
}

impl Handles {
    pub fn new() -> Self {
        Self { next: AtomicU64::new(1), shards: std::array::from_fn(|_| RwLock::default()) }
    }

    pub fn open(&self, node: &Held<'_>) -> Handle {
        node.node.opens.fetch_add(1, Ordering::AcqRel);
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let handle = Handle(number);
        let open = Open { handle, node: node.node.clone(), reading: Mutex::default() };
        self.shards[shard(number)].write().insert(number, Arc::new(open));
        handle
    }

    pub fn get(&self, handle: Handle) -> Result<Arc<Open>> {
        self.shards[shard(handle.0)].read().get(&handle.0).cloned().ok_or(FsError::BadHandle)
    }

    /// Whether no handle on it is left.
    pub fn close(&self, handle: Handle) -> Result<(Arc<Open>, bool)> {
        let open = self.shards[shard(handle.0)].write().remove(&handle.0).ok_or(FsError::BadHandle)?;
        let last = open.node.opens.fetch_sub(1, Ordering::AcqRel) == 1;
        Ok((open, last))
    }
}

/// Of each handle the chunk it read last, for the next read out of it. All together have at most [`KEPT_BYTES_MAX`]:
/// the one that was not read from for longest goes first, and is asked of the vault again.
#[derive(Debug, Default)]
pub(crate) struct Kept(Mutex<KeptChunks>);

/// Bytes of all kept chunks together: sixteen of the largest.
const KEPT_BYTES_MAX: usize = 64 << 20;

#[derive(Debug, Default)]
struct KeptChunks {
    /// By handle; with the turn in which it was read last.
    chunks: HashMap<u64, (u64, ChunkId, Bytes)>,
    /// Handles by turn.
    by_turn: BTreeMap<u64, u64>,
    turn: u64,
    bytes: usize,
}

impl Kept {
    /// The chunk `id`, if it is the one that `handle` read last.
    pub fn get(&self, handle: Handle, id: ChunkId) -> Option<Bytes> {
        let mut kept = self.0.lock();
        let bytes = kept.chunks.get(&handle.0).filter(|(_, last, _)| *last == id)?.2.clone();
        kept.keep(handle, id, bytes.clone());
        Some(bytes)
    }

    pub fn keep(&self, handle: Handle, id: ChunkId, bytes: Bytes) {
        let mut kept = self.0.lock();
        kept.keep(handle, id, bytes);
        while kept.bytes > KEPT_BYTES_MAX
            && let Some((_, oldest)) = kept.by_turn.first_key_value()
        {
            let oldest = Handle(*oldest);
            kept.forget(oldest);
        }
    }

    /// The handle reads on elsewhere, or is closed.
    pub fn forget(&self, handle: Handle) {
        self.0.lock().forget(handle);
    }
}

impl KeptChunks {
    fn keep(&mut self, handle: Handle, id: ChunkId, bytes: Bytes) {
        self.forget(handle);
        self.turn += 1;
        self.bytes += bytes.len();
        self.by_turn.insert(self.turn, handle.0);
        self.chunks.insert(handle.0, (self.turn, id, bytes));
    }

    fn forget(&mut self, handle: Handle) {
        if let Some((turn, _, bytes)) = self.chunks.remove(&handle.0) {
            self.by_turn.remove(&turn);
            self.bytes -= bytes.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_chunks_have_a_limit_and_the_one_unread_for_longest_goes() {
        let (kept, id, chunk) = (Kept::default(), ChunkId([1; 32]), Bytes::from(vec![0; 4 << 20]));
        for handle in 0..700 {
            kept.keep(Handle(handle), id, chunk.clone());
            assert!(kept.get(Handle(0), id).is_some(), "it was read from just now");
            assert!(kept.0.lock().bytes <= KEPT_BYTES_MAX);
        }
        assert!(kept.get(Handle(600), id).is_none() && kept.get(Handle(699), id).is_some());
        assert!(kept.get(Handle(699), ChunkId([2; 32])).is_none());
        (0..700).for_each(|handle| kept.forget(Handle(handle)));
        let left = kept.0.lock();
        assert!(left.bytes == 0 && left.chunks.is_empty() && left.by_turn.is_empty());
    }

    #[test]
    fn a_node_goes_with_its_last_holder_unless_something_is_unsaved() {
        let nodes = Nodes::new();
        let first = nodes.hold(Ino(20));
        let second = nodes.hold(Ino(20));
        drop(first);
        assert!(nodes.find(Ino(20)).is_some());
        second.state.write().changed = true;
        drop(second);
        nodes.find(Ino(20)).expect("it has something unsaved").state.write().changed = false;
        assert!(nodes.find(Ino(20)).is_none());
    }

    #[test]
    fn lookups_are_taken_back_one_by_one_or_all_at_once() {
        let lookups = Lookups::new();
        (0..3).for_each(|_| lookups.add(Ino(9)));
        assert!(!lookups.remove(Ino(9), 2));
        assert!(lookups.any(Ino(9)) && lookups.remove(Ino(9), 1) && !lookups.any(Ino(9)));
    }
}
