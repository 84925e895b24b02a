//! Bytes at rest: what Haven's objects contain, as pure functions from values to bytes and back.
//!
//! No files, no network, no clock, no dice: time and randomness are handed in. FORMAT.md says the same for
//! a stranger; the golden files under `tests/golden` hold it still.

pub mod chunk;
pub mod claim;
pub mod codec;
pub mod config;
pub mod container;
pub mod crypto;
pub mod envelope;
pub mod id;
pub mod keys;
pub mod layout;
pub mod lease;
pub mod pack;
pub mod record;
pub mod retention;
pub mod root;
pub mod segment;
pub mod shard;
pub mod standing;

mod error;

pub use crypto::{Keys, MasterKey};
pub use error::FormatError;
pub use id::{ChunkId, Epoch, Ino, LibraryId, Lsn, Nonce, PackId, RootSeq, ShardId, TxSeq};
