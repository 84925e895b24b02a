//! What was done, in one SQLite file: every run with its verdict and the end of its log, how large the library was day
//! by day, and since when what is amiss is so.
//!
//! Promises: a run that has begun is on the disk before its child is started, and one that the keeper did not see end
//! is closed as killed at the next start: nothing stays "running" for ever. Any number of processes may read while one
//! writes.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

/// Changes when a table does. A newer Haven may add to it and must go on reading this.
const VERSION: i64 = 1;
/// How long runs are kept, milliseconds: a year and a bit, so that last year's drill can be looked at.
const KEPT: i64 = 400 * 86_400_000;
/// A log's end, as it stands in the ledger.
pub const TAIL_LINES: usize = 20;
const TAIL_BYTES_MAX: usize = 8 << 10;

#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error("the ledger {} was written by a newer version of Haven (format {version})", path.display())]
    Newer { path: PathBuf, version: i64 },
    #[error("there is no ledger at {}", path.display())]
    Missing { path: PathBuf },
    #[error("the ledger {} can't be used", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("the ledger {} is damaged: {said}", path.display())]
    Damaged { path: PathBuf, said: String },
    #[error("the ledger can't be read or written")]
    Sqlite(#[from] rusqlite::Error),
}

impl LedgerError {
    /// Whether what is there is no ledger, or not all of one: waiting, or making room, would not mend it.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Damaged { .. } => true,
            Self::Sqlite(error) => {
                matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
            }
            _ => false,
        }
    }
}

/// How a run went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Running,
    Ok,
    /// Done, and a person should look.
    Warned,
    Failed,
    /// It did not come to its end: a signal, a restart.
    Killed,
    /// It was due while nobody was there to do it.
    Missed,
}

impl Verdict {
    pub fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Ok => "ok",
            Self::Warned => "warned",
            Self::Failed => "failed",
            Self::Killed => "killed",
            Self::Missed => "missed",
        }
    }

    fn of(word: &str) -> Self {
        match word {
            "running" => Self::Running,
            "ok" => Self::Ok,
            "warned" => Self::Warned,
            "failed" => Self::Failed,
            "missed" => Self::Missed,
            _ => Self::Killed,
        }
    }

    /// Whether what was to be done was done.
    pub fn is_done(self) -> bool {
        matches!(self, Self::Ok | Self::Warned)
    }
}

/// A run. Times are milliseconds since the epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    pub id: i64,
    /// `backup`, `replica`, `drill-1`, …
    pub kind: String,
    /// Of what: an application, a replica, a copy; may be empty.
    pub name: String,
    /// When it was due; none: somebody asked for it.
    pub planned: Option<i64>,
    pub started: i64,
    pub ended: Option<i64>,
    /// Bytes that it moved.
    pub bytes: Option<u64>,
    pub verdict: Verdict,
    pub exit: Option<i32>,
    /// What came of it, in a line.
    pub said: String,
    /// The last lines of its log.
    pub tail: String,
    /// The whole log.
    pub log: Option<PathBuf>,
    /// How often it was tried before for the same time.
    pub tries: u32,
    /// What ties its start to its end for a dead-man's switch: a UUID.
    pub token: String,
    /// The child, while it runs, and when that process was started, by the kernel's own count.
    pub pid: Option<u32>,
    pub pid_started: Option<u64>,
}

impl Run {
    pub fn millis(&self, now: i64) -> i64 {
        (self.ended.unwrap_or(now) - self.started).max(0)
    }
}

/// A run that begins.
#[derive(Debug, Clone, Default)]
pub struct Begin<'a> {
    pub kind: &'a str,
    pub name: &'a str,
    pub planned: Option<i64>,
    pub started: i64,
    pub tries: u32,
    pub token: &'a str,
}

