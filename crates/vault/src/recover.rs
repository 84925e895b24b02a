//! Opening a library: the bucket's state, this machine's unsent tail, and the right to write.
//! ```text
//!     bucket:  root ── segment ── segment          journal:  … sent │ unsent tail     staging: packs of the tail
//!                                       └───────────────────────────┘ continues here
//! ```
//! The tail is taken as far as its chunks are whole: a prefix of what was committed, and at least all that was synced.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use futures::stream::{self, StreamExt, TryStreamExt};
use haven_format::{
    Keys, LibraryId, PackId, TxSeq,
    pack::PackedChunk,
    record::{self, ChunkPlace, Tx},
};
use haven_store::StoreError;
use prost::Message;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::{
    Result, Vault, VaultError,
    budget::Budget,
    claim::{self, object},
    journal::{Journal, Record, Replay, Session, What},
    load::{self, Loaded},
    local,
    packs::{FinishedPack, Packs, Remembered},
    shards::Shards,
    snapshots,
    table::Table,
    vault::{Head, Options, Parts, Sent},
    world::World,
};

const MARKER: &str = "library";

impl Vault {
    /// Opens the library in `world.store`. Must be called inside a tokio runtime, which the vault's tasks will use.
    pub async fn open(world: World, keys: Keys, options: Options) -> Result<Arc<Self>> {
        if options.cache_limit < Budget::LIMIT_MIN {
            return Err(VaultError::Refused(format!("the cache needs at least {} MiB", Budget::LIMIT_MIN >> 20)));
        }
        check_marker(&world, keys.library())?;
        let budget = Arc::new(Budget::new(options.cache_limit));
        let packs = Arc::new(Packs::new(world.clone(), keys.clone(), budget.clone()));
        let shards = Arc::new(Shards::new(world.clone(), keys.clone(), budget.clone()));
        let (journal, replay) = if options.read_only && !options.salvage {
            (Journal::empty(world.clone(), keys.clone(), budget.clone()), Replay::default())
        } else {
            Journal::open(world.clone(), keys.clone(), budget.clone())?
        };
        let mut tail = Tail::read(replay)?;
        let loaded = if options.salvage && !tail.known.segment.is_empty() {
            load::at(&*world.store, &keys, &tail.known.segment).await?
        } else if options.read_only {
            load::readable(&*world.store, &keys).await?
        } else {
            load::newest(&*world.store, &keys).await?
        };
        refuse_gaps(&loaded, &options)?;
        if !options.salvage {
            tail.check_joins(&loaded, &options)?;
        }
        tail.txs.retain(|tx| tx.seq > loaded.head.seq.0);
        let (tail, unlisted) = recover_staging(&world, &packs, tail, &options).await?;
        shards.adopt()?;
        packs.adopt_clean()?;

        let (turn, loaded) = if options.read_only || options.salvage {
            (None, loaded)
        } else {
            let turn = claim::take(&world, &keys, &loaded.head.segment).await?;
            (Some(turn), reload_if_moved(&world, &keys, loaded, &tail).await?)
        };
        let runs = loaded.root.as_ref().map(|root| root.runs.clone()).unwrap_or_default();
        let table = Arc::new(Table::new(shards.clone(), runs));
        let mut past = BTreeMap::new();
        loaded.txs.iter().chain(&tail.txs).for_each(|tx| snapshots::replay(&table, tx, &mut past));

        let mut head = Head {
            journal,
            seq: tail.txs.last().map_or(loaded.head.seq, |tx| TxSeq(tx.seq)),
            totals: tail.txs.last().map_or(loaded.totals, |tx| tx.totals),
            unsent_bytes: tail.txs.iter().map(|tx| tx.encoded_len() + 64).sum(),
            unsent: tail.txs.into(),
            cuts: Default::default(),
            marks: Default::default(),
            packs_due: Vec::new(),
        };
        for seq in past.keys().copied() {
            if seq > loaded.head.seq {
                head.cuts.push_back(seq);
            } else {
                head.marks.insert(seq, snapshots::sent_before(&loaded.ends, seq));
            }
        }
        if let Some(turn) = turn {
            let session = Session {
                epoch: turn.epoch.0,
                nonce: turn.nonce.0.to_vec(),
                segment: loaded.head.segment.clone(),
                tx: loaded.head.seq.0,
            };
            let mut records = vec![Record::from(What::Session(session))];
            records.extend(head.unsent.iter().cloned().map(|tx| Record::from(What::Tx(tx))));
            head.journal.restart(&records)?;
        }
        let behind_since = head.unsent.front().map_or(0, |tx| crate::world::nanos(tx.time));
        let next_ino = head.unsent.iter().map(|tx| tx.next_ino).fold(loaded.next_ino, u64::max);
        let (uploads, packs_to_send) = tokio::sync::mpsc::unbounded_channel();
        let parts = Parts {
            world,
            keys,
            options,
            budget,
            shards,
            packs,
            table,
            head,
            next_ino,
            turn,
            sent: Sent { behind_since, ..loaded.head },
            root: loaded.root.map(Arc::new),
            next_root: loaded.next_root,
        };
        let vault = Self::assemble(parts, uploads);
        *vault.past.lock() = past;
        for (object, detail) in loaded.passed_over {
            vault.damage.lock().insert(object, detail);
        }
        let lost = vault.when_settled(|| vault.live().scan(record::lost(), 100_000)).await?;
        *vault.lost.lock() = lost.iter().filter_map(|(key, _)| record::key_lost(key)).collect();
        vault.start(packs_to_send, unlisted);
        Ok(vault)
    }

