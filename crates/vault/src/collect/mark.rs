//! Marking: which chunks and which objects are needed.
//!
//! States are looked through oldest first, and of each only the shards that no earlier one had: a checkpoint writes
//! new runs above the old, so whatever a state shows that the one before did not stands in its new shards.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use bytes::Bytes;
use haven_format::{
    ChunkId, Ino, PackId, ShardId, layout,
    lease::Lease,
    record::{self, ChunkPlace, Extent},
    root::{Root, Run},
};
use haven_store::StoreError;
use prost::Message;

use super::{DeadList, Heap};
use crate::{
    Result, Vault, VaultError, View,
    claim::{list_all, object},
    snapshots::after,
    table::Layers,
};

/// Records of one look.
const PAGE: usize = 4096;

/// A pack by what is in it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Filling {
    /// Length of the object; 0: it is not on record.
    pub bytes: u64,
    /// Bytes of seals that something needs.
    pub live: u64,
    /// Chunks of it in the index.
    pub chunks: u32,
}

/// What one look has found.
#[derive(Debug, Default)]
pub(super) struct Marked {
    /// The first eight bytes of the ids of needed chunks, in order, each once.
    needed: Vec<u64>,
    pub packs: HashMap<PackId, Filling>,
    /// Needed chunks that the index does not know, and where they were last.
    pub missing: Vec<(ChunkId, ChunkPlace)>,
    /// Chunks in the index that nothing needs.
    pub dead_chunks: Heap,
    /// Shards and roots that are needed.
    pub shards: HashSet<ShardId>,
    pub roots: HashSet<String>,
    /// The root the look was taken at.
    pub root: Option<Arc<Root>>,
    pub dead: DeadList,
    pub states: usize,
    /// Objects that were there when the look began.
    pub listed_shards: Vec<(ShardId, u64)>,
    pub listed_roots: Vec<String>,
}

pub(super) fn short(id: ChunkId) -> u64 {
    u64::from_be_bytes(id.0[..8].try_into().expect("eight bytes"))
}

impl Marked {
    pub fn needs(&self, id: ChunkId) -> bool {
        self.needed.binary_search(&short(id)).is_ok()
    }

    pub fn live_bytes(&self) -> u64 {
        self.packs.values().map(|pack| pack.live).sum()
    }

    pub fn pack_bytes(&self) -> u64 {
        self.packs.iter().filter(|(id, _)| !self.is_dead(**id)).map(|(_, pack)| pack.bytes).sum()
    }

    pub fn is_dead(&self, pack: PackId) -> bool {
        self.dead.contains_key(&layout::pack(pack))
    }
}

impl Vault {
    /// Makes a root and looks through it and all that is kept beside it. Who only reads takes the newest there is.
    pub(super) async fn mark(self: &Arc<Self>) -> Result<Marked> {
        if !self.options.read_only {
            self.when_settled(|| self.commit_loose()).await?;
            self.checkpoint().await?;
        }
        let mut marked = Marked::default();
        {
            // No checkpoint may be half done: its shards are in the bucket before its root is.
            let _no_checkpoint = self.checkpointing.lock().await;
            marked.root = self.root.lock().clone();
            marked.listed_shards = self.list_shards().await?;
            marked.listed_roots = list_all(&*self.world.store, layout::ROOTS, None).await?;
        }
        let Some(newest) = marked.root.clone() else { return Ok(marked) };
        let mut states = self.kept_states(&newest).await?;
        states.retain(|(name, _)| Some(name) != newest.name().ok().as_ref());
        states.push((newest.name().expect("the nonce has its length"), newest.clone()));
        states.sort_by_key(|(_, root)| root.tx);
        marked.states = states.len();
        let live = Layers { frozen: Vec::new(), runs: Arc::new(newest.runs.clone()) };
        for (name, root) in &states {
            let new = new_shards(&root.runs, &mut marked.shards);
            let view = View::fixed(self.table.clone(), Arc::new(Layers { frozen: Vec::new(), runs: Arc::new(new) }));
            self.gather(&view, &mut marked.needed).await?;
            marked.roots.insert(name.clone());
            self.shards().close_all_but(&live.runs);
        }
        tidy(&mut marked.needed);
        marked.dead = self.when_settled(|| self.dead_list()).await?;
        for (pack, info) in self.when_settled(|| self.all_packs()).await? {
            marked.packs.entry(pack).or_default().bytes = info.bytes;
        }
        let at_root = View::fixed(self.table.clone(), Arc::new(live));
        let missing = self.weigh(&at_root, &mut marked).await?;
        if !missing.is_empty() {
            marked.missing = self.find_places(&states, missing, &marked.packs).await?;
        }
        Ok(marked)
    }

