//! A reader that keeps up with the writer: new segments are applied as they appear, and a new root takes over when
//! the changes since the old one have grown long, and every day: what only an old root needs is deleted some days after.

use std::{sync::Arc, time::Duration};

use haven_format::TxSeq;

use crate::{Result, Vault, load, snapshots, table::Table};

/// Changes in memory beyond this make the reader look for a newer root.
const MEMORY_MAX: usize = 64 << 20;
/// It also does so this often, or more often where the grace is short.
const ROOT_EVERY: Duration = Duration::from_secs(24 * 3600);
/// So many times while what an old root needs waits for its end.
const ROOTS_A_GRACE: u32 = 7;

impl Vault {
    pub(crate) async fn follow_task(self: Arc<Self>) {
        let every = ROOT_EVERY.min(self.options.collect.grace / ROOTS_A_GRACE).as_secs() as i64;
        let now = || self.world.clock.now().seconds;
        let mut due = now() + every;
        loop {
            tokio::time::sleep(self.options.follow_every).await;
            let mut outcome = Ok(false);
            if now() >= due {
                outcome = self.start_over().await;
                // Where that fails, the log may still be followed; and it is not tried with every look.
                due = now() + if outcome.is_ok() { every } else { every / 24 };
            }
            match outcome.and(self.follow_once().await) {
                Ok(_) => self.counters.worked(),
                Err(error) => self.counters.note(format!("the writer can't be followed: {error}")),
            }
        }
    }

    /// Takes over what the writer has sent since. True if there was anything.
    async fn follow_once(self: &Arc<Self>) -> Result<bool> {
        let before = self.sent.borrow().clone();
        let (segments, loose) = load::chain(&*self.world.store, &self.keys, &before).await?;
        if segments.is_empty() && loose.is_empty() {
            return Ok(false);
        }
        // A gap, or much to remember: the newest root knows.
        let (active, frozen) = self.table.memory();
        if !loose.is_empty() || active + frozen > MEMORY_MAX {
            return self.start_over().await;
        }
        for (name, segment, hash) in segments {
            let mut head = self.head.lock();
            for tx in &segment.txs {
                snapshots::replay(&self.table, tx, &mut self.past.lock());
                head.seq = TxSeq(tx.seq);
                head.totals = tx.totals;
            }
            let seq = head.seq;
            self.sent.send_modify(|sent| {
                *sent = crate::vault::Sent {
                    lsn: haven_format::Lsn(segment.lsn),
                    segment: name,
                    hash,
                    seq,
                    behind_since: 0,
                };
            });
        }
        Ok(true)
    }

    /// Takes over the newest root and the log behind it. False: this is the newest already.
    async fn start_over(self: &Arc<Self>) -> Result<bool> {
        let loaded = load::newest(&*self.world.store, &self.keys).await?;
        let ours = self.root.lock().as_ref().map_or(0, |root| root.seq);
        let newer_root = loaded.root.as_ref().is_some_and(|root| root.seq > ours);
        let head = self.head();
        if loaded.head.seq < head || (loaded.head.seq == head && !newer_root) {
            return Ok(false);
        }
        let runs = loaded.root.as_ref().map(|root| root.runs.clone()).unwrap_or_default();
        let anew = Table::new(self.shards().clone(), runs.clone());
        let mut past = Default::default();
        loaded.txs.iter().for_each(|tx| snapshots::replay(&anew, tx, &mut past));
        let mut head = self.head.lock();
        self.table.take_over(&anew);
        // Snapshots known before stood on the old root's shards, which may go: the newer ones' records name their own.
        let before = std::mem::replace(&mut *self.past.lock(), past);
        head.seq = loaded.head.seq;
        head.totals = loaded.totals;
        *self.root.lock() = loaded.root.map(Arc::new);
        self.sent.send_replace(loaded.head);
        drop(head);
        // Freeing it takes its time: nobody may wait for that.
        drop(before);
        self.shards().close_all_but(&runs);
        Ok(true)
    }
}
