//! An S3 server in the test's own process, on loopback, over any store.
//!
//! It speaks as much S3 as Haven does and misbehaves on order at the level of bytes and connections
//! ([`WireFault`]); faults of single verbs come from a [`crate::faults::Faults`] below it. Habits of
//! real servers are switches ([`Habits`]). It checks key ids, regions and clocks, but not signatures:
//! the published example and the real servers do that.

mod tls;
mod verbs;
mod versions;

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures::{StreamExt, stream};
use haven_store::DynStore;
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::{
    Request, Response,
    body::{Frame, Incoming},
    header,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    task::JoinHandle,
};

pub use tls::Authority;
use versions::Versions;

/// What real servers were seen to do, each off by default.
#[derive(Debug, Clone, Default)]
pub struct Habits {
    /// The most names in a page of a listing; 0 is 1000.
    pub page_max: usize,
    pub ignores_start_after: bool,
    pub ignores_conditions: bool,
    /// Answers 501 to a put with a condition.
    pub refuses_conditions: bool,
    /// Answers a range with the whole object.
    pub ignores_ranges: bool,
    /// Says that more follows and gives no token.
    pub gives_no_token: bool,
    /// Lists ETags without quotes, and compares with them so.
    pub unquoted_etags: bool,
    /// Only this region may be signed for; another is refused with its name.
    pub region: Option<String>,
    /// The only key id that is accepted.
    pub key_id: Option<String>,
    /// The server's clock less the machine's, in seconds; 15 minutes and more are refused.
    pub clock_seconds: i64,
    /// Keeps every version of an object.
    pub keeps_versions: bool,
    /// Takes and holds locks, which versions have alone.
    pub holds_locks: bool,
    /// Refuses the right to lift locks of governance mode.
    pub lifts_no_locks: bool,
    /// Knows no `x-amz-checksum-…`.
    pub ignores_new_checksums: bool,
    /// Each answer comes this much later.
    pub latency: Duration,
}

/// Harm below the verbs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WireFault {
    /// The connection closes before the request takes effect.
    Reset,
    /// The request takes effect, and the connection closes without an answer.
    LoseAnswer,
    /// The answer's body ends half way, and the connection with it.
    CutBody,
    /// A page of HTML from something in between, with this status.
    NotS3(u16),
    /// An S3 error with this status and code, without effect.
    Refuse(u16, &'static str),
}

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    /// Path and query.
    pub target: String,
    pub headers: Vec<(String, String)>,
}

/// A running server; it ends when this is dropped.
#[derive(Debug)]
pub struct S3Server {
    address: SocketAddr,
    scheme: &'static str,
    state: Arc<State>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct State {
    /// The one that URLs name.
    bucket: String,
    buckets: Mutex<BTreeMap<String, DynStore>>,
    versions: Versions,
    habits: Mutex<Habits>,
    faults: Mutex<VecDeque<WireFault>>,
    seen: Mutex<Vec<Seen>>,
}

impl S3Server {
    /// Serves `store` as the bucket `bucket` over HTTP on a free port of loopback.
    pub async fn start(store: DynStore, bucket: &str) -> io::Result<Self> {
        Self::listen(store, bucket, None).await
    }

    /// The same over HTTPS, with a certificate for `localhost` from `authority`.
    pub async fn start_tls(store: DynStore, bucket: &str, authority: &Authority) -> io::Result<Self> {
        Self::listen(store, bucket, Some(authority.acceptor()?)).await
    }

    async fn listen(store: DynStore, bucket: &str, tls: Option<tokio_rustls::TlsAcceptor>) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            bucket: bucket.to_owned(),
            buckets: Mutex::new([(bucket.to_owned(), store)].into()),
            versions: Versions::default(),
            habits: Mutex::default(),
            faults: Mutex::default(),
            seen: Mutex::default(),
        });
        let scheme = if tls.is_some() { "https" } else { "http" };
        let task = tokio::spawn(accept(listener, tls, state.clone()));
        Ok(Self { address, scheme, state, task })
    }

    /// `http://127.0.0.1:port`, or `https://localhost:port`.
    pub fn endpoint(&self) -> String {
        let host = if self.scheme == "https" { "localhost" } else { "127.0.0.1" };
        format!("{}://{host}:{}", self.scheme, self.address.port())
    }

    /// The URL of the bucket, or of the part below `prefix`.
    pub fn url(&self, prefix: &str) -> String {
        self.url_of(&self.state.bucket, prefix)
    }

    /// The URL of another bucket.
    pub fn url_of(&self, bucket: &str, prefix: &str) -> String {
        format!("s3://{bucket}/{prefix}?endpoint={}", self.endpoint())
    }

    /// Serves another bucket as well. Versions are kept of the first alone.
    pub fn add_bucket(&self, bucket: &str, store: DynStore) {
        self.state.buckets.lock().insert(bucket.to_owned(), store);
    }

    /// How many versions and marks of deletion there are.
    pub fn versions(&self) -> usize {
        self.state.versions.count()
    }

    /// Changes the server's habits.
    pub fn habits(&self, change: impl FnOnce(&mut Habits)) {
        change(&mut self.state.habits.lock());
    }

    /// The next requests meet these, one each.
    pub fn order(&self, faults: impl IntoIterator<Item = WireFault>) {
        self.state.faults.lock().extend(faults);
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().clone()
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Seen {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

async fn accept(listener: TcpListener, tls: Option<tokio_rustls::TlsAcceptor>, state: Arc<State>) {
    // Dropped with this task, and the connections with it.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        let (state, tls) = (state.clone(), tls.clone());
        connections.spawn(async move {
            match tls {
                None => converse(stream, state).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        converse(stream, state).await;
                    }
                }
            }
        });
    }
}

