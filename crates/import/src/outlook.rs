//! What a plan shows beside the counts: pairs that are doubtful, photos without a sidecar, names that lie, where dates
//! come from, the largest files, and how long it will take.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use haven_takeout::sniff;
use serde::{Deserialize, Serialize};

use crate::{
    compare::Cap,
    foreseen::Foreseen,
    journal::{Journal, JournalError},
    near::{self, Near},
    options::Options,
    pace::{self, Left},
    peek::format_of,
    plan::MOTION,
    progress::Progress,
    report::{Count, rule_word},
};

/// How many of a kind are told by name; the report's lines tell all.
const TOLD: usize = 20;
/// Photos without a sidecar of which the nearest are looked for.
const UNMATCHED_TOLD: usize = 5;
const LARGEST_TOLD: usize = 5;
/// What Cloudflare lets through, the smallest limit of those that are met before a server at home.
pub const USUAL_CAP_BYTES: u64 = 100_000_000;
/// What is assumed of a server of which nothing was measured.
pub const FILES_PER_SECOND: f64 = 10.0;

/// How many, and the first of them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Listed<T> {
    pub files: u64,
    pub first: Vec<T>,
}

impl<T> Default for Listed<T> {
    fn default() -> Self {
        Self { files: 0, first: Vec::new() }
    }
}

/// A file whose sidecar only may be its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Doubtful {
    pub path: String,
    pub sidecar: String,
    pub rule: &'static str,
}

/// A file without a sidecar, and those that were not taken.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Unmatched {
    pub path: String,
    pub nearest: Vec<Near>,
}

/// A file whose extension is another format's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Misnamed {
    pub path: String,
    /// With the extension of what it is.
    pub sent_as: String,
}

/// One of the largest files that are still to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Large {
    pub path: String,
    pub bytes: u64,
    /// Does what stands before the server let it through? None where no server was asked.
    pub passes: Option<bool>,
}

/// How long the rest will take, and by what that is reckoned.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// Still to be sent.
    pub files: u64,
    pub bytes: u64,
    /// What the last run of this import reached; none where there was none that sent enough to tell.
    pub measured: Option<Measures>,
}

/// What a run reached on average.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Measures {
    pub bytes_per_second: f64,
    pub files_per_second: f64,
}

impl Estimate {
    /// At the measured pace; none where nothing was measured.
    pub fn left(&self) -> Option<Left> {
        let measured = self.measured?;
        let by_bytes = pace::time(self.bytes, measured.bytes_per_second)?;
        Some(Left::of(by_bytes, pace::time(self.files, measured.files_per_second)?))
    }

    /// The bytes alone, over a line of that many bits a second.
    pub fn over(&self, bits_per_second: u64) -> Duration {
        Duration::from_secs_f64(self.bytes as f64 * 8.0 / bits_per_second as f64)
    }

