//! Objects of the store, opened: the configuration, shards, and the chunks in packs.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use haven_format::{
    ChunkId, FormatError, Keys, PackId,
    config::{ConfigError, LockedConfig},
    container::TRAILER_LEN,
    keys::Secret,
    layout,
    pack::{self, PackFooter},
    record::{self, ChunkPlace, Extent, Key},
    root::{Root, ShardRef},
    segment::Segment,
    shard,
};
use haven_store::{DynStore, ObjectMeta, ObjectName, StoreError};
use prost::Message;

use crate::Records;

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

impl RescueError {
    pub(crate) fn damaged(name: impl Into<String>) -> impl FnOnce(FormatError) -> Self {
        |source| Self::Damaged { name: name.into(), source }
    }
}

/// A library, opened for reading.
#[derive(Debug)]
pub struct Library {
    store: DynStore,
    keys: Keys,
    packs: Vec<(PackId, Bytes)>,
    /// What every pack says is in it: read when the records don't tell where a chunk is.
    footers: Option<HashMap<ChunkId, Vec<ChunkPlace>>>,
    /// The tip of the log and what it follows, by position.
    pub(crate) history: Option<BTreeMap<u64, String>>,
    /// What was passed over, and why: newest roots, ends of the log, places of chunks.
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
                Ok(open) => {
                    let keys = open.keys().clone();
                    return Ok(Self { store, keys, packs: Vec::new(), footers: None, history: None, passed_over });
                }
                Err(error) => {
                    passed_over.push(format!("{name}: {error}"));
                    why.get_or_insert(error);
                }
            }
        }
        Err(why.map_or(RescueError::NoLibrary, RescueError::Locked))
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Tells of it, once.
    pub(crate) fn tell(&mut self, what: String) {
        if !self.passed_over.contains(&what) {
            self.passed_over.push(what);
        }
    }

    /// Names of objects that begin with `prefix`, in order.
    pub(crate) async fn names(&self, prefix: &str) -> Result<Vec<String>, RescueError> {
        list(&self.store, prefix).await
    }

    /// Every object in the store.
    pub(crate) async fn everything(&self) -> Result<Vec<ObjectMeta>, RescueError> {
        list_all(&self.store, "").await
    }

    pub(crate) async fn get(&self, name: &str) -> Result<Bytes, RescueError> {
        get(&self.store, name).await
    }

    /// Whether the object is there.
    pub(crate) async fn has(&self, name: &str) -> Result<bool, RescueError> {
        match self.store.head(&object(name)?).await {
            Ok(_) => Ok(true),
            Err(StoreError::NotFound { .. }) => Ok(false),
            Err(source) => Err(RescueError::Store { name: name.to_owned(), source }),
        }
    }

    /// A segment, and the hash of the whole object.
    pub(crate) async fn segment(&self, name: &str) -> Result<(Segment, Vec<u8>), RescueError> {
        let body = self.get(name).await?;
        let segment = Segment::open(&self.keys, name, &body).map_err(RescueError::damaged(name))?;
        Ok((segment, hash(&body)))
    }

    pub(crate) async fn root(&self, name: &str) -> Result<Root, RescueError> {
        Root::open(&self.keys, name, &self.get(name).await?).map_err(RescueError::damaged(name))
    }

    /// The records of a shard.
    pub(crate) async fn shard(&self, reference: &ShardRef) -> Result<Vec<(Key, shard::Value)>, RescueError> {
        let id = reference.shard_id().map_err(RescueError::damaged("a shard"))?;
        let name = layout::shard(id);
        let body = self.get(&name).await?;
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
        read().map_err(RescueError::damaged(name))
    }

    /// The plain bytes of the chunk an extent refers to, compared with its hash. `index` holds the chunk index of the
    /// newest state; where that is wrong, the extent's own word and then the packs themselves are asked.
    pub(crate) async fn chunk(&mut self, index: &Records, extent: &Extent, id: ChunkId) -> Result<Bytes, RescueError> {
        let mut places: Vec<ChunkPlace> = place(index, id).into_iter().chain(extent.place.clone()).collect();
        places.dedup();
        let mut why = None;
        for place in places {
            match self.chunk_at(&place, id).await {
                Ok(plain) => return Ok(self.found_after(why, plain)),
                Err(error) => _ = why.get_or_insert(error),
            }
        }
        for place in self.search(id).await? {
            if let Ok(plain) = self.chunk_at(&place, id).await {
                return Ok(self.found_after(why, plain));
            }
        }
        let unknown = || RescueError::damaged(format!("chunk {id}"))(FormatError::Malformed("no pack has it"));
        Err(why.unwrap_or_else(unknown))
    }

    fn found_after(&mut self, why: Option<RescueError>, plain: Bytes) -> Bytes {
        if let Some(error) = why {
            self.tell(format!("{error}; another copy of it is whole"));
        }
        plain
    }

    pub(crate) async fn chunk_at(&mut self, place: &ChunkPlace, id: ChunkId) -> Result<Bytes, RescueError> {
        let pack = place.pack_id().map_err(RescueError::damaged(format!("chunk {id}")))?;
        let object = self.pack(pack).await?;
        let range = place.part().range();
        let read = || {
            let sealed = object.get(range.start as usize..range.end as usize).ok_or(FormatError::Seal)?;
            let plain = pack::opener(&self.keys, pack).part(place.part(), sealed)?;
            pack::verify(&self.keys, id, &plain)?;
            Ok(plain)
        };
        read().map_err(RescueError::damaged(format!("chunk {id} in {}", layout::pack(pack))))
    }

    async fn pack(&mut self, id: PackId) -> Result<Bytes, RescueError> {
        if let Some(at) = self.packs.iter().position(|(kept, _)| *kept == id) {
            let kept = self.packs.remove(at);
            self.packs.push(kept.clone());
            return Ok(kept.1);
        }
        let body = self.get(&layout::pack(id)).await?;
        if self.packs.len() >= PACKS_KEPT {
            self.packs.remove(0);
        }
        self.packs.push((id, body.clone()));
        Ok(body)
    }

    /// Where the packs say that the chunk is.
    async fn search(&mut self, id: ChunkId) -> Result<Vec<ChunkPlace>, RescueError> {
        if self.footers.is_none() {
            let mut footers: HashMap<ChunkId, Vec<ChunkPlace>> = HashMap::new();
            for found in list_all(&self.store, layout::PACKS).await? {
                let Some(pack) = layout::parse_pack(found.name.as_str()) else { continue };
                // One that can't be read can't help here, and is told of where it is needed.
                for chunk in self.footer(pack, &found).await.map(|footer| footer.chunks).unwrap_or_default() {
                    if let Ok(id) = chunk.chunk() {
                        footers.entry(id).or_default().push(ChunkPlace::new(pack, chunk.part(), chunk.plain_len));
                    }
                }
            }
            self.footers = Some(footers);
        }
        Ok(self.footers.as_ref().and_then(|footers| footers.get(&id)).cloned().unwrap_or_default())
    }

    async fn footer(&self, pack: PackId, found: &ObjectMeta) -> Result<PackFooter, RescueError> {
        let damaged = |source| RescueError::Damaged { name: found.name.to_string(), source };
        let range = async |from: u64, to: u64| {
            let bytes = self.store.get_range(&found.name, from..to).await;
            bytes.map_err(|source| RescueError::Store { name: found.name.to_string(), source })
        };
        let opener = pack::opener(&self.keys, pack);
        let end = found.bytes.saturating_sub(TRAILER_LEN as u64);
        let part = opener.footer_part(found.bytes, &range(end, found.bytes).await?).map_err(damaged)?;
        let sealed = range(part.range().start, part.range().end).await?;
        let footer = opener.footer(part, &sealed).map_err(damaged)?;
        PackFooter::decode(footer).map_err(|error| damaged(error.into()))
    }
}

