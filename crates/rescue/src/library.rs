//! The records of the newest state that can be read.

use std::collections::BTreeMap;

use bytes::Bytes;
use haven_format::{
    ChunkId, FormatError, Keys, PackId,
    config::{ConfigError, LockedConfig},
    keys::Secret,
    layout, pack,
    record::{self, ChunkPlace, Extent, Key},
    root::{Root, ShardRef},
    segment::Segment,
    shard,
};
use haven_store::{DynStore, ObjectName, StoreError};
use prost::Message;

/// Whole packs kept in memory: files written together lie together.
const PACKS_KEPT: usize = 4;

/// Why nothing can be read.
#[derive(Debug, thiserror::Error)]
pub enum RescueError {
    #[error("there is no library here: no object below cfg/")]
    NoLibrary,
    #[error("no configuration can be unlocked: {0}")]
    Locked(ConfigError),
    #[error("{name}: {source}")]
    Store { name: String, source: StoreError },
    #[error("{name}: {source}")]
    Damaged { name: String, source: FormatError },
    #[error("{name}: its content is not what was recorded of it")]
    Changed { name: String },
}

/// A library, opened for reading.
#[derive(Debug)]
pub struct Library {
    store: DynStore,
    keys: Keys,
    packs: Vec<(PackId, Bytes)>,
    /// What was passed over, and why: newest roots, ends of the log.
    pub passed_over: Vec<String>,
}

impl Library {
    /// Unlocks the first configuration that `secret` opens, the newest first.
    pub async fn open(store: DynStore, secret: &Secret) -> Result<Self, RescueError> {
        let mut passed_over = Vec::new();
        let mut why = None;
        let names = list(&store, layout::CONFIGS).await?;
        for name in names.iter().rev().filter(|name| layout::parse_config(name).is_some()) {
            let body = get(&store, name).await?;
            match LockedConfig::parse(name, &body).and_then(|config| config.unlock(secret)) {
                Ok(open) => return Ok(Self { store, keys: open.keys().clone(), packs: Vec::new(), passed_over }),
                Err(error) => {
                    passed_over.push(format!("{name}: {error}"));
                    why.get_or_insert(error);
                }
            }
        }
        Err(why.map_or(RescueError::NoLibrary, RescueError::Locked))
    }

    /// All records of the newest state that hangs together.
    pub async fn records(&mut self) -> Result<BTreeMap<Key, Bytes>, RescueError> {
        let history = self.history().await?;
        let (mut records, mut done, after) = self.newest_root(&history).await?;
        for (_, name) in history.range(after + 1..) {
            let segment = match self.segment(name).await {
                Ok((segment, _)) => segment,
                Err(error) => {
                    self.passed_over.push(format!("the log ends before {error}"));
                    break;
                }
            };
            if let Some(missing) = self.missing_pack(&segment).await? {
                self.passed_over.push(format!("the log ends before {name}: its pack {missing} is not there"));
                break;
            }
            if segment.txs.first().is_some_and(|tx| tx.seq > done + 1) {
                self.passed_over.push(format!("the log ends before {name}: changes between {done} and it are missing"));
                break;
            }
            for tx in segment.txs {
                if tx.seq <= done {
                    continue;
                }
                done = tx.seq;
                for op in tx.ops {
                    match op.value {
                        Some(value) => _ = records.insert(op.key, value),
                        None => _ = records.remove(&op.key),
                    }
                }
            }
        }
        Ok(records)
    }

    /// The tip of the log and what it follows, by position. Where the tip can't be read, the next best.
    async fn history(&mut self) -> Result<BTreeMap<u64, String>, RescueError> {
        let names = list(&self.store, layout::SEGMENTS).await?;
        let mut tips: Vec<_> = names
            .iter()
            .filter_map(|name| layout::parse_segment(name).map(|(lsn, epoch, _)| (epoch, lsn, name)))
            .collect();
        tips.sort_unstable();
        for (_, lsn, tip) in tips.into_iter().rev() {
            let mut chain = BTreeMap::from([(lsn.0, tip.clone())]);
            let mut follows = match self.segment(tip).await {
                Ok((segment, _)) => (segment.previous, segment.previous_hash),
                Err(error) => {
                    self.passed_over.push(error.to_string());
                    continue;
                }
            };
            while let Some((lsn, ..)) = layout::parse_segment(&follows.0) {
                chain.insert(lsn.0, follows.0.clone());
                match self.segment(&follows.0).await {
                    Ok((_, hash)) if hash != follows.1 => return Err(RescueError::Changed { name: follows.0 }),
                    Ok((segment, _)) => follows = (segment.previous, segment.previous_hash),
                    // Older than the oldest root, and removed; or damaged, and perhaps in a root already.
                    Err(error) => {
                        if names.contains(&follows.0) {
                            self.passed_over.push(error.to_string());
                        }
                        break;
                    }
                }
            }
            return Ok(chain);
        }
        Ok(BTreeMap::new())
    }

    async fn segment(&self, name: &str) -> Result<(Segment, Vec<u8>), RescueError> {
        let body = get(&self.store, name).await?;
        let segment = Segment::open(&self.keys, name, &body);
        let segment = segment.map_err(|source| RescueError::Damaged { name: name.to_owned(), source })?;
        Ok((segment, hash(&body)))
    }

