//! Reading a snapshot: whole folders through a pipe; single files, which would each cost the program a start, by way of a
//! directory that goes at once.

use std::{fs, path::Path};

use super::{
    MARK, NO_LOCK, Restic, restore,
    verdict::{Restics, judge},
};
use crate::{
    Each, Error, Kind, Sort, Streamed, ThirdCopy, Wanted, Watch, choose, inside, program, stream,
    tree::{landed, told},
};

const DOING: &str = "reading the snapshot";
/// What such a directory's name begins with; the process follows.
const READING: &str = "reading-";
/// Paths in one command line.
const BATCH: usize = 200;

pub fn run(restic: &Restic, wanted: &Wanted, each: &Each, watch: &mut Watch) -> Result<Streamed, Error> {
    if !wanted.paths.is_empty() {
        return some(restic, wanted, each, watch);
    }
    let id = restic.id_of(&wanted.archive)?;
    let mut entries = choose(&restic.entries(&wanted.archive)?, wanted)?;
    entries.retain(|entry| entry.sort == Sort::File);
    let root = inside(&wanted.root)?;
    let mut args = vec!["--archive".to_owned(), "tar".into(), id, format!("/{}", told(&root, MARK))];
    let mut came = dump(restic, &args, &root, each, watch);
    if came.as_ref().is_err_and(|error| error.kind == Kind::Refused) {
        args.insert(0, NO_LOCK.into());
        came = dump(restic, &args, &root, each, watch);
    }
    let came = came?;
    if came.files != entries.len() as u64 {
        let what = format!("{DOING}: {} of {} files came", came.files, entries.len());
        return Err(Error::new(Kind::NotRestored, what));
    }
    Ok(came)
}

fn dump(restic: &Restic, args: &[String], root: &[u8], each: &Each, watch: &Watch) -> Result<Streamed, Error> {
    let never = crate::Cancel::default();
    let command = restic.command("dump", args);
    let cancels = [&watch.cancel, &never];
    let (said, read) =
        program::pipe(command, Restics::default(), &cancels, |from| stream::files(from, root, each, &mut |_| {}))?;
    judge(&said, DOING, Kind::NotRestored)?;
    read.map_err(|error| stream::broken(DOING, &error))
}

fn some(restic: &Restic, wanted: &Wanted, each: &Each, watch: &mut Watch) -> Result<Streamed, Error> {
    let mut came = Streamed::default();
    let root = inside(&wanted.root)?;
    let entries = choose(&restic.entries(&wanted.archive)?, wanted)?;
    let entries: Vec<_> = entries.iter().filter(|entry| entry.sort == Sort::File).collect();
    for batch in entries.chunks(BATCH) {
        let paths = batch.iter().map(|entry| String::from_utf8_lossy(landed(entry, &root)).into_owned()).collect();
        let to = Gone::new(restic)?;
        restore::run(restic, &Wanted { paths, ..wanted.clone() }, false, &to.0, watch)?;
        for entry in batch {
            let below = landed(entry, &root);
            let path = to.0.join(Path::new(std::ffi::OsStr::new(&*String::from_utf8_lossy(below))));
            let read = || {
                let mut file = fs::File::open(&path)?;
                each(below, &mut file)
            };
            read().map_err(|error| stream::broken(DOING, &error))?;
            came.files += 1;
            came.bytes += entry.size;
        }
    }
    Ok(came)
}

/// A directory that goes with this.
struct Gone(std::path::PathBuf);

impl Gone {
    fn new(restic: &Restic) -> Result<Self, Error> {
        let base = &restic.options.base;
        clear(base);
        let path = base.join(format!("{READING}{}", std::process::id()));
        crate::program::make(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Gone {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

/// Removes what this process, and processes that were killed, have left: photos, in the clear.
fn clear(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let of = name.to_str().and_then(|name| name.strip_prefix(READING)?.parse::<u32>().ok());
        let over = |pid: u32| pid == std::process::id() || !Path::new(&format!("/proc/{pid}")).exists();
        if of.is_some_and(over) {
            _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_reader_left_goes_and_what_another_reads_stays() {
        let base = tempfile::tempdir().unwrap();
        let made = |name: &str| {
            fs::create_dir(base.path().join(name)).unwrap();
            fs::write(base.path().join(name).join("photo"), "x").unwrap();
        };
        // No process has the highest number that fits; the first one always runs.
        let names = [format!("{READING}{}", u32::MAX), format!("{READING}1"), "reading-me".into(), "cache".into()];
        names.iter().for_each(|name| made(name));
        clear(base.path());
        let left: Vec<bool> = names.iter().map(|name| base.path().join(name).exists()).collect();
        assert_eq!(left, [false, true, true, true]);
    }
}
