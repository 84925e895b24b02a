//! Metadata shards on this machine: kept as files under `shards/`, read block by block.
//!
//! A shard that is not here is a [`Need`]; one that is damaged here is dropped and needed again.

use std::{
    collections::{HashMap, HashSet},
    io,
    sync::Arc,
};

use bytes::Bytes;
use haven_format::{
    FormatError, Keys, ShardId,
    container::{Opener, Part, TRAILER_LEN},
    layout,
    record::Key,
    root::{Run, ShardRef},
    shard::{self, FinishedShard, ShardIndex, Value},
};
use parking_lot::Mutex;
use quick_cache::{Weighter, sync::Cache};

use crate::{
    Need, Result, VaultError,
    budget::{Budget, Clean, Use, on_disk},
    disk::DynFile,
    local,
    world::World,
};

/// Records of one block.
pub(crate) type Block = Arc<Vec<(Key, Value)>>;

/// Memory for decoded blocks, in bytes.
const BLOCK_CACHE_BYTES: u64 = 64 << 20;

#[derive(Debug, Clone)]
struct ByLength;

impl Weighter<(ShardId, u32), Block> for ByLength {
    fn weight(&self, _: &(ShardId, u32), block: &Block) -> u64 {
        // Keys and values share the block's bytes; beside them stand two handles a record.
        (shard::BLOCK_BYTES + block.len() * size_of::<(Key, Value)>()) as u64
    }
}

#[derive(Debug)]
pub(crate) struct OpenShard {
    id: ShardId,
    file: DynFile,
    opener: Opener,
    pub(crate) index: ShardIndex,
}

#[derive(Debug)]
pub(crate) struct Shards {
    world: World,
    keys: Keys,
    budget: Arc<Budget>,
    open: Mutex<HashMap<ShardId, Arc<OpenShard>>>,
    blocks: Cache<(ShardId, u32), Block, ByLength>,
}

fn file_name(id: ShardId) -> String {
    format!("shards/{id}")
}

impl Shards {
    pub(crate) fn new(world: World, keys: Keys, budget: Arc<Budget>) -> Self {
        let items = (BLOCK_CACHE_BYTES / shard::BLOCK_BYTES as u64) as usize;
        let blocks = Cache::with_weighter(items, BLOCK_CACHE_BYTES, ByLength);
        Self { world, keys, budget, open: Mutex::default(), blocks }
    }

    /// Takes account of what an earlier run left. Call once, first.
    pub(crate) fn adopt(&self) -> Result<()> {
        for name in self.world.disk.list("shards").map_err(local)? {
            let path = format!("shards/{name}");
            let whole = ShardId::from_hex(&name).map(|id| (id, self.world.disk.open(&path).and_then(|f| f.len())));
            match whole {
                Some((id, Ok(len))) if self.budget.make_room(on_disk(len), Use::Metadata) => {
                    self.budget.clean(Clean::Shard(id), on_disk(len));
                }
                _ => self.world.disk.remove(&path).map_err(local)?,
            }
        }
        Ok(())
    }

    /// The shard, if it is on this machine and sound.
    pub(crate) fn load(&self, wanted: &ShardRef) -> Result<Arc<OpenShard>> {
        let id = wanted.shard_id().map_err(|error| damaged(&wanted.id, &error))?;
        if let Some(shard) = self.open.lock().get(&id) {
            return Ok(shard.clone());
        }
        match self.open_file(id, wanted.bytes) {
            Ok(Some(shard)) => {
                let shard = Arc::new(shard);
                self.open.lock().insert(id, shard.clone());
                Ok(shard)
            }
            Ok(None) => Err(self.need(id, wanted.bytes)),
            Err(error) => {
                tracing::warn!(shard = %id, %error, "a cached metadata shard is damaged; it will be fetched again");
                self.drop_local(id);
                Err(self.need(id, wanted.bytes))
            }
        }
    }

    /// The shard, if it has been read before.
    pub(crate) fn opened(&self, wanted: &ShardRef) -> Option<Arc<OpenShard>> {
        self.open.lock().get(&wanted.shard_id().ok()?).cloned()
    }

    fn need(&self, id: ShardId, bytes: u64) -> VaultError {
        Need::Fetch { object: layout::shard(id), from: 0, to: bytes, length: bytes }.into()
    }

