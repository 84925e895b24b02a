//! Why the vault can't do what it was asked, or not yet.

use haven_store::StoreError;

/// What must happen before a call can go on. Not a failure: hand it to [`crate::Vault::settle`] and call again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Need {
    /// These bytes of this object are not on this machine yet.
    Fetch { object: String, from: u64, to: u64, length: u64 },
    /// The cache directory is at its limit until this many bytes have been uploaded or evicted.
    Space { bytes: u64 },
    /// The change log has grown as far as it may until more of it is in the bucket.
    Log,
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum VaultError {
    #[error("not on this machine yet: {0:?}")]
    Need(Need),
    /// Fenced, mounted read-only, or stopped after a broken invariant.
    #[error("the library can't be written to: {why}")]
    ReadOnly { why: String },
    /// The bytes are there and wrong, or gone from the bucket.
    #[error("{object} is damaged: {detail}")]
    Damaged { object: String, detail: String },
    /// The local directory can't be written or read.
    #[error("the cache directory fails: {detail}")]
    Local { detail: String, full: bool },
    /// Another machine has gone on without the changes that wait on this one.
    #[error(
        "another machine has written to the library since: {changes} changes made here are not in it and can't be joined on. \
         They are in this cache directory, and some of their bytes perhaps in the bucket alone, for some days. Save them now with \
         `haven salvage`, or mount with another cache directory"
    )]
    Diverged { changes: usize },
    /// The library can't be opened so; the text says what was found and what can be done.
    #[error("{0}")]
    Refused(String),
    /// A copy to mend from does not answer: whether it has what is missing is not known.
    #[error("the copy {copy} can't be asked: {source}")]
    Copy { copy: String, source: StoreError },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Need> for VaultError {
    fn from(need: Need) -> Self {
        Self::Need(need)
    }
}
