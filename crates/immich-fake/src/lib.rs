//! For tests only: a server that speaks Immich's API, as v1.135, v2 and v3 do.
//!
//! Each request is checked against Immich's own OpenAPI description: a field too many or too few, a wrong type, an id that
//! is none are refused as Immich refuses them, and kept as *violations*, of which a test wants none. What it is told it
//! keeps: users, assets by SHA-1, sidecars, albums, tags, stacks, trash, paused queues; [`Fake::state`] gives all of it in
//! one order and without ids and times, so that two runs can be compared. [`Orders`] make it misbehave.
//!
//! `data/openapi-v3.1.0.json` is the part of Immich's description that Haven uses, without its prose (Immich v3.1.0,
//! open-api/immich-openapi-specs.json).

mod form;
mod orders;
mod routes;
mod schema;
mod serve;
mod shapes;
mod spec;
mod upload;
mod world;

pub use orders::{Early, Fail, Orders};
pub use serve::{Fake, Options};
pub use world::{Counts, Key};

/// The key of the ordinary user each fake has.
pub const USER_KEY: &str = "fake-user-key-0123456789abcdefghijklmnopqrs";
/// The key of its administrator.
pub const ADMIN_KEY: &str = "fake-admin-key-0123456789abcdefghijklmnopqr";
/// What its maintenance tokens are signed with. A server has it in its database, and a new one each time.
pub const MAINTENANCE_SECRET: &str = "fake-maintenance-secret-0123456789abcdef";
