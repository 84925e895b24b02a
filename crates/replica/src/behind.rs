//! Two stores as one: what the front has not got yet is read from the one behind it.
//!
//! For a library that is being restored: its log, roots and shards are in front, its packs are still coming. Everything
//! is written to the front alone. Only what never changes and is verified on reading is taken from behind: packs and
//! shards; what the library's newest state is, the front alone says.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use haven_store::{DynStore, ListPage, ObjectMeta, ObjectName, PutMode, Store, StoreError};

use crate::names::Kind;

/// See [`behind`].
#[derive(Debug)]
pub struct Behind {
    front: DynStore,
    behind: DynStore,
    fetched: AtomicU64,
}

/// `front`, where packs and shards that it lacks are read from `behind`.
pub fn behind(front: DynStore, behind: DynStore) -> Arc<Behind> {
    Arc::new(Behind { front, behind, fetched: AtomicU64::new(0) })
}

impl Behind {
    /// How many reads the front could not answer.
    pub fn fetched(&self) -> u64 {
        self.fetched.load(Relaxed)
    }

    fn may_be_behind(&self, name: &ObjectName) -> bool {
        let may = matches!(Kind::of(name.as_str()), Some(Kind::Pack | Kind::Shard));
        self.fetched.fetch_add(u64::from(may), Relaxed);
        may
    }
}

#[async_trait]
impl Store for Behind {
    fn describe(&self) -> String {
        self.front.describe()
    }

    async fn put(&self, name: &ObjectName, body: Bytes, mode: PutMode) -> Result<(), StoreError> {
        self.front.put(name, body, mode).await
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        match self.front.get(name).await {
            Err(StoreError::NotFound { .. }) if self.may_be_behind(name) => self.behind.get(name).await,
            answer => answer,
        }
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, StoreError> {
        match self.front.get_range(name, range.clone()).await {
            Err(StoreError::NotFound { .. }) if self.may_be_behind(name) => self.behind.get_range(name, range).await,
            answer => answer,
        }
    }

    async fn head(&self, name: &ObjectName) -> Result<ObjectMeta, StoreError> {
        match self.front.head(name).await {
            Err(StoreError::NotFound { .. }) if self.may_be_behind(name) => self.behind.head(name).await,
            answer => answer,
        }
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<ListPage, StoreError> {
        self.front.list(prefix, after, limit).await
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.front.delete(name).await
    }

    async fn copy(&self, from: &ObjectName, to: &ObjectName) -> Result<(), StoreError> {
        self.front.copy(from, to).await
    }
}
