//! How everything is, collected at one moment: all that findings and the score are made of. Times are seconds since the
//! Unix epoch, sizes are bytes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{findings::long, ledger::Verdict};

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    pub now: i64,
    pub host: String,
    /// Where the library is; none: no settings name one.
    pub library: Option<Place>,
    /// The library is not complete yet: what it comes from, and how far it is.
    #[serde(default)]
    pub restoring: Option<Restoring>,
    pub mount: Mount,
    pub queue: Queue,
    pub cache: Cache,
    pub store: Store,
    pub brakes: Vec<Brake>,
    pub points: Vec<Points>,
    pub replicas: Vec<Replica>,
    pub copies: Vec<ThirdCopy>,
    pub drills: Vec<Drill>,
    pub jobs: Vec<JobState>,
    pub expiries: Vec<Expiry>,
    /// The last look at the library's content, and what it found damaged.
    pub scrub: Option<Scrub>,
    pub sums: Sums,
    /// What they were a day ago; none: nobody has noted it, or they are not known now.
    #[serde(default)]
    pub day_ago: Option<Then>,
    /// Jobs are scheduled, and nobody is there to do them.
    pub keeper_absent: bool,
    #[serde(default)]
    pub diary: Diary,
    /// What could not be looked at. What stands for it elsewhere in here (none, zero, empty) means nothing.
    #[serde(default)]
    pub unseen: Vec<Unseen>,
    #[serde(default)]
    pub blind: Blind,
}

/// How much less than usual is seen without anything being amiss: nothing is told of it, and nothing is over by it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blind {
    /// The mount's process tells no numbers: it is not mounted yet, or not any more.
    pub numbers: bool,
    /// Nothing that lies in the library is seen.
    pub folders: bool,
    /// For how many seconds the numbers have been looked at; none: for as long as anybody wants to know.
    pub watched: Option<i64>,
}

/// Something that could not be looked at: nothing is known of it, not that it is there and not that it is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unseen {
    pub what: Sight,
    /// In a line.
    pub why: String,
    /// Since when; none: nobody remembers.
    pub since: Option<i64>,
    /// How new the newest of it can be, where names tell that; none: as new as any.
    pub newest: Option<i64>,
}

/// What is looked at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "name")]
pub enum Sight {
    /// The recovery points of an application.
    Points(String),
    Drills,
    /// What is noted of a replica.
    Replica(String),
    /// What is noted of a third copy.
    Copy(String),
    /// Where the library, a replica or a copy is.
    Place(String),
    Scrub,
    Brake,
    /// The cache's.
    Disk,
    /// That of the keeper's directory.
    KeeperDisk,
    Mount,
    Keeper,
    /// All that is remembered of runs.
    Ledger,
}

impl Sight {
    /// As it stands in a sentence.
    pub fn phrase(&self) -> String {
        match self {
            Self::Scrub | Self::Brake => self.to_string(),
            _ => format!("the {self}"),
        }
    }

    /// Whether it is the ledger that remembers it.
    fn is_remembered(&self) -> bool {
        matches!(self, Self::Drills | Self::Replica(_) | Self::Scrub | Self::Brake)
    }
}

impl std::fmt::Display for Sight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Points(application) => write!(f, "recovery points of {application}"),
            Self::Drills => f.write_str("drills"),
            Self::Replica(name) => write!(f, "replica {name}"),
            Self::Copy(name) => write!(f, "copy {name}"),
            Self::Place(of) => write!(f, "place of {of}"),
            Self::Scrub => f.write_str("what the last scrub found"),
            Self::Brake => f.write_str("whether garbage is held back"),
            Self::Disk => f.write_str("disk of the cache"),
            Self::KeeperDisk => f.write_str("disk of the keeper's directory"),
            Self::Mount => f.write_str("mount"),
            Self::Keeper => f.write_str("keeper"),
            Self::Ledger => f.write_str("ledger"),
        }
    }
}

/// What a place shares its fate with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Without secrets.
    pub url: String,
    /// `s3`, `directory`, `sftp`, `webdav`, or what a foreign program calls it.
    pub kind: String,
    /// What fails together: a disk of this machine, a server, a provider's endpoint.
    pub domain: String,
    /// Whether it is on another machine.
    pub elsewhere: bool,
    /// Whether it keeps what is there from this machine's keys.
    #[serde(default)]
    pub hold: Hold,
}

/// Whether a place keeps what is written there from whoever has this machine's keys. A setting alone is no answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Hold {
    /// Nothing is set up for it.
    #[default]
    Open,
    /// A lock is asked for, and was not tried, or not for long.
    Unknown,
    /// A lock is asked for, and does not hold.
    Broken { why: String },
    /// It was tried: what is written is locked for so many seconds from then on, and these keys can't lift that.
    Locked { seconds: i64, tried: i64 },
    /// The owner says of a server elsewhere that it only lets add: nobody has tried that.
    Said,
}

impl Hold {
    /// `None`: it is not known.
    pub fn is_fast(&self) -> Option<bool> {
        match self {
            Self::Open | Self::Broken { .. } => Some(false),
            Self::Unknown => None,
            Self::Locked { .. } | Self::Said => Some(true),
        }
    }

