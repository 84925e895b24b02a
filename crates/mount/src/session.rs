//! A mount, from its beginning to its end.
//!
//! The mount point is checked, attached, spoken to; then threads answer the kernel until the mount is taken off, by us
//! or by anybody (`umount`, `fusermount3 -u`): to this room all ends are the same. See [`crate::serve`] for
//! what follows an end.

use std::{
    fs,
    io::{self, Write},
    os::fd::{AsFd, OwnedFd},
    path::Path,
    sync::Arc,
    thread,
    time::Duration,
};

use fuser::{INodeNo, Notifier, SessionACL};
use haven_format::Ino;
use haven_fs::Fs;
use rustix::{
    fs::{Mode, OFlags, openat},
    mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen},
};
use tokio::{runtime, sync::watch};

use crate::{
    adapter::Adapter,
    attach::attach,
    desk::Desk,
    detach::{clones, detach},
    error::{Holder, MountError, UnmountError},
    gather::{Place, gather_within},
    metrics::Metrics,
    mounts::mounted_at,
    options::MountOptions,
    point::prepare,
};

/// How a mount came to be gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    Unmounted,
    /// The conversation with the kernel broke off.
    Failed(String),
}

struct Inner {
    place: Arc<Place>,
    desk: Desk,
    notifier: Notifier,
    ended: watch::Sender<Option<Ended>>,
    skip_drain: watch::Sender<bool>,
    stop_patience: Duration,
}

/// A mounted library. Cheap to share; the mount ends by [`Session::unmount`] or from outside, not by dropping this.
#[derive(Clone)]
pub struct Session(Arc<Inner>);

/// Mounts `fs` at `mountpoint`. Requests that must wait do so on `runtime`, which must outlive the mount.
///
/// When it fails, the mount point is as it was, except that a dead mount of ours may be gone from it.
pub fn mount(
    fs: Arc<Fs>,
    mountpoint: &Path,
    options: &MountOptions,
    runtime: runtime::Handle,
) -> Result<Session, MountError> {
    let point = prepare(mountpoint, options.allow_non_empty)?;
    let desk = Desk::new(fs, runtime, options.fsync);
    let place = Arc::new(Place::new(&point));
    let adapter = Adapter {
        desk: desk.clone(),
        place: place.clone(),
        ttl: options.kernel_ttl,
        changes_elsewhere: options.changes_elsewhere,
        writeback_cache: options.writeback_cache,
        locator: options.control.as_ref().and_then(|l| serde_json::to_vec(l).ok()).map(Arc::from),
    };
    let device = attach(&point, options)?;
    let started = shake_hands(device, adapter, options).and_then(|kernel| {
        if let Ok(Some(m)) = mounted_at(&point) {
            _ = place.device.set(m.device);
        }
        let session = Session(Arc::new(Inner {
            place,
            desk,
            notifier: kernel.notifier(),
            ended: watch::Sender::new(None),
            skip_drain: watch::Sender::new(false),
            stop_patience: options.stop_patience,
        }));
        // Of who writes, so the inode is neither new nor going in the kernel, and only its attributes: nothing is waited for.
        let inner = Arc::downgrade(&session.0);
        session.fs().tell_unmarked(move |ino| {
            if let Some(inner) = inner.upgrade()
                && let Err(e) = inner.notifier.inval_inode(INodeNo(ino.0), -1, 0)
            {
                tracing::debug!(error = %e, "the kernel keeps a file's mode");
            }
        });
        session.answer_kernel(kernel)?;
        session.set_read_ahead(options.read_ahead_bytes);
        Ok(session)
    });
    if started.is_err() {
        detach(&point, true).unwrap_or_else(|e| tracing::warn!(error = %e, "a failed mount is still attached"));
    }
    started
}

fn shake_hands(
    device: OwnedFd,
    adapter: Adapter,
    options: &MountOptions,
) -> Result<fuser::Session<Adapter>, MountError> {
    let mut config = fuser::Config::default();
    config.acl = if options.allow_other { SessionACL::All } else { SessionACL::Owner };
    config.n_threads = Some(options.threads.get());
    config.clone_fd = true;
    fuser::Session::from_fd(adapter, device, config.acl, config).map_err(|source| MountError::Handshake { source })
}

impl Session {
    fn answer_kernel(&self, kernel: fuser::Session<Adapter>) -> Result<(), MountError> {
        let session = self.clone();
        let work = move || {
            let how = kernel.run().map_or_else(|e| Ended::Failed(e.to_string()), |()| Ended::Unmounted);
            session.make_sure_it_is_gone();
            session.0.ended.send_replace(Some(how));
        };
        let started = thread::Builder::new().name("haven-fuse".into()).spawn(work);
        started.map(drop).map_err(|source| MountError::Thread { source })
    }

    /// When the threads have ended the mount is normally gone. If they failed it is dead: nobody should see that.
    fn make_sure_it_is_gone(&self) {
        let there = mounted_at(self.point()).ok().flatten().map(|m| m.device);
        if there.is_some() && there.as_deref() == self.device() {
            detach(self.point(), true).unwrap_or_else(|e| tracing::warn!(error = %e, "a dead mount is left"));
        }
    }

