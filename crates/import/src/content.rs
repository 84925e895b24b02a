//! One content, with all that is known of it when it is to be sent.

use haven_takeout::dates::Source;
use rusqlite::{Connection, OptionalExtension, Row, Transaction};

use crate::{
    choose::{OTHER_DATE, WITHOUT_STILL},
    journal::{Journal, JournalError, State, flag},
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
    /// It is the moving half of a still that can't be read, and comes as a film.
    pub alone: bool,
    pub piece: Piece,
    pub name: String,
    /// The folder it lies in.
    pub directory: String,
    pub export: String,
    pub told: Option<Told>,
    /// Of which that was read.
    pub sidecar: Option<i64>,
    pub sure: bool,
    pub role: i64,
    /// An XMP file beside it.
    pub xmp: Option<i64>,
}

const COLUMNS: &str = "c.id, c.state, c.tries, c.sha1, c.still, r.part, rd.path, r.name, r.place, r.packed, r.method,
  r.bytes, r.crc32, r.mtime, p.export, s.entry, s.title, s.taken, s.created, s.latitude, s.longitude, s.altitude,
  s.description, s.flags, s.people, coalesce(i.strong, 0), coalesce(i.role, 0), i.xmp, d.path, e.name,
  t.taken, t.flags";
const FROM: &str =
    "FROM content c JOIN entry e ON e.id = c.entry JOIN dir d ON d.id = e.dir JOIN part p ON p.id = e.part
  JOIN entry r ON r.id = c.source JOIN dir rd ON rd.id = r.dir
  LEFT JOIN item i ON i.entry = c.entry LEFT JOIN sidecar s ON s.entry = i.sidecar
  LEFT JOIN detail t ON t.dir = e.dir AND t.name = e.name";

impl ContentRow {
    /// None where no copy of it is known any more.
    pub fn load(journal: &Journal, id: i64) -> Result<Option<Self>, JournalError> {
        Ok(Self::of(&journal.db(), id)?)
    }

    /// The same, for whoever has the database.
    pub fn of(db: &Connection, id: i64) -> rusqlite::Result<Option<Self>> {
        let mut query = db.prepare_cached(&format!("SELECT {COLUMNS} {FROM} WHERE c.id = ?1"))?;
        query.query_row([id], read).optional()
    }

