//! A directory on a server that speaks SFTP: a NAS, a rented box, any machine with sshd.
//!
//! Objects are files as in [`crate::dir`], so that the directory can be opened there as well, on its
//! server: `p/3f/3fa9` below the root, puts under way in `~tmp`.
//!
//! Promises:
//! - a put writes a file in `~tmp`, has it synced (`fsync@openssh.com`), gives it its name with a rename
//!   that replaces (`posix-rename@openssh.com`) or, for `IfAbsent`, a link that does not
//!   (`hardlink@openssh.com`), and has the folder synced: half an object is never visible. OpenSSH's
//!   server knows all of these. One that can't sync may lose in a power cut what it has said it has;
//!   that is told once, as a warning;
//! - the root itself is made by no put: when it is gone (a disk not mounted) that is `NoBucket`;
//! - no more than a few connections, made when needed; a server that is not known is never spoken to.
//!
//! Does not honour `PutMode::IfMatch`. An object `a` and an object `a/b` can't both exist. No ETags.
//!
//! In the SSH library every algorithm is in Rust or AWS-LC; no `ssh` is run. The packets of SFTP are our
//! own ([`wire`]).

mod config;
mod known_hosts;
mod pool;
mod session;
mod ssh;
mod transfer;
mod wire;

use std::{
    collections::HashSet,
    fmt,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use async_trait::async_trait;
use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use tokio::sync::OnceCell;

pub use self::config::SftpConfig;
use self::{
    config::Target,
    pool::{Lease, Pool},
    session::{Awaited, Failure, Session},
    wire::{Attributes, Kind, Reply, code},
};
use crate::{
    open::OpenError,
    port::{ListPage, ObjectMeta, ObjectName, PutMode, Store, StoreError},
    secret::environment,
    tree::{self, Entry, Folders},
    url::Remote,
};

/// The folder of puts under way.
const TEMPORARY: &str = "~tmp";
/// A leftover is swept when nobody has written to it for so long, by the server's clock.
const LEFTOVER_AGE_SECONDS: u32 = 3600;
/// Requests for the entries of a folder in flight at once.
const FOLDER_READS: usize = 2;

/// A store in a directory of another machine.
pub struct Sftp {
    target: Arc<Target>,
    pool: Pool,
    /// Make the root when it is missing.
    create: bool,
    made: OnceCell<()>,
    swept: AtomicBool,
    /// Folders (relative) known to be durable: made, and synced in the folder above.
    durable: Mutex<HashSet<String>>,
    /// Told once that this server can't sync files, or folders.
    warned: [AtomicBool; 2],
    /// Makes the names in `~tmp` unique, with the random part.
    next_temporary: AtomicU64,
    random: u64,
}

impl fmt::Debug for Sftp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe())
    }
}

impl Sftp {
    /// Opens the store that a URL names, with the process's environment. Touches no network.
    pub(crate) fn open(remote: Remote, config: &SftpConfig, create: bool) -> Result<Self, OpenError> {
        let target = Arc::new(Target::resolve(remote, config, &environment)?);
        Ok(Self {
            pool: Pool::new(target.clone()),
            target,
            create,
            made: OnceCell::new(),
            swept: AtomicBool::new(false),
            durable: Mutex::default(),
            warned: Default::default(),
            next_temporary: AtomicU64::new(0),
            random: rand::random(),
        })
    }

    /// A connection; the first makes the root, if that was asked for.
    async fn lease(&self) -> Result<Lease, StoreError> {
        let lease = self.pool.lease().await?;
        if self.create {
            self.made.get_or_try_init(|| self.make_root(&lease)).await?;
        }
        Ok(lease)
    }

    async fn make_root(&self, session: &Session) -> Result<(), StoreError> {
        let root = self.target.root_path();
        let ends = root.match_indices('/').map(|(at, _)| at).filter(|at| *at > 0);
        for end in ends.chain([root.len()]) {
            let folder = &root[..end];
            if session.done(wire::make_folder(folder)).await.is_ok() {
                let above = folder.rfind('/').map_or(".", |slash| &folder[..slash.max(1)]);
                self.sync_folder(session, above).await.map_err(|failure| failure.into_error(above))?;
            }
        }
        self.check_root(session).await
    }

