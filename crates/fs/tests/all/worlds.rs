//! One seed is one world: virtual time, a store that fails, a machine that dies several times over, and the whole
//! interface at work. After each death the tree must be one that really was, no older than what had been promised.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use haven_format::record::Time;
use haven_fs::{
    Fs, Options,
    model::{Driver, Moment, Step, Tree},
};
use haven_store::{DynStore, memory::Memory};
use haven_testkit::{
    faults::{Faults, Rates},
    seed,
};
use haven_vault::{
    Vault, World,
    disk::MemoryDisk,
    world::{Clock, Dice},
};
use rand::Rng;

use crate::common::keys;

/// Turns with tokio's clock.
#[derive(Debug)]
struct Turned(tokio::time::Instant, i64);

impl Turned {
    fn time(&self) -> Time {
        let since = self.0.elapsed();
        Time { seconds: self.1 + since.as_secs() as i64, nanos: since.subsec_nanos() }
    }
}

impl Clock for Turned {
    fn now(&self) -> Time {
        self.time()
    }
}

impl haven_fs::Clock for Turned {
    fn now(&self) -> Time {
        self.time()
    }
}

#[derive(Debug, Clone, Copy)]
enum Death {
    Killed,
    PowerCut,
    MachineLost,
}

/// What survives a death.
struct Life {
    bucket: DynStore,
    disk: Arc<MemoryDisk>,
    /// What the tree was after each commit that ended a step.
    moments: BTreeMap<u64, Moment>,
    /// The oldest commits that may be found again.
    promised_local: u64,
    promised_bucket: u64,
    deaths: u64,
}

impl Life {
    fn promised(&self) -> u64 {
        self.promised_local.max(self.promised_bucket)
    }

    /// Moments that no death can bring back any more are forgotten.
    fn prune(&mut self) {
        let oldest = self.moments.range(..=self.promised_bucket).next_back().map_or(0, |(seq, _)| *seq);
        self.moments = self.moments.split_off(&oldest);
    }

    fn world(&self, seed: u64, store: DynStore) -> World {
        World {
            store,
            disk: self.disk.clone(),
            clock: Arc::new(self.clock()),
            dice: Arc::new(Dice::from_seed(seed * 1000 + self.deaths)),
            host: format!("host-{}", self.deaths),
            threads: false,
        }
    }

    fn clock(&self) -> Turned {
        Turned(tokio::time::Instant::now(), 1_800_000_000 + self.deaths as i64 * 10_000)
    }

    async fn open(&self, seed: u64, store: DynStore) -> (Arc<Vault>, Arc<Fs>) {
        let options = haven_vault::Options {
            cache_limit: 1 << 30,
            checkpoint_after: Duration::from_secs(20),
            checkpoint_bytes: 64 << 10,
            ..Default::default()
        };
        let vault = Vault::open(self.world(seed, store), keys(), options).await.expect("opens");
        let fs = loop {
            match Fs::start(vault.clone(), keys(), Arc::new(self.clock()), Options::default()) {
                Err(haven_fs::FsError::Need(need)) => vault.settle(&need).await.expect("settles"),
                other => break other.expect("starts"),
            }
        };
        (vault, fs)
    }

    /// The newest moment that `found` can be: not after commit `at`, not before what was promised. The vault makes
    /// commits of its own, which change no tree; and a step may end with later commits than the one that shows its
    /// effect, so the first moment after `at` will do as well.
    fn moment(&mut self, at: u64, found: &Tree) -> Result<(u64, Moment), String> {
        let oldest = self.moments.range(..=self.promised()).next_back().map_or(0, |(seq, _)| *seq);
        let after = self.moments.range(at + 1..).next();
        let mut differences = Vec::new();
        for (seq, moment) in after.into_iter().chain(self.moments.range(oldest..=at).rev()) {
            match moment.tree().differs(found) {
                None => return Ok((*seq, moment.clone())),
                Some(difference) => differences.push(format!("after {seq}: {difference}")),
            }
        }
        Err(format!(
            "found commit {at}, promised {} / {}, which is no state that was:\n{}",
            self.promised_local,
            self.promised_bucket,
            differences.join("\n")
        ))
    }
}

