//! Asks again, patiently.
//!
//! - What may pass (`Advice::Retry`) is tried again after a random part of a growing pause (full
//!   jitter), no sooner than the store asks for, until `patience` is over.
//! - What a person must mend (`Advice::Setting`) is returned at once, unless `patient`: then it is
//!   tried again at `setting_interval`, because some stores give stray 404 `NoSuchBucket` and 403
//!   answers in mid-work, and because keys and quotas do get mended while a mount waits.
//!   (`Unsupported` is always final.)
//! - An answer that was lost may hide an effect. When a conditional put finds the object there (or
//!   changed) *after an own try failed*, the object is read and compared: our bytes are our success.
//!
//! Whoever wants to know how the store fares watches [`Retry::trouble`].

use std::{fmt, ops::Range, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use tokio::{sync::watch, time::Instant};

use crate::{
    human,
    port::{Advice, DynStore, ListPage, Location, ObjectMeta, ObjectName, PutMode, Store, StoreError},
};

/// How to ask again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetryConfig {
    /// For how long after its first try a request may be tried again; `forever` has no end.
    #[serde(with = "human::duration")]
    pub patience: Duration,
    /// The first pause is a random part of this; each further one of twice as much.
    #[serde(with = "human::duration")]
    pub pause_first: Duration,
    /// The longest pause.
    #[serde(with = "human::duration")]
    pub pause_max: Duration,
    /// Whether errors that a person must mend (access, keys, quota, bucket) are waited out as well.
    pub patient: bool,
    /// The pause after such an error.
    #[serde(with = "human::duration")]
    pub setting_interval: Duration,
    /// Seeds the random pauses; from the operating system if absent.
    #[serde(skip)]
    pub seed: Option<u64>,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            patience: Duration::from_secs(60),
            pause_first: Duration::from_millis(100),
            pause_max: Duration::from_secs(10),
            patient: false,
            setting_interval: Duration::from_secs(5),
            seed: None,
        }
    }
}

impl RetryConfig {
    /// For work that must not give up: uploads of a running mount.
    pub fn for_ever() -> Self {
        Self { patience: Duration::MAX, pause_max: Duration::from_secs(20), patient: true, ..Self::default() }
    }

    /// Nothing is tried twice.
    pub fn never() -> Self {
        Self { patience: Duration::ZERO, ..Self::default() }
    }
}

/// What is wrong with the store just now.
#[derive(Debug, Clone)]
pub struct Trouble {
    /// When the first request failed since the last one succeeded.
    pub since: Instant,
    /// Failed tries since then.
    pub failures: u64,
    pub last: StoreError,
}

/// A decorator that asks again.
pub struct Retry {
    inner: DynStore,
    config: RetryConfig,
    dice: Mutex<ChaCha8Rng>,
    trouble: Arc<watch::Sender<Option<Trouble>>>,
}

impl fmt::Debug for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Retry({:?})", self.inner)
    }
}

impl Retry {
    pub fn new(inner: DynStore, config: RetryConfig) -> Self {
        Self::telling(inner, config, Arc::new(watch::Sender::new(None)))
    }

    /// The same store asked with other patience: for a caller who waits less, or more. Both tell one
    /// [`Retry::trouble`].
    pub fn sibling(&self, config: RetryConfig) -> Self {
        Self::telling(self.inner.clone(), config, self.trouble.clone())
    }

    fn telling(inner: DynStore, config: RetryConfig, trouble: Arc<watch::Sender<Option<Trouble>>>) -> Self {
        let dice = match config.seed {
            Some(seed) => ChaCha8Rng::seed_from_u64(seed),
            None => ChaCha8Rng::from_os_rng(),
        };
        Self { inner, config, dice: Mutex::new(dice), trouble }
    }

    /// `None` while the store answers; changes as requests fail and succeed.
    pub fn trouble(&self) -> watch::Receiver<Option<Trouble>> {
        self.trouble.subscribe()
    }

