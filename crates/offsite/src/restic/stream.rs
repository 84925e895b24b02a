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
        restore::run(restic, &Wanted { paths, ..wanted.clone() }, &to.0, watch)?;
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
        let path = restic.options.base.join(format!("reading-{}", std::process::id()));
        _ = fs::remove_dir_all(&path);
        crate::program::make(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Gone {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}
