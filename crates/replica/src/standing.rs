//! What a copy says of itself: the newest standing in a store, and the one that takes its place.

use haven_format::{Keys, Nonce, layout, standing::Standing};
use haven_store::{Advice, DynStore, PutMode, StoreError};

use crate::{
    Position, ReplicaError, Side, World,
    error::{At, Result},
    names::{list_all, object},
};

/// The newest standing of a store, and the names of all there are.
#[derive(Debug, Clone, Default)]
pub struct HeldStanding {
    pub standing: Option<Standing>,
    names: Vec<String>,
}

/// Reads the newest standing of `store`. A store without any holds the library itself.
///
/// # Errors
/// The store's; [`ReplicaError::Strange`] when the newest standing was not written with these keys or is damaged.
pub async fn newest(store: &DynStore, keys: &Keys, side: Side) -> Result<HeldStanding> {
    let found = list_all(&**store, layout::STANDINGS, None).await.at(side, "the list of standings can't be had")?;
    let mut names: Vec<String> = found.into_iter().map(|found| found.name.as_str().to_owned()).collect();
    names.retain(|name| layout::parse_standing(name).is_some());
    for name in &names {
        // One that is not there was superseded since it was listed.
        if let Some(standing) = read(store, keys, side, name).await? {
            return Ok(HeldStanding { standing: Some(standing), names });
        }
    }
    Ok(HeldStanding::default())
}

async fn read(store: &DynStore, keys: &Keys, side: Side, name: &str) -> Result<Option<Standing>> {
    let body = match store.get(&object(name)).await {
        Ok(body) => body,
        Err(StoreError::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error).at(side, format!("{name} can't be read")),
    };
    let strange =
        |error: haven_format::FormatError| ReplicaError::Strange { object: name.to_owned(), detail: error.to_string() };
    Standing::open(keys, name, &body).map(Some).map_err(strange)
}

impl HeldStanding {
    /// Where the replica stood when this was written.
    pub fn position(&self) -> Position {
        self.standing.as_ref().map_or(Position::default(), |standing| Position {
            segment: standing.segment.clone(),
            tx: standing.tx,
            sealed_at: 0,
        })
    }

    /// Who has written since this was read or written; with nothing in it where what is held is gone. `None`: nobody, or
    /// somebody who has taken it back.
    pub(crate) async fn displaced(&self, store: &DynStore, keys: &Keys, side: Side) -> Result<Option<Self>> {
        let found = list_all(&**store, layout::STANDINGS, None).await.at(side, "the list of standings can't be had")?;
        let number = |name: &str| layout::parse_standing(name).map(|(seq, _)| seq);
        let own = self.names.first().map(String::as_str);
        let held = own.is_none_or(|own| found.iter().any(|other| other.name.as_str() == own));
        let newer = |name: &&str| Some(*name) != own && number(name) >= own.and_then(number).max(Some(0));
        let others: Vec<&str> = found.iter().map(|found| found.name.as_str()).filter(newer).collect();
        if others.is_empty() {
            return if held { Ok(None) } else { newest(store, keys, side).await.map(Some) };
        }
        for other in others {
            // Or it is gone again since it was listed.
            let Some(standing) = read(store, keys, side, other).await? else { continue };
            let mut names = vec![other.to_owned()];
            let rest = found.iter().map(|found| found.name.as_str());
            let rest = rest.filter(|name| *name != other && layout::parse_standing(name).is_some());
            names.extend(rest.map(str::to_owned));
            return Ok(Some(Self { standing: Some(standing), names }));
        }
        // What is held may be the newest as before.
        let newest = newest(store, keys, side).await?;
        Ok(Some(newest).filter(|newest| newest.standing != self.standing))
    }

    /// Takes back what was written last.
    pub(crate) async fn withdraw(&self, store: &DynStore) {
        if let Some(own) = self.names.first()
            && let Err(error) = store.delete(&object(own)).await
        {
            tracing::warn!(%error, name = own, "what was written beside another's word can't be taken back");
        }
    }

    /// Puts `next` in the place of what is held, under the next number; the older ones are removed where that is
    /// allowed. Returns whether it was.
    pub async fn supersede(
        &mut self,
        store: &DynStore,
        side: Side,
        keys: &Keys,
        world: &World,
        next: Standing,
    ) -> Result<bool> {
        let highest = self.names.iter().filter_map(|name| layout::parse_standing(name)).map(|(seq, _)| seq).max();
        let next = Standing {
            seq: highest.unwrap_or(0) + 1,
            nonce: world.roll::<{ Nonce::LEN }>().to_vec(),
            time: world.now(),
            ..next
        };
        let name = next.name().expect("the nonce has its length");
        let body = next.seal(keys, world.roll()).expect("the nonce has its length");
        let put = store.put(&object(&name), body.into(), PutMode::Always).await;
        put.at(side, "what this copy is can't be written")?;
        let mut allowed = true;
        let mut left = vec![name];
        for old in std::mem::take(&mut self.names) {
            if allowed {
                match store.delete(&object(&old)).await {
                    Ok(()) => continue,
                    Err(error) => allowed = error.advice() != Advice::Setting,
                }
            }
            left.push(old);
        }
        self.names = left;
        self.standing = Some(next);
        Ok(allowed)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use haven_format::{LibraryId, MasterKey, record::Time, standing::Role};
    use haven_store::memory::Memory;
    use haven_testkit::{
        faults::{Fault, Faults, Order},
        seed::in_virtual_time,
    };

    use super::*;

    #[test]
    fn a_word_beside_ours_that_was_taken_back_since_it_was_listed_displaces_nobody() {
        in_virtual_time(async {
            let keys = Keys::new(LibraryId([1; 16]), &MasterKey([2; 32]));
            let world = World {
                clock: Arc::new(|| Time { seconds: 1, nanos: 0 }),
                dice: Arc::new(|out: &mut [u8]| out.fill(5)),
                host: "promoter".into(),
            };
            // Listed before ours, and after it.
            for nonce in [Nonce([4; 8]), Nonce([6; 8])] {
                let memory = Arc::new(Memory::new());
                let (faults, handle) = Faults::new(memory.clone(), 1);
                let store: DynStore = Arc::new(faults);
                let mut held = HeldStanding::default();
                let next = Standing { role: Role::Library.into(), ..Standing::default() };
                held.supersede(&store, Side::Replica, &keys, &world, next).await.unwrap();
                let beside = layout::standing(1, nonce);
                memory.plant(&beside, b"taken back".to_vec());
                handle.order(Order::next(Fault::Vanished).on(&beside).times(u64::MAX));
                let other = held.displaced(&store, &keys, Side::Replica).await.unwrap();
                assert!(other.is_none(), "{other:?}");
                // One that can be read does.
                handle.calm();
                assert!(held.displaced(&store, &keys, Side::Replica).await.is_err());
            }
        });
    }
}