    /// After something was not found: is the root itself gone?
    async fn check_root(&self, session: &Session) -> Result<(), StoreError> {
        match session.attributes(wire::stat(self.target.root_path())).await {
            Ok(found) if matches!(found.kind(), Kind::Folder | Kind::Untold) => Ok(()),
            Err(failure) if !failure.is(code::NO_SUCH_FILE) => Err(failure.into_error(self.target.root_path())),
            Ok(_) | Err(_) => {
                self.durable.lock().clear();
                Err(StoreError::NoBucket { location: self.target.url() })
            }
        }
    }

    /// What a failure on `name` means, where `bytes` were to be written.
    async fn explain(&self, session: &Session, failure: Failure, name: &ObjectName, bytes: usize) -> StoreError {
        if failure.is(code::NO_SUCH_FILE) {
            return match self.check_root(session).await {
                Ok(()) => not_found(name),
                Err(error) => error,
            };
        }
        // Version 3 has no word for a full disk.
        if failure.is(code::FAILURE) && bytes > 0 && self.is_full(session, bytes as u64).await {
            return StoreError::Full { detail: format!("{}: no space is left there", self.target.url()) };
        }
        failure.into_error(name.as_str())
    }

    async fn is_full(&self, session: &Session, bytes: u64) -> bool {
        if !session.knows(wire::STATVFS) {
            return false;
        }
        let Ok(Reply::Extended(mut told)) = session.send(wire::statvfs(self.target.root_path())).await else {
            return false;
        };
        let mut numbers = [0_u64; 8];
        for number in &mut numbers {
            *number = told.try_get_u64().unwrap_or(u64::MAX);
        }
        // Block and fragment size; blocks, free, available; files, free, available.
        let [_, fragment, _, _, available, _, _, files] = numbers;
        available.saturating_mul(fragment) < bytes.saturating_add(64 << 10) || files == 0
    }

    fn warn_once(&self, which: usize, what: &str) {
        if !self.warned[which].swap(true, Relaxed) {
            tracing::warn!(
                store = %self.target.url(),
                "this server can't be told to sync {what}: a power cut there may lose what it has said it has"
            );
        }
    }

    /// Has `path`, a folder, synced, if the server can.
    async fn sync_folder(&self, session: &Session, path: &str) -> Result<(), Failure> {
        self.sync_opened(session, self.open_to_sync(session, path)).await
    }

    /// Asks for a folder's handle, which takes a round trip that something else may use as well.
    fn open_to_sync(&self, session: &Session, path: &str) -> Option<Awaited> {
        let can = session.knows(wire::FSYNC) && !self.warned[1].load(Relaxed);
        if !can {
            self.warn_once(1, "folders");
        }
        can.then(|| session.send(wire::open(path, wire::READ)))
    }

    async fn sync_opened(&self, session: &Session, opened: Option<Awaited>) -> Result<(), Failure> {
        let Some(opened) = opened else { return Ok(()) };
        let synced = match opened.handle().await {
            Ok(handle) => {
                let synced = session.send(wire::fsync(&handle));
                drop(session.send(wire::close(&handle)));
                synced.done().await
            }
            // Only OpenSSH's server is known to open a folder as a file.
            Err(Failure::Status { .. }) => Err(Failure::Status { code: code::UNSUPPORTED, message: String::new() }),
            Err(lost) => Err(lost),
        };
        match synced {
            Err(failure) if transfer::cannot_sync(&failure) => {
                self.warn_once(1, "folders");
                Ok(())
            }
            synced => synced,
        }
    }

