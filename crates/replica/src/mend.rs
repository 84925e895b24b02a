//! Mending a replica at once: what is damaged or missing there is put back from whoever has it.

use std::collections::BTreeSet;

use haven_format::Keys;
use haven_store::DynStore;

use crate::{
    Damage,
    carry::{Carrier, Outcome},
    error::Result,
    inventory::Inventory,
};

/// Puts back the objects of `damaged` in `replica`, each from the first of `copies` (name for people, store) that has a
/// good one: it is verified by content before it goes and proved after. Returns what was put back, and from where; an
/// object that nobody has is not among it, and stays as it is.
///
/// # Errors
/// The stores', and an object that the replica's store does not keep. What was put back until then stays.
pub async fn mend(
    replica: &DynStore,
    copies: &[(String, DynStore)],
    keys: &Keys,
    damaged: &[Damage],
) -> Result<Vec<(String, String)>> {
    let mut wanted: BTreeSet<&str> = damaged.iter().map(|damage| damage.object.as_str()).collect();
    let mut mended = Vec::new();
    for (copy, store) in copies {
        // By way of this process, which sees every byte.
        let carrier = Carrier::new(store.clone(), replica.clone(), keys, None);
        carrier.knows(Inventory::default());
        for name in std::mem::take(&mut wanted) {
            // Names that are none of an object's (a whole kind that is missing) are nobody's to fetch.
            let carried = match name.ends_with('/') {
                true => Outcome::Gone,
                false => carrier.carry_read(name, 0, None).await?,
            };
            match carried {
                Outcome::Done(()) => mended.push((name.to_owned(), copy.clone())),
                Outcome::Gone | Outcome::Damaged(_) => _ = wanted.insert(name),
            }
        }
    }
    Ok(mended)
}
