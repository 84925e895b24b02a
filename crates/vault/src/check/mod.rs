//! Checking: is everything there, and is everything right?
//!
//! Quick, names and lengths are compared with what the records say. Thorough, every byte is read from the bucket (never
//! from the cache) and every chunk compared with its id. What is found is told object by object and chunk by chunk;
//! whose files they are is for the room above to say.
//!
//! What is known to be damaged stays known until a check has read it again and found it right, has mended it, or found
//! that no record names it any more. Therefore each check, a quick one and a sample too, reads all of that again.

mod mend;
mod open;
mod verify;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use haven_format::{
    ChunkId, Keys, PackId, layout, pack,
    record::{self, ChunkPlace, PackInfo},
    root::{Root, ShardRef},
};
use haven_store::{
    DynStore, PutMode, StoreError,
    limit::{Limit, LimitConfig},
};
use serde::Serialize;

use crate::{
    Result, Vault, VaultError,
    claim::{list_all, object},
    collect::Heap,
};

pub use verify::{verify_object, verify_pack};

/// Objects read at once.
const READS: usize = 6;
/// How often the place is noted from which an interrupted check goes on, in objects.
const NOTE_EVERY: u64 = 64;
/// The file that says where an interrupted check goes on.
const CURSOR: &str = "check";

/// How a library is checked.
#[derive(Debug, Clone, Default)]
pub struct CheckOptions {
    /// Read everything, not only names and lengths.
    pub read_data: bool,
    /// Of packs, read only this share (0 to 1), chosen anew each time.
    pub sample: Option<f64>,
    /// Go on where the last check with `read_data` was interrupted.
    pub resume: bool,
    /// Put back what the cache or a copy has, and note what nobody has.
    pub repair: bool,
    /// Copies of the library, each with a name for people.
    pub copies: Vec<(String, DynStore)>,
    /// Of a library that is still being restored: the copy that what is not here yet is read from.
    pub behind: Option<DynStore>,
    /// Read no more bytes a second from the bucket than this.
    pub limit: Option<u64>,
}

/// An object that is not as it should be.
#[derive(Debug, Clone, Serialize)]
pub struct Fault {
    pub object: String,
    pub what: String,
    /// Where a good one was found, if it was put back.
    pub repaired_from: Option<String>,
}

/// What a check has found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Checked {
    /// Objects looked at, and bytes of those that were read.
    pub objects: u64,
    pub read_bytes: u64,
    /// Of them those that are not here yet, and are in the copy that the library is being restored from: no damage.
    pub to_come: Heap,
    pub faults: Vec<Fault>,
    /// Roots and shards that have been looked at.
    #[serde(skip)]
    pub(crate) seen: HashSet<String>,
    /// Chunks that can't be read, with the pack they were in; those that were put back are not among them.
    #[serde(skip)]
    pub chunks: Vec<(ChunkId, PackId)>,
    /// What is damaged after this check, and how: what it found and did not mend, and what was known before and could not
    /// be judged by it.
    pub open: Vec<(String, String)>,
    #[serde(skip)]
    pub(crate) judged: Judged,
    /// Chunks that were damaged and are right again.
    #[serde(skip)]
    pub mended: Vec<(ChunkId, PackId)>,
    /// How many chunks are damaged and have no good copy anywhere.
    pub lost_chunks: u64,
    #[serde(skip)]
    pub(crate) away: mend::Unasked,
    /// A copy could not be asked for something that no other has: it may have it. Nothing was given up for lost then.
    #[serde(skip)]
    pub unasked: Option<VaultError>,
}

/// What a check may end the alarm of.
#[derive(Debug, Clone, Default)]
pub(crate) struct Judged {
    /// What was known to be damaged when it began: all of it is read.
    again: HashSet<String>,
    /// What has been read.
    read: HashSet<String>,
    /// What the records name.
    named: HashSet<String>,
    /// What was known to be damaged, and is in the bucket.
    there: HashSet<String>,
    /// Not all of the records could be read: there may be more that they name.
    blind: bool,
}

