//! Mending: a good copy takes the place of a damaged object; where there is none, what is good is saved from it, and
//! what is not is put on record, so that the same photo, stored again, heals every file that had it.

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;
use haven_format::{
    ChunkId, PackId, layout,
    record::{self, ChunkPlace, Dead, Lost, Op},
    root::Root,
};
use haven_store::{DynStore, PutMode, StoreError};
use prost::Message;

use super::{CheckOptions, Checked, Fault, verify_pack};
use crate::{Result, Vault, VaultError, claim::object};

/// Records changed in one commit.
const AT_ONCE: usize = 1024;

/// Copies that could not be asked. For all that is known they have everything; and nobody waits for them again.
#[derive(Debug, Clone, Default)]
pub(crate) struct Unasked {
    away: HashSet<String>,
    first: Option<VaultError>,
    /// Something was not found that one of them may have.
    wanted: bool,
}

impl Unasked {
    /// Why the first of them could not be asked, where no other made up for it.
    pub(super) fn into_error(self) -> Option<VaultError> {
        self.first.filter(|_| self.wanted)
    }

    /// What a copy has under that name; `None`: nothing, or it can't be asked.
    async fn get(&mut self, copy: &str, store: &DynStore, name: &str) -> Option<Bytes> {
        if self.away.contains(copy) {
            return None;
        }
        match store.get(&object(name)).await {
            Ok(body) => Some(body),
            Err(StoreError::NotFound { .. }) => {
                tracing::warn!(copy, object = name, "no copy there");
                None
            }
            Err(source) => {
                let error = VaultError::Copy { copy: copy.to_owned(), source };
                tracing::warn!(%error, "the check goes on without it");
                self.away.insert(copy.to_owned());
                self.first.get_or_insert(error);
                None
            }
        }
    }

    /// The first copy of an object that `good` accepts, and whose it is.
    pub(super) async fn find(
        &mut self,
        copies: &[(String, DynStore)],
        name: &str,
        good: impl Fn(&Bytes) -> bool,
    ) -> Option<(String, Bytes)> {
        for (copy, store) in copies {
            match self.get(copy, store, name).await {
                Some(body) if good(&body) => return Some((copy.clone(), body)),
                Some(_) => tracing::warn!(copy, object = name, "the copy is damaged too"),
                None => {}
            }
        }
        self.wanted |= !self.away.is_empty();
        None
    }

    /// What all copies have under that name, good or not; `None` where one of them can't be asked.
    async fn all(&mut self, copies: &[(String, DynStore)], name: &str) -> Option<Vec<Bytes>> {
        let mut bodies = Vec::new();
        for (copy, store) in copies {
            bodies.extend(self.get(copy, store, name).await);
            if !self.away.is_empty() {
                self.wanted = true;
                return None;
            }
        }
        Some(bodies)
    }
}

impl Vault {
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
        let copies = if options.repair { &options.copies[..] } else { &[] };
        let found = report.away.find(copies, name, good).await;
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
        // No whole copy: chunk by chunk, from anywhere. Nothing is given up before all have been asked.
        let Some(mut bodies) = report.away.all(&options.copies, &layout::pack(pack)).await else {
            report.chunks.extend(affected(wrong));
            return Ok(());
        };
        bodies.extend(self.fetch_for_check(&self.world.store, &layout::pack(pack)).await?.ok());
        let (saved, lost) = self.rewrite_pack(pack, &wrong, &bodies).await?;
        if let Some(fault) = report.faults.last_mut().filter(|_| lost.is_empty()) {
            fault.repaired_from = Some("its parts, from the cache and the copies".into());
        }
        report.mended.extend(affected(saved));
        report.lost_chunks += lost.len() as u64;
        report.chunks.extend(affected(lost));
        Ok(())
    }

    /// Writes anew what can be had of a damaged pack from the cache and from `bodies` of it, and puts the rest on record.
    /// Returns the damaged chunks that were saved, and those that were not.
    async fn rewrite_pack(
        self: &Arc<Self>,
        pack: PackId,
        wrong: &[ChunkId],
        bodies: &[Bytes],
    ) -> Result<(Vec<ChunkId>, Vec<ChunkId>)> {
        let name = layout::pack(pack);
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
                match self.any_plain(pack, *id, place, bodies) {
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
            let dead = Dead { since: self.world.clock.now().seconds, moved: true, lost: Some(0), ..Dead::default() };
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
