//! What a careful owner does, without the doing: when ([`calendar`], [`plan`]), what was done ([`ledger`]), what that means
//! for the photos ([`findings`], [`score`]), and how it is told once a month ([`report`]).
//!
//! Knows nobody: who calls collects a [`state::State`] and runs what is due.

pub mod calendar;
pub mod findings;
pub mod ledger;
pub mod plan;
pub mod report;
pub mod score;
pub mod state;
