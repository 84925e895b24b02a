//! What this machine remembers of a copy: which archives it has made, so that it notices when they are gone. Who can
//! delete them (a thief, a typing mistake on the other machine) does not tell.

use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    io::ErrorKind,
    path::{Path, PathBuf},
};

use haven_offsite::Archive;
use serde::{Deserialize, Serialize};

use super::Opened;
use crate::{
    report::{Code, Trouble, UNTOUCHED},
    settings_file,
};

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Remembered {
    /// The archives that were whole, and when what they show was so, seconds since the Unix epoch.
    pub archives: BTreeMap<String, i64>,
    /// When the last run ended well, seconds since the Unix epoch.
    pub last_good: Option<i64>,
}

impl Remembered {
    /// Where it is written, in the directory of a copy.
    pub fn file(directory: &Path) -> PathBuf {
        directory.join("archives.json")
    }

    /// What is remembered in the directory of a copy; nothing, where nothing is written.
    ///
    /// # Errors
    /// Why it can't be read, in a line. Taken for nothing, it would be written over, and no archive would be missed any more.
    pub fn at(directory: &Path) -> Result<Self, String> {
        let path = Self::file(directory);
        match fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).map_err(|error| format!("{} is damaged: {error}", path.display())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(format!("{} can't be read: {error}", path.display())),
        }
    }

    /// What is known of a copy.
    pub fn read(opened: &Opened) -> Result<Self, Trouble> {
        Self::at(&opened.config.directory(&opened.name)).map_err(|why| {
            Trouble::new(Code::Local, format!("copy {}: which archives there were can't be told", opened.name))
                .because(why)
                .meaning("the copy is as it was; one that has vanished would not be missed")
                .next("put the file right, or back from a backup")
                .next(format!("haven copy check {} --accept-missing    takes what is there now for all", opened.name))
        })
    }

    /// What is there now, taken for all there was.
    pub fn anew(opened: &Opened, archives: &[Archive]) -> Self {
        let ours = archives.iter().filter(|one| !one.leftover && one.name.starts_with(&opened.config.prefix));
        let archives: BTreeMap<String, i64> = ours.map(|one| (one.name.clone(), one.taken)).collect();
        Self { last_good: archives.values().max().copied(), archives }
    }

    pub fn write(&self, opened: &Opened) -> Result<(), Trouble> {
        let path = Self::file(&opened.config.directory(&opened.name));
        let text = serde_json::to_string_pretty(self).unwrap_or_default() + "\n";
        settings_file::replace(&path, &text).map_err(|error| {
            Trouble::new(Code::Local, format!("{} can't be written", path.display())).caused_by(&error)
        })
    }

    /// Those that are not in `list` any more.
    pub fn missing(&self, list: &[Archive]) -> Vec<String> {
        let there = |name: &String| list.iter().any(|archive| archive.name == *name && !archive.leftover);
        self.archives.keys().filter(|name| !there(name)).cloned().collect()
    }
}

/// What vanished archives are, as trouble.
pub fn vanished(name: &str, missing: &[String], left: usize) -> Trouble {
    let what = match left {
        0 => format!("copy {name}: the repository has been emptied"),
        _ => format!("copy {name}: archives have vanished from the repository"),
    };
    let trouble = Trouble::new(Code::Held, what);
    let shown =
        missing.iter().take(5).fold(trouble, |trouble, one| trouble.because(format!("{one} is not there any more")));
    let shown = if missing.len() > 5 { shown.because(format!("and {} more", missing.len() - 5)) } else { shown };
    shown
        .meaning("Haven did not delete them: somebody else did, or the repository was put back to an older state")
        .next("find out who can delete there; an append-only key or server keeps archives from being deleted")
        .next(format!("haven copy check {name} --accept-missing    if it was you, and meant"))
}

/// Held while a run works on a copy: two would fight for the same place and the same snapshot.
pub struct Lock {
    _file: File,
}

impl Lock {
    pub fn take(opened: &Opened) -> Result<Self, Trouble> {
        let directory = opened.config.directory(&opened.name);
        let cannot = |error: &std::io::Error| {
            Trouble::new(Code::Local, format!("{} can't be used", directory.display()))
                .caused_by(error)
                .meaning(UNTOUCHED)
                .next("name another: copy.directory in haven.toml")
        };
        fs::create_dir_all(&directory).map_err(|error| cannot(&error))?;
        let file = File::create(directory.join("lock")).map_err(|error| cannot(&error))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => {
                Err(Trouble::new(Code::Locked, format!("copy {}: another run of it is at work", opened.name))
                    .meaning(UNTOUCHED)
                    .next("wait until it has ended"))
            }
            Err(TryLockError::Error(error)) => Err(cannot(&error)),
        }
    }
}
