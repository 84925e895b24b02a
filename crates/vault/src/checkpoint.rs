//! Checkpoints: what changed since the last root becomes a run of shards, and a new root names all runs.
//!
//! Promises: a root only ever describes what the bucket has acknowledged in the log; its shards are in the bucket
//! before it is. Nobody waits for a checkpoint but those whom the memory limit stops.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures::stream::{FuturesUnordered, StreamExt};
use haven_format::{
    Lsn, RootSeq, ShardId, TxSeq, layout,
    record::{Key, Totals},
    root::{Root, Run, ShardRef},
    shard::{FinishedShard, ShardWriter, Value},
};

use crate::{
    Need, Result, Vault, VaultError,
    table::{Frozen, MergeRuns, Merged},
    vault::{Head, Sent},
};

/// A run is merged into the next older one when it is at least this share of it.
const MERGE_RATIO: u64 = 4;
/// Shards in flight at once.
const PUTS_MAX: usize = 3;

/// What a checkpoint describes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Position {
    pub(crate) seq: TxSeq,
    pub(crate) next_ino: u64,
    pub(crate) totals: Totals,
}

impl Vault {
    /// Makes checkpoints when it is time.
    pub(crate) async fn checkpoint_task(self: Arc<Self>) {
        loop {
            let wanted = tokio::time::timeout(self.options.checkpoint_after, self.checkpoint_wanted.notified());
            let _ = wanted.await;
            if self.stopped.read().is_some() {
                return;
            }
            if let Err(error) = self.checkpoint().await {
                if self.stopped.read().is_some() {
                    return;
                }
                self.counters.note(format!("a checkpoint failed: {error}"));
                tracing::error!(%error, "a checkpoint failed; trying again");
                tokio::time::sleep(Duration::from_secs(5)).await;
                self.checkpoint_wanted.notify_one();
            }
        }
    }

    /// Writes a root for everything committed so far, and one for each snapshot on the way that has none yet.
    /// Does nothing when nothing has changed since the last.
    pub async fn checkpoint(self: &Arc<Self>) -> Result<()> {
        let _one_at_a_time = self.checkpointing.lock().await;
        self.writable()?;
        self.without_damaged(self.find_lost_roots().await)?;
        let Some(end) = self.freeze() else { return Ok(()) };
        loop {
            let next = self.without_damaged(self.when_settled(|| self.next_snapshot(end.seq)).await)?;
            // As long as it is not known to be gone, it is kept.
            let Some(position) = next.unwrap_or_else(|| self.waiting_snapshot(end.seq)) else { break };
            let root = self.root_at(&position).await?;
            self.without_damaged(self.when_settled(|| self.name_root(position.seq, &root)).await)?;
        }
        if self.root.lock().as_ref().is_none_or(|root| root.tx < end.seq.0) {
            self.root_at(&end).await?;
        }
        Ok(())
    }

    /// What is damaged is told and gone without: a checkpoint that fails for good stops everybody who writes.
    fn without_damaged<T>(&self, outcome: Result<T>) -> Result<Option<T>> {
        match outcome {
            Err(error @ VaultError::Damaged { .. }) => {
                self.goes_without(error);
                Ok(None)
            }
            other => other.map(Some),
        }
    }

    fn goes_without(&self, error: VaultError) {
        tracing::error!(%error, "a checkpoint goes without what it can't read");
        if let VaultError::Damaged { object, detail } = error {
            self.damage.lock().insert(object, detail);
        }
    }

    async fn root_at(self: &Arc<Self>, position: &Position) -> Result<Arc<Root>> {
        let sent = self.sent_exactly(position.seq).await?;
        let layers = self.table.layers();
        let frozen: Vec<Frozen> = layers.frozen_until(position.seq);
        let mut runs = layers.runs.to_vec();
        let newest = self.write_frozen(&frozen, runs.is_empty()).await?;
        if !newest.shards.is_empty() {
            runs.insert(0, newest);
        }
        let runs = self.merge_where_due(runs).await?;
        let root = Arc::new(self.put_root(position, sent, runs).await?);
        self.table.replace(position.seq, root.runs.clone());
        self.head.lock().marks.retain(|seq, _| *seq > position.seq);
        *self.root.lock() = Some(root.clone());
        self.checkpoints.send_modify(|count| *count += 1);
        Ok(root)
    }

