//! The values that calls take and give.

use bytes::Bytes;
use haven_format::{
    Ino,
    record::{Cookie, Inode, Time},
};
use haven_vault::View;

/// Who calls. The kernel has already checked access (`default_permissions`); what is left to us needs to know who.
#[derive(Clone, Copy)]
pub struct Caller<'a> {
    pub uid: u32,
    pub gid: u32,
    /// Applied to new files unless the directory has a default ACL; hence the kernel must not (`FUSE_DONT_MASK`).
    pub umask: u32,
    /// Whether the caller is in this group. Asked only where it matters (chmod of setgid files), since it may
    /// have to read `/proc`.
    pub in_group: &'a dyn Fn(u32) -> bool,
}

impl Caller<'_> {
    /// The superuser, who may everything.
    pub const ROOT: Caller<'static> = Caller { uid: 0, gid: 0, umask: 0, in_group: &|_| true };
}

/// An open file or directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle(pub u64);

/// What `stat` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attr {
    pub ino: Ino,
    /// File type and permission bits.
    pub mode: u32,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    /// Bytes.
    pub size: u64,
    /// Units of 512 bytes.
    pub blocks: u64,
    /// Preferred bytes of a read or write.
    pub blksize: u32,
    /// As the kernel's `new_encode_dev`.
    pub rdev: u32,
    pub atime: Time,
    pub mtime: Time,
    pub ctime: Time,
    /// When it was made.
    pub btime: Time,
}

/// What [`Attr::size`] says of a directory, bytes.
pub const DIRECTORY_SIZE: u64 = 4096;
const BLKSIZE: u32 = 128 << 10;

impl Attr {
    pub(crate) fn new(ino: Ino, inode: &Inode) -> Self {
        let directory = inode.mode & libc::S_IFMT == libc::S_IFDIR;
        Self {
            ino,
            mode: inode.mode,
            nlink: inode.nlink,
            uid: inode.uid,
            gid: inode.gid,
            size: if directory { DIRECTORY_SIZE } else { inode.size },
            blocks: if directory { DIRECTORY_SIZE / 512 } else { inode.allocated.div_ceil(512) },
            blksize: BLKSIZE,
            rdev: inode.rdev,
            atime: inode.atime,
            mtime: inode.mtime,
            ctime: inode.ctime,
            btime: inode.btime,
        }
    }
}

/// A time to set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetTime {
    /// `UTIME_NOW`: by our clock.
    Now,
    To(Time),
}

/// What to change of a file; `None` leaves it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SetAttr {
    /// Permission bits (the file type is ignored).
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    /// Bytes: truncate or extend.
    pub size: Option<u64>,
    pub atime: Option<SetTime>,
    pub mtime: Option<SetTime>,
    /// The set-user-ID and set-group-ID bits go (`FATTR_KILL_SUIDGID`, beside `size`).
    pub kill_privileges: bool,
}

/// How a write came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WriteFlags {
    /// The set-user-ID and set-group-ID bits go (`FUSE_WRITE_KILL_SUIDGID`).
    pub kill_privileges: bool,
}

/// A name in a directory, as `readdir` tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dirent {
    pub name: Bytes,
    pub ino: Ino,
    /// `DT_REG` and so on.
    pub kind: u32,
    /// Hand this in to go on behind this entry. Stays valid while others come and go.
    pub cookie: Cookie,
    /// With `plus` only: what a lookup of the name would give. It counts as a lookup once taken, but for
    /// `.` and `..`, which have none.
    pub attr: Option<Attr>,
}

/// What `statfs` tells. Blocks are of [`StatFs::block`] bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatFs {
    pub block: u32,
    pub blocks: u64,
    pub blocks_free: u64,
    pub inodes: u64,
    pub inodes_free: u64,
    pub name_max: u32,
}

/// When reading a file changes its access time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Atime {
    /// Never.
    #[default]
    Off,
    /// If it is not newer than the last change, or a day old.
    Relative,
}

/// How the file system behaves. The default is what a mount has when nothing is configured.
#[derive(Debug, Clone)]
pub struct Options {
    /// Who owns the root directory when it is made, at the first start over an empty library: (uid, gid).
    pub owner: (u32, u32),
    /// Refuse every change, and make none.
    pub read_only: bool,
    /// Show the library as it was, not as it is. With `read_only` only.
    pub at: Option<View>,
    /// List the folder of snapshots in the root directory. It can be entered either way.
    pub list_snapshots: bool,
    pub atime: Atime,
    /// Bytes that `statfs` gives as the size of the file system. It limits nothing.
    pub quota: Option<u64>,
    /// Bytes written and not yet handed to the vault, over all files, above which writers hand over first.
    pub dirty_limit: u64,
    /// Bytes of one file in one run above which all but its end is handed to the vault.
    pub write_out: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            owner: (0, 0),
            read_only: false,
            at: None,
            list_snapshots: false,
            atime: Atime::Off,
            quota: None,
            dirty_limit: 64 << 20,
            write_out: 8 << 20,
        }
    }
}

/// Tells the time of day.
pub trait Clock: Send + Sync {
    fn now(&self) -> Time;
}
