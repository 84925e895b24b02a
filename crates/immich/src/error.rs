//! What can go wrong, and what can be done then.

use std::{io, time::Duration};

use crate::Version;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address can't be one.
    #[error("{address:?} is not the address of a server: {why}")]
    Address { address: String, why: String },
    /// Nobody answers there.
    #[error("the server at {address} can't be reached: {detail}")]
    Gone { address: String, detail: String },
    /// It is there, and serves nobody until its maintenance ends.
    #[error("the server at {address} is in maintenance mode")]
    Maintenance { address: String },
    /// It passes: a lost connection or a stall, which have no status, or an overload. It may have been done all the same.
    #[error("could not {call}: {detail}")]
    Passing { call: &'static str, status: Option<u16>, detail: String, after: Option<Duration> },
    /// The key is not valid, or may not do this.
    #[error("could not {call}: {}", key_words(permission, detail))]
    Key { call: &'static str, permission: Option<String>, detail: String },
    /// A proxy in front of the server takes no request of that length.
    #[error("{via} takes no request of {bytes} bytes: that is its limit for uploads, not Immich's")]
    TooLarge { bytes: u64, via: String },
    /// There is no room.
    #[error("the server has no room: {space}")]
    Full { space: Space },
    /// The server will not have this, now or later.
    #[error("could not {call}: the server refuses it ({status}: {message})")]
    Refused { call: &'static str, status: u16, message: String },
    /// Its answers are not known here.
    #[error("the server is Immich {version}: too old, it takes {} or newer", Version::OLDEST)]
    TooOld { version: Version },
    /// Its answers are not known here.
    #[error(
        "the server is Immich {version}: newer than this program, which knows versions up to v{}",
        Version::NEWEST_MAJOR
    )]
    TooNew { version: Version },
    /// The version has no such call.
    #[error("could not {call}: Immich {version} can't do that yet, {since} can")]
    Missing { call: &'static str, version: Version, since: Version },
    /// Something answers there, and it is not Immich.
    #[error("what answers at {address} is not Immich: {detail}")]
    NotImmich { address: String, detail: String },
    /// An answer that can't be understood.
    #[error("could not {call}: the answer is not understood: {detail}")]
    Garbled { call: &'static str, detail: String },
    /// The bytes to be sent could not be read.
    #[error("what was to be uploaded can't be read: {0}")]
    Source(#[source] io::Error),
    /// Certificates.
    #[error("TLS can't be used: {0}")]
    Tls(String),
}

/// Which room there is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Space {
    /// The user's quota is used up.
    Quota,
    /// The server's disk is full, or so nearly that a file does not fit.
    Disk { available: Option<u64> },
}

impl std::fmt::Display for Space {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Quota => f.write_str("the user's quota is used up"),
            Self::Disk { available: None } => f.write_str("its disk is full"),
            Self::Disk { available: Some(bytes) } => write!(f, "{bytes} bytes are left on its disk"),
        }
    }
}

/// What whoever called can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// Try again after a while; not before `after`.
    Retry { after: Option<Duration> },
    /// Wait until the server answers again, however long that takes, and then try again.
    Wait,
    /// Stop: the key must be mended.
    FixKey,
    /// Set this one aside: it fits through no proxy. Others may.
    TooLarge,
    /// Stop: the server needs room.
    MakeRoom,
    /// Set this one aside: it is refused. Others may not be.
    Refused,
    /// The bytes of this one can't be read. Others may be.
    Unreadable,
    /// Stop: the address, the certificate or the version is wrong.
    Stop,
}

impl Error {
    /// What can be done.
    pub fn advice(&self) -> Advice {
        match self {
            Self::Passing { after, .. } => Advice::Retry { after: *after },
            // A proxy that is restarted answers with pages of its own for a moment.
            Self::Garbled { .. } => Advice::Retry { after: None },
            Self::Gone { .. } | Self::Maintenance { .. } => Advice::Wait,
            Self::Key { .. } => Advice::FixKey,
            Self::TooLarge { .. } => Advice::TooLarge,
            Self::Full { .. } => Advice::MakeRoom,
            Self::Refused { .. } => Advice::Refused,
            Self::Source(_) => Advice::Unreadable,
            Self::Address { .. }
            | Self::TooOld { .. }
            | Self::TooNew { .. }
            | Self::Missing { .. }
            | Self::NotImmich { .. }
            | Self::Tls(_) => Advice::Stop,
        }
    }
}

fn key_words(permission: &Option<String>, detail: &str) -> String {
    match permission {
        Some(name) if detail == "Forbidden" => {
            format!("the API key lacks the permission {name}, or is not an administrator's")
        }
        Some(name) => format!("the API key lacks the permission {name}"),
        None => format!("the server does not accept the API key ({detail})"),
    }
}
