//! Why a replica is not made or not brought up to date.

use std::fmt;

use haven_format::{FormatError, LibraryId, standing::Role};
use haven_store::StoreError;
use serde::Serialize;

use crate::look::Position;

/// Which of the two stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    Source,
    Replica,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "source",
            Self::Replica => "replica",
        })
    }
}

/// An object that is not there or not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Damage {
    pub side: Side,
    /// The object's name.
    pub object: String,
    pub detail: String,
}

impl Damage {
    pub(crate) fn new(side: Side, object: &str, detail: impl ToString) -> Self {
        Self { side, object: object.to_owned(), detail: detail.to_string() }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.object, self.side, self.detail)
    }
}

/// What is strange about the source, so that nothing is taken from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Oddity {
    /// Nothing at all is there.
    Empty,
    /// Something is there, and no configuration.
    NoConfig {
        example: String,
    },
    OtherLibrary {
        found: LibraryId,
    },
    /// Nothing of what should say what the library holds can be read.
    Garbage {
        damaged: Vec<Damage>,
    },
    /// Its newest state is older than the replica's.
    RolledBack {
        theirs: Position,
        ours: Position,
    },
    /// Its history has left the replica's before the replica's end.
    OtherHistory {
        theirs: Position,
        ours: Position,
    },
    /// Another copy has taken its place.
    Superseded {
        by: String,
    },
    /// It is itself still being fetched from elsewhere.
    Incomplete {
        of: String,
    },
}

impl fmt::Display for Oddity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("it is empty: it was wiped, or this is not the place"),
            Self::NoConfig { example } => {
                write!(
                    f,
                    "it has no configuration: it was wiped, or this is not the place (there is {example}, for one)"
                )
            }
            Self::OtherLibrary { found } => write!(f, "another library is there ({found})"),
            Self::Garbage { damaged } => {
                f.write_str(
                    "what should be the library does not open: it is damaged, or was replaced by something else",
                )?;
                damaged.iter().take(3).try_for_each(|one| write!(f, "; {one}"))
            }
            Self::RolledBack { theirs, ours } => {
                write!(f, "it has gone back to an older state: it ends with {theirs}, and this replica has {ours}")
            }
            Self::OtherHistory { theirs, ours } => {
                write!(
                    f,
                    "it has another history than this replica: it ends with {theirs}, which does not build on {ours}"
                )
            }
            Self::Superseded { by } => write!(f, "it is the library no more: {by} has taken its place"),
            Self::Incomplete { of } => write!(f, "it is not complete: it is still being restored from {of}"),
        }
    }
}

/// Why a run ended before its end.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReplicaError {
    #[error("{what}, in the {side}: {source}")]
    Store { side: Side, what: String, source: StoreError },
    /// The replica was not touched.
    #[error("nothing is taken from the source: {0}")]
    Odd(Box<Oddity>),
    #[error("{object} in the {side} was written by a newer version: {source}")]
    Newer { side: Side, object: String, source: FormatError },
    #[error("what is there is not a replica: it is {}", describe(*role))]
    NotAReplica { role: Role, of: String },
    /// It was one when this began.
    #[error("what is there is a replica no more: it is {}", describe(*role))]
    Displaced { role: Role, of: String },
    #[error("what is there is not a replica of this library: {object} does not open ({detail})")]
    Strange { object: String, detail: String },
    #[error("the place of the replica is not empty, and what is there is not a replica: it holds {example}")]
    Occupied { example: String },
    /// The old library has changes that the replica lacks.
    #[error(
        "the old library has {changes} changes that the replica lacks: it ends with {theirs}, the replica with {ours}"
    )]
    WouldLose { changes: u64, seconds: f64, ours: Position, theirs: Position },
    /// Whether the old library has changes that the replica lacks can't be told.
    #[error("the old library can't be asked ({why}); the replica ends with {ours}")]
    Unasked { ours: Position, why: String },
    #[error("another machine claims the {side} at the same moment ({object})")]
    Contended { side: Side, object: String },
    /// The store did not keep what was put.
    #[error("{object} was sent and is not what was sent: {detail}")]
    NotKept { object: String, detail: String },
}

fn describe(role: Role) -> &'static str {
    match role {
        Role::Library => "a library in its own right",
        Role::Replica => "a replica",
        Role::Restoring => "a library that is still being restored",
        Role::Superseded => "what was a library, and has given way to another copy",
    }
}

pub(crate) type Result<T, E = ReplicaError> = std::result::Result<T, E>;

/// Says of a failed verb where and what for.
pub(crate) trait At<T> {
    fn at(self, side: Side, what: impl Into<String>) -> Result<T>;
}

impl<T> At<T> for Result<T, StoreError> {
    fn at(self, side: Side, what: impl Into<String>) -> Result<T> {
        self.map_err(|source| ReplicaError::Store { side, what: what.into(), source })
    }
}

impl From<Oddity> for ReplicaError {
    fn from(oddity: Oddity) -> Self {
        Self::Odd(Box::new(oddity))
    }
}
