//! Fetched bytes that are kept in memory for a while: where the cache has no room, and where nothing is worth a place on the
//! disk because it is read once. The oldest give way.

use std::{collections::VecDeque, ops::Range};

use bytes::Bytes;
use haven_format::PackId;
use parking_lot::Mutex;

#[derive(Debug)]
pub(super) struct Guests {
    bytes_max: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    all: VecDeque<Guest>,
    bytes: usize,
}

#[derive(Debug)]
struct Guest {
    pack: PackId,
    offset: u64,
    bytes: Bytes,
}

impl Guest {
    fn holds(&self, pack: PackId, range: &Range<u64>) -> bool {
        self.pack == pack && self.offset <= range.start && self.offset + self.bytes.len() as u64 >= range.end
    }
}

impl Guests {
    /// `bytes_max`: of all of them. One that is longer is kept alone.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, kept: Mutex::default() }
    }

    /// Keeps the bytes at `offset` of a pack.
    pub(super) fn keep(&self, pack: PackId, offset: u64, bytes: Bytes) {
        let mut kept = self.kept.lock();
        kept.bytes += bytes.len();
        kept.all.push_back(Guest { pack, offset, bytes });
        while kept.bytes > self.bytes_max && kept.all.len() > 1 {
            let oldest = kept.all.pop_front();
            kept.bytes -= oldest.map_or(0, |oldest| oldest.bytes.len());
        }
    }

    /// Whether `get` would find it.
    pub(super) fn hold(&self, pack: PackId, range: &Range<u64>) -> bool {
        self.kept.lock().all.iter().any(|guest| guest.holds(pack, range))
    }

    /// The bytes of the range, if one fetch brought all of them. The newest that did: an older one may have been bad.
    pub(super) fn get(&self, pack: PackId, range: &Range<u64>) -> Option<Bytes> {
        let kept = self.kept.lock();
        let guest = kept.all.iter().rev().find(|guest| guest.holds(pack, range))?;
        Some(guest.bytes.slice((range.start - guest.offset) as usize..(range.end - guest.offset) as usize))
    }

    /// They are no good: what is fetched now is not to be mistaken for them.
    pub(super) fn forget(&self, pack: PackId, range: &Range<u64>) {
        let mut kept = self.kept.lock();
        kept.all.retain(|guest| !guest.holds(pack, range));
        kept.bytes = kept.all.iter().map(|guest| guest.bytes.len()).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACK: PackId = PackId([1; 16]);

    #[test]
    fn the_oldest_give_way_and_a_range_is_in_one_piece_or_not_there() {
        let guests = Guests::new(100);
        guests.keep(PACK, 0, Bytes::from(vec![1; 40]));
        guests.keep(PACK, 40, Bytes::from(vec![2; 40]));
        assert_eq!(guests.get(PACK, &(10..40)).unwrap(), vec![1; 30]);
        assert!(guests.get(PACK, &(30..50)).is_none() && !guests.hold(PACK, &(30..50)));
        assert!(guests.get(PackId([2; 16]), &(0..1)).is_none());
        guests.keep(PACK, 80, Bytes::from(vec![3; 30]));
        assert!(!guests.hold(PACK, &(0..1)) && guests.hold(PACK, &(79..80)) && guests.hold(PACK, &(80..110)));
        // One that is too long alone is still there for who fetched it.
        guests.keep(PACK, 200, Bytes::from(vec![4; 300]));
        assert!(guests.hold(PACK, &(200..500)) && !guests.hold(PACK, &(80..110)));
        guests.forget(PACK, &(200..201));
        assert!(!guests.hold(PACK, &(200..500)));
        guests.keep(PACK, 0, Bytes::from(vec![5; 100]));
        assert!(guests.hold(PACK, &(0..100)));
    }
}
