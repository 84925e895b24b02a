//! The few verbs a store must know, over named objects.
//!
//! Every object Haven writes is write-once under a unique name; nothing is ever changed in place.
//! A store therefore needs no more than: put, get (whole or a range), head, list in name order, delete, copy.
//!
//! Promises every adapter and decorator keeps (the `suite` checks them):
//! - after `put` returns, the object is durable and every later `get`, `head` and `list` sees it whole;
//! - a `put` that fails may or may not have taken effect, but never leaves a partial object visible;
//! - `list` returns names in ascending byte order;
//! - deleting what is absent is success.

use std::{any::Any, fmt, ops::Range, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;

/// The name of an object below the library's prefix, such as `p/3f/3fa9…`.
///
/// ASCII letters, digits, `-`, `_`, `.` and `/` only; no leading `/`, no empty or dot segments. At most 200 bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName(String);

impl ObjectName {
    /// Checks `name` against the rules above.
    pub fn new(name: impl Into<String>) -> Result<Self, InvalidName> {
        let name = name.into();
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/');
        let segments = name.split('/').all(|s| !s.is_empty() && s != "." && s != "..");
        if name.len() <= 200 && segments && name.bytes().all(plain) { Ok(Self(name)) } else { Err(InvalidName(name)) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A string that can't name an object.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0:?} is not a valid object name")]
pub struct InvalidName(pub String);

/// Under which condition a `put` may take effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutMode {
    /// Whatever is there is replaced. (Names are unique, so normally nothing is.)
    Always,
    /// Only if no object of that name exists; else [`StoreError::Exists`].
    /// Some stores answer success and overwrite all the same: `probe` tells which.
    IfAbsent,
    /// Only if the object's ETag is still this one; else [`StoreError::Changed`]. Used by `probe` alone.
    IfMatch(String),
}

/// What a store tells of an object without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectMeta {
    pub name: ObjectName,
    /// Length of the content in bytes.
    pub bytes: u64,
    /// The store's entity tag, if it has one; opaque.
    pub etag: Option<String>,
    /// Seconds since the Unix epoch by the *store's* clock, if it tells.
    pub modified: Option<i64>,
}

/// One page of a listing, in ascending order of names.
#[derive(Debug, Clone, Default)]
pub struct ListPage {
    pub objects: Vec<ObjectMeta>,
    /// Whether more may follow; continue with `after` = the last name of this page.
    pub more: bool,
}

/// Where a store's objects are, for another store that could fetch them from there itself.
/// What is in it is the adapter's own affair.
#[derive(Clone)]
pub struct Location {
    shown: String,
    place: Arc<dyn Any + Send + Sync>,
}

impl Location {
    /// `shown` describes it without secrets.
    pub fn new(shown: impl Into<String>, place: impl Any + Send + Sync) -> Self {
        Self { shown: shown.into(), place: Arc::new(place) }
    }

    /// What an adapter of that kind has put into it.
    pub fn as_kind<T: Any>(&self) -> Option<&T> {
        self.place.downcast_ref()
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// The verbs. All futures are cancel-safe in the sense that a dropped `put` either took effect or did not.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug {
    /// A short text for people, with location and without secrets: `s3://bucket/prefix at http://host`.
    fn describe(&self) -> String;

    async fn put(&self, name: &ObjectName, body: Bytes, mode: PutMode) -> Result<(), StoreError>;

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError>;

    /// The bytes `range` of the object (absolute offsets, end exclusive).
    /// A range that reaches past the end returns what there is; one that starts at or past the end returns no bytes.
    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, StoreError>;

    async fn head(&self, name: &ObjectName) -> Result<ObjectMeta, StoreError>;

    /// Objects whose name starts with `prefix` (a plain string prefix) and is greater than `after`, at most `limit`.
    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<ListPage, StoreError>;

    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError>;

    /// Copies within the store, on its side where it can.
    async fn copy(&self, from: &ObjectName, to: &ObjectName) -> Result<(), StoreError>;

    /// Where the objects are, if another store may be able to fetch them from there.
    fn locate(&self) -> Option<Location> {
        None
    }

    /// Whether [`Store::copy_from`] works for what is at `source`.
    fn copies_from(&self, _source: &Location) -> bool {
        false
    }

    /// Copies an object of the store at `source` to here, under the same name and without its bytes
    /// passing through this process. `Unsupported` unless [`Store::copies_from`] says otherwise.
    async fn copy_from(&self, source: &Location, name: &ObjectName) -> Result<(), StoreError> {
        let detail =
            format!("{name} can't be copied from {source:?} to {} without passing through here", self.describe());
        Err(StoreError::Unsupported { detail })
    }
}

/// How most of the house holds a store.
pub type DynStore = Arc<dyn Store>;

/// Why a verb failed. `advice` is the one question callers ask.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    #[error("{name} is not in the store")]
    NotFound { name: String },
    #[error("{name} is already in the store")]
    Exists { name: String },
    #[error("{name} has changed in the store")]
    Changed { name: String },
    #[error("the bucket or directory {location} does not exist")]
    NoBucket { location: String },
    #[error("the store refuses access ({detail})")]
    Denied { detail: String },
    /// Signature, clock or credentials are not accepted.
    #[error("the store does not accept the credentials ({detail})")]
    Unauthorized { detail: String },
    /// The server is not known to be the right one; nothing was said to it.
    #[error("the server can't be trusted: {detail}")]
    Untrusted { detail: String },
    #[error("the store is full or over its quota ({detail})")]
    Full { detail: String },
    /// Network trouble, timeouts, 5xx, 429: the next try may succeed.
    #[error("the store can't be reached or is busy ({detail})")]
    Unavailable { detail: String, after: Option<Duration> },
    /// The answer does not fit the request: cut short, wrong checksum, not S3.
    #[error("the store's answer makes no sense ({detail})")]
    Garbled { detail: String },
    #[error("the store can't do this ({detail})")]
    Unsupported { detail: String },
}

/// What the caller can do about a [`StoreError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// The same call may succeed later.
    Retry,
    /// The answer is final and tells something (absent, present, changed).
    Answer,
    /// A person must change a setting, key or quota; until then waiting is right, giving up is not.
    Setting,
}

impl StoreError {
    pub fn advice(&self) -> Advice {
        match self {
            Self::NotFound { .. } | Self::Exists { .. } | Self::Changed { .. } => Advice::Answer,
            Self::Unavailable { .. } | Self::Garbled { .. } => Advice::Retry,
            Self::NoBucket { .. }
            | Self::Denied { .. }
            | Self::Unauthorized { .. }
            | Self::Untrusted { .. }
            | Self::Full { .. }
            | Self::Unsupported { .. } => Advice::Setting,
        }
    }
}
