//! Why a call failed, and the one number the kernel may be told of it.

use haven_vault::{Need, VaultError};

/// Why a call on the file system did not succeed.
///
/// [`FsError::Need`] is not a failure: nothing was changed, the caller awaits [`crate::Fs::settle`] and calls again
/// with the same arguments. Everything else is final for this call.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FsError {
    #[error("not yet: {0:?}")]
    Need(Need),
    #[error("no such file or directory")]
    NotFound,
    #[error("the name is taken")]
    Exists,
    #[error("not a directory")]
    NotDirectory,
    #[error("a directory")]
    IsDirectory,
    #[error("the directory is not empty")]
    NotEmpty,
    #[error("a name has at most 255 bytes")]
    NameTooLong,
    #[error("{0}")]
    Invalid(&'static str),
    #[error("files end at 16 TiB")]
    TooLarge,
    #[error("too many links")]
    TooManyLinks,
    #[error("not allowed: {0}")]
    NotPermitted(&'static str),
    #[error("access denied: {0}")]
    Denied(&'static str),
    #[error("no such handle")]
    BadHandle,
    #[error("no data or hole at or after this offset")]
    NoSuchOffset,
    #[error("no such extended attribute")]
    NoAttribute,
    #[error("the name of an extended attribute has 1 to 255 bytes")]
    AttributeName,
    #[error("an extended attribute has at most 64 KiB, and so have all their names together")]
    AttributeTooLarge,
    #[error("not supported: {0}")]
    Unsupported(&'static str),
    /// Mounted for reading, or fenced by another writer.
    #[error("read-only: {why}")]
    ReadOnly { why: String },
    /// Nothing was changed.
    #[error("whoever asked was killed meanwhile")]
    Interrupted,
    /// A record of the library can't be read, or contradicts another.
    #[error("the library's records are broken: {0}")]
    Broken(String),
    #[error(transparent)]
    Vault(VaultError),
}

pub type Result<T, E = FsError> = std::result::Result<T, E>;

impl FsError {
    /// What must be settled before the same call can go on, if that is all there is to it.
    pub fn need(&self) -> Option<&Need> {
        match self {
            Self::Need(need) => Some(need),
            _ => None,
        }
    }

    /// The number to tell the kernel (a positive `errno`). For [`FsError::Need`] it is `EAGAIN`, which no program
    /// should ever see: settle the need and call again instead.
    pub fn errno(&self) -> i32 {
        match self {
            Self::Need(_) => libc::EAGAIN,
            Self::NotFound => libc::ENOENT,
            Self::Exists => libc::EEXIST,
            Self::NotDirectory => libc::ENOTDIR,
            Self::IsDirectory => libc::EISDIR,
            Self::NotEmpty => libc::ENOTEMPTY,
            Self::NameTooLong => libc::ENAMETOOLONG,
            Self::Invalid(_) => libc::EINVAL,
            Self::TooLarge => libc::EFBIG,
            Self::TooManyLinks => libc::EMLINK,
            Self::NotPermitted(_) => libc::EPERM,
            Self::Denied(_) => libc::EACCES,
            Self::BadHandle => libc::EBADF,
            Self::NoSuchOffset => libc::ENXIO,
            Self::NoAttribute => libc::ENODATA,
            Self::AttributeTooLarge => libc::E2BIG,
            Self::AttributeName => libc::ERANGE,
            Self::Unsupported(_) => libc::EOPNOTSUPP,
            Self::ReadOnly { .. } => libc::EROFS,
            Self::Interrupted => libc::EINTR,
            Self::Broken(_) | Self::Vault(_) => libc::EIO,
        }
    }
}

/// Several things, of which each is tried whatever became of the others.
#[derive(Debug, Default)]
pub(crate) struct Tried(Option<FsError>);

impl Tried {
    pub fn note(&mut self, result: Result<()>) {
        let rank = |error: &FsError| match error {
            FsError::Need(Need::Fetch { .. }) => 0,
            FsError::Need(_) => 1,
            _ => 2,
        };
        if let Err(error) = result
            && self.0.as_ref().is_none_or(|first| rank(&error) < rank(first))
        {
            self.0 = Some(error);
        }
    }

    /// What can be fetched, for whoever settles that and tries again comes to the rest; else what time may bring; else
    /// the first trouble.
    pub fn outcome(self) -> Result<()> {
        self.0.map_or(Ok(()), Err)
    }
}

impl From<VaultError> for FsError {
    fn from(error: VaultError) -> Self {
        match error {
            VaultError::Need(need) => Self::Need(need),
            VaultError::ReadOnly { why } => Self::ReadOnly { why },
            other => Self::Vault(other),
        }
    }
}