    /// Snapshots' and leases' roots.
    async fn kept_states(self: &Arc<Self>, newest: &Root) -> Result<Vec<(String, Arc<Root>)>> {
        let mut names = HashSet::new();
        for (name, snapshot) in self.when_settled(|| self.snapshots()).await? {
            if snapshot.root.is_empty() && snapshot.seq > newest.tx {
                // Taken since: what it holds is in the root, or newer than the look.
                continue;
            }
            if snapshot.root.is_empty() {
                return Err(VaultError::Refused(format!(
                    "the snapshot {} has no root, so what it needs is not known; remove it, or nothing can be collected",
                    String::from_utf8_lossy(&name)
                )));
            }
            names.insert(snapshot.root);
        }
        names.extend(self.leased_roots().await?);
        let mut out = Vec::new();
        for name in names {
            let root = self.root_named(&name).await?;
            out.push((name, Arc::new(root)));
        }
        Ok(out)
    }

    async fn leased_roots(&self) -> Result<Vec<String>> {
        let now = self.world.clock.now().seconds.max(0) as u64;
        let mut out = Vec::new();
        for name in list_all(&*self.world.store, layout::LEASES, None).await? {
            if layout::parse_lease(&name).is_none_or(|(until, _)| until < now) {
                continue;
            }
            let body = match self.world.store.get(&object(&name)).await {
                Err(StoreError::NotFound { .. }) => continue,
                other => other?,
            };
            match Lease::open(&self.keys, &name, &body) {
                Ok(lease) if !lease.root.is_empty() => out.push(lease.root),
                Ok(_) => {}
                Err(error) => tracing::warn!(lease = name, %error, "a lease that can't be read is passed over"),
            }
        }
        Ok(out)
    }

    async fn list_shards(&self) -> Result<Vec<(ShardId, u64)>> {
        let mut out = Vec::new();
        let mut after = None::<String>;
        loop {
            let page = self.world.store.list(layout::SHARDS, after.as_deref(), 1000).await?;
            after = page.objects.last().map(|found| found.name.as_str().to_owned());
            let ids = page.objects.iter().filter_map(|m| Some((layout::parse_shard(m.name.as_str())?, m.bytes)));
            out.extend(ids);
            if !page.more {
                return Ok(out);
            }
        }
    }

    /// Calls `each` with every record of the range in turn.
    pub(crate) async fn walk(
        self: &Arc<Self>,
        view: &View,
        mut range: std::ops::Range<Bytes>,
        mut each: impl FnMut(&Bytes, &Bytes) -> Result<()>,
    ) -> Result<()> {
        loop {
            let batch = self.when_settled(|| view.scan(range.clone(), PAGE)).await?;
            let Some((last, _)) = batch.last() else { return Ok(()) };
            range.start = after(last);
            for (key, value) in &batch {
                each(key, value)?;
            }
            // Long work on an async thread: let others have a turn.
            tokio::task::yield_now().await;
        }
    }

    async fn gather(self: &Arc<Self>, view: &View, needed: &mut Vec<u64>) -> Result<()> {
        let mut tidied = needed.len();
        self.walk(view, record::inodes_from(Ino(0)), |key, value| {
            if record::extent_offset(key).is_some() {
                let extent = self.extent(key, value)?;
                needed.extend(extent.chunk_id().map(short));
            }
            if needed.len() > 2 * tidied + (1 << 20) {
                tidy(needed);
                tidied = needed.len();
            }
            Ok(())
        })
        .await
    }

