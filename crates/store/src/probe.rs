//! What this store really honours, each promise tried by experiment.
//!
//! Everything happens under one fresh prefix (`probe-…`), which is cleared afterwards. What a store
//! accepts and then ignores counts as ignored: a status of 200 proves nothing.

use std::{collections::BTreeMap, fmt, time::Duration};

use bytes::Bytes;
use futures::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::{
    open::{OpenError, StoreOptions, open_probed},
    port::{Advice, DynStore, ObjectMeta, ObjectName, PutMode, StoreError},
    s3::{Checksum, Digest, S3},
};

/// How many writers race for one name.
const RACERS: u8 = 8;
/// How many objects are listed to learn the page size: more than a page of 1000 would cost too much.
const LISTED: usize = 24;
/// For how long objects are locked to see whether that holds.
const LOCK_SECONDS: u32 = 10;
/// How many small puts and gets are timed.
const TIMED: usize = 15;
/// The length of the timed objects in bytes: small, and in the range where delayed acknowledgements show.
const TIMED_BYTES: usize = 8 << 10;

/// One thing tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trait {
    ReadAfterWrite,
    ListAfterWrite,
    OverwriteVisible,
    IfAbsentRefusesExisting,
    IfAbsentOneWinnerOfARace,
    IfMatchRefusesWrong,
    IfMatchAcceptsRight,
    Ranges,
    RangePastTheEnd,
    ListInOrder,
    StartAfter,
    Copy,
    DeleteVisible,
    WrongMd5Refused,
    WrongSha256Refused,
    WrongCrc32cRefused,
    VersionsKept,
    LockHolds,
    LockStays,
}

impl Trait {
    pub const ALL: [Trait; 19] = [
        Trait::ReadAfterWrite,
        Trait::ListAfterWrite,
        Trait::OverwriteVisible,
        Trait::IfAbsentRefusesExisting,
        Trait::IfAbsentOneWinnerOfARace,
        Trait::IfMatchRefusesWrong,
        Trait::IfMatchAcceptsRight,
        Trait::Ranges,
        Trait::RangePastTheEnd,
        Trait::ListInOrder,
        Trait::StartAfter,
        Trait::Copy,
        Trait::DeleteVisible,
        Trait::WrongMd5Refused,
        Trait::WrongSha256Refused,
        Trait::WrongCrc32cRefused,
        Trait::VersionsKept,
        Trait::LockHolds,
        Trait::LockStays,
    ];

    /// What it is, in a few words.
    pub fn title(self) -> &'static str {
        match self {
            Trait::ReadAfterWrite => "a new object is read at once",
            Trait::ListAfterWrite => "a new object is listed at once",
            Trait::OverwriteVisible => "a replaced object is seen replaced at once",
            Trait::IfAbsentRefusesExisting => "conditional create refuses an existing name",
            Trait::IfAbsentOneWinnerOfARace => "of 8 racing conditional creates one wins",
            Trait::IfMatchRefusesWrong => "conditional replace refuses a wrong ETag",
            Trait::IfMatchAcceptsRight => "conditional replace accepts the right ETag",
            Trait::Ranges => "parts of an object are read",
            Trait::RangePastTheEnd => "a part past the end is cut or empty",
            Trait::ListInOrder => "names are listed in byte order, in pages",
            Trait::StartAfter => "a listing starts after any name",
            Trait::Copy => "an object is copied within the store",
            Trait::DeleteVisible => "a deleted object is gone at once",
            Trait::WrongMd5Refused => "a body with a wrong MD5 is refused",
            Trait::WrongSha256Refused => "a body with a wrong SHA-256 is refused",
            Trait::WrongCrc32cRefused => "a body with a wrong CRC32C is refused",
            Trait::VersionsKept => "a replaced object's former version is kept",
            Trait::LockHolds => "a locked object can't be deleted",
            Trait::LockStays => "this key can't lift a lock before its time",
        }
    }

    /// Whether Haven can't keep its promises without it.
    pub fn is_needed(self) -> bool {
        matches!(
            self,
            Trait::ReadAfterWrite
                | Trait::ListAfterWrite
                | Trait::Ranges
                | Trait::RangePastTheEnd
                | Trait::ListInOrder
                | Trait::StartAfter
                | Trait::DeleteVisible
        )
    }
}

