//! How a library is to appear on this machine.

use std::{num::NonZero, thread, time::Duration};

/// What fsync waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fsync {
    /// The local disk: survives a power cut.
    #[default]
    Disk,
    /// The bucket: survives the loss of this machine.
    Bucket,
}

#[derive(Debug, Clone)]
pub struct MountOptions {
    /// What the kernel's table shows as the source; must hold no secret.
    pub source: String,
    pub read_only: bool,
    /// Other users than the one who mounts may enter (an ordinary user needs `user_allow_other` in fuse.conf).
    pub allow_other: bool,
    /// Hide what the mount point holds instead of refusing.
    pub allow_non_empty: bool,
    pub no_atime: bool,
    /// Honour setuid bits and device files. Only root is given them.
    pub suid_and_dev: bool,
    /// Let the kernel gather small writes. Faster for tiny writes, slower for large ones, and times and sizes are
    /// then the kernel's until it writes back.
    pub writeback_cache: bool,
    /// Threads that answer the kernel.
    pub threads: NonZero<usize>,
    /// How long the kernel may keep entries and attributes. Long, since nobody else writes to a library that is
    /// mounted for writing.
    pub kernel_ttl: Duration,
    /// Another machine writes to the library and this mount follows: the kernel then asks again before it trusts what
    /// it has, and `kernel_ttl` should be about as long as the following lags.
    pub changes_elsewhere: bool,
    /// How far the kernel reads ahead, bytes. More than 128 KiB is granted to root only; 0 leaves it alone.
    pub read_ahead_bytes: u32,
    pub fsync: Fsync,
    /// How long a signalled stop waits for open files to close before it cuts them off.
    pub stop_patience: Duration,
    /// Told to whoever asks the mounted root for [`crate::control::XATTR`]; see [`crate::control::Locator`].
    pub control: Option<crate::control::Locator>,
}

impl MountOptions {
    pub fn new(source: impl Into<String>) -> Self {
        Self {
            source: source.into(),
            read_only: false,
            allow_other: false,
            allow_non_empty: false,
            no_atime: false,
            suid_and_dev: rustix::process::geteuid().is_root(),
            writeback_cache: false,
            threads: default_threads(),
            kernel_ttl: Duration::from_secs(365 * 24 * 3600),
            changes_elsewhere: false,
            read_ahead_bytes: 1 << 20,
            fsync: Fsync::default(),
            stop_patience: Duration::from_secs(10),
            control: None,
        }
    }
}

/// Two at least, so that one slow answer does not stop the others; more than four was never faster.
fn default_threads() -> NonZero<usize> {
    let cores = thread::available_parallelism().map_or(2, NonZero::get);
    NonZero::new(cores.clamp(2, 4)).unwrap_or(NonZero::<usize>::MIN)
}
