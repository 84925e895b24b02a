//! Every object of a mount, built on one screen: store, vault, file system, options.

use std::{
    num::NonZero,
    path::{Path, PathBuf},
    sync::Arc,
};

use haven_format::{Keys, LibraryId, record::Time};
use haven_fs::{Fs, FsError};
use haven_mount::{Fsync as MountFsync, MountError, MountOptions};
use haven_store::Stack;
use haven_vault::{
    Options as VaultOptions, Vault, VaultError, View, World,
    collect::CollectOptions,
    disk::{Disk, DiskError, LocalDisk},
    world::{Clock, Dice, SystemClock},
};

use crate::{
    config::{self, Config, Fsync},
    library::{copy_trouble, store_trouble},
    report::{Code, Trouble, UNTOUCHED},
};

/// The vault's clock for the file system too.
#[derive(Debug)]
struct FsClock(SystemClock);

impl haven_fs::Clock for FsClock {
    fn now(&self) -> Time {
        self.0.now()
    }
}

/// What this machine is called in claims.
pub fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Where a library's cache is when nobody says.
pub fn cache_directory(config: &Config, flag: Option<&Path>, library: LibraryId) -> Result<PathBuf, Trouble> {
    if let Some(path) = flag.map(Path::to_owned).or_else(|| config.cache.directory.clone()) {
        return std::path::absolute(&path)
            .map_err(|error| Trouble::new(Code::Local, "the cache directory can't be named").caused_by(&error));
    }
    if let Some(path) = std::env::var_os("CACHE_DIRECTORY").filter(|path| !path.is_empty()) {
        return Ok(path.into());
    }
    // What was not sent yet lies where the last mount by the same service put it.
    let base = config::told_directory("XDG_CACHE_HOME", ".cache").unwrap_or_else(|| "/var/cache/haven".into());
    Ok(base.join(library.to_string()))
}

/// Locks a cache directory for this process.
pub fn local_disk(path: &Path) -> Result<Arc<LocalDisk>, Trouble> {
    LocalDisk::open(path).map(Arc::new).map_err(|error| {
        let trouble = Trouble::new(Code::Local, format!("the cache directory {} can't be used", path.display()))
            .caused_by(&error)
            .meaning(UNTOUCHED);
        match error {
            DiskError::InUse { .. } => {
                trouble.next("unmount the other one, or give this mount a directory of its own: --cache DIR")
            }
            DiskError::Io { .. } => trouble.next("name a directory that this user may write to: --cache DIR"),
        }
    })
}

/// What a vault takes from outside.
pub fn world(stack: &Stack, disk: Arc<dyn Disk>) -> World {
    World {
        store: stack.store.clone(),
        disk,
        clock: Arc::new(SystemClock),
        dice: Arc::new(Dice::from_os()),
        host: host(),
        threads: true,
    }
}

/// Opens the library in `world`'s store.
pub async fn vault(world: World, keys: &Keys, options: VaultOptions) -> Result<Arc<Vault>, Trouble> {
    Vault::open(world, keys.clone(), options)
        .await
        .map_err(|error| vault_trouble("the library can't be opened", &error))
}

/// How the settings open a library.
pub fn vault_options(config: &Config) -> VaultOptions {
    VaultOptions {
        cache_limit: config.cache.size,
        read_only: config.mount.read_only,
        send_after: config.upload.send_after,
        sync_after: config.upload.sync_after,
        uploads: config.upload.packs_max,
        collect: collect_options(config),
        ..VaultOptions::default()
    }
}

fn collect_options(config: &Config) -> CollectOptions {
    let gc = &config.gc;
    CollectOptions {
        every: Some(gc.every),
        grace: gc.grace,
        remember: gc.remember,
        brake: gc.brake,
        brake_floor: gc.brake_floor,
        waste: gc.waste,
        pace: gc.pace,
    }
}

/// The file system in `vault`. On a fresh machine its first records have to be fetched.
pub async fn file_system(vault: &Arc<Vault>, keys: &Keys, config: &Config) -> Result<Arc<Fs>, FsError> {
    file_system_at(vault, keys, config, None).await
}

