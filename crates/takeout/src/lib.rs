//! What a Google Takeout of photos means: names, sidecars, and which belongs to which.
//! ```text
//!   zip parts ──zip──▶ paths, lengths, CRCs, without reading a photo; then each file where it lies
//!   names of a directory ──names──▶ titles, counters, cuts ──pairing──▶ media file → sidecar, with the rule that decided
//!   JSON ──sidecar──▶ photo | album | something else
//!   all directories ──tree──▶ sidecars of other directories, albums and their members
//! ```
//! Promises: a pair that is called [`Confidence::Strong`] follows from the rules by which Google makes names, and no
//! other sidecar fits as well. What only may be right is [`Confidence::Weak`]; what is a guess is no pair at all.
//! A wrong date and place are worse than none.
//!
//! Knows no server and no clock; only [`zip`] reads files, all else is pure. Names are cut by Google in UTF-16 code units, so lengths here are counted in those.

pub mod names;
pub mod pairing;
pub mod sidecar;
pub mod tree;
pub mod zip;

pub use pairing::{Confidence, Pair, Pairing, Role, Rule, pair_directory};
pub use sidecar::{Album, Json, Photo};
