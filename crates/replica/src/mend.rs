//! Mending a replica at once: what is damaged or missing there is put back from whoever has it.

use std::collections::BTreeSet;

use haven_format::Keys;
use haven_store::DynStore;

use crate::{
    Damage, ReplicaError, Side,
    carry::{Carrier, Outcome},
    error::Result,
    inventory::Inventory,
};

/// What was put back, and who could not help.
#[derive(Debug, Clone, Default)]
pub struct Mended {
    /// Objects that are right again, each with the copy that it came from.
    pub objects: Vec<(String, String)>,
    /// Copies that could not be read, and why.
    pub unread: Vec<(String, String)>,
}

/// Puts back the objects of `damaged` in `replica`, each from the first of `copies` (name for people, store) that has a
/// good one: it is verified by content before it goes and proved after. An object that nobody
/// has stays as it is. A copy that can't be read is passed over.
///
/// # Errors
/// The replica's store's, and an object that it does not keep. What was put back until then stays.
pub async fn mend(
    replica: &DynStore,
    copies: &[(String, DynStore)],
    keys: &Keys,
    damaged: &[Damage],
) -> Result<Mended> {
    let mut wanted: BTreeSet<&str> = damaged.iter().map(|damage| damage.object.as_str()).collect();
    let mut mended = Mended::default();
    for (copy, store) in copies {
        // By way of this process, which sees every byte.
        let carrier = Carrier::new(store.clone(), replica.clone(), keys, None);
        carrier.knows(Inventory::default());
        let mut wanting = std::mem::take(&mut wanted).into_iter();
        for name in wanting.by_ref() {
            // Names that are none of an object's (a whole kind that is missing) are nobody's to fetch.
            let carried = match name.ends_with('/') {
                true => Outcome::Gone,
                false => match carrier.carry_read(name, 0, None).await {
                    Err(error @ ReplicaError::Store { side: Side::Source, .. }) => {
                        mended.unread.push((copy.clone(), error.to_string()));
                        wanted.insert(name);
                        break;
                    }
                    carried => carried?,
                },
            };
            match carried {
                Outcome::Done(()) => mended.objects.push((name.to_owned(), copy.clone())),
                Outcome::Gone | Outcome::Damaged(_) => _ = wanted.insert(name),
            }
        }
        wanted.extend(wanting);
    }
    Ok(mended)
}
