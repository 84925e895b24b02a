//! The past: snapshots as folders below `.snapshots` in the root directory, read-only.
//!
//! The kernel needs a number of its own for each inode of each snapshot: the upper bits say which snapshot (a *tag*,
//! given out as snapshots are looked at, for as long as this session lasts), the lower are the inode's number.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use haven_format::{
    Ino,
    record::{Inode, Snapshot, Time},
};
use haven_vault::View;
use parking_lot::Mutex;

use crate::{Fs, FsError, Result, meta};

/// The folder's name in the root directory.
pub const SNAPSHOTS_NAME: &[u8] = b".snapshots";

/// Inode numbers are below two to this power.
const TAG_SHIFT: u32 = 44;
/// Which snapshot; 0: the present.
type Tag = u64;
/// The folder of snapshots itself.
const FOLDER: Tag = (1 << 17) - 1;
/// The bit that tells inode numbers of snapshots, as programs see them, from those of the present.
const PAST: u64 = 1 << 62;
/// Unsaved bytes that may be left to store while writers wait for a snapshot.
const REST_MAX: u64 = 1 << 20;
/// How long writers may wait for that rest; when it takes longer they are let on, and it is tried again.
const SHUT_MAX: Duration = Duration::from_millis(20);
/// How often that is tried before the snapshot is taken whatever it costs.
const TRIES: usize = 100;
/// How often what was written is stored before a try.
const ROUNDS: usize = 8;
/// Bytes per second that each writer may write while a snapshot could not be taken at the first try.
const SLOWED: u64 = 16 << 20;
/// What one write waits at most for that.
const PAUSE_MAX: Duration = Duration::from_millis(10);

fn tag(ino: Ino) -> Tag {
    ino.0 >> TAG_SHIFT
}

/// The inode's number in its library.
pub(crate) fn own(ino: Ino) -> Ino {
    Ino(ino.0 & ((1 << TAG_SHIFT) - 1))
}

/// Whether it is an inode of the past, or the folder of snapshots.
pub fn is_past(ino: Ino) -> bool {
    tag(ino) != 0
}

/// The folder of snapshots.
pub(crate) fn folder() -> Ino {
    Ino(FOLDER << TAG_SHIFT | Ino::ROOT.0)
}

/// Whether names in this directory come and go without the kernel's doing.
pub fn is_folder(ino: Ino) -> bool {
    tag(ino) == FOLDER
}

/// The number that programs are shown. In all snapshots an inode has the same, so that a backup of one finds what it
/// knows from another; never that of the present, or `cp` would take a file and its former self for one.
pub fn shown(ino: Ino) -> Ino {
    if is_past(ino) { Ino(own(ino).0 | PAST) } else { ino }
}

#[derive(Debug, Default)]
pub(crate) struct History {
    tags: Mutex<Tags>,
    /// Snapshots that writers are slowed for.
    slowed: AtomicUsize,
}

/// As long as this lives, writers are slowed.
struct Slowed<'a>(&'a AtomicUsize);

impl<'a> Slowed<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Slowed<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Debug, Default)]
struct Tags {
    /// By the transaction it was taken after, which no two share.
    of: HashMap<u64, Tag>,
    snapshots: HashMap<Tag, Snapshot>,
}

/// Where an inode is.
pub(crate) struct Place {
    pub view: View,
    /// As in the records of `view`.
    pub ino: Ino,
    tag: Tag,
}

impl Place {
    /// The number by which the kernel is to know another inode of the same view.
    pub fn beside(&self, ino: Ino) -> Ino {
        Ino(self.tag << TAG_SHIFT | ino.0)
    }
}

impl Fs {
    /// The records as they are now, or as this file system is to show them.
    pub(crate) fn view(&self) -> View {
        self.options.at.clone().unwrap_or_else(|| self.vault.live())
    }

    /// Where `ino` is to be read. Not for the folder of snapshots.
    pub(crate) fn place(&self, ino: Ino) -> Result<Place> {
        let tag = tag(ino);
        if tag == 0 {
            return Ok(Place { view: self.view(), ino, tag });
        }
        let snapshot = self.history.tags.lock().snapshots.get(&tag).cloned().ok_or(FsError::NotFound)?;
        // Its record may name its root by now, which is all that can have changed.
        let view = match self.vault.view_of(&snapshot) {
            Err(haven_vault::VaultError::Need(_)) if snapshot.root.is_empty() => {
                let newer = self.vault.snapshots()?.into_iter().find(|(_, other)| other.seq == snapshot.seq);
                self.vault.view_of(newer.as_ref().map_or(&snapshot, |(_, newer)| newer))?
            }
            other => other?,
        };
        Ok(Place { view, ino: own(ino), tag })
    }

    /// The root directory of a snapshot.
    fn root_of(&self, snapshot: Snapshot) -> Result<Ino> {
        let mut tags = self.history.tags.lock();
        let next = tags.of.len() as Tag + 1;
        if next >= FOLDER {
            return Err(FsError::Broken("more snapshots were looked at than this mount can tell apart".into()));
        }
        let tag = *tags.of.entry(snapshot.seq).or_insert(next);
        tags.snapshots.insert(tag, snapshot);
        Ok(Ino(tag << TAG_SHIFT | Ino::ROOT.0))
    }

