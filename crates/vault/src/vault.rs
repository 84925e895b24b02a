//! An open library: the calls of the room above, and the state they share with the tasks behind.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use haven_format::{
    ChunkId, Ino, Keys, Lsn, PackId, RootSeq, ShardId, TxSeq, codec,
    record::{self, ChunkPlace, Op, Totals, Tx},
    root::Root,
};
use haven_store::DynStore;
use parking_lot::{Mutex, RwLock};
use prost::Message;
use quick_cache::{Weighter, sync::Cache};
use rayon::prelude::*;
use tokio::sync::{Notify, watch};

use crate::{
    Change, Need, Result, VaultError, View,
    budget::Budget,
    check,
    claim::Turn,
    collect::CollectOptions,
    fetch::Fetches,
    journal::{Journal, Record, What},
    packs::{FinishedPack, Packs},
    shards::Shards,
    snapshots::Past,
    status::Counters,
    table::Table,
    world::World,
};

/// Unsent changes may take this much memory; then writers wait.
const UNSENT_MAX: usize = 48 << 20;
/// Changes since the last checkpoint may take this much memory; then writers wait.
const TABLE_MAX: usize = 160 << 20;
/// Memory for chunks that are read piecemeal, in bytes.
const CHUNK_CACHE_BYTES: u64 = 48 << 20;

/// How a library is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bytes the cache directory may hold, at least 256 MiB. Never exceeded.
    pub cache_limit: u64,
    /// What is fetched of files is kept in the cache directory. Without it it is kept in memory for a while, at most
    /// 128 MiB: for who reads each file once, and is to write nothing for it.
    pub keeps_data: bool,
    pub read_only: bool,
    /// How long changes wait for company before they are sent.
    pub send_after: Duration,
    /// How long changes may be on this machine without being synced to its disk.
    pub sync_after: Duration,
    /// A checkpoint is made when this much time has passed since the last and something has changed, …
    pub checkpoint_after: Duration,
    /// … or when the changes since take this much memory.
    pub checkpoint_bytes: usize,
    /// How often a reader looks for what the writer has sent.
    pub follow_every: Duration,
    /// Packs in flight at once.
    pub uploads: usize,
    pub collect: CollectOptions,
    /// Accept a store that has gone back to an older state than this machine has seen.
    pub accept_rollback: bool,
    /// Show this machine's unsent changes on top of the state they were made on, and write nothing to the bucket.
    /// For getting them out when another machine has gone on without them.
    pub salvage: bool,
    /// Nothing is ever sent: for tests of what stands above.
    pub local_only: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cache_limit: 10 << 30,
            keeps_data: true,
            read_only: false,
            send_after: Duration::from_millis(1000),
            sync_after: Duration::from_millis(1000),
            checkpoint_after: Duration::from_secs(600),
            checkpoint_bytes: 32 << 20,
            follow_every: Duration::from_secs(2),
            uploads: 4,
            collect: CollectOptions::default(),
            accept_rollback: false,
            salvage: false,
            local_only: false,
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct ByLength;

impl Weighter<ChunkId, Bytes> for ByLength {
    fn weight(&self, _: &ChunkId, chunk: &Bytes) -> u64 {
        chunk.len() as u64 + 64
    }
}

/// The end of the log, guarded by one lock that every commit takes.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) journal: Journal,
    pub(crate) seq: TxSeq,
    pub(crate) totals: Totals,
    /// Committed, not yet in a segment, oldest first.
    pub(crate) unsent: VecDeque<Tx>,
    pub(crate) unsent_bytes: usize,
    /// Segments end at these transactions: checkpoints wait for them.
    pub(crate) cuts: VecDeque<TxSeq>,
    /// The log's state at those cuts.
    pub(crate) marks: BTreeMap<TxSeq, Sent>,
    /// Packs that must be in the bucket before the next segment is.
    pub(crate) packs_due: Vec<PackId>,
}

/// The last segment the bucket has acknowledged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) lsn: Lsn,
    pub(crate) segment: String,
    pub(crate) hash: Vec<u8>,
    pub(crate) seq: TxSeq,
    /// When the oldest change that is not sent yet was made (nanoseconds since the epoch, 0: none).
    pub(crate) behind_since: i64,
}

