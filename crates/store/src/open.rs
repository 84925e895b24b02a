//! From a URL and settings to a store.
//!
//! | URL | store |
//! |---|---|
//! | `/path`, `./path`, `file:///path` | a directory ([`crate::dir`]) |
//! | `s3://bucket/prefix?endpoint=https://host&region=…&style=path` | a bucket ([`crate::s3`]) |
//! | `sftp://user@host:port/path`, `sftp://user@host/~/path` | a directory of another machine ([`crate::sftp`]) |
//! | `webdavs://user@host:port/path`, `webdav://…` (no TLS) | a collection of a WebDAV server ([`crate::webdav`]) |
//! | `memory:name` | in this process's memory, shared by name ([`crate::memory`]) |
//!
//! What [`open`] returns is decorated: `retry(limit(meter(timeout(store))))`. Who wants the handles
//! of the decorators asks for the [`Stack`]; who wants the store alone, [`open_bare`].

use std::{path::Path, sync::Arc};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::{
    dir::Dir,
    limit::{Limit, LimitConfig, LimitHandle},
    memory::Memory,
    meter::{Meter, MeterReader},
    port::{DynStore, StoreError},
    retry::{Retry, RetryConfig, Trouble},
    s3::{S3, S3Config, S3Url},
    sftp::{Sftp, SftpConfig},
    timeout::{Timeout, TimeoutConfig},
    url::Remote,
    webdav::{WebDav, WebDavConfig},
};

/// The settings of a store: the table `[store]` of haven.toml.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreOptions {
    /// How to reach and sign for an S3 bucket.
    pub s3: S3Config,
    /// How to log in to a server that speaks SFTP.
    pub sftp: SftpConfig,
    /// How to log in to a WebDAV server.
    pub webdav: WebDavConfig,
    /// How long one request may take.
    pub timeout: TimeoutConfig,
    /// How to ask again.
    pub retry: RetryConfig,
    /// How much may go on at once, and how fast.
    pub limit: LimitConfig,
    /// Make the directory of a directory store if it is missing (for `init`); no setting.
    #[serde(skip)]
    pub create: bool,
}

/// A decorated store with the handles of its decorators.
#[derive(Debug, Clone)]
pub struct Stack {
    pub store: DynStore,
    pub meter: MeterReader,
    pub limits: LimitHandle,
    /// `None` while the store answers.
    pub trouble: watch::Receiver<Option<Trouble>>,
    retry: Arc<Retry>,
    bucket: Option<Arc<S3>>,
}

impl Stack {
    /// Decorates `bare` as `options` say.
    pub fn over(bare: DynStore, options: &StoreOptions) -> Self {
        let timed = Timeout::new(bare, options.timeout.clone());
        let (metered, meter) = Meter::new(Arc::new(timed));
        let (limited, limits) = Limit::new(Arc::new(metered), &options.limit);
        let retry = Arc::new(Retry::new(Arc::new(limited), options.retry.clone()));
        let trouble = retry.trouble();
        Self { store: retry.clone(), meter, limits, trouble, retry, bucket: None }
    }

    /// The store's clock minus this machine's, seconds, as its last answer told; `None` where none has told.
    pub fn skew_seconds(&self) -> Option<i64> {
        self.bucket.as_ref()?.skew_seconds()
    }

    /// The same store, limits, counts and trouble, asked with other patience: uploads of a mount wait
    /// for ever ([`RetryConfig::for_ever`]), a read that somebody waits for does not.
    pub fn with_patience(&self, config: RetryConfig) -> DynStore {
        Arc::new(self.retry.sibling(config))
    }
}

/// Opens a decorated store. Touches no network: what is wrong with a bucket shows at the first verb.
pub fn open(url: &str, options: &StoreOptions) -> Result<DynStore, OpenError> {
    Ok(open_stack(url, options)?.store)
}

/// Opens a decorated store together with the handles of its decorators.
pub fn open_stack(url: &str, options: &StoreOptions) -> Result<Stack, OpenError> {
    Ok(match Bare::open(url, options)? {
        Bare::S3(s3) => Stack { bucket: Some(s3.clone()), ..Stack::over(s3, options) },
        Bare::Other(store) => Stack::over(store, options),
    })
}

/// Opens a store without decorators.
pub fn open_bare(url: &str, options: &StoreOptions) -> Result<DynStore, OpenError> {
    Ok(match Bare::open(url, options)? {
        Bare::S3(s3) => s3,
        Bare::Other(store) => store,
    })
}

/// A decorated store and, where it is a bucket, its bare self, which can be asked more.
pub(crate) fn open_probed(url: &str, options: &StoreOptions) -> Result<(DynStore, Option<Arc<S3>>), OpenError> {
    let (bare, s3): (DynStore, _) = match Bare::open(url, options)? {
        Bare::S3(s3) => (s3.clone(), Some(s3)),
        Bare::Other(store) => (store, None),
    };
    Ok((Stack::over(bare, options).store, s3))
}

