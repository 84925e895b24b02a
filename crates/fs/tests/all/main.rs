//! What the file system does, by behaviour.

#![allow(clippy::unwrap_used)]

mod common;
mod data;
mod model;
mod names;
mod past;
mod rights;
mod threads;
mod waiting;
mod worlds;