/// How it ended.
#[derive(Debug, Clone)]
pub struct End<'a> {
    pub ended: i64,
    pub verdict: Verdict,
    pub exit: Option<i32>,
    pub bytes: Option<u64>,
    pub said: &'a str,
    pub tail: &'a str,
}

/// Which runs are wanted, newest first.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub kind: Option<String>,
    pub name: Option<String>,
    /// Started at this time or later, and before that one: milliseconds since the epoch.
    pub since: Option<i64>,
    pub before: Option<i64>,
    /// 0: all.
    pub limit: usize,
}

/// How large things were at some time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Growth {
    /// Seconds since the epoch.
    pub at: i64,
    pub files: u64,
    pub file_bytes: u64,
    pub stored_bytes: u64,
}

/// `run`: see [`Run`]; `verdict` is its word. `since`: when a finding was first seen, seconds. `growth`: once an hour.
/// `note`: a value by name, for what the keeper itself must remember.
const TABLES: &str = "
CREATE TABLE run(id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, name TEXT NOT NULL, planned INTEGER,
  started INTEGER NOT NULL, ended INTEGER, bytes INTEGER, verdict TEXT NOT NULL, exit INTEGER, said TEXT NOT NULL DEFAULT '',
  tail TEXT NOT NULL DEFAULT '', log TEXT, tries INTEGER NOT NULL DEFAULT 0, token TEXT NOT NULL DEFAULT '', pid INTEGER,
  pid_started INTEGER);
