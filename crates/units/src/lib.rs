//! systemd's unit files: read as systemd reads them, audited for what endangers photos, and written for Haven.
//!
//! Knows nobody, asks nobody: text and directories in, findings and text out. What the machine's own `systemd-analyze`
//! says beyond that is asked for by who calls.

pub mod audit;
pub mod calendar;
pub mod file;
pub mod ours;
pub mod span;
pub mod tree;

pub use audit::{Finding, Severity, audit};
pub use tree::{Tree, TreeError, Unit};
