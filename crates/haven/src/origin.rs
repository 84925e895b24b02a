//! Where a recovery point is read from: the library, a replica, a copy in Borg's or restic's format, or a folder that
//! something was brought back to.
//!
//! Of an archive the point's own folder is fetched to a temporary directory; its photos are read from it when they are
//! wanted. A library or a replica is opened as on a fresh machine: with nothing but its store and a secret, for reading only
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
use haven_point::Point;
use haven_recover::scratch::{self, Scratch};
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
    media::{Held, Media},
    report::{Code, Trouble, UNTOUCHED},
    secret::KeyArgs,
    standing, wire,
};

mod archived;

/// Bytes of what is fetched that are kept for a while.
const CACHE: u64 = 2 << 30;
/// What the names of directories for this begin with.
const LOOK: &str = "haven-look-";
/// How long a program that was asked to end may take.
const PATIENCE: Duration = Duration::from_secs(40);
/// Longer than anything here takes: one state from the beginning to the end, whatever is written meanwhile.
const STILL: Duration = Duration::from_secs(10 * 365 * 86_400);

/// A place that points can be read from.
#[derive(Debug, Clone)]
pub struct Origin {
    /// `library`, a replica's name, or what was typed.
    pub name: String,
    /// `library`, `replica`, `borg`, `restic` or `folder`.
    pub kind: &'static str,
    place: Place,
    /// What is fetched leaves a store that may ask money for it.
    pub bills: bool,
}

#[derive(Debug, Clone)]
enum Place {
    Folder(PathBuf),
    Store {
        url: String,
        options: Box<StoreOptions>,
    },
    /// Of haven.toml, and the archive in it that is meant.
    Copy {
        name: String,
        archive: Option<String>,
    },
}

/// Which point is meant.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pick<'a> {
    pub point: Option<&'a str>,
    pub of: Option<&'a str>,
    /// Any that is older than this one, another each time.
    pub older: Option<&'a str>,
}

impl Origin {
    /// What is meant by `--from`. Without it: the library, at its mount if `mounted` will do and it is mounted here.
    pub fn named(context: &Context, from: Option<&str>, mounted: bool) -> Result<Self, Trouble> {
        let config = &context.config;
        let store = |name: &str, kind, url: &str, options: StoreOptions| Self {
            name: name.to_owned(),
            kind,
            place: Place::Store { url: url.to_owned(), options: Box::new(options) },
            bills: bills(url),
        };
        let folder = |name: &str, kind, path: PathBuf, bills| Self {
            name: name.to_owned(),
            kind,
            place: Place::Folder(path),
            bills,
        };
        match from {
            None | Some("library") => {
                let point = config.mount.point.as_deref().filter(|_| mounted);
                if let Some(Ok(Found::Mount { point, at })) = point.map(find) {
                    return Ok(folder("library", "library", point, bills(&at.url)));
                }
                let url = config.library.url.clone().ok_or_else(|| {
                    Trouble::new(Code::Usage, "no library was named")
                        .meaning(UNTOUCHED)
                        .next("set library.url in haven.toml, or say with --from where the point is")
                })?;
                Ok(store("library", "library", &absolute(&url), config.store_of(&absolute(&url))))
            }
            Some(name) if config.replicas.contains_key(name) && config.copies.contains_key(name) => {
                Err(Trouble::new(Code::Usage, format!("both a replica and a copy are called {name}"))
                    .meaning(UNTOUCHED)
                    .next("rename one of them in haven.toml"))
            }
            Some(name) if config.copies.contains_key(name) => {
                let kind = config.copies[name].format.word();
                let place = Place::Copy { name: name.to_owned(), archive: None };
                Ok(Self { name: name.to_owned(), kind, place, bills: bills(&config.copies[name].repository) })
            }
            Some(name) if config.replicas.contains_key(name) => {
                let own = &config.replica(name)?.own;
                Ok(store(name, "replica", &own.url, own.store.clone()))
            }
            Some(text) if !text.contains("://") && Path::new(text).join(haven_point::FOLDER).is_dir() => {
                Ok(folder(text, "folder", text.into(), false))
            }
            Some(url) if url.contains("://") || Path::new(url).is_dir() => {
                Ok(store(url, "library", &absolute(url), config.store_of(&absolute(url))))
            }
            Some(other) => {
                Err(Trouble::new(Code::Usage, format!("{other:?} is no place that points can be read from"))
                    .because("it is no replica or copy in haven.toml, no URL, and no folder with recovery points in it")
                    .meaning(UNTOUCHED)
                    .next("haven replica list and haven copy list    tell their names"))
            }
        }
    }

    /// The same, with one archive of a copy in a foreign format.
    pub fn with_archive(mut self, wanted: Option<&str>) -> Result<Self, Trouble> {
        match (&mut self.place, wanted) {
            (_, None) => {}
            (Place::Copy { archive, .. }, Some(name)) => *archive = Some(name.to_owned()),
            (_, Some(_)) => {
                return Err(Trouble::new(Code::Usage, format!("{} has no archives", self.name))
                    .meaning(UNTOUCHED)
                    .next("--archive goes with a copy in Borg's or restic's format"));
            }
        }
        Ok(self)
    }

