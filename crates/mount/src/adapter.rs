//! The calls of the kernel, each handed to `fs` and its result handed back. Nothing is decided here.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use fuser::{
    CopyFileRangeFlags, Errno, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, InitFlags, IoctlFlags,
    KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr,
    Request, TimeOrNow,
};
use haven_format::Ino;
use haven_fs::{Attr, Fs, FsError, Handle, Result, SetAttr, WriteFlags};

use crate::{
    attr::{file_attr, nothing, set_time, shown_attr},
    control,
    desk::{Asked, Desk, Finish},
    gather::Place,
    listing::{Plain, Plus, list},
    metrics::Op,
    who::Who,
};

/// `ioctl` request on the mounted root that returns when everything written before it is in the bucket: `_IO('H', 1)`.
/// syncfs(2) would be the natural call, but the kernel does not forward it to FUSE mounts like this one.
pub const IOCTL_BARRIER: u32 = 0x4801;

/// Bytes of one read or write. The kernel's own default limit is the same (`fs.fuse.max_pages_limit`).
const MAX_IO_BYTES: u32 = 1 << 20;
/// Buffered reads the kernel may have under way. Those that wait for the network count, and hold no thread of ours: with
/// fewer, reads of what is here would stand behind them. The kernel's own limit for ordinary users
/// (`max_user_bgreq`) is lower.
const MAX_BACKGROUND: u16 = u16::MAX;
/// Inode numbers are never used again, so there is only ever one generation.
const GENERATION: Generation = Generation(0);

pub(crate) struct Adapter {
    pub desk: Desk,
    pub place: Arc<Place>,
    pub ttl: Duration,
    pub changes_elsewhere: bool,
    pub writeback_cache: bool,
    /// The value of [`control::XATTR`] on the root.
    pub locator: Option<Arc<[u8]>>,
}

/// Asks `fs`; if it must wait, keeps the borrowed bytes named in `keep` and asks again later.
macro_rules! ask {
    ($self:ident, $asked:expr, keep($($bytes:ident),*), $finish:expr, |$fs:ident| $call:expr) => {{
        let asked = $asked;
        match $self.desk.attempt(&asked, |$fs: &Fs| $call) {
            Err(need) if need.need().is_some() => {
                $(let $bytes = $bytes.to_vec();)*
                let again = move |$fs: &Fs| {
                    $(let $bytes = &$bytes[..];)*
                    $call
                };
                $self.desk.later(asked, need, again, $finish);
            }
            result => $self.desk.done(&asked, result, $finish),
        }
    }};
}

fn asked(op: Op, request: &Request, ino: INodeNo) -> Asked {
    lasting(op, request, ino).by(request.pid())
}

/// What goes on without its caller: no process waits for it, or what is given up would be lost.
fn lasting(op: Op, request: &Request, ino: INodeNo) -> Asked {
    Asked::new(op, request.unique().0, ino.0)
}

fn empty(reply: ReplyEmpty) -> impl Finish<()> {
    move |result| match result {
        Ok(()) => reply.ok(),
        Err(e) => reply.error(e),
    }
}

fn xattr(reply: ReplyXattr, room: u32) -> impl Finish<Vec<u8>> {
    move |result| match result {
        Err(e) => reply.error(e),
        Ok(value) if room == 0 => reply.size(value.len() as u32),
        Ok(value) if value.len() > room as usize => reply.error(Errno::ERANGE),
        Ok(value) => reply.data(&value),
    }
}

impl Adapter {
    fn entry(&self, reply: ReplyEntry) -> impl Finish<Attr> + use<> {
        let ttl = self.ttl;
        move |result: Result<Attr, Errno>| match result {
            Ok(a) => reply.entry(&ttl, &file_attr(&a), GENERATION),
            Err(e) => reply.error(e),
        }
    }

    /// How long names in a directory stay true. Snapshots come and go by themselves.
    fn names_ttl(&self, parent: INodeNo) -> Duration {
        if haven_fs::is_snapshots_folder(Ino(parent.0)) { Duration::ZERO } else { self.ttl }
    }