    /// Makes `folder` (relative) and those above it, never the root, and has them synced.
    async fn make_folder(&self, session: &Session, folder: &str, name: &ObjectName) -> Result<(), StoreError> {
        if folder.is_empty() || self.durable.lock().contains(folder) {
            return Ok(());
        }
        let above = folder.rfind('/').map_or("", |slash| &folder[..slash]);
        Box::pin(self.make_folder(session, above, name)).await?;
        let path = self.target.path(folder);
        if let Err(failure) = session.done(wire::make_folder(&path)).await {
            match session.attributes(wire::stat(&path)).await.map(|found| found.kind()) {
                Ok(Kind::Folder | Kind::Untold) => {}
                Ok(_) => {
                    return Err(StoreError::Unsupported { detail: format!("{name}: {folder} is an object") });
                }
                Err(_) => return Err(self.explain(session, failure, name, 1).await),
            }
        }
        // Who finds it there can't know whether its maker has synced it yet.
        let above = if above.is_empty() { self.target.root_path().to_owned() } else { self.target.path(above) };
        self.sync_folder(session, &above).await.map_err(|failure| failure.into_error(&above))?;
        self.durable.lock().insert(folder.to_owned());
        Ok(())
    }

    /// A new file in `~tmp`, open for writing.
    async fn temporary(&self, lease: &Lease, name: &ObjectName) -> Result<Temporary, StoreError> {
        let number = self.next_temporary.fetch_add(1, Relaxed);
        let path = self.target.path(&format!("{TEMPORARY}/{:016x}-{number:x}", self.random));
        let mut temporary = Temporary { session: lease.shared(), path, handle: None, there: true };
        let mut opened = lease.handle(wire::open(&temporary.path, wire::WRITE_NEW)).await;
        if opened.as_ref().is_err_and(|failure| failure.is(code::NO_SUCH_FILE)) {
            let folder = self.target.path(TEMPORARY);
            // It may be somebody else who makes it.
            if let Err(failure) = lease.done(wire::make_folder(&folder)).await
                && failure.is(code::NO_SUCH_FILE)
            {
                return Err(self.explain(lease, failure, name, 1).await);
            }
            opened = lease.handle(wire::open(&temporary.path, wire::WRITE_NEW)).await;
        }
        match opened {
            Ok(handle) => temporary.handle = Some(handle),
            Err(failure) if failure.is(code::NO_SUCH_FILE) => {
                let error = self.explain(lease, failure, name, 1).await;
                return Err(match error {
                    StoreError::NotFound { .. } => swept_away(&temporary.path),
                    error => error,
                });
            }
            Err(failure) => return Err(self.explain(lease, failure, name, 1).await),
        }
        if !self.swept.swap(true, Relaxed) {
            self.sweep(&temporary).await;
        }
        Ok(temporary)
    }

    /// Removes files of `~tmp` that nobody has written to for long. Best effort: what fails is tried by
    /// the next who opens the store. `fresh` tells the server's time.
    async fn sweep(&self, fresh: &Temporary) {
        let session = &fresh.session;
        let Some(handle) = &fresh.handle else { return };
        let Ok(Attributes { modified: Some(now), .. }) = session.attributes(wire::fstat(handle)).await else { return };
        let folder = self.target.path(TEMPORARY);
        let Ok(entries) = read_folder(session, &folder).await else { return };
        for (name, attributes) in entries.into_iter().flatten() {
            let old = attributes.modified.is_some_and(|at| now.saturating_sub(at) > LEFTOVER_AGE_SECONDS);
            if old && attributes.kind() != Kind::Folder {
                let removed = session.done(wire::remove(&format!("{folder}/{name}"))).await;
                if removed.is_ok() {
                    tracing::debug!(name, "removed the leftover of a put");
                }
            }
        }
    }