/// How far a check is.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) done: AtomicU64,
    pub(crate) all: AtomicU64,
}

/// What is wrong with a pack.
#[derive(Debug)]
pub(crate) enum Bad {
    /// Not there, or not as long as it should be, or its footer can't be read: which chunks are right must be asked of
    /// the index. With what there is of it.
    Whole { what: String, body: Bytes },
    /// These chunks.
    Chunks(Vec<ChunkId>),
}

/// Puts back damaged roots and log segments from the copies, before anything is opened: without them a library can't be
/// opened for writing. Returns what was put back, and from where; and a copy that could not be asked for what no other has.
pub async fn mend_log(
    store: &DynStore,
    keys: &Keys,
    copies: &[(String, DynStore)],
) -> Result<(Vec<(String, String)>, Option<VaultError>)> {
    let (mut mended, mut away) = (Vec::new(), mend::Unasked::default());
    for prefix in [layout::ROOTS, layout::SEGMENTS] {
        for name in list_all(&**store, prefix, None).await? {
            let whole = match store.get(&object(&name)).await {
                Ok(body) => verify_object(keys, &name, &body).is_ok(),
                Err(StoreError::NotFound { .. }) => continue,
                Err(error) => return Err(error.into()),
            };
            if whole {
                continue;
            }
            let good = |body: &Bytes| verify_object(keys, &name, body).is_ok();
            if let Some((copy, body)) = away.find(copies, &name, good).await {
                store.put(&object(&name), body, PutMode::Always).await?;
                mended.push((name, copy));
            }
        }
    }
    Ok((mended, away.into_error()))
}

/// Names below a prefix, with their lengths.
async fn lengths(store: &DynStore, prefix: &str) -> Result<HashMap<String, u64>, StoreError> {
    let mut out = HashMap::new();
    let mut after = None::<String>;
    loop {
        let page = store.list(prefix, after.as_deref(), 1000).await?;
        after = page.objects.last().map(|found| found.name.as_str().to_owned());
        out.extend(page.objects.iter().map(|found| (found.name.as_str().to_owned(), found.bytes)));
        if !page.more {
            return Ok(out);
        }
    }
}

/// The same of the copy that a library is being restored from. Asked after the library's own: what comes meanwhile is
/// in one of the two.
async fn behind(options: &CheckOptions, prefix: &str) -> Result<HashMap<String, u64>> {
    let Some(store) = &options.behind else { return Ok(HashMap::new()) };
    lengths(store, prefix).await.map_err(|source| VaultError::Copy { copy: store.describe(), source })
}

impl Vault {
    /// How many objects the check under way has looked at, and of how many; `None`: none is under way.
    pub fn checking(&self) -> Option<(u64, u64)> {
        let all = self.check_progress.all.load(Ordering::Relaxed);
        (all > 0).then(|| (self.check_progress.done.load(Ordering::Relaxed), all))
    }

    /// Checks the newest state and all snapshots against what the bucket holds.
    pub async fn check(self: &Arc<Self>, options: &CheckOptions) -> Result<Checked> {
        let _one_at_a_time = self.collecting.lock().await;
        if options.repair {
            self.writable()?;
        }
        let slowly = |rate| {
            let limits = LimitConfig { download_rate_max: rate, ..LimitConfig::default() };
            Arc::new(Limit::new(self.world.store.clone(), &limits).0) as DynStore
        };
        let from = options.limit.map_or_else(|| self.world.store.clone(), slowly);
        let outcome = self.check_all(&from, options).await;
        self.check_progress.all.store(0, Ordering::Relaxed);
        outcome
    }

