//! The cache limit: how many bytes the local directory may hold, and who gives way.
//!
//! Invariant: what is reserved never exceeds the limit, but while a journal takes another's place, and where unsent changes
//! are saved. Bytes are reserved before they are written and released after the file is gone. What is in the bucket already gives way, least recently used first; what is not, never does.
//! A share is kept for the journal and metadata, so that data can never crowd them out; and metadata that is here gives way
//! to photos only where it is more than a quarter: without it no name can be looked up while the bucket is away.

use std::{
    collections::{BTreeMap, HashMap},
    sync::OnceLock,
};

use haven_format::{PackId, ShardId};
use parking_lot::Mutex;

/// What can be given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Clean {
    Pack(PackId),
    Shard(ShardId),
}

/// What bytes are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// Photos: may not touch the reserve.
    Data,
    /// The journal, shards: may.
    Metadata,
}

#[derive(Debug, Default)]
struct Books {
    used: u64,
    clean: HashMap<Clean, (u64, u64)>,
    by_age: BTreeMap<u64, Clean>,
    tick: u64,
    /// Bytes of the shards among them.
    shards: u64,
    /// What the disk has less than the limit, as far as was felt.
    squeezed: u64,
}

impl Books {
    /// What may give way while `shards` bytes of metadata stay, least recently used first, with its bytes.
    fn yielding(&self, shards: u64) -> impl Iterator<Item = (Clean, u64)> {
        let mut left = self.shards;
        self.by_age.values().filter_map(move |clean| {
            let bytes = self.clean[clean].0;
            if let Clean::Shard(_) = clean {
                if left < bytes + shards {
                    return None;
                }
                left -= bytes;
            }
            Some((*clean, bytes))
        })
    }

    /// Takes it off the list of what may give way; its bytes.
    fn strike(&mut self, what: Clean) -> u64 {
        let Some((bytes, tick)) = self.clean.remove(&what) else { return 0 };
        self.by_age.remove(&tick);
        if let Clean::Shard(_) = what {
            self.shards -= bytes;
        }
        bytes
    }

    /// What gives way for `excess` bytes; none, where all of it is too little.
    fn victims(&self, excess: u64, shards: u64) -> Vec<Clean> {
        let mut freed = 0;
        let mut victims = Vec::new();
        for (clean, bytes) in self.yielding(shards) {
            if freed >= excess {
                return victims;
            }
            freed += bytes;
            victims.push(clean);
        }
        if freed >= excess { victims } else { Vec::new() }
    }
}

/// Removes a clean thing's file and calls [`Budget::gone`].
type Evict = Box<dyn Fn(Clean) + Send + Sync>;

pub(crate) struct Budget {
    limit: u64,
    reserve: u64,
    books: Mutex<Books>,
    evict: OnceLock<Evict>,
}

impl std::fmt::Debug for Budget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Budget({} of {})", self.books.lock().used, self.limit)
    }
}

/// What a full disk is to have free again.
const RELIEF: u64 = 64 << 20;
/// Files take whole blocks.
const BLOCK: u64 = 4096;

pub(crate) fn on_disk(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK) * BLOCK
}

impl Budget {
    /// The smallest limit that works at all.
    pub(crate) const LIMIT_MIN: u64 = 256 << 20;

    /// `limit` in bytes; an eighth of it, at most 256 MiB, is the reserve.
    pub(crate) fn new(limit: u64) -> Self {
        Self { limit, reserve: (limit / 8).min(256 << 20), books: Mutex::default(), evict: OnceLock::new() }
    }

    /// Says how clean things are removed. Once, before the first [`Budget::make_room`].
    pub(crate) fn evict_by(&self, evict: impl Fn(Clean) + Send + Sync + 'static) {
        let _ = self.evict.set(Box::new(evict));
    }

    /// Reserves `bytes`, evicting what is clean. `false`: nothing more can give way.
    pub(crate) fn make_room(&self, bytes: u64, purpose: Use) -> bool {
        loop {
            match self.reserve(bytes, purpose) {
                Ok(()) => return true,
                Err(victims) if victims.is_empty() => return false,
                Err(victims) => match self.evict.get() {
                    Some(evict) => victims.into_iter().for_each(evict),
                    None => return false,
                },
            }
        }
    }

    /// Reserves `bytes` if they are free; nothing gives way.
    pub(crate) fn take_free(&self, bytes: u64, purpose: Use) -> bool {
        self.reserve(bytes, purpose).is_ok()
    }

    /// Reserves `bytes` whatever the limit is, for what takes the place of something that goes right after.
    pub(crate) fn overdraw(&self, bytes: u64) {
        self.books.lock().used += bytes;
    }