/// Why and since when nothing can be written.
#[derive(Debug, Clone)]
pub(crate) struct Stopped {
    pub(crate) why: String,
    pub(crate) fenced: bool,
}

/// An open library.
#[derive(Debug)]
pub struct Vault {
    pub(crate) world: World,
    pub(crate) keys: Keys,
    pub(crate) options: Options,
    pub(crate) budget: Arc<Budget>,
    pub(crate) table: Arc<Table>,
    pub(crate) packs: Arc<Packs>,
    pub(crate) head: Mutex<Head>,
    pub(crate) next_ino: AtomicU64,
    /// Put, not yet part of a commit.
    loose: Mutex<HashMap<ChunkId, ChunkPlace>>,
    pub(crate) chunks: Cache<ChunkId, Bytes, ByLength>,
    pub(crate) fetches: Fetches,
    pub(crate) turn: Option<Turn>,
    pub(crate) stopped: RwLock<Option<Stopped>>,
    pub(crate) sent: watch::Sender<Sent>,
    pub(crate) synced: Mutex<TxSeq>,
    /// Why no sync is believed any more.
    pub(crate) sync_failed: Mutex<Option<String>>,
    pub(crate) root: Mutex<Option<Arc<Root>>>,
    pub(crate) next_root: AtomicU64,
    /// Something was committed.
    pub(crate) dirty: Notify,
    /// Somebody waits for the log: don't wait for company.
    pub(crate) hurry: Notify,
    pub(crate) hurried: AtomicU64,
    /// Packs to upload.
    pub(crate) uploads: tokio::sync::mpsc::UnboundedSender<FinishedPack>,
    /// Packs on their way, and how long they are.
    pub(crate) uploading: Mutex<HashMap<PackId, u64>>,
    pub(crate) upload_done: Notify,
    pub(crate) checkpoint_wanted: Notify,
    pub(crate) checkpoints: watch::Sender<u64>,
    pub(crate) checkpointing: tokio::sync::Mutex<()>,
    /// Shards that a merge needed and could not have.
    pub(crate) unmerged: Mutex<HashSet<ShardId>>,
    pub(crate) collecting: tokio::sync::Mutex<()>,
    pub(crate) counters: Counters,
    /// States of the past that are in use or wait for a root, by the transaction they end with.
    pub(crate) past: Mutex<BTreeMap<TxSeq, Past>>,
    /// Chunks on record as having no good copy: what is stored again is not looked for there.
    pub(crate) lost: Mutex<HashSet<ChunkId>>,
    pub(crate) check_progress: check::Progress,
    /// What was found damaged: object and how.
    pub(crate) damage: Mutex<BTreeMap<String, String>>,
    /// Where tasks run; none for a library that only lives in memory.
    pub(crate) runtime: Option<tokio::runtime::Handle>,
    pub(crate) tasks: Mutex<Vec<tokio::task::JoinHandle<()>>>,
}

/// What `open` has put together.
pub(crate) struct Parts {
    pub(crate) world: World,
    pub(crate) keys: Keys,
    pub(crate) options: Options,
    pub(crate) budget: Arc<Budget>,
    pub(crate) packs: Arc<Packs>,
    pub(crate) table: Arc<Table>,
    pub(crate) head: Head,
    pub(crate) next_ino: u64,
    pub(crate) turn: Option<Turn>,
    pub(crate) sent: Sent,
    pub(crate) root: Option<Arc<Root>>,
    pub(crate) next_root: RootSeq,
}

/// Says how what is clean gives way: before anything needs the room.
pub(crate) fn let_give_way(budget: &Budget, packs: &Arc<Packs>, shards: &Arc<Shards>) {
    let (packs, shards) = (Arc::downgrade(packs), Arc::downgrade(shards));
    budget.evict_by(move |victim| match victim {
        crate::budget::Clean::Pack(id) => {
            if let Some(packs) = packs.upgrade() {
                packs.drop_clean(id);
            }
        }
        crate::budget::Clean::Shard(id) => {
            if let Some(shards) = shards.upgrade() {
                shards.drop_local(id);
            }
        }
    });
}

