use std::{io, path::PathBuf};

/// Why a point can't be found, read or believed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{} can't be read", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} can't be written", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{} is no manifest of a recovery point: {why}", path.display())]
    Manifest { path: PathBuf, why: String },
    #[error("{} was written by a newer Haven (version {version} of the manifest)", path.display())]
    Newer { path: PathBuf, version: u64 },
    #[error("there is no recovery point called {name}")]
    Missing { name: String },
    #[error("there is no complete recovery point in {}", root.display())]
    None { root: PathBuf },
    /// None was named, and each of several may be meant.
    #[error("which of them? There are recovery points of {}", applications.join(" and "))]
    Several { applications: Vec<String> },
    #[error("the recovery point {name} is not complete: {why}")]
    Broken { name: String, why: String },
    #[error("{} is damaged: {why}", path.display())]
    Damaged { path: PathBuf, why: String },
}

impl Error {
    /// Whether what is there could not be looked at: nothing is known of it, not even that it is not complete. What is
    /// simply not there was looked at.
    pub fn is_blind(&self) -> bool {
        self.is_unread() || matches!(self, Self::Manifest { .. } | Self::Newer { .. })
    }

    /// Whether it could not be read, and may be at another time: the store is away, a disk fails.
    pub fn is_unread(&self) -> bool {
        use io::ErrorKind::{NotADirectory, NotFound};
        matches!(self, Self::Read { source, .. } if !matches!(source.kind(), NotFound | NotADirectory))
    }

    pub(crate) fn read(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Read { path, source }
    }

    pub(crate) fn write(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Write { path, source }
    }
}
