//! The way back: the files and the database of a recovery point, brought to another place, and proof that they can be.
//! ```text
//!     point ──files──▶ lay ─────▶ a directory, or a mounted library     sentinels: what Immich wants to find there
//!           ──dump───▶ database ▶ a new database, renamed at the end    cluster: a PostgreSQL of our own, for drills
//!           ──both───▶ drill ───▶ proof: a report that can't be forged  pick: single photos with their rows
//! ```
//! Promises: nothing that is there is written over: folders and databases are renamed aside, and only when what takes
//! their place is whole. What is interrupted is begun again by the same command.
//! Expects: [`haven_point::Point`]s, in a mounted library or in a folder that a copy was brought back to.

pub mod cluster;
pub mod database;
pub mod dress;
pub mod drill;
mod error;
pub mod lay;
pub mod leftovers;
pub mod pick;
pub mod proof;
pub mod scratch;
pub mod sentinels;
pub mod sql;
pub mod target;

pub use error::Error;
