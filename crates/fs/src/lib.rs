//! POSIX meaning over the vault: files, directories, links, attributes. No FUSE here.
//!
//! Every call takes `&self`, never waits for the network, and is *restartable*: [`FsError::Need`] means that nothing
//! was changed; await [`Fs::settle`] and call again with the same arguments.

mod attr;
mod errno;

use std::sync::Arc;

use bytes::Bytes;
use haven_format::{Ino, Keys, TxSeq, record::Cookie};
use haven_vault::{Need, Vault};

pub use attr::{
    Atime, Attr, Caller, Clock, DIRECTORY_SIZE, Dirent, Handle, Options, SetAttr, SetTime, StatFs, WriteFlags,
};
pub use errno::{FsError, Result};

/// An open file system. Cheap to share; all calls may come from any thread at once.
pub struct Fs {
    vault: Arc<Vault>,
    #[expect(dead_code)]
    keys: Keys,
    #[expect(dead_code)]
    clock: Arc<dyn Clock>,
    #[expect(dead_code)]
    options: Options,
}

const NOT_YET: FsError = FsError::Unsupported("not yet");

#[expect(unused_variables)]
impl Fs {
    /// Opens the file system in `vault`: makes the root directory if there is none, and queues what was unlinked but
    /// open when the last session ended, to be removed by [`Fs::tick`].
    pub fn start(vault: Arc<Vault>, keys: Keys, clock: Arc<dyn Clock>, options: Options) -> Result<Arc<Self>> {
        Ok(Arc::new(Self { vault, keys, clock, options }))
    }

    /// Returns when `need` is met, or with the error that says why it never will be.
    pub async fn settle(&self, need: &Need) -> Result<()> {
        Ok(self.vault.settle(need).await?)
    }

    /// Returns when every change up to `seq` is in the bucket.
    pub async fn sync_bucket(&self, seq: TxSeq) -> Result<()> {
        Ok(self.vault.sync_bucket(seq).await?)
    }

    /// Finds `name` in `parent` and counts a lookup of what it found.
    pub fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Attr> {
        Err(NOT_YET)
    }

    /// Takes back `lookups` lookups of `ino`. What has no name, no lookups and no handles is removed.
    pub fn forget(&self, ino: Ino, lookups: u64) {}

    pub fn getattr(&self, ino: Ino, handle: Option<Handle>) -> Result<Attr> {
        Err(NOT_YET)
    }

    pub fn setattr(&self, caller: &Caller, ino: Ino, set: &SetAttr, handle: Option<Handle>) -> Result<Attr> {
        Err(NOT_YET)
    }

    pub fn readlink(&self, ino: Ino) -> Result<Bytes> {
        Err(NOT_YET)
    }

    /// Makes a regular or special file; `mode` has the file type. Counts a lookup, as all calls that give a new
    /// name's [`Attr`].
    pub fn mknod(&self, caller: &Caller, parent: Ino, name: &[u8], mode: u32, rdev: u32) -> Result<Attr> {
        Err(NOT_YET)
    }

    pub fn mkdir(&self, caller: &Caller, parent: Ino, name: &[u8], mode: u32) -> Result<Attr> {
        Err(NOT_YET)
    }

    pub fn symlink(&self, caller: &Caller, parent: Ino, name: &[u8], target: &[u8]) -> Result<Attr> {
        Err(NOT_YET)
    }

    pub fn link(&self, ino: Ino, parent: Ino, name: &[u8]) -> Result<Attr> {
        Err(NOT_YET)
    }

    pub fn unlink(&self, parent: Ino, name: &[u8]) -> Result<()> {
        Err(NOT_YET)
    }

    pub fn rmdir(&self, parent: Ino, name: &[u8]) -> Result<()> {
        Err(NOT_YET)
    }

    /// `flags` are those of renameat2(2): `RENAME_NOREPLACE` and `RENAME_EXCHANGE`; others are `EINVAL`.
    pub fn rename(&self, parent: Ino, name: &[u8], new_parent: Ino, new_name: &[u8], flags: u32) -> Result<()> {
        Err(NOT_YET)
    }

    /// `flags` are those of open(2); `O_TRUNC` is honoured, the kernel sees to the others.
    pub fn open(&self, ino: Ino, flags: i32) -> Result<Handle> {
        Err(NOT_YET)
    }

    /// Makes and opens a regular file, or opens the one there is unless `flags` have `O_EXCL`. Counts a lookup.
    pub fn create(&self, caller: &Caller, parent: Ino, name: &[u8], mode: u32, flags: i32) -> Result<(Attr, Handle)> {
        Err(NOT_YET)
    }

