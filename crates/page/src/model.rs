//! What the page shows, as values, and where they come from.
//!
//! Nothing here knows a library, a ledger or a bucket: whoever serves the page fills it by implementing [`Source`].
//! Times are seconds since the Unix epoch, lengths of time are seconds, sizes are bytes, money is in the unit that
//! [`GrowthPoint::currency`] names.

use std::{pin::Pin, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::Stream;
pub use haven_keeper::findings::Severity;
use serde::{Deserialize, Serialize};

/// Seconds since the Unix epoch.
pub type Time = i64;

/// How things are. Never told by a colour alone: each has a word and a sign.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Colour {
    /// All is as it should be.
    Green,
    /// Nothing has been looked at yet.
    #[default]
    Unknown,
    /// Safe, and something wants attention.
    Yellow,
    /// Photos are at risk.
    Red,
}

/// Everything that the first page shows.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Overview {
    /// When this was collected.
    pub at: Time,
    /// The library as its owner knows it: its URL, or the mount point.
    pub library: String,
    /// Is it safe? One sentence.
    pub safe_sentence: String,
    pub colour: Colour,
    pub score: Score,
    pub findings: Vec<Finding>,
    pub copies: Vec<Copy>,
    /// The newest runs, newest first. The timeline asks [`Source::runs`].
    pub runs: Vec<Run>,
    /// Whether the library is mounted and tells how it is. If not, nothing is known of queue and throughput, and of the cache
    /// only its disk: what stands there is not zero.
    pub mounted: bool,
    pub cache: Cache,
    pub queue: Queue,
    pub throughput: Throughput,
    /// What runs next, soonest first.
    pub upcoming: Vec<Upcoming>,
}

/// The 3-2-1-1-0 score: three copies, on two kinds of storage, one elsewhere, one that nobody can change, no errors.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Score {
    pub digits: Vec<Digit>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Digit {
    /// `3`, `2`, `1`, `1`, `0`.
    pub digit: String,
    /// What it asks for: `three copies`.
    pub asks: String,
    pub met: bool,
    /// What there is, or what is missing.
    pub why: String,
}

/// Something that a person should know. The same value is rendered by commands, page, alerts and metrics.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Finding {
    /// Stable, in kebab case: `replica-lag`. The manual has a section of that name.
    pub key: String,
    /// What it is about, where there may be several: `far`.
    pub subject: String,
    pub severity: Severity,
    /// What happened, in one line.
    pub title: String,
    /// What it means for the photos.
    pub meaning: String,
    /// What to do, a step each.
    pub next: Vec<String>,
    pub since: Time,
}

/// A place where the photos are.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Copy {
    /// As commands call it: `library`, `far`.
    pub name: String,
    pub kind: CopyKind,
    /// Where it is, without secrets: `s3://photos-copy/haven`.
    pub place: String,
    pub colour: Colour,
    /// Its state in a few words: `up to date`, `2 h behind`.
    pub said: String,
    /// How far it is behind the library, in seconds, where that is known.
    pub lag: Option<u64>,
    /// When a round of reading back every byte of it last ended with all of it right.
    #[serde(default)]
    pub verified: Option<Time>,
    /// When all of it was last read and found right, in whatever way.
    pub proven: Option<Time>,
    /// How that was shown: `every byte read`, `drill level 1`.
    pub proven_by: String,
    /// Whether there may be a newer proof that can't be looked at.
    #[serde(default)]
    pub proof_unseen: bool,
    /// When it last took something over.
    pub synced: Option<Time>,
    /// Bytes there, where that is known.
    pub bytes: Option<u64>,
    /// Whether what is written there can't be deleted with the machine's keys, for a time; `None`: that is not known.
    #[serde(default)]
    pub locked: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CopyKind {
    /// The bucket that is mounted.
    Library,
    /// The same library elsewhere.
    Replica,
    /// A copy in a foreign format: Borg, restic.
    Third,
}

