//! The real programs, on real repositories. What they need is installed by `scripts/test`.

mod borg;
mod restic;
mod scene;
