//! Garbage collection: what the library needs no more is condemned, waits, and is deleted.
//! ```text
//!     mark ──▶ delete what has waited out its grace ──▶ condemn what nothing needs ──▶ rewrite packs that are half empty
//! ```
//! Nothing is counted while files are written: what is needed is found by looking, at a root made for the purpose.
//! A condemned chunk loses its place in the index in the same commit, so nobody can refer to it anew; whoever had
//! looked it up just before is found by the next mark, which comes before anything is deleted. So deleting needs
//! two marks a grace time apart to agree, and no lock.
//!
//! Promises: nothing is deleted that the newest state, a snapshot or a lease needs; what is deleted was on record, in
//! the bucket, for the whole grace time. If the power goes: the next run begins anew and finds the same.

mod mark;
mod repack;
mod sweep;
mod unique;

use std::{collections::HashMap, sync::Arc, time::Duration};

use haven_format::{
    PackId, TxSeq, layout,
    record::{self, Collection, Dead, Op, PackInfo, Totals},
};
use prost::Message;
use serde::Serialize;

use crate::{Need, Result, Vault, snapshots::after, vault::Head};
use mark::Marked;

/// Records changed in one commit.
const AT_ONCE: usize = 4096;
/// How often it is looked whether a collection is due.
const LOOK_EVERY: Duration = Duration::from_secs(300);
/// Bytes waiting for their end below this don't make a run of their own.
const WORTH_A_RUN: u64 = 1 << 20;
/// The brake's memory.
const DAY: i64 = 24 * 60 * 60;

/// When and how garbage is collected.
#[derive(Debug, Clone)]
pub struct CollectOptions {
    /// How often it is done unasked; `None`: never.
    pub every: Option<Duration>,
    /// How long what is needed no more stays: longer than any reader or copy may take.
    pub grace: Duration,
    /// How long the record of a deletion stays, for replicas to learn of it.
    pub remember: Duration,
    /// The share of the library's packs (0 to 1) that may go within a day without anybody being asked.
    pub brake: f64,
    /// Bytes that may go within a day whatever share they are.
    pub brake_floor: u64,
    /// The share of needed bytes (0 to 1) that may lie beside them in packs without being needed.
    pub waste: f64,
    /// Bytes a second that rewriting may move; 0: as fast as it goes.
    pub pace: u64,
}

impl Default for CollectOptions {
    fn default() -> Self {
        Self {
            every: Some(Duration::from_secs(24 * 3600)),
            grace: Duration::from_secs(7 * 24 * 3600),
            remember: Duration::from_secs(60 * 24 * 3600),
            brake: 0.2,
            brake_floor: 1 << 30,
            waste: 0.08,
            pace: 0,
        }
    }
}

/// How one run is to be done.
#[derive(Debug, Clone, Copy, Default)]
pub struct CollectRun {
    /// Only tell.
    pub dry: bool,
    /// The owner has seen what would go, and says it may.
    pub release: bool,
}

/// Objects and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Heap {
    pub objects: u64,
    pub bytes: u64,
}

impl Heap {
    pub(crate) fn add(&mut self, bytes: u64) {
        self.objects += 1;
        self.bytes += bytes;
    }
}

/// What a run did, or would do.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Collected {
    pub dry: bool,
    /// Deleted: their grace had passed.
    pub deleted: Heap,
    /// Condemned in this run.
    pub condemned: Heap,
    /// Chunks that lost their place in the index, and their bytes in packs.
    pub chunks: Heap,
    /// Packs whose needed part was written anew.
    pub repacked: Heap,
    /// Condemned now or before, and not deleted yet.
    pub waiting: Heap,
    /// Seconds since the Unix epoch when the last of them may go.
    pub waiting_until: Option<i64>,
    /// Condemned before, and needed again.
    pub pardoned: u64,
    /// Bytes of chunks that something needs, and of the packs that hold them.
    pub live_bytes: u64,
    pub pack_bytes: u64,
    /// Why nothing was condemned or deleted.
    pub brake: Option<String>,
    /// How many states were looked through.
    pub states: usize,
    /// When the newest root that a reader could look at was made, seconds since the Unix epoch. `None`: the library was
    /// looked at as it is now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_of: Option<i64>,
}

/// The dead list.
pub(crate) type DeadList = HashMap<String, Dead>;