    /// The server's part alone, at [`FILES_PER_SECOND`].
    pub fn at_server(&self) -> Duration {
        Duration::from_secs_f64(self.files as f64 / FILES_PER_SECOND)
    }
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outlook {
    pub doubtful: Listed<Doubtful>,
    pub unmatched: Listed<Unmatched>,
    /// Sidecars that serve no photo.
    pub orphans: Listed<String>,
    /// Of those that were looked into.
    pub misnamed: Listed<Misnamed>,
    pub dates: Foreseen,
    /// Of those that are still to be sent: how many tell whether they are of the dates asked for when they are read.
    pub judged_when_read: u64,
    pub largest: Vec<Large>,
    /// Those of more than [`USUAL_CAP_BYTES`].
    pub above_usual_cap: Count,
    pub estimate: Estimate,
}

/// Still to be sent.
pub(crate) const DUE: &str = "c.entry IS NOT NULL AND c.twin IS NULL AND c.state IN (0, 1, 4)";
const PATH: &str = "CASE d.path WHEN '' THEN e.name ELSE d.path || '/' || e.name END";

/// Looks at what was planned. `asked`: what a server said of the largest request, where one was asked.
pub fn outlook(journal: &Journal, asked: Option<Option<Cap>>) -> Result<Outlook, JournalError> {
    let count = |what: &str| journal.count(&format!("SELECT {what} FROM content c WHERE {DUE}"));
    let above = |what: &str| {
        journal.count(&format!("SELECT {what} FROM content c WHERE {DUE} AND c.bytes > {USUAL_CAP_BYTES}"))
    };
    let sum = "coalesce(sum(c.bytes), 0)";
    let measured = journal.meta(MEASURED)?.and_then(|text| serde_json::from_str(&text).ok());
    Ok(Outlook {
        doubtful: doubtful(journal)?,
        unmatched: unmatched(journal)?,
        orphans: orphans(journal)?,
        misnamed: misnamed(journal)?,
        dates: Foreseen::look(journal)?,
        judged_when_read: judged_when_read(journal)?,
        largest: largest(journal, asked)?,
        above_usual_cap: Count { files: above("count(*)")?, bytes: above(sum)? },
        estimate: Estimate { files: count("count(*)")?, bytes: count(sum)?, measured },
    })
}

fn judged_when_read(journal: &Journal) -> Result<u64, JournalError> {
    let options: Option<Options> = journal.meta("options")?.and_then(|text| serde_json::from_str(&text).ok());
    if !options.is_some_and(|options| options.wants_dates()) {
        return Ok(0);
    }
    journal.count(&format!(
        "SELECT count(*) FROM content c JOIN entry e ON e.id = c.entry LEFT JOIN item i ON i.entry = c.entry
         LEFT JOIN sidecar s ON s.entry = i.sidecar LEFT JOIN detail t ON t.dir = e.dir AND t.name = e.name
         WHERE {DUE} AND c.still IS NULL AND c.facts IS NULL AND coalesce(s.taken, t.taken) IS NULL"
    ))
}

fn doubtful(journal: &Journal) -> Result<Listed<Doubtful>, JournalError> {
    let files = journal.count("SELECT count(*) FROM item WHERE rule IS NOT NULL AND strong = 0")?;
    let db = journal.db();
    let mut query = db.prepare(&format!(
        "SELECT {PATH}, s.name, i.rule FROM item i JOIN entry e ON e.id = i.entry JOIN dir d ON d.id = e.dir
         JOIN entry s ON s.id = i.sidecar WHERE i.rule IS NOT NULL AND i.strong = 0 ORDER BY e.id LIMIT {TOLD}"
    ))?;
    let rows = query
        .query_map([], |row| Ok(Doubtful { path: row.get(0)?, sidecar: row.get(1)?, rule: rule_word(row.get(2)?) }))?;
    Ok(Listed { files, first: rows.collect::<rusqlite::Result<_>>()? })
}

fn unmatched(journal: &Journal) -> Result<Listed<Unmatched>, JournalError> {
    let files = journal.count("SELECT count(*) FROM item WHERE sidecar IS NULL")?;
    let paths = texts(
        journal,
        &format!(
            "SELECT {PATH} FROM item i JOIN entry e ON e.id = i.entry JOIN dir d ON d.id = e.dir
             WHERE i.sidecar IS NULL ORDER BY e.id LIMIT {UNMATCHED_TOLD}"
        ),
    )?;
    let mut first = vec![];
    for path in paths {
        first.push(Unmatched { nearest: near::nearest(journal, &path)?, path });
    }
    Ok(Listed { files, first })
}

fn orphans(journal: &Journal) -> Result<Listed<String>, JournalError> {
    let files = journal.count("SELECT count(*) FROM orphan")?;
    let first = texts(
        journal,
        &format!(
            "SELECT {PATH} FROM orphan o JOIN entry e ON e.id = o.sidecar JOIN dir d ON d.id = e.dir
             ORDER BY e.id LIMIT {TOLD}"
        ),
    )?;
    Ok(Listed { files, first })
}

fn texts(journal: &Journal, sql: &str) -> Result<Vec<String>, JournalError> {
    let db = journal.db();
    let mut query = db.prepare(sql)?;
    Ok(query.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?)
}

/// Moving halves are left out: `.MP` is no extension of any format, and all of them have it.
fn misnamed(journal: &Journal) -> Result<Listed<Misnamed>, JournalError> {
    let db = journal.db();
    let mut query = db.prepare(&format!(
        "SELECT {PATH}, e.name, c.format FROM content c JOIN entry e ON e.id = c.entry JOIN dir d ON d.id = e.dir
         JOIN item i ON i.entry = e.id WHERE c.format IS NOT NULL AND i.role <> {MOTION} ORDER BY e.id"
    ))?;
    let mut listed = Listed::default();
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let Some(format) = format_of(row.get(2)?) else { continue };
        let name = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
        let sent_as = sniff::right_name(name, format);
        if sent_as == name {
            continue;
        }
        listed.files += 1;
        if listed.first.len() < TOLD {
            listed.first.push(Misnamed { path: row.get(0)?, sent_as });
        }
    }
    Ok(listed)
}