    /// The folder of snapshots as an inode: the root directory's, but for nobody to write in.
    pub(crate) fn folder_inode(&self) -> Result<Inode> {
        let root = meta::inode(&self.vault.live(), Ino::ROOT)?;
        let newest = self.vault.snapshots()?.last().map_or(root.btime, |(_, snapshot)| snapshot.taken);
        let time = |time: Time| time.max(newest);
        let mode = libc::S_IFDIR | root.mode & 0o555;
        Ok(Inode { mode, nlink: 2, xattrs: 0, mtime: time(root.btime), ctime: time(root.btime), ..root })
    }

    /// Whether `name` in `parent` is the folder of snapshots.
    pub(crate) fn names_folder(&self, parent: Ino, name: &[u8]) -> bool {
        parent == Ino::ROOT && name == SNAPSHOTS_NAME && self.options.at.is_none()
    }

    pub(crate) fn find_snapshot(&self, name: &[u8]) -> Result<Ino> {
        let snapshot = self.vault.snapshot(name)?.ok_or(FsError::NotFound)?;
        self.root_of(snapshot)
    }

    /// All snapshots: when each was taken as a number that grows, its name, and its root directory.
    pub(crate) fn snapshot_roots(&self) -> Result<Vec<(u64, bytes::Bytes, Ino)>> {
        let snapshots = self.vault.snapshots()?;
        snapshots.into_iter().map(|(name, snapshot)| Ok((snapshot.seq, name, self.root_of(snapshot)?))).collect()
    }

    /// Takes a snapshot of everything that was written before the call, at one instant: what any program wrote after
    /// another write had returned is in it only if that write is. Writers wait while the last of it is stored, and
    /// only for that: about [`SHUT_MAX`] at a time. Not durable before [`Fs::sync`].
    pub fn snapshot(&self, name: &[u8], note: &str, by: &str) -> Result<Snapshot> {
        self.writable()?;
        let (snapshot, _) = self.still(|| Ok(self.vault.take_snapshot(name, note, by)?))?;
        Ok(snapshot)
    }

    /// As [`Fs::snapshot`], with `meanwhile` called while nothing at all can be changed: what it does elsewhere, in a
    /// database, happens at the same instant. When it fails there is no snapshot. Also tells for how long nothing could
    /// be changed.
    pub fn snapshot_with<T>(
        &self,
        name: &[u8],
        note: &str,
        by: &str,
        meanwhile: impl FnOnce() -> Result<T>,
    ) -> Result<(Snapshot, T, Duration)> {
        self.writable()?;
        let mut meanwhile = Some(meanwhile);
        let ((snapshot, done), frozen) = self.still(|| {
            let _no_names_either = self.change.lock();
            let done = (meanwhile.take().expect("the last step of one try is reached once"))()?;
            Ok((self.vault.take_snapshot(name, note, by)?, done))
        })?;
        Ok((snapshot, done, frozen))
    }

    /// Calls `work` when all that was written is stored and no writer can go on, and tells for how long none could.
    fn still<T>(&self, mut work: impl FnMut() -> Result<T>) -> Result<(T, Duration)> {
        let mut slowed = None;
        for tried in 0.. {
            for _ in 0..ROUNDS {
                if self.unsaved() <= REST_MAX {
                    break;
                }
                self.flush_all()?;
            }
            let started = Instant::now();
            let _writers = self.gate.write();
            if self.flush_within(|| tried < TRIES && started.elapsed() > SHUT_MAX)? {
                let flushed = started.elapsed();
                let done = work()?;
                let all = started.elapsed();
                tracing::debug!(tried, ?flushed, ?all, "everything stood still");
                return Ok((done, all));
            }
            slowed.get_or_insert_with(|| Slowed::new(&self.history.slowed));
        }
        unreachable!("the last try has no limit")
    }

    /// Makes a writer of so many bytes wait a little, while a snapshot can't be taken for all that is written.
    pub(crate) fn let_snapshot_pass(&self, bytes: usize) {
        if self.history.slowed.load(Ordering::Relaxed) > 0 {
            std::thread::sleep(PAUSE_MAX.min(Duration::from_micros(bytes as u64 * 1_000_000 / SLOWED)));
        }
    }

    /// Bytes written that the vault has not got, over all files.
    fn unsaved(&self) -> u64 {
        let (mut sum, mut ino) = (0, 0);
        while let Some(next) = self.nodes.next_holding(ino) {
            ino = next;
            sum += self.nodes.find(Ino(ino)).map_or(0, |node| node.state.read().runs.unsaved());
        }
        sum
    }

    /// For calls that change something: the past never changes.
    pub(crate) fn writable_at(&self, ino: Ino) -> Result<()> {
        if is_past(ino) {
            return Err(FsError::ReadOnly { why: "a snapshot never changes".into() });
        }
        self.writable()
    }
}
