//! A replica takes the library's place.
//!
//! The old library, if it can be reached, is claimed first, so that whoever writes there is fenced out; then the
//! replica, with an epoch above every one that either has seen; then both say what they are from now on. Where loss is
//! accepted, nothing that the old place does or does not let us do is in the way: it is told.

use haven_format::{
    Epoch, Keys, Lsn, Nonce,
    claim::Claim,
    layout,
    standing::{Role, Standing},
};
use haven_store::{DynStore, PutMode};
use serde::Serialize;

use crate::{
    HeldStanding, Oddity, Position, ReplicaError, Side, World,
    error::{At, Result},
    look::Look,
    names::{list_all, object},
    standing,
    state::Reader,
};

/// How often what a replicator writes at the same moment is written over.
const TRIES: usize = 8;

/// What happens to whom.
#[derive(Debug, Clone)]
pub struct PromoteOptions {
    /// The replica's URL, without secrets: where the old library is to say that it is now.
    pub url: String,
    /// Go on although the old library has changes that the replica lacks, or can't be asked.
    pub accept_loss: bool,
    /// The version of Haven, for people.
    pub version: String,
}

/// What was done.
#[derive(Debug, Clone, Serialize)]
pub struct Promoted {
    /// The claim's epoch.
    pub epoch: u64,
    pub position: Position,
    /// Where the old library's history ends; `None`: it could not be asked.
    pub old: Option<Position>,
    /// Why it could not be asked, or not be fenced out.
    pub old_trouble: Option<String>,
    /// Changes of the old library that are not in the new one.
    pub lost_changes: u64,
    /// Whether the old library was told, and its writer fenced out.
    pub fenced: bool,
}

/// One side, read.
struct Seen {
    position: Position,
    epoch: Epoch,
}

/// Makes the replica in `replica` the library in the place of `old`: its store, or why that can't be opened.
///
/// # Errors
/// [`ReplicaError::WouldLose`] and [`ReplicaError::Unasked`] unless loss is accepted. Nothing was changed then, but
/// that the old library may have been claimed: its writer has to mount it again.
pub async fn promote(
    replica: &DynStore,
    old: Result<&DynStore, String>,
    keys: &Keys,
    world: &World,
    options: &PromoteOptions,
) -> Result<Promoted> {
    let mut held = standing::newest(replica, keys, Side::Replica).await?;
    let standing = held.standing.clone().unwrap_or_default();
    if held.standing.is_none() || standing.role() != Role::Replica {
        return Err(ReplicaError::NotAReplica { role: standing.role(), of: standing.of });
    }
    let own = see(replica, Side::Replica, keys).await?;
    let seen = match old {
        Ok(old) => see(old, Side::Source, keys).await.map(|seen| (old, seen)).map_err(|error| error.to_string()),
        Err(why) => Err(why),
    };
    let mut lost = 0;
    let mut old_position = None;
    let mut old_trouble = None;
    let mut epoch = own.epoch;
    match &seen {
        Ok((old, theirs)) => {
            lost = refuse_loss(&own.position, &theirs.position, options)?;
            epoch = epoch.max(theirs.epoch).next();
            old_position = Some(theirs.position.clone());
            // Whoever writes there sees this before it acknowledges anything more.
            match fence(old, keys, world, epoch, &theirs.position, options).await {
                Ok(after) => {
                    lost = lost.max(refuse_loss(&own.position, &after, options)?);
                    old_position = Some(after);
                }
                Err(error @ ReplicaError::Contended { .. }) => return Err(error),
                Err(error) => old_trouble = Some(error.to_string()),
            }
        }
        Err(why) => old_trouble = Some(why.clone()),
    }
    if let Some(why) = old_trouble.as_ref().filter(|_| !options.accept_loss) {
        return Err(ReplicaError::Unasked { ours: own.position, why: why.clone() });
    }
    let epoch = epoch.next();
    claim(replica, Side::Replica, keys, world, epoch, &own.position, options).await?;
    let next = Standing { role: Role::Library.into(), brake: String::new(), ..standing.clone() };
    held.supersede(replica, Side::Replica, keys, world, next.clone()).await?;
    outlast(&mut held, replica, keys, world, next).await?;
    if let Ok((old, _)) = &seen
        && let Err(error) = supersede_old(old, keys, world, options).await
    {
        old_trouble.get_or_insert(error.to_string());
    }
    let fenced = seen.is_ok() && old_trouble.is_none();
    Ok(Promoted { epoch: epoch.0, position: own.position, old: old_position, old_trouble, lost_changes: lost, fenced })
}