    async fn persist<T, F>(&self, mut attempt: impl FnMut() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let mut course = Course::new(&self.config);
        loop {
            match attempt().await {
                Err(error) if error.advice() != Advice::Answer => {
                    self.note_failure(&error);
                    let pause = course.pause(&error, &mut *self.dice.lock());
                    let Some(pause) = pause else {
                        return Err(error);
                    };
                    tracing::debug!(%error, ?pause, tries = course.tries, "will ask the store again");
                    tokio::time::sleep(pause).await;
                }
                answer => {
                    self.note_answer();
                    return answer;
                }
            }
        }
    }

    fn note_failure(&self, error: &StoreError) {
        self.trouble.send_modify(|trouble| match trouble {
            Some(trouble) => {
                trouble.failures += 1;
                trouble.last = error.clone();
            }
            None => {
                *trouble = Some(Trouble { since: Instant::now(), failures: 1, last: error.clone() });
            }
        });
    }

    fn note_answer(&self) {
        self.trouble.send_if_modified(|trouble| trouble.take().is_some());
    }

    /// Whether the object holds exactly `body`: then the put whose answer was lost was ours.
    async fn is_ours(&self, name: &ObjectName, body: &Bytes) -> Result<bool, StoreError> {
        match self.get(name).await {
            Ok(found) => Ok(found == *body),
            Err(StoreError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// One request's way through its tries.
struct Course<'a> {
    config: &'a RetryConfig,
    begun: Instant,
    tries: u32,
}

impl<'a> Course<'a> {
    fn new(config: &'a RetryConfig) -> Self {
        Self { config, begun: Instant::now(), tries: 0 }
    }

    /// How long to wait before the next try; `None` when patience is over or trying is no use.
    fn pause(&mut self, error: &StoreError, dice: &mut impl Rng) -> Option<Duration> {
        self.tries += 1;
        let pause = match (error, error.advice()) {
            (StoreError::Unsupported { .. }, _) | (_, Advice::Answer) => return None,
            (_, Advice::Setting) if !self.config.patient => return None,
            // Between half and the whole interval, so that many waiters don't come at once.
            (_, Advice::Setting) => self.config.setting_interval.mul_f64(dice.random_range(0.5..=1.0)),
            (StoreError::Unavailable { after, .. }, _) => self.backoff(dice).max(after.unwrap_or_default()),
            _ => self.backoff(dice),
        };
        let passed = self.begun.elapsed();
        let over = passed.checked_add(pause)? > self.config.patience;
        (!over).then_some(pause)
    }

    fn backoff(&self, dice: &mut impl Rng) -> Duration {
        let doublings = (self.tries - 1).min(20);
        let whole = self.config.pause_first.saturating_mul(1 << doublings);
        let whole = whole.min(self.config.pause_max);
        whole.mul_f64(dice.random_range(0.0..=1.0))
    }
}

#[async_trait]
impl Store for Retry {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    async fn put(&self, name: &ObjectName, body: Bytes, mode: PutMode) -> Result<(), StoreError> {
        let mut tries = 0_u32;
        let result = self
            .persist(|| {
                tries += 1;
                self.inner.put(name, body.clone(), mode.clone())
            })
            .await;
        match result {
            Err(answer @ (StoreError::Exists { .. } | StoreError::Changed { .. })) if tries > 1 => {
                if self.is_ours(name, &body).await? { Ok(()) } else { Err(answer) }
            }
            result => result,
        }
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        self.persist(|| self.inner.get(name)).await
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.persist(|| self.inner.get_range(name, range.clone())).await
    }

    async fn head(&self, name: &ObjectName) -> Result<ObjectMeta, StoreError> {
        self.persist(|| self.inner.head(name)).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<ListPage, StoreError> {
        self.persist(|| self.inner.list(prefix, after, limit)).await
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.persist(|| self.inner.delete(name)).await
    }

    async fn copy(&self, from: &ObjectName, to: &ObjectName) -> Result<(), StoreError> {
        self.persist(|| self.inner.copy(from, to)).await
    }

    fn locate(&self) -> Option<Location> {
        self.inner.locate()
    }

    fn copies_from(&self, source: &Location) -> bool {
        self.inner.copies_from(source)
    }

    async fn copy_from(&self, source: &Location, name: &ObjectName) -> Result<(), StoreError> {
        self.persist(|| self.inner.copy_from(source, name)).await
    }
}
