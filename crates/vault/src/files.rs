//! Files of the cache that are open: a bounded number, for a cache holds more files than a process may have open.
//!
//! Each copy has a ticket of its own, so that the file of one that was removed is never taken for that of another made
//! since under its name. Whoever removes a copy shuts its file: open, it would keep its bytes on the disk.

use std::{
    io,
    sync::atomic::{AtomicU64, Ordering},
};

use quick_cache::sync::Cache;
use rustix::io::Errno;

use crate::disk::DynFile;

/// So many stay open. A process may often have 1024, and needs some for the store, the kernel and what is not uploaded.
pub(crate) const OPEN_MAX: usize = 256;

/// One copy of something, for as long as this program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Ticket(u64);

#[derive(Debug)]
pub(crate) struct OpenFiles {
    next: AtomicU64,
    open: Cache<Ticket, DynFile>,
}

impl OpenFiles {
    pub(crate) fn new() -> Self {
        Self { next: AtomicU64::new(0), open: Cache::new(OPEN_MAX) }
    }

    pub(crate) fn ticket(&self) -> Ticket {
        Ticket(self.next.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn get(&self, ticket: Ticket) -> Option<DynFile> {
        self.open.get(&ticket)
    }

    /// Keeps it open for the next who wants it; another may be closed for it.
    pub(crate) fn keep(&self, ticket: Ticket, file: DynFile) {
        self.open.insert(ticket, file);
    }

    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.open.len()
    }

    pub(crate) fn shut(&self, ticket: Ticket) {
        self.open.remove(&ticket);
    }
}

/// Whether a file could not be opened because too many are: that says nothing of this one.
pub(crate) fn too_many(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}