    fn freeze(&self) -> Option<Position> {
        let mut head = self.head.lock();
        let seq = head.seq;
        self.table.freeze(seq);
        if self.table.layers().frozen.is_empty() {
            return None;
        }
        self.cut_at(&mut head, seq);
        Some(self.position(&head))
    }

    /// Where the log stands.
    pub(crate) fn position(&self, head: &Head) -> Position {
        Position { seq: head.seq, next_ino: self.next_ino.load(Ordering::Relaxed), totals: head.totals }
    }

    /// Sees to it that a segment ends with `seq`, the newest change, so that a root can stand there.
    pub(crate) fn cut_at(&self, head: &mut Head, seq: TxSeq) {
        let sent = self.sent.borrow().clone();
        if sent.seq >= seq {
            head.marks.entry(seq).or_insert(sent);
        } else if head.cuts.back() != Some(&seq) {
            head.cuts.push_back(seq);
        }
    }

    /// The state of the log when exactly everything up to `seq` was in it.
    async fn sent_exactly(&self, seq: TxSeq) -> Result<Sent> {
        self.sync_bucket(seq).await?;
        let mark = self.head.lock().marks.get(&seq).cloned();
        mark.ok_or_else(|| VaultError::Refused("a segment has run past the end of a checkpoint".into()))
    }

    async fn write_frozen(&self, frozen: &[Frozen], drop_removed: bool) -> Result<Run> {
        let merged;
        let records = match frozen {
            [only] => only.records(),
            _ => {
                merged = newest_of(frozen);
                &merged
            }
        };
        let mut out = RunWriter::new(self);
        for (key, value) in records {
            if value.is_some() || !drop_removed {
                out.push(key, value).await?;
            }
        }
        out.finish().await
    }

    /// Keeps the runs few: small ones are merged with the next older as long as they are not much smaller. A run that
    /// can't be read stays as it is, with all that are older: a checkpoint can do without.
    async fn merge_where_due(self: &Arc<Self>, mut runs: Vec<Run>) -> Result<Vec<Run>> {
        let size = |run: &Run| run.shards.iter().map(|shard| shard.bytes).sum::<u64>();
        let mut count = 1;
        let mut sum = runs.first().map_or(0, size);
        while count < runs.len() && sum * MERGE_RATIO >= size(&runs[count]) {
            sum += size(&runs[count]);
            count += 1;
        }
        count = self.readable(&runs[..count]).await;
        if count < 2 {
            return Ok(runs);
        }
        let drop_removed = count == runs.len();
        match self.merge(&runs[..count], drop_removed).await {
            Ok(merged) => drop(runs.splice(..count, (!merged.shards.is_empty()).then_some(merged))),
            Err(error @ VaultError::ReadOnly { .. }) => return Err(error),
            Err(error) => self.goes_without(error),
        }
        Ok(runs)
    }

    /// How many of the runs, newest first, come before one with a shard that stopped a merge and still can't be had. To
    /// begin such a merge again each time would leave its first part in the bucket each time.
    async fn readable(self: &Arc<Self>, runs: &[Run]) -> usize {
        for (number, run) in runs.iter().enumerate() {
            for shard in &run.shards {
                let Some(id) = shard.shard_id().ok().filter(|id| self.unmerged.lock().contains(id)) else { continue };
                if self.when_settled(|| self.shards().load(shard)).await.is_err() {
                    return number;
                }
                self.unmerged.lock().remove(&id);
            }
        }
        runs.len()
    }