    fn attr(&self, reply: ReplyAttr) -> impl Finish<Attr> + use<> {
        let ttl = self.ttl;
        move |result: Result<Attr, Errno>| match result {
            // The folder of snapshots changes without the kernel's doing.
            Ok(a) if haven_fs::is_snapshots_folder(a.ino) => reply.attr(&Duration::ZERO, &shown_attr(&a)),
            Ok(a) => reply.attr(&ttl, &shown_attr(&a)),
            Err(e) => reply.error(e),
        }
    }

    /// Where content and names change through this kernel alone, what it holds stays true over a close.
    fn keep(&self, flags: FopenFlags) -> FopenFlags {
        if self.changes_elsewhere { FopenFlags::empty() } else { flags }
    }

    fn opened(reply: ReplyOpen, flags: FopenFlags) -> impl Finish<Handle> {
        move |result| match result {
            Ok(h) => reply.opened(FileHandle(h.0), flags),
            Err(e) => reply.error(e),
        }
    }
}

impl Filesystem for Adapter {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        // FUSE_ATOMIC_O_TRUNC is left out: without it the kernel truncates by a setattr of its own, which knows the
        // caller and so whether setuid bits go. FUSE_SETXATTR_EXT is left out since fuser does not know it.
        let mut wanted = vec![
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_CACHE_SYMLINKS,
            InitFlags::FUSE_POSIX_ACL,
            InitFlags::FUSE_DONT_MASK,
            // Besides the work it takes over, it spares a getxattr of security.capability before each write.
            InitFlags::FUSE_HANDLE_KILLPRIV_V2,
            InitFlags::FUSE_ASYNC_DIO,
        ];
        if self.changes_elsewhere {
            wanted.push(InitFlags::FUSE_AUTO_INVAL_DATA);
        }
        if self.writeback_cache {
            wanted.push(InitFlags::FUSE_WRITEBACK_CACHE);
        }
        for flag in wanted {
            if let Err(lacking) = config.add_capabilities(flag) {
                tracing::debug!(?lacking, "this kernel's FUSE is older; going without");
            }
        }
        // Each setter refuses only what is out of range, and names the nearest that is not.
        if let Err(nearest) = config.set_max_write(MAX_IO_BYTES) {
            config.set_max_write(nearest).ok();
        }
        if let Err(nearest) = config.set_max_readahead(MAX_IO_BYTES) {
            config.set_max_readahead(nearest).ok();
        }
        config.set_max_background(MAX_BACKGROUND).ok();
        config.set_congestion_threshold(MAX_BACKGROUND).ok();
        Ok(())
    }

    fn lookup(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (ttl, name) = (self.names_ttl(parent), name.as_bytes());
        let finish = move |result: Result<Attr, Errno>| match result {
            // Of the past, the number that programs see is told by getattr alone.
            Ok(a) if haven_fs::is_past(a.ino) => {
                reply.entry_with_ttls(&Duration::ZERO, &ttl, &file_attr(&a), GENERATION)
            }
            Ok(a) => reply.entry(&ttl, &file_attr(&a), GENERATION),
            Err(e) if e.code() == libc::ENOENT => reply.entry(&ttl, &nothing(), GENERATION),
            Err(e) => reply.error(e),
        };
        ask!(self, asked(Op::Lookup, req, parent), keep(name), finish, |fs| fs.lookup(Ino(parent.0), name));
    }

    fn forget(&self, _: &Request, ino: INodeNo, lookups: u64) {
        self.desk.fs.forget(Ino(ino.0), lookups);
    }

    fn getattr(&self, req: &Request, ino: INodeNo, fh: Option<FileHandle>, reply: ReplyAttr) {
        let handle = fh.map(|h| Handle(h.0));
        let finish = self.attr(reply);
        ask!(self, asked(Op::Getattr, req, ino), keep(), finish, |fs| fs.getattr(Ino(ino.0), handle));
    }

    fn setattr(
        &self,
        req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<std::time::SystemTime>,
        fh: Option<FileHandle>,
        _crtime: Option<std::time::SystemTime>,
        _chgtime: Option<std::time::SystemTime>,
        _bkuptime: Option<std::time::SystemTime>,
        _flags: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let (who, handle) = (Who::of(req, 0), fh.map(|h| Handle(h.0)));
        let (atime, mtime) = (atime.map(set_time), mtime.map(set_time));
        let kill_privileges = size.is_some() && who.kills_privileges();
        let set = SetAttr { mode, uid, gid, size, atime, mtime, kill_privileges };
        let finish = self.attr(reply);
        ask!(self, asked(Op::Setattr, req, ino), keep(), finish, |fs| {
            who.ask(|caller| fs.setattr(caller, Ino(ino.0), &set, handle))
        });
    }

    fn readlink(&self, req: &Request, ino: INodeNo, reply: ReplyData) {
        let finish = |result: Result<bytes::Bytes, Errno>| match result {
            Ok(target) => reply.data(&target),
            Err(e) => reply.error(e),
        };
        ask!(self, asked(Op::Readlink, req, ino), keep(), finish, |fs| fs.readlink(Ino(ino.0)));
    }

    fn mknod(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, rdev: u32, reply: ReplyEntry) {
        let (who, name, finish) = (Who::of(req, umask), name.as_bytes(), self.entry(reply));
        ask!(self, asked(Op::Mknod, req, parent), keep(name), finish, |fs| {
            who.ask(|caller| fs.mknod(caller, Ino(parent.0), name, mode, rdev))
        });
    }

    fn mkdir(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let (who, name, finish) = (Who::of(req, umask), name.as_bytes(), self.entry(reply));
        ask!(self, asked(Op::Mkdir, req, parent), keep(name), finish, |fs| {
            who.ask(|caller| fs.mkdir(caller, Ino(parent.0), name, mode))
        });
    }

    fn unlink(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = name.as_bytes();
        ask!(self, asked(Op::Unlink, req, parent), keep(name), empty(reply), |fs| fs.unlink(Ino(parent.0), name));
    }

    fn rmdir(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = name.as_bytes();
        ask!(self, asked(Op::Rmdir, req, parent), keep(name), empty(reply), |fs| fs.rmdir(Ino(parent.0), name));
    }

    fn symlink(&self, req: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let (who, finish) = (Who::of(req, 0), self.entry(reply));
        let (name, target) = (name.as_bytes(), target.as_os_str().as_bytes());
        ask!(self, asked(Op::Symlink, req, parent), keep(name, target), finish, |fs| {
            who.ask(|caller| fs.symlink(caller, Ino(parent.0), name, target))
        });
    }

    fn rename(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let (name, newname) = (name.as_bytes(), newname.as_bytes());
        ask!(self, asked(Op::Rename, req, parent), keep(name, newname), empty(reply), |fs| {
            fs.rename(Ino(parent.0), name, Ino(newparent.0), newname, flags.bits())
        });
    }

    fn link(&self, req: &Request, ino: INodeNo, newparent: INodeNo, newname: &OsStr, reply: ReplyEntry) {
        let (name, finish) = (newname.as_bytes(), self.entry(reply));
        ask!(self, asked(Op::Link, req, ino), keep(name), finish, |fs| fs.link(Ino(ino.0), Ino(newparent.0), name));
    }

    fn open(&self, req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let finish = Self::opened(reply, self.keep(FopenFlags::FOPEN_KEEP_CACHE));
        ask!(self, asked(Op::Open, req, ino), keep(), finish, |fs| fs.open(Ino(ino.0), flags.0));
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let (who, name, ttl) = (Who::of(req, umask), name.as_bytes(), self.ttl);
        let keep = self.keep(FopenFlags::FOPEN_KEEP_CACHE);
        let finish = move |result: Result<(Attr, Handle), Errno>| match result {
            Ok((a, h)) => reply.created(&ttl, &file_attr(&a), GENERATION, FileHandle(h.0), keep),
            Err(e) => reply.error(e),
        };
        ask!(self, asked(Op::Create, req, parent), keep(name), finish, |fs| {
            who.ask(|caller| fs.create(caller, Ino(parent.0), name, mode, flags))
        });
    }

    fn read(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let metrics = self.desk.metrics.clone();
        let finish = move |result: Result<bytes::Bytes, Errno>| match result {
            Ok(data) => {
                metrics.read(data.len());
                reply.data(&data);
            }
            Err(e) => reply.error(e),
        };
        // Whoever is killed leaves pages that are being read to themselves; and there may be tens of thousands.
        ask!(self, lasting(Op::Read, req, ino), keep(), finish, |fs| {
            fs.read(Ino(ino.0), Handle(fh.0), offset, size as usize)
        });
    }

    fn write(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: fuser::WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let kill_privileges = write_flags.contains(fuser::WriteFlags::FUSE_WRITE_KILL_SUIDGID);
        let metrics = self.desk.metrics.clone();
        // What the kernel has taken already, through a mapping: it would forget that, and a flush asks it for that. Whose
        // own call it is has been promised nothing yet.
        let taken = write_flags.contains(fuser::WriteFlags::FUSE_WRITE_CACHE);
        let under_way = taken.then(|| self.place.writes.begin());
        let finish = move |result: Result<usize, Errno>| {
            drop(under_way);
            match result {
                Ok(n) => {
                    metrics.written(n);
                    reply.written(n as u32);
                }
                Err(e) => reply.error(e),
            }
        };
        let asked = if taken { lasting(Op::Write, req, ino) } else { asked(Op::Write, req, ino) };
        ask!(self, asked, keep(data), finish, |fs| {
            fs.write(Ino(ino.0), Handle(fh.0), offset, data, WriteFlags { kill_privileges })
        });
    }

    fn flush(&self, req: &Request, ino: INodeNo, fh: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        ask!(self, asked(Op::Flush, req, ino), keep(), empty(reply), |fs| fs.flush(Ino(ino.0), Handle(fh.0)));
    }

    fn release(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        ask!(self, lasting(Op::Release, req, ino), keep(), empty(reply), |fs| fs.release(Ino(ino.0), Handle(fh.0)));
    }

    fn fsync(&self, req: &Request, ino: INodeNo, fh: FileHandle, datasync: bool, reply: ReplyEmpty) {
        let call = move |fs: &Fs| fs.fsync(Ino(ino.0), Handle(fh.0), datasync);
        self.desk.durably(asked(Op::Fsync, req, ino), false, call, empty(reply));
    }

    fn opendir(&self, req: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let keep = self.keep(FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_CACHE_DIR);
        let changes = haven_fs::is_snapshots_folder(Ino(ino.0));
        let finish = Self::opened(reply, if changes { FopenFlags::empty() } else { keep });
        ask!(self, asked(Op::Opendir, req, ino), keep(), finish, |fs| fs.opendir(Ino(ino.0)));
    }

    fn readdir(&self, req: &Request, ino: INodeNo, fh: FileHandle, offset: u64, reply: ReplyDirectory) {
        list(&self.desk, asked(Op::Readdir, req, ino), (Ino(ino.0), Handle(fh.0), offset), Plain(reply));
    }

    fn readdirplus(&self, req: &Request, ino: INodeNo, fh: FileHandle, offset: u64, reply: ReplyDirectoryPlus) {
        let at = (Ino(ino.0), Handle(fh.0), offset);
        list(&self.desk, asked(Op::Readdir, req, ino), at, Plus(reply, self.ttl));
    }

    fn releasedir(&self, req: &Request, ino: INodeNo, fh: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        ask!(self, lasting(Op::Releasedir, req, ino), keep(), empty(reply), |fs| {
            fs.releasedir(Ino(ino.0), Handle(fh.0))
        });
    }

    fn fsyncdir(&self, req: &Request, ino: INodeNo, fh: FileHandle, datasync: bool, reply: ReplyEmpty) {
        let call = move |fs: &Fs| fs.fsyncdir(Ino(ino.0), Handle(fh.0), datasync);
        self.desk.durably(asked(Op::Fsyncdir, req, ino), false, call, empty(reply));
    }

    fn statfs(&self, req: &Request, ino: INodeNo, reply: ReplyStatfs) {
        let finish = |result: Result<haven_fs::StatFs, Errno>| match result {
            Ok(s) => reply.statfs(
                s.blocks,
                s.blocks_free,
                s.blocks_free,
                s.inodes,
                s.inodes_free,
                s.block,
                s.name_max,
                s.block,
            ),
            Err(e) => reply.error(e),
        };
        ask!(self, asked(Op::Statfs, req, ino), keep(), finish, |fs| fs.statfs());
    }

    fn setxattr(
        &self,
        req: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let (who, name) = (Who::of(req, 0), name.as_bytes());
        ask!(self, asked(Op::Setxattr, req, ino), keep(name, value), empty(reply), |fs| {
            who.ask(|caller| fs.setxattr(caller, Ino(ino.0), name, value, flags))
        });
    }

    fn getxattr(&self, req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let (name, finish) = (name.as_bytes(), xattr(reply, size));
        let locator = self.locator.as_ref().filter(|_| ino == INodeNo::ROOT && name == control::XATTR.as_bytes());
        if let Some(locator) = locator {
            return finish(Ok(locator.to_vec()));
        }
        ask!(self, asked(Op::Getxattr, req, ino), keep(name), finish, |fs| {
            fs.getxattr(Ino(ino.0), name).map(|value| value.to_vec())
        });
    }

    fn listxattr(&self, req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let finish = xattr(reply, size);
        ask!(self, asked(Op::Listxattr, req, ino), keep(), finish, |fs| fs.listxattr(Ino(ino.0)));
    }

    fn removexattr(&self, req: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (who, name) = (Who::of(req, 0), name.as_bytes());
        ask!(self, asked(Op::Removexattr, req, ino), keep(name), empty(reply), |fs| {
            who.ask(|caller| fs.removexattr(caller, Ino(ino.0), name))
        });
    }

    fn ioctl(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        cmd: u32,
        _in_data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        if cmd != IOCTL_BARRIER || ino != INodeNo::ROOT {
            return reply.error(Errno::ENOTTY);
        }
        let finish = |result| match result {
            Ok(()) => reply.ioctl(0, &[]),
            Err(e) => reply.error(e),
        };
        let (place, gathered) = (self.place.clone(), AtomicBool::new(false));
        let call = move |fs: &Fs| {
            // Only the first try is made on a thread that the kernel's own writes don't need.
            if !gathered.swap(true, Ordering::Relaxed) {
                place.gather().map_err(|e| FsError::Broken(format!("the kernel's part of the barrier: {e}")))?;
            }
            fs.sync()
        };
        self.desk.durably(asked(Op::Ioctl, req, ino), true, call, finish);
    }

    fn fallocate(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        ask!(self, asked(Op::Fallocate, req, ino), keep(), empty(reply), |fs| {
            fs.fallocate(Ino(ino.0), Handle(fh.0), offset, length, mode)
        });
    }

    fn lseek(&self, req: &Request, ino: INodeNo, fh: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        let finish = |result: Result<u64, Errno>| match result {
            Ok(at) => reply.offset(at as i64),
            Err(e) => reply.error(e),
        };
        // The kernel refuses negative offsets itself.
        let offset = offset.max(0) as u64;
        ask!(self, asked(Op::Lseek, req, ino), keep(), finish, |fs| {
            fs.lseek(Ino(ino.0), Handle(fh.0), offset, whence)
        });
    }

    fn copy_file_range(
        &self,
        req: &Request,
        ino_in: INodeNo,
        fh_in: FileHandle,
        offset_in: u64,
        ino_out: INodeNo,
        fh_out: FileHandle,
        offset_out: u64,
        len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let finish = |result: Result<u64, Errno>| match result {
            Ok(n) => reply.written(n as u32),
            Err(e) => reply.error(e),
        };
        // The answer has 32 bits; the caller comes again for the rest.
        let len = len.min(1 << 30);
        ask!(self, asked(Op::CopyFileRange, req, ino_in), keep(), finish, |fs| {
            let from = (Ino(ino_in.0), Handle(fh_in.0), offset_in);
            fs.copy_file_range(from, (Ino(ino_out.0), Handle(fh_out.0), offset_out), len)
        });
    }
}