CREATE INDEX run_of ON run(kind, name, started);
CREATE INDEX run_started ON run(started);
CREATE TABLE since(key TEXT PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE growth(at INTEGER PRIMARY KEY, files INTEGER NOT NULL, file_bytes INTEGER NOT NULL,
  stored_bytes INTEGER NOT NULL);
CREATE TABLE note(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
";

const COLUMNS: &str =
    "id, kind, name, planned, started, ended, bytes, verdict, exit, said, tail, log, tries, token, pid, pid_started";

pub struct Ledger {
    connection: Mutex<Connection>,
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ledger")
    }
}

impl Ledger {
    /// For writing; made where it is missing.
    pub fn open(path: &Path) -> Result<Self, LedgerError> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|source| LedgerError::Io { path: path.into(), source })?;
        }
        let connection = Connection::open(path)?;
        connection.busy_timeout(Duration::from_secs(10))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // A power cut loses nothing that was said to be done.
        connection.pragma_update(None, "synchronous", "FULL")?;
        let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        match version {
            0 => connection
                .execute_batch(&format!("BEGIN IMMEDIATE;{TABLES}PRAGMA user_version = {VERSION};COMMIT;"))
                .or_else(|error| {
                    // Another process made them at the same moment.
                    let now: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
                    if now == VERSION { connection.execute_batch("ROLLBACK;").or(Ok(())) } else { Err(error) }
                })?,
            VERSION => {}
            version => return Err(LedgerError::Newer { path: path.into(), version }),
        }
        Ok(Self { connection: Mutex::new(connection) })
    }

    /// The same, of one that must be whole: all of it is looked through.
    pub fn open_whole(path: &Path) -> Result<Self, LedgerError> {
        let ledger = Self::open(path)?;
        let said: String = ledger.db().query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if said == "ok" { Ok(ledger) } else { Err(LedgerError::Damaged { path: path.into(), said }) }
    }

    /// One that is gone with its process, for who can keep none.
    pub fn in_memory() -> Result<Self, LedgerError> {
        let connection = Connection::open_in_memory()?;
        connection.execute_batch(TABLES)?;
        Ok(Self { connection: Mutex::new(connection) })
    }

    /// For reading what is there.
    pub fn read(path: &Path) -> Result<Self, LedgerError> {
        // One that may not be looked at is not missing.
        if !path.try_exists().map_err(|source| LedgerError::Io { path: path.into(), source })? {
            return Err(LedgerError::Missing { path: path.into() });
        }
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)
            .or_else(|_| Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY))?;
        connection.busy_timeout(Duration::from_secs(10))?;
        let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        match version {
            VERSION => Ok(Self { connection: Mutex::new(connection) }),
            0 => Err(LedgerError::Missing { path: path.into() }),
            version => Err(LedgerError::Newer { path: path.into(), version }),
        }
    }

    fn db(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A run begins; its number.
    pub fn begin(&self, begin: &Begin<'_>) -> Result<i64, LedgerError> {
        let db = self.db();
        db.execute(
            "INSERT INTO run(kind, name, planned, started, verdict, tries, token) VALUES(?1, ?2, ?3, ?4, 'running', ?5, ?6)",
            params![begin.kind, begin.name, begin.planned, begin.started, begin.tries, begin.token],
        )?;
        Ok(db.last_insert_rowid())
    }

    /// Its child has been started, and writes its log there.
    pub fn child(&self, id: i64, pid: u32, pid_started: Option<u64>, log: &Path) -> Result<(), LedgerError> {
        let started = pid_started.and_then(|started| i64::try_from(started).ok());
        self.db().execute(
            "UPDATE run SET pid = ?2, pid_started = ?3, log = ?4 WHERE id = ?1",
            params![id, pid, started, log.to_string_lossy()],
        )?;
        Ok(())
    }

    pub fn end(&self, id: i64, end: &End<'_>) -> Result<(), LedgerError> {
        self.db().execute(
            "UPDATE run SET ended = ?2, verdict = ?3, exit = ?4, bytes = ?5, said = ?6, tail = ?7, pid = NULL WHERE id = ?1",
            params![
                id,
                end.ended,
                end.verdict.word(),
                end.exit,
                end.bytes.and_then(|bytes| i64::try_from(bytes).ok()),
                end.said,
                tail(end.tail)
            ],
        )?;
        Ok(())
    }

    /// Runs that nobody saw end.
    pub fn running(&self) -> Result<Vec<Run>, LedgerError> {
        let db = self.db();
        let mut query = db.prepare(&format!("SELECT {COLUMNS} FROM run WHERE verdict = 'running' ORDER BY id"))?;
        let rows = query.query_map([], of)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Notes a time at which nobody was there to do it.
    pub fn missed(&self, kind: &str, name: &str, planned: i64, said: &str) -> Result<(), LedgerError> {
        self.db().execute(
            "INSERT INTO run(kind, name, planned, started, ended, verdict, said) VALUES(?1, ?2, ?3, ?3, ?3, 'missed', ?4)",
            params![kind, name, planned, said],
        )?;
        Ok(())
    }

    /// How many runs have ended: another number, when one has since.
    pub fn ends(&self) -> Result<i64, LedgerError> {
        Ok(self.db().query_row("SELECT count(*) FROM run WHERE ended IS NOT NULL", [], |row| row.get(0))?)
    }

    /// Newest first.
    pub fn runs(&self, filter: &Filter) -> Result<Vec<Run>, LedgerError> {
        let db = self.db();
        let limit = if filter.limit == 0 { -1 } else { i64::try_from(filter.limit).unwrap_or(-1) };
        let mut query = db.prepare(&format!(
            "SELECT {COLUMNS} FROM run WHERE (?1 IS NULL OR kind = ?1) AND (?2 IS NULL OR name = ?2)
             AND (?3 IS NULL OR started >= ?3) AND (?4 IS NULL OR started < ?4) ORDER BY started DESC, id DESC LIMIT ?5"
        ))?;
        let rows = query.query_map(params![filter.kind, filter.name, filter.since, filter.before, limit], of)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub fn run(&self, id: i64) -> Result<Option<Run>, LedgerError> {
        let sql = format!("SELECT {COLUMNS} FROM run WHERE id = ?1");
        Ok(self.db().query_row(&sql, [id], of).optional()?)
    }

    /// The newest run of a job with one of these verdicts.
    pub fn last(&self, kind: &str, name: &str, verdicts: &[Verdict]) -> Result<Option<Run>, LedgerError> {
        let words: Vec<String> = verdicts.iter().map(|verdict| format!("'{}'", verdict.word())).collect();
        let sql = format!(
            "SELECT {COLUMNS} FROM run WHERE kind = ?1 AND name = ?2 AND verdict IN ({}) ORDER BY started DESC, id DESC LIMIT 1",
            words.join(",")
        );
        Ok(self.db().query_row(&sql, params![kind, name], of).optional()?)
    }

    /// Since when each of `keys` is so, seconds since the epoch: those that are new are so since `now`, those that are gone
    /// are forgotten.
    pub fn since(&self, keys: &[String], now: i64) -> Result<Vec<i64>, LedgerError> {
        let mut db = self.db();
        let change = db.transaction()?;
        let known: Vec<String> = {
            let mut query = change.prepare("SELECT key FROM since")?;
            let rows = query.query_map([], |row| row.get(0))?;
            rows.collect::<Result<_, _>>()?
        };
        for gone in known.iter().filter(|key| !keys.contains(key)) {
            change.execute("DELETE FROM since WHERE key = ?1", [gone])?;
        }
        let mut out = Vec::with_capacity(keys.len());
        for key in keys {
            change.execute("INSERT OR IGNORE INTO since(key, at) VALUES(?1, ?2)", params![key, now])?;
            out.push(change.query_row("SELECT at FROM since WHERE key = ?1", [key], |row| row.get(0))?);
        }
        change.commit()?;
        Ok(out)
    }

    /// The same for who only reads.
    pub fn known_since(&self, key: &str) -> Result<Option<i64>, LedgerError> {
        Ok(self.db().query_row("SELECT at FROM since WHERE key = ?1", [key], |row| row.get(0)).optional()?)
    }

    pub fn grown(&self, growth: &Growth) -> Result<(), LedgerError> {
        let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        self.db().execute(
            "INSERT OR REPLACE INTO growth(at, files, file_bytes, stored_bytes) VALUES(?1, ?2, ?3, ?4)",
            params![growth.at, number(growth.files), number(growth.file_bytes), number(growth.stored_bytes)],
        )?;
        Ok(())
    }

    /// Oldest first.
    pub fn growth(&self, since: i64) -> Result<Vec<Growth>, LedgerError> {
        let db = self.db();
        let mut query =
            db.prepare("SELECT at, files, file_bytes, stored_bytes FROM growth WHERE at >= ?1 ORDER BY at")?;
        let number = |row: &Row<'_>, at| row.get::<_, i64>(at).map(|count| u64::try_from(count).unwrap_or_default());
        let rows = query.query_map([since], |row| {
            let (files, file_bytes, stored_bytes) = (number(row, 1)?, number(row, 2)?, number(row, 3)?);
            Ok(Growth { at: row.get(0)?, files, file_bytes, stored_bytes })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub fn note(&self, key: &str) -> Result<Option<String>, LedgerError> {
        Ok(self.db().query_row("SELECT value FROM note WHERE key = ?1", [key], |row| row.get(0)).optional()?)
    }

    pub fn set_note(&self, key: &str, value: &str) -> Result<(), LedgerError> {
        self.db().execute("INSERT OR REPLACE INTO note(key, value) VALUES(?1, ?2)", params![key, value])?;
        Ok(())
    }

    /// Forgets what is older than is kept; the logs whose runs are forgotten, for who deletes them. Of each job the
    /// newest that was done stays.
    pub fn forget(&self, now: i64) -> Result<Vec<PathBuf>, LedgerError> {
        let db = self.db();
        let stays = "SELECT max(id) FROM run WHERE verdict IN ('ok', 'warned') GROUP BY kind, name";
        let which = format!("started < ?1 AND verdict <> 'running' AND id NOT IN ({stays})");
        let logs = {
            let mut query = db.prepare(&format!("SELECT log FROM run WHERE log IS NOT NULL AND {which}"))?;
            let rows = query.query_map([now - KEPT], |row| row.get::<_, String>(0))?;
            rows.collect::<Result<Vec<_>, _>>()?
        };
        db.execute(&format!("DELETE FROM run WHERE {which}"), [now - KEPT])?;
        Ok(logs.into_iter().map(PathBuf::from).collect())
    }
}

fn of(row: &Row<'_>) -> rusqlite::Result<Run> {
    let verdict: String = row.get(7)?;
    let log: Option<String> = row.get(11)?;
    Ok(Run {
        id: row.get(0)?,
        kind: row.get(1)?,
        name: row.get(2)?,
        planned: row.get(3)?,
        started: row.get(4)?,
        ended: row.get(5)?,
        bytes: row.get::<_, Option<i64>>(6)?.and_then(|bytes| u64::try_from(bytes).ok()),
        verdict: Verdict::of(&verdict),
        exit: row.get(8)?,
        said: row.get(9)?,
        tail: row.get(10)?,
        log: log.map(PathBuf::from),
        tries: row.get(12)?,
        token: row.get(13)?,
        pid: row.get(14)?,
        pid_started: row.get::<_, Option<i64>>(15)?.and_then(|started| u64::try_from(started).ok()),
    })
}

/// The last lines of a log, bounded.
pub fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    let kept = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
    let mut from = kept.len().saturating_sub(TAIL_BYTES_MAX);
    while !kept.is_char_boundary(from) {
        from += 1;
    }
    kept[from..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> (tempfile::TempDir, PathBuf, Ledger) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.sqlite");
        let ledger = Ledger::open(&path).unwrap();
        (folder, path, ledger)
    }

    fn begin(ledger: &Ledger, kind: &str, started: i64) -> i64 {
        ledger.begin(&Begin { kind, name: "near", planned: Some(started - 5), started, ..Begin::default() }).unwrap()
    }

    fn end(ledger: &Ledger, id: i64, ended: i64, verdict: Verdict) {
        let end = End { ended, verdict, exit: Some(0), bytes: Some(7), said: "done", tail: "a\nb" };
        ledger.end(id, &end).unwrap();
    }

    #[test]
    fn a_run_that_nobody_saw_end_is_found_at_the_next_start() {
        let (_folder, path, ledger) = ledger();
        let id = begin(&ledger, "replica", 1000);
        ledger.child(id, 42, Some(7), Path::new("/log")).unwrap();
        drop(ledger);
        let ledger = Ledger::open(&path).unwrap();
        let left = ledger.running().unwrap();
        assert_eq!((left.len(), left[0].pid, left[0].pid_started), (1, Some(42), Some(7)));
        end(&ledger, id, 2000, Verdict::Killed);
        assert!(ledger.running().unwrap().is_empty());
        let run = ledger.run(id).unwrap().unwrap();
        assert_eq!((run.verdict, run.pid, run.millis(0)), (Verdict::Killed, None, 1000));
    }

    #[test]
    fn the_newest_runs_come_first_and_can_be_asked_for_by_job_and_time() {
        let (_folder, path, ledger) = ledger();
        for (kind, started, verdict) in
            [("replica", 1000, Verdict::Ok), ("gc", 2000, Verdict::Failed), ("replica", 3000, Verdict::Failed)]
        {
            let id = begin(&ledger, kind, started);
            end(&ledger, id, started + 10, verdict);
        }
        ledger.missed("gc", "near", 500, "nobody was there").unwrap();
        // As another process does, meanwhile.
        let other = Ledger::read(&path).unwrap();
        let ids = |filter: Filter| other.runs(&filter).unwrap().iter().map(|run| run.started).collect::<Vec<_>>();
        assert_eq!(ids(Filter::default()), [3000, 2000, 1000, 500]);
        assert_eq!(ids(Filter { kind: Some("replica".into()), limit: 1, ..Filter::default() }), [3000]);
        assert_eq!(ids(Filter { since: Some(1000), before: Some(3000), ..Filter::default() }), [2000, 1000]);
        let last = ledger.last("replica", "near", &[Verdict::Ok, Verdict::Warned]).unwrap().unwrap();
        assert_eq!((last.started, last.said.as_str(), last.bytes), (1000, "done", Some(7)));
    }

    #[test]
    fn since_when_something_is_so_is_kept_until_it_is_gone() {
        let (_folder, _path, ledger) = ledger();
        let keys = |all: &[&str]| all.iter().map(|&key| key.to_owned()).collect::<Vec<_>>();
        assert_eq!(ledger.since(&keys(&["a", "b"]), 10).unwrap(), [10, 10]);
        assert_eq!(ledger.since(&keys(&["b", "c"]), 20).unwrap(), [10, 20]);
        assert_eq!(ledger.since(&keys(&["a"]), 30).unwrap(), [30], "it came back");
        assert_eq!((ledger.known_since("a").unwrap(), ledger.known_since("b").unwrap()), (Some(30), None));
    }

    #[test]
    fn old_runs_are_forgotten_but_for_the_last_good_one_of_each_job() {
        let (_folder, _path, ledger) = ledger();
        for (started, verdict) in [(1, Verdict::Ok), (2, Verdict::Ok), (3, Verdict::Failed)] {
            let id = begin(&ledger, "drill-2", started);
            ledger.child(id, 1, None, Path::new(&format!("/log/{started}"))).unwrap();
            end(&ledger, id, started, verdict);
        }
        let logs = ledger.forget(KEPT + 10).unwrap();
        assert_eq!(logs, [PathBuf::from("/log/1"), PathBuf::from("/log/3")]);
        assert_eq!(ledger.runs(&Filter::default()).unwrap().len(), 1);
    }

    #[test]
    fn what_is_no_ledger_is_told() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(Ledger::read(&folder.path().join("none")), Err(LedgerError::Missing { .. })));
        let path = folder.path().join("new");
        drop(Ledger::open(&path).unwrap());
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 9).unwrap();
        assert!(matches!(Ledger::open(&path), Err(LedgerError::Newer { version: 9, .. })));
        std::fs::write(&path, "no database at all, and long enough to be looked at").unwrap();
        assert!(Ledger::open(&path).unwrap_err().is_damage());
        let in_the_way = LedgerError::Missing { path };
        assert!(!in_the_way.is_damage(), "what is not there is not damaged");
    }

    #[test]
    fn a_ledger_of_which_a_part_is_rubbish_is_damaged() {
        let (_folder, path, ledger) = ledger();
        for at in 0..2000 {
            begin(&ledger, "replica", at);
        }
        drop(ledger);
        drop(Ledger::open_whole(&path).unwrap());
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle..].fill(0xff);
        std::fs::write(&path, bytes).unwrap();
        assert!(Ledger::open_whole(&path).unwrap_err().is_damage());
    }

    #[test]
    fn a_ledger_in_memory_remembers_as_any_other() {
        let ledger = Ledger::in_memory().unwrap();
        let id = begin(&ledger, "replica", 1000);
        end(&ledger, id, 2000, Verdict::Ok);
        ledger.set_note("a", "b").unwrap();
        assert_eq!((ledger.ends().unwrap(), ledger.note("a").unwrap()), (1, Some("b".into())));
    }

    #[test]
    fn a_tail_is_bounded_in_lines_and_bytes() {
        let long = "größe ".repeat(3000);
        assert!(tail(&long).len() <= TAIL_BYTES_MAX);
        assert_eq!(tail(&(0..50).map(|n| format!("{n}\n")).collect::<String>()).lines().next(), Some("30"));
    }
}
