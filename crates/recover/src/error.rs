use std::{io, path::PathBuf};

use haven_point::pg::PgError;

/// Why something did not come back.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{} can't be read", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} can't be written", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Point(#[from] haven_point::Error),
    #[error(transparent)]
    Dump(#[from] haven_point::dump::DumpError),
    #[error(transparent)]
    Postgres(#[from] PgError),
    /// The server is not fit for it; nothing was changed there.
    #[error("{what}")]
    Unfit { what: String, next: String },
    /// The database came back, but not as it was. It stays under its own new name, for a look.
    #[error("the database {database} is not what was dumped: {why}")]
    Differs { database: String, why: String },
    /// A wish that nothing fulfils.
    #[error("{0}")]
    Nothing(String),
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
