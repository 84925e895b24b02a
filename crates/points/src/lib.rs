//! Recovery points: the files of a library and a database, both as they were at one instant.
//! ```text
//!     .snapshots/NAME/                             the files, at the instant                          1st
//!     .haven/points/NAME/database.dump             the database at the instant, pg_dump's own format  2nd
//!                       /roles.sql                 who may use it
//!                       /manifest.json             what belongs together, and what was counted        3rd
//!     .snapshots/NAME+dump/.haven/points/NAME/     the same three where nobody can change them        last
//! ```
//! - A point is there when its folder is, and that appears under its name by one rename, whole. Until then it is
//!   `.NAME.part`, which nobody counts.
//! - A point is *complete* when its manifest can be read, its dump has the length that stands there, and its snapshot
//!   is there. Everything else is told as broken, with the reason, and never chosen.
//! - [`list`] and [`open`] work on a mounted library, and on a folder that a copy was brought back to.
//! - [`check`] says whether every photo that the database knows is among the files, byte for byte. It needs the dump
//!   and something to read files from: no server.

mod beside;
pub mod check;
mod draft;
pub mod dump;
mod error;
mod folder;
pub mod immich;
pub mod manifest;
pub mod pg;
mod place;

pub use beside::{copies_beside, copy_beside, remove_beside};
pub use draft::{Draft, prepare};
pub use error::Error;
pub use folder::Folder;
pub use manifest::Manifest;
pub use place::{
    DUMP, FOLDER, Found, Half, MANIFEST, Point, ROLES, SEAL, ahead, application, halves, is_ahead, list, name, open,
    open_older, open_only, stamp,
};
