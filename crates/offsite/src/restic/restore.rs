//! Bringing a snapshot back. The program fetches in parallel by itself.
//!
//! It makes every file as long as it will be, fills them all, and gives them their times at the very end: of a run that did not
//! come to its end nothing is known. So where it is to be possible to go on, each run brings a part to a place of its own,
//! and what has come whole is moved from there.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    Count, Entry, Error, Kind, Progress, Sort, ThirdCopy, Wanted, Watch, choose, count, inside,
    program::make,
    restic::{MARK, Restic},
    tree,
};

/// Bytes of arguments that tell one run what is wanted. A system takes two million; with more patterns each run looks
/// through its folders for longer.
const ARGUMENTS: usize = 100 << 10;
/// Of these, what stands beside each pattern: its flag, two ends, two pointers.
const BESIDE_EACH: usize = 32;

/// Bytes of files that one run brings where it can be gone on: so many may have come in vain. Each costs a start.
const RUN: u64 = 8 << 30;

/// `goes_on`: what is there already stays.
pub fn run(restic: &Restic, wanted: &Wanted, goes_on: bool, to: &Path, watch: &mut Watch) -> Result<Count, Error> {
    let id = restic.id_of(&wanted.archive)?;
    let all = restic.entries(&wanted.archive)?;
    let entries = choose(&all, wanted)?;
    let root = inside(&wanted.root)?;
    make(to)?;
    clear(to);
    let there = if goes_on { tree::kept(&entries, &root, to, MARK) } else { HashSet::new() };
    let (stay, missing): (Vec<&Entry>, Vec<&Entry>) = entries.iter().partition(|entry| there.contains(&entry.path[..]));
    let (whole, kept) = (count(&entries), count(stay));
    let mut done = kept;
    let percent = |bytes: u64| (whole.bytes > 0).then(|| 100.0 * bytes as f64 / whole.bytes as f64);
    let missing = missing.into_iter().map(|entry| &entry.path[..]).collect();
    for part in parts(&all, &missing, if goes_on { RUN } else { u64::MAX }) {
        let scratch = Scratch::new(to, goes_on || !root.is_empty());
        let mut args = vec![id.clone(), "--target".into(), scratch.target().to_string_lossy().into_owned()];
        args.extend(part.includes.into_iter().flat_map(|include| ["--include".into(), include]));
        let cancel = watch.cancel.clone();
        let mut told = |here: &Progress| {
            let (files, bytes) = (done.files + here.files, done.bytes + here.bytes);
            (watch.progress)(&Progress { files, bytes, percent: percent(bytes), ..here.clone() });
        };
        let mut here = Watch { cancel, progress: &mut told };
        let restored = restic.run("restore", &args, &mut here, "restoring", Kind::NotRestored);
        let outcome = restored.and_then(|_| scratch.settle(&root));
        drop(scratch);
        outcome?;
        done.add(part.count);
        let Count { files, bytes, .. } = done;
        (watch.progress)(&Progress { files, bytes, percent: percent(bytes), ..Progress::default() });
    }
    Ok(Count { kept: kept.files, ..tree::arrived(&entries, &root, to, MARK)? })
}

/// What one run of the program brings back.
#[derive(Debug, PartialEq, Eq)]
struct Part {
    /// Patterns of what it is told to bring; none: everything.
    includes: Vec<String>,
    /// What these come to as arguments.
    arguments: usize,
    count: Count,
}

