//! The server's background work, paused while photos come in, and always resumed: what was paused is in the journal before
//! it is asked for.

use crate::{
    journal::{Journal, JournalError},
    server::{Server, ServerError},
};

/// Heavy work that can wait. Reading metadata is none of it: dates and albums by date wait on that.
const HEAVY: &[&str] = &[
    "thumbnailGeneration",
    "videoConversion",
    "faceDetection",
    "facialRecognition",
    "smartSearch",
    "duplicateDetection",
    "ocr",
];

/// Pauses what is not paused already. The error is one of the key, and no reason not to import.
pub async fn pause(journal: &Journal, server: &dyn Server) -> Result<usize, JobsError> {
    let queues = server.queues().await?;
    let mut paused = 0;
    for queue in queues.iter().filter(|queue| !queue.paused && HEAVY.contains(&queue.name.as_str())) {
        journal.db().execute("INSERT OR IGNORE INTO lease VALUES(?1)", [&queue.name]).map_err(JournalError::from)?;
        server.pause_queue(&queue.name, true).await?;
        paused += 1;
    }
    Ok(paused)
}

/// Resumes what this or an earlier run paused. Returns the queues.
pub async fn resume(journal: &Journal, server: &dyn Server) -> Result<Vec<String>, JobsError> {
    let leased = leased(journal)?;
    for queue in &leased {
        server.pause_queue(queue, false).await?;
        journal.db().execute("DELETE FROM lease WHERE queue = ?1", [queue]).map_err(JournalError::from)?;
    }
    Ok(leased)
}

/// Queues that are paused by us.
pub fn leased(journal: &Journal) -> Result<Vec<String>, JournalError> {
    let db = journal.db();
    let mut query = db.prepare("SELECT queue FROM lease ORDER BY queue")?;
    Ok(query.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?)
}

/// Why queues could not be paused or resumed.
#[derive(Debug, thiserror::Error)]
pub enum JobsError {
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error(transparent)]
    Journal(#[from] JournalError),
}
