//! What tests need and products don't: [`faults`] a store that misbehaves on order, [`seed`]
//! replayable randomness and virtual time.
//!
//! Knows `store` and `format`; those use it from `tests/` alone: from inside they would meet a second
//! copy of their own types.

pub mod faults;
pub mod seed;
