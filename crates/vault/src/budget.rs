//! The cache limit: how many bytes the local directory may hold, and who gives way.
//!
//! Invariant: what is reserved never exceeds the limit. Bytes are reserved before they are written and released after
//! the file is gone. What is in the bucket already gives way, least recently used first; what is not, never does.
//! A share is kept for the journal and metadata, so that data can never crowd them out.

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

    /// What data may not touch.
    pub(crate) fn reserved_for_metadata(&self) -> u64 {
        self.reserve
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Bytes reserved, and how many of them could be given up.
    pub(crate) fn used(&self) -> (u64, u64) {
        let books = self.books.lock();
        (books.used, books.clean.values().map(|(bytes, _)| bytes).sum())
    }

    fn ceiling(&self, purpose: Use) -> u64 {
        match purpose {
            Use::Data => self.limit - self.reserve,
            // Directories and the marker files take a little beside.
            Use::Metadata => self.limit - (1 << 20),
        }
    }

    /// Reserves `bytes`, or says which clean things must be removed first (and released) for another try.
    /// `Err(empty)` means that nothing can give way: wait for uploads.
    fn reserve(&self, bytes: u64, purpose: Use) -> Result<(), Vec<Clean>> {
        let mut books = self.books.lock();
        let ceiling = self.ceiling(purpose);
        if books.used + bytes <= ceiling {
            books.used += bytes;
            return Ok(());
        }
        let excess = books.used + bytes - ceiling;
        let mut freed = 0;
        let mut victims = Vec::new();
        for clean in books.by_age.values() {
            if freed >= excess {
                break;
            }
            freed += books.clean[clean].0;
            victims.push(*clean);
        }
        Err(if freed >= excess { victims } else { Vec::new() })
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
        if let Some((_, old)) = books.clean.insert(what, (total, tick)) {
            books.by_age.remove(&old);
        }
        books.by_age.insert(tick, what);
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
        let Some((bytes, tick)) = books.clean.remove(&what) else { return 0 };
        books.by_age.remove(&tick);
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
}
