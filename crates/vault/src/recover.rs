//! Opening a library: the bucket's state, this machine's unsent tail, and the right to write.
//! ```text
//!     bucket:  root ── segment ── segment          journal:  … sent │ unsent tail     staging: packs of the tail
//!                                       └───────────────────────────┘ continues here
//! ```
//! The tail is taken as far as its chunks are whole: a prefix of what was committed, and at least all that was synced.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use haven_format::{Keys, LibraryId, PackId, TxSeq, record};
use prost::Message;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::{
    Result, Vault, VaultError,
    budget::Budget,
    claim,
    journal::{self, Journal, Record, Replay, Session, What},
    load::{self, Loaded},
    local,
    packs::{FinishedPack, Packs},
    shards::Shards,
    snapshots,
    table::Table,
    tail::{Tail, recover_staging},
    vault::{Head, Options, Parts, Sent, let_give_way},
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
        let packs = Arc::new(Packs::new(world.clone(), keys.clone(), budget.clone(), options.keeps_data));
        let shards = Arc::new(Shards::new(world.clone(), keys.clone(), budget.clone()));
        let_give_way(&budget, &packs, &shards);
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
        // What unsent changes name is not a reader's to give up; where that is not known, nothing is.
        let held = match &options {
            Options { salvage: true, .. } => None,
            Options { read_only: true, .. } => unsent_packs(&world, &keys).ok(),
            _ => Some(HashSet::new()),
        };
        packs.adopt_clean(|id| held.as_ref().is_none_or(|held| held.contains(&id)))?;

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
                retold: Some(head.unsent.len() as u64),
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
        let packs = Arc::new(Packs::new(world.clone(), keys.clone(), budget.clone(), options.keeps_data));
        let shards = Arc::new(Shards::new(world.clone(), keys.clone(), budget.clone()));
        let_give_way(&budget, &packs, &shards);
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
        if self.options.read_only {
            tasks.extend(self.spawn(self.clone().keep_warm_task()));
            tasks.extend(self.spawn(self.clone().follow_task()));
            return;
        }
        tasks.extend(self.spawn(self.clone().warm_task()));
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
        if let Err(error) = self.note_sent() {
            tracing::warn!(%error, "the journal does not say what the bucket has");
        }
        outcome
    }

    /// What the bucket has acknowledged must stand in the journal before another machine goes on: whether it has a change
    /// without a note could not be told then.
    fn note_sent(&self) -> Result<()> {
        if self.turn.is_none() {
            return Ok(());
        }
        let sent = self.sent.borrow().clone();
        let mark = What::Sent(journal::Sent { segment: sent.segment, tx: sent.seq.0 });
        let due = {
            let mut head = self.head.lock();
            self.journal(&mut head, &[mark.into()])?;
            head.journal.to_sync()
        };
        due.sync(&self.world)
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

/// Packs that changes name which this machine has not sent.
fn unsent_packs(world: &World, keys: &Keys) -> Result<HashSet<PackId>> {
    // They take no room of this mount's.
    let (_, replay) = Journal::open(world.clone(), keys.clone(), Arc::new(Budget::new(u64::MAX)))?;
    Ok(Tail::read(replay)?.unsent_packs())
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
