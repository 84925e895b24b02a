//! POSIX meaning over the vault: files, directories, links, attributes. No FUSE here.
//!
//! ```text
//!     call ──▶ ops ──reads──▶ records (vault's live view), with what is in memory of open files laid over
//!                  ──stages─▶ one commit of all records it changes, under the change lock
//!     write ─▶ memory ──on close, fsync, age, size──▶ content: chunks, then extents and inode in one commit
//! ```
//! Promises: every call takes `&self`, never waits for the network, and is *restartable*: [`FsError::Need`] means
//! that nothing was changed; await [`Fs::settle`] and call again with the same arguments. A call that succeeded is
//! in the vault when it returns, except for written bytes, which are there when [`Fs::flush`] has returned.
//! Expects: the kernel has checked access (`default_permissions`), does not mask modes (`FUSE_DONT_MASK`), and
//! sends `forget` for what it looked up.
//! If the power goes: every commit is a whole file system. Inodes without a name are on record as orphans and are
//! removed after the next start.

mod acl;
mod attr;
mod check;
mod content;
mod errno;
mod handle;
mod history;
mod meta;
#[cfg(feature = "model")]
pub mod model;
mod ops;
mod state;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, AtomicUsize},
    },
};

use haven_format::{
    Ino, Keys, TxSeq,
    record::{self, Inode, Time},
};
use haven_vault::{Need, Vault};
use parking_lot::{Mutex, RwLock};

pub use attr::{
    Atime, Attr, Caller, Clock, DIRECTORY_SIZE, Dirent, Handle, Options, SetAttr, SetTime, StatFs, WriteFlags,
};
pub use content::SIZE_MAX;
pub use errno::{FsError, Result};
pub use history::{SNAPSHOTS_NAME, is_folder as is_snapshots_folder, is_past, shown as shown_ino};
pub use meta::NAME_MAX;
pub use ops::LINK_MAX;
pub use state::{FileState, STATE_ATTRIBUTE};

use handle::{Handles, Kept, Lookups, Nodes};
use history::History;
use meta::Stage;
use state::Progress;

/// An open file system. Cheap to share; all calls may come from any thread at once.
pub struct Fs {
    vault: Arc<Vault>,
    keys: Keys,
    clock: Arc<dyn Clock>,
    options: Options,
    /// Held from the first read of a change to its commit, so that changes follow each other.
    change: Mutex<()>,
    /// Held while bytes in memory change; a snapshot shuts it.
    gate: RwLock<()>,
    history: History,
    lookups: Lookups,
    nodes: Nodes,
    handles: Handles,
    kept: Kept,
    /// Bytes in memory, over all nodes.
    in_memory: AtomicUsize,
    /// Inodes without a name that are on record as orphans.
    orphans: Mutex<BTreeSet<Ino>>,
    /// Access times not yet on record.
    atimes: Mutex<BTreeMap<Ino, Time>>,
    /// Goes up whenever a file gets a set-user-ID mark or capabilities.
    marks: AtomicU64,
    /// Told of an inode whose mode changed with a call whose answer doesn't say so.
    unmarked: OnceLock<Unmarked>,
    ticks: AtomicU64,
    progress: Progress,
}

type Unmarked = Box<dyn Fn(Ino) + Send + Sync>;

impl std::fmt::Debug for Fs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fs").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Fs {
    /// Opens the file system in `vault`: makes the root directory if there is none, and queues what was unlinked but
    /// open when the last session ended, to be removed by [`Fs::tick`]. On [`FsError::Need`] have the vault settle it
    /// and call again.
    pub fn start(vault: Arc<Vault>, keys: Keys, clock: Arc<dyn Clock>, options: Options) -> Result<Arc<Self>> {
        let progress = Progress::new(vault.head(), vault.uploaded());
        let fs = Self {
            vault,
            keys,
            clock,
            options,
            change: Mutex::new(()),
            gate: RwLock::new(()),
            history: History::default(),
            lookups: Lookups::new(),
            nodes: Nodes::new(),
            handles: Handles::new(),
            kept: Kept::default(),
            in_memory: AtomicUsize::new(0),
            orphans: Mutex::default(),
            atimes: Mutex::default(),
            marks: AtomicU64::new(1),
            unmarked: OnceLock::new(),
            ticks: AtomicU64::new(0),
            progress,
        };
        if meta::find_inode(&fs.view(), Ino::ROOT)?.is_none() {
            fs.make_root()?;
        }
        if !fs.options.read_only {
            fs.find_orphans()?;
        }
        Ok(Arc::new(fs))
    }

    fn make_root(&self) -> Result<()> {
        self.writable()?;
        let mut stage = self.stage();
        let (uid, gid) = self.options.owner;
        let now = stage.now;
        let root = Inode {
            mode: libc::S_IFDIR | 0o755,
            nlink: 2,
            uid,
            gid,
            parent: Ino::ROOT.0,
            atime: now,
            mtime: now,
            ctime: now,
            btime: now,
            ..Default::default()
        };
        stage.add_inode(Ino::ROOT, root);
        self.commit(stage)?;
        Ok(())
    }

    fn find_orphans(&self) -> Result<()> {
        let view = self.vault.live();
        let mut range = record::orphans();
        loop {
            let batch = view.scan(range.clone(), 1024)?;
            let Some((last, _)) = batch.last() else { return Ok(()) };
            let Some(next) = record::key_orphan(last).map(|ino| record::orphan_key(ino.next())) else {
                return Err(FsError::Broken("an orphan's key has another length".into()));
            };
            self.orphans.lock().extend(batch.iter().filter_map(|(key, _)| record::key_orphan(key)));
            range.start = next;
        }
    }

    /// Has `tell` called when a call that writes has taken set-user-ID bits from an inode: its answer has no room for that,
    /// and whoever executes what the kernel remembers would still have them. Before the call returns, with no lock held.
    /// Once.
    pub fn tell_unmarked(&self, tell: impl Fn(Ino) + Send + Sync + 'static) {
        _ = self.unmarked.set(Box::new(tell));
    }

    /// Returns when `need` is met, or with the error that says why it never will be.
    pub async fn settle(&self, need: &Need) -> Result<()> {
        Ok(self.vault.settle(need).await?)
    }

    /// Returns when every change up to `seq` is in the bucket.
    pub async fn sync_bucket(&self, seq: TxSeq) -> Result<()> {
        Ok(self.vault.sync_bucket(seq).await?)
    }

    /// A change to be. The caller holds the change lock.
    fn stage(&self) -> Stage {
        Stage::new(self.vault.live(), self.clock.now())
    }

    /// Makes a change true.
    fn commit(&self, stage: Stage) -> Result<TxSeq> {
        let inodes = stage.touched();
        let seq = stage.commit(&self.vault)?;
        self.progress.note(inodes.into_iter(), seq);
        Ok(seq)
    }

    fn writable(&self) -> Result<()> {
        if self.options.read_only { Err(FsError::ReadOnly { why: "mounted read-only".into() }) } else { Ok(()) }
    }
}
