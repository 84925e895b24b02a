//! A shard: a sorted range of the record space. A [`container`](crate::container) whose parts are blocks of
//! records and whose footer is a [`ShardIndex`].
//!
//! A block, plain: for each record `key length, varint ‖ key ‖ value length + 1, varint ‖ value`; a removed record has
//! 0 in place of the value's length + 1 and no value.

use bytes::{Buf, Bytes};
use prost::{
    Message,
    encoding::{decode_varint, encode_varint},
};

use crate::{
    FormatError, Keys, ShardId,
    container::{Opener, Part, Sealer},
    crypto::NONCE_LEN,
    envelope::Kind,
    layout,
    record::Key,
};

/// A block is closed when it holds this many plain bytes.
pub const BLOCK_BYTES: usize = 16 << 10;
/// A shard is closed when it holds this many sealed bytes.
pub const SHARD_BYTES: usize = 2 << 20;

/// A record of a run: `None` hides what older runs say of the key.
pub type Value = Option<Bytes>;

#[derive(Clone, PartialEq, Message)]
pub struct ShardIndex {
    #[prost(message, repeated, tag = "1")]
    pub blocks: Vec<BlockRef>,
    /// Bloom filter over all keys; see [`Bloom`].
    #[prost(bytes = "bytes", tag = "2")]
    pub bloom: Bytes,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct BlockRef {
    #[prost(bytes = "bytes", tag = "1")]
    pub first: Bytes,
    #[prost(uint32, tag = "2")]
    pub offset: u32,
    #[prost(uint32, tag = "3")]
    pub len: u32,
}

impl BlockRef {
    pub fn part(&self) -> Part {
        Part { offset: self.offset, len: self.len }
    }
}

impl ShardIndex {
    /// The number of the block that would hold `key`, if any could.
    pub fn block_for(&self, key: &[u8]) -> Option<usize> {
        self.blocks.partition_point(|block| block.first <= key).checked_sub(1)
    }
}

/// Tells of most keys that are not in a shard that they are not: about 1 in 100 passes wrongly.
///
/// Seven probes in an array of bits, ten bits a key; probe i looks at bit `(a + i·b) mod bits`, where a and b are the
/// little-endian halves of the first 16 bytes of the key's BLAKE3 (b made odd).
#[derive(Debug, Clone, Copy)]
pub struct Bloom {
    a: u64,
    b: u64,
}

const BLOOM_PROBES: u64 = 7;
const BLOOM_BITS_PER_KEY: usize = 10;

impl Bloom {
    pub fn of(key: &[u8]) -> Self {
        let hash = blake3::hash(key);
        let half = |n: usize| u64::from_le_bytes(hash.as_bytes()[8 * n..8 * n + 8].try_into().expect("eight bytes"));
        Self { a: half(0), b: half(1) | 1 }
    }

    fn bits(self, filter_len: usize) -> impl Iterator<Item = usize> {
        let bits = filter_len as u64 * 8;
        (0..BLOOM_PROBES).map(move |i| (self.a.wrapping_add(i.wrapping_mul(self.b)) % bits) as usize)
    }

    /// Whether a key with this hash may be among those the filter was made of. An empty filter knows nothing.
    pub fn may_be_in(self, filter: &[u8]) -> bool {
        filter.is_empty() || self.bits(filter.len()).all(|bit| filter[bit / 8] & 1 << (bit % 8) != 0)
    }

    fn filter(keys: &[Self]) -> Vec<u8> {
        let mut filter = vec![0; (keys.len() * BLOOM_BITS_PER_KEY).div_ceil(8).max(8)];
        let length = filter.len();
        for bit in keys.iter().flat_map(|key| key.bits(length)) {
            filter[bit / 8] |= 1 << (bit % 8);
        }
        filter
    }
}

/// Builds one shard from records in ascending key order.
#[derive(Debug)]
pub struct ShardWriter {
    id: ShardId,
    sealer: Sealer,
    out: Vec<u8>,
    block: Vec<u8>,
    block_first: Option<Key>,
    index: ShardIndex,
    bloom: Vec<Bloom>,
    first: Option<Key>,
    last: Key,
    records: u64,
}

/// A finished shard.
#[derive(Debug, Clone)]
pub struct FinishedShard {
    pub id: ShardId,
    pub object: Bytes,
    pub first: Key,
    pub last: Key,
    pub records: u64,
}

impl ShardWriter {
    pub fn new(keys: &Keys, id: ShardId) -> Self {
        let (sealer, head) = Sealer::begin(keys, &layout::shard(id), Kind::Shard);
        Self {
            id,
            sealer,
            out: head.to_vec(),
            block: Vec::with_capacity(BLOCK_BYTES + 1024),
            block_first: None,
            index: ShardIndex::default(),
            bloom: Vec::new(),
            first: None,
            last: Key::new(),
            records: 0,
        }
    }

