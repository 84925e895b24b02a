//! `haven replica`: copies of the library in other places.

mod add;
mod look;
mod place;
mod promote;
mod sync;
mod trouble;
mod verify;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use haven_format::{Keys, keys::Secret};
use haven_replica::{Options, Progress, ProgressFn, World};
use haven_store::{DynStore, Stack, StoreOptions};
use indicatif::{ProgressBar, ProgressStyle};

use super::Context;
use crate::{
    config::Config,
    library,
    replicas::{Place, ReplicaConfig},
    report::{self, Code, Trouble, UNTOUCHED},
    secret::KeyArgs,
    wire, words,
};

pub use place::ensure_own;
pub use trouble::replica_trouble;

/// Keep copies of the library in other places, look at them, go on from them
///
/// A replica is the same library in another bucket, on another disk, or on a machine at home. It is made and brought up
/// to date while the library is in use, only what is missing travels, every object is verified, and at every moment it
/// can be mounted (read-only). Where another command takes a library's URL, a replica's name will do. What the library
/// deletes, a replica deletes later; when the library is wiped, damaged or has gone back to an older state, its replicas
/// stay as they are and say so.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  haven replica add home sftp://backup@nas.example.org/haven\n  haven replica sync home                             once: from a timer, each night\n  haven replica sync home --continuous                as a service, seconds behind\n  haven replica status                                how far is each one, and is it well?\n  haven replica verify home --read-data --sample 5%\n  haven mount --read-only sftp://backup@nas.example.org/haven /mnt/look\n  haven replica promote home                          when the library is gone for good"
)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Add(add::AddArgs),
    List(look::ListArgs),
    Sync(sync::SyncArgs),
    Status(look::StatusArgs),
    Verify(verify::VerifyArgs),
    Remove(add::RemoveArgs),
    Promote(promote::PromoteArgs),
}

pub fn run(context: &Context, args: Args) -> Result<(), Trouble> {
    let runtime = wire::runtime()?;
    let outcome = runtime.block_on(async {
        match args.command {
            Command::Add(args) => add::add(context, args).await,
            Command::List(args) => look::list(context, args),
            Command::Sync(args) => sync::run(context, args).await,
            Command::Status(args) => look::status(context, args).await,
            Command::Verify(args) => verify::run(context, args).await,
            Command::Remove(args) => add::remove(context, args),
            Command::Promote(args) => promote::run(context, args).await,
        }
    });
    // What was left under way is of no use any more.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

/// Where a replica comes from: its URL, and how its store is opened.
pub fn source_of(config: &Config, from: Option<&str>) -> Result<(String, StoreOptions), Trouble> {
    let Place { url, store } = match from {
        Some(named) => config.place(named),
        None => config.place(&library_url(config)?),
    };
    Ok((url, store))
}

fn library_url(config: &Config) -> Result<String, Trouble> {
    let named = std::env::var("HAVEN_LIBRARY").ok().filter(|url| !url.is_empty());
    named.or_else(|| config.library.url.clone()).ok_or_else(|| {
        Trouble::new(Code::Usage, "no library was named")
            .meaning(UNTOUCHED)
            .next("set library.url in haven.toml or HAVEN_LIBRARY, or say with --from what is to be copied")
    })
}

/// A replica and its source, opened and unlocked.
pub struct Opened {
    pub config: ReplicaConfig,
    pub source_url: String,
    pub source: Stack,
    pub replica: Stack,
    pub keys: Keys,
    /// Whether the source refuses the secret, which opens the replica alone, by an older configuration.
    pub locked_out: bool,
}

/// Opens the replica called `name`. Either side's configuration will do to unlock: what is wrong with a source that has
/// none is for the replicator to tell.
pub async fn open(context: &Context, name: &str, key: &KeyArgs) -> Result<Opened, Trouble> {
    let config = context.config.replica(name)?.clone();
    let (source_url, options) = source_of(&context.config, config.own.from.as_deref())?;
    let source = library::open_store(&source_url, &options)?;
    let replica = library::open_store(&config.own.url, &config.own.store)?;
    let (keys, locked_out) = unlock(context, Some(&source), &replica, key).await?;
    Ok(Opened { config, source_url, source, replica, keys, locked_out })
}

/// A replica alone, opened and unlocked; and what it is a copy of, or why that can't be opened.
pub struct Alone {
    pub config: ReplicaConfig,
    pub source: Result<Stack, Trouble>,
    pub replica: Stack,
    pub keys: Keys,
}

/// Opens the replica called `name` for the day when what it is a copy of may be gone.
pub async fn open_alone(context: &Context, name: &str, key: &KeyArgs) -> Result<Alone, Trouble> {
    let config = context.config.replica(name)?.clone();
    let (source_url, options) = source_of(&context.config, config.own.from.as_deref())?;
    let source = library::open_store(&source_url, &options);
    let replica = library::open_store(&config.own.url, &config.own.store)?;
    let (keys, _) = unlock(context, source.as_ref().ok(), &replica, key).await?;
    Ok(Alone { config, source, replica, keys })
}

/// The keys; and whether the source refuses the secret.
async fn unlock(
    context: &Context,
    source: Option<&Stack>,
    replica: &Stack,
    key: &KeyArgs,
) -> Result<(Keys, bool), Trouble> {
    let secret = key.source(&context.config.key).read()?;
    unlock_with(&secret, source.map(|source| &source.store), &replica.store).await
}

async fn unlock_with(secret: &Secret, source: Option<&DynStore>, replica: &DynStore) -> Result<(Keys, bool), Trouble> {
    let unlock = async |store: &DynStore| -> Result<Keys, Trouble> {
        Ok(library::find(store).await?.unlock(secret)?.keys().clone())
    };
    let Some(source) = source else { return Ok((unlock(replica).await?, false)) };
    match unlock(source).await {
        Ok(keys) => Ok((keys, false)),
        Err(trouble) => match unlock(replica).await {
            // One that can't be read just now says nothing of the secret.
            Ok(keys) => Ok((keys, trouble.code == Code::WrongSecret)),
            Err(_) => Err(trouble),
        },
    }
}

impl Opened {
    pub fn options(&self, name: &str) -> Options {
        let common = &self.config.common;
        Options {
            called: name.to_owned(),
            of: self.source_url.clone(),
            parallel: common.parallel,
            grace: common.grace,
            brake: common.brake,
            brake_floor: common.brake_floor,
            verify_within: common.verify_within,
            note_every: common.note_every,
            keep_configs: self.locked_out,
        }
    }

    /// Requests to both stores so far.
    pub fn requests(&self) -> u64 {
        self.source.meter.snapshot().requests() + self.replica.meter.snapshot().requests()
    }
}

/// What replication takes from outside.
pub fn world() -> World {
    World { clock: Arc::new(words::now), dice: Arc::new(library::dice), host: wire::host() }
}

/// A bar for bytes, on terminals only, and what moves it.
pub fn bar(doing: &'static str) -> (ProgressBar, ProgressFn) {
    let bar = super::ask::progress_bar(doing);
    let style = "{spinner} {prefix}: {msg} [{bar:30}] {binary_bytes_per_sec}, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style.progress_chars("=> "));
    }
    let moved = bar.clone();
    let last = Mutex::new(Progress::default());
    let progress: ProgressFn = Arc::new(move |progress: Progress| {
        *last.lock().unwrap_or_else(PoisonError::into_inner) = progress;
        moved.set_length(progress.bytes_total.max(1));
        moved.set_position(progress.bytes);
        moved.set_message(format!(
            "{} of {} objects, {} of {}",
            progress.objects,
            progress.objects_total,
            words::bytes(progress.bytes),
            words::bytes(progress.bytes_total)
        ));
    });
    (bar, progress)
}