fn largest(journal: &Journal, asked: Option<Option<Cap>>) -> Result<Vec<Large>, JournalError> {
    let db = journal.db();
    let mut query = db.prepare(&format!(
        "SELECT {PATH}, c.bytes FROM content c JOIN entry e ON e.id = c.entry JOIN dir d ON d.id = e.dir
         WHERE {DUE}
         ORDER BY c.bytes DESC, c.id LIMIT {LARGEST_TOLD}"
    ))?;
    let rows = query.query_map([], |row| {
        let bytes = row.get::<_, i64>(1)? as u64;
        let passes = asked.map(|cap| cap.is_none_or(|cap| bytes < cap.refused_bytes));
        Ok(Large { path: row.get(0)?, bytes, passes })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

const MEASURED: &str = "measured";
/// A shorter or smaller run tells nothing.
const TELLING: (Duration, u64) = (Duration::from_secs(10), 20);

/// Measures a run.
pub struct Measured {
    progress: Arc<Progress>,
    since: Instant,
    sent: u64,
    bytes: u64,
    away: Duration,
}

impl Measured {
    pub fn start(progress: &Arc<Progress>) -> Self {
        Self {
            sent: progress.sent.load(Relaxed),
            bytes: progress.sent_bytes.load(Relaxed),
            away: progress.away(),
            since: Instant::now(),
            progress: progress.clone(),
        }
    }

    /// Keeps what it reached, where it sent enough to tell. How long the server was away does not count.
    pub fn keep(self, journal: &Journal) -> Result<(), JournalError> {
        let took = self.since.elapsed().saturating_sub(self.progress.away() - self.away);
        let sent = self.progress.sent.load(Relaxed) - self.sent;
        let bytes = self.progress.sent_bytes.load(Relaxed) - self.bytes;
        if took < TELLING.0 || sent < TELLING.1 {
            return Ok(());
        }
        let per_second = |count: u64| count as f64 / took.as_secs_f64();
        let reached = Measures { bytes_per_second: per_second(bytes), files_per_second: per_second(sent) };
        journal.set_meta(MEASURED, &serde_json::to_string(&reached).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pace::Bound;

    #[test]
    fn an_estimate_tells_what_it_hangs_on() {
        let measured = Some(Measures { bytes_per_second: 50e6, files_per_second: 4.0 });
        let estimate = Estimate { files: 40_000, bytes: 100_000_000_000, measured };
        let left = estimate.left().unwrap();
        assert_eq!((left.bound, left.time().as_secs(), left.by_bytes.as_secs()), (Bound::Files, 10_000, 2000));
        assert_eq!((estimate.over(1_000_000_000).as_secs(), estimate.at_server().as_secs()), (800, 4000));
        assert_eq!(Estimate { measured: None, ..estimate }.left(), None);
    }

    #[test]
    fn a_run_that_sent_much_is_measured_and_a_short_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(&dir.path().join("j")).unwrap();
        let progress = Arc::new(Progress::default());
        let run = |seconds: u64, files: u64| {
            let mut measured = Measured::start(&progress);
            measured.since = Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap();
            progress.sent.fetch_add(files, Relaxed);
            progress.sent_bytes.fetch_add(files * 1_000_000, Relaxed);
            measured.keep(&journal).unwrap();
            outlook(&journal, None).unwrap().estimate.measured
        };
        assert_eq!(run(2, 1000), None);
        assert_eq!(run(100, 3), None);
        let reached = run(100, 1000).unwrap();
        assert!((9.9..10.1).contains(&reached.files_per_second), "{reached:?}");
        assert!((9.9e6..10.1e6).contains(&reached.bytes_per_second), "{reached:?}");
    }
}
