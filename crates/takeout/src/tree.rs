//! A whole Takeout: sidecars that lie in other directories than their photos, albums, and their members.
//!
//! Every photo is in the folder of its year, and again as a byte copy in the folder of each album; but not reliably: some
//! have their only sidecar in an album's folder, and some albums have sidecars and no photos. What a directory is, is told
//! by the JSON in it. Names of folders are localized, and are hints only.
//!
//! A Takeout may be larger than memory. So [`directory`] looks at one directory at a time, and [`Copies`], [`Elsewhere`] and
//! [`Absent`] remember only what was left over, and are shown all files once, from wherever those are kept. [`resolve`]
//! does all of it for a Takeout that is in memory.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::{
    live::Mark,
    names::{self, sidecar_name, with_counter},
    pairing::{Confidence, Role, Rule, Sidecar, pair_marked},
};

/// A file of a Takeout, by whatever number its keeper gives it.
pub type FileId = i64;

/// The bytes of a file: what is equal has the same number.
pub type ContentId = i64;

/// A file of the Takeout.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    pub id: FileId,
    /// With `/` between directories; [`directory`] needs the last name only.
    pub path: &'a str,
    pub kind: Kind<'a>,
}

/// What a file is, by its content.
#[derive(Debug, Clone, Copy)]
pub enum Kind<'a> {
    Media(ContentId),
    /// Of a photo; `taken` in seconds since 1970.
    Sidecar {
        title: &'a str,
        taken: Option<i64>,
    },
    Album {
        title: &'a str,
    },
    Other,
}

/// What was found for a media file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    pub sidecar: Option<(FileId, Rule, Confidence)>,
    pub role: Role<FileId>,
}

/// What one directory tells by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// All media files, in the order they were given.
    pub media: Vec<(FileId, Found)>,
    /// Sidecars of which a newer edition was taken.
    pub superseded: Vec<FileId>,
    /// Sidecars that no file here claims.
    pub free: Vec<FileId>,
    /// The JSON that makes it an album.
    pub album: Option<FileId>,
    /// Media files of which what they say would decide which belong together ([`crate::live`]).
    pub undecided: Vec<FileId>,
}

