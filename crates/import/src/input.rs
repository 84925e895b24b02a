//! What the owner named on the command line: parts, directories of parts, unpacked folders.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use haven_takeout::parts::{self, Packed, PartName};

/// What kind of source an input is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputKind {
    Archive(Packed),
    Folder,
}

impl InputKind {
    /// As kept in the journal.
    pub fn word(self) -> &'static str {
        match self {
            Self::Archive(Packed::Zip) => "zip",
            Self::Archive(Packed::Tar) => "tar",
            Self::Archive(Packed::Tgz) => "tgz",
            Self::Folder => "folder",
        }
    }

    pub fn of(word: &str) -> Self {
        match word {
            "zip" => Self::Archive(Packed::Zip),
            "tar" => Self::Archive(Packed::Tar),
            "tgz" => Self::Archive(Packed::Tgz),
            _ => Self::Folder,
        }
    }
}

/// One source to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    pub path: PathBuf,
    pub kind: InputKind,
    /// Where it is a part of a Takeout by its name.
    pub part: Option<PartName>,
}

/// Why something named can't be an input.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    #[error("{0} can't be read: {1}")]
    Io(PathBuf, #[source] io::Error),
    #[error("{0} is neither a folder nor an archive (.zip, .tgz, .tar)")]
    Kind(PathBuf),
    #[error("{0} holds no files")]
    Empty(PathBuf),
}

/// Finds all sources of a Takeout. A folder that holds archives stands for them; one that holds none is an unpacked Takeout.
pub fn takeouts(paths: &[PathBuf]) -> Result<Vec<Input>, InputError> {
    let mut found = vec![];
    for path in paths {
        if !fs::metadata(path).map_err(|error| InputError::Io(path.clone(), error))?.is_dir() {
            found.push(archive(path).ok_or_else(|| InputError::Kind(path.clone()))?);
            continue;
        }
        let mut archives: Vec<Input> = list(path)?.iter().filter_map(|path| archive(path)).collect();
        if archives.is_empty() {
            found.push(folder(path));
        } else {
            archives.sort_by(|a, b| a.path.cmp(&b.path));
            found.append(&mut archives);
        }
    }
    Ok(found)
}

/// Finds the source that a plain folder is.
pub fn plain(path: &Path) -> Result<Input, InputError> {
    if list(path)?.is_empty() {
        return Err(InputError::Empty(path.to_owned()));
    }
    Ok(folder(path))
}

fn list(directory: &Path) -> Result<Vec<PathBuf>, InputError> {
    let io = |error| InputError::Io(directory.to_owned(), error);
    fs::read_dir(directory).map_err(io)?.map(|entry| entry.map(|e| e.path()).map_err(io)).collect()
}

fn folder(path: &Path) -> Input {
    Input { path: path.to_owned(), kind: InputKind::Folder, part: None }
}

fn archive(path: &Path) -> Option<Input> {
    let name = path.file_name()?.to_str()?;
    let packed = parts::packed(name).filter(|_| path.is_file() && !name.starts_with("._"))?;
    Some(Input { path: path.to_owned(), kind: InputKind::Archive(packed), part: parts::part_name(name) })
}
