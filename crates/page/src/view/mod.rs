//! Values to HTML. Whatever is put in is escaped by the macro; nothing here asks or changes anything.

pub mod copies;
pub mod drills;
pub mod findings;
pub mod frame;
pub mod growth;
pub mod now;
pub mod overview;
pub mod plot;
pub mod runs;
pub mod signs;
pub mod snapshots;
pub mod words;

pub use frame::{Frame, Here};
pub use words::Tell;
