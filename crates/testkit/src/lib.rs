//! What tests need and products don't: [`faults`] a store that misbehaves on order, [`museum`] damaged
//! libraries, [`postgres`] a real server with Immich's tables, [`seed`] replayable randomness and virtual time; with the feature `server`: an S3 `server` in the test's
//! process, and a `relay` that makes a near server far.
//!
//! Knows `store` and `format`; those use it from `tests/` alone: from inside they would meet a second
//! copy of their own types.

pub mod faults;
pub mod museum;
pub mod postgres;
#[cfg(feature = "server")]
pub mod relay;
pub mod seed;
#[cfg(feature = "server")]
pub mod server;
