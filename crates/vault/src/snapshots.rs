//! Snapshots: named moments of the record space.
//! ```text
//!     taken: one record, the active layer frozen ─▶ readable at once from memory ─▶ a root of its own at the next checkpoint
//! ```
//! Promises: taking one costs the same at any size and waits for nothing but the lock that every commit takes; from
//! then on its state never changes. If the power goes: the record is in the log, so the layer is frozen again at the
//! same place when the log is replayed.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use haven_format::{
    TxSeq, layout,
    record::{self, Key, Op, Snapshot, Tx},
    root::Root,
};
use prost::Message;

use crate::{
    Change, Need, Result, Vault, VaultError, View,
    checkpoint::Position,
    claim::{list_all, object},
    table::{Layers, Table},
    vault::Sent,
};

/// Longest name of a snapshot in bytes: it must fit a directory entry.
pub const NAME_MAX: usize = 255;

/// A state of the past.
#[derive(Debug, Clone)]
pub(crate) struct Past {
    pub(crate) layers: Arc<Layers>,
    /// It waits for a root that stands here.
    pub(crate) waits: Option<Position>,
}

/// Why a snapshot's name can't be used, if so.
pub fn check_name(name: &[u8]) -> Result<(), &'static str> {
    match name {
        [] => Err("a name has at least one character"),
        b"." | b".." => Err("this name means a directory itself"),
        _ if name.len() > NAME_MAX => Err("a name has at most 255 bytes"),
        _ if name.iter().any(|byte| *byte == b'/' || *byte < b' ' || *byte == 0x7f) => {
            Err("a name has no slashes and no control characters")
        }
        _ if std::str::from_utf8(name).is_err() => Err("a name is UTF-8 text"),
        _ => Ok(()),
    }
}

/// Applies a transaction of the log; keeps the state after it where a snapshot was taken.
pub(crate) fn replay(table: &Table, tx: &Tx, past: &mut BTreeMap<TxSeq, Past>) {
    table.apply(&tx.ops);
    let taken = |op: &Op| {
        record::key_snapshot(&op.key).is_some()
            && op.value.clone().and_then(|value| Snapshot::decode(value).ok()).is_some_and(|s| s.seq == tx.seq)
    };
    if tx.ops.iter().any(taken) {
        let seq = TxSeq(tx.seq);
        table.freeze(seq);
        let waits = Some(Position { seq, next_ino: tx.next_ino, totals: tx.totals });
        past.insert(seq, Past { layers: Arc::new(table.layers()), waits });
    }
}

/// The log's state at the end of the last segment not after `seq`.
pub(crate) fn sent_before(ends: &[Sent], seq: TxSeq) -> Sent {
    ends.iter().rev().find(|end| end.seq <= seq).cloned().unwrap_or_default()
}

impl Vault {
    /// Takes a snapshot of everything committed so far, the record of the snapshot itself included.
    /// `by` says who or what takes it. It survives a power cut after [`Vault::sync`], as any commit does.
    pub fn take_snapshot(&self, name: &[u8], note: &str, by: &str) -> Result<Snapshot> {
        check_name(name).map_err(|why| VaultError::Refused(format!("a snapshot can't be called so: {why}")))?;
        let key = record::snapshot_key(name);
        // Twice: what has to come from the disk does so while nobody waits for the head.
        if self.live().get(&key)?.is_some() {
            return Err(taken(name));
        }
        let mut head = self.head.lock();
        if self.live().get(&key)?.is_some() {
            return Err(taken(name));
        }
        let snapshot = Snapshot {
            seq: head.seq.next().0,
            taken: self.world.clock.now(),
            note: note.to_owned(),
            host: self.world.host.clone(),
            by: by.to_owned(),
            totals: Some(head.totals),
            ..Snapshot::default()
        };
        let op = Op { key, value: Some(snapshot.encode_to_vec().into()) };
        let seq = self.commit_with(&mut head, vec![op], Change::default())?;
        debug_assert_eq!(seq.0, snapshot.seq);
        self.table.freeze(seq);
        self.cut_at(&mut head, seq);
        let waits = (!self.options.local_only).then(|| self.position(&head));
        self.past.lock().insert(seq, Past { layers: Arc::new(self.table.layers()), waits });
        self.checkpoint_wanted.notify_one();
        Ok(snapshot)
    }

