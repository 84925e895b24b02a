//! Brings what the replica lacks of a state, in the order that keeps it a library: configurations and claims, packs, shards,
//! the root that names those, and then the log.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use haven_format::{
    layout,
    record::{self, Snapshot},
};
use haven_store::ObjectMeta;
use prost::Message;
use tokio::time::Instant;

use crate::{
    Damage, Position, Replicator, Side, Summary,
    carry::{Outcome, Want, carry_all},
    error::Result,
    inventory::Inventory,
    look::Look,
    needs::Needed,
    records::Records,
    state::{Link, RootAt, State},
    sync::ASK_AGAIN,
};

/// How far bringing a state came.
#[derive(Debug, Default)]
pub(crate) struct Brought {
    pub(crate) reached: Option<Position>,
    /// Needed, and not in the source.
    pub(crate) gone: BTreeSet<String>,
    pub(crate) damaged: BTreeMap<String, String>,
    /// The newest root could not be taken over.
    pub(crate) without_root: bool,
    pub(crate) delay_seconds: f64,
}

impl Brought {
    fn missed(&mut self, name: &str, outcome: Outcome<()>) -> bool {
        match outcome {
            Outcome::Done(()) => return false,
            Outcome::Gone => _ = self.gone.insert(name.to_owned()),
            Outcome::Damaged(detail) => _ = self.damaged.insert(name.to_owned(), detail),
        }
        true
    }
}

impl Replicator {
    /// Objects and bytes that bringing `state` would send.
    pub(crate) fn count_missing(&self, look: &Look, state: &State, needed: &Needed) -> (u64, u64) {
        let lengths = self.carrier.inventory(|inventory| {
            let listed = self.configs_wanted(look).chain(&look.claims).map(|found| (found.name.as_str(), found.bytes));
            let packs = needed.packs.iter().map(|(name, bytes)| (name.as_str(), *bytes));
            let shards = needed.shards.iter().map(|(name, (bytes, _))| (name.as_str(), *bytes));
            let roots = needed.roots.keys().map(|name| (name.as_str(), 0));
            let newest = state.root.iter().map(|root| (root.name.as_str(), root.body.len() as u64));
            let links = state.links.iter().map(|link| (link.name.as_str(), link.body.len() as u64));
            let all = listed.chain(packs).chain(shards).chain(roots).chain(newest).chain(links);
            all.filter(|(name, bytes)| is_missing(inventory, name, *bytes)).map(|(_, bytes)| bytes).collect::<Vec<_>>()
        });
        (lengths.len() as u64, lengths.iter().sum())
    }

    /// Sends what the replica lacks of `state`.
    pub(crate) async fn bring(
        &mut self,
        look: &Look,
        state: &State,
        records: &Records,
        needed: &Needed,
    ) -> Result<Brought> {
        let mut brought = Brought::default();
        let (objects, bytes) = self.count_missing(look, state, needed);
        self.carrier.plan(objects, bytes);
        tracing::debug!(objects, bytes, state = %state.position(), "bringing a state");
        let listed = |found: &ObjectMeta| (found.name.as_str().to_owned(), (found.bytes, None));
        let listed_there: Vec<_> = self.configs_wanted(look).chain(&look.claims).map(listed).collect();
        self.bring_all(listed_there.into_iter(), records, &mut brought).await?;
        let packs = needed.packs.iter().map(|(name, bytes)| (name.clone(), (*bytes, None)));
        self.bring_all(packs, records, &mut brought).await?;
        let shards = needed.shards.iter().map(|(name, (bytes, hash))| (name.clone(), (*bytes, Some(hash.clone()))));
        self.bring_all(shards, records, &mut brought).await?;
        // Packs take a while. In a library, roots and log of another one would be in the way of its own.
        self.heed_others().await?;
        if let Some(root) = &state.root {
            if !self.bring_newest_root(root).await? {
                brought.without_root = true;
                return Ok(brought);
            }
            brought.reached = Some(root.position());
        }
        // Not before: a reader takes the newest root it finds, and the chunk index of a snapshot's root names packs
        // that have been rewritten since.
        for (name, shards) in &needed.roots {
            self.bring_snapshot_root(name, shards, &mut brought).await?;
        }
        self.bring_log(state, records, &mut brought).await?;
        Ok(brought)
    }

    /// Sends those of `wanted` (name, length, hash) that are missing, many at once.
    async fn bring_all(
        &mut self,
        wanted: impl Iterator<Item = (String, (u64, Option<Vec<u8>>))>,
        records: &Records,
        brought: &mut Brought,
    ) -> Result<()> {
        let missing: Vec<_> = self
            .carrier
            .inventory(|inventory| wanted.filter(|(name, (bytes, _))| is_missing(inventory, name, *bytes)).collect());
        let dead: Arc<HashSet<String>> = Arc::new(records.dead().map(|(name, _)| name.to_owned()).collect());
        let mut wants = Vec::new();
        for (name, (bytes, hash)) in missing {
            match self.bad.get(&name).filter(|(at, _)| at.elapsed() < ASK_AGAIN) {
                Some((_, detail)) => _ = brought.damaged.insert(name, detail.clone()),
                None => wants.push(Want { name, bytes, hash }),
            }
        }
        for (name, outcome) in carry_all(&self.carrier, self.options.parallel, wants, &dead).await? {
            // What the newest state does not need any more may be gone.
            if matches!(outcome, Outcome::Gone) && dead.contains(&name) {
                continue;
            }
            if let Outcome::Damaged(detail) = &outcome {
                self.bad.insert(name.clone(), (Instant::now(), detail.clone()));
            }
            brought.missed(&name, outcome);
        }
        Ok(())
    }

