//! Bringing bytes from the bucket: what a [`Need`] asks for, and what will be asked for soon.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use haven_format::{ChunkId, PackId, TxSeq, container::Part, layout, record::ChunkPlace};
use haven_store::{Advice, StoreError};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{Need, Result, Vault, VaultError, claim::object};

/// A small read brings its surroundings, in aligned windows of this many bytes: thumbnails lie together.
const WINDOW: u64 = 1 << 20;
/// Reads below this are small.
const SMALL: u64 = 256 << 10;
/// One request brings at most this.
const REQUEST_MAX: u64 = 4 << 20;
/// Prefetches in flight at once.
const AHEAD_MAX: usize = 16;

/// How many chunks are opened ahead of a reader.
const UNSEAL_AHEAD: usize = 12;

type Flight = (String, Range<u64>);

#[derive(Debug, Default)]
pub(crate) struct Fetches {
    flights: Mutex<HashMap<Flight, watch::Receiver<bool>>>,
    /// Parts that are waited for, and what is known against them.
    suspects: Mutex<HashMap<(PackId, Part), Suspicion>>,
    /// Chunks that another core is opening.
    opening: Mutex<HashSet<ChunkId>>,
    /// Packs that are not in the bucket any more: their chunks are looked up anew.
    gone: Mutex<HashSet<PackId>>,
    /// The library is closed: nobody waits for an outage to end.
    closed: AtomicBool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Suspicion {
    /// It was not here. However often: it may have had to give way before it was read.
    Asked,
    /// A copy did not open: the cache's fault, or the bucket's.
    Unopened,
    /// It has been fetched since. If that does not open, it is the bucket's.
    FetchedAgain,
    /// The object ends before it.
    CutOff,
}

impl Fetches {
    /// Enters a flight that nobody has begun, or gives what tells when the other's is over.
    fn board(&self, flight: &Flight) -> Result<watch::Sender<bool>, watch::Receiver<bool>> {
        match self.flights.lock().entry(flight.clone()) {
            Entry::Occupied(begun) => Err(begun.get().clone()),
            Entry::Vacant(place) => {
                let (landing, landed) = watch::channel(false);
                place.insert(landed);
                Ok(landing)
            }
        }
    }

    /// The part opened.
    pub(crate) fn sound(&self, pack: PackId, part: Part) {
        let mut suspects = self.suspects.lock();
        if !suspects.is_empty() {
            suspects.remove(&(pack, part));
        }
    }

    /// Notes that the part is wanted and not here; true if the bucket's object ends before it.
    pub(crate) fn is_cut_off(&self, pack: PackId, part: Part) -> bool {
        let mut suspects = self.suspects.lock();
        let cut = *suspects.entry((pack, part)).or_insert(Suspicion::Asked) == Suspicion::CutOff;
        if cut {
            suspects.remove(&(pack, part));
        }
        cut
    }

    /// Notes that a copy did not open; true if it had been fetched anew after another had not.
    pub(crate) fn is_bad(&self, pack: PackId, part: Part) -> bool {
        let mut suspects = self.suspects.lock();
        let bad = suspects.get(&(pack, part)) == Some(&Suspicion::FetchedAgain);
        if bad {
            suspects.remove(&(pack, part));
        } else {
            suspects.insert((pack, part), Suspicion::Unopened);
        }
        bad
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    fn fetched(&self, pack: PackId, range: &Range<u64>) {
        for ((suspect, part), state) in self.suspects.lock().iter_mut() {
            let wanted = part.range();
            let brought = *suspect == pack && range.start <= wanted.start && wanted.end <= range.end;
            if brought && *state == Suspicion::Unopened {
                *state = Suspicion::FetchedAgain;
            }
        }
    }

    /// The object ends there: parts that reach further will never be whole, however often they are fetched.
    fn ends_at(&self, pack: PackId, end: u64) {
        for ((suspect, part), state) in self.suspects.lock().iter_mut() {
            if *suspect == pack && part.range().end > end {
                *state = Suspicion::CutOff;
            }
        }
    }

    /// Its chunks are looked up anew from now on.
    pub(crate) fn set_gone(&self, pack: PackId) {
        self.gone.lock().insert(pack);
    }

    /// The index leads there all the same: the next read asks the bucket again.
    pub(crate) fn forget_gone(&self, pack: PackId) {
        self.gone.lock().remove(&pack);
    }

    pub(crate) fn is_gone(&self, place: &ChunkPlace) -> bool {
        let gone = self.gone.lock();
        !gone.is_empty() && place.pack_id().is_ok_and(|pack| gone.contains(&pack))
    }
}

/// The window around a range, for small reads of packs.
fn widen(range: Range<u64>) -> Range<u64> {
    if range.end - range.start >= SMALL {
        return range;
    }
    range.start / WINDOW * WINDOW..range.end.div_ceil(WINDOW) * WINDOW
}

impl Vault {
    /// Returns when `need` is met, or with the error that says why it never will be.
    pub async fn settle(self: &Arc<Self>, need: &Need) -> Result<()> {
        match need {
            Need::Fetch { object, from, to, .. } => self.fetch(object, *from..*to).await,
            Need::Space { bytes } => self.wait_for_space(*bytes).await,
            Need::Log => self.wait_for_log().await,
        }
    }

