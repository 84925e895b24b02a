//! The mount's side of the socket.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream, unix::OwnedWriteHalf},
    sync::{mpsc, watch},
    task::JoinHandle,
};

use super::{Line, REQUEST_MAX, Refusal, Request, SOCKET, short_path};

/// What answers requests. Implemented where everything is known.
#[async_trait::async_trait]
pub trait Control: Send + Sync + 'static {
    async fn answer(&self, request: Request, progress: &Progress) -> Result<Value, Refusal>;
}

/// Tells the asker how far it is. Never waits: who reads too slowly misses some.
#[derive(Debug, Clone)]
pub struct Progress(mpsc::Sender<Value>);

impl Progress {
    pub fn tell(&self, value: Value) {
        self.0.try_send(value).ok();
    }
}

/// Listens until dropped; then the socket is removed. Connections already made go on.
#[derive(Debug)]
pub struct Server {
    socket: PathBuf,
    task: JoinHandle<()>,
    /// How many requests have been read and not answered.
    open: watch::Sender<usize>,
}

/// Who asked may not be left without the answer for longer than this, however slowly they read.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// One request between its reading and its answer.
struct Open<'a>(&'a watch::Sender<usize>);

impl<'a> Open<'a> {
    fn begin(open: &'a watch::Sender<usize>) -> Self {
        open.send_modify(|count| *count += 1);
        Self(open)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Server {
    /// Listens in `cache`, in place of whatever process listened there before (the cache directory's own lock sees
    /// to it that none does). Only this user may connect. Must be called on a runtime.
    pub fn start(cache: &Path, control: Arc<dyn Control>) -> io::Result<Self> {
        let socket = cache.join(SOCKET);
        let fresh = cache.join(format!("{SOCKET}.{}", std::process::id()));
        fs::remove_file(&fresh).or_else(absent_is_fine)?;
        let (short, _open) = short_path(&fresh)?;
        let listener = UnixListener::bind(short)?;
        // Nobody else may connect at any moment: the name appears only when the mode is right.
        fs::set_permissions(&fresh, fs::Permissions::from_mode(0o600))?;
        fs::rename(&fresh, &socket)?;
        let open = watch::Sender::new(0);
        let task = tokio::spawn(accept(listener, control, open.clone()));
        Ok(Self { socket, task, open })
    }

    /// Stops listening, and returns when everybody who asked has their answer: the process may end then.
    pub async fn finish(self) {
        self.task.abort();
        let mut open = self.open.subscribe();
        let _ = tokio::time::timeout(LAST_WORDS, open.wait_for(|count| *count == 0)).await;
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
        fs::remove_file(&self.socket).ok();
    }
}

fn absent_is_fine(e: io::Error) -> io::Result<()> {
    if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) }
}

async fn accept(listener: UnixListener, control: Arc<dyn Control>, open: watch::Sender<usize>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (control, open) = (control.clone(), open.clone());
                tokio::spawn(async move {
                    if let Err(e) = serve(stream, control, open).await {
                        tracing::debug!(error = %e, "a control connection ended");
                    }
                });
            }
            Err(e) => {
                // Out of descriptors, most likely: they come back.
                tracing::warn!(error = %e, "cannot accept a control connection");
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
        }
    }
}

async fn serve(stream: UnixStream, control: Arc<dyn Control>, open: watch::Sender<usize>) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read);
    loop {
        let mut line = Vec::new();
        let read = (&mut lines).take(REQUEST_MAX as u64).read_until(b'\n', &mut line).await?;
        if read == 0 {
            return Ok(());
        }
        if !line.ends_with(b"\n") {
            return send(&mut write, &Line::Refused(Refusal::new("invalid", "the request is too long or cut off")))
                .await;
        }
        let _open = Open::begin(&open);
        let answer = match serde_json::from_slice::<Request>(&line) {
            Ok(request) => answer(&*control, request, &mut write).await?,
            Err(e) => Line::Refused(Refusal::new("invalid", format!("not a request: {e}"))),
        };
        send(&mut write, &answer).await?;
    }
}

async fn answer(control: &dyn Control, request: Request, write: &mut OwnedWriteHalf) -> io::Result<Line> {
    tracing::debug!(verb = request.verb, "control request");
    let (sender, mut told) = mpsc::channel(16);
    let progress = Progress(sender);
    let mut work = control.answer(request, &progress);
    loop {
        tokio::select! {
            biased;
            Some(value) = told.recv() => send(write, &Line::Progress(value)).await?,
            result = &mut work => return Ok(result.map_or_else(Line::Refused, Line::Done)),
        }
    }
}

async fn send(write: &mut OwnedWriteHalf, line: &Line) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(&json!(line))?;
    bytes.push(b'\n');
    write.write_all(&bytes).await
}
