//! Whose a cache directory is. It has copies of what one place holds, and what that place was not sent yet. A replica has
//! the library's id and keys, and is another place: what is asked of one must not be answered by the process that serves
//! the other, nor be sent to the other.
//! ```text
//!     ~/.cache/haven/ID/                  the library's: mount.json says of which place
//!     ~/.cache/haven/ID/others/PLACE/     of another place with that id, for reading
//! ```

use std::{
    fs,
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use haven_format::LibraryId;
use haven_store::DynStore;
use serde::{Deserialize, Serialize};

use crate::{
    config::Config,
    report::{Code, Trouble, UNTOUCHED},
    wire,
};

const WORD: &str = "mount.json";
const OTHERS: &str = "others";

/// What a cache directory says of itself: for whoever asks next, for `haven salvage`, and for whoever finds it.
#[derive(Debug, Serialize, Deserialize)]
struct Word {
    url: String,
    /// The store as it is known to itself; empty in the words of older versions.
    #[serde(default)]
    store: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    point: Option<PathBuf>,
}

impl Word {
    fn read(cache: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(cache.join(WORD)).ok()?).ok()
    }

    fn store(&self, config: &Config) -> String {
        if !self.store.is_empty() {
            return self.store.clone();
        }
        let opened = haven_store::open(&self.url, &config.store_of(&self.url));
        opened.map_or_else(|_| self.url.clone(), |store| identity(&store))
    }
}

/// A place, however its URL is written and whatever settings lead to it.
fn identity(store: &DynStore) -> String {
    let shown = store.describe();
    let path = shown.strip_prefix("file://").and_then(|path| fs::canonicalize(path).ok());
    path.map_or(shown, |path| format!("file://{}", path.display()))
}

/// Leaves a word in a cache directory on whose it is.
pub fn remember(cache: &Path, url: &str, store: &DynStore, point: Option<&Path>) -> Result<(), Trouble> {
    let word = Word { url: url.to_owned(), store: identity(store), point: point.map(Path::to_owned) };
    let text = serde_json::to_string(&word).expect("plain values") + "\n";
    fs::write(cache.join(WORD), text).map_err(|error| {
        Trouble::new(Code::Local, format!("the cache directory {} can't be written", cache.display()))
            .caused_by(&error)
            .meaning(UNTOUCHED)
            .next("make room there, or name another: --cache DIR")
    })
}

/// The same, where there is no word yet: what a mount has said stays.
pub fn remember_first(cache: &Path, url: &str, store: &DynStore) -> Result<(), Trouble> {
    if Word::read(cache).is_some() { Ok(()) } else { remember(cache, url, store, None) }
}

/// A place that a cache directory is wanted for.
pub struct Wanted<'a> {
    pub url: &'a str,
    pub store: &'a DynStore,
    pub library: LibraryId,
    /// It is a copy of the library, or has given way to one.
    pub copy: bool,
    /// It is to be changed. Then what was not sent yet to another place must not go to this one.
    pub write: bool,
}

impl Wanted<'_> {
    /// The directory for it: the usual one, or one beside that where the usual one is another place's.
    pub fn cache(&self, config: &Config, flag: Option<&Path>) -> Result<PathBuf, Trouble> {
        let usual = wire::cache_directory(config, flag, self.library)?;
        let here = identity(self.store);
        let free = || !self.copy || flag.is_some();
        match Word::read(&usual) {
            Some(word) if word.store(config) == here => Ok(usual),
            Some(word) if self.write => Err(self.refused(&usual, &word)),
            // Nobody's yet: where nobody says, it is kept for the library.
            None if free() => Ok(usual),
            _ => {
                let name = HEXLOWER.encode(&digest(&SHA256, here.as_bytes()).as_ref()[..8]);
                Ok(usual.join(OTHERS).join(name))
            }
        }
    }

    fn refused(&self, usual: &Path, word: &Word) -> Trouble {
        Trouble::new(Code::Local, format!("the cache directory {} is of another place", usual.display()))
            .because(format!("it was used for {}; what was not sent there yet may be in it", word.url))
            .meaning(UNTOUCHED)
            .next("give this a directory of its own: --cache DIR")
            .next(format!(
                "haven mount {} MOUNTPOINT    goes on with that one, if the library has moved there",
                self.url
            ))
            .next("if it is the same place by another URL: name its mount point, or the URL it was mounted by")
    }
}