    async fn wait_for_space(&self, bytes: u64) -> Result<()> {
        self.hurry.notify_one();
        loop {
            let done = self.upload_done.notified();
            self.writable()?;
            // Open packs are only uploaded when the log wants them: make it want them now.
            self.hurried.fetch_max(self.head().0, Ordering::Relaxed);
            let (used, clean) = self.budget.used();
            if used - clean + bytes + self.budget.reserved_for_metadata() <= self.budget.allowed() {
                return Ok(());
            }
            if self.uploading.lock().is_empty() && self.uploaded() >= self.head() {
                // Everything is in the bucket and still there is no room: finish what is open, else it never ends.
                let offered = self.offer_uploads(&mut self.head.lock(), true);
                match offered {
                    Ok(()) | Err(VaultError::Need(_)) => {}
                    // A full disk is waited for here, as anywhere.
                    Err(error) if self.relieve(&error) => {}
                    Err(error) => return Err(error),
                }
            }
            self.hurry.notify_one();
            let _ = tokio::time::timeout(Duration::from_millis(200), done).await;
        }
    }

    async fn wait_for_log(&self) -> Result<()> {
        let mut sent = self.sent.subscribe();
        let mut checkpoints = self.checkpoints.subscribe();
        self.writable()?;
        self.checkpoint_wanted.notify_one();
        self.hurry.notify_one();
        let change = futures::future::select(Box::pin(sent.changed()), Box::pin(checkpoints.changed()));
        let _ = tokio::time::timeout(Duration::from_secs(1), change).await;
        self.writable()
    }

    async fn fetch(self: &Arc<Self>, name: &str, range: Range<u64>) -> Result<()> {
        match (layout::parse_pack(name), layout::parse_shard(name)) {
            (Some(pack), _) => self.fetch_range(pack, widen(range)).await,
            (_, Some(_)) => self.fly((name.to_owned(), range), |vault, flight| vault.fetch_shard(flight.0)).await,
            _ if name == layout::ROOTS => {
                self.fly((name.to_owned(), range), |vault, flight| vault.fetch_lost_root(TxSeq(flight.1.start))).await
            }
            _ if layout::parse_root(name).is_some() => {
                self.fly((name.to_owned(), range), |vault, flight| vault.fetch_root(flight.0)).await
            }
            _ => Err(VaultError::Damaged { object: name.to_owned(), detail: "nothing is fetched from there".into() }),
        }
    }

    async fn fetch_range(self: &Arc<Self>, pack: PackId, range: Range<u64>) -> Result<()> {
        let gaps = self.packs.gaps(pack, &range);
        let flights = gaps
            .into_iter()
            .map(|gap| self.fly((layout::pack(pack), gap), move |vault, flight| vault.fetch_pack(pack, flight.1)));
        futures::future::try_join_all(flights).await?;
        Ok(())
    }