    /// Is it in the trash where it comes from?
    pub fn is_trashed(&self) -> bool {
        self.told.as_ref().is_some_and(|told| told.flags & flag::TRASHED != 0)
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
    Ok(db.query_row(sql, [entry], |row| piece(row, 0)).optional()?)
}

/// From nine columns, the first of which is `at`.
fn piece(row: &Row<'_>, at: usize) -> rusqlite::Result<Piece> {
    let (directory, name) = (row.get_ref(at + 1)?.as_str()?, row.get_ref(at + 2)?.as_str()?);
    let path = if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") };
    Ok(Piece {
        part: row.get(at)?,
        path,
        place: row.get::<_, i64>(at + 3)? as u64,
        packed: row.get::<_, i64>(at + 4)? as u64,
        method: row.get(at + 5)?,
        bytes: row.get::<_, i64>(at + 6)? as u64,
        crc32: row.get(at + 7)?,
        mtime_ms: row.get(at + 8)?,
    })
}

fn read(row: &Row<'_>) -> rusqlite::Result<ContentRow> {
    let sidecar: Option<i64> = row.get(15)?;
    let told = match sidecar {
        Some(_) => Some(read_told(row)?),
        // Apple's table tells of the file of that name beside it, and of nothing else.
        None => match row.get::<_, Option<i64>>(31)? {
            Some(flags) => Some(Told { taken: row.get(30)?, flags, ..Told::default() }),
            None => None,
        },
    };
    let apple = sidecar.is_none() && told.is_some();
    Ok(ContentRow {
        id: row.get(0)?,
        state: State::of(row.get(1)?),
        tries: row.get(2)?,
        sha1: row.get::<_, Option<[u8; 20]>>(3)?.map(Sha1),
        still: row.get(4)?,
        alone: false,
        piece: piece(row, 5)?,
        name: row.get(29)?,
        directory: row.get(28)?,
        export: row.get(14)?,
        told,
        sidecar,
        sure: apple || row.get(25)?,
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

/// What a moving half is told of that came without its still.
pub const ALONE: &str = "its still can't be read, and it came as a film of its own";

/// How a content is joined to the other half, as kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Linked {
    No = 0,
    /// A still, with its moving half.
    Whole = 1,
    /// A moving half that came as a film.
    Alone = 2,
}

/// What is written down of a content that is on the server.
#[derive(Debug, Clone)]
pub struct There {
    pub state: State,
    pub asset: AssetId,
    pub sha1: Option<Sha1>,
    pub linked: Linked,
    /// Those that no sidecar of ours told the server.
    pub tags: Vec<String>,
}

/// Writes down what became of a content.
pub struct Mark<'a>(pub &'a Journal);

impl Mark<'_> {
    /// A request begins, and its answer may be lost.
    pub fn sending(
        &self,
        row: &ContentRow,
        name: &str,
        dated: Source,
        facts: Option<&str>,
    ) -> Result<(), JournalError> {
        let sql = "UPDATE content SET state = 1, tries = tries + 1, name = ?2, dated = ?3, told = ?4, facts = ?5,
                   binned = CASE WHEN ?6 THEN 2 ELSE 0 END, why = NULL WHERE id = ?1";
        // The usual name is not kept twice.
        let name = (name != row.name).then_some(name);
        let values = rusqlite::params![row.id, name, dated as i64, row.sidecar, facts, row.is_trashed()];
        self.0.db().prepare_cached(sql)?.execute(values)?;
        Ok(())
    }

    /// It is on the server. Where another content of these bytes is there already, this one is its twin.
    pub fn there(&self, id: i64, there: &There) -> Result<(), JournalError> {
        let mut db = self.0.db();
        let tx = db.transaction()?;
        let sha1 = there.sha1.map(|sha1| sha1.0);
        tx.prepare_cached(
            "UPDATE content SET state = ?2, asset = ?3, sha1 = coalesce(?4, sha1), linked = ?5, why = ?6 WHERE id = ?1",
        )?
        .execute(rusqlite::params![
            id,
            there.state as i64,
            there.asset.as_str(),
            sha1.as_ref().map(<[u8; 20]>::as_slice),
            there.linked as i64,
            (there.linked == Linked::Alone).then_some(ALONE)
        ])?;
        let twin = match sha1 {
            Some(sha1) => other(&tx, id, &sha1)?,
            None => None,
        };
        // Which of two that were sent at once made it and which was told that it is there, the server decides: the one that
        // made it stands for both.
        let later = match twin {
            Some(twin) => tx.query_row("SELECT state = 3 FROM content WHERE id = ?1", [twin], |row| row.get(0))?,
            None => false,
        };
        if let (Some(twin), State::Uploaded, true) = (twin, there.state, later) {
            tx.execute("UPDATE content SET twin = ?2, verified = 1 WHERE id = ?1", [twin, id])?;
            tx.execute("DELETE FROM tagged WHERE content = ?1", [twin])?;
        } else if let Some(twin) = twin {
            tx.execute("UPDATE content SET twin = ?2, verified = 1 WHERE id = ?1", [id, twin])?;
        } else {
            for tag in &there.tags {
                tx.prepare_cached("INSERT OR IGNORE INTO tagged VALUES(?1, ?2)")?
                    .execute(rusqlite::params![id, tag])?;
            }
        }
        tx.commit()?;
        Ok(())
    }

    /// Looks for another content with these bytes that is on the server: then this one is its twin, and need not be sent.
    /// Where no file stands for that one any more, this one takes its place.
    pub fn twin(&self, id: i64, sha1: Sha1) -> Result<bool, JournalError> {
        let mut db = self.0.db();
        let tx = db.transaction()?;
        let Some(twin) = other(&tx, id, &sha1.0)? else { return Ok(false) };
        tx.execute(
            "UPDATE content SET (state, asset, sha1, linked, binned, verified, told, facts, name, dated) =
               (SELECT state, asset, sha1, linked, binned, verified, told, facts, name, dated FROM content WHERE id = ?2),
             twin = CASE WHEN (SELECT entry FROM content WHERE id = ?2) IS NOT NULL THEN ?2 END WHERE id = ?1",
            [id, twin],
        )?;
        tx.commit()?;
        Ok(true)
    }

    /// It is not of the dates asked for, by what the file tells: that is kept, and need not be read again. Its moving half stays
    /// behind with it. Returns the bytes of that.
    pub fn other_date(&self, id: i64, facts: &str) -> Result<Option<u64>, JournalError> {
        let mut db = self.0.db();
        let tx = db.transaction()?;
        let sql = "UPDATE content SET state = ?2, why = ?3, facts = ?4 WHERE id = ?1";
        tx.execute(sql, rusqlite::params![id, State::Filtered as i64, OTHER_DATE, facts])?;
        // A still has one at most.
        let sql = "UPDATE content SET state = ?2, why = ?3 WHERE still = ?1 AND state IN (0, 1) RETURNING bytes";
        let values = rusqlite::params![id, State::Filtered as i64, WITHOUT_STILL];
        let half: Option<i64> = tx.query_row(sql, values, |row| row.get(0)).optional()?;
        tx.commit()?;
        Ok(half.map(|bytes| bytes as u64))
    }

    /// It did not get there, and why.
    pub fn not(&self, id: i64, state: State, why: &str) -> Result<(), JournalError> {
        let sql = "UPDATE content SET state = ?2, why = ?3 WHERE id = ?1";
        self.0.db().prepare_cached(sql)?.execute(rusqlite::params![id, state as i64, why])?;
        Ok(())
    }
}

/// Another content of these bytes that is on the server.
fn other(tx: &Transaction<'_>, id: i64, sha1: &[u8; 20]) -> rusqlite::Result<Option<i64>> {
    let sql = "SELECT id FROM content WHERE sha1 = ?2 AND id <> ?1 AND twin IS NULL AND state IN (2, 3)
               ORDER BY entry IS NULL, id LIMIT 1";
    tx.prepare_cached(sql)?.query_row(rusqlite::params![id, sha1.as_slice()], |row| row.get(0)).optional()
}