/// What an experiment showed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "result", content = "detail")]
pub enum Finding {
    Honoured,
    /// It does something else; what.
    Ignored(String),
    /// The store refused the experiment with this error.
    Failed(String),
    /// This kind of store can't be asked.
    NotProbed,
}

/// All findings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The store as it describes itself, without secrets.
    pub store: String,
    pub findings: BTreeMap<Trait, Finding>,
    /// The store's clock less this machine's, in seconds, if it tells.
    pub clock_skew_seconds: Option<i64>,
    /// Half of the small puts took no longer, in microseconds.
    pub put_p50_micros: Option<u64>,
    /// Half of the small gets took no longer, in microseconds.
    pub get_p50_micros: Option<u64>,
}

impl Report {
    /// Whether conditional create can be relied on as a guard.
    pub fn conditional_create(&self) -> bool {
        let honoured = |t| self.findings.get(&t) == Some(&Finding::Honoured);
        honoured(Trait::IfAbsentRefusesExisting) && honoured(Trait::IfAbsentOneWinnerOfARace)
    }

    /// What is needed and was not found: then this store can't hold a library.
    pub fn missing(&self) -> Vec<Trait> {
        let lacks = |t: &Trait| t.is_needed() && self.findings.get(t) != Some(&Finding::Honoured);
        Trait::ALL.into_iter().filter(lacks).collect()
    }
}

/// One line for each finding, aligned; then clock and latency.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.store)?;
        for tried in Trait::ALL {
            let (mark, detail) = match self.findings.get(&tried) {
                Some(Finding::Honoured) => ("yes", String::new()),
                Some(Finding::Ignored(what)) => ("NO", what.clone()),
                Some(Finding::Failed(error)) => ("NO", error.clone()),
                Some(Finding::NotProbed) | None => ("-", "not tried".into()),
            };
            let line = format!("  {:<46} {mark:<4} {detail}", tried.title());
            writeln!(f, "{}", line.trim_end())?;
        }
        match self.clock_skew_seconds {
            Some(0) => writeln!(f, "  clocks agree")?,
            Some(skew) if skew > 0 => writeln!(f, "  the store's clock is {skew} s ahead of this machine's")?,
            Some(skew) => writeln!(f, "  the store's clock is {} s behind this machine's", -skew)?,
            None => {}
        }
        if let (Some(put), Some(get)) = (self.put_p50_micros, self.get_p50_micros) {
            let millis = |micros: u64| micros as f64 / 1000.0;
            writeln!(f, "  8 KiB: put {:.1} ms, get {:.1} ms (median)", millis(put), millis(get))?;
        }
        Ok(())
    }
}

/// Probes the store that `url` names. The options' retries are used; its errors are findings.
pub async fn probe_url(url: &str, options: &StoreOptions) -> Result<Report, ProbeError> {
    let (store, s3) = open_probed(url, &unlocked(options))?;
    run(store, s3.as_deref()).await
}

/// Whether locks hold there, and these keys can't lift one: by two objects of a few bytes, which are locked for seconds and
/// taken away again.
///
/// # Errors
/// Also where nothing can be written: that says nothing of locks.
pub async fn probe_locks(url: &str, options: &StoreOptions) -> Result<Finding, ProbeError> {
    let (store, s3) = open_probed(url, &unlocked(options))?;
    let Some(s3) = s3 else { return Ok(Finding::NotProbed) };
    let probe = Probe::new(store.clone());
    let found = probe.locks(&s3).await;
    // Keys that may delete nothing leave them there.
    _ = probe.tidy().await;
    _ = probe.tidy_versions(&s3).await;
    found.map_err(|source| ProbeError::Store { store: store.describe(), source })
}

/// What a probe writes is not to be kept: nothing is locked but what is locked to see what that is worth.
fn unlocked(options: &StoreOptions) -> StoreOptions {
    let mut options = options.clone();
    if options.s3.lock.take().is_some() && options.s3.checksum == Checksum::None {
        // What is locked is sent with one, and a bucket that locks by itself takes nothing without.
        options.s3.checksum = Checksum::Md5;
    }
    options
}

/// Probes a store that is open already; its checksums can't be tried that way.
pub async fn probe(store: DynStore) -> Result<Report, ProbeError> {
    run(store, None).await
}

