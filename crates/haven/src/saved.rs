//! The unsent changes of a cache directory as plain files: what `haven salvage` writes.
//!
//! Directories know their parents, files do not: a file is found through the directory it was put into, which has
//! changed too, or else, when only its content was changed, by looking through all directories.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{OpenOptionsExt, PermissionsExt, symlink},
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use haven_format::{
    Ino,
    record::{self, Entry, Inode, Key, Time},
};
use haven_fs::{Fs, FsError};
use haven_vault::{Vault, VaultError};
use prost::Message;

const TYPE: u32 = 0o170_000;
const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
/// How much is read at once, in bytes.
const STEP: usize = 1 << 20;

/// Why saving stopped.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    #[error("{} can't be written: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Vault(#[from] VaultError),
    #[error("a record can't be read: {0}")]
    Record(#[from] prost::DecodeError),
}

/// What was saved.
#[derive(Debug, Default, serde::Serialize)]
pub struct Saved {
    /// Below the target, in no order.
    pub files: Vec<PathBuf>,
    pub bytes: u64,
    /// Files that could not be read whole, and why.
    pub failed: Vec<(PathBuf, String)>,
}

/// Writes changed files to a directory.
pub struct Salvage<'a> {
    vault: &'a Arc<Vault>,
    fs: &'a Arc<Fs>,
    target: &'a Path,
    saved: Saved,
}

impl<'a> Salvage<'a> {
    pub fn new(vault: &'a Arc<Vault>, fs: &'a Arc<Fs>, target: &'a Path) -> Self {
        Self { vault, fs, target, saved: Saved::default() }
    }

    /// Saves every file and link among `inodes` under the path it has in the library.
    pub async fn save(mut self, inodes: &BTreeSet<Ino>) -> Result<Saved, SaveError> {
        let mut left = BTreeMap::new();
        let mut folders = Vec::new();
        for &ino in inodes {
            match self.inode(ino).await? {
                Some(inode) if inode.mode & TYPE == DIRECTORY => folders.push(ino),
                Some(inode) if [FILE, LINK].contains(&(inode.mode & TYPE)) => _ = left.insert(ino, inode),
                _ => {}
            }
        }
        for folder in folders {
            self.save_from(folder, &mut left).await?;
        }
        if !left.is_empty() {
            for folder in self.all_folders().await? {
                self.save_from(folder, &mut left).await?;
            }
        }
        for (ino, inode) in left {
            // Removed from its folder while some program had it open.
            self.write(ino, &inode, PathBuf::from(format!("without-a-name/{ino}"))).await?;
        }
        Ok(self.saved)
    }

    /// Saves those of `left` that `folder` names, and takes them out.
    async fn save_from(&mut self, folder: Ino, left: &mut BTreeMap<Ino, Inode>) -> Result<(), SaveError> {
        for entry in self.entries(folder).await? {
            if let Some(inode) = left.remove(&Ino(entry.ino)) {
                let path = self.path(folder).await?.join(OsStr::from_bytes(&entry.name));
                self.write(Ino(entry.ino), &inode, path).await?;
            }
        }
        Ok(())
    }

    /// The path of a folder, relative to the library's root.
    async fn path(&self, mut folder: Ino) -> Result<PathBuf, SaveError> {
        let mut names = Vec::new();
        while folder != Ino::ROOT {
            let Some(inode) = self.inode(folder).await? else { break };
            let parent = Ino(inode.parent);
            let name = self.entries(parent).await?.into_iter().find(|entry| entry.ino == folder.0);
            names.push(name.map_or_else(|| format!("folder-{folder}").into(), |entry| entry.name));
            folder = parent;
        }
        Ok(names.iter().rev().map(|name| OsStr::from_bytes(name)).collect())
    }

    async fn all_folders(&self) -> Result<Vec<Ino>, SaveError> {
        let mut out = Vec::new();
        let mut range = record::inodes_from(Ino::ROOT);
        loop {
            let batch = self.scan(range.clone()).await?;
            let Some((last, _)) = batch.last() else { return Ok(out) };
            range.start = after(last);
            for (key, value) in &batch {
                if record::is_inode(key) && Inode::decode(value.clone())?.mode & TYPE == DIRECTORY {
                    out.extend(record::key_inode(key));
                }
            }
        }
    }

