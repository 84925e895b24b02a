//! A library that lives: photos come and go, snapshots are taken, what is no longer needed is collected; and the states
//! that it had, to compare copies with.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use haven_format::{
    Ino, Keys, Nonce,
    config::OpenConfig,
    keys::{Argon2Cost, Secret},
    layout, pack,
    record::{self, ChunkPlace, Extent, Key, Op, Time},
    root::Root,
};
use haven_replica::{Options, Replicator, World};
use haven_rescue::{Library as Rescue, Records, audit, snapshots};
use haven_store::{DynStore, ListPage, ObjectMeta, ObjectName, PutMode, Store, StoreError, memory::Memory};
use haven_vault::{
    Change, Options as VaultOptions, Vault, VaultError,
    collect::{CollectOptions, CollectRun},
    disk::MemoryDisk,
    world::{Clock, Dice},
};
use parking_lot::Mutex;
use prost::Message;
use rand::{Rng, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;

pub const DAY: i64 = 86_400;

/// Seconds since the epoch, turned by hand; and by tokio's clock.
#[derive(Debug, Clone)]
pub struct Hands(Arc<AtomicI64>, tokio::time::Instant);

impl Hands {
    pub fn turn(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::Relaxed);
    }
}

impl Clock for Hands {
    fn now(&self) -> Time {
        let since = self.1.elapsed();
        Time { seconds: self.0.load(Ordering::Relaxed) + since.as_secs() as i64, nanos: since.subsec_nanos() }
    }
}

pub fn secret() -> Secret {
    Secret::passphrase("photos").unwrap()
}

/// Photos by name.
pub type Photos = BTreeMap<Key, Bytes>;

/// A photo is one extent of an inode of its own.
fn photo_key(number: u64) -> Key {
    record::extent_key(Ino(1000 + number), 0)
}

fn photo_keys() -> std::ops::Range<Key> {
    record::inodes_from(Ino(1000))
}

pub struct Source {
    pub bucket: Arc<Memory>,
    pub keys: Keys,
    pub vault: Arc<Vault>,
    pub clock: Hands,
    pub rng: ChaCha8Rng,
    disk: Arc<MemoryDisk>,
    seed: u64,
    /// After each commit.
    pub states: Vec<Photos>,
}

impl Source {
    pub async fn new(seed: u64) -> Self {
        let bucket = Arc::new(Memory::labelled("source"));
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let cheap = Argon2Cost { memory_kib: 8, passes: 1, lanes: 1 };
        let then = Time { seconds: 1_800_000_000, nanos: 0 };
        let config = OpenConfig::create(&secret(), "test", cheap, then, &mut |out| rng.fill(out)).unwrap();
        let (name, body) = config.seal(Nonce([7; 8]));
        bucket.plant(&name, body);
        let keys = config.keys().clone();
        let clock = Hands(Arc::new(AtomicI64::new(1_800_000_000)), tokio::time::Instant::now());
        let disk = MemoryDisk::new();
        let vault = open(bucket.clone(), &disk, &clock, seed, &keys).await;
        Self { bucket, keys, vault, clock, rng, disk, seed, states: vec![Photos::new()] }
    }

    pub fn clock_seconds(&self) -> i64 {
        self.clock.now().seconds
    }

    pub fn store(&self) -> DynStore {
        self.bucket.clone()
    }

    /// Another writer takes over, with nothing but the bucket.
    pub async fn another_machine(&mut self) {
        self.moved_to(self.bucket.clone(), self.bucket.clone()).await;
    }

    /// A writer goes on in another bucket, seen through `store`.
    pub async fn moved_to(&mut self, bucket: Arc<Memory>, store: DynStore) {
        self.seed += 1000;
        self.disk = MemoryDisk::new();
        self.bucket = bucket;
        self.vault = open(store, &self.disk, &self.clock, self.seed, &self.keys).await;
    }

    pub fn world(&self) -> World {
        let (clock, dice) = (self.clock.clone(), Mutex::new(ChaCha8Rng::seed_from_u64(self.states.len() as u64)));
        World {
            clock: Arc::new(move || clock.now()),
            dice: Arc::new(move |out| dice.lock().fill(out)),
            host: "replicator".into(),
        }
    }

    pub fn photos(&self) -> Photos {
        self.states.last().unwrap().clone()
    }

