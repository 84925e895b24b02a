//! What Immich's database says about files, as it stands in a dump: any version from 1.135 on.
//!
//! Tables were renamed (`assets` became `asset`), columns came, went and changed places: they are found by name.

use std::{collections::HashMap, io::BufRead};

use data_encoding::HEXLOWER;
use serde::Serialize;
use serde_json::Value;

use crate::dump::{self, DumpError, Table, Walked};

pub type Sha1 = [u8; 20];

/// A photo, a video, or the moving part of a photo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asset {
    pub id: String,
    pub path: String,
    /// Of its content; `None`: the row has none.
    pub sha1: Option<Sha1>,
    pub state: State,
}

/// What a row of `asset` promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The file is there.
    Kept,
    /// So it is, and the asset is in the trash.
    Trashed,
    /// Being deleted: the file may be gone.
    Deleted,
    /// It is in an external library, or its checksum is that of a path: not in this folder, or not to be compared.
    External,
}

/// A file beside an asset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Beside {
    /// What people have written and corrected; can't be made again.
    Sidecar,
    /// A user's picture; can't be made again.
    Profile,
    Thumbnail,
    Preview,
    Fullsize,
    EncodedVideo,
    /// A person's face.
    Face,
    /// A kind this version does not know.
    Other,
}

impl Beside {
    /// Whether Immich makes it again by itself.
    pub fn derived(self) -> bool {
        !matches!(self, Self::Sidecar | Self::Profile)
    }

    fn of(word: &str) -> Self {
        match word {
            "sidecar" => Self::Sidecar,
            "thumbnail" => Self::Thumbnail,
            "preview" => Self::Preview,
            "fullsize" => Self::Fullsize,
            "encoded_video" => Self::EncodedVideo,
            _ => Self::Other,
        }
    }
}

/// All that the database says about files.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    pub assets: Vec<Asset>,
    /// Whose (an asset, a user, a person), what, where.
    pub beside: Vec<(String, Beside, String)>,
    /// By the id of what is being moved: from where, to where.
    pub moves: HashMap<String, Vec<(String, String)>>,
    /// What paths begin with, where the database says so.
    pub media_location: Option<String>,
    pub walked: Walked,
}

/// Reads it out of a dump. An Immich has a table of assets: without one it is an error.
pub fn catalogue(dump: impl BufRead) -> Result<Catalogue, DumpError> {
    let mut found = Catalogue::default();
    // Rows come table by table.
    let mut current: Option<(Table, Option<Reader>)> = None;
    let walked = dump::walk(dump, |table, row| {
        if current.as_ref().is_none_or(|(last, _)| last != table) {
            current = Some((table.clone(), Reader::of(table)?));
        }
        match &current {
            Some((_, Some(reader))) => reader.take(&mut found, row),
            _ => Ok(()),
        }
    })?;
    let assets = ["public.asset", "public.assets"];
    if !walked.rows.keys().any(|name| assets.contains(&name.as_str())) {
        return Err(DumpError::Row("this is no database of Immich's: it has no table of assets".into()));
    }
    found.walked = walked;
    Ok(found)
}

/// Where in a row of one table things stand.
struct Reader {
    kind: Rows,
    columns: HashMap<&'static str, usize>,
}

#[derive(Clone, Copy)]
enum Rows {
    Assets,
    Files,
    People,
    Users,
    Moves,
    Metadata,
}

type Names = &'static [&'static str];

/// Tables, what they must have, and what they may have.
const TABLES: [(Names, Rows, Names, Names); 6] = [
    (
        &["asset", "assets"],
        Rows::Assets,
        &["id", "originalPath", "checksum"],
        &["isExternal", "checksumAlgorithm", "deletedAt", "status", "libraryId", "encodedVideoPath", "sidecarPath"],
    ),
    (&["asset_file", "asset_files"], Rows::Files, &["assetId", "type", "path"], &[]),
    (&["person"], Rows::People, &["id", "thumbnailPath"], &[]),
    (&["user", "users"], Rows::Users, &["id", "profileImagePath"], &[]),
    (&["move_history"], Rows::Moves, &["entityId", "oldPath", "newPath"], &[]),
    (&["system_metadata"], Rows::Metadata, &["key", "value"], &[]),
];