    /// Gives a written file its name, durably.
    async fn publish(&self, mut temporary: Temporary, name: &ObjectName, replace: bool) -> Result<(), StoreError> {
        let session = temporary.session.clone();
        let folder = name.as_str().rfind('/').map_or("", |slash| &name.as_str()[..slash]);
        self.make_folder(&session, folder, name).await?;
        let target = self.target.path(name.as_str());
        let above = if folder.is_empty() { self.target.root_path().to_owned() } else { self.target.path(folder) };
        let mut opened = self.open_to_sync(&session, &above);
        let mut named = give_name(&session, &temporary.path, &target, replace).await;
        if named.as_ref().is_err_and(|failure| failure.is(code::NO_SUCH_FILE)) {
            // Somebody removed the folder meanwhile: we knew it from before.
            self.durable.lock().clear();
            self.make_folder(&session, folder, name).await?;
            opened = self.open_to_sync(&session, &above);
            named = give_name(&session, &temporary.path, &target, replace).await;
        }
        if let Err(failure) = named {
            return Err(self.why_not_named(&session, failure, &temporary.path, name, replace).await);
        }
        temporary.there = false;
        // A rename has moved it; a link has left it.
        let left = !replace && session.knows(wire::HARDLINK);
        let removed = left.then(|| session.send(wire::remove(&temporary.path)));
        self.sync_opened(&session, opened).await.map_err(|failure| failure.into_error(&above))?;
        if let Some(removed) = removed {
            // It is there under its own name: what is left would only be swept later.
            let _ = removed.await;
        }
        Ok(())
    }

    async fn why_not_named(
        &self,
        session: &Session,
        failure: Failure,
        temporary: &str,
        name: &ObjectName,
        replace: bool,
    ) -> StoreError {
        if failure.is(code::NO_SUCH_FILE) {
            return match self.check_root(session).await {
                Ok(()) => swept_away(temporary),
                Err(error) => error,
            };
        }
        match session.attributes(wire::lstat(&self.target.path(name.as_str()))).await.map(|found| found.kind()) {
            Ok(Kind::Folder) => StoreError::Unsupported { detail: format!("{name}: there are objects below it") },
            Ok(_) if !replace => StoreError::Exists { name: name.to_string() },
            _ => self.explain(session, failure, name, 1).await,
        }
    }

    /// Writes a file by `fill`, which closes it, and gives it its name.
    async fn put_whole(&self, lease: &Lease, name: &ObjectName, body: &Bytes, replace: bool) -> Result<(), StoreError> {
        let mut temporary = self.temporary(lease, name).await?;
        if let Err(failure) = transfer::write(lease, &mut temporary.handle, body).await {
            return Err(self.explain(lease, failure, name, body.len().max(1)).await);
        }
        if !lease.knows(wire::FSYNC) {
            self.warn_once(0, "files");
        }
        self.publish(temporary, name, replace).await
    }

    /// Reads the file of an object, which is none where there is a folder or something else.
    async fn read(&self, lease: &Lease, name: &ObjectName, range: Range<u64>) -> Result<Bytes, StoreError> {
        let opened = lease.handle(wire::open(&self.target.path(name.as_str()), wire::READ)).await;
        let handle = match opened {
            Ok(handle) => Opened { session: lease.shared(), handle },
            // Servers that refuse to open a folder don't say why.
            Err(failure) if failure.is(code::FAILURE) => {
                let found = lease.attributes(wire::lstat(&self.target.path(name.as_str()))).await;
                return Err(match found.map(|found| found.kind()) {
                    Ok(Kind::Folder) => not_found(name),
                    _ => self.explain(lease, failure, name, 0).await,
                });
            }
            Err(failure) => return Err(self.explain(lease, failure, name, 0).await),
        };
        match transfer::read(lease, &handle.handle, range).await {
            Ok(Some(body)) => Ok(body),
            Ok(None) => Err(not_found(name)),
            Err(failure) => Err(self.explain(lease, failure, name, 0).await),
        }
    }

