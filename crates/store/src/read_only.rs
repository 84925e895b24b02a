//! A store that can't be written to, whatever its credentials allow.

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;

use crate::port::{DynStore, ListPage, ObjectMeta, ObjectName, PutMode, Store, StoreError};

/// `store` without the verbs that change anything: those are refused here, and nothing is sent.
pub fn read_only(store: DynStore) -> DynStore {
    std::sync::Arc::new(ReadOnly(store))
}

#[derive(Debug)]
struct ReadOnly(DynStore);

impl ReadOnly {
    fn refused<T>(&self, what: &str, name: &ObjectName) -> Result<T, StoreError> {
        let detail = format!("{} was opened for reading only: {name} is not to be {what}", self.0.describe());
        Err(StoreError::Denied { detail })
    }
}

#[async_trait]
impl Store for ReadOnly {
    fn describe(&self) -> String {
        self.0.describe()
    }

    async fn put(&self, name: &ObjectName, _body: Bytes, _mode: PutMode) -> Result<(), StoreError> {
        self.refused("written", name)
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        self.0.get(name).await
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.0.get_range(name, range).await
    }

    async fn head(&self, name: &ObjectName) -> Result<ObjectMeta, StoreError> {
        self.0.head(name).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<ListPage, StoreError> {
        self.0.list(prefix, after, limit).await
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.refused("deleted", name)
    }

    async fn copy(&self, _from: &ObjectName, to: &ObjectName) -> Result<(), StoreError> {
        self.refused("written", to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Memory;

    #[tokio::test]
    async fn nothing_can_be_changed_and_everything_read() {
        let under: DynStore = std::sync::Arc::new(Memory::new());
        let name = ObjectName::new("p/one").unwrap();
        under.put(&name, Bytes::from_static(b"one"), PutMode::IfAbsent).await.unwrap();
        let store = read_only(under.clone());
        let denied = |outcome| matches!(outcome, Err(StoreError::Denied { .. }));
        assert!(denied(store.put(&name, Bytes::new(), PutMode::Always).await));
        assert!(denied(store.delete(&name).await) && denied(store.copy(&name, &name).await));
        assert_eq!(store.get(&name).await.unwrap(), "one");
        assert_eq!(store.list("", None, 10).await.unwrap().objects.len(), 1);
    }
}
