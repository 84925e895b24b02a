//! Whether a copy is whole: everything that its newest state and its snapshots need is there, has its length, and, as
//! far as it is asked for, its content.

use std::collections::{BTreeMap, HashSet};

use haven_format::{Keys, Lsn, layout};
use haven_store::DynStore;
use serde::Serialize;
use tokio::{task::JoinSet, time::Instant};

use crate::{
    Damage, Position, Progress, ProgressFn, ReplicaError, Side, World,
    carry::{Carrier, Outcome},
    error::Result,
    inventory::Inventory,
    look::Look,
    names::Kind,
    needs::{BareRoots, Needed},
    standing,
    state::Reader,
};

/// How much is read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Depth {
    /// Names and lengths; of content only what says what the state is.
    Lengths,
    /// A random part of the bytes too, from 0 to 1.
    Sample(f64),
    Everything,
}

/// What was found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Examined {
    pub position: Position,
    /// What the newest state and the snapshots need.
    pub objects: u64,
    pub bytes: u64,
    /// What of it was read and verified.
    pub objects_read: u64,
    pub bytes_read: u64,
    /// The library's objects that nothing needs any more: kept for a while, or left over.
    pub unneeded_objects: u64,
    pub unneeded_bytes: u64,
    /// Objects that are none of the library's: how many, and one of them.
    pub strange: Option<(usize, String)>,
    pub damaged: Vec<Damage>,
    pub seconds: f64,
}

/// Examines the copy in `store`. `parallel` objects are read at once.
///
/// # Errors
/// The store's. What is damaged is no error here.
pub async fn examine(
    store: &DynStore,
    keys: &Keys,
    world: &World,
    depth: Depth,
    parallel: usize,
    progress: Option<ProgressFn>,
) -> Result<Examined> {
    let begun = Instant::now();
    let mut reader = Reader::new(store.clone(), Side::Replica, keys);
    let look = Look::at(&**store, Side::Replica, Lsn(0)).await?;
    let state = reader.newest(&look, Lsn(0)).await?;
    let records = state.records();
    let inventory = Inventory::list(&**store, Side::Replica).await?;
    let needed = Needed::of(&state, &records, &[&reader], &mut BareRoots::new(), |_| false).await?;
    let mut found = Examined { position: state.position(), damaged: state.damaged.clone(), ..Examined::default() };
    found.damaged.extend(needed.lost.iter().cloned());
    found.damaged.extend(state.loose_ends(Side::Replica));
    if look.configs.is_empty() {
        found.damaged.push(Damage::new(Side::Replica, layout::CONFIGS, "there is no configuration"));
    }
    // Else it looks like one that was never complete, in which nothing is wrong.
    if look.roots.is_empty() && look.segments.is_empty() && had_a_state(store, keys).await? {
        let detail = "its log and its roots are gone: it was complete once, and nothing can be read from it now";
        found.damaged.push(Damage::new(Side::Replica, layout::ROOTS, detail));
    }

    let mut wanted: BTreeMap<String, (u64, Option<Vec<u8>>)> = BTreeMap::new();
    wanted.extend(needed.packs.iter().map(|(name, bytes)| (name.clone(), (*bytes, None))));
    wanted.extend(needed.shards.iter().map(|(name, (bytes, hash))| (name.clone(), (*bytes, Some(hash.clone())))));
    let small = needed.roots.keys().cloned().chain(state.root.iter().map(|root| root.name.clone()));
    let small = small.chain(state.links.iter().map(|link| link.name.clone()));
    let listed = look.configs.iter().chain(&look.claims).map(|found| found.name.as_str().to_owned());
    wanted.extend(small.chain(listed).map(|name| (name, (0, None))));

    let mut there = Vec::new();
    for (name, (bytes, hash)) in wanted {
        match inventory.get(&name) {
            // The library itself has deleted it, or is about to.
            None if records.is_dead(&name) => continue,
            None => found.damaged.push(Damage::new(Side::Replica, &name, "it is needed, and is not there")),
            Some(length) if bytes != 0 && length != bytes => {
                let detail = format!("it has {length} bytes instead of {bytes}");
                found.damaged.push(Damage::new(Side::Replica, &name, detail));
            }
            Some(length) => there.push((name, length, hash)),
        }
        found.objects += 1;
    }
    found.bytes = there.iter().map(|(_, bytes, _)| bytes).sum();
    let names: HashSet<&str> = there.iter().map(|(name, ..)| name.as_str()).collect();
    for (name, bytes) in inventory.iter().filter(|(name, _)| !names.contains(name)) {
        let damaged = found.damaged.iter().any(|damage| damage.object == name);
        if !damaged {
            found.unneeded_objects += 1;
            found.unneeded_bytes += bytes;
        }
    }
    found.strange = (inventory.strange.0 > 0).then(|| inventory.strange.clone());
    let chosen = choose(there, depth, world);
    read(store, keys, inventory, chosen, parallel, progress, &mut found).await?;
    found.damaged.sort();
    found.damaged.dedup();
    found.seconds = begun.elapsed().as_secs_f64();
    Ok(found)
}

