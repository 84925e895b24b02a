//! What the owner wants of an import. Kept in the journal, so that a second run asks for the same.

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

/// What is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    #[default]
    Takeout,
    Folder,
}

/// What becomes of photos that came from a partner's library.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Partner {
    #[default]
    Own,
    Tag,
    Skip,
    Album(String),
}

/// What becomes of photos from the locked folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Locked {
    #[default]
    Skip,
    Archive,
    Locked,
}

/// Which albums plain folders become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum FolderAlbums {
    #[default]
    None,
    /// Named after the folder.
    Folder,
    /// Named after the folder and all above it.
    Path,
}

/// Pictures or videos only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Only {
    Image,
    Video,
}

/// What is stacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Stacks {
    /// Edited copies on their originals.
    pub edited: bool,
    /// Photos of a burst, its cover on top.
    pub burst: bool,
    /// JPEGs on raw files of the same name.
    pub raw: bool,
}

impl Stacks {
    pub fn any(self) -> bool {
        self.edited || self.burst || self.raw
    }
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    pub source: Source,
    pub albums: bool,
    pub untitled_albums: bool,
    /// Only photos of albums of this title.
    pub only_album: Option<String>,
    /// One album for everything.
    pub into_album: Option<String>,
    pub folder_albums: FolderAlbums,
    pub trashed: bool,
    pub archived: bool,
    pub unmatched: bool,
    pub partner: Partner,
    pub locked: Locked,
    pub takeout_tag: bool,
    pub people_tags: bool,
    pub tags: Vec<String>,
    pub session_tag: bool,
    /// Taken at or after, seconds since 1970.
    pub from: Option<i64>,
    /// Taken before, seconds since 1970.
    pub until: Option<i64>,
    /// Lower case, with dot; empty is all.
    pub extensions: Vec<String>,
    pub not_extensions: Vec<String>,
    pub only: Option<Only>,
    /// Names of files and folders that are passed over; `*` stands for any characters.
    pub bans: Vec<String>,
    /// The zone of photos of which neither file nor place tells one; none is that of this machine.
    pub default_zone: Option<String>,
    pub edited_suffixes: Vec<String>,
    pub stacks: Stacks,
    /// Take what is in the server's trash out of it.
    pub restore: bool,
    /// Download everything that was uploaded, and compare it.
    pub verify_downloads: bool,
    /// Bring photos without a sidecar although parts are missing in which it may lie.
    pub no_wait: bool,
}

/// What file managers, photo programs and storage boxes leave beside photos.
pub const BANS: &[&str] = &[
    "@eaDir",
    "@__thumb",
    "SYNOFILE_THUMB_*",
    "Lightroom Catalog",
    "thumbnails",
    ".DS_Store",
    "._*",
    ".Spotlight-V100",
    ".photostructure",
    "Recently Deleted",
];

impl Default for Options {
    fn default() -> Self {
        Self {
            source: Source::Takeout,
            albums: true,
            untitled_albums: false,
            only_album: None,
            into_album: None,
            folder_albums: FolderAlbums::None,
            trashed: false,
            archived: true,
            unmatched: true,
            partner: Partner::Own,
            locked: Locked::Skip,
            takeout_tag: true,
            people_tags: true,
            tags: vec![],
            session_tag: false,
            from: None,
            until: None,
            extensions: vec![],
            not_extensions: vec![],
            only: None,
            bans: BANS.iter().map(|ban| (*ban).to_owned()).collect(),
            default_zone: None,
            edited_suffixes: vec![],
            stacks: Stacks::default(),
            restore: false,
            verify_downloads: false,
            no_wait: false,
        }
    }
}

impl Options {
    /// The zone that [`Self::default_zone`] names.
    pub fn zone(&self) -> TimeZone {
        let named = self.default_zone.as_deref().and_then(|name| TimeZone::get(name).ok());
        named.unwrap_or_else(TimeZone::system)
    }

    /// Are only some dates asked for?
    pub fn wants_dates(&self) -> bool {
        self.from.is_some() || self.until.is_some()
    }

    /// Is what was taken then, in seconds since 1970, of another date than is asked for?
    pub fn is_other_date(&self, taken: i64) -> bool {
        self.from.is_some_and(|from| taken < from) || self.until.is_some_and(|until| taken >= until)
    }

    /// Does one of the banned names stand in this path?
    pub fn banned(&self, path: &str) -> Option<&str> {
        let banned = |ban: &&String| path.split('/').any(|name| fits(ban, name));
        self.bans.iter().find(banned).map(String::as_str)
    }
}

/// Does `name` fit a pattern in which `*` stands for any characters?
fn fits(pattern: &str, name: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or("");
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut pieces = pieces.peekable();
    if pieces.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(piece) = pieces.next() {
        if pieces.peek().is_none() {
            return rest.ends_with(piece);
        }
        match rest.find(piece) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bans_are_of_whole_names() {
        let options = Options::default();
        assert_eq!(options.banned("a/@eaDir/b.jpg"), Some("@eaDir"));
        assert_eq!(options.banned("a/._b.jpg"), Some("._*"));
        assert_eq!(options.banned("a/SYNOFILE_THUMB_M.jpg"), Some("SYNOFILE_THUMB_*"));
        assert_eq!(options.banned("my thumbnails/b.jpg"), None);
        assert!(fits("*.tmp", "a.tmp") && fits("a*b*c", "axxbyyc") && !fits("a*b*c", "axxc") && !fits("a", "ab"));
    }
}