impl Vault {
    pub(crate) fn assemble(parts: Parts, uploads: tokio::sync::mpsc::UnboundedSender<FinishedPack>) -> Arc<Self> {
        let seq = parts.head.seq;
        let reading = parts.options.read_only || parts.options.salvage;
        let stopped = reading.then(|| Stopped { why: "it is mounted read-only".into(), fenced: false });
        Arc::new(Self {
            world: parts.world,
            keys: parts.keys,
            options: parts.options,
            budget: parts.budget,
            table: parts.table,
            packs: parts.packs,
            head: Mutex::new(parts.head),
            next_ino: AtomicU64::new(parts.next_ino),
            loose: Mutex::default(),
            chunks: Cache::with_weighter(256, CHUNK_CACHE_BYTES, ByLength),
            fetches: Fetches::default(),
            turn: parts.turn,
            stopped: RwLock::new(stopped),
            sent: watch::Sender::new(parts.sent),
            synced: Mutex::new(seq),
            sync_failed: Mutex::default(),
            root: Mutex::new(parts.root),
            next_root: AtomicU64::new(parts.next_root.0),
            dirty: Notify::new(),
            hurry: Notify::new(),
            hurried: AtomicU64::new(0),
            uploads,
            uploading: Mutex::default(),
            upload_done: Notify::new(),
            checkpoint_wanted: Notify::new(),
            checkpoints: watch::Sender::new(0),
            checkpointing: tokio::sync::Mutex::new(()),
            unmerged: Mutex::default(),
            collecting: tokio::sync::Mutex::new(()),
            counters: Counters::default(),
            past: Mutex::default(),
            lost: Mutex::default(),
            check_progress: check::Progress::default(),
            damage: Mutex::default(),
            runtime: tokio::runtime::Handle::try_current().ok(),
            tasks: Mutex::default(),
        })
    }

    /// The records as they are now.
    pub fn live(&self) -> View {
        View::live(self.table.clone())
    }

    /// A number never given out before (it becomes durable with the next commit).
    pub fn next_ino(&self) -> Ino {
        Ino(self.next_ino.fetch_add(1, Ordering::Relaxed))
    }

    /// Sums over the library after the last commit.
    pub fn totals(&self) -> Totals {
        self.head.lock().totals
    }

    /// The newest commit.
    pub fn head(&self) -> TxSeq {
        self.head.lock().seq
    }

    /// The newest commit that the bucket has acknowledged.
    pub fn uploaded(&self) -> TxSeq {
        self.sent.borrow().seq
    }

    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    pub fn store(&self) -> &DynStore {
        &self.world.store
    }

    /// Inodes that changes not yet acknowledged by the bucket have touched.
    pub fn unsent_inodes(&self) -> BTreeSet<Ino> {
        let head = self.head.lock();
        head.unsent.iter().flat_map(|tx| &tx.ops).filter_map(|op| record::key_inode(&op.key)).collect()
    }

    /// Why nothing can be written, if so.
    pub fn stopped(&self) -> Option<String> {
        self.stopped.read().as_ref().map(|stopped| stopped.why.clone())
    }

    pub(crate) fn shards(&self) -> &Arc<Shards> {
        &self.table.shards
    }

    pub(crate) fn writable(&self) -> Result<()> {
        match &*self.stopped.read() {
            Some(stopped) => Err(VaultError::ReadOnly { why: stopped.why.clone() }),
            None => Ok(()),
        }
    }

    /// Nothing is written from now on: to this machine's journal, to the log, or to the bucket.
    pub(crate) fn stop(&self, why: String, fenced: bool) {
        tracing::error!(why, "the library is read-only from now on");
        self.stopped.write().get_or_insert(Stopped { why, fenced });
        self.upload_done.notify_waiters();
        self.sent.send_modify(|_| {});
    }

    /// Makes all of `ops` true at once, in this order (a later op on a key wins). Visible to every view of `live`
    /// when it returns; durable after [`Vault::sync`].
    pub fn commit(&self, ops: Vec<Op>, change: Change) -> Result<TxSeq> {
        let mut head = self.head.lock();
        self.commit_with(&mut head, ops, change)
    }

