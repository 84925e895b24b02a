//! Metadata shards on this machine: kept as files under `shards/`, read block by block.
//!
//! A shard that is not here is a [`Need`]; one that is damaged here is dropped and needed again. While the disk takes
//! none, a few are kept in memory: what was fetched can be read.

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
    files::{OpenFiles, Ticket, too_many},
    local,
    world::World,
};

/// Records of one block.
pub(crate) type Block = Arc<Vec<(Key, Value)>>;

/// Memory for decoded blocks, in bytes.
const BLOCK_CACHE_BYTES: u64 = 64 << 20;

/// How many bytes of shards are kept in memory that found no place on the disk.
const GUESTS_MAX: usize = 16 << 20;

#[derive(Debug, Clone)]
struct ByLength;

impl Weighter<(ShardId, u32), Block> for ByLength {
    fn weight(&self, _: &(ShardId, u32), block: &Block) -> u64 {
        // Keys and values share the block's bytes; beside them stand two handles a record.
        (shard::BLOCK_BYTES + block.len() * size_of::<(Key, Value)>()) as u64
    }
}

/// Where a shard's bytes are read.
#[derive(Debug)]
enum Source {
    File(DynFile),
    Memory(Bytes),
}

impl Source {
    fn len(&self) -> io::Result<u64> {
        match self {
            Self::File(file) => file.len(),
            Self::Memory(object) => Ok(object.len() as u64),
        }
    }

    fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        match self {
            Self::File(file) => file.read_at(offset, len).map(Bytes::from),
            Self::Memory(object) => {
                let range = offset as usize..offset as usize + len;
                if range.end > object.len() {
                    Err(io::ErrorKind::UnexpectedEof.into())
                } else {
                    Ok(object.slice(range))
                }
            }
        }
    }
}

#[derive(Debug)]
pub(crate) struct OpenShard {
    id: ShardId,
    bytes: u64,
    ticket: Ticket,
    opener: Opener,
    pub(crate) index: ShardIndex,
}

#[derive(Debug)]
pub(crate) struct Shards {
    world: World,
    keys: Keys,
    budget: Arc<Budget>,
    open: Mutex<HashMap<ShardId, Arc<OpenShard>>>,
    /// One is kept open only under the lock of `open`, while the shard is in it.
    files: OpenFiles,
    blocks: Cache<(ShardId, u32), Block, ByLength>,
    guests: Mutex<Vec<(ShardId, Bytes)>>,
    /// Whoever writes or removes a file holds it, and counts its bytes meanwhile: two may bring the same shard.
    writing: Mutex<()>,
}

fn file_name(id: ShardId) -> String {
    format!("shards/{id}")
}

impl Shards {
    pub(crate) fn new(world: World, keys: Keys, budget: Arc<Budget>) -> Self {
        let items = (BLOCK_CACHE_BYTES / shard::BLOCK_BYTES as u64) as usize;
        let blocks = Cache::with_weighter(items, BLOCK_CACHE_BYTES, ByLength);
        let (open, files, guests, writing) = (Mutex::default(), OpenFiles::new(), Mutex::default(), Mutex::default());
        Self { world, keys, budget, open, files, blocks, guests, writing }
    }