    /// Copies on the server's side, where it can.
    async fn copy_there(&self, lease: &Lease, from: &ObjectName, to: &ObjectName) -> Result<(), StoreError> {
        // Whether there is such an object at all; a folder opens, too.
        self.meta(lease, from).await?;
        let opened = lease.handle(wire::open(&self.target.path(from.as_str()), wire::READ)).await;
        let source = match opened {
            Ok(handle) => Opened { session: lease.shared(), handle },
            Err(failure) => return Err(self.explain(lease, failure, from, 0).await),
        };
        let mut temporary = self.temporary(lease, to).await?;
        let handle = temporary.handle.clone().unwrap_or_default();
        let copied = lease.send(wire::copy_data(&source.handle, &handle));
        // Worked off after the copying: nothing more to write, but to sync and to close.
        let nothing = Bytes::new();
        let (copied, synced) = futures::join!(copied.done(), transfer::write(lease, &mut temporary.handle, &nothing));
        if let Err(failure) = copied.and(synced) {
            return Err(self.explain(lease, failure, to, 1).await);
        }
        self.publish(temporary, to, true).await
    }

    async fn meta(&self, lease: &Lease, name: &ObjectName) -> Result<ObjectMeta, StoreError> {
        match lease.attributes(wire::lstat(&self.target.path(name.as_str()))).await {
            Ok(found) if matches!(found.kind(), Kind::File | Kind::Untold) => meta(name.clone(), &found),
            Ok(_) => Err(not_found(name)),
            Err(failure) => Err(self.explain(lease, failure, name, 0).await),
        }
    }
}

fn meta(name: ObjectName, found: &Attributes) -> Result<ObjectMeta, StoreError> {
    let bytes = found.bytes.ok_or_else(|| StoreError::Garbled { detail: format!("no length was told of {name}") })?;
    Ok(ObjectMeta { name, bytes, etag: None, modified: found.modified.map(i64::from) })
}

fn not_found(name: &ObjectName) -> StoreError {
    StoreError::NotFound { name: name.to_string() }
}

fn swept_away(path: &str) -> StoreError {
    StoreError::Unavailable { detail: format!("{path} was removed by somebody else"), after: None }
}

/// Renames, or links, `from` to `to`.
async fn give_name(session: &Session, from: &str, to: &str, replace: bool) -> Result<(), Failure> {
    if !replace {
        if session.knows(wire::HARDLINK) {
            let linked = session.done(wire::hardlink(from, to)).await;
            // Some file systems have no links; what the rename then says is the answer.
            let try_rename = linked.as_ref().is_err_and(|f| f.is(code::FAILURE) || f.is(code::UNSUPPORTED));
            if !try_rename || session.attributes(wire::lstat(to)).await.is_ok() {
                return linked;
            }
        }
        return session.done(wire::rename(from, to)).await;
    }
    if session.knows(wire::POSIX_RENAME) {
        return session.done(wire::posix_rename(from, to)).await;
    }
    let renamed = session.done(wire::rename(from, to)).await;
    if !renamed.as_ref().is_err_and(|failure| failure.is(code::FAILURE)) {
        return renamed;
    }
    // No rename of this server replaces. For an instant the object is absent; it is never half.
    match session.attributes(wire::lstat(to)).await {
        Ok(found) if found.kind() != Kind::Folder => {
            session.done(wire::remove(to)).await?;
            session.done(wire::rename(from, to)).await
        }
        _ => renamed,
    }
}

/// The entries of a folder that are text; `None` if there is no such folder.
async fn read_folder(session: &Arc<Session>, path: &str) -> Result<Option<Vec<(String, Attributes)>>, Failure> {
    let handle = match session.handle(wire::open_folder(path)).await {
        Ok(handle) => Opened { session: session.clone(), handle },
        Err(failure) if failure.is(code::NO_SUCH_FILE) => return Ok(None),
        Err(failure) => return Err(failure),
    };
    let mut found = Vec::new();
    let mut under_way: std::collections::VecDeque<_> =
        (0..FOLDER_READS).map(|_| session.send(wire::read_folder(&handle.handle))).collect();
    while let Some(answer) = under_way.pop_front() {
        let Some(names) = answer.names().await? else { break };
        under_way.push_back(session.send(wire::read_folder(&handle.handle)));
        found.extend(names.into_iter().filter_map(|entry| Some((entry.name?, entry.attributes))));
    }
    Ok(Some(found))
}

/// An open file or folder; closed when this goes.
struct Opened {
    session: Arc<Session>,
    handle: Bytes,
}

