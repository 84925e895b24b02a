//! Third copies: the library in a format that is not Haven's, so that no mistake of ours is in all copies.
//! ```text
//! snapshot ──at one fixed place──▶ [`ThirdCopy`] ──drives──▶ borg, a child process ──ssh──▶ repository
//!                                       │ JSON lines: progress, warnings, statistics
//!                                       └ a verdict: whole, or [`Error`]; nothing half-finished has an archive's name
//! ```
//! Promises: an archive that is listed as whole holds every file that was there to read; what a run leaves behind when
//! it dies is a leftover, never counted, and told. Only what [`plan`] says is ever deleted, by name.
//! Expects: the source stands still (a snapshot). It is shown at the same path each time, or everything is read again.

pub mod borg;
mod error;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use haven_format::{
    record::Time,
    retention::{Fate, Item, Rules, judge},
};
use jiff::tz::TimeZone;
use serde::Serialize;

pub use error::{Error, Kind};

/// One archive of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Archive {
    pub name: String,
    /// When what it shows was so, seconds since the Unix epoch.
    pub taken: i64,
    /// The word that was left on it.
    pub note: String,
    /// Left by a run that did not end well: it is no copy of anything.
    pub leftover: bool,
}

/// What a finished run did.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Made {
    pub archive: String,
    pub files: u64,
    /// Bytes in its files.
    pub original_bytes: u64,
    /// Those after compression.
    pub compressed_bytes: u64,
    /// Those that the repository did not have: by how much it grew.
    pub new_bytes: u64,
    pub seconds: f64,
    /// What should be put right, though nothing is missing.
    pub warnings: Vec<String>,
}

/// A whole repository.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct About {
    pub location: String,
    pub id: String,
    pub encryption: String,
    /// Of the program that was driven.
    pub version: String,
    pub archives: usize,
    pub leftovers: usize,
    /// Bytes in the files of all archives.
    pub original_bytes: u64,
    /// Bytes that the repository holds for them.
    pub stored_bytes: u64,
    pub warnings: Vec<String>,
}

/// Files of an archive, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    pub files: u64,
    pub bytes: u64,
}

/// How thoroughly a repository is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Every object is there and its checksum is right; every archive hangs together.
    Structure,
    /// Also every byte is fetched, decrypted and compared with its key's hash.
    Data,
}

/// How far a run is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Progress {
    pub files: u64,
    /// Bytes looked at.
    pub bytes: u64,
    /// Bytes the repository did not have.
    pub new_bytes: u64,
    /// Where a share can be told.
    pub percent: Option<f64>,
    /// What it is doing just now, without any photo's name.
    pub doing: String,
}

/// Ends a run when it is told to, from another thread.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a run is watched with.
pub struct Watch<'a> {
    pub cancel: Cancel,
    pub progress: &'a mut dyn FnMut(&Progress),
}

/// What is to be copied.
#[derive(Debug, Clone)]
pub struct Source {
    /// The directory that stands still.
    pub directory: PathBuf,
    /// Where it is shown to the program each time: an empty directory, or `None` to show it where it is. Needs root, and
    /// vanishes with the program.
    pub shown_at: Option<PathBuf>,
    /// When it was so, seconds since the Unix epoch.
    pub taken: i64,
    /// A word to leave on the archive.
    pub note: String,
}

/// The verbs that every kind of third copy has. Each blocks until it is done.
pub trait ThirdCopy {
    /// Makes the repository.
    fn init(&self, watch: &mut Watch) -> Result<(), Error>;
    /// Makes the archive `name` of everything in `source`. It has the name only when it is whole.
    fn create(&self, source: &Source, name: &str, watch: &mut Watch) -> Result<Made, Error>;
    /// All archives, oldest first, leftovers too.
    fn list(&self) -> Result<Vec<Archive>, Error>;
    fn info(&self) -> Result<About, Error>;
    /// Looks for damage. `Ok` means that none was found.
    fn check(&self, depth: Depth, watch: &mut Watch) -> Result<(), Error>;
    /// Deletes these archives. Their space comes free with [`Self::compact`].
    fn delete(&self, names: &[String], watch: &mut Watch) -> Result<(), Error>;
    fn compact(&self, watch: &mut Watch) -> Result<(), Error>;
    /// What lies below `paths` in an archive; everything, if none are given.
    fn count(&self, archive: &str, paths: &[String]) -> Result<Count, Error>;
    /// Puts what lies below `paths` (everything, if none are given) of an archive into the directory `to`.
    fn restore(&self, archive: &str, paths: &[String], to: &Path, watch: &mut Watch) -> Result<(), Error>;
}

/// What becomes of an archive, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Judged {
    pub name: String,
    pub taken: i64,
    pub keep: bool,
    pub why: String,
}

/// What `rules` make of `archives` whose names begin with `prefix`, in their order. Leftovers go once something whole is
/// newer: until then they may be all that there is, for a person to look at.
pub fn plan(archives: &[Archive], prefix: &str, rules: &Rules, now: i64, zone: &TimeZone) -> Vec<Judged> {
    let ours = |archive: &&Archive| archive.name.starts_with(prefix);
    let whole: Vec<&Archive> = archives.iter().filter(ours).filter(|archive| !archive.leftover).collect();
    let time = |seconds| Time { seconds, nanos: 0 };
    let items: Vec<Item> = whole
        .iter()
        .map(|archive| Item { name: archive.name.as_bytes(), taken: time(archive.taken), protected_until: 0 })
        .collect();
    let fates = judge(&items, rules, time(now), zone);
    let newest = whole.iter().map(|archive| archive.taken).max();
    let mut fates = fates.into_iter();
    let one = |archive: &Archive| {
        let (keep, why) = if archive.leftover {
            match newest.is_some_and(|newest| newest > archive.taken) {
                true => (false, "left by a run that did not end well".to_owned()),
                false => (true, "a leftover, and nothing whole is newer".to_owned()),
            }
        } else {
            let fate = fates.next().unwrap_or(Fate::Protected { until: i64::MAX });
            (fate.stays(), fate.to_string())
        };
        Judged { name: archive.name.clone(), taken: archive.taken, keep, why }
    };
    archives.iter().filter(ours).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(name: &str, taken: i64, leftover: bool) -> Archive {
        Archive { name: name.into(), taken, note: String::new(), leftover }
    }

    #[test]
    fn a_leftover_stands_for_no_day_and_goes_when_something_whole_is_newer() {
        let day = 86_400;
        let archives = [
            archive("h-1", day, false),
            archive("h-2", 2 * day, false),
            archive("h-2.failed", 2 * day + 1, true),
            archive("other", 3 * day, false),
            archive("h-3", 4 * day, false),
            archive("h-4.failed", 5 * day, true),
        ];
        let rules: Rules = "daily 2".parse().unwrap();
        let judged = plan(&archives, "h-", &rules, 6 * day, &TimeZone::UTC);
        let kept: Vec<_> = judged.iter().filter(|one| one.keep).map(|one| one.name.as_str()).collect();
        assert_eq!(kept, ["h-2", "h-3", "h-4.failed"]);
        assert_eq!(judged.len(), 5, "others are not ours to judge");
    }
}