    /// Enters packs in the library's list that a crash has cut off from it.
    pub(crate) async fn list_again(self: &Arc<Self>, packs: Vec<FinishedPack>) -> Result<()> {
        for pack in packs {
            self.when_settled(|| {
                if self.live().get(&record::pack_key(pack.id))?.is_some() {
                    return Ok(());
                }
                let mut head = self.head.lock();
                self.list_packs(&mut head, std::slice::from_ref(&pack))?;
                head.packs_due.push(pack.id);
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// Forgets this machine's unsent changes, for good: after they were saved, or because nobody wants them.
    pub fn forget_unsent(world: &World) -> Result<()> {
        for folder in ["journal", "staging"] {
            for name in world.disk.list(folder).map_err(local)? {
                world.disk.remove(&format!("{folder}/{name}")).map_err(local)?;
            }
            world.disk.sync_folder(folder).map_err(local)?;
        }
        Ok(())
    }

    /// A library in memory that nothing is ever sent from: for tests of what stands above. Needs no runtime.
    pub fn in_memory() -> Arc<Self> {
        let world = World {
            store: Arc::new(haven_store::memory::Memory::new()),
            disk: crate::disk::MemoryDisk::new(),
            clock: Arc::new(crate::world::SystemClock),
            dice: Arc::new(crate::world::Dice::from_seed(0)),
            host: "memory".into(),
            threads: false,
        };
        let keys = Keys::new(LibraryId([0; 16]), &haven_format::MasterKey([0; 32]));
        let options = Options { local_only: true, cache_limit: 64 << 30, ..Options::default() };
        let budget = Arc::new(Budget::new(options.cache_limit));
        let packs = Arc::new(Packs::new(world.clone(), keys.clone(), budget.clone()));
        let shards = Arc::new(Shards::new(world.clone(), keys.clone(), budget.clone()));
        let head = Head {
            journal: Journal::empty(world.clone(), keys.clone(), budget.clone()),
            seq: TxSeq(0),
            totals: Default::default(),
            unsent: Default::default(),
            unsent_bytes: 0,
            cuts: Default::default(),
            marks: Default::default(),
            packs_due: Vec::new(),
        };
        let parts = Parts {
            table: Arc::new(Table::new(shards.clone(), Vec::new())),
            world,
            keys,
            options,
            budget,
            shards,
            packs,
            head,
            next_ino: haven_format::Ino::FIRST.0,
            turn: None,
            sent: Sent::default(),
            root: None,
            next_root: haven_format::RootSeq(1),
        };
        Self::assemble(parts, tokio::sync::mpsc::unbounded_channel().0)
    }

    fn start(self: &Arc<Self>, packs: UnboundedReceiver<FinishedPack>, unlisted: Vec<FinishedPack>) {
        let mut tasks = self.tasks.lock();
        if self.options.salvage {
            return;
        }
        tasks.extend(self.spawn(self.clone().warm_task()));
        if self.options.read_only {
            tasks.extend(self.spawn(self.clone().follow_task()));
            return;
        }
        tasks.extend(self.spawn(self.clone().upload_task(packs)));
        tasks.extend(self.spawn(self.clone().log_task(unlisted)));
        tasks.extend(self.spawn(self.clone().sync_task()));
        tasks.extend(self.spawn(self.clone().checkpoint_task()));
        tasks.extend(self.spawn(self.clone().collect_task()));
    }

    /// Ends the tasks. With `drain`, first sees everything into the bucket and leaves a checkpoint when the log has
    /// grown long; without, what is unsent waits safely on this machine's disk.
    pub async fn close(self: &Arc<Self>, drain: bool) -> Result<()> {
        let mut outcome = Ok(());
        if self.stopped.read().is_none() {
            if drain {
                outcome = self.drain().await;
            }
            let vault = self.clone();
            let synced = self.world.blocking(move || vault.sync(vault.head())).await;
            outcome = outcome.and(synced);
        }
        self.stopped
            .write()
            .get_or_insert(crate::vault::Stopped { why: "it has been unmounted".into(), fenced: false });
        self.fetches.close();
        let tasks = std::mem::take(&mut *self.tasks.lock());
        for task in tasks {
            task.abort();
            let _ = task.await;
        }
        outcome
    }

    async fn drain(self: &Arc<Self>) -> Result<()> {
        self.sync_bucket(self.head()).await?;
        let since_root = {
            let root = self.root.lock().as_ref().map_or(0, |root| root.lsn);
            self.sent.borrow().lsn.0 - root
        };
        // A long log makes the next mount on a fresh machine slow.
        if since_root > 8 || self.table.memory().0 > 1 << 20 {
            self.checkpoint().await?;
        }
        Ok(())
    }
}

/// A cache directory belongs to one library.
fn check_marker(world: &World, library: LibraryId) -> Result<()> {
    let text = library.to_string();
    match world.disk.open(MARKER) {
        Ok(file) => {
            let length = file.len().map_err(local)? as usize;
            let found = file.read_at(0, length).map_err(local)?;
            // An empty marker is one that a power cut has torn.
            if found.is_empty() || found == text.as_bytes() || found.iter().all(|byte| *byte == 0) {
                file.write_at(0, text.as_bytes()).map_err(local)
            } else {
                let other = String::from_utf8_lossy(&found).into_owned();
                Err(VaultError::Refused(format!(
                    "the cache directory belongs to another library ({other}); choose another directory for this one"
                )))
            }
        }
        Err(_) => {
            let file = world.disk.create(MARKER).map_err(local)?;
            file.write_at(0, text.as_bytes()).map_err(local)?;
            file.sync().map_err(local)?;
            world.disk.sync_folder(".").map_err(local)
        }
    }
}

fn refuse_gaps(loaded: &Loaded, options: &Options) -> Result<()> {
    match loaded.loose_ends.first() {
        Some(name) if !options.accept_rollback => Err(VaultError::Refused(format!(
            "the bucket's log has a gap: {name} is there, but not what leads to it. Writing now would give up what comes \
             after change {}. Mount read-only to look, or mount with --accept-rollback to go on from there",
            loaded.head.seq
        ))),
        _ => Ok(()),
    }
}

/// What this machine has committed and the bucket does not have.
#[derive(Debug, Default)]
struct Tail {
    txs: Vec<Tx>,
    /// Staged packs by what the whole journal says of them.
    packs: HashMap<PackId, Remembered>,
    /// Which change put which chunk, in order: change, pack, index among the pack's chunks.
    puts: Vec<(u64, PackId, usize)>,
    /// The last session, and the last segment it knew to be in the bucket.
    known: Session,
    /// All sessions, by epoch and nonce.
    sessions: HashSet<(u64, Vec<u8>)>,
    /// The newest change this machine has seen acknowledged.
    last_sent: u64,
}

impl Tail {
    fn read(replay: Replay) -> Result<Self> {
        let mut tail = Self::default();
        for record in replay.records {
            match record {
                What::Session(session) => {
                    tail.sessions.insert((session.epoch, session.nonce.clone()));
                    tail.last_sent = tail.last_sent.max(session.tx);
                    tail.known = session;
                }
                What::Sent(sent) => {
                    tail.last_sent = tail.last_sent.max(sent.tx);
                    tail.known.segment = sent.segment;
                }
                What::Tx(tx) => {
                    // A machine that went on after a torn tail writes the same numbers anew: the later ones count.
                    while tail.txs.last().is_some_and(|last| last.seq >= tx.seq) {
                        tail.txs.pop();
                    }
                    tail.txs.push(tx);
                }
                What::Tail(bytes) => {
                    if let Some(pack) = bytes.pack_id() {
                        tail.packs.entry(pack).or_default().tails.push(bytes);
                    }
                }
                What::Covered(covered) => {
                    if let Some(pack) = covered.pack_id() {
                        let known = &mut tail.packs.entry(pack).or_default().covered;
                        *known = covered.until.max(*known);
                    }
                }
            }
        }
        for tx in std::mem::take(&mut tail.txs) {
            tail.remember_puts(&tx)?;
            tail.txs.push(tx);
        }
        Ok(tail)
    }

    /// Whether what is unsent continues what the bucket has.
    fn check_joins(&self, loaded: &Loaded, options: &Options) -> Result<()> {
        let head = loaded.head.seq.0;
        if self.last_sent > head && !options.accept_rollback {
            return Err(VaultError::Refused(format!(
                "the store has gone back in time: this machine has seen change {} acknowledged, and the bucket ends with \
                 change {head}. Nothing was changed. Look for a restored or replaced bucket; to go on from the older state \
                 all the same, mount with --accept-rollback",
                self.last_sent
            )));
        }
        let fresh: Vec<u64> = self.txs.iter().map(|tx| tx.seq).filter(|seq| *seq > head).collect();
        let Some(first) = fresh.first() else { return Ok(()) };
        let writer = haven_format::layout::parse_segment(&loaded.head.segment);
        let ours = writer.is_some_and(|(_, epoch, nonce)| self.sessions.contains(&(epoch.0, nonce.0.to_vec())));
        let continues = *first == head + 1 && fresh.windows(2).all(|pair| pair[1] == pair[0] + 1);
        if (ours || self.known.segment == loaded.head.segment) && continues {
            return Ok(());
        }
        Err(VaultError::Diverged { changes: fresh.len() })
    }

    fn remember_puts(&mut self, tx: &Tx) -> Result<()> {
        for op in &tx.ops {
            let Some((chunk, value)) = record::key_chunk(&op.key).zip(op.value.clone()) else { continue };
            let place = ChunkPlace::decode(value).map_err(|error| load::damaged("the journal", error))?;
            let pack = place.pack_id().map_err(|error| load::damaged("the journal", error))?;
            let known = self.packs.entry(pack).or_default();
            self.puts.push((tx.seq, pack, known.chunks.len()));
            known.chunks.push(PackedChunk {
                id: chunk.0.to_vec(),
                offset: place.offset,
                len: place.len,
                plain_len: place.plain_len,
            });
        }
        Ok(())
    }
}

/// Makes the staged packs whole again, and cuts the tail before the first change whose chunks are not there.
/// Also tells which packs of it the bucket has already: that they are on record may have been cut off.
async fn recover_staging(
    world: &World,
    packs: &Packs,
    mut tail: Tail,
    options: &Options,
) -> Result<(Tail, Vec<FinishedPack>)> {
    if options.read_only && !options.salvage {
        return Ok((tail, Vec::new()));
    }
    let staged: HashSet<PackId> = packs.staged()?.into_iter().collect();
    let clean: HashSet<String> = world.disk.list("packs").map_err(local)?.into_iter().collect();
    let first_unsent = tail.txs.first().map_or(u64::MAX, |tx| tx.seq);
    let mut needed: HashMap<PackId, u64> = HashMap::new();
    for (seq, pack, _) in tail.puts.iter().filter(|(seq, ..)| *seq >= first_unsent) {
        needed.entry(*pack).or_insert(*seq);
    }
    // In a fixed order: a simulation must see the same requests each time.
    let mut ids: Vec<PackId> = staged.iter().chain(needed.keys()).copied().collect();
    ids.sort_unstable();
    ids.dedup();
    ids.retain(|id| staged.contains(id) || !clean.contains(&id.to_string()));
    // A pack that the bucket has is never sent again: what is left of it here may be torn.
    let in_bucket = found_in_bucket(world, &ids).await?;
    let mut recovered = Vec::new();
    let mut cut = u64::MAX;
    for id in ids {
        if in_bucket.contains_key(&id) {
            packs.discard_staged(id)?;
            continue;
        }
        let missing = packs.recover(id, tail.packs.entry(id).or_default())?;
        recovered.push(id);
        if let Some(missing) = missing {
            let bad = tail.puts.iter().filter(|(_, pack, index)| *pack == id && *index >= missing).map(|put| put.0);
            cut = cut.min(bad.min().unwrap_or(u64::MAX));
        }
    }
    tail.txs.retain(|tx| tx.seq < cut);
    let counts: HashSet<(PackId, usize)> =
        tail.puts.iter().filter(|(seq, ..)| *seq < cut).map(|(_, pack, index)| (*pack, *index)).collect();
    for id in recovered {
        let known = &tail.packs[&id];
        let whole = known.chunks.iter().enumerate().filter(|(index, _)| counts.contains(&(id, *index)));
        let mut chunks: Vec<PackedChunk> = whole.map(|(_, chunk)| chunk.clone()).collect();
        chunks.sort_by_key(|chunk| chunk.offset);
        packs.finish_recovered(id, chunks)?;
    }
    world.disk.sync_folder("staging").map_err(local)?;
    let chunks = |id: PackId| counts.iter().filter(|(pack, _)| *pack == id).count() as u32;
    let mut landed: Vec<_> =
        in_bucket.iter().map(|(id, bytes)| FinishedPack { id: *id, bytes: *bytes, chunks: chunks(*id) }).collect();
    landed.retain(|pack| pack.chunks > 0);
    landed.sort_by_key(|pack| pack.id);
    Ok((tail, landed))
}

/// Those of the packs that the bucket has, and how long they are.
async fn found_in_bucket(world: &World, ids: &[PackId]) -> Result<HashMap<PackId, u64>> {
    let look = |id: PackId| async move {
        match world.store.head(&object(&haven_format::layout::pack(id))).await {
            Ok(meta) => Ok(Some((id, meta.bytes))),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(VaultError::from(error)),
        }
    };
    let found: Vec<Option<(PackId, u64)>> =
        stream::iter(ids.iter().copied().map(look)).buffered(16).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

/// After our claim the log is listed once more: what the one before us sent meanwhile is part of history.
async fn reload_if_moved(world: &World, keys: &Keys, mut loaded: Loaded, tail: &Tail) -> Result<Loaded> {
    let (segments, _) = load::chain(&*world.store, keys, &loaded.head).await?;
    if !segments.is_empty() && !tail.txs.is_empty() {
        return Err(VaultError::Refused(
            "another machine is writing to the library at this moment; try again when it has stopped".into(),
        ));
    }
    for (name, segment, hash) in segments {
        loaded.follow(name, segment, hash)?;
    }
    Ok(loaded)
}