    /// The library, every replica and every copy that haven.toml names.
    pub fn all(context: &Context) -> Result<Vec<Self>, Trouble> {
        let mut all = vec![Self::named(context, None, false)?];
        for name in context.config.replicas.keys().chain(context.config.copies.keys()) {
            all.push(Self::named(context, Some(name), false)?);
        }
        Ok(all)
    }

    /// Opens it. The library's keys come along where a secret had to be read.
    pub fn open(&self, context: &Context, runtime: &Runtime, key: &KeyArgs, pick: Pick<'_>) -> Result<Open, Trouble> {
        let begun = Instant::now();
        match &self.place {
            Place::Folder(root) => {
                runtime.spawn(until_a_signal(None, None));
                Ok(Open { root: root.clone(), keys: None, shown: None, held: None, took: begun.elapsed() })
            }
            Place::Store { url, options } => {
                let (shown, keys) = runtime.block_on(Shown::open(context, runtime, url, options, key))?;
                let root = shown.point.clone();
                Ok(Open { root, keys: Some(keys), shown: Some(shown), held: None, took: begun.elapsed() })
            }
            Place::Copy { name, archive } => {
                let cancel = haven_offsite::Cancel::default();
                runtime.spawn(until_a_signal(None, Some(cancel.clone())));
                let (held, directory) = archived::open(context, name, archive.as_deref(), pick, cancel)?;
                let root = directory.path().to_owned();
                let held = Some((Arc::new(held), directory));
                Ok(Open { root, keys: None, shown: None, held, took: begun.elapsed() })
            }
        }
    }
}

/// Stores that count bytes.
fn bills(url: &str) -> bool {
    ["s3:", "b2:", "azure:", "gs:", "swift:"].iter().any(|scheme| url.starts_with(scheme))
}

/// An origin that can be read.
pub struct Open {
    /// The root of a library, or of what was brought back.
    pub root: PathBuf,
    pub keys: Option<Keys>,
    shown: Option<Shown>,
    /// An archive, and the directory that its point's folder was fetched to.
    held: Option<(Arc<Held>, TempDir)>,
    /// From nothing to readable.
    pub took: Duration,
}

impl Open {
    /// How that was done, in words.
    pub fn how(&self) -> String {
        match (&self.shown, &self.held) {
            (Some(_), _) => "as on a fresh machine, for reading only".into(),
            (None, Some((held, _))) => {
                let format = held.copy.config.format.word();
                format!("archive {}, read by {format} {}", held.archive.name, held.copy.copy.version())
            }
            (None, None) => "the folder is there".into(),
        }
    }

    /// The point that is meant.
    pub fn point(&self, pick: Pick<'_>) -> Result<Point, haven_point::Error> {
        match (&self.held, pick.older) {
            // There is only the one that was fetched.
            (Some(_), _) => haven_point::open(&self.root, None, None),
            (None, None) => haven_point::open(&self.root, pick.point, pick.of),
            (None, Some(than)) => haven_point::open_older(&self.root, than, dice()),
        }
    }

    /// Where the files of a point are; `None`: they are not there.
    pub fn media(&self, point: &Point) -> Option<Media> {
        match &self.held {
            Some((held, _)) => Some(Media::archive(held, &point.manifest.files.folder)),
            None => point.media().map(Media::Folder),
        }
    }
}

/// Takes off mounts that processes which were killed have left, and deletes their caches.
fn clear_dead_looks() {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for directory in scratch::forgotten_in(&std::env::temp_dir(), &[LOOK]) {
        let point = directory.join("library");
        let mounted = mounts.lines().any(|line| line.split(' ').nth(4) == point.to_str());
        // Never is anything deleted below a mount.
        if !mounted || detach(&point, true).is_ok() {
            _ = std::fs::remove_dir_all(&directory);
        }
    }
}

/// Something else each time.
fn dice() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_nanos() as u64 / 1000
}

/// A library shown to this process alone.
struct Shown {
    runtime: tokio::runtime::Handle,
    vault: Arc<Vault>,
    session: Session,
    point: PathBuf,
    /// Holds the mount point and the cache.
    _directory: Scratch,
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
        clear_dead_looks();
        let directory = Scratch::new(LOOK, &std::env::temp_dir());
        let no_room = |error: &dyn std::error::Error| {
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
        runtime.spawn(until_a_signal(Some((point.clone(), directory.path().to_owned())), None));
        let runtime = runtime.handle().clone();
        Ok((Self { runtime, vault, session, point, _directory: directory }, keys))
    }
}

/// Ctrl-C must leave neither a dead mount behind, nor a database server, nor a program that goes on. `shown`: the mount
/// point, and what holds it.
async fn until_a_signal(shown: Option<(PathBuf, PathBuf)>, cancel: Option<haven_offsite::Cancel>) {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    if let Some(cancel) = cancel {
        // Whoever waits for the program tells of it, and ends this process.
        cancel.cancel();
        tokio::time::sleep(PATIENCE).await;
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
