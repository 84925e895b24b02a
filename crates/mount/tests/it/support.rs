//! A mount for a test, taken off again whatever happens.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use haven_format::{Keys, LibraryId, MasterKey, record::Time};
use haven_fs::{Clock, Fs};
use haven_mount::{MountError, MountOptions, Session, detach, mount, mounted_at};
use haven_vault::Vault;
use tempfile::TempDir;
use tokio::runtime::Runtime;

struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Time {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Time { seconds: now.as_secs().cast_signed(), nanos: now.subsec_nanos() }
    }
}

/// Whether mounts are possible here. Where tests must count (`CI` is set), it is a failure if not.
pub fn fuse_here() -> bool {
    let here = Path::new("/dev/fuse").exists();
    if !here {
        assert!(env::var_os("CI").is_none(), "no /dev/fuse: the mount cannot be tested");
        eprintln!("SKIPPED: no /dev/fuse on this machine");
    }
    here
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

pub fn file_system() -> Arc<Fs> {
    start(&Vault::in_memory()).unwrap()
}

pub fn keys() -> Keys {
    Keys::new(LibraryId([0; 16]), &MasterKey([0; 32]))
}

/// As [`Fs::start`]: what it needs is for the caller to settle.
pub fn start(vault: &Arc<Vault>) -> haven_fs::Result<Arc<Fs>> {
    let me = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let options = haven_fs::Options { owner: me, ..Default::default() };
    Fs::start(vault.clone(), keys(), Arc::new(SystemClock), options)
}

/// A directory to mount on; what is mounted there at the end is detached.
pub struct Point(TempDir);

impl Point {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self) -> PathBuf {
        self.0.path().canonicalize().unwrap_or_else(|_| self.0.path().into())
    }
}

impl Drop for Point {
    fn drop(&mut self) {
        // Before the directory is removed, or its removal would empty the library.
        while mounted_at(self.0.path()).is_ok_and(|m| m.is_some()) && detach(self.0.path(), true).is_ok() {}
    }
}

/// A mounted library in memory.
pub struct Mounted {
    pub session: Session,
    pub runtime: Runtime,
    pub point: Point,
}

impl Mounted {
    pub fn new() -> Self {
        Self::with(&MountOptions::new("memory:"))
    }

    pub fn with(options: &MountOptions) -> Self {
        Self::at(Point::new(), options).unwrap()
    }

    pub fn at(point: Point, options: &MountOptions) -> Result<Self, MountError> {
        Self::of(file_system(), runtime(), point, options)
    }

    pub fn of(fs: Arc<Fs>, runtime: Runtime, point: Point, options: &MountOptions) -> Result<Self, MountError> {
        let session = mount(fs, &point.path(), options, runtime.handle().clone())?;
        Ok(Self { session, runtime, point })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.session.point().join(name)
    }

    /// What the file system has of a file in the root, whatever the kernel still holds.
    pub fn arrived(&self, name: &str) -> Vec<u8> {
        let fs = self.session.fs();
        let found = fs.lookup(haven_format::Ino::ROOT, name.as_bytes()).unwrap();
        let handle = fs.open(found.ino, libc::O_RDONLY).unwrap();
        let bytes = fs.read(found.ino, handle, 0, found.size as usize).unwrap();
        fs.release(found.ino, handle).unwrap();
        fs.forget(found.ino, 1);
        bytes.to_vec()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.session.is_alive() {
            self.session.unmount(true).ok();
        }
    }
}

pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// The example program that serves a mount from a process of its own. Built beside the tests by `cargo test`.
pub struct Serving(pub Child);

impl Serving {
    pub fn start(arguments: &[&str], point: &Path) -> Self {
        let child = memory(arguments, point).stdin(Stdio::null()).spawn().unwrap();
        wait_until("the child mounts", || mounted_at(point).unwrap().is_some());
        Self(child)
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.0), signal).unwrap();
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

pub fn memory(arguments: &[&str], point: &Path) -> Command {
    let tests = env::current_exe().unwrap();
    let program = tests.parent().unwrap().parent().unwrap().join("examples/memory");
    assert!(program.exists(), "run `cargo build -p haven-mount --example memory` first: {}", program.display());
    let mut command = Command::new(program);
    command.arg(point).args(arguments);
    command
}

/// Patience for what another process does; only a broken program exhausts it.
pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(30), "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
