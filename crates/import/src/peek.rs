//! The first bytes of every file that nobody looked into yet: is it what its name says? For a plan; the import itself sees
//! them when it reads the file.

use std::{io::Read, sync::Arc};

use futures::{StreamExt, stream};
use haven_takeout::sniff::{self, Format};
use rusqlite::params;

use crate::{
    content::piece_of,
    journal::{Journal, JournalError},
    progress::Progress,
    source::{Piece, Sources},
};

/// Of a file that is none of the formats that are known.
const UNKNOWN: i64 = -1;
/// Files between two notes in the journal.
const BATCH: usize = 1000;
/// Files at once: more only make a disk seek.
const READERS: usize = 4;

/// A format as kept.
fn number(format: Option<Format>) -> i64 {
    format.and_then(|format| sniff::ALL.iter().position(|one| *one == format)).map_or(UNKNOWN, |at| at as i64)
}

/// From there; none of one that is not known.
pub fn format_of(number: i64) -> Option<Format> {
    sniff::ALL.get(usize::try_from(number).ok()?).copied()
}

/// Looks into the files in parts that are here, in the order in which they lie. What can't be read is told when it is to be sent;
/// archives that can't be sought in are left out.
pub async fn peek(journal: &Arc<Journal>, parts: &[i64], progress: &Progress) -> Result<(), JournalError> {
    let sources = Arc::new(Sources::open(journal, parts, progress)?);
    let due = due(journal)?;
    progress.begin("look", due.len() as u64, 0);
    for batch in due.chunks(BATCH) {
        let seen = stream::iter(batch.iter().copied()).map(|(content, source)| {
            let (sources, journal) = (sources.clone(), journal.clone());
            async move {
                let piece = piece_of(&journal, source)?;
                let Some(piece) = piece.filter(|p| sources.has(p.part) && !sources.is_stream(p.part)) else {
                    return Ok(None);
                };
                let head = tokio::task::spawn_blocking(move || head(&sources, &piece)).await;
                Ok::<_, JournalError>(head.ok().flatten().map(|head| (content, sniff::format(&head))))
            }
        });
        let seen: Vec<_> = seen.buffered(READERS).collect().await;
        let mut db = journal.db();
        let tx = db.transaction()?;
        for one in seen {
            progress.done(0);
            let Some((content, format)) = one? else { continue };
            let sql = "UPDATE content SET format = ?2 WHERE id = ?1";
            tx.prepare_cached(sql)?.execute(params![content, number(format)])?;
        }
        tx.commit()?;
    }
    Ok(())
}

/// Contents that nobody looked into, and the entries that are read for them.
fn due(journal: &Journal) -> Result<Vec<(i64, i64)>, JournalError> {
    let db = journal.db();
    let mut query = db.prepare(
        "SELECT id, source FROM content WHERE entry IS NOT NULL AND source IS NOT NULL AND format IS NULL
         ORDER BY part, place",
    )?;
    Ok(query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<_>>()?)
}

fn head(sources: &Sources, piece: &Piece) -> Option<Vec<u8>> {
    // In place where that can be done: a reader takes more from the disk than is wanted here.
    sources.at(piece, 0, sniff::SNIFF_BYTES).or_else(|| {
        let mut head = vec![];
        sources.read(piece).ok()?.take(sniff::SNIFF_BYTES as u64).read_to_end(&mut head).ok()?;
        Some(head)
    })
}
