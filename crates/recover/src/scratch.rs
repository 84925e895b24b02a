//! Directories that go with the process: at its end, or, where it was killed, with the next one that looks.
//! ```text
//!     haven-drill-RANDOM/lock      held for as long as the process lives
//!                      /files     what came back
//!     haven-postgres-RANDOM/lock   the same, and a server's data beside it
//!     haven-point-RANDOM/lock      the same, and a point's folder out of an archive
//! ```

use std::{
    fs::{self, File},
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::{
    fs::{FlockOperation, flock},
    process::{Pid, Signal, kill_process},
};
use tempfile::TempDir;

use crate::Error;

/// What came back for a look.
pub const DRILL: &str = "haven-drill-";
/// A server of our own.
pub const POSTGRES: &str = "haven-postgres-";
/// A point's folder out of an archive.
pub const POINT: &str = "haven-point-";
const LOCK: &str = "lock";
/// How long a server that is ended may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A directory that nobody else takes for forgotten.
#[derive(Debug)]
pub struct Scratch {
    directory: TempDir,
    _lock: File,
}

impl Scratch {
    /// Makes one in `within`. Its name begins with `prefix`.
    pub fn new(prefix: &str, within: &Path) -> Result<Self, Error> {
        let directory = tempfile::Builder::new().prefix(prefix).tempdir_in(within).map_err(Error::write(within))?;
        // It gets its name once it is held: nobody sees it free.
        let path = directory.path().join("lock.new");
        let lock = File::create(&path).map_err(Error::write(&path))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|errno| Error::write(&path)(errno.into()))?;
        fs::rename(&path, directory.path().join(LOCK)).map_err(Error::write(&path))?;
        let files = directory.path().join("files");
        fs::DirBuilder::new().mode(0o700).create(&files).map_err(Error::write(&files))?;
        Ok(Self { directory, _lock: lock })
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Where files come back to.
    pub fn files(&self) -> PathBuf {
        self.directory.path().join("files")
    }
}

/// Removes what processes that were killed have left in these directories, and ends servers that still run there. What
/// can't be removed stays. Says what it removed.
pub fn clear(within: &[Option<&Path>]) -> Vec<PathBuf> {
    let mut gone = Vec::new();
    for folder in within.iter().flatten() {
        for path in forgotten_in(folder, &[DRILL, POSTGRES, POINT]) {
            end_server(&path);
            if fs::remove_dir_all(&path).is_ok() {
                gone.push(path);
            }
        }
    }
    gone
}

/// Directories in `folder` with such names that processes which were killed have left.
pub fn forgotten_in(folder: &Path, prefixes: &[&str]) -> Vec<PathBuf> {
    let paths = fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let named = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        prefixes.iter().any(|prefix| name.starts_with(prefix))
    };
    paths.filter(|path| named(path) && forgotten(path)).collect()
}

/// Whether it is ours, and nobody holds it any more.
fn forgotten(path: &Path) -> bool {
    let ours = fs::symlink_metadata(path)
        .is_ok_and(|about| about.is_dir() && (about.uid() == rustix::process::geteuid().as_raw() || is_root()));
    let Ok(lock) = File::open(path.join(LOCK)) else { return false };
    ours && flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Ends the PostgreSQL whose data lie there, if one runs: only where the process with its number has that very directory
/// in its command line.
fn end_server(path: &Path) {
    let text = fs::read_to_string(path.join("data/postmaster.pid")).unwrap_or_default();
    let Some(id) = text.lines().next().and_then(|line| line.trim().parse::<i32>().ok()) else { return };
    let command = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
    let data = path.join("data");
    let its = command.split(|byte| *byte == 0).any(|word| word == data.as_os_str().as_encoded_bytes());
    let Some(pid) = Pid::from_raw(id).filter(|_| its) else { return };
    let until = Instant::now() + PATIENCE;
    _ = kill_process(pid, Signal::INT);
    while Instant::now() < until && Path::new(&format!("/proc/{id}")).exists() {
        std::thread::sleep(Duration::from_millis(50));
    }
    _ = kill_process(pid, Signal::KILL);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_holds_any_more_is_removed() {
        let within = tempfile::tempdir().unwrap();
        let held = Scratch::new(DRILL, within.path()).unwrap();
        let killed = Scratch::new(DRILL, within.path()).unwrap();
        fs::write(killed.files().join("photo"), "x").unwrap();
        let path = killed.path().to_owned();
        // As a kill does it: the lock goes, the directory stays.
        let Scratch { directory, _lock } = killed;
        _ = directory.keep();
        drop(_lock);
        fs::create_dir(within.path().join("haven-drill-without-a-lock")).unwrap();
        assert_eq!(clear(&[Some(within.path()), None]), std::slice::from_ref(&path));
        assert!(!path.exists() && held.files().exists() && within.path().join("haven-drill-without-a-lock").exists());
    }
}
