//! Where requests are answered: at once on the thread that read them if all is at hand, later on the runtime if not.
//!
//! Promises: a thread that reads from the kernel never waits for the network; a request that has to wait is answered
//! in the end, with an error if the mount must go or its caller was killed; a panic below costs one request EIO, and a
//! line in the log.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use fuser::Errno;
use haven_format::TxSeq;
use haven_fs::{Fs, FsError, Result};
use tokio::{runtime, sync::watch};
use tracing::{Instrument, Span};

use crate::{
    metrics::{Metrics, Op},
    options::Fsync,
    who::is_ending,
};

/// How often is looked whether the caller of a request that waits was killed.
const LOOK: Duration = Duration::from_millis(500);

/// One request: for its span and its counters.
pub(crate) struct Asked {
    op: Op,
    span: Span,
    started: Instant,
    /// The thread that can't go on before the answer, and to which it is nothing any more once it is killed.
    caller: Option<u32>,
}

impl Asked {
    pub fn new(op: Op, id: u64, ino: u64) -> Self {
        let span = tracing::trace_span!("fuse", op = op.name(), id, ino);
        Self { op, span, started: Instant::now(), caller: None }
    }

    /// Given up when this thread is killed: it stays until it is answered.
    pub fn by(self, tid: u32) -> Self {
        Self { caller: Some(tid), ..self }
    }

