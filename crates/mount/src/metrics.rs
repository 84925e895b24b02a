//! What the kernel asked, how often, and how long the answers took. Counted by relaxed atomics, on the threads that
//! answer; readers may see a count a moment before its time.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use serde::Serialize;

/// Bucket `i` holds answers of less than 2^i microseconds and at least half that; the last one all slower ones.
pub const BUCKETS: usize = 28;

macro_rules! ops {
    ($($name:ident $text:literal),* $(,)?) => {
        /// The calls of the kernel that are told apart.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Op { $($name),* }

        impl Op {
            pub const ALL: &[Op] = &[$(Op::$name),*];

            pub fn name(self) -> &'static str {
                match self { $(Op::$name => $text),* }
            }
        }
    };
}

ops! {
    Lookup "lookup", Getattr "getattr", Setattr "setattr", Readlink "readlink", Mknod "mknod", Mkdir "mkdir",
    Unlink "unlink", Rmdir "rmdir", Symlink "symlink", Rename "rename", Link "link", Open "open", Create "create",
    Read "read", Write "write", Flush "flush", Release "release", Fsync "fsync", Opendir "opendir",
    Readdir "readdir", Releasedir "releasedir", Fsyncdir "fsyncdir", Statfs "statfs", Setxattr "setxattr",
    Getxattr "getxattr", Listxattr "listxattr", Removexattr "removexattr", Fallocate "fallocate", Lseek "lseek",
    CopyFileRange "copy_file_range", Ioctl "ioctl",
}

#[derive(Debug)]
struct Counters {
    errors: AtomicU64,
    deferred: AtomicU64,
    micros: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            errors: AtomicU64::default(),
            deferred: AtomicU64::default(),
            micros: AtomicU64::default(),
            buckets: std::array::from_fn(|_| AtomicU64::default()),
        }
    }
}

/// Counters of one mount, from its beginning.
#[derive(Debug)]
pub struct Metrics {
    ops: Vec<Counters>,
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
    panics: AtomicU64,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            ops: Op::ALL.iter().map(|_| Counters::default()).collect(),
            read_bytes: AtomicU64::default(),
            written_bytes: AtomicU64::default(),
            panics: AtomicU64::default(),
        }
    }
}

impl Metrics {
    pub(crate) fn answered(&self, op: Op, took: Duration, ok: bool) {
        let Some(c) = self.ops.get(op as usize) else { return };
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = (u64::BITS - micros.leading_zeros()) as usize;
        c.buckets[bucket.min(BUCKETS - 1)].fetch_add(1, Relaxed);
        c.micros.fetch_add(micros, Relaxed);
        if !ok {
            c.errors.fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn deferred(&self, op: Op) {
        if let Some(c) = self.ops.get(op as usize) {
            c.deferred.fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn read(&self, bytes: usize) {
        self.read_bytes.fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn written(&self, bytes: usize) {
        self.written_bytes.fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn panicked(&self) {
        self.panics.fetch_add(1, Relaxed);
    }

    /// The counts as they are now; calls that never came are left out.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            read_bytes: self.read_bytes.load(Relaxed),
            written_bytes: self.written_bytes.load(Relaxed),
            panics: self.panics.load(Relaxed),
            ops: Op::ALL.iter().zip(&self.ops).filter_map(|(op, c)| OpStats::of(*op, c)).collect(),
        }
    }
}

/// See [`Metrics::snapshot`].
#[derive(Debug, Clone, Serialize)]
pub struct Snapshot {
    pub read_bytes: u64,
    pub written_bytes: u64,
    /// Answers that ended in a bug of ours; each was EIO to the caller and is in the log.
    pub panics: u64,
    pub ops: Vec<OpStats>,
}

#[derive(Debug, Clone, Serialize)]
pub struct OpStats {
    pub name: &'static str,
    pub count: u64,
    /// Answers other than success, the everyday ENOENT among them.
    pub errors: u64,
    /// Answers that had to wait for the network.
    pub deferred: u64,
    pub total_micros: u64,
    /// Upper bounds: half, and 99 of 100, were answered in less.
    pub p50_micros: u64,
    pub p99_micros: u64,
}

impl OpStats {
    fn of(op: Op, c: &Counters) -> Option<Self> {
        let buckets: Vec<u64> = c.buckets.iter().map(|b| b.load(Relaxed)).collect();
        let count: u64 = buckets.iter().sum();
        (count > 0).then(|| Self {
            name: op.name(),
            count,
            errors: c.errors.load(Relaxed),
            deferred: c.deferred.load(Relaxed),
            total_micros: c.micros.load(Relaxed),
            p50_micros: quantile(&buckets, count.div_ceil(2)),
            p99_micros: quantile(&buckets, (count * 99).div_ceil(100)),
        })
    }
}

/// The upper bound of the bucket in which the `nth` answer, counted from the fastest, lies.
fn quantile(buckets: &[u64], nth: u64) -> u64 {
    let mut seen = 0;
    let found = buckets.iter().position(|n| {
        seen += n;
        seen >= nth
    });
    1 << found.unwrap_or(BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_upper_bounds_and_errors_are_counted_apart() {
        let metrics = Metrics::default();
        for _ in 0..98 {
            metrics.answered(Op::Lookup, Duration::from_micros(5), true);
        }
        metrics.answered(Op::Lookup, Duration::from_micros(900), false);
        metrics.answered(Op::Lookup, Duration::from_secs(9999), true);
        let all = metrics.snapshot();
        assert_eq!(all.ops.len(), 1);
        let lookup = &all.ops[0];
        assert_eq!((lookup.name, lookup.count, lookup.errors), ("lookup", 100, 1));
        assert_eq!((lookup.p50_micros, lookup.p99_micros), (8, 1024));
    }

    #[test]
    fn every_call_has_its_own_name() {
        let names: std::collections::BTreeSet<_> = Op::ALL.iter().map(|op| op.name()).collect();
        assert_eq!(names.len(), Op::ALL.len());
    }
}
