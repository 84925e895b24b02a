//! The commands' side of the socket. Plain blocking calls: a command does one thing.

use std::{
    fs,
    io::{self, BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{Line, Locator, Refusal, Request, XATTR, short_path};
use crate::{
    mounts::{mount_of, resolve},
    point::is_dead,
};

/// What is at a path, as far as commands are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A living mount of ours; `point` is its mount point, which may be above the path.
    Mount { point: PathBuf, at: Locator },
    /// A mount of ours whose process is gone: [`crate::detach`] removes it.
    Dead { point: PathBuf, source: String },
    /// None of ours.
    Nothing,
}

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("{} cannot be looked at", path.display())]
    Look { path: PathBuf, source: io::Error },
    #[error("{} is a mount of ours that cannot be asked where its process is", point.display())]
    Mute { point: PathBuf, source: io::Error },
    #[error("the mount's process (pid {pid}) does not answer at {}", socket.display())]
    Connect { pid: u32, socket: PathBuf, source: io::Error },
    #[error("the mount's process went away while it worked")]
    Gone,
    #[error("the mount's process said something this version does not understand")]
    Nonsense { source: serde_json::Error },
    #[error("the connection to the mount's process failed")]
    Io { source: io::Error },
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Looks for the mount that `path` lies in.
///
/// The kernel's table is asked first: an attribute alone could have been set by anybody on any file system.
pub fn find(path: &Path) -> Result<Found, ClientError> {
    let look = |source| ClientError::Look { path: path.into(), source };
    let resolved = resolve(path).map_err(look)?;
    let mount = match mount_of(&resolved).map_err(look)? {
        Some(m) if m.is_haven() => m,
        _ => {
            // A path deeper inside a dead mount ends here too, without error; one that does not exist does not.
            fs::symlink_metadata(&resolved).map_err(look)?;
            return Ok(Found::Nothing);
        }
    };
    let point = mount.point;
    let mut value = vec![0; 16 << 10];
    let told = rustix::fs::getxattr(&point, XATTR, value.as_mut_slice()).map_err(io::Error::from);
    let told = match told {
        Ok(n) => value.get(..n).unwrap_or_default(),
        Err(e) if is_dead(&e) => return Ok(Found::Dead { point, source: mount.source }),
        Err(source) => return Err(ClientError::Mute { point, source }),
    };
    let at = serde_json::from_slice(told).map_err(|source| ClientError::Nonsense { source })?;
    Ok(Found::Mount { point, at })
}

/// A connection to a mount's process.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    pub fn connect(at: &Locator) -> Result<Self, ClientError> {
        let failed = |source| ClientError::Connect { pid: at.pid, socket: at.socket.clone(), source };
        let (short, _open) = short_path(&at.socket).map_err(failed)?;
        Ok(Self { stream: BufReader::new(UnixStream::connect(short).map_err(failed)?) })
    }

    /// Asks, hands each progress to `told`, and returns the answer.
    pub fn ask(&mut self, request: &Request, mut told: impl FnMut(Value)) -> Result<Value, ClientError> {
        let mut line = serde_json::to_vec(request).map_err(|source| ClientError::Nonsense { source })?;
        line.push(b'\n');
        self.stream.get_mut().write_all(&line).map_err(|source| ClientError::Io { source })?;
        loop {
            match self.next_line()?.ok_or(ClientError::Gone)? {
                Line::Progress(value) => told(value),
                Line::Done(value) => return Ok(value),
                Line::Refused(why) => return Err(why.into()),
            }
        }
    }

    /// Returns when the process has ended.
    pub fn wait_for_end(mut self) -> Result<(), ClientError> {
        while self.next_line()?.is_some() {}
        Ok(())
    }

    fn next_line(&mut self) -> Result<Option<Line>, ClientError> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) => Ok(None),
            Ok(_) => serde_json::from_str(&line).map(Some).map_err(|source| ClientError::Nonsense { source }),
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => Ok(None),
            Err(source) => Err(ClientError::Io { source }),
        }
    }
}
