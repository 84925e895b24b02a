//! The one way by which channels speak HTTP: bounded in time and in bytes, without redirects.

use std::{path::Path, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};

use crate::channel::SendError;

/// No answer that we read is longer.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// A connection.
    pub connect: Duration,
    /// All of one request, the connection and the answer included.
    pub total: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connect: Duration::from_secs(10), total: Duration::from_secs(30) }
    }
}

/// A client for all channels.
#[derive(Debug, Clone)]
pub struct Http {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    limits: Limits,
}

/// An answer, whatever its status.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Http {
    /// Trusts the system's roots and those in `ca_file` (PEM). The error says what is wrong with either.
    pub fn new(ca_file: Option<&Path>, limits: Limits) -> Result<Self, String> {
        // A machine without root certificates can still speak with what is on it, or at home.
        let tls = haven_store::tls(true, ca_file).or_else(|why| match ca_file {
            Some(_) => Err(why),
            None => haven_store::tls(false, None),
        })?;
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(limits.connect));
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(tcp);
        // Messages are hours apart: a connection kept that long is a connection lost.
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        Ok(Self { client, limits })
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        url: &str,
        headers: &[(&'static str, String)],
        body: impl Into<Bytes>,
    ) -> Result<Answer, SendError> {
        let mut request = Request::builder().method(method).uri(url).header(header::USER_AGENT, "haven");
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        // Neither the URL nor a header is told: they hold tokens.
        let request = request
            .body(Full::new(body.into()))
            .map_err(|_| SendError::never("the URL or a header is malformed: look for blanks in the settings"))?;
        let whole = async {
            let response = self.client.request(request).await.map_err(|error| SendError::later(causes(&error)))?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| SendError::later(format!("the answer broke off: {error}")))?.to_bytes();
            Ok(Answer { status: parts.status, headers: parts.headers, body })
        };
        match tokio::time::timeout(self.limits.total, whole).await {
            Ok(answer) => answer,
            Err(_) => Err(SendError::later(format!("no answer within {} s", self.limits.total.as_secs_f32()))),
        }
    }

    /// How long one delivery may take all together.
    pub(crate) fn total(&self) -> Duration {
        self.limits.total
    }

    pub(crate) async fn post_json(
        &self,
        url: &str,
        headers: &[(&'static str, String)],
        value: &serde_json::Value,
    ) -> Result<Answer, SendError> {
        let mut all = vec![("content-type", "application/json".to_owned())];
        all.extend_from_slice(headers);
        self.send(Method::POST, url, &all, value.to_string()).await
    }
}

impl Answer {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or(serde_json::Value::Null)
    }

    /// How long the server asks to be left alone, by its header.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        let seconds: f64 = self.headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
        Duration::try_from_secs_f64(seconds).ok()
    }

    /// What most services mean by a status that is no success.
    pub(crate) fn refused(&self) -> SendError {
        let why = format!("status {}: {}", self.status.as_u16(), self.excerpt());
        match self.status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => {
                SendError::Later { why, after: self.retry_after() }
            }
            status if status.is_server_error() => SendError::Later { why, after: self.retry_after() },
            _ => SendError::never(why),
        }
    }

    /// The first words of the answer, fit to be shown.
    fn excerpt(&self) -> String {
        let first = String::from_utf8_lossy(&self.body[..self.body.len().min(300)]);
        first.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim().to_owned()
    }
}

/// An error with its causes, each said once.
fn causes(error: &dyn std::error::Error) -> String {
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

/// Parts of a `multipart/form-data` body.
pub(crate) struct Form {
    boundary: String,
    body: Vec<u8>,
}

impl Form {
    /// `id` must not occur in what is put in; a message's own id and its length do not.
    pub(crate) fn new(id: &str) -> Self {
        Self { boundary: format!("haven-{id}-part"), body: Vec::new() }
    }

    pub(crate) fn field(mut self, name: &str, value: &str) -> Self {
        let head = format!("--{}\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n", self.boundary);
        self.body.extend_from_slice(head.as_bytes());
        self.body.extend_from_slice(value.as_bytes());
        self.body.extend_from_slice(b"\r\n");
        self
    }

    pub(crate) fn file(mut self, name: &str, file: &str, content: &str) -> Self {
        let head = format!(
            "--{}\r\ncontent-disposition: form-data; name=\"{name}\"; filename=\"{file}\"\r\ncontent-type: text/plain; charset=utf-8\r\n\r\n",
            self.boundary
        );
        self.body.extend_from_slice(head.as_bytes());
        self.body.extend_from_slice(content.as_bytes());
        self.body.extend_from_slice(b"\r\n");
        self
    }

    /// The content type and the body.
    pub(crate) fn finish(mut self) -> (String, Vec<u8>) {
        self.body.extend_from_slice(format!("--{}--\r\n", self.boundary).as_bytes());
        (format!("multipart/form-data; boundary={}", self.boundary), self.body)
    }
}