/// Pairs the files of one directory, whose own name is `folder`. `suffixes`: as for [`crate::pair_directory`].
pub fn directory(folder: &str, entries: &[Entry<'_>], suffixes: &[&str]) -> Directory {
    directory_marked(folder, entries, suffixes, &|_| None)
}

/// The same, with what media files say, of those that were looked into.
pub fn directory_marked(
    folder: &str,
    entries: &[Entry<'_>],
    suffixes: &[&str],
    marks: &dyn Fn(FileId) -> Option<Mark>,
) -> Directory {
    let media: Vec<&Entry<'_>> = entries.iter().filter(|entry| matches!(entry.kind, Kind::Media(_))).collect();
    let (mut jsons, mut sidecars) = (vec![], vec![]);
    for entry in entries {
        if let Kind::Sidecar { title, taken } = entry.kind {
            jsons.push(entry.id);
            sidecars.push(Sidecar { name: name_of(entry.path), title: Some(title), taken });
        }
    }
    let names: Vec<&str> = media.iter().map(|entry| name_of(entry.path)).collect();
    let pairing = pair_marked(&names, &sidecars, suffixes, &|at| marks(media[at].id));
    let role = |role| match role {
        Role::Plain => Role::Plain,
        Role::Motion(still) => Role::Motion(still.map(|at: usize| media[at].id)),
        Role::Edited(original) => Role::Edited(original.map(|at: usize| media[at].id)),
    };
    let found = pairing.pairs.iter().zip(&pairing.roles).map(|(pair, own)| Found {
        sidecar: pair.map(|pair| (jsons[pair.sidecar], pair.rule, pair.confidence)),
        role: role(*own),
    });
    let ids = |list: &[usize]| list.iter().map(|at| jsons[*at]).collect();
    Directory {
        media: media.iter().map(|entry| entry.id).zip(found).collect(),
        superseded: ids(&pairing.superseded),
        free: ids(&pairing.orphans),
        album: album_of(folder, entries),
        undecided: pairing.undecided.iter().map(|at| media[*at].id).collect(),
    }
}

/// The JSON that makes a directory an album: one with a title, before one without.
fn album_of(folder: &str, entries: &[Entry<'_>]) -> Option<FileId> {
    let albums = entries.iter().filter_map(|entry| match entry.kind {
        Kind::Album { title } if !is_date(title) && !is_year_folder(folder) => Some((entry, title)),
        _ => None,
    });
    albums.min_by_key(|(entry, title)| (title.is_empty(), entry.path)).map(|(entry, _)| entry.id)
}

fn split_path(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

fn name_of(path: &str) -> &str {
    split_path(path).1
}

/// The one thing that was seen, or that there were several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Only<T> {
    None,
    One(T),
    Several,
}

impl<T: Copy + PartialEq> Only<T> {
    fn see(&mut self, thing: T) {
        *self = match *self {
            Self::None => Self::One(thing),
            Self::One(before) if before == thing => Self::One(thing),
            _ => Self::Several,
        };
    }

    fn one(self) -> Option<T> {
        if let Self::One(thing) = self { Some(thing) } else { None }
    }
}

/// A file without a sidecar takes that of a byte-identical copy, unless the copies' sidecars differ in the date.
#[derive(Debug, Default)]
pub struct Copies(HashMap<ContentId, Option<OneCopy>>);

type OneCopy = (FileId, Only<Option<i64>>);

impl Copies {
    /// A media file without a sidecar.
    pub fn bare(&mut self, content: ContentId) {
        self.0.entry(content).or_insert(None);
    }

    /// Is nobody in want?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A media file with a sure sidecar, and that sidecar's date.
    pub fn see(&mut self, content: ContentId, sidecar: FileId, taken: Option<i64>) {
        if let Some(known) = self.0.get_mut(&content) {
            let (_, dates) = known.get_or_insert((sidecar, Only::None));
            dates.see(taken);
        }
    }

    /// For a bare file's content.
    pub fn sidecar(&self, content: ContentId) -> Option<FileId> {
        let (sidecar, dates) = (*self.0.get(&content)?)?;
        dates.one().map(|_| sidecar)
    }
}

/// Photos without a sidecar take one of another directory, if there is one photo and one sidecar of that name and the
/// year of the folder does not speak against it.
#[derive(Debug, Default)]
pub struct Elsewhere {
    sidecars: HashMap<String, Only<(FileId, Option<i64>)>>,
    photos: HashMap<String, Photos>,
}

#[derive(Debug)]
struct Photos {
    bare: Vec<(FileId, Option<i64>)>,
    contents: Only<ContentId>,
}

impl Elsewhere {
    /// A sidecar that no file of its directory claims.
    pub fn free(&mut self, id: FileId, name: &str, title: &str, taken: Option<i64>) {
        if let Some(name) = predicted(name, title) {
            self.sidecars.entry(name).or_insert(Only::None).see((id, taken));
        }
    }

    /// A plain photo without a sidecar, in a directory of that name.
    pub fn bare(&mut self, id: FileId, folder: &str, name: &str) {
        let name = names::nfc(name).into_owned();
        let photos = self.photos.entry(name).or_insert(Photos { bare: vec![], contents: Only::None });
        photos.bare.push((id, year_of(folder)));
    }

    /// Forgets the photos that no sidecar was made for. Returns whether any are left: if not, nothing need be seen.
    pub fn narrow(&mut self) -> bool {
        let sidecars = &self.sidecars;
        self.photos.retain(|name, _| sidecars.contains_key(name));
        !self.photos.is_empty()
    }

    /// Any media file.
    pub fn see(&mut self, name: &str, content: ContentId) {
        if let Some(photos) = self.photos.get_mut(names::nfc(name).as_ref()) {
            photos.contents.see(content);
        }
    }

    /// What was found: photos, and their sidecars.
    pub fn found(&self) -> Vec<(FileId, FileId, Confidence)> {
        let mut found = vec![];
        for (name, photos) in &self.photos {
            let sidecar = self.sidecars.get(name).and_then(|sidecar| sidecar.one());
            let (Some((sidecar, taken)), Some(_)) = (sidecar, photos.contents.one()) else { continue };
            let fits = |(photo, year): &(FileId, _)| Some((*photo, sidecar, by_year(*year, taken)?));
            found.extend(photos.bare.iter().filter_map(fits));
        }
        found.sort_unstable_by_key(|(photo, ..)| *photo);
        found
    }
}

/// Members of albums that lie elsewhere: in the album's folder is their sidecar only.
#[derive(Debug, Default)]
pub struct Absent(HashMap<Key, Only<ContentId>>);

/// What tells a photo from others of its name: name, title, date.
type Key = (String, String, Option<i64>);

impl Absent {
    /// A sidecar in an album's folder that no file there claims.
    pub fn want(&mut self, name: &str, title: &str, taken: Option<i64>) {
        if let Some(key) = key(name, title, taken) {
            self.0.entry(key).or_insert(Only::None);
        }
    }

    /// Is nobody in want?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A plain media file with the name, title and date of its sidecar.
    pub fn see(&mut self, name: &str, title: &str, taken: Option<i64>, content: ContentId) {
        if let Some(contents) = key(name, title, taken).and_then(|key| self.0.get_mut(&key)) {
            contents.see(content);
        }
    }

    /// The photo that the sidecar speaks of, where there is one and no other.
    pub fn content(&self, name: &str, title: &str, taken: Option<i64>) -> Option<ContentId> {
        self.0.get(&key(name, title, taken)?)?.one()
    }
}

fn key(name: &str, title: &str, taken: Option<i64>) -> Option<Key> {
    Some((predicted(name, title)?, title.to_owned(), taken))
}

/// The name that a sidecar's photo has.
fn predicted(sidecar: &str, title: &str) -> Option<String> {
    let counter = sidecar_name(sidecar).filter(|_| !title.is_empty())?.counter;
    Some(with_counter(&names::media_name(title), counter))
}

/// An album; two of one title are two albums.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Members {
    /// Its JSON.
    pub album: FileId,
    /// Sorted, each once. A moving half is never among them.
    pub contents: Vec<ContentId>,
}

/// What a Takeout holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    pub media: BTreeMap<FileId, Found>,
    pub albums: Vec<Members>,
    pub superseded: Vec<FileId>,
    /// Sidecars that serve neither a file nor an album.
    pub orphans: Vec<FileId>,
}

/// Pairs all files of a Takeout and gathers its albums.
pub fn resolve(entries: &[Entry<'_>], suffixes: &[&str]) -> Tree {
    let by_id: HashMap<FileId, &Entry<'_>> = entries.iter().map(|entry| (entry.id, entry)).collect();
    let photo = |id: FileId| match by_id[&id].kind {
        Kind::Sidecar { title, taken } => (name_of(by_id[&id].path), title, taken),
        _ => ("", "", None),
    };
    let content = |id: FileId| if let Kind::Media(content) = by_id[&id].kind { content } else { -1 };
    let mut folders: BTreeMap<&str, Vec<Entry<'_>>> = BTreeMap::new();
    for entry in entries {
        folders.entry(split_path(entry.path).0).or_default().push(*entry);
    }
    let directories: Vec<(&str, Directory)> =
        folders.iter().map(|(path, entries)| (*path, directory(name_of(path), entries, suffixes))).collect();
    let mut media: BTreeMap<FileId, Found> = directories.iter().flat_map(|(_, d)| d.media.iter().copied()).collect();

    let mut copies = Copies::default();
    media.iter().filter(|(_, found)| found.sidecar.is_none()).for_each(|(id, _)| copies.bare(content(*id)));
    for (id, found) in &media {
        if let Some((sidecar, _, Confidence::Strong)) = found.sidecar {
            copies.see(content(*id), sidecar, photo(sidecar).2);
        }
    }
    for (id, found) in media.iter_mut().filter(|(_, found)| found.sidecar.is_none()) {
        found.sidecar = copies.sidecar(content(*id)).map(|sidecar| (sidecar, Rule::Copy, Confidence::Strong));
    }

    let mut elsewhere = Elsewhere::default();
    let free = || directories.iter().flat_map(|(_, directory)| &directory.free);
    for id in free() {
        let (name, title, taken) = photo(*id);
        elsewhere.free(*id, name, title, taken);
    }
    for (id, _) in media.iter().filter(|(_, found)| found.sidecar.is_none() && found.role == Role::Plain) {
        let (path, name) = split_path(by_id[id].path);
        elsewhere.bare(*id, name_of(path), name);
    }
    elsewhere.narrow();
    media.keys().for_each(|id| elsewhere.see(name_of(by_id[id].path), content(*id)));
    let mut used = HashSet::new();
    for (id, sidecar, confidence) in elsewhere.found() {
        used.insert(sidecar);
        media.entry(id).and_modify(|found| found.sidecar = Some((sidecar, Rule::OtherDirectory, confidence)));
    }

    let mut absent = Absent::default();
    for (_, directory) in directories.iter().filter(|(_, directory)| directory.album.is_some()) {
        for (name, title, taken) in directory.free.iter().map(|id| photo(*id)) {
            absent.want(name, title, taken);
        }
    }
    for (id, found) in media.iter().filter(|(_, found)| found.role == Role::Plain) {
        if let Some((name, title, taken)) = found.sidecar.map(|(sidecar, ..)| photo(sidecar)) {
            absent.see(name, title, taken, content(*id));
        }
    }
    let mut albums = vec![];
    for (_, directory) in &directories {
        let Some(album) = directory.album else { continue };
        let shown = directory.media.iter().filter(|(_, found)| !matches!(found.role, Role::Motion(_)));
        let mut contents: Vec<ContentId> = shown.map(|(id, _)| content(*id)).collect();
        for id in &directory.free {
            let (name, title, taken) = photo(*id);
            if let Some(content) = absent.content(name, title, taken) {
                contents.push(content);
                used.insert(*id);
            }
        }
        contents.sort_unstable();
        contents.dedup();
        albums.push(Members { album, contents });
    }
    let mut orphans: Vec<FileId> = free().filter(|id| !used.contains(id)).copied().collect();
    orphans.sort_unstable();
    let superseded = directories.iter().flat_map(|(_, directory)| directory.superseded.iter().copied()).collect();
    Tree { media, albums, superseded, orphans }
}

/// The year at the end of a folder's name.
fn year_of(folder: &str) -> Option<i64> {
    let digits = folder.get(folder.len().checked_sub(4)?..)?;
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// Does a date fit the year of a folder? None where it does not. A day of grace at each end: folders go by local time.
fn by_year(year: Option<i64>, taken: Option<i64>) -> Option<Confidence> {
    let (Some(year), Some(taken)) = (year, taken) else { return Some(Confidence::Weak) };
    // Mean years are right to within a day and a half.
    let start = |year: i64| ((year - 1970) as f64 * 365.2425 * 86400.0) as i64;
    let grace = 3 * 86400;
    (start(year) - grace..start(year + 1) + grace).contains(&taken).then_some(Confidence::Strong)
}

/// `2019-05-18` or `2019-05-18 #2`, as folders were called until 2020.
fn is_date(title: &str) -> bool {
    let day = title.split_once(" #").map_or(title, |(day, _)| day);
    let shape = |(at, b): (usize, u8)| if at == 4 || at == 7 { b == b'-' } else { b.is_ascii_digit() };
    day.len() == 10 && day.bytes().enumerate().all(shape)
}

/// Folders of years hold everything and are no albums, whatever JSON lies in them.
fn is_year_folder(folder: &str) -> bool {
    const BEGINNINGS: &[&str] =
        &["Photos from", "Fotos von", "Photos de", "Fotos de", "Fotos del", "Foto da", "Foto_s van"];
    let named = folder.len().checked_sub(5).and_then(|end| folder.get(..end)).is_some_and(|b| BEGINNINGS.contains(&b));
    is_date(folder) || named && year_of(folder).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_year_in_its_name_makes_no_year_folder() {
        assert!(
            is_year_folder("Photos from 2019") && is_year_folder("Fotos von 2024") && is_year_folder("2019-05-18 #2")
        );
        assert!(!is_year_folder("Summer 2019") && !is_year_folder("Trip") && !is_year_folder("写真"));
    }

    #[test]
    fn a_date_of_another_year_speaks_against_a_sidecar() {
        assert_eq!(by_year(Some(2011), Some(1_306_886_400)), Some(Confidence::Strong));
        assert_eq!(by_year(Some(2013), Some(1_306_886_400)), None);
        assert_eq!(by_year(None, Some(1_306_886_400)), Some(Confidence::Weak));
    }
}