    /// Runs one fetch, or waits for the same one that somebody else has begun.
    async fn fly<F: Future<Output = Result<()>>>(
        self: &Arc<Self>,
        flight: Flight,
        work: impl Fn(Arc<Self>, Flight) -> F,
    ) -> Result<()> {
        let _landing = loop {
            match self.fetches.board(&flight) {
                Ok(landing) => break landing,
                Err(mut other) => {
                    // Failed or not, it is over: see for ourselves.
                    let _ = other.changed().await;
                    if !self.fetches.flights.lock().contains_key(&flight) {
                        return Ok(());
                    }
                }
            }
        };
        let _done = Landing { vault: self, flight: flight.clone() };
        work(self.clone(), flight).await
    }

    async fn fetch_shard(self: Arc<Self>, name: String) -> Result<()> {
        let id = layout::parse_shard(&name).expect("the caller has parsed it");
        let object_name = object(&name);
        let body = self.patiently(|| self.world.store.get(&object_name)).await.map_err(|e| self.lost(&name, e))?;
        self.shards().keep(id, &body)
    }

    async fn fetch_pack(self: Arc<Self>, pack: PackId, range: Range<u64>) -> Result<()> {
        let name = layout::pack(pack);
        let object_name = object(&name);
        let got = self.patiently(|| self.world.store.get_range(&object_name, range.clone())).await;
        let body = match got {
            Err(StoreError::NotFound { .. }) => {
                self.fetches.gone.lock().insert(pack);
                return Ok(());
            }
            other => other.map_err(|error| self.lost(&name, error))?,
        };
        let end = range.start + body.len() as u64;
        self.packs.keep(pack, range.start, body)?;
        self.fetches.fetched(pack, &(range.start..end.max(range.start)));
        // Of a cut object, what it still has may be here already, and only what it has not was asked for.
        if end < range.end {
            self.fetches.ends_at(pack, end);
        }
        Ok(())
    }

    /// Tries until it works or the answer is final. The store retries by itself too; this is for long outages, which
    /// are no reason to tell a reader of an error: not a writer's, and not a follower's or one's that was fenced.
    pub(crate) async fn patiently<T, F: Future<Output = Result<T, StoreError>>>(
        &self,
        attempt: impl Fn() -> F,
    ) -> Result<T, StoreError> {
        let mut wait = Duration::from_millis(500);
        let mut troubled = false;
        let gives_up = || self.options.salvage || self.fetches.closed.load(Ordering::Relaxed);
        loop {
            match attempt().await {
                Err(error) if error.advice() != Advice::Answer && !gives_up() => {
                    self.counters.trouble(&error);
                    troubled = true;
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(Duration::from_secs(20));
                }
                other => {
                    // Only who has told of trouble says that it is over: another's may go on, a full bucket's say.
                    if troubled && other.is_ok() {
                        self.counters.worked();
                    }
                    return other;
                }
            }
        }
    }

    pub(crate) fn lost(&self, name: &str, error: StoreError) -> VaultError {
        match error {
            StoreError::NotFound { .. } => self.damaged(name.to_owned(), "it is not in the bucket any more"),
            other => VaultError::Store(other),
        }
    }

    /// A reader's: brings it anew with each change of root.
    pub(crate) async fn keep_warm_task(self: Arc<Self>) {
        let root = || self.root.lock().as_ref().map(|root| root.seq);
        let mut sent = self.sent.subscribe();
        loop {
            let warmed = root();
            self.clone().warm_task().await;
            while root() == warmed {
                if sent.changed().await.is_err() {
                    return;
                }
            }
        }
    }

    /// Brings all metadata to this machine, so that no name is ever waited for again. At most a quarter of the cache.
    pub(crate) async fn warm_task(self: Arc<Self>) {
        let runs = self.table.layers().runs;
        let mut bytes = 0;
        for shard in runs.iter().flat_map(|run| &run.shards) {
            bytes += shard.bytes;
            if bytes > self.budget.limit() / 4 || self.stopped.read().as_ref().is_some_and(|stopped| stopped.fenced) {
                return;
            }
            if let Err(VaultError::Need(need)) = self.shards().load(shard) {
                // A failure shows again, and is told, when the records are really read.
                let _ = self.settle(&need).await;
            }
        }
    }