    /// What data may not touch.
    pub(crate) fn reserved_for_metadata(&self) -> u64 {
        self.reserve
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// The limit, or what the disk has room for while that is less.
    pub(crate) fn allowed(&self) -> u64 {
        self.limit - self.books.lock().squeezed
    }

    /// The disk is full, whatever the limit says: clean things give way at once, and for a while there is less room.
    pub(crate) fn squeeze(&self) {
        let victims: Vec<Clean> = {
            let mut books = self.books.lock();
            books.squeezed = self.limit - books.used.saturating_sub(RELIEF).min(self.limit);
            let all = books.yielding(self.limit / 4).map(|(_, bytes)| bytes).sum();
            books.victims(RELIEF.min(all), self.limit / 4)
        };
        if let Some(evict) = self.evict.get() {
            victims.into_iter().for_each(evict);
        }
    }

    /// Where the disk was full, half of what it had too little is tried again.
    pub(crate) fn ease(&self) {
        let mut books = self.books.lock();
        books.squeezed = if books.squeezed < RELIEF / 4 { 0 } else { books.squeezed / 2 };
    }

    /// Bytes reserved, and how many of them could be given up for photos.
    pub(crate) fn used(&self) -> (u64, u64) {
        let books = self.books.lock();
        (books.used, books.yielding(self.limit / 4).map(|(_, bytes)| bytes).sum())
    }

    fn ceiling(&self, purpose: Use, squeezed: u64) -> u64 {
        let kept = match purpose {
            Use::Data => self.reserve,
            // Directories and the marker files take a little beside.
            Use::Metadata => 1 << 20,
        };
        (self.limit - squeezed).saturating_sub(kept)
    }

    /// Reserves `bytes`, or says which clean things must be removed first (and released) for another try.
    /// `Err(empty)` means that nothing can give way: wait for uploads.
    fn reserve(&self, bytes: u64, purpose: Use) -> Result<(), Vec<Clean>> {
        let mut books = self.books.lock();
        let ceiling = self.ceiling(purpose, books.squeezed);
        if books.used + bytes <= ceiling {
            books.used += bytes;
            return Ok(());
        }
        let excess = books.used + bytes - ceiling;
        let victims = books.victims(excess, self.limit / 4);
        Err(if victims.is_empty() && purpose == Use::Metadata { books.victims(excess, 0) } else { victims })
    }

    pub(crate) fn release(&self, bytes: u64) {
        let mut books = self.books.lock();
        debug_assert!(books.used >= bytes, "released more than was reserved");
        books.used = books.used.saturating_sub(bytes);
    }

    /// `bytes` already reserved belong to something that is in the bucket: it may give way from now on.
    pub(crate) fn clean(&self, what: Clean, bytes: u64) {
        let mut books = self.books.lock();
        books.tick += 1;
        let tick = books.tick;
        let total = books.clean.get(&what).map_or(0, |(bytes, _)| *bytes) + bytes;
        if let Clean::Shard(_) = what {
            books.shards += bytes;
        }
        if let Some((_, old)) = books.clean.insert(what, (total, tick)) {
            books.by_age.remove(&old);
        }
        books.by_age.insert(tick, what);
    }

    /// It may not give way any more.
    pub(crate) fn hold(&self, what: Clean) {
        self.books.lock().strike(what);
    }

    /// It was just used.
    pub(crate) fn touch(&self, what: Clean) {
        let mut books = self.books.lock();
        books.tick += 1;
        let tick = books.tick;
        let Some(entry) = books.clean.get_mut(&what) else { return };
        let old = std::mem::replace(&mut entry.1, tick);
        books.by_age.remove(&old);
        books.by_age.insert(tick, what);
    }

    /// It has been removed: its bytes are free. Returns how many.
    pub(crate) fn gone(&self, what: Clean) -> u64 {
        let mut books = self.books.lock();
        let bytes = books.strike(what);
        books.used -= bytes;
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_least_recently_used_gives_way_and_the_rest_never() {
        let budget = Budget::new(800 * MIB);
        let pack = |n| Clean::Pack(PackId([n; 16]));
        for n in 0..6 {
            budget.reserve(100 * MIB, Use::Data).unwrap();
            budget.clean(pack(n), 100 * MIB);
        }
        budget.touch(pack(0));
        budget.reserve(100 * MIB, Use::Data).unwrap();
        assert_eq!(budget.reserve(150 * MIB, Use::Data), Err(vec![pack(1), pack(2)]));
        budget.reserve(90 * MIB, Use::Metadata).unwrap();
        assert_eq!(budget.reserve(700 * MIB, Use::Data), Err(vec![]));
        assert_eq!(budget.gone(pack(1)), 100 * MIB);
        assert_eq!(budget.used().0, 690 * MIB);
    }

    #[test]
    fn photos_do_not_crowd_out_a_quarter_of_metadata() {
        let budget = Budget::new(800 * MIB);
        let shard = |n| Clean::Shard(ShardId([n; 16]));
        for n in 0..3 {
            budget.reserve(100 * MIB, Use::Metadata).unwrap();
            budget.clean(shard(n), 100 * MIB);
        }
        for n in 0..4 {
            budget.reserve(100 * MIB, Use::Data).unwrap();
            budget.clean(Clean::Pack(PackId([n; 16])), 100 * MIB);
        }
        let pack = |n| Clean::Pack(PackId([n; 16]));
        // Older than any photo: one is beyond the quarter, the others stay.
        assert_eq!(budget.reserve(150 * MIB, Use::Data), Err(vec![shard(0), pack(0)]));
        budget.gone(shard(0));
        assert_eq!(budget.reserve(250 * MIB, Use::Data), Err(vec![pack(0), pack(1)]));
        assert_eq!(budget.reserve(600 * MIB, Use::Data), Err(vec![]), "not even where nothing else is left");
        assert_eq!(budget.used(), (600 * MIB, 400 * MIB));
        budget.hold(pack(2));
        assert_eq!(budget.used(), (600 * MIB, 300 * MIB));
        budget.clean(pack(2), 100 * MIB);
        let all = [shard(1), shard(2), pack(0), pack(1), pack(3), pack(2)];
        assert_eq!(budget.reserve(790 * MIB, Use::Metadata), Err(all.to_vec()));
    }
}