/// Deals what is wanted of an archive out to runs of at most so many bytes of files, in its order: what lies together there
/// is fetched together. Of a folder of which everything is wanted one pattern tells.
fn parts(all: &[Entry], wanted: &HashSet<&[u8]>, most: u64) -> Vec<Part> {
    let full: HashSet<&[u8]> = all.iter().filter_map(|entry| above(&entry.path).last()).collect();
    // Folders come with what lies in them, and by themselves where that is nothing.
    let ends: Vec<&Entry> =
        all.iter().filter(|entry| entry.sort != Sort::Directory || !full.contains(&entry.path[..])).collect();
    let mut folders: HashMap<&[u8], (bool, Count)> = HashMap::new();
    for entry in ends.iter().copied() {
        for folder in above(&entry.path) {
            let (whole, size) = folders.entry(folder).or_insert((true, Count::default()));
            *whole &= wanted.contains(&entry.path[..]);
            size.add(count([entry]));
        }
    }
    let fits = |(whole, size): &&(bool, Count)| *whole && size.bytes <= most;
    let whole = |folder: &[u8]| folders.get(folder).filter(fits).map(|(_, size)| *size);
    let mut parts: Vec<Part> = Vec::new();
    let mut taken = HashSet::new();
    for entry in ends.into_iter().filter(|entry| wanted.contains(&entry.path[..])) {
        let folder = above(&entry.path).find_map(|folder| Some((folder, whole(folder)?)));
        let (path, size) = folder.unwrap_or_else(|| (&entry.path[..], count([entry])));
        if !taken.insert(path) {
            continue;
        }
        let include = literal(&String::from_utf8_lossy(path));
        let arguments = include.len() + BESIDE_EACH;
        let filled = |part: &Part| part.arguments + arguments > ARGUMENTS || part.count.bytes + size.bytes > most;
        if parts.last().is_none_or(filled) {
            parts.push(Part { includes: Vec::new(), arguments: 0, count: Count::default() });
        }
        if let Some(part) = parts.last_mut() {
            part.includes.extend((!path.is_empty()).then_some(include));
            part.arguments += arguments;
            part.count.add(size);
        }
    }
    parts
}

/// The folders that a path lies in, the outermost first: the root.
fn above(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(n, _)| &path[..n]);
    std::iter::once(&path[..0]).chain(slashes)
}

/// A pattern that means this path of the archive and no other; but where it is not told what a byte is, any.
fn literal(path: &str) -> String {
    let mut out = "/".to_owned();
    for c in path.chars() {
        if matches!(c, '*' | '?' | '[' | '\\') {
            out.push('\\');
        }
        out.push(if c == MARK { '?' } else { c });
    }
    out
}