    /// The kernel caps what FUSE may ask for at 128 KiB; the mount's own knob is root's.
    fn set_read_ahead(&self, bytes: u32) {
        let Some(device) = self.device().filter(|_| bytes > 0) else { return };
        let knob = format!("/sys/class/bdi/{device}/read_ahead_kb");
        if let Err(e) = fs::write(&knob, (bytes / 1024).to_string()) {
            tracing::debug!(error = %e, "the kernel's read-ahead stays as it is");
        }
    }

    /// The mount point, absolute.
    pub fn point(&self) -> &Path {
        &self.0.place.point
    }

    /// The kernel's number for this very mount, if it could be had.
    fn device(&self) -> Option<&str> {
        self.0.place.device.get().map(String::as_str)
    }

    pub fn fs(&self) -> &Arc<Fs> {
        &self.0.desk.fs
    }

    pub fn metrics(&self) -> &Metrics {
        &self.0.desk.metrics
    }

    /// Requests that wait for the disk or the network at this moment.
    pub fn waiting(&self) -> usize {
        self.0.desk.waiting()
    }

    /// Whether the mount is still attached or has open files.
    pub fn is_alive(&self) -> bool {
        self.0.ended.borrow().is_none()
    }

    /// Takes the mount off its mount point. Without `lazy`, open files make it [`UnmountError::Busy`] and nothing
    /// changes; with it the mount vanishes from the tree at once, and ends when the last file is closed.
    /// Returns before [`Session::ended`] does.
    pub fn unmount(&self, lazy: bool) -> Result<(), UnmountError> {
        let there = mounted_at(self.point()).ok().flatten().map(|m| m.device);
        if there.as_deref() != self.device() {
            // Gone already, or covered by another mount, which is not ours to take off.
            return Err(UnmountError::NotMounted { point: self.point().to_path_buf() });
        }
        detach(self.point(), lazy)
    }

    /// Who keeps a mount alive that is off its mount point: processes of other mount namespaces that have it, too. Looks
    /// through /proc.
    pub fn clones(&self) -> Vec<Holder> {
        self.device().map(clones).unwrap_or_default()
    }

    /// Ends a mount whose files do not close: their users get errors from then on. False where this user may not; then
    /// only the end of this process does it.
    pub fn abort(&self) -> bool {
        // The kernel names a connection by the device number, which for these has major 0.
        let connection = self.device().and_then(|d| d.strip_prefix("0:"));
        connection.is_some_and(|connection| abort(connection).is_ok())
    }

    /// Returns when nobody can reach the mount any more.
    pub async fn ended(&self) -> Ended {
        let mut ended = self.0.ended.subscribe();
        let how = ended.wait_for(Option::is_some).await.ok().and_then(|how| how.clone());
        // The sender lives in `self`.
        how.unwrap_or(Ended::Unmounted)
    }

    /// As [`Session::ended`], for callers without a runtime.
    pub fn wait(&self) -> Ended {
        self.0.desk.block_on(self.ended())
    }

    /// Whether the mounted root answers the kernel: `stat` of the mount point, as any program would.
    pub async fn answers(&self) -> io::Result<()> {
        let point = self.point().to_path_buf();
        tokio::task::spawn_blocking(move || fs::metadata(point)).await.map_err(io::Error::other)?.map(drop)
    }

    /// Returns when the kernel has handed over what programs have written and it still holds: shared mappings, and with
    /// the write-back cache everything. At most for `patience`. It hands over by writing to this mount.
    pub async fn gather(&self, patience: Duration) -> io::Result<()> {
        gather_within(self.0.place.clone(), patience).await
    }

    /// Does not wait for uploads when the mount ends; they go on at the next mount.
    pub fn skip_drain(&self) {
        self.0.skip_drain.send_replace(true);
    }

    pub(crate) fn drain_skipped(&self) -> watch::Receiver<bool> {
        self.0.skip_drain.subscribe()
    }

    pub(crate) fn stop_patience(&self) -> Duration {
        self.0.stop_patience
    }

    pub(crate) fn desk(&self) -> &Desk {
        &self.0.desk
    }

    /// Makes the kernel forget attributes and content of an inode that changed by another way than through it.
    /// Must not be called from within a file system call, or it may wait for itself.
    pub fn invalidate(&self, ino: Ino) -> io::Result<()> {
        self.0.notifier.inval_inode(INodeNo(ino.0), 0, 0)
    }

    /// As [`Session::invalidate`], for a name.
    pub fn invalidate_entry(&self, parent: Ino, name: &std::ffi::OsStr) -> io::Result<()> {
        self.0.notifier.inval_entry(INodeNo(parent.0), name)
    }
}

/// Writes to the connection's `abort` file in fusectl, which many containers have not mounted: then in one of our own
/// that nobody else sees.
fn abort(connection: &str) -> io::Result<()> {
    let usual = format!("/sys/fs/fuse/connections/{connection}/abort");
    fs::write(usual, "1").or_else(|_| {
        let making = fsopen("fusectl", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_create(making.as_fd())?;
        let made = fsmount(making.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
        let knob = openat(made, format!("{connection}/abort"), OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        fs::File::from(knob).write_all(b"1")
    })
}
