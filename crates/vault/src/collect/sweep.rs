//! Condemning and deleting.

use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};
use haven_format::{
    Lsn, PackId, TxSeq, layout,
    record::{self, Dead, Op, PackInfo},
    root::Root,
};
use prost::Message;

use super::{AT_ONCE, Collected, dead_op, mark::Marked};
use crate::{
    Result, Vault, View,
    claim::{list_all, object},
    table::Layers,
};

/// Deletions in flight at once.
const DELETES: usize = 8;
/// Claims and standings that are kept beside the newest.
const KEPT: usize = 16;

/// In which order objects go: what names others before what is named.
fn rank(name: &str) -> u8 {
    match name.split('/').next() {
        Some("r") => 0,
        Some("l") => 1,
        Some("m") => 2,
        _ => 3,
    }
}

impl Vault {
    /// Gives back what was condemned and is needed after all: somebody had looked a chunk up just before it was.
    pub(super) async fn pardon(self: &Arc<Self>, marked: &Marked, report: &mut Collected) -> Result<()> {
        for some in marked.missing.chunks(AT_ONCE) {
            let mut ops = Vec::new();
            let (mut bytes, mut plain) = (0, 0);
            for (id, place) in some {
                let Ok(pack) = place.pack_id() else { continue };
                let name = layout::pack(pack);
                if marked.dead.get(&name).is_some_and(|dead| dead.gone != 0) || !marked.packs.contains_key(&pack) {
                    self.damaged(name, &format!("it is gone, and the chunk {id} in it is needed"));
                    continue;
                }
                ops.push(Op { key: record::chunk_key(*id), value: Some(place.encode_to_vec().into()) });
                ops.push(Op { key: record::dead_key(&name), value: None });
                bytes += u64::from(place.len);
                plain += u64::from(place.plain_len);
                report.pardoned += 1;
            }
            let chunks = some.len() as u64;
            self.commit_own(ops, |totals| {
                totals.chunks += chunks;
                totals.chunk_bytes += plain;
                totals.sealed_bytes += bytes;
            })
            .await?;
        }
        Ok(())
    }

    /// Whether a mark finds an object on the dead list needed.
    fn is_needed(marked: &Marked, name: &str) -> bool {
        if let Some(pack) = layout::parse_pack(name) {
            let missing_there =
                marked.missing.iter().any(|(_, place)| place.pack_id().is_ok_and(|missing| missing == pack));
            // As long as the index leads there, somebody may be about to refer to it.
            return missing_there || marked.packs.get(&pack).is_some_and(|filling| filling.chunks > 0);
        }
        match layout::parse_shard(name) {
            Some(shard) => marked.shards.contains(&shard),
            None => marked.roots.contains(name),
        }
    }

    /// Deletes what has been on the dead list for the grace time and is still not needed.
    pub(super) async fn delete_due(
        self: &Arc<Self>,
        marked: &Marked,
        dry: bool,
        now: i64,
        report: &mut Collected,
    ) -> Result<()> {
        let grace = self.options.collect.grace.as_secs() as i64;
        let due = |dead: &Dead| dead.gone == 0 && dead.since + grace <= now;
        let mut names: Vec<(&String, &Dead)> =
            marked.dead.iter().filter(|(name, dead)| due(dead) && *name != layout::SEGMENTS).collect();
        names.sort_by_key(|(name, _)| (rank(name), *name));
        let (needed, due): (Vec<_>, Vec<_>) = names.into_iter().partition(|(name, _)| Self::is_needed(marked, name));
        report.pardoned += needed.len() as u64;
        due.iter().for_each(|(_, dead)| report.deleted.add(dead.bytes));
        if dry {
            return Ok(());
        }
        let pardoned: Vec<Op> =
            needed.iter().map(|(name, _)| Op { key: record::dead_key(name), value: None }).collect();
        if !pardoned.is_empty() {
            self.commit_own(pardoned, |_| ()).await?;
        }
        let (roots, others): (Vec<_>, Vec<_>) = due.into_iter().partition(|(name, _)| rank(name) == 0);
        self.delete_all(&roots, now).await?;
        self.trim_log(marked, now, grace).await?;
        for some in others.chunks(512) {
            self.delete_all(some, now).await?;
        }
        self.forget_old_deletions(marked, now).await
    }

    async fn delete_all(self: &Arc<Self>, objects: &[(&String, &Dead)], now: i64) -> Result<()> {
        if objects.is_empty() {
            return Ok(());
        }
        self.writable()?;
        self.delete_names(objects.iter().map(|(name, _)| (*name).clone()).collect()).await?;
        let mut ops = Vec::new();
        let (mut packs, mut bytes) = (0, 0);
        for (name, dead) in objects {
            ops.push(dead_op(name, Dead { gone: now, ..**dead }));
            if let Some(pack) = layout::parse_pack(name) {
                if self.when_settled(|| self.live().get(&record::pack_key(pack))).await?.is_some() {
                    ops.push(Op { key: record::pack_key(pack), value: None });
                    packs += 1;
                    bytes += dead.bytes;
                }
                self.packs.forget_clean(pack);
            } else if let Some(shard) = layout::parse_shard(name) {
                self.shards().drop_local(shard);
            }
        }
        self.commit_own(ops, |totals| {
            totals.packs = totals.packs.saturating_sub(packs);
            totals.pack_bytes = totals.pack_bytes.saturating_sub(bytes);
        })
        .await
    }