async fn live(life: &mut Life, seed: u64, rng: &mut impl Rng) -> Result<(), String> {
    let (faults, handle) = Faults::new(life.bucket.clone(), seed * 100 + life.deaths);
    if rng.random_bool(0.7) {
        handle.set_rates(Rates { flip_byte: 0.0, vanished: 0.0, stale_list: 0.0, ..Rates::rough(0.05) });
    }
    let store: DynStore = Arc::new(haven_store::retry::Retry::new(Arc::new(faults), Default::default()));
    let (vault, fs) = life.open(seed, store).await;
    let at = vault.head().0;
    let mut driver = Driver::new(fs.clone());
    if life.deaths > 0 {
        // Making the root directory is the session's own first commit, where nothing at all had survived.
        if at < life.promised() {
            return Err(format!("promised {} / {}, found {at}", life.promised_local, life.promised_bucket));
        }
        let found = Tree::read(&fs).await.map_err(|error| error.to_string())?;
        let (seq, moment) = life.moment(at, &found)?;
        driver.restore(moment);
        driver.resume(fs.clone(), true).await?;
        life.moments.retain(|other, _| *other <= seq.min(at));
    }
    life.moments.insert(vault.head().0, driver.moment());
    let result = steps(life, &vault, &mut driver, rng).await;
    result.map_err(|what| format!("{what}\n{}", driver.trace.join("\n")))
}

async fn steps(life: &mut Life, vault: &Arc<Vault>, driver: &mut Driver, rng: &mut impl Rng) -> Result<(), String> {
    for _ in 0..rng.random_range(1..120) {
        match rng.random_range(0..100) {
            0..5 => {
                let seq = driver.fs.sync_bucket(vault.head());
                let head = vault.head().0;
                seq.await.map_err(|error| format!("sync_bucket: {error}"))?;
                life.promised_bucket = head;
                life.prune();
            }
            5..15 => tokio::time::sleep(Duration::from_millis(rng.random_range(1..1500))).await,
            _ => {
                let step = Step::roll(|| rng.random());
                // Virtual hours: only a world that is stuck takes them.
                let done = tokio::time::timeout(Duration::from_secs(7200), driver.step(&step)).await;
                done.map_err(|_| "a step is stuck".to_owned())??;
                life.moments.insert(vault.head().0, driver.moment());
            }
        }
        life.promised_local = life.promised_local.max(driver.synced.0);
    }
    if rng.random_bool(0.2) {
        driver.store_all().await?;
        life.moments.insert(vault.head().0, driver.moment());
        vault.close(true).await.map_err(|error| format!("close: {error}"))?;
        life.promised_bucket = vault.head().0;
    }
    Ok(())
}

fn world(seed: u64) -> Result<(), String> {
    let mut rng = seed::dice(seed);
    let mut life = Life {
        bucket: Arc::new(Memory::new()),
        disk: MemoryDisk::new(),
        moments: BTreeMap::new(),
        promised_local: 0,
        promised_bucket: 0,
        deaths: 0,
    };
    for _ in 0..rng.random_range(2..5u64) {
        // A runtime of its own for each life: with it, all its tasks die.
        seed::in_virtual_time(live(&mut life, seed, &mut rng))?;
        life.deaths += 1;
        let newest = life.moments.keys().next_back().copied().unwrap_or(0);
        let death = [Death::Killed, Death::PowerCut, Death::MachineLost][rng.random_range(0..3)];
        life.disk = match death {
            Death::Killed => {
                life.promised_local = newest;
                life.disk.killed()
            }
            Death::PowerCut => life.disk.power_cut(|n| rng.random_range(0..n)),
            Death::MachineLost => {
                life.promised_local = 0;
                MemoryDisk::new()
            }
        };
    }
    Ok(())
}

#[test]
fn trees_survive_kills_power_cuts_and_lost_machines() {
    for number in seed::seeds(120) {
        let outcome = std::panic::catch_unwind(|| world(number));
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(what)) => panic!("world {number} failed (HAVEN_SEED={number} plays it alone): {what}"),
            Err(_) => panic!("world {number} panicked (HAVEN_SEED={number} plays it alone)"),
        }
    }
}
