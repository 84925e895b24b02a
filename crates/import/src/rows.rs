//! Writes what a part holds into the journal, in one transaction: a part is there whole, or not at all.

use std::{collections::HashMap, path::Path};

use haven_takeout::{Json, Photo, tarball::Member, zip::PartEntry};
use rusqlite::{Connection, Transaction, params};

use crate::{
    index::{Seen, method_number},
    input::Input,
    journal::{EntryKind, flag},
    walk::FileSeen,
};

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

    /// Takes out what the same folder held before; contents, and what became of them, stay.
    pub fn forget_folder(&mut self, path: &Path) -> rusqlite::Result<()> {
        let path = path.to_string_lossy();
        let old = "SELECT id FROM part WHERE kind = 'folder' AND path = ?1 AND id <> ?2";
        let entries = format!("SELECT id FROM entry WHERE part IN ({old})");
        for table in ["sidecar", "album_json", "item", "excluded"] {
            self.tx.execute(&format!("DELETE FROM {table} WHERE entry IN ({entries})"), params![path, self.part])?;
        }
        let gone = format!("UPDATE content SET entry = NULL WHERE entry IN ({entries})");
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
        sha1: Option<[u8; 20]>,
    ) -> rusqlite::Result<i64> {
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        let directory = self.directory(directory)?;
        let id = self.next;
        self.next += 1;
        let sql = "INSERT INTO entry(id, part, dir, name, place, packed, method, bytes, crc32, mtime, kind, why, sha1)
                   VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)";
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
            sha1.as_ref().map(<[u8; 20]>::as_slice)
        ])?;
        Ok(id)
    }

    pub fn zip_entry(&mut self, entry: &PartEntry, kind: EntryKind, why: Option<&str>) -> rusqlite::Result<i64> {
        let method = entry.method.map_or(-1, method_number);
        let (offset, packed) = (entry.offset, entry.packed_bytes);
        self.entry(&entry.path, offset, packed, method, entry.bytes, entry.crc32, None, kind, why, None)
    }

    pub fn member(
        &mut self,
        member: &Member,
        crc32: u32,
        sha1: Option<[u8; 20]>,
        kind: EntryKind,
        why: Option<&str>,
    ) -> rusqlite::Result<i64> {
        self.entry(&member.path, member.number, member.bytes, 0, member.bytes, crc32, None, kind, why, sha1)
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
        self.entry(&file.path, number as u64, file.bytes, 0, file.bytes, crc32, mtime, kind, why, None)
    }

    /// Has any part a media file of this size?
    pub fn size_is_known(&self, bytes: u64) -> rusqlite::Result<bool> {
        let sql = "SELECT EXISTS(SELECT 1 FROM content WHERE bytes = ?1)";
        self.tx.prepare_cached(sql)?.query_row([bytes as i64], |row| row.get(0))
    }

    pub fn json(&mut self, entry: i64, seen: Seen) -> rusqlite::Result<()> {
        match seen {
            Seen::Json(Ok(Json::Photo(photo))) => self.sidecar(entry, &photo),
            Seen::Json(Ok(Json::Album(album))) => {
                let sql = "INSERT INTO album_json VALUES(?1, ?2, ?3)";
                self.tx.prepare_cached(sql)?.execute(params![entry, album.title, album.description])?;
                Ok(())
            }
            _ => Ok(()),
        }
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
        let sql = "INSERT INTO sidecar VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
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
            some(&photo.url),
        ])?;
        Ok(())
    }

    /// Gathers the distinct contents, and makes all of it one step.
    pub fn finish(self, entries: u64) -> rusqlite::Result<i64> {
        let media = EntryKind::Media as i64;
        self.tx.execute("UPDATE part SET entries = ?2 WHERE id = ?1", params![self.part, entries as i64])?;
        self.tx.execute(
            "INSERT OR IGNORE INTO content(crc32, bytes)
             SELECT crc32, bytes FROM entry WHERE part = ?1 AND kind = ?2 ORDER BY id",
            [self.part, media],
        )?;
        self.tx.execute(
            "UPDATE entry SET content = (SELECT id FROM content c WHERE c.crc32 = entry.crc32 AND c.bytes = entry.bytes)
             WHERE part = ?1 AND kind = ?2",
            [self.part, media],
        )?;
        self.tx.execute(
            "UPDATE content SET sha1 = e.sha1 FROM entry e
             WHERE e.part = ?1 AND e.content = content.id AND e.sha1 IS NOT NULL AND content.sha1 IS NULL",
            [self.part],
        )?;
        self.tx.commit()?;
        Ok(self.part)
    }
}
