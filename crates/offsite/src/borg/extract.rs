//! Bringing an archive back with several borgs at once. One alone waits for the disk while it decrypts, and decrypts on
//! one processor.
//!
//! - The files are dealt out by their bytes; each borg gets a list of exactly its files.
//! - All directories are made before, so that no two make the same one, and get their owners, times and permissions at
//!   the end, when nothing in them changes any more.
//! - Names of one file go to one borg: only so they are one file again.
//! - Names with bytes that can't be told go to one borg, which makes their directories, too: what they are called only
//!   it knows.
//! - Gone on with, what is there as long and as old as it should be does not come again: borg writes a file to its end and
//!   then gives it its time. So what a killed one was at is not as old.

use std::{
    collections::{HashMap, HashSet},
    ffi::OsStr,
    fmt::Write as _,
    fs,
    io::Write as _,
    os::unix::{ffi::OsStrExt, fs::OpenOptionsExt},
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
};

use crate::{
    Cancel, Count, Entry, Error, Kind, Progress, Sort, ThirdCopy, Wanted, Watch,
    borg::{Borg, entries::MARK, talk, verdict::judge},
    choose, count, inside,
    tree::{self, landed},
};

/// `goes_on`: what is there already stays.
pub fn run(borg: &Borg, wanted: &Wanted, goes_on: bool, to: &Path, watch: &mut Watch) -> Result<Count, Error> {
    let entries = choose(&borg.entries(&wanted.archive)?, wanted)?;
    let root = inside(&wanted.root)?;
    make_directories(&entries, &root, to)?;
    let lists = Lists::new(borg)?;
    let there = if goes_on { tree::kept(&entries, &root, to, MARK) } else { HashSet::new() };
    let missing: Vec<Entry> = entries.iter().filter(|entry| !there.contains(&entry.path[..])).cloned().collect();
    let parts = deal(&missing, wanted.parallel.max(1));
    let files = count(&entries).files;
    let kept = files - count(&missing).files;
    let args = |list: &Path| {
        let strip = if root.is_empty() { 0 } else { 1 + root.iter().filter(|&&byte| byte == b'/').count() };
        let list = list.to_string_lossy().into_owned();
        ["--list".into(), "--strip-components".into(), strip.to_string(), "--patterns-from".into(), list]
            .into_iter()
            .chain([borg.archive(&wanted.archive)])
    };
    let extract = |list: &Path, cancel: &Cancel, progress: &mut dyn FnMut(&Progress)| {
        let mut command = borg.command("extract", args(list));
        command.current_dir(to);
        let said = talk::run(command, &mut Watch { cancel: cancel.clone(), progress })?;
        judge(&said, "restoring", Kind::NotRestored).map(drop)
    };
    let lists_of_parts = parts.iter().map(|part| lists.write(part)).collect::<Result<Vec<_>, _>>()?;
    // When one fails, the others needn't go on.
    let cancel = Cancel::default();
    let (send, told) = mpsc::channel();
    let outcomes = thread::scope(|scope| {
        let running: Vec<_> = lists_of_parts
            .iter()
            .enumerate()
            .map(|(n, list)| {
                let (send, cancel, extract) = (send.clone(), &cancel, &extract);
                scope.spawn(move || {
                    let outcome = extract(list, cancel, &mut |progress: &Progress| _ = send.send((n, progress.files)));
                    if outcome.is_err() {
                        cancel.cancel();
                    }
                    outcome
                })
            })
            .collect();
        drop(send);
        let mut done = vec![0; running.len()];
        loop {
            match told.recv_timeout(std::time::Duration::from_millis(100)) {
                Ok((n, count)) => done[n] = count,
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => {}
            }
            let here = kept + done.iter().sum::<u64>();
            let percent = (files > 0).then(|| 100.0 * here as f64 / files as f64);
            (watch.progress)(&Progress { files: here, percent, ..Progress::default() });
            if watch.cancel.is_cancelled() {
                cancel.cancel();
            }
        }
        running.into_iter().map(|one| one.join().unwrap_or_else(|_| Err(died()))).collect::<Vec<_>>()
    });
    // The one that failed by itself says more than those that were told to end.
    let failed = outcomes.into_iter().filter_map(Result::err);
    if let Some(error) = failed.min_by_key(|error| error.kind == Kind::Cancelled) {
        return Err(error);
    }
    let directories: Vec<&Entry> = entries.iter().filter(|entry| entry.sort == Sort::Directory).collect();
    if !directories.is_empty() {
        extract(&lists.write(&directories)?, &watch.cancel, &mut |_| {})?;
    }
    Ok(Count { kept, ..tree::arrived(&entries, &root, to, MARK)? })
}

pub fn died() -> Error {
    Error::new(Kind::Other, "restoring: a part ended without a word")
}

fn make_directories(entries: &[Entry], root: &[u8], to: &Path) -> Result<(), Error> {
    let local = |path: &Path, error: std::io::Error| {
        Error::new(Kind::Local, format!("{} can't be made", path.display())).because(error.to_string())
    };
    let make = |path: &Path| fs::create_dir_all(path).map_err(|error| local(path, error));
    make(to)?;
    let mut last = PathBuf::new();
    for entry in entries {
        let path = Path::new(OsStr::from_bytes(landed(entry, root)));
        let directory = if entry.sort == Sort::Directory { Some(path) } else { path.parent() };
        let Some(directory) = directory.filter(|directory| **directory != last && !odd(&entry.path)) else { continue };
        make(&to.join(directory))?;
        directory.clone_into(&mut last);
    }
    Ok(())
}

