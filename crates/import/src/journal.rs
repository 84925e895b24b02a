//! The journal: all that an import knows, in one SQLite file, so that it can be killed at any byte and go on.
//!
//! What was read of a part stays, so parts may come and go. What was done is written after the server said so; what is
//! under way is written before (`sending`, `creating`, a lease), because an answer can be lost.

use std::{
    fs::{File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard},
};

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, params};

/// Changes when a table does. Each version knows only itself: an import is short-lived.
const VERSION: i64 = 3;

/// Why the journal can't be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("another import is using the journal {0}")]
    InUse(PathBuf),
    #[error("the journal {0} was written by another version of Haven (format {1})")]
    Version(PathBuf, i64),
    #[error("there is no journal at {0}")]
    Missing(PathBuf),
    #[error("the disk of the journal is full")]
    Full,
    #[error("the journal {0} can't be written: {1}")]
    Io(PathBuf, io::Error),
    #[error("the journal: {0}")]
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for JournalError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full,
            _ => Self::Sqlite(error),
        }
    }
}

/// `part`: an archive or a folder; `fingerprint` recognises it under another name. `entries` is what its own list says: the
/// sum that the buckets must have. `here`: it was named in the last run.
/// `entry`: a file in it. `place` is its offset (zip) or its number (tar); `content` is none for what is no media.
/// `sidecar`, `album_json`: what was read of JSON; `raw`: all of it, as Google wrote it, packed by [`crate::raw`]. `item`:
/// what the matching found for a media entry. `orphan`: sidecars that serve nothing.
/// `undecided`: media entries of which what they say would decide which belong together; `mark`: what they said.
/// `detail`, `listed`: what Apple's tables say of the files beside them, and which names an album's table lists.
/// `excluded`: media entries that the owner's filters pass over before anything is matched.
/// `content`: bytes, taken for the same where CRC-32, length and `named` (a sum of the name without its counter) are. `entry`
/// is the copy whose sidecar speaks, `source` the one that is read; `part` and `place` order the reading. `twin`: the
/// content of another name that turned out to have the same SHA-1, and is the one on the server. `told`: the sidecar that
/// spoke when it was uploaded; where there was none, `facts` is what the file told of itself, for a sidecar that comes later.
/// `linked`: 1 a still that has its moving half, 2 a moving half that came as a film, because its still can't be read.
/// `verified`: 1 the server has it, 2 it has it in its trash, where we did not put it. `binned`: 1 it was put into the server's trash, 2 it was sent as one of the trash and is to go there.
/// `format`: by its first bytes, where somebody looked ([`crate::peek`]).
/// `stack`: contents with the same `pile` become one stack, those of the lowest `rank` on top ([`crate::pile`]).
/// `album.dir` is none for albums that no folder stands for. `lease`: queues that were paused and must be resumed.
const TABLES: &str = "
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE part(id INTEGER PRIMARY KEY, path TEXT NOT NULL, kind TEXT NOT NULL, export TEXT NOT NULL, product INTEGER,
  number INTEGER, bytes INTEGER NOT NULL, fingerprint TEXT NOT NULL UNIQUE, entries INTEGER NOT NULL,
  here INTEGER NOT NULL DEFAULT 1);
CREATE TABLE dir(id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE);
CREATE TABLE entry(id INTEGER PRIMARY KEY, part INTEGER NOT NULL, dir INTEGER NOT NULL, name TEXT NOT NULL,
  place INTEGER NOT NULL, packed INTEGER NOT NULL, method INTEGER NOT NULL, bytes INTEGER NOT NULL, crc32 INTEGER NOT NULL,
  mtime INTEGER, kind INTEGER NOT NULL, why TEXT, content INTEGER, sha1 BLOB);
