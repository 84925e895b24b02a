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
    #[error("the recovery point {name} is not complete: {why}")]
    Broken { name: String, why: String },
    #[error("{} is damaged: {why}", path.display())]
    Damaged { path: PathBuf, why: String },
}

impl Error {
    pub(crate) fn read(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Read { path, source }
    }

    pub(crate) fn write(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Write { path, source }
    }
}
