//! Where a recovery point is read from: the library, a replica, or a folder that something was brought back to.
//!
//! A library or a replica is opened as on a fresh machine: with nothing but its store and a secret, for reading only
//! whatever the credentials allow, and shown to this process at a place of its own that goes with it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use haven_format::Keys;
use haven_mount::{
    Session,
    control::{Found, find},
    detach, mount,
};
use haven_store::{StoreOptions, read_only};
use haven_vault::Vault;
use tempfile::TempDir;
use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
};

use crate::{
    cli::{Context, absolute},
    library,
    report::{Code, Trouble, UNTOUCHED},
    secret::KeyArgs,
    standing, wire,
};

/// Bytes of what is fetched that are kept for a while.
const CACHE: u64 = 2 << 30;
/// Longer than anything here takes: one state from the beginning to the end, whatever is written meanwhile.
const STILL: Duration = Duration::from_secs(10 * 365 * 86_400);

/// A place that points can be read from.
#[derive(Debug, Clone)]
pub struct Origin {
    /// `library`, a replica's name, or what was typed.
    pub name: String,
    /// `library`, `replica` or `folder`.
    pub kind: &'static str,
    place: Place,
}

#[derive(Debug, Clone)]
enum Place {
    Folder(PathBuf),
    Store { url: String, options: Box<StoreOptions> },
}

impl Origin {
    /// What is meant by `--from`. Without it: the library, at its mount if `mounted` will do and it is mounted here.
    pub fn named(context: &Context, from: Option<&str>, mounted: bool) -> Result<Self, Trouble> {
        let config = &context.config;
        let store = |name: &str, kind, url: &str, options: StoreOptions| Self {
            name: name.to_owned(),
            kind,
            place: Place::Store { url: url.to_owned(), options: Box::new(options) },
        };
        match from {
            None | Some("library") => {
                let point = config.mount.point.as_deref().filter(|_| mounted);
                if let Some(Ok(Found::Mount { point, .. })) = point.map(find) {
                    return Ok(Self { name: "library".into(), kind: "library", place: Place::Folder(point) });
                }
                let url = config.library.url.clone().ok_or_else(|| {
                    Trouble::new(Code::Usage, "no library was named")
                        .meaning(UNTOUCHED)
                        .next("set library.url in haven.toml, or say with --from where the point is")
                })?;
                Ok(store("library", "library", &absolute(&url), config.store_of(&absolute(&url))))
            }
            Some(name) if config.replicas.contains_key(name) => {
                let own = &config.replica(name)?.own;
                Ok(store(name, "replica", &own.url, own.store.clone()))
            }
            Some(text) if !text.contains("://") && Path::new(text).join(haven_point::FOLDER).is_dir() => {
                Ok(Self { name: text.to_owned(), kind: "folder", place: Place::Folder(text.into()) })
            }
            Some(url) if url.contains("://") || Path::new(url).is_dir() => {
                Ok(store(url, "library", &absolute(url), config.store_of(&absolute(url))))
            }
            Some(other) => {
                Err(Trouble::new(Code::Usage, format!("{other:?} is no place that points can be read from"))
                    .because("it is no replica in haven.toml, no URL, and no folder with recovery points in it")
                    .meaning(UNTOUCHED)
                    .next("haven replica list    tells the names of replicas"))
            }
        }
    }

    /// The library and every replica that haven.toml names.
    pub fn all(context: &Context) -> Result<Vec<Self>, Trouble> {
        let mut all = vec![Self::named(context, None, false)?];
        for name in context.config.replicas.keys() {
            all.push(Self::named(context, Some(name), false)?);
        }
        Ok(all)
    }

    /// Opens it. The library's keys come along where a secret had to be read.
    pub fn open(&self, context: &Context, runtime: &Runtime, key: &KeyArgs) -> Result<Open, Trouble> {
        let begun = Instant::now();
        match &self.place {
            Place::Folder(root) => {
                runtime.spawn(until_a_signal(None));
                Ok(Open { root: root.clone(), keys: None, shown: None, took: begun.elapsed() })
            }
            Place::Store { url, options } => {
                let (shown, keys) = runtime.block_on(Shown::open(context, runtime, url, options, key))?;
                let root = shown.point.clone();
                Ok(Open { root, keys: Some(keys), shown: Some(shown), took: begun.elapsed() })
            }
        }
    }
}