    fn open_file(&self, id: ShardId, bytes: u64) -> Result<Option<OpenShard>, FormatError> {
        let file = match self.world.disk.open(&file_name(id)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(_) => return Err(FormatError::Malformed("the file can't be opened")),
        };
        let unreadable = |_| FormatError::Malformed("the file can't be read");
        if file.len().map_err(unreadable)? != bytes {
            return Err(FormatError::Malformed("the file has another length"));
        }
        let opener = shard::opener(&self.keys, id);
        let trailer = file.read_at(bytes.saturating_sub(TRAILER_LEN as u64), TRAILER_LEN).map_err(unreadable)?;
        let part = opener.footer_part(bytes, &trailer)?;
        let footer = file.read_at(u64::from(part.offset), part.len as usize).map_err(unreadable)?;
        let index = shard::index(opener.footer(part, &footer)?)?;
        Ok(Some(OpenShard { id, file, opener, index }))
    }

    /// Block number `number` of the shard.
    pub(crate) fn block(&self, shard: &OpenShard, number: usize) -> Result<Block> {
        let key = (shard.id, number as u32);
        if let Some(block) = self.blocks.get(&key) {
            return Ok(block);
        }
        let part = shard.index.blocks[number].part();
        match read_block(shard, part) {
            Ok(block) => {
                self.budget.touch(Clean::Shard(shard.id));
                self.blocks.insert(key, block.clone());
                Ok(block)
            }
            Err(error) => {
                tracing::warn!(shard = %shard.id, %error, "a cached metadata shard is damaged; it will be fetched again");
                let bytes = shard.file.len().unwrap_or(0);
                self.drop_local(shard.id);
                Err(self.need(shard.id, bytes))
            }
        }
    }

    /// Keeps a shard that has just come from the bucket, if there is room for it; `Ok(false)` means there is none at all.
    /// Opens all of it first: one that is damaged in the bucket must not be taken for a bad copy here, which is fetched
    /// again, and again.
    pub(crate) fn keep(&self, id: ShardId, object: &Bytes) -> Result<bool> {
        let opener = shard::opener(&self.keys, id);
        let check = || {
            for block in shard::index(opener.whole_footer(object)?)?.blocks {
                let range = block.part().range();
                let sealed = object.get(range.start as usize..range.end as usize).ok_or(FormatError::Seal)?;
                opener.part(block.part(), sealed)?;
            }
            Ok(())
        };
        check().map_err(|error| damaged(&id.0, &error))?;
        self.write(id, object)
    }

    /// The same for one this program has just made.
    pub(crate) fn keep_own(&self, shard: &FinishedShard) -> Result<bool> {
        self.write(shard.id, &shard.object)
    }

    fn write(&self, id: ShardId, object: &Bytes) -> Result<bool> {
        let bytes = on_disk(object.len() as u64);
        let name = file_name(id);
        if !self.budget.make_room(bytes, Use::Metadata) {
            return Ok(false);
        }
        // Under another name until whole, so that a crash leaves nothing half.
        let half = format!("{name}.new");
        let write = || {
            let file = self.world.disk.create(&half)?;
            file.write_at(0, object)?;
            self.world.disk.rename(&half, &name)
        };
        if let Err(error) = write() {
            let _ = self.world.disk.remove(&half);
            self.budget.release(bytes);
            return Err(local(error));
        }
        self.budget.clean(Clean::Shard(id), bytes);
        Ok(true)
    }

    /// The whole object, if it is on this machine.
    pub(crate) fn cached(&self, id: ShardId) -> Option<Bytes> {
        let file = self.world.disk.open(&file_name(id)).ok()?;
        let length = file.len().ok()?;
        Some(file.read_at(0, length as usize).ok()?.into())
    }

    /// Closes the files of all shards that are not in `runs`: they were opened for one look.
    pub(crate) fn close_all_but(&self, runs: &[Run]) {
        let kept: HashSet<ShardId> =
            runs.iter().flat_map(|run| &run.shards).filter_map(|shard| shard.shard_id().ok()).collect();
        self.open.lock().retain(|id, _| kept.contains(id));
    }

    /// Removes the local file; the budget gets its bytes back.
    pub(crate) fn drop_local(&self, id: ShardId) {
        self.open.lock().remove(&id);
        let _ = self.world.disk.remove(&file_name(id));
        self.budget.gone(Clean::Shard(id));
    }
}

fn read_block(shard: &OpenShard, part: Part) -> Result<Block, FormatError> {
    let sealed = shard
        .file
        .read_at(u64::from(part.offset), part.len as usize)
        .map_err(|_| FormatError::Malformed("the file can't be read"))?;
    Ok(Arc::new(shard::records(shard.opener.part(part, &sealed)?)?))
}

fn damaged(id: &[u8], error: &FormatError) -> VaultError {
    let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    VaultError::Damaged { object: format!("{}{hex}", layout::SHARDS), detail: error.to_string() }
}
