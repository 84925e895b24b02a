//! How an object comes to its name: sent to a temporary one, and moved.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, StatusCode};

use super::{
    WebDav,
    line::{Did, Draft, Line, refused},
};
use crate::{
    port::{ObjectName, StoreError},
    web::{self, Answer},
};

/// The collection of puts under way.
pub(super) const TEMPORARY: &str = "~tmp/";
/// A leftover is swept when it is older than this by the server's clock.
const LEFTOVER_AGE_SECONDS: i64 = 3600;

/// When it is tried to remove what a put has left.
const REMOVAL_PAUSES: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(300), Duration::from_secs(3), Duration::from_secs(30)];

impl WebDav {
    pub(super) fn temporary(&self) -> Temporary {
        let number = self.next_temporary.fetch_add(1, Relaxed);
        let name = format!("{TEMPORARY}{:016x}-{number:x}", self.random);
        Temporary { line: self.line.clone(), name, there: true }
    }

    /// Sends a body to a temporary name.
    pub(super) async fn upload(&self, name: &ObjectName, body: &Bytes) -> Result<Temporary, StoreError> {
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
    pub(super) async fn publish(
        &self,
        mut temporary: Temporary,
        name: &ObjectName,
        replace: bool,
    ) -> Result<(), StoreError> {
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

/// A file of `~tmp`, removed when this goes unless it was moved.
pub(super) struct Temporary {
    line: Arc<Line>,
    pub(super) name: String,
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
