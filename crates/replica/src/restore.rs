//! A new library from a copy, usable before it is complete.
//! ```text
//!     begin: cfg, claims, shards, roots, log ─▶ it can be mounted, with the copy behind it ─▶ complete: its packs
//! ```
//! Until the last pack is there the new place says of itself that it is being restored, and from where. If the power
//! goes: calling again goes on from there. The library may be written to meanwhile: what is to be fetched is what its
//! own newest state needs.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use haven_format::{
    Keys, Lsn, layout,
    standing::{Role, Standing},
};
use haven_store::DynStore;
use serde::Serialize;
use tokio::time::Instant;

use crate::{
    Damage, HeldStanding, Oddity, Position, ProgressFn, ReplicaError, Side, World,
    bring::is_missing,
    carry::{Carrier, Outcome, Want, carry_all},
    error::{At, Result},
    inventory::Inventory,
    lease::Pin,
    look::Look,
    needs::{BareRoots, Needed},
    standing,
    state::{Reader, State},
};

/// How a library is restored.
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    /// The URL, without secrets, of the copy it comes from.
    pub of: String,
    /// Objects on their way at once.
    pub parallel: usize,
    /// Call it complete although the copy itself lacks something.
    pub accept_damage: bool,
}

/// What was done.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Restored {
    pub position: Position,
    pub objects: u64,
    pub bytes: u64,
    pub seconds: f64,
    /// What the copy lacks, or has damaged.
    pub damaged: Vec<Damage>,
    /// Whether the new place is the library now.
    pub complete: bool,
}

/// Restores one library.
pub struct Restorer {
    from: DynStore,
    to: DynStore,
    keys: Keys,
    world: World,
    options: RestoreOptions,
    carrier: Carrier,
    held: HeldStanding,
    pin: Pin,
}

impl std::fmt::Debug for Restorer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Restorer({:?} -> {:?})", self.from, self.to)
    }
}

impl Restorer {
    pub fn new(
        from: DynStore,
        to: DynStore,
        keys: &Keys,
        world: World,
        options: RestoreOptions,
        progress: Option<ProgressFn>,
    ) -> Self {
        Self {
            carrier: Carrier::new(from.clone(), to.clone(), keys, progress),
            from,
            to,
            keys: keys.clone(),
            world,
            options,
            held: HeldStanding::default(),
            pin: Pin::default(),
        }
    }

    /// Copies what makes the new place a library that can be mounted, with `from` behind it.
    ///
    /// # Errors
    /// [`ReplicaError::Occupied`] when something else is there; [`ReplicaError::Odd`] when the copy has no state that
    /// could be restored.
    pub async fn begin(&mut self) -> Result<Restored> {
        let begun = Instant::now();
        let before = self.carrier.sent();
        self.open().await?;
        self.carrier.knows(Inventory::list(&*self.to, Side::Replica).await?);
        let mut out = Restored::default();
        if self.held.position().segment.is_empty() && self.held.position().tx == 0 {
            out.position = self.copy_metadata(&mut out.damaged).await?;
            let next = Standing { segment: out.position.segment.clone(), tx: out.position.tx, ..self.standing() };
            self.held.supersede(&self.to, Side::Replica, &self.keys, &self.world, next).await?;
        } else {
            out.position = self.held.position();
        }
        let after = self.carrier.sent();
        (out.objects, out.bytes) = (after.0 - before.0, after.1 - before.1);
        out.seconds = begun.elapsed().as_secs_f64();
        Ok(out)
    }

    async fn open(&mut self) -> Result<()> {
        self.held = standing::newest(&self.to, &self.keys, Side::Replica).await?;
        match &self.held.standing {
            Some(standing) if standing.role() == Role::Restoring && standing.of == self.options.of => Ok(()),
            Some(standing) => Err(ReplicaError::NotAReplica { role: standing.role(), of: standing.of.clone() }),
            None => {
                let there = self.to.list("", None, 1).await.at(Side::Replica, "the list of objects can't be had")?;
                if let Some(example) = there.objects.first() {
                    return Err(ReplicaError::Occupied { example: example.name.to_string() });
                }
                let next = self.standing();
                self.held.supersede(&self.to, Side::Replica, &self.keys, &self.world, next).await?;
                Ok(())
            }
        }
    }

    fn standing(&self) -> Standing {
        let before = self.held.standing.clone().unwrap_or_default();
        Standing { role: Role::Restoring.into(), of: self.options.of.clone(), ..before }
    }

