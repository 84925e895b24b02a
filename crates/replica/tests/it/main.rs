mod common;
mod deletions;
mod instants;
mod odd;
mod runs;
