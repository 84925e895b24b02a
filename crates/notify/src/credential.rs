//! Where a token or password comes from: a file, never an argument, the environment, or the settings themselves.

use std::path::{Path, PathBuf};

use haven_store::secret::Secret;
use serde::{Deserialize, Serialize};

/// No token or password is longer, bytes.
const BYTES_MAX: u64 = 64 << 10;

/// A file that holds a secret. Exactly one of the two is set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Credential {
    /// Its path.
    pub file: Option<PathBuf>,
    /// The name of a systemd credential (`LoadCredential=`), found in `$CREDENTIALS_DIRECTORY`.
    pub systemd: Option<String>,
}

impl Credential {
    pub fn is_set(&self) -> bool {
        self.file.is_some() || self.systemd.is_some()
    }

    fn path(&self, directory: Option<&Path>) -> Result<PathBuf, String> {
        match (&self.file, &self.systemd) {
            (Some(path), None) => Ok(path.clone()),
            (None, Some(name)) => directory.map(|folder| folder.join(name)).ok_or_else(|| {
                "CREDENTIALS_DIRECTORY is not set: this is no systemd service, or it has no LoadCredential=".into()
            }),
            (Some(_), Some(_)) => Err("only one of file and systemd can be set".into()),
            (None, None) => Err("neither file nor systemd is set".into()),
        }
    }

    /// Everything the file holds, without the blanks around it. Read anew for each use, so that a changed token takes
    /// effect at once. Errors name the file, and nothing of what is in it.
    pub fn read(&self) -> Result<Secret, String> {
        let directory = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        self.read_below(directory.as_deref())
    }

    fn read_below(&self, directory: Option<&Path>) -> Result<Secret, String> {
        let path = self.path(directory)?;
        let shown = path.display();
        let about = std::fs::metadata(&path).map_err(|error| format!("{shown} can't be read: {error}"))?;
        if about.len() > BYTES_MAX {
            return Err(format!("{shown} is far too long for a secret"));
        }
        let text = std::fs::read_to_string(&path).map(Secret::new);
        let text = text.map_err(|error| format!("{shown} can't be read: {error}"))?;
        let trimmed = text.expose().trim();
        if trimmed.is_empty() { Err(format!("{shown} is empty")) } else { Ok(Secret::new(trimmed)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_comes_from_a_file_or_from_systemds_directory() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), " 123:abc\n").unwrap();
        let by_file = Credential { file: Some(folder.path().join("token")), systemd: None };
        let by_name = Credential { file: None, systemd: Some("token".into()) };
        assert_eq!(by_file.read_below(None).unwrap().expose(), "123:abc");
        assert_eq!(by_name.read_below(Some(folder.path())).unwrap().expose(), "123:abc");
        assert!(by_name.read_below(None).unwrap_err().contains("LoadCredential"));
    }

    #[test]
    fn what_is_no_secret_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| Credential { file: Some(folder.path().join(name)), systemd: None };
        std::fs::write(folder.path().join("empty"), "\n").unwrap();
        assert!(at("empty").read_below(None).unwrap_err().ends_with("is empty"));
        assert!(at("absent").read_below(None).unwrap_err().contains("absent"));
        let both = Credential { systemd: Some("x".into()), ..at("empty") };
        assert!(both.read_below(None).unwrap_err().contains("only one"));
        assert!(Credential::default().read_below(None).unwrap_err().contains("neither"));
    }
}
