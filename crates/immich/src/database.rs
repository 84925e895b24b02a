//! What the tables of a server's database are called, by its version.

use crate::Version;

/// Where the rows stand that name files. Releases come every few weeks: whoever reads a database looks for its columns
/// there, and takes these names as what to expect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schema {
    /// A row for each original: `originalPath`, `checksum` (SHA-1, 20 bytes).
    pub assets: &'static str,
    /// A row for each derived file.
    pub files: &'static str,
    /// `fileSizeInByte` and what was read from the picture.
    pub exif: &'static str,
    pub users: &'static str,
    /// `checksumAlgorithm` says whether `checksum` is of the content (`sha1`) or of the path (`sha1-path`).
    pub tells_algorithm: bool,
    /// Sidecars are rows of `files`; before that the column `sidecarPath` of `assets`.
    pub sidecars_in_files: bool,
    /// Transcoded videos are rows of `files`; before that the column `encodedVideoPath` of `assets`.
    pub encoded_in_files: bool,
}

impl Schema {
    /// What `version` has.
    pub fn of(version: Version) -> Self {
        // Tables were renamed to the singular in v1.136.
        let singular = version >= Version::new(1, 136, 0);
        let pick = |one, many| if singular { one } else { many };
        Self {
            assets: pick("asset", "assets"),
            files: pick("asset_file", "asset_files"),
            exif: pick("asset_exif", "exif"),
            users: pick("user", "users"),
            tells_algorithm: version >= Version::new(2, 7, 0),
            sidecars_in_files: version >= Version::new(2, 4, 0),
            encoded_in_files: version >= Version::new(2, 6, 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_have_the_names_of_their_version() {
        assert_eq!(Schema::of(Version::new(1, 135, 3)).assets, "assets");
        let now = Schema::of(Version::new(3, 1, 0));
        assert_eq!((now.assets, now.exif, now.sidecars_in_files), ("asset", "asset_exif", true));
        assert!(!Schema::of(Version::new(2, 5, 0)).tells_algorithm);
    }
}
