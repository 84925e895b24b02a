//! What an import is doing, for whoever shows it: numbers that may be read at any time.

use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// Counts up as the import goes on. Bytes are of distinct contents.
#[derive(Debug, Default)]
pub struct Progress {
    phase: Mutex<&'static str>,
    waiting: Mutex<Option<String>>,
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
    /// Nanoseconds spent waiting for the source, and for the server: what the import waits for.
    pub disk_nanos: AtomicU64,
    pub server_nanos: AtomicU64,
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
        self.waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    pub fn set_waiting(&self, why: Option<String>) {
        *self.waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = why;
    }

    /// One file done.
    pub fn done(&self, bytes: u64) {
        self.files.fetch_add(1, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
    }
}