    /// What is known of it, behind the name of the place; `None`: there is nothing to say.
    pub fn told(&self, now: i64) -> Option<String> {
        Some(match self {
            Self::Open => return None,
            Self::Unknown => "whether its lock holds is not known; the keeper tries it once a week".to_owned(),
            Self::Broken { why } => format!("its lock does not hold: {why}"),
            Self::Locked { seconds, tried } => format!(
                "what is written is locked for {} from then on, and these keys can't lift that; what is older can be \
                 deleted (tried {} ago)",
                long(*seconds),
                long(now - tried)
            ),
            Self::Said => "its server only lets add, as haven.toml says (append_only); that is not tried".to_owned(),
        })
    }
}

/// A library that is still being restored from a copy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restoring {
    /// The copy: what is not in the library's place yet is read from there.
    pub from: Place,
    /// What has come; none: that was not found out yet.
    pub here: Option<Amount>,
    /// All that is needed.
    pub needed: Option<Amount>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    pub objects: u64,
    pub bytes: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Mount {
    pub point: String,
    /// What a look at it answered: how long that took in seconds, or what is wrong.
    pub answers: Option<Result<f64, String>>,
    pub writable: bool,
    /// Why it is not writable.
    pub stopped: Option<String>,
    pub fenced: bool,
    /// The settings want it read-only.
    pub meant_read_only: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Queue {
    pub changes: u64,
    pub bytes: u64,
    /// Since when the oldest change waits.
    pub since: Option<i64>,
    /// Since when nothing has gone out, although something waits.
    pub stuck_since: Option<i64>,
    /// How long it was some hours ago, or as far back as it is remembered; none: nothing waited since.
    #[serde(default)]
    pub before: Option<Length>,
}

/// How long a queue was at some time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Length {
    pub at: i64,
    pub changes: u64,
    pub bytes: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Cache {
    pub place: String,
    pub used: u64,
    pub limit: u64,
    pub clean: u64,
    /// The disk below it.
    pub disk_bytes: u64,
    pub disk_free: u64,
    /// What was free, and when: oldest first.
    pub samples: Vec<(i64, u64)>,
}

/// What the keeper remembers by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diary {
    /// The disk of its directory; none: it is the cache's, or there is no directory yet.
    pub disk: Option<Disk>,
    /// Why the ledger can't be written.
    pub unwritten: Option<String>,
    /// A ledger that was damaged.
    pub aside: Option<Aside>,
}

/// A disk as `df` has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// A directory on it.
    pub place: String,
    pub bytes: u64,
    pub free: u64,
}

/// A ledger that was damaged, and was kept under another name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aside {
    pub at: i64,
    pub path: String,
    pub why: String,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Store {
    /// What is wrong with it just now.
    pub trouble: Option<String>,
    pub trouble_since: Option<i64>,
    /// Requests within the last look back, and how many of them failed.
    pub requests: u64,
    pub errors: u64,
    /// Objects found damaged, and how.
    pub damage: Vec<(String, String)>,
    /// The store's clock minus this machine's, seconds, where it tells.
    pub skew: Option<i64>,
}

/// Deletions are held back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Brake {
    /// `library`, or a replica's name.
    pub of: String,
    pub why: String,
}

/// Recovery points of an application.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Points {
    pub application: String,
    pub newest: Option<i64>,
    pub count: usize,
    /// How far apart they should be; none: they are not scheduled.
    pub interval: Option<i64>,
    /// Since when they are: a first one is not late before its time.
    pub scheduled_since: Option<i64>,
    /// After the newest, by the plan; none: its interval counts.
    #[serde(default)]
    pub expected: Option<Expected>,
    /// Folders of points that are not complete.
    pub broken: usize,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Replica {
    pub name: String,
    pub place: Place,
    /// When it last had everything that the library had.
    pub up_to_date: Option<i64>,
    pub interval: Option<i64>,
    pub scheduled_since: Option<i64>,
    /// After the newest, by the plan; none: its interval counts.
    #[serde(default)]
    pub expected: Option<Expected>,
    /// The most it may be behind, whatever its schedule says, seconds.
    pub lag_max: Option<i64>,
    /// When every byte of it was last read back and found right.
    pub verified: Option<i64>,
    /// When the round of reading back that goes on began; none: no run has told yet.
    pub round_began: Option<i64>,
    /// How long such a round may take, seconds; none: nothing is said of it.
    pub verify_within: Option<i64>,
    /// Objects in it that nothing could mend.
    pub damaged: u64,
    pub trouble: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ThirdCopy {
    pub name: String,
    /// `borg`, `restic`.
    pub format: String,
    pub place: Place,
    pub last_good: Option<i64>,
    pub interval: Option<i64>,
    pub scheduled_since: Option<i64>,
    /// After the newest, by the plan; none: its interval counts.
    #[serde(default)]
    pub expected: Option<Expected>,
    /// Archives that were there and are not any more.
    pub vanished: usize,
}

/// The newest drill of a copy at a level.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drill {
    pub copy: String,
    pub level: u8,
    pub at: i64,
    pub ok: bool,
    /// Its first fault.
    pub why: String,
}

