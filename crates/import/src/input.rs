//! What the owner named on the command line: parts, directories of parts, unpacked folders.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use haven_takeout::{
    Json,
    parts::{self, Packed, PartName},
    sidecar,
};

/// The folder that every archive of Google's holds.
const TAKEOUT: &str = "Takeout";
/// A sidecar lies in a folder of photos, and that in the folder of Google Photos: deeper nobody looks for one.
const SIDECAR_DEPTH: u32 = 2;
/// JSON files of a folder that are looked into for a sidecar, and the longest one.
const JSON_LOOKED_INTO: usize = 20;
const SIDECAR_BYTES_MAX: u64 = 1 << 20;

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
    /// Of a folder, the one in it that is read; empty is all of it. Its name stands before the paths, as it does in an archive.
    pub below: String,
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

/// What was found where a Takeout was said to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Takeouts {
    pub inputs: Vec<Input>,
    /// Files and folders that lie beside archives, and are not looked at.
    pub passed_over: Vec<PathBuf>,
}

/// Finds all sources of a Takeout. A folder that holds archives stands for them and for what is unpacked beside them; one that holds
/// none is an unpacked Takeout.
pub fn takeouts(paths: &[PathBuf]) -> Result<Takeouts, InputError> {
    let mut found = Takeouts::default();
    // What is named itself is read as it was named.
    let named: Vec<PathBuf> = paths.iter().filter_map(|path| fs::canonicalize(path).ok()).collect();
    for path in paths {
        if !fs::metadata(path).map_err(|error| InputError::Io(path.clone(), error))?.is_dir() {
            found.inputs.push(archive(path).ok_or_else(|| InputError::Kind(path.clone()))?);
            continue;
        }
        let mut inside = list(path)?;
        inside.sort();
        if !inside.iter().any(|path| archive(path).is_some()) {
            found.inputs.push(folder(path));
            continue;
        }
        for path in inside {
            match archive(&path).or_else(|| unpacked(&path)) {
                Some(input) if input.kind != InputKind::Folder => found.inputs.push(input),
                _ if fs::canonicalize(&path).is_ok_and(|path| named.contains(&path)) => {}
                Some(input) => found.inputs.push(input),
                None => found.passed_over.push(path),
            }
        }
    }
    Ok(found)
}

/// The unpacked Takeout that a folder beside archives is: `Takeout` as it lies in them, a folder that holds that, or one in which a
/// sidecar of a photo lies.
fn unpacked(path: &Path) -> Option<Input> {
    // A link is not followed: it may lead anywhere.
    if !fs::symlink_metadata(path).ok()?.is_dir() {
        return None;
    }
    if path.file_name()? == TAKEOUT {
        // Its files have the same paths as in an archive: sidecars lie in other parts than their photos.
        return Some(Input { below: TAKEOUT.to_owned(), ..folder(path.parent()?) });
    }
    (path.join(TAKEOUT).is_dir() || holds_sidecar(path, SIDECAR_DEPTH)).then(|| folder(path))
}

/// What can't be read holds none.
fn holds_sidecar(directory: &Path, depth: u32) -> bool {
    let Ok(mut inside) = list(directory) else { return false };
    inside.sort();
    let jsons = inside.iter().filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    jsons.take(JSON_LOOKED_INTO).any(|path| is_sidecar(path))
        || depth > 0
            && inside.iter().any(|path| {
                let is_folder = fs::symlink_metadata(path).is_ok_and(|about| about.is_dir());
                is_folder && holds_sidecar(path, depth - 1)
            })
}

fn is_sidecar(path: &Path) -> bool {
    let short = fs::symlink_metadata(path).is_ok_and(|about| about.is_file() && about.len() <= SIDECAR_BYTES_MAX);
    short && fs::read(path).is_ok_and(|text| matches!(sidecar::parse(&text), Ok(Json::Photo(_))))
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
    Input { path: path.to_owned(), kind: InputKind::Folder, below: String::new(), part: None }
}

fn archive(path: &Path) -> Option<Input> {
    let name = path.file_name()?.to_str()?;
    let packed = parts::packed(name).filter(|_| path.is_file() && !name.starts_with("._"))?;
    let (path, below) = (path.to_owned(), String::new());
    Some(Input { path, kind: InputKind::Archive(packed), below, part: parts::part_name(name) })
}
