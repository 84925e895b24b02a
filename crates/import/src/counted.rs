//! Does the server itself count as many photos and videos as were brought? Each content is asked for by its SHA-1 in
//! [`crate::verify`]; a count tells besides that they are shown, and not hidden or locked away.

use serde::{Deserialize, Serialize};

use crate::{
    group::call,
    journal::{Journal, JournalError, flag},
    options::Locked,
    patience::Stop,
    upload::Shared,
};

/// Photos and videos that are shown or in the trash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// Before this import ever sent anything.
    pub before: u64,
    /// By this import, in all its runs.
    pub brought: u64,
    /// Videos that were there before and perhaps shown, and are moving halves now.
    pub hidden: u64,
    /// When the last run ended.
    pub after: u64,
}

impl Counted {
    /// How many the server lacks.
    pub fn lacking(&self) -> u64 {
        (self.before + self.brought).saturating_sub(self.hidden + self.after)
    }
}

const BEFORE: &str = "assets_before";
const COUNTED: &str = "counted";

/// Notes how many there were before the first run.
pub fn before(journal: &Journal, assets: u64) -> Result<(), JournalError> {
    journal.set_meta(BEFORE, &assets.to_string())
}

/// What the last run counted.
pub fn last(journal: &Journal) -> Result<Option<Counted>, JournalError> {
    Ok(journal.meta(COUNTED)?.and_then(|text| serde_json::from_str(&text).ok()))
}

/// Asks the server, and notes what it says. A key that may not ask is no reason to stop.
pub async fn count(shared: &Shared) -> Result<(), Stop> {
    let Some(before) = shared.journal.meta(BEFORE)?.and_then(|text| text.parse().ok()) else { return Ok(()) };
    let asked = match call(shared, async || shared.server.counts().await).await {
        Ok(asked) => asked.ok(),
        Err(Stop::Forbidden { .. }) => None,
        Err(stop) => return Err(stop),
    };
    let Some(counts) = asked else { return Ok(shared.journal.clear_meta(COUNTED)?) };
    let locked = if shared.telling.options.locked == Locked::Locked { flag::LOCKED } else { 0 };
    let brought = shared.journal.count(&format!(
        "SELECT count(*) FROM content c LEFT JOIN item i ON i.entry = c.entry LEFT JOIN sidecar s ON s.entry = i.sidecar
         WHERE c.state = 2 AND (c.still IS NULL OR c.linked = 2) AND c.twin IS NULL AND coalesce(s.flags, 0) & {locked} = 0"
    ))?;
    let hidden = shared.journal.count(
        "SELECT count(*) FROM content m JOIN content s ON s.id = m.still WHERE m.state = 3 AND m.twin IS NULL AND s.linked",
    )?;
    let counted = Counted { before, brought, hidden, after: counts.total() };
    shared.journal.set_meta(COUNTED, &serde_json::to_string(&counted).unwrap_or_default())?;
    Ok(())
}
