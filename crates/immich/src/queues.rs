//! The server's queues of jobs, held still and let go.

use std::collections::BTreeMap;

use http::Method;
use serde::{Deserialize, Serialize};

use crate::{Error, Immich, call};

/// A queue, as the server names it: servers have more of them with each release.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct QueueName(String);

impl QueueName {
    /// What costs most and what nothing waits for while photos arrive. `metadataExtraction`, `sidecar` and
    /// `storageTemplateMigration` are not among them: dates, tags and places on disk wait for those.
    pub const HEAVY: [&str; 7] = [
        "thumbnailGeneration",
        "videoConversion",
        "faceDetection",
        "facialRecognition",
        "smartSearch",
        "duplicateDetection",
        "ocr",
    ];

    /// A name of [`Self::HEAVY`], or one the server has told.
    pub fn new(name: &str) -> Self {
        Self(name.to_owned())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// How a queue stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    pub name: QueueName,
    pub paused: bool,
    /// Jobs that run or wait.
    pub waiting: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    name: QueueName,
    is_paused: bool,
    statistics: Counts,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Legacy {
    job_counts: Counts,
    queue_status: Status,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    is_paused: bool,
}

#[derive(Deserialize)]
struct Counts {
    #[serde(default)]
    active: u64,
    #[serde(default)]
    waiting: u64,
    #[serde(default)]
    paused: u64,
    #[serde(default)]
    delayed: u64,
}

impl Counts {
    fn open(&self) -> u64 {
        self.active + self.waiting + self.paused + self.delayed
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Update {
    is_paused: bool,
}

#[derive(Serialize)]
struct Command {
    command: &'static str,
    force: bool,
}

impl Immich {
    /// All queues. An administrator's key is needed.
    pub async fn queues(&self) -> Result<Vec<Queue>, Error> {
        if self.version().has_queues() {
            let told: Vec<Told> = self.get(call::QUEUES, "/queues").await?;
            let queue = |t: Told| Queue { waiting: t.statistics.open(), name: t.name, paused: t.is_paused };
            return Ok(told.into_iter().map(queue).collect());
        }
        let told: BTreeMap<String, Legacy> = self.get(call::JOBS, "/jobs").await?;
        let queue = |(name, t): (String, Legacy)| Queue {
            name: QueueName(name),
            paused: t.queue_status.is_paused,
            waiting: t.job_counts.open(),
        };
        Ok(told.into_iter().map(queue).collect())
    }

    /// Holds a queue still or lets it go. Whoever holds one still lets it go again, whatever happens: nobody else does.
    pub async fn pause_queue(&self, name: &QueueName, paused: bool) -> Result<(), Error> {
        if self.version().has_queues() {
            let path = format!("/queues/{}", name.0);
            self.tell(call::PAUSE, Method::PUT, &path, Some(&Update { is_paused: paused })).await?;
            return Ok(());
        }
        let command = Command { command: if paused { "pause" } else { "resume" }, force: false };
        self.tell(call::JOB_COMMAND, Method::PUT, &format!("/jobs/{}", name.0), Some(&command)).await?;
        Ok(())
    }
}
