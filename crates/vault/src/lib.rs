//! Bytes by content and records by key, kept in a bucket. Knows nothing of POSIX.
//!
//! Calls that only touch what is on this machine are plain functions and never wait for the network. Where something
//! must be fetched, or room made, they return [`VaultError::Need`] without having changed anything: the caller awaits
//! [`Vault::settle`] and calls again. So a FUSE thread answers at once where it can, and a simulation can stop the
//! world between any two steps.

mod error;

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use bytes::Bytes;
use haven_format::{
    ChunkId, Ino, TxSeq,
    record::{ChunkPlace, Key, Op, Totals},
};
use parking_lot::{Mutex, RwLock};

pub use error::{Need, VaultError};

type Result<T, E = VaultError> = std::result::Result<T, E>;

/// How sums change with a transaction. Added to [`Totals`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Change {
    pub inodes: i64,
    pub file_bytes: i64,
}

#[derive(Debug, Default)]
struct State {
    records: BTreeMap<Key, Bytes>,
    seq: u64,
    totals: Totals,
}

/// An open library.
#[derive(Debug)]
pub struct Vault {
    state: Arc<RwLock<State>>,
    next_ino: Mutex<u64>,
    chunks: Mutex<BTreeMap<ChunkId, Bytes>>,
}

/// The record space at one moment, or as it is now.
#[derive(Debug, Clone)]
pub struct View {
    state: Arc<RwLock<State>>,
}

impl View {
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        Ok(self.state.read().records.get(key).cloned())
    }

    /// The first records in `range`, in key order, at most `limit`.
    pub fn scan(&self, range: Range<Key>, limit: usize) -> Result<Vec<(Key, Bytes)>> {
        Ok(self.state.read().records.range(range).take(limit).map(|(k, v)| (k.clone(), v.clone())).collect())
    }

    /// The last record in `range`.
    pub fn last(&self, range: Range<Key>) -> Result<Option<(Key, Bytes)>> {
        Ok(self.state.read().records.range(range).next_back().map(|(k, v)| (k.clone(), v.clone())))
    }
}

impl Vault {
    /// A library in memory, for tests of what stands above.
    pub fn in_memory() -> Arc<Self> {
        Arc::new(Self { state: Arc::default(), next_ino: Mutex::new(Ino::FIRST.0), chunks: Mutex::default() })
    }

    /// The records as they are now.
    pub fn live(&self) -> View {
        View { state: self.state.clone() }
    }

    /// A number never given out before (it becomes durable with the next commit).
    pub fn next_ino(&self) -> Ino {
        let mut next = self.next_ino.lock();
        *next += 1;
        Ino(*next - 1)
    }

    /// Sums over the library after the last commit.
    pub fn totals(&self) -> Totals {
        self.state.read().totals
    }

    /// Makes all of `ops` true at once, in this order (a later op on a key wins). Visible to every view of `live`
    /// when it returns; durable after [`Vault::sync`].
    pub fn commit(&self, ops: Vec<Op>, change: Change) -> Result<TxSeq> {
        let mut state = self.state.write();
        for op in ops {
            match op.value {
                Some(value) => state.records.insert(op.key, value),
                None => state.records.remove(&op.key),
            };
        }
        state.totals.inodes = state.totals.inodes.wrapping_add_signed(change.inodes);
        state.totals.file_bytes = state.totals.file_bytes.wrapping_add_signed(change.file_bytes);
        state.seq += 1;
        Ok(TxSeq(state.seq))
    }

    /// Stores a chunk (at most [`haven_format::chunk::CHUNK_MAX`] bytes) unless it is there already, and says where.
    /// The caller commits a record that refers to it next; a chunk nobody refers to is swept up later.
    pub fn put(&self, plain: &[u8]) -> Result<(ChunkId, ChunkPlace)> {
        let id = ChunkId(*blake3_stub(plain));
        self.chunks.lock().insert(id, Bytes::copy_from_slice(plain));
        Ok((id, ChunkPlace { plain_len: plain.len() as u32, ..Default::default() }))
    }

    /// The plain bytes of a chunk. `place` is where it was when the reference was written.
    pub fn chunk(&self, id: ChunkId, _place: Option<&ChunkPlace>) -> Result<Bytes> {
        let gone = || VaultError::Damaged { object: id.to_string(), detail: "not found".into() };
        self.chunks.lock().get(&id).cloned().ok_or_else(gone)
    }

    /// Begins to fetch chunks that will soon be read. Never fails, never waits.
    pub fn prefetch(&self, _wanted: &[(ChunkId, ChunkPlace)]) {}

    /// Returns when every commit up to `seq`, and the chunks put before it, survive a power cut.
    /// Blocks on the local disk, never on the network.
    pub fn sync(&self, _seq: TxSeq) -> Result<()> {
        Ok(())
    }

    /// Returns when every commit up to `seq` is in the bucket and acknowledged there.
    pub async fn sync_bucket(&self, _seq: TxSeq) -> Result<()> {
        Ok(())
    }

    /// The newest commit.
    pub fn head(&self) -> TxSeq {
        TxSeq(self.state.read().seq)
    }

    /// Returns when `need` is met, or with the error that says why it never will be.
    pub async fn settle(&self, _need: &Need) -> Result<()> {
        Ok(())
    }
}

fn blake3_stub(plain: &[u8]) -> Box<[u8; 32]> {
    let keys = haven_format::Keys::new(haven_format::LibraryId([0; 16]), &haven_format::MasterKey([0; 32]));
    Box::new(keys.chunk_id(plain).0)
}
