//! Trying again, waiting a server out, and when to stop.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use rand::Rng;
use tokio::{
    sync::{Mutex, watch},
    time::Instant,
};

use crate::{
    journal::JournalError,
    lane::Lane,
    progress::Progress,
    server::{Server, ServerError},
};

/// Why the whole import stops. What was done stays done; the same command goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    #[error("it was interrupted")]
    Cancelled,
    #[error("the API key is not accepted: {0}")]
    Unauthorized(String),
    #[error("the API key may not do this{}: {what}", permission.as_deref().map(|p| format!(" (it lacks {p})")).unwrap_or_default())]
    Forbidden { what: String, permission: Option<String> },
    #[error("the server has no room left: {0}")]
    Full(String),
    #[error("the server did not come back: {0}")]
    Gone(String),
    #[error("this is no answer of a photo server that is known: {0}")]
    Strange(String),
    #[error("{0} files failed, and the import was asked to stop then")]
    Errors(u64),
    #[error("the journal belongs to an import into {0}")]
    OtherServer(String),
    #[error("the API key lacks permissions: {}", .0.join(", "))]
    Permissions(Vec<String>),
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl From<rusqlite::Error> for Stop {
    fn from(error: rusqlite::Error) -> Self {
        Self::Journal(error.into())
    }
}

/// How a call ended that was tried as often as made sense.
#[derive(Debug)]
pub enum Failed {
    Stop(Stop),
    /// Only what the call was about has failed.
    This(ServerError),
}

impl<E: Into<Stop>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self::Stop(error.into())
    }
}

/// How long to wait for what.
#[derive(Debug, Clone, Copy)]
pub struct Waits {
    /// The first pause before trying again; each next one is twice as long.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
    /// Between the first two looks whether a server that is away is back; each next pause is twice as long, up to the longest.
    pub look: Duration,
    /// How long a server may be away.
    pub away: Duration,
    /// How often one request is tried while the server answers others.
    pub tries: u32,
}

impl Default for Waits {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(60),
            look: Duration::from_secs(5),
            away: Duration::from_secs(24 * 3600),
            tries: 7,
        }
    }
}

/// Calls a server with patience.
pub struct Patience {
    waits: Waits,
    /// Held by the one that looks whether the server is back; the others wait for it.
    away: Mutex<()>,
    /// How often it was away and came back.
    returns: AtomicU64,
    cancelled: watch::Receiver<bool>,
}

impl Patience {
    pub fn new(waits: Waits, cancelled: watch::Receiver<bool>) -> Self {
        Self { waits, away: Mutex::new(()), returns: AtomicU64::new(0), cancelled }
    }

    pub fn is_cancelled(&self) -> bool {
        *self.cancelled.borrow()
    }

    /// Returns when the owner wants it to end.
    pub async fn cancelled(&self) {
        // Where nobody can cancel any more, nobody does.
        if self.cancelled.clone().wait_for(|cancelled| *cancelled).await.is_err() {
            std::future::pending().await
        }
    }

    /// How often the server was away and came back.
    pub fn returns(&self) -> u64 {
        self.returns.load(Relaxed)
    }

    /// How often something is tried while the server answers others.
    pub fn tries(&self) -> u32 {
        self.waits.tries
    }

    /// Pauses as between two tries, for what can't be tried again at once.
    pub async fn rest(&self, tries: u32) -> Result<(), Stop> {
        self.sleep(self.pause(tries)).await
    }

    /// Tries `call` until it succeeds or nothing helps. `lane` is slowed down where the server is too busy. `call` is told how many
    /// tries there were: an earlier one may have taken effect.
    pub async fn call<T>(
        &self,
        server: &dyn Server,
        progress: &Progress,
        lane: Option<&Lane>,
        mut call: impl AsyncFnMut(u32) -> Result<T, ServerError>,
    ) -> Result<T, Failed> {
        let mut tries = 0;
        loop {
            if self.is_cancelled() {
                return Err(Failed::Stop(Stop::Cancelled));
            }
            // From before the try: who comes back late from one asks whether the server was away meanwhile.
            let returns = self.returns.load(Relaxed);
            let answer = tokio::select! {
                answer = call(tries) => answer,
                // What is under way is broken off, however long it may take: it is found again as after a kill.
                () = self.cancelled() => return Err(Failed::Stop(Stop::Cancelled)),
            };
            let error = match answer {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            tries += 1;
            let mut pause = match error {
                ServerError::Unauthorized(what) => return Err(Stop::Unauthorized(what).into()),
                ServerError::Full(what) => return Err(Stop::Full(what).into()),
                ServerError::Forbidden { what, permission } => return Err(Stop::Forbidden { what, permission }.into()),
                ServerError::Gone(ref what) => {
                    self.wait_out(server, progress, returns, what).await?;
                    // It answers others, and not this one: no reason to hurry.
                    (tries < self.waits.tries).then(|| self.pause(tries))
                }
                // A proxy before a server that is away answers in its place, with a page of its own. Where the server is there it
                // is asked once more, since it may have come back in between; then it is as strange as it seems.
                ServerError::Strange(ref what) => {
                    let away = self.wait_out(server, progress, returns, what).await?;
                    (tries < if away { self.waits.tries } else { 2 }).then(|| self.pause(tries))
                }
                ServerError::Busy { retry_after, .. } => {
                    if let Some(lane) = lane {
                        lane.slow_down();
                    }
                    (tries < self.waits.tries).then(|| retry_after.unwrap_or_else(|| self.pause(tries)))
                }
                _ => None,
            };
            // It answers nobody, though it is there: its database is away, for a backup perhaps. That is no fault of this request.
            if let (None, ServerError::Busy { what, .. }) = (pause, &error)
                && self.wait_out(server, progress, returns, what).await?
            {
                tries = 1;
                pause = Some(self.pause(tries));
            }
            let Some(pause) = pause else { return Err(Failed::This(error)) };
            progress.retries.fetch_add(1, Relaxed);
            self.sleep(pause.min(self.waits.longest)).await?;
        }
    }

    fn pause(&self, tries: u32) -> Duration {
        let whole = self.waits.first.saturating_mul(1 << tries.min(10)).min(self.waits.longest);
        whole.mul_f64(rand::rng().random_range(0.5..1.0))
    }

    async fn sleep(&self, pause: Duration) -> Result<(), Stop> {
        tokio::select! {
            () = tokio::time::sleep(pause) => Ok(()),
            () = self.cancelled() => Err(Stop::Cancelled),
        }
    }

    /// Returns when the server serves again, and whether it did not since it had come back `returns` times.
    async fn wait_out(&self, server: &dyn Server, progress: &Progress, returns: u64, what: &str) -> Result<bool, Stop> {
        let _one = self.away.lock().await;
        if self.returns.load(Relaxed) != returns {
            // Somebody else has waited for it meanwhile.
            return Ok(true);
        }
        let since = Instant::now();
        let (mut pause, mut was_away) = (self.waits.look, false);
        loop {
            let pinged = tokio::select! {
                pinged = server.ping() => pinged,
                () = self.cancelled() => return Err(Stop::Cancelled),
            };
            if pinged.is_ok() {
                break;
            }
            was_away = true;
            progress.set_waiting(Some(what.to_owned()));
            if since.elapsed() > self.waits.away {
                return Err(Stop::Gone(what.to_owned()));
            }
            self.sleep(pause).await?;
            pause = (pause * 2).min(self.waits.longest);
        }
        if was_away {
            progress.set_waiting(None);
            self.returns.fetch_add(1, Relaxed);
        }
        Ok(was_away)
    }
}
