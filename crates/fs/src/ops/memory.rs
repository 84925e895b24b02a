//! What is in memory, over all files: counted, limited, and handed to the vault in time.

use std::sync::atomic::Ordering;

use haven_format::{Ino, TxSeq, record};
use prost::Message;

use crate::{
    Fs, FsError, Result,
    content::How,
    handle::{Node, State},
    meta::find_inode,
};

/// Ticks after which written bytes are handed over, even of a file that stays open.
const AGE: u64 = 2;
/// Access times recorded in one commit.
const ATIMES_AT_ONCE: usize = 1024;

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
        let mut ino = 0;
        while self.in_memory.load(Ordering::Relaxed) as u64 > self.options.dirty_limit
            && let Some(next) = self.nodes.next_holding(ino)
        {
            ino = next;
            self.store_if_there(Ino(ino), How::Drop)?;
        }
        Ok(())
    }

    fn store_if_there(&self, ino: Ino, how: How) -> Result<()> {
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

    /// Hands all that was written, of all files, to the vault.
    pub fn flush_all(&self) -> Result<()> {
        self.flush_within(|| false).map(drop)
    }

    /// As [`Fs::flush_all`], until `over` says that there is no more time for it. Whether it was all.
    pub(crate) fn flush_within(&self, over: impl Fn() -> bool) -> Result<bool> {
        let mut ino = 0;
        while let Some(next) = self.nodes.next_holding(ino) {
            if over() {
                return Ok(false);
            }
            ino = next;
            self.store_if_there(Ino(ino), How::Keep)?;
        }
        self.record_atimes()?;
        Ok(true)
    }

    /// Afterwards everything that was written survives a power cut. Blocks on the local disk.
    pub fn sync(&self) -> Result<TxSeq> {
        self.flush_all()?;
        self.sync_head()
    }

    pub(crate) fn sync_head(&self) -> Result<TxSeq> {
        let seq = self.vault.head();
        self.vault.sync(seq)?;
        Ok(seq)
    }

    /// To be called about once a second: hands over what was written more than two seconds ago, and removes some of
    /// what nobody can reach any more. Bounded work; nothing is lost when it fails, the next one tries again.
    pub fn tick(&self) -> Result<()> {
        let now = self.ticks.fetch_add(1, Ordering::Relaxed) + 1;
        self.progress.see(self.vault.uploaded(), self.clock.now());
        let mut result = Ok(());
        let mut ino = 0;
        while let Some(next) = self.nodes.next_holding(ino) {
            ino = next;
            let due = self.nodes.find(Ino(ino)).is_some_and(|node| {
                let state = node.state.read();
                state.changed && state.since + AGE <= now
            });
            if due {
                result = result.and(self.store_if_there(Ino(ino), How::Keep));
            }
        }
        result.and(self.record_atimes()).and(self.reap_some())
    }

    fn record_atimes(&self) -> Result<()> {
        if self.atimes.lock().is_empty() {
            return Ok(());
        }
        let _change = self.change.lock();
        let mut stage = self.stage();
        let due: Vec<_> = self.atimes.lock().iter().take(ATIMES_AT_ONCE).map(|(ino, time)| (*ino, *time)).collect();
        for (ino, time) in &due {
            if let Some(mut inode) = find_inode(&stage.view, *ino)? {
                inode.atime = *time;
                stage.set(record::inode_key(*ino), inode.encode_to_vec().into());
            }
        }
        self.commit(stage)?;
        let mut left = self.atimes.lock();
        due.iter().for_each(|(ino, time)| {
            if left.get(ino) == Some(time) {
                left.remove(ino);
            }
        });
        Ok(())
    }
}
