//! A collection on a WebDAV server: a NAS, Nextcloud, a provider's box.
//!
//! Objects are files in collections as in [`crate::dir`]: `p/3f/3fa9` below the root, puts under way in
//! `~tmp`.
//!
//! Promises, as far as HTTP can give them:
//! - a put sends the body to a name in `~tmp` and then moves it: half an object is never visible. Servers
//!   that replace by deleting and moving (Apache's does) have an instant without the object in between;
//! - `IfAbsent` is a move that must not replace. Apache's server looks first and moves then, so two who
//!   race may both win: a guard, and no proof;
//! - an object is never moved onto a collection, which servers would delete with all that is in it;
//! - the root itself is made by no put: when it is gone that is `NoBucket`. Nothing is taken to be absent
//!   before the root has answered in WebDAV's words: a login page says 404 as well.
//!
//! WebDAV has no way to ask for durability: an answered put is as safe as the server makes it.
//! Does not honour `PutMode::IfMatch`. An object `a` and an object `a/b` can't both exist.

mod config;
mod multistatus;

use std::{
    collections::HashSet,
    fmt,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header, uri::Scheme};
use http_body_util::Full;
use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, OnceCell};

pub use self::config::WebDavConfig;
use self::{
    config::Target,
    multistatus::{Found, Resource},
};
use crate::{
    open::OpenError,
    port::{ListPage, ObjectMeta, ObjectName, PutMode, Store, StoreError},
    secret::environment,
    tree::{self, Entry, Folders},
    url::Remote,
    web::{self, Answer, Http},
};

/// The collection of puts under way.
const TEMPORARY: &str = "~tmp/";
/// A leftover is swept when it is older than this by the server's clock.
const LEFTOVER_AGE_SECONDS: i64 = 3600;

/// How often an object is read that changes under the reader.
const READS_OF_WHAT_CHANGES: u32 = 5;
const PAUSE_WHILE_IT_CHANGES: Duration = Duration::from_millis(10);

/// When it is tried to remove what a put has left.
const REMOVAL_PAUSES: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(300), Duration::from_secs(3), Duration::from_secs(30)];

const DEPTH: HeaderName = HeaderName::from_static("depth");
const DESTINATION: HeaderName = HeaderName::from_static("destination");
const OVERWRITE: HeaderName = HeaderName::from_static("overwrite");

/// A store in a collection of a WebDAV server.
pub struct WebDav {
    line: Arc<Line>,
    /// Make the root when it is missing.
    create: bool,
    made: OnceCell<()>,
    swept: AtomicBool,
    /// Collections (relative, with a slash at their ends) that are known to exist.
    known: Mutex<HashSet<String>>,
    /// Makes the names in `~tmp` unique, with the random part.
    next_temporary: AtomicU64,
    random: u64,
}

impl fmt::Debug for WebDav {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe())
    }
}

/// The server, and how it is spoken to.
struct Line {
    http: Http,
    target: Target,
    /// The header that says who asks; read at the first request.
    authorization: AsyncMutex<Option<HeaderValue>>,
    /// The server wants destinations with scheme and host.
    whole_destinations: AtomicBool,
}

/// A request before it is sent.
#[derive(Debug, Clone)]
struct Draft {
    method: Method,
    /// Encoded.
    path: String,
    headers: Vec<(HeaderName, String)>,
    body: Bytes,
}