    /// Takes account of what an earlier run left. Call once, first.
    pub(crate) fn adopt(&self) -> Result<()> {
        for name in self.world.disk.list("shards").map_err(local)? {
            let path = format!("shards/{name}");
            let whole = ShardId::from_hex(&name).map(|id| (id, self.world.disk.open(&path).and_then(|f| f.len())));
            match whole {
                Some((id, Ok(len))) if self.budget.take_free(on_disk(len), Use::Metadata) => {
                    self.budget.clean(Clean::Shard(id), on_disk(len));
                }
                Some((_, Err(error))) if too_many(&error) => return Err(local(error)),
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
        let source = match self.find(id) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(self.need(id, wanted.bytes)),
            Err(error) if too_many(&error) => return Err(local(error)),
            opened => opened.map_err(|_| FormatError::Malformed("the file can't be opened")),
        };
        match source.and_then(|source| self.look_into(id, wanted.bytes, &source)) {
            Ok(shard) => Ok(self.open.lock().entry(id).or_insert(Arc::new(shard)).clone()),
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

    fn look_into(&self, id: ShardId, bytes: u64, source: &Source) -> Result<OpenShard, FormatError> {
        let unreadable = |_| FormatError::Malformed("the file can't be read");
        if source.len().map_err(unreadable)? != bytes {
            return Err(FormatError::Malformed("the file has another length"));
        }
        let opener = shard::opener(&self.keys, id);
        let trailer = source.read_at(bytes.saturating_sub(TRAILER_LEN as u64), TRAILER_LEN).map_err(unreadable)?;
        let part = opener.footer_part(bytes, &trailer)?;
        let footer = source.read_at(u64::from(part.offset), part.len as usize).map_err(unreadable)?;
        let index = shard::index(opener.footer(part, &footer)?)?;
        Ok(OpenShard { id, bytes, ticket: self.files.ticket(), opener, index })
    }

    /// Where the shard is on this machine.
    fn find(&self, id: ShardId) -> io::Result<Source> {
        match self.world.disk.open(&file_name(id)) {
            Ok(file) => Ok(Source::File(file)),
            Err(error) => {
                let guests = self.guests.lock();
                let guest = guests.iter().find(|(guest, _)| *guest == id);
                guest.map(|(_, object)| Source::Memory(object.clone())).ok_or(error)
            }
        }
    }

    /// Where the shard is read. What has its name on the disk has its bytes: it gets the name when it is whole.
    fn source(&self, shard: &OpenShard) -> io::Result<Source> {
        if let Some(file) = self.files.get(shard.ticket) {
            return Ok(Source::File(file));
        }
        let source = self.find(shard.id)?;
        if let Source::File(file) = &source {
            // Held until it is kept: else it could be removed in between, and what is left of it would stay open.
            let open = self.open.lock();
            if open.get(&shard.id).is_some_and(|now| now.ticket == shard.ticket) {
                self.files.keep(shard.ticket, file.clone());
            }
        }
        Ok(source)
    }

    /// Block number `number` of the shard.
    pub(crate) fn block(&self, shard: &OpenShard, number: usize) -> Result<Block> {
        let key = (shard.id, number as u32);
        if let Some(block) = self.blocks.get(&key) {
            return Ok(block);
        }
        let part = shard.index.blocks[number].part();
        let source = match self.source(shard) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // It has given way since it was loaded.
                self.drop_local(shard.id);
                return Err(self.need(shard.id, shard.bytes));
            }
            Err(error) if too_many(&error) => return Err(local(error)),
            opened => opened.map_err(|_| FormatError::Malformed("the file can't be opened")),
        };
        match source.and_then(|source| read_block(shard, part, &source)) {
            Ok(block) => {
                self.budget.touch(Clean::Shard(shard.id));
                self.blocks.insert(key, block.clone());
                Ok(block)
            }
            Err(error) => {
                tracing::warn!(shard = %shard.id, %error, "a cached metadata shard is damaged; it will be fetched again");
                self.drop_local(shard.id);
                Err(self.need(shard.id, shard.bytes))
            }
        }
    }

    /// Keeps a shard that has just come from the bucket.
    /// Opens all of it first: one that is damaged in the bucket must not be taken for a bad copy here, which is fetched
    /// again, and again.
    pub(crate) fn keep(&self, id: ShardId, object: &Bytes) -> Result<()> {
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
        self.keep_somewhere(id, object);
        Ok(())
    }

    /// The same for one this program has just made.
    pub(crate) fn keep_own(&self, shard: &FinishedShard) {
        self.keep_somewhere(shard.id, &shard.object);
    }

    /// On the disk, or in memory for a while: the bucket has it.
    fn keep_somewhere(&self, id: ShardId, object: &Bytes) {
        match self.write(id, object) {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => tracing::warn!(shard = %id, %error, "a metadata shard can't be kept in the cache"),
        }
        let mut guests = self.guests.lock();
        guests.retain(|(other, _)| *other != id);
        guests.push((id, object.clone()));
        let mut total: usize = guests.iter().map(|(_, object)| object.len()).sum();
        while total > GUESTS_MAX && guests.len() > 1 {
            total -= guests.remove(0).1.len();
        }
    }

    /// `Ok(false)`: there is no room.
    fn write(&self, id: ShardId, object: &Bytes) -> Result<bool> {
        let bytes = on_disk(object.len() as u64);
        let name = file_name(id);
        let here = || self.world.disk.open(&name).and_then(|file| file.len());
        let is_here = || here().is_ok_and(|length| length == object.len() as u64);
        if is_here() {
            return Ok(true);
        }
        if !self.budget.make_room(bytes, Use::Metadata) {
            return Ok(false);
        }
        // Not before: whoever has to give way for it is removed under the same lock.
        let _alone = self.writing.lock();
        if is_here() {
            self.budget.release(bytes);
            return Ok(true);
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

    /// Forgets what it knows of all shards that are not in `runs`: they were opened for one look.
    pub(crate) fn close_all_but(&self, runs: &[Run]) {
        let kept: HashSet<ShardId> =
            runs.iter().flat_map(|run| &run.shards).filter_map(|shard| shard.shard_id().ok()).collect();
        self.open.lock().retain(|id, shard| {
            let stays = kept.contains(id);
            if !stays {
                self.files.shut(shard.ticket);
            }
            stays
        });
    }

    /// Removes the local file; the budget gets its bytes back.
    pub(crate) fn drop_local(&self, id: ShardId) {
        let _alone = self.writing.lock();
        if let Some(shard) = self.open.lock().remove(&id) {
            self.files.shut(shard.ticket);
        }
        self.guests.lock().retain(|(guest, _)| *guest != id);
        let _ = self.world.disk.remove(&file_name(id));
        self.budget.gone(Clean::Shard(id));
    }
}

fn read_block(shard: &OpenShard, part: Part, source: &Source) -> Result<Block, FormatError> {
    let sealed = source
        .read_at(u64::from(part.offset), part.len as usize)
        .map_err(|_| FormatError::Malformed("the file can't be read"))?;
    Ok(Arc::new(shard::records(shard.opener.part(part, &sealed)?)?))
}

fn damaged(id: &[u8], error: &FormatError) -> VaultError {
    let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    VaultError::Damaged { object: format!("{}{hex}", layout::SHARDS), detail: error.to_string() }
}

#[cfg(test)]
mod tests {
    use haven_format::{LibraryId, crypto::MasterKey, shard::ShardWriter};
    use haven_store::memory::Memory;

    use super::*;
    use crate::{disk::MemoryDisk, files::OPEN_MAX, world::Dice};

    fn shards() -> (World, Keys, Shards) {
        let keys = Keys::new(LibraryId([7; 16]), &MasterKey([8; 32]));
        let world = World {
            store: Arc::new(Memory::new()),
            disk: MemoryDisk::new(),
            clock: Arc::new(crate::world::SystemClock),
            dice: Arc::new(Dice::from_seed(1)),
            host: "here".into(),
            threads: false,
        };
        let shards = Shards::new(world.clone(), keys.clone(), Arc::new(Budget::new(1 << 30)));
        (world, keys, shards)
    }

    fn made(world: &World, keys: &Keys) -> FinishedShard {
        let mut writer = ShardWriter::new(keys, ShardId(world.dice.roll()));
        writer.push(&Key::from_static(b"key"), &Some(Bytes::from_static(b"value")), || world.dice.roll());
        writer.finish(|| world.dice.roll()).unwrap()
    }

    fn reference(shard: &FinishedShard) -> ShardRef {
        ShardRef { id: shard.id.0.to_vec(), bytes: shard.object.len() as u64, ..ShardRef::default() }
    }

    #[test]
    fn more_shards_are_read_than_stay_open() {
        let (world, keys, shards) = shards();
        let all: Vec<FinishedShard> = (0..2 * OPEN_MAX).map(|_| made(&world, &keys)).collect();
        for shard in &all {
            shards.keep_own(shard);
            let opened = shards.load(&reference(shard)).unwrap();
            assert_eq!(shards.block(&opened, 0).unwrap().len(), 1);
            assert!(shards.source(&opened).is_ok());
        }
        assert!((1..=OPEN_MAX).contains(&shards.files.count()), "{}", shards.files.count());
        for shard in &all {
            let opened = shards.load(&reference(shard)).unwrap();
            shards.source(&opened).unwrap();
            // What has to go is not held by an open file.
            shards.drop_local(shard.id);
            assert!(shards.files.get(opened.ticket).is_none());
        }
        assert_eq!((shards.files.count(), shards.budget.used().0), (0, 0));
    }

    #[test]
    fn many_may_bring_the_same_shard() {
        let (world, keys, shards) = shards();
        for _ in 0..200 {
            let shard = made(&world, &keys);
            let before = shards.budget.used().0;
            let start = std::sync::Barrier::new(4);
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        start.wait();
                        shards.keep(shard.id, &shard.object).unwrap();
                    });
                }
            });
            assert_eq!(shards.cached(shard.id).as_ref(), Some(&shard.object));
            // Its bytes count once.
            assert_eq!(shards.budget.used().0 - before, on_disk(shard.object.len() as u64));
        }
    }

    #[test]
    fn a_shard_that_comes_back_while_it_is_removed_is_counted() {
        let (world, keys, shards) = shards();
        let shard = made(&world, &keys);
        for round in 0..2000 {
            shards.keep_own(&shard);
            let start = std::sync::Barrier::new(2);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    start.wait();
                    shards.drop_local(shard.id);
                });
                start.wait();
                shards.keep_own(&shard);
            });
            let here = shards.cached(shard.id).map_or(0, |object| on_disk(object.len() as u64));
            assert_eq!(shards.budget.used().0, here, "round {round}");
        }
    }
}
