//! A plain directory as a store: the embedded default, and a NAS mount.
//!
//! An object `p/3f/3fa9` is the file `p/3f/3fa9` below the root. Beside the objects there is one
//! folder, `~tmp`, for puts under way; `~` can't be part of an object's name, and whatever has a
//! name that no object can have is left alone.
//!
//! Promises:
//! - a put writes a file in `~tmp`, syncs it, renames it to its place (for `IfAbsent` with a rename
//!   that refuses to replace, in one step), syncs the folder, and before that every folder it made:
//!   what a returned `put` wrote survives a power cut, and half an object is never visible;
//! - the root itself is never made by a put: when it is gone (a disk not mounted) that is `NoBucket`.
//!   It is held open, so a disk can't be unmounted from under a running library unnoticed;
//! - a delete may be undone by a power cut (no sync): the names are unique, it does no harm.
//!
//! Does not honour `PutMode::IfMatch`. An object `a` and an object `a/b` can't both exist.

mod disk;
mod walk;

use std::{ops::Range, path::Path, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;

use crate::port::{ListPage, Location, ObjectMeta, ObjectName, PutMode, Store, StoreError};
use disk::Disk;

/// A store in a directory. Its file work runs on tokio's blocking threads.
#[derive(Debug)]
pub struct Dir {
    disk: Arc<Disk>,
}

impl Dir {
    /// Opens the directory `root`, which must exist, and clears leftovers of puts that died.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let disk = Arc::new(Disk::open(root)?);
        disk.sweep();
        Ok(Self { disk })
    }

    /// Opens `root` after making it, and the directories above it, where they are missing.
    pub fn create(root: &Path) -> Result<Self, StoreError> {
        disk::make_root(root)?;
        Self::open(root)
    }

    async fn off_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Disk) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let disk = self.disk.clone();
        match tokio::task::spawn_blocking(move || work(&disk)).await {
            Ok(result) => result,
            Err(died) => {
                Err(StoreError::Unavailable { detail: format!("the file work did not finish: {died}"), after: None })
            }
        }
    }
}

#[async_trait]
impl Store for Dir {
    fn describe(&self) -> String {
        format!("file://{}", self.disk.root_path().display())
    }

    async fn put(&self, name: &ObjectName, body: Bytes, mode: PutMode) -> Result<(), StoreError> {
        let name = name.clone();
        self.off_thread(move |disk| disk.put(&name, &body, &mode)).await
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        let name = name.clone();
        self.off_thread(move |disk| disk.read(&name, 0..u64::MAX)).await
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, StoreError> {
        let name = name.clone();
        self.off_thread(move |disk| disk.read(&name, range)).await
    }

    async fn head(&self, name: &ObjectName) -> Result<ObjectMeta, StoreError> {
        let name = name.clone();
        self.off_thread(move |disk| disk.head(&name)).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<ListPage, StoreError> {
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        self.off_thread(move |disk| walk::list(disk, &prefix, after.as_deref(), limit)).await
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        let name = name.clone();
        self.off_thread(move |disk| disk.remove(&name)).await
    }

    async fn copy(&self, from: &ObjectName, to: &ObjectName) -> Result<(), StoreError> {
        let (from, to) = (from.clone(), to.clone());
        self.off_thread(move |disk| disk.copy(&from, &to)).await
    }

    fn locate(&self) -> Option<Location> {
        Some(Location::new(self.describe(), self.disk.clone()))
    }

    /// Where both are on one file system, whose own copy may share the blocks.
    fn copies_from(&self, source: &Location) -> bool {
        source.as_kind::<Arc<Disk>>().is_some_and(|source| self.disk.is_beside(source))
    }

    async fn copy_from(&self, source: &Location, name: &ObjectName) -> Result<(), StoreError> {
        let Some(source) = source.as_kind::<Arc<Disk>>().cloned() else {
            return Err(StoreError::Unsupported { detail: format!("{source:?} is no directory") });
        };
        let name = name.clone();
        self.off_thread(move |disk| disk.copy_from(&source, &name)).await
    }
}
