//! The HTTP client of all stores that speak it: TLS, connections, and bodies that arrive whole.
//!
//! TCP_NODELAY is set, and TCP_QUICKACK before each wait for bytes: servers that send an answer in
//! two writes without TCP_NODELAY (Garage does) would otherwise wait for our delayed acknowledgement,
//! 40 ms for each small GET.

use std::{
    io,
    ops::Range,
    path::Path,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{
        Client,
        connect::{Connected, Connection, HttpConnector},
    },
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use tokio::net::TcpStream;
use tower_service::Service;

use crate::{calendar, port::StoreError};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long bytes may stay unacknowledged before the kernel gives the connection up.
const UNACKNOWLEDGED_TIMEOUT: Duration = Duration::from_secs(30);
/// Idle connections are closed before servers and middle boxes do it.
const IDLE_TIMEOUT: Duration = Duration::from_secs(25);
/// The longest pause within a body.
const BODY_PAUSE_MAX: Duration = Duration::from_secs(20);
/// No answer is longer: packs are a fraction of it.
const BODY_BYTES_MAX: u64 = 1 << 30;

/// A client that keeps connections.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    client: Client<HttpsConnector<Quick>, Full<Bytes>>,
}

/// An answer with its whole body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// The whole body, which only the status 200 gives.
    pub(crate) fn whole(self) -> Result<Bytes, StoreError> {
        if self.status == StatusCode::OK { Ok(self.body) } else { Err(odd(self.status)) }
    }

    /// The part that was asked for by [`range_header`]: none where the object ends before it.
    pub(crate) fn part(self, range: &Range<u64>) -> Result<Bytes, StoreError> {
        match self.status {
            StatusCode::RANGE_NOT_SATISFIABLE => Ok(Bytes::new()),
            StatusCode::PARTIAL_CONTENT => self.exact_part(range),
            // A server without ranges sends all.
            StatusCode::OK => {
                let end = range.end.min(self.body.len() as u64);
                let start = range.start.min(end);
                Ok(self.body.slice(start as usize..end as usize))
            }
            status => Err(odd(status)),
        }
    }

    /// Checks that a part is the part that was asked for.
    fn exact_part(self, range: &Range<u64>) -> Result<Bytes, StoreError> {
        let told = self.headers.get(header::CONTENT_RANGE).and_then(|v| v.to_str().ok()).unwrap_or("");
        let garbled = || StoreError::Garbled {
            detail: format!("asked for bytes {range:?}, got {told:?} and {} bytes", self.body.len()),
        };
        let (span, _whole) = told.strip_prefix("bytes ").and_then(|t| t.split_once('/')).ok_or_else(garbled)?;
        let (first, last) = span.split_once('-').ok_or_else(garbled)?;
        let first: u64 = first.parse().map_err(|_| garbled())?;
        let last: u64 = last.parse().map_err(|_| garbled())?;
        let fits = first == range.start && last < range.end && last >= first;
        if fits && self.body.len() as u64 == last - first + 1 { Ok(self.body) } else { Err(garbled()) }
    }
}

/// The header `range` that asks for a part that is not empty.
pub(crate) fn range_header(range: &Range<u64>) -> String {
    // Offsets beyond what some servers' signed numbers hold are left open.
    let end = if range.end > i64::MAX as u64 { String::new() } else { (range.end - 1).to_string() };
    format!("bytes={}-{end}", range.start)
}

fn odd(status: StatusCode) -> StoreError {
    StoreError::Garbled { detail: format!("status {status} where content was due") }
}

/// The server's clock as its answer tells it.
pub(crate) fn date(headers: &HeaderMap) -> Option<i64> {
    calendar::parse_http(headers.get(header::DATE)?.to_str().ok()?)
}

/// How long a server asks to be left alone.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok().map(Duration::from_secs)
}

/// The first bytes of a body that was not expected, fit to be shown.
pub(crate) fn excerpt(body: &[u8]) -> String {
    let first = String::from_utf8_lossy(&body[..body.len().min(200)]);
    first.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim().to_owned()
}

impl Http {
    /// Trusts the system's roots and those in `ca_file` (PEM). The error says what is wrong with either.
    pub(crate) fn new(https: bool, ca_file: Option<&Path>) -> Result<Self, String> {
        let tls = tls(https, ca_file)?;
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        tcp.set_keepalive(Some(Duration::from_secs(15)));
        tcp.set_tcp_user_timeout(Some(UNACKNOWLEDGED_TIMEOUT));
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(Quick(tcp));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .build(connector);
        Ok(Self { client })
    }

