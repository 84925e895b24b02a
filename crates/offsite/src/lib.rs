//! Third copies: the library in a format that is not Haven's, so that no mistake of ours is in all copies.
//! ```text
//! snapshot ──at one fixed place──▶ [`ThirdCopy`] ──drives──▶ borg, a child process ──ssh──▶ repository
//!                                       │ JSON lines: progress, warnings, statistics
//!                                       └ a verdict: whole, or [`Error`]; nothing half-finished has an archive's name
//! ```
//! Promises: an archive that is listed as whole holds every file that was there to read; what a run leaves behind when
//! it dies is a leftover, never counted, and told. Only what [`plan`] says is ever deleted, by [`Archive::id`]: a leftover
//! may have the name of a whole one.
//! Expects: the source stands still (a snapshot). It is shown at the same path each time, or everything is read again.

pub mod borg;
mod error;
mod program;
pub mod restic;
mod stream;
mod tree;

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use haven_format::{
    record::Time,
    retention::{Fate, Item, Rules, judge},
};
use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;

pub use error::{Error, Hit, Kind};
pub use stream::{Each, Streamed};

/// One archive of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Archive {
    /// What no other in the repository has: of restic's the snapshot's id, of Borg's the name itself.
    pub id: String,
    pub name: String,
    /// When what it shows was so, seconds since the Unix epoch.
    pub taken: i64,
    /// The word that was left on it.
    pub note: String,
    /// Left by a run that did not end well: it is no copy of anything.
    pub leftover: bool,
    /// Made by somebody else, under a name that is not one of ours: it is listed and can be restored, and is never
    /// judged.
    pub foreign: bool,
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
    /// Of `files`: those that were there already, and stayed.
    pub kept: u64,
}

impl Count {
    pub(crate) fn add(&mut self, other: Self) {
        self.files += other.files;
        self.bytes += other.bytes;
        self.kept += other.kept;
    }
}

/// What a thing in an archive is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sort {
    File,
    Directory,
    /// Another name of a file that has one already.
    Link,
    /// A symbolic link, a device, a pipe.
    Other,
}

/// A thing in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// From the archive's root on, without `/` at its ends; empty for the root itself. Any bytes, as names have.
    pub path: Vec<u8>,
    pub sort: Sort,
    /// Bytes in it, for files.
    pub size: u64,
    /// When its content changed last, nanoseconds since the Unix epoch. `None`: that is not told, or it can't come back whole.
    pub modified: Option<i128>,
    /// Of a [`Sort::Link`]: the other name.
    pub target: Vec<u8>,
}

/// What is to come back, and where it lands.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    pub archive: String,
    /// Only what lies below these; everything, if there are none.
    pub paths: Vec<String>,
    /// This folder of the archive becomes the directory that is restored to, and only what lies in it comes back:
    /// older archives have the path of a whole machine before the library. Empty: as it is.
    pub root: String,
    /// Parts that come back at once; at least one.
    pub parallel: usize,
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
    /// A directory that is shown over one of the source's, there alone: which, and over what.
    pub over: Option<(PathBuf, PathBuf)>,
    /// When it was so, seconds since the Unix epoch.
    pub taken: i64,
    /// A word to leave on the archive.
    pub note: String,
}

