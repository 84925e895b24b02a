//! The audit against units like those that Haven replaces: every planted mistake is found, and nothing in good ones.

mod analyze;
mod seed;
