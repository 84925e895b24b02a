mod common;
mod deletions;
mod going_on;
mod instants;
mod odd;
mod runs;