/// A replicator that is under way may note where it stands at the same moment: what is said here has the last word.
async fn outlast(
    held: &mut HeldStanding,
    replica: &DynStore,
    keys: &Keys,
    world: &World,
    next: Standing,
) -> Result<()> {
    for _ in 0..TRIES {
        let Some(other) = held.displaced(replica, keys, Side::Replica).await? else { return Ok(()) };
        if other.standing.as_ref().is_some_and(|standing| standing.role() != Role::Replica) {
            break;
        }
        *held = other;
        held.supersede(replica, Side::Replica, keys, world, next.clone()).await?;
    }
    Err(ReplicaError::Contended { side: Side::Replica, object: layout::STANDINGS.to_owned() })
}

/// Claims the old library; where it ends after that.
async fn fence(
    old: &DynStore,
    keys: &Keys,
    world: &World,
    epoch: Epoch,
    on: &Position,
    options: &PromoteOptions,
) -> Result<Position> {
    claim(old, Side::Source, keys, world, epoch, on, options).await?;
    Ok(see(old, Side::Source, keys).await?.position)
}

async fn supersede_old(old: &DynStore, keys: &Keys, world: &World, options: &PromoteOptions) -> Result<()> {
    let mut held = standing::newest(old, keys, Side::Source).await?;
    let before = held.standing.clone().unwrap_or_default();
    let next = Standing { role: Role::Superseded.into(), of: options.url.clone(), ..before };
    held.supersede(old, Side::Source, keys, world, next).await.map(drop)
}

/// How many changes the old library has and the replica lacks.
fn refuse_loss(ours: &Position, theirs: &Position, options: &PromoteOptions) -> Result<u64> {
    let lost = if ours.segment == theirs.segment { 0 } else { theirs.tx.saturating_sub(ours.tx) };
    if lost == 0 || options.accept_loss {
        return Ok(lost);
    }
    let seconds = crate::sync::lag(theirs, ours);
    Err(ReplicaError::WouldLose { changes: lost, seconds, ours: ours.clone(), theirs: theirs.clone() })
}

async fn see(store: &DynStore, side: Side, keys: &Keys) -> Result<Seen> {
    let look = Look::at(&**store, side, Lsn(0)).await?;
    let mut reader = Reader::new(store.clone(), side, keys);
    let state = reader.newest(&look, Lsn(0)).await?;
    if state.is_empty() {
        let damaged = state.damaged;
        let oddity = if damaged.is_empty() { Oddity::Empty } else { Oddity::Garbage { damaged } };
        return Err(oddity.into());
    }
    let names = |found: &haven_store::ObjectMeta| found.name.as_str().to_owned();
    let claimed = look.claims.iter().map(names).filter_map(|name| layout::parse_claim(&name)).map(|(epoch, _)| epoch);
    let written =
        look.segments.iter().map(names).filter_map(|name| layout::parse_segment(&name)).map(|(_, epoch, _)| epoch);
    let rooted = look.roots.iter().map(names).filter_map(|name| layout::parse_root(&name)).map(|(_, epoch, _)| epoch);
    let epoch = claimed.chain(written).chain(rooted).max().unwrap_or_default();
    Ok(Seen { position: state.position(), epoch })
}

/// Claims a store, and makes sure that nobody did at the same moment.
async fn claim(
    store: &DynStore,
    side: Side,
    keys: &Keys,
    world: &World,
    epoch: Epoch,
    on: &Position,
    options: &PromoteOptions,
) -> Result<()> {
    let nonce = Nonce(world.roll());
    let name = layout::claim(epoch, nonce);
    let claim = Claim {
        epoch: epoch.0,
        nonce: nonce.0.to_vec(),
        host: world.host.clone(),
        time: world.now(),
        lsn: on.lsn().0,
        segment: on.segment.clone(),
        version: options.version.clone(),
    };
    let body = claim.seal(keys, world.roll()).expect("the nonce has its length");
    let put = store.put(&object(&name), body.into(), PutMode::IfAbsent).await;
    put.at(side, "the claim can't be written")?;
    let claims = list_all(&**store, layout::CLAIMS, None).await.at(side, "the list of claims can't be had")?;
    let rival = claims
        .iter()
        .find(|found| layout::parse_claim(found.name.as_str()).is_some_and(|(other, n)| other >= epoch && n != nonce));
    match rival {
        Some(rival) => Err(ReplicaError::Contended { side, object: rival.name.to_string() }),
        None => Ok(()),
    }
}
