//! Single photos, albums, users or folders out of a point: which files they are, and what the database says of them.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fs,
    io::BufReader,
    path::Path,
};

use haven_point::{
    check::Files,
    dump::{self, Table},
    immich::{Beside, Catalogue, Paths, State},
};
use serde_json::{Map, Value};

use crate::Error;

/// What somebody wants back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// By its id.
    Asset(String),
    /// By its id or its name.
    Album(String),
    /// By id, e-mail address, name or storage label.
    User(String),
    /// A folder or a file, relative to Immich's folder or as the database has it.
    Path(String),
}

impl Wish {
    fn told(&self) -> String {
        match self {
            Self::Asset(id) => format!("asset {id}"),
            Self::Album(name) => format!("album {name}"),
            Self::User(name) => format!("user {name}"),
            Self::Path(path) => format!("path {path}"),
        }
    }
}

/// What fulfils it.
#[derive(Debug, Clone, Default)]
pub struct Chosen {
    pub assets: BTreeSet<String>,
    /// Relative to Immich's folder.
    pub files: BTreeSet<String>,
    /// What should be there, and is not.
    pub missing: Vec<String>,
    /// What is not there and need not be: of external libraries, or being deleted.
    pub unpromised: Vec<String>,
    /// Rows by table: columns and what COPY has for them, `null` where it has nothing.
    pub rows: BTreeMap<String, Vec<Map<String, Value>>>,
}

/// Tables whose rows are large and are made again by Immich.
const MADE_AGAIN: [&str; 2] = ["smart_search", "face_search"];
/// Columns that are nobody's business outside.
const SECRET: [&str; 4] = ["password", "pinCode", "oauthId", "key"];

/// A row, by column.
struct Row<'a>(&'a Table, Vec<Option<String>>);

impl<'a> Row<'a> {
    fn new(table: &'a Table, row: &[u8]) -> Self {
        let text = |field: Vec<u8>| String::from_utf8_lossy(&field).into_owned();
        Self(table, dump::fields(row).map(|field| field.map(text)).collect())
    }

    fn get(&self, names: &[&str]) -> Option<&str> {
        let at = names.iter().find_map(|name| self.0.column(name))?;
        self.1.get(at)?.as_deref()
    }

    fn whole(&self) -> Map<String, Value> {
        let value = |field: &Option<String>| field.clone().map_or(Value::Null, Value::String);
        let pairs = self.0.columns.iter().cloned().zip(self.1.iter().map(value));
        pairs.filter(|(column, _)| !SECRET.contains(&column.as_str())).collect()
    }
}

/// What the database says of who belongs to whom.
#[derive(Default)]
struct Known {
    /// Whose each asset is, and the moving part of it.
    assets: Vec<(String, String, Option<String>)>,
    /// Id and name.
    albums: Vec<(String, String)>,
    /// Album and asset.
    members: Vec<(String, String)>,
    /// Id, and what the user is called by.
    users: Vec<(String, Vec<String>)>,
}

impl Known {
    fn take(&mut self, row: &Row) {
        let text = |names: &[&str]| row.get(names).unwrap_or_default().to_owned();
        match row.0.name.as_str() {
            "asset" | "assets" => {
                let part = row.get(&["livePhotoVideoId"]).map(str::to_owned);
                self.assets.push((text(&["id"]), text(&["ownerId"]), part));
            }
            "album" | "albums" => self.albums.push((text(&["id"]), text(&["albumName"]))),
            "album_asset" | "albums_assets_assets" => {
                self.members.push((text(&["albumId", "albumsId"]), text(&["assetId", "assetsId"])));
            }
            "user" | "users" => {
                let called = ["email", "name", "storageLabel"].map(|column| text(&[column]));
                self.users.push((text(&["id"]), called.into_iter().filter(|word| !word.is_empty()).collect()));
            }
            _ => {}
        }
    }
}

