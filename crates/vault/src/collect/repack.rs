//! Packs with little in them that is needed: that little is written anew, and they are condemned.

use std::{sync::Arc, time::Duration};

use haven_format::{
    PackId, layout,
    pack::{self, PackFooter},
    record::{self, ChunkPlace, Dead, Op},
};
use prost::Message;

use super::{
    Collected, dead_op,
    mark::{Filling, Marked},
};
use crate::{Result, Vault, claim::object};

/// Packs below this many bytes are small, …
const SMALL: u64 = 2 << 20;
/// … and so many of them may be.
const SMALL_MAX: usize = 256;
/// About what a pack has beside its seals, and beside each of them, in bytes.
const FRAME: u64 = 128;
const LINE: u64 = 64;
/// A pack with less waste than this share of it is not worth the trouble.
const WORTH: f64 = 0.05;

impl Vault {
    pub(super) async fn repack(
        self: &Arc<Self>,
        marked: &Marked,
        dry: bool,
        now: i64,
        report: &mut Collected,
    ) -> Result<()> {
        for (pack, bytes, live) in self.worth_repacking(marked) {
            report.repacked.add(bytes);
            if dry {
                continue;
            }
            self.writable()?;
            if let Err(error) = self.repack_one(pack, bytes, now).await {
                if self.stopped.read().is_some() {
                    return Err(error);
                }
                // A damaged pack stays as it is: what can be read of it still can.
                tracing::warn!(%pack, %error, "a pack can't be rewritten and stays");
                continue;
            }
            if let Some(nanos) = (live * 1_000_000_000).checked_div(self.options.collect.pace) {
                tokio::time::sleep(Duration::from_nanos(nanos)).await;
            }
        }
        Ok(())
    }

    /// Those whose waste is too much, the emptiest first, and small ones if they have become many.
    fn worth_repacking(&self, marked: &Marked) -> Vec<(PackId, u64, u64)> {
        // What every pack has beside its seals is no waste.
        let useful = |filling: &Filling| (filling.live + FRAME + u64::from(filling.chunks) * LINE).min(filling.bytes);
        let mut packs: Vec<(PackId, u64, u64)> = marked
            .packs
            .iter()
            .filter(|(id, filling)| filling.live > 0 && filling.bytes > 0 && !marked.is_dead(**id))
            .map(|(id, filling)| (*id, filling.bytes, useful(filling)))
            .collect();
        packs.sort_by(|a, b| (a.2 * b.1).cmp(&(b.2 * a.1)).then(a.0.cmp(&b.0)));
        let waste = |(_, bytes, live): &(PackId, u64, u64)| bytes.saturating_sub(*live);
        let mut left: u64 = packs.iter().map(waste).sum();
        let allowed = (marked.live_bytes() as f64 * self.options.collect.waste) as u64;
        let mut chosen = Vec::new();
        let mut rest = Vec::new();
        for pack in packs {
            if left > allowed && waste(&pack) as f64 > pack.1 as f64 * WORTH {
                left -= waste(&pack);
                chosen.push(pack);
            } else {
                rest.push(pack);
            }
        }
        let small: Vec<_> = rest.into_iter().filter(|(_, bytes, _)| *bytes < SMALL).collect();
        if small.len() > SMALL_MAX {
            chosen.extend(small);
        }
        chosen
    }

    async fn repack_one(self: &Arc<Self>, old: PackId, bytes: u64, now: i64) -> Result<()> {
        let name = layout::pack(old);
        let object_name = object(&name);
        let body = self.patiently(|| self.world.store.get(&object_name)).await.map_err(|e| self.lost(&name, e))?;
        let opener = pack::opener(&self.keys, old);
        let unreadable = |error: haven_format::FormatError| self.damaged(name.clone(), &error.to_string());
        let footer = PackFooter::decode(opener.whole_footer(&body).map_err(unreadable)?)
            .map_err(|_| self.damaged(name.clone(), "its footer is unreadable"))?;
        let mut ops = Vec::new();
        // What every pack has beside its seals is no loss.
        let mut kept = FRAME + LINE * footer.chunks.len() as u64;
        for chunk in &footer.chunks {
            let id = chunk.chunk().map_err(unreadable)?;
            let key = record::chunk_key(id);
            let place = ChunkPlace::new(old, chunk.part(), chunk.plain_len);
            let known = self.when_settled(|| self.place_of(id)).await?;
            if known.as_ref() != Some(&place) {
                // Not needed, or needed from elsewhere.
                continue;
            }
            let range = chunk.part().range();
            let sealed = body.get(range.start as usize..range.end as usize);
            let sealed = sealed.ok_or_else(|| self.damaged(name.clone(), "it is cut off"))?;
            let plain = opener.part(chunk.part(), sealed).map_err(unreadable)?;
            pack::verify(&self.keys, id, &plain).map_err(unreadable)?;
            let prepared = haven_format::codec::prepare(&plain);
            let new = self.when_settled(|| self.packs.append(id, plain.len(), &prepared)).await?;
            ops.push(Op { key, value: Some(new.encode_to_vec().into()) });
            kept += u64::from(place.len);
        }
        let lost = Some(bytes.saturating_sub(kept));
        ops.push(dead_op(&name, Dead { since: now, bytes, moved: true, lost, ..Dead::default() }));
        self.commit_own(ops, |_| ()).await?;
        if self.packs.has_finished() {
            self.when_settled(|| self.offer_uploads(&mut self.head.lock(), false)).await?;
        }
        Ok(())
    }
}
