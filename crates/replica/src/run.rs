//! What one run is asked to do, and what it tells.

use std::{sync::Arc, time::Duration};

use serde::Serialize;

use crate::{Damage, Deletions, Position, ReadBack};

pub(crate) const DAY: Duration = Duration::from_secs(86_400);

/// How a replica is kept.
#[derive(Debug, Clone)]
pub struct Options {
    /// What people call it.
    pub called: String,
    /// The URL of the source, without secrets.
    pub of: String,
    /// Objects on their way at once.
    pub parallel: usize,
    /// How long after the library has deleted an object the replica keeps it.
    pub grace: Duration,
    /// Deletions stop when more than this share of the replica's bytes would go within a day.
    pub brake: f64,
    /// Bytes that may go within a day whatever share they are.
    pub brake_floor: u64,
    /// Every byte is read again and verified within this time.
    pub verify_within: Duration,
    /// Where the replica stands is noted on it no more often than this, while it is followed continuously.
    pub note_every: Duration,
    /// Keep configurations that a newer one has superseded, as it does not open with the secret in use.
    pub keep_configs: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            called: String::new(),
            of: String::new(),
            parallel: 8,
            grace: 14 * DAY,
            brake: 0.2,
            brake_floor: 1 << 30,
            verify_within: 30 * DAY,
            note_every: Duration::from_secs(300),
            keep_configs: false,
        }
    }
}

/// How far a run is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Progress {
    pub objects: u64,
    pub bytes: u64,
    pub objects_total: u64,
    pub bytes_total: u64,
}

/// Is told how far a run is, after each object.
pub type ProgressFn = Arc<dyn Fn(Progress) + Send + Sync>;

/// What a run did and found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Summary {
    /// Objects and bytes sent; or, of a dry run, that would be sent.
    pub objects: u64,
    pub bytes: u64,
    pub seconds: f64,
    /// Where the replica stands now; nowhere, if its log and its roots are gone, whatever was noted.
    pub position: Position,
    /// Where the source stood when it was last looked at.
    pub source: Position,
    /// How much older the replica's end of the log is than the source's, by the writer's clock.
    pub lag_seconds: f64,
    /// How old the oldest part of the log was when it came to the replica in this run.
    pub delay_seconds: f64,
    /// What could not be had, or is not what it should be.
    pub damaged: Vec<Damage>,
    /// Objects of the replica that were damaged or missing, and are right again.
    pub mended: Vec<String>,
    pub deletions: Deletions,
    pub read_back: ReadBack,
    /// Why deletions are held back; empty: they are not.
    pub brake: String,
    /// Objects in the replica's place that are none of a library's: how many, and one of them.
    pub strange: Option<(usize, String)>,
    pub warnings: Vec<String>,
}

impl Summary {
    /// Whether nothing was sent, deleted, read, mended or found wrong.
    pub fn idle(&self) -> bool {
        self.objects == 0
            && self.deletions.objects == 0
            && self.read_back.objects == 0
            && self.damaged.is_empty()
            && self.mended.is_empty()
    }
}

/// What one run is asked to do beside the usual.
#[derive(Debug, Clone, Copy, Default)]
pub struct Run {
    /// Delete what is due although the brake holds it back.
    pub release_brake: bool,
    /// Change nothing: tell what would be sent and deleted.
    pub dry_run: bool,
    /// One of many runs of the same replicator: where it stands need not be noted each time.
    pub continuous: bool,
}
