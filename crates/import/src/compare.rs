//! What the server has already, and what stands before it: for a plan, nothing is sent.

use std::sync::Arc;

use futures::{StreamExt, stream};
use serde::Serialize;

use crate::{
    content::ContentRow,
    journal::{Journal, JournalError},
    progress::Progress,
    server::{About, Server, ServerError, Sha1},
    source::Sources,
};

/// Smaller requests pass everywhere.
const PASSES_BYTES: u64 = 8 << 20;
/// Contents in one question.
const BATCH: usize = 1000;

/// A limit of requests that something before the server has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Cap {
    /// The longest file of this import that passes, and the shortest that does not.
    pub passes_bytes: u64,
    pub refused_bytes: u64,
    pub refused_files: u64,
    pub refused_sum_bytes: u64,
}

/// Asks whether the largest file that is still to be sent gets through; where it does not, which is the largest that does.
pub async fn cap(journal: &Journal, server: &dyn Server) -> Result<Option<Cap>, CompareError> {
    let sizes: Vec<u64> = {
        let db = journal.db();
        let mut query = db.prepare(
            "SELECT DISTINCT bytes FROM content WHERE entry IS NOT NULL AND state IN (0, 1, 4) AND bytes > ?1 ORDER BY bytes",
        ).map_err(JournalError::from)?;
        let rows = query.query_map([PASSES_BYTES as i64], |row| row.get::<_, i64>(0)).map_err(JournalError::from)?;
        rows.map(|size| size.map(|size| size as u64)).collect::<rusqlite::Result<_>>().map_err(JournalError::from)?
    };
    let Some(largest) = sizes.last() else { return Ok(None) };
    // What is around the file in its request is some kilobytes.
    let request = |bytes: u64| bytes + 2048;
    if server.lets_through(request(*largest)).await? {
        return Ok(None);
    }
    let (mut low, mut high) = (0, sizes.len() - 1);
    // All below `low` pass, `high` and all above do not.
    while low < high {
        let middle = low + (high - low) / 2;
        if server.lets_through(request(sizes[middle])).await? { low = middle + 1 } else { high = middle }
    }
    let refused = sizes[high];
    let of = "FROM content WHERE entry IS NOT NULL AND state IN (0, 1, 4) AND bytes >=";
    Ok(Some(Cap {
        passes_bytes: if high == 0 { PASSES_BYTES } else { sizes[high - 1] },
        refused_bytes: refused,
        refused_files: journal.count(&format!("SELECT count(*) {of} {refused}"))?,
        refused_sum_bytes: journal.count(&format!("SELECT coalesce(sum(bytes), 0) {of} {refused}"))?,
    }))
}

/// What a look at the server showed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Compared {
    /// Contents whose SHA-1 is known, and of those what is there.
    pub known: u64,
    pub there: u64,
    pub there_bytes: u64,
    /// Of those, in the server's trash.
    pub trashed: u64,
    /// Contents whose bytes were not read yet: whether they are there is not known.
    pub unread: u64,
}

/// Compares what is planned with the server. `read`: reads every file that was not read yet, else those are only counted.
pub async fn compare(
    journal: &Arc<Journal>,
    server: &dyn Server,
    parts: &[i64],
    read: bool,
    progress: &Progress,
) -> Result<Compared, CompareError> {
    if read {
        hash_all(journal, parts, progress).await?;
    }
    let due = "FROM content WHERE entry IS NOT NULL AND twin IS NULL AND state IN (0, 1, 4)";
    let mut compared =
        Compared { unread: journal.count(&format!("SELECT count(*) {due} AND sha1 IS NULL"))?, ..Compared::default() };
    progress.begin("compare", journal.count(&format!("SELECT count(*) {due} AND sha1 IS NOT NULL"))?, 0);
    let mut after = 0;
    loop {
        let batch: Vec<(i64, [u8; 20], i64)> = {
            let db = journal.db();
            let sql =
                format!("SELECT id, sha1, bytes {due} AND sha1 IS NOT NULL AND id > ?1 ORDER BY id LIMIT {BATCH}");
            let mut query = db.prepare(&sql).map_err(JournalError::from)?;
            let rows = query.query_map([after], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
            rows.and_then(Iterator::collect::<rusqlite::Result<_>>).map_err(JournalError::from)?
        };
        let Some((last, ..)) = batch.last() else { return Ok(compared) };
        after = *last;
        let sums: Vec<Sha1> = batch.iter().map(|(_, sha1, _)| Sha1(*sha1)).collect();
        for ((_, _, bytes), present) in batch.iter().zip(server.present(&sums).await?) {
            progress.done(0);
            compared.known += 1;
            if let Some(present) = present {
                compared.there += 1;
                compared.there_bytes += *bytes as u64;
                compared.trashed += u64::from(present.trashed);
            }
        }
    }
}

/// Reads every file that is planned and was not read, for its SHA-1. The import then need not read what the server has.
async fn hash_all(journal: &Arc<Journal>, parts: &[i64], progress: &Progress) -> Result<(), CompareError> {
    let sources = Arc::new(Sources::open(journal, parts, progress)?);
    let due: Vec<i64> = crate::upload::unread(journal)?;
    progress.begin("read", due.len() as u64, 0);
    let hashed = stream::iter(due).map(|id| {
        let (sources, journal) = (sources.clone(), journal.clone());
        async move {
            let Some(row) = ContentRow::load(&journal, id)? else { return Ok(()) };
            if !sources.has(row.piece.part) || sources.is_stream(row.piece.part) {
                return Ok(());
            }
            // What can't be read is told when it is to be sent.
            if let Ok(Ok(sha1)) = tokio::task::spawn_blocking(move || sources.hash(&row.piece)).await {
                let sql = "UPDATE content SET sha1 = ?2 WHERE id = ?1";
                journal.db().execute(sql, rusqlite::params![id, sha1.0.as_slice()])?;
            }
            Ok::<(), JournalError>(())
        }
    });
    let mut hashed = std::pin::pin!(hashed.buffered(4));
    while let Some(noted) = hashed.next().await {
        noted?;
        progress.done(0);
    }
    Ok(())
}

/// Who answers there, as a plan tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServerFacts {
    pub version: String,
    pub user: String,
    pub assets: Option<u64>,
    pub quota_left_bytes: Option<u64>,
    pub disk_left_bytes: Option<u64>,
    /// Permissions that the import needs and the key lacks.
    pub lacks: Vec<String>,
}

impl ServerFacts {
    pub fn of(about: &About, options: &crate::Options) -> Self {
        let (major, minor, patch) = about.version;
        Self {
            version: format!("{major}.{minor}.{patch}"),
            user: about.user_name.clone(),
            assets: about.assets,
            quota_left_bytes: about.quota_left_bytes,
            disk_left_bytes: about.disk_left_bytes,
            lacks: crate::run::lacking(about, options),
        }
    }
}

/// Why there is no comparison.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error(transparent)]
    Journal(#[from] JournalError),
}
