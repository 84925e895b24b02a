//! The vault from outside: worlds that crash anywhere, and single behaviours.

mod behaviour;
mod checkpoint;
mod checks;
mod disk;
mod disks;
mod follow;
mod mending;
mod returning;
mod worlds;
