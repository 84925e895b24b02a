//! The life of the process that serves a mount: signals while it lives, and what must be done when it ends.
//!
//! ```text
//! signal ──▶ unmount ──busy──▶ detach, wait for open files ──patience over──▶ cut them off
//!               │                        │                                       │
//!               ▼                        ▼                                       ▼
//! umount ──▶ ended ──▶ last requests ──▶ hand over, sync to disk ──▶ upload what is left ──▶ done
//! ```
//! A second signal leaves out all that waits. Nothing is lost by it: what was accepted is on the local disk, and goes to
//! the bucket at the next mount.

use std::{convert::Infallible, time::Duration};

use haven_fs::{Fs, FsError, Result};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};

use crate::{
    error::{Holder, UnmountError},
    session::{Ended, Session},
};

/// How often [`haven_fs::Fs::tick`] is called.
const TICK: Duration = Duration::from_secs(1);
/// How long is waited for what a tick needs, before another of its needs has its turn.
const SETTLE: Duration = Duration::from_secs(60);
/// How long a hurried end waits for the local disk.
const HURRY: Duration = Duration::from_secs(5);

/// How long an end that is waited for may take before it is told who holds it up.
pub const HELD_AFTER: Duration = Duration::from_secs(3);

/// Where a serving process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Serving,
    Unmounting,
    /// Detached; programs still have files open.
    WaitingForOpenFiles,
    /// The mount is gone; the last changes go to the local disk.
    Finishing,
    Draining,
}

/// What the process that serves knows beyond the mount.
#[async_trait::async_trait]
pub trait Host: Send + Sync + 'static {
    /// SIGHUP came.
    fn reload(&self) {}

    /// Told to stop: what uses the mount ends before it is taken off. A second signal does not wait for it.
    async fn wind_down(&self) {}

    /// For a service manager, or a terminal.
    fn state(&self, _state: State) {}

    /// Returns when everything is in the bucket, or with the reason why it cannot be. Dropped when the owner has
    /// waited long enough.
    async fn drain(&self) -> Result<(), String>;
}

/// How serving ended. In every case the mount is gone, or detached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// Everything is in the bucket.
    Complete,
    /// As asked, without waiting for uploads: everything is on the local disk.
    Detached,
    /// A second signal came: what was accepted is on the local disk.
    Interrupted,
    /// What was accepted is on the local disk as far as that could be written; the reason says what is amiss.
    Failed(String),
}

/// SIGTERM, SIGINT and SIGHUP, taken. To be had before the mount is made: who comes in between is then kept, not
/// killed by the signal's own way.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Must be called on a runtime.
    pub fn take() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Returns when told to stop; passes reloads on meanwhile.
    async fn stop_or_reload(&mut self, host: &dyn Host) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => host.reload(),
            }
        }
    }
}

/// Serves until the mount has ended and all is done that has to be.
pub async fn serve(session: &Session, host: &dyn Host, mut signals: Signals) -> Ending {
    let ticking = tokio::spawn(tick(session.clone()));
    host.state(State::Serving);
    let orderly = tokio::select! {
        _ = session.ended() => true,
        () = signals.stop_or_reload(host) => {
            tokio::select! {
                () = stop(session, host) => true,
                () = signals.stop() => false,
            }
        }
    };
    ticking.abort();
    if !orderly {
        return hurry(session).await;
    }
    tokio::select! {
        ending = finish(session, host) => ending,
        () = signals.stop() => hurry(session).await,
    }
}

/// Takes the mount off, gently if possible.
async fn stop(session: &Session, host: &dyn Host) {
    host.wind_down().await;
    host.state(State::Unmounting);
    match unmount(session, false).await {
        Ok(()) | Err(UnmountError::NotMounted { .. }) => {}
        Err(e) => {
            tracing::info!(reason = %e, "detaching the mount, and waiting for open files to close");
            host.state(State::WaitingForOpenFiles);
            if let Err(e) = unmount(session, true).await {
                tracing::error!(error = %e, "the mount could not be detached");
            }
        }
    }
    let patience = session.stop_patience();
    let first = patience.min(HELD_AFTER);
    if timeout(first, session.ended()).await.is_err() {
        let looking = session.clone();
        let holders = tokio::task::spawn_blocking(move || looking.clones()).await.unwrap_or_default();
        if !holders.is_empty() {
            tracing::warn!(by = Holder::listed(&holders), "other mount namespaces still have the mount");
        }
    }
    if timeout(patience - first, session.ended()).await.is_err() {
        tracing::warn!("files are still open in the mount; cutting them off");
        if session.abort() {
            session.ended().await;
        }
    }
}

/// As [`Session::unmount`], which looks through /proc and may start a program.
async fn unmount(session: &Session, lazy: bool) -> std::result::Result<(), UnmountError> {
    let (session, point) = (session.clone(), session.point().to_path_buf());
    let done = tokio::task::spawn_blocking(move || session.unmount(lazy)).await;
    done.unwrap_or_else(|e| Err(UnmountError::Refused { point, source: std::io::Error::other(e) }))
}

