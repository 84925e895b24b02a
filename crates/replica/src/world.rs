//! What replication takes from outside beside the stores: a clock and dice. Timers are tokio's.

use std::{fmt, sync::Arc};

use haven_format::record::Time;

/// Tells the time of day.
pub type Clock = Arc<dyn Fn() -> Time + Send + Sync>;
/// Fills with unpredictable bytes.
pub type Dice = Arc<dyn Fn(&mut [u8]) + Send + Sync>;

#[derive(Clone)]
pub struct World {
    pub clock: Clock,
    pub dice: Dice,
    /// What this machine is called in leases and claims.
    pub host: String,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "World({})", self.host)
    }
}

impl World {
    pub(crate) fn now(&self) -> Time {
        (self.clock)()
    }

    pub(crate) fn roll<const N: usize>(&self) -> [u8; N] {
        let mut out = [0; N];
        (self.dice)(&mut out);
        out
    }
}

/// Runs work that takes the processor for long where it holds nobody up.
pub(crate) async fn aside<T: Send + 'static>(heavy: bool, work: impl FnOnce() -> T + Send + 'static) -> T {
    if !heavy {
        return work();
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(out) => out,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime is going down: nobody waits for this any more.
        Err(_) => std::future::pending().await,
    }
}
