//! One request and its answer, with no limit to the whole, and one to each standing still.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use parking_lot::Mutex;
use zeroize::Zeroizing;

use crate::{
    Error, Timeouts,
    answer::Answer,
    call::Call,
    connect::{Body, Connector, Lane, causes},
};

/// No answer is longer: a page of a thousand assets is a few megabytes.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Sends requests to one server.
pub(crate) struct Wire {
    pub connector: Connector,
    pub key: Zeroizing<String>,
    pub timeouts: Timeouts,
}

/// How far a body is: written by the body, read by who waits for the answer.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    inner: Arc<Moving>,
}

#[derive(Debug)]
struct Moving {
    last: Mutex<Instant>,
    /// The next bytes are asked of the caller and not of the network: then it may take as long as it takes.
    at_source: AtomicBool,
    done: AtomicBool,
    failed: Mutex<Option<std::io::Error>>,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let moving = Moving {
            last: Mutex::new(Instant::now()),
            at_source: AtomicBool::new(false),
            done: AtomicBool::new(false),
            failed: Mutex::default(),
        };
        Self { inner: Arc::new(moving) }
    }

    /// All of the body was handed over.
    pub(crate) fn finish(&self) {
        self.inner.done.store(true, Ordering::Release);
        self.moved();
    }

    pub(crate) fn moved(&self) {
        *self.inner.last.lock() = Instant::now();
    }

    pub(crate) fn at_source(&self, waiting: bool) {
        self.inner.at_source.store(waiting, Ordering::Release);
        self.moved();
    }

    /// The caller's bytes can't be read; what the connection says then is only the consequence.
    pub(crate) fn fail(&self, error: std::io::Error) {
        *self.inner.failed.lock() = Some(error);
    }

    pub(crate) fn is_done(&self) -> bool {
        self.inner.done.load(Ordering::Acquire)
    }

    fn failure(&self) -> Option<std::io::Error> {
        self.inner.failed.lock().take()
    }

    /// Returns when nothing has moved for too long, with the words for it.
    async fn stalled(&self, limits: Timeouts) -> String {
        loop {
            let done = self.is_done();
            let limit = if done { limits.answer } else { limits.stall };
            let still = self.inner.last.lock().elapsed();
            if !done && self.inner.at_source.load(Ordering::Acquire) {
                tokio::time::sleep(Duration::from_millis(200)).await;
            } else if still < limit {
                tokio::time::sleep((limit - still).max(Duration::from_millis(5))).await;
            } else if done {
                return format!("no answer within {} s", limit.as_secs());
            } else {
                return format!("the server took no byte for {} s", limit.as_secs());
            }
        }
    }
}

impl Wire {
    /// A request with a JSON body, or none.
    pub(crate) async fn json(
        &self,
        call: Call,
        method: Method,
        path: &str,
        body: Option<Bytes>,
    ) -> Result<Answer, Error> {
        self.with_header(call, method, path, body, None).await
    }

    /// The same, with a cookie where there is one.
    pub(crate) async fn with_header(
        &self,
        call: Call,
        method: Method,
        path: &str,
        body: Option<Bytes>,
        cookie: Option<&str>,
    ) -> Result<Answer, Error> {
        let mut request = Request::builder().method(method).uri(self.path(path));
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if let Some(cookie) = cookie {
            request = request.header(header::COOKIE, secret_header(cookie)?);
        }
        let body = Full::new(body.unwrap_or_default()).map_err(|never| match never {}).boxed_unsync();
        let progress = Progress::new();
        progress.finish();
        self.exchange(call, request, body, &progress).await
    }

    pub(crate) fn path(&self, path: &str) -> String {
        format!("{}{path}", self.connector.address().prefix)
    }

    /// Sends, and reads the answer while sending. A connection over which not everything was sent is ended.
    pub(crate) async fn exchange(
        &self,
        call: Call,
        request: http::request::Builder,
        body: Body,
        progress: &Progress,
    ) -> Result<Answer, Error> {
        let (lane, head) = self.head(call, request, body, progress).await?;
        let answer = self.whole(call, head).await?;
        if progress.is_done() {
            self.connector.keep(lane);
        }
        Ok(answer)
    }

    /// Reads an answer of any length piece by piece; where it says no, it is given back whole.
    pub(crate) async fn read(
        &self,
        call: Call,
        path: &str,
        mut take: impl FnMut(&[u8]),
    ) -> Result<Result<(), Answer>, Error> {
        let request = Request::builder().method(Method::GET).uri(self.path(path));
        let body = Full::new(Bytes::new()).map_err(|never| match never {}).boxed_unsync();
        let progress = Progress::new();
        progress.finish();
        let (lane, head) = self.head(call, request, body, &progress).await?;
        if !head.status().is_success() {
            return Ok(Err(self.whole(call, head).await?));
        }
        let mut body = head.into_body();
        while let Some(frame) = self.frame(call, &mut body).await? {
            take(&frame);
        }
        self.connector.keep(lane);
        Ok(Ok(()))
    }

    /// Sends, and gives the head of the answer and the connection it comes by.
    async fn head(
        &self,
        call: Call,
        request: http::request::Builder,
        body: Body,
        progress: &Progress,
    ) -> Result<(Lane, Response<Incoming>), Error> {
        let mut lane = self.connector.lane().await?;
        progress.moved();
        let request = request
            .header(header::HOST, self.connector.address().authority.as_str())
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, concat!("haven/", env!("CARGO_PKG_VERSION")))
            .header("x-api-key", secret_header(&self.key)?)
            .body(body)
            .map_err(|error| Error::Garbled { call: call.does, detail: error.to_string() })?;
        let passing = |detail: String| Error::Passing { call: call.does, status: None, detail, after: None };
        let head = tokio::select! {
            head = lane.sender.send_request(request) => head,
            words = progress.stalled(self.timeouts) => return Err(passing(words)),
        };
        if let Some(error) = progress.failure() {
            return Err(Error::Source(error));
        }
        let head = head.map_err(|error| passing(format!("the connection broke: {}", causes(&error))))?;
        Ok((lane, head))
    }

    /// The next bytes of an answer; none at its end.
    async fn frame(&self, call: Call, body: &mut Incoming) -> Result<Option<Bytes>, Error> {
        let passing = |detail: String| Error::Passing { call: call.does, status: None, detail, after: None };
        let frame = tokio::time::timeout(self.timeouts.stall, body.frame()).await;
        let frame =
            frame.map_err(|_| passing(format!("the answer stopped for {} s", self.timeouts.stall.as_secs())))?;
        let frame = frame.transpose().map_err(|error| passing(format!("the answer broke off: {}", causes(&error))))?;
        Ok(frame.map(|frame| frame.into_data().unwrap_or_default()))
    }

    async fn whole(&self, call: Call, head: Response<Incoming>) -> Result<Answer, Error> {
        let (parts, mut body) = head.into_parts();
        let mut whole = BytesMut::new();
        while let Some(frame) = self.frame(call, &mut body).await? {
            whole.extend_from_slice(&frame);
            if whole.len() > ANSWER_BYTES_MAX {
                return Err(Error::Garbled { call: call.does, detail: "an answer without end".into() });
            }
        }
        Ok(Answer { status: parts.status, headers: parts.headers, body: whole.freeze() })
    }
}

/// A value that stands in no log.
fn secret_header(text: &str) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::from_str(text.trim()).map_err(|_| Error::Key {
        call: "use the API key",
        permission: None,
        detail: "it holds characters that no key has".into(),
    })?;
    value.set_sensitive(true);
    Ok(value)
}