CREATE TABLE excluded(entry INTEGER PRIMARY KEY, why TEXT NOT NULL);
CREATE INDEX entry_dir ON entry(dir);
CREATE TABLE sidecar(entry INTEGER PRIMARY KEY, title TEXT NOT NULL, taken INTEGER, created INTEGER, latitude REAL,
  longitude REAL, altitude REAL, description TEXT, flags INTEGER NOT NULL, people TEXT);
CREATE TABLE raw(entry INTEGER PRIMARY KEY, packed BLOB NOT NULL);
CREATE TABLE album_json(entry INTEGER PRIMARY KEY, title TEXT NOT NULL, description TEXT NOT NULL);
CREATE TABLE detail(dir INTEGER NOT NULL, name TEXT NOT NULL, taken INTEGER, flags INTEGER NOT NULL,
  PRIMARY KEY(dir, name)) WITHOUT ROWID;
CREATE TABLE listed(entry INTEGER NOT NULL, name TEXT NOT NULL, PRIMARY KEY(entry, name)) WITHOUT ROWID;
CREATE TABLE item(entry INTEGER PRIMARY KEY, sidecar INTEGER, rule INTEGER, strong INTEGER NOT NULL,
  role INTEGER NOT NULL, partner INTEGER, xmp INTEGER);
CREATE TABLE orphan(sidecar INTEGER PRIMARY KEY);
CREATE TABLE undecided(entry INTEGER PRIMARY KEY);
CREATE TABLE mark(entry INTEGER PRIMARY KEY, identifier TEXT, millis INTEGER);
CREATE TABLE content(id INTEGER PRIMARY KEY, crc32 INTEGER NOT NULL, bytes INTEGER NOT NULL, named INTEGER NOT NULL,
  entry INTEGER, source INTEGER, part INTEGER, place INTEGER, still INTEGER, twin INTEGER, sha1 BLOB,
  state INTEGER NOT NULL DEFAULT 0, why TEXT, asset TEXT, tries INTEGER NOT NULL DEFAULT 0,
  linked INTEGER NOT NULL DEFAULT 0, binned INTEGER NOT NULL DEFAULT 0, verified INTEGER NOT NULL DEFAULT 0,
  downloaded INTEGER NOT NULL DEFAULT 0,
  name TEXT, dated INTEGER, told INTEGER, facts TEXT, format INTEGER, UNIQUE(bytes, crc32, named));
CREATE INDEX content_still ON content(still) WHERE still IS NOT NULL;
CREATE INDEX content_sha1 ON content(sha1) WHERE sha1 IS NOT NULL;
CREATE TABLE album(id INTEGER PRIMARY KEY, dir INTEGER UNIQUE, title TEXT NOT NULL, description TEXT NOT NULL,
  server TEXT, before TEXT);
CREATE TABLE member(album INTEGER NOT NULL, content INTEGER NOT NULL, done INTEGER NOT NULL DEFAULT 0, why TEXT,
  PRIMARY KEY(album, content)) WITHOUT ROWID;
CREATE TABLE tagged(content INTEGER NOT NULL, tag TEXT NOT NULL, PRIMARY KEY(content, tag)) WITHOUT ROWID;
CREATE TABLE stack(content INTEGER PRIMARY KEY, pile INTEGER NOT NULL, rank INTEGER NOT NULL,
  done INTEGER NOT NULL DEFAULT 0, why TEXT);
CREATE TABLE lease(queue TEXT PRIMARY KEY) WITHOUT ROWID;
";

/// What an entry is, by its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EntryKind {
    Media = 0,
    Sidecar = 1,
    AlbumJson = 2,
    OtherJson = 3,
    /// Neither a picture nor a video.
    Foreign = 4,
    /// It can't be read: encrypted, a path that leads out, damaged.
    Refused = 5,
    /// A sidecar that the owner or a program wrote.
    Xmp = 6,
}

impl EntryKind {
    pub fn of(number: i64) -> Self {
        match number {
            0 => Self::Media,
            1 => Self::Sidecar,
            2 => Self::AlbumJson,
            3 => Self::OtherJson,
            4 => Self::Foreign,
            6 => Self::Xmp,
            _ => Self::Refused,
        }
    }
}