impl Vault {
    /// Collects garbage when it is time.
    pub(crate) async fn collect_task(self: Arc<Self>) {
        let Some(every) = self.options.collect.every else { return };
        loop {
            tokio::time::sleep(LOOK_EVERY.min(every)).await;
            if self.stopped.read().is_some() {
                return;
            }
            let outcome = match self.collection_is_due(every).await {
                Ok(true) => self.collect(CollectRun::default()).await.map(drop),
                Ok(false) => Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error) = outcome
                && self.stopped.read().is_none()
            {
                self.counters.note(format!("garbage can't be collected: {error}"));
                tracing::error!(%error, "garbage can't be collected; trying again later");
            }
        }
    }

    async fn collection_is_due(self: &Arc<Self>, every: Duration) -> Result<bool> {
        let Some((seq, last)) = self.when_settled(|| self.last_collection()).await? else {
            return Ok(self.head().0 > 0);
        };
        let now = self.world.clock.now();
        let old = now.seconds - last.at.seconds >= every.as_secs() as i64;
        // The last run's own root and shards are no reason for another, or an idle library would never rest.
        let due = last.waiting >= WORTH_A_RUN && last.waiting_until <= now.seconds;
        let something = self.head() > seq || due;
        Ok(old && something)
    }

    /// How the last collection went, and the newest change when it ended.
    fn last_collection(&self) -> Result<Option<(TxSeq, Collection)>> {
        let Some(value) = self.live().get(&record::collection_key())? else { return Ok(None) };
        let last = Collection::decode(value)
            .map_err(|_| self.damaged("the record of the last collection".into(), "it is unreadable"))?;
        Ok(Some((TxSeq(last.seq), last)))
    }

    /// How the last collection went; `None`: there was none.
    pub fn collection(&self) -> Result<Option<Collection>> {
        Ok(self.last_collection()?.map(|(_, last)| last))
    }

    /// Collects garbage now. One run at a time; everything else goes on meanwhile.
    pub async fn collect(self: &Arc<Self>, run: CollectRun) -> Result<Collected> {
        let _one_at_a_time = self.collecting.lock().await;
        // Who only tells needs no right to write, and takes it from nobody.
        let outside = run.dry && self.options.read_only;
        if !outside {
            self.writable()?;
        }
        let now = self.world.clock.now().seconds;
        let marked = self.mark().await?;
        let mut report = Collected {
            dry: run.dry,
            live_bytes: marked.live_bytes(),
            pack_bytes: marked.pack_bytes(),
            states: marked.states,
            as_of: marked.root.as_ref().filter(|_| outside).map(|root| root.made.seconds),
            ..Collected::default()
        };
        let last = self.when_settled(|| self.collection()).await?;
        let window = Window::open(last.as_ref(), now);
        report.chunks = marked.dead_chunks;
        if let Some(why) = self.brake(&marked, &window).filter(|_| !run.release) {
            tracing::error!(why, "garbage collection has stopped and asks");
            report.brake = Some(why.clone());
            self.count_waiting(&mut report).await?;
            if !run.dry {
                self.note_collection(&report, window, why)?;
            }
            return Ok(report);
        }
        if !run.dry {
            self.check_turn().await?;
            self.pardon(&marked, &mut report).await?;
        }
        self.delete_due(&marked, run.dry, now, &mut report).await?;
        self.condemn(&marked, run.dry, now, &mut report).await?;
        self.repack(&marked, run.dry, now, &mut report).await?;
        self.count_waiting(&mut report).await?;
        if !run.dry {
            self.tidy(now).await?;
            let used = if run.release { 0 } else { window.bytes + marked.dead_chunks.bytes };
            self.note_collection(&report, Window { bytes: used, ..window }, String::new())?;
            self.sync_bucket(self.head()).await?;
        }
        Ok(report)
    }

    /// Why a person must be asked first.
    fn brake(&self, marked: &Marked, window: &Window) -> Option<String> {
        let options = &self.options.collect;
        let going = marked.dead_chunks.bytes + window.bytes;
        let whole = marked.live_bytes() + marked.dead_chunks.bytes;
        let allowed = ((whole as f64 * options.brake) as u64).max(options.brake_floor);
        (marked.dead_chunks.bytes > 0 && going > allowed).then(|| {
            format!(
                "{going} bytes that no file and no snapshot needs any more would be given up within a day, of {whole}; \
                 {allowed} are allowed. Nothing was condemned or deleted. If it was meant (snapshots were pruned, \
                 folders deleted), release the brake; if not, restore what is missing from a snapshot or from the state \
                 before it"
            )
        })
    }

