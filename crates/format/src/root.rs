//! A root: the whole record space at one log position, as runs of shards. One sealed [`envelope`](crate::envelope).
//!
//! Newer runs hide older ones: to read a key, ask the runs in order and take the first that knows it.

use prost::Message;

use crate::{
    Epoch, FormatError, Keys, Nonce, RootSeq, ShardId,
    crypto::NONCE_LEN,
    envelope, layout,
    record::{Time, Totals},
};

#[derive(Clone, PartialEq, Message)]
pub struct Root {
    #[prost(uint64, tag = "1")]
    pub seq: u64,
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    #[prost(bytes = "vec", tag = "3")]
    pub nonce: Vec<u8>,
    /// The last log segment whose changes are all in here; 0 and empty when there was none.
    #[prost(uint64, tag = "4")]
    pub lsn: u64,
    #[prost(string, tag = "5")]
    pub segment: String,
    /// BLAKE3 of that segment's object.
    #[prost(bytes = "vec", tag = "6")]
    pub segment_hash: Vec<u8>,
    /// The last transaction in here.
    #[prost(uint64, tag = "7")]
    pub tx: u64,
    #[prost(message, required, tag = "8")]
    pub made: Time,
    /// Newest first.
    #[prost(message, repeated, tag = "9")]
    pub runs: Vec<Run>,
    #[prost(uint64, tag = "10")]
    pub next_ino: u64,
    #[prost(message, required, tag = "11")]
    pub totals: Totals,
}

/// Shards with disjoint key ranges, in key order.
#[derive(Clone, PartialEq, Message)]
pub struct Run {
    #[prost(message, repeated, tag = "1")]
    pub shards: Vec<ShardRef>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct ShardRef {
    /// 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub id: Vec<u8>,
    /// Length of the object in bytes.
    #[prost(uint64, tag = "2")]
    pub bytes: u64,
    #[prost(bytes = "bytes", tag = "3")]
    pub first: bytes::Bytes,
    #[prost(bytes = "bytes", tag = "4")]
    pub last: bytes::Bytes,
    #[prost(uint64, tag = "5")]
    pub records: u64,
    /// BLAKE3 of the whole object, 32 bytes.
    #[prost(bytes = "vec", tag = "6")]
    pub hash: Vec<u8>,
}

impl ShardRef {
    pub fn shard_id(&self) -> Result<ShardId, FormatError> {
        ShardId::from_slice(&self.id).ok_or(FormatError::Malformed("a shard id has another length"))
    }
}

impl Root {
    pub fn name(&self) -> Result<String, FormatError> {
        let nonce = Nonce::from_slice(&self.nonce).ok_or(FormatError::Malformed("a nonce has another length"))?;
        Ok(layout::root(RootSeq(self.seq), Epoch(self.epoch), nonce))
    }

    pub fn seal(&self, keys: &Keys, nonce: [u8; NONCE_LEN]) -> Result<Vec<u8>, FormatError> {
        Ok(envelope::seal(keys, &self.name()?, envelope::Kind::Root, nonce, &self.encode_to_vec()))
    }

    /// Reads the object called `name`, checking that it is what its name says and that its runs are sorted.
    pub fn open(keys: &Keys, name: &str, object: &[u8]) -> Result<Self, FormatError> {
        let root = Self::decode(envelope::open(keys, name, envelope::Kind::Root, object)?)?;
        if root.name()? != name {
            return Err(FormatError::Malformed("the root belongs under another name"));
        }
        let sorted = |run: &Run| {
            run.shards.iter().all(|shard| shard.first <= shard.last)
                && run.shards.windows(2).all(|pair| pair[0].last < pair[1].first)
        };
        if root.runs.iter().all(sorted) { Ok(root) } else { Err(FormatError::Malformed("a run's shards overlap")) }
    }
}