/// Something that was done, or is being done.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Run {
    pub id: i64,
    /// `snapshot`, `backup`, `replica`, `copy`, `check`, `drill`, `gc`, `prune`, …
    pub kind: String,
    /// Of what: a replica's name, an application's.
    pub subject: String,
    pub started: Time,
    /// Seconds so far, or in all.
    pub seconds: f64,
    pub verdict: Verdict,
    /// What came of it, in a line.
    pub said: String,
    /// Bytes that were moved, where that means something.
    pub bytes: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Running,
    Good,
    /// Done, with something to look at.
    Warning,
    Failed,
    /// It was due and did not run.
    Missed,
    /// Stopped before its end, by its owner or by a restart.
    Interrupted,
}

/// Which runs are wanted.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct RunFilter {
    /// Only of this kind.
    pub kind: Option<String>,
    /// Only those that began at this time or later.
    pub since: Option<Time>,
    /// Only those that began before.
    pub before: Option<Time>,
    /// The most there may be, newest first. 0: as many as the source finds reasonable.
    pub limit: usize,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Cache {
    /// The directory.
    pub place: String,
    pub used_bytes: u64,
    pub limit_bytes: u64,
    /// What of it could be given up at once.
    pub clean_bytes: u64,
    /// The whole disk below it.
    pub disk_used_bytes: u64,
    pub disk_bytes: u64,
    /// When that disk will be full, if it goes on as it does.
    pub disk_full_at: Option<Time>,
}

/// What is not in the bucket yet.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Queue {
    pub changes: u64,
    pub bytes: u64,
    /// What the loss of this machine would cost, in seconds.
    pub recovery_point_seconds: f64,
    /// Trouble with the store just now.
    pub trouble: Option<String>,
}

/// Bytes a second, over the last seconds.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Throughput {
    /// To the store.
    pub up: f64,
    /// From the store.
    pub down: f64,
    /// What programs read from the mount, and write to it.
    pub read: f64,
    pub written: f64,
    /// Requests to the store a second.
    pub requests: f64,
}

/// A run that is due.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Upcoming {
    pub kind: String,
    pub subject: String,
    pub at: Time,
    /// As the settings have it: `daily 00:30`.
    pub schedule: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Snapshot {
    pub name: String,
    pub taken: Time,
    /// Who took it, and on which machine.
    pub by: String,
    pub note: String,
    pub files: u64,
    pub bytes: u64,
    pub protected_until: Option<Time>,
    /// Whether it is a recovery point: photos with their database.
    pub point: bool,
}

/// What lies in a folder of a snapshot.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Entry {
    /// One name, without slashes. Names that are not UTF-8 are shown with replacement characters and can't be opened.
    pub name: String,
    pub kind: EntryKind,
    pub bytes: u64,
    pub modified: Time,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EntryKind {
    Folder,
    File,
    Link,
    Other,
}

/// A part of a folder.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Listing {
    /// Folders first, then by name.
    pub entries: Vec<Entry>,
    /// How many there are in all.
    pub total: usize,
}

/// A path in a snapshot that leads nowhere else: parts without `.`, `..`, `/` and NUL. Made by [`crate::path::Inside`].
pub use crate::path::Inside;

/// A file being read.
pub struct Download {
    pub name: String,
    pub bytes: u64,
    pub content: ByteStream,
}

impl std::fmt::Debug for Download {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Download").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

pub type ByteStream = Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>>;

/// A drill, as its report tells it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DrillReport {
    /// The file's name below `.haven/drills`, or another stable id.
    pub id: String,
    pub at: Time,
    /// 0, 1 or 2.
    pub level: u8,
    /// Which copy; empty: nothing is known of this drill but its name.
    pub copy: String,
    /// Which recovery point.
    pub point: String,
    pub good: bool,
    pub seconds: f64,
    pub steps: Vec<DrillStep>,
    /// `None`: not looked at; else whether the seal of the report holds.
    pub sealed: Option<bool>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DrillStep {
    pub name: String,
    pub good: bool,
    pub said: String,
    pub seconds: f64,
}

/// How large things were at some time.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct GrowthPoint {
    pub at: Time,
    /// What programs see.
    pub file_bytes: u64,
    pub files: u64,
    /// What lies in the bucket.
    pub stored_bytes: u64,
    /// What a month of it costs in the bucket, where prices are set.
    pub cost_month: Option<f64>,
    pub currency: String,
}

