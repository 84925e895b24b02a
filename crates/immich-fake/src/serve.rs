//! The server as a whole: its port, its connections, its ends.

use std::{convert::Infallible, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

use crate::{
    ADMIN_KEY, Orders, USER_KEY,
    spec::{Spec, Version},
    world::{Counts, Key, World},
};

/// What kind of server.
#[derive(Debug, Clone)]
pub struct Options {
    /// Of the loopback; 0 is any free one.
    pub port: u16,
    /// As `GET /server/version` gives it.
    pub version: (u32, u32, u32),
    pub keys: Vec<Key>,
    /// Takes files and keeps nothing of them but their names and lengths; forms are not checked, and a checksum that is told is
    /// believed. For throughput.
    pub null: bool,
    /// Keeps the bytes of files too, in memory, to be downloaded.
    pub keep: bool,
    /// Where it finds what it knew, and keeps what it knows when it is ended.
    pub state: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        let key = |secret: &str, email: &str, admin| Key {
            secret: secret.into(),
            email: email.into(),
            admin,
            permissions: vec!["all".into()],
            quota_bytes: None,
        };
        let keys = vec![key(USER_KEY, "user@example.org", false), key(ADMIN_KEY, "admin@example.org", true)];
        Self { port: 0, version: (3, 1, 0), keys, null: false, keep: false, state: None }
    }
}

/// The server. It ends when this is dropped.
pub struct Fake {
    pub(crate) shared: Arc<Shared>,
    address: SocketAddr,
    open: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

/// What all connections share.
pub(crate) struct Shared {
    pub world: Mutex<World>,
    pub orders: Mutex<Orders>,
    pub spec: Spec,
    pub version: Version,
    pub null: bool,
    pub keep: bool,
}

impl Fake {
    /// Starts a server on the loopback, within the running runtime.
    pub async fn start(options: Options) -> io::Result<Self> {
        let world = match &options.state {
            Some(path) if path.exists() => World::load(&std::fs::read_to_string(path)?)?,
            _ => World::new(options.keys.clone()),
        };
        let listener = TcpListener::bind(("127.0.0.1", options.port)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            world: Mutex::new(world),
            orders: Mutex::default(),
            spec: Spec::new(options.version),
            version: options.version,
            null: options.null,
            keep: options.keep,
        });
        let (open, opened) = watch::channel(true);
        let task = tokio::spawn(listen(listener, address, shared.clone(), opened));
        Ok(Self { shared, address, open, task })
    }

    /// `http://127.0.0.1:PORT`
    pub fn address(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Replaces the orders.
    pub fn order(&self, orders: Orders) {
        *self.shared.orders.lock() = orders;
    }

    /// Ends all connections and refuses new ones, until [`Self::come_back`].
    pub fn go(&self) {
        self.open.send_replace(false);
    }

    /// Listens again, at the same port.
    pub fn come_back(&self) {
        self.open.send_replace(true);
    }

    /// What it holds, comparable.
    pub fn state(&self) -> Value {
        self.shared.world.lock().state()
    }

    /// What was wrong with requests.
    pub fn violations(&self) -> Vec<String> {
        self.shared.world.lock().violations.clone()
    }

    pub fn counts(&self) -> Counts {
        self.shared.world.lock().counts.clone()
    }

    /// All it knows, to be found again by [`Options::state`].
    pub fn save(&self, path: &std::path::Path) -> io::Result<()> {
        let text = serde_json::to_vec(&*self.shared.world.lock())?;
        let fresh = path.with_extension("new");
        std::fs::write(&fresh, text)?;
        std::fs::rename(fresh, path)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listen(listener: TcpListener, address: SocketAddr, shared: Arc<Shared>, mut open: watch::Receiver<bool>) {
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    loop {
        let accepted = async {
            match &listener {
                Some(listener) => listener.accept().await.ok(),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some((stream, _)) = accepted => {
                connections.spawn(connection(stream, shared.clone()));
            }
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            changed = open.changed() => {
                if changed.is_err() {
                    return;
                }
                if *open.borrow_and_update() {
                    while listener.is_none() {
                        listener = TcpListener::bind(address).await.ok();
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                } else {
                    listener = None;
                    connections.shutdown().await;
                }
            }
        }
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: Request<Incoming>| {
        let shared = shared.clone();
        async move { answer(shared, request).await }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).max_buf_size(1 << 20);
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}

/// The connection is to be closed without an answer.
#[derive(Debug)]
pub(crate) struct Lost;

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("no answer, as ordered")
    }
}

impl std::error::Error for Lost {}

impl From<Infallible> for Lost {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Lost> {
    crate::routes::answer(shared, request).await
}
