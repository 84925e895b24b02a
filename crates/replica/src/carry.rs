//! Carries one object: fetched, verified by its content, put, and proved to have arrived.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use haven_format::{Keys, layout};
use haven_store::{DynStore, Location, ObjectMeta, PutMode, StoreError};
use md5::{Digest, Md5};
use parking_lot::Mutex;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    task::JoinSet,
};

use crate::{
    Progress, ProgressFn, ReplicaError, Side,
    error::{At, Result},
    inventory::Inventory,
    names::{Kind, object},
    verify::{self, Content},
    world::aside,
};

/// Bodies in memory at once, in MiB.
const ROOM_MIB: u32 = 256;
const MIB: u64 = 1 << 20;
/// More objects at once would wait for memory anyway.
const PARALLEL_MAX: usize = 64;

/// What a store gives as the digest of an object: not known yet, its MD5, or something else.
const UNKNOWN: u8 = 0;
const IS_MD5: u8 = 1;
const IS_OTHER: u8 = 2;

/// Shared by all who carry at once.
#[derive(Clone)]
pub(crate) struct Carrier(Arc<Inner>);

struct Inner {
    source: DynStore,
    replica: DynStore,
    /// Where the source is, if the replica's store can fetch from there by itself.
    neighbour: Option<Location>,
    keys: Keys,
    room: Semaphore,
    inventory: Mutex<Inventory>,
    etags: AtomicU8,
    /// Packs that a chunk index names and no record, which have been asked for.
    tried: tokio::sync::Mutex<HashSet<String>>,
    sent: Counts,
    planned: Counts,
    progress: Option<ProgressFn>,
}

#[derive(Debug, Default)]
struct Counts {
    objects: AtomicU64,
    bytes: AtomicU64,
}

impl Counts {
    fn add(&self, bytes: u64) {
        self.objects.fetch_add(1, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
    }

    fn get(&self) -> (u64, u64) {
        (self.objects.load(Relaxed), self.bytes.load(Relaxed))
    }
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Outcome<T> {
    Done(T),
    /// It is not in the source.
    Gone,
    /// It is in the source and is not what it should be.
    Damaged(String),
}

/// A verified body. It counts as memory in use until it is dropped.
pub(crate) struct Good<'a> {
    body: Bytes,
    pub(crate) content: Content,
    _room: SemaphorePermit<'a>,
}

impl Carrier {
    pub(crate) fn new(source: DynStore, replica: DynStore, keys: &Keys, progress: Option<ProgressFn>) -> Self {
        let neighbour = source.locate().filter(|location| replica.copies_from(location));
        Self(Arc::new(Inner {
            source,
            replica,
            neighbour,
            keys: keys.clone(),
            room: Semaphore::new(ROOM_MIB as usize),
            inventory: Mutex::default(),
            etags: AtomicU8::new(UNKNOWN),
            tried: tokio::sync::Mutex::default(),
            sent: Counts::default(),
            planned: Counts::default(),
            progress,
        }))
    }

    pub(crate) fn knows(&self, inventory: Inventory) {
        *self.0.inventory.lock() = inventory;
    }

    pub(crate) fn inventory<T>(&self, ask: impl FnOnce(&mut Inventory) -> T) -> T {
        ask(&mut self.0.inventory.lock())
    }

    /// Objects and bytes sent so far.
    pub(crate) fn sent(&self) -> (u64, u64) {
        self.0.sent.get()
    }

    /// Says that this much is still to be sent.
    pub(crate) fn plan(&self, objects: u64, bytes: u64) {
        let sent = self.0.sent.get();
        self.0.planned.objects.store(sent.0 + objects, Relaxed);
        self.0.planned.bytes.store(sent.1 + bytes, Relaxed);
        self.tell();
    }