/// Whether a name may be another than the one that is told.
fn odd(path: &[u8]) -> bool {
    path.contains(&(MARK as u8))
}

/// Everything but directories, in so many parts of about the same bytes.
pub fn deal(entries: &[Entry], parts: usize) -> Vec<Vec<&Entry>> {
    /// What a file costs, however small it is, in bytes of one that is long.
    const EACH: u64 = 64 << 10;
    /// What a borg must have to do, in the same bytes: starting one costs a second of a processor.
    const PART: u64 = 32 << 20;
    let files = || entries.iter().filter(|entry| entry.sort != Sort::Directory);
    let total: u64 = files().map(|entry| entry.size + EACH).sum();
    let parts = parts.min(usize::try_from(total.div_ceil(PART)).unwrap_or(parts)).max(1);
    let share = total.div_ceil(parts as u64).max(1);
    let mut out: Vec<Vec<&Entry>> = vec![Vec::new()];
    let mut weight = 0;
    let mut place = HashMap::new();
    // In the archive's order: what lies together there is fetched together.
    for entry in files().filter(|entry| entry.sort != Sort::Link) {
        if odd(&entry.path) {
            place.insert(&entry.path[..], 0);
            out[0].push(entry);
            continue;
        }
        if weight >= share && out.len() < parts {
            out.push(Vec::new());
            weight = 0;
        }
        weight += entry.size + EACH;
        place.insert(&entry.path[..], out.len() - 1);
        if let Some(last) = out.last_mut() {
            last.push(entry);
        }
    }
    for link in files().filter(|entry| entry.sort == Sort::Link) {
        // Names of a file that is not wanted itself have to be together as well.
        let n = if odd(&link.path) { 0 } else { *place.entry(&link.target[..]).or_insert(0) };
        out[n].push(link);
    }
    out.retain(|part| !part.is_empty());
    out
}

/// Files that tell each borg what is its. They hold photos' names, and go when this goes.
pub struct Lists {
    directory: PathBuf,
    count: std::cell::Cell<usize>,
}

impl Lists {
    pub fn new(borg: &Borg) -> Result<Self, Error> {
        let directory = borg.options.base.join(format!("restoring-{}", std::process::id()));
        fs::create_dir_all(&directory).map_err(|error| Self::trouble(&directory, &error))?;
        Ok(Self { directory, count: std::cell::Cell::new(0) })
    }

    fn trouble(path: &Path, error: &std::io::Error) -> Error {
        Error::new(Kind::Local, format!("{} can't be written", path.display())).because(error.to_string())
    }

    pub fn write(&self, entries: &[&Entry]) -> Result<PathBuf, Error> {
        self.count.set(self.count.get() + 1);
        let path = self.directory.join(self.count.get().to_string());
        let mut text = String::new();
        for entry in entries {
            text += &pattern(&entry.path);
        }
        // And nothing else.
        text += "- re:.\n";
        let write = || {
            let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
            file.write_all(text.as_bytes())
        };
        write().map_err(|error| Self::trouble(&path, &error))?;
        Ok(path)
    }
}

impl Drop for Lists {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.directory);
    }
}

/// A line that means this path and no other. `pf:` is looked up, and costs nothing; names that a line can't hold are
/// matched letter by letter.
fn pattern(path: &[u8]) -> String {
    if path.is_empty() {
        return "+ pf:.\n".into();
    }
    let path = String::from_utf8_lossy(path);
    let plain = |c: char| !c.is_control() && !['\u{2028}', '\u{85}', MARK].contains(&c);
    if path.chars().all(plain) && path.trim() == path {
        return format!("+ pf:{path}\n");
    }
    let mut line = "+ re:^".to_owned();
    for c in path.chars() {
        match c {
            // A question mark, or any byte that Python has put into a lone surrogate (PEP 383).
            MARK => line += "[?\\udc80-\\udcff]",
            c => _ = write!(line, "\\U{:08x}", u32::from(c)),
        }
    }
    line + "\\Z\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, sort: Sort, size: u64, target: &str) -> Entry {
        Entry { path: path.into(), sort, size, modified: None, target: target.into() }
    }

    #[test]
    fn files_are_dealt_out_by_bytes_and_names_of_one_file_stay_together() {
        let mut entries: Vec<_> = (0..10)
            .map(|n| entry(&format!("d/{n}"), Sort::File, if n == 0 { 50 << 20 } else { 5 << 20 }, ""))
            .collect();
        entries.push(entry("d", Sort::Directory, 0, ""));
        entries.push(entry("again", Sort::Link, 0, "d/9"));
        entries.push(entry("x", Sort::Link, 0, "not wanted"));
        entries.push(entry("y", Sort::Link, 0, "not wanted"));
        let parts = deal(&entries, 2);
        let names = |n: usize| parts[n].iter().map(|e| String::from_utf8_lossy(&e.path)).collect::<Vec<_>>();
        assert_eq!(names(0), ["d/0", "x", "y"]);
        assert_eq!(parts[1].len(), 10);
        assert!(names(1).contains(&"again".into()));
        assert!(deal(&entries[10..11], 4).is_empty());
    }

    #[test]
    fn every_name_has_a_line_of_its_own() {
        assert_eq!(pattern("Füße/a b.jpg".as_bytes()), "+ pf:Füße/a b.jpg\n");
        assert_eq!(pattern(b"a\n"), "+ re:^\\U00000061\\U0000000a\\Z\n");
        assert_eq!(pattern(b"?"), "+ re:^[?\\udc80-\\udcff]\\Z\n");
    }
}