/// Where a content stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    Planned = 0,
    /// A request is or was under way; its answer may be lost.
    Sending = 1,
    Uploaded = 2,
    /// The server had it before.
    Present = 3,
    Failed = 4,
    /// The owner does not want it.
    Filtered = 5,
    /// The server does not take such files.
    Unsupported = 6,
    /// A moving half that its still holds inside, here or on the server.
    Embedded = 7,
    /// It has no sidecar, which may lie in a part that is missing.
    Held = 8,
}

impl State {
    pub fn of(number: i64) -> Self {
        match number {
            0 => Self::Planned,
            1 => Self::Sending,
            2 => Self::Uploaded,
            3 => Self::Present,
            4 => Self::Failed,
            5 => Self::Filtered,
            6 => Self::Unsupported,
            8 => Self::Held,
            _ => Self::Embedded,
        }
    }

    /// It is on the server under its own id.
    pub fn is_there(self) -> bool {
        matches!(self, Self::Uploaded | Self::Present)
    }
}

/// Flags of a sidecar, as kept.
pub mod flag {
    pub const FAVOURITE: i64 = 1;
    pub const ARCHIVED: i64 = 2;
    pub const TRASHED: i64 = 4;
    pub const LOCKED: i64 = 8;
    pub const PARTNER: i64 = 16;
}

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    db: Mutex<Connection>,
    path: PathBuf,
    /// Held as long as the import runs; the kernel gives it up when the process ends in whatever way.
    _lock: Option<File>,
}

impl Journal {
    /// Opens or makes the journal for an import. One import at a time uses it.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let io = |error| JournalError::Io(path.to_owned(), error);
        let mut lock_path = path.as_os_str().to_owned();
        lock_path.push(".lock");
        let lock = File::create(&lock_path).map_err(io)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(JournalError::InUse(path.to_owned())),
            Err(TryLockError::Error(error)) => return Err(io(error)),
        }
        let db = Connection::open(path)?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        // A killed process loses nothing. A power cut may lose the last moments, which are found again by content.
        db.pragma_update(None, "synchronous", "NORMAL")?;
        db.pragma_update(None, "cache_size", -32_768)?;
        let version: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if version == 0 {
            db.execute_batch(&format!("BEGIN; {TABLES} PRAGMA user_version = {VERSION}; COMMIT;"))?;
        } else if version != VERSION {
            return Err(JournalError::Version(path.to_owned(), version));
        }
        Ok(Self { db: Mutex::new(db), path: path.to_owned(), _lock: Some(lock) })
    }

    /// Opens a journal to look into it, perhaps while an import runs.
    pub fn look(path: &Path) -> Result<Self, JournalError> {
        if !path.exists() {
            return Err(JournalError::Missing(path.to_owned()));
        }
        let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let version: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if version != VERSION {
            return Err(JournalError::Version(path.to_owned(), version));
        }
        Ok(Self { db: Mutex::new(db), path: path.to_owned(), _lock: None })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The database, for one short piece of work.
    pub fn db(&self) -> MutexGuard<'_, Connection> {
        self.db.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub fn meta(&self, key: &str) -> Result<Option<String>, JournalError> {
        Ok(self.db().query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0)).optional()?)
    }

    pub fn set_meta(&self, key: &str, value: &str) -> Result<(), JournalError> {
        self.db().execute("INSERT OR REPLACE INTO meta VALUES(?1, ?2)", params![key, value])?;
        Ok(())
    }

    pub fn clear_meta(&self, key: &str) -> Result<(), JournalError> {
        self.db().execute("DELETE FROM meta WHERE key = ?1", [key])?;
        Ok(())
    }

    /// One number from the database.
    pub fn count(&self, sql: &str) -> Result<u64, JournalError> {
        let n: i64 = self.db().query_row(sql, [], |row| row.get(0))?;
        Ok(n.max(0) as u64)
    }
}