/// Why there is no report at all.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ProbeError {
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Nothing can be written, so nothing can be tried.
    #[error("{store} can't be probed: {source}")]
    Store { store: String, source: StoreError },
}

async fn run(store: DynStore, s3: Option<&S3>) -> Result<Report, ProbeError> {
    let probe = Probe::new(store.clone());
    let unusable = |source| ProbeError::Store { store: store.describe(), source };
    // What fails here fails for every experiment.
    probe.put("first", "first").await.map_err(unusable)?;
    let mut findings = BTreeMap::new();
    for tried in Trait::ALL {
        let found = match (tried, s3) {
            (Trait::WrongMd5Refused, Some(s3)) => probe.wrong_digest(s3, Digest::Md5).await,
            (Trait::WrongSha256Refused, Some(s3)) => probe.wrong_digest(s3, Digest::Sha256).await,
            (Trait::WrongCrc32cRefused, Some(s3)) => probe.wrong_digest(s3, Digest::Crc32c).await,
            (Trait::VersionsKept, Some(s3)) => probe.versions_kept(s3).await,
            (Trait::LockHolds, Some(s3)) => probe.lock(s3, false).await,
            (Trait::LockStays, Some(s3)) => probe.lock(s3, true).await,
            _ => probe.attempt(tried).await,
        };
        findings.insert(tried, found.unwrap_or_else(|error| Finding::Failed(error.to_string())));
    }
    let (put, get) = probe.time().await.map_err(unusable)?;
    let report = Report {
        store: store.describe(),
        findings,
        clock_skew_seconds: match s3 {
            Some(s3) => s3.skew_seconds(),
            None => probe.skew().await.map_err(unusable)?,
        },
        put_p50_micros: Some(put),
        get_p50_micros: Some(get),
    };
    probe.tidy().await.map_err(unusable)?;
    if let Some(s3) = s3.filter(|_| report.findings[&Trait::VersionsKept] == Finding::Honoured) {
        probe.tidy_versions(s3).await.map_err(unusable)?;
    }
    Ok(report)
}

struct Probe {
    store: DynStore,
    prefix: String,
}

fn verdict(kept: bool, otherwise: impl FnOnce() -> String) -> Finding {
    if kept { Finding::Honoured } else { Finding::Ignored(otherwise()) }
}

impl Probe {
    fn new(store: DynStore) -> Self {
        Self { store, prefix: format!("probe-{:016x}", rand::random::<u64>()) }
    }

    fn name(&self, rest: &str) -> ObjectName {
        ObjectName::new(format!("{}/{rest}", self.prefix)).expect("the probe's names are valid")
    }

    async fn put(&self, rest: &str, body: &'static str) -> Result<(), StoreError> {
        self.store.put(&self.name(rest), body.into(), PutMode::Always).await
    }

    async fn listed(&self, rest: &str, after: Option<&str>, limit: usize) -> Result<Vec<ObjectMeta>, StoreError> {
        let whole = |rest: &str| format!("{}/{rest}", self.prefix);
        let page = self.store.list(&whole(rest), after.map(whole).as_deref(), limit).await?;
        Ok(page.objects)
    }

    async fn attempt(&self, tried: Trait) -> Result<Finding, StoreError> {
        match tried {
            Trait::ReadAfterWrite => self.read_after_write().await,
            Trait::ListAfterWrite => self.list_after_write().await,
            Trait::OverwriteVisible => self.overwrite().await,
            Trait::IfAbsentRefusesExisting => self.create_existing().await,
            Trait::IfAbsentOneWinnerOfARace => self.race().await,
            Trait::IfMatchRefusesWrong => self.replace_wrong().await,
            Trait::IfMatchAcceptsRight => self.replace_right().await,
            Trait::Ranges => self.ranges().await,
            Trait::RangePastTheEnd => self.past_the_end().await,
            Trait::ListInOrder => self.list_in_order().await,
            Trait::StartAfter => self.start_after().await,
            Trait::Copy => self.copy().await,
            Trait::DeleteVisible => self.delete().await,
            Trait::WrongMd5Refused
            | Trait::WrongSha256Refused
            | Trait::WrongCrc32cRefused
            | Trait::VersionsKept
            | Trait::LockHolds
            | Trait::LockStays => Ok(Finding::NotProbed),
        }
    }

