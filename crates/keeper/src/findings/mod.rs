//! What a person should know, computed from the state alone and never from exit codes. Command line, page, alerts and
//! metrics render the same values. To add one: its file or function, its line in [`CHECKS`], a test, a section in the manual.

mod copies;
mod jobs;
mod judged;
mod library;
mod machine;
mod proof;
mod unseen;

use serde::{Deserialize, Serialize};

pub(crate) use copies::unread_for;
pub use judged::is_judged;
pub use machine::full_in;
pub(crate) use proof::may_be_fresh;

use crate::state::{Expected, State};

/// How much it matters, wherever it is told: command line, page, alerts and metrics. The order is the order of weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know: something is well again, a report.
    Info,
    /// To be seen to within days.
    Warning,
    /// Photos are less safe than they should be.
    Critical,
}

impl Severity {
    pub const ALL: [Self; 3] = [Self::Info, Self::Warning, Self::Critical];

    /// A sign that says it without words or colours.
    pub fn sign(self) -> &'static str {
        match self {
            Self::Info => "✓",
            Self::Warning => "⚠",
            Self::Critical => "✖",
        }
    }

    /// As settings, JSON and metrics call it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// Something that a person should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Stable: `replica-lag`. The manual has a section of that name.
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
    /// The end of a log, where there is one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub log: String,
    /// Since when it is known, seconds since the epoch. Filled in by who remembers.
    pub since: i64,
}

impl Finding {
    fn new(key: &str, subject: impl Into<String>, severity: Severity, title: impl Into<String>) -> Self {
        Self {
            key: key.to_owned(),
            subject: subject.into(),
            severity,
            title: title.into(),
            meaning: String::new(),
            next: Vec::new(),
            log: String::new(),
            since: 0,
        }
    }

    fn critical(key: &str, subject: impl Into<String>, title: impl Into<String>) -> Self {
        Self::new(key, subject, Severity::Critical, title)
    }

    fn warning(key: &str, subject: impl Into<String>, title: impl Into<String>) -> Self {
        Self::new(key, subject, Severity::Warning, title)
    }

    fn means(mut self, text: impl Into<String>) -> Self {
        self.meaning = text.into();
        self
    }

    fn next(mut self, text: impl Into<String>) -> Self {
        self.next.push(text.into());
        self
    }

    /// What makes it the same finding at the next look: `replica-lag:far`.
    pub fn id(&self) -> String {
        if self.subject.is_empty() { self.key.clone() } else { format!("{}:{}", self.key, self.subject) }
    }
}

/// From where on something is worth telling.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// How many of its intervals a point or copy may be old.
    pub late: f64,
    /// Share of the cache's disk, and of its limit.
    pub disk_full: f64,
    /// A disk that is full within so many seconds.
    pub disk_forecast: i64,
    /// Seconds without any progress of the queue.
    pub queue_stuck: i64,
    /// Seconds that a change may wait in a queue that is sent too slowly.
    pub queue_behind: i64,
    /// Seconds that the store may be in trouble before anybody is told.
    pub store_patience: i64,
    /// Share of requests that fail.
    pub store_errors: f64,
    /// Seconds.
    pub drill_age: i64,
    pub clock_skew: i64,
    pub expiry: i64,
}

impl Default for Limits {
    fn default() -> Self {
        const DAY: i64 = 86_400;
        Self {
            late: 1.5,
            disk_full: 0.8,
            disk_forecast: DAY,
            queue_stuck: 900,
            queue_behind: DAY / 4,
            store_patience: 300,
            store_errors: 0.2,
            drill_age: 35 * DAY,
            clock_skew: 60,
            expiry: 21 * DAY,
        }
    }
}

type Check = fn(&State, &Limits) -> Vec<Finding>;

const CHECKS: [Check; 21] = [
    library::mounted,
    library::writable,
    library::restore,
    library::queue,
    library::store,
    library::damage,
    library::change,
    machine::cache,
    machine::diary,
    machine::clock,
    machine::future,
    machine::expiry,
    copies::points,
    copies::replicas,
    copies::third,
    copies::domains,
    copies::brakes,
    proof::drills,
    jobs::jobs,
    jobs::keeper,
    unseen::unseen,
];

/// All there is to say, gravest first.
pub fn findings(state: &State, limits: &Limits) -> Vec<Finding> {
    let mut all: Vec<Finding> = CHECKS.iter().flat_map(|check| check(state, limits)).collect();
    all.sort_by(|a, b| b.severity.cmp(&a.severity).then_with(|| a.id().cmp(&b.id())));
    all
}

/// Seconds that a time may be later than now: clocks of different machines are compared.
pub const AHEAD: i64 = 120;

/// Whether that can't have happened yet: the clock was set back since, or another machine's is ahead.
pub fn is_ahead(at: i64, now: i64) -> bool {
    at > now.saturating_add(AHEAD)
}

