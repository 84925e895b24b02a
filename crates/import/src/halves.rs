//! Films of which the names leave open whose moving half they are: what they and the stills say is read, and planned with anew.

use haven_takeout::{
    live::{self, Mark},
    names,
};
use rusqlite::{OptionalExtension, params};

use crate::{
    content::piece_of,
    journal::{Journal, JournalError},
    progress::Progress,
    source::Sources,
    upload::WHOLE_BYTES_MAX,
};

/// Reads what the last plan left undecided, in parts that are here. Returns whether anything was read: then plan again.
///
/// What can't be read, is too long for a half, or lies where it can't be sought for proves nothing, and is not asked again.
pub fn settle(journal: &Journal, parts: &[i64]) -> Result<bool, JournalError> {
    let due: Vec<i64> = {
        let db = journal.db();
        let mut query =
            db.prepare("SELECT entry FROM undecided WHERE entry NOT IN (SELECT entry FROM mark) ORDER BY entry")?;
        query.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?
    };
    if due.is_empty() {
        return Ok(false);
    }
    let sources = Sources::open(journal, parts, &Progress::default())?;
    let mut read = false;
    for entry in due {
        let Some(piece) = piece_of(journal, entry)?.filter(|piece| sources.has(piece.part)) else { continue };
        let short = piece.bytes <= WHOLE_BYTES_MAX && !sources.is_stream(piece.part);
        let whole = if short { sources.whole(&piece).ok() } else { None };
        let of = if names::is_video(&piece.path) { live::of_film } else { live::of_still };
        let mark = whole.map_or_else(Mark::default, |whole| of(&whole));
        let millis = mark.millis.map(|millis| i64::try_from(millis).unwrap_or(i64::MAX));
        journal.db().execute("INSERT INTO mark VALUES(?1, ?2, ?3)", params![entry, mark.identifier, millis])?;
        read = true;
    }
    Ok(read)
}

/// What was read of an entry.
pub fn mark_of(db: &rusqlite::Connection, entry: i64) -> rusqlite::Result<Option<Mark>> {
    let mark = |row: &rusqlite::Row<'_>| {
        Ok(Mark { identifier: row.get(0)?, millis: row.get::<_, Option<i64>>(1)?.map(|millis| millis as u64) })
    };
    db.prepare_cached("SELECT identifier, millis FROM mark WHERE entry = ?1")?.query_row([entry], mark).optional()
}