/// When something should be made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expected {
    /// With what delays it on purpose.
    pub at: i64,
    /// Seconds from the time before that one.
    #[serde(default)]
    pub before: i64,
    /// Seconds to the time after it.
    pub gap: i64,
}

/// A job, and how its last run went.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct JobState {
    pub kind: String,
    pub name: String,
    pub schedule: String,
    pub interval: Option<i64>,
    pub next: Option<i64>,
    pub running_since: Option<i64>,
    /// The last run that came to an end.
    pub last: Option<LastRun>,
    pub last_done: Option<i64>,
    /// Failures in a row.
    pub failures: u32,
    /// The last time that passed without it.
    pub missed: Option<i64>,
    pub scheduled_since: Option<i64>,
    /// After its last run, be it good or bad.
    #[serde(default)]
    pub expected: Option<Expected>,
    /// The start of a run that is later than now, which nothing else here counts.
    #[serde(default)]
    pub ahead: Option<i64>,
    /// The number of that run: those that have ended since have greater ones.
    #[serde(default)]
    pub ahead_run: Option<i64>,
}

impl JobState {
    /// What a person calls it, and the plan.
    pub fn called(&self) -> String {
        if self.name.is_empty() { self.kind.clone() } else { format!("{} {}", self.kind, self.name) }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LastRun {
    pub id: i64,
    pub started: i64,
    pub verdict: Verdict,
    pub said: String,
    pub tail: String,
}

/// Something that ends by itself: a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expiry {
    /// `the certificate of s3.example.org`.
    pub what: String,
    pub subject: String,
    pub at: i64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scrub {
    pub at: i64,
    pub whole: bool,
    /// Objects damaged and not mended.
    pub faults: u64,
    /// Files that can't be read whole: names are for the owner alone, and are not told by alerts.
    pub files: u64,
    /// Each of the faults stands in [`Store::damage`] until it is over. Older versions counted them here alone, until the next
    /// scrub.
    #[serde(default)]
    pub named: bool,
}

impl Scrub {
    /// Damage that nothing else tells of.
    pub fn nameless(&self) -> u64 {
        if self.whole || self.named { 0 } else { self.faults.max(1) }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sums {
    /// And folders.
    pub files: u64,
    pub file_bytes: u64,
    pub stored_bytes: u64,
    /// Of different content, plain: all that the bucket holds for files as they are, and as they were in snapshots and lately.
    #[serde(default)]
    pub content_bytes: u64,
}

/// How large the library was at some time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Then {
    pub at: i64,
    pub sums: Sums,
}

impl State {
    /// Why `what` could not be looked at, if so.
    pub fn unseen(&self, what: &Sight) -> Option<&Unseen> {
        let hides = |one: &&Unseen| one.what == *what || (one.what == Sight::Ledger && what.is_remembered());
        self.unseen.iter().find(hides)
    }

    /// Of each copy that failed a drill which no good one has answered since: that drill, of the highest level. Only who tries
    /// as much or more can answer: that a hundredth reads well says nothing of the rest, nor of the database.
    pub fn failed_drills(&self) -> Vec<&Drill> {
        let answered = |failed: &Drill| {
            let answers = |one: &Drill| one.ok && one.level >= failed.level && one.at >= failed.at;
            self.drills.iter().any(|one| one.copy == failed.copy && answers(one))
        };
        let mut worst: BTreeMap<&str, &Drill> = BTreeMap::new();
        for drill in self.drills.iter().filter(|drill| !drill.ok && !answered(drill)) {
            let known = worst.entry(&drill.copy).or_insert(drill);
            if (drill.level, drill.at) > (known.level, known.at) {
                *known = drill;
            }
        }
        worst.into_values().collect()
    }

    /// Whether anything is copied anywhere at regular times.
    pub fn has_points(&self) -> bool {
        !self.points.is_empty()
    }

    /// All places where the photos are: the library itself, replicas that were made, copies that were made. In place of a
    /// library that is not complete yet stands the copy that it comes from.
    pub fn places(&self) -> Vec<(String, &Place)> {
        let among =
            |from: &Place| self.replicas.iter().any(|one| one.up_to_date.is_some() && one.place.url == from.url);
        let library: Vec<(String, &Place)> = match &self.restoring {
            None => self.library.iter().map(|place| ("library".to_owned(), place)).collect(),
            Some(one) if among(&one.from) => Vec::new(),
            Some(one) => vec![("what the library is restored from".to_owned(), &one.from)],
        };
        let replicas = self.replicas.iter().filter(|one| one.up_to_date.is_some());
        let copies = self.copies.iter().filter(|one| one.last_good.is_some());
        library
            .into_iter()
            .chain(replicas.map(|one| (one.name.clone(), &one.place)))
            .chain(copies.map(|one| (one.name.clone(), &one.place)))
            .collect()
    }
}