    /// Opens the next chunks that are on this machine already on another core, if it has one.
    fn unseal_ahead(self: &Arc<Self>, wanted: &[(ChunkId, ChunkPlace)]) {
        if !self.world.threads {
            return;
        }
        for (id, place) in wanted.iter().take(UNSEAL_AHEAD) {
            if self.has_unsealed(*id) || !self.fetches.opening.lock().insert(*id) {
                continue;
            }
            let (vault, id, place) = (self.clone(), *id, place.clone());
            rayon::spawn(move || {
                let here = place.pack_id().is_ok_and(|pack| vault.packs.gaps(pack, &place.part().range()).is_empty());
                if here {
                    // A failure shows again, and is told, when the chunk is really read.
                    drop(vault.chunk(id, Some(&place)));
                }
                vault.fetches.opening.lock().remove(&id);
            });
        }
    }

    /// Begins to fetch chunks that will soon be read. Never fails, never waits.
    pub fn prefetch(self: &Arc<Self>, wanted: &[(ChunkId, ChunkPlace)]) {
        self.unseal_ahead(wanted);
        let mut ranges: Vec<(PackId, Range<u64>)> = Vec::new();
        for (_, place) in wanted {
            let Ok(pack) = place.pack_id() else { continue };
            let range = place.part().range();
            if self.packs.gaps(pack, &range).is_empty() {
                continue;
            }
            match ranges.last_mut() {
                Some((last, open))
                    if *last == pack && open.end == range.start && range.end - open.start <= REQUEST_MAX =>
                {
                    open.end = range.end;
                }
                _ => ranges.push((pack, range)),
            }
        }
        let flying = self.fetches.flights.lock().len();
        for (pack, range) in ranges.into_iter().take(AHEAD_MAX.saturating_sub(flying)) {
            let vault = self.clone();
            // A failure shows again, and is told, when the bytes are really read.
            self.spawn(async move { drop(vault.fetch_range(pack, widen(range)).await) });
        }
    }
}

/// Takes a flight off the board, also when its task is dropped.
struct Landing<'a> {
    vault: &'a Vault,
    flight: Flight,
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        self.vault.fetches.flights.lock().remove(&self.flight);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACK: PackId = PackId([1; 16]);
    const PART: Part = Part { offset: 100, len: 50 };

    #[test]
    fn of_many_who_want_the_same_one_goes_for_it() {
        let crowd = 8;
        for round in 0..500 {
            let (fetches, start) = (Fetches::default(), std::sync::Barrier::new(crowd));
            let flight = ("shards/01".to_owned(), 0..round);
            let went = std::thread::scope(|scope| {
                let one = || {
                    start.wait();
                    fetches.board(&flight)
                };
                let all: Vec<_> = (0..crowd).map(|_| scope.spawn(one)).collect();
                // Kept until all have asked: who goes has not landed.
                let all: Vec<_> = all.into_iter().map(|one| one.join().unwrap()).collect();
                all.iter().filter(|one| one.is_ok()).count()
            });
            assert_eq!(went, 1);
        }
    }

    #[test]
    fn what_gave_way_before_it_was_read_is_not_damaged() {
        let fetches = Fetches::default();
        for _ in 0..3 {
            assert!(!fetches.is_cut_off(PACK, PART));
            fetches.fetched(PACK, &(0..1000));
        }
        assert!(!fetches.is_bad(PACK, PART));
    }

    #[test]
    fn what_does_not_open_twice_is_damaged_if_it_was_fetched_in_between() {
        let fetches = Fetches::default();
        assert!(!fetches.is_bad(PACK, PART));
        assert!(!fetches.is_bad(PACK, PART));
        fetches.fetched(PACK, &(0..120));
        assert!(!fetches.is_bad(PACK, PART));
        fetches.fetched(PACK, &(0..1000));
        assert!(fetches.is_bad(PACK, PART));
        // And again from the beginning.
        assert!(!fetches.is_bad(PACK, PART));
        fetches.sound(PACK, PART);
        fetches.fetched(PACK, &(0..1000));
        assert!(!fetches.is_bad(PACK, PART));
    }

    #[test]
    fn what_lies_behind_the_end_is_not_asked_for_for_ever() {
        let fetches = Fetches::default();
        assert!(!fetches.is_cut_off(PACK, PART));
        fetches.ends_at(PACK, 149);
        assert!(fetches.is_cut_off(PACK, PART));
    }
}