/// The verbs that every kind of third copy has. Each blocks until it is done.
pub trait ThirdCopy: Send + Sync {
    /// Of the program that is driven.
    fn version(&self) -> &str;
    /// What should be put right about the program.
    fn warnings(&self) -> &[String];
    /// Makes the repository.
    fn init(&self, watch: &mut Watch) -> Result<(), Error>;
    /// Makes the archive `name` of everything in `source`. It has the name only when it is whole.
    fn create(&self, source: &Source, name: &str, watch: &mut Watch) -> Result<Made, Error>;
    /// All archives, oldest first, leftovers too.
    fn list(&self) -> Result<Vec<Archive>, Error>;
    fn info(&self) -> Result<About, Error>;
    /// Looks for damage. `Ok` means that none was found; the error of damage tells which files it hits, where the program
    /// can tell that.
    fn check(&self, depth: Depth, watch: &mut Watch) -> Result<(), Error>;
    /// Deletes the archives with these [`Archive::id`]s. Their space comes free with [`Self::compact`].
    fn delete(&self, ids: &[String], watch: &mut Watch) -> Result<(), Error>;
    fn compact(&self, watch: &mut Watch) -> Result<(), Error>;
    /// Everything in an archive, parents before what lies in them. Asked again for the last one, it is remembered: archives
    /// don't change.
    fn entries(&self, archive: &str) -> Result<Arc<Vec<Entry>>, Error>;
    /// Puts what is wanted into the directory `to`, over what is there, and looks whether all of it has come.
    fn restore(&self, wanted: &Wanted, to: &Path, watch: &mut Watch) -> Result<Count, Error>;
    /// The same, where an earlier run may have come to a part of it: files that are there already, as long and as old as they
    /// should be, stay.
    fn go_on(&self, wanted: &Wanted, to: &Path, watch: &mut Watch) -> Result<Count, Error>;
    /// Reads the files that are wanted, and hands them to `each` in no particular order; nothing is left anywhere. Further
    /// names of a file are left out. `Ok` means that each came whole, or is named among those that failed.
    fn stream(&self, wanted: &Wanted, each: &Each, watch: &mut Watch) -> Result<Streamed, Error>;
}

/// Those of `entries` that are wanted. Nothing there by that name is an error: a wish that was not fulfilled.
pub fn choose(entries: &[Entry], wanted: &Wanted) -> Result<Vec<Entry>, Error> {
    let none = |path: &str| Error::new(Kind::NoArchive, format!("{} has no {path:?}", wanted.archive));
    let root = inside(&wanted.root)?;
    let mut paths = wanted.paths.iter().map(|path| inside(path)).collect::<Result<Vec<_>, _>>()?;
    for path in &mut paths {
        // Within the folder that becomes the root, paths are told from there.
        *path = if root.is_empty() { path.clone() } else { [&root[..], &path[..]].join(&b"/"[..]) };
    }
    if paths.is_empty() {
        paths.push(root.clone());
    }
    let mut found = vec![false; paths.len()];
    let mut at: HashMap<&[u8], Vec<usize>> = HashMap::new();
    for (n, path) in paths.iter().enumerate() {
        at.entry(path).or_default().push(n);
    }
    // Looked up, not compared: both may be a hundred thousand.
    let mut keep = |entry: &Entry| {
        let path = &entry.path[..];
        let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(n, _)| &path[..n]);
        let mut any = false;
        for above in slashes.chain([&path[..0], path]) {
            for n in at.get(above).into_iter().flatten() {
                found[*n] = true;
                any = true;
            }
        }
        any
    };
    let chosen: Vec<Entry> = entries.iter().filter(|entry| keep(entry)).cloned().collect();
    match found.iter().position(|found| !found) {
        Some(n) if !chosen.is_empty() || !paths[n].is_empty() => Err(none(&String::from_utf8_lossy(&paths[n]))),
        _ => Ok(chosen),
    }
}

/// A path as archives keep it: from the root on.
fn inside(path: &str) -> Result<Vec<u8>, Error> {
    if Path::new(path).components().any(|part| part.as_os_str() == "..") {
        return Err(Error::new(Kind::NoArchive, format!("{path:?} is no path inside the library")));
    }
    let parts = Path::new(path).components().filter_map(|part| match part {
        std::path::Component::Normal(name) => Some(name.as_encoded_bytes()),
        _ => None,
    });
    Ok(parts.collect::<Vec<_>>().join(&b"/"[..]))
}

/// An archive's name, and what is in it.
type Asked = (String, Arc<Vec<Entry>>);

/// The last archive that was asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recall(Arc<Mutex<Option<Asked>>>);