    async fn copy_metadata(&mut self, damaged: &mut Vec<Damage>) -> Result<Position> {
        let look = Look::at(&*self.from, Side::Source, Lsn(0)).await?;
        let mut reader = Reader::new(self.from.clone(), Side::Source, &self.keys);
        let state = reader.newest(&look, Lsn(0)).await?;
        damaged.extend(state.damaged.iter().cloned());
        if look.configs.is_empty() || state.is_empty() && !state.damaged.is_empty() {
            return Err(Oddity::Garbage { damaged: state.damaged }.into());
        }
        if let Some(root) = &state.root {
            self.pin.hold(&self.from, &self.keys, &self.world, &root.name).await;
        }
        let records = state.records();
        let needed = Needed::of(&state, &records, &[&reader], &mut BareRoots::new(), |_| false).await?;
        damaged.extend(needed.lost.iter().cloned());
        let listed = look.configs.iter().chain(&look.claims);
        let listed = listed.map(|found| Want { name: found.name.as_str().to_owned(), bytes: found.bytes, hash: None });
        let shards = needed.shards.iter();
        let shards =
            shards.map(|(name, (bytes, hash))| Want { name: name.clone(), bytes: *bytes, hash: Some(hash.clone()) });
        let wants: Vec<Want> = self
            .carrier
            .inventory(|there| listed.chain(shards).filter(|want| is_missing(there, &want.name, want.bytes)).collect());
        let links: u64 = state.links.iter().map(|link| link.body.len() as u64).sum();
        let count = wants.len() + state.links.len() + needed.roots.len() + usize::from(state.root.is_some());
        self.carrier.plan(count as u64, wants.iter().map(|want| want.bytes).sum::<u64>() + links);
        // Packs come later; those that only the chunk index knows of, at once: nothing else will tell of them.
        let known: HashSet<String> =
            needed.packs.keys().cloned().chain(records.dead().map(|(name, _)| name.to_owned())).collect();
        for (name, outcome) in carry_all(&self.carrier, self.options.parallel, wants, &Arc::new(known)).await? {
            tell(&name, outcome, damaged);
        }
        if let Some(root) = &state.root {
            let shards = root.shards().filter_map(|shard| shard.shard_id().ok()).map(layout::shard);
            let lacking = self.carrier.inventory(|there| shards.into_iter().find(|name| !there.has(name)));
            if let Some(lacking) = lacking {
                let damage = Damage::new(Side::Source, &lacking, "without it the newest state can't be read");
                return Err(Oddity::Garbage { damaged: vec![damage] }.into());
            }
            self.carrier.put(&root.name, root.body.clone()).await?;
        }
        for name in needed.roots.keys() {
            let outcome = self.carrier.carry(name, 0, None).await?;
            tell(name, outcome, damaged);
        }
        for link in &state.links {
            self.carrier.put(&link.name, link.body.clone()).await?;
        }
        Ok(state.position())
    }

    /// Fetches the packs. When everything is there, the new place becomes the library.
    ///
    /// # Errors
    /// Store errors; calling again goes on from there.
    pub async fn complete(&mut self) -> Result<Restored> {
        let begun = Instant::now();
        let before = self.carrier.sent();
        let mut out = Restored::default();
        let (missing, state) = self.missing().await?;
        out.position = state.position();
        if let Some(root) = &state.root {
            // Of the copy's own roots, if it has this one still.
            self.pin.hold(&self.from, &self.keys, &self.world, &root.name).await;
        }
        let bytes = missing.values().sum();
        self.carrier.plan(missing.len() as u64, bytes);
        let wants = missing.into_iter().map(|(name, bytes)| Want { name, bytes, hash: None }).collect();
        let mut failed: HashMap<String, Damage> = HashMap::new();
        for (name, outcome) in carry_all(&self.carrier, self.options.parallel, wants, &Arc::default()).await? {
            let mut told = Vec::new();
            tell(&name, outcome, &mut told);
            failed.extend(told.into_iter().map(|damage| (name.clone(), damage)));
        }
        // By a fresh list, and by what is needed by now: the library may have been written to meanwhile.
        self.carrier.knows(Inventory::list(&*self.to, Side::Replica).await?);
        let (missing, _) = self.missing().await?;
        let lacks = |name: &String| {
            let unknown = || Damage::new(Side::Replica, name, "it is needed, and is not there");
            failed.get(name).cloned().unwrap_or_else(unknown)
        };
        out.damaged = missing.keys().map(lacks).collect();
        out.complete = out.damaged.is_empty() || self.options.accept_damage;
        if out.complete {
            let next = Standing { role: Role::Library.into(), ..self.standing() };
            self.held.supersede(&self.to, Side::Replica, &self.keys, &self.world, next).await?;
        }
        self.pin.release(&self.from).await;
        let after = self.carrier.sent();
        (out.objects, out.bytes) = (after.0 - before.0, after.1 - before.1);
        out.seconds = begun.elapsed().as_secs_f64();
        Ok(out)
    }

    /// Packs that the new library needs and lacks, with their lengths; and its state.
    async fn missing(&self) -> Result<(BTreeMap<String, u64>, State)> {
        let look = Look::at(&*self.to, Side::Replica, Lsn(0)).await?;
        let mut reader = Reader::new(self.to.clone(), Side::Replica, &self.keys);
        let state = reader.newest(&look, Lsn(0)).await?;
        let records = state.records();
        let needed = Needed::of(&state, &records, &[&reader], &mut BareRoots::new(), |_| true).await?;
        let missing = self.carrier.inventory(|there| {
            let lacks = |name: &String, bytes: u64| is_missing(there, name, bytes) && !records.is_dead(name);
            needed.packs.into_iter().filter(|(name, bytes)| lacks(name, *bytes)).collect()
        });
        Ok((missing, state))
    }
}

fn tell(name: &str, outcome: Outcome<()>, damaged: &mut Vec<Damage>) {
    match outcome {
        Outcome::Done(()) => {}
        Outcome::Gone => damaged.push(Damage::new(Side::Source, name, "it is needed, and is not there")),
        Outcome::Damaged(detail) => damaged.push(Damage::new(Side::Source, name, detail)),
    }
}
