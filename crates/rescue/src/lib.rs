//! The owner's last resort: a deliberately plain reader of a library, on the format and the store alone.
//! ```text
//!     configuration ──secret──▶ keys      tip of the log ──▶ history      newest root ──▶ records, history over them
//!     records ──▶ folders, files, links          packs ──▶ chunks, each compared with its hash
//! ```
//! It shares nothing with the vault and the file system: no cache, no journal, no claims. So it reads what they can't
//! any more, and it is a second opinion on what they wrote. Nothing in the store is ever changed.
//!
//! It keeps all records in memory (about half a kilobyte a file) and goes on past whatever is damaged, telling of it.

mod library;
mod restore;

pub use library::{Library, RescueError};
pub use restore::{Restored, restore};
