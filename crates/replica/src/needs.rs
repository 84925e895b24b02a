//! What a state needs, object by object.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use haven_format::{layout, record::Snapshot, root::Root};

use crate::{
    Damage,
    error::{At, Result},
    names::list_all,
    records::Records,
    state::{Reader, State},
};

/// Roots without their records, read before.
pub(crate) type BareRoots = HashMap<String, Arc<Root>>;

/// What a state needs, by kind. Its own root and log are not among it.
#[derive(Debug, Default)]
pub(crate) struct Needed {
    /// Lengths; 0 where it is not known.
    pub(crate) packs: BTreeMap<String, u64>,
    /// Length and BLAKE3.
    pub(crate) shards: BTreeMap<String, (u64, Vec<u8>)>,
    /// Snapshots' roots, each with the names of its shards.
    pub(crate) roots: BTreeMap<String, Vec<String>>,
    /// Snapshots' roots that can't be read anywhere.
    pub(crate) lost: Vec<Damage>,
}

impl Needed {
    /// What `state`, with the records after it, needs. Roots are read from the first of `readers` that has them;
    /// snapshots' roots that `skip` names are left out.
    pub(crate) async fn of(
        state: &State,
        records: &Records,
        readers: &[&Reader],
        known: &mut BareRoots,
        skip: impl Fn(&str) -> bool,
    ) -> Result<Self> {
        let mut needed = Self::default();
        let early = state.root.as_ref().map(|root| &root.records);
        // What is condemned is still in the list of packs, and rightly: a file may refer to it for a while.
        for (id, bytes) in early.into_iter().flat_map(Records::packs).chain(records.packs()) {
            needed.packs.insert(layout::pack(id), bytes);
        }
        for id in state.links.iter().flat_map(|link| &link.packs) {
            needed.packs.entry(layout::pack(*id)).or_default();
        }
        if let Some(root) = &state.root {
            needed.add_root(&root.root);
        }
        for name in snapshot_roots(state, records, readers).await? {
            if state.root.as_ref().is_some_and(|root| root.name == name) || skip(&name) {
                continue;
            }
            match bare_root(&name, readers, known).await? {
                Ok(root) => {
                    let shards = needed.add_root(&root);
                    needed.roots.insert(name, shards);
                }
                Err(damage) => needed.lost.push(damage),
            }
        }
        Ok(needed)
    }

    /// Adds a root's shards; returns their names.
    pub(crate) fn add_root(&mut self, root: &Root) -> Vec<String> {
        let mut names = Vec::new();
        for shard in root.runs.iter().flat_map(|run| &run.shards) {
            if let Ok(id) = shard.shard_id() {
                let name = layout::shard(id);
                self.shards.insert(name.clone(), (shard.bytes, shard.hash.clone()));
                names.push(name);
            }
        }
        names
    }
}

/// The roots that hold snapshots. Where a crash came between a root and its mention, it is looked for.
async fn snapshot_roots(state: &State, records: &Records, readers: &[&Reader]) -> Result<BTreeSet<String>> {
    let newest = state.root.as_ref().map_or(0, |root| root.root.tx);
    let (named, unnamed): (Vec<Snapshot>, Vec<Snapshot>) =
        records.snapshots().partition(|snapshot| !snapshot.root.is_empty());
    let mut roots: BTreeSet<String> = named.into_iter().map(|snapshot| snapshot.root).collect();
    let mut seqs: BTreeSet<u64> = unnamed.iter().map(|snapshot| snapshot.seq).filter(|seq| *seq < newest).collect();
    let Some(reader) = readers.first().filter(|_| !seqs.is_empty()) else { return Ok(roots) };
    let listed = list_all(&*reader.store, layout::ROOTS, None).await;
    for found in listed.at(reader.side, "the list of roots can't be had")? {
        let Some(oldest) = seqs.first().copied() else { break };
        let Ok((root, _)) = reader.bare_root(found.name.as_str()).await? else { continue };
        if seqs.remove(&root.tx) {
            roots.insert(found.name.as_str().to_owned());
        }
        // The newest come first.
        if root.tx < oldest {
            break;
        }
    }
    Ok(roots)
}

async fn bare_root(name: &str, readers: &[&Reader], known: &mut BareRoots) -> Result<Result<Arc<Root>, Damage>> {
    if let Some(root) = known.get(name) {
        return Ok(Ok(root.clone()));
    }
    let mut first = None;
    for reader in readers {
        match reader.bare_root(name).await? {
            Ok((root, _)) => {
                let root = Arc::new(root);
                known.insert(name.to_owned(), root.clone());
                return Ok(Ok(root));
            }
            Err(damage) => _ = first.get_or_insert(damage),
        }
    }
    Ok(Err(first.expect("somebody was asked")))
}
