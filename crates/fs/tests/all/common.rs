//! A file system to try things on.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use haven_format::{Ino, Keys, LibraryId, MasterKey, record::Time};
use haven_fs::{Attr, Caller, Clock, Fs, FsError, Handle, Options, WriteFlags};
use haven_vault::Vault;

/// Each look is a nanosecond later.
#[derive(Debug, Default)]
pub struct Ticking(AtomicI64);

impl Clock for Ticking {
    fn now(&self) -> Time {
        Time { seconds: 1_800_000_000, nanos: self.0.fetch_add(1, Ordering::Relaxed) as u32 }
    }
}

impl Ticking {
    pub fn forward(&self, nanos: i64) {
        self.0.fetch_add(nanos, Ordering::Relaxed);
    }
}

pub struct Try {
    pub vault: Arc<Vault>,
    pub clock: Arc<Ticking>,
    pub fs: Arc<Fs>,
    pub options: Options,
}

pub fn keys() -> Keys {
    Keys::new(LibraryId([7; 16]), &MasterKey([8; 32]))
}

pub fn start() -> Try {
    start_with(Options::default())
}

pub fn start_with(options: Options) -> Try {
    let vault = Vault::in_memory();
    let clock = Arc::new(Ticking::default());
    let fs = Fs::start(vault.clone(), keys(), clock.clone(), options.clone()).unwrap();
    Try { vault, clock, fs, options }
}

pub const ROOT: Ino = Ino::ROOT;
pub const ME: Caller<'static> = Caller { uid: 1000, gid: 1000, umask: 0o022, in_group: &|gid| gid == 1000 };

impl Try {
    /// What a killed process finds when it comes back.
    pub fn killed(&mut self) {
        self.fs = Fs::start(self.vault.clone(), keys(), self.clock.clone(), self.options.clone()).unwrap();
    }

    pub fn create(&self, parent: Ino, name: &str) -> (Attr, Handle) {
        self.fs.create(&ME, parent, name.as_bytes(), 0o644, libc::O_EXCL).unwrap()
    }

    pub fn mkdir(&self, parent: Ino, name: &str) -> Ino {
        self.fs.mkdir(&ME, parent, name.as_bytes(), 0o755).unwrap().ino
    }

    pub fn write(&self, ino: Ino, handle: Handle, offset: u64, data: &[u8]) {
        assert_eq!(self.fs.write(ino, handle, offset, data, WriteFlags::default()).unwrap(), data.len());
    }

    pub fn close(&self, ino: Ino, handle: Handle) {
        self.fs.flush(ino, handle).unwrap();
        self.fs.release(ino, handle).unwrap();
    }

    pub fn file(&self, parent: Ino, name: &str, data: &[u8]) -> Ino {
        let (attr, handle) = self.create(parent, name);
        self.write(attr.ino, handle, 0, data);
        self.close(attr.ino, handle);
        attr.ino
    }

    pub fn content(&self, ino: Ino) -> Vec<u8> {
        let handle = self.fs.open(ino, libc::O_RDONLY).unwrap();
        let mut out = Vec::new();
        loop {
            let bytes = self.fs.read(ino, handle, out.len() as u64, 1 << 20).unwrap();
            if bytes.is_empty() {
                break;
            }
            out.extend_from_slice(&bytes);
        }
        self.fs.release(ino, handle).unwrap();
        out
    }

    pub fn ino(&self, parent: Ino, name: &str) -> Result<Ino, FsError> {
        let found = self.fs.lookup(parent, name.as_bytes())?;
        self.fs.forget(found.ino, 1);
        Ok(found.ino)
    }

    pub fn attr(&self, ino: Ino) -> Attr {
        self.fs.getattr(ino, None).unwrap()
    }

    pub fn names(&self, ino: Ino) -> Vec<String> {
        let handle = self.fs.opendir(ino).unwrap();
        let mut names = Vec::new();
        let mut take = |entry: &haven_fs::Dirent| {
            names.push(String::from_utf8_lossy(&entry.name).into_owned());
            true
        };
        self.fs.readdir(ino, handle, 0, false, &mut take).unwrap();
        self.fs.releasedir(ino, handle).unwrap();
        names.sort();
        names
    }

    /// The records agree with each other.
    pub fn sound(&self) {
        assert_eq!(self.fs.check().unwrap(), Vec::<String>::new());
    }
}

pub fn errno<T: std::fmt::Debug>(result: Result<T, FsError>) -> i32 {
    result.unwrap_err().errno()
}

/// The same bytes for the same number, and hardly any two alike.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(len);
    out
}
