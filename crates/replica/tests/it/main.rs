mod common;
mod damaged;
mod deletions;
mod going_on;
mod instants;
mod keys;
mod odd;
mod runs;