    /// The same, for who holds the end of the log.
    pub(crate) fn commit_with(&self, head: &mut Head, ops: Vec<Op>, change: Change) -> Result<TxSeq> {
        self.writable()?;
        if self.log_is_full(head) {
            return Err(Need::Log.into());
        }
        let mut all = Vec::with_capacity(ops.len() + 2);
        let mut totals = head.totals;
        totals.inodes = totals.inodes.wrapping_add_signed(change.inodes);
        totals.file_bytes = totals.file_bytes.wrapping_add_signed(change.file_bytes);
        let mut loose = self.loose.lock();
        for (id, place) in loose.iter() {
            if self.lost.lock().remove(id) {
                all.push(Op { key: record::lost_key(*id), value: None });
            }
            totals.chunks += 1;
            totals.chunk_bytes += u64::from(place.plain_len);
            totals.sealed_bytes += u64::from(place.len);
            all.push(Op { key: record::chunk_key(*id), value: Some(place.encode_to_vec().into()) });
        }
        // The order in which a hash map tells them must not show.
        all.sort_by(|a, b| a.key.cmp(&b.key));
        all.extend(ops);
        self.append(head, all, totals)?;
        loose.clear();
        Ok(head.seq)
    }

    /// Enters in the index what was put and never referred to, so that it is seen when garbage is collected.
    pub(crate) fn commit_loose(&self) -> Result<()> {
        if !self.loose.lock().is_empty() {
            self.commit(Vec::new(), Change::default())?;
        }
        Ok(())
    }

    /// Whether changes must wait until more of the log is in the bucket, or in shards.
    pub(crate) fn log_is_full(&self, head: &Head) -> bool {
        let (active, frozen) = self.table.memory();
        head.unsent_bytes > UNSENT_MAX || active + frozen > TABLE_MAX
    }

    /// Journals and applies one transaction.
    pub(crate) fn append(&self, head: &mut Head, ops: Vec<Op>, totals: Totals) -> Result<()> {
        let tx = Tx {
            seq: head.seq.next().0,
            time: self.world.clock.now(),
            ops,
            next_ino: self.next_ino.load(Ordering::Relaxed),
            totals,
        };
        let bytes = tx.encoded_len() + 64;
        let record = Record::from(What::Tx(tx));
        self.journal(head, std::slice::from_ref(&record)).map_err(|error| self.relieved(error, Need::Log))?;
        let Some(What::Tx(tx)) = record.what else { unreachable!("just made") };
        self.table.apply(&tx.ops);
        head.seq = TxSeq(tx.seq);
        head.totals = totals;
        if self.options.local_only {
            let seq = head.seq;
            self.sent.send_modify(|sent| sent.seq = seq);
            return Ok(());
        }
        if head.unsent.is_empty() {
            let since = crate::world::nanos(tx.time);
            self.sent.send_modify(|sent| sent.behind_since = since);
        }
        head.unsent.push_back(tx);
        head.unsent_bytes += bytes;
        self.dirty.notify_one();
        if self.table.memory().0 > self.options.checkpoint_bytes {
            self.checkpoint_wanted.notify_one();
        }
        Ok(())
    }

    pub(crate) fn journal(&self, head: &mut Head, records: &[Record]) -> Result<()> {
        head.journal.append(records).inspect_err(|error| self.distrust(error))
    }

    /// Of a full disk: makes room where something can give way, tells people, and says what to wait for. The bucket takes
    /// what is here one day. Other errors stay as they are.
    fn relieved(&self, error: VaultError, need: Need) -> VaultError {
        if self.relieve(&error) { need.into() } else { error }
    }

    /// Whether it says that the disk is full; then something gives way.
    pub(crate) fn relieve(&self, error: &VaultError) -> bool {
        let VaultError::Local { detail, full: true } = error else { return false };
        self.counters
            .note(format!("the disk of the cache directory is full ({detail}); writers wait until there is room"));
        self.budget.squeeze();
        true
    }

    /// Stores a chunk (at most [`haven_format::chunk::CHUNK_MAX`] bytes) unless it is there already, and says where.
    /// The caller commits a record that refers to it next; a chunk nobody refers to is swept up later.
    pub fn put(&self, plain: &[u8]) -> Result<(ChunkId, ChunkPlace)> {
        self.put_hashed(self.keys.chunk_id(plain), plain)
    }

