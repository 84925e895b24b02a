//! Real mounts of libraries in memory.

mod control;
mod ends;
mod files;
mod refusals;
mod support;
