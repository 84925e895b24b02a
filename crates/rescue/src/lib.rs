//! The owner's last resort: a deliberately plain reader of a library, on the format and the store alone.
//! ```text
//!     configuration ──secret──▶ keys      tip of the log ──▶ history      newest root ──▶ records, history over them
//!     records ──▶ folders, files, links          packs ──▶ chunks, each compared with its hash
//! ```
//! It shares nothing with the vault and the file system: no cache, no journal, no claims. So it reads what they can't
//! any more, and it is a second opinion on what they wrote: on contents ([`restore`], [`verify`]) and on what may be
//! deleted ([`audit`]). Nothing in the store is ever changed.
//!
//! It keeps all records of a state in memory (about half a kilobyte a file) and goes on past whatever is damaged, or can't
//! be made where it restores to, telling of it. A disk that is full or fails ends it.

mod audit;
mod library;
mod restore;
mod state;
mod verify;

pub use audit::{Audit, Needed, Object, Status, Sum, audit};
pub use library::{Library, RescueError};
pub use restore::{DiskError, Restored, restore};
pub use state::{Records, State, snapshots};
pub use verify::{Verified, verify};
