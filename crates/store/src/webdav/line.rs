//! One request to a WebDAV server and what its answer means.

use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::Full;
use tokio::sync::Mutex as AsyncMutex;

use super::{
    config::Target,
    multistatus::{self, Found},
};
use crate::{
    port::StoreError,
    web::{self, Answer, Http},
};

const DEPTH: HeaderName = HeaderName::from_static("depth");
const DESTINATION: HeaderName = HeaderName::from_static("destination");
const OVERWRITE: HeaderName = HeaderName::from_static("overwrite");

/// The server, and how it is spoken to.
pub(super) struct Line {
    pub(super) http: Http,
    pub(super) target: Target,
    /// The header that says who asks; read at the first request.
    pub(super) authorization: AsyncMutex<Option<HeaderValue>>,
    /// The server wants destinations with scheme and host.
    pub(super) whole_destinations: AtomicBool,
}

/// A request before it is sent.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) method: Method,
    /// Encoded.
    pub(super) path: String,
    pub(super) headers: Vec<(HeaderName, String)>,
    pub(super) body: Bytes,
}

impl Draft {
    pub(super) fn with(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

impl Line {
    /// A request for what is called `name` below the root.
    pub(super) fn draft(&self, method: Method, name: &str) -> Draft {
        Draft { method, path: self.target.path(name), headers: Vec::new(), body: Bytes::new() }
    }

    pub(super) fn verb(&self, verb: &str, name: &str) -> Draft {
        self.draft(Method::from_bytes(verb.as_bytes()).unwrap_or_default(), name)
    }

    /// Sends a draft and gives every answer back. A refused password is read again, once.
    pub(super) async fn send(&self, draft: Draft) -> Result<Answer, StoreError> {
        let mut tried_again = false;
        loop {
            let used = self.authorization().await?;
            let answer = self.http.send(self.request(&draft, used.as_ref())?).await?;
            if answer.status != StatusCode::UNAUTHORIZED || tried_again || !self.changed_since(used.as_ref()).await {
                return Ok(answer);
            }
            tried_again = true;
        }
    }

    fn request(&self, draft: &Draft, authorization: Option<&HeaderValue>) -> Result<Request<Full<Bytes>>, StoreError> {
        let nonsense = |error: &dyn fmt::Display| StoreError::Unsupported { detail: error.to_string() };
        let uri = Uri::builder()
            .scheme(self.target.scheme.clone())
            .authority(self.target.authority.clone())
            .path_and_query(draft.path.as_str())
            .build()
            .map_err(|error| nonsense(&error))?;
        let mut request = Request::new(Full::new(draft.body.clone()));
        *request.method_mut() = draft.method.clone();
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("haven/", env!("CARGO_PKG_VERSION"))));
        if draft.method == Method::PUT {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(draft.body.len()));
        }
        if let Some(authorization) = authorization {
            headers.insert(header::AUTHORIZATION, authorization.clone());
        }
        for (name, value) in &draft.headers {
            headers.insert(name, HeaderValue::from_str(value).map_err(|error| nonsense(&error))?);
        }
        Ok(request)
    }

    async fn authorization(&self) -> Result<Option<HeaderValue>, StoreError> {
        let Some(identity) = &self.target.identity else { return Ok(None) };
        let mut held = self.authorization.lock().await;
        if held.is_none() {
            *held = Some(identity.header().await.map_err(|detail| StoreError::Unauthorized { detail })?);
        }
        Ok(held.clone())
    }

    /// After `used` was refused: reads the source again, and tells whether it now says otherwise.
    async fn changed_since(&self, used: Option<&HeaderValue>) -> bool {
        let Some(identity) = &self.target.identity else { return false };
        let mut held = self.authorization.lock().await;
        if held.as_ref() != used {
            return true;
        }
        match identity.header().await {
            Ok(read) if Some(&read) != used => {
                *held = Some(read);
                true
            }
            _ => false,
        }
    }

    /// What stands at `name` and, if `members`, in it.
    pub(super) async fn find(&self, name: &str, members: bool) -> Result<Found, Refusal> {
        let mut draft = self.verb("PROPFIND", name).with(DEPTH, if members { "1" } else { "0" });
        draft = draft.with(header::CONTENT_TYPE, "application/xml; charset=utf-8");
        draft.body = Bytes::from_static(multistatus::PROPFIND.as_bytes());
        let answer = self.send(draft).await?;
        if answer.status != StatusCode::MULTI_STATUS {
            return Err(Refusal::Answer(answer));
        }
        let found = multistatus::parse(&answer.body);
        found.ok_or_else(|| {
            let detail = format!("the answer to a PROPFIND makes no sense: {:?}", web::excerpt(&answer.body));
            Refusal::Error(StoreError::Garbled { detail })
        })
    }

    /// Moves or copies within the server. `Ok` is 201 or 204; 412 says that there is something already.
    pub(super) async fn transfer(
        &self,
        verb: &str,
        from: &str,
        to: &str,
        overwrite: bool,
    ) -> Result<Answer, StoreError> {
        let whole = self.whole_destinations.load(Relaxed);
        let send = |whole: bool| {
            let path = self.target.path(to);
            // A path alone is not mistaken for another server's behind a proxy.
            let destination = match whole {
                true => format!("{}://{}{path}", self.target.scheme, self.target.authority),
                false => path,
            };
            let draft = self.verb(verb, from).with(DESTINATION, destination);
            self.send(draft.with(OVERWRITE, if overwrite { "T" } else { "F" }))
        };
        let answer = send(whole).await?;
        if answer.status == StatusCode::BAD_REQUEST && !whole {
            let again = send(true).await?;
            if again.status != StatusCode::BAD_REQUEST {
                self.whole_destinations.store(true, Relaxed);
            }
            return Ok(again);
        }
        Ok(answer)
    }
}