    fn tell(&self) {
        let Some(progress) = &self.0.progress else { return };
        let ((objects, bytes), (objects_total, bytes_total)) = (self.0.sent.get(), self.0.planned.get());
        progress(Progress {
            objects,
            bytes,
            objects_total: objects_total.max(objects),
            bytes_total: bytes_total.max(bytes),
        });
    }

    async fn room(&self, bytes: u64) -> SemaphorePermit<'_> {
        let mib = u32::try_from(bytes.div_ceil(MIB)).unwrap_or(u32::MAX).clamp(1, ROOM_MIB);
        self.0.room.acquire_many(mib).await.expect("never closed")
    }

    /// Fetches and verifies. What does not open is fetched once more: it may have been damaged on the way.
    pub(crate) async fn fetch(&self, name: &str, bytes: u64, hash: Option<&[u8]>) -> Result<Outcome<Good<'_>>> {
        let room = self.room(bytes).await;
        let mut wrong = String::new();
        for _ in 0..2 {
            let body = match self.0.source.get(&object(name)).await {
                Ok(body) => body,
                Err(StoreError::NotFound { .. }) => return Ok(Outcome::Gone),
                Err(error) => return Err(error).at(Side::Source, format!("{name} can't be read")),
            };
            match verified(&self.0.keys, name, body.clone(), hash).await {
                Ok(content) => return Ok(Outcome::Done(Good { body, content, _room: room })),
                Err(error) => {
                    if let Some(source) = error.newer() {
                        return Err(ReplicaError::Newer { side: Side::Source, object: name.to_owned(), source });
                    }
                    wrong = error.to_string();
                }
            }
        }
        Ok(Outcome::Damaged(wrong))
    }

    /// Puts what was fetched.
    pub(crate) async fn deliver(&self, name: &str, good: Good<'_>) -> Result<()> {
        self.put(name, good.body).await
    }

    /// Puts a verified body, and makes sure that it is there.
    pub(crate) async fn put(&self, name: &str, body: Bytes) -> Result<()> {
        let bytes = body.len() as u64;
        let mut kept = Err(String::new());
        for _ in 0..2 {
            let put = self.0.replica.put(&object(name), body.clone(), PutMode::Always).await;
            put.at(Side::Replica, format!("{name} can't be written"))?;
            kept = self.prove(name, &body).await?;
            if kept.is_ok() {
                break;
            }
        }
        if let Err(detail) = kept {
            // By its name and length alone the next run would take it for the right one.
            if let Err(error) = self.0.replica.delete(&object(name)).await {
                tracing::warn!(%error, name, "what the replica has of it stays, and is damaged");
            }
            return Err(ReplicaError::NotKept { object: name.to_owned(), detail });
        }
        self.arrived(name, bytes);
        Ok(())
    }

    /// Length and, where the store gives one, digest. Digests that are not MD5 prove nothing, which is found out by
    /// reading one object back. Once one was an MD5, those that both stores have summed alike are not summed a third time.
    async fn prove(&self, name: &str, body: &Bytes) -> Result<Result<(), String>> {
        let there = match self.0.replica.head(&object(name)).await {
            Ok(there) => there,
            Err(StoreError::NotFound { .. }) => return Ok(Err("it is not there".into())),
            Err(error) => return Err(error).at(Side::Replica, format!("{name} can't be looked at")),
        };
        if there.bytes != body.len() as u64 {
            return Ok(Err(format!("it has {} bytes instead of {}", there.bytes, body.len())));
        }
        let Some(etag) = there.etag.as_deref().and_then(md5_in) else { return Ok(Ok(())) };
        match self.0.etags.load(Relaxed) {
            IS_OTHER => return Ok(Ok(())),
            IS_MD5 if self.source_has(name, body.len() as u64, etag).await => return Ok(Ok(())),
            _ => {}
        }
        let digested = body.clone();
        let md5: [u8; 16] = aside(body.len() > verify::HEAVY, move || Md5::digest(&digested).into()).await;
        if md5 == etag {
            self.0.etags.store(IS_MD5, Relaxed);
            return Ok(Ok(()));
        }
        let back = self.0.replica.get(&object(name)).await.at(Side::Replica, format!("{name} can't be read back"))?;
        if back != *body {
            return Ok(Err("the store gives back other bytes".into()));
        }
        // Whatever this digest is of, it is not of the plain body.
        _ = self.0.etags.compare_exchange(UNKNOWN, IS_OTHER, Relaxed, Relaxed);
        Ok(Ok(()))
    }

    /// Whether the source too says that a pack's digest is `etag`: what was fetched from there has opened as the pack that
    /// it was when that was summed.
    async fn source_has(&self, name: &str, bytes: u64, etag: [u8; 16]) -> bool {
        if Kind::of(name) != Some(Kind::Pack) {
            return false;
        }
        let there = self.0.source.head(&object(name)).await;
        there.is_ok_and(|meta| meta.bytes == bytes && meta.etag.as_deref().and_then(md5_in) == Some(etag))
    }

    /// Fetches, verifies, puts and proves.
    pub(crate) async fn carry(&self, name: &str, bytes: u64, hash: Option<&[u8]>) -> Result<Outcome<()>> {
        if Kind::of(name) == Some(Kind::Pack) && self.copied_there(name).await {
            return Ok(Outcome::Done(()));
        }
        self.carry_read(name, bytes, hash).await
    }

    /// The same by way of this process, which sees every byte.
    pub(crate) async fn carry_read(&self, name: &str, bytes: u64, hash: Option<&[u8]>) -> Result<Outcome<()>> {
        match self.fetch(name, bytes, hash).await? {
            Outcome::Done(good) => self.deliver(name, good).await.map(Outcome::Done),
            Outcome::Gone => Ok(Outcome::Gone),
            Outcome::Damaged(detail) => Ok(Outcome::Damaged(detail)),
        }
    }

    /// Lets the replica's store fetch a pack from the source's by itself, where the two can and where both tell the same
    /// MD5 of it. What is in it is verified when its turn of reading back comes.
    async fn copied_there(&self, name: &str) -> bool {
        let Some(location) = self.0.neighbour.as_ref() else { return false };
        let md5 = |meta: &ObjectMeta| meta.etag.as_deref().and_then(md5_in);
        let object = object(name);
        // Whatever is strange about this way, the other one tells.
        let Ok(there) = self.0.source.head(&object).await else { return false };
        let Some(digest) = md5(&there) else { return false };
        if let Err(error) = self.0.replica.copy_from(location, &object).await {
            tracing::debug!(%error, name, "the stores do not copy by themselves");
            return false;
        }
        match self.0.replica.head(&object).await {
            Ok(here) if here.bytes == there.bytes && md5(&here) == Some(digest) => {
                self.arrived(name, here.bytes);
                true
            }
            _ => false,
        }
    }

    fn arrived(&self, name: &str, bytes: u64) {
        self.inventory(|inventory| inventory.add(name, bytes));
        self.0.sent.add(bytes);
        self.tell();
    }

    /// Reads the replica's own object and verifies it.
    pub(crate) async fn inspect(&self, name: &str, hash: Option<&[u8]>) -> Result<Outcome<u64>> {
        let bytes = self.inventory(|inventory| inventory.get(name)).unwrap_or(0);
        let _room = self.room(bytes).await;
        let body = match self.0.replica.get(&object(name)).await {
            Ok(body) => body,
            Err(StoreError::NotFound { .. }) => return Ok(Outcome::Gone),
            Err(error) => return Err(error).at(Side::Replica, format!("{name} can't be read")),
        };
        let length = body.len() as u64;
        match verified(&self.0.keys, name, body, hash).await {
            Ok(_) => Ok(Outcome::Done(length)),
            Err(wrong) => Ok(Outcome::Damaged(wrong.to_string())),
        }
    }
}