    async fn read_after_write(&self) -> Result<Finding, StoreError> {
        for round in 0..5 {
            let rest = format!("read/{round}");
            self.put(&rest, "body").await?;
            match self.store.get(&self.name(&rest)).await {
                Ok(body) if body == "body" => {}
                Ok(_) => return Ok(Finding::Ignored("other bytes came back".into())),
                Err(StoreError::NotFound { .. }) => return Ok(Finding::Ignored("it was not there yet".into())),
                Err(error) => return Err(error),
            }
        }
        Ok(Finding::Honoured)
    }

    async fn list_after_write(&self) -> Result<Finding, StoreError> {
        for round in 0..5 {
            self.put(&format!("list/{round}"), "body").await?;
            let seen = self.listed("list/", None, 100).await?.len();
            if seen != round + 1 {
                return Ok(Finding::Ignored(format!("{seen} of {} were listed", round + 1)));
            }
        }
        Ok(Finding::Honoured)
    }

    async fn overwrite(&self) -> Result<Finding, StoreError> {
        for body in ["one", "two", "three"] {
            self.put("over", body).await?;
            if self.store.get(&self.name("over")).await? != body {
                return Ok(Finding::Ignored("an older body was read".into()));
            }
        }
        Ok(Finding::Honoured)
    }

    async fn create_existing(&self) -> Result<Finding, StoreError> {
        let name = self.name("create");
        self.store.put(&name, "first".into(), PutMode::IfAbsent).await?;
        match self.store.put(&name, "second".into(), PutMode::IfAbsent).await {
            Err(StoreError::Exists { .. }) => {
                let kept = self.store.get(&name).await? == "first";
                Ok(verdict(kept, || "it refuses, and replaces all the same".into()))
            }
            Ok(()) => Ok(Finding::Ignored("it answers success, and replaces".into())),
            Err(error) => Err(error),
        }
    }

