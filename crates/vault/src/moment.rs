//! The library as it was at some time: the last root before it, and the log from there.

use std::{collections::BTreeMap, sync::Arc};

use haven_format::{
    Lsn, TxSeq, layout,
    record::{Time, Totals},
    root::Root,
};

use crate::{
    Result, Vault, VaultError, View,
    claim::{list_all, object},
    load, snapshots,
    table::{Layers, Table},
    vault::Sent,
};

/// A state of the past.
#[derive(Debug, Clone)]
pub struct Moment {
    pub view: View,
    /// The last change in it, and when that was made.
    pub seq: TxSeq,
    pub time: Time,
    pub totals: Totals,
}

impl Vault {
    /// The newest state that is still there and not younger than `time`. What the log no longer reaches is found in the
    /// last snapshot before.
    pub async fn state_at(self: &Arc<Self>, time: Time) -> Result<Moment> {
        let names = list_all(&*self.world.store, layout::ROOTS, None).await?;
        // The newest come first, so those that are too young stand before those that are not.
        let (mut young, mut old) = (0, names.len());
        let mut base = None;
        let mut next = None;
        while young < old {
            let middle = (young + old) / 2;
            let root = self.root_named(&names[middle]).await?;
            if root.made <= time {
                (old, base) = (middle, Some(root));
            } else {
                (young, next) = (middle + 1, Some(root));
            }
        }
        let until = next.map(|root| Lsn(root.lsn));
        self.replay_until(base, until, time).await
    }

    pub(crate) async fn root_named(&self, name: &str) -> Result<Root> {
        let object_name = object(name);
        let body = self.patiently(|| self.world.store.get(&object_name)).await.map_err(|e| self.lost(name, e))?;
        Root::open(&self.keys, name, &body).map_err(|error| self.damaged(name.to_owned(), &error.to_string()))
    }

    /// The state of `base` and of the log behind it, as far as that is not younger than `time`.
    async fn replay_until(self: &Arc<Self>, base: Option<Root>, until: Option<Lsn>, time: Time) -> Result<Moment> {
        let start = base.as_ref().map_or(Sent::default(), |root| Sent {
            lsn: Lsn(root.lsn),
            segment: root.segment.clone(),
            hash: root.segment_hash.clone(),
            seq: TxSeq(root.tx),
            behind_since: 0,
        });
        let segments = load::chain_until(&*self.world.store, &self.keys, &start, until).await?;
        let runs = base.as_ref().map(|root| root.runs.clone()).unwrap_or_default();
        let table = Table::new(self.shards().clone(), runs);
        let mut at = base.as_ref().map(|root| (TxSeq(root.tx), root.made, root.totals));
        let mut past = BTreeMap::new();
        let txs = segments.iter().flat_map(|(_, segment, _)| &segment.txs);
        for tx in txs.filter(|tx| tx.seq > start.seq.0).take_while(|tx| tx.time <= time) {
            snapshots::replay(&table, tx, &mut past);
            at = Some((TxSeq(tx.seq), tx.time, tx.totals));
        }
        let Some((seq, made, totals)) = at else {
            return Err(VaultError::Refused("nothing of so long ago is left".into()));
        };
        table.freeze(seq);
        let view = View::fixed(self.table.clone(), Arc::new(Layers { ..table.layers() }));
        Ok(Moment { view, seq, time: made, totals })
    }

    /// The state of a snapshot, as [`Vault::state_at`] gives it.
    pub async fn state_of(self: &Arc<Self>, name: &[u8]) -> Result<Option<Moment>> {
        let Some(snapshot) = self.when_settled(|| self.snapshot(name)).await? else { return Ok(None) };
        let view = self.when_settled(|| self.view_of(&snapshot)).await?;
        let totals = snapshot.totals.unwrap_or_default();
        Ok(Some(Moment { view, seq: TxSeq(snapshot.seq), time: snapshot.taken, totals }))
    }
}