async fn finish(session: &Session, host: &dyn Host) -> Ending {
    host.state(State::Finishing);
    session.desk().close(session.stop_patience()).await;
    if let Err(e) = to_disk(session).await {
        tracing::error!(error = %e, "the last changes could not be written to the local disk");
        return Ending::Failed(e.to_string());
    }
    if session.is_alive() {
        tracing::warn!("files stay open until this process ends; what is written to them now may be lost");
    }
    let mut skip = session.drain_skipped();
    host.state(State::Draining);
    let drained = tokio::select! {
        biased;
        _ = skip.wait_for(|yes| *yes) => return Ending::Detached,
        drained = host.drain() => drained,
    };
    match drained {
        Err(why) => Ending::Failed(why),
        Ok(()) if session.is_alive() => Ending::Detached,
        Ok(()) => match session.ended().await {
            Ended::Unmounted => Ending::Complete,
            Ended::Failed(why) => Ending::Failed(why),
        },
    }
}

/// Ends at once: only what the local disk can do is still done.
async fn hurry(session: &Session) -> Ending {
    tracing::warn!("told twice to stop: not waiting for open files or uploads");
    if session.is_alive() {
        unmount(session, true).await.unwrap_or_else(|e| tracing::debug!(error = %e, "unmount"));
    }
    match timeout(HURRY, to_disk(session)).await {
        Ok(Ok(())) => Ending::Interrupted,
        Ok(Err(e)) => Ending::Failed(e.to_string()),
        Err(_) => Ending::Failed("the local disk did not take the last changes in time".into()),
    }
}

/// Hands over what was written and waits for the local disk.
async fn to_disk(session: &Session) -> Result<()> {
    loop {
        let fs = session.fs().clone();
        let work = move || fs.sync().map(drop);
        let done = tokio::task::spawn_blocking(work).await;
        match done.unwrap_or_else(|e| Err(haven_fs::FsError::Broken(e.to_string()))) {
            Err(e) => match e.need() {
                Some(need) => session.fs().settle(need).await?,
                None => return Err(e),
            },
            ok => return ok,
        }
    }
}

async fn tick(session: Session) -> Infallible {
    let fs = session.fs().clone();
    let work = {
        let fs = fs.clone();
        move |turn| match turn {
            Turn::Time => fs.tick(),
            Turn::Settled => fs.catch_up(),
        }
    };
    let settle = move |need: FsError| {
        let fs: std::sync::Arc<Fs> = fs.clone();
        async move {
            match need.need() {
                // Who waits longer is asked for again: what is needed may be another thing by then.
                Some(need) => timeout(SETTLE, fs.settle(need)).await.unwrap_or(Ok(())),
                None => Ok(()),
            }
        }
    };
    hand_over(TICK, work, settle).await
}

/// Why it is time to hand over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Time,
    /// What was missing is there.
    Settled,
}

/// Does `work` every `period`, and as soon as what it needed is settled. One need is settled at a time, and nothing
/// waits for that: other files are handed over meanwhile.
async fn hand_over<S: Future<Output = Result<()>> + Send + 'static>(
    period: Duration,
    work: impl Fn(Turn) -> Result<()> + Clone + Send + 'static,
    settle: impl Fn(FsError) -> S,
) -> Infallible {
    let mut every = interval(period);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = String::new();
    let mut settling: JoinSet<Result<()>> = JoinSet::new();
    loop {
        let (turn, mut trouble) = tokio::select! {
            _ = every.tick() => (Turn::Time, String::new()),
            Some(settled) = settling.join_next() => match settled {
                Ok(Ok(())) => (Turn::Settled, String::new()),
                Ok(Err(e)) => (Turn::Time, e.to_string()),
                Err(e) => (Turn::Time, e.to_string()),
            },
        };
        if trouble.is_empty() {
            let work = work.clone();
            trouble = match tokio::task::spawn_blocking(move || work(turn)).await {
                Ok(Err(need)) if need.need().is_some() => {
                    if settling.is_empty() {
                        settling.spawn(settle(need));
                    }
                    // Whatever could not be settled is told until it can.
                    continue;
                }
                Ok(Err(e)) => e.to_string(),
                Err(e) => e.to_string(),
                Ok(Ok(())) => String::new(),
            };
        }
        // The same trouble every second is worth one line.
        if trouble != last && !trouble.is_empty() {
            tracing::warn!(error = trouble, "what was written cannot be handed over; it will be tried again");
        }
        last = trouble;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use haven_vault::Need;
    use tokio::runtime;

    use super::*;

    fn need() -> Result<()> {
        Err(FsError::Need(Need::Space { bytes: 1 }))
    }

    fn runtime() -> runtime::Runtime {
        runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap()
    }

    #[test]
    fn what_a_tick_needs_is_settled_and_then_handed_over_without_waiting_for_the_next() {
        let runtime = runtime();
        let (turns, seen) = mpsc::channel();
        let work = move |turn| {
            turns.send(turn).unwrap();
            if turn == Turn::Time { need() } else { Ok(()) }
        };
        let ticking = runtime.spawn(hand_over(Duration::from_secs(3600), work, |_| async { Ok(()) }));
        assert_eq!((seen.recv().unwrap(), seen.recv().unwrap()), (Turn::Time, Turn::Settled));
        ticking.abort();
    }

    #[test]
    fn files_are_handed_over_while_one_waits_for_what_never_comes() {
        let runtime = runtime();
        let (turns, seen) = mpsc::channel();
        let work = move |turn| {
            turns.send(turn).ok();
            need()
        };
        let ticking = runtime.spawn(hand_over(Duration::from_millis(1), work, |_| std::future::pending()));
        (0..5).for_each(|_| assert_eq!(seen.recv().unwrap(), Turn::Time));
        ticking.abort();
    }
}