impl Reader {
    fn of(table: &Table) -> Result<Option<Self>, String> {
        let known = TABLES.iter().find(|(names, ..)| table.schema == "public" && names.contains(&table.name.as_str()));
        let Some((_, kind, must, may)) = known else { return Ok(None) };
        let mut columns = HashMap::new();
        for name in must.iter().chain(*may) {
            if let Some(at) = table.column(name) {
                columns.insert(*name, at);
            }
        }
        match must.iter().find(|name| !columns.contains_key(*name)) {
            // People and users are not worth a failure.
            Some(_) if !matches!(kind, Rows::Assets | Rows::Files | Rows::Moves) => Ok(None),
            Some(name) => Err(format!("the table {} has no column {name}: a newer Immich?", table.name)),
            None => Ok(Some(Self { kind: *kind, columns })),
        }
    }

    fn take(&self, found: &mut Catalogue, row: &[u8]) -> Result<(), String> {
        let fields: Vec<Option<String>> =
            dump::fields(row).map(|field| field.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())).collect();
        let field = |name: &str| self.columns.get(name).and_then(|at| fields.get(*at)).and_then(Option::as_deref);
        let text = |name: &str| field(name).unwrap_or_default();
        let mut beside = |whose: &str, what: Beside, path: &str| {
            if !path.is_empty() {
                found.beside.push((whose.into(), what, path.into()));
            }
        };
        match self.kind {
            Rows::Assets => {
                let id = text("id");
                beside(id, Beside::Sidecar, text("sidecarPath"));
                beside(id, Beside::EncodedVideo, text("encodedVideoPath"));
                let sha1 = text("checksum").strip_prefix("\\x").and_then(|hex| HEXLOWER.decode(hex.as_bytes()).ok());
                let by_content = match field("checksumAlgorithm") {
                    Some(algorithm) => algorithm == "sha1",
                    // Before there was that column, external libraries alone had the checksum of a path.
                    None => field("libraryId").is_none(),
                };
                let state = match (field("isExternal") == Some("t") || !by_content, text("status")) {
                    (true, _) => State::External,
                    (false, "deleted") => State::Deleted,
                    (false, _) if field("deletedAt").is_some() => State::Trashed,
                    (false, _) => State::Kept,
                };
                let sha1 = sha1.and_then(|bytes| bytes.try_into().ok());
                found.assets.push(Asset { id: id.into(), path: text("originalPath").into(), sha1, state });
            }
            Rows::Files => beside(text("assetId"), Beside::of(text("type")), text("path")),
            Rows::People => beside(text("id"), Beside::Face, text("thumbnailPath")),
            Rows::Users => beside(text("id"), Beside::Profile, text("profileImagePath")),
            Rows::Moves => found
                .moves
                .entry(text("entityId").into())
                .or_default()
                .push((text("oldPath").into(), text("newPath").into())),
            Rows::Metadata => {
                if text("key") == "MediaLocation" {
                    found.media_location = media_location(text("value"));
                }
            }
        }
        Ok(())
    }
}

/// What the value of `MediaLocation` in `system_metadata` says.
pub fn media_location(value: &str) -> Option<String> {
    let value: Value = serde_json::from_str(value).ok()?;
    let location = value.as_str().or_else(|| value.get("location")?.as_str())?;
    Some(location.trim_end_matches('/').to_owned())
}

/// Immich's folders, below its media location.
pub const FOLDERS: [&str; 6] = ["encoded-video", "library", "upload", "profile", "thumbs", "backups"];

/// From paths in the database to paths in the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// Without a slash at its end.
    location: String,
}

