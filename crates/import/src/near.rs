//! For a file without a sidecar: which sidecars are nearest by name, and why each is not its own.

use haven_takeout::names::{media_name, sidecar_name, with_counter};
use serde::Serialize;

use crate::journal::{Journal, JournalError};

/// A sidecar that was not taken.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Near {
    pub sidecar: String,
    pub title: String,
    pub why_not: String,
}

/// How many are told.
const NEAREST: usize = 3;

/// The nearest sidecars in the folder of the entry at `path`.
pub fn nearest(journal: &Journal, path: &str) -> Result<Vec<Near>, JournalError> {
    let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
    let db = journal.db();
    let mut query = db.prepare(
        "SELECT e.name, s.title, (SELECT m.name FROM item i JOIN entry m ON m.id = i.entry WHERE i.sidecar = e.id LIMIT 1)
         FROM entry e JOIN sidecar s ON s.entry = e.id JOIN dir d ON d.id = e.dir WHERE d.path = ?1",
    )?;
    let mut found: Vec<(f64, Near)> = vec![];
    let mut rows = query.query([directory])?;
    while let Some(row) = rows.next()? {
        let (sidecar, title): (String, String) = (row.get(0)?, row.get(1)?);
        let taken: Option<String> = row.get(2)?;
        let likeness = strsim::jaro_winkler(name, sidecar.trim_end_matches(".json"));
        if found.len() == NEAREST && found.last().is_some_and(|(least, _)| *least >= likeness) {
            continue;
        }
        let counter = sidecar_name(&sidecar).map_or(0, |name| name.counter);
        let made = with_counter(&media_name(&title), counter);
        let why_not = match taken {
            Some(other) => format!("it belongs to {other}"),
            None => format!("its title makes the name {made}"),
        };
        found.push((likeness, Near { sidecar, title, why_not }));
        found.sort_by(|a, b| b.0.total_cmp(&a.0));
        found.truncate(NEAREST);
    }
    Ok(found.into_iter().map(|(_, near)| near).collect())
}
