//! The vault from outside: worlds that crash anywhere, and single behaviours.

mod behaviour;
mod worlds;