    /// Stores several chunks, as [`Vault::put`] does one, and says of each where it is. They are hashed and compressed
    /// side by side where the machine has room. What was stored before an error stays stored: calling again is cheap.
    pub fn put_all(&self, plain: &[&[u8]]) -> Result<Vec<(ChunkId, ChunkPlace)>> {
        if !self.world.threads || plain.len() < 2 {
            return plain.iter().map(|chunk| self.put(chunk)).collect();
        }
        self.writable()?;
        let hash = |chunk: &&[u8]| self.keys.chunk_id(chunk);
        let ids: Vec<ChunkId> = plain.par_iter().map(hash).collect();
        ids.into_iter().zip(plain).map(|(id, chunk)| self.put_hashed(id, chunk)).collect()
    }

    fn put_hashed(&self, id: ChunkId, plain: &[u8]) -> Result<(ChunkId, ChunkPlace)> {
        self.writable()?;
        if let Some(place) = self.known(id)? {
            self.counters.put_bytes.fetch_add(plain.len() as u64, Ordering::Relaxed);
            self.counters.dedup_bytes.fetch_add(plain.len() as u64, Ordering::Relaxed);
            return Ok((id, place));
        }
        let place = self.packs.append(id, plain.len(), &codec::prepare(plain));
        let place = place.map_err(|error| self.relieved(error, Need::Space { bytes: plain.len() as u64 }))?;
        self.counters.put_bytes.fetch_add(plain.len() as u64, Ordering::Relaxed);
        self.loose.lock().insert(id, place.clone());
        if self.packs.has_finished() {
            let offered = self.offer_uploads(&mut self.head.lock(), false);
            offered.map_err(|error| self.relieved(error, Need::Log))?;
        }
        Ok((id, place))
    }

    pub(crate) fn known(&self, id: ChunkId) -> Result<Option<ChunkPlace>> {
        if let Some(place) = self.loose.lock().get(&id) {
            return Ok(Some(place.clone()));
        }
        if self.lost.lock().contains(&id) {
            return Ok(None);
        }
        self.place_of(id)
    }

    /// Where the chunk is, if it is one the library keeps: new records may refer to it there.
    pub fn kept(&self, id: ChunkId) -> Result<Option<ChunkPlace>> {
        self.known(id)
    }

    /// Where the chunk index says a chunk is.
    pub(crate) fn place_of(&self, id: ChunkId) -> Result<Option<ChunkPlace>> {
        let Some(value) = self.live().get(&record::chunk_key(id))? else { return Ok(None) };
        let place = ChunkPlace::decode(value).map_err(|_| self.damaged(id.to_string(), "its place is unreadable"))?;
        Ok(Some(place))
    }

    /// Enters finished packs in the library's own list and hands them to the uploader.
    pub(crate) fn offer_uploads(&self, head: &mut Head, close_open: bool) -> Result<()> {
        let finished = self.packs.take_finished(close_open)?;
        if finished.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.list_packs(head, &finished) {
            self.packs.put_back(finished);
            return Err(error);
        }
        for pack in finished {
            head.packs_due.push(pack.id);
            self.uploading.lock().insert(pack.id, pack.bytes);
            // The receiver lives as long as the vault's tasks; after that nothing is uploaded any more.
            let _ = self.uploads.send(pack);
        }
        Ok(())
    }

    pub(crate) fn list_packs(&self, head: &mut Head, finished: &[FinishedPack]) -> Result<()> {
        let now = self.world.clock.now().seconds;
        let mut totals = head.totals;
        let mut ops = Vec::with_capacity(finished.len());
        for pack in finished {
            let key = record::pack_key(pack.id);
            // A pack recovered after a crash may be listed already.
            if self.live().get(&key)?.is_none() {
                totals.packs += 1;
                totals.pack_bytes += pack.bytes;
            }
            ops.push(Op { key, value: Some(pack.info(now).encode_to_vec().into()) });
        }
        self.append(head, ops, totals)
    }

    pub(crate) fn damaged(&self, object: String, detail: &str) -> VaultError {
        self.damage.lock().insert(object.clone(), detail.to_owned());
        VaultError::Damaged { object, detail: detail.to_owned() }
    }
}