/// Why something was not found or done.
pub(super) enum Refusal {
    /// The server said so.
    Answer(Answer),
    /// It could not be asked.
    Error(StoreError),
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Error(error)
    }
}

impl Refusal {
    pub(super) fn is(&self, status: StatusCode) -> bool {
        matches!(self, Self::Answer(answer) if answer.status == status)
    }
}

/// What a verb answers when it was done: a page of something in between says 200, too, and 207 tells of
/// a failure.
pub(super) trait Did {
    fn did(&self, verb: &str) -> bool;
}

impl Did for Answer {
    fn did(&self, verb: &str) -> bool {
        match (verb, self.status.as_u16()) {
            (_, 201) => true,
            (verb, 204) => verb != "MKCOL",
            (verb, 200) => matches!(verb, "PUT" | "DELETE"),
            _ => false,
        }
    }
}

/// What a status means where nothing more is known.
pub(super) fn refused(answer: &Answer, what: &str) -> StoreError {
    let status = answer.status;
    let detail = match web::excerpt(&answer.body) {
        text if text.is_empty() || text.starts_with('<') => format!("{what}: status {status}"),
        text => format!("{what}: status {status}: {text}"),
    };
    let after = web::retry_after(&answer.headers);
    match status.as_u16() {
        401 => StoreError::Unauthorized { detail },
        403 => StoreError::Denied { detail },
        507 => StoreError::Full { detail },
        413 => StoreError::Unsupported { detail: format!("{detail}; the server takes no bodies of that length") },
        301 | 302 | 307 | 308 => {
            let place = answer.headers.get(header::LOCATION).and_then(|v| v.to_str().ok()).unwrap_or("another place");
            StoreError::Unsupported { detail: format!("{detail}; it points to {place}") }
        }
        408 | 409 | 423 | 425 | 429 | 500 | 502 | 503 | 504 => StoreError::Unavailable { detail, after },
        200..=299 => StoreError::Garbled { detail },
        404 | 410 => StoreError::Garbled { detail },
        _ => StoreError::Unsupported { detail },
    }
}