    /// Makes and opens a regular file without a name (`O_TMPFILE`); [`Fs::link`] may give it one. Counts a lookup.
    pub fn tmpfile(&self, caller: &Caller, parent: Ino, mode: u32, flags: i32) -> Result<(Attr, Handle)> {
        Err(NOT_YET)
    }

    /// At most `len` bytes from `offset`; fewer only at the end of the file.
    pub fn read(&self, ino: Ino, handle: Handle, offset: u64, len: usize) -> Result<Bytes> {
        Err(NOT_YET)
    }

    /// Takes all of `data`, or nothing.
    pub fn write(&self, ino: Ino, handle: Handle, offset: u64, data: &[u8], flags: WriteFlags) -> Result<usize> {
        Err(NOT_YET)
    }

    /// One close(2) of the handle: afterwards a killed process loses nothing of the file.
    pub fn flush(&self, ino: Ino, handle: Handle) -> Result<()> {
        Err(NOT_YET)
    }

    /// The last close. The handle is gone whatever the result.
    pub fn release(&self, ino: Ino, handle: Handle) -> Result<()> {
        Err(NOT_YET)
    }

    /// Afterwards neither a killed process nor a power cut loses anything of the file. Blocks on the local disk.
    /// For more, hand the result to [`Fs::sync_bucket`].
    pub fn fsync(&self, ino: Ino, handle: Handle, datasync: bool) -> Result<TxSeq> {
        Err(NOT_YET)
    }

    pub fn opendir(&self, ino: Ino) -> Result<Handle> {
        Err(NOT_YET)
    }

    /// Hands entries behind `from` (0 for the first; then a [`Dirent::cookie`]) to `take`, until it returns false,
    /// meaning that it had no room and this entry must come again.
    pub fn readdir(
        &self,
        ino: Ino,
        handle: Handle,
        from: Cookie,
        plus: bool,
        take: &mut dyn FnMut(&Dirent) -> bool,
    ) -> Result<()> {
        Err(NOT_YET)
    }

    pub fn releasedir(&self, ino: Ino, handle: Handle) -> Result<()> {
        Err(NOT_YET)
    }

    /// As [`Fs::fsync`], for a directory.
    pub fn fsyncdir(&self, ino: Ino, handle: Handle, datasync: bool) -> Result<TxSeq> {
        Err(NOT_YET)
    }

    pub fn statfs(&self) -> Result<StatFs> {
        Err(NOT_YET)
    }

    /// `flags`: 0, `XATTR_CREATE` or `XATTR_REPLACE`.
    pub fn setxattr(&self, caller: &Caller, ino: Ino, name: &[u8], value: &[u8], flags: i32) -> Result<()> {
        Err(NOT_YET)
    }

    /// The whole value; comparing it with the caller's buffer (`ERANGE`) is the adapter's.
    pub fn getxattr(&self, ino: Ino, name: &[u8]) -> Result<Bytes> {
        Err(NOT_YET)
    }

    /// All names, each followed by a NUL.
    pub fn listxattr(&self, ino: Ino) -> Result<Vec<u8>> {
        Err(NOT_YET)
    }

    pub fn removexattr(&self, caller: &Caller, ino: Ino, name: &[u8]) -> Result<()> {
        Err(NOT_YET)
    }

    /// `whence`: `SEEK_DATA` or `SEEK_HOLE`.
    pub fn lseek(&self, ino: Ino, handle: Handle, offset: u64, whence: i32) -> Result<u64> {
        Err(NOT_YET)
    }

    /// `mode`: `FALLOC_FL_KEEP_SIZE`, `FALLOC_FL_PUNCH_HOLE`, `FALLOC_FL_ZERO_RANGE`.
    pub fn fallocate(&self, ino: Ino, handle: Handle, offset: u64, len: u64, mode: i32) -> Result<()> {
        Err(NOT_YET)
    }

    /// Copies by sharing chunks. Gives how many bytes, which is fewer than `len` only at the end of the source.
    pub fn copy_file_range(&self, from: (Ino, Handle, u64), to: (Ino, Handle, u64), len: u64) -> Result<u64> {
        Err(NOT_YET)
    }

    /// Hands all that was written, of all files, to the vault.
    pub fn flush_all(&self) -> Result<()> {
        Err(NOT_YET)
    }

    /// Afterwards everything that was written survives a power cut. Blocks on the local disk.
    pub fn sync(&self) -> Result<TxSeq> {
        Err(NOT_YET)
    }

    /// To be called about once a second: hands over what was written more than two seconds ago, and removes some of
    /// what nobody can reach any more. Bounded work; nothing is lost when it fails, the next one tries again.
    pub fn tick(&self) -> Result<()> {
        Err(NOT_YET)
    }
}
