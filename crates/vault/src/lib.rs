//! Bytes by content and records by key, kept in a bucket. Knows nothing of POSIX.
//!
//! Calls that only touch what is on this machine are plain functions and never wait for the network. Where something
//! must be fetched, or room made, they return [`VaultError::Need`] without having changed anything: the caller awaits
//! [`Vault::settle`] and calls again. So a FUSE thread answers at once where it can, and a simulation can stop the
//! world between any two steps.
//!
//! ```text
//!     put, commit ─▶ journal, staging (this machine) ─▶ packs, then log (bucket) ─▶ shards, root (bucket)
//!     get, scan   ◀─ table: memory over shards           chunk ◀─ staging, cached packs, bucket
//! ```

mod budget;
pub mod check;
mod checkpoint;
pub mod claim;
pub mod collect;
pub mod disk;
mod error;
mod fetch;
mod files;
mod follow;
mod journal;
mod load;
mod log;
mod moment;
mod packs;
mod ranges;
mod read;
mod recover;
mod shards;
mod snapshots;
mod status;
mod sync;
mod table;
mod tail;
mod vault;
pub mod world;

pub use error::{Need, VaultError};
pub use moment::Moment;
pub use snapshots::{NAME_MAX as SNAPSHOT_NAME_MAX, check_name as check_snapshot_name};
pub use status::{Status, Sums};
pub use table::View;
pub use vault::{Options, Vault};
pub use world::World;

type Result<T, E = VaultError> = std::result::Result<T, E>;

/// How sums change with a transaction. Added to the library's totals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Change {
    pub inodes: i64,
    pub file_bytes: i64,
}

/// A failure of the local disk.
fn local(error: std::io::Error) -> VaultError {
    let full = matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded);
    VaultError::Local { detail: error.to_string(), full }
}

/// A sync that failed: what the kernel could not write then it may have forgotten. For a want of room, too: the next sync
/// may succeed without those bytes.
fn unsynced(error: std::io::Error) -> VaultError {
    VaultError::Local { detail: error.to_string(), full: false }
}