/// What the name of a place begins with that a folder is restored to for a while; then comes the number of our process.
const BESIDE: &str = ".haven-restoring-";
/// How long a program that is ended may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Removes what runs that were killed have left in `to`, and ends the programs that still restore to it. What can't be
/// removed stays.
fn clear(to: &Path) {
    for entry in fs::read_dir(to).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(owner) = name.strip_prefix(BESIDE).and_then(|id| id.parse::<u32>().ok()) else { continue };
        // With our own number: an earlier process had it.
        if owner == std::process::id() || !there(owner) {
            end_those_that_name(&to.join(name));
            _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn there(process: u32) -> bool {
    Path::new("/proc").join(process.to_string()).exists()
}

/// Ends every process that has this path as a word of its command line: nobody but a program of ours does.
fn end_those_that_name(path: &Path) {
    let path = path.as_os_str().as_encoded_bytes();
    let named = |process: &u32| {
        let line = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|word| word == path)
    };
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let all = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    for process in all.filter(named) {
        let Some(pid) = i32::try_from(process).ok().and_then(Pid::from_raw) else { continue };
        let until = Instant::now() + PATIENCE;
        _ = kill_process(pid, Signal::TERM);
        while Instant::now() < until && named(&process) {
            thread::sleep(Duration::from_millis(50));
        }
        if named(&process) {
            _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// Where a folder of the snapshot is to become the target itself, or only what is whole may be in its place, it is restored
/// beside it, on the same file system, and then moved up.
struct Scratch<'a> {
    to: &'a Path,
    beside: Option<PathBuf>,
}

impl<'a> Scratch<'a> {
    fn new(to: &'a Path, needed: bool) -> Self {
        let beside = needed.then(|| to.join(format!("{BESIDE}{}", std::process::id())));
        Self { to, beside }
    }

    fn target(&self) -> &Path {
        self.beside.as_deref().unwrap_or(self.to)
    }

    fn settle(&self, root: &[u8]) -> Result<(), Error> {
        let Some(beside) = &self.beside else { return Ok(()) };
        let from = beside.join(tree::told(root, MARK));
        move_up(&from, self.to).map_err(|error| {
            Error::new(Kind::Local, "what was restored can't be put in its place").because(error.to_string())
        })
    }
}

/// Moves everything in `from` into `to`; folders that are there already are gone into.
fn move_up(from: &Path, to: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let folder = |path: &Path| fs::symlink_metadata(path).is_ok_and(|about| about.is_dir());
        if folder(&entry.path()) && folder(&target) {
            let modified = entry.metadata()?.modified();
            move_up(&entry.path(), &target)?;
            // That has changed it; best effort, as it may be somebody else's folder.
            _ = modified.and_then(|time| fs::File::open(&target)?.set_modified(time));
        } else {
            fs::rename(entry.path(), &target)?;
        }
    }
    Ok(())
}

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        if let Some(beside) = &self.beside {
            _ = fs::remove_dir_all(beside);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, sort: Sort, size: u64) -> Entry {
        Entry { path: path.into(), sort, size, modified: None, target: Vec::new() }
    }

    #[test]
    fn signs_that_mean_something_in_patterns_mean_themselves() {
        assert_eq!(literal("a [1]*?\\/b"), "/a \\[1]\\*\\?\\\\/b");
        assert_eq!(literal("\u{fffd}.jpg"), "/?.jpg");
    }

    #[test]
    fn a_folder_that_is_wanted_whole_is_told_as_one_and_many_files_in_several_runs() {
        let folder = |path| entry(path, Sort::Directory, 0);
        let file = |path: &str| entry(path, Sort::File, 10);
        let all = [folder("a"), file("a/1"), folder("a/b"), file("a/b/2"), file("a/b/3"), folder("e"), folder("e/f")];
        let within = |all: &[Entry], wanted: &[&str], most: u64| -> Vec<(Vec<String>, u64)> {
            let wanted = wanted.iter().map(|path| path.as_bytes()).collect();
            parts(all, &wanted, most).into_iter().map(|part| (part.includes, part.count.files)).collect()
        };
        let told = |all: &[Entry], wanted: &[&str]| within(all, wanted, u64::MAX);
        let one = |includes: &[&str], files: u64| -> Vec<(Vec<String>, u64)> {
            vec![(includes.iter().map(|&path| path.to_owned()).collect(), files)]
        };
        assert_eq!(told(&all, &["a", "a/1", "a/b", "a/b/2", "a/b/3", "e", "e/f"]), one(&[], 3));
        assert_eq!(told(&all, &["a/1", "a/b/2", "a/b/3"]), one(&["/a"], 3));
        assert_eq!(told(&all, &["a/b/2", "a/b/3", "e/f"]), one(&["/a/b", "/e"], 2));
        assert_eq!(told(&all, &["a/1", "a/b/3"]), one(&["/a/1", "/a/b/3"], 2));
        let runs = [one(&["/a/1"], 1), one(&["/a/b", "/e"], 2)].concat();
        assert_eq!(within(&all, &["a", "a/1", "a/b", "a/b/2", "a/b/3", "e", "e/f"], 20), runs);
        assert_eq!(within(&all, &["a/b/2", "a/b/3"], 5), [one(&["/a/b/2"], 1), one(&["/a/b/3"], 1)].concat());
        let names: Vec<String> = (0..2000).map(|n| format!("{n:0100}")).collect();
        let many: Vec<Entry> = names.iter().map(|name| file(name)).collect();
        let wanted: Vec<&str> = names.iter().skip(1).map(String::as_str).collect();
        let runs = told(&many, &wanted);
        assert_eq!(runs.iter().map(|(includes, _)| includes.len()).sum::<usize>(), 1999);
        assert!(runs.len() == 3 && runs.iter().all(|(includes, files)| includes.len() as u64 == *files));
    }
}