    fn note_collection(&self, report: &Collected, window: Window, brake: String) -> Result<()> {
        let mut head = self.head.lock();
        let collection = Collection {
            at: self.world.clock.now(),
            freed: report.deleted.bytes,
            waiting: report.waiting.bytes,
            waiting_until: report.waiting_until.unwrap_or_default(),
            live_bytes: report.live_bytes,
            pack_bytes: report.pack_bytes,
            brake,
            seq: head.seq.next().0,
            window_began: window.began,
            window_bytes: window.bytes,
        };
        let totals = head.totals;
        let op = Op { key: record::collection_key(), value: Some(collection.encode_to_vec().into()) };
        self.append(&mut head, vec![op], totals)
    }

    /// Everything on the dead list.
    pub(crate) fn dead_list(&self) -> Result<DeadList> {
        let mut out = HashMap::new();
        let mut range = record::dead();
        loop {
            let batch = self.live().scan(range.clone(), 1024)?;
            let Some((last, _)) = batch.last() else { return Ok(out) };
            range.start = after(last);
            for (key, value) in batch {
                let name = record::key_dead(&key).map(str::to_owned);
                match (name, Dead::decode(value)) {
                    (Some(name), Ok(dead)) => _ = out.insert(name, dead),
                    _ => return Err(self.damaged("the dead list".into(), "a record is unreadable")),
                }
            }
        }
    }

    async fn count_waiting(self: &Arc<Self>, report: &mut Collected) -> Result<()> {
        let grace = self.options.collect.grace.as_secs() as i64;
        for (name, dead) in self.when_settled(|| self.dead_list()).await? {
            if dead.gone == 0 && name != layout::SEGMENTS {
                report.waiting.add(dead.bytes);
                let until = dead.since + grace;
                report.waiting_until = Some(report.waiting_until.map_or(until, |so_far| so_far.max(until)));
            }
        }
        Ok(())
    }

    /// Commits records that are the library's own; waits where the log has grown too long.
    pub(crate) async fn commit_own(self: &Arc<Self>, ops: Vec<Op>, change: impl Fn(&mut Totals)) -> Result<()> {
        self.when_settled(|| {
            let mut head = self.head.lock();
            self.commit_totals(&mut head, ops.clone(), &change)
        })
        .await
    }

    fn commit_totals(&self, head: &mut Head, ops: Vec<Op>, change: &impl Fn(&mut Totals)) -> Result<()> {
        self.writable()?;
        if self.log_is_full(head) {
            return Err(Need::Log.into());
        }
        let mut totals = head.totals;
        change(&mut totals);
        self.append(head, ops, totals)
    }

    /// All packs on record.
    pub(crate) fn all_packs(&self) -> Result<HashMap<PackId, PackInfo>> {
        let mut out = HashMap::new();
        let mut range = record::packs();
        loop {
            let batch = self.live().scan(range.clone(), 1024)?;
            let Some((last, _)) = batch.last() else { return Ok(out) };
            range.start = after(last);
            for (key, value) in batch {
                match (record::key_pack(&key), PackInfo::decode(value)) {
                    (Some(pack), Ok(info)) => _ = out.insert(pack, info),
                    _ => return Err(self.damaged("the list of packs".into(), "a record is unreadable")),
                }
            }
        }
    }
}

/// What has been given up within a day.
#[derive(Debug, Clone, Copy)]
struct Window {
    began: i64,
    bytes: u64,
}

impl Window {
    fn open(last: Option<&Collection>, now: i64) -> Self {
        match last {
            Some(last) if now - last.window_began < DAY => Self { began: last.window_began, bytes: last.window_bytes },
            _ => Self { began: now, bytes: 0 },
        }
    }
}

/// The record of an object that nothing needs from now on.
fn dead_op(name: &str, dead: Dead) -> Op {
    Op { key: record::dead_key(name), value: Some(dead.encode_to_vec().into()) }
}

impl From<&Collection> for Collected {
    fn from(collection: &Collection) -> Self {
        Self {
            deleted: Heap { objects: 0, bytes: collection.freed },
            waiting: Heap { objects: 0, bytes: collection.waiting },
            waiting_until: Some(collection.waiting_until),
            live_bytes: collection.live_bytes,
            pack_bytes: collection.pack_bytes,
            brake: (!collection.brake.is_empty()).then(|| collection.brake.clone()),
            ..Self::default()
        }
    }
}