    /// A snapshot's root goes after its shards. One that can't be had costs the snapshot and nothing else.
    async fn bring_snapshot_root(&mut self, name: &str, shards: &[String], brought: &mut Brought) -> Result<()> {
        let ready = self.carrier.inventory(|inventory| shards.iter().all(|shard| inventory.has(shard)));
        let there = self.carrier.inventory(|inventory| inventory.has(name));
        if ready && !there {
            let outcome = self.carrier.carry(name, 0, None).await?;
            brought.missed(name, outcome);
        }
        Ok(())
    }

    /// True when the replica has the root and all that it names.
    async fn bring_newest_root(&mut self, root: &RootAt) -> Result<bool> {
        let names: Vec<String> = root.shards().filter_map(|shard| shard.shard_id().ok()).map(layout::shard).collect();
        if !self.carrier.inventory(|inventory| names.iter().all(|name| inventory.has(name))) {
            return Ok(false);
        }
        if self.carrier.inventory(|inventory| inventory.get(&root.name)) != Some(root.body.len() as u64) {
            self.carrier.put(&root.name, root.body.clone()).await?;
        }
        Ok(true)
    }

    /// Sends the log after the root, in order, up to the first segment that names a pack which can't be had.
    async fn bring_log(&mut self, state: &State, records: &Records, brought: &mut Brought) -> Result<()> {
        let mut reached = brought.reached.take().unwrap_or_default();
        for link in &state.links {
            let there = self.carrier.inventory(|inventory| inventory.get(&link.name));
            if there != Some(link.body.len() as u64) {
                let lacking = self.carrier.inventory(|inventory| {
                    let lacks = |name: &String| !inventory.has(name) && !records.is_dead(name);
                    link.packs.iter().map(|id| layout::pack(*id)).find(lacks)
                });
                if let Some(pack) = lacking {
                    tracing::warn!(segment = link.name, pack, "the log ends here: a pack can't be had");
                    break;
                }
                self.bring_roots_named(link, brought).await?;
                self.carrier.put(&link.name, link.body.clone()).await?;
                let now = self.world.now();
                let age = now.seconds as f64 + f64::from(now.nanos) / 1e9 - link.sealed_at as f64 / 1e9;
                brought.delay_seconds = brought.delay_seconds.max(age);
            }
            reached = Position {
                segment: link.name.clone(),
                tx: link.last_tx.unwrap_or(reached.tx),
                sealed_at: link.sealed_at,
            };
        }
        brought.reached = Some(reached);
        Ok(())
    }

    /// A snapshot that was removed again later in the log has its root there, perhaps, and is readable until then.
    async fn bring_roots_named(&mut self, link: &Link, brought: &mut Brought) -> Result<()> {
        for op in link.ops.iter().filter(|op| record::key_snapshot(&op.key).is_some()) {
            let snapshot = op.value.clone().and_then(|value| Snapshot::decode(value).ok());
            let Some(name) = snapshot.map(|snapshot| snapshot.root).filter(|name| !name.is_empty()) else { continue };
            if self.carrier.inventory(|inventory| inventory.has(&name)) {
                continue;
            }
            let Ok((root, _)) = self.reader.bare_root(&name).await? else { continue };
            let mut needed = Needed::default();
            let names = needed.add_root(&root);
            let shards = needed.shards.into_iter().map(|(name, (bytes, hash))| (name, (bytes, Some(hash))));
            // Of no consequence for the state: what is gone with the snapshot is not missed.
            let mut aside = Brought::default();
            self.bring_all(shards, &Records::default(), &mut aside).await?;
            if aside.gone.is_empty() {
                brought.damaged.append(&mut aside.damaged);
                self.bring_snapshot_root(&name, &names, &mut aside).await?;
            }
        }
        Ok(())
    }

    /// Snapshots' shards that the replica should have and has lost; the rest of what it needs was just brought.
    pub(crate) async fn bring_lost(&mut self, needed: &Needed, records: &Records, summary: &mut Summary) -> Result<()> {
        let lost: Vec<_> = self.carrier.inventory(|inventory| {
            let shards = needed.shards.iter().filter(|(name, (bytes, _))| is_missing(inventory, name, *bytes));
            shards.map(|(name, (bytes, hash))| (name.clone(), (*bytes, Some(hash.clone())))).collect()
        });
        if lost.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = lost.iter().map(|(name, _)| name.clone()).collect();
        let mut brought = Brought::default();
        self.bring_all(lost.into_iter(), records, &mut brought).await?;
        let told: HashSet<String> = summary.damaged.iter().map(|damage| damage.object.clone()).collect();
        for name in names {
            if self.carrier.inventory(|inventory| inventory.has(&name)) {
                summary.mended.push(name);
            } else if !told.contains(&name) {
                let detail = brought.damaged.remove(&name).unwrap_or_else(|| "it is needed, and is not there".into());
                summary.damaged.push(Damage::new(Side::Source, &name, detail));
            }
        }
        for (name, shards) in &needed.roots {
            self.bring_snapshot_root(name, shards, &mut brought).await?;
        }
        Ok(())
    }
}

pub(crate) fn is_missing(inventory: &Inventory, name: &str, bytes: u64) -> bool {
    inventory.get(name).is_none_or(|there| bytes != 0 && there != bytes)
}
