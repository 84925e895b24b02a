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

/// The address of the server whose queues are paused.
const PAUSED: &str = "paused";

/// Pauses what is not paused already, on the server at `address`. The error is one of the key, and no reason not to import.
pub async fn pause(journal: &Journal, server: &dyn Server, address: &str) -> Result<usize, JobsError> {
    let queues = server.queues().await?;
    let mut paused = 0;
    journal.set_meta(PAUSED, address)?;
    for queue in queues.iter().filter(|queue| !queue.paused && HEAVY.contains(&queue.name.as_str())) {
        journal.db().execute("INSERT OR IGNORE INTO lease VALUES(?1)", [&queue.name]).map_err(JournalError::from)?;
        server.pause_queue(&queue.name, true).await?;
        paused += 1;
    }
    Ok(paused)
}

/// Resumes what this or an earlier run paused, where the server at `address` is the one on which it did. `user` is the same server
/// with the key of the import. Returns the queues.
pub async fn resume(
    journal: &Journal,
    admin: &dyn Server,
    user: &dyn Server,
    address: &str,
) -> Result<Vec<String>, JobsError> {
    let leased = leased(journal)?;
    if leased.is_empty() {
        return Ok(leased);
    }
    let paused = place(journal)?;
    // The same server is reached by several addresses, and then the user is the same.
    if !paused.as_deref().is_some_and(|paused| is_same(paused, address)) && !is_users(journal, user).await? {
        return Err(JobsError::Elsewhere(paused.unwrap_or_else(|| "another server".to_owned())));
    }
    for queue in &leased {
        admin.pause_queue(queue, false).await?;
        journal.db().execute("DELETE FROM lease WHERE queue = ?1", [queue]).map_err(JournalError::from)?;
    }
    Ok(leased)
}

/// The address of the server whose queues are paused. Older versions did not note it: it was then the import's first.
pub fn place(journal: &Journal) -> Result<Option<String>, JournalError> {
    // The user's name follows it.
    let first = |server: String| server.split(" (").next().unwrap_or_default().to_owned();
    Ok(journal.meta(PAUSED)?.or(journal.meta("server")?.map(first)))
}

/// Whether two addresses are one, however they are written.
fn is_same(one: &str, other: &str) -> bool {
    one.trim_end_matches('/').eq_ignore_ascii_case(other.trim_end_matches('/'))
}

/// Is it the server on which the import's user is?
async fn is_users(journal: &Journal, server: &dyn Server) -> Result<bool, JobsError> {
    let Some(user) = journal.meta("user")? else { return Ok(false) };
    match server.about().await {
        Ok(about) => Ok(about.user_id == user),
        // Its key is another server's, or may not ask.
        Err(ServerError::Unauthorized(_) | ServerError::Forbidden { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
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
    /// They are another server's: the address of that.
    #[error("it was paused on {0}, and this is not known to be the same server")]
    Elsewhere(String),
    #[error(transparent)]
    Journal(#[from] JournalError),
}
