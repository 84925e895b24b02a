//! Films that by their names may be moving halves: what they and the stills say is read, and planned with anew.

use haven_takeout::{
    film,
    live::{self, Mark},
    names,
};
use rusqlite::{OptionalExtension, params};

use crate::{
    content::piece_of,
    journal::{Journal, JournalError},
    progress::Progress,
    source::{Piece, Sources},
    upload::WHOLE_BYTES_MAX,
};

/// As much of a picture's beginning as holds its notes, where they do not lie at its end.
const NOTES_BYTES: usize = 256 << 10;
/// A longer header is no half's.
const HEADER_BYTES_MAX: u64 = 4 << 20;

/// Reads what the last plan left undecided, in parts that are here. Returns whether anything was read: then plan again.
///
/// What can't be read, or lies where it can't be sought for, proves nothing, and is not asked again.
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
        let mark = if names::is_video(&piece.path) { of_film(&sources, &piece) } else { of_still(&sources, &piece) };
        let millis = mark.millis.map(|millis| i64::try_from(millis).unwrap_or(i64::MAX));
        journal.db().execute("INSERT INTO mark VALUES(?1, ?2, ?3)", params![entry, mark.identifier, millis])?;
        read = true;
    }
    Ok(read)
}

/// Reads a film's header where it lies, and where that can't be sought the whole film.
fn of_film(sources: &Sources, piece: &Piece) -> Mark {
    // Seconds are never that long, and nobody need look.
    if piece.bytes > WHOLE_BYTES_MAX {
        return Mark { identifier: None, millis: Some(u64::MAX) };
    }
    let header = || {
        let (at, bytes) = film::place(piece.bytes, |at, bytes| sources.at(piece, at, bytes))?;
        sources.at(piece, at, bytes.min(HEADER_BYTES_MAX) as usize)
    };
    header().or_else(|| whole(sources, piece)).map_or_else(Mark::default, |film| live::of_film(&film))
}

fn of_still(sources: &Sources, piece: &Piece) -> Mark {
    let head = sources.at(piece, 0, NOTES_BYTES).map_or_else(Mark::default, |head| live::of_still(&head));
    // Of what is not HEIC the notes are at the beginning.
    if head.identifier.is_some() || !names::is_heic(&piece.path) && sources.at(piece, 0, 1).is_some() {
        return head;
    }
    whole(sources, piece).map_or_else(Mark::default, |still| live::of_still(&still))
}

fn whole(sources: &Sources, piece: &Piece) -> Option<Vec<u8>> {
    let short = piece.bytes <= WHOLE_BYTES_MAX && !sources.is_stream(piece.part);
    if short { sources.whole(piece).ok() } else { None }
}

/// What was read of an entry.
pub fn mark_of(db: &rusqlite::Connection, entry: i64) -> rusqlite::Result<Option<Mark>> {
    let mark = |row: &rusqlite::Row<'_>| {
        Ok(Mark { identifier: row.get(0)?, millis: row.get::<_, Option<i64>>(1)?.map(|millis| millis as u64) })
    };
    db.prepare_cached("SELECT identifier, millis FROM mark WHERE entry = ?1")?.query_row([entry], mark).optional()
}
