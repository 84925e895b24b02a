//! What is in memory, over all files: counted, limited, and handed to the vault in time.

use std::sync::atomic::Ordering;

use haven_format::{Ino, TxSeq, record};
use haven_vault::Need;
use prost::Message;

use crate::{
    Fs, FsError, Result,
    content::How,
    errno::Tried,
    handle::{Node, State},
    meta::find_inode,
};

/// Ticks after which written bytes are handed over, even of a file that stays open.
const AGE: u64 = 2;
/// Access times recorded in one commit.
const ATIMES_AT_ONCE: usize = 1024;
/// Files for which there may be no room before a write waits for some: each of them was cut and compressed in vain.
const WITHOUT_ROOM: usize = 8;

impl Fs {
    /// Brings the sums up to date after `state`, which is `node`'s, changed.
    pub(crate) fn count(&self, node: &Node, state: &mut State) {
        let bytes = state.runs.bytes();
        if bytes >= state.counted {
            self.in_memory.fetch_add(bytes - state.counted, Ordering::Relaxed);
        } else {
            self.in_memory.fetch_sub(state.counted - bytes, Ordering::Relaxed);
        }
        state.counted = bytes;
        let list = bytes > 0 || state.changed;
        if list != state.listed {
            state.listed = list;
            let mut holding = self.nodes.holding.lock();
            if list {
                holding.insert(node.ino.0);
            } else {
                holding.remove(&node.ino.0);
            }
        }
    }

    /// Makes room for what is about to be written. The caller holds no node's state.
    pub(crate) fn relieve(&self) -> Result<()> {
        let mut tried = Tried::default();
        let mut ino = 0;
        let mut without_room = 0;
        while self.in_memory.load(Ordering::Relaxed) as u64 > self.options.dirty_limit
            && without_room < WITHOUT_ROOM
            && let Some(next) = self.nodes.next_holding(ino)
        {
            ino = next;
            let stored = self.store_if_there(Ino(ino), How::Drop);
            without_room += usize::from(matches!(stored, Err(FsError::Need(Need::Space { .. }))));
            tried.note(stored);
        }
        if self.in_memory.load(Ordering::Relaxed) as u64 > self.options.dirty_limit { tried.outcome() } else { Ok(()) }
    }

    /// Stores what is in memory of `ino`, if anything is.
    pub(crate) fn store_if_there(&self, ino: Ino, how: How) -> Result<()> {
        let Some(node) = self.nodes.find(ino) else { return Ok(()) };
        match self.store(&node, how) {
            // The inode is gone with its last name and lookup; its bytes are nobody's.
            Err(FsError::NotFound) => {
                self.discard(&node);
                Ok(())
            }
            other => other,
        }
    }

    /// Hands all that was written, of all files, to the vault. What can't be is told when all others have been.
    pub fn flush_all(&self) -> Result<()> {
        self.flush_within(|| false).map(drop)
    }

    /// As [`Fs::flush_all`], until `over` says that there is no more time for it. Whether it was all.
    pub(crate) fn flush_within(&self, over: impl Fn() -> bool) -> Result<bool> {
        let mut tried = Tried::default();
        let mut ino = 0;
        while let Some(next) = self.nodes.next_holding(ino) {
            if over() {
                return tried.outcome().map(|()| false);
            }
            ino = next;
            tried.note(self.store_if_there(Ino(ino), How::Keep));
        }
        tried.note(self.record_atimes());
        tried.outcome().map(|()| true)
    }

    /// Afterwards everything that was written survives a power cut; on an error, everything that could be stored. Blocks
    /// on the local disk.
    pub fn sync(&self) -> Result<TxSeq> {
        let flushed = self.flush_all();
        let seq = self.sync_head()?;
        flushed.map(|()| seq)
    }

    pub(crate) fn sync_head(&self) -> Result<TxSeq> {
        let seq = self.vault.head();
        self.vault.sync(seq)?;
        Ok(seq)
    }

    /// To be called about once a second: hands over what was written more than two seconds ago, and removes some of
    /// what nobody can reach any more. Bounded work; nothing is lost when it fails, the next one tries again. What it
    /// needs, and cannot wait for, is for the caller to settle: then [`Fs::catch_up`].
    pub fn tick(&self) -> Result<()> {
        self.ticks.fetch_add(1, Ordering::Relaxed);
        self.progress.see(self.vault.uploaded(), self.clock.now());
        self.catch_up()
    }

    /// What the last [`Fs::tick`] left.
    pub fn catch_up(&self) -> Result<()> {
        let now = self.ticks.load(Ordering::Relaxed);
        let mut tried = Tried::default();
        let mut ino = 0;
        while let Some(next) = self.nodes.next_holding(ino) {
            ino = next;
            let due = self.nodes.find(Ino(ino)).is_some_and(|node| {
                let state = node.state.read();
                state.changed && state.since + AGE <= now
            });
            if due {
                tried.note(self.store_if_there(Ino(ino), How::Keep));
            }
        }
        tried.note(self.record_atimes());
        tried.note(self.reap_some());
        tried.outcome()
    }

    /// Stores what a tick should have handed over and could not, so that a writer waits with it instead of being told
    /// that all is well. The caller holds no node's state.
    pub(crate) fn store_overdue(&self, node: &Node) -> Result<()> {
        let overdue = {
            let state = node.state.read();
            state.changed && state.since + AGE + 1 < self.ticks.load(Ordering::Relaxed)
        };
        if overdue { self.store(node, How::Keep) } else { Ok(()) }
    }

    fn record_atimes(&self) -> Result<()> {
        if self.atimes.lock().is_empty() {
            return Ok(());
        }
        let _change = self.change.lock();
        let mut stage = self.stage();
        let mut due: Vec<_> = self.atimes.lock().iter().take(ATIMES_AT_ONCE).map(|(ino, time)| (*ino, *time)).collect();
        let mut tried = Tried::default();
        due.retain(|(ino, time)| match find_inode(&stage.view, *ino) {
            Ok(found) => {
                if let Some(mut inode) = found {
                    inode.atime = *time;
                    stage.set(record::inode_key(*ino), inode.encode_to_vec().into());
                }
                true
            }
            Err(error) => {
                tried.note(Err(error));
                false
            }
        });
        if !due.is_empty() {
            self.commit(stage)?;
        }
        let mut left = self.atimes.lock();
        due.iter().for_each(|(ino, time)| {
            if left.get(ino) == Some(time) {
                left.remove(ino);
            }
        });
        tried.outcome()
    }
}
