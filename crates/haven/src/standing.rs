//! What a store holds: the library, a replica of it, one that is still being restored, or one that has been replaced.
//! Asked once, before anything is opened for writing.

use haven_format::{
    Keys,
    standing::{Role, Standing},
};
use haven_replica::Side;
use haven_store::{DynStore, Stack};

use crate::{
    config::Config,
    library,
    report::{self, Code, Trouble, UNTOUCHED},
};

/// The store to open a library in.
pub struct Opened {
    pub store: DynStore,
    /// It is still being restored.
    pub restoring: Option<Restoring>,
}

/// Where a library that is still being restored comes from.
#[derive(Debug, Clone)]
pub struct Restoring {
    /// The URL, without secrets.
    pub of: String,
    /// What is not here yet is read from there.
    pub behind: DynStore,
}

/// The store to open the library in.
pub async fn store_for(stack: &Stack, keys: &Keys, config: &Config, write: bool) -> Result<DynStore, Trouble> {
    Ok(opened(stack, held(stack, keys).await?.as_ref(), config, write)?.store)
}

/// What the store says it holds; without a word it is the library.
pub async fn held(stack: &Stack, keys: &Keys) -> Result<Option<Standing>, Trouble> {
    match haven_replica::newest_standing(&stack.store, keys, Side::Source).await {
        Ok(held) => Ok(held.standing),
        Err(error) => Err(Trouble::new(Code::Store, "what this store holds can't be found out")
            .caused_by(&error)
            .meaning(UNTOUCHED)
            .next("try again; haven doctor tells what the store can do")),
    }
}

/// Whether it is a copy, or has given way to one: nobody writes to it as to the library.
pub fn is_copy(held: Option<&Standing>) -> bool {
    held.is_some_and(|standing| matches!(standing.role(), Role::Replica | Role::Superseded))
}

/// The store to open what is `held` in. Refused where writing would be wrong; for a library that is being restored, what
/// has not arrived yet is read from where it comes from.
pub fn opened(stack: &Stack, held: Option<&Standing>, config: &Config, write: bool) -> Result<Opened, Trouble> {
    let alone = Opened { store: stack.store.clone(), restoring: None };
    let Some(standing) = held else { return Ok(alone) };
    match standing.role() {
        Role::Library => Ok(alone),
        Role::Restoring => {
            let of = standing.of.clone();
            let behind = library::open_store(&of, &config.store_of(&of))?.store;
            report::note(format!("still being restored from {of}: what is not here yet is read from there"));
            let store = haven_replica::behind(stack.store.clone(), behind.clone());
            Ok(Opened { store, restoring: Some(Restoring { of, behind }) })
        }
        role if write => Err(refused(role, standing)),
        _ => Ok(alone),
    }
}

/// Whether it is still being restored.
pub fn is_restoring(held: Option<&Standing>) -> bool {
    held.is_some_and(|standing| standing.role() == Role::Restoring)
}

fn refused(role: Role, standing: &Standing) -> Trouble {
    if role == Role::Superseded {
        return Trouble::new(Code::Fenced, format!("another copy has taken this library's place: {}", standing.of))
            .meaning("nothing was changed; what is here can be read, and is not the newest")
            .next(format!("haven mount {} MOUNTPOINT    is the library now", standing.of))
            .next("--read-only    looks at what is here");
    }
    Trouble::new(Code::Fenced, format!("this is the replica \"{}\" of {}", standing.called, standing.of))
        .because("a replica is written by its replicator alone")
        .meaning(UNTOUCHED)
        .next("--read-only    looks at it")
        .next(format!("haven replica promote {}    makes it the library", standing.called))
}
