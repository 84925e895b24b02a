//! The mount point, looked at before anything is mounted on it. Nothing is ever created in it: a program that looks
//! for its own marker files there must see that the library is absent.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    detach::detach,
    error::MountError,
    mounts::{Mounted, mounted_at, resolve},
};

/// Where a library may be mounted, or why not. A dead mount of ours that is still attached there is detached first.
pub(crate) fn prepare(path: &Path, allow_non_empty: bool) -> Result<PathBuf, MountError> {
    let point = resolve(path).map_err(|e| unusable(path, e))?;
    if let Some(there) = mounted(&point)?.filter(Mounted::is_haven) {
        match asked(&point) {
            Err(e) if is_dead(&e) => clear_away(&point, &there)?,
            _ => return Err(MountError::AlreadyMounted { point, library: there.source }),
        }
    }
    let meta = fs::metadata(&point).map_err(|e| match mounted_at(&point) {
        Ok(Some(there)) if is_dead(&e) => MountError::Stale { point: point.clone(), fs_type: there.fs_type, source: e },
        _ => unusable(&point, e),
    })?;
    if !meta.is_dir() {
        return Err(MountError::NotADirectory { point });
    }
    if !allow_non_empty {
        let mut entries = fs::read_dir(&point).map_err(|e| unusable(&point, e))?;
        if let Some(first) = entries.next() {
            let example = first.map_or_else(|e| e.to_string(), |e| e.file_name().to_string_lossy().into_owned());
            return Err(MountError::NotEmpty { point, example });
        }
    }
    Ok(point)
}

/// Whether an error means that a FUSE server is gone while its mount is still attached.
pub(crate) fn is_dead(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::ENOTCONN | libc::ECONNABORTED))
}

/// Asks the server behind `point` itself: the kernel answers a `stat` of the root from memory long after it is gone.
fn asked(point: &Path) -> io::Result<()> {
    rustix::fs::statfs(point)?;
    Ok(())
}

/// Detaches every dead mount of ours that lies on `point`, one over the other.
fn clear_away(point: &Path, there: &Mounted) -> Result<(), MountError> {
    let stale = |source| MountError::Stale { point: point.into(), fs_type: there.fs_type.clone(), source };
    while mounted(point)?.is_some_and(|m| m.is_haven()) && asked(point).is_err_and(|e| is_dead(&e)) {
        tracing::warn!(device = there.device, "detaching the dead mount of a process that is gone");
        detach(point, true).map_err(|e| stale(io::Error::other(e)))?;
    }
    Ok(())
}

fn mounted(point: &Path) -> Result<Option<Mounted>, MountError> {
    mounted_at(point).map_err(|source| MountError::Unreadable { point: point.into(), source })
}

fn unusable(point: &Path, e: io::Error) -> MountError {
    let point = point.to_path_buf();
    match e.kind() {
        io::ErrorKind::NotFound => MountError::Missing { point },
        io::ErrorKind::NotADirectory => MountError::NotADirectory { point },
        _ => MountError::Unreadable { point, source: e },
    }
}
