//! A snapshot with something done elsewhere at the same instant. The asker listens on a socket of its own:
//! ```text
//!     asker                                                          mount
//!     {"do": "snapshot hold", "name", "note", "by", "call": PATH} ──▶ connects to PATH
//!                                                                    all is stored, nothing can be changed
//!                                                       "held\n" ◀──
//!     does its part, in a database
//!     "done\n"                                                   ──▶ the snapshot is taken, all goes on
//!                           answer: the snapshot, "frozen_ms"    ◀──
//! ```
//! Anything else than `done`, the socket's end (the asker was killed), and silence for [`PATIENCE`] give no snapshot: a
//! library never stands still for longer. The conversation is held on a thread that waits for nobody else: requests
//! of the kernel that stand still may occupy all those that answer the control socket.

use std::{
    io::{self, Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use haven_format::TxSeq;
use haven_fs::{Fs, FsError};
use haven_mount::control::{Client, ClientError, Locator, Refusal, Request, short_path};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Library, POINT_MAKER, Shown, fs_refusal, refusal, text};

/// How long everything stands still at most.
const PATIENCE: Duration = Duration::from_secs(2);

impl Library {
    /// Answers `snapshot hold`.
    pub async fn hold(&self, request: &Request) -> Result<Value, Refusal> {
        let fs = self.fs.as_ref().ok_or_else(|| Refusal::new("bug", "no file system is open"))?;
        let name = text(request, "name");
        // Found out before anything stands still.
        if self.settled(|| self.vault.snapshot(name.as_bytes())).await?.is_some() {
            return Err(Refusal::new("refused", format!("there is a snapshot called {name} already")));
        }
        self.gather().await?;
        let unheard = |error: io::Error| Refusal::new("local", format!("who asked can't be called: {error}"));
        let mut line = call(Path::new(text(request, "call"))).map_err(unheard)?;
        let (shown, frozen) = loop {
            let (fs, name) = (fs.clone(), name.to_owned());
            let (note, by) = (text(request, "note").to_owned(), text(request, "by").to_owned());
            let taken = tokio::task::spawn_blocking(move || {
                let taken = take(&fs, &name, &note, &by, &mut line);
                (taken, line)
            });
            let (taken, back) = taken.await.map_err(|error| Refusal::new("bug", error.to_string()))?;
            line = back;
            match taken? {
                Ok(taken) => break taken,
                Err(error) => match error.need() {
                    Some(need) => self.vault.settle(need).await.map_err(|error| refusal(&error))?,
                    None => return Err(fs_refusal(&error)),
                },
            }
        };
        self.durable(TxSeq(shown.seq)).await?;
        let mut value = super::value(shown)?;
        value["frozen_ms"] = json!(frozen.as_secs_f64() * 1000.0);
        Ok(value)
    }
}

fn call(path: &Path) -> io::Result<UnixStream> {
    let (short, _open) = short_path(path)?;
    let line = UnixStream::connect(short)?;
    line.set_write_timeout(Some(PATIENCE))?;
    Ok(line)
}

/// A try. The outer result is what ends it for good.
fn take(
    fs: &Arc<Fs>,
    name: &str,
    note: &str,
    by: &str,
    line: &mut UnixStream,
) -> Result<Result<(Shown, Duration), FsError>, Refusal> {
    let mut broken = None;
    let taken = fs.snapshot_with(name.as_bytes(), note, by, || {
        heard_done(line).map_err(|why| {
            broken = Some(why);
            FsError::Invalid("the other part failed")
        })
    });
    match broken {
        Some(why) => Err(Refusal::new("refused", why)),
        None => Ok(taken.map(|(snapshot, (), frozen)| (Shown::new(name.as_bytes(), &snapshot, None), frozen))),
    }
}

/// Tells that all stands still, and waits to hear that the other part is done.
fn heard_done(line: &mut UnixStream) -> Result<(), String> {
    let until = Instant::now() + PATIENCE;
    let gone = |error: &dyn std::error::Error| format!("who asked is gone: {error}");
    line.write_all(b"held\n").map_err(|error| gone(&error))?;
    let mut said = Vec::new();
    while !said.ends_with(b"\n") {
        let left = until.saturating_duration_since(Instant::now());
        let late = || format!("nobody said within {} s that the other part is done", PATIENCE.as_secs());
        if left.is_zero() {
            return Err(late());
        }
        line.set_read_timeout(Some(left)).map_err(|error| gone(&error))?;
        let mut piece = [0; 64];
        match line.read(&mut piece) {
            Ok(0) => return Err("who asked is gone, or gave up".into()),
            Ok(count) => said.extend_from_slice(&piece[..count]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                return Err(late());
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(gone(&error)),
        }
        if said.len() > 64 {
            break;
        }
    }
    if said == b"done\n" { Ok(()) } else { Err("the other part failed".into()) }
}

// ---------------------------------------------------------------- who asks

/// What came of it.
#[derive(Debug, Clone, Deserialize)]
pub struct Held {
    #[serde(flatten)]
    pub snapshot: Shown,
    /// For how long nothing could be changed, milliseconds.
    pub frozen_ms: f64,
}

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum HoldError<E: std::error::Error + 'static> {
    #[error(transparent)]
    Mount(ClientError),
    #[error("the mount's process can't be listened to")]
    Listen(#[source] io::Error),
    /// What was to be done meanwhile went wrong.
    #[error(transparent)]
    Meanwhile(E),
}

/// A socket in the cache directory, which the mount and whoever may ask it can both reach.
struct Ear {
    listener: UnixListener,
    path: PathBuf,
}

impl Ear {
    fn open(at: &Locator) -> io::Result<Self> {
        let path = at.cache.join(format!("hold-{}.sock", std::process::id()));
        _ = std::fs::remove_file(&path);
        let (short, _open) = short_path(&path)?;
        let listener = UnixListener::bind(short)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, path })
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        _ = std::fs::remove_file(&self.path);
    }
}

