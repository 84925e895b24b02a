//! Writes what a part holds into the journal, in one transaction: a part is there whole, or not at all.

use std::{collections::HashMap, path::Path};

use haven_takeout::{Json, Photo, icloud::Table, names, tarball::Member, zip::PartEntry};
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use crate::{
    index::{Seen, method_number},
    input::Input,
    journal::{EntryKind, flag},
    walk::FileSeen,
};

/// What is known of a media file's content beyond its CRC-32.
enum Of {
    Nothing,
    Sum([u8; 20]),
    Content(i64),
}

/// A file as it was when its folder was looked at before.
#[derive(Debug, Clone)]
pub struct Before {
    pub bytes: u64,
    pub mtime_ms: Option<i64>,
    pub crc32: u32,
    pub kind: EntryKind,
    pub content: Option<i64>,
}

/// The rows of one part.
pub struct Rows<'a> {
    tx: Transaction<'a>,
    part: i64,
    next: i64,
    directories: HashMap<String, i64>,
}

impl<'a> Rows<'a> {
    pub fn begin(db: &'a mut Connection, input: &Input, bytes: u64, fingerprint: &str) -> rusqlite::Result<Self> {
        let tx = db.transaction()?;
        let export = input.part.as_ref().map_or("", |part| part.export.as_str());
        let product = input.part.as_ref().and_then(|part| part.product);
        let number = input.part.as_ref().map(|part| part.number);
        let path = input.path.to_string_lossy();
        tx.execute(
            "INSERT INTO part(path, kind, export, product, number, bytes, fingerprint, entries)
             VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, 0)",
            params![path, input.kind.word(), export, product, number, bytes as i64, fingerprint],
        )?;
        let part = tx.last_insert_rowid();
        let next = tx.query_row("SELECT coalesce(max(id), 0) + 1 FROM entry", [], |row| row.get(0))?;
        Ok(Self { tx, part, next, directories: HashMap::new() })
    }

    /// The files that the same folder held before in one of its directories, by their names.
    pub fn before(&self, path: &Path, directory: &str) -> rusqlite::Result<HashMap<String, Before>> {
        let sql = "SELECT e.name, e.bytes, e.mtime, e.crc32, e.kind, e.why, e.content FROM entry e
                   JOIN part p ON p.id = e.part JOIN dir d ON d.id = e.dir
                   WHERE p.kind = 'folder' AND p.path = ?1 AND p.id <> ?2 AND d.path = ?3";
        let mut query = self.tx.prepare_cached(sql)?;
        let before = |row: &rusqlite::Row<'_>| {
            Ok((
                row.get(0)?,
                Before {
                    bytes: row.get::<_, i64>(1)? as u64,
                    mtime_ms: row.get(2)?,
                    crc32: row.get(3)?,
                    kind: EntryKind::of(row.get(4)?),
                    content: row.get(6)?,
                },
            ))
        };
        query.query_map(params![path.to_string_lossy(), self.part, directory], before)?.collect()
    }

    /// Takes out what the same folder held before; contents, and what became of them, stay.
    pub fn forget_folder(&mut self, path: &Path) -> rusqlite::Result<()> {
        let path = path.to_string_lossy();
        let old = "SELECT id FROM part WHERE kind = 'folder' AND path = ?1 AND id <> ?2";
        let entries = format!("SELECT id FROM entry WHERE part IN ({old})");
        let tables = [("sidecar", "entry"), ("album_json", "entry"), ("raw", "entry"), ("item", "entry")];
        for (table, column) in tables.into_iter().chain([
            ("excluded", "entry"),
            ("orphan", "sidecar"),
            ("listed", "entry"),
            ("undecided", "entry"),
            ("mark", "entry"),
        ]) {
            let sql = format!("DELETE FROM {table} WHERE {column} IN ({entries})");
            self.tx.execute(&sql, params![path, self.part])?;
        }
        let gone = format!(
            "UPDATE content SET entry = NULL, source = NULL WHERE entry IN ({entries}) OR source IN ({entries})"
        );
        self.tx.execute(&gone, params![path, self.part])?;
        self.tx.execute(&format!("DELETE FROM entry WHERE part IN ({old})"), params![path, self.part])?;
        self.tx
            .execute("DELETE FROM part WHERE kind = 'folder' AND path = ?1 AND id <> ?2", params![path, self.part])?;
        Ok(())
    }

    fn directory(&mut self, path: &str) -> rusqlite::Result<i64> {
        if let Some(id) = self.directories.get(path) {
            return Ok(*id);
        }
        self.tx.prepare_cached("INSERT OR IGNORE INTO dir(path) VALUES(?1)")?.execute([path])?;
        let id = self.tx.query_row("SELECT id FROM dir WHERE path = ?1", [path], |row| row.get(0))?;
        self.directories.insert(path.to_owned(), id);
        Ok(id)
    }

    #[allow(clippy::too_many_arguments, reason = "a row is a row")]
    fn entry(
        &mut self,
        path: &str,
        place: u64,
        packed: u64,
        method: i64,
        bytes: u64,
        crc32: u32,
        mtime: Option<i64>,
        kind: EntryKind,
        why: Option<&str>,
        of: Of,
    ) -> rusqlite::Result<i64> {
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        let directory = self.directory(directory)?;
        let id = self.next;
        self.next += 1;
        let (sha1, known) = match of {
            Of::Nothing => (None, None),
            Of::Sum(sha1) => (Some(sha1), None),
            Of::Content(content) => (None, Some(content)),
        };
        let content = match (kind, known) {
            (EntryKind::Media, None) => Some(self.content(name, bytes, crc32, sha1)?),
            (_, known) => known,
        };
        let sql = "INSERT INTO entry(id, part, dir, name, place, packed, method, bytes, crc32, mtime, kind, why, sha1,
                   content) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";
        self.tx.prepare_cached(sql)?.execute(params![
            id,
            self.part,
            directory,
            name,
            place as i64,
            packed as i64,
            method,
            bytes as i64,
            crc32,
            mtime,
            kind as i64,
            why,
            sha1.as_ref().map(<[u8; 20]>::as_slice),
            content,
        ])?;
        Ok(id)
    }

    /// The content that a media file has.
    fn content(&self, name: &str, bytes: u64, crc32: u32, sha1: Option<[u8; 20]>) -> rusqlite::Result<i64> {
        let key = params![bytes as i64, crc32, named(name)];
        let sql = "SELECT id FROM content WHERE bytes = ?1 AND crc32 = ?2 AND named = ?3";
        let known: Option<i64> = self.tx.prepare_cached(sql)?.query_row(key, |row| row.get(0)).optional()?;
        let id = match known {
            Some(id) => id,
            None => {
                let sql = "INSERT INTO content(bytes, crc32, named) VALUES(?1, ?2, ?3)";
                self.tx.prepare_cached(sql)?.insert(key)?
            }
        };
        if let Some(sha1) = sha1 {
            let sql = "UPDATE content SET sha1 = ?2 WHERE id = ?1 AND sha1 IS NULL";
            self.tx.prepare_cached(sql)?.execute(params![id, sha1.as_slice()])?;
        }
        Ok(id)
    }

    pub fn zip_entry(&mut self, entry: &PartEntry, kind: EntryKind, why: Option<&str>) -> rusqlite::Result<i64> {
        let method = entry.method.map_or(-1, method_number);
        let (offset, packed) = (entry.offset, entry.packed_bytes);
        self.entry(&entry.path, offset, packed, method, entry.bytes, entry.crc32, None, kind, why, Of::Nothing)
    }

    pub fn member(
        &mut self,
        member: &Member,
        crc32: u32,
        sha1: Option<[u8; 20]>,
        kind: EntryKind,
        why: Option<&str>,
    ) -> rusqlite::Result<i64> {
        let of = sha1.map_or(Of::Nothing, Of::Sum);
        self.entry(&member.path, member.number, member.bytes, 0, member.bytes, crc32, None, kind, why, of)
    }

    pub fn file(
        &mut self,
        file: &FileSeen,
        number: usize,
        crc32: u32,
        kind: EntryKind,
        why: Option<&str>,
    ) -> rusqlite::Result<i64> {
        let mtime = Some(file.mtime_ms);
        self.entry(&file.path, number as u64, file.bytes, 0, file.bytes, crc32, mtime, kind, why, Of::Nothing)
    }

    /// A file that is as it was.
    pub fn same_file(&mut self, file: &FileSeen, number: usize, before: &Before) -> rusqlite::Result<i64> {
        let (mtime, of) = (Some(file.mtime_ms), before.content.map_or(Of::Nothing, Of::Content));
        let kind = before.kind;
        self.entry(&file.path, number as u64, file.bytes, 0, file.bytes, before.crc32, mtime, kind, None, of)
    }

    /// Has any part a media file of this size?
    pub fn size_is_known(&self, bytes: u64) -> rusqlite::Result<bool> {
        let sql = "SELECT EXISTS(SELECT 1 FROM content WHERE bytes = ?1)";
        self.tx.prepare_cached(sql)?.query_row([bytes as i64], |row| row.get(0))
    }

    pub fn json(&mut self, entry: i64, seen: Seen) -> rusqlite::Result<()> {
        let Seen::Json(Ok(json), raw) = seen else { return Ok(()) };
        if !raw.is_empty() {
            self.tx.prepare_cached("INSERT INTO raw VALUES(?1, ?2)")?.execute(params![entry, raw])?;
        }
        match json {
            Json::Photo(photo) => self.sidecar(entry, &photo),
            Json::Album(album) => {
                let sql = "INSERT INTO album_json VALUES(?1, ?2, ?3)";
                self.tx.prepare_cached(sql)?.execute(params![entry, album.title, album.description])?;
                Ok(())
            }
            Json::Other => Ok(()),
        }
    }

    /// What one of Apple's tables says.
    pub fn table(&mut self, file: &FileSeen, number: usize, table: Table) -> rusqlite::Result<()> {
        let (directory, name) = file.path.rsplit_once('/').unwrap_or(("", &file.path));
        let album = matches!(table, Table::Members(_)) && directory.rsplit('/').next() == Some("Albums");
        let kind = if album { EntryKind::AlbumJson } else { EntryKind::OtherJson };
        let entry = self.file(file, number, 0, kind, None)?;
        match table {
            Table::Details(details) => {
                let directory = self.directory(directory)?;
                let sql = "INSERT OR REPLACE INTO detail VALUES(?1, ?2, ?3, ?4)";
                for detail in details {
                    let flags = [
                        (detail.favourite, flag::FAVOURITE),
                        (detail.hidden, flag::ARCHIVED),
                        (detail.deleted, flag::TRASHED),
                    ];
                    let flags: i64 = flags.iter().filter(|(set, _)| *set).map(|(_, flag)| flag).sum();
                    self.tx.prepare_cached(sql)?.execute(params![directory, detail.name, detail.taken, flags])?;
                }
            }
            Table::Members(names) if album => {
                let title = names::split_extension(name).0;
                self.tx.execute("INSERT INTO album_json VALUES(?1, ?2, '')", params![entry, title])?;
                for name in names {
                    let sql = "INSERT OR IGNORE INTO listed VALUES(?1, ?2)";
                    self.tx.prepare_cached(sql)?.execute(params![entry, name])?;
                }
            }
            Table::Members(_) => {}
        }
        Ok(())
    }

    fn sidecar(&mut self, entry: i64, photo: &Photo) -> rusqlite::Result<()> {
        let flags = [
            (photo.favourite, flag::FAVOURITE),
            (photo.archived, flag::ARCHIVED),
            (photo.trashed, flag::TRASHED),
            (photo.locked, flag::LOCKED),
            (photo.partner, flag::PARTNER),
        ];
        let flags: i64 = flags.iter().filter(|(set, _)| *set).map(|(_, flag)| flag).sum();
        let people = (!photo.people.is_empty()).then(|| serde_json::json!(photo.people).to_string());
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let sql = "INSERT INTO sidecar VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
        self.tx.prepare_cached(sql)?.execute(params![
            entry,
            photo.title,
            photo.taken,
            photo.created,
            photo.place.map(|place| place.latitude),
            photo.place.map(|place| place.longitude),
            photo.place.and_then(|place| place.altitude),
            some(&photo.description),
            flags,
            people,
        ])?;
        Ok(())
    }

    /// Makes all of it one step.
    pub fn finish(self, entries: u64) -> rusqlite::Result<i64> {
        self.tx.execute("UPDATE part SET entries = ?2 WHERE id = ?1", params![self.part, entries as i64])?;
        self.tx.commit()?;
        Ok(self.part)
    }
}

/// A sum of a file's name without its counter: copies have the same, and of two files that only happen to have the same
/// CRC-32 and length the names tell that they may not be one.
fn named(name: &str) -> u32 {
    let mut sum = flate2::Crc::new();
    sum.update(names::split_counter(&names::nfc(name)).0.as_bytes());
    sum.sum()
}
