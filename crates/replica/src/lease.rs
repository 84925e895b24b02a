//! The replicator's lease in the source: garbage collection there keeps what is being copied.

use haven_format::{Keys, Nonce, layout, lease::Lease};
use haven_store::{Advice, DynStore, PutMode};

use crate::{World, names::object};

/// How long a lease holds, in seconds. A replicator that is killed holds up deletions no longer.
const HOLDS: i64 = 3600;
/// It is renewed when less than this is left, in seconds.
const RENEW: i64 = 1800;

/// One lease at a time, on the root that is being copied.
#[derive(Debug, Default)]
pub(crate) struct Pin {
    held: Option<Held>,
    /// The credentials may not write there: not tried again.
    pub(crate) refused: Option<String>,
}

#[derive(Debug)]
struct Held {
    name: String,
    root: String,
    until: i64,
}

impl Pin {
    /// Makes sure that a lease on `root` holds for a good while. Failing is no reason to stop: the grace time of the
    /// source is longer than most runs.
    pub(crate) async fn hold(&mut self, source: &DynStore, keys: &Keys, world: &World, root: &str) {
        let now = world.now();
        let enough = |held: &Held| held.root == root && held.until - now.seconds > RENEW;
        if self.refused.is_some() || self.held.as_ref().is_some_and(enough) {
            return;
        }
        let until = now.seconds + HOLDS;
        let lease = Lease {
            until: until as u64,
            nonce: world.roll::<{ Nonce::LEN }>().to_vec(),
            host: world.host.clone(),
            purpose: "replication".into(),
            time: now,
            root: root.to_owned(),
        };
        let name = lease.name().expect("the nonce has its length");
        let body = lease.seal(keys, world.roll()).expect("the nonce has its length");
        match source.put(&object(&name), body.into(), PutMode::Always).await {
            Ok(()) => {
                let before = self.held.replace(Held { name, root: root.to_owned(), until });
                remove(source, before).await;
            }
            Err(error) if error.advice() == Advice::Setting => self.refused = Some(error.to_string()),
            Err(error) => tracing::warn!(%error, "no lease could be written"),
        }
    }

    pub(crate) async fn release(&mut self, source: &DynStore) {
        remove(source, self.held.take()).await;
    }
}

async fn remove(source: &DynStore, held: Option<Held>) {
    if let Some(held) = held {
        // What is left behind runs out by itself.
        if let Err(error) = source.delete(&object(&held.name)).await {
            tracing::debug!(%error, lease = held.name, "a lease could not be removed");
        }
    }
}

/// The roots that others' leases in `store` name, and whether all of the leases could be read.
pub(crate) async fn leased(
    store: &DynStore,
    keys: &Keys,
    now: i64,
) -> Result<(Vec<String>, bool), haven_store::StoreError> {
    let mut roots = Vec::new();
    let mut all = true;
    for found in crate::names::list_all(&**store, layout::LEASES, None).await? {
        let name = found.name.as_str();
        let Some((until, _)) = layout::parse_lease(name) else { continue };
        if until as i64 <= now {
            continue;
        }
        match store.get(&found.name).await {
            Ok(body) => match Lease::open(keys, name, &body) {
                Ok(lease) if lease.root.is_empty() => {}
                Ok(lease) => roots.push(lease.root),
                // Nobody without the key can hold up deletions.
                Err(error) => tracing::warn!(%error, lease = name, "a lease does not open"),
            },
            Err(haven_store::StoreError::NotFound { .. }) => {}
            Err(_) => all = false,
        }
    }
    Ok((roots, all))
}