    /// Returns when the caller was killed.
    async fn killed(&self) {
        let Some(tid) = self.caller else { return std::future::pending().await };
        while !is_ending(tid) {
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Gives a result to the kernel.
pub(crate) trait Finish<T>: FnOnce(Result<T, Errno>) + Send + 'static {}
impl<T, F: FnOnce(Result<T, Errno>) + Send + 'static> Finish<T> for F {}

#[derive(Clone)]
pub(crate) struct Desk {
    pub fs: Arc<Fs>,
    pub metrics: Arc<Metrics>,
    runtime: runtime::Handle,
    fsync: Fsync,
    /// Requests that wait.
    waiting: watch::Sender<usize>,
    /// Becomes true when those that wait must be told that it was in vain.
    give_up: watch::Sender<bool>,
}

impl Desk {
    pub fn new(fs: Arc<Fs>, runtime: runtime::Handle, fsync: Fsync) -> Self {
        let (waiting, give_up) = (watch::Sender::new(0), watch::Sender::new(false));
        Self { fs, metrics: Arc::default(), runtime, fsync, waiting, give_up }
    }

    /// Runs a call into the file system so that a bug in it stays one request's trouble.
    pub fn attempt<T>(&self, asked: &Asked, call: impl FnOnce(&Fs) -> Result<T>) -> Result<T> {
        let _entered = asked.span.enter();
        catch_unwind(AssertUnwindSafe(|| call(&self.fs))).unwrap_or_else(|_| {
            self.metrics.panicked();
            Err(FsError::Broken(format!("a bug: {} panicked", asked.op.name())))
        })
    }

    /// Answers for good.
    pub fn done<T>(&self, asked: &Asked, result: Result<T>, finish: impl Finish<T>) {
        let _entered = asked.span.enter();
        if let Err(e) = &result {
            log_trouble(asked.op, e);
        }
        self.metrics.answered(asked.op, asked.started.elapsed(), result.is_ok());
        finish(result.map_err(|e| Errno::from_i32(e.errno())));
    }

    /// Answers when what `need` (an [`FsError::Need`]) asks for is there, by calling again until it is.
    pub fn later<T: Send + 'static>(
        &self,
        asked: Asked,
        need: FsError,
        call: impl Fn(&Fs) -> Result<T> + Send + Sync + 'static,
        finish: impl Finish<T>,
    ) {
        self.metrics.deferred(asked.op);
        let desk = self.clone();
        self.defer(asked.span.clone(), async move {
            let result = desk.settled(&asked, need, &call).await;
            desk.done(&asked, result, finish);
        });
    }

    /// As [`Desk::attempt`] and [`Desk::done`], but for calls that wait for the local disk: on a thread of their own,
    /// so that several share one wait of the disk and nobody else waits behind them. With [`Fsync::Bucket`], or if
    /// `to_bucket`, the answer also waits for the bucket.
    pub fn durably(
        &self,
        asked: Asked,
        to_bucket: bool,
        call: impl Fn(&Fs) -> Result<TxSeq> + Send + Sync + 'static,
        finish: impl Finish<()>,
    ) {
        let to_bucket = to_bucket || self.fsync == Fsync::Bucket;
        let desk = self.clone();
        let waits = Waits::begin(&self.waiting);
        self.runtime.spawn_blocking(move || {
            let first = desk.attempt(&asked, &call);
            if first.as_ref().is_err_and(|e| e.need().is_none()) || (first.is_ok() && !to_bucket) {
                desk.done(&asked, first.map(drop), finish);
                return;
            }
            desk.metrics.deferred(asked.op);
            desk.clone().defer(asked.span.clone(), async move {
                let result = desk.synced(&asked, first, &call, to_bucket).await;
                desk.done(&asked, result, finish);
            });
            drop(waits);
        });
    }

    async fn synced(
        &self,
        asked: &Asked,
        first: Result<TxSeq>,
        call: &(impl Fn(&Fs) -> Result<TxSeq> + Send + Sync),
        to_bucket: bool,
    ) -> Result<()> {
        let seq = match first {
            Err(need) => self.settled(asked, need, call).await?,
            Ok(seq) => seq,
        };
        if to_bucket {
            self.unless_given_up(asked, self.fs.sync_bucket(seq)).await?;
        }
        Ok(())
    }

    async fn settled<T>(
        &self,
        asked: &Asked,
        mut need: FsError,
        call: &(impl Fn(&Fs) -> Result<T> + Send + Sync),
    ) -> Result<T> {
        while let Some(missing) = need.need() {
            self.unless_given_up(asked, self.fs.settle(missing)).await?;
            match self.attempt(asked, call) {
                Err(e) => need = e,
                ok => return ok,
            }
        }
        Err(need)
    }

    async fn unless_given_up<T>(&self, asked: &Asked, wait: impl Future<Output = Result<T>>) -> Result<T> {
        let mut give_up = self.give_up.subscribe();
        tokio::select! {
            result = wait => result,
            _ = give_up.wait_for(|yes| *yes) => Err(FsError::Broken("the mount ended while this waited".into())),
            () = asked.killed() => Err(FsError::Interrupted),
        }
    }

    fn defer(&self, span: Span, work: impl Future<Output = ()> + Send + 'static) {
        let waits = Waits::begin(&self.waiting);
        let counted = async move {
            work.await;
            drop(waits);
        };
        self.runtime.spawn(counted.instrument(span));
    }

    /// For callers outside the runtime.
    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// How many requests wait, for the disk or the network.
    pub fn waiting(&self) -> usize {
        *self.waiting.borrow()
    }

    /// Returns when no request waits any more: by themselves within `patience`, or else told that it was in vain.
    pub async fn close(&self, patience: Duration) {
        let mut waiting = self.waiting.subscribe();
        if tokio::time::timeout(patience, waiting.wait_for(|n| *n == 0)).await.is_err() {
            tracing::warn!(requests = self.waiting(), "the mount has ended; what still waits is told so");
            self.give_up.send_replace(true);
            // The sender lives in `self`: the wait cannot fail.
            waiting.wait_for(|n| *n == 0).await.ok();
        }
    }
}

/// Counts as a waiting request until dropped.
struct Waits(watch::Sender<usize>);

impl Waits {
    fn begin(count: &watch::Sender<usize>) -> Self {
        count.send_modify(|n| *n += 1);
        Self(count.clone())
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.send_modify(|n| *n -= 1);
    }
}

/// To the kernel an errno is all that can be said; what lies behind an EIO or EROFS is for the log.
fn log_trouble(op: Op, e: &FsError) {
    match e {
        FsError::Broken(_) | FsError::Vault(_) => tracing::error!(op = op.name(), error = %e, "told the caller: EIO"),
        FsError::ReadOnly { .. } => tracing::debug!(op = op.name(), error = %e, "told the caller: EROFS"),
        _ => tracing::trace!(error = %e),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        atomic::{AtomicU32, Ordering::SeqCst},
        mpsc,
    };

    use haven_format::{Keys, LibraryId, MasterKey, record::Time};
    use haven_vault::{Need, Vault};

    use super::*;

    struct Stopped;

    impl haven_fs::Clock for Stopped {
        fn now(&self) -> Time {
            Time { seconds: 0, nanos: 0 }
        }
    }

    fn desk(runtime: &runtime::Runtime, fsync: Fsync) -> Desk {
        let keys = Keys::new(LibraryId([0; 16]), &MasterKey([0; 32]));
        let fs = Fs::start(Vault::in_memory(), keys, Arc::new(Stopped), haven_fs::Options::default()).unwrap();
        Desk::new(fs, runtime.handle().clone(), fsync)
    }

    fn runtime() -> runtime::Runtime {
        runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap()
    }

    fn asked() -> Asked {
        Asked::new(Op::Read, 1, 1)
    }

    fn missing<T>() -> Result<T> {
        Err(FsError::Need(Need::Space { bytes: 1 }))
    }

    /// A finish that can be asked what it was given.
    fn told<T: Send + 'static>() -> (impl Finish<T>, mpsc::Receiver<Result<T, i32>>) {
        let (sender, receiver) = mpsc::channel();
        (move |r: Result<T, Errno>| sender.send(r.map_err(Errno::code)).unwrap(), receiver)
    }

    #[test]
    fn a_request_that_must_wait_is_asked_again_until_it_has_all_it_needs() {
        let runtime = runtime();
        let desk = desk(&runtime, Fsync::Disk);
        let (finish, answer) = told();
        let tries = AtomicU32::new(0);
        let call = move |_: &Fs| if tries.fetch_add(1, SeqCst) < 3 { missing() } else { Ok(7) };
        desk.later(asked(), missing::<()>().unwrap_err(), call, finish);
        assert_eq!(answer.recv().unwrap(), Ok(7));
        runtime.block_on(desk.close(Duration::from_secs(60)));
        let told = desk.metrics.snapshot();
        assert_eq!((told.ops[0].count, told.ops[0].deferred, desk.waiting()), (1, 1, 0));
    }

    #[test]
    fn what_still_waits_when_the_mount_must_go_is_told_so() {
        let runtime = runtime();
        let desk = desk(&runtime, Fsync::Disk);
        let (finish, answer) = told::<()>();
        desk.later(asked(), missing::<()>().unwrap_err(), |_: &Fs| missing(), finish);
        assert_eq!(desk.waiting(), 1);
        runtime.block_on(desk.close(Duration::ZERO));
        assert_eq!(answer.recv().unwrap(), Err(libc::EIO));
        assert_eq!(desk.waiting(), 0);
    }

    #[test]
    fn a_request_whose_caller_is_killed_waits_no_longer_and_one_that_nobody_waits_for_goes_on() {
        let runtime = runtime();
        let desk = desk(&runtime, Fsync::Disk);
        let mut caller = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let (nobody, goes_on) = told::<()>();
        desk.later(asked(), missing::<()>().unwrap_err(), |_: &Fs| missing(), nobody);
        let (finish, answer) = told::<()>();
        desk.later(asked().by(caller.id()), missing::<()>().unwrap_err(), |_: &Fs| missing(), finish);
        assert!(answer.recv_timeout(LOOK * 2).is_err(), "it lives");
        caller.kill().unwrap();
        assert_eq!(answer.recv().unwrap(), Err(libc::EINTR));
        assert!(goes_on.try_recv().is_err());
        caller.wait().unwrap();
        runtime.block_on(desk.close(Duration::ZERO));
    }

    #[test]
    fn a_sync_that_must_wait_is_answered_once_whatever_it_waits_for() {
        let runtime = runtime();
        for fsync in [Fsync::Disk, Fsync::Bucket] {
            let desk = desk(&runtime, fsync);
            for (failures, wanted) in [(0, Ok(())), (2, Ok(())), (u32::MAX, Err(libc::EROFS))] {
                let (finish, answer) = told();
                let tries = AtomicU32::new(0);
                let call = move |_: &Fs| match tries.fetch_add(1, SeqCst) {
                    _ if failures == u32::MAX => Err(FsError::ReadOnly { why: "fenced".into() }),
                    n if n < failures => missing(),
                    _ => Ok(TxSeq(0)),
                };
                desk.durably(asked(), false, call, finish);
                assert_eq!(answer.recv().unwrap(), wanted);
                assert!(answer.recv().is_err(), "answered twice");
            }
        }
    }

    #[test]
    fn a_bug_below_is_one_requests_trouble() {
        let runtime = runtime();
        let desk = desk(&runtime, Fsync::Disk);
        let (finish, answer) = told::<()>();
        let asked = asked();
        let result = desk.attempt(&asked, |_| panic!("on purpose"));
        desk.done(&asked, result, finish);
        assert_eq!(answer.recv().unwrap(), Err(libc::EIO));
        assert_eq!(desk.metrics.snapshot().panics, 1);
    }
}
