//! What a Google Takeout of photos means: names, sidecars, and which belongs to which.
//! ```text
//!   zip parts ──zip──▶ paths, lengths, CRCs, without reading a photo; then each file where it lies
//!   .tar, .tgz ──tarball──▶ files as they come by         names of parts ──parts──▶ exports and their gaps
//!   names of a directory ──names──▶ titles, counters, cuts ──pairing──▶ media file → sidecar, with the rule that decided
//!   still and film ──live──▶ their identifier      names of a directory ──series──▶ bursts, raw files and their JPEGs
//!   JSON ──sidecar──▶ photo | album | something else
//!   all directories ──tree──▶ sidecars of other directories, albums and their members
//!   first bytes ──sniff──▶ format     file ──exif, film──▶ clock, place     both and the sidecar ──dates──▶ date ──xmp──▶ document
//! ```
//! Promises: a pair that is called [`Confidence::Strong`] follows from the rules by which Google makes names, and no
//! other sidecar fits as well. What only may be right is [`Confidence::Weak`]; what is a guess is no pair at all.
//! A wrong date and place are worse than none.
//!
//! Knows no server; only [`zip`] and [`tarball`] read files, all else is pure. Names are cut by Google in UTF-16 code units, so lengths here are counted in those.

pub mod dates;
pub mod exif;
pub mod film;
pub mod icloud;
pub mod live;
pub mod motion;
pub mod names;
pub mod pairing;
pub mod parts;
pub mod series;
pub mod sidecar;
pub mod sniff;
pub mod tarball;
pub mod tree;
pub mod xmp;
pub mod zip;
mod zones;

pub use pairing::{Confidence, Pair, Pairing, Role, Rule, pair_directory};
pub use sidecar::{Album, Json, Photo};