    /// Adds a record. Keys must ascend. `nonce` is called when a block is full.
    pub fn push(&mut self, key: &Key, value: &Value, nonce: impl FnMut() -> [u8; NONCE_LEN]) {
        debug_assert!(self.records == 0 || self.last < *key, "keys ascend");
        self.block_first.get_or_insert_with(|| key.clone());
        self.first.get_or_insert_with(|| key.clone());
        self.last = key.clone();
        self.records += 1;
        self.bloom.push(Bloom::of(key));
        encode_varint(key.len() as u64, &mut self.block);
        self.block.extend_from_slice(key);
        encode_varint(value.as_ref().map_or(0, |value| value.len() as u64 + 1), &mut self.block);
        self.block.extend_from_slice(value.as_deref().unwrap_or_default());
        if self.block.len() >= BLOCK_BYTES {
            self.close_block(nonce);
        }
    }

    fn close_block(&mut self, mut nonce: impl FnMut() -> [u8; NONCE_LEN]) {
        if let Some(first) = self.block_first.take() {
            let part = self.sealer.append(nonce(), &self.block, &mut self.out);
            self.index.blocks.push(BlockRef { first, offset: part.offset, len: part.len });
            self.block.clear();
        }
    }

    /// Whether the shard is as long as shards should get.
    pub fn is_full(&self) -> bool {
        self.out.len() >= SHARD_BYTES
    }

    /// The whole object, or `None` if nothing was pushed.
    pub fn finish(mut self, mut nonce: impl FnMut() -> [u8; NONCE_LEN]) -> Option<FinishedShard> {
        self.close_block(&mut nonce);
        let first = self.first?;
        self.index.bloom = Bloom::filter(&self.bloom).into();
        self.sealer.finish(nonce(), &self.index.encode_to_vec(), &mut self.out);
        Some(FinishedShard { id: self.id, object: self.out.into(), first, last: self.last, records: self.records })
    }
}

/// Opens the parts of shard `id`.
pub fn opener(keys: &Keys, id: ShardId) -> Opener {
    Opener::new(keys, &layout::shard(id), Kind::Shard)
}

/// Reads a shard's footer content.
pub fn index(footer: Bytes) -> Result<ShardIndex, FormatError> {
    let index = ShardIndex::decode(footer)?;
    let sorted = index.blocks.windows(2).all(|pair| pair[0].first < pair[1].first);
    if sorted && !index.blocks.is_empty() {
        Ok(index)
    } else {
        Err(FormatError::Malformed("a shard's blocks are out of order"))
    }
}

/// The records of a plain block, in key order. Keys and values share the block's memory.
pub fn records(mut block: Bytes) -> Result<Vec<(Key, Value)>, FormatError> {
    let mut out = Vec::new();
    while block.has_remaining() {
        let key = take(&mut block, 0)?.ok_or(FormatError::Malformed("a record without a key"))?;
        let value = take(&mut block, 1)?;
        if out.last().is_some_and(|(last, _)| *last >= key) {
            return Err(FormatError::Malformed("records are out of order"));
        }
        out.push((key, value));
    }
    Ok(out)
}

/// A length-prefixed run of bytes; `extra` was added to the length, and a length below it means nothing is there.
fn take(block: &mut Bytes, extra: u64) -> Result<Option<Bytes>, FormatError> {
    let Some(length) = decode_varint(block)?.checked_sub(extra) else { return Ok(None) };
    if length > block.remaining() as u64 {
        return Err(FormatError::Malformed("a record reaches past its block"));
    }
    Ok(Some(block.split_to(length as usize)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LibraryId, MasterKey};

    #[test]
    fn records_written_are_the_records_read() {
        let keys = Keys::new(LibraryId([1; 16]), &MasterKey([2; 32]));
        let mut count = 0u8;
        let mut nonce = || {
            count = count.wrapping_add(1);
            [count; 12]
        };
        let record = |n: u32| {
            let value = (!n.is_multiple_of(7)).then(|| Bytes::from(vec![n as u8; n as usize % 300]));
            (Key::copy_from_slice(&n.to_be_bytes()), value)
        };
        let mut writer = ShardWriter::new(&keys, ShardId([5; 16]));
        (0..5000).map(record).for_each(|(key, value)| writer.push(&key, &value, &mut nonce));
        let shard = writer.finish(&mut nonce).unwrap();
        assert_eq!(shard.records, 5000);

        let opener = opener(&keys, shard.id);
        let index = index(opener.whole_footer(&shard.object).unwrap()).unwrap();
        assert!(index.blocks.len() > 10);
        let read: Vec<_> = index
            .blocks
            .iter()
            .flat_map(|block| {
                let range = block.part().range();
                let sealed = &shard.object[range.start as usize..range.end as usize];
                records(opener.part(block.part(), sealed).unwrap()).unwrap()
            })
            .collect();
        assert_eq!(read, (0..5000).map(record).collect::<Vec<_>>());
        assert!((0..5000u32).all(|n| Bloom::of(&n.to_be_bytes()).may_be_in(&index.bloom)));
        let wrong = (5000..15000u32).filter(|n| Bloom::of(&n.to_be_bytes()).may_be_in(&index.bloom)).count();
        assert!(wrong < 300, "{wrong} of 10,000 absent keys pass");
    }
}