    fn extent(&self, key: &Bytes, value: &Bytes) -> Result<Extent> {
        let unreadable = |_| {
            let ino = record::key_inode(key).unwrap_or(Ino(0));
            self.damaged(format!("an extent of inode {ino}"), "its record is unreadable")
        };
        Extent::decode(value.clone()).map_err(unreadable)
    }

    /// Goes through the chunk index beside the needed chunks, both in order. Returns those it does not know.
    async fn weigh(self: &Arc<Self>, view: &View, marked: &mut Marked) -> Result<HashSet<u64>> {
        let Marked { needed, packs, dead_chunks, .. } = marked;
        let mut missing = HashSet::new();
        let mut next = needed.iter().copied().peekable();
        let mut last = None;
        self.walk(view, record::chunks(), |key, value| {
            let (id, place) = self.chunk_record(key, value)?;
            let short = short(id);
            while let Some(wanted) = next.next_if(|wanted| *wanted <= short) {
                if wanted != short {
                    missing.insert(wanted);
                }
                last = Some(wanted);
            }
            let pack =
                packs.entry(place.pack_id().map_err(|_| self.damaged(id.to_string(), "its place is unreadable"))?);
            let pack = pack.or_default();
            pack.chunks += 1;
            if last == Some(short) {
                pack.live += u64::from(place.len);
            } else {
                dead_chunks.add(u64::from(place.len));
            }
            Ok(())
        })
        .await?;
        missing.extend(next);
        Ok(missing)
    }

    pub(crate) fn chunk_record(&self, key: &Bytes, value: &Bytes) -> Result<(ChunkId, ChunkPlace)> {
        let unreadable = || self.damaged("the chunk index".into(), "a record is unreadable");
        let id = record::key_chunk(key).ok_or_else(unreadable)?;
        let place = ChunkPlace::decode(value.clone()).map_err(|_| unreadable())?;
        Ok((id, place))
    }

    /// Where needed chunks that the index does not know were when they were referred to.
    async fn find_places(
        self: &Arc<Self>,
        states: &[(String, Arc<Root>)],
        missing: HashSet<u64>,
        packs: &HashMap<PackId, Filling>,
    ) -> Result<Vec<(ChunkId, ChunkPlace)>> {
        let mut found = HashMap::new();
        for (_, root) in states {
            let layers = Layers { frozen: Vec::new(), runs: Arc::new(root.runs.clone()) };
            let view = View::fixed(self.table.clone(), Arc::new(layers));
            self.walk(&view, record::inodes_from(Ino(0)), |key, value| {
                if record::extent_offset(key).is_some() {
                    let extent = self.extent(key, value)?;
                    if let Some((id, place)) = extent.chunk_id().zip(extent.place)
                        && missing.contains(&short(id))
                    {
                        // Of several places the one whose pack is still there; later states know later ones.
                        let there = |place: &ChunkPlace| {
                            place.pack_id().is_ok_and(|pack| packs.get(&pack).is_some_and(|pack| pack.bytes > 0))
                        };
                        if there(&place) || !found.get(&id).is_some_and(there) {
                            found.insert(id, place);
                        }
                    }
                }
                Ok(())
            })
            .await?;
        }
        let mut found: Vec<_> = found.into_iter().collect();
        found.sort_by_key(|(id, _)| *id);
        Ok(found)
    }
}

fn tidy(needed: &mut Vec<u64>) {
    needed.sort_unstable();
    needed.dedup();
}

/// The runs with those shards alone that are not in `seen` yet; they are from now on.
fn new_shards(runs: &[Run], seen: &mut HashSet<ShardId>) -> Vec<Run> {
    let mut new = |run: &Run| Run {
        shards: run.shards.iter().filter(|s| s.shard_id().is_ok_and(|id| seen.insert(id))).cloned().collect(),
    };
    runs.iter().map(&mut new).filter(|run| !run.shards.is_empty()).collect()
}
