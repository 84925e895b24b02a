//! Are copies what they are taken for? By default files of one name, CRC-32 and length are one, and only one of them is read.
//! Here all are read.

use std::sync::Arc;

use futures::{StreamExt, stream};
use rusqlite::params;

use crate::{
    journal::{Journal, JournalError},
    progress::Progress,
    server::Sha1,
    source::Sources,
};

/// What reading all copies showed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CopiesRead {
    pub read: u64,
    /// Files that were taken for a copy of another one, and are a photo of their own.
    pub different: Vec<String>,
    /// Files that can't be read, and why: they stay copies, and are told.
    pub unread: Vec<(String, String)>,
}

/// Reads every copy that was not read before, in parts that are here. What differs becomes a content of its own: plan again.
pub async fn read_copies(
    journal: &Arc<Journal>,
    parts: &[i64],
    progress: &Progress,
) -> Result<CopiesRead, JournalError> {
    let sources = Arc::new(Sources::open(journal, parts, progress)?);
    let due = due(journal)?;
    progress.begin("copies", due.len() as u64, 0);
    let hashed = stream::iter(due).map(|entry| {
        let (sources, journal) = (sources.clone(), journal.clone());
        async move {
            let piece = crate::content::piece_of(&journal, entry)?;
            let Some(piece) = piece.filter(|p| sources.has(p.part) && !sources.is_stream(p.part)) else {
                return Ok(None);
            };
            let path = piece.path.clone();
            let hashed = tokio::task::spawn_blocking(move || sources.hash(&piece)).await;
            Ok::<_, JournalError>(Some((entry, path, hashed.unwrap_or_else(|error| Err(std::io::Error::other(error))))))
        }
    });
    let mut hashed = std::pin::pin!(hashed.buffered(4));
    let mut found = CopiesRead::default();
    while let Some(one) = hashed.next().await {
        progress.done(0);
        let Some((entry, path, sha1)) = one? else { continue };
        match sha1 {
            Ok(sha1) => {
                found.read += 1;
                if !note(journal, entry, sha1)? {
                    found.different.push(path);
                }
            }
            Err(error) => found.unread.push((path, error.to_string())),
        }
    }
    Ok(found)
}

/// Entries of contents that have several, in the order in which they lie.
fn due(journal: &Journal) -> Result<Vec<i64>, JournalError> {
    let db = journal.db();
    let mut query = db.prepare(
        "SELECT e.id FROM entry e WHERE e.kind = 0 AND e.sha1 IS NULL AND e.content IN
           (SELECT content FROM entry WHERE kind = 0 GROUP BY content HAVING count(*) > 1) ORDER BY e.part, e.place",
    )?;
    Ok(query.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?)
}

/// Notes what a file is. Returns whether it is what it was taken for.
fn note(journal: &Journal, entry: i64, sha1: Sha1) -> Result<bool, JournalError> {
    let mut db = journal.db();
    let tx = db.transaction()?;
    tx.execute("UPDATE entry SET sha1 = ?2 WHERE id = ?1", params![entry, sha1.0.as_slice()])?;
    let sql = "SELECT c.id, c.sha1 FROM entry e JOIN content c ON c.id = e.content WHERE e.id = ?1";
    let (content, known): (i64, Option<[u8; 20]>) = tx.query_row(sql, [entry], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let same = known.is_none_or(|known| known == sha1.0);
    if same {
        let sql = "UPDATE content SET sha1 = ?2 WHERE id = ?1 AND sha1 IS NULL";
        tx.execute(sql, params![content, sha1.0.as_slice()])?;
    } else {
        // Another one of the same sum and length, told apart by a number that no name has.
        let sql =
            "INSERT INTO content(bytes, crc32, named, sha1) SELECT bytes, crc32, -?1, ?2 FROM entry WHERE id = ?1";
        tx.execute(sql, params![entry, sha1.0.as_slice()])?;
        let own = tx.last_insert_rowid();
        tx.execute("UPDATE entry SET content = ?2 WHERE id = ?1", [entry, own])?;
    }
    tx.commit()?;
    Ok(same)
}
