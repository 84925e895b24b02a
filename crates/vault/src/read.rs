//! Reading a chunk: from memory, from this machine's packs, or [`Need`] says what is to be fetched.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use haven_format::{ChunkId, PackId, container::Part, record::ChunkPlace};

use crate::{Need, Result, Vault, packs::Miss};

impl Vault {
    /// The plain bytes of a chunk. `place` is where it was when the reference was written.
    pub fn chunk(&self, id: ChunkId, place: Option<&ChunkPlace>) -> Result<Bytes> {
        if let Some(plain) = self.chunks.get(&id) {
            return Ok(plain);
        }
        let place = match place.filter(|place| !self.fetches.is_gone(place)) {
            Some(place) => place.clone(),
            None => self.known(id)?.ok_or_else(|| self.damaged(id.to_string(), "no pack is known to hold it"))?,
        };
        let malformed = |_| self.damaged(id.to_string(), "its place is unreadable");
        let pack = place.pack_id().map_err(malformed)?;
        if self.fetches.is_gone(&place) {
            self.fetches.forget_gone(pack);
            return Err(self.damaged(haven_format::layout::pack(pack), "it is not in the bucket any more"));
        }
        match self.packs.read(pack, place.part()) {
            Ok(plain) => {
                self.fetches.sound(pack, place.part());
                self.counters.read_bytes.fetch_add(plain.len() as u64, Ordering::Relaxed);
                self.chunks.insert(id, plain.clone());
                Ok(plain)
            }
            Err(Miss::Damaged(error)) => {
                Err(self.damaged(haven_format::layout::pack(pack), &format!("{error} (not uploaded yet)")))
            }
            Err(miss) if self.is_the_buckets(pack, place.part(), &miss) => {
                // It may have been stored again since.
                if let Some(other) = self.place_of(id)?.filter(|other| *other != place) {
                    return self.chunk(id, Some(&other));
                }
                Err(self
                    .damaged(haven_format::layout::pack(pack), "a chunk's seal does not open, as the bucket has it"))
            }
            Err(_) => {
                let range = place.part().range();
                let object = haven_format::layout::pack(pack);
                Err(Need::Fetch { object, from: range.start, to: range.end, length: 0 }.into())
            }
        }
    }

    /// Whether fetching once more can't help.
    fn is_the_buckets(&self, pack: PackId, part: Part, miss: &Miss) -> bool {
        match miss {
            Miss::Absent => self.fetches.is_cut_off(pack, part),
            Miss::Unopened => self.fetches.is_bad(pack, part),
            Miss::Damaged(_) => false,
        }
    }

    pub(crate) fn has_unsealed(&self, id: ChunkId) -> bool {
        self.chunks.peek(&id).is_some()
    }
}