/// Where `index` says that the chunk is.
pub(crate) fn place(index: &Records, id: ChunkId) -> Option<ChunkPlace> {
    index.get(&record::chunk_key(id)).and_then(|value| ChunkPlace::decode(value.clone()).ok())
}

fn hash(bytes: &[u8]) -> Vec<u8> {
    blake3::hash(bytes).as_bytes().to_vec()
}

/// Names come from records too, which may say anything.
fn object(name: &str) -> Result<ObjectName, RescueError> {
    ObjectName::new(name).map_err(|_| RescueError::damaged(name)(FormatError::Malformed("no object has such a name")))
}

async fn get(store: &DynStore, name: &str) -> Result<Bytes, RescueError> {
    store.get(&object(name)?).await.map_err(|source| RescueError::Store { name: name.to_owned(), source })
}

async fn list(store: &DynStore, prefix: &str) -> Result<Vec<String>, RescueError> {
    Ok(list_all(store, prefix).await?.into_iter().map(|found| found.name.to_string()).collect())
}

async fn list_all(store: &DynStore, prefix: &str) -> Result<Vec<ObjectMeta>, RescueError> {
    let mut all: Vec<ObjectMeta> = Vec::new();
    loop {
        let page = store.list(prefix, all.last().map(|found| found.name.as_str()), 1000).await;
        let page = page.map_err(|source| RescueError::Store { name: prefix.to_owned(), source })?;
        all.extend(page.objects);
        if !page.more {
            return Ok(all);
        }
    }
}