async fn verified(keys: &Keys, name: &str, body: Bytes, hash: Option<&[u8]>) -> Result<Content, verify::Wrong> {
    let (keys, name, hash) = (keys.clone(), name.to_owned(), hash.map(<[u8]>::to_vec));
    aside(body.len() > verify::HEAVY, move || verify::object(&keys, &name, &body, hash.as_deref())).await
}

/// Something to be carried: its length, 0 where that is not known, and its BLAKE3, where that is.
#[derive(Debug)]
pub(crate) struct Want {
    pub(crate) name: String,
    pub(crate) bytes: u64,
    pub(crate) hash: Option<Vec<u8>>,
}

/// Carries all of `wants`, `parallel` at once. Packs in `known` are looked after by somebody else.
pub(crate) async fn carry_all(
    carrier: &Carrier,
    parallel: usize,
    wants: Vec<Want>,
    known: &Arc<HashSet<String>>,
) -> Result<Vec<(String, Outcome<()>)>> {
    let mut queue = wants.into_iter();
    let mut under_way: JoinSet<Result<(String, Outcome<()>)>> = JoinSet::new();
    let (mut out, mut failed) = (Vec::new(), None);
    loop {
        while failed.is_none() && under_way.len() < parallel.clamp(1, PARALLEL_MAX) {
            let Some(want) = queue.next() else { break };
            let (carrier, known) = (carrier.clone(), known.clone());
            under_way.spawn(async move {
                let outcome = carry_with_packs(&carrier, &want, &known).await?;
                Ok((want.name, outcome))
            });
        }
        match under_way.join_next().await {
            None => return failed.map_or(Ok(out), Err),
            Some(Ok(Ok(done))) => out.push(done),
            // What is put already is proved, too: the next run takes what is there by its length for right.
            Some(Ok(Err(error))) => failed = failed.or(Some(error)),
            Some(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Some(Err(_)) => {}
        }
    }
}

/// Carries an object; before a shard of the chunk index, the packs that it names and that no record tells of yet. (A
/// pack's own record may come a transaction later than the chunks in it, and that just after a root.)
async fn carry_with_packs(carrier: &Carrier, want: &Want, known: &HashSet<String>) -> Result<Outcome<()>> {
    let hash = want.hash.as_deref();
    if Kind::of(&want.name) != Some(Kind::Shard) {
        return carrier.carry(&want.name, want.bytes, hash).await;
    }
    let good = match carrier.fetch(&want.name, want.bytes, hash).await? {
        Outcome::Done(good) => good,
        Outcome::Gone => return Ok(Outcome::Gone),
        Outcome::Damaged(detail) => return Ok(Outcome::Damaged(detail)),
    };
    for pack in good.content.packs.iter().map(|id| layout::pack(*id)) {
        if known.contains(&pack) || carrier.inventory(|inventory| inventory.has(&pack)) {
            continue;
        }
        // One at a time: whoever comes second finds it there, or knows that it is not to be had.
        let mut tried = carrier.0.tried.lock().await;
        if tried.insert(pack.clone()) {
            // Where it is not to be had, an older entry of the index names it that a newer one hides.
            if let Outcome::Damaged(detail) = carrier.carry(&pack, 0, None).await? {
                tracing::warn!(pack, detail, "a pack in the source is damaged");
            }
        }
    }
    carrier.deliver(&want.name, good).await.map(Outcome::Done)
}

/// The sixteen bytes of a tag that looks like an MD5.
fn md5_in(etag: &str) -> Option<[u8; 16]> {
    let digits = etag.trim_matches('"').to_ascii_lowercase();
    haven_format::PackId::from_hex(&digits).map(|id| id.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_looks_like_an_md5_is_compared() {
        assert_eq!(md5_in("\"d41d8cd98f00b204e9800998ecf8427e\""), Some(Md5::digest(b"").into()));
        assert_eq!(md5_in("\"d41d8cd98f00b204e9800998ecf8427e-2\""), None);
        assert_eq!(md5_in("\"1f-3b9aca00\""), None);
    }
}