/// Has the mount at `at` take a snapshot called `name`, with `meanwhile` called while nothing can be changed. It must
/// not touch the mount, and has [`PATIENCE`]. When it fails there is no snapshot.
pub fn hold<T, E: std::error::Error + 'static>(
    at: &Locator,
    name: &str,
    note: &str,
    meanwhile: impl FnOnce() -> Result<T, E>,
) -> Result<(Held, T), HoldError<E>> {
    let mut client = Client::connect(at).map_err(HoldError::Mount)?;
    let ear = Ear::open(at).map_err(HoldError::Listen)?;
    let request = Request::new("snapshot hold")
        .with("name", name)
        .with("note", note)
        .with("by", POINT_MAKER)
        .with("call", ear.path.to_string_lossy());
    let (answered, answer) = mpsc::channel();
    std::thread::spawn(move || answered.send(client.ask(&request, |_| {})));
    let mut early = None;
    let line = loop {
        match ear.listener.accept() {
            Ok((line, _)) => break Some(line),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => match answer.recv_timeout(STEP) {
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                other => {
                    early = other.ok();
                    break None;
                }
            },
            Err(error) => return Err(HoldError::Listen(error)),
        }
    };
    let mut done = None;
    if let Some(mut line) = line
        && heard_held(&mut line).map_err(HoldError::Listen)?
    {
        match meanwhile() {
            Ok(value) => {
                // When this does not arrive the answer says so.
                _ = line.write_all(b"done\n");
                done = Some(value);
            }
            Err(error) => {
                drop(line);
                _ = answer.recv();
                return Err(HoldError::Meanwhile(error));
            }
        }
    }
    let answer = early.or_else(|| answer.recv().ok()).unwrap_or(Err(ClientError::Gone)).map_err(HoldError::Mount)?;
    let held = Held::deserialize(answer).map_err(|source| HoldError::Mount(ClientError::Nonsense { source }))?;
    Ok((held, done.ok_or(HoldError::Mount(ClientError::Gone))?))
}

/// How long is waited for the mount's call before its answer is looked for.
const STEP: Duration = Duration::from_millis(5);

/// Whether the mount says that it stands still. Storing what was written may take it a while.
fn heard_held(line: &mut UnixStream) -> io::Result<bool> {
    line.set_nonblocking(false)?;
    let mut said = [0; 5];
    match line.read_exact(&mut said) {
        Ok(()) => Ok(&said == b"held\n"),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}