enum Bare {
    S3(Arc<S3>),
    Other(DynStore),
}

impl Bare {
    fn open(url: &str, options: &StoreOptions) -> Result<Self, OpenError> {
        match Place::parse(url)? {
            Place::Dir(path) => {
                let path = Path::new(path);
                let opened = if options.create { Dir::create(path) } else { Dir::open(path) };
                let dir = opened.map_err(|source| OpenError::Store { url: url.to_owned(), source })?;
                Ok(Self::Other(Arc::new(dir)))
            }
            Place::Memory(name) => Ok(Self::Other(Memory::shared(name))),
            Place::Sftp(remote) => Ok(Self::Other(Arc::new(Sftp::open(remote, &options.sftp, options.create)?))),
            Place::WebDav { remote, https } => {
                Ok(Self::Other(Arc::new(WebDav::open(remote, https, &options.webdav, options.create)?)))
            }
            Place::S3(url) => Ok(Self::S3(Arc::new(S3::open(url, &options.s3)?))),
        }
    }
}

/// What a URL says, taken apart.
enum Place<'a> {
    Dir(&'a str),
    Memory(&'a str),
    Sftp(Remote),
    WebDav { remote: Remote, https: bool },
    S3(S3Url),
}

impl<'a> Place<'a> {
    fn parse(url: &'a str) -> Result<Self, OpenError> {
        if let Some(path) = url.strip_prefix("file://") {
            if !path.starts_with('/') {
                return Err(OpenError::Url {
                    url: url.to_owned(),
                    why: "a file URL has three slashes and an absolute path".into(),
                });
            }
            return Ok(Self::Dir(path));
        }
        if url.starts_with('/') || url.starts_with("./") || url.starts_with("../") || url == "." {
            return Ok(Self::Dir(url));
        }
        if let Some(name) = url.strip_prefix("memory:") {
            return Ok(Self::Memory(name.trim_start_matches('/')));
        }
        if let Some(rest) = url.strip_prefix("sftp://") {
            return Ok(Self::Sftp(Remote::parse(url, rest)?));
        }
        for (scheme, https) in [("webdav://", false), ("webdavs://", true)] {
            if let Some(rest) = url.strip_prefix(scheme) {
                return Ok(Self::WebDav { remote: Remote::parse(url, rest)?, https });
            }
        }
        if let Some(rest) = url.strip_prefix("s3://") {
            return Ok(Self::S3(S3Url::parse(url, rest)?));
        }
        match url.split_once("://") {
            Some((scheme, _)) => Err(OpenError::Scheme { scheme: scheme.to_owned() }),
            None => Err(OpenError::Url {
                url: url.to_owned(),
                why: "it has no scheme, and a path begins with / or ./".into(),
            }),
        }
    }
}

/// Why a store could not be opened. Its text says what happened; [`OpenError::meaning`] and
/// [`OpenError::next`] the rest.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OpenError {
    #[error("{url:?} does not name a store: {why}")]
    Url { url: String, why: String },
    #[error("stores of the kind \"{scheme}://\" are not known")]
    Scheme { scheme: String },
    #[error("the setting {setting} of the store is not usable: {why}")]
    Setting { setting: String, why: String },
    #[error("{url} can't be opened: {source}")]
    Store { url: String, source: StoreError },
}

impl OpenError {
    /// What it means for the library.
    pub fn meaning(&self) -> &'static str {
        match self {
            Self::Url { .. } | Self::Scheme { .. } | Self::Setting { .. } => {
                "nothing was opened and nothing was changed"
            }
            Self::Store { source: StoreError::NoBucket { .. }, .. } => {
                "nothing was changed; if the directory is on a disk or share of its own, that is probably not mounted"
            }
            Self::Store { .. } => "nothing was changed; what the store holds could not be looked at",
        }
    }

    /// What to do now.
    pub fn next(&self) -> String {
        match self {
            Self::Url { .. } | Self::Scheme { .. } => {
                "write s3://bucket/prefix?endpoint=https://host, sftp://user@host/path, webdavs://user@host/path, or file:///path".into()
            }
            Self::Setting { setting, .. } => {
                format!("correct {setting} (in the URL, the environment or haven.toml)")
            }
            Self::Store { source: StoreError::NoBucket { location }, .. } => {
                format!("mount what belongs at {location}, or correct the path")
            }
            Self::Store { source: StoreError::Denied { .. }, .. } => {
                "give this user the right to read and write there, or run as one who has it".into()
            }
            Self::Store { .. } => "mend what the message names, then try again".into(),
        }
    }
}