    async fn check_all(self: &Arc<Self>, from: &DynStore, options: &CheckOptions) -> Result<Checked> {
        let mut report = Checked::default();
        report.judged.again = self.damage.lock().keys().cloned().collect();
        let roots = self.check_roots(from, options, &mut report).await?;
        self.check_shards(from, options, &roots, &mut report).await?;
        let bad = self.check_packs(from, options, &mut report).await?;
        self.check_others(from, options, &mut report).await?;
        let bad = self.ask_index(bad).await?;
        for (pack, (what, chunks)) in bad {
            self.settle_pack(options, pack, what, chunks, &mut report).await?;
        }
        report.unasked = std::mem::take(&mut report.away).into_error();
        // What is not mended is known, and read again by the next check whatever part that looks at.
        if options.read_data {
            _ = self.world.disk.remove(CURSOR);
        }
        self.check_chunks(&mut report).await?;
        self.settle_damage(options, &mut report);
        Ok(report)
    }

    /// The roots of the newest state and of all snapshots.
    async fn check_roots(
        self: &Arc<Self>,
        from: &DynStore,
        options: &CheckOptions,
        report: &mut Checked,
    ) -> Result<Vec<Root>> {
        let newest = self.root.lock().clone();
        let mut names: Vec<String> = newest.iter().filter_map(|root| root.name().ok()).collect();
        let snapshots = match self.when_settled(|| self.snapshots()).await {
            // The shard they stand in is told of below, and every root is looked at for itself.
            Err(VaultError::Damaged { .. }) => {
                report.judged.blind = true;
                Vec::new()
            }
            other => other?,
        };
        for (_, snapshot) in snapshots {
            if !snapshot.root.is_empty() && !names.contains(&snapshot.root) {
                names.push(snapshot.root);
            }
        }
        let mut roots = Vec::new();
        report.seen.extend(names.iter().cloned());
        report.judged.named.extend(names.iter().cloned());
        report.judged.read.extend(names.iter().cloned());
        let all = names.len();
        for name in names {
            report.objects += 1;
            match self.fetch_for_check(from, &name).await? {
                Ok(body) => match Root::open(&self.keys, &name, &body) {
                    Ok(root) => roots.push(root),
                    Err(error) => roots.extend(self.mend_root(options, name, error.to_string(), report).await?),
                },
                Err(what) => roots.extend(self.mend_root(options, name, what, report).await?),
            }
        }
        report.judged.blind |= roots.len() < all;
        Ok(roots)
    }

    /// The object; or why there is none. Trouble with the store itself is an error.
    async fn fetch_for_check(&self, from: &DynStore, name: &str) -> Result<Result<Bytes, String>> {
        let object_name = object(name);
        match self.patiently(|| from.get(&object_name)).await {
            Ok(body) => Ok(Ok(body)),
            Err(StoreError::NotFound { .. }) => Ok(Err("it is not in the bucket".into())),
            Err(error) => Err(error.into()),
        }
    }

    async fn check_shards(
        self: &Arc<Self>,
        from: &DynStore,
        options: &CheckOptions,
        roots: &[Root],
        report: &mut Checked,
    ) -> Result<()> {
        let mut wanted: BTreeMap<String, &ShardRef> = BTreeMap::new();
        for shard in roots.iter().flat_map(|root| &root.runs).flat_map(|run| &run.shards) {
            if let Ok(id) = shard.shard_id() {
                wanted.insert(layout::shard(id), shard);
            }
        }
        let there = self.lengths(layout::SHARDS).await?;
        let behind = behind(options, layout::SHARDS).await?;
        let to_come = |name: &str, bytes: u64| !there.contains_key(name) && behind.get(name) == Some(&bytes);
        wanted.iter().filter(|(name, wanted)| to_come(name, wanted.bytes)).for_each(|(_, wanted)| {
            report.to_come.add(wanted.bytes);
        });
        report.objects += wanted.len() as u64;
        report.seen.extend(wanted.keys().cloned());
        report.judged.named.extend(wanted.keys().cloned());
        let again = report.judged.again.clone();
        let check = |(name, wanted): (String, &ShardRef)| {
            let (length, bytes, hash) = (there.get(&name).copied(), wanted.bytes, wanted.hash.clone());
            let to_come = to_come(&name, bytes);
            let length = if to_come { Some(bytes) } else { length };
            let reads = (options.read_data && !to_come) || again.contains(&name);
            async move {
                let what = match length {
                    None => Some("it is not in the bucket".to_owned()),
                    Some(length) if length != bytes => Some(format!("it has {length} bytes instead of {bytes}")),
                    Some(_) if !reads => None,
                    Some(_) => match self.fetch_for_check(from, &name).await? {
                        Ok(body) if blake3::hash(&body).as_bytes()[..] == hash[..] => None,
                        Ok(_) => Some("its content is not what was written".to_owned()),
                        Err(what) => Some(what),
                    },
                };
                Ok::<_, VaultError>((name, if reads { bytes } else { 0 }, hash, what))
            }
        };
        let mut checked = stream::iter(wanted.into_iter().map(check)).buffer_unordered(READS);
        let mut bad = Vec::new();
        while let Some(result) = checked.next().await {
            let (name, read, hash, what) = result?;
            report.read_bytes += read;
            if read > 0 {
                report.judged.read.insert(name.clone());
            }
            if let Some(what) = what {
                bad.push((name, hash, what));
            }
        }
        drop(checked);
        for (name, hash, what) in bad {
            self.mend_shard(options, name, &hash, what, report).await?;
        }
        Ok(())
    }

