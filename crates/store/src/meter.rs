//! Counts what goes through a store: requests, errors, bytes, time, by verb.
//!
//! Place it *inside* `retry` and `limit`, so that it counts what the bucket's owner pays for and
//! times the store alone. A dropped request counts as started and as abandoned.

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
use serde::Serialize;
use tokio::time::Instant;

use crate::port::{Advice, DynStore, ListPage, Location, ObjectMeta, ObjectName, PutMode, Store, StoreError};

/// The verbs of the port, in the order of [`MeterSnapshot::verbs`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    Put,
    Get,
    GetRange,
    Head,
    List,
    Delete,
    Copy,
}

impl Verb {
    pub const ALL: [Verb; 7] = [Verb::Put, Verb::Get, Verb::GetRange, Verb::Head, Verb::List, Verb::Delete, Verb::Copy];

    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Put => "put",
            Verb::Get => "get",
            Verb::GetRange => "get_range",
            Verb::Head => "head",
            Verb::List => "list",
            Verb::Delete => "delete",
            Verb::Copy => "copy",
        }
    }
}

/// Upper bounds of the latency classes in microseconds; the last class has no bound.
pub const LATENCY_BOUNDS_MICROS: [u64; 16] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    10_000_000, 60_000_000,
];

/// A decorator that counts.
#[derive(Debug)]
pub struct Meter {
    inner: DynStore,
    counters: Arc<Counters>,
}

/// The counts so far; cheap to clone, alive as long as anybody holds it.
#[derive(Debug, Clone)]
pub struct MeterReader(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    verbs: [VerbCounters; Verb::ALL.len()],
}

#[derive(Debug, Default)]
struct VerbCounters {
    requests: AtomicU64,
    finished: AtomicU64,
    abandoned: AtomicU64,
    answers: AtomicU64,
    errors_retry: AtomicU64,
    errors_setting: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    micros: AtomicU64,
    micros_max: AtomicU64,
    classes: [AtomicU64; LATENCY_BOUNDS_MICROS.len() + 1],
}

/// The counts at one instant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct MeterSnapshot {
    pub verbs: Vec<VerbSnapshot>,
}

/// The counts of one verb at one instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerbSnapshot {
    pub verb: Verb,
    /// Requests begun.
    pub requests: u64,
    /// Requests under way now.
    pub in_flight: u64,
    /// Requests whose caller went away before the answer.
    pub abandoned: u64,
    /// Final answers that are no success: absent, present, changed.
    pub answers: u64,
    /// Errors that may pass: network, timeout, 5xx, nonsense.
    pub errors_retry: u64,
    /// Errors that a person must mend: access, credentials, quota, bucket.
    pub errors_setting: u64,
    /// Bytes of bodies received.
    pub bytes_in: u64,
    /// Bytes of bodies sent (of failed puts, too).
    pub bytes_out: u64,
    /// Sum of the durations of finished requests, in microseconds.
    pub micros: u64,
    pub micros_max: u64,
    /// Finished requests by duration: see [`LATENCY_BOUNDS_MICROS`].
    pub latency_classes: Vec<u64>,
}

impl Meter {
    pub fn new(inner: DynStore) -> (Self, MeterReader) {
        let counters = Arc::new(Counters::default());
        let reader = MeterReader(counters.clone());
        (Self { inner, counters }, reader)
    }

    async fn watch<T>(
        &self,
        verb: Verb,
        bytes_out: u64,
        work: impl Future<Output = Result<T, StoreError>>,
        bytes_in: impl FnOnce(&T) -> u64,
    ) -> Result<T, StoreError> {
        let counters = &self.counters.verbs[verb as usize];
        counters.requests.fetch_add(1, Relaxed);
        counters.bytes_out.fetch_add(bytes_out, Relaxed);
        let mut ticket = Ticket { counters, begun: Instant::now(), finished: false };
        let result = work.await;
        match &result {
            Ok(answer) => {
                counters.bytes_in.fetch_add(bytes_in(answer), Relaxed);
            }
            Err(error) => {
                let count = match error.advice() {
                    Advice::Answer => &counters.answers,
                    Advice::Retry => &counters.errors_retry,
                    Advice::Setting => &counters.errors_setting,
                };
                count.fetch_add(1, Relaxed);
            }
        }
        ticket.finished = true;
        result
    }
}

/// Closes the account of a request, also when its future is dropped.
struct Ticket<'a> {
    counters: &'a VerbCounters,
    begun: Instant,
    finished: bool,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.counters.abandoned.fetch_add(1, Relaxed);
            return;
        }
        let micros = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.counters.finished.fetch_add(1, Relaxed);
        self.counters.micros.fetch_add(micros, Relaxed);
        self.counters.micros_max.fetch_max(micros, Relaxed);
        let class = LATENCY_BOUNDS_MICROS.partition_point(|bound| *bound < micros);
        self.counters.classes[class].fetch_add(1, Relaxed);
    }
}

