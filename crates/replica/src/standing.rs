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
        match store.get(&object(name)).await {
            Ok(body) => {
                let standing = Standing::open(keys, name, &body)
                    .map_err(|error| ReplicaError::Strange { object: name.clone(), detail: error.to_string() })?;
                return Ok(HeldStanding { standing: Some(standing), names });
            }
            // Superseded since it was listed.
            Err(StoreError::NotFound { .. }) => {}
            Err(error) => return Err(error).at(side, format!("{name} can't be read")),
        }
    }
    Ok(HeldStanding::default())
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