    async fn lengths(&self, prefix: &str) -> Result<HashMap<String, u64>> {
        Ok(lengths(&self.world.store, prefix).await?)
    }

    /// How many of the packs that are needed are in the bucket, and how many there are, with their bytes: how far a
    /// restore is.
    pub async fn packs_here(self: &Arc<Self>) -> Result<(Heap, Heap)> {
        // In this order, so that what comes meanwhile is not missed.
        let packs = self.listed_packs().await?;
        let there = self.lengths(layout::PACKS).await?;
        let (mut here, mut all) = (Heap::default(), Heap::default());
        for (id, info) in packs {
            all.add(info.bytes);
            if there.contains_key(&layout::pack(id)) {
                here.add(info.bytes);
            }
        }
        Ok((here, all))
    }

    /// Packs that the library's list names, without those that have not been sent yet or are on the dead list.
    /// None where the records themselves can't be read: then every pack is looked at for itself.
    async fn packs_to_check(self: &Arc<Self>, report: &mut Checked) -> Result<Vec<(PackId, PackInfo)>> {
        match self.listed_packs().await {
            Err(VaultError::Damaged { object, .. }) => {
                tracing::warn!(object, "the list of packs can't be read; each is looked at for itself");
                report.judged.blind = true;
                Ok(Vec::new())
            }
            other => other,
        }
    }

    async fn listed_packs(self: &Arc<Self>) -> Result<Vec<(PackId, PackInfo)>> {
        let dead = self.when_settled(|| self.dead_names()).await?;
        let mut packs: Vec<_> = self.when_settled(|| self.all_packs()).await?.into_iter().collect();
        packs.retain(|(id, _)| !dead.contains(&layout::pack(*id)) && !self.packs.is_staged(*id));
        packs.sort_by_key(|(id, _)| *id);
        Ok(packs)
    }