    /// Deletes the log before the newest root that is older than the grace time.
    async fn trim_log(self: &Arc<Self>, marked: &Marked, now: i64, grace: i64) -> Result<()> {
        let Some(base) = self.newest_root_before(now - grace).await? else { return Ok(()) };
        let known = marked.dead.get(layout::SEGMENTS).map_or(0, |dead| dead.below);
        if base.lsn <= known {
            return Ok(());
        }
        let names = list_all(&*self.world.store, layout::SEGMENTS, None).await?;
        let old = |name: &String| layout::parse_segment(name).is_some_and(|(lsn, ..)| lsn < Lsn(base.lsn));
        self.delete_names(names.into_iter().filter(old).collect()).await?;
        let dead = Dead { since: now, gone: now, below: base.lsn, ..Dead::default() };
        self.commit_own(vec![dead_op(layout::SEGMENTS, dead)], |_| ()).await
    }

    async fn delete_names(&self, names: Vec<String>) -> Result<()> {
        let mut deleting = stream::iter(names)
            .map(|name| async move {
                let name = object(&name);
                self.patiently(|| self.world.store.delete(&name)).await
            })
            .buffer_unordered(DELETES);
        while deleting.try_next().await?.is_some() {}
        Ok(())
    }

    /// The newest root made at this moment or before.
    async fn newest_root_before(&self, moment: i64) -> Result<Option<Root>> {
        // The newest come first, so those that are too young stand before those that are not.
        let names = list_all(&*self.world.store, layout::ROOTS, None).await?;
        let (mut young, mut old, mut found) = (0, names.len(), None);
        while young < old {
            let middle = (young + old) / 2;
            let root = self.root_named(&names[middle]).await?;
            if root.made.seconds <= moment {
                (old, found) = (middle, Some(root));
            } else {
                young = middle + 1;
            }
        }
        Ok(found)
    }

    async fn forget_old_deletions(self: &Arc<Self>, marked: &Marked, now: i64) -> Result<()> {
        let remember = self.options.collect.remember.as_secs() as i64;
        let old = |name: &str, dead: &Dead| dead.gone != 0 && dead.gone + remember <= now && name != layout::SEGMENTS;
        let mut ops = Vec::new();
        for (name, dead) in &marked.dead {
            if old(name, dead) {
                ops.push(Op { key: record::dead_key(name), value: None });
            }
        }
        ops.sort_by(|a, b| a.key.cmp(&b.key));
        for some in ops.chunks(AT_ONCE) {
            self.commit_own(some.to_vec(), |_| ()).await?;
        }
        Ok(())
    }

    /// Puts on the dead list what the mark found nobody to need, and takes dead chunks out of the index.
    pub(super) async fn condemn(
        self: &Arc<Self>,
        marked: &Marked,
        dry: bool,
        now: i64,
        report: &mut Collected,
    ) -> Result<()> {
        let Some(root) = marked.root.clone() else { return Ok(()) };
        let mut ops = Vec::new();
        let mut condemn = |name: String, bytes: u64, moved: bool| {
            if !marked.dead.contains_key(&name) {
                report.condemned.add(bytes);
                ops.push(dead_op(&name, Dead { since: now, bytes, moved, ..Dead::default() }));
            }
        };
        for name in &marked.listed_roots {
            let older = layout::parse_root(name).is_some_and(|(seq, ..)| seq.0 < root.seq);
            if older && !marked.roots.contains(name) {
                condemn(name.clone(), 0, false);
            }
        }
        // A reader can't tell what is left over from what somebody is just writing: it names neither.
        let outside = self.options.read_only;
        for (shard, bytes) in marked.listed_shards.iter().filter(|_| !outside) {
            if !marked.shards.contains(shard) {
                condemn(layout::shard(*shard), *bytes, false);
            }
        }
        let missing_in: std::collections::HashSet<PackId> =
            marked.missing.iter().filter_map(|(_, place)| place.pack_id().ok()).collect();
        let mut packs: Vec<_> =
            marked.packs.iter().filter(|(_, filling)| filling.live == 0 && filling.bytes > 0).collect();
        packs.sort_by_key(|(id, _)| **id);
        let at_root = self.at_root(&root);
        for (pack, filling) in packs {
            // Those made since the mark hold what it has not seen.
            let known = self.when_settled(|| at_root.get(&record::pack_key(*pack))).await?.is_some();
            if known && !missing_in.contains(pack) && !self.uploading.lock().contains_key(pack) {
                // Where the index leads to nothing in it, it was written anew, or a collection was cut off between the two.
                condemn(layout::pack(*pack), filling.bytes, filling.chunks == 0);
            }
        }
        let strays = if outside { Vec::new() } else { self.strays().await? };
        let (used, strays): (Vec<_>, Vec<_>) =
            strays.into_iter().partition(|(pack, _)| marked.packs.get(pack).is_some_and(|filling| filling.chunks > 0));
        strays.into_iter().for_each(|(pack, bytes)| condemn(layout::pack(pack), bytes, false));
        if dry {
            return Ok(());
        }
        self.list_strays(marked, &used, now).await?;
        self.unlist_chunks(marked, &at_root).await?;
        for some in ops.chunks(AT_ONCE) {
            self.commit_own(some.to_vec(), |_| ()).await?;
        }
        Ok(())
    }

