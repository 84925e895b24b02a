//! What the kernel still holds of written bytes: shared mappings, and with the write-back cache whatever was written.
//!
//! syncfs(2) is not forwarded to us, but before it would be the kernel writes all of that back, by requests of its own.
//! They are answered by this process: whoever asks for them must hold nothing that a write needs.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::fs::{Mode, OFlags, fstatvfs, open, syncfs};
use tokio::{sync::oneshot, time::timeout};

use crate::mounts::mounted_at;

/// Where a mount stands, and what is being written to it.
#[derive(Debug)]
pub(crate) struct Place {
    pub point: PathBuf,
    /// The kernel's number for this very mount, once it is made and if it could be had.
    pub device: OnceLock<String>,
    pub writes: Arc<UnderWay>,
}

impl Place {
    pub fn new(point: &Path) -> Self {
        Self { point: point.into(), device: OnceLock::new(), writes: Arc::default() }
    }

    /// Returns when what was written before has been handed over by the kernel and taken by the file system. What can't
    /// be reached any more at its mount point is left alone. Blocks.
    pub fn gather(&self) -> io::Result<()> {
        let there = mounted_at(&self.point).ok().flatten().map(|mounted| mounted.device);
        if there.is_none() || there.as_ref() != self.device.get() {
            return Ok(());
        }
        let root = open(&self.point, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        syncfs(&root)?;
        // From some version on the kernel sends its writes and does not wait for the answers. Requests are read in the
        // order in which they were sent: when this one is answered, those writes have all been read.
        fstatvfs(&root)?;
        let_readers_begin();
        self.writes.pass();
        Ok(())
    }
}

/// What fuser calls the threads that read requests begins with this.
const READER: &str = "fuser-";
/// For how long a reader may stand between a request that it has taken and its first step. Where they never rest, this is
/// what is waited for.
const FIRST_STEP: Duration = Duration::from_millis(100);

/// Returns when what was read from the kernel has been begun: each reader has rested since, waiting for more.
fn let_readers_begin() {
    let until = Instant::now() + FIRST_STEP;
    let mut busy: Vec<PathBuf> = readers();
    loop {
        busy.retain(|reader| rests(&fs::read_to_string(reader.join("stat")).unwrap_or_default()) == Some(false));
        if busy.is_empty() || Instant::now() > until {
            return;
        }
        thread::sleep(LOOK / 10);
    }
}

/// The readers of this process, as folders of proc(5).
fn readers() -> Vec<PathBuf> {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten().map(|task| task.path());
    let named = |task: &PathBuf| fs::read_to_string(task.join("comm")).is_ok_and(|name| name.starts_with(READER));
    tasks.filter(named).collect()
}

/// Whether a thread waits for something, by proc_pid_stat(5). `None`: it is gone.
fn rests(stat: &str) -> Option<bool> {
    let state = stat.rsplit_once(')')?.1.trim_start().chars().next()?;
    Some(!matches!(state, 'R' | 'D'))
}

/// As [`Place::gather`], for so long.
pub(crate) async fn gather_within(place: Arc<Place>, patience: Duration) -> io::Result<()> {
    let (done, told) = oneshot::channel();
    // A thread of its own: it can't be called off, and nobody who ends is to wait for it.
    thread::Builder::new().name("haven-gather".into()).spawn(move || done.send(place.gather()))?;
    match timeout(patience, told).await {
        Ok(told) => told.map_err(io::Error::other)?,
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("the kernel has not handed over all that was written within {} s", patience.as_secs()),
        )),
    }
}

/// How often it is looked whether writes are done.
const LOOK: Duration = Duration::from_millis(1);

/// Writes that are being answered. Those begun before a moment and those after are counted apart, so that the former can
/// be waited for while others go on.
#[derive(Debug, Default)]
pub(crate) struct UnderWay {
    turn: AtomicUsize,
    counts: [AtomicUsize; 2],
    passing: Mutex<()>,
}

/// A write that is being answered, until dropped.
pub(crate) struct Write(Arc<UnderWay>, usize);

impl UnderWay {
    pub fn begin(self: &Arc<Self>) -> Write {
        loop {
            let turn = self.turn.load(Ordering::SeqCst);
            let write = Write(self.clone(), turn % 2);
            self.counts[turn % 2].fetch_add(1, Ordering::SeqCst);
            // Else somebody who passed in between has not waited for it, and nobody would who passes next.
            if self.turn.load(Ordering::SeqCst) == turn {
                return write;
            }
        }
    }

    /// Returns when every write that was begun before is answered. Blocks.
    pub fn pass(&self) {
        // One at a time: the other side must be empty before it is counted on again.
        let _passing = self.passing.lock().unwrap_or_else(PoisonError::into_inner);
        let side = self.turn.fetch_add(1, Ordering::SeqCst) % 2;
        while self.counts[side].load(Ordering::SeqCst) > 0 {
            thread::sleep(LOOK);
        }
    }
}

impl Drop for Write {
    fn drop(&mut self) {
        self.0.counts[self.1].fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn who_runs_and_who_rests_is_told_by_the_kernel() {
        assert_eq!(rests("12 (fuser-0) S 1 2"), Some(true));
        assert_eq!(rests("12 (a) S) R 1 2"), Some(false));
        assert_eq!(rests("12 (fuser-0) D 1 2"), Some(false));
        assert_eq!(rests(""), None);
        let me = fs::read_to_string("/proc/thread-self/stat").unwrap();
        assert_eq!(rests(&me), Some(false));
    }

    #[test]
    fn writes_begun_before_are_waited_for_and_later_ones_are_not() {
        let writes: Arc<UnderWay> = Arc::default();
        let before = writes.begin();
        let (passed, told) = mpsc::channel();
        let passing = {
            let writes = writes.clone();
            thread::spawn(move || {
                writes.pass();
                passed.send(()).unwrap();
            })
        };
        while writes.turn.load(Ordering::SeqCst) == 0 {
            thread::yield_now();
        }
        let after = writes.begin();
        assert!(told.try_recv().is_err());
        drop(before);
        passing.join().unwrap();
        told.recv().unwrap();
        drop(after);
        writes.pass();
    }
}
