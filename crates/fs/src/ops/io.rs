//! Open files: read, write, close, make durable.

use std::sync::{Arc, atomic::Ordering};

use bytes::Bytes;
use haven_format::{Ino, TxSeq, record::Inode};
use parking_lot::{RwLockReadGuard, RwLockWriteGuard};

use crate::{
    Atime, Caller, Fs, FsError, Handle, Result, SIZE_MAX, SetAttr, WriteFlags,
    content::How,
    handle::{Node, Open, State},
    history::{folder, is_past},
    meta::{inode, is_dir},
};

/// Separate runs of one file in memory, above which they are stored.
const RUNS_MAX: usize = 2048;
/// Seconds after which an access is recorded even though nothing changed.
const ATIME_AGE: i64 = 24 * 60 * 60;

impl Fs {
    /// `flags` are those of open(2); `O_TRUNC` is honoured, the kernel sees to the others.
    pub fn open(&self, ino: Ino, flags: i32) -> Result<Handle> {
        if ino == folder() || is_dir(self.record(ino)?.mode) {
            return Err(FsError::IsDirectory);
        }
        if flags & libc::O_ACCMODE != libc::O_RDONLY {
            self.writable_at(ino)?;
        }
        if flags & libc::O_TRUNC != 0 {
            let set = SetAttr { size: Some(0), kill_privileges: true, ..Default::default() };
            self.setattr(&Caller::ROOT, ino, &set, None)?;
        }
        Ok(self.handles.open(&self.nodes.hold(ino)))
    }

    /// The record of an inode, of now or of the past.
    pub(crate) fn record(&self, ino: Ino) -> Result<Inode> {
        let at = self.place(ino)?;
        inode(&at.view, at.ino)
    }

    /// What `handle` has open, which is `ino`.
    pub(crate) fn opened(&self, ino: Ino, handle: Handle) -> Result<Arc<Open>> {
        let open = self.handles.get(handle)?;
        if open.node.ino == ino { Ok(open) } else { Err(FsError::BadHandle) }
    }

    /// At most `len` bytes from `offset`; fewer only at the end of the file.
    pub fn read(&self, ino: Ino, handle: Handle, offset: u64, len: usize) -> Result<Bytes> {
        let open = self.opened(ino, handle)?;
        let bytes = self.read_range(&self.place(ino)?, &open, offset, len)?;
        if self.options.atime == Atime::Relative && !self.options.read_only && !is_past(ino) {
            self.touch(&open)?;
        }
        Ok(bytes)
    }

    /// Notes an access, once a handle.
    fn touch(&self, open: &Open) -> Result<()> {
        if std::mem::replace(&mut open.reading.lock().touched, true) {
            return Ok(());
        }
        let attr = self.attr(open.node.ino)?;
        let now = self.clock.now();
        let due = attr.atime <= attr.mtime || attr.atime <= attr.ctime || attr.atime.seconds + ATIME_AGE <= now.seconds;
        if due {
            self.atimes.lock().insert(open.node.ino, now);
        }
        Ok(())
    }

    /// Takes all of `data`, or nothing.
    pub fn write(&self, ino: Ino, handle: Handle, offset: u64, data: &[u8], flags: WriteFlags) -> Result<usize> {
        self.writable_at(ino)?;
        let open = self.opened(ino, handle)?;
        let node = &open.node;
        let end = offset.checked_add(data.len() as u64).filter(|end| *end <= SIZE_MAX).ok_or(FsError::TooLarge)?;
        if data.is_empty() {
            return Ok(0);
        }
        self.drop_privileges(node, flags.kill_privileges)?;
        self.relieve()?;
        self.store_overdue(node)?;
        let backlog = {
            let state = node.state.read();
            state.runs.bytes() >= 2 * self.options.write_out || state.runs.count() >= RUNS_MAX
        };
        if backlog {
            self.store(node, How::Drop)?;
        }
        self.let_snapshot_pass(data.len());
        let (run, length, alone) = {
            let (_open, mut state) = self.write_state(node);
            let size = match state.size {
                Some(size) => size,
                None => inode(&self.vault.live(), ino)?.size,
            };
            let written = state.runs.write(offset, data);
            let now = self.clock.now();
            state.size = Some(size.max(end));
            (state.mtime, state.ctime) = (Some(now), Some(now));
            if !state.changed {
                state.changed = true;
                state.since = self.ticks.load(Ordering::Relaxed);
            }
            self.count(node, &mut state);
            (written.0, written.1, state.runs.count() == 1)
        };
        if length >= self.options.write_out
            // Beside other runs it must not go first: the size would cover what is not stored yet.
            && let Err(error) = self.store(node, if alone { How::Ahead(run) } else { How::Drop })
        {
            // The bytes are taken. Whoever writes on, closes or syncs meets the same error and is told.
            tracing::debug!(%ino, %error, "written bytes stay in memory for now");
        }
        Ok(data.len())
    }

    /// The file's bytes in memory, to change them. Nobody waits for a file that is being stored with the gate held:
    /// a snapshot, and all other writers behind it, would wait too.
    pub(crate) fn write_state<'a>(&'a self, node: &'a Node) -> (RwLockReadGuard<'a, ()>, RwLockWriteGuard<'a, State>) {
        loop {
            let state = node.state.write();
            if let Some(open) = self.gate.try_read() {
                return (open, state);
            }
            drop(state);
            drop(self.gate.read());
        }
    }

    /// One close(2) of the handle: afterwards a killed process loses nothing of the file.
    pub fn flush(&self, ino: Ino, handle: Handle) -> Result<()> {
        let open = self.opened(ino, handle)?;
        let orphan = || self.orphans.lock().contains(&ino);
        if !open.node.state.read().listed || orphan() {
            // Nothing in memory, or of a file that is gone with its last handle anyway.
            return Ok(());
        }
        self.store(&open.node, How::Drop)
    }

    /// The last close. The handle is gone whatever the result.
    pub fn release(&self, ino: Ino, handle: Handle) -> Result<()> {
        let (open, last) = self.handles.close(handle)?;
        self.kept.forget(handle);
        let node = self.nodes.of(&open);
        drop(open);
        // Of a file without a name the bytes stay in memory until the kernel forgets it: it may be opened again, by a
        // descriptor of another kind.
        let stored = if last && node.state.read().listed && !self.orphans.lock().contains(&node.ino) {
            self.store(&node, How::Drop)
        } else {
            Ok(())
        };
        drop(node);
        if last {
            self.reap_if_unused(Some(ino));
        }
        stored
    }

    /// Afterwards neither a killed process nor a power cut loses anything of the file. Blocks on the local disk.
    /// For more, hand the result to [`Fs::sync_bucket`].
    pub fn fsync(&self, ino: Ino, handle: Handle, _datasync: bool) -> Result<TxSeq> {
        let open = self.opened(ino, handle)?;
        self.store(&open.node, How::Keep)?;
        self.sync_head()
    }
}
