//! What the vault takes from outside: the store, local files, a clock, dice. A simulation hands in its own.

use std::{
    fmt::Debug,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use haven_format::record::Time;
use haven_store::DynStore;
use parking_lot::Mutex;
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha12Rng;

use crate::disk::Disk;

/// Tells the time of day. Timers are tokio's, so that a simulation can turn them.
pub trait Clock: Send + Sync + Debug {
    fn now(&self) -> Time;
}

/// The machine's clock.
#[derive(Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)] // The one place where the machine's clock is read.
    fn now(&self) -> Time {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => Time { seconds: since.as_secs() as i64, nanos: since.subsec_nanos() },
            Err(before) => Time { seconds: -(before.duration().as_secs() as i64), nanos: 0 },
        }
    }
}

/// Unpredictable bytes for ids and nonces.
#[derive(Debug)]
pub struct Dice(Mutex<ChaCha12Rng>);

impl Dice {
    /// Seeded by the operating system.
    pub fn from_os() -> Self {
        Self(Mutex::new(ChaCha12Rng::from_os_rng()))
    }

    /// The same sequence each time, for tests.
    pub fn from_seed(seed: u64) -> Self {
        Self(Mutex::new(ChaCha12Rng::seed_from_u64(seed)))
    }

    pub fn roll<const N: usize>(&self) -> [u8; N] {
        let mut out = [0; N];
        self.0.lock().fill_bytes(&mut out);
        out
    }

    /// A number from 0 to `below` - 1.
    pub fn below(&self, below: u64) -> u64 {
        u64::from_le_bytes(self.roll()) % below.max(1)
    }
}

/// Everything outside.
#[derive(Debug, Clone)]
pub struct World {
    pub store: DynStore,
    pub disk: Arc<dyn Disk>,
    pub clock: Arc<dyn Clock>,
    pub dice: Arc<Dice>,
    /// What this machine is called in claims.
    pub host: String,
    /// Whether long local work may leave the async threads. A simulation keeps everything on its own.
    pub threads: bool,
}

impl World {
    /// Runs local work that may take long.
    pub(crate) async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        if self.threads {
            match tokio::task::spawn_blocking(work).await {
                Ok(out) => out,
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                // The runtime is going down: nobody waits for this any more.
                Err(_) => std::future::pending().await,
            }
        } else {
            work()
        }
    }
}

/// Nanoseconds since the Unix epoch.
pub(crate) fn nanos(time: Time) -> i64 {
    time.seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(time.nanos))
}
