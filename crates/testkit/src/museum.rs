//! Damaged libraries, each named by what is broken; and one that is whole. `crates/format/tests/all/museum.rs` made
//! them once.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// What opens all of them.
pub const PASSPHRASE: &str = "museum passphrase";
/// The one with nothing wrong.
pub const WHOLE: &str = "whole";

fn museum() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../format/tests/museum/v1")
}

/// Names of all exhibits, in order, [`WHOLE`] among them.
pub fn exhibits() -> io::Result<Vec<String>> {
    let names = fs::read_dir(museum())?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names: Vec<String> = names.collect::<io::Result<_>>()?;
    names.sort();
    Ok(names)
}

/// Makes a copy of an exhibit as a directory store in `target`, which does not exist yet.
pub fn lay_out(exhibit: &str, target: &Path) -> io::Result<()> {
    copy(&museum().join(WHOLE), target)?;
    let exhibit = museum().join(exhibit);
    match fs::read_to_string(exhibit.join("lost")) {
        Ok(names) => names.lines().try_for_each(|name| fs::remove_file(target.join(name)))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let changed = exhibit.join("changed");
    if changed.exists() { copy(&changed, target) } else { Ok(()) }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}
