//! Gives each single request a time after which it counts as lost.
//!
//! The time grows with the body: `base` and then `bytes / rate_min`. Place it inside `retry`; a
//! request given up here may still take effect, which is what `retry` reckons with.

use std::{ops::Range, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    human,
    port::{DynStore, ListPage, Location, ObjectMeta, ObjectName, PutMode, Store, StoreError},
};

/// How long one request may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TimeoutConfig {
    /// What every request is given.
    #[serde(with = "human::duration")]
    pub base: Duration,
    /// The slowest transfer, in bytes a second, that still counts as one.
    #[serde(with = "human::bytes")]
    pub rate_min: u64,
    /// The length reckoned with when an object is read whole, which is not known before.
    #[serde(with = "human::bytes")]
    pub whole_bytes: u64,
}

impl Default for TimeoutConfig {
    fn default() -> Self {
        Self { base: Duration::from_secs(30), rate_min: 128 << 10, whole_bytes: 32 << 20 }
    }
}

/// A decorator that gives up.
#[derive(Debug)]
pub struct Timeout {
    inner: DynStore,
    config: TimeoutConfig,
}

impl Timeout {
    pub fn new(inner: DynStore, config: TimeoutConfig) -> Self {
        Self { inner, config }
    }

    async fn within<T>(&self, bytes: u64, work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let transfer = Duration::from_secs(bytes / self.config.rate_min.max(1));
        let limit = self.config.base + transfer;
        match tokio::time::timeout(limit, work).await {
            Ok(result) => result,
            Err(_) => {
                Err(StoreError::Unavailable { detail: format!("no answer within {} s", limit.as_secs()), after: None })
            }
        }
    }
}

#[async_trait]
impl Store for Timeout {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    async fn put(&self, name: &ObjectName, body: Bytes, mode: PutMode) -> Result<(), StoreError> {
        let bytes = body.len() as u64;
        self.within(bytes, self.inner.put(name, body, mode)).await
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        self.within(self.config.whole_bytes, self.inner.get(name)).await
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, StoreError> {
        let bytes = range.end.saturating_sub(range.start);
        let bytes = bytes.min(self.config.whole_bytes);
        self.within(bytes, self.inner.get_range(name, range)).await
    }

    async fn head(&self, name: &ObjectName) -> Result<ObjectMeta, StoreError> {
        self.within(0, self.inner.head(name)).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<ListPage, StoreError> {
        // A listing is several requests when the server's pages are small.
        let bytes = (limit as u64).saturating_mul(256).min(self.config.whole_bytes);
        self.within(bytes, self.inner.list(prefix, after, limit)).await
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.within(0, self.inner.delete(name)).await
    }

    async fn copy(&self, from: &ObjectName, to: &ObjectName) -> Result<(), StoreError> {
        self.within(self.config.whole_bytes, self.inner.copy(from, to)).await
    }

    fn locate(&self) -> Option<Location> {
        self.inner.locate()
    }

    fn copies_from(&self, source: &Location) -> bool {
        self.inner.copies_from(source)
    }

    async fn copy_from(&self, source: &Location, name: &ObjectName) -> Result<(), StoreError> {
        self.within(self.config.whole_bytes, self.inner.copy_from(source, name)).await
    }
}