    fn at_root(&self, root: &Root) -> View {
        let layers = Layers { frozen: Vec::new(), runs: Arc::new(root.runs.clone()) };
        View::fixed(self.table.clone(), Arc::new(layers))
    }

    /// Packs in the bucket that are not on record: left by machines that died before their log came as far.
    async fn strays(self: &Arc<Self>) -> Result<Vec<(PackId, u64)>> {
        let mut out = Vec::new();
        let mut after = None::<String>;
        loop {
            let page = self.world.store.list(layout::PACKS, after.as_deref(), 1000).await?;
            after = page.objects.last().map(|found| found.name.as_str().to_owned());
            for found in &page.objects {
                let Some(pack) = layout::parse_pack(found.name.as_str()) else { continue };
                // A pack is on record before it is sent.
                if self.when_settled(|| self.live().get(&record::pack_key(pack))).await?.is_none() {
                    out.push((pack, found.bytes));
                }
            }
            if !page.more {
                return Ok(out);
            }
        }
    }

    /// Packs that the index leads to and that were never entered in the list (crashes of an earlier version could cut
    /// that off) are entered now.
    async fn list_strays(self: &Arc<Self>, marked: &Marked, packs: &[(PackId, u64)], now: i64) -> Result<()> {
        for some in packs.chunks(AT_ONCE) {
            let info = |(pack, bytes): &(PackId, u64)| {
                let chunks = marked.packs.get(pack).map_or(0, |filling| filling.chunks);
                let info = PackInfo { bytes: *bytes, chunks, made: now };
                Op { key: record::pack_key(*pack), value: Some(info.encode_to_vec().into()) }
            };
            let bytes: u64 = some.iter().map(|(_, bytes)| bytes).sum();
            self.commit_own(some.iter().map(info).collect(), |totals| {
                totals.packs += some.len() as u64;
                totals.pack_bytes += bytes;
            })
            .await?;
        }
        Ok(())
    }

    /// Takes chunks that nothing needs out of the index, as it was at the mark.
    async fn unlist_chunks(self: &Arc<Self>, marked: &Marked, at_root: &View) -> Result<()> {
        if marked.dead_chunks.objects == 0 {
            return Ok(());
        }
        let mut range = record::chunks();
        loop {
            let batch = self.when_settled(|| at_root.scan(range.clone(), AT_ONCE)).await?;
            let Some((last, _)) = batch.last() else { return Ok(()) };
            range.start = crate::snapshots::after(last);
            let mut ops = Vec::new();
            let (mut sealed, mut plain) = (0, 0);
            for (key, value) in &batch {
                let (id, place) = self.chunk_record(key, value)?;
                if !marked.needs(id) {
                    ops.push(Op { key: key.clone(), value: None });
                    sealed += u64::from(place.len);
                    plain += u64::from(place.plain_len);
                }
            }
            if ops.is_empty() {
                continue;
            }
            let chunks = ops.len() as u64;
            self.commit_own(ops, |totals| {
                totals.chunks = totals.chunks.saturating_sub(chunks);
                totals.chunk_bytes = totals.chunk_bytes.saturating_sub(plain);
                totals.sealed_bytes = totals.sealed_bytes.saturating_sub(sealed);
            })
            .await?;
        }
    }

    /// Small things that replicas need not hear of: leases that have run out, old claims.
    pub(super) async fn tidy(self: &Arc<Self>, now: i64) -> Result<()> {
        let store = &self.world.store;
        let mut old = Vec::new();
        for name in list_all(&**store, layout::LEASES, None).await? {
            let over = |until: u64| (until as i64).saturating_add(super::DAY) < now;
            if layout::parse_lease(&name).is_some_and(|(until, _)| over(until)) {
                old.push(name);
            }
        }
        let claims = list_all(&**store, layout::CLAIMS, None).await?;
        old.extend(claims.iter().rev().skip(KEPT).cloned());
        for name in old {
            let name = object(&name);
            self.patiently(|| store.delete(&name)).await?;
        }
        self.sync_bucket(TxSeq(self.head().0)).await
    }
}
