//! Replicas: the same objects under the same names, in another store, at every instant a library.
//! ```text
//!     source ──look, verify──▶ cfg, claims ─▶ packs ─▶ shards ─▶ newest root ─▶ snapshots' roots ─▶ log, in order
//! ```
//! Promises: whatever is killed or cut off whenever, the replica opens as a state that the source had. Nothing is copied
//! that does not open and is not what its name says. Nothing is deleted but what the library itself, in a record sealed
//! with its key, says it has deleted; and that later, and never much of it in one day without being asked.
//! A source that is empty, damaged, older than the replica or another library changes nothing.
//!
//! Expects: objects are written once under names of their own (FORMAT.md, section 1); one replicator at a time works on
//! a replica (two do no harm, and do the work twice).
//!
//! Start at [`Replicator`]; [`examine()`] verifies a copy by itself, [`mend()`] puts back what is damaged in one, [`Restorer`] makes a library of one, [`promote()`] puts
//! one in the library's place. Built on `format` and `store` alone.

mod behind;
mod bring;
mod carry;
mod configs;
mod delete;
mod error;
mod examine;
mod inventory;
mod lease;
mod lineage;
mod look;
mod mend;
mod names;
mod needs;
mod promote;
mod readback;
mod records;
mod restore;
mod run;
mod standing;
mod state;
mod sync;
mod verify;
mod world;

pub use behind::{Behind, behind};
pub use delete::Deletions;
pub use error::{Damage, Oddity, ReplicaError, Side};
pub use examine::{Depth, Examined, examine};
pub use look::Position;
pub use mend::{Mended, mend};
pub use promote::{PromoteOptions, Promoted, promote};
pub use readback::ReadBack;
pub use restore::{RestoreOptions, Restored, Restorer};
pub use run::{Options, Progress, ProgressFn, Run, Summary};
pub use standing::{HeldStanding, newest as newest_standing};
pub use sync::Replicator;
pub use world::{Clock, Dice, World};
