//! Copies of points' dumps in a directory outside the library, each in a folder of the point's name.

use std::{
    fs::{self, DirBuilder, File},
    io::ErrorKind,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use crate::{DUMP, Error, MANIFEST, ROLES, application};

/// All that Haven writes into such a folder.
const FILES: [&str; 3] = [DUMP, ROLES, MANIFEST];

fn half(beside: &Path, name: &str) -> PathBuf {
    beside.join(format!(".{name}.part"))
}

/// Copies a point's folder into `beside`, under its own name, whole or not at all.
pub fn copy_beside(folder: &Path, beside: &Path, name: &str) -> Result<PathBuf, Error> {
    fs::create_dir_all(beside).map_err(Error::write(beside))?;
    let half = half(beside, name);
    if half.exists() {
        fs::remove_dir_all(&half).map_err(Error::write(&half))?;
    }
    let to = beside.join(name);
    let copied = fill(folder, &half)
        .and_then(|()| fs::rename(&half, &to).and_then(|()| File::open(beside)?.sync_all()).map_err(Error::write(&to)));
    if copied.is_err() {
        // Half a dump is of no use, and has the hashes of passwords like a whole one.
        _ = fs::remove_dir_all(&half);
    }
    copied.map(|()| to)
}

fn fill(folder: &Path, half: &Path) -> Result<(), Error> {
    DirBuilder::new().mode(0o700).create(half).map_err(Error::write(half))?;
    for entry in fs::read_dir(folder).map_err(Error::read(folder))? {
        let from = entry.map_err(Error::read(folder))?;
        let to = half.join(from.file_name());
        fs::copy(from.path(), &to).and_then(|_| File::open(&to)?.sync_all()).map_err(Error::write(&to))?;
    }
    Ok(())
}

/// The copy that `beside` has of the point called `name`, and what a run that was killed has left of it.
pub fn copies_beside(beside: &Path, name: &str) -> Result<Vec<PathBuf>, Error> {
    let mut there = Vec::new();
    // What is not called like a point is nobody's copy of one.
    if application(name).is_none() || name.contains('/') {
        return Ok(there);
    }
    for folder in [beside.join(name), half(beside, name)] {
        match fs::symlink_metadata(&folder) {
            Ok(about) if about.is_dir() => there.push(folder),
            // Somebody else's.
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
            Err(error) => return Err(Error::read(folder)(error)),
        }
    }
    Ok(there)
}

/// Takes such a copy away: the files that Haven writes there, and the folder if nothing else is in it. Returns the folders.
pub fn remove_beside(beside: &Path, name: &str) -> Result<Vec<PathBuf>, Error> {
    let there = copies_beside(beside, name)?;
    for folder in &there {
        for path in FILES.map(|file| folder.join(file)) {
            match fs::remove_file(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(Error::write(path)(error)),
            }
        }
        match fs::remove_dir(folder) {
            Ok(()) => {}
            // Somebody else has put something in, and may want it.
            Err(error) if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::NotFound) => {}
            Err(error) => return Err(Error::write(folder)(error)),
        }
    }
    Ok(there)
}
