//! A new library from a copy, usable before it is complete.
//! ```text
//!     begin: cfg, claims, shards, roots, log ─▶ it can be mounted, with the copy behind it ─▶ complete: its packs
//! ```
//! Until the last pack is there the new place says of itself that it is being restored, and from where. If the power
//! goes: calling again goes on from there. The library may be written to meanwhile: what is to be fetched is what its
//! own newest state needs.
//!
//! What the copy has lost of its own newest state is damage like a missing pack: it is told, noted in the new place, and
//! in the way of calling that complete. So is a newer root that was passed over where nothing else leads to its state:
//! what was damaged of it may come back, and the changes behind it would still be missing.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use haven_format::{
    Keys, Lsn, layout,
    standing::{Lack, Role, Standing},
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
    names::Kind,
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
    /// What the copy lacks, or has damaged: objects the new library needs, and what is lost of the copy's newest changes.
    pub damaged: Vec<Damage>,
    /// Whether the new place is the library now.
    pub complete: bool,
}

/// How often the copy is looked at anew when an end of its log was listed before what leads to it.
const TRIES: usize = 4;

const UNREACHED: &str = "the state it holds was not reached, as not all that it names could be read: once that is mended in \
                         the copy, a restore to another place reaches it";

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
    bare_roots: BareRoots,
}

impl std::fmt::Debug for Restorer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Restorer({:?} -> {:?})", self.from, self.to)
    }
}

/// What is wrong, once for each object.
#[derive(Debug, Default)]
struct Told(BTreeMap<String, Damage>);

impl Told {
    fn add(&mut self, damage: Damage) {
        self.0.entry(damage.object.clone()).or_insert(damage);
    }

    fn outcome(&mut self, name: &str, outcome: Outcome<()>) {
        match outcome {
            Outcome::Done(()) => {}
            Outcome::Gone => self.add(Damage::new(Side::Source, name, "it is needed, and is not there")),
            Outcome::Damaged(detail) => self.add(Damage::new(Side::Source, name, detail)),
        }
    }

    fn all(self) -> Vec<Damage> {
        self.0.into_values().collect()
    }
}

/// What the new place still lacks of its own newest state.
struct Missing {
    state: State,
    packs: Vec<Want>,
    shards: Vec<Want>,
    /// Snapshots' roots, each with the names of its shards.
    roots: BTreeMap<String, Vec<String>>,
    /// Snapshots' roots that nobody has.
    lost: Vec<Damage>,
}

impl Missing {
    fn names(&self) -> impl Iterator<Item = &String> {
        self.packs.iter().chain(&self.shards).map(|want| &want.name).chain(self.roots.keys())
    }

