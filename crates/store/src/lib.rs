//! Named objects on any store, and the network. Knows nobody else in the house.
//!
//! Start at [`port`] (the verbs) and [`open()`] (from a URL to a store). One adapter each: [`dir`],
//! [`memory`], [`s3`], [`sftp`], [`webdav`]. One decorator each: [`retry`], [`limit`], [`meter`], [`timeout`].
//! [`probe`] tells what a store really honours; [`suite`] is what all of them must show.

mod account;
mod calendar;
pub mod dir;
pub mod human;
pub mod limit;
pub mod memory;
pub mod meter;
pub mod open;
pub mod port;
pub mod probe;
mod read_only;
pub mod retry;
pub mod s3;
pub mod secret;
pub mod sftp;
pub mod suite;
pub mod timeout;
mod tree;
mod url;
mod web;
pub mod webdav;
mod xml;

pub use account::home;
pub use open::{OpenError, Stack, StoreOptions, open, open_bare, open_stack};
pub use port::{Advice, DynStore, InvalidName, ListPage, Location, ObjectMeta, ObjectName, PutMode, Store, StoreError};
pub use read_only::read_only;
pub use web::{roots, tls};
