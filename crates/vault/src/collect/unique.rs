//! What each snapshot alone keeps from being given up.

use std::{collections::HashMap, sync::Arc};

use haven_format::{
    Ino, TxSeq,
    record::{self, Extent},
};
use prost::Message;

use super::mark::short;
use crate::{Result, Vault, View};

/// A chunk by the first eight bytes of its id, who needs it, and how many bytes its seal has.
type Owned = (u64, u32, u32);
const SHARED: u32 = u32::MAX;

impl Vault {
    /// Bytes of sealed chunks that one snapshot needs and neither another nor the library as it is now, by the
    /// transaction each snapshot was taken after. Looks through every state: minutes where there are millions of files.
    pub async fn unique_bytes(self: &Arc<Self>) -> Result<HashMap<TxSeq, u64>> {
        let mut owned: Vec<Owned> = self.chunks_of(&self.live(), SHARED).await?;
        let snapshots = self.when_settled(|| self.snapshots()).await?;
        for (owner, (_, snapshot)) in snapshots.iter().enumerate() {
            let view = self.when_settled(|| self.view_of(snapshot)).await?;
            owned = merge(&owned, &self.chunks_of(&view, owner as u32).await?);
        }
        let mut out: HashMap<TxSeq, u64> = snapshots.iter().map(|(_, s)| (TxSeq(s.seq), 0)).collect();
        for (_, owner, len) in owned {
            if let Some((_, snapshot)) = snapshots.get(owner as usize) {
                *out.entry(TxSeq(snapshot.seq)).or_default() += u64::from(len);
            }
        }
        Ok(out)
    }

    /// The chunks that a state needs, in order, each once.
    async fn chunks_of(self: &Arc<Self>, view: &View, owner: u32) -> Result<Vec<Owned>> {
        let mut out = Vec::new();
        self.walk(view, record::inodes_from(Ino(0)), |key, value| {
            if record::extent_offset(key).is_some()
                && let Ok(extent) = Extent::decode(value.clone())
                && let Some(id) = extent.chunk_id()
            {
                out.push((short(id), owner, extent.place.map_or(0, |place| place.len)));
            }
            Ok(())
        })
        .await?;
        out.sort_unstable();
        out.dedup_by_key(|(id, ..)| *id);
        Ok(out)
    }
}

/// Both, in order; what is in both is shared.
fn merge(a: &[Owned], b: &[Owned]) -> Vec<Owned> {
    let mut out = Vec::with_capacity(a.len() + b.len());
    let (mut a, mut b) = (a.iter().copied().peekable(), b.iter().copied().peekable());
    loop {
        match (a.peek().copied(), b.peek().copied()) {
            (Some(x), Some(y)) if x.0 == y.0 => {
                out.push((x.0, SHARED, x.2));
                a.next();
                b.next();
            }
            (Some(x), y) if y.is_none_or(|y| x.0 < y.0) => out.extend(a.next()),
            (_, Some(_)) => out.extend(b.next()),
            (_, None) => return out,
        }
    }
}
