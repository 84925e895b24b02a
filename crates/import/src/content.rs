//! One content, with all that is known of it when it is to be sent.

use rusqlite::{OptionalExtension, Row};

use crate::{
    journal::{Journal, JournalError, State},
    server::{AssetId, Sha1},
    source::Piece,
};

/// What the sidecar says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Told {
    pub title: String,
    pub taken: Option<i64>,
    pub created: Option<i64>,
    /// Latitude, longitude, altitude.
    pub place: Option<(f64, f64, Option<f64>)>,
    pub description: Option<String>,
    pub flags: i64,
    pub people: Vec<String>,
}

/// A content and the copy of it that is read.
#[derive(Debug, Clone, PartialEq)]
pub struct ContentRow {
    pub id: i64,
    pub state: State,
    pub tries: i64,
    pub sha1: Option<Sha1>,
    /// The content of which it is the moving half.
    pub still: Option<i64>,
    pub piece: Piece,
    pub name: String,
    /// The folder it lies in.
    pub directory: String,
    pub export: String,
    pub told: Option<Told>,
    pub sure: bool,
    pub role: i64,
    /// An XMP file beside it.
    pub xmp: Option<i64>,
}

const COLUMNS: &str = "c.id, c.state, c.tries, c.sha1, c.still, e.part, d.path, e.name, e.place, e.packed, e.method,
  e.bytes, e.crc32, e.mtime, p.export, s.entry, s.title, s.taken, s.created, s.latitude, s.longitude, s.altitude,
  s.description, s.flags, s.people, coalesce(i.strong, 0), coalesce(i.role, 0), i.xmp";
const FROM: &str =
    "FROM content c JOIN entry e ON e.id = c.entry JOIN dir d ON d.id = e.dir JOIN part p ON p.id = e.part
  LEFT JOIN item i ON i.entry = c.entry LEFT JOIN sidecar s ON s.entry = i.sidecar";

impl ContentRow {
    /// None where no copy of it is known any more.
    pub fn load(journal: &Journal, id: i64) -> Result<Option<Self>, JournalError> {
        let db = journal.db();
        let mut query = db.prepare_cached(&format!("SELECT {COLUMNS} {FROM} WHERE c.id = ?1"))?;
        Ok(query.query_row([id], read).optional()?)
    }

    /// The moving half of a still.
    pub fn motion_of(journal: &Journal, still: i64) -> Result<Option<Self>, JournalError> {
        let db = journal.db();
        let mut query = db.prepare_cached(&format!("SELECT {COLUMNS} {FROM} WHERE c.still = ?1"))?;
        Ok(query.query_row([still], read).optional()?)
    }
}

/// Where an entry's bytes lie.
pub fn piece_of(journal: &Journal, entry: i64) -> Result<Option<Piece>, JournalError> {
    let db = journal.db();
    let sql = "SELECT e.part, d.path, e.name, e.place, e.packed, e.method, e.bytes, e.crc32, e.mtime
               FROM entry e JOIN dir d ON d.id = e.dir WHERE e.id = ?1";
    Ok(db.query_row(sql, [entry], |row| Ok(piece(row, 0)?.0)).optional()?)
}

/// From nine columns, the first of which is `at`; the folder and the name too.
fn piece(row: &Row<'_>, at: usize) -> rusqlite::Result<(Piece, String, String)> {
    let directory: String = row.get(at + 1)?;
    let name: String = row.get(at + 2)?;
    let path = if directory.is_empty() { name.clone() } else { format!("{directory}/{name}") };
    let piece = Piece {
        part: row.get(at)?,
        path,
        place: row.get::<_, i64>(at + 3)? as u64,
        packed: row.get::<_, i64>(at + 4)? as u64,
        method: row.get(at + 5)?,
        bytes: row.get::<_, i64>(at + 6)? as u64,
        crc32: row.get(at + 7)?,
        mtime_ms: row.get(at + 8)?,
    };
    Ok((piece, directory, name))
}

fn read(row: &Row<'_>) -> rusqlite::Result<ContentRow> {
    let (piece, directory, name) = piece(row, 5)?;
    let told = match row.get::<_, Option<i64>>(15)? {
        Some(_) => Some(read_told(row)?),
        None => None,
    };
    Ok(ContentRow {
        id: row.get(0)?,
        state: State::of(row.get(1)?),
        tries: row.get(2)?,
        sha1: row.get::<_, Option<[u8; 20]>>(3)?.map(Sha1),
        still: row.get(4)?,
        piece,
        name,
        directory,
        export: row.get(14)?,
        told,
        sure: row.get(25)?,
        role: row.get(26)?,
        xmp: row.get(27)?,
    })
}

fn read_told(row: &Row<'_>) -> rusqlite::Result<Told> {
    let place = match (row.get(19)?, row.get(20)?) {
        (Some(latitude), Some(longitude)) => Some((latitude, longitude, row.get(21)?)),
        _ => None,
    };
    let people: Option<String> = row.get(24)?;
    Ok(Told {
        title: row.get(16)?,
        taken: row.get(17)?,
        created: row.get(18)?,
        place,
        description: row.get(22)?,
        flags: row.get(23)?,
        people: people.and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default(),
    })
}

/// Writes down what became of a content.
pub struct Mark<'a>(pub &'a Journal);

impl Mark<'_> {
    /// A request begins, and its answer may be lost.
    pub fn sending(&self, id: i64, name: &str, dated: Option<&str>) -> Result<(), JournalError> {
        self.0
            .db()
            .prepare_cached(
                "UPDATE content SET state = 1, tries = tries + 1, name = ?2, dated = ?3, why = NULL WHERE id = ?1",
            )?
            .execute(rusqlite::params![id, name, dated])?;
        Ok(())
    }

    /// It is on the server. `tags` are those that no sidecar of ours told the server.
    pub fn there(
        &self,
        id: i64,
        state: State,
        asset: &AssetId,
        sha1: Option<Sha1>,
        linked: bool,
        tags: &[String],
    ) -> Result<(), JournalError> {
        let mut db = self.0.db();
        let tx = db.transaction()?;
        let sha1 = sha1.map(|sha1| sha1.0);
        tx.prepare_cached(
            "UPDATE content SET state = ?2, asset = ?3, sha1 = coalesce(?4, sha1), linked = ?5, why = NULL WHERE id = ?1",
        )?
        .execute(rusqlite::params![id, state as i64, asset.as_str(), sha1.as_ref().map(<[u8; 20]>::as_slice), linked])?;
        for tag in tags {
            tx.prepare_cached("INSERT OR IGNORE INTO tagged VALUES(?1, ?2)")?.execute(rusqlite::params![id, tag])?;
        }
        tx.commit()?;
        Ok(())
    }

    /// It did not get there, and why.
    pub fn not(&self, id: i64, state: State, why: &str) -> Result<(), JournalError> {
        let sql = "UPDATE content SET state = ?2, why = ?3 WHERE id = ?1";
        self.0.db().prepare_cached(sql)?.execute(rusqlite::params![id, state as i64, why])?;
        Ok(())
    }
}