impl MeterReader {
    pub fn snapshot(&self) -> MeterSnapshot {
        let verbs = Verb::ALL.map(|verb| self.0.verbs[verb as usize].snapshot(verb));
        MeterSnapshot { verbs: verbs.into() }
    }
}

impl VerbCounters {
    fn snapshot(&self, verb: Verb) -> VerbSnapshot {
        // The ends before the beginnings, so that `in_flight` is never below zero.
        let ended = self.finished.load(Relaxed) + self.abandoned.load(Relaxed);
        let requests = self.requests.load(Relaxed);
        VerbSnapshot {
            verb,
            requests,
            in_flight: requests.saturating_sub(ended),
            abandoned: self.abandoned.load(Relaxed),
            answers: self.answers.load(Relaxed),
            errors_retry: self.errors_retry.load(Relaxed),
            errors_setting: self.errors_setting.load(Relaxed),
            bytes_in: self.bytes_in.load(Relaxed),
            bytes_out: self.bytes_out.load(Relaxed),
            micros: self.micros.load(Relaxed),
            micros_max: self.micros_max.load(Relaxed),
            latency_classes: self.classes.iter().map(|c| c.load(Relaxed)).collect(),
        }
    }
}

impl MeterSnapshot {
    /// The counts of one verb; `None` only in an empty snapshot.
    pub fn verb(&self, verb: Verb) -> Option<&VerbSnapshot> {
        self.verbs.iter().find(|v| v.verb == verb)
    }

    /// Requests of all verbs.
    pub fn requests(&self) -> u64 {
        self.verbs.iter().map(|v| v.requests).sum()
    }

    /// Errors of all verbs, without final answers such as "absent".
    pub fn errors(&self) -> u64 {
        let errors = |v: &VerbSnapshot| v.errors_retry + v.errors_setting;
        self.verbs.iter().map(errors).sum()
    }

    pub fn bytes_in(&self) -> u64 {
        self.verbs.iter().map(|v| v.bytes_in).sum()
    }

    pub fn bytes_out(&self) -> u64 {
        self.verbs.iter().map(|v| v.bytes_out).sum()
    }
}

impl VerbSnapshot {
    /// A bound that `share` (0 to 1) of the finished requests kept; `None` before the first.
    /// Never more than the longest that was seen.
    pub fn latency(&self, share: f64) -> Option<Duration> {
        let total: u64 = self.latency_classes.iter().sum();
        let rank = (share.clamp(0.0, 1.0) * total as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (class, count) in self.latency_classes.iter().enumerate() {
            seen += count;
            if seen >= rank {
                let bound = LATENCY_BOUNDS_MICROS.get(class).copied();
                let bound = bound.unwrap_or(u64::MAX).min(self.micros_max);
                return Some(Duration::from_micros(bound));
            }
        }
        None
    }
}

#[async_trait]
impl Store for Meter {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    async fn put(&self, name: &ObjectName, body: Bytes, mode: PutMode) -> Result<(), StoreError> {
        let sent = body.len() as u64;
        let work = self.inner.put(name, body, mode);
        self.watch(Verb::Put, sent, work, |()| 0).await
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        let work = self.inner.get(name);
        self.watch(Verb::Get, 0, work, |body| body.len() as u64).await
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, StoreError> {
        let work = self.inner.get_range(name, range);
        self.watch(Verb::GetRange, 0, work, |body| body.len() as u64).await
    }

    async fn head(&self, name: &ObjectName) -> Result<ObjectMeta, StoreError> {
        self.watch(Verb::Head, 0, self.inner.head(name), |_| 0).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<ListPage, StoreError> {
        let work = self.inner.list(prefix, after, limit);
        self.watch(Verb::List, 0, work, |_| 0).await
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.watch(Verb::Delete, 0, self.inner.delete(name), |()| 0).await
    }

    async fn copy(&self, from: &ObjectName, to: &ObjectName) -> Result<(), StoreError> {
        self.watch(Verb::Copy, 0, self.inner.copy(from, to), |()| 0).await
    }

    fn locate(&self) -> Option<Location> {
        self.inner.locate()
    }

    fn copies_from(&self, source: &Location) -> bool {
        self.inner.copies_from(source)
    }

    async fn copy_from(&self, source: &Location, name: &ObjectName) -> Result<(), StoreError> {
        self.watch(Verb::Copy, 0, self.inner.copy_from(source, name), |()| 0).await
    }
}
