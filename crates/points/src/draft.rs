//! A point while it is made.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use crate::{
    Error, MANIFEST, Manifest,
    manifest::Part,
    place::{self, FOLDER},
};

/// The folder of a point that is none yet. Gone with this, unless [`Draft::commit`] makes it one.
#[derive(Debug)]
pub struct Draft {
    root: PathBuf,
    name: String,
    folder: PathBuf,
    committed: bool,
}

/// Makes the folder of all points. Before the snapshot: a copy shows the dump over it there.
pub fn prepare(root: &Path) -> Result<(), Error> {
    let above = root.join(FOLDER);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&above).map_err(Error::write(&above))
}

impl Draft {
    /// Begins a point below `root`. Only its owner may look inside: a dump has the hashes of passwords and API keys.
    pub fn begin(root: &Path, name: &str) -> Result<Self, Error> {
        prepare(root)?;
        let folder = place::half(root, name);
        fs::DirBuilder::new().mode(0o700).create(&folder).map_err(Error::write(&folder))?;
        Ok(Self { root: root.into(), name: name.into(), folder, committed: false })
    }

    /// Makes a file of the point, to be written and read.
    pub fn file(&self, name: &str) -> Result<File, Error> {
        let path = self.path(name);
        OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path).map_err(Error::write(path))
    }

    /// Removes a file that came to nothing. Before it is closed: where a library can take no more, a close waits until all
    /// that the file has is stored.
    pub fn discard(&self, name: &str) -> Result<(), Error> {
        let path = self.path(name);
        fs::remove_file(&path).map_err(Error::write(path))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A file that is finished: on the disk, and measured.
    pub fn finished(&self, name: &str) -> Result<Part, Error> {
        let path = self.path(name);
        let synced = File::open(&path).and_then(|file| file.sync_all());
        synced.map_err(Error::write(&path))?;
        place::measure(&path)
    }

    /// Makes it a point: with its manifest, under its name, at one instant.
    pub fn commit(mut self, manifest: &Manifest) -> Result<PathBuf, Error> {
        let path = self.path(MANIFEST);
        let mut file = self.file(MANIFEST)?;
        file.write_all(&manifest.to_json()).and_then(|()| file.sync_all()).map_err(Error::write(&path))?;
        // What can't be read back is no point.
        Manifest::read(&path)?;
        let folder = self.root.join(FOLDER).join(&self.name);
        let above = self.root.join(FOLDER);
        let synced = |path: &Path| File::open(path).and_then(|folder| folder.sync_all()).map_err(Error::write(path));
        synced(&self.folder)?;
        if folder.exists() {
            return Err(Error::Broken { name: self.name.clone(), why: "there is one of that name".into() });
        }
        fs::rename(&self.folder, &folder).map_err(Error::write(&folder))?;
        self.committed = true;
        synced(&above)?;
        Ok(folder)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.committed {
            // What stays is cleared away by the next run.
            _ = fs::remove_dir_all(&self.folder);
        }
    }
}