impl Recall {
    pub(crate) fn or(
        &self,
        archive: &str,
        ask: impl FnOnce() -> Result<Vec<Entry>, Error>,
    ) -> Result<Arc<Vec<Entry>>, Error> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((name, entries)) = &*last
            && name == archive
        {
            return Ok(entries.clone());
        }
        let entries = Arc::new(ask()?);
        *last = Some((archive.to_owned(), entries.clone()));
        Ok(entries)
    }
}

/// How many files there are among `entries`, and their bytes.
pub fn count<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Count {
    let files = entries.into_iter().filter(|entry| entry.sort != Sort::Directory);
    files.fold(Count::default(), |count, entry| Count {
        files: count.files + 1,
        bytes: count.bytes + entry.size,
        ..count
    })
}

/// Where the passphrase of a repository comes from. It is in no argument and in no environment of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Passphrase {
    /// The first line of this file.
    File(PathBuf),
    /// The first line that `/bin/sh` prints when it runs this.
    Command(String),
}

impl Passphrase {
    /// The words of a command that prints it, as a program splits them that asks no shell.
    fn command(&self) -> String {
        match self {
            Self::File(file) => format!("head -n 1 {}", quoted(file)),
            Self::Command(command) => format!("/bin/sh -c {}", quoted(command)),
        }
    }
}

/// One word for a shell, and for programs that split words as one does.
fn quoted(text: impl AsRef<std::ffi::OsStr>) -> String {
    format!("'{}'", text.as_ref().to_string_lossy().replace('\'', "'\"'\"'"))
}

/// What becomes of an archive, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Judged {
    #[serde(flatten)]
    pub archive: Archive,
    pub keep: bool,
    pub why: String,
}

/// The end of a name that says when: `2026-11-26T21:28:25Z`.
const STAMP: usize = 20;

/// What the name of an archive says between `prefix` and the time at its end: whose it is, where there are several that
/// each have archives of their own. Empty: it does not say.
pub fn series<'a>(name: &'a str, prefix: &str) -> &'a str {
    let rest = name.strip_prefix(prefix).unwrap_or(name);
    let parts = rest.len().checked_sub(STAMP).and_then(|at| rest.split_at_checked(at));
    match parts {
        Some((series, stamp)) if stamp.ends_with('Z') && stamp.parse::<Timestamp>().is_ok() => {
            series.strip_suffix('-').unwrap_or_default()
        }
        _ => "",
    }
}

/// The name that a leftover would have got: without what stands behind it until an archive is whole, Borg's own words
/// among it.
fn wished(name: &str) -> &str {
    let word = |end: &str| {
        matches!(end, "failed" | "checkpoint") || !end.is_empty() && end.bytes().all(|byte| byte.is_ascii_digit())
    };
    let mut name = name;
    while let Some((wish, _)) = name.rsplit_once('.').filter(|(_, end)| word(end)) {
        name = wish;
    }
    name
}

/// Seconds after which nobody looks at what is left of a run.
const FORSAKEN: i64 = 30 * 86_400;