/// An origin that can be read.
pub struct Open {
    /// The root of a library, or of what was brought back.
    pub root: PathBuf,
    pub keys: Option<Keys>,
    shown: Option<Shown>,
    /// From nothing to readable.
    pub took: Duration,
}

impl Open {
    /// Whether it was opened from its store for this, and not found mounted.
    pub fn is_cold(&self) -> bool {
        self.shown.is_some()
    }
}

/// A library shown to this process alone.
struct Shown {
    runtime: tokio::runtime::Handle,
    vault: Arc<Vault>,
    session: Session,
    point: PathBuf,
    /// Holds the mount point and the cache.
    _directory: TempDir,
}

impl Shown {
    async fn open(
        context: &Context,
        runtime: &Runtime,
        url: &str,
        options: &StoreOptions,
        key: &KeyArgs,
    ) -> Result<(Self, Keys), Trouble> {
        let stack = library::open_store(url, options)?;
        let keys = library::find(&stack.store).await?.unlock(&key.source(&context.config.key).read()?)?.keys().clone();
        let mut config = context.config.clone();
        config.mount.read_only = true;
        config.mount.list_snapshots = false;
        config.mount.allow_other = false;
        config.cache.size = CACHE;
        let directory = tempfile::Builder::new().prefix("haven-look-").tempdir();
        let no_room = |error: &std::io::Error| {
            Trouble::new(Code::Local, "there is no room for temporary files")
                .caused_by(error)
                .meaning(UNTOUCHED)
                .next("set TMPDIR to a directory with some room")
        };
        let directory = directory.map_err(|error| no_room(&error))?;
        let point = directory.path().join("library");
        std::fs::create_dir(&point).map_err(|error| no_room(&error))?;
        let store = read_only(standing::store_for(&stack, &keys, &config, false).await?);
        let disk = wire::local_disk(&directory.path().join("cache"))?;
        let world = haven_vault::World { store, ..wire::world(&stack, disk) };
        let options = haven_vault::Options { follow_every: STILL, ..wire::vault_options(&config) };
        let vault = wire::vault(world, &keys, options).await?;
        let mounted = async {
            let fs = wire::file_system(&vault, &keys, &config).await.map_err(|error| wire::fs_trouble(&error))?;
            let mut options = wire::mount_options(&config, url);
            // Nothing changes: the kernel may keep what it has.
            options.changes_elsewhere = false;
            let (at, handle) = (point.clone(), runtime.handle().clone());
            let made = tokio::task::spawn_blocking(move || mount(fs, &at, &options, handle)).await;
            let made = made.map_err(|error| Trouble::new(Code::Bug, error.to_string()))?;
            made.map_err(|error| wire::mount_trouble(&error))
        };
        let session = match mounted.await {
            Ok(session) => session,
            Err(trouble) => {
                _ = vault.close(false).await;
                return Err(trouble);
            }
        };
        runtime.spawn(until_a_signal(Some((point.clone(), directory.path().to_owned()))));
        let runtime = runtime.handle().clone();
        Ok((Self { runtime, vault, session, point, _directory: directory }, keys))
    }
}

/// Ctrl-C must leave neither a dead mount behind, nor a database server. `shown`: the mount point, and what holds it.
async fn until_a_signal(shown: Option<(PathBuf, PathBuf)>) {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    let gone = tokio::task::spawn_blocking(move || {
        haven_recover::cluster::end_all();
        if let Some((point, directory)) = shown
            && detach(&point, true).is_ok()
        {
            _ = std::fs::remove_dir_all(&directory);
        }
    });
    _ = gone.await;
    Trouble::new(Code::Unfinished, "interrupted")
        .meaning("what was brought back so far stays; the same command goes on from there")
        .tell(false);
    std::process::exit(Code::Unfinished.exit().into());
}

impl Drop for Shown {
    fn drop(&mut self) {
        // Nobody else uses it; what can't be taken off now goes with the process.
        if self.session.unmount(false).is_err() {
            _ = self.session.unmount(true);
        }
        _ = self.runtime.block_on(self.vault.close(false));
    }
}