    async fn merge(self: &Arc<Self>, runs: &[Run], drop_removed: bool) -> Result<Run> {
        let mut merge = MergeRuns::new(runs, drop_removed);
        let mut out = RunWriter::new(self);
        loop {
            match merge.next(self.shards()) {
                Ok(Merged::Record(key, value)) => out.push(&key, &value).await?,
                Ok(Merged::Shard(shard)) => out.reuse(shard).await?,
                Ok(Merged::End) => return out.finish().await,
                Err(VaultError::Need(need)) => self.settle(&need).await.inspect_err(|_| {
                    if let Need::Fetch { object, .. } = &need {
                        self.unmerged.lock().extend(layout::parse_shard(object));
                    }
                })?,
                Err(error) => return Err(error),
            }
        }
    }

    async fn put_root(&self, position: &Position, sent: Sent, runs: Vec<Run>) -> Result<Root> {
        let turn = self.turn.expect("only a writer makes checkpoints");
        let Lsn(lsn) = sent.lsn;
        let root = Root {
            seq: RootSeq(self.next_root.fetch_add(1, Ordering::Relaxed)).0,
            epoch: turn.epoch.0,
            nonce: turn.nonce.0.to_vec(),
            lsn,
            segment: sent.segment,
            segment_hash: sent.hash,
            tx: position.seq.0,
            made: self.world.clock.now(),
            runs,
            next_ino: position.next_ino,
            totals: position.totals,
        };
        let name = root.name().expect("the nonce has its length");
        let body = root.seal(&self.keys, self.world.dice.roll()).expect("the nonce has its length");
        self.put_patiently(&name, body.into()).await?;
        Ok(root)
    }
}

fn newest_of(frozen: &[Frozen]) -> BTreeMap<Key, Value> {
    let mut merged = BTreeMap::new();
    for layer in frozen.iter().rev() {
        merged.extend(layer.records().iter().map(|(key, value)| (key.clone(), value.clone())));
    }
    merged
}

/// Turns sorted records into shards in the bucket and in the cache.
struct RunWriter<'a> {
    vault: &'a Vault,
    writer: Option<ShardWriter>,
    space: u8,
    run: Run,
    puts: FuturesUnordered<std::pin::Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>>,
}

impl<'a> RunWriter<'a> {
    fn new(vault: &'a Vault) -> Self {
        Self { vault, writer: None, space: 0, run: Run::default(), puts: FuturesUnordered::new() }
    }

    async fn push(&mut self, key: &Key, value: &Value) -> Result<()> {
        // Inodes, chunks and packs change at different paces: no shard holds two kinds.
        let full = self.writer.as_ref().is_some_and(ShardWriter::is_full) || self.space != key[0];
        if full {
            self.close().await?;
        }
        self.space = key[0];
        let dice = &self.vault.world.dice;
        let new = || ShardWriter::new(&self.vault.keys, ShardId(dice.roll()));
        self.writer.get_or_insert_with(new).push(key, value, || dice.roll());
        Ok(())
    }

    async fn reuse(&mut self, shard: ShardRef) -> Result<()> {
        self.close().await?;
        self.run.shards.push(shard);
        Ok(())
    }

    async fn close(&mut self) -> Result<()> {
        let Some(writer) = self.writer.take() else { return Ok(()) };
        let Some(shard) = writer.finish(|| self.vault.world.dice.roll()) else { return Ok(()) };
        self.run.shards.push(reference(&shard));
        while self.puts.len() >= PUTS_MAX {
            self.puts.next().await.transpose()?;
        }
        let vault = self.vault;
        self.puts.push(Box::pin(async move {
            vault.put_patiently(&layout::shard(shard.id), shard.object.clone()).await?;
            vault.shards().keep_own(&shard);
            Ok(())
        }));
        // Long work on an async thread: let others have a turn.
        tokio::task::yield_now().await;
        Ok(())
    }

    async fn finish(mut self) -> Result<Run> {
        self.close().await?;
        while let Some(done) = self.puts.next().await {
            done?;
        }
        Ok(self.run)
    }
}

fn reference(shard: &FinishedShard) -> ShardRef {
    ShardRef {
        id: shard.id.0.to_vec(),
        bytes: shard.object.len() as u64,
        first: shard.first.clone(),
        last: shard.last.clone(),
        records: shard.records,
        hash: blake3::hash(&shard.object).as_bytes().to_vec(),
    }
}
