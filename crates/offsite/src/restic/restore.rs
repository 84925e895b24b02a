//! Bringing a snapshot back. The program fetches in parallel by itself.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    Count, Error, Kind, ThirdCopy, Wanted, Watch, choose, inside,
    program::make,
    restic::{MARK, Restic},
    tree,
};

pub fn run(restic: &Restic, wanted: &Wanted, to: &Path, watch: &mut Watch) -> Result<Count, Error> {
    let id = restic.id_of(&wanted.archive)?;
    let entries = choose(&restic.entries(&wanted.archive)?, wanted)?;
    let root = inside(&wanted.root)?;
    make(to)?;
    clear(to);
    let scratch = Scratch::new(to, !root.is_empty());
    let mut args = vec![id, "--target".into(), scratch.target().to_string_lossy().into_owned()];
    let paths: Vec<&str> =
        if wanted.paths.is_empty() { vec![""] } else { wanted.paths.iter().map(String::as_str).collect() };
    for path in paths {
        let path = Path::new("/").join(Path::new(&wanted.root)).join(path.trim_start_matches('/'));
        if path != Path::new("/") {
            args.extend(["--include".into(), literal(&path.to_string_lossy())]);
        }
    }
    let restored = restic.run("restore", &args, watch, "restoring", Kind::NotRestored);
    let outcome = restored.and_then(|_| scratch.settle(&root));
    drop(scratch);
    outcome?;
    tree::arrived(&entries, &root, to, MARK)
}

/// A pattern that means this path and no other.
fn literal(path: &str) -> String {
    let mut out = String::new();
    for c in path.chars() {
        if matches!(c, '*' | '?' | '[' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.trim_end_matches('/').to_owned()
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

/// Where a folder of the snapshot is to become the target itself, it is restored beside it, on the same file system, and
/// then moved up.
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
            move_up(&entry.path(), &target)?;
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

    #[test]
    fn signs_that_mean_something_in_patterns_mean_themselves() {
        assert_eq!(literal("/a [1]*?\\/b/"), "/a \\[1]\\*\\?\\\\/b");
    }
}
