//! A client of Immich's API, v1.135 to v3, that knows nothing of where photos come from.
//! ```text
//!   Settings ──Immich::open──▶ address, version ──▶ account: user, quota, what the key may
//!   bytes of the caller ──upload──▶ one request, its answer read while it is sent
//!   ids ──albums, tags, stacks, trash, search──▶ an answer for each id
//!   queues, maintenance ──▶ the server held still for a while
//! ```
//! Promises: no call changes or deletes what is on the server unless its name says so; an id that is none enters no
//! request; what the versions differ in is seen by nobody outside; each error answers what can be done ([`Advice`]).
//! Nothing is tried twice here: whoever calls knows what else is under way.
//!
//! Source of all facts: Immich's own OpenAPI description of v3.1.0, its servers' code from v1.135.3, and what a running
//! v3.1.0 answered.

mod account;
mod address;
mod albums;
mod answer;
mod assets;
mod call;
mod client;
mod connect;
mod database;
mod error;
mod id;
mod maintenance;
mod queues;
mod send;
mod tags;
mod upload;
mod version;

pub use account::{Account, KeyPermissions, MediaTypes, Storage};
pub use albums::{Album, AlbumAnswer};
pub use assets::{Asset, AssetKind, BulkAnswer, Change, Found, Query, Statistics, Visibility, Words};
pub use call::permission;
pub use client::{Immich, Settings, Standing, Timeouts};
pub use database::Schema;
pub use error::{Advice, Error, Space};
pub use id::{Id, NotAnId, Sha1};
pub use maintenance::{Maintenance, MaintenanceToken};
pub use queues::{Queue, QueueName};
pub use tags::Tag;
pub use upload::{Content, Upload, Uploaded, Verdict};
pub use version::Version;
