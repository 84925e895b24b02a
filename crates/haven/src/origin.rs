//! Where a recovery point is read from: the library, a replica, a copy in Borg's or restic's format, or a folder that
//! something was brought back to.
//!
//! Of an archive the point's own folder is fetched to a temporary directory; its photos are read from it when they are
//! wanted. A library or a replica is opened as on a fresh machine: with nothing but its store and a secret, for reading only
//! whatever the credentials allow, and shown to this process at a place of its own that goes with it.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use haven_format::Keys;
use haven_mount::{
    Session,
    control::{Found, find},
    detach, mount,
};
use haven_point::{Point, application};
use haven_recover::scratch::{self, Scratch};
use haven_store::{StoreOptions, read_only};
use haven_vault::Vault;
use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
};

use crate::{
    cli::{Context, absolute},
    config::{self, Config},
    library,
    media::{Held, Media},
    points,
    report::{self, Code, Trouble, UNTOUCHED},
    secret::KeyArgs,
    standing, wire,
};

mod archived;

/// Bytes of metadata that are kept on the disk meanwhile. Files are read once, and are not.
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

impl Pick<'_> {
    /// Whether nothing says which.
    pub fn is_any(&self) -> bool {
        self.point.is_none() && self.of.is_none() && self.older.is_none()
    }
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

    /// As it is spoken of.
    pub fn called(&self) -> String {
        match self.kind {
            "library" if self.name == "library" => "the library".into(),
            "replica" => format!("the replica {}", self.name),
            "borg" | "restic" => format!("the copy {}", self.name),
            _ => self.name.clone(),
        }
    }

    /// Why the point that was asked for did not come: where it was looked for, and what is there instead.
    pub fn lacks(&self, opened: &Open, pick: Pick<'_>, error: &haven_point::Error) -> Trouble {
        use haven_point::Error;
        if !matches!(error, Error::None { .. } | Error::Missing { .. }) {
            return points::trouble(error);
        }
        let there = opened.points();
        let here = self.called();
        let trouble = Trouble::new(
            Code::NoPoint,
            match (pick.point, pick.of) {
                (Some(point), _) => format!("{here} has no recovery point called {point}"),
                (None, Some(of)) => format!("{here} has no complete recovery point of {of}"),
                (None, None) => format!("{here} has no complete recovery point"),
            },
        );
        let trouble = trouble.meaning(UNTOUCHED);
        let named = pick.point.and_then(|point| config::nearest(point, &there));
        let trouble = match named {
            Some(near) => trouble.next(format!("is it {near}?")),
            None => trouble,
        };
        let mut of: Vec<&str> = there.iter().filter_map(|point| application(point)).collect();
        of.sort_unstable();
        of.dedup();
        if of.is_empty() { trouble } else { trouble.because(format!("it has points of {}", of.join(", "))) }
    }

    /// The other places of haven.toml that a point may be in.
    pub fn others(&self, config: &Config) -> Vec<String> {
        let library = config.library.url.iter().map(|_| "library".to_owned());
        let all = library.chain(config.replicas.keys().cloned()).chain(config.copies.keys().cloned());
        all.filter(|name| *name != self.name).collect()
    }

    /// Why it can't be opened, for whoever wants something back: where else it may be, and nothing that only helps who
    /// begins. `command` is what a place is named to with `--from`.
    pub fn unopened(&self, config: &Config, mut trouble: Trouble, command: &str) -> Trouble {
        // Anything else is not the place's: a slip, a secret, this machine.
        if !matches!(trouble.code, Code::Store | Code::NoLibrary | Code::Damaged) {
            return trouble;
        }
        if trouble.next.iter().any(|next| library::TO_BEGIN.contains(&next.as_str())) {
            trouble.next = vec!["check the URL".into()];
            trouble = trouble.because("if a library was there: the bucket may have been emptied or deleted");
        }
        for name in self.others(config) {
            let what = match config.copies.get(&name) {
                Some(copy) => format!("a copy by {}", copy.format.word()),
                None if config.replicas.contains_key(&name) => "a replica".into(),
                None => "the library".into(),
            };
            trouble = trouble.next(format!("{command} --from {name} …    {what}"));
        }
        trouble
    }

    /// Opens it. The library's keys come along where a secret had to be read.
    pub fn open(&self, context: &Context, runtime: &Runtime, key: &KeyArgs, pick: Pick<'_>) -> Result<Open, Trouble> {
        let begun = Instant::now();
        let stop = Arc::new(AtomicBool::new(false));
        match &self.place {
            Place::Folder(root) => {
                runtime.spawn(until_a_signal(None, None, stop.clone()));
                Ok(Open { root: root.clone(), keys: None, shown: None, held: None, stop, took: begun.elapsed() })
            }
            Place::Store { url, options } => {
                let (shown, keys) = runtime.block_on(Shown::open(context, runtime, url, options, key, &stop))?;
                let root = shown.point.clone();
                Ok(Open { root, keys: Some(keys), shown: Some(shown), held: None, stop, took: begun.elapsed() })
            }
            Place::Copy { name, archive } => {
                let cancel = haven_offsite::Cancel::default();
                runtime.spawn(until_a_signal(None, Some(cancel.clone()), stop.clone()));
                let (held, directory) = archived::open(context, name, archive.as_deref(), pick, cancel)?;
                let root = directory.files();
                let held = Some((Arc::new(held), directory));
                Ok(Open { root, keys: None, shown: None, held, stop, took: begun.elapsed() })
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
    held: Option<(Arc<Held>, Scratch)>,
    stop: Arc<AtomicBool>,
    /// From nothing to readable.
    pub took: Duration,
}

impl Open {
    /// Set when a signal came. Who holds it heeds it soon: for as long as it is held, the process is not ended.
    pub fn stop(&self) -> Arc<AtomicBool> {
        self.stop.clone()
    }

    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

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
        if self.held.is_none() && pick.point.is_none() && pick.older.is_none() {
            for name in haven_point::ahead(&self.root, pick.of)? {
                report::warn(format!("{name} is of a time to come, and is passed over: a clock stood wrong"));
            }
        }
        match (&self.held, pick.older) {
            // There is only the one that was fetched.
            (Some(_), _) => haven_point::open(&self.root, None, None),
            (None, None) if pick.is_any() => haven_point::open_only(&self.root),
            (None, None) => haven_point::open(&self.root, pick.point, pick.of),
            (None, Some(than)) => haven_point::open_older(&self.root, than, dice()),
        }
    }

    /// The names of all points, whether they are complete or not.
    pub fn points(&self) -> Vec<String> {
        haven_point::list(&self.root).unwrap_or_default().into_iter().map(|found| found.name).collect()
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
        stop: &Arc<AtomicBool>,
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
        let options = haven_vault::Options { follow_every: STILL, keeps_data: false, ..wire::vault_options(&config) };
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
        let there = (point.clone(), directory.path().to_owned());
        runtime.spawn(until_a_signal(Some(there), None, stop.clone()));
        let runtime = runtime.handle().clone();
        Ok((Self { runtime, vault, session, point, _directory: directory }, keys))
    }
}

/// The owner of an origin and the one that waits for a signal hold its `stop`; whoever else does is at work.
const IDLE: usize = 2;
/// How long who was at work has to tell of it and to tidy up.
const FAREWELL: Duration = Duration::from_secs(5);

/// Ctrl-C must leave neither a dead mount behind, nor a database server, nor a program that goes on. `shown`: the mount
/// point, and what holds it.
async fn until_a_signal(
    shown: Option<(PathBuf, PathBuf)>,
    cancel: Option<haven_offsite::Cancel>,
    stop: Arc<AtomicBool>,
) {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    stop.store(true, Ordering::Relaxed);
    let until = Instant::now() + PATIENCE;
    let at_work = Arc::strong_count(&stop) > IDLE;
    // Whoever waits for a program ends it, tells of it, and ends this process.
    if let Some(cancel) = cancel {
        cancel.cancel();
        tokio::time::sleep(PATIENCE).await;
    }
    while Arc::strong_count(&stop) > IDLE && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    if at_work {
        tokio::time::sleep(FAREWELL).await;
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
        .tell(report::speaks_json());
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
