//! A library as a folder: `fs` spoken to by the Linux kernel through FUSE.
//!
//! ```text
//! mount() ──▶ Session ──▶ serve() until signal, command or umount ──▶ Ending
//!              │ point: may we mount here?     attach, detach: the kernel's mount table
//!              │ adapter: one method a call    desk: answered now, or when the network has spoken
//!              └ control: how commands find and speak with this process
//! ```
//! Promises: a mount that fails leaves the mount point as it was, and never creates anything in it. A thread that
//! answers the kernel never waits for the network. However a mount ends, what it accepted is handed to the vault.
//! flock(2) and fcntl(2) locks are the kernel's own: there is one kernel, since there is one writer.

mod adapter;
mod attach;
mod attr;
pub mod background;
pub mod control;
mod desk;
mod detach;
mod error;
mod gather;
mod listing;
mod metrics;
mod mounts;
mod options;
mod point;
mod serve;
mod session;
mod who;

pub use adapter::IOCTL_BARRIER;
pub use detach::{clones, detach, holders};
pub use error::{Holder, MountError, UnmountError};
pub use metrics::{Metrics, Op, OpStats, Snapshot};
pub use mounts::{Mounted, mount_of, mounted_at, resolve};
pub use options::{Fsync, MountOptions};
pub use serve::{Ending, HELD_AFTER, Host, Signals, State, serve};
pub use session::{Ended, Session, mount};