    async fn check_packs(
        self: &Arc<Self>,
        from: &DynStore,
        options: &CheckOptions,
        report: &mut Checked,
    ) -> Result<BTreeMap<PackId, Bad>> {
        let packs = self.packs_to_check(report).await?;
        let there = self.lengths(layout::PACKS).await?;
        let behind = behind(options, layout::PACKS).await?;
        report.objects += packs.len() as u64;
        report.judged.named.extend(packs.iter().map(|(id, _)| layout::pack(*id)));
        self.check_progress.done.store(0, Ordering::Relaxed);
        self.check_progress.all.store(packs.len().max(1) as u64, Ordering::Relaxed);
        let after = if options.resume { self.cursor() } else { None };
        let mut bad = BTreeMap::new();
        let mut to_read = Vec::new();
        for (id, info) in packs {
            let name = layout::pack(id);
            let to_come = !there.contains_key(&name) && behind.get(&name) == Some(&info.bytes);
            if to_come {
                report.to_come.add(info.bytes);
            }
            let what = match there.get(&name) {
                None if to_come => None,
                None => Some("it is not in the bucket".to_owned()),
                Some(length) if *length != info.bytes => {
                    Some(format!("it has {length} bytes instead of {}", info.bytes))
                }
                Some(_) => None,
            };
            let chosen = options.sample.is_none_or(|share| self.world.dice.below(1_000_000) < (share * 1e6) as u64);
            let chosen = options.read_data && !to_come && chosen && after.is_none_or(|after| id > after);
            if what.is_some() || chosen || report.judged.again.contains(&name) {
                to_read.push((id, what));
            } else {
                self.check_progress.done.fetch_add(1, Ordering::Relaxed);
            }
        }
        let check = |(id, what): (PackId, Option<String>)| async move {
            let body = self.fetch_for_check(from, &layout::pack(id)).await?;
            let read = body.as_ref().map_or(0, |body| body.len() as u64);
            let found = match (what, body) {
                (Some(what), body) => Some(Bad::Whole { what, body: body.unwrap_or_default() }),
                (None, Err(what)) => Some(Bad::Whole { what, body: Bytes::new() }),
                (None, Ok(body)) => {
                    let keys = self.keys.clone();
                    let verify = body.clone();
                    match self.world.blocking(move || verify_pack(&keys, id, &verify)).await {
                        Ok(chunks) if chunks.is_empty() => None,
                        Ok(chunks) => Some(Bad::Chunks(chunks)),
                        Err(what) => Some(Bad::Whole { what: format!("its footer can't be read ({what})"), body }),
                    }
                }
            };
            Ok::<_, VaultError>((id, read, found))
        };
        // In order, so that an interrupted check knows where to go on.
        let mut checked = stream::iter(to_read.into_iter().map(check)).buffered(READS);
        while let Some(result) = checked.next().await {
            let (id, read, found) = result?;
            report.read_bytes += read;
            report.judged.read.insert(layout::pack(id));
            let done = self.check_progress.done.fetch_add(1, Ordering::Relaxed);
            // Nor does the next one pass over what was still to come in this one.
            let whole = bad.is_empty() && found.is_none() && report.to_come.objects == 0;
            if options.read_data && options.sample.is_none() && whole && done.is_multiple_of(NOTE_EVERY) {
                self.note_cursor(id);
            }
            if let Some(found) = found {
                bad.insert(id, found);
            }
        }
        Ok(bad)
    }

    /// Everything else that is there: the configuration, the log, claims, and what waits for its end.
    async fn check_others(
        self: &Arc<Self>,
        from: &DynStore,
        options: &CheckOptions,
        report: &mut Checked,
    ) -> Result<()> {
        let packs: HashSet<PackId> = self.packs_to_check(report).await?.into_iter().map(|(id, _)| id).collect();
        let base = self.root.lock().as_ref().map_or(0, |root| root.lsn);
        let mut names: Vec<String> = self.lengths("").await?.into_keys().collect();
        names.sort();
        let known: HashSet<String> = report.seen.drain().collect();
        report.judged.there = names.iter().filter(|name| report.judged.again.contains(*name)).cloned().collect();
        names.retain(|name| {
            let pack = layout::parse_pack(name);
            let log = layout::parse_segment(name).is_some_and(|(lsn, ..)| lsn.0 > base);
            let small = name.starts_with(layout::CONFIGS) || log;
            let rest = options.read_data && options.sample.is_none();
            pack.is_none_or(|pack| !packs.contains(&pack) && !self.packs.is_staged(pack))
                && !known.contains(name)
                && (small || rest || (report.judged.there.contains(name) && !self.is_unneeded(name, report, base)))
        });
        report.objects += names.len() as u64;
        let check = |name: String| async move {
            // What is deleted meanwhile is no loss.
            let Ok(body) = self.fetch_for_check(from, &name).await? else { return Ok((name, 0, None)) };
            let (keys, own, read) = (self.keys.clone(), name.clone(), body.len() as u64);
            let wrong = self.world.blocking(move || verify_object(&keys, &own, &body).err()).await;
            Ok::<_, VaultError>((name, read, wrong))
        };
        let mut checked = stream::iter(names.into_iter().map(check)).buffered(READS);
        let mut bad = Vec::new();
        while let Some(result) = checked.next().await {
            let (name, read, wrong) = result?;
            report.read_bytes += read;
            report.judged.read.insert(name.clone());
            bad.extend(wrong.map(|what| (name, what)));
        }
        drop(checked);
        for (name, what) in bad {
            let good = |body: &Bytes| verify_object(&self.keys, &name, body).is_ok();
            self.mend_whole(options, &name, what, good, report).await?;
        }
        Ok(())
    }