async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, state: Arc<State>) {
    let service = service_fn(move |request| answer(state.clone(), request));
    // A connection that ends in an error is what some tests order.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

type Body = BoxBody<Bytes, io::Error>;

/// What a verb has to say.
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
}

impl Reply {
    fn new(status: u16, body: impl Into<Bytes>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    fn error(status: u16, code: &str, region: Option<&str>) -> Self {
        let region = region.map(|r| format!("<Region>{r}</Region>")).unwrap_or_default();
        let words = "in the words of the test's server";
        Self::new(status, format!("<Error><Code>{code}</Code><Message>{words}</Message>{region}</Error>"))
    }

    fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }
}

async fn answer(state: Arc<State>, request: Request<Incoming>) -> io::Result<Response<Body>> {
    let (parts, body) = request.into_parts();
    let text = |value: &hyper::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let seen = Seen {
        method: parts.method.to_string(),
        target: parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        headers: parts.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
    };
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    state.seen.lock().push(seen.clone());
    let habits = state.habits.lock().clone();
    let fault = state.faults.lock().pop_front();
    if !habits.latency.is_zero() {
        tokio::time::sleep(habits.latency).await;
    }
    let reply = match fault {
        Some(WireFault::Reset) => return Err(io::ErrorKind::ConnectionReset.into()),
        Some(WireFault::NotS3(status)) => Reply::new(status, "<html><body>Somebody in between</body></html>"),
        Some(WireFault::Refuse(status, code)) => Reply::error(status, code, None),
        Some(WireFault::LoseAnswer | WireFault::CutBody) | None => match gate(&seen, &habits) {
            Some(refused) => refused,
            None => verbs::perform(&state, &habits, &seen, body).await,
        },
    };
    if fault == Some(WireFault::LoseAnswer) {
        return Err(io::ErrorKind::ConnectionReset.into());
    }
    let cut = fault == Some(WireFault::CutBody);
    respond(reply, &habits, parts.method == hyper::Method::HEAD, cut)
}

/// What the server checks of every request.
fn gate(seen: &Seen, habits: &Habits) -> Option<Reply> {
    let authorization = seen.header("authorization").unwrap_or("");
    let credential = authorization.split_once("Credential=").and_then(|(_, rest)| rest.split(',').next());
    let parts: Vec<&str> = credential.unwrap_or("").split('/').collect();
    let &[key_id, _day, region, "s3", "aws4_request"] = &parts[..] else {
        return Some(Reply::error(403, "AccessDenied", None));
    };
    if habits.key_id.as_ref().is_some_and(|wanted| wanted != key_id) {
        return Some(Reply::error(403, "InvalidAccessKeyId", None));
    }
    if let Some(wanted) = habits.region.as_deref().filter(|wanted| *wanted != region) {
        return Some(Reply::error(400, "AuthorizationHeaderMalformed", Some(wanted)));
    }
    (habits.clock_seconds.abs() >= 900).then(|| Reply::error(403, "RequestTimeTooSkewed", None))
}

fn respond(reply: Reply, habits: &Habits, head: bool, cut: bool) -> io::Result<Response<Body>> {
    let mut response = Response::builder()
        .status(reply.status)
        .header(header::DATE, http_date(now() + habits.clock_seconds))
        .header(header::CONTENT_LENGTH, reply.body.len());
    for (name, value) in reply.headers {
        response = response.header(name, value);
    }
    let frames = if head || reply.body.is_empty() {
        Vec::new()
    } else if cut {
        let half = reply.body.slice(..reply.body.len() / 2);
        vec![Ok(Frame::data(half)), Err(io::Error::from(io::ErrorKind::ConnectionReset))]
    } else {
        vec![Ok(Frame::data(reply.body))]
    };
    // What came before an error is sent when the body makes a pause.
    let frames = StreamExt::then(stream::iter(frames), |frame| async {
        if frame.is_err() {
            tokio::task::yield_now().await;
        }
        frame
    });
    let body = BodyExt::boxed(StreamBody::new(frames));
    response.body(body).map_err(io::Error::other)
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |d| d.as_secs().cast_signed())
}

fn http_date(seconds: i64) -> String {
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.max(0).cast_unsigned());
    httpdate::fmt_http_date(at)
}