    /// All snapshots, oldest first.
    pub fn snapshots(&self) -> Result<Vec<(Bytes, Snapshot)>> {
        let mut found = Vec::new();
        let mut range = record::snapshots();
        loop {
            let batch = self.live().scan(range.clone(), 1024)?;
            let Some((last, _)) = batch.last() else { break };
            range.start = after(last);
            for (key, value) in batch {
                let name = key.slice(1..);
                let snapshot = Snapshot::decode(value).map_err(|_| self.unreadable(&name))?;
                found.push((name, snapshot));
            }
        }
        found.sort_by_key(|(_, snapshot)| snapshot.seq);
        Ok(found)
    }

    pub fn snapshot(&self, name: &[u8]) -> Result<Option<Snapshot>> {
        let value = self.live().get(&record::snapshot_key(name))?;
        value.map(|value| Snapshot::decode(value).map_err(|_| self.unreadable(name))).transpose()
    }

    fn unreadable(&self, name: &[u8]) -> VaultError {
        self.damaged(format!("the snapshot {}", String::from_utf8_lossy(name)), "its record is unreadable")
    }

    /// The records as they were when it was taken.
    pub fn view_of(&self, snapshot: &Snapshot) -> Result<View> {
        let seq = TxSeq(snapshot.seq);
        if let Some(past) = self.past.lock().get(&seq) {
            return Ok(View::fixed(self.table.clone(), past.layers.clone()));
        }
        if snapshot.root.is_empty() {
            // A crash came between the root and its mention: it must be looked for.
            return Err(Need::Fetch { object: layout::ROOTS.into(), from: seq.0, to: 0, length: 0 }.into());
        }
        Err(Need::Fetch { object: snapshot.root.clone(), from: 0, to: 0, length: 0 }.into())
    }

    /// Changes a snapshot's record, or removes it when `change` returns `None`; `to` is its new name.
    fn change_snapshot(
        &self,
        name: &[u8],
        to: &[u8],
        change: impl FnOnce(Snapshot) -> Result<Option<Snapshot>>,
    ) -> Result<TxSeq> {
        let mut head = self.head.lock();
        let Some(snapshot) = self.snapshot(name)? else { return Err(missing(name)) };
        let mut ops = Vec::new();
        if name != to {
            if self.snapshot(to)?.is_some() {
                return Err(taken(to));
            }
            ops.push(Op { key: record::snapshot_key(name), value: None });
        }
        let value = change(snapshot)?.map(|snapshot| snapshot.encode_to_vec().into());
        ops.push(Op { key: record::snapshot_key(to), value });
        self.commit_with(&mut head, ops, Change::default())
    }

    pub fn rename_snapshot(&self, name: &[u8], to: &[u8]) -> Result<TxSeq> {
        check_name(to).map_err(|why| VaultError::Refused(format!("a snapshot can't be called so: {why}")))?;
        self.change_snapshot(name, to, |snapshot| Ok(Some(snapshot)))
    }

    /// `until` in seconds since the Unix epoch; 0 takes the protection away. It can only be made longer, unless
    /// `shorten`.
    pub fn protect_snapshot(&self, name: &[u8], until: i64, shorten: bool) -> Result<TxSeq> {
        self.change_snapshot(name, name, |snapshot| {
            if until < snapshot.protected_until && !shorten {
                return Err(VaultError::Refused(
                    "it is protected for longer already, and a protection is only shortened when that is asked for by \
                     its own flag"
                        .into(),
                ));
            }
            Ok(Some(Snapshot { protected_until: until, ..snapshot }))
        })
    }

    /// Refused while it is protected.
    pub fn remove_snapshot(&self, name: &[u8]) -> Result<TxSeq> {
        let now = self.world.clock.now().seconds;
        self.change_snapshot(name, name, |snapshot| {
            if snapshot.protected_until > now {
                return Err(VaultError::Refused(format!(
                    "the snapshot {} is protected, and stays",
                    String::from_utf8_lossy(name)
                )));
            }
            Ok(None)
        })
    }

    /// The oldest snapshot up to `end` that waits for its root. Those removed meanwhile wait no more.
    pub(crate) fn next_snapshot(&self, end: TxSeq) -> Result<Option<Position>> {
        loop {
            let Some(position) = self.waiting_snapshot(end) else { return Ok(None) };
            if self.record_of(position.seq)?.is_some() {
                return Ok(Some(position));
            }
            self.past.lock().remove(&position.seq);
        }
    }

    /// The same, be it on record still or not.
    pub(crate) fn waiting_snapshot(&self, end: TxSeq) -> Option<Position> {
        let first = self.past.lock().iter().find_map(|(_, past)| past.waits);
        first.filter(|position| position.seq <= end)
    }

