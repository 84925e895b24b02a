//! File ranges to chunks and back.
//!
//! ```text
//!     write ──▶ runs, in memory ──store──▶ chunks in the vault, and extents that refer to them
//!     read  ◀── runs over extents over zeros
//! ```
//! Invariants: the extents of a file do not overlap; `Inode.allocated` is the sum of their lengths; the record's size
//! never covers bytes that are only in memory, so a crash never shows a size without its data.

mod extents;
mod read;
mod runs;
mod store;

pub(crate) use extents::{Edit, clip, extents_in, next_extent, windows};
pub(crate) use runs::Runs;
pub(crate) use store::How;

/// Files end here.
pub const SIZE_MAX: u64 = 16 << 40;