    fn bytes(&self) -> u64 {
        self.packs.iter().chain(&self.shards).map(|want| want.bytes).sum()
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
            bare_roots: BareRoots::new(),
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
            let mut told = Told::default();
            out.position = self.copy_metadata(&mut told).await?;
            out.damaged = told.all();
            // Those who go on with this must know, whatever becomes of the copy.
            let lack = |damage: &Damage| Lack { object: damage.object.clone(), detail: damage.detail.clone() };
            let next = Standing {
                segment: out.position.segment.clone(),
                tx: out.position.tx,
                lacks: out.damaged.iter().map(lack).collect(),
                ..self.standing()
            };
            self.held.supersede(&self.to, Side::Replica, &self.keys, &self.world, next).await?;
        } else {
            out.position = self.held.position();
            out.damaged = self.lacks();
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
                match there.objects.first() {
                    Some(example) => Err(ReplicaError::Occupied { example: example.name.to_string() }),
                    None => Ok(()),
                }
            }
        }
    }

    /// The first thing in an empty place is that it is being restored.
    async fn announce(&mut self) -> Result<()> {
        if self.held.standing.is_none() {
            let next = self.standing();
            self.held.supersede(&self.to, Side::Replica, &self.keys, &self.world, next).await?;
        }
        Ok(())
    }

    fn standing(&self) -> Standing {
        let before = self.held.standing.clone().unwrap_or_default();
        Standing { role: Role::Restoring.into(), of: self.options.of.clone(), ..before }
    }

    /// What the copy lacked when this began.
    fn lacks(&self) -> Vec<Damage> {
        let lacks = self.held.standing.iter().flat_map(|standing| &standing.lacks);
        lacks.map(|lack| Damage::new(Side::Source, &lack.object, &lack.detail)).collect()
    }

    /// Copies the newest state that hangs together. Where a shard of its root can't be had, an older root will do, with the
    /// log from there.
    async fn copy_metadata(&mut self, told: &mut Told) -> Result<Position> {
        let mut reader = Reader::new(self.from.clone(), Side::Source, &self.keys);
        let mut without: HashSet<String> = HashSet::new();
        // The furthest root that was passed over, by its last change.
        let mut passed: Option<(u64, String)> = None;
        loop {
            let (look, state) = settled(&mut reader, &without).await?;
            state.damaged.iter().cloned().chain(state.loose_ends(Side::Source)).for_each(|damage| told.add(damage));
            if look.configs.is_empty() || state.is_empty() && !told.0.is_empty() {
                let damaged = std::mem::take(told).all();
                return Err(Oddity::Garbage { damaged }.into());
            }
            passed = passed.max(passed_over(&reader, &look, &state).await?);
            self.announce().await?;
            match self.copy_state(&look, &reader, &state, told).await? {
                None => {
                    let position = state.position();
                    if let Some((_, root)) = passed.filter(|(tx, _)| *tx > position.tx) {
                        told.add(Damage::new(Side::Source, &root, UNREACHED));
                    }
                    return Ok(position);
                }
                Some(root) => {
                    passed = passed.max(state.root.as_ref().map(|root| (root.root.tx, root.name.clone())));
                    without.insert(root);
                }
            }
        }
    }

    /// Copies a state without its packs. Returns the name of its root if that can't be taken over.
    async fn copy_state(
        &mut self,
        look: &Look,
        reader: &Reader,
        state: &State,
        told: &mut Told,
    ) -> Result<Option<String>> {
        if let Some(root) = &state.root {
            self.pin.hold(&self.from, &self.keys, &self.world, &root.name).await;
        }
        let records = state.records();
        let needed = Needed::of(state, &records, &[reader], &mut self.bare_roots, |_| false).await?;
        needed.lost.iter().cloned().for_each(|damage| told.add(damage));
        self.copy_config(look, told).await?;
        let listed = look.claims.iter().map(|found| Want {
            name: found.name.as_str().to_owned(),
            bytes: found.bytes,
            hash: None,
        });
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
            told.outcome(&name, outcome);
        }
        if let Some(root) = &state.root {
            let shards: Vec<String> =
                root.shards().filter_map(|shard| shard.shard_id().ok()).map(layout::shard).collect();
            if !self.has_all(&shards) {
                return Ok(Some(root.name.clone()));
            }
            self.carrier.put(&root.name, root.body.clone()).await?;
        }
        self.copy_roots(&needed.roots, told).await?;
        for link in &state.links {
            self.carrier.put(&link.name, link.body.clone()).await?;
        }
        Ok(None)
    }

    /// The configuration in force, all copies of it: an older one opens with keys that were taken away.
    async fn copy_config(&self, look: &Look, told: &mut Told) -> Result<()> {
        let mut done = None;
        for name in look.configs.iter().rev().map(|found| found.name.as_str()) {
            let seq = layout::parse_config(name).map(|(seq, _)| seq);
            if done.is_some() && done != seq {
                break;
            }
            if self.carrier.inventory(|there| there.has(name)) {
                done = seq;
                continue;
            }
            match self.carrier.carry(name, 0, None).await? {
                Outcome::Done(()) => done = seq,
                outcome => told.outcome(name, outcome),
            }
        }
        Ok(())
    }

    fn has_all(&self, names: &[String]) -> bool {
        self.carrier.inventory(|there| names.iter().all(|name| there.has(name)))
    }

    /// Snapshots' roots, each if all that it names is there: without that it would be of no use, and in the way.
    async fn copy_roots(&self, roots: &BTreeMap<String, Vec<String>>, told: &mut Told) -> Result<()> {
        for (name, shards) in roots {
            if self.carrier.inventory(|there| there.has(name)) {
                continue;
            }
            if self.has_all(shards) {
                let outcome = self.carrier.carry(name, 0, None).await?;
                told.outcome(name, outcome);
            } else {
                told.add(Damage::new(Side::Source, name, "a snapshot's: not all that it names is there"));
            }
        }
        Ok(())
    }

    /// Fetches the packs, and what else could not be had before. When everything is there, the new place becomes the
    /// library.
    ///
    /// # Errors
    /// Store errors; calling again goes on from there.
    pub async fn complete(&mut self) -> Result<Restored> {
        let begun = Instant::now();
        let before = self.carrier.sent();
        let mut out = Restored::default();
        let missing = self.missing().await?;
        out.position = missing.state.position();
        if let Some(root) = &missing.state.root {
            // Of the copy's own roots, if it has this one still.
            self.pin.hold(&self.from, &self.keys, &self.world, &root.name).await;
        }
        let again = self.asked_for_again(&missing);
        self.carrier.plan((missing.names().count() + again.len()) as u64, missing.bytes());
        let mut failed = Told::default();
        let Missing { packs, shards, roots, .. } = missing;
        // Packs first: a shard of the chunk index brings along those that it alone knows of.
        for wants in [packs, shards.into_iter().chain(again).collect()] {
            for (name, outcome) in carry_all(&self.carrier, self.options.parallel, wants, &Arc::default()).await? {
                failed.outcome(&name, outcome);
            }
        }
        self.copy_roots(&roots, &mut failed).await?;
        let mut told = Told::default();
        // By what is needed by now, and a fresh list: the library may have been written to meanwhile.
        let missing = self.missing().await?;
        for name in missing.names() {
            let unknown = || Damage::new(Side::Replica, name, "it is needed, and is not there");
            told.add(failed.0.get(name).cloned().unwrap_or_else(unknown));
        }
        let own = missing.state.damaged.iter().cloned().chain(missing.state.loose_ends(Side::Replica));
        own.chain(missing.lost).for_each(|damage| told.add(damage));
        let lacks = self.lacks();
        self.carrier.inventory(|there| {
            lacks.into_iter().filter(|lack| !there.has(&lack.object)).for_each(|lack| told.add(lack));
        });
        out.damaged = told.all();
        out.complete = out.damaged.is_empty() || self.options.accept_damage;
        if out.complete {
            let next = Standing { role: Role::Library.into(), lacks: Vec::new(), ..self.standing() };
            self.held.supersede(&self.to, Side::Replica, &self.keys, &self.world, next).await?;
        }
        self.pin.release(&self.from).await;
        let after = self.carrier.sent();
        (out.objects, out.bytes) = (after.0 - before.0, after.1 - before.1);
        out.seconds = begun.elapsed().as_secs_f64();
        Ok(out)
    }

    /// What the copy lacked and may have got back since, as far as it can still be of use here: the log and its roots
    /// can't, as others may have gone on from where this library stands.
    fn asked_for_again(&self, missing: &Missing) -> Vec<Want> {
        let listed: HashSet<&String> = missing.names().collect();
        let useful = |name: &str| matches!(Kind::of(name), Some(Kind::Config | Kind::Claim | Kind::Shard));
        let lacks = self.lacks().into_iter().map(|lack| lack.object);
        let lacks = lacks.filter(|name| useful(name) && !listed.contains(name));
        let wants = lacks.map(|name| Want { name, bytes: 0, hash: None });
        self.carrier.inventory(|there| wants.filter(|want| !there.has(&want.name)).collect())
    }

    /// What the new library needs and lacks, by its own newest state. Snapshots' roots are asked of both.
    async fn missing(&mut self) -> Result<Missing> {
        let mut reader = Reader::new(self.to.clone(), Side::Replica, &self.keys);
        let from = Reader::new(self.from.clone(), Side::Source, &self.keys);
        let (_, state) = settled(&mut reader, &HashSet::new()).await?;
        let records = state.records();
        let needed = Needed::of(&state, &records, &[&reader, &from], &mut self.bare_roots, |_| false).await?;
        // After the state was read: then nothing that it needs can have come later.
        self.carrier.knows(Inventory::list(&*self.to, Side::Replica).await?);
        Ok(self.carrier.inventory(|there| {
            let packs = needed.packs.into_iter().map(|(name, bytes)| Want { name, bytes, hash: None });
            let packs = packs.filter(|want| !records.is_dead(&want.name));
            let shards = needed.shards.into_iter();
            let shards = shards.map(|(name, (bytes, hash))| Want { name, bytes, hash: Some(hash) });
            let lacks = |want: &Want| is_missing(there, &want.name, want.bytes);
            Missing {
                packs: packs.filter(lacks).collect(),
                shards: shards.filter(lacks).collect(),
                roots: needed.roots.into_iter().filter(|(name, _)| !there.has(name)).collect(),
                lost: needed.lost,
                state,
            }
        }))
    }
}