    /// Stores some photos and removes some, in one commit.
    pub async fn change(&mut self) {
        let mut photos = self.photos();
        let mut ops = Vec::new();
        for _ in 0..self.rng.random_range(1..4) {
            let key = photo_key(self.rng.random_range(0..60));
            let mut bytes = vec![0; self.rng.random_range(1..60_000)];
            self.rng.fill(&mut bytes[..]);
            let (id, place) = patiently(&self.vault, || self.vault.put(&bytes)).await;
            let chunk = Bytes::copy_from_slice(&id.0);
            let extent = Extent { len: bytes.len() as u64, chunk, skip: 0, place: Some(place) };
            ops.push(Op { key: key.clone(), value: Some(extent.encode_to_vec().into()) });
            photos.insert(key, bytes.into());
        }
        if self.rng.random_bool(0.5) {
            let gone = photos.keys().collect::<Vec<_>>().choose(&mut self.rng).map(|key| (*key).clone()).unwrap();
            ops.retain(|op| op.key != gone);
            ops.push(Op { key: gone.clone(), value: None });
            photos.remove(&gone);
        }
        self.commit(ops).await;
        *self.states.last_mut().unwrap() = photos;
    }

    pub async fn commit(&mut self, ops: Vec<Op>) {
        patiently(&self.vault, || self.vault.commit(ops.clone(), Change::default())).await;
        self.states.push(self.photos());
    }

    pub async fn sent(&self) {
        self.vault.sync_bucket(self.vault.head()).await.unwrap();
    }

    pub async fn checkpoint(&self) {
        self.vault.checkpoint().await.unwrap();
    }

    /// Lives for a while.
    pub async fn live(&mut self, steps: usize) {
        for _ in 0..steps {
            match self.rng.random_range(0..100) {
                0..60 => self.change().await,
                60..80 => self.sent().await,
                80..88 => self.checkpoint().await,
                88..94 => {
                    let name = format!("snapshot {} of {}", self.states.len(), self.seed);
                    patiently(&self.vault, || self.vault.take_snapshot(name.as_bytes(), "", "test")).await;
                    self.states.push(self.photos());
                }
                94..97 => {
                    let snapshots = patiently(&self.vault, || self.vault.snapshots()).await;
                    if let Some((name, _)) = snapshots.first() {
                        patiently(&self.vault, || self.vault.remove_snapshot(name)).await;
                        self.states.push(self.photos());
                    }
                }
                _ => tokio::time::sleep(Duration::from_secs(2)).await,
            }
        }
        // Checkpoints that snapshots asked for come to rest.
        tokio::time::sleep(Duration::from_secs(10)).await;
        self.sent().await;
    }

    /// Condemns what is needed no more, and deletes it at once.
    pub async fn collect(&mut self) {
        for _ in 0..2 {
            self.vault.collect(CollectRun { release: true, ..CollectRun::default() }).await.unwrap();
        }
        self.states.push(self.photos());
        self.sent().await;
    }

    pub fn newest_root(&self) -> Root {
        let names = self.bucket.names();
        let name = names.iter().find(|name| layout::parse_root(name).is_some()).expect("there is a root");
        Root::open(&self.keys, name, &self.bucket.peek(name).unwrap()).unwrap()
    }
}

async fn open(store: DynStore, disk: &Arc<MemoryDisk>, clock: &Hands, seed: u64, keys: &Keys) -> Arc<Vault> {
    let world = haven_vault::World {
        store,
        disk: disk.clone(),
        clock: Arc::new(clock.clone()),
        dice: Arc::new(Dice::from_seed(seed)),
        host: format!("machine-{seed}"),
        threads: false,
    };
    let collect = CollectOptions { every: None, grace: Duration::ZERO, waste: 0.02, ..CollectOptions::default() };
    let options = VaultOptions {
        cache_limit: 1 << 30,
        checkpoint_after: Duration::from_secs(3600),
        collect,
        ..VaultOptions::default()
    };
    Vault::open(world, keys.clone(), options).await.unwrap()
}

pub async fn patiently<T>(vault: &Arc<Vault>, call: impl Fn() -> Result<T, VaultError>) -> T {
    loop {
        match call() {
            Err(VaultError::Need(need)) => vault.settle(&need).await.unwrap(),
            other => return other.unwrap(),
        }
    }
}

/// A replicator of `source`, like one of a process that has just begun.
pub fn replicator(source: &Source, from: DynStore, to: DynStore, options: Options) -> Replicator {
    Replicator::new(from, to, &source.keys, source.world(), options, None)
}

/// The photos in a copy, read by the second reader; every one compared with its hash.
pub async fn photos_in(copy: &Arc<Memory>, keys: &Keys) -> Result<Photos, String> {
    if !copy.names().iter().any(|name| name.starts_with(layout::CONFIGS)) {
        // Nothing was copied yet.
        return Ok(Photos::new());
    }
    let mut library = Rescue::open(copy.clone(), &secret()).await.map_err(|error| error.to_string())?;
    let records = library.newest().await.map_err(|error| error.to_string())?.records;
    if !library.passed_over.is_empty() {
        return Err(format!("passed over: {:?}", library.passed_over));
    }
    photos_of(copy, keys, &records, &records)
}

