//! The calls, one file per family.

mod directory;
mod io;
mod link;
mod look;
mod make;
mod memory;
mod rename;
mod setattr;
mod space;
mod unlink;
mod xattr;

pub use link::LINK_MAX;