    /// Sends `request` and reads the whole answer.
    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answer, StoreError> {
        let no_body = request.method() == http::Method::HEAD;
        let response = self.client.request(request).await.map_err(|error| unreachable_because(&error))?;
        let (parts, mut body) = response.into_parts();
        let announced = parts.headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
        if !no_body && announced.is_some_and(|bytes| bytes > BODY_BYTES_MAX) {
            return Err(StoreError::Garbled { detail: format!("an answer of {} bytes", announced.unwrap_or(0)) });
        }
        let mut whole = BytesMut::new();
        let mut first = None;
        loop {
            let frame = tokio::time::timeout(BODY_PAUSE_MAX, body.frame()).await;
            let frame = frame.map_err(|_| StoreError::Unavailable {
                detail: format!("the answer stopped for {} s in its middle", BODY_PAUSE_MAX.as_secs()),
                after: None,
            })?;
            let Some(frame) = frame else { break };
            let frame = frame.map_err(|error| StoreError::Unavailable {
                detail: format!("the answer broke off: {}", causes(&error)),
                after: None,
            })?;
            let Ok(data) = frame.into_data() else { continue };
            // A body that fits one frame needs no copy.
            if whole.is_empty() && first.is_none() {
                first = Some(data);
                continue;
            }
            if let Some(first) = first.take() {
                let expected = announced.unwrap_or(0).max(first.len() as u64 + data.len() as u64);
                whole.reserve(expected as usize);
                whole.extend_from_slice(&first);
            }
            whole.extend_from_slice(&data);
            if whole.len() as u64 > BODY_BYTES_MAX {
                return Err(StoreError::Garbled { detail: "an answer without end".into() });
            }
        }
        let body = first.unwrap_or_else(|| whole.freeze());
        Ok(Answer { status: parts.status, headers: parts.headers, body })
    }
}

/// How TLS is spoken with anybody: the system's roots and those in `ca_file` (PEM) are trusted, and nobody where `https`
/// is false. The error says what is wrong with either.
pub fn tls(https: bool, ca_file: Option<&Path>) -> Result<ClientConfig, String> {
    let roots = if https { roots(ca_file)? } else { RootCertStore::empty() };
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// Whom this system trusts, and whoever is named beside.
pub fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(system.certs);
    if let Some(path) = ca_file {
        let certificates = CertificateDer::pem_file_iter(path)
            .map_err(|error| format!("{} can't be read: {error}", path.display()))?;
        let mut found = 0;
        for certificate in certificates {
            let certificate = certificate.map_err(|error| format!("{}: {error}", path.display()))?;
            roots.add(certificate).map_err(|error| format!("{}: {error}", path.display()))?;
            found += 1;
        }
        if found == 0 {
            return Err(format!("{} holds no certificate (PEM)", path.display()));
        }
    }
    if roots.is_empty() {
        return Err("this system has no root certificates (on Debian: apt-get install ca-certificates)".into());
    }
    Ok(roots)
}

fn unreachable_because(error: &hyper_util::client::legacy::Error) -> StoreError {
    let mut detail = causes(error);
    if detail.contains("UnknownIssuer") {
        detail.push_str("; if the store's certificate is signed by a CA of your own, name it with ca_file");
    }
    StoreError::Unavailable { detail, after: None }
}

/// An error with its causes, each said once.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        next = cause.source();
    }
    text
}

/// Makes TCP connections that acknowledge at once.
#[derive(Debug, Clone)]
struct Quick(HttpConnector);

impl Service<Uri> for Quick {
    type Response = QuickStream;
    type Error = <HttpConnector as Service<Uri>>::Error;
    type Future = Pin<Box<dyn Future<Output = Result<QuickStream, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.0.call(uri);
        Box::pin(async move { connecting.await.map(QuickStream) })
    }
}

/// A TCP connection that acknowledges at once.
#[derive(Debug)]
struct QuickStream(TokioIo<TcpStream>);

impl QuickStream {
    fn inner(self: Pin<&mut Self>) -> Pin<&mut TokioIo<TcpStream>> {
        Pin::new(&mut self.get_mut().0)
    }
}

impl Connection for QuickStream {
    fn connected(&self) -> Connected {
        self.0.inner().connected()
    }
}

impl Read for QuickStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let polled = self.as_mut().inner().poll_read(cx, buffer);
        if polled.is_pending() {
            // The kernel forgets this with each sending, so it is said before each wait. Where it is
            // not known, answers are merely slower.
            let _ = rustix::net::sockopt::set_tcp_quickack(self.0.inner(), true);
        }
        ready!(polled)?;
        Poll::Ready(Ok(()))
    }
}

impl Write for QuickStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.inner().poll_write(cx, data)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.inner().poll_write_vectored(cx, slices)
    }
}
