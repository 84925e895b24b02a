//! Connections: made, kept for the next call, and ended when an answer came before its time.

use std::{
    io,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    task::AbortHandle,
};
use tokio_rustls::TlsConnector;

use crate::{Error, address::Address};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Node.js closes idle connections after five seconds; a request that meets the closing is lost.
const IDLE_MAX: Duration = Duration::from_secs(3);

/// What is sent.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Makes and keeps connections to one server.
pub(crate) struct Connector {
    address: Address,
    tls: Option<TlsConnector>,
    idle: Mutex<Vec<(Lane, Instant)>>,
}

/// One connection. Ended when dropped.
pub(crate) struct Lane {
    pub sender: SendRequest<Body>,
    task: AbortHandle,
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Connector {
    pub(crate) fn new(address: Address, ca_file: Option<&Path>) -> Result<Self, Error> {
        let tls = if address.https { Some(tls(ca_file)?) } else { None };
        Ok(Self { address, tls, idle: Mutex::default() })
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// A connection that is open: one that was kept, or a new one.
    pub(crate) async fn lane(&self) -> Result<Lane, Error> {
        while let Some((mut lane, since)) = self.pop() {
            // What the server has closed meanwhile says so at once.
            let open = tokio::time::timeout(Duration::from_millis(50), lane.sender.ready()).await;
            if since.elapsed() < IDLE_MAX && matches!(open, Ok(Ok(()))) {
                return Ok(lane);
            }
        }
        let gone = |error: &dyn std::error::Error| Error::Gone { address: self.address.shown(), detail: causes(error) };
        let connecting = TcpStream::connect((self.address.host.as_str(), self.address.port));
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await.map_err(|_| Error::Gone {
            address: self.address.shown(),
            detail: format!("no connection within {} s", CONNECT_TIMEOUT.as_secs()),
        })?;
        let stream = stream.map_err(|error| gone(&error))?;
        let _ = stream.set_nodelay(true);
        match &self.tls {
            None => self.shake(stream).await,
            Some(tls) => {
                let name = ServerName::try_from(self.address.host.clone())
                    .map_err(|_| Error::Tls(format!("{} can't stand in a certificate", self.address.host)))?;
                let shaking = tokio::time::timeout(CONNECT_TIMEOUT, tls.connect(name, stream)).await;
                let shaken = shaking.map_err(|_| Error::Gone {
                    address: self.address.shown(),
                    detail: "the TLS handshake does not end".into(),
                })?;
                self.shake(shaken.map_err(|error| match error.get_ref().and_then(|e| e.downcast_ref()) {
                    Some(tls @ rustls::Error::InvalidCertificate(_)) => Error::Tls(format!(
                        "{tls}; if the certificate is signed by an authority of your own, name its file"
                    )),
                    _ => gone(&error),
                })?)
                .await
            }
        }
    }

    /// Keeps a connection over which a whole answer came after a whole request.
    pub(crate) fn keep(&self, lane: Lane) {
        if !lane.sender.is_closed() {
            self.idle.lock().push((lane, Instant::now()));
        }
    }

    fn pop(&self) -> Option<(Lane, Instant)> {
        self.idle.lock().pop()
    }

    async fn shake<IO: AsyncRead + AsyncWrite + Unpin + Send + 'static>(&self, io: IO) -> Result<Lane, Error> {
        let patient = Patient { io, write_failed: None, waiting: None, read_ended: false };
        let (sender, connection) = http1::handshake(TokioIo::new(patient))
            .await
            .map_err(|error| Error::Gone { address: self.address.shown(), detail: causes(&error) })?;
        // How it ends is told by the request that was on it.
        let task = tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(Lane { sender, task: task.abort_handle() })
    }
}

fn tls(ca_file: Option<&Path>) -> Result<TlsConnector, Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca_file {
        let wrong = |error: &dyn std::fmt::Display| Error::Tls(format!("{}: {error}", path.display()));
        let certificates = CertificateDer::pem_file_iter(path).map_err(|error| wrong(&error))?;
        let before = roots.len();
        for certificate in certificates {
            roots.add(certificate.map_err(|error| wrong(&error))?).map_err(|error| wrong(&error))?;
        }
        if roots.len() == before {
            return Err(wrong(&"it holds no certificate (PEM)"));
        }
    }
    if roots.is_empty() {
        return Err(Error::Tls(
            "this system has no root certificates (on Debian: apt-get install ca-certificates)".into(),
        ));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Tls(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// An error with its causes, each said once.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        next = cause.source();
    }
    text
}

/// A connection of which a failed write is told only after all that came in was read: a server that answers before the
/// body was sent and then closes has its answer in our buffer while our writes fail already.
struct Patient<IO> {
    io: IO,
    write_failed: Option<io::Error>,
    waiting: Option<Waker>,
    read_ended: bool,
}

impl<IO> Patient<IO> {
    fn held(&mut self, cx: &Context<'_>) -> Option<Poll<io::Error>> {
        let failed = self.write_failed.as_ref()?;
        if self.read_ended {
            return Some(Poll::Ready(io::Error::new(failed.kind(), failed.to_string())));
        }
        self.waiting = Some(cx.waker().clone());
        Some(Poll::Pending)
    }

    fn after<T>(&mut self, polled: Poll<io::Result<T>>, cx: &Context<'_>) -> Poll<io::Result<T>> {
        match polled {
            Poll::Ready(Err(error)) => {
                self.write_failed = Some(error);
                self.held(cx).unwrap_or(Poll::Pending).map(Err)
            }
            other => other,
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Patient<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buffer);
        let ended = match &polled {
            Poll::Ready(Ok(())) => buffer.filled().len() == before && buffer.remaining() > 0,
            Poll::Ready(Err(_)) => true,
            Poll::Pending => false,
        };
        if ended {
            self.read_ended = true;
            if let Some(waiting) = self.waiting.take() {
                waiting.wake();
            }
        }
        polled
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Patient<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(held) = self.held(cx) {
            return held.map(Err);
        }
        let polled = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.after(polled, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(held) = self.held(cx) {
            return held.map(Err);
        }
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.after(polled, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(held) = self.held(cx) {
            return held.map(Err);
        }
        let polled = Pin::new(&mut self.io).poll_flush(cx);
        self.after(polled, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
