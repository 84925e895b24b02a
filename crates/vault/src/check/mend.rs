//! Mending: a good copy takes the place of a damaged object; where there is none, what is good is saved from it, and
//! what is not is put on record, so that the same photo, stored again, heals every file that had it.

use std::sync::Arc;

use bytes::Bytes;
use haven_format::{
    ChunkId, PackId, layout,
    record::{self, ChunkPlace, Dead, Lost, Op},
    root::Root,
};
use haven_store::PutMode;
use prost::Message;

use super::{CheckOptions, Checked, Fault, verify_pack};
use crate::{Result, Vault, claim::object};

/// Records changed in one commit.
const AT_ONCE: usize = 1024;

impl Vault {
    /// The first copy of an object that `good` accepts, and whose it is.
    async fn good_copy(
        &self,
        options: &CheckOptions,
        name: &str,
        good: impl Fn(&Bytes) -> bool,
    ) -> Option<(String, Bytes)> {
        for (copy, store) in &options.copies {
            match store.get(&object(name)).await {
                Ok(body) if good(&body) => return Some((copy.clone(), body)),
                Ok(_) => tracing::warn!(copy, object = name, "the copy is damaged too"),
                Err(error) => tracing::warn!(copy, object = name, %error, "no copy there"),
            }
        }
        None
    }

    /// Puts a good object where a damaged one is, and reads it back.
    async fn put_back(&self, name: &str, body: Bytes) -> Result<()> {
        let object_name = object(name);
        self.patiently(|| self.world.store.put(&object_name, body.clone(), PutMode::Always)).await?;
        let back = self.patiently(|| self.world.store.get(&object_name)).await?;
        if back == body { Ok(()) } else { Err(self.damaged(name.to_owned(), "the store gives back other bytes")) }
    }

    pub(super) async fn mend_whole(
        &self,
        options: &CheckOptions,
        name: &str,
        what: String,
        good: impl Fn(&Bytes) -> bool,
        report: &mut Checked,
    ) -> Result<Option<Bytes>> {
        let found = if options.repair { self.good_copy(options, name, good).await } else { None };
        let mut fault = Fault { object: name.to_owned(), what, repaired_from: None };
        let body = match found {
            Some((copy, body)) => {
                self.put_back(name, body.clone()).await?;
                fault.repaired_from = Some(copy);
                Some(body)
            }
            None => None,
        };
        report.faults.push(fault);
        Ok(body)
    }

    pub(super) async fn mend_root(
        self: &Arc<Self>,
        options: &CheckOptions,
        name: String,
        what: String,
        report: &mut Checked,
    ) -> Result<Option<Root>> {
        let open = |body: &Bytes| Root::open(&self.keys, &name, body);
        // The newest is in memory too: what it says can be looked at whether the object is whole or not.
        let in_memory = self.root.lock().clone().filter(|root| root.name().ok().as_ref() == Some(&name));
        let body = self.mend_whole(options, &name, what, |body| open(body).is_ok(), report).await?;
        if let (None, true, Some(root)) = (&body, options.repair, &in_memory) {
            let sealed: Bytes = root.seal(&self.keys, self.world.dice.roll()).expect("the nonce has its length").into();
            self.put_back(&name, sealed).await?;
            if let Some(fault) = report.faults.last_mut() {
                fault.repaired_from = Some("this machine's memory".into());
            }
        }
        let opened = body.and_then(|body| open(&body).ok());
        Ok(opened.or_else(|| in_memory.map(|root| (*root).clone())))
    }

    pub(super) async fn mend_shard(
        self: &Arc<Self>,
        options: &CheckOptions,
        name: String,
        hash: &[u8],
        what: String,
        report: &mut Checked,
    ) -> Result<()> {
        let good = |body: &Bytes| blake3::hash(body).as_bytes()[..] == *hash;
        let id = layout::parse_shard(&name);
        let cached = id.and_then(|id| self.shards().cached(id)).filter(|body| good(body));
        if let (true, Some(body)) = (options.repair, cached) {
            self.put_back(&name, body).await?;
            report.faults.push(Fault { object: name, what, repaired_from: Some("the cache".into()) });
            return Ok(());
        }
        if self.mend_whole(options, &name, what, good, report).await?.is_some()
            && let Some(id) = id
        {
            // A copy of the damaged one is of no use here.
            self.shards().drop_local(id);
        }
        Ok(())
    }

