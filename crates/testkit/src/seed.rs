//! Randomness that can be played again.
//!
//! A test takes its seeds from [`seeds`]; a failing one is named in the panic and played alone with
//! `HAVEN_SEED=<seed>`.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// A generator that gives the same for the same seed, on every machine and version.
pub fn dice(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// The seeds a test is to play: `HAVEN_SEED` alone if set, else 0 to `count`, where
/// `HAVEN_SEEDS` replaces `count` (for long runs).
pub fn seeds(count: u64) -> Vec<u64> {
    let number = |key| std::env::var(key).ok().and_then(|text| text.parse::<u64>().ok());
    match number("HAVEN_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("HAVEN_SEEDS").unwrap_or(count)).collect(),
    }
}

/// Runs `world` in a runtime of its own, on one thread and in virtual time, which jumps ahead
/// whenever every task waits.
pub fn in_virtual_time<T>(world: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime needs no more than memory").block_on(world)
}

/// Plays `world` once for each seed, each in virtual time; a panic is preceded by its seed.
pub fn each_world<F: Future<Output = ()>>(count: u64, world: impl Fn(u64) -> F) {
    for seed in seeds(count) {
        let named = NameOnPanic(seed);
        in_virtual_time(world(seed));
        drop(named);
    }
}

struct NameOnPanic(u64);

impl Drop for NameOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("this world has the seed {0}; play it alone with HAVEN_SEED={0}", self.0);
        }
    }
}
