//! What a keeper remembers by, so that nothing that is wrong with it keeps the library from being mounted or a job from being
//! done. A ledger that is damaged is kept under another name, and a new one is begun; where none can be written, what is done
//! is remembered until the keeper ends. Either is told: see [`haven_keeper::state::Diary`].

use std::path::{Path, PathBuf};

use haven_keeper::{
    ledger::{Ledger, LedgerError},
    state::Aside,
};

use super::{facts, seconds};
use crate::words::{self, causes};

/// The ledger that a keeper works with.
pub struct Opened {
    pub ledger: Ledger,
    /// Why it is in memory alone; none: it is on the disk.
    pub unwritten: Option<String>,
}

/// Opens the ledger at `path`.
///
/// # Errors
/// [`LedgerError::Newer`]: who has put an older version here is looking. And where not even memory can be had.
pub fn open(path: &Path) -> Result<Opened, LedgerError> {
    let error = match Ledger::open_whole(path) {
        Ok(ledger) => return Ok(Opened { ledger, unwritten: None }),
        Err(error @ LedgerError::Newer { .. }) => return Err(error),
        Err(error) => error,
    };
    tracing::error!(why = causes(&error), path = %path.display(), "the ledger can't be used");
    let mut why = causes(&error);
    if error.is_damage() {
        match begin_anew(path, &why) {
            Ok(ledger) => return Ok(Opened { ledger, unwritten: None }),
            Err(error) => why = format!("{why}; and a new one can't be begun: {error}"),
        }
    }
    tracing::error!("what is done is remembered until the keeper ends, and no longer");
    Ok(Opened { ledger: Ledger::in_memory()?, unwritten: Some(why) })
}

/// Puts what is at `path` aside, and begins a new ledger that knows of it.
fn begin_anew(path: &Path, why: &str) -> Result<Ledger, String> {
    let stamp = words::iso(words::now()).replace([':', '-'], "");
    let aside = path.with_file_name(format!("ledger.damaged-{stamp}.sqlite"));
    // What SQLite keeps beside it belongs to it.
    for end in ["", "-wal", "-shm"] {
        let with = |path: &Path| PathBuf::from(format!("{}{end}", path.display()));
        match std::fs::rename(with(path), with(&aside)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !end.is_empty() => {}
            other => other.map_err(|error| error.to_string())?,
        }
    }
    let ledger = Ledger::open_whole(path).map_err(|error| causes(&error))?;
    let told = Aside { at: seconds(), path: aside.display().to_string(), why: why.to_owned() };
    facts::write(&ledger, facts::ASIDE, &Some(told)).map_err(|error| causes(&error))?;
    tracing::warn!(path = %aside.display(), "what was damaged is kept there, and a new ledger was begun");
    Ok(ledger)
}

/// The damaged ledger that was put aside, as long as it is there.
pub fn aside(ledger: &Ledger) -> Option<Aside> {
    let noted: Option<Aside> = facts::read(ledger, facts::ASIDE)
        .inspect_err(|error| tracing::warn!(%error, "whether a ledger was put aside can't be read"))
        .ok()?;
    noted.filter(|aside| Path::new(&aside.path).exists())
}

#[cfg(test)]
mod tests {
    use haven_keeper::ledger::{Begin, Filter};

    use super::*;

    fn begin(ledger: &Ledger) {
        ledger.begin(&Begin { kind: "gc", started: 1000, ..Begin::default() }).unwrap();
    }

    #[test]
    fn a_damaged_ledger_is_kept_under_another_name_and_told_of_until_it_is_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.sqlite");
        let opened = open(&path).unwrap();
        begin(&opened.ledger);
        assert!(opened.unwritten.is_none() && aside(&opened.ledger).is_none());
        drop(opened);
        let opened = open(&path).unwrap();
        assert_eq!(opened.ledger.runs(&Filter::default()).unwrap().len(), 1);
        drop(opened);
        std::fs::write(&path, "rubbish, and long enough to be looked at as a database").unwrap();
        let opened = open(&path).unwrap();
        assert!(opened.unwritten.is_none() && opened.ledger.runs(&Filter::default()).unwrap().is_empty());
        let kept = aside(&opened.ledger).unwrap();
        assert!(std::fs::read_to_string(&kept.path).unwrap().starts_with("rubbish"));
        begin(&opened.ledger);
        drop(opened);
        let opened = open(&path).unwrap();
        assert_eq!((aside(&opened.ledger), opened.ledger.running().unwrap().len()), (Some(kept.clone()), 1));
        std::fs::remove_file(&kept.path).unwrap();
        assert_eq!(aside(&opened.ledger), None);
    }

    #[test]
    fn where_no_ledger_can_be_written_it_is_kept_in_memory_and_that_is_told() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), "").unwrap();
        let opened = open(&folder.path().join("file/ledger.sqlite")).unwrap();
        begin(&opened.ledger);
        assert!(opened.unwritten.is_some_and(|why| why.contains("can't be used")));
    }
}
