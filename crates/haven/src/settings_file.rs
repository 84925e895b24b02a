//! Changing the owner's settings file: what is not meant stays as it is, comments too.

use std::{
    fs,
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

use toml_edit::{DocumentMut, Item, Table};

use crate::{
    config::Config,
    report::{Code, Trouble},
};

/// Puts the table `[kind.name]` into a document.
pub fn insert(document: &mut DocumentMut, kind: &str, name: &str, table: Table) {
    let mut all = Table::new();
    all.set_implicit(true);
    let all = document.entry(kind).or_insert(Item::Table(all));
    if let Some(all) = all.as_table_like_mut() {
        all.insert(name, Item::Table(table));
    }
}

/// Takes the table `[kind.name]` out of the file at `path`.
pub fn erase(path: &Path, kind: &str, name: &str) -> Result<(), Trouble> {
    change(path, |document| {
        if let Some(all) = document.get_mut(kind).and_then(Item::as_table_like_mut) {
            all.remove(name);
        }
    })
}

/// Changes the file at `path`, which need not exist.
pub fn change(path: &Path, edit: impl FnOnce(&mut DocumentMut)) -> Result<(), Trouble> {
    let shown = path.display().to_string();
    let cannot = |error: &dyn std::error::Error| {
        Trouble::new(Code::Local, format!("the settings file {shown} can't be changed")).caused_by(error)
    };
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(cannot(&error)),
    };
    let mut document: DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| cannot(&error))?;
    edit(&mut document);
    let changed = document.to_string();
    // What can't be read again is not written.
    Config::from_text(&changed, &shown)?;
    replace(path, &changed).map_err(|error| cannot(&error))
}

/// A power cut leaves the old file or the new one.
pub fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let above = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(above)?;
    let mode = fs::metadata(path).map_or(0o600, |about| about.permissions().mode() & 0o777);
    let half = path.with_extension("new");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&half)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&half, path)?;
    fs::File::open(above)?.sync_all()
}