    async fn missing_pack(&self, segment: &Segment) -> Result<Option<PackId>, RescueError> {
        for id in segment.pack_ids().unwrap_or_default() {
            let name = layout::pack(id);
            match self.store.head(&object(&name)).await {
                Ok(_) => {}
                Err(StoreError::NotFound { .. }) => return Ok(Some(id)),
                Err(source) => return Err(RescueError::Store { name, source }),
            }
        }
        Ok(None)
    }

    /// The records of the newest root that can be read whole, its last transaction, and its position in the log.
    async fn newest_root(
        &mut self,
        history: &BTreeMap<u64, String>,
    ) -> Result<(BTreeMap<Key, Bytes>, u64, u64), RescueError> {
        let mut names = list(&self.store, layout::ROOTS).await?;
        names.retain(|name| layout::parse_root(name).is_some());
        names.sort_by_key(|name| std::cmp::Reverse(layout::parse_root(name)));
        for name in names {
            match self.root(&name, history).await {
                Ok(found) => return Ok(found),
                Err(error) => self.passed_over.push(format!("root {name}: {error}")),
            }
        }
        Ok(Default::default())
    }

    async fn root(
        &self,
        name: &str,
        history: &BTreeMap<u64, String>,
    ) -> Result<(BTreeMap<Key, Bytes>, u64, u64), RescueError> {
        let body = get(&self.store, name).await?;
        let root = Root::open(&self.keys, name, &body)
            .map_err(|source| RescueError::Damaged { name: name.to_owned(), source })?;
        if history.get(&root.lsn).is_some_and(|segment| *segment != root.segment) {
            return Err(RescueError::Changed { name: root.segment });
        }
        let mut records = BTreeMap::new();
        // Oldest first, so that newer runs go over them.
        for reference in root.runs.iter().rev().flat_map(|run| &run.shards) {
            for (key, value) in self.shard(reference).await? {
                match value {
                    Some(value) => _ = records.insert(key, value),
                    None => _ = records.remove(&key),
                }
            }
        }
        Ok((records, root.tx, root.lsn))
    }

    async fn shard(&self, reference: &ShardRef) -> Result<Vec<(Key, shard::Value)>, RescueError> {
        let damaged = |name: &str, source| RescueError::Damaged { name: name.to_owned(), source };
        let id = reference.shard_id().map_err(|source| damaged("a shard", source))?;
        let name = layout::shard(id);
        let body = get(&self.store, &name).await?;
        if hash(&body) != reference.hash {
            return Err(RescueError::Changed { name });
        }
        let opener = shard::opener(&self.keys, id);
        let read = || {
            let mut out = Vec::new();
            for block in shard::index(opener.whole_footer(&body)?)?.blocks {
                let range = block.part().range();
                let sealed = body.get(range.start as usize..range.end as usize).ok_or(FormatError::Seal)?;
                out.extend(shard::records(opener.part(block.part(), sealed)?)?);
            }
            Ok(out)
        };
        read().map_err(|source| damaged(&name, source))
    }

    /// The plain bytes of the chunk an extent refers to, compared with its hash.
    pub(crate) async fn chunk(
        &mut self,
        records: &BTreeMap<Key, Bytes>,
        extent: &Extent,
        id: ChunkId,
    ) -> Result<Bytes, RescueError> {
        let name = || format!("chunk {id}");
        let place = match records.get(&record::chunk_key(id)) {
            Some(value) => ChunkPlace::decode(value.clone()).ok(),
            None => extent.place.clone(),
        };
        let missing = RescueError::Damaged { name: name(), source: FormatError::Malformed("nothing says where it is") };
        let place = place.ok_or(missing)?;
        let pack = place.pack_id().map_err(|source| RescueError::Damaged { name: name(), source })?;
        let object = self.pack(pack).await?;
        let range = place.part().range();
        let read = || {
            let sealed = object.get(range.start as usize..range.end as usize).ok_or(FormatError::Seal)?;
            let plain = pack::opener(&self.keys, pack).part(place.part(), sealed)?;
            pack::verify(&self.keys, id, &plain)?;
            Ok(plain)
        };
        read().map_err(|source| RescueError::Damaged { name: format!("{} in {}", name(), layout::pack(pack)), source })
    }

    async fn pack(&mut self, id: PackId) -> Result<Bytes, RescueError> {
        if let Some(at) = self.packs.iter().position(|(kept, _)| *kept == id) {
            let kept = self.packs.remove(at);
            self.packs.push(kept.clone());
            return Ok(kept.1);
        }
        let body = get(&self.store, &layout::pack(id)).await?;
        if self.packs.len() >= PACKS_KEPT {
            self.packs.remove(0);
        }
        self.packs.push((id, body.clone()));
        Ok(body)
    }
}

fn hash(bytes: &[u8]) -> Vec<u8> {
    blake3::hash(bytes).as_bytes().to_vec()
}

fn object(name: &str) -> ObjectName {
    ObjectName::new(name).expect("the layout makes valid names")
}

async fn get(store: &DynStore, name: &str) -> Result<Bytes, RescueError> {
    store.get(&object(name)).await.map_err(|source| RescueError::Store { name: name.to_owned(), source })
}

async fn list(store: &DynStore, prefix: &str) -> Result<Vec<String>, RescueError> {
    let mut names: Vec<String> = Vec::new();
    loop {
        let page = store.list(prefix, names.last().map(String::as_str), 1000).await;
        let page = page.map_err(|source| RescueError::Store { name: prefix.to_owned(), source })?;
        names.extend(page.objects.into_iter().map(|object| object.name.as_str().to_owned()));
        if !page.more {
            return Ok(names);
        }
    }
}
