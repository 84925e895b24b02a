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
mod line;
mod multistatus;
mod write;

use std::{
    collections::HashSet,
    fmt,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, StatusCode, header, uri::Scheme};
use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, OnceCell};

pub use self::config::WebDavConfig;
use self::{
    config::Target,
    line::{Did, Line, Refusal, refused},
    multistatus::{Found, Resource},
    write::TEMPORARY,
};
use crate::{
    open::OpenError,
    port::{ListPage, ObjectMeta, ObjectName, PutMode, Store, StoreError},
    secret::environment,
    tree::{self, Entry, Folders},
    url::Remote,
    web::{self, Answer, Http},
};

/// How often an object is read that changes under the reader.
const READS_OF_WHAT_CHANGES: u32 = 5;
const PAUSE_WHILE_IT_CHANGES: Duration = Duration::from_millis(10);

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
