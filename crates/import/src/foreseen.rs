//! Where dates will come from, as far as a plan can tell.

use haven_takeout::dates::{self, Known, Source};
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::{
    describe::year_of,
    journal::{Journal, JournalError},
    outlook::DUE,
};

/// Of those that are still to be sent: how many have which date, if they tell none themselves. What a file's own clock says is
/// read when it is sent, and goes first. Moving halves are left out: they have their still's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Foreseen {
    /// A sidecar's, or an Apple table's.
    pub sidecar: u64,
    /// The one in the name.
    pub name: u64,
    /// The middle of the folder's year.
    pub folder: u64,
    /// None: the file is the only one to tell.
    pub nobody: u64,
}

impl Foreseen {
    pub fn look(journal: &Journal) -> Result<Self, JournalError> {
        let db = journal.db();
        let mut query = db.prepare(&format!(
            "SELECT e.name, d.path, coalesce(s.taken, t.taken), s.created
             FROM content c JOIN entry e ON e.id = c.entry JOIN dir d ON d.id = e.dir
             LEFT JOIN item i ON i.entry = c.entry LEFT JOIN sidecar s ON s.entry = i.sidecar
             LEFT JOIN detail t ON t.dir = e.dir AND t.name = e.name WHERE {DUE} AND c.still IS NULL"
        ))?;
        let mut found = Self::default();
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let text = |at: usize| row.get_ref(at)?.as_str().map_err(rusqlite::Error::from);
            let known = Known {
                taken: row.get(2)?,
                created: row.get(3)?,
                name: text(0)?,
                year: year_of(text(1)?),
                ..Known::default()
            };
            // Which zone it is in changes nothing of where it comes from.
            let count = match dates::decide(&known, &TimeZone::UTC).source {
                Source::Name => &mut found.name,
                Source::Folder => &mut found.folder,
                Source::Nobody => &mut found.nobody,
                _ => &mut found.sidecar,
            };
            *count += 1;
        }
        Ok(found)
    }
}
