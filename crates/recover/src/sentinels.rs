//! The file `.immich` in each of Immich's folders: without it the server refuses to start, which protects those whose
//! mount is absent. So it is only ever made in a folder that was just brought back, never where a mount should be.

use std::{fs, io::Write, path::Path, time::SystemTime};

use haven_point::{immich::FOLDERS, manifest::Immich};

use crate::Error;

const NAME: &str = ".immich";

/// Puts back what is missing below `media`; the folders it was missing in.
pub fn put_back(media: &Path, immich: &Immich) -> Result<Vec<String>, Error> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
    let mut made = Vec::new();
    for folder in FOLDERS {
        let path = media.join(folder);
        let new = !path.exists();
        fs::create_dir_all(&path).map_err(Error::write(&path))?;
        let sentinel = path.join(NAME);
        // As Immich writes it: thirteen digits, milliseconds.
        let text = immich.sentinels.get(folder).cloned().flatten().unwrap_or_else(|| format!("{now:013}"));
        let file = fs::OpenOptions::new().write(true).create_new(true).open(&sentinel);
        match file {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => continue,
            other => other.and_then(|mut file| file.write_all(text.as_bytes())).map_err(Error::write(&sentinel))?,
        }
        // Whose the folder is may write it: Immich does at each start.
        let owner = fs::metadata(media).map_err(Error::read(media))?;
        let owner = (std::os::unix::fs::MetadataExt::uid(&owner), std::os::unix::fs::MetadataExt::gid(&owner));
        for path in [&path, &sentinel].into_iter().skip(usize::from(!new)) {
            // An ordinary user owns them already.
            if rustix::process::geteuid().is_root() {
                std::os::unix::fs::chown(path, Some(owner.0), Some(owner.1)).map_err(Error::write(path))?;
            }
        }
        made.push(folder.to_owned());
    }
    Ok(made)
}
