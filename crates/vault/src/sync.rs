//! What survives a power cut, and what is in the bucket: the two syncs, and when the first is not believed any more.

use std::sync::atomic::Ordering;

use haven_format::TxSeq;

use crate::{Result, Vault, VaultError};

impl Vault {
    /// Returns when every commit up to `seq`, and the chunks put before it, survive a power cut.
    /// Blocks on the local disk, never on the network. Many callers share one sync.
    pub fn sync(&self, seq: TxSeq) -> Result<()> {
        let mut synced = self.synced.lock();
        if *synced >= seq {
            return Ok(());
        }
        self.sync_believed(&mut synced)
    }

    /// The same for every commit so far, and for the notes of what the bucket has: once another machine has gone on, nothing
    /// else tells that nothing is missing.
    pub(crate) fn sync_with_notes(&self) -> Result<()> {
        let mut synced = self.synced.lock();
        let all = {
            let head = self.head.lock();
            *synced >= head.seq && !head.journal.has_unsynced_note()
        };
        if all { Ok(()) } else { self.sync_believed(&mut synced) }
    }

    fn sync_believed(&self, synced: &mut TxSeq) -> Result<()> {
        if let Some(detail) = &*self.sync_failed.lock() {
            return Err(VaultError::Local { detail: detail.clone(), full: false });
        }
        let mut outcome = self.sync_now(synced);
        if outcome.as_ref().is_err_and(|error| self.relieve(error)) {
            outcome = self.sync_now(synced);
        }
        outcome.inspect_err(|error| self.distrust(error))
    }

    /// After a failed sync the kernel may forget what it could not write, and call the next one a success: none is
    /// believed any more. What is committed still goes to the bucket. A *write* that found no room is no such failure.
    pub(crate) fn distrust(&self, error: &VaultError) {
        if let VaultError::Local { detail, full: false } = error {
            let why = format!("an earlier sync failed ({detail}); mount again to go on");
            self.sync_failed.lock().get_or_insert(why);
        }
    }

    fn sync_now(&self, synced: &mut TxSeq) -> Result<()> {
        // The order counts: what is committed after this line may name chunks that the next line has not seen.
        let until = self.head();
        let tails = self.packs.secure()?;
        let due = {
            let mut head = self.head.lock();
            if !tails.is_empty()
                && let Err(error) = self.journal(&mut head, &tails)
            {
                // The packs count these bytes as safe already: make it so, or the next sync would believe it.
                drop(head);
                self.packs.secure_files()?;
                return Err(error);
            }
            head.journal.to_sync()
        };
        due.sync(&self.world)?;
        self.head.lock().journal.synced(&due);
        self.counters.syncs.fetch_add(1, Ordering::Relaxed);
        *synced = until.max(*synced);
        Ok(())
    }

    /// Returns when every commit up to `seq` is in the bucket and acknowledged there.
    pub async fn sync_bucket(&self, seq: TxSeq) -> Result<()> {
        let mut sent = self.sent.subscribe();
        if sent.borrow_and_update().seq >= seq {
            return Ok(());
        }
        self.hurried.fetch_max(seq.0, Ordering::Relaxed);
        self.hurry.notify_one();
        loop {
            if sent.borrow_and_update().seq >= seq {
                return Ok(());
            }
            self.writable()?;
            if sent.changed().await.is_err() {
                return Err(VaultError::ReadOnly { why: "the library is being closed".into() });
            }
        }
    }
}
