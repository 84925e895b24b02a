//! A pack: many sealed chunks in one object, with an index at its end.
//! A [`container`](crate::container) whose parts are chunks and whose footer is a [`PackFooter`].

use crate::{
    ChunkId, FormatError, Keys, PackId,
    container::{Opener, Part, Sealer},
    envelope::Kind,
    layout,
};
use prost::Message;

/// The index of a pack: what was put in, in order of offsets.
#[derive(Clone, PartialEq, Message)]
pub struct PackFooter {
    #[prost(message, repeated, tag = "1")]
    pub chunks: Vec<PackedChunk>,
}

/// One chunk in a pack's index.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct PackedChunk {
    /// The chunk's id, 32 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub id: Vec<u8>,
    /// Bytes from the start of the pack.
    #[prost(uint32, tag = "2")]
    pub offset: u32,
    /// Bytes of the seal.
    #[prost(uint32, tag = "3")]
    pub len: u32,
    /// Bytes of the chunk when plain.
    #[prost(uint32, tag = "4")]
    pub plain_len: u32,
}

impl PackedChunk {
    pub fn chunk(&self) -> Result<ChunkId, FormatError> {
        ChunkId::from_slice(&self.id).ok_or(FormatError::Malformed("a chunk id has another length"))
    }

    pub fn part(&self) -> Part {
        Part { offset: self.offset, len: self.len }
    }
}

/// Begins pack `id`; the eight bytes are its head.
pub fn begin(keys: &Keys, id: PackId) -> (Sealer, [u8; 8]) {
    Sealer::begin(keys, &layout::pack(id), Kind::Pack)
}

/// Opens chunks of pack `id`.
pub fn opener(keys: &Keys, id: PackId) -> Opener {
    Opener::new(keys, &layout::pack(id), Kind::Pack)
}

/// Checks that `plain` is the content of `chunk`.
pub fn verify(keys: &Keys, chunk: ChunkId, plain: &[u8]) -> Result<(), FormatError> {
    if keys.chunk_id(plain) == chunk { Ok(()) } else { Err(FormatError::Hash) }
}
