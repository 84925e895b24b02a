//! Real mounts of libraries in memory.

mod away;
mod control;
mod ends;
mod files;
mod refusals;
mod support;