impl Draft {
    fn with(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

impl Line {
    /// A request for what is called `name` below the root.
    fn draft(&self, method: Method, name: &str) -> Draft {
        Draft { method, path: self.target.path(name), headers: Vec::new(), body: Bytes::new() }
    }

    fn verb(&self, verb: &str, name: &str) -> Draft {
        self.draft(Method::from_bytes(verb.as_bytes()).unwrap_or_default(), name)
    }

    /// Sends a draft and gives every answer back. A refused password is read again, once.
    async fn send(&self, draft: Draft) -> Result<Answer, StoreError> {
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
    async fn find(&self, name: &str, members: bool) -> Result<Found, Refusal> {
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
    async fn transfer(&self, verb: &str, from: &str, to: &str, overwrite: bool) -> Result<Answer, StoreError> {
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
enum Refusal {
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
    fn is(&self, status: StatusCode) -> bool {
        matches!(self, Self::Answer(answer) if answer.status == status)
    }
}

impl WebDav {
    /// Opens the store that a URL names, with the process's environment. Touches no network.
    pub(crate) fn open(remote: Remote, https: bool, config: &WebDavConfig, create: bool) -> Result<Self, OpenError> {
        let target = Target::resolve(remote, https, config, &environment)?;
        let http = Http::new(target.scheme == Scheme::HTTPS, config.ca_file.as_deref())
            .map_err(|why| OpenError::Setting { setting: "webdav.ca_file".into(), why })?;
        let line = Line { http, target, authorization: AsyncMutex::new(None), whole_destinations: false.into() };
        Ok(Self {
            line: Arc::new(line),
            create,
            made: OnceCell::new(),
            swept: AtomicBool::new(false),
            known: Mutex::default(),
            next_temporary: AtomicU64::new(0),
            random: rand::random(),
        })
    }

    /// The server; the first call makes the root, if that was asked for.
    async fn line(&self) -> Result<&Line, StoreError> {
        if self.create {
            self.made.get_or_try_init(|| self.make_root()).await?;
        }
        Ok(&self.line)
    }

    async fn make_root(&self) -> Result<(), StoreError> {
        let line = &*self.line;
        if line.find("", false).await.is_ok() {
            return Ok(());
        }
        let base = &line.target.base;
        for (end, _) in base.match_indices('/').skip(1) {
            let mut draft = line.verb("MKCOL", "");
            draft.path = base[..=end].to_owned();
            // Those above may not be ours to make; what counts is whether the last one is there.
            line.send(draft).await?;
        }
        self.check_root().await
    }

    /// After something was not found: is the root itself gone?
    async fn check_root(&self) -> Result<(), StoreError> {
        match self.line.find("", false).await {
            Ok(Found { itself: Resource { is_collection: true, .. }, .. }) => Ok(()),
            Err(Refusal::Error(error)) => Err(error),
            Err(Refusal::Answer(answer)) if answer.status != StatusCode::NOT_FOUND => Err(refused(&answer, "/")),
            Ok(_) | Err(Refusal::Answer(_)) => {
                self.known.lock().clear();
                Err(StoreError::NoBucket { location: self.line.target.url().to_owned() })
            }
        }
    }

    /// What a refusal to do something with `name` means.
    async fn explain(&self, answer: &Answer, name: &ObjectName) -> StoreError {
        match answer.status {
            StatusCode::NOT_FOUND | StatusCode::CONFLICT | StatusCode::GONE => match self.check_root().await {
                Ok(()) if answer.status == StatusCode::CONFLICT => refused(answer, name.as_str()),
                Ok(()) => not_found(name),
                Err(error) => error,
            },
            _ => refused(answer, name.as_str()),
        }
    }

    async fn because(&self, refusal: Refusal, name: &ObjectName) -> StoreError {
        match refusal {
            Refusal::Answer(answer) => self.explain(&answer, name).await,
            Refusal::Error(error) => error,
        }
    }

    async fn meta(&self, name: &ObjectName) -> Result<ObjectMeta, StoreError> {
        match self.line.find(name.as_str(), false).await {
            Ok(found) if found.itself.is_collection => Err(not_found(name)),
            Ok(found) => meta(name.clone(), found.itself),
            // What stands below a file is a bad request to Apache's server.
            Err(refusal) if refusal.is(StatusCode::BAD_REQUEST) && self.is_below_object(name.as_str()).await => {
                Err(not_found(name))
            }
            Err(refusal) => Err(self.because(refusal, name).await),
        }
    }

    /// Reads a whole object, as one writer left it. Apache's server takes the length from before it opens the file, so of
    /// an object that is replaced meanwhile it can send the beginning, with every sign of success: what was read is
    /// believed when the object still has its length and tag afterwards.
    async fn read_whole(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        let line = self.line().await?;
        // Apache calls a tag weak for as long as the file is younger than a second.
        let tag = |answer: &Answer| {
            let tag = answer.headers.get(header::ETAG)?.to_str().ok()?;
            Some(tag.strip_prefix("W/").unwrap_or(tag).to_owned())
        };
        let mut last = Err(not_found(name));
        for attempt in 0..READS_OF_WHAT_CHANGES {
            if attempt > 0 {
                tokio::time::sleep(PAUSE_WHILE_IT_CHANGES * attempt).await;
            }
            let answer = line.send(line.draft(Method::GET, name.as_str())).await?;
            let (status, read_tag) = (answer.status, tag(&answer));
            last = self.answered(answer, name, None).await;
            let Ok(body) = &last else {
                // What is gone between being found and being opened is forbidden, to Apache's server.
                if status == StatusCode::FORBIDDEN {
                    continue;
                }
                return last;
            };
            let after = line.send(line.draft(Method::HEAD, name.as_str())).await?;
            if matches!(after.status, StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED) {
                return last;
            }
            let length = after.headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
            let same_length = length.is_none_or(|length| length == body.len());
            if after.status == StatusCode::OK && tag(&after) == read_tag && same_length {
                return last;
            }
            last = Err(StoreError::Garbled { detail: format!("{name} was replaced each time it was read") });
        }
        last
    }

    /// Reads a part of an object, as [`Store::get_range`] has it.
    async fn read_part(&self, name: &ObjectName, range: &Range<u64>) -> Result<Bytes, StoreError> {
        let line = self.line().await?;
        let draft = line.draft(Method::GET, name.as_str()).with(header::RANGE, web::range_header(range));
        let answer = line.send(draft).await?;
        self.answered(answer, name, Some(range)).await
    }

    /// What an answer to a GET gives of the object.
    async fn answered(
        &self,
        answer: Answer,
        name: &ObjectName,
        range: Option<&Range<u64>>,
    ) -> Result<Bytes, StoreError> {
        let line = self.line().await?;
        let status = answer.status;
        if status.is_success() || status == StatusCode::RANGE_NOT_SATISFIABLE {
            return match range {
                Some(range) => answer.part(range),
                None => answer.whole(),
            };
        }
        // Servers have many ways to say that they don't send a collection.
        let strange = status.is_redirection()
            || matches!(status, StatusCode::FORBIDDEN | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED);
        if strange && line.find(name.as_str(), false).await.is_ok_and(|found| found.itself.is_collection) {
            return Err(not_found(name));
        }
        Err(self.explain(&answer, name).await)
    }

    /// Makes a collection (relative, a slash at its end) and those above it, never the root.
    async fn make_collection(&self, collection: &str, name: &ObjectName) -> Result<(), StoreError> {
        if collection.is_empty() || self.known.lock().contains(collection) {
            return Ok(());
        }
        let above = collection[..collection.len() - 1].rfind('/').map_or("", |slash| &collection[..=slash]);
        Box::pin(self.make_collection(above, name)).await?;
        let answer = self.line.send(self.line.verb("MKCOL", collection)).await?;
        if !answer.did("MKCOL") {
            // It was there (405), or its maker was faster, or it is none.
            match self.line.find(collection, false).await {
                Ok(found) if found.itself.is_collection => {}
                Ok(_) => return Err(beside(name)),
                Err(_) if self.is_object(collection.trim_end_matches('/')).await => return Err(beside(name)),
                Err(_) => return Err(self.explain(&answer, name).await),
            }
        }
        self.known.lock().insert(collection.to_owned());
        Ok(())
    }

    async fn is_below_object(&self, name: &str) -> bool {
        for (end, _) in name.rmatch_indices('/') {
            if let Ok(found) = self.line.find(&name[..end], false).await {
                return !found.itself.is_collection;
            }
        }
        false
    }

    async fn is_object(&self, name: &str) -> bool {
        self.line.find(name, false).await.is_ok_and(|found| !found.itself.is_collection)
    }

    fn temporary(&self) -> Temporary {
        let number = self.next_temporary.fetch_add(1, Relaxed);
        let name = format!("{TEMPORARY}{:016x}-{number:x}", self.random);
        Temporary { line: self.line.clone(), name, there: true }
    }

    /// Sends a body to a temporary name.
    async fn upload(&self, name: &ObjectName, body: &Bytes) -> Result<Temporary, StoreError> {
        let line = self.line().await?;
        let temporary = self.temporary();
        self.make_collection(TEMPORARY, name).await?;
        let mut draft = line.draft(Method::PUT, &temporary.name);
        draft.body = body.clone();
        let mut answer = line.send(draft.clone()).await?;
        if matches!(answer.status, StatusCode::NOT_FOUND | StatusCode::CONFLICT) {
            // Somebody removed the collection: we knew it from before.
            self.known.lock().clear();
            self.make_collection(TEMPORARY, name).await?;
            answer = line.send(draft).await?;
        }
        if !answer.did("PUT") {
            return Err(self.explain(&answer, name).await);
        }
        if !self.swept.swap(true, Relaxed) {
            self.sweep(web::date(&answer.headers)).await;
        }
        Ok(temporary)
    }

    /// Removes what is left in `~tmp` by puts that died. Best effort: what fails is tried by the next who
    /// opens the store. `now` is the server's time.
    async fn sweep(&self, now: Option<i64>) {
        let (Some(now), Ok(found)) = (now, self.line.find(TEMPORARY, true).await) else { return };
        for resource in found.members {
            let old = resource.modified.is_some_and(|at| now - at > LEFTOVER_AGE_SECONDS);
            if old && !resource.is_collection {
                let leftover = format!("{TEMPORARY}{}", resource.name());
                if self.line.send(self.line.draft(Method::DELETE, &leftover)).await.is_ok() {
                    tracing::debug!(leftover, "removed the leftover of a put");
                }
            }
        }
    }

    /// Gives what is at a temporary name its own.
    async fn publish(&self, mut temporary: Temporary, name: &ObjectName, replace: bool) -> Result<(), StoreError> {
        let collection = name.as_str().rfind('/').map_or("", |slash| &name.as_str()[..=slash]);
        self.make_collection(collection, name).await?;
        let mut answer = self.rename(&temporary.name, name, replace).await?;
        let missing = [StatusCode::NOT_FOUND, StatusCode::CONFLICT, StatusCode::INTERNAL_SERVER_ERROR];
        if missing.contains(&answer.status) {
            // Somebody removed the collection (500 from Apache's server): we knew it from before.
            self.known.lock().clear();
            self.make_collection(collection, name).await?;
            answer = self.rename(&temporary.name, name, replace).await?;
        }
        match answer.status {
            _ if answer.did("MOVE") => {
                temporary.there = false;
                Ok(())
            }
            StatusCode::PRECONDITION_FAILED => Err(StoreError::Exists { name: name.to_string() }),
            StatusCode::NOT_FOUND | StatusCode::CONFLICT => {
                self.check_root().await?;
                let detail = format!("{} was removed by somebody else", temporary.name);
                Err(StoreError::Unavailable { detail, after: None })
            }
            _ => Err(refused(&answer, name.as_str())),
        }
    }

    async fn rename(&self, from: &str, name: &ObjectName, replace: bool) -> Result<Answer, StoreError> {
        let answer = self.line.transfer("MOVE", from, name.as_str(), false).await?;
        if answer.status != StatusCode::PRECONDITION_FAILED {
            return Ok(answer);
        }
        // To replace a collection would be to delete what is in it.
        match self.line.find(name.as_str(), false).await {
            Ok(found) if found.itself.is_collection => {
                Err(StoreError::Unsupported { detail: format!("{name}: there are objects below it") })
            }
            _ if !replace => Ok(answer),
            Err(refusal) if !refusal.is(StatusCode::NOT_FOUND) => Err(self.because(refusal, name).await),
            _ => self.line.transfer("MOVE", from, name.as_str(), true).await,
        }
    }
}

/// What a verb answers when it was done: a page of something in between says 200, too, and 207 tells of
/// a failure.
trait Did {
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

fn meta(name: ObjectName, found: Resource) -> Result<ObjectMeta, StoreError> {
    let bytes = found.bytes.ok_or_else(|| StoreError::Garbled { detail: format!("no length was told of {name}") })?;
    Ok(ObjectMeta { name, bytes, etag: found.etag, modified: found.modified })
}

fn not_found(name: &ObjectName) -> StoreError {
    StoreError::NotFound { name: name.to_string() }
}

fn beside(name: &ObjectName) -> StoreError {
    StoreError::Unsupported { detail: format!("{name}: what it stands below is an object") }
}

/// What a status means where nothing more is known.
fn refused(answer: &Answer, what: &str) -> StoreError {
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

/// A file of `~tmp`, removed when this goes unless it was moved.
struct Temporary {
    line: Arc<Line>,
    name: String,
    /// Whether there is, or may be, such a file.
    there: bool,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if self.there {
            runtime.spawn(remove_later(self.line.clone(), self.line.draft(Method::DELETE, &self.name)));
        }
    }
}

/// Removes what a put has left. A put that was dropped may still be coming to its end on the server. What
/// is left all the same is swept one day.
async fn remove_later(line: Arc<Line>, draft: Draft) {
    for pause in REMOVAL_PAUSES {
        tokio::time::sleep(pause).await;
        if line.send(draft.clone()).await.is_ok_and(|answer| answer.did("DELETE")) {
            return;
        }
    }
}

#[async_trait]
impl Folders for WebDav {
    async fn read(&self, folder: &str) -> Result<Vec<Entry>, StoreError> {
        let found = match self.line.find(folder, true).await {
            Ok(found) if found.itself.is_collection => found,
            // A file asked for as a collection.
            Ok(_) => return Ok(Vec::new()),
            Err(Refusal::Error(error)) => return Err(error),
            Err(Refusal::Answer(answer)) => {
                if answer.status == StatusCode::NOT_FOUND || self.is_object(folder.trim_end_matches('/')).await {
                    self.check_root().await?;
                    return Ok(Vec::new());
                }
                return Err(refused(&answer, folder));
            }
        };
        let entry = |resource: Resource| {
            let name = tree::named(folder, resource.name())?;
            Some(if resource.is_collection {
                Ok(Entry::Folder(format!("{name}/")))
            } else {
                meta(name, resource).map(Entry::Object)
            })
        };
        found.members.into_iter().filter_map(entry).collect()
    }
}

#[async_trait]
impl Store for WebDav {
    fn describe(&self) -> String {
        self.line.target.url().to_owned()
    }

    async fn put(&self, name: &ObjectName, body: Bytes, mode: PutMode) -> Result<(), StoreError> {
        let replace = match mode {
            PutMode::Always => true,
            PutMode::IfAbsent => false,
            PutMode::IfMatch(_) => {
                return Err(StoreError::Unsupported { detail: "WebDAV moves have no condition on an ETag".into() });
            }
        };
        let temporary = self.upload(name, &body).await?;
        self.publish(temporary, name, replace).await
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        self.read_whole(name).await
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, StoreError> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        self.read_part(name, &range).await
    }

    async fn head(&self, name: &ObjectName) -> Result<ObjectMeta, StoreError> {
        self.line().await?;
        self.meta(name).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<ListPage, StoreError> {
        self.line().await?;
        tree::list(self, prefix, after, limit).await
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        let line = self.line().await?;
        // A collection would go with all that is in it.
        match self.meta(name).await {
            Ok(_) => {}
            Err(StoreError::NotFound { .. }) => return Ok(()),
            Err(error) => return Err(error),
        }
        let answer = line.send(line.draft(Method::DELETE, name.as_str())).await?;
        if answer.did("DELETE") || answer.status == StatusCode::NOT_FOUND {
            return Ok(());
        }
        Err(self.explain(&answer, name).await)
    }

    async fn copy(&self, from: &ObjectName, to: &ObjectName) -> Result<(), StoreError> {
        let line = self.line().await?;
        // A collection would be copied with all that is in it.
        self.meta(from).await?;
        self.make_collection(TEMPORARY, to).await?;
        let temporary = self.temporary();
        let answer = line.transfer("COPY", from.as_str(), &temporary.name, false).await?;
        match answer.status {
            _ if answer.did("COPY") => self.publish(temporary, to, true).await,
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {
                let body = self.read_whole(from).await?;
                let temporary = self.upload(to, &body).await?;
                self.publish(temporary, to, true).await
            }
            _ => Err(self.explain(&answer, from).await),
        }
    }
}