/// Whether a copy says of itself that it held a state.
async fn had_a_state(store: &DynStore, keys: &Keys) -> Result<bool> {
    match standing::newest(store, keys, Side::Replica).await {
        Ok(held) => Ok(!held.position().segment.is_empty()),
        // It is not believed.
        Err(ReplicaError::Strange { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

type Chosen = Vec<(String, u64, Option<Vec<u8>>)>;

/// What is to be read: what is small always, of the rest as much as is asked for.
fn choose(mut all: Chosen, depth: Depth, world: &World) -> Chosen {
    let share = match depth {
        Depth::Lengths => 0.0,
        Depth::Sample(share) => share,
        Depth::Everything => return all,
    };
    let key = world.roll::<32>();
    // A keyed hash of the name is as good as a die, and needs no list of dice.
    let die = |name: &str| {
        let hash = blake3::keyed_hash(&key, name.as_bytes());
        u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("eight bytes")) as f64 / u64::MAX as f64
    };
    let small = |name: &str| !matches!(Kind::of(name), Some(Kind::Pack | Kind::Shard));
    all.retain(|(name, ..)| small(name) || die(name) < share);
    all
}

async fn read(
    store: &DynStore,
    keys: &Keys,
    inventory: Inventory,
    chosen: Chosen,
    parallel: usize,
    progress: Option<ProgressFn>,
    found: &mut Examined,
) -> Result<()> {
    let carrier = Carrier::new(store.clone(), store.clone(), keys, None);
    carrier.knows(inventory);
    let mut told = Progress {
        objects_total: chosen.len() as u64,
        bytes_total: chosen.iter().map(|(_, bytes, _)| bytes).sum(),
        ..Progress::default()
    };
    let mut under_way: JoinSet<Result<(String, Outcome<u64>)>> = JoinSet::new();
    let mut queue = chosen.into_iter();
    loop {
        while under_way.len() < parallel.max(1) {
            let Some((name, _, hash)) = queue.next() else { break };
            let carrier = carrier.clone();
            under_way.spawn(async move {
                let outcome = carrier.inspect(&name, hash.as_deref()).await?;
                Ok((name, outcome))
            });
        }
        let (name, outcome) = match under_way.join_next().await {
            None => return Ok(()),
            Some(Ok(done)) => done?,
            Some(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Some(Err(_)) => continue,
        };
        match outcome {
            Outcome::Done(bytes) => {
                found.objects_read += 1;
                found.bytes_read += bytes;
                told.bytes += bytes;
            }
            Outcome::Gone => found.damaged.push(Damage::new(Side::Replica, &name, "it is listed, and is not there")),
            Outcome::Damaged(detail) => found.damaged.push(Damage::new(Side::Replica, &name, detail)),
        }
        told.objects += 1;
        if let Some(progress) = &progress {
            progress(told);
        }
    }
}