impl Drop for Opened {
    fn drop(&mut self) {
        drop(self.session.send(wire::close(&self.handle)));
    }
}

/// A file of `~tmp`; closed and removed when this goes, unless it was renamed.
struct Temporary {
    session: Arc<Session>,
    path: String,
    handle: Option<Bytes>,
    /// Whether there is, or may be, such a file.
    there: bool,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            drop(self.session.send(wire::close(&handle)));
        }
        if self.there {
            drop(self.session.send(wire::remove(&self.path)));
        }
    }
}

/// A store's folders, read over one connection.
struct Reading<'a> {
    store: &'a Sftp,
    lease: Lease,
}

#[async_trait]
impl Folders for Reading<'_> {
    async fn read(&self, folder: &str) -> Result<Vec<Entry>, StoreError> {
        let target = &self.store.target;
        let path =
            if folder.is_empty() { target.root_path().to_owned() } else { target.path(&folder[..folder.len() - 1]) };
        let entries = match read_folder(&self.lease.shared(), &path).await {
            Ok(Some(entries)) => entries,
            Ok(None) => {
                self.store.check_root(&self.lease).await?;
                return Ok(Vec::new());
            }
            Err(failure) => {
                // A file is no folder; servers only say "failure".
                let found = self.lease.attributes(wire::lstat(&path)).await;
                return match found.map(|found| found.kind()) {
                    Ok(Kind::File) => Ok(Vec::new()),
                    _ => Err(failure.into_error(&path)),
                };
            }
        };
        let entry = |(name, found): (String, Attributes)| {
            let whole = tree::named(folder, &name)?;
            match found.kind() {
                Kind::Folder => Some(Ok(Entry::Folder(format!("{whole}/")))),
                Kind::File | Kind::Untold => Some(meta(whole, &found).map(Entry::Object)),
                Kind::Other => None,
            }
        };
        entries.into_iter().filter_map(entry).collect()
    }
}

#[async_trait]
impl Store for Sftp {
    fn describe(&self) -> String {
        self.target.url()
    }

    async fn put(&self, name: &ObjectName, body: Bytes, mode: PutMode) -> Result<(), StoreError> {
        let lease = self.lease().await?;
        match mode {
            PutMode::Always => self.put_whole(&lease, name, &body, true).await,
            // That there is none is found out at the end: names are unique, so nearly always there is none.
            PutMode::IfAbsent => self.put_whole(&lease, name, &body, false).await,
            PutMode::IfMatch(_) => Err(StoreError::Unsupported { detail: "SFTP has no conditional replace".into() }),
        }
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        let lease = self.lease().await?;
        self.read(&lease, name, 0..u64::MAX).await
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, StoreError> {
        let lease = self.lease().await?;
        self.read(&lease, name, range).await
    }

    async fn head(&self, name: &ObjectName) -> Result<ObjectMeta, StoreError> {
        let lease = self.lease().await?;
        self.meta(&lease, name).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<ListPage, StoreError> {
        let reading = Reading { store: self, lease: self.lease().await? };
        tree::list(&reading, prefix, after, limit).await
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        let lease = self.lease().await?;
        match lease.done(wire::remove(&self.target.path(name.as_str()))).await {
            Ok(()) => Ok(()),
            Err(failure) if failure.is(code::NO_SUCH_FILE) => self.check_root(&lease).await,
            Err(failure) => match self.meta(&lease, name).await {
                // It is a folder, or has gone meanwhile: no object in any case.
                Err(StoreError::NotFound { .. }) => Ok(()),
                _ => Err(self.explain(&lease, failure, name, 0).await),
            },
        }
    }

    async fn copy(&self, from: &ObjectName, to: &ObjectName) -> Result<(), StoreError> {
        let lease = self.lease().await?;
        if lease.knows(wire::COPY_DATA) {
            return self.copy_there(&lease, from, to).await;
        }
        let body = self.read(&lease, from, 0..u64::MAX).await?;
        self.put_whole(&lease, to, &body, true).await
    }
}
