//! What is wrong with a replica or its source, in words.

use haven_format::standing::Role;
use haven_replica::{Oddity, ReplicaError};

use crate::{
    library::store_trouble,
    report::{Code, Trouble, UNTOUCHED},
    words,
};

/// `name` is what the replica is called; empty where it has no name.
pub fn replica_trouble(name: &str, error: &ReplicaError) -> Trouble {
    let called = if name.is_empty() { "NAME" } else { name };
    match error {
        ReplicaError::Store { side, what, source } => store_trouble(format!("{what}, in the {side}"), source)
            .meaning("what was copied is right and stays; the next run goes on from there"),
        ReplicaError::Odd(oddity) => odd(called, oddity),
        ReplicaError::Newer { .. } => Trouble::new(Code::Newer, "a newer version of Haven wrote this library")
            .caused_by(error)
            .meaning(UNTOUCHED)
            .next("install the newer Haven here too"),
        ReplicaError::NotAReplica { role, of } => not_a_replica(*role, of),
        ReplicaError::Displaced { role, of } => not_a_replica(*role, of)
            .because("it was a replica when this began, and somebody has changed that since")
            .meaning("nothing more is written there"),
        ReplicaError::Strange { .. } => {
            Trouble::new(Code::Occupied, "what is there can't be told to be a replica of this library")
                .caused_by(error)
                .meaning(UNTOUCHED)
                .next("if it is another library's, choose another place; if that object is damaged, put it back, or choose another place")
        }
        ReplicaError::Occupied { example } => {
            Trouble::new(Code::Occupied, "the place is not empty, and what is there is not a replica")
                .because(format!("it holds {example}"))
                .meaning("nothing was changed; a replica shares its place with nobody")
                .next("choose an empty directory or bucket, or a prefix of its own: s3://bucket/haven")
        }
        ReplicaError::WouldLose { changes, seconds, .. } => Trouble::new(
            Code::Held,
            format!("the old library has {} that the replica lacks", words::count(*changes as usize, "change")),
        )
        .caused_by(error)
        .because(if *seconds > 0.0 { format!("they were made in {seconds:.0} s") } else { String::new() })
        .meaning("the replica is not the library yet. If the old library was claimed already, its mount is read-only now")
        .next(format!("haven replica sync {called}    brings them, if the old library can still be read; then promote again"))
        .next("--accept-loss    goes on without them: they stay in the old library, and nowhere else"),
        ReplicaError::Unasked { .. } => {
            Trouble::new(Code::Held, "whether the old library has newer changes than the replica can't be told")
                .caused_by(error)
                .meaning(UNTOUCHED)
                .next("make sure that no machine writes to the old library any more: it can't be fenced out")
                .next("--accept-loss    goes on from what the replica has")
        }
        ReplicaError::Contended { .. } => Trouble::new(Code::Fenced, error.to_string())
            .meaning("the replica is not the library yet")
            .next("see who writes (haven claims), stop it, and try again"),
        ReplicaError::NotKept { .. } => Trouble::new(Code::Store, "the store does not keep what it is given")
            .caused_by(error)
            .meaning("a replica is not safe there; what was copied before was verified")
            .next("haven doctor"),
    }
}

fn odd(name: &str, oddity: &Oddity) -> Trouble {
    let trouble = Trouble::new(Code::Held, "nothing is taken from the source: it is not what it was")
        .because(oddity.to_string())
        .meaning("the replica was not touched: it is whole, and may be the only copy that is");
    match oddity {
        Oddity::Superseded { by } => Trouble::new(Code::Held, "the source is the library no more")
            .because(oddity.to_string())
            .meaning("the replica was not touched")
            .next(format!("let it follow the new one: library.url = \"{by}\" in haven.toml")),
        Oddity::Incomplete { .. } => Trouble::new(Code::Held, "the source is not complete yet")
            .because(oddity.to_string())
            .meaning("the replica was not touched")
            .next("haven restore    with the same places goes on with it"),
        Oddity::OtherLibrary { .. } => {
            trouble.next("correct the URL of the library or of the replica; a replica is of one library for ever")
        }
        Oddity::RolledBack { .. } | Oddity::OtherHistory { .. } => trouble
            .next("find out who changed the store: a backup that was played back over it looks like this, too")
            .next(format!("haven replica promote {name} --accept-loss    goes on from the replica"))
            .next("if the source is right: make another replica of it, in another place, before you give this one up"),
        Oddity::Empty | Oddity::NoConfig { .. } | Oddity::Garbage { .. } => trouble
            .next("check the URL; find out who has access to the store, and change the keys")
            .next(format!("haven restore --from {name} --to URL    makes a new library of the replica, in a new place"))
            .next(format!("haven replica promote {name} --accept-loss    goes on from the replica itself")),
    }
}

fn not_a_replica(role: Role, of: &str) -> Trouble {
    let trouble = |what: &str| Trouble::new(Code::Occupied, what).meaning(UNTOUCHED);
    match role {
        Role::Library => trouble("there is a library there, and not a replica")
            .next("if it was promoted, it is the library now: set library.url to it, and make new replicas of it"),
        Role::Restoring => trouble("a library is being restored there")
            .because(format!("it comes from {of}"))
            .next(format!("haven restore --from {of} --to URL    goes on with it")),
        Role::Superseded => trouble("what is there was a library, and has given way to another copy")
            .because(format!("that is {of}"))
            .next("choose another place"),
        Role::Replica => trouble("what is there is a replica of something else").because(format!("of {of}")),
    }
}
