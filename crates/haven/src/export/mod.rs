//! The library as plain files: what `haven export` writes, and why nobody is locked in.
//! ```text
//!     walk ─▶ read, several at once, in order ─▶ folder or tar, one after the other
//! ```
//! Promises: it never stops at a file that can't be read; such a file is made all the same, with zeros where nothing can
//! be had, is named at the end, and stands not in the list of checksums. What stands there was hashed on its way out.
//! Expects: an empty target, or with `resume` one that an earlier export has left.

mod archive;
mod folder;
mod source;
mod sums;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use haven_fs::Fs;
use serde::Serialize;
use tokio::{sync::mpsc, task::JoinHandle};

pub use archive::Archive;
pub use folder::{Folder, is_export};
pub use source::settled;
pub use sums::{Sum, line, list_names};

use source::{Content, Item, What};

/// Files up to this many bytes are read as a whole, several at once.
const SMALL: u64 = 4 << 20;
/// How many.
const AT_ONCE: usize = 16;

/// Why an export stopped before its end. What is there so far is whole.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("{} can't be written: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{} was written by an export of another library, {library}", path.display())]
    OtherLibrary { path: PathBuf, library: String },
}

/// What was exported. Bytes are those of files' contents.
#[derive(Debug, Default, Serialize)]
pub struct Summary {
    pub files: u64,
    pub bytes: u64,
    pub folders: u64,
    pub symlinks: u64,
    /// Second names of files that are counted already.
    pub hard_links: u64,
    pub special: u64,
    /// Of `files`: those that an earlier export had left whole.
    pub kept: u64,
    /// What could not be read, or not be made, and why.
    pub failed: Vec<Failure>,
    /// Objects in the store that are damaged and were passed over to find the state that is exported.
    pub passed_over: Vec<String>,
    /// What was made, but without all that belongs to it: an attribute the target can't hold.
    pub incomplete: Vec<Failure>,
    pub seconds: f64,
}

/// One name and its trouble.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    #[serde(serialize_with = "as_text")]
    pub path: PathBuf,
    pub why: String,
}

fn as_text<S: serde::Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

impl Summary {
    fn failed(&mut self, path: &Path, why: impl ToString) {
        self.failed.push(Failure { path: path.to_owned(), why: why.to_string() });
    }

    fn incomplete(&mut self, path: &Path, why: impl ToString) {
        self.incomplete.push(Failure { path: path.to_owned(), why: why.to_string() });
    }
}

/// Where an export goes.
pub enum Target {
    Folder(Folder),
    Archive(Archive),
}

/// What was read of an item, or is being read.
type Reading = (Item, Option<JoinHandle<Content>>);

/// Writes all that `fs` shows to `target`. `progress` is told of the summary so far, after each item.
pub async fn export(
    fs: &Arc<Fs>,
    mut target: Target,
    mut progress: impl FnMut(&Summary),
) -> Result<Summary, ExportError> {
    let (sender, mut items) = mpsc::channel::<Reading>(AT_ONCE);
    let walker = tokio::spawn(walk(fs.clone(), sender, target.known()));
    let mut out = Summary::default();
    while let Some((item, reading)) = items.recv().await {
        let content = match reading {
            Some(reading) => reading.await.unwrap_or_else(|error| Content::Failed(error.to_string())),
            None => Content::Nothing,
        };
        let written = match &mut target {
            Target::Folder(folder) => folder.put(fs, item, content, &mut out).await,
            Target::Archive(archive) => archive.put(fs, item, content, &mut out).await,
        };
        if let Err(error) = written {
            walker.abort();
            return Err(error);
        }
        progress(&out);
    }
    match target {
        Target::Folder(folder) => folder.finish(&mut out)?,
        Target::Archive(archive) => archive.finish()?,
    }
    Ok(out)
}

impl Target {
    fn known(&self) -> Option<folder::Known> {
        match self {
            Self::Folder(folder) => Some(folder.known()),
            Self::Archive(_) => None,
        }
    }
}

/// Sends every item, folders before what is in them, reading small files on the way.
async fn walk(fs: Arc<Fs>, to: mpsc::Sender<Reading>, known: Option<folder::Known>) {
    let mut walk = source::Walk::new(&fs);
    while let Some(item) = walk.next().await {
        let reading = matches!(item.what, What::File).then(|| {
            let (fs, item, known) = (fs.clone(), item.clone(), known.clone());
            tokio::spawn(async move {
                if let Some(known) = known
                    && let Some(sum) = known.has(&item).await
                {
                    return Content::There(sum);
                }
                if item.attr.size > SMALL { Content::Large } else { source::read(&fs, &item).await }
            })
        });
        if to.send((item, reading)).await.is_err() {
            // Nobody writes any more.
            return;
        }
    }
}
