//! What an open library tells of itself.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use haven_format::record::Totals;
use haven_store::StoreError;
use parking_lot::Mutex;
use serde::Serialize;

use crate::{Vault, world::nanos};

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) put_bytes: AtomicU64,
    pub(crate) dedup_bytes: AtomicU64,
    pub(crate) read_bytes: AtomicU64,
    pub(crate) uploaded_bytes: AtomicU64,
    pub(crate) syncs: AtomicU64,
    errors: AtomicU64,
    /// The last trouble, until something works again.
    trouble: Mutex<Option<String>>,
}

impl Counters {
    /// The store failed; somebody is trying again.
    pub(crate) fn trouble(&self, error: &StoreError) {
        self.note(error.to_string());
    }

    pub(crate) fn note(&self, what: String) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        let mut trouble = self.trouble.lock();
        if trouble.as_ref() != Some(&what) {
            tracing::warn!(trouble = what, "in trouble; trying again");
            *trouble = Some(what);
        }
    }

    pub(crate) fn worked(&self) {
        let mut trouble = self.trouble.lock();
        if trouble.take().is_some() {
            tracing::info!("the store works again");
        }
    }
}

/// A library at a glance. Sizes in bytes.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    pub library: String,
    pub store: String,
    pub writable: bool,
    /// Why it is not writable.
    pub stopped: Option<String>,
    /// Whether another machine has taken over.
    pub fenced: bool,
    pub epoch: u64,
    /// The newest change, and the newest that the bucket has.
    pub head: u64,
    pub uploaded: u64,
    /// Age in seconds of the oldest change that the bucket does not have; 0: it has everything.
    pub recovery_point_seconds: f64,
    /// Seconds since the epoch of that change; `None`: the bucket has everything.
    pub unsent_since: Option<f64>,
    /// Changes not in the bucket, and bytes of packs on their way.
    pub unsent_changes: u64,
    pub pending_packs: u64,
    pub pending_bytes: u64,
    pub cache_limit: u64,
    pub cache_used: u64,
    /// How much of it could be given up at once.
    pub cache_clean: u64,
    /// Position of the log and of the last checkpoint.
    pub lsn: u64,
    pub root_lsn: u64,
    pub table_bytes: u64,
    pub errors: u64,
    pub trouble: Option<String>,
    /// Objects found damaged, and how.
    pub damage: Vec<(String, String)>,
    pub put_bytes: u64,
    pub dedup_bytes: u64,
    pub read_bytes: u64,
    pub uploaded_bytes: u64,
    pub syncs: u64,
    #[serde(flatten)]
    pub sums: Sums,
}

/// Sums over the whole library.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Sums {
    pub inodes: u64,
    pub file_bytes: u64,
    pub chunks: u64,
    pub chunk_bytes: u64,
    pub sealed_bytes: u64,
    pub packs: u64,
    pub pack_bytes: u64,
}

impl From<Totals> for Sums {
    fn from(totals: Totals) -> Self {
        let Totals { inodes, file_bytes, chunks, chunk_bytes, sealed_bytes, packs, pack_bytes } = totals;
        Self { inodes, file_bytes, chunks, chunk_bytes, sealed_bytes, packs, pack_bytes }
    }
}

impl Vault {
    pub fn status(self: &Arc<Self>) -> Status {
        let (head, totals, unsent) = {
            let head = self.head.lock();
            (head.seq, head.totals, head.unsent.len() as u64)
        };
        let sent = self.sent.borrow().clone();
        let stopped = self.stopped.read().clone();
        let (pending_packs, pending_bytes) = {
            let uploading = self.uploading.lock();
            (uploading.len() as u64, uploading.values().sum())
        };
        let (used, clean) = self.budget.used();
        let (active, frozen) = self.table.memory();
        let behind = unsent > 0 && sent.behind_since > 0;
        let age = nanos(self.world.clock.now()).saturating_sub(sent.behind_since).max(0) as f64 / 1e9;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Status {
            library: self.keys.library().to_string(),
            store: self.world.store.describe(),
            writable: stopped.is_none(),
            fenced: stopped.as_ref().is_some_and(|stopped| stopped.fenced),
            stopped: stopped.map(|stopped| stopped.why),
            epoch: self.turn.map_or(0, |turn| turn.epoch.0),
            head: head.0,
            uploaded: sent.seq.0,
            recovery_point_seconds: if behind { age } else { 0.0 },
            unsent_since: behind.then_some(sent.behind_since as f64 / 1e9),
            unsent_changes: unsent,
            pending_packs,
            pending_bytes,
            cache_limit: self.budget.limit(),
            cache_used: used,
            cache_clean: clean,
            lsn: sent.lsn.0,
            root_lsn: self.root.lock().as_ref().map_or(0, |root| root.lsn),
            table_bytes: (active + frozen) as u64,
            errors: count(&self.counters.errors),
            trouble: self.counters.trouble.lock().clone(),
            damage: self.damage.lock().iter().map(|(object, how)| (object.clone(), how.clone())).collect(),
            put_bytes: count(&self.counters.put_bytes),
            dedup_bytes: count(&self.counters.dedup_bytes),
            read_bytes: count(&self.counters.read_bytes),
            uploaded_bytes: count(&self.counters.uploaded_bytes),
            syncs: count(&self.counters.syncs),
            sums: totals.into(),
        }
    }
}