/// The same as it was at some moment.
pub async fn file_system_at(
    vault: &Arc<Vault>,
    keys: &Keys,
    config: &Config,
    at: Option<View>,
) -> Result<Arc<Fs>, FsError> {
    let user = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let options = haven_fs::Options {
        owner: user,
        read_only: config.mount.read_only,
        at,
        list_snapshots: config.mount.list_snapshots,
        atime: if config.mount.no_atime { haven_fs::Atime::Off } else { haven_fs::Atime::Relative },
        quota: config.mount.quota.map(|size| size.0),
        ..haven_fs::Options::default()
    };
    loop {
        let clock = Arc::new(FsClock(SystemClock));
        match Fs::start(vault.clone(), keys.clone(), clock, options.clone()) {
            Err(FsError::Need(need)) => vault.settle(&need).await.map_err(FsError::from)?,
            other => return other,
        }
    }
}

/// How the settings show the library of `url` as a folder.
pub fn mount_options(config: &Config, url: &str) -> MountOptions {
    let mount = &config.mount;
    let usual = MountOptions::new(url);
    MountOptions {
        read_only: mount.read_only,
        allow_other: mount.allow_other,
        no_atime: mount.no_atime,
        writeback_cache: mount.writeback_cache,
        read_ahead_bytes: u32::try_from(mount.read_ahead).unwrap_or(u32::MAX),
        fsync: match mount.fsync {
            Fsync::Disk => MountFsync::Disk,
            Fsync::Bucket => MountFsync::Bucket,
        },
        stop_patience: mount.stop_patience,
        // Another machine may write to what is mounted read-only: the kernel keeps nothing, and asks again soon.
        changes_elsewhere: mount.read_only,
        kernel_ttl: if mount.read_only { std::time::Duration::from_secs(1) } else { usual.kernel_ttl },
        ..usual
    }
}

/// Threads for what waits: the network, the disk. The kernel's requests have threads of their own.
pub fn runtime() -> Result<tokio::runtime::Runtime, Trouble> {
    let threads = std::thread::available_parallelism().map_or(2, NonZero::get).clamp(2, 8);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .map_err(|error| Trouble::new(Code::Local, "threads can't be started").caused_by(&error))
}

/// The vault's trouble in words.
pub fn vault_trouble(what: &str, error: &VaultError) -> Trouble {
    match error {
        VaultError::Store(error) => store_trouble(what, error).meaning(UNTOUCHED),
        VaultError::Copy { .. } => copy_trouble(error.to_string()),
        VaultError::Damaged { .. } => Trouble::new(Code::Damaged, what)
            .because(error.to_string())
            .meaning("what the store holds there can't be trusted; nothing was changed")
            .next("put that object back from a replica, a backup, or the store's own versioning"),
        VaultError::Diverged { .. } => Trouble::new(Code::Fenced, what)
            .because(error.to_string())
            .next("haven salvage --cache DIR --to DIR    saves them as plain files"),
        VaultError::ReadOnly { .. } => Trouble::new(Code::Fenced, what)
            .because(error.to_string())
            .next("haven claims    tells which machine writes now"),
        VaultError::Local { full, .. } => {
            let trouble = Trouble::new(Code::Local, what).because(error.to_string());
            if *full {
                trouble.next("make room on the cache's disk")
            } else {
                trouble.next("see to the cache's disk, or name another: --cache DIR")
            }
        }
        VaultError::Refused(_) => Trouble::new(Code::Local, what).because(error.to_string()).meaning(UNTOUCHED),
        VaultError::Need(_) => Trouble::new(Code::Bug, what).because(error.to_string()),
    }
}

/// Why there is no file system in a vault that opened.
pub fn fs_trouble(error: &FsError) -> Trouble {
    match error {
        FsError::Vault(error) => vault_trouble("the file system can't be opened", error),
        // The root directory is made at the first writable mount, which was refused here.
        FsError::ReadOnly { .. } => {
            Trouble::new(Code::NoLibrary, "the library is still empty: nothing has reached the store yet")
                .meaning(UNTOUCHED)
                .next("mount it for writing once, or wait until the machine that writes has sent its first changes")
        }
        _ => Trouble::new(Code::Damaged, "the file system can't be opened").caused_by(error),
    }
}

/// The mount's trouble in words.
pub fn mount_trouble(error: &MountError) -> Trouble {
    let source = std::error::Error::source(error);
    let trouble = Trouble::new(Code::Mount, error.to_string())
        .meaning("nothing was mounted; the mount point is as it was")
        .next(error.advice());
    match source {
        Some(source) => trouble.because(source.to_string()),
        None => trouble,
    }
}