/// `3 days`, `5 hours`, `12 minutes`.
pub fn long(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let (number, unit) = match seconds {
        0..=119 => (seconds, "second"),
        120..=7199 => (seconds / 60, "minute"),
        7200..=172_799 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{number} {unit}{}", if number == 1 { "" } else { "s" })
}

/// `12.3 GB`.
pub fn size(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", units[unit]) }
}

/// Whether something that should happen every `interval` is late, and by what it is measured: the last time, or since
/// when it is expected at all. `expected`: when that is to be after it, where the plan was asked.
fn late(
    now: i64,
    last: Option<i64>,
    since: Option<i64>,
    interval: Option<i64>,
    expected: Option<Expected>,
    factor: f64,
) -> Option<i64> {
    let interval = interval?;
    // How old it is that is later than now nobody knows; that it is so is told once, for all of them.
    let from = last.or(since).filter(|from| !is_ahead(*from, now))?;
    let expected = expected.unwrap_or(Expected { at: from + interval, before: interval, gap: interval });
    is_over(now, from, expected, factor).then_some(now - from)
}

/// Whether what was last done at `from` is late at `now`: a part of the time after it has passed, too, for runs take their
/// time, and jitter is no lateness; and it is longer ago than it would usually be. What was done out of its turn, or ends
/// after its next time has come, is done again a turn later.
fn is_over(now: i64, from: i64, expected: Expected, factor: f64) -> bool {
    let usual = expected.before.min(expected.gap);
    (now - expected.at) as f64 > expected.gap as f64 * (factor - 1.0) && (now - from) as f64 > usual as f64 * factor
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::state::{Hold, Mount, Place};

    pub const NOW: i64 = 1_800_000_000;
    pub const HOUR: i64 = 3600;
    pub const DAY: i64 = 86_400;

    /// A library that is mounted, and about which there is nothing to say.
    pub fn well() -> State {
        State {
            now: NOW,
            host: "mini".into(),
            library: Some(place("s3://photos/haven", "s3.example.org", true)),
            mount: Mount { point: "/mnt/photos".into(), answers: Some(Ok(0.001)), writable: true, ..Mount::default() },
            ..State::default()
        }
    }

    pub fn place(url: &str, domain: &str, elsewhere: bool) -> Place {
        Place { url: url.into(), kind: "s3".into(), domain: domain.into(), elsewhere, hold: Hold::Open }
    }

    pub fn ids(state: &State) -> Vec<String> {
        findings(state, &Limits::default()).iter().map(Finding::id).collect()
    }

    #[test]
    fn nothing_is_said_of_a_library_that_is_well() {
        assert_eq!(ids(&well()), Vec::<String>::new());
    }

    #[test]
    fn every_finding_says_what_it_means_and_what_to_do() {
        // As much amiss as there can be.
        let mut state = well();
        state.mount.answers = Some(Err("timed out".into()));
        state.store.trouble = Some("refused".into());
        state.store.trouble_since = Some(NOW - DAY);
        state.store.damage = vec![("p/1".into(), "cut short".into())];
        state.store.skew = Some(-600);
        state.queue.stuck_since = Some(NOW - DAY);
        state.queue.changes = 3;
        state.cache.disk_bytes = 100;
        state.cache.disk_free = 1;
        state.diary = crate::state::Diary {
            disk: Some(crate::state::Disk { place: "/x".into(), bytes: 100, free: 1 }),
            unwritten: Some("no room".into()),
            aside: Some(crate::state::Aside { at: NOW, path: "/x/y".into(), why: "torn".into() }),
        };
        state.brakes = vec![crate::state::Brake { of: "library".into(), why: "too much".into() }];
        state.sums.files = 100;
        state.day_ago =
            Some(crate::state::Then { at: NOW - DAY, sums: crate::state::Sums { files: 1000, ..state.sums } });
        state.expiries =
            vec![crate::state::Expiry { what: "the certificate of x".into(), subject: "x".into(), at: NOW + DAY }];
        let all = findings(&state, &Limits::default());
        assert!(all.len() >= 12, "{all:?}");
        for finding in all {
            assert!(!finding.meaning.is_empty() && !finding.next.is_empty(), "{finding:?}");
            assert!(finding.key.chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{finding:?}");
        }
    }

    #[test]
    fn a_severity_has_one_word_wherever_it_is_told() {
        for severity in Severity::ALL {
            assert_eq!(serde_json::to_value(severity).unwrap(), severity.word());
        }
        assert!(Severity::ALL.is_sorted());
    }

    #[test]
    fn spans_and_sizes_are_told_in_words() {
        assert_eq!([90, 7200, 200_000, 1].map(long), ["90 seconds", "2 hours", "2 days", "1 second"]);
        assert_eq!(size(1_500_000), "1.5 MB");
    }
}