/// What a person may ask for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Action {
    /// Run a scheduled job now.
    RunNow { kind: String, subject: String },
    /// Send everything to the bucket now.
    Flush,
    /// Say nothing of a finding for so many days. It stays on the page.
    Hush { key: String, subject: String, days: u32 },
    /// Send a test message through every channel.
    AlertTest,
}

/// Something happened that pages may show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// The numbers that move all the time: queue, cache, throughput. At most one a second is shown.
    Numbers,
    /// A run began or ended.
    Runs,
    /// Findings, copies or the sentence.
    Health,
    Snapshots,
    Drills,
}

pub type EventStream = Pin<Box<dyn Stream<Item = Event> + Send>>;

/// A number for Prometheus. Names, units and help stand in [`crate::metrics::KNOWN`]; one that is not there is not shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// With the unit: `haven_replica_lag_seconds`.
    pub name: &'static str,
    pub labels: Vec<(&'static str, String)>,
    pub value: f64,
}

impl Metric {
    pub fn new(name: &'static str, value: f64) -> Self {
        Self { name, labels: Vec::new(), value }
    }

    #[must_use]
    pub fn with(mut self, label: &'static str, value: impl Into<String>) -> Self {
        self.labels.push((label, value.into()));
        self
    }
}

/// Why something could not be shown or done: what happened, what it means for the photos, what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{what}")]
pub struct SourceError {
    pub kind: ErrorKind,
    pub what: String,
    pub meaning: String,
    pub next: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorKind {
    /// No such snapshot, path, run or report. HTTP 404.
    Missing,
    /// Not possible as things are. HTTP 409.
    Refused,
    /// The library or the store does not answer just now. HTTP 503.
    Unavailable,
    /// Anything else. HTTP 500.
    Failed,
}

impl SourceError {
    pub fn new(kind: ErrorKind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), meaning: "nothing was changed".into(), next: String::new() }
    }

    #[must_use]
    pub fn meaning(mut self, text: impl Into<String>) -> Self {
        self.meaning = text.into();
        self
    }

    #[must_use]
    pub fn next(mut self, text: impl Into<String>) -> Self {
        self.next = text.into();
        self
    }
}

pub type Answer<T> = Result<T, SourceError>;

/// Whom the page asks. Every method may be called at any time, by several at once, and should answer within a second
/// or two; what takes longer belongs into a value that is kept up to date beside it.
#[async_trait]
pub trait Source: Send + Sync + 'static {
    /// Asked several times a second when pages are open: from state that is there already.
    async fn overview(&self) -> Answer<Overview>;
    /// Newest first.
    async fn runs(&self, filter: RunFilter) -> Answer<Vec<Run>>;
    /// The log of a run, as far as it is kept.
    async fn run_log(&self, id: i64) -> Answer<String>;
    /// Newest first.
    async fn snapshots(&self) -> Answer<Vec<Snapshot>>;
    /// `limit` entries of a folder of a snapshot from the `skip`th on.
    async fn browse(&self, snapshot: &str, path: &Inside, skip: usize, limit: usize) -> Answer<Listing>;
    /// A regular file of a snapshot.
    async fn open(&self, snapshot: &str, path: &Inside) -> Answer<Download>;
    /// Brings a file or folder back into the library, beside what is there now and never in its place. Returns where
    /// it is, relative to the library's root.
    async fn restore(&self, snapshot: &str, path: &Inside) -> Answer<String>;
    /// Newest first.
    async fn drills(&self) -> Answer<Vec<DrillReport>>;
    /// Oldest first.
    async fn growth(&self) -> Answer<Vec<GrowthPoint>>;
    /// Does it, or has it done: what came of it, in a line.
    async fn act(&self, action: Action) -> Answer<String>;
    /// What changes from now on.
    fn events(&self) -> EventStream;
    async fn metrics(&self) -> Answer<Vec<Metric>>;
    /// Whether the keeper itself is alive: what `/healthz` says. A library in trouble is no reason to say no here.
    async fn alive(&self) -> bool;
}

/// How long a page waits for a [`Source`].
pub const PATIENCE: Duration = Duration::from_secs(20);