/// Finds what is wished for. Every wish must be fulfilled by something.
pub fn choose(
    dump: &Path,
    catalogue: &Catalogue,
    paths: &Paths,
    files: &dyn Files,
    wishes: &[Wish],
) -> Result<Chosen, Error> {
    let open = || fs::File::open(dump).map(BufReader::new).map_err(Error::read(dump));
    let mut known = Known::default();
    dump::walk(open()?, |table, row| {
        if table.schema == "public" {
            known.take(&Row::new(table, row));
        }
        Ok(())
    })?;
    let mut chosen = Chosen::default();
    let (mut albums, mut users) = (HashSet::new(), HashSet::new());
    for wish in wishes {
        let found = match wish {
            Wish::Asset(id) => {
                let there = known.assets.iter().any(|(own, ..)| own == id);
                if there {
                    chosen.assets.insert(id.clone());
                }
                there
            }
            Wish::Album(name) => {
                let meant = known.albums.iter().filter(|(id, called)| id == name || called == name);
                let meant: HashSet<String> = meant.map(|(id, _)| id.clone()).collect();
                let in_it = known.members.iter().filter(|(album, _)| meant.contains(album));
                chosen.assets.extend(in_it.map(|(_, asset)| asset.clone()));
                let there = !meant.is_empty();
                albums.extend(meant);
                there
            }
            Wish::User(name) => {
                let meant = known.users.iter().filter(|(id, called)| id == name || called.contains(name));
                let meant: HashSet<String> = meant.map(|(id, _)| id.clone()).collect();
                let theirs = known.assets.iter().filter(|(_, owner, _)| meant.contains(owner));
                chosen.assets.extend(theirs.map(|(id, ..)| id.clone()));
                let there = !meant.is_empty();
                users.extend(meant);
                there
            }
            Wish::Path(path) => {
                let path = paths.inside(path).unwrap_or(path).trim_matches('/');
                let below =
                    |other: &str| other == path || other.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
                let rows = catalogue.assets.iter().filter(|asset| paths.inside(&asset.path).is_some_and(below));
                let ids: Vec<String> = rows.map(|asset| asset.id.clone()).collect();
                let mut there = !ids.is_empty();
                chosen.assets.extend(ids);
                files
                    .walk(&mut |file, _| {
                        if below(file) {
                            there = true;
                            chosen.files.insert(file.to_owned());
                        }
                    })
                    .map_err(|source| Error::Read { path: path.into(), source })?;
                there
            }
        };
        if !found {
            return Err(Error::Nothing(format!("the recovery point has no {}", wish.told())));
        }
    }
    let parts = known.assets.iter().filter(|(id, ..)| chosen.assets.contains(id)).filter_map(|(.., part)| part.clone());
    let parts: Vec<String> = parts.collect();
    chosen.assets.extend(parts);
    chosen.find_files(catalogue, paths, files)?;
    dump::walk(open()?, |table, row| {
        if table.schema != "public" || MADE_AGAIN.contains(&table.name.as_str()) {
            return Ok(());
        }
        let row = Row::new(table, row);
        let id = row.get(&["id"]).unwrap_or_default();
        let about = match table.name.as_str() {
            "asset" | "assets" => chosen.assets.contains(id),
            "album" | "albums" => albums.contains(id),
            "user" | "users" => users.contains(id),
            _ => row.get(&["assetId", "assetsId"]).is_some_and(|asset| chosen.assets.contains(asset)),
        };
        if about {
            chosen.rows.entry(table.name.clone()).or_default().push(row.whole());
        }
        Ok(())
    })?;
    Ok(chosen)
}

impl Chosen {
    /// Originals and what people have written beside them. What Immich makes by itself it makes again.
    fn find_files(&mut self, catalogue: &Catalogue, paths: &Paths, files: &dyn Files) -> Result<(), Error> {
        let free = catalogue.assets.iter().filter(|asset| matches!(asset.state, State::External | State::Deleted));
        let free: HashSet<&str> = free.map(|asset| asset.id.as_str()).collect();
        let originals = catalogue.assets.iter().map(|asset| (&asset.id, &asset.path));
        let beside =
            catalogue.beside.iter().filter(|(_, kind, _)| *kind == Beside::Sidecar).map(|(id, _, path)| (id, path));
        for (id, path) in originals.chain(beside).filter(|(id, _)| self.assets.contains(*id)) {
            let moves = catalogue.moves.get(id).into_iter().flatten();
            let ends = moves.filter(|(from, to)| from == path || to == path).flat_map(|(from, to)| [to, from]);
            let mut found = false;
            for place in std::iter::once(path).chain(ends).filter_map(|path| paths.inside(path)) {
                if files.length(place).map_err(|source| Error::Read { path: place.into(), source })?.is_some() {
                    self.files.insert(place.to_owned());
                    found = true;
                    break;
                }
            }
            if !found {
                let list = if free.contains(id.as_str()) { &mut self.unpromised } else { &mut self.missing };
                list.push(format!("{id} {path}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use haven_point::{Folder, immich::Asset};

    use super::*;

    #[test]
    fn what_a_row_promises_and_is_not_there_is_missing_a_sidecar_as_well_as_a_photo() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("upload")).unwrap();
        fs::write(folder.path().join("upload/1.jpg"), "a photo").unwrap();
        let asset =
            |id: &str, state| Asset { id: id.into(), path: format!("/data/upload/{id}.jpg"), sha1: None, state };
        let states = [State::Kept, State::Trashed, State::Deleted, State::External];
        let assets: Vec<Asset> =
            ["1", "2", "3", "4"].into_iter().zip(states).map(|(id, state)| asset(id, state)).collect();
        let sidecar = |id: &str| (id.to_owned(), Beside::Sidecar, format!("/data/upload/{id}.jpg.xmp"));
        let catalogue = Catalogue { assets, beside: vec![sidecar("1"), sidecar("3")], ..Catalogue::default() };
        let paths = Paths::of(&catalogue, Some("/data"));
        let all = catalogue.assets.iter().map(|asset| asset.id.clone()).collect();
        let mut chosen = Chosen { assets: all, ..Chosen::default() };
        chosen.find_files(&catalogue, &paths, &Folder(folder.path().to_owned())).unwrap();
        assert_eq!(chosen.files, BTreeSet::from(["upload/1.jpg".to_owned()]));
        assert_eq!(chosen.missing, ["2 /data/upload/2.jpg", "1 /data/upload/1.jpg.xmp"]);
        let free = ["3 /data/upload/3.jpg", "4 /data/upload/4.jpg", "3 /data/upload/3.jpg.xmp"];
        assert_eq!(chosen.unpromised, free);
    }
}