    /// What becomes of a pack in which `wrong` chunks are damaged.
    pub(super) async fn settle_pack(
        self: &Arc<Self>,
        options: &CheckOptions,
        pack: PackId,
        what: String,
        wrong: Vec<ChunkId>,
        report: &mut Checked,
    ) -> Result<()> {
        let name = layout::pack(pack);
        let affected = |chunks: Vec<ChunkId>| chunks.into_iter().map(|id| (id, pack)).collect::<Vec<_>>();
        let good = |body: &Bytes| verify_pack(&self.keys, pack, body).is_ok_and(|bad| bad.is_empty());
        if !options.repair {
            report.faults.push(Fault { object: name, what, repaired_from: None });
            report.chunks.extend(affected(wrong));
            return Ok(());
        }
        if self.mend_whole(options, &name, what, good, report).await?.is_some() {
            self.packs.forget_clean(pack);
            self.fetches.forget_gone(pack);
            report.mended.extend(affected(wrong));
            return Ok(());
        }
        // No whole copy: chunk by chunk, from anywhere.
        let (saved, lost) = self.rewrite_pack(options, pack, &wrong).await?;
        if let Some(fault) = report.faults.last_mut().filter(|_| lost.is_empty()) {
            fault.repaired_from = Some("its parts, from the cache and the copies".into());
        }
        report.mended.extend(affected(saved));
        report.lost_chunks += lost.len() as u64;
        report.chunks.extend(affected(lost));
        Ok(())
    }

    /// Writes anew what can be had of a damaged pack, and puts the rest on record. Returns the damaged chunks that were
    /// saved, and those that were not.
    async fn rewrite_pack(
        self: &Arc<Self>,
        options: &CheckOptions,
        pack: PackId,
        wrong: &[ChunkId],
    ) -> Result<(Vec<ChunkId>, Vec<ChunkId>)> {
        let name = layout::pack(pack);
        let mut bodies = Vec::new();
        bodies.extend(self.fetch_for_check(&self.world.store, &name).await?.ok());
        for (_, store) in &options.copies {
            bodies.extend(store.get(&object(&name)).await.ok());
        }
        let mut chunks = Vec::new();
        let live = self.live();
        self.walk(&live, record::chunks(), |key, value| {
            let (id, place) = self.chunk_record(key, value)?;
            if place.pack_id().is_ok_and(|other| other == pack) {
                chunks.push((id, place));
            }
            Ok(())
        })
        .await?;
        let (mut saved, mut lost) = (Vec::new(), Vec::new());
        for some in chunks.chunks(AT_ONCE) {
            let mut ops = Vec::new();
            for (id, place) in some {
                match self.any_plain(pack, *id, place, &bodies) {
                    Some(plain) => {
                        let prepared = haven_format::codec::prepare(&plain);
                        let new = self.when_settled(|| self.packs.append(*id, plain.len(), &prepared)).await?;
                        ops.push(Op { key: record::chunk_key(*id), value: Some(new.encode_to_vec().into()) });
                        saved.extend(wrong.contains(id).then_some(*id));
                    }
                    None => {
                        let found = Lost { since: self.world.clock.now().seconds, place: Some(place.clone()) };
                        ops.push(Op { key: record::lost_key(*id), value: Some(found.encode_to_vec().into()) });
                        lost.push(*id);
                    }
                }
            }
            self.commit_own(ops, |_| ()).await?;
        }
        self.lost.lock().extend(lost.iter().copied());
        if lost.is_empty() {
            let dead = Dead { since: self.world.clock.now().seconds, moved: true, ..Dead::default() };
            let op = Op { key: record::dead_key(&name), value: Some(dead.encode_to_vec().into()) };
            self.commit_own(vec![op], |_| ()).await?;
        }
        // What was saved reads from its new place from now on.
        self.fetches.set_gone(pack);
        self.packs.forget_clean(pack);
        self.sync_bucket(self.head()).await?;
        Ok((saved, lost))
    }

    /// A chunk from the cache or from any of several bodies of its pack.
    fn any_plain(&self, pack: PackId, id: ChunkId, place: &ChunkPlace, bodies: &[Bytes]) -> Option<Bytes> {
        let cached = self.packs.read(pack, place.part()).ok();
        cached
            .filter(|plain| haven_format::pack::verify(&self.keys, id, plain).is_ok())
            .or_else(|| bodies.iter().find_map(|body| self.plain_of(pack, id, place, body)))
    }
}
