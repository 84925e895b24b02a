//! Who may write.
//!
//! A new writer PUTs its claim, *then* lists claims and log. A running writer PUTs a segment, *then* lists claims, and
//! only if none is newer has the segment counted. Either the old writer sees the claim or the new one sees the
//! segment; no clock is involved, and no conditional PUT.

use std::time::Duration;

use haven_format::{Epoch, Keys, Nonce, claim::Claim, layout};
use haven_store::{ObjectName, PutMode, Store, StoreError};

use crate::{Result, VaultError, world::World};

/// How often two machines that claim at the same moment try again.
const TRIES: u32 = 8;

/// This machine's turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    pub epoch: Epoch,
    pub nonce: Nonce,
}

pub(crate) fn object(name: &str) -> ObjectName {
    ObjectName::new(name).expect("layout makes valid names")
}

/// All names below `prefix` and after `after`.
pub(crate) async fn list_all(store: &dyn Store, prefix: &str, after: Option<&str>) -> Result<Vec<String>, StoreError> {
    let mut names = Vec::new();
    let mut after = after.map(str::to_owned);
    loop {
        let page = store.list(prefix, after.as_deref(), 1000).await?;
        names.extend(page.objects.into_iter().map(|object| object.name.as_str().to_owned()));
        if !page.more {
            return Ok(names);
        }
        after = names.last().cloned();
    }
}

async fn claims(store: &dyn Store) -> Result<Vec<(Epoch, Nonce)>, StoreError> {
    Ok(list_all(store, layout::CLAIMS, None).await?.iter().filter_map(|name| layout::parse_claim(name)).collect())
}

/// Claims the library. `segment` is the last log segment known so far.
pub(crate) async fn take(world: &World, keys: &Keys, segment: &str) -> Result<Turn> {
    let mut rival = String::new();
    for attempt in 0..TRIES {
        // Claims may be lost: what is written next must not rank below what it builds on.
        let built_on = layout::parse_segment(segment).map(|(_, epoch, _)| epoch);
        let made = claims(&*world.store).await?;
        let newest = made.iter().map(|(epoch, _)| *epoch).chain(built_on).max().unwrap_or_default();
        let turn = Turn { epoch: newest.next(), nonce: Nonce(world.dice.roll()) };
        let name = layout::claim(turn.epoch, turn.nonce);
        let claim = Claim {
            epoch: turn.epoch.0,
            nonce: turn.nonce.0.to_vec(),
            host: world.host.clone(),
            time: world.clock.now(),
            lsn: layout::parse_segment(segment).map_or(0, |(lsn, ..)| lsn.0),
            segment: segment.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let body = claim.seal(keys, world.dice.roll()).expect("the nonce has its length");
        world.store.put(&object(&name), body.into(), PutMode::IfAbsent).await?;
        let seen = claims(&*world.store).await?;
        let rivals: Vec<_> = seen.iter().filter(|(e, n)| *e >= turn.epoch && *n != turn.nonce).collect();
        match rivals.first() {
            None => return Ok(turn),
            Some((epoch, nonce)) => rival = layout::claim(*epoch, *nonce),
        }
        // Both of two that see each other step back; the dice decide who is first next time.
        let wait = world.dice.below(200 << attempt);
        tokio::time::sleep(Duration::from_millis(wait)).await;
    }
    Err(VaultError::ReadOnly { why: format!("another machine keeps claiming the library ({rival})") })
}

/// The claim that ends our turn, if there is one.
pub(crate) async fn rival(store: &dyn Store, turn: Turn) -> Result<Option<String>, StoreError> {
    let ours = layout::claim(turn.epoch, turn.nonce);
    let after = list_all(store, layout::CLAIMS, Some(&ours)).await?;
    Ok(after.into_iter().rev().find(|name| layout::parse_claim(name).is_some()))
}

/// Reads a claim, for telling people who it was.
pub async fn read(store: &dyn Store, keys: &Keys, name: &str) -> Result<Claim> {
    let body = store.get(&object(name)).await?;
    Claim::open(keys, name, &body)
        .map_err(|error| VaultError::Damaged { object: name.to_owned(), detail: error.to_string() })
}

/// All claims ever made that are still there, oldest first.
pub async fn history(store: &dyn Store, keys: &Keys) -> Result<Vec<Claim>> {
    let mut out = Vec::new();
    for name in list_all(store, layout::CLAIMS, None).await? {
        if layout::parse_claim(&name).is_some() {
            out.push(read(store, keys, &name).await?);
        }
    }
    Ok(out)
}
