//! A reader that keeps up with the writer: new segments are applied as they appear, and a new root takes over when
//! the changes since the old one have grown long.

use std::{collections::BTreeMap, sync::Arc};

use haven_format::TxSeq;

use crate::{Result, Vault, load, snapshots, table::Table};

/// Changes in memory beyond this make the reader look for a newer root.
const MEMORY_MAX: usize = 64 << 20;

impl Vault {
    pub(crate) async fn follow_task(self: Arc<Self>) {
        loop {
            tokio::time::sleep(self.options.follow_every).await;
            match self.follow_once().await {
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
        if !loose.is_empty() || self.table.memory().0 > MEMORY_MAX {
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

    async fn start_over(self: &Arc<Self>) -> Result<bool> {
        let loaded = load::newest(&*self.world.store, &self.keys).await?;
        if loaded.head.seq <= self.head() {
            return Ok(false);
        }
        let runs = loaded.root.as_ref().map(|root| root.runs.clone()).unwrap_or_default();
        let anew = Table::new(self.shards().clone(), runs);
        let mut past = BTreeMap::new();
        loaded.txs.iter().for_each(|tx| snapshots::replay(&anew, tx, &mut past));
        let mut head = self.head.lock();
        self.table.take_over(&anew);
        self.past.lock().extend(past);
        head.seq = loaded.head.seq;
        head.totals = loaded.totals;
        *self.root.lock() = loaded.root.map(Arc::new);
        self.sent.send_replace(loaded.head);
        Ok(true)
    }
}