    fn record_of(&self, seq: TxSeq) -> Result<Option<(Bytes, Snapshot)>> {
        Ok(self.snapshots()?.into_iter().find(|(_, snapshot)| snapshot.seq == seq.0))
    }

    /// Notes in the record of the snapshot taken at `seq` which root holds it.
    pub(crate) fn name_root(&self, seq: TxSeq, root: &Root) -> Result<()> {
        let layers = Layers { frozen: Vec::new(), runs: Arc::new(root.runs.clone()) };
        let before = self.past.lock().insert(seq, Past { layers: Arc::new(layers), waits: None });
        // The last to hold what was in memory frees it, which takes its time: nobody may wait for that.
        drop(before);
        loop {
            // Looked for without the head, or whoever commits would wait for the disk.
            let Some((name, _)) = self.record_of(seq)? else { return Ok(()) };
            let mut head = self.head.lock();
            if let Some(snapshot) = self.snapshot(&name)?
                && snapshot.seq == seq.0
            {
                let snapshot = Snapshot { root: root.name().expect("the nonce has its length"), ..snapshot };
                let op = Op { key: record::snapshot_key(&name), value: Some(snapshot.encode_to_vec().into()) };
                let totals = head.totals;
                return self.append(&mut head, vec![op], totals);
            }
            // It was renamed or removed meanwhile.
        }
    }

    /// A crash may have come between a snapshot's root and its mention: looks for such roots.
    pub(crate) async fn find_lost_roots(self: &Arc<Self>) -> Result<()> {
        let Some(newest) = self.root.lock().as_ref().map(|root| root.tx) else { return Ok(()) };
        for (_, snapshot) in self.when_settled(|| self.snapshots()).await? {
            let seq = TxSeq(snapshot.seq);
            let waits = self.past.lock().get(&seq).is_some_and(|past| past.waits.is_some());
            if snapshot.root.is_empty() && snapshot.seq <= newest && !waits {
                match self.root_standing_at(seq).await {
                    Ok(root) => self.when_settled(|| self.name_root(seq, &root)).await?,
                    Err(error @ VaultError::Damaged { .. }) => tracing::error!(%error, "a snapshot is lost"),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// The root that holds exactly the state after `seq`.
    async fn root_standing_at(&self, seq: TxSeq) -> Result<Root> {
        for name in list_all(&*self.world.store, layout::ROOTS, None).await? {
            let object_name = object(&name);
            let body = self.patiently(|| self.world.store.get(&object_name)).await.map_err(|e| self.lost(&name, e))?;
            match Root::open(&self.keys, &name, &body) {
                Ok(root) if root.tx == seq.0 => return Ok(root),
                // The newest come first.
                Ok(root) if root.tx < seq.0 => break,
                _ => {}
            }
        }
        Err(self.damaged(format!("the snapshot taken after change {seq}"), "its root is not in the bucket"))
    }

    pub(crate) async fn fetch_lost_root(self: Arc<Self>, seq: TxSeq) -> Result<()> {
        let root = self.root_standing_at(seq).await?;
        self.keep_past(root);
        Ok(())
    }

    fn keep_past(&self, root: Root) {
        let layers = Layers { frozen: Vec::new(), runs: Arc::new(root.runs) };
        self.past.lock().insert(TxSeq(root.tx), Past { layers: Arc::new(layers), waits: None });
    }

    /// Calls until nothing is missing any more.
    pub(crate) async fn when_settled<T>(self: &Arc<Self>, call: impl Fn() -> Result<T>) -> Result<T> {
        loop {
            match call() {
                Err(VaultError::Need(need)) => self.settle(&need).await?,
                other => return other,
            }
        }
    }

    pub(crate) async fn fetch_root(self: Arc<Self>, name: String) -> Result<()> {
        let object_name = object(&name);
        let body = self.patiently(|| self.world.store.get(&object_name)).await.map_err(|e| self.lost(&name, e))?;
        let root =
            Root::open(&self.keys, &name, &body).map_err(|error| self.damaged(name.clone(), &error.to_string()))?;
        self.keep_past(root);
        Ok(())
    }
}

/// The first key after `key`.
pub(crate) fn after(key: &Key) -> Key {
    [key.as_ref(), &[0]].concat().into()
}

fn taken(name: &[u8]) -> VaultError {
    VaultError::Refused(format!("there is a snapshot called {} already", String::from_utf8_lossy(name)))
}

fn missing(name: &[u8]) -> VaultError {
    VaultError::Refused(format!("there is no snapshot called {}", String::from_utf8_lossy(name)))
}