    async fn race(&self) -> Result<Finding, StoreError> {
        let name = self.name("race");
        let racers = (0..RACERS).map(|racer| {
            let name = name.clone();
            async move { self.store.put(&name, Bytes::copy_from_slice(&[racer]), PutMode::IfAbsent).await }
        });
        let mut winners = Vec::new();
        for (racer, result) in (0..RACERS).zip(join_all(racers).await) {
            match result {
                Ok(()) => winners.push(racer),
                Err(StoreError::Exists { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let body = self.store.get(&name).await?;
        Ok(verdict(winners.len() == 1 && body[..] == winners[..], || format!("{} of {RACERS} won", winners.len())))
    }

    async fn replace_wrong(&self) -> Result<Finding, StoreError> {
        let name = self.name("wrong");
        self.put("wrong", "first").await?;
        let wrong = PutMode::IfMatch("\"00000000000000000000000000000000\"".into());
        match self.store.put(&name, "second".into(), wrong).await {
            Err(StoreError::Changed { .. }) => {
                let kept = self.store.get(&name).await? == "first";
                Ok(verdict(kept, || "it refuses, and replaces all the same".into()))
            }
            Ok(()) => Ok(Finding::Ignored("it answers success, and replaces".into())),
            Err(error) => Err(error),
        }
    }

    async fn replace_right(&self) -> Result<Finding, StoreError> {
        let name = self.name("right");
        self.put("right", "first").await?;
        let Some(etag) = self.store.head(&name).await?.etag else {
            return Ok(Finding::Ignored("it tells no ETag".into()));
        };
        match self.store.put(&name, "second".into(), PutMode::IfMatch(etag)).await {
            Ok(()) => {
                let replaced = self.store.get(&name).await? == "second";
                Ok(verdict(replaced, || "it answers success, and keeps the old".into()))
            }
            Err(StoreError::Changed { .. }) => Ok(Finding::Ignored("it refuses the right ETag".into())),
            Err(error) => Err(error),
        }
    }

    async fn ranges(&self) -> Result<Finding, StoreError> {
        self.put("range", "0123456789").await?;
        for (start, end, part) in [(0, 1, "0"), (3, 7, "3456"), (9, 10, "9"), (0, 10, "0123456789")] {
            let found = self.store.get_range(&self.name("range"), start..end).await?;
            if found != part {
                return Ok(Finding::Ignored(format!("{start}..{end} gave {} bytes", found.len())));
            }
        }
        Ok(Finding::Honoured)
    }

    async fn past_the_end(&self) -> Result<Finding, StoreError> {
        self.put("range", "0123456789").await?;
        for (start, end, part) in [(8, 100, "89"), (10, 11, ""), (1 << 40, (1 << 40) + 1, "")] {
            let found = self.store.get_range(&self.name("range"), start..end).await?;
            if found != part {
                return Ok(Finding::Ignored(format!("{start}..{end} of 10 bytes gave {}", found.len())));
            }
        }
        Ok(Finding::Honoured)
    }

    async fn list_in_order(&self) -> Result<Finding, StoreError> {
        let names: Vec<String> =
            (0..LISTED).map(|i| format!("page/{}{:02}", ["A/", "a", "a-", "a/"][i % 4], i)).collect();
        for put in join_all(names.iter().map(|name| self.put(name, ""))).await {
            put?;
        }
        let mut sorted: Vec<String> = names.iter().map(|rest| self.name(rest).to_string()).collect();
        sorted.sort_unstable();
        let mut seen: Vec<String> = Vec::new();
        loop {
            let after = seen.last().cloned();
            let prefix = format!("{}/page/", self.prefix);
            let page = self.store.list(&prefix, after.as_deref(), 7).await?;
            seen.extend(page.objects.iter().map(|o| o.name.to_string()));
            if !page.more || page.objects.is_empty() {
                break;
            }
        }
        Ok(verdict(seen == sorted, || format!("{} of {LISTED} names, or in another order", seen.len())))
    }

    async fn start_after(&self) -> Result<Finding, StoreError> {
        for rest in ["start/b", "start/d", "start/f"] {
            self.put(rest, "").await?;
        }
        for (after, expected) in [("start/a", 3), ("start/b", 2), ("start/c", 2), ("start/f", 0), ("a", 3), ("z", 0)] {
            let seen = self.listed("start/", Some(after), 100).await?.len();
            if seen != expected {
                return Ok(Finding::Ignored(format!("after {after} {seen} names instead of {expected}")));
            }
        }
        Ok(Finding::Honoured)
    }

    async fn copy(&self) -> Result<Finding, StoreError> {
        self.store.copy(&self.name("first"), &self.name("copied")).await?;
        let same = self.store.get(&self.name("copied")).await? == "first";
        Ok(verdict(same, || "the copy has other bytes".into()))
    }

    async fn delete(&self) -> Result<Finding, StoreError> {
        self.put("delete/it", "").await?;
        self.store.delete(&self.name("delete/it")).await?;
        let listed = self.listed("delete/", None, 10).await?;
        match self.store.head(&self.name("delete/it")).await {
            Err(StoreError::NotFound { .. }) => Ok(verdict(listed.is_empty(), || "it is still listed".into())),
            Ok(_) => Ok(Finding::Ignored("it is still there".into())),
            Err(error) => Err(error),
        }
    }

    async fn wrong_digest(&self, s3: &S3, digest: Digest) -> Result<Finding, StoreError> {
        let name = self.name(&format!("digest/{digest:?}"));
        match s3.put_with_wrong_digest(&name, "body".into(), digest).await {
            Ok(()) => Ok(Finding::Ignored("it takes the body".into())),
            Err(StoreError::Garbled { .. } | StoreError::Unauthorized { .. } | StoreError::Unsupported { .. }) => {
                match self.store.head(&name).await {
                    Err(StoreError::NotFound { .. }) => Ok(Finding::Honoured),
                    Ok(_) => Ok(Finding::Ignored("it refuses, and keeps the body all the same".into())),
                    Err(error) => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }

    async fn versions_kept(&self, s3: &S3) -> Result<Finding, StoreError> {
        let name = self.name("versions");
        let first = s3.put_version(&name, "first", None).await?;
        s3.put_version(&name, "second", None).await?;
        let Some(first) = first else { return Ok(Finding::Ignored("versioning is not on".into())) };
        match s3.get_version(&name, &first).await {
            Ok(body) => Ok(verdict(body == "first", || "another body comes back".into())),
            Err(StoreError::NotFound { .. }) => Ok(Finding::Ignored("it gives versions a name, and keeps none".into())),
            Err(error) => Err(error),
        }
    }

    /// Locks an object for some seconds and tries to delete it; `lift`: asking to lift the lock.
    async fn lock(&self, s3: &S3, lift: bool) -> Result<Finding, StoreError> {
        let name = self.name(if lift { "lifted" } else { "locked" });
        let id = match s3.put_version(&name, "locked", Some(LOCK_SECONDS)).await {
            Ok(Some(id)) => id,
            Ok(None) => return Ok(Finding::Ignored("it takes the lock, and has no versions to lock".into())),
            Err(error) if error.advice() == Advice::Setting => {
                return Ok(Finding::Ignored(format!("it takes no lock: {error}")));
            }
            Err(error) => return Err(error),
        };
        match s3.delete_version(&name, &id, lift).await {
            Ok(()) => {}
            // In whatever words it refuses.
            Err(error) if error.advice() == Advice::Setting => {}
            Err(error) => return Err(error),
        }
        // What counts is whether it is still there.
        match s3.get_version(&name, &id).await {
            Ok(body) => Ok(verdict(body == "locked", || "another body comes back".into())),
            Err(StoreError::NotFound { .. }) if lift => {
                Ok(Finding::Ignored("it may: who has it can delete what is locked in governance mode".into()))
            }
            Err(StoreError::NotFound { .. }) => {
                Ok(Finding::Ignored("it takes the lock, and deletes all the same".into()))
            }
            Err(error) => Err(error),
        }
    }

    async fn locks(&self, s3: &S3) -> Result<Finding, StoreError> {
        // The first answer tells the store's clock, by which locks end.
        self.listed("", None, 1).await?;
        match self.lock(s3, false).await? {
            Finding::Honoured => self.lock(s3, true).await,
            otherwise => {
                // Who may write nothing has learned nothing of locks.
                self.put("first", "first").await?;
                Ok(otherwise)
            }
        }
    }

    /// Removes what a bucket with versions has kept of all this, the locked last.
    async fn tidy_versions(&self, s3: &S3) -> Result<(), StoreError> {
        let prefix = format!("{}/", self.prefix);
        // A page of versions each time, and at last those that were locked when they were tried first.
        for _ in 0..10 {
            let found = s3.versions(&prefix).await?;
            let removed = join_all(found.iter().map(|(name, id)| s3.delete_version(name, id, true))).await;
            if removed.iter().all(Result::is_ok) && found.len() < 1000 {
                return Ok(());
            }
            if removed.iter().flat_map(|result| result.as_ref().err()).any(|e| e.advice() == Advice::Setting) {
                tokio::time::sleep(Duration::from_secs(u64::from(LOCK_SECONDS))).await;
            }
        }
        // What can't be removed is small, and its lock is over in seconds.
        Ok(())
    }

    /// The median of small puts and of small gets, in microseconds.
    async fn time(&self) -> Result<(u64, u64), StoreError> {
        let body = Bytes::from(vec![7_u8; TIMED_BYTES]);
        let (mut puts, mut gets) = (Vec::new(), Vec::new());
        for round in 0..TIMED {
            let name = self.name(&format!("time/{round}"));
            let begun = Instant::now();
            self.store.put(&name, body.clone(), PutMode::Always).await?;
            puts.push(begun.elapsed());
            let begun = Instant::now();
            self.store.get(&name).await?;
            gets.push(begun.elapsed());
        }
        Ok((median(puts), median(gets)))
    }

    /// By the time the store gives a fresh object; coarse where it counts in whole seconds.
    async fn skew(&self) -> Result<Option<i64>, StoreError> {
        self.put("skew", "").await?;
        let modified = self.store.head(&self.name("skew")).await?.modified;
        let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
        let now = now.map_or(0, |d| d.as_secs().cast_signed());
        Ok(modified.map(|at| at - now))
    }

    async fn tidy(&self) -> Result<(), StoreError> {
        let prefix = format!("{}/", self.prefix);
        loop {
            let page = self.store.list(&prefix, None, 1000).await?;
            for deleted in join_all(page.objects.iter().map(|o| self.store.delete(&o.name))).await {
                deleted?;
            }
            if !page.more {
                return Ok(());
            }
        }
    }
}

fn median(mut times: Vec<Duration>) -> u64 {
    times.sort_unstable();
    times.get(times.len() / 2).map_or(0, |t| u64::try_from(t.as_micros()).unwrap_or(u64::MAX))
}
