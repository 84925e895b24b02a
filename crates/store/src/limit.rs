//! Bounds how many requests run at once, by class, and how fast bodies go up and down.
//!
//! Three classes that don't wait for one another: `up` (put, copy), `down` (get), `small` (head,
//! list, delete). The rates can be changed while running ([`LimitHandle`]).
//!
//! Bandwidth is a bucket of one second's tokens that may go into debt: a request begins as soon as
//! there is no debt, and its bytes are booked when they are known (a put's before, a get's after).
//! So any size of body passes, and the average keeps to the rate.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};

use crate::{
    human,
    port::{DynStore, ListPage, Location, ObjectMeta, ObjectName, PutMode, Store, StoreError},
};

/// How much may go on at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitConfig {
    /// Uploads and copies at once.
    pub uploads_max: usize,
    /// Downloads at once.
    pub downloads_max: usize,
    /// Requests without a body (head, list, delete) at once.
    pub small_max: usize,
    /// Bytes a second to the store, all together; 0 is unlimited.
    #[serde(with = "human::bytes")]
    pub upload_rate_max: u64,
    /// Bytes a second from the store, all together; 0 is unlimited.
    #[serde(with = "human::bytes")]
    pub download_rate_max: u64,
}

impl Default for LimitConfig {
    fn default() -> Self {
        Self { uploads_max: 16, downloads_max: 48, small_max: 32, upload_rate_max: 0, download_rate_max: 0 }
    }
}

/// A decorator that makes callers wait.
#[derive(Debug)]
pub struct Limit {
    inner: DynStore,
    uploads: Semaphore,
    downloads: Semaphore,
    small: Semaphore,
    rates: Arc<Rates>,
}

/// Changes the bandwidth of a running store.
#[derive(Debug, Clone)]
pub struct LimitHandle(Arc<Rates>);

#[derive(Debug)]
struct Rates {
    up: Tokens,
    down: Tokens,
}

impl Limit {
    pub fn new(inner: DynStore, config: &LimitConfig) -> (Self, LimitHandle) {
        let rates =
            Arc::new(Rates { up: Tokens::new(config.upload_rate_max), down: Tokens::new(config.download_rate_max) });
        let limit = Self {
            inner,
            uploads: Semaphore::new(config.uploads_max.max(1)),
            downloads: Semaphore::new(config.downloads_max.max(1)),
            small: Semaphore::new(config.small_max.max(1)),
            rates: rates.clone(),
        };
        (limit, LimitHandle(rates))
    }
}

impl LimitHandle {
    /// Bytes a second to the store; 0 is unlimited. Requests that wait now follow it too.
    pub fn set_upload_rate(&self, bytes_per_second: u64) {
        self.0.up.rate.store(bytes_per_second, Relaxed);
    }

    /// Bytes a second from the store; 0 is unlimited.
    pub fn set_download_rate(&self, bytes_per_second: u64) {
        self.0.down.rate.store(bytes_per_second, Relaxed);
    }
}

/// A token bucket that may go into debt.
#[derive(Debug)]
struct Tokens {
    /// Bytes a second; 0 is unlimited.
    rate: AtomicU64,
    level: Mutex<Level>,
}

#[derive(Debug)]
struct Level {
    /// Bytes that may go at once; below zero is debt.
    bytes: f64,
    at: Option<Instant>,
}

/// The longest nap before the rate, which may have changed, is looked at again.
const NAP_MAX: Duration = Duration::from_secs(1);

impl Tokens {
    fn new(rate: u64) -> Self {
        Self { rate: AtomicU64::new(rate), level: Mutex::new(Level { bytes: 0.0, at: None }) }
    }

    /// Waits until there is no debt, then books `bytes`.
    async fn take(&self, bytes: u64) {
        loop {
            let Some(wait) = self.try_take(bytes) else {
                return;
            };
            tokio::time::sleep(wait.min(NAP_MAX)).await;
        }
    }

    /// Books bytes that have already gone.
    fn book(&self, bytes: u64) {
        self.level.lock().bytes -= bytes as f64;
    }

    fn try_take(&self, bytes: u64) -> Option<Duration> {
        let rate = self.rate.load(Relaxed) as f64;
        let mut level = self.level.lock();
        let now = Instant::now();
        if rate == 0.0 {
            (level.bytes, level.at) = (0.0, Some(now));
            return None;
        }
        let passed = level.at.map_or(1.0, |at| (now - at).as_secs_f64());
        level.at = Some(now);
        level.bytes = (level.bytes + passed * rate).min(rate);
        // Less than a byte of debt is rounding.
        if level.bytes > -1.0 {
            level.bytes -= bytes as f64;
            return None;
        }
        let wait = Duration::from_secs_f64(-level.bytes / rate);
        Some(wait.max(Duration::from_millis(1)))
    }
}

async fn permit(class: &Semaphore) -> Result<SemaphorePermit<'_>, StoreError> {
    class.acquire().await.map_err(|_| StoreError::Unavailable { detail: "the store is closing".into(), after: None })
}

#[async_trait]
impl Store for Limit {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    async fn put(&self, name: &ObjectName, body: Bytes, mode: PutMode) -> Result<(), StoreError> {
        let _permit = permit(&self.uploads).await?;
        self.rates.up.take(body.len() as u64).await;
        self.inner.put(name, body, mode).await
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        let _permit = permit(&self.downloads).await?;
        self.rates.down.take(0).await;
        let body = self.inner.get(name).await?;
        self.rates.down.book(body.len() as u64);
        Ok(body)
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, StoreError> {
        let _permit = permit(&self.downloads).await?;
        self.rates.down.take(0).await;
        let body = self.inner.get_range(name, range).await?;
        self.rates.down.book(body.len() as u64);
        Ok(body)
    }

    async fn head(&self, name: &ObjectName) -> Result<ObjectMeta, StoreError> {
        let _permit = permit(&self.small).await?;
        self.inner.head(name).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<ListPage, StoreError> {
        let _permit = permit(&self.small).await?;
        self.inner.list(prefix, after, limit).await
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        let _permit = permit(&self.small).await?;
        self.inner.delete(name).await
    }

    async fn copy(&self, from: &ObjectName, to: &ObjectName) -> Result<(), StoreError> {
        let _permit = permit(&self.uploads).await?;
        self.inner.copy(from, to).await
    }

    fn locate(&self) -> Option<Location> {
        self.inner.locate()
    }

    fn copies_from(&self, source: &Location) -> bool {
        self.inner.copies_from(source)
    }

    async fn copy_from(&self, source: &Location, name: &ObjectName) -> Result<(), StoreError> {
        let _permit = permit(&self.uploads).await?;
        self.inner.copy_from(source, name).await
    }
}
