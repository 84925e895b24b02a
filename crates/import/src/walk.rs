//! The files of a folder.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

/// A file as it lies in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSeen {
    /// Below the folder, with `/`; made readable where it is not UTF-8.
    pub path: String,
    pub bytes: u64,
    /// Since 1970.
    pub mtime_ms: i64,
    /// Why it is not read.
    pub refused: Option<&'static str>,
}

/// All files below `root`, or of the one folder `below` it that is named, in the order of their paths. Links are told and not
/// followed: they may lead out, or round in a circle. `journal` and the files beside it are left out.
pub fn files(root: &Path, below: &str, journal: &Path) -> Result<Vec<FileSeen>, (PathBuf, io::Error)> {
    let mut found = vec![];
    let first = if below.is_empty() { root.to_owned() } else { root.join(below) };
    let mut left = vec![(first, below.to_owned())];
    let own = fs::canonicalize(journal).ok();
    while let Some((directory, below)) = left.pop() {
        let io = |error| (directory.clone(), error);
        for entry in fs::read_dir(&directory).map_err(io)? {
            let entry = entry.map_err(io)?;
            let name = entry.file_name();
            let text = name.to_string_lossy();
            let path = if below.is_empty() { text.clone().into_owned() } else { format!("{below}/{text}") };
            let kind = entry.file_type().map_err(io)?;
            if kind.is_dir() && name.to_str().is_some() {
                left.push((entry.path(), path));
                continue;
            }
            let ours = own.as_ref().is_some_and(|own| {
                let name = own.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                text.starts_with(name) && fs::canonicalize(&directory).ok().as_deref() == own.parent()
            });
            if ours {
                continue;
            }
            let refused = match () {
                () if name.to_str().is_none() => Some("its name is not UTF-8"),
                () if kind.is_symlink() => Some("it is a symbolic link"),
                () if !kind.is_file() => Some("it is no file"),
                () => None,
            };
            let about = entry.metadata().map_err(io)?;
            let mtime = about.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            let mtime_ms = mtime.map_or(0, |time| time.as_millis() as i64);
            found.push(FileSeen { path, bytes: about.len(), mtime_ms, refused });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// Which sizes several files of a folder have.
pub struct SameSize(HashMap<u64, u32>);

impl SameSize {
    pub fn new(files: &[FileSeen]) -> Self {
        let mut counts = HashMap::new();
        files.iter().for_each(|file| *counts.entry(file.bytes).or_default() += 1);
        Self(counts)
    }

    pub fn shared(&mut self, bytes: u64) -> bool {
        self.0.get(&bytes).is_some_and(|count| *count > 1)
    }
}

/// CRC-32 of a file.
pub fn crc32(path: &Path) -> io::Result<u32> {
    let mut file = File::open(path)?;
    let mut crc = flate2::Crc::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        let got = file.read(&mut buffer)?;
        if got == 0 {
            return Ok(crc.sum());
        }
        crc.update(&buffer[..got]);
    }
}
