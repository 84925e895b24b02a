//! Brings photos into a photo server, loses nothing, can be killed at any moment, and accounts for every file.
//! ```text
//!   takeout, folders ──▶ journal (SQLite) ──▶ server (a port: what an import asks of a photo server)
//! ```

pub mod server;