/// What `rules` make of `archives` whose names begin with `prefix`, in their order. Each [`series`] is judged by itself: the
/// last of a day of one is not that of another. Leftovers go once something whole of their own series is newer: until then
/// they may be all that there is of it, for a person to look at. So do they when anything whole is newer by [`FORSAKEN`]: the
/// series of an application that was renamed or given up gets nothing any more.
pub fn plan(archives: &[Archive], prefix: &str, rules: &Rules, now: i64, zone: &TimeZone) -> Vec<Judged> {
    let ours = |archive: &&Archive| !archive.foreign && archive.name.starts_with(prefix);
    let whole: Vec<&Archive> = archives.iter().filter(ours).filter(|archive| !archive.leftover).collect();
    let time = |seconds| Time { seconds, nanos: 0 };
    let mut each: BTreeMap<&str, Vec<&Archive>> = BTreeMap::new();
    let mut newest: HashMap<&str, i64> = HashMap::new();
    for archive in &whole {
        let whose = series(&archive.name, prefix);
        each.entry(whose).or_default().push(archive);
        let taken = newest.entry(whose).or_insert(archive.taken);
        *taken = archive.taken.max(*taken);
    }
    let mut fates: HashMap<&str, Fate> = HashMap::new();
    for those in each.into_values() {
        let items: Vec<Item> = those
            .iter()
            .map(|archive| Item { name: archive.name.as_bytes(), taken: time(archive.taken), protected_until: 0 })
            .collect();
        fates.extend(those.iter().map(|archive| archive.id.as_str()).zip(judge(&items, rules, time(now), zone)));
    }
    let latest = newest.values().max().copied();
    let mut one = |archive: &Archive| {
        let (keep, why) = if archive.leftover {
            let newest = newest.get(series(wished(&archive.name), prefix));
            let forsaken = latest.is_some_and(|latest| latest > archive.taken + FORSAKEN);
            match forsaken || newest.is_some_and(|newest| *newest > archive.taken) {
                true => (false, "left by a run that did not end well".to_owned()),
                false => (true, "a leftover, and nothing whole is newer".to_owned()),
            }
        } else {
            let fate = fates.remove(archive.id.as_str()).unwrap_or(Fate::Protected { until: i64::MAX });
            (fate.stays(), fate.to_string())
        };
        Judged { archive: archive.clone(), keep, why }
    };
    archives.iter().filter(ours).map(&mut one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(name: &str, taken: i64, leftover: bool) -> Archive {
        Archive { id: name.into(), name: name.into(), taken, note: String::new(), leftover, foreign: false }
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
        let kept: Vec<_> = judged.iter().filter(|one| one.keep).map(|one| one.archive.name.as_str()).collect();
        assert_eq!(kept, ["h-2", "h-3", "h-4.failed"]);
        assert_eq!(judged.len(), 5, "others are not ours to judge");
    }

    #[test]
    fn what_is_left_of_one_application_goes_only_when_something_whole_of_its_own_is_newer() {
        let named = |whose: &str, at: i64, end: &str| {
            archive(&format!("h-{whose}-2026-11-01T21:00:{at:02}Z{end}"), at, !end.is_empty())
        };
        let mut archives = vec![
            named("beta", 1, ".failed"),
            named("beta", 2, ".2.failed"),
            named("beta", 3, ".failed.checkpoint.1"),
            named("beta", 4, ".checkpoint"),
            named("alpha", 5, ""),
        ];
        let kept = |archives: &[Archive]| -> Vec<i64> {
            let judged = plan(archives, "h-", &"daily 2".parse().unwrap(), 9, &TimeZone::UTC);
            judged.iter().filter(|one| one.keep).map(|one| one.archive.taken).collect()
        };
        assert_eq!(kept(&archives), [1, 2, 3, 4, 5], "of beta there is nothing else");
        let mut later = archives.clone();
        later.push(named("alpha", 5 + FORSAKEN, ""));
        assert_eq!(kept(&later), [5, 5 + FORSAKEN], "nor will there be");
        archives.push(named("beta", 6, ""));
        assert_eq!(kept(&archives), [5, 6]);
    }

    #[test]
    fn of_two_applications_each_has_its_own_last_of_a_day() {
        let day = 86_400;
        let named = |whose: &str, day: i64, at: i64| {
            archive(&format!("h-{whose}2026-11-{day:02}T21:00:{at:02}Z"), day * 86_400 + at, false)
        };
        let archives: Vec<_> =
            (1..4).flat_map(|day| [named("alpha-", day, 1), named("beta-b-", day, 2), named("", day, 3)]).collect();
        let judged = plan(&archives, "h-", &"daily 2".parse().unwrap(), 4 * day, &TimeZone::UTC);
        let kept: Vec<_> = judged.iter().filter(|one| one.keep).map(|one| series(&one.archive.name, "h-")).collect();
        assert_eq!(kept, ["alpha", "beta-b", "", "alpha", "beta-b", ""], "{judged:?}");
        assert_eq!((series("h-x.failed", "h-"), series("h-2026-11-31T21:00:00Z", "h-")), ("", ""));
    }
}
