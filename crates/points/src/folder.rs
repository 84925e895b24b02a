//! Files in a folder, as a check reads them.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use aws_lc_rs::digest;

use crate::{check::Files, immich::Sha1};

/// Immich's folder: in a snapshot, or wherever it was brought back to.
#[derive(Debug, Clone)]
pub struct Folder(pub PathBuf);

/// What is read at once.
const PIECE: usize = 1 << 20;

impl Folder {
    /// A file by its path; what is no plain file is none. Links lead nowhere: none of Immich's files is one.
    fn about(&self, path: &str) -> io::Result<Option<(PathBuf, fs::Metadata)>> {
        let path = self.0.join(path);
        match fs::symlink_metadata(&path) {
            Ok(about) => Ok(about.is_file().then_some((path, about))),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Files for Folder {
    fn sha1(&self, path: &str) -> io::Result<Option<(u64, Sha1)>> {
        let Some((path, _)) = self.about(path)? else { return Ok(None) };
        let mut file = fs::File::open(path)?;
        let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
        let (mut piece, mut bytes) = (vec![0; PIECE], 0);
        loop {
            match file.read(&mut piece)? {
                0 => break,
                count => {
                    context.update(&piece[..count]);
                    bytes += count as u64;
                }
            }
        }
        let mut sha1 = [0; 20];
        sha1.copy_from_slice(context.finish().as_ref());
        Ok(Some((bytes, sha1)))
    }

    fn length(&self, path: &str) -> io::Result<Option<u64>> {
        Ok(self.about(path)?.map(|(_, about)| about.len()))
    }

    fn walk(&self, each: &mut dyn FnMut(&str, u64)) -> io::Result<()> {
        let mut folders = vec![self.0.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder)? {
                let entry = entry?;
                let (path, about) = (entry.path(), entry.metadata()?);
                if about.is_dir() {
                    folders.push(path);
                } else {
                    each(&below(&self.0, &path), about.len());
                }
            }
        }
        Ok(())
    }
}

fn below(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned()
}
