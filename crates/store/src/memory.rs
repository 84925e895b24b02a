//! A store in memory, for tests and trials.
//!
//! Promises: every verb takes effect in one step and at once; nothing sleeps, nothing is random;
//! conditions are honoured exactly. Beyond the port it offers what tests need: a whole copy
//! ([`Memory::fork`]), and ways to damage what is stored.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    ops::{Bound, Range},
    sync::{Arc, OnceLock},
};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use crate::port::{ListPage, ObjectMeta, ObjectName, PutMode, Store, StoreError};

/// A store that lives as long as its process.
pub struct Memory {
    label: String,
    state: RwLock<State>,
}

#[derive(Clone, Default)]
struct State {
    objects: BTreeMap<String, Entry>,
    /// Counts puts; the next object's ETag.
    puts: u64,
}

#[derive(Clone)]
struct Entry {
    body: Bytes,
    etag: String,
}

impl Memory {
    pub fn new() -> Self {
        Self::labelled("")
    }

    /// An empty store that calls itself `memory:<label>`.
    pub fn labelled(label: &str) -> Self {
        Self { label: label.to_owned(), state: RwLock::default() }
    }

    /// The one store of this name in the process: whoever opens it meets the same objects.
    pub fn shared(label: &str) -> Arc<Self> {
        static ALL: OnceLock<Mutex<HashMap<String, Arc<Memory>>>> = OnceLock::new();
        let mut all = ALL.get_or_init(Mutex::default).lock();
        all.entry(label.to_owned()).or_insert_with(|| Arc::new(Self::labelled(label))).clone()
    }

    /// A copy of all objects as they are at this instant; the bodies are shared, so it is cheap.
    pub fn fork(&self) -> Self {
        Self { label: format!("{}-copy", self.label), state: RwLock::new(self.state.read().clone()) }
    }

    /// All names, ascending.
    pub fn names(&self) -> Vec<String> {
        self.state.read().objects.keys().cloned().collect()
    }

    /// How many objects there are.
    pub fn count(&self) -> usize {
        self.state.read().objects.len()
    }

    /// The sum of the lengths of all objects.
    pub fn bytes(&self) -> u64 {
        let state = self.state.read();
        state.objects.values().map(|e| e.body.len() as u64).sum()
    }

    /// Looks at an object without a verb.
    pub fn peek(&self, name: &str) -> Option<Bytes> {
        self.state.read().objects.get(name).map(|e| e.body.clone())
    }

    /// Puts `body` in place of whatever is there: damage, or an object of a stranger.
    pub fn plant(&self, name: &str, body: impl Into<Bytes>) {
        self.state.write().insert(name, body.into());
    }

    /// Makes an object vanish; tells whether it was there.
    pub fn lose(&self, name: &str) -> bool {
        self.state.write().objects.remove(name).is_some()
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "memory:{} ({} objects)", self.label, self.count())
    }
}

impl State {
    fn insert(&mut self, name: &str, body: Bytes) {
        self.puts += 1;
        let etag = format!("\"{:x}\"", self.puts);
        self.objects.insert(name.to_owned(), Entry { body, etag });
    }

    fn entry(&self, name: &ObjectName) -> Result<&Entry, StoreError> {
        self.objects.get(name.as_str()).ok_or_else(|| StoreError::NotFound { name: name.to_string() })
    }
}

#[async_trait]
impl Store for Memory {
    fn describe(&self) -> String {
        format!("memory:{}", self.label)
    }

    async fn put(&self, name: &ObjectName, body: Bytes, mode: PutMode) -> Result<(), StoreError> {
        let mut state = self.state.write();
        let present = state.objects.get(name.as_str());
        match mode {
            PutMode::IfAbsent if present.is_some() => {
                return Err(StoreError::Exists { name: name.to_string() });
            }
            PutMode::IfMatch(etag) if present.is_none_or(|e| e.etag != etag) => {
                return Err(StoreError::Changed { name: name.to_string() });
            }
            PutMode::Always | PutMode::IfAbsent | PutMode::IfMatch(_) => {}
        }
        // A caller may hold the body as a slice of something much larger.
        state.insert(name.as_str(), Bytes::copy_from_slice(&body));
        Ok(())
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        Ok(self.state.read().entry(name)?.body.clone())
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, StoreError> {
        let body = self.state.read().entry(name)?.body.clone();
        let end = range.end.min(body.len() as u64);
        let start = range.start.min(end);
        // Both are at most the length of a body in memory.
        Ok(body.slice(start as usize..end as usize))
    }

    async fn head(&self, name: &ObjectName) -> Result<ObjectMeta, StoreError> {
        let state = self.state.read();
        let entry = state.entry(name)?;
        Ok(meta(name.clone(), entry))
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<ListPage, StoreError> {
        let state = self.state.read();
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let mut page = ListPage::default();
        let found = state.objects.range::<str, _>((from, Bound::Unbounded));
        for (name, entry) in found.take_while(|(name, _)| name.starts_with(prefix)) {
            if page.objects.len() == limit {
                page.more = true;
                break;
            }
            // A planted name may be one that Haven would never write.
            if let Ok(name) = ObjectName::new(name.as_str()) {
                page.objects.push(meta(name, entry));
            }
        }
        Ok(page)
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.state.write().objects.remove(name.as_str());
        Ok(())
    }

    async fn copy(&self, from: &ObjectName, to: &ObjectName) -> Result<(), StoreError> {
        let mut state = self.state.write();
        let body = state.entry(from)?.body.clone();
        state.insert(to.as_str(), body);
        Ok(())
    }
}

fn meta(name: ObjectName, entry: &Entry) -> ObjectMeta {
    ObjectMeta { name, bytes: entry.body.len() as u64, etag: Some(entry.etag.clone()), modified: None }
}
