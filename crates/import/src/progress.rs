//! What an import is doing, for whoever shows it: numbers that may be read at any time.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// Counts up as the import goes on. Bytes are of distinct contents.
#[derive(Debug, Default)]
pub struct Progress {
    phase: Mutex<&'static str>,
    waiting: Mutex<Away>,
    pub files: AtomicU64,
    pub files_total: AtomicU64,
    pub bytes: AtomicU64,
    pub bytes_total: AtomicU64,
    /// Requests under way.
    pub in_flight: AtomicU64,
    /// How many there may be.
    pub lanes: AtomicU64,
    pub retries: AtomicU64,
    pub failed: AtomicU64,
    /// Found on the server, and not sent.
    pub there: AtomicU64,
    /// Really sent.
    pub sent: AtomicU64,
    pub sent_bytes: AtomicU64,
    /// Bytes of files that were read, in parts that can be sought in.
    pub source_bytes: Arc<AtomicU64>,
    /// Nanoseconds that requests waited: for their source; for somebody to take their bytes; for the answer when all was
    /// taken, with the pauses before further tries. What the import waits for, see [`crate::Pace`].
    pub disk_nanos: AtomicU64,
    pub network_nanos: AtomicU64,
    pub server_nanos: AtomicU64,
}

/// A server that is away, and how long it was before.
#[derive(Debug, Default)]
struct Away {
    why: Option<String>,
    since: Option<Instant>,
    total: Duration,
}

impl Away {
    fn total(&self) -> Duration {
        self.total + self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

impl Progress {
    pub fn phase(&self) -> &'static str {
        *self.phase.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Begins a phase, with what it has to do.
    pub fn begin(&self, phase: &'static str, files: u64, bytes: u64) {
        *self.phase.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = phase;
        self.files.store(0, Relaxed);
        self.bytes.store(0, Relaxed);
        self.files_total.store(files, Relaxed);
        self.bytes_total.store(bytes, Relaxed);
    }

    /// What everything waits for: a server that is away.
    pub fn waiting(&self) -> Option<String> {
        self.away_now().why.clone()
    }

    pub fn set_waiting(&self, why: Option<String>) {
        let mut away = self.away_now();
        away.total = away.total();
        away.since = why.as_ref().map(|_| Instant::now());
        away.why = why;
    }

    /// How long the server was away, all in all.
    pub fn away(&self) -> Duration {
        self.away_now().total()
    }

    fn away_now(&self) -> std::sync::MutexGuard<'_, Away> {
        self.waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// One file done.
    pub fn done(&self, bytes: u64) {
        self.files.fetch_add(1, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
    }
}