/// Of the roots before the state's own, which it was read without, the one that goes furthest, with its last change. One
/// that does not open is told by its own name already.
async fn passed_over(reader: &Reader, look: &Look, state: &State) -> Result<Option<(u64, String)>> {
    let own = state.root.as_ref().map(|root| root.name.as_str());
    let names: Vec<&str> = look.roots.iter().map(|root| root.name.as_str()).collect();
    let mut furthest: Option<(u64, String)> = None;
    for name in names {
        if Some(name) == own {
            break;
        }
        if let Ok((root, _)) = reader.bare_root(name).await? {
            furthest = furthest.max(Some((root.tx, name.to_owned())));
        }
    }
    Ok(furthest)
}

/// The newest state of a store, without some of its roots. Whoever writes there may be just sending what leads to an end.
async fn settled(reader: &mut Reader, without: &HashSet<String>) -> Result<(Look, State)> {
    let mut attempt = 1;
    loop {
        let mut look = Look::at(&*reader.store, reader.side, Lsn(0)).await?;
        look.roots.retain(|root| !without.contains(root.name.as_str()));
        let state = reader.newest(&look, Lsn(0)).await?;
        if state.loose.is_empty() || attempt >= TRIES {
            return Ok((look, state));
        }
        attempt += 1;
    }
}
