//! What the locks of stores are worth: a setting says nothing of that. Now and then it is tried with two objects of a few
//! bytes, and what came of it is believed for a while.

use std::time::Duration;

use haven_keeper::{findings::is_ahead, ledger::Ledger, state::Hold};
use haven_store::{
    StoreOptions,
    probe::{Finding, probe_locks},
    s3::Retention,
};
use serde::{Deserialize, Serialize};

use super::facts::{self, ReplicaFacts, Unread};
use crate::config::Config;

/// How old what is known may be before it is tried again, and before it is known no more, seconds.
const AGAIN: i64 = 7 * 86_400;
const BELIEVED: i64 = 35 * 86_400;
/// A lock of some seconds must be over before what was locked can be taken away.
const PATIENCE: Duration = Duration::from_secs(300);

/// What came of a try.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Tried {
    /// Seconds since the epoch.
    at: i64,
    /// What was tried: by other settings it is another lock.
    what: String,
    /// Why it does not hold, or does not stay; empty: it does.
    why: String,
}

fn key(url: &str) -> String {
    format!("lock {url}")
}

/// What a try depends on.
fn what(options: &StoreOptions) -> String {
    format!("{:?} at {}", options.s3.lock_mode, options.s3.endpoint.as_deref().unwrap_or_default())
}

/// How long what is written to a store is to be locked, seconds; none: nothing is asked for.
fn asked(url: &str, options: &StoreOptions) -> Option<i64> {
    let Retention(time) = options.s3.lock.filter(|_| url.starts_with("s3://"))?;
    Some(i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
}

fn last(ledger: &Ledger, url: &str, options: &StoreOptions, now: i64) -> Result<Option<Tried>, Unread> {
    let tried: Option<Tried> = facts::read(ledger, &key(url))?;
    Ok(tried.filter(|tried| tried.what == what(options) && !is_ahead(tried.at, now)))
}

/// What is known of the lock of a store.
pub fn known(ledger: &Ledger, url: &str, options: &StoreOptions, now: i64) -> Result<Hold, Unread> {
    let Some(seconds) = asked(url, options) else { return Ok(Hold::Open) };
    Ok(match last(ledger, url, options, now)?.filter(|tried| now - tried.at <= BELIEVED) {
        None => Hold::Unknown,
        Some(tried) if tried.why.is_empty() => Hold::Locked { seconds, tried: tried.at },
        Some(tried) => Hold::Broken { why: tried.why },
    })
}

/// Tries the locks that are asked for and were not tried for a week: the library's, which is mounted, and those of
/// replicas that were made. Who only reads the library is not to write to it.
pub async fn look(config: &Config, ledger: &Ledger, now: i64) {
    let library = config.library.url.as_deref().filter(|_| !config.mount.read_only).map(crate::cli::absolute);
    let library = library.map(|url| (config.store_of(&url), url));
    // Into the place of one that is still to be made nothing is put.
    let made = |name: &str| {
        facts::read::<ReplicaFacts>(ledger, &facts::replica_key(name)).is_ok_and(|known| known.up_to_date.is_some())
    };
    let replicas = config.replicas.iter().filter(|(name, _)| made(name));
    let replicas = replicas.map(|(_, one)| (one.own.store.clone(), one.own.url.clone()));
    for (options, url) in library.into_iter().chain(replicas) {
        let fresh = last(ledger, &url, &options, now).ok().flatten().is_some_and(|tried| now - tried.at < AGAIN);
        if asked(&url, &options).is_some() && !fresh {
            try_one(ledger, &url, &options, now).await;
        }
    }
}

async fn try_one(ledger: &Ledger, url: &str, options: &StoreOptions, now: i64) {
    let why = match tokio::time::timeout(PATIENCE, probe_locks(url, options)).await {
        Ok(Ok(Finding::Honoured)) => String::new(),
        Ok(Ok(Finding::Ignored(why) | Finding::Failed(why))) => why,
        Ok(Ok(Finding::NotProbed)) => return,
        // What was known before is believed for a while; that a store does not answer is told otherwise.
        Ok(Err(error)) => return tracing::debug!(%error, "a lock can't be tried"),
        Err(_) => return tracing::debug!(url, "a lock can't be tried in time"),
    };
    let tried = Tried { at: now, what: what(options), why };
    if let Err(error) = facts::write(ledger, &key(url), &Some(tried)) {
        tracing::warn!(%error, "what a lock is worth can't be noted");
    }
}

#[cfg(test)]
mod tests {
    use haven_store::s3::LockMode;

    use super::*;

    const NOW: i64 = 1_800_000_000;
    const URL: &str = "s3://photos/haven";

    #[test]
    fn a_setting_is_no_lock_before_it_was_tried_and_not_long_after() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(&folder.path().join("l")).unwrap();
        let mut options = StoreOptions::default();
        let hold = |url: &str, options: &StoreOptions, now| known(&ledger, url, options, now).unwrap();
        assert_eq!(hold(URL, &options, NOW), Hold::Open);
        options.s3.lock = Some(Retention(Duration::from_secs(30 * 86_400)));
        assert_eq!(hold(URL, &options, NOW), Hold::Unknown);
        assert_eq!(hold("sftp://nas/x", &options, NOW), Hold::Open, "only a bucket has locks");
        let note = |why: &str| {
            let tried = Tried { at: NOW, what: what(&options), why: why.into() };
            facts::write(&ledger, &key(URL), &Some(tried)).unwrap();
        };
        note("");
        let locked = Hold::Locked { seconds: 30 * 86_400, tried: NOW };
        assert_eq!(hold(URL, &options, NOW + 30 * 86_400), locked);
        assert_eq!(hold(URL, &options, NOW + 36 * 86_400), Hold::Unknown, "that was long ago");
        assert_eq!(hold(URL, &options, NOW - 86_400), Hold::Unknown, "that is of a time to come");
        let mut other = options.clone();
        other.s3.lock_mode = LockMode::Compliance;
        assert_eq!(hold(URL, &other, NOW), Hold::Unknown, "that was another lock");
        note("it takes the lock, and deletes all the same");
        assert!(matches!(hold(URL, &options, NOW), Hold::Broken { .. }));
        ledger.set_note(&key(URL), "{torn").unwrap();
        assert!(known(&ledger, URL, &options, NOW).is_err());
    }
}