    async fn entries(&self, folder: Ino) -> Result<Vec<Entry>, SaveError> {
        let mut out = Vec::new();
        let mut range = record::entries(folder, 0..u64::MAX);
        loop {
            let batch = self.scan(range.clone()).await?;
            let Some((last, _)) = batch.last() else { return Ok(out) };
            range.start = after(last);
            for (_, value) in batch {
                out.push(Entry::decode(value)?);
            }
        }
    }

    async fn inode(&self, ino: Ino) -> Result<Option<Inode>, SaveError> {
        let key = record::inode_key(ino);
        let value = self.patiently(|| self.vault.live().get(&key)).await?;
        Ok(value.map(Inode::decode).transpose()?)
    }

    async fn scan(&self, range: std::ops::Range<Key>) -> Result<Vec<(Key, bytes::Bytes)>, SaveError> {
        Ok(self.patiently(|| self.vault.live().scan(range.clone(), 1000)).await?)
    }

    /// Fetches what is missing until the call goes through.
    async fn patiently<T>(&self, call: impl Fn() -> Result<T, VaultError>) -> Result<T, VaultError> {
        loop {
            match call() {
                Err(VaultError::Need(need)) => self.vault.settle(&need).await?,
                result => return result,
            }
        }
    }

    async fn write(&mut self, ino: Ino, inode: &Inode, path: PathBuf) -> Result<(), SaveError> {
        let target = self.target.join(&path);
        let failed = |source| SaveError::Write { path: target.clone(), source };
        fs::create_dir_all(target.parent().unwrap_or(self.target)).map_err(failed)?;
        if inode.mode & TYPE == LINK {
            symlink(OsStr::from_bytes(&inode.target), &target).map_err(failed)?;
        } else {
            let mode = inode.mode & 0o777;
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&target).map_err(failed)?;
            match self.copy(ino, inode.size, &file, &failed).await? {
                Ok(()) => self.saved.bytes += inode.size,
                Err(why) => self.saved.failed.push((path.clone(), why)),
            }
            file.set_permissions(fs::Permissions::from_mode(mode)).map_err(failed)?;
            file.set_modified(system_time(inode.mtime)).map_err(failed)?;
            file.sync_all().map_err(failed)?;
        }
        self.saved.files.push(path);
        Ok(())
    }

    /// Copies the content. The inner error is the library's: that file is not whole, others may be.
    async fn copy(
        &self,
        ino: Ino,
        size: u64,
        mut file: &File,
        failed: &impl Fn(io::Error) -> SaveError,
    ) -> Result<Result<(), String>, SaveError> {
        let opened = self.settled(|| self.fs.open(ino, 0)).await;
        let handle = match opened {
            Ok(handle) => handle,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let mut at = 0;
        let outcome = loop {
            if at >= size {
                break Ok(());
            }
            match self.settled(|| self.fs.read(ino, handle, at, STEP)).await {
                Ok(bytes) if bytes.is_empty() => break Err(format!("it ends at {at} of {size} bytes")),
                Ok(bytes) => {
                    file.write_all(&bytes).map_err(failed)?;
                    at += bytes.len() as u64;
                }
                Err(error) => break Err(error.to_string()),
            }
        };
        let released = self.fs.release(ino, handle).map_err(|error| error.to_string());
        Ok(outcome.and(released))
    }

    async fn settled<T>(&self, call: impl Fn() -> Result<T, FsError>) -> Result<T, FsError> {
        loop {
            match call() {
                Err(error) => match error.need() {
                    Some(need) => self.fs.settle(need).await?,
                    None => return Err(error),
                },
                ok => return ok,
            }
        }
    }
}

/// The first key after `key`.
fn after(key: &Key) -> Key {
    [&key[..], &[0]].concat().into()
}

fn system_time(time: Time) -> SystemTime {
    let since = Duration::new(time.seconds.unsigned_abs(), time.nanos);
    if time.seconds >= 0 { UNIX_EPOCH + since } else { UNIX_EPOCH - Duration::from_secs(time.seconds.unsigned_abs()) }
}