/// `1.2 MiB/s`, or nothing where nothing moved.
pub fn rate(bytes: u64, seconds: f64) -> String {
    if bytes == 0 || seconds <= 0.0 {
        return String::new();
    }
    format!(", {:.1} MiB/s", bytes as f64 / seconds / f64::from(1 << 20))
}

/// Damage, a line each, and not for ever.
pub fn damage_lines(damaged: &[haven_replica::Damage]) -> String {
    const SHOWN: usize = 20;
    let mut out: String = damaged.iter().take(SHOWN).map(|damage| format!("damaged  {damage}\n")).collect();
    if damaged.len() > SHOWN {
        out += &format!("         and {} more: --json tells all\n", damaged.len() - SHOWN);
    }
    out
}

/// The trouble that damage is.
pub fn damaged_trouble(damaged: &[haven_replica::Damage], meaning: &str, next: &str) -> Trouble {
    let what = words::count(damaged.len(), "object");
    let what = format!("{what} {} missing or damaged", if damaged.len() == 1 { "is" } else { "are" });
    let trouble = Trouble::new(Code::Damaged, what).meaning(meaning).next(next);
    damaged.iter().take(3).fold(trouble, |trouble, one| trouble.because(one.to_string()))
}

/// Said, unless a script listens.
pub fn warn_all(warnings: &[String]) {
    warnings.iter().for_each(report::warn);
}

#[cfg(test)]
mod tests {
    use haven_format::{Nonce, config::OpenConfig, keys::Argon2Cost, record::Time};
    use haven_store::memory::Memory;
    use haven_testkit::{
        faults::{Faults, Weather},
        seed::in_virtual_time,
    };

    use super::*;

    fn planted(config: &OpenConfig) -> DynStore {
        let memory = Memory::new();
        let (name, body) = config.seal(Nonce([7; 8]));
        memory.plant(&name, body);
        Arc::new(memory)
    }

    #[test]
    fn a_source_that_cannot_be_read_does_not_refuse_the_secret() {
        in_virtual_time(async {
            let (secret, other) = (Secret::passphrase("photos").unwrap(), Secret::passphrase("others").unwrap());
            let cheap = || Argon2Cost { memory_kib: 8, passes: 1, lanes: 1 };
            let then = || Time { seconds: 1, nanos: 0 };
            let mut dice = |out: &mut [u8]| out.fill(3);
            let mut config = OpenConfig::create(&secret, "test", cheap(), then(), &mut dice).unwrap();
            let (same, replica) = (planted(&config), planted(&config));
            let slot = config.slot();
            config.change(slot, &other, cheap(), then(), &mut dice).unwrap();
            let changed = planted(&config);
            let (down, handle) = Faults::new(same.clone(), 1);
            handle.set_weather(Weather::Down);
            let down: DynStore = Arc::new(down);
            for (source, locked_out) in [(&same, false), (&changed, true), (&down, false)] {
                let (_, told) = unlock_with(&secret, Some(source), &replica).await.unwrap();
                assert_eq!(told, locked_out, "{source:?}");
            }
        });
    }
}