    fn cursor(&self) -> Option<PackId> {
        let file = self.world.disk.open(CURSOR).ok()?;
        let text = file.read_at(0, 32).ok()?;
        PackId::from_hex(std::str::from_utf8(&text).ok()?)
    }

    /// Everything up to this pack was right. Losing the note costs time alone.
    fn note_cursor(&self, id: PackId) {
        let noted = self.world.disk.create(CURSOR).and_then(|file| file.write_at(0, id.to_string().as_bytes()));
        if let Err(error) = noted {
            tracing::debug!(%error, "how far the check is could not be noted");
        }
    }

    /// Which chunks the index expects in packs that can't speak for themselves, and which of them are wrong.
    async fn ask_index(
        self: &Arc<Self>,
        bad: BTreeMap<PackId, Bad>,
    ) -> Result<BTreeMap<PackId, (String, Vec<ChunkId>)>> {
        let mut out: BTreeMap<PackId, (String, Vec<ChunkId>)> = BTreeMap::new();
        let mut whole: HashMap<PackId, (String, Bytes)> = HashMap::new();
        for (pack, found) in bad {
            match found {
                Bad::Chunks(chunks) => {
                    let what = format!("{} of its chunks are damaged", chunks.len());
                    out.insert(pack, (what, chunks));
                }
                Bad::Whole { what, body } => _ = whole.insert(pack, (what, body)),
            }
        }
        if whole.is_empty() {
            return Ok(out);
        }
        let mut wrong: HashMap<PackId, Vec<ChunkId>> = HashMap::new();
        let live = self.live();
        let walked = self.walk(&live, record::chunks(), |key, value| {
            let (id, place) = self.chunk_record(key, value)?;
            if let Ok(pack) = place.pack_id()
                && let Some((_, body)) = whole.get(&pack)
                && !self.is_right(pack, id, &place, body)
            {
                wrong.entry(pack).or_default().push(id);
            }
            Ok(())
        });
        match walked.await {
            // The index is damaged too, and told of: the packs are, as objects.
            Err(VaultError::Damaged { .. }) => {}
            other => other?,
        }
        for (pack, (what, _)) in whole {
            out.insert(pack, (what, wrong.remove(&pack).unwrap_or_default()));
        }
        Ok(out)
    }

    fn is_right(&self, pack: PackId, id: ChunkId, place: &ChunkPlace, body: &Bytes) -> bool {
        self.plain_of(pack, id, place, body).is_some()
    }

    /// A chunk out of a pack's body, if it is right there.
    fn plain_of(&self, pack: PackId, id: ChunkId, place: &ChunkPlace, body: &Bytes) -> Option<Bytes> {
        let range = place.part().range();
        let sealed = body.get(range.start as usize..range.end as usize)?;
        let plain = pack::opener(&self.keys, pack).part(place.part(), sealed).ok()?;
        pack::verify(&self.keys, id, &plain).is_ok().then_some(plain)
    }

    fn dead_names(&self) -> Result<HashSet<String>> {
        Ok(self.dead_list()?.into_keys().collect())
    }
}
