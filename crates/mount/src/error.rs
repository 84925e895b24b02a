//! Why a mount, or its end, did not come about.

use std::{io, path::PathBuf};

/// Nothing was mounted, and the mount point is as it was.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    #[error("the mount point {} does not exist", point.display())]
    Missing { point: PathBuf },
    #[error("the mount point {} is not a directory", point.display())]
    NotADirectory { point: PathBuf },
    #[error("the mount point {} is not empty: it holds {example:?}", point.display())]
    NotEmpty { point: PathBuf, example: String },
    #[error("{} is mounted already, from {library}", point.display())]
    AlreadyMounted { point: PathBuf, library: String },
    /// A file system whose server is gone is still attached there, and could not be, or is not ours to be, detached.
    #[error("a dead mount of type {fs_type} is still attached to {}", point.display())]
    Stale { point: PathBuf, fs_type: String, source: io::Error },
    #[error("the mount point {} cannot be read", point.display())]
    Unreadable { point: PathBuf, source: io::Error },
    #[error("/dev/fuse is missing: the kernel has no FUSE, or this container was not given the device")]
    NoDevice,
    #[error("/dev/fuse may not be opened by this user")]
    DeviceDenied { source: io::Error },
    #[error("fusermount3 is not installed, and only root can mount without it")]
    NoHelper,
    #[error("fusermount3 refused to mount: {says}")]
    HelperRefused { says: String },
    #[error("the kernel refused to mount at {}", point.display())]
    Refused { point: PathBuf, source: io::Error },
    #[error("the kernel and this program could not agree on how to speak FUSE")]
    Handshake { source: io::Error },
    #[error("a thread could not be started")]
    Thread { source: io::Error },
}

impl MountError {
    /// What the person at the keyboard can do about it.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "create the directory, or correct the path",
            Self::NotADirectory { .. } => "name a directory",
            Self::NotEmpty { .. } => {
                "choose an empty directory, or allow a non-empty one: its files are hidden meanwhile"
            }
            Self::AlreadyMounted { .. } => "use it as it is, or unmount it first",
            Self::Stale { .. } => "detach it with `umount --lazy`, as root or as the user who mounted it",
            Self::Unreadable { .. } => "check who may enter the directories on the way there",
            Self::NoDevice => "load the module (`modprobe fuse`), or give the container /dev/fuse and CAP_SYS_ADMIN",
            Self::DeviceDenied { .. } => "make /dev/fuse readable and writable for this user",
            Self::NoHelper => "install the package fuse3",
            Self::HelperRefused { .. } => "see fuse.conf(5); allow_other needs the line user_allow_other there",
            Self::Refused { .. } => "see the kernel's log (dmesg)",
            Self::Handshake { .. } | Self::Thread { .. } => "report this as a bug, with the log",
        }
    }
}

/// The mount is still there.
#[derive(Debug, thiserror::Error)]
pub enum UnmountError {
    #[error("{} is in use{}", point.display(), by(holders))]
    Busy { point: PathBuf, holders: Vec<Holder> },
    #[error("{} is not mounted", point.display())]
    NotMounted { point: PathBuf },
    #[error("{} could not be unmounted", point.display())]
    Refused { point: PathBuf, source: io::Error },
    #[error("fusermount3 refused to unmount: {says}")]
    HelperRefused { says: String },
    #[error("fusermount3 is not installed, and only root can unmount without it")]
    NoHelper,
}

/// A process that keeps a mount busy.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Holder {
    pub pid: u32,
    pub name: String,
}

impl Holder {
    /// Up to five by name and number: `postgres (1234), nginx (99)`.
    pub fn listed(holders: &[Self]) -> String {
        let names: Vec<_> = holders.iter().take(5).map(|h| format!("{} ({})", h.name, h.pid)).collect();
        let more = if holders.len() > 5 { " and others" } else { "" };
        format!("{}{more}", names.join(", "))
    }
}

fn by(holders: &[Holder]) -> String {
    if holders.is_empty() { String::new() } else { format!(" by {}", Holder::listed(holders)) }
}
