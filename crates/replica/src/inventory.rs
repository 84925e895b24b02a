//! What the replica has: listed once, then remembered.

use std::collections::BTreeMap;

use haven_store::Store;

use crate::{
    Side,
    error::{At, Result},
    names::{Kind, list_all},
};

/// The library's own objects in a store, and how long they are. Leases and standings are not among them.
#[derive(Debug, Default)]
pub(crate) struct Inventory {
    objects: BTreeMap<String, u64>,
    bytes: u64,
    /// Objects that are none of the library's: how many, and one of them.
    pub(crate) strange: (usize, String),
}

impl Inventory {
    pub(crate) async fn list(store: &dyn Store, side: Side) -> Result<Self> {
        let mut inventory = Self::default();
        for found in list_all(store, "", None).await.at(side, "the list of objects can't be had")? {
            match Kind::of(found.name.as_str()) {
                Some(kind) if kind.stays() => {}
                Some(_) => inventory.add(found.name.as_str(), found.bytes),
                None => inventory.strange = (inventory.strange.0 + 1, found.name.to_string()),
            }
        }
        Ok(inventory)
    }

    pub(crate) fn add(&mut self, name: &str, bytes: u64) {
        let before = self.objects.insert(name.to_owned(), bytes).unwrap_or_default();
        self.bytes = self.bytes - before + bytes;
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.bytes -= self.objects.remove(name).unwrap_or_default();
    }

    /// The length of the object, if it is there.
    pub(crate) fn get(&self, name: &str) -> Option<u64> {
        self.objects.get(name).copied()
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.objects.contains_key(name)
    }

    /// Sum of the lengths of all objects.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.objects.iter().map(|(name, bytes)| (name.as_str(), *bytes))
    }

    /// Names that start with `prefix`, ascending.
    pub(crate) fn below(&self, prefix: &str) -> impl Iterator<Item = &str> {
        let from = prefix.to_owned();
        self.objects
            .range(from.clone()..)
            .map(|(name, _)| name.as_str())
            .take_while(move |name| name.starts_with(&from))
    }
}