fn photos_of(copy: &Memory, keys: &Keys, records: &Records, index: &Records) -> Result<Photos, String> {
    let mut photos = Photos::new();
    for (key, value) in records.range(photo_keys()) {
        let extent = Extent::decode(value.clone()).map_err(|error| error.to_string())?;
        photos.insert(key.clone(), photo(copy, keys, index, &extent)?);
    }
    Ok(photos)
}

/// A copy that is complete: the newest state is the source's, all snapshots can be read, and nothing that anybody needs
/// is missing, as the second reader sees it.
pub async fn check_complete(copy: &Arc<Memory>, source: &Source, when: &str) {
    let photos = photos_in(copy, &source.keys).await.unwrap_or_else(|why| panic!("{when}: {why}"));
    assert!(photos == source.photos(), "{when}: {} photos are not the source's", photos.len());
    let mut library = Rescue::open(copy.clone(), &secret()).await.unwrap();
    let newest = library.newest().await.unwrap();
    for (name, snapshot) in snapshots(&newest.records) {
        let past = library.past(&snapshot).await.unwrap();
        let photos = photos_of(copy, &source.keys, &past.records, &newest.records);
        let photos = photos.unwrap_or_else(|why| panic!("{when}: {name}: {why}"));
        assert!(source.states.contains(&photos), "{when}: {name} is no state that was");
    }
    assert_eq!(library.passed_over, Vec::<String>::new(), "{when}");
    let seen = audit(&mut library, 0, source.clock_seconds()).await.unwrap();
    assert!(
        seen.missing.is_empty() && seen.passed_over.is_empty(),
        "{when}: {:?} {:?}",
        seen.missing,
        seen.passed_over
    );
}

fn photo(copy: &Memory, keys: &Keys, records: &Records, extent: &Extent) -> Result<Bytes, String> {
    let chunk = extent.chunk_id().ok_or("an extent without a chunk")?;
    let place = match records.get(&record::chunk_key(chunk)) {
        Some(value) => ChunkPlace::decode(value.clone()).map_err(|error| error.to_string())?,
        None => extent.place.clone().ok_or("nothing says where a chunk is")?,
    };
    let pack = place.pack_id().map_err(|error| error.to_string())?;
    let name = layout::pack(pack);
    let body = copy.peek(&name).ok_or(format!("{name} is missing"))?;
    let range = place.part().range();
    let sealed = body.get(range.start as usize..range.end as usize).ok_or(format!("{name} is cut off"))?;
    let plain = pack::opener(keys, pack).part(place.part(), sealed).map_err(|error| format!("{name}: {error}"))?;
    pack::verify(keys, chunk, &plain).map_err(|error| format!("{name}: {error}"))?;
    Ok(plain)
}

/// The library's own objects, without leases and standings.
pub fn objects(store: &Memory) -> BTreeMap<String, Bytes> {
    let names = store.names().into_iter();
    let own = names.filter(|name| !name.starts_with(layout::LEASES) && !name.starts_with(layout::STANDINGS));
    own.map(|name| (name.clone(), store.peek(&name).unwrap())).collect()
}

/// Keeps a copy of the whole store after each change.
#[derive(Debug)]
pub struct Filmed {
    pub memory: Arc<Memory>,
    pub film: Mutex<Vec<(String, Memory)>>,
}

impl Filmed {
    pub fn new(memory: &Arc<Memory>) -> Arc<Self> {
        Arc::new(Self { memory: memory.clone(), film: Mutex::default() })
    }

    fn shoot(&self, what: &str, name: &ObjectName) {
        self.film.lock().push((format!("{what} {name}"), self.memory.fork()));
    }
}

#[async_trait]
impl Store for Filmed {
    fn describe(&self) -> String {
        self.memory.describe()
    }

    async fn put(&self, name: &ObjectName, body: Bytes, mode: PutMode) -> Result<(), StoreError> {
        self.memory.put(name, body, mode).await?;
        self.shoot("put", name);
        Ok(())
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        self.memory.get(name).await
    }

    async fn get_range(&self, name: &ObjectName, range: std::ops::Range<u64>) -> Result<Bytes, StoreError> {
        self.memory.get_range(name, range).await
    }

    async fn head(&self, name: &ObjectName) -> Result<ObjectMeta, StoreError> {
        self.memory.head(name).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<ListPage, StoreError> {
        self.memory.list(prefix, after, limit).await
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.memory.delete(name).await?;
        self.shoot("delete", name);
        Ok(())
    }

    async fn copy(&self, from: &ObjectName, to: &ObjectName) -> Result<(), StoreError> {
        self.memory.copy(from, to).await
    }
}