impl Paths {
    /// By what the database or the owner says; else by what most paths have before one of Immich's folders.
    pub fn of(catalogue: &Catalogue, told: Option<&str>) -> Self {
        let told = told.filter(|told| !told.is_empty()).or(catalogue.media_location.as_deref());
        let location = told.map_or_else(|| guessed(catalogue), |told| told.trim_end_matches('/').to_owned());
        Self { location }
    }

    pub fn location(&self) -> &str {
        &self.location
    }

    /// The path below the folder; `None`: it leads elsewhere.
    pub fn inside<'a>(&self, path: &'a str) -> Option<&'a str> {
        let inside = match path.strip_prefix('/') {
            Some(_) => path.strip_prefix(&self.location)?.strip_prefix('/')?,
            // Older servers say it from the directory they run in.
            None => {
                let own = |path: &str| FOLDERS.iter().any(|folder| path.starts_with(&format!("{folder}/")));
                path.strip_prefix("./").unwrap_or(path).strip_prefix("upload/").filter(|rest| own(rest)).unwrap_or(path)
            }
        };
        (!inside.is_empty() && inside.split('/').all(|part| !["", ".", ".."].contains(&part))).then_some(inside)
    }
}

fn guessed(catalogue: &Catalogue) -> String {
    let mut votes: HashMap<&str, usize> = HashMap::new();
    let own = catalogue.assets.iter().filter(|asset| asset.state != State::External);
    for path in own.map(|asset| asset.path.as_str()).filter(|path| path.starts_with('/')) {
        // The first: a library may well have a folder called `upload` inside.
        let at = FOLDERS.iter().filter_map(|folder| path.find(&format!("/{folder}/"))).min();
        if let Some(at) = at {
            *votes.entry(&path[..at]).or_default() += 1;
        }
    }
    let best = votes.into_iter().max_by_key(|(location, votes)| (*votes, std::cmp::Reverse(location.len())));
    best.map_or("/data", |(location, _)| location).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(location: &str) -> Paths {
        Paths { location: location.into() }
    }

    #[test]
    fn paths_of_every_age_lead_into_the_folder() {
        assert_eq!(paths("/data").inside("/data/upload/a/b.jpg"), Some("upload/a/b.jpg"));
        assert_eq!(paths("").inside("upload/upload/a/b.jpg"), Some("upload/a/b.jpg"));
        assert_eq!(paths("/usr/src/app/upload").inside("upload/library/a/b.jpg"), Some("library/a/b.jpg"));
        assert_eq!(paths("/data").inside("upload/u/b.jpg"), Some("upload/u/b.jpg"));
        for out in ["/database/x", "/data", "/data/", "/data/../etc/passwd", "/data/a//b", "/mnt/photos/x.jpg"] {
            assert_eq!(paths("/data").inside(out), None, "{out}");
        }
    }

    #[test]
    fn where_the_database_does_not_say_the_paths_do() {
        let asset = |path: &str, state| Asset { id: String::new(), path: path.into(), sha1: None, state };
        let catalogue = Catalogue {
            assets: vec![
                asset("/mnt/p/library/admin/2020/upload/x.jpg", State::Kept),
                asset("/mnt/p/upload/u/x.jpg", State::Kept),
                asset("/mnt/old/upload/y.jpg", State::Kept),
                asset("/nas/library/1.jpg", State::External),
                asset("/nas/library/2.jpg", State::External),
                asset("/nas/library/3.jpg", State::External),
            ],
            ..Catalogue::default()
        };
        assert_eq!(Paths::of(&catalogue, None).location(), "/mnt/p");
        assert_eq!(Paths::of(&catalogue, Some("/told/")).location(), "/told");
        let says = Catalogue { media_location: media_location("{\"location\": \"/data\"}"), ..catalogue };
        assert_eq!(Paths::of(&says, None).location(), "/data");
    }
}
